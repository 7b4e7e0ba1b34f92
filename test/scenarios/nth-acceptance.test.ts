import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { KubernetesObject } from '../control-plane/objects.ts';
import { getNode, podNamesOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { metricsOf } from '../harness/http.ts';
import { interruptionKey, marksOf, untilSettled } from '../harness/marks.ts';
import {
  launchHook,
  rebalance,
  scheduledChange,
  spotNotice,
  stateChange,
  terminateHook,
} from '../harness/messages.ts';
import { addNodeWithPod, beginHook } from '../harness/nodes.ts';
import { untilDeleted } from '../harness/queued.ts';
import { removalsOf } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPod, untilRunning } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { startForwardProxy } from '../stand-ins/forward-proxy.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import { startWebhookReceiver } from '../stand-ins/webhook-receiver.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

type ToldEvent = KubernetesObject & {
  readonly reason: string;
  readonly regarding: { readonly kind: string; readonly name: string };
};

const empty = { visible: 0, inFlight: 0, delayed: 0 };

function maintenance({ instanceId: id }: { instanceId: string }, startTime: number) {
  return scheduledChange({
    instanceIds: [id],
    startTime,
    eventTypeCode: 'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
  });
}

// What the end-to-end suite of aws-node-termination-handler shows of it in queue mode. The dry run is
// in dry-run.test.ts; that the URL of the webhook comes from a Secret, in test/chart.
/** Pods that are given a minute. */
function patient(exitsAfterSeconds = 0.3) {
  return { pod: { graceSeconds: 60, behaviour: { exitsAfterSeconds } } };
}

