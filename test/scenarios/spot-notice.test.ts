import { beforeAll, describe, expect, it } from 'vitest';
import type { NodeObject, PodObject } from '../control-plane/objects.ts';
import { getPod, podNamesOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { interruptionKey, marksOf, noMarks, untilSettled } from '../harness/marks.ts';
import { spotNotice } from '../harness/messages.ts';
import { processorWaitMs } from '../harness/processor-wait.ts';
import { controllerRequests, removalOf, removalsOf, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { watchVersions } from '../harness/versions.ts';
import {
  createDaemonSet,
  createMirrorPod,
  createNamespace,
  createOwner,
  createPod,
  createPods,
  untilRunning,
} from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const exitsSoon = { exitsAfterSeconds: 0.3 };

describe.skipIf(needs)('a spot notice', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  beforeAll(async () => {
    // Load balancers are left a target.
    await world.kubelet.addNode({ name: 'spare' });
  });

  it('cordons, taints, labels and records in one write, and evicts only then', async () => {
    const { api, kubelet } = world;
    const instance = instanceId();
    const node = await kubelet.addNode({ name: 'marked', instanceId: instance });
    await createPod(api, { name: 'marked-pod', node: 'marked', behaviour: exitsSoon });
    const { queue } = await runController(world);
    const nodes = await watchVersions<NodeObject>(api, '/api/v1/nodes');
    const notice = spotNotice({ instanceId: instance });

    await queue.send(notice);
    await untilSettled(api, 'marked');
    await nodes.stop();

    const states = nodes.of('marked').map(({ object }) => marksOf(object));
    const first = states.findIndex(({ journal }) => journal !== undefined);
    expect(states.slice(0, first)).toEqual(Array(first).fill(noMarks));
    const wholly = {
      cordoned: true,
      taints: [{ key: interruptionKey, value: 'spot-interruption', effect: 'NoSchedule' }],
      label: 'spot-interruption',
      loadBalancerLabel: 'true',
    };
    for (const state of states.slice(first)) expect(state).toMatchObject(wholly);
    expect(states[first]?.journal).toMatchObject({
      machine: {
        instanceId: instance,
        systemUUID: node.status?.nodeInfo?.['systemUUID'],
        bootId: node.status?.nodeInfo?.['bootID'],
      },
      state: 'draining',
      cordonedByUs: true,
      labelledByUs: true,
      interruptions: [
        {
          kind: 'spot-interruption',
          time: new Date(notice.time).toISOString(),
          deadlineAt: new Date(Date.parse(notice.time) + 120_000).toISOString(),
        },
      ],
    });

    const patches = (await controllerRequests(world, { resource: 'nodes', name: 'marked' })).filter(
      ({ verb, status }) => verb === 'patch' && status === 200,
    );
    const [eviction] = await removalsOf(world, { name: 'marked-pod' });
    expect(patches.length).toBe(2);
    expect(patches[0]?.body).toMatchObject({
      metadata: { resourceVersion: expect.any(String) as string },
      spec: { unschedulable: true, taints: expect.any(Array) as unknown[] },
    });
    expect(patches[0]?.answeredAt).toBeLessThan(eviction?.receivedAt ?? 0);
    expect(patches[1]?.receivedAt).toBeGreaterThan(eviction?.answeredAt ?? Infinity);
  });

  it('evicts the pods of all namespaces, each by its uid, and deletes none', async () => {
    const { api, kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: 'emptied', instanceId: instance });
    await createNamespace(api, 'shop');
    await createNamespace(api, 'bank');
    const owner = await createOwner(api, 'ReplicaSet', { name: 'emptied-web' });
    const bound = { node: 'emptied', behaviour: exitsSoon };
    const pods = await createPods(api, [
      { ...bound, name: 'emptied-web', owner },
      { ...bound, name: 'emptied-bare' },
      {
        ...bound,
        name: 'emptied-scratch',
        namespace: 'shop',
        volumes: [{ name: 's', emptyDir: {} }],
      },
      { ...bound, name: 'emptied-ledger', namespace: 'bank' },
      { ...bound, name: 'emptied-dns', namespace: 'kube-system' },
    ]);
    await untilRunning(kubelet, pods);
    const { queue } = await runController(world);

    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(api, 'emptied');

    expect(await podNamesOn(api, 'emptied')).toEqual([]);
    for (const { metadata } of pods) {
      const removals = await removalsOf(world, metadata);
      expect(removals).toMatchObject([{ by: 'eviction', status: 201, uid: metadata.uid }]);
      expect(kubelet.records({ uid: metadata.uid ?? '' })).toMatchObject([{ end: 'exited' }]);
    }
  });

  it('leaves pods of DaemonSets, mirror pods and finished pods alone', async () => {
    const { api, kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: 'inhabited', instanceId: instance });
    const [agent] = await createDaemonSet(api, { name: 'agent', nodes: ['inhabited'] });
    const proxy = await createMirrorPod(api, { name: 'proxy', node: 'inhabited' });
    const completes = { completesAfterSeconds: 0 };
    const [job, failed, web] = await createPods(api, [
      { name: 'inhabited-job', node: 'inhabited', behaviour: completes },
      { name: 'inhabited-failed', node: 'inhabited' },
      { name: 'inhabited-web', node: 'inhabited', behaviour: exitsSoon },
    ]);
    await untilRunning(kubelet, failed ? [failed] : []);
    await api.patch('/api/v1/namespaces/default/pods/inhabited-failed/status', {
      status: { phase: 'Failed' },
    });
    await eventually(
      async () => (await getPod(api, 'inhabited-job')).status?.phase === 'Succeeded',
    );
    const { queue } = await runController(world);

    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(api, 'inhabited');

    expect(await removalsOf(world, { name: 'inhabited-web' })).toMatchObject([
      { by: 'eviction', uid: web?.metadata.uid },
    ]);
    for (const pod of [agent, proxy, job, failed]) {
      const { name = '', namespace = '', uid = '' } = pod?.metadata ?? {};
      expect(await removalsOf(world, { name, namespace })).toEqual([]);
      const now: PodObject = await getPod(api, name, namespace);
      expect(now.metadata.uid).toBe(uid);
      expect(now.metadata.deletionTimestamp).toBeUndefined();
    }
  });

  it('evicts critical pods when the ordinary ones are gone, and its own pod last', async () => {
    const { api, kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: 'ranked', instanceId: instance });
    const bound = { node: 'ranked', graceSeconds: 20 };
    const pods = await createPods(api, [
      {
        ...bound,
        name: 'controller-0',
        namespace: 'node-termination-controller',
        behaviour: exitsSoon,
        priorityClassName: 'system-cluster-critical',
      },
      {
        ...bound,
        name: 'ranked-dns',
        namespace: 'kube-system',
        behaviour: { exitsAfterSeconds: 1 },
        priorityClassName: 'system-cluster-critical',
      },
      {
        ...bound,
        name: 'ranked-csi',
        namespace: 'kube-system',
        behaviour: exitsSoon,
        priorityClassName: 'system-node-critical',
      },
      { ...bound, name: 'ranked-quick', behaviour: exitsSoon },
      { ...bound, name: 'ranked-slow', behaviour: { exitsAfterSeconds: 2 } },
    ]);
    await untilRunning(kubelet, pods);
    const { queue } = await runController(world);

    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(api, 'ranked');

    // The kubelet's deletion of the object: processes gone, and told to everybody.
    const removedAt = new Map(
      (await world.cluster.auditEntries({ userName: 'admin', verb: 'delete', resource: 'pods' }))
        .filter(({ status }) => status === 200)
        .map(({ name, receivedAt }) => [name, receivedAt]),
    );
    const evictions = writesAmong(await controllerRequests(world, { resource: 'pods' })).map(
      removalOf,
    );
    const evictedAt = (pod: string) =>
      evictions.find((eviction) => eviction.pod === pod)?.receivedAt;
    const ordinaryGoneAt = Math.max(
      ...['ranked-quick', 'ranked-slow'].map((name) => removedAt.get(name) ?? Infinity),
    );
    const criticalGoneAt = Math.max(
      ...['ranked-dns', 'ranked-csi'].map((name) => removedAt.get(name) ?? Infinity),
    );
    expect(evictedAt('ranked-dns')).toBeGreaterThan(ordinaryGoneAt);
    expect(evictedAt('ranked-csi')).toBeGreaterThan(ordinaryGoneAt);
    expect(evictedAt('controller-0')).toBeGreaterThan(criticalGoneAt);
  });

  it('is deleted from the queue once it is recorded, within a second of its arrival', async () => {
    const { kubelet } = world;
    const nodes = Array.from({ length: 5 }, (_, i) => ({
      name: `prompt-${i}`,
      instanceId: instanceId(),
    }));
    await kubelet.addNodes(nodes);
    const { controller, queue } = await runController(world);

    const takenMs: number[] = [];
    for (const { name, instanceId: instance } of nodes) {
      const waitedBeforeMs = await processorWaitMs(controller.pid, process.pid);
      const messageId = await queue.send(spotNotice({ instanceId: instance }));
      const events = await eventually(() => {
        const soFar = queue.events(messageId);
        return soFar.at(-1)?.type === 'deleted' && soFar;
      });
      const waitedMs = (await processorWaitMs(controller.pid, process.pid)) - waitedBeforeMs;
      expect(events.map(({ type }) => type)).toEqual(['sent', 'received', 'deleted']);
      const [sentAt = 0, , deletedAt = Infinity] = events.map(({ at }) => at);
      takenMs.push(deletedAt - sentAt - waitedMs);
      const [mark] = await controllerRequests(world, { verb: 'patch', resource: 'nodes', name });
      expect(mark?.status).toBe(200);
      expect(Math.floor(mark?.receivedAt ?? Infinity)).toBeLessThanOrEqual(deletedAt);
    }
    expect(await queue.counts()).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
    // A demand on the controller, which is a tenth of it where nothing else is busy: what a busy machine
    // adds is left out, and the median bears with the rest.
    expect(takenMs.toSorted((x, y) => x - y)[2]).toBeLessThan(1000);
  });

  it('leaves a process that ends with 0 when it is asked to', async () => {
    const { api, kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: 'done', instanceId: instance });
    await createPod(api, { name: 'done-pod', node: 'done', behaviour: exitsSoon });
    const { controller, queue } = await runController(world);
    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(api, 'done');

    expect(await controller.stop({ limitMs: 5000 })).toEqual({ code: 0, signal: null });
  });
});
