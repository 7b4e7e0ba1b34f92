import { beforeAll, describe, expect, it } from 'vitest';
import type { NodeObject } from '../control-plane/objects.ts';
import { getNode, podNamesOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { interruptionKey, marksOf, marksOn, untilSettled, untilState } from '../harness/marks.ts';
import { rebalance, spotNotice, stateChange, terminateHook } from '../harness/messages.ts';
import { addNode } from '../harness/nodes.ts';
import { untilDeleted } from '../harness/queued.ts';
import { removalsOf } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createBudget, createPod, untilRunning } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const minuteMs = 60_000;
const outOfService = 'node.kubernetes.io/out-of-service';
const exitsSoon = { exitsAfterSeconds: 0.3 };
const bare = { cordoned: false, taints: [], label: undefined, loadBalancerLabel: undefined };

describe.skipIf(needs)('the state of an instance', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  beforeAll(async () => {
    // Load balancers are left a target.
    await world.kubelet.addNodes([{ name: 'spare-1' }, { name: 'spare-2' }]);
  });

  function outOfServiceTaints({ spec }: NodeObject): readonly unknown[] {
    return (spec.taints ?? []).filter(({ key }) => key === outOfService);
  }

  it.each(['stopping', 'shutting-down'] as const)(
    '%s drains the node, past budgets after a first refusal',
    async (state) => {
      const { api, kubelet } = world;
      const instance = await addNode(world, state);
      const labels = { app: state };
      const pod = await createPod(api, { name: state, node: state, labels, behaviour: exitsSoon });
      await untilRunning(kubelet, [pod]);
      await createBudget(api, { name: state, matchLabels: labels, minAvailable: 1 });
      const { queue } = await runController(world);

      await queue.send(stateChange({ instanceId: instance, state }));
      await untilSettled(api, state);

      expect(await podNamesOn(api, state)).toEqual([]);
      expect(await marksOn(world.api, state)).toMatchObject({
        cordoned: true,
        taints: [{ key: interruptionKey, value: 'state-change', effect: 'NoSchedule' }],
      });
      const removals = await removalsOf(world, { name: state });
      const [last, ...refused] = removals.toReversed();
      expect(last).toMatchObject({ by: 'deletion', status: 200 });
      expect(refused).toMatchObject(refused.map(() => ({ by: 'eviction', status: 429 })));
      expect(refused).not.toEqual([]);
    },
  );

  it('running ends what the stop began, and leaves the rest', async () => {
    const { api } = world;
    const instance = await addNode(world, 'restarted');
    // As a machine is that has not been started anew since its notice.
    await world.kubelet.setReady('restarted', true, Date.now() - 10 * minuteMs);
    const { queue } = await runController(world);
    const time = Date.now() - 30_000;

    await queue.send(stateChange({ instanceId: instance, state: 'stopping', time }));
    await queue.send(rebalance({ instanceId: instance, time }));
    await eventually(async () => {
      const { journal } = await marksOn(world.api, 'restarted');
      return journal?.state === 'settled' && journal.interruptions.length === 2;
    });
    await queue.send(stateChange({ instanceId: instance, state: 'running' }));

    await eventually(async () => (await marksOn(world.api, 'restarted')).label === 'rebalance');
    const { journal, ...rest } = await marksOn(world.api, 'restarted');
    expect(journal?.interruptions.map(({ kind }) => kind)).toEqual(['rebalance']);
    expect(rest).toMatchObject({
      cordoned: true,
      taints: [{ key: interruptionKey, value: 'rebalance', effect: 'NoSchedule' }],
    });
    expect(await podNamesOn(api, 'restarted')).toEqual([]);
  });

  it("running gives a node back as it was, a person's cordon and taints included", async () => {
    const { api, kubelet } = world;
    const instance = await addNode(world, 'cordoned');
    // As a machine is that has not been started anew since its notice.
    await kubelet.setReady('cordoned', true, Date.now() - 10 * minuteMs);
    const theirs = { key: 'team', value: 'a', effect: 'NoSchedule' };
    await api.patch('/api/v1/nodes/cordoned', {
      spec: { unschedulable: true, taints: [theirs] },
    });
    const { queue } = await runController(world);
    await queue.send(
      spotNotice({ instanceId: instance, action: 'stop', time: Date.now() - 2.5 * minuteMs }),
    );
    await untilSettled(api, 'cordoned');

    await queue.send(stateChange({ instanceId: instance, state: 'running' }));
    await untilState(world.api, 'cordoned', 'undone');

    const node = await getNode(api, 'cordoned');
    expect(marksOf(node)).toMatchObject({ ...bare, cordoned: true });
    expect(node.spec.taints).toContainEqual(expect.objectContaining(theirs));
  });

  it('running before the stop, and again after it, hurts nobody', async () => {
    const { api, kubelet } = world;
    const instance = await addNode(world, 'old-stop');
    const pod = await createPod(api, { name: 'old-stop', node: 'old-stop' });
    await untilRunning(kubelet, [pod]);
    const { queue } = await runController(world);
    const time = Date.now() - 20_000;

    await queue.send(stateChange({ instanceId: instance, state: 'running' }));
    await untilState(world.api, 'old-stop', 'undone');
    const id = await queue.send(stateChange({ instanceId: instance, state: 'stopping', time }));
    await untilDeleted(queue, [id]);

    expect(await marksOn(world.api, 'old-stop')).toMatchObject(bare);
    expect(await podNamesOn(api, 'old-stop')).toEqual(['old-stop']);
  });

  it('terminated ends the evictions and completes the hooks', async () => {
    const { api, kubelet, autoScaling } = world;
    const instance = await addNode(world, 'terminated');
    const labels = { app: 'terminated' };
    const pod = await createPod(api, { name: 'held', node: 'terminated', labels });
    await untilRunning(kubelet, [pod]);
    await createBudget(api, { name: 'terminated', matchLabels: labels, minAvailable: 1 });
    autoScaling.addHook({ group: 'terminated', hook: 'drain', heartbeatTimeoutSeconds: 3600 });
    const action = autoScaling.beginAction({
      group: 'terminated',
      hook: 'drain',
      instanceId: instance,
    });
    const { queue } = await runController(world);
    await queue.send(terminateHook(action));
    await eventually(async () => (await removalsOf(world, { name: 'held' })).length > 0);

    kubelet.powerOff('terminated');
    // Its last renewal, in the very second that the event names.
    const offAt = Date.now();
    await kubelet.renewLease('terminated', Math.floor(offAt / 1000) * 1000 + 999);
    await queue.send(stateChange({ instanceId: instance, state: 'terminated', time: offAt }));
    await eventually(() => autoScaling.calls('CompleteLifecycleAction').length > 0);

    expect(
      (await untilState(world.api, 'terminated', 'stopped')).journal?.interruptions,
    ).toHaveLength(1);
    expect(await podNamesOn(api, 'terminated')).toEqual(['held']);
  });

  it('stopped takes a dead machine out of service, and its return puts it back', async () => {
    const { api, kubelet } = world;
    const instance = await addNode(world, 'dead');
    await kubelet.renewLease('dead', Date.now() - 2 * minuteMs);
    kubelet.powerOff('dead');
    await kubelet.setReady('dead', false);
    const { queue } = await runController(world, { OUT_OF_SERVICE_TAINT: 'true' });

    await queue.send(stateChange({ instanceId: instance, state: 'stopped' }));
    await eventually(async () => outOfServiceTaints(await getNode(api, 'dead')).length === 1);

    await kubelet.setReady('dead', true);
    await eventually(async () => outOfServiceTaints(await getNode(api, 'dead')).length === 0);
    expect(await marksOn(world.api, 'dead')).toMatchObject(bare);
  });

  it('stopped does not touch a machine whose kubelet has renewed its Lease since', async () => {
    const { api, kubelet } = world;
    const instance = await addNode(world, 'alive');
    await kubelet.setReady('alive', false);
    const renewedAt = Date.now();
    await kubelet.renewLease('alive', renewedAt);
    const { queue } = await runController(world, { OUT_OF_SERVICE_TAINT: 'true' });
    const stopped = { instanceId: instance, state: 'stopped', time: renewedAt - 2000 } as const;
    await untilDeleted(queue, [await queue.send(stateChange(stopped))]);
    expect(await marksOn(world.api, 'alive')).toMatchObject({ ...bare, journal: undefined });
    expect(outOfServiceTaints(await getNode(api, 'alive'))).toEqual([]);
  });
});
