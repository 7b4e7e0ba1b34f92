import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { podsOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { untilSettled } from '../harness/marks.ts';
import { directHook, spotNotice, terminateHook } from '../harness/messages.ts';
import { fateOf, timesReceived, untilDeleted } from '../harness/queued.ts';
import { controllerRequests, removalsOf, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { createPod } from '../harness/workloads.ts';
import { startWorld, worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import {
  accessDenied,
  internalFailure,
  throttling,
  type AutoScalingCall,
  type LifecycleAction,
} from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const graceSeconds = 2;
const shortGrace = { UNKNOWN_INSTANCE_GRACE_SECONDS: String(graceSeconds) };
const longGrace = { UNKNOWN_INSTANCE_GRACE_SECONDS: '600' };

describe.skipIf(needs)('a terminate hook', { meta: { needs } }, () => {
  let world: World;

  beforeAll(async () => {
    world = await startWorld(options);
  });

  afterEach(() => world.autoScaling.faults.clear());

  afterAll(async () => {
    await world.stop();
  });

  it.each([
    { way: 'through EventBridge', name: 'gone', message: terminateHook },
    { way: 'from Auto Scaling itself', name: 'gone-direct', message: fromAutoScaling },
  ])('whose Node has just gone is completed at once ($way)', async ({ name, message }) => {
    const { kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name, instanceId: instance });
    const { queue } = await runController(world, longGrace);
    const action = begin(world, name, instance);

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
    const action = begin(world, node, instance);
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
    const action = begin(world, node, instance);
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
    const action = begin(world, group, instanceId());

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
    const ours = begin(world, 'unknown-ours', instanceId());
    const foreign = begin(world, 'unknown-foreign', instanceId());

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
    const action = begin(world, group, instanceId());
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

  it('is completed through throttling, failures and silence of Auto Scaling', async () => {
    const { api } = world;
    const node = 'retried';
    const { action, queue } = await drainWithHook(world, node, {
      arrange() {
        const { faults } = world.autoScaling;
        faults.add({ action: 'CompleteLifecycleAction', times: 1, fault: throttling });
        faults.add({ action: 'CompleteLifecycleAction', times: 1, fault: internalFailure });
        faults.add({
          action: 'CompleteLifecycleAction',
          times: 1,
          fault: { kind: 'lose-request' },
        });
        faults.add({ action: 'CompleteLifecycleAction', times: 1, fault: { kind: 'hang' } });
      },
    });

    await untilSettled(api, node, { timeoutMs: 60_000 });

    const calls = callsFor(world, 'CompleteLifecycleAction', node);
    expect(calls.map(({ code, status }) => code ?? status)).toEqual([
      'Throttling',
      'InternalFailure',
      0,
      0,
      200,
    ]);
    for (const call of calls) expectNamed(call, action);
    expect(action.result).toBe('CONTINUE');
    expect(await podsOn(api, node)).toEqual([]);
    expect(await queue.counts()).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
  });

  it('whose completion is told twice is completed once', async () => {
    const { api } = world;
    const node = 'answer-lost';
    const { action } = await drainWithHook(world, node, {
      arrange() {
        world.autoScaling.faults.add({
          action: 'CompleteLifecycleAction',
          times: 1,
          fault: { kind: 'lose-answer' },
        });
      },
    });

    await untilSettled(api, node);

    const calls = callsFor(world, 'CompleteLifecycleAction', node);
    expect(calls.map(({ code }) => code)).toEqual([undefined, 'ValidationError']);
    expect(action.result).toBe('CONTINUE');
  });

  it('that is not among HOOKS drains its node, and is never completed or kept alive', async () => {
    const { api, autoScaling } = world;
    const node = 'foreign';
    // The pod ends when half of the foreign hook's time has passed, at which ours would be kept alive.
    const { action, queue, instance } = await drainWithHook(world, node, {
      env: { HOOKS: 'foreign/drain,other/*', TERMINATE_HOOK_DRAIN_SECONDS: '3600' },
      exitsAfterSeconds: 30,
    });
    autoScaling.addHook({ group: node, hook: 'ship-logs', heartbeatTimeoutSeconds: 12 });
    const foreign = autoScaling.beginAction({
      group: node,
      hook: 'ship-logs',
      instanceId: instance,
    });

    const id = await queue.send(terminateHook(foreign));
    await untilDeleted(queue, [id]);
    const journal = await untilSettled(api, node, { timeoutMs: 60_000 });
    // What begins after it has ended, too.
    await drainWithHook(world, 'after-foreign');
    await untilSettled(api, 'after-foreign');

    expect(journal.interruptions.map(({ hook }) => hook?.name ?? '').toSorted()).toEqual([
      'drain',
      'ship-logs',
    ]);
    expectCompleted(world, action);
    const calls = [
      ...callsFor(world, 'CompleteLifecycleAction', node),
      ...callsFor(world, 'RecordLifecycleActionHeartbeat', node),
    ];
    const names = new Set(calls.map(({ parameters }) => parameters['LifecycleHookName']));
    expect([...names]).toEqual(['drain']);
    expect(foreign.completedAt).toBeUndefined();
    expect(await podsOn(api, node)).toEqual([]);
  });

  it('alone and not among HOOKS drains its node all the same', async () => {
    const { api } = world;
    const node = 'foreign-alone';
    const { action } = await drainWithHook(world, node, { env: { HOOKS: 'other/*' } });

    const journal = await untilSettled(api, node);

    expect(journal.interruptions).toMatchObject([{ kind: 'terminate-hook' }]);
    expect(await removalsOf(world, { name: `${node}-pod` })).toMatchObject([
      { by: 'eviction', status: 201 },
    ]);
    expect(action.completedAt).toBeUndefined();
    expect(callsFor(world, 'CompleteLifecycleAction', node)).toEqual([]);
  });

  it('beside another one of the same instance is completed with its own token', async () => {
    const { api, autoScaling } = world;
    const node = 'two-hooks';
    const { action, queue, instance } = await drainWithHook(world, node);
    autoScaling.addHook({ group: node, hook: 'backup', heartbeatTimeoutSeconds: 300 });
    const second = autoScaling.beginAction({ group: node, hook: 'backup', instanceId: instance });

    await queue.send(terminateHook(second));
    await eventually(() => second.completedAt !== undefined);
    await untilSettled(api, node);

    const calls = callsFor(world, 'CompleteLifecycleAction', node);
    expect(calls).toHaveLength(2);
    for (const one of [action, second]) {
      const own = calls.filter(({ parameters }) => parameters['LifecycleHookName'] === one.hook);
      expect(own).toHaveLength(1);
      for (const call of own) expectNamed(call, one);
      expect(one.result).toBe('CONTINUE');
    }
    // One drain for both.
    expect(await removalsOf(world, { name: `${node}-pod` })).toMatchObject([
      { by: 'eviction', status: 201 },
    ]);
  });

  it.each([
    { answer: 'may not be asked for', node: 'undescribed', fault: accessDenied, times: Infinity },
    {
      answer: 'is told only at the third time',
      node: 'described-late',
      fault: throttling,
      times: 2,
    },
  ])('whose timeout $answer drains and is completed', async ({ node, fault, times }) => {
    const { api } = world;
    const { action } = await drainWithHook(world, node, {
      arrange() {
        world.autoScaling.faults.add({ action: 'DescribeLifecycleHooks', times, fault });
      },
    });

    await untilSettled(api, node);

    expectCompleted(world, action);
    expect(await removalsOf(world, { name: `${node}-pod` })).toMatchObject([
      { by: 'eviction', status: 201 },
    ]);
    const writes = writesAmong(await controllerRequests(world, { resource: 'nodes', name: node }));
    for (const { status } of writes) expect(status).toBe(200);
  });
});

/** A node with a pod that takes 4 s or more to end, and a terminate hook of its instance on its way. */
async function drainWithHook(
  world: World,
  node: string,
  options: {
    readonly arrange?: () => void;
    readonly env?: Readonly<Record<string, string>>;
    readonly exitsAfterSeconds?: number;
  } = {},
) {
  const { arrange, env, exitsAfterSeconds = 4 } = options;
  const instance = instanceId();
  await world.kubelet.addNode({ name: node, instanceId: instance });
  const pod = `${node}-pod`;
  await createPod(world.api, { name: pod, node, behaviour: { exitsAfterSeconds } });
  await untilRunning(world, pod);
  const { queue } = await runController(world, env);
  const action = begin(world, node, instance);
  arrange?.();
  await queue.send(terminateHook(action));
  await eventually(() => world.kubelet.record(pod).deletions.length > 0);
  return { action, queue, instance };
}

function begin({ autoScaling }: World, group: string, instance: string): LifecycleAction {
  autoScaling.addHook({ group, hook: 'drain', heartbeatTimeoutSeconds: 300 });
  return autoScaling.beginAction({ group, hook: 'drain', instanceId: instance });
}

async function untilRunning({ kubelet }: World, pod: string): Promise<void> {
  await eventually(() => kubelet.record(pod).runningAt !== undefined);
}

function fromAutoScaling({ group, hook, token, instanceId: instance }: LifecycleAction) {
  return directHook({ group, hook, token, instanceId: instance });
}

/** Whoever knows of a Node that came later knows of the deletion, too. */
async function untilDeletionKnown(world: World, queue: Queue, node: string): Promise<void> {
  const later = { name: `${node}-later`, instanceId: instanceId() };
  await world.kubelet.addNode(later);
  await untilDeleted(queue, [await queue.send(spotNotice(later))]);
}

function callsFor(
  { autoScaling }: World,
  action: Parameters<World['autoScaling']['calls']>[0],
  group: string,
): readonly AutoScalingCall[] {
  return autoScaling
    .calls(action)
    .filter(({ parameters }) => parameters['AutoScalingGroupName'] === group);
}

function expectNamed({ parameters }: AutoScalingCall, action: LifecycleAction): void {
  expect(parameters).toMatchObject({
    AutoScalingGroupName: action.group,
    LifecycleHookName: action.hook,
    LifecycleActionToken: action.token,
    InstanceId: action.instanceId,
    LifecycleActionResult: 'CONTINUE',
  });
}

/** By one call, which named token and instance. */
function expectCompleted(world: World, action: LifecycleAction): void {
  const calls = callsFor(world, 'CompleteLifecycleAction', action.group).filter(
    ({ parameters }) => parameters['LifecycleHookName'] === action.hook,
  );
  expect(calls).toMatchObject([{ status: 200 }]);
  for (const call of calls) expectNamed(call, action);
  expect(action.result).toBe('CONTINUE');
}

/** Between the first receive and the end. */
function afterReceiveMs(events: readonly { readonly type: string; readonly at: number }[]): number {
  const received = events.find(({ type }) => type === 'received');
  return (events.at(-1)?.at ?? 0) - (received?.at ?? 0);
}
