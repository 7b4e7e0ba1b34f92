import { describe, expect, it } from 'vitest';
import type { NodeObject } from '../control-plane/objects.ts';
import { getNode } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOf, untilSettled } from '../harness/marks.ts';
import { rebalance, spotNotice, terminateHook } from '../harness/messages.ts';
import { untilDeleted } from '../harness/queued.ts';
import { removalsOf } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { watchVersions } from '../harness/versions.ts';
import { createPod, untilRunning } from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import type { LifecycleAction } from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const marginMs = 5000;
const hook = 'drain';

describe.skipIf(needs)('interruptions of one instance', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it('are one drain: rebalance, then spot notice, which shortens a grace, then terminate hook', async () => {
    const { api, kubelet } = world;
    const node = 'merged';
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    await createPod(api, { name: 'merged-quick', node, behaviour: { exitsAfterSeconds: 0.5 } });
    // Only SIGKILL ends it.
    await untilRunning(kubelet, [
      await createPod(api, { name: 'merged-slow', node, graceSeconds: 60 }),
    ]);
    const { queue } = await runController(world);
    const nodes = await watchVersions<NodeObject>(api, '/api/v1/nodes');

    await queue.send(rebalance({ instanceId: instance }));
    await untilDeletions(world, 'merged-slow', 1);
    await eventually(() => kubelet.record('merged-quick').goneAt !== undefined);
    expect(marksOf(await getNode(api, node))).toMatchObject({ label: 'rebalance' });

    const notice = spotNotice({ instanceId: instance, time: Date.now() - 100_000 });
    const deadlineAt = Date.parse(notice.time) + 120_000;
    await queue.send(notice);
    await untilDeletions(world, 'merged-slow', 2);
    const action = beginAction(world, { group: 'merged', instanceId: instance });
    await queue.send(terminateHook(action));
    await untilCompleted(world, action);
    const journal = await untilSettled(api, node);
    await nodes.stop();

    const kinds = journal.interruptions.map(({ kind }) => kind);
    expect(kinds.toSorted()).toEqual(['rebalance', 'spot-interruption', 'terminate-hook']);
    const labels = nodes.of(node).map(({ object }) => marksOf(object).label);
    // The hook's own deadline is later than that of the spot notice, which goes on ruling.
    expect([...new Set(labels)]).toEqual([undefined, 'rebalance', 'spot-interruption']);

    const slow = kubelet.record('merged-slow');
    expect(slow.end).toBe('killed');
    expect(slow.deletions.map(({ graceSeconds }) => graceSeconds)[0]).toBe(60);
    expect(slow.deletions).toHaveLength(2);
    const { seenAt = 0, killAt = 0 } = slow.deletions[1] ?? {};
    expect(killAt - seenAt).toBeGreaterThan(8000);
    expect(killAt).toBeGreaterThan(deadlineAt - marginMs - 2000);
    expect(killAt).toBeLessThan(deadlineAt);
    expect(await removalsOf(world, { name: 'merged-quick' })).toMatchObject([
      { by: 'eviction', status: 201 },
    ]);
    expect(await removalsOf(world, { name: 'merged-slow' })).toMatchObject([
      { by: 'eviction', status: 201, graceSeconds: 60, uid: slow.uid },
      { by: 'deletion', status: 200, uid: slow.uid },
    ]);

    await expectOneCompletion(world, action, node);
  });

  it('leave a grace that has run for longer than what is left to the last moment', async () => {
    const { api, kubelet } = world;
    const node = 'late';
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    await untilRunning(kubelet, [
      await createPod(api, { name: 'late-slow', node, graceSeconds: 60 }),
    ]);
    const { queue } = await runController(world);

    await queue.send(rebalance({ instanceId: instance }));
    await untilDeletions(world, 'late-slow', 1);
    const [first] = kubelet.record('late-slow').deletions;
    // The API server would count a grace of the 7 s that are left as over already, and make it 1 s.
    await eventually(() => Date.now() - (first?.seenAt ?? Infinity) >= 9000);
    const notice = spotNotice({ instanceId: instance, time: Date.now() - 108_000 });
    const deadlineAt = Date.parse(notice.time) + 120_000;
    await queue.send(notice);
    await untilSettled(api, node, { timeoutMs: 30_000 });

    const slow = kubelet.record('late-slow');
    expect(slow.end).toBe('killed');
    expect(slow.endedAt).toBeGreaterThan(deadlineAt - marginMs - 1000);
    expect(slow.endedAt).toBeLessThan(deadlineAt);
    const removals = await removalsOf(world, { name: 'late-slow' });
    expect(removals).toMatchObject([
      { by: 'eviction', status: 201, graceSeconds: 60 },
      { by: 'deletion', status: 200, graceSeconds: 1, uid: slow.uid },
    ]);
    expect(removals[1]?.receivedAt).toBeGreaterThan(deadlineAt - marginMs - 2500);
  });

  it.each([
    { order: 'hook first', node: 'hook-first', kinds: ['hook', 'spot', 'rebalance'] },
    { order: 'spot notice first', node: 'spot-first', kinds: ['spot', 'rebalance', 'hook'] },
  ] as const)('come to the same in any order ($order)', async ({ node, kinds }) => {
    const { api, kubelet } = world;
    const instance = instanceId();
    const pod = `${node}-pod`;
    await kubelet.addNode({ name: node, instanceId: instance });
    await untilRunning(kubelet, [
      await createPod(api, { name: pod, node, behaviour: { exitsAfterSeconds: 1 } }),
    ]);
    const { queue } = await runController(world);
    const action = beginAction(world, { group: node, instanceId: instance });
    const messages = {
      hook: terminateHook(action),
      spot: spotNotice({ instanceId: instance }),
      rebalance: rebalance({ instanceId: instance }),
    };

    const ids: string[] = [];
    for (const kind of kinds) ids.push(await queue.send(messages[kind]));
    await untilDeleted(queue, ids);
    await untilCompleted(world, action);
    const journal = await untilSettled(api, node);

    expect(journal.interruptions).toHaveLength(3);
    expect(marksOf(await getNode(api, node))).toMatchObject({
      label: 'spot-interruption',
      taints: [{ value: 'spot-interruption' }],
    });
    expect(await removalsOf(world, { name: pod })).toMatchObject([{ by: 'eviction', status: 201 }]);
    await expectOneCompletion(world, action, node);
  });
});

