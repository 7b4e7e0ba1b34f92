import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { podNamesOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { metricsOf } from '../harness/http.ts';
import { interruptionKey, marksOn, noMarks, untilSettled } from '../harness/marks.ts';
import {
  capacityBlockExpiry,
  capacityReservationInterruption,
  rebalance,
  scheduledChange,
  spotNotice,
  stateChange,
  terminateHook,
} from '../harness/messages.ts';
import { addNodeWithPod, beginHook } from '../harness/nodes.ts';
import { untilDeleted } from '../harness/queued.ts';
import { controllerRequests, removalsOf } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, untilProcessed } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPod, untilRunning } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const exitsSoon = { exitsAfterSeconds: 0.3 };

describe.skipIf(needs)('the policy', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  beforeAll(async () => {
    // Load balancers are left half of their targets.
    await world.kubelet.addNodes(
      Array.from({ length: 40 }, (_, i) => ({ name: `spare-${i}`, instanceId: instanceId() })),
    );
  });

  /** Judged by something that comes later, on another node. */
  async function expectUntouched(name: string, pod: string) {
    expect(await marksOn(world.api, name)).toEqual(noMarks);
    expect(await podNamesOn(world.api, name)).toEqual([pod]);
    expect(await removalsOf(world, { name: pod })).toEqual([]);
  }

  describe('by its actions', () => {
    it.each([
      {
        action: 'cordon',
        expected: {
          cordoned: true,
          label: 'rebalance',
          loadBalancerLabel: 'true',
          taints: [{ key: interruptionKey, value: 'rebalance', effect: 'NoSchedule' }],
        },
      },
      {
        action: 'prefer-no-schedule',
        expected: {
          cordoned: false,
          label: undefined,
          loadBalancerLabel: undefined,
          taints: [{ key: interruptionKey, value: 'rebalance', effect: 'PreferNoSchedule' }],
        },
      },
    ])('$action marks as it says and evicts nothing', async ({ action, expected }) => {
      const name = `action-${action}`;
      const { instance, pod } = await addNodeWithPod(world, name);
      const { queue } = await runController(world, { REBALANCE_ACTION: action });

      await untilDeleted(queue, [await queue.send(rebalance({ instanceId: instance }))]);
      await untilSettled(world.api, name);

      expect(await marksOn(world.api, name)).toMatchObject(expected);
      expect(await podNamesOn(world.api, name)).toEqual([pod]);
      expect(await removalsOf(world, { name: pod })).toEqual([]);
    });

    it('ignore does nothing, completes nothing, and deletes the message', async () => {
      const name = 'action-ignore';
      const { instance, pod } = await addNodeWithPod(world, name);
      const { queue } = await runController(world, {
        REBALANCE_ACTION: 'ignore',
        TERMINATE_HOOK_ACTION: 'ignore',
      });
      const hook = beginHook(world, name, instance);

      const ids = await queue.sendMany([
        rebalance({ instanceId: instance }),
        terminateHook({ ...hook }),
      ]);
      await untilDeleted(queue, ids);

      await expectUntouched(name, pod);
      expect(hook.completedAt).toBeUndefined();
    });

    const startTime = Date.now() + 21 * 86_400_000;
    const kinds = [
      {
        option: 'SCHEDULED_CHANGE_ACTION',
        kind: 'scheduled-change',
        message: (instance: string) => scheduledChange({ instanceIds: [instance], startTime }),
      },
      {
        option: 'STATE_CHANGE_ACTION',
        kind: 'state-change',
        message: (instance: string) => stateChange({ instanceId: instance, state: 'stopping' }),
      },
      {
        option: 'CAPACITY_RESERVATION_ACTION',
        kind: 'capacity-reservation',
        message: (instance: string) => capacityReservationInterruption({ instanceId: instance }),
      },
    ];

    it.each(kinds)('$option=cordon marks and evicts nothing', async ({ option, kind, message }) => {
      const name = `cordon-${kind}`;
      const { instance, pod } = await addNodeWithPod(world, name);
      const { queue } = await runController(world, { [option]: 'cordon' });

      await untilDeleted(queue, [await queue.send(message(instance))]);
      await untilSettled(world.api, name);

      expect(await marksOn(world.api, name)).toMatchObject({
        cordoned: true,
        label: kind,
        loadBalancerLabel: 'true',
        taints: [{ key: interruptionKey, value: kind, effect: 'NoSchedule' }],
      });
      expect(await podNamesOn(world.api, name)).toEqual([pod]);
      expect(await removalsOf(world, { name: pod })).toEqual([]);
    });

    it.each(kinds)('$option=ignore leaves its kind alone, and no other', async (row) => {
      const { option, kind, message } = row;
      const name = `ignored-${kind}`;
      const { instance, pod } = await addNodeWithPod(world, name);
      const { queue } = await runController(world, { [option]: 'ignore' });

      await untilDeleted(queue, [await queue.send(message(instance))]);
      await untilProcessed(world, queue, `${name}-other`);

      await expectUntouched(name, pod);
      expect((await marksOn(world.api, `${name}-other`)).label).toBe('spot-interruption');
    });

    it('cordon completes a terminate hook that is ours, and the pod stays', async () => {
      const name = 'action-cordon-hook';
      const { instance, pod } = await addNodeWithPod(world, name);
      const { queue } = await runController(world, { TERMINATE_HOOK_ACTION: 'cordon' });
      const hook = beginHook(world, name, instance);

      await queue.send(terminateHook({ ...hook }));
      await untilSettled(world.api, name);

      expect(hook.result).toBe('CONTINUE');
      expect(await podNamesOn(world.api, name)).toEqual([pod]);
    });

    it('the strongest of what lives on the node wins', async () => {
      const name = 'action-strongest';
      const { instance } = await addNodeWithPod(world, name);
      const { queue } = await runController(world, { REBALANCE_ACTION: 'prefer-no-schedule' });

      await queue.send(rebalance({ instanceId: instance }));
      await untilSettled(world.api, name);
      await queue.send(spotNotice({ instanceId: instance }));
      await eventually(async () => (await podNamesOn(world.api, name)).length === 0);
      const journal = await untilSettled(world.api, name);

      expect(journal.interruptions.map(({ kind }) => kind)).toEqual([
        'rebalance',
        'spot-interruption',
      ]);
      expect(await marksOn(world.api, name)).toMatchObject({
        cordoned: true,
        label: 'spot-interruption',
        taints: [{ value: 'spot-interruption', effect: 'NoSchedule' }],
      });
    });
  });

  describe('by its scope', () => {
    it('NODE_SELECTOR leaves other nodes alone', async () => {
      const inside = await addNodeWithPod(world, 'selected', {
        node: { labels: { pool: 'spot' } },
      });
      const outside = await addNodeWithPod(world, 'not-selected', {
        node: { labels: { pool: 'system' } },
      });
      const { queue } = await runController(world, { NODE_SELECTOR: 'pool in (spot)' });

      const ids = await queue.sendMany(
        [outside, inside].map(({ instance }) => spotNotice({ instanceId: instance })),
      );
      await untilDeleted(queue, ids);
      await untilSettled(world.api, 'selected');

      expect(await podNamesOn(world.api, 'selected')).toEqual([]);
      await expectUntouched('not-selected', outside.pod);
    });

    it.each([
      { setting: 'assist', rebalanced: false, interrupted: true },
      { setting: 'handle', rebalanced: true, interrupted: true },
      { setting: 'ignore', rebalanced: false, interrupted: false },
    ])('MANAGED_NODES=$setting', async ({ setting, rebalanced, interrupted }) => {
      const { queue } = await runController(world, { MANAGED_NODES: setting });
      const nodes = [
        {
          name: `managed-${setting}-karpenter`,
          labels: { 'karpenter.sh/nodepool': 'default' },
          message: rebalance,
          drains: rebalanced,
        },
        {
          name: `managed-${setting}-eks`,
          labels: { 'eks.amazonaws.com/nodegroup': 'workers' },
          message: spotNotice,
          drains: interrupted,
        },
      ];
      for (const { name, labels, message, drains } of nodes) {
        const { instance, pod } = await addNodeWithPod(world, name, { node: { labels } });
        await untilDeleted(queue, [await queue.send(message({ instanceId: instance }))]);
        if (drains) await untilSettled(world.api, name);
        else await expectUntouched(name, pod);
        expect(await podNamesOn(world.api, name)).toEqual(drains ? [] : [pod]);
      }
    });

    it.each([
      { accounts: '123456789012', drains: false },
      { accounts: '123456789012,999999999999', drains: true },
      { accounts: '*', drains: true },
    ])("EVENT_ACCOUNTS=$accounts: another account's notice", async ({ accounts, drains }) => {
      const name = `accounts-${accounts.replaceAll(/\W+/g, '-')}${accounts === '*' ? 'any' : ''}`;
      const { instance, pod } = await addNodeWithPod(world, name);
      const { queue } = await runController(world, { EVENT_ACCOUNTS: accounts });

      const notice = spotNotice({ instanceId: instance, account: '999999999999' });
      await untilDeleted(queue, [await queue.send(notice)]);

      if (drains) await untilSettled(world.api, name);
      else await expectUntouched(name, pod);
      expect(await podNamesOn(world.api, name)).toEqual(drains ? [] : [pod]);
    });
  });

  describe('of the process', () => {
    it('LEADER_ELECTION=false works without a Lease, and makes none', async () => {
      const { instance } = await addNodeWithPod(world, 'alone');
      const { queue } = await runController(world, {
        LEADER_ELECTION: 'false',
        LEASE_NAME: 'of-nobody',
      });

      await queue.send(spotNotice({ instanceId: instance }));
      await untilSettled(world.api, 'alone');

      expect(await podNamesOn(world.api, 'alone')).toEqual([]);
      expect(await controllerRequests(world, { resource: 'leases', name: 'of-nobody' })).toEqual(
        [],
      );
    });

    // That they are written without it is shown among NTH's acceptance scenarios.
    it('KUBERNETES_EVENTS=false tells a node nothing', async () => {
      const { instance } = await addNodeWithPod(world, 'untold');
      const { controller, queue } = await runController(world, { KUBERNETES_EVENTS: 'false' });

      await queue.send(spotNotice({ instanceId: instance }));
      await untilSettled(world.api, 'untold');

      const asked = await controllerRequests(world, { resource: 'events' });
      expect(asked.filter(({ body }) => JSON.stringify(body).includes('untold'))).toEqual([]);
      expect(await metricsOf(controller)).not.toMatch(
        /^node_termination_kubernetes_events_total\{.*\} [1-9]/m,
      );
    });
  });

  describe('of capacity', () => {
    it('a reservation is given until the time that its event names', async () => {
      const { instance } = await addNodeWithPod(world, 'reserved');
      const { queue } = await runController(world);
      const terminationTime = Date.now() + 300_000;

      await queue.send(capacityReservationInterruption({ instanceId: instance, terminationTime }));
      const journal = await untilSettled(world.api, 'reserved');

      const [interruption] = journal.interruptions;
      expect(interruption?.kind).toBe('capacity-reservation');
      const deadlineAt = Date.parse(interruption?.deadlineAt ?? '');
      expect(Math.floor(deadlineAt / 1000)).toBe(Math.floor(terminationTime / 1000));
      expect(await podNamesOn(world.api, 'reserved')).toEqual([]);
    });

    it.each([
      { label: 'karpenter.k8s.aws/capacity-reservation-id', env: {} },
      {
        label: 'example.com/reservation',
        env: { CAPACITY_RESERVATION_LABEL: 'example.com/reservation' },
      },
    ])(
      'the end of a block drains the nodes whose label $label names it',
      async ({ label, env }) => {
        const prefix = label.split('/')[0]?.replaceAll('.', '-') ?? '';
        const reservationId = `cr-${randomBytes(8).toString('hex')}`;
        const inBlock = { labels: { [label]: reservationId } };
        await addNodeWithPod(world, `${prefix}-1`, { node: inBlock });
        await addNodeWithPod(world, `${prefix}-2`, { node: inBlock });
        const other = await addNodeWithPod(world, `${prefix}-other`, {
          node: { labels: { [label]: 'cr-0ther' } },
        });
        const { queue } = await runController(world, env);
        const message = capacityBlockExpiry({ reservationId, endTime: Date.now() + 2_400_000 });

        await untilDeleted(queue, [await queue.send(message)]);

        for (const name of [`${prefix}-1`, `${prefix}-2`]) {
          const journal = await untilSettled(world.api, name);
          expect(journal.interruptions).toMatchObject([
            {
              kind: 'capacity-reservation',
              deadlineAt: new Date(Date.parse(message.time) + 600_000).toISOString(),
            },
          ]);
          expect(await podNamesOn(world.api, name)).toEqual([]);
        }
        await expectUntouched(`${prefix}-other`, other.pod);
      },
    );
  });

  describe('of a drain', () => {
    it('POD_GRACE_SECONDS shortens graces, and lengthens none', async () => {
      const { instance } = await addNodeWithPod(world, 'grace');
      const bound = { node: 'grace', behaviour: exitsSoon };
      const long = await createPod(world.api, { ...bound, name: 'grace-long', graceSeconds: 60 });
      const short = await createPod(world.api, { ...bound, name: 'grace-short', graceSeconds: 3 });
      await untilRunning(world.kubelet, [long, short]);
      const { queue } = await runController(world, { POD_GRACE_SECONDS: '7' });

      await queue.send(spotNotice({ instanceId: instance }));
      await untilSettled(world.api, 'grace');

      expect(await removalsOf(world, { name: 'grace-long' })).toMatchObject([{ graceSeconds: 7 }]);
      expect(await removalsOf(world, { name: 'grace-short' })).toMatchObject([{ graceSeconds: 3 }]);
    });

    it('LOAD_BALANCER_DRAIN_SECONDS keeps the hook between the last pod and its completion', async () => {
      const name = 'balanced';
      const { instance, pod } = await addNodeWithPod(world, name);
      const { queue } = await runController(world, { LOAD_BALANCER_DRAIN_SECONDS: '4' });
      const hook = beginHook(world, name, instance);

      await queue.send(terminateHook({ ...hook }));
      await untilSettled(world.api, name);

      const { goneAt = Infinity } = world.kubelet.record(pod);
      expect((hook.completedAt ?? 0) - goneAt).toBeGreaterThanOrEqual(3900);
    });

    it('EXCLUDE_FROM_LOAD_BALANCERS=false sets no label', async () => {
      const { instance } = await addNodeWithPod(world, 'unbalanced');
      const { queue } = await runController(world, { EXCLUDE_FROM_LOAD_BALANCERS: 'false' });

      await queue.send(spotNotice({ instanceId: instance }));
      await untilSettled(world.api, 'unbalanced');

      expect(await marksOn(world.api, 'unbalanced')).toMatchObject({
        cordoned: true,
        loadBalancerLabel: undefined,
      });
    });

    it("the operator's brake holds up evictions until it is taken away", async () => {
      const hold = 'node-termination-controller/hold';
      const { instance, pod } = await addNodeWithPod(world, 'held', {
        node: { annotations: { [hold]: '' } },
      });
      const { controller, queue } = await runController(world);

      await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instance }))]);
      await controller.waitForLog('held by an operator');
      const held = await marksOn(world.api, 'held');
      const before = await removalsOf(world, { name: pod });
      await world.api.patch('/api/v1/nodes/held', { metadata: { annotations: { [hold]: null } } });
      await untilSettled(world.api, 'held');

      expect(held).toMatchObject({ cordoned: true, journal: { state: 'draining' } });
      expect(before).toEqual([]);
      expect(await removalsOf(world, { name: pod })).toMatchObject([{ by: 'eviction' }]);
      expect(controller.logged('released by an operator')).toHaveLength(1);
    });

    it.each([
      { what: 'rebalance', message: rebalance },
      {
        what: 'retirement',
        message: (node: { instanceId: string }) =>
          scheduledChange({ instanceIds: [node.instanceId], startTime: Date.now() + 86_400_000 }),
      },
    ])(
      'AFTER_VOLUNTARY_DRAIN=replace terminates the empty instance and keeps the capacity ($what)',
      async ({ what, message }) => {
        const name = `replaced-${what}`;
        const { instance, pod } = await addNodeWithPod(world, name);
        world.autoScaling.addInstance(name, instance);
        const { queue } = await runController(world, { AFTER_VOLUNTARY_DRAIN: 'replace' });

        await queue.send(message({ instanceId: instance }));
        await untilSettled(world.api, name);

        expect(world.autoScaling.terminated()).toContain(instance);
        const calls = world.autoScaling
          .calls('TerminateInstanceInAutoScalingGroup')
          .filter(({ parameters }) => parameters['InstanceId'] === instance);
        expect(calls).toMatchObject([{ parameters: { ShouldDecrementDesiredCapacity: 'false' } }]);
        expect(calls[0]?.at).toBeGreaterThanOrEqual(world.kubelet.record(pod).goneAt ?? Infinity);
      },
    );

    it('AFTER_VOLUNTARY_DRAIN=replace leaves alone what was drained in an emergency', async () => {
      const name = 'not-replaced';
      const { instance } = await addNodeWithPod(world, name);
      world.autoScaling.addInstance(name, instance);
      const { queue } = await runController(world, { AFTER_VOLUNTARY_DRAIN: 'replace' });

      await queue.send(spotNotice({ instanceId: instance }));
      await untilSettled(world.api, name);

      expect(world.autoScaling.terminated()).not.toContain(instance);
    });
  });
});
