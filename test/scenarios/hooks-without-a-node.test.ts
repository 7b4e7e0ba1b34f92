import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { directHook, spotNotice, terminateHook } from '../harness/messages.ts';
import { beginHook } from '../harness/nodes.ts';
import { fateOf, timesReceived, untilDeleted } from '../harness/queued.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPod } from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { internalFailure, throttling, type LifecycleAction } from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';
import { callsFor, expectCompleted, untilRunning } from './hook-actions.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const graceSeconds = 2;
const shortGrace = { UNKNOWN_INSTANCE_GRACE_SECONDS: String(graceSeconds) };
const longGrace = { UNKNOWN_INSTANCE_GRACE_SECONDS: '600' };

describe.skipIf(needs)('a terminate hook', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  afterEach(() => world.autoScaling.faults.clear());

  it.each([
    { way: 'through EventBridge', name: 'gone', message: terminateHook },
    { way: 'from Auto Scaling itself', name: 'gone-direct', message: fromAutoScaling },
  ])('whose Node has just gone is completed at once ($way)', async ({ name, message }) => {
    const { kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name, instanceId: instance });
    const { queue } = await runController(world, longGrace);
    const action = beginHook(world, name, instance);

    await kubelet.removeNode(name);
    await untilDeletionKnown(world, queue, name);
    const id = await queue.send(message(action));
    await untilDeleted(queue, [id]);

    expectCompleted(world, action);
    expect(fateOf(queue, id)).toEqual(['sent', 'received', 'deleted']);
  });

  it('whose Node goes in the middle of its drain is completed at once', async () => {
    const { api, kubelet } = world;
    const node = 'going';
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    const pod = `${node}-slow`;
    await createPod(api, { name: pod, node, graceSeconds: 600 });
    await untilRunning(world, pod);
    const { queue } = await runController(world);
    const action = beginHook(world, node, instance);
    await untilDeleted(queue, [await queue.send(terminateHook(action))]);
    await eventually(() => kubelet.record(pod).deletions.length > 0);
    const callsBefore = callsFor(world, 'CompleteLifecycleAction', node).length;

    await kubelet.removeNode(node);
    await eventually(() => action.completedAt !== undefined);

    expect(callsBefore).toBe(0);
    expectCompleted(world, action);
  });

  it('whose Node has gone is completed in the end, however often Auto Scaling fails', async () => {
    const { kubelet, autoScaling } = world;
    const node = 'gone-throttled';
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    const { queue } = await runController(world, longGrace);
    const action = beginHook(world, node, instance);
    autoScaling.faults.add({ action: 'CompleteLifecycleAction', times: 1, fault: throttling });

    await kubelet.removeNode(node);
    await untilDeletionKnown(world, queue, node);
    const id = await queue.send(terminateHook(action));
    await untilDeleted(queue, [id], { timeoutMs: 60_000 });

    const codes = callsFor(world, 'CompleteLifecycleAction', node).map(({ code }) => code);
    expect(codes).toEqual(['Throttling', undefined]);
    expect(action.result).toBe('CONTINUE');
    expect(timesReceived(queue, id)).toBe(2);
  });

  it('of an instance that was never seen is left alone', async () => {
    const { queue } = await runController(world, shortGrace);
    const group = 'never-seen';
    const action = beginHook(world, group, instanceId());

    const id = await queue.send(terminateHook(action));
    await untilDeleted(queue, [id]);

    expect(afterReceiveMs(queue.events(id))).toBeGreaterThanOrEqual(graceSeconds * 1000 - 1);
    expect(action.completedAt).toBeUndefined();
    expect(callsFor(world, 'CompleteLifecycleAction', group)).toEqual([]);
    expect(callsFor(world, 'RecordLifecycleActionHeartbeat', group)).toEqual([]);
  });

  it('of an instance that was never seen is completed after its grace where all hooks are ours', async () => {
    const { queue } = await runController(world, {
      ...shortGrace,
      COMPLETE_UNKNOWN_HOOKS: 'true',
      HOOKS: 'unknown-ours/*',
    });
    const ours = beginHook(world, 'unknown-ours', instanceId());
    const foreign = beginHook(world, 'unknown-foreign', instanceId());

    const ids = await queue.sendMany([terminateHook(ours), terminateHook(foreign)]);
    await untilDeleted(queue, ids);

    expectCompleted(world, ours);
    const [received] = queue.events(ids[0]).filter(({ type }) => type === 'received');
    const waitedMs = (ours.completedAt ?? 0) - (received?.at ?? 0);
    expect(waitedMs).toBeGreaterThanOrEqual(graceSeconds * 1000 - 1);
    expect(callsFor(world, 'CompleteLifecycleAction', 'unknown-foreign')).toEqual([]);
    expect(foreign.completedAt).toBeUndefined();
  });

  it('of an instance that was never seen keeps its message until it is completed', async () => {
    const { queue } = await runController(world, { ...shortGrace, COMPLETE_UNKNOWN_HOOKS: 'true' });
    const group = 'unknown-failing';
    const action = beginHook(world, group, instanceId());
    world.autoScaling.faults.add({
      action: 'CompleteLifecycleAction',
      times: 1,
      fault: internalFailure,
    });

    const id = await queue.send(terminateHook(action));
    await untilDeleted(queue, [id], { timeoutMs: 60_000 });

    const codes = callsFor(world, 'CompleteLifecycleAction', group).map(({ code }) => code);
    expect(codes).toEqual(['InternalFailure', undefined]);
    expect(queue.events(id).at(-1)?.at).toBeGreaterThanOrEqual(action.completedAt ?? Infinity);
  });
});

function fromAutoScaling({ group, hook, token, instanceId: instance }: LifecycleAction) {
  return directHook({ group, hook, token, instanceId: instance });
}

/** Whoever knows of a Node that came later knows of the deletion, too. */
async function untilDeletionKnown(world: World, queue: Queue, node: string): Promise<void> {
  const later = { name: `${node}-later`, instanceId: instanceId() };
  await world.kubelet.addNode(later);
  await untilDeleted(queue, [await queue.send(spotNotice(later))]);
}

/** Between the first receive and the end. */
function afterReceiveMs(events: readonly { readonly type: string; readonly at: number }[]): number {
  const received = events.find(({ type }) => type === 'received');
  return (events.at(-1)?.at ?? 0) - (received?.at ?? 0);
}
