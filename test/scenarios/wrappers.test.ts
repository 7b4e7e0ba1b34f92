import { describe, expect, it } from 'vitest';
import { podNamesOn } from '../harness/cluster.ts';
import { untilSettled } from '../harness/marks.ts';
import { directHook, terminateHook, testNotification, viaTopic } from '../harness/messages.ts';
import { fateOf, untilDeleted } from '../harness/queued.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPod, untilRunning } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

type Hook = Readonly<{ group: string; hook: string; token: string; instanceId: string }>;

describe.skipIf(needs)('a message', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it.each([
    { way: 'from EventBridge', name: 'plain', wrap: terminateHook },
    { way: 'from Auto Scaling itself', name: 'direct', wrap: directHook },
    {
      way: 'from EventBridge through a topic',
      name: 'topic',
      wrap: (hook: Hook) => viaTopic(terminateHook(hook)),
    },
    {
      way: 'from Auto Scaling itself through a topic',
      name: 'direct-topic',
      wrap: (hook: Hook) => viaTopic(directHook(hook)),
    },
  ])('of a terminate hook $way drains the node and completes the hook', async ({ name, wrap }) => {
    const { api, kubelet, autoScaling } = world;
    const instance = instanceId();
    await kubelet.addNode({ name, instanceId: instance });
    const behaviour = { exitsAfterSeconds: 0.3 };
    await untilRunning(kubelet, [
      await createPod(api, { name: `${name}-pod`, node: name, behaviour }),
    ]);
    const { queue } = await runController(world);
    autoScaling.addHook({ group: name, hook: 'drain', heartbeatTimeoutSeconds: 300 });
    const action = autoScaling.beginAction({ group: name, hook: 'drain', instanceId: instance });

    const { group, hook, token } = action;
    const id = await queue.send(wrap({ group, hook, token, instanceId: instance }));
    await untilDeleted(queue, [id]);
    const journal = await untilSettled(api, name);

    expect(journal.interruptions).toMatchObject([{ kind: 'terminate-hook', hook: { token } }]);
    expect(await podNamesOn(api, name)).toEqual([]);
    expect(action.result).toBe('CONTINUE');
    expect(fateOf(queue, id)).toEqual(['sent', 'received', 'deleted']);
  });

  it.each([
    { way: 'as an event', body: testNotification('workers') },
    {
      way: 'as a transition',
      body: {
        ...testNotification('workers'),
        Event: undefined,
        LifecycleTransition: 'autoscaling:TEST_NOTIFICATION',
      },
    },
    { way: 'through a topic', body: viaTopic(testNotification('workers')) },
  ])('that only tests the way ($way) is deleted at once', async ({ body }) => {
    const { controller, queue } = await runController(world);

    const id = await queue.send(body);
    await untilDeleted(queue, [id]);

    expect(fateOf(queue, id)).toEqual(['sent', 'received', 'deleted']);
    expect(controller.logged('malformed message')).toEqual([]);
  });
});
