import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import type { NodeObject } from '../control-plane/objects.ts';
import { getNode, podNamesOn, podsOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { askOverHttp, metricsOf } from '../harness/http.ts';
import { marksOf, noMarks, untilSettled } from '../harness/marks.ts';
import { scheduledChange, spotNotice, terminateHook, viaTopic } from '../harness/messages.ts';
import { addNodeWithPod, beginHook } from '../harness/nodes.ts';
import { timesReceived, untilDeleted } from '../harness/queued.ts';
import { controllerRequests, removalsOf } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, runControllerOn } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import {
  budgetStatus,
  createBudget,
  createPod,
  createPods,
  untilRunning,
} from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { internalFailure } from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import { startWebhookReceiver } from '../stand-ins/webhook-receiver.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const exitsSoon = { exitsAfterSeconds: 0.3 };

function slow(exitsAfterSeconds: number) {
  return { pod: { behaviour: { exitsAfterSeconds } } };
}

// Where aws-node-termination-handler v1.25 fails, by number; the tests say what is right instead.
// Number 3 (a dry run that completes and deletes) is in dry-run.test.ts; of number 16, that liveness fails
// when a stage stands still or the event loop is blocked is in test/self-watch and test/run.
describe.skipIf(needs)('what NTH fails at', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  // The next controller would go on with a drain that a test has left.
  afterEach(async () => {
    const nodes = await world.api.list<NodeObject>('/api/v1/nodes');
    await Promise.all(nodes.map(({ metadata }) => world.kubelet.removeNode(metadata.name)));
  });

  it('1: a Health event of several instances drains each of their nodes', async () => {
    const nodes = await Promise.all(
      ['one-a', 'one-b', 'one-c'].map((name) => addNodeWithPod(world, name)),
    );
    const { queue } = await runController(world);

    const id = await queue.send(
      scheduledChange({
        instanceIds: nodes.map(({ instance }) => instance),
        startTime: Date.now() + 600_000,
      }),
    );
    await untilDeleted(queue, [id]);
    for (const name of ['one-a', 'one-b', 'one-c']) await untilSettled(world.api, name);

    for (const name of ['one-a', 'one-b', 'one-c']) {
      expect(await podNamesOn(world.api, name)).toEqual([]);
    }
  });

  it('2: maintenance in weeks waits for its lead, and news of its end undoes it', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'two');
    const { queue } = await runController(world);
    const change = scheduledChange({
      instanceIds: [instance],
      startTime: Date.now() + 21 * 86_400_000,
      eventTypeCode: 'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
    });

    await untilDeleted(queue, [await queue.send(change)]);
    const waiting = marksOf(await getNode(world.api, 'two'));
    const closed = { ...change, detail: { ...change.detail, statusCode: 'closed' } };
    await untilDeleted(queue, [await queue.send(closed)]);

    expect(waiting).toMatchObject({ cordoned: false, journal: { state: 'waiting' } });
    expect(marksOf(await getNode(world.api, 'two'))).toMatchObject({ cordoned: false, taints: [] });
    expect(await podNamesOn(world.api, 'two')).toEqual([pod]);
  });

  it('4: a completion that fails is made again within seconds', async () => {
    const { instance } = await addNodeWithPod(world, 'four');
    const { queue } = await runController(world);
    const action = beginHook(world, 'four', instance);
    world.autoScaling.faults.add({
      action: 'CompleteLifecycleAction',
      times: 2,
      fault: internalFailure,
    });

    await queue.send(terminateHook({ ...action }));
    await untilSettled(world.api, 'four');

    expect(action.result).toBe('CONTINUE');
    const calls = world.autoScaling
      .calls('CompleteLifecycleAction')
      .filter(({ parameters }) => parameters['AutoScalingGroupName'] === 'four');
    expect(calls.map(({ code }) => code)).toEqual([
      'InternalFailure',
      'InternalFailure',
      undefined,
    ]);
  });

  it('5: every event of a node has its own end: each of two hooks is completed', async () => {
    const { instance } = await addNodeWithPod(world, 'five', slow(3));
    const { queue } = await runController(world);
    const actions = ['drain', 'backup'].map((hook) => beginHook(world, 'five', instance, { hook }));

    await queue.sendMany([
      spotNotice({ instanceId: instance }),
      ...actions.map((action) => terminateHook({ ...action })),
    ]);
    await eventually(() => actions.every(({ completedAt }) => completedAt !== undefined));
    await untilSettled(world.api, 'five');

    expect(actions.map(({ result }) => result)).toEqual(['CONTINUE', 'CONTINUE']);
  });

  it('6: an API server that is away is no reason to let the hook of a node go', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'six');
    const { controller, queue } = await runController(world, {
      COMPLETE_UNKNOWN_HOOKS: 'true',
      UNKNOWN_INSTANCE_GRACE_SECONDS: '1',
    });
    const action = beginHook(world, 'six', instance);

    await world.cluster.apiServer.stop();
    await queue.send(terminateHook({ ...action }));
    await controller.waitForLog('API server unreachable', { timeoutMs: 60_000 });
    const completedMeanwhile = action.completedAt;
    await world.cluster.apiServer.start();
    await untilSettled(world.api, 'six', { timeoutMs: 90_000 });

    expect(completedMeanwhile).toBeUndefined();
    expect(action.result).toBe('CONTINUE');
    expect(action.completedAt).toBeGreaterThanOrEqual(
      world.kubelet.record(pod).endedAt ?? Infinity,
    );
  });

  it('7: messages that fail alike, however many, end no process and no drain', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'seven', slow(5));
    const { controller, queue } = await runController(world);

    await queue.send(spotNotice({ instanceId: instance }));
    await eventually(() => world.kubelet.record(pod).deletions.length > 0);
    await queue.sendMany(Array.from({ length: 20 }, () => 'not JSON'));
    await controller.waitForLog('malformed message');
    await untilSettled(world.api, 'seven');

    expect(await removalsOf(world, { name: pod })).toHaveLength(1);
    expect(await controller.stop()).toMatchObject({ code: 0 });
  });

  it('8: an unknown source and a topic around an event are dealt with and deleted', async () => {
    const { instance } = await addNodeWithPod(world, 'eight');
    const { queue } = await runController(world);

    const ids = await queue.sendMany([
      { ...spotNotice({ instanceId: instance }), source: 'com.example' },
      viaTopic(spotNotice({ instanceId: instance })),
    ]);
    await untilDeleted(queue, ids);
    await untilSettled(world.api, 'eight');

    expect(await podNamesOn(world.api, 'eight')).toEqual([]);
  });

  it('9: a storm is taken in at once, with few requests for each node', async () => {
    const { api, kubelet } = world;
    const nodes = Array.from({ length: 60 }, (_, i) => ({
      name: `nine-${i}`,
      instanceId: instanceId(),
    }));
    await kubelet.addNodes(nodes);
    const created = await createPods(
      api,
      nodes.flatMap(({ name }) =>
        Array.from({ length: 3 }, (_, i) => ({
          name: `${name}-${i}`,
          node: name,
          behaviour: exitsSoon,
        })),
      ),
    );
    await untilRunning(kubelet, created);
    const { controller, queue } = await runController(world);

    await untilDeleted(queue, await queue.sendMany(nodes.map((node) => spotNotice(node))), {
      timeoutMs: 60_000,
    });
    await Promise.all(
      nodes.map(({ name }) => untilSettled(world.api, name, { timeoutMs: 90_000 })),
    );
    await eventually(() => controller.logged('drained').length >= nodes.length);
    expect(controller.logged('drained')).toHaveLength(nodes.length);

    const names = new Set(nodes.map(({ name }) => name));
    const patches = await controllerRequests(world, { resource: 'nodes', verb: 'patch' });
    const marks = patches.filter(({ name = '', status }) => names.has(name) && status === 200);
    // The mark, and the end of the drain.
    expect(marks.length).toBe(2 * nodes.length);
    const pods = (await controllerRequests(world, { resource: 'pods' })).filter(({ path }) =>
      decodeURIComponent(path).includes('nine-'),
    );
    const perNode = (pods.length - nodes.length * 3) / nodes.length;
    expect(perNode).toBeLessThanOrEqual(6);
    for (const { name } of nodes.slice(0, 5)) expect(await podsOn(api, name)).toEqual([]);
  });

  it('10: a message is received once, however long the drain', async () => {
    const { instance } = await addNodeWithPod(world, 'ten', slow(24));
    const { queue } = await runController(world);

    const id = await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(world.api, 'ten', { timeoutMs: 90_000 });

    expect(timesReceived(queue, id)).toBe(1);
  });

  it('11: the deadline is the message’s, and a pod that its budget holds is told before it', async () => {
    const { api, kubelet } = world;
    const { instance } = await addNodeWithPod(world, 'eleven');
    const labels = { app: 'eleven' };
    const held = await createPod(api, {
      name: 'eleven-held',
      node: 'eleven',
      labels,
      graceSeconds: 5,
      behaviour: { exitsAfterSeconds: 1 },
    });
    await untilRunning(kubelet, [held]);
    await createBudget(api, { name: 'eleven', matchLabels: labels, minAvailable: 1 });
    await eventually(async () => (await budgetStatus(api, 'eleven'))?.disruptionsAllowed === 0);
    const { controller, queue } = await runController(world);
    const action = beginHook(world, 'eleven', instance, { timeoutSeconds: 30 });

    await queue.send(terminateHook({ ...action }));
    await eventually(() => action.completedAt !== undefined, { timeoutMs: 60_000 });

    expect(kubelet.record('eleven-held').end).toBe('exited');
    expect(action.completedAt).toBeLessThan(action.startedAt + 30_000);
    expect(controller.logged('pod deleted past its budget')).toMatchObject([
      { pod: 'eleven-held' },
    ]);
    const [first] = await removalsOf(world, { name: 'eleven-pod' });
    expect(first).toMatchObject({ by: 'eviction', status: 201 });
  });

  it('12: a process that dies leaves nothing to begin again', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'twelve', slow(8));
    const { controller, queue } = await runController(world);

    const id = await queue.send(spotNotice({ instanceId: instance }));
    await untilDeleted(queue, [id]);
    await eventually(() => world.kubelet.record(pod).deletions.length > 0);
    await controller.kill();
    const next = await runControllerOn(world, queue);
    await untilSettled(world.api, 'twelve', { timeoutMs: 60_000 });

    expect(next.logged('resumed')).toHaveLength(1);
    expect(await removalsOf(world, { name: pod })).toHaveLength(1);
    expect(timesReceived(queue, id)).toBe(1);
  });

  it('12: of two replicas one drains, and the other only stands by', async () => {
    const names = ['twelve-a', 'twelve-b'];
    const nodes = await Promise.all(names.map((name) => addNodeWithPod(world, name, slow(3))));
    const { controller: leader, queue } = await runController(world);
    const standby = await world.startController({
      env: { QUEUE_URL: queue.url, LEASE_NAME: queue.name, POD_NAME: 'standby' },
    });
    onTestFinished(async () => void (await standby.kill()));
    await standby.waitForLog('standing by');

    const ids = await queue.sendMany(
      nodes.map(({ instance }) => spotNotice({ instanceId: instance })),
    );
    await untilDeleted(queue, ids);
    for (const name of names) await untilSettled(world.api, name);

    for (const { pod } of nodes) {
      expect(await removalsOf(world, { name: pod })).toMatchObject([{ by: 'eviction' }]);
    }
    for (const id of ids) expect(timesReceived(queue, id)).toBe(1);
    const drained = () => leader.logged('drained').map(({ node }) => String(node));
    await eventually(() => drained().length >= names.length);
    expect(drained().toSorted()).toEqual(names);
    expect(standby.logged('ready')).toEqual([]);
    expect(standby.logged('draining')).toEqual([]);
  });

  it('13: a node is known by its instance, not by a name that another VPC has, too', async () => {
    const name = 'ip-10-0-0-13.eu-central-1.compute.internal';
    const { pod } = await addNodeWithPod(world, name);
    const { queue } = await runController(world, { UNKNOWN_INSTANCE_GRACE_SECONDS: '1' });

    const notice = { ...spotNotice({ instanceId: instanceId() }), id: randomUUID(), host: name };
    await untilDeleted(queue, [await queue.send(notice)]);

    expect(marksOf(await getNode(world.api, name))).toEqual(noMarks);
    expect(await podNamesOn(world.api, name)).toEqual([pod]);
  });

  it('14: a node that lives is never taken out of service', async () => {
    const { instance } = await addNodeWithPod(world, 'alive');
    const { queue } = await runController(world, { OUT_OF_SERVICE_TAINT: 'true' });

    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(world.api, 'alive');

    const { spec } = await getNode(world.api, 'alive');
    expect(spec.taints?.map(({ key }) => key)).not.toContain('node.kubernetes.io/out-of-service');
  });

  it('14: a node that cannot be marked is drained all the same', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'fourteen');
    const { controllerRules, controllerAccess } = leastRights;
    const rules = controllerRules.map((rule) =>
      rule.resources?.includes('nodes') === true
        ? { ...rule, verbs: ['get', 'list', 'watch'] }
        : rule,
    );
    const { kubeconfig } = await world.cluster.kubeconfigFor('cannot-mark', rules, {
      namespace: 'default',
      ...controllerAccess,
    });
    const { controller, queue } = await runController(world, { KUBECONFIG: kubeconfig });

    await queue.send(spotNotice({ instanceId: instance }));
    await eventually(async () => (await podNamesOn(world.api, 'fourteen')).length === 0, {
      timeoutMs: 60_000,
    });

    expect(controller.logged('recording refused')).toHaveLength(1);
    expect(world.kubelet.record(pod).end).toBe('exited');
  });

  it('15: a webhook tells before and after, whether it went well, and of nodes of this cluster alone', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'fifteen', slow(3));
    const stuck = await addNodeWithPod(world, 'fifteen-stuck');
    await world.api.patch('/api/v1/nodes/fifteen-stuck', {
      metadata: { annotations: { 'node-termination-controller/hold': 'by a test' } },
    });
    const foreign = instanceId();
    const receiver = await startWebhookReceiver();
    onTestFinished(() => receiver.stop());
    const { queue } = await runController(world, {
      WEBHOOK_URL: receiver.url,
      UNKNOWN_INSTANCE_GRACE_SECONDS: '1',
    });

    const ids = await queue.sendMany([
      spotNotice({ instanceId: instance }),
      // The deadline is near.
      spotNotice({ instanceId: stuck.instance, time: Date.now() - 105_000 }),
      spotNotice({ instanceId: foreign }),
    ]);
    await eventually(() => receiver.about('fifteen').length === 1);
    const standing = await podNamesOn(world.api, 'fifteen');
    await eventually(() => receiver.about('fifteen').length === 2);
    await eventually(() => receiver.about('fifteen-stuck').length === 2, { timeoutMs: 60_000 });
    await untilDeleted(queue, ids);

    expect(standing).toEqual([pod]);
    const of = (node: string, id: string, stage: string) => ({ node, instanceId: id, stage });
    expect(receiver.about('fifteen')).toMatchObject([
      of('fifteen', instance, 'received'),
      { ...of('fifteen', instance, 'drained'), outcome: 'drained' },
    ]);
    expect(receiver.about('fifteen-stuck')).toMatchObject([
      of('fifteen-stuck', stuck.instance, 'received'),
      {
        ...of('fifteen-stuck', stuck.instance, 'failed'),
        outcome: 'late',
        podsLeft: [`default/${stuck.pod}`],
      },
    ]);
    expect(receiver.deliveries().filter(({ body }) => body.includes(foreign))).toEqual([]);
  });

  it('16: readiness says that the queue is away, and metrics how soon a node was marked', async () => {
    const { instance } = await addNodeWithPod(world, 'sixteen');
    const { controller, queue } = await runController(world);
    const isReady = async (ok: boolean): Promise<boolean> => {
      const answer = await askOverHttp(controller, '/readyz');
      const { checks } = (await answer.json()) as { checks: { name: string; ok: boolean }[] };
      const failing = checks.filter((check) => !check.ok).map(({ name }) => name);
      return answer.status === (ok ? 200 : 503) && failing.join() === (ok ? '' : 'queue');
    };

    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(world.api, 'sixteen');
    const metrics = await metricsOf(controller);
    await eventually(async () => isReady(true));
    onTestFinished(() => world.queues.comeBack());
    await world.queues.goAway('refuse');
    await eventually(async () => isReady(false));
    // A restart would not bring the queue back.
    const { status: liveness } = await askOverHttp(controller, '/healthz');
    await world.queues.comeBack();
    await eventually(async () => isReady(true));

    for (const name of ['receipt_delay', 'mark_delay', 'deadline_spare']) {
      expect(metrics).toMatch(
        new RegExp(
          `^node_termination_${name}_seconds_count\\{kind="spot-interruption"\\} [1-9]`,
          'm',
        ),
      );
    }
    expect(liveness).toBe(200);
  });
});