async function untilDeletions({ kubelet }: World, pod: string, count: number): Promise<void> {
  await eventually(() => kubelet.record(pod).deletions.length >= count);
}

function beginAction(
  { autoScaling }: World,
  { group, instanceId: instance }: { group: string; instanceId: string },
): LifecycleAction {
  autoScaling.addHook({ group, hook, heartbeatTimeoutSeconds: 300 });
  return autoScaling.beginAction({ group, hook, instanceId: instance });
}

async function untilCompleted({ autoScaling }: World, { token }: LifecycleAction): Promise<void> {
  await eventually(() => autoScaling.actions({ token })[0]?.completedAt !== undefined, {
    timeoutMs: 40_000,
  });
}

/** By token and instance ID, and after the last pod of the node had gone. */
async function expectOneCompletion(
  { autoScaling, cluster, kubelet }: World,
  action: LifecycleAction,
  node: string,
): Promise<void> {
  const completions = autoScaling
    .calls('CompleteLifecycleAction')
    .filter(({ parameters }) => parameters['AutoScalingGroupName'] === action.group);
  expect(completions).toMatchObject([
    {
      status: 200,
      parameters: {
        LifecycleHookName: action.hook,
        LifecycleActionToken: action.token,
        InstanceId: action.instanceId,
        LifecycleActionResult: 'CONTINUE',
      },
    },
  ]);
  const completedAt = completions[0]?.at ?? 0;
  const pods = kubelet.records({ node });
  const removals = await cluster.auditEntries({
    userName: 'admin',
    verb: 'delete',
    resource: 'pods',
  });
  for (const { name, endedAt } of pods) {
    expect(completedAt).toBeGreaterThanOrEqual(endedAt ?? Infinity);
    const removedAt = removals.find((removal) => removal.name === name)?.receivedAt ?? Infinity;
    expect(completedAt).toBeGreaterThan(removedAt);
  }
}
