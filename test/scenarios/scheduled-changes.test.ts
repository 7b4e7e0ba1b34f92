import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { getNode, podNamesOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { interruptionKey, marksOf, untilSettled, type Marks } from '../harness/marks.ts';
import { scheduledChange } from '../harness/messages.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, runControllerOn } from '../harness/running.ts';
import { createPod, untilRunning } from '../harness/workloads.ts';
import { startWorld, worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const hourMs = 3_600_000;
const reboot = 'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED';
const exitsSoon = { exitsAfterSeconds: 0.3 };

const waiting = {
  cordoned: false,
  taints: [{ key: interruptionKey, value: 'scheduled-change', effect: 'PreferNoSchedule' }],
  label: undefined,
  loadBalancerLabel: undefined,
};
const drained = {
  cordoned: true,
  taints: [{ key: interruptionKey, value: 'scheduled-change', effect: 'NoSchedule' }],
  label: 'scheduled-change',
};
const bare = { cordoned: false, taints: [], label: undefined, loadBalancerLabel: undefined };

describe.skipIf(needs)('a scheduled change', { meta: { needs } }, () => {
  let world: World;

  beforeAll(async () => {
    world = await startWorld(options);
    // So that load balancers can spare a node of the zone.
    await world.kubelet.addNodes([{ name: 'spare-1' }, { name: 'spare-2' }]);
  });

  afterAll(async () => {
    await world.stop();
  });

  async function marks(name: string): Promise<Marks> {
    return marksOf(await getNode(world.api, name));
  }

  function untilState(name: string, state: string): Promise<Marks> {
    return eventually(async () => {
      const now = await marks(name);
      return now.journal?.state === state && now;
    });
  }

  it('waits for its lead, is drained for, and is undone after the reboot', async () => {
    const { api, kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: 'rebooted', instanceId: instance });
    const pod = await createPod(api, { name: 'web', node: 'rebooted', behaviour: exitsSoon });
    await untilRunning(kubelet, [pod]);
    const { queue } = await runController(world, { SCHEDULED_CHANGE_LEAD_SECONDS: '8' });

    // Health tells whole seconds.
    const startTime = Math.ceil(Date.now() / 1000) * 1000 + 14_000;
    await queue.send(
      scheduledChange({ instanceIds: [instance], startTime, eventTypeCode: reboot }),
    );
    expect(await untilState('rebooted', 'waiting')).toMatchObject(waiting);
    expect(await podNamesOn(api, 'rebooted')).toEqual(['web']);

    const journal = await untilSettled(api, 'rebooted');
    expect(await marks('rebooted')).toMatchObject({ ...drained, loadBalancerLabel: 'true' });
    expect(await podNamesOn(api, 'rebooted')).toEqual([]);
    const [entry] = journal.interruptions;
    const begunAt = Date.parse(entry?.begunAt ?? '');
    expect(begunAt).toBeGreaterThanOrEqual(startTime - 8000);
    expect(begunAt).toBeLessThan(startTime);
    expect(Date.parse(entry?.deadlineAt ?? '')).toBe(startTime);

    await eventually(() => Date.now() > startTime);
    await kubelet.setNodeInfo('rebooted', { bootID: 'the next boot' });
    expect(await untilState('rebooted', 'undone')).toMatchObject(bare);
    expect((await marks('rebooted')).journal?.interruptions).toEqual([]);
  });

  it('weeks ahead waits across a restart, and ends when it is cancelled', async () => {
    const { kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: 'later', instanceId: instance });
    const { controller, queue } = await runController(world);
    const change = {
      instanceIds: [instance],
      startTime: Date.now() + 40 * 24 * hourMs,
      eventTypeCode: reboot,
      eventArn: 'arn:aws:health:eu-central-1::event/EC2/REBOOT/later',
    };
    await queue.send(scheduledChange(change));
    expect(await untilState('later', 'waiting')).toMatchObject(waiting);
    await controller.kill();

    const second = await runControllerOn(world, queue);
    expect(second.logged('fatal error')).toEqual([]);
    expect(await marks('later')).toMatchObject(waiting);
    await queue.send(
      scheduledChange({
        ...change,
        statusCode: 'closed',
      }),
    );
    expect(await untilState('later', 'undone')).toMatchObject(bare);
  });
});
