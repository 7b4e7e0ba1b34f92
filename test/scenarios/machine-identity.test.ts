import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { NodeObject, Taint } from '../control-plane/objects.ts';
import { getNode } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import {
  interruptionKey,
  journalKey,
  loadBalancerKey,
  marksOf,
  noMarks,
  untilSettled,
} from '../harness/marks.ts';
import { spotNotice, terminateHook } from '../harness/messages.ts';
import { endVisibility, fateOf, timesReceived, untilDeleted } from '../harness/queued.ts';
import { controllerRequests, removalsOf, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, runControllerOn } from '../harness/running.ts';
import { createPod, createPods } from '../harness/workloads.ts';
import { startWorld, worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { throttling } from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const unreadableKey = 'node-termination-controller/journal-unreadable';
const gpuTaint: Taint = { key: 'nvidia.com/gpu', value: 'present', effect: 'NoSchedule' };
const exitsSoon = { exitsAfterSeconds: 0.3 };
const ourTaint: Taint = {
  key: interruptionKey,
  value: 'spot-interruption',
  effect: 'NoSchedule',
};

describe.skipIf(needs)('the journal on a node', { meta: { needs } }, () => {
  let world: World;

  beforeAll(async () => {
    world = await startWorld(options);
  });

  afterEach(() => world.autoScaling.faults.clear());

  afterAll(async () => {
    await world.stop();
  });

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
        taints: [ourTaint],
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
      taints: [ourTaint],
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

  it('is written on neither of two Nodes of one instance, until one of them is gone', async () => {
    const { api, kubelet } = world;
    const instance = instanceId();
    const nodes = ['twin-a', 'twin-b'];
    await kubelet.addNodes(nodes.map((name) => ({ name, instanceId: instance })));
    const pods = await createPods(
      api,
      nodes.map((node) => ({ name: `${node}-pod`, node, behaviour: exitsSoon })),
    );
    const { queue } = await runController(world);

    const id = await queue.send(spotNotice({ instanceId: instance }));
    await eventually(() => fateOf(queue, id).includes('visibility-changed'));
    await untilProcessed(world, queue, 'no-twin');
    const untouched = await Promise.all(nodes.map(async (name) => writesTo(world, name)));
    const hidden = queue.events(id).at(-1);
    await kubelet.removeNode('twin-a');
    await untilDeleted(queue, [id], { timeoutMs: 60_000 });
    await untilSettled(api, 'twin-b');

    expect(untouched).toEqual([[], []]);
    expect(hidden).toMatchObject({ type: 'visibility-changed', visibilitySeconds: 30 });
    expect(timesReceived(queue, id)).toBe(2);
    expect(await writesTo(world, 'twin-a')).toEqual([]);
    expect(marksOf(await getNode(api, 'twin-b'))).toMatchObject({ label: 'spot-interruption' });
    expect(await removalsOf(world, pods[0]?.metadata ?? { name: '' })).toEqual([]);
    expect(await removalsOf(world, pods[1]?.metadata ?? { name: '' })).toMatchObject([
      { by: 'eviction', status: 201 },
    ]);
  });

  it('is written on neither of two Nodes of one instance whose deadline has passed', async () => {
    const { kubelet } = world;
    const instance = instanceId();
    const nodes = ['late-twin-a', 'late-twin-b'];
    await kubelet.addNodes(nodes.map((name) => ({ name, instanceId: instance })));
    const { queue } = await runController(world);

    const notice = spotNotice({ instanceId: instance, time: Date.now() - 115_000 });
    const id = await queue.send(notice);
    await eventually(() => fateOf(queue, id).includes('visibility-changed'));
    const early = await Promise.all(nodes.map(async (name) => writesTo(world, name)));
    await eventually(() => Date.now() > Date.parse(notice.time) + 120_000);
    await endVisibility(world, queue, id);
    await untilDeleted(queue, [id]);

    expect(early).toEqual([[], []]);
    expect(timesReceived(queue, id)).toBe(2);
    expect(await Promise.all(nodes.map(async (name) => writesTo(world, name)))).toEqual([[], []]);
  });

  it.each([
    { what: 'is no JSON', node: 'garbled', text: `{"Überbleibsel": ${'ä'.repeat(2000)}` },
    {
      what: 'is of a newer version',
      node: 'newer',
      text: JSON.stringify({ version: 2, machines: [{ instanceId: 'i-0123456789abcdef0' }] }),
    },
    {
      what: 'has another form than ours',
      node: 'misshapen',
      text: JSON.stringify({ version: 1, machine: 5, state: 'undone', interruptions: 'none' }),
    },
  ])('that $what is never undone from, and kept aside when it is written anew', async (row) => {
    const { node, text } = row;
    const { api, kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({
      name: node,
      instanceId: instance,
      annotations: { [journalKey]: text },
      labels: { [interruptionKey]: 'spot-interruption', [loadBalancerKey]: 'true' },
      taints: [ourTaint, gpuTaint],
      unschedulable: true,
    });
    const pod = await createPod(api, { name: `${node}-pod`, node, behaviour: exitsSoon });
    await eventually(() => kubelet.record(`${node}-pod`).readyAt !== undefined);
    const before = await settledNode(world, node);

    const { queue } = await runController(world);
    await untilProcessed(world, queue, `${node}-other`);
    const unchanged = await getNode(api, node);
    const writes = await writesTo(world, node);
    await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instance }))]);
    const journal = await untilSettled(api, node);

    expect(writes).toEqual([]);
    expect(unchanged.spec).toEqual(before.spec);
    expect(unchanged.metadata.annotations).toEqual(before.metadata.annotations);
    expect(journal.interruptions).toMatchObject([{ kind: 'spot-interruption' }]);
    const after = await getNode(api, node);
    const kept = after.metadata.annotations?.[unreadableKey] ?? '';
    expect(text.startsWith(kept)).toBe(true);
    const keptBytes = Buffer.byteLength(kept);
    expect(keptBytes).toBeLessThanOrEqual(1024);
    // Whole characters, of at most two bytes here.
    expect(keptBytes).toBeGreaterThanOrEqual(Math.min(Buffer.byteLength(text), 1023));
    expect(after.spec.taints).toEqual(expect.arrayContaining([ourTaint, gpuTaint]));
    expect(await removalsOf(world, pod.metadata)).toMatchObject([{ by: 'eviction', status: 201 }]);
  });

  it.each([
    { change: 'garbled', node: 'overwritten', text: 'rubbish' },
    { change: 'removed', node: 'removed', text: null },
  ])('that is $change in the middle of a drain is written again from memory', async (row) => {
    const { node, text } = row;
    const { api, kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    await createPod(api, { name: `${node}-slow`, node, behaviour: { exitsAfterSeconds: 4 } });
    await eventually(() => kubelet.record(`${node}-slow`).readyAt !== undefined);
    const { queue } = await runController(world);
    await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instance }))]);
    await eventually(() => kubelet.record(`${node}-slow`).deletions.length > 0);
    const { journal: before } = marksOf(await getNode(api, node));

    await api.patch(`/api/v1/nodes/${node}`, { metadata: { annotations: { [journalKey]: text } } });
    await eventually(async () =>
      expect(marksOf(await getNode(api, node)).journal?.interruptions).toEqual(
        before?.interruptions,
      ),
    );
    const restored = await getNode(api, node);
    await untilSettled(api, node);

    expect(restored.metadata.annotations?.[unreadableKey]).toBe(text ?? undefined);
    expect(marksOf(restored)).toMatchObject({ cordoned: true, taints: [ourTaint] });
    expect(await removalsOf(world, { name: `${node}-slow` })).toMatchObject([
      { by: 'eviction', status: 201 },
    ]);
  });
});

/** As EC2 has them: they begin so. */
function newUuid(): string {
  return `ec2${randomUUID().slice(3)}`;
}

/** A whole drain, after which all that the process had to do before has been done, too. */
async function untilProcessed(world: World, queue: Queue, node: string): Promise<void> {
  const instance = instanceId();
  await world.kubelet.addNode({ name: node, instanceId: instance });
  await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instance }))]);
  await untilSettled(world.api, node);
}

/** The Node once the control plane has done its own part: the taint of a cordon, above all. */
async function settledNode({ api }: World, node: string): Promise<NodeObject> {
  return eventually(async () => {
    const object = await getNode(api, node);
    const isTainted = object.spec.taints?.some(({ key }) => key.endsWith('/unschedulable'));
    return object.spec.unschedulable === isTainted && object;
  });
}

async function setProviderId({ api }: World, node: string, instance: string): Promise<void> {
  const providerID = `aws:///eu-central-1a/${instance}`;
  await api.patch(`/api/v1/nodes/${node}`, { spec: { providerID } });
}

async function writesTo(world: World, node: string) {
  return writesAmong(await controllerRequests(world, { resource: 'nodes', name: node }));
}