describe.skipIf(needs)('an acceptance scenario of NTH', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  beforeAll(async () => {
    // So that load balancers can spare nodes of the zone.
    await world.kubelet.addNodes(
      Array.from({ length: 20 }, (_, i) => ({ name: `spare-${i}`, instanceId: instanceId() })),
    );
  });

  it.each([
    { name: 'spot-interruption', message: spotNotice },
    { name: 'rebalance', message: rebalance },
    {
      name: 'state-change',
      message: (node: { instanceId: string }) => stateChange({ ...node, state: 'stopping' }),
    },
    {
      name: 'scheduled-change',
      message: (node: { instanceId: string }) => maintenance(node, Date.now() + 600_000),
    },
  ])('$name: drains, taints, and empties the queue', async ({ name, message }) => {
    const { instance } = await addNodeWithPod(world, name, patient());
    const { queue } = await runController(world);

    await queue.send(message({ instanceId: instance }));
    await untilSettled(world.api, name);

    expect(await podNamesOn(world.api, name)).toEqual([]);
    expect(marksOf(await getNode(world.api, name))).toMatchObject({
      cordoned: true,
      taints: [{ key: interruptionKey, value: name, effect: 'NoSchedule' }],
    });
    expect(await queue.counts()).toEqual(empty);
  });

  it('maintenance that is cancelled: uncordons, and pods come back', async () => {
    const { api, kubelet } = world;
    const { instance } = await addNodeWithPod(world, 'cancelled', patient());
    const { queue } = await runController(world);
    const change = maintenance({ instanceId: instance }, Date.now() + 600_000);

    await queue.send(change);
    await untilSettled(api, 'cancelled');
    const detail = { ...change.detail, statusCode: 'closed' };
    await queue.send({ ...change, detail });
    await eventually(async () => !marksOf(await getNode(api, 'cancelled')).cordoned);
    const back = await createPod(api, { name: 'cancelled-back', node: 'cancelled' });
    await untilRunning(kubelet, [back]);

    expect(marksOf(await getNode(api, 'cancelled'))).toMatchObject({ cordoned: false, taints: [] });
    expect(await podNamesOn(api, 'cancelled')).toEqual(['cancelled-back']);
  });

  it('a reboot: uncordons', async () => {
    const { api, kubelet } = world;
    const { instance } = await addNodeWithPod(world, 'rebooted', patient());
    const { queue } = await runController(world);
    const startTime = Math.ceil(Date.now() / 1000) * 1000 + 12_000;

    await queue.send(maintenance({ instanceId: instance }, startTime));
    await untilSettled(api, 'rebooted');
    const before = marksOf(await getNode(api, 'rebooted'));
    await eventually(() => Date.now() > startTime);
    await kubelet.setNodeInfo('rebooted', { bootID: 'the next boot' });
    await eventually(async () => !marksOf(await getNode(api, 'rebooted')).cordoned);

    expect(before.cordoned).toBe(true);
    expect(marksOf(await getNode(api, 'rebooted'))).toMatchObject({ taints: [], label: undefined });
  });

  it('unknown instance: the queue empties when its grace is over', async () => {
    const { queue } = await runController(world, { UNKNOWN_INSTANCE_GRACE_SECONDS: '2' });

    await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instanceId() }))]);

    expect(await queue.counts()).toEqual(empty);
  });

  it('terminate hook: cordons, evicts, and completes', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'hooked', patient());
    const { queue } = await runController(world);
    const action = beginHook(world, 'hooked', instance);

    await queue.send(terminateHook({ ...action }));
    await untilSettled(world.api, 'hooked');

    expect(marksOf(await getNode(world.api, 'hooked')).cordoned).toBe(true);
    expect(await removalsOf(world, { name: pod })).toMatchObject([{ by: 'eviction', status: 201 }]);
    expect(action.result).toBe('CONTINUE');
  });

  it('heartbeats: at half the timeout, three of them until the window is outlasted', async () => {
    const { instance } = await addNodeWithPod(world, 'beating', patient(27));
    const { queue } = await runController(world, {
      TERMINATE_HOOK_DRAIN_SECONDS: '36',
      DEADLINE_MARGIN_SECONDS: '0',
    });
    const action = beginHook(world, 'beating', instance, { timeoutSeconds: 14 });

    await queue.send(terminateHook({ ...action }));
    await eventually(() => action.completedAt !== undefined, { timeoutMs: 60_000 });

    // One that crosses the completion on its way is refused.
    const { completedAt = Infinity } = action;
    const beats = world.autoScaling
      .calls('RecordLifecycleActionHeartbeat')
      .filter(({ parameters, at }) => parameters['InstanceId'] === instance && at < completedAt);
    // At 7 s and 14 s the action would end before the window; at 21 s it lives until 35 s, at 28 s longer.
    expect(beats.length).toBeGreaterThanOrEqual(3);
    expect(beats.every(({ status }) => status === 200)).toBe(true);
    const gaps = beats.slice(1).map(({ at }, i) => at - (beats[i]?.at ?? 0));
    for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(6900);
    expect(action.result).toBe('CONTINUE');
  });

  it('launch hook: completes when the node is Ready', async () => {
    const { instance } = await addNodeWithPod(world, 'launched', patient());
    const { queue } = await runController(world);
    world.autoScaling.addHook({
      group: 'launched',
      hook: 'join',
      transition: 'autoscaling:EC2_INSTANCE_LAUNCHING',
    });
    const action = world.autoScaling.beginAction({
      group: 'launched',
      hook: 'join',
      instanceId: instance,
    });

    await untilDeleted(queue, [await queue.send(launchHook({ ...action }))]);

    expect(action.result).toBe('CONTINUE');
  });

  it('cordon only: evicts nothing', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'cordoned', patient());
    const { queue } = await runController(world, { SPOT_INTERRUPTION_ACTION: 'cordon' });

    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(world.api, 'cordoned');

    expect(marksOf(await getNode(world.api, 'cordoned')).cordoned).toBe(true);
    expect(await podNamesOn(world.api, 'cordoned')).toEqual([pod]);
    expect(await removalsOf(world, { name: pod })).toEqual([]);
  });

  it('rebalance cordons only, and a later interruption drains', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'cordoned-first', patient());
    const { queue } = await runController(world, { REBALANCE_ACTION: 'cordon' });

    await queue.send(rebalance({ instanceId: instance }));
    await untilSettled(world.api, 'cordoned-first');
    const before = await podNamesOn(world.api, 'cordoned-first');
    await queue.send(spotNotice({ instanceId: instance }));
    await eventually(async () => (await podNamesOn(world.api, 'cordoned-first')).length === 0);

    expect(before).toEqual([pod]);
    expect(await removalsOf(world, { name: pod })).toMatchObject([{ by: 'eviction' }]);
  });

  it('metrics after a drain', async () => {
    const { instance } = await addNodeWithPod(world, 'counted', patient());
    const { controller, queue } = await runController(world);

    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(world.api, 'counted');
    const metrics = await metricsOf(controller);

    expect(metrics).toMatch(
      /^node_termination_drains_total\{kind="spot-interruption",outcome="drained"\} [1-9]/m,
    );
    expect(metrics).toMatch(/^node_termination_evictions_total\{.*\} [1-9]/m);
    expect(metrics).toMatch(/^node_termination_messages_total\{.*outcome="recorded".*\} [1-9]/m);
  });

  it('Kubernetes events: what happens to the node, and to its pod', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'told', patient());
    const { queue } = await runController(world);

    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(world.api, 'told');

    await eventually(async () => {
      const events = await world.api.list<ToldEvent>('/apis/events.k8s.io/v1/events');
      const reasons = (kind: string, name: string) =>
        events
          .filter(({ regarding }) => regarding.kind === kind && regarding.name === name)
          .map(({ reason }) => reason);
      expect(reasons('Node', 'told')).toEqual(
        expect.arrayContaining(['Interrupted', 'Draining', 'Drained']),
      );
      expect(reasons('Pod', pod)).toContain('NodeInterrupted');
      return true;
    });
  });

  it("webhook: NTH's own template, through a proxy", async () => {
    const { instance } = await addNodeWithPod(world, 'announced');
    const [receiver, proxy] = [await startWebhookReceiver(), await startForwardProxy()];
    onTestFinished(async () => {
      await receiver.stop();
      await proxy.stop();
    });
    const { queue } = await runController(world, {
      WEBHOOK_URL: receiver.url,
      WEBHOOK_TEMPLATE:
        '{"text":"EventID: {{ .EventID }} - Kind: {{ .Kind }} - Instance: {{ .InstanceID }} - Node: {{ .NodeName }} - Description: {{ .Description }} - Start Time: {{ .StartTime }}"}',
      HTTP_PROXY: proxy.url,
    });

    await queue.send(spotNotice({ instanceId: instance }));
    const about = () => receiver.deliveries().filter(({ body }) => body.includes('announced'));
    await eventually(() => about().length === 2);

    expect(proxy.targets.length).toBeGreaterThan(0);
    expect(new Set(proxy.targets)).toEqual(new Set([new URL(receiver.url).host]));
    for (const { body } of about()) {
      expect(body).toContain(`Kind: spot-interruption - Instance: ${instance} - Node: announced -`);
    }
  });
});
