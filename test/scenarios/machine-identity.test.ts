import { randomUUID } from 'node:crypto';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { getNode } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import {
  gpuTaint,
  interruptionKey,
  loadBalancerKey,
  marksOf,
  noMarks,
  spotTaint,
  untilSettled,
} from '../harness/marks.ts';
import { spotNotice, terminateHook } from '../harness/messages.ts';
import { untilDeleted } from '../harness/queued.ts';
import { removalsOf } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, runControllerOn, untilProcessed } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPod, createPods } from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { throttling } from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const exitsSoon = { exitsAfterSeconds: 0.3 };

describe.skipIf(needs)('the journal on a node', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  beforeAll(async () => {
    // Load balancers are left a target.
    await world.kubelet.addNode({ name: 'spare' });
  });

  afterEach(() => world.autoScaling.faults.clear());

  it.each([
    { when: 'in the middle of a drain', node: 'replaced-running', whileRunning: true },
    { when: 'while no process runs', node: 'replaced-unseen', whileRunning: false },
  ])(
    'is void where another machine has taken over the Node $when',
    async ({ node, whileRunning }) => {
      const { api, kubelet } = world;
      const instance = instanceId();
      const before = await kubelet.addNode({
        name: node,
        instanceId: instance,
        taints: [gpuTaint],
        labels: { team: 'red', [loadBalancerKey]: 'false' },
        annotations: { note: 'of a person' },
      });
      await createPods(api, [
        { name: `${node}-slow`, node, behaviour: { exitsAfterSeconds: 20 } },
        // Evicted only when the other is gone.
        {
          name: `${node}-dns`,
          namespace: 'kube-system',
          node,
          priorityClassName: 'system-cluster-critical',
        },
      ]);
      await eventually(() => kubelet.records({ node }).every(({ readyAt }) => readyAt));
      const { controller, queue } = await runController(world);
      await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instance }))]);
      await eventually(() => kubelet.record(`${node}-slow`).deletions.length > 0);
      const marked = marksOf(await getNode(api, node));

      if (!whileRunning) await controller.kill();
      await kubelet.setNodeInfo(node, { systemUUID: newUuid(), bootID: randomUUID() });
      if (!whileRunning) await runControllerOn(world, queue);
      const undone = { ...noMarks, loadBalancerLabel: 'false' };
      await eventually(async () => expect(marksOf(await getNode(api, node))).toEqual(undone));
      await createPod(api, { name: `${node}-guest`, node });
      await untilProcessed(world, queue, `${node}-other`);

      expect(marked).toMatchObject({
        cordoned: true,
        taints: [spotTaint],
        loadBalancerLabel: 'true',
      });
      const after = await getNode(api, node);
      expect(marksOf(after)).toEqual(undone);
      expect(after.metadata.labels).toEqual(before.metadata.labels);
      expect(after.metadata.annotations).toMatchObject({ note: 'of a person' });
      expect(after.spec.taints).toContainEqual(gpuTaint);
      expect(await removalsOf(world, { name: `${node}-guest` })).toEqual([]);
      expect(await removalsOf(world, { name: `${node}-dns`, namespace: 'kube-system' })).toEqual(
        [],
      );
    },
  );

  it('that is void takes no cordon with it that was a person’s', async () => {
    const { api, kubelet } = world;
    const node = 'cordoned-before';
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance, unschedulable: true });
    const { queue } = await runController(world);
    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(api, node);

    await kubelet.setNodeInfo(node, { systemUUID: newUuid() });
    await eventually(async () =>
      expect(marksOf(await getNode(api, node))).toEqual({ ...noMarks, cordoned: true }),
    );
    await untilProcessed(world, queue, `${node}-other`);

    expect(marksOf(await getNode(api, node))).toEqual({ ...noMarks, cordoned: true });
  });

  it('of one instance is void on the Node of another', async () => {
    const { api, kubelet } = world;
    const [original, copy] = ['copied-from', 'copied-to'];
    const instance = instanceId();
    await kubelet.addNode({ name: original, instanceId: instance });
    const { controller, queue } = await runController(world);
    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(api, original);
    await controller.kill();

    // A person's script, say, that carries over all that stood on the old Node.
    const { metadata, spec } = await getNode(api, original);
    await kubelet.addNode({
      name: copy,
      annotations: metadata.annotations ?? {},
      labels: { [interruptionKey]: 'spot-interruption', [loadBalancerKey]: 'true' },
      taints: spec.taints ?? [],
      unschedulable: true,
    });
    await createPod(api, { name: `${copy}-pod`, node: copy });
    await runControllerOn(world, queue);
    await eventually(async () => expect(marksOf(await getNode(api, copy))).toEqual(noMarks));
    await untilProcessed(world, queue, `${copy}-other`);

    expect(await removalsOf(world, { name: `${copy}-pod` })).toEqual([]);
    expect(marksOf(await getNode(api, original))).toMatchObject({ label: 'spot-interruption' });
  });

  it.each([
    { how: 'with all that it is', node: 'anew', late: false },
    { how: 'and becomes known by its provider ID only later', node: 'anew-late', late: true },
  ])('comes back with its machine, which registers anew $how', async ({ node, late }) => {
    const { api, kubelet } = world;
    const instance = instanceId();
    const spec = { name: node, instanceId: instance, systemUUID: newUuid() };
    const old = await kubelet.addNode(spec);
    await createPods(api, [
      { name: `${node}-quick`, node, behaviour: exitsSoon },
      { name: `${node}-slow`, node, behaviour: { exitsAfterSeconds: 6 } },
    ]);
    await eventually(() => kubelet.records({ node }).every(({ readyAt }) => readyAt));
    const { queue } = await runController(world);
    await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instance }))]);
    await eventually(() => kubelet.record(`${node}-slow`).deletions.length > 0);
    const { journal: before } = marksOf(await getNode(api, node));

    // The machine itself runs on.
    await api.delete(`/api/v1/nodes/${node}`);
    await kubelet.addNode(late ? { ...spec, instanceId: null } : spec);
    const guest = await createPod(api, { name: `${node}-guest`, node, behaviour: exitsSoon });
    if (late) await setProviderId(world, node, instance);
    const settled = await untilSettled(api, node);

    const after = await getNode(api, node);
    expect(after.metadata.uid).not.toBe(old.metadata.uid);
    expect(settled.interruptions).toEqual(before?.interruptions);
    expect(marksOf(after)).toMatchObject({
      cordoned: true,
      taints: [spotTaint],
      label: 'spot-interruption',
      loadBalancerLabel: 'true',
    });
    expect(await removalsOf(world, guest.metadata)).toMatchObject([
      { by: 'eviction', status: 201, uid: guest.metadata.uid },
    ]);
    expect(queue.events().filter(({ type }) => type === 'received')).toHaveLength(1);
  });

  it('comes back even while a hook of the old Node waits for Auto Scaling', async () => {
    const { api, kubelet, autoScaling } = world;
    const node = 'anew-hooked';
    const instance = instanceId();
    const spec = { name: node, instanceId: instance, systemUUID: newUuid() };
    await kubelet.addNode(spec);
    await createPod(api, { name: `${node}-slow`, node, behaviour: { exitsAfterSeconds: 6 } });
    await eventually(() => kubelet.record(`${node}-slow`).readyAt !== undefined);
    autoScaling.addHook({ group: node, hook: 'drain', heartbeatTimeoutSeconds: 300 });
    const action = autoScaling.beginAction({ group: node, hook: 'drain', instanceId: instance });
    autoScaling.faults.add({ action: 'CompleteLifecycleAction', fault: throttling });
    const { queue } = await runController(world);
    await untilDeleted(queue, [await queue.send(terminateHook(action))]);
    await eventually(() => kubelet.record(`${node}-slow`).deletions.length > 0);

    await api.delete(`/api/v1/nodes/${node}`);
    await eventually(() => autoScaling.calls('CompleteLifecycleAction').length > 0);
    await kubelet.addNode(spec);
    const guest = await createPod(api, { name: `${node}-guest`, node, behaviour: exitsSoon });
    await eventually(() => kubelet.record(`${node}-guest`).goneAt !== undefined);
    const completedEarly = action.completedAt;
    autoScaling.faults.clear();
    await untilSettled(api, node, { timeoutMs: 60_000 });

    expect(completedEarly).toBeUndefined();
    expect(action.result).toBe('CONTINUE');
    expect(await removalsOf(world, guest.metadata)).toMatchObject([
      { by: 'eviction', status: 201, uid: guest.metadata.uid },
    ]);
  });

  it.each([
    { who: 'another machine', node: 'other-machine', sameInstance: true },
    { who: 'another instance', node: 'other-instance', sameInstance: false },
  ])('of a deleted Node is not given to $who of its name', async ({ node, sameInstance }) => {
    const { api, kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    await createPod(api, { name: `${node}-slow`, node, behaviour: { exitsAfterSeconds: 20 } });
    await eventually(() => kubelet.record(`${node}-slow`).readyAt !== undefined);
    const { queue } = await runController(world);
    await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instance }))]);
    await eventually(() => kubelet.record(`${node}-slow`).deletions.length > 0);

    await kubelet.removeNode(node);
    await kubelet.addNode({ name: node, ...(sameInstance && { instanceId: instance }) });
    const guest = await createPod(api, { name: `${node}-guest`, node });
    await untilProcessed(world, queue, `${node}-later`);

    expect(marksOf(await getNode(api, node))).toEqual(noMarks);
    expect(await removalsOf(world, guest.metadata)).toEqual([]);
  });
});

/** As EC2 has them: they begin so. */
function newUuid(): string {
  return `ec2${randomUUID().slice(3)}`;
}

async function setProviderId({ api }: World, node: string, instance: string): Promise<void> {
  const providerID = `aws:///eu-central-1a/${instance}`;
  await api.patch(`/api/v1/nodes/${node}`, { spec: { providerID } });
}
