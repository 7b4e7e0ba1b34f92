import { beforeAll, describe, expect, it } from 'vitest';
import { podNamesOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { interruptionKey, marksOn, untilSettled, untilState } from '../harness/marks.ts';
import { scheduledChange } from '../harness/messages.ts';
import { untilDeleted } from '../harness/queued.ts';
import { removalsOf } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, runControllerOn } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createBudget, createPod, untilRunning } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
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
  const world = sharedWorld(options);

  beforeAll(async () => {
    // So that load balancers can spare a node of the zone.
    await world.kubelet.addNodes([{ name: 'spare-1' }, { name: 'spare-2' }]);
  });

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
    expect(await untilState(world.api, 'rebooted', 'waiting')).toMatchObject(waiting);
    expect(await podNamesOn(api, 'rebooted')).toEqual(['web']);

    const journal = await untilSettled(api, 'rebooted');
    expect(await marksOn(world.api, 'rebooted')).toMatchObject({
      ...drained,
      loadBalancerLabel: 'true',
    });
    expect(await podNamesOn(api, 'rebooted')).toEqual([]);
    const [entry] = journal.interruptions;
    const begunAt = Date.parse(entry?.begunAt ?? '');
    expect(begunAt).toBeGreaterThanOrEqual(startTime - 8000);
    expect(begunAt).toBeLessThan(startTime);
    expect(Date.parse(entry?.deadlineAt ?? '')).toBe(startTime);

    await eventually(() => Date.now() > startTime);
    await kubelet.setNodeInfo('rebooted', { bootID: 'the next boot' });
    expect(await untilState(world.api, 'rebooted', 'undone')).toMatchObject(bare);
    expect((await marksOn(world.api, 'rebooted')).journal?.interruptions).toEqual([]);
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
    expect(await untilState(world.api, 'later', 'waiting')).toMatchObject(waiting);
    await controller.kill();

    const second = await runControllerOn(world, queue);
    expect(second.logged('fatal error')).toEqual([]);
    expect(await marksOn(world.api, 'later')).toMatchObject(waiting);
    await queue.send(
      scheduledChange({
        ...change,
        statusCode: 'closed',
      }),
    );
    expect(await untilState(world.api, 'later', 'undone')).toMatchObject(bare);
  });

  it("of several pages, in any order, and the backup region's copy are one change", async () => {
    const { kubelet } = world;
    const names = ['page-1', 'page-2', 'page-3'];
    const instances = names.map(() => instanceId());
    await kubelet.addNodes(
      names.map((name, i) => ({ name, instanceId: instances[i] ?? instanceId() })),
    );
    const { queue } = await runController(world);
    const change = {
      startTime: Date.now() + 40 * 24 * hourMs,
      eventTypeCode: reboot,
      eventArn: 'arn:aws:health:eu-central-1::event/EC2/REBOOT/pages',
      lastUpdatedTime: Date.now(),
      totalPages: 3,
    };
    const pages = instances.map((id, i) =>
      scheduledChange({ ...change, instanceIds: [id], page: i + 1 }),
    );
    const copies = instances.map((id, i) =>
      scheduledChange({
        ...change,
        instanceIds: [id],
        page: i + 1,
        region: 'eu-west-1',
        backupEvent: true,
      }),
    );

    await untilDeleted(queue, await queue.sendMany([...pages.toReversed(), ...copies]));

    for (const name of names) {
      const now = await marksOn(world.api, name);
      expect(now).toMatchObject(waiting);
      expect(now.journal?.interruptions).toHaveLength(1);
    }
    // One page closes its own instances' change, whichever region tells of it.
    const closed = {
      ...change,
      statusCode: 'closed',
      lastUpdatedTime: Date.now() + 60_000,
    } as const;
    const end = { ...closed, instanceIds: instances.slice(0, 1), page: 1, backupEvent: true };
    await untilDeleted(queue, [await queue.send(scheduledChange(end))]);
    expect(await untilState(world.api, 'page-1', 'undone')).toMatchObject(bare);
    expect(await marksOn(world.api, 'page-2')).toMatchObject(waiting);
  });

  it('of failing hardware is drained for at once, with weeks to spare, one slot at a time', async () => {
    const { api, kubelet } = world;
    const names = ['retired-1', 'retired-2'];
    const instances = names.map(() => instanceId());
    await kubelet.addNodes(
      names.map((name, i) => ({ name, instanceId: instances[i] ?? instanceId() })),
    );
    const pods = await Promise.all(
      names.map((name) => createPod(api, { name, node: name, behaviour: exitsSoon })),
    );
    await untilRunning(kubelet, pods);
    const { queue } = await runController(world, { VOLUNTARY_DRAIN_LIMIT: '1' });
    const change = {
      instanceIds: instances,
      startTime: Date.now() + 21 * 24 * hourMs,
      eventArn: 'arn:aws:health:eu-central-1::event/EC2/RETIREMENT/both',
    };

    await queue.send(scheduledChange(change));
    const states = async (): Promise<readonly (string | undefined)[]> =>
      (await Promise.all(names.map((name) => marksOn(world.api, name)))).map(
        ({ journal }) => journal?.state,
      );
    await eventually(async () =>
      ['settled,waiting', 'waiting,settled'].includes((await states()).join()),
    );
    const [first, second] = (await states())[0] === 'settled' ? names : names.toReversed();
    if (first === undefined || second === undefined) throw new Error('two nodes');
    expect(await marksOn(world.api, first)).toMatchObject(drained);
    expect(await marksOn(world.api, second)).toMatchObject(waiting);
    expect(await podNamesOn(api, second)).toEqual([second]);

    // Its slot is free when it is gone.
    await api.delete(`/api/v1/nodes/${first}`);
    await untilSettled(api, second);
    expect(await podNamesOn(api, second)).toEqual([]);
  });

  it('that is put off beyond its lead while the node drains lets it be used again', async () => {
    const { api, kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: 'put-off', instanceId: instance });
    const labels = { app: 'put-off' };
    const pod = await createPod(api, { name: 'held', node: 'put-off', labels });
    await untilRunning(kubelet, [pod]);
    await createBudget(api, { name: 'put-off', matchLabels: labels, minAvailable: 1 });
    const { queue } = await runController(world);
    const change = {
      instanceIds: [instance],
      startTime: Date.now() + hourMs / 2,
      eventTypeCode: reboot,
      eventArn: 'arn:aws:health:eu-central-1::event/EC2/REBOOT/put-off',
      lastUpdatedTime: Date.now() - 60_000,
    };
    await queue.send(scheduledChange(change));
    expect(await untilState(world.api, 'put-off', 'draining')).toMatchObject(drained);
    await eventually(async () => (await removalsOf(world, { name: 'held' })).length > 0);

    const later = { startTime: Date.now() + 30 * 24 * hourMs, lastUpdatedTime: Date.now() };
    await queue.send(scheduledChange({ ...change, ...later }));
    expect(await untilState(world.api, 'put-off', 'waiting')).toMatchObject(waiting);
    // The old news once more.
    await untilDeleted(queue, [await queue.send(scheduledChange(change))]);
    expect(await marksOn(world.api, 'put-off')).toMatchObject(waiting);
    expect(await podNamesOn(api, 'put-off')).toEqual(['held']);
  });

  it.each([
    ['AWS_EC2_INSTANCE_NETWORK_MAINTENANCE_SCHEDULED', 'network'],
    ['AWS_EC2_INSTANCE_POWER_MAINTENANCE_SCHEDULED', 'power'],
  ])('%s is over when its end has passed and the node is Ready', async (code, node) => {
    const { kubelet } = world;
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    const { queue } = await runController(world);
    const now = Math.ceil(Date.now() / 1000) * 1000;
    await queue.send(
      scheduledChange({
        instanceIds: [instance],
        startTime: now + 2000,
        endTime: now + 8000,
        eventTypeCode: code,
      }),
    );
    expect(await untilState(world.api, node, 'settled')).toMatchObject(drained);
    expect(await untilState(world.api, node, 'undone')).toMatchObject(bare);
    expect(Date.now()).toBeGreaterThanOrEqual(now + 8000);
  });
});
