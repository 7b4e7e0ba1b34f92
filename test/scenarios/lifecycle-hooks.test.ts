import { afterEach, describe, expect, it } from 'vitest';
import { podsOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { untilSettled } from '../harness/marks.ts';
import { terminateHook } from '../harness/messages.ts';
import { beginHook } from '../harness/nodes.ts';
import { untilDeleted } from '../harness/queued.ts';
import { controllerRequests, removalsOf, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPod } from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { accessDenied, internalFailure, throttling } from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import { callsFor, expectCompleted, expectNamed, untilRunning } from './hook-actions.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

describe.skipIf(needs)('a terminate hook', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  afterEach(() => world.autoScaling.faults.clear());

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
    // Others write to Nodes as well: a conflict is answered by another write.
    for (const { status } of writes) expect([200, 409]).toContain(status);
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
  const action = beginHook(world, node, instance);
  arrange?.();
  await queue.send(terminateHook(action));
  await eventually(() => world.kubelet.record(pod).deletions.length > 0);
  return { action, queue, instance };
}
