import { afterEach, describe, expect, it } from 'vitest';
import type { NodeObject } from '../control-plane/objects.ts';
import { getNode } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import {
  gpuTaint,
  interruptionKey,
  journalKey,
  loadBalancerKey,
  marksOf,
  spotTaint,
  untilSettled,
} from '../harness/marks.ts';
import { spotNotice } from '../harness/messages.ts';
import { endVisibility, fateOf, timesReceived, untilDeleted } from '../harness/queued.ts';
import { controllerRequests, removalsOf, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, untilProcessed } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPod, createPods } from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const unreadableKey = 'node-termination-controller/journal-unreadable';
const exitsSoon = { exitsAfterSeconds: 0.3 };

describe.skipIf(needs)('the journal on a node', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  afterEach(() => world.autoScaling.faults.clear());

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
      taints: [spotTaint, gpuTaint],
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
    expect(after.spec.taints).toEqual(expect.arrayContaining([spotTaint, gpuTaint]));
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
    expect(marksOf(restored)).toMatchObject({ cordoned: true, taints: [spotTaint] });
    expect(await removalsOf(world, { name: `${node}-slow` })).toMatchObject([
      { by: 'eviction', status: 201 },
    ]);
  });
});

/** The Node once the control plane has done its own part: the taint of a cordon, above all. */
async function settledNode({ api }: World, node: string): Promise<NodeObject> {
  return eventually(async () => {
    const object = await getNode(api, node);
    const isTainted = object.spec.taints?.some(({ key }) => key.endsWith('/unschedulable'));
    return object.spec.unschedulable === isTainted && object;
  });
}

async function writesTo(world: World, node: string) {
  return writesAmong(await controllerRequests(world, { resource: 'nodes', name: node }));
}
