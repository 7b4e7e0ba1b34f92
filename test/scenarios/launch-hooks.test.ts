import { afterEach, describe, expect, it } from 'vitest';
import { getNode } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOf, noMarks, untilSettled } from '../harness/marks.ts';
import { directHook, launchHook, terminateHook } from '../harness/messages.ts';
import { isDeleted, timesReceived, untilDeleted } from '../harness/queued.ts';
import { controllerRequests, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, runControllerOn } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { throttling, type LifecycleAction } from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

describe.skipIf(needs)('a launch hook', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  afterEach(() => world.autoScaling.faults.clear());

  function begin(group: string, instance: string, timeoutSeconds = 300): LifecycleAction {
    world.autoScaling.addHook({
      group,
      hook: 'join',
      transition: 'autoscaling:EC2_INSTANCE_LAUNCHING',
      heartbeatTimeoutSeconds: timeoutSeconds,
    });
    return world.autoScaling.beginAction({ group, hook: 'join', instanceId: instance });
  }

  /** As Auto Scaling tells it, with nothing that only the stand-in knows. */
  function named({ group, hook, token, instanceId: instance }: LifecycleAction) {
    return { group, hook, token, instanceId: instance };
  }

  it.each([
    { way: 'through EventBridge', name: 'joining', message: launchHook },
    {
      way: 'from Auto Scaling itself',
      name: 'joining-direct',
      message: (fields: Parameters<typeof directHook>[0]) =>
        directHook({ ...fields, transition: 'LAUNCHING' }),
    },
  ])('is completed when its node is Ready, and marks nothing ($way)', async ({ name, message }) => {
    const { api, kubelet } = world;
    const instance = instanceId();
    const { controller, queue } = await runController(world);
    const action = begin(name, instance);

    const id = await queue.send(message(named(action)));
    await eventually(() => timesReceived(queue, id) === 1);
    await kubelet.addNode({ name, instanceId: instance, ready: false });
    // Whoever has taken in what comes later has taken in the Node, too.
    const other = begin(`${name}-other`, instanceId());
    await kubelet.addNode({ name: `${name}-other`, instanceId: other.instanceId });
    await untilDeleted(queue, [await queue.send(message(named(other)))]);
    const completedBefore = action.completedAt;
    await kubelet.setReady(name, true);
    await untilDeleted(queue, [id]);

    expect(completedBefore).toBeUndefined();
    expect(action.result).toBe('CONTINUE');
    const calls = world.autoScaling
      .calls('CompleteLifecycleAction')
      .filter(({ parameters }) => parameters['AutoScalingGroupName'] === name);
    expect(calls).toMatchObject([
      { parameters: { LifecycleActionToken: action.token, InstanceId: instance } },
    ]);
    expect(timesReceived(queue, id)).toBe(1);
    expect(marksOf(await getNode(api, name))).toEqual(noMarks);
    const requests = await controllerRequests(world, { resource: 'nodes', name });
    expect(writesAmong(requests)).toEqual([]);
    expect(controller.logged('lifecycle hook completed')).toHaveLength(2);
  });

  it('of an instance that never joins is given up when its time is over', async () => {
    const { queue } = await runController(world);
    const action = begin('never-joining', instanceId(), 4);

    const id = await queue.send(launchHook(named(action)));
    await untilDeleted(queue, [id]);

    expect(action.completedAt).toBeUndefined();
    expect(queue.events(id).at(-1)?.at).toBeGreaterThanOrEqual(action.startedAt + 3000);
  });

  it('is completed through throttling', async () => {
    const { kubelet, autoScaling } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: 'throttled', instanceId: instance });
    const { queue } = await runController(world);
    const action = begin('throttled', instance);
    autoScaling.faults.add({ action: 'CompleteLifecycleAction', times: 2, fault: throttling });

    await untilDeleted(queue, [await queue.send(launchHook(named(action)))]);

    expect(action.result).toBe('CONTINUE');
  });

  it('is not lost with the process that holds it', async () => {
    const { kubelet } = world;
    const name = 'survivor';
    const instance = instanceId();
    const { controller, queue } = await runController(world);
    const action = begin(name, instance);

    const id = await queue.send(launchHook(named(action)));
    await eventually(() => timesReceived(queue, id) === 1);
    await controller.stop();
    // What it gave back may have come to its own last poll, which gave it back again.
    const before = timesReceived(queue, id);
    await runControllerOn(world, queue);
    await eventually(() => timesReceived(queue, id) > before);
    expect(isDeleted(queue, id)).toBe(false);
    await kubelet.addNode({ name, instanceId: instance });
    await untilDeleted(queue, [id]);

    expect(action.result).toBe('CONTINUE');
  });

  it('on the way into a warm pool is completed when there is a Node, Ready or not', async () => {
    const { kubelet } = world;
    const name = 'warm';
    const instance = instanceId();
    const { queue } = await runController(world);
    const action = begin(name, instance);
    await kubelet.addNode({ name, instanceId: instance, ready: false });

    const message = launchHook({ ...named(action), origin: 'EC2', destination: 'WarmPool' });
    await untilDeleted(queue, [await queue.send(message)]);

    expect(action.result).toBe('CONTINUE');
  });

  it('on the way back from a warm pool gives the node back, and is completed when it is Ready', async () => {
    const { api, kubelet, autoScaling } = world;
    const name = 'warmed';
    const instance = instanceId();
    await kubelet.addNode({ name, instanceId: instance });
    const { queue } = await runController(world);
    autoScaling.addHook({ group: name, hook: 'drain', heartbeatTimeoutSeconds: 300 });
    const hook = autoScaling.beginAction({ group: name, hook: 'drain', instanceId: instance });

    await queue.send(terminateHook({ ...named(hook), destination: 'WarmPool' }));
    await untilSettled(api, name);
    const drained = marksOf(await getNode(api, name));
    await kubelet.setReady(name, false);
    const action = begin(name, instance);
    const later = { origin: 'WarmPool', time: Date.now() + 5000 } as const;
    const id = await queue.send(launchHook({ ...named(action), ...later }));
    await eventually(async () => !marksOf(await getNode(api, name)).cordoned);
    const completedBefore = action.completedAt;
    await kubelet.setReady(name, true);
    await untilDeleted(queue, [id]);

    expect(drained).toMatchObject({ cordoned: true, label: 'terminate-hook' });
    expect(hook.result).toBe('CONTINUE');
    expect(completedBefore).toBeUndefined();
    expect(action.result).toBe('CONTINUE');
    expect(marksOf(await getNode(api, name))).toMatchObject({
      cordoned: false,
      taints: [],
      label: undefined,
      loadBalancerLabel: undefined,
    });
  });

  it.each([
    { setting: 'true', result: 'CONTINUE' },
    { setting: 'false', result: undefined },
  ])(
    'on the way into a warm pool without a Node: COMPLETE_UNKNOWN_HOOKS=$setting',
    async ({ setting, result }) => {
      const { queue } = await runController(world, { COMPLETE_UNKNOWN_HOOKS: setting });
      const action = begin(`warm-${setting}`, instanceId(), 3);

      const message = launchHook({ ...named(action), origin: 'EC2', destination: 'WarmPool' });
      await untilDeleted(queue, [await queue.send(message)]);

      expect(action.result).toBe(result);
    },
  );

  it('that HOOKS does not name is left to its owner', async () => {
    const { kubelet } = world;
    const name = 'foreign-launch';
    const instance = instanceId();
    await kubelet.addNode({ name, instanceId: instance });
    const { queue } = await runController(world, { HOOKS: 'ours/*' });
    const action = begin(name, instance);

    await untilDeleted(queue, [await queue.send(launchHook(named(action)))]);

    expect(action.completedAt).toBeUndefined();
  });
});
