import { beforeAll, describe, expect, it } from 'vitest';
import { getNode } from '../harness/cluster.ts';
import type { Controller } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { interruptionKey, marksOf, noMarks } from '../harness/marks.ts';
import {
  capacityReservationInterruption,
  directHook,
  launchHook,
  scheduledChange,
  spotNotice,
  stateChange,
  terminateHook,
  testNotification,
  viaTopic,
} from '../harness/messages.ts';
import { processorWaitMs } from '../harness/processor-wait.ts';
import { endVisibility, fateOf, timesReceived, untilDeleted } from '../harness/queued.ts';
import { controllerRequests } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const graceSeconds = 3;
const grace = { UNKNOWN_INSTANCE_GRACE_SECONDS: String(graceSeconds) };
const maxReceiveCount = 2;
const hookOf = (instance: string) => ({ instanceId: instance, group: 'web', hook: 'drain' });

/** The body for a given instance, which is that of a node, of one of its own for each message. */
type Body = (instance: string) => string | object;

type Row = { readonly what: string; readonly body: Body };

/** Cannot be read: left to the queue's redrive policy. */
const unreadable: readonly Row[] = [
  { what: 'a text that is no JSON', body: (id) => `drain ${id}, please` },
  { what: 'blanks', body: () => ' \n\t ' },
  { what: 'half a notice', body: (id) => JSON.stringify(spot(id)).slice(0, -20) },
  { what: 'two notices in a row', body: (id) => JSON.stringify(spot(id)).repeat(2) },
  { what: 'JSON null', body: () => 'null' },
  { what: 'a JSON number', body: () => '17' },
  { what: 'a JSON text', body: (id) => JSON.stringify(JSON.stringify(spot(id))) },
  { what: 'a JSON list of notices', body: (id) => JSON.stringify([spot(id)]) },
  { what: 'an empty object', body: () => ({}) },
  { what: 'a detail-type that is no text', body: (id) => ({ ...spot(id), 'detail-type': 5 }) },
  {
    what: 'a notice without an instance',
    body: (id) => ({ ...spot(id), detail: { 'instance-action': 'terminate' }, resources: [] }),
  },
  {
    what: 'instance IDs of a wrong form',
    body: (id) => ({
      ...spot(id),
      detail: { 'instance-id': `../nodes/${id}` },
      resources: ['arn:aws:ec2:eu-central-1:123456789012:instance/i-12', id.slice(0, -3)],
    }),
  },
  {
    what: 'control characters in the instance ID',
    body: (id) => ({
      ...spot(id),
      detail: { 'instance-id': `${id}\u0000\u001b[2J` },
      resources: 7,
    }),
  },
  {
    what: 'an instance ID and resources of the wrong type',
    body: (id) => ({ ...spot(id), detail: { 'instance-id': [id] }, resources: { 0: id } }),
  },
  {
    what: 'a detail that is a text',
    body: (id) => ({ ...spot(id), detail: JSON.stringify(spot(id).detail), resources: null }),
  },
  { what: 'a notice wrapped four times', body: (id) => wrapped(spot(id), 4) },
  {
    what: 'a topic message around rubbish',
    body: () => ({ ...viaTopic({}), Message: '<rubbish>' }),
  },
  {
    what: 'a topic message whose content is no text',
    body: (id) => ({ ...viaTopic({}), Message: spot(id) }),
  },
  {
    what: "the confirmation of a topic's subscription",
    body: () => ({ ...viaTopic({}), Type: 'SubscriptionConfirmation', Token: 'token' }),
  },
  { what: 'lists in lists, 100,000 deep', body: () => `${'['.repeat(1e5)}${']'.repeat(1e5)}` },
  { what: '256 KB of rubbish', body: () => 'x'.repeat(256 * 1024) },
];

/** Not of our concern, by what they say: deleted at once. */
const notOurs: readonly Row[] = [
  {
    what: 'an unknown source',
    body: (id) => ({ ...spot(id), source: 'com.example.ec2' }),
  },
  {
    what: 'an unknown detail-type',
    body: (id) => ({ ...spot(id), 'detail-type': 'EC2 Instance Coffee Break' }),
  },
  {
    what: 'a detail-type that is a property of every object',
    body: (id) => ({ ...spot(id), 'detail-type': 'constructor' }),
  },
  { what: 'a test notification', body: () => testNotification('web') },
  {
    what: 'a hook of an unknown transition',
    body: (id) => ({
      ...directHook(hookOf(id)),
      LifecycleTransition: 'autoscaling:EC2_INSTANCE_X',
    }),
  },
  {
    what: 'the notice of another account',
    body: (id) => ({ ...spot(id), account: '210987654321' }),
  },
  {
    what: 'the hook of another account',
    body: (id) => directHook({ ...hookOf(id), account: '210987654321' }),
  },
  {
    what: 'a Health event for hosts only',
    body: () => scheduledChange({ instanceIds: ['h-0123456789abcdef0'], startTime: Date.now() }),
  },
  {
    what: 'a Health event of another service',
    body: (id) => {
      const event = scheduledChange({ instanceIds: [id], startTime: Date.now() });
      return { ...event, detail: { ...event.detail, service: 'RDS' } };
    },
  },
  {
    what: 'a Health event of another category',
    body: (id) => {
      const event = scheduledChange({ instanceIds: [id], startTime: Date.now() });
      return { ...event, detail: { ...event.detail, eventTypeCategory: 'accountNotification' } };
    },
  },
];

/** Of kinds that nothing is done about (yet): deleted at once, too. */
const unhandled: readonly Row[] = [
  { what: 'a launch hook', body: (id) => launchHook(hookOf(id)) },
  {
    what: 'the news that an instance is starting',
    body: (id) => stateChange({ instanceId: id, state: 'pending' }),
  },
];

type Expected = {
  readonly kind: string;
  /** Seconds from the event's time, or from the sending where it has none. */
  readonly windowSeconds?: number;
};

/** A known detail-type and a recognisable instance: whatever else is wrong, the harshest is assumed. */
const actedOn: readonly (Row & Expected)[] = [
  {
    what: 'a hook without a token, which says no more than a state does',
    body: (id) => {
      const hook = terminateHook(hookOf(id));
      return { ...hook, detail: without(hook.detail, 'LifecycleActionToken') };
    },
    kind: 'state-change',
    windowSeconds: 30,
  },
  {
    what: 'an unknown instance-action',
    body: (id) => ({ ...spot(id), detail: { 'instance-id': id, 'instance-action': 'explode' } }),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'no instance-action',
    body: (id) => ({ ...spot(id), detail: { 'instance-id': id } }),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'no time',
    body: (id) => without(spot(id), 'time'),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'a time that is none',
    body: (id) => ({ ...spot(id), time: '2026-02-31T25:00:00Z' }),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'a time of the wrong type',
    body: (id) => ({ ...spot(id), time: { seconds: 5 } }),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'a time in the far future',
    body: (id) => ({ ...spot(id), time: '9999-12-31T23:59:59Z' }),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'no source, no account, no id',
    body: (id) => without(spot(id), 'source', 'account', 'id'),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'source, account and id of the wrong type',
    body: (id) => ({ ...spot(id), source: ['aws.ec2'], account: 123456789012, id: {} }),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'the instance among the resources only',
    body: (id) => ({ ...spot(id), detail: null }),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'a notice wrapped twice',
    body: (id) => wrapped(spot(id), 2),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'keys that name prototypes',
    body: (id) =>
      JSON.stringify({ ...spot(id), constructor: { prototype: { detail: 1 } } }).replace(
        '{',
        '{"__proto__":{"detail-type":"polluted","toString":null},',
      ),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'a detail nested 50,000 deep',
    body: (id) =>
      JSON.stringify({ ...spot(id), detail: { 'instance-id': id, extra: 'DEEP' } }).replace(
        '"DEEP"',
        `${'{"a":'.repeat(5e4)}0${'}'.repeat(5e4)}`,
      ),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'a notice of 256 KB',
    body: (id) => padded({ ...spot(id), padding: '' }, 256 * 1024),
    kind: 'spot-interruption',
    windowSeconds: 120,
  },
  {
    what: 'a capacity reservation whose resources are a text',
    body: (id) => ({
      ...capacityReservationInterruption({ instanceId: id }),
      resources: `arn:aws:ec2:eu-central-1:123456789012:instance/${id}`,
    }),
    kind: 'capacity-reservation',
    windowSeconds: 120,
  },
  {
    what: 'a hook without time, of odd origin and destination',
    body: (id) => {
      const hook = terminateHook(hookOf(id));
      return {
        ...without(hook, 'time'),
        detail: { ...hook.detail, Origin: 7, Destination: ['Moon'], LifecycleTransition: null },
      };
    },
    kind: 'terminate-hook',
  },
];

describe.skipIf(needs)('bad messages', { meta: { needs } }, () => {
  const world = sharedWorld({ ...options, queue: { maxReceiveCount } });
  let controller: Controller;
  let queue: Queue;
  const sent = new Map<string, Sent>();
  const all = [...unreadable, ...notOurs, ...unhandled, ...actedOn];

  // All of them at once, to one process.
  beforeAll(async () => {
    // Load balancers are left a target.
    await world.kubelet.addNode({ name: 'spare' });
    ({ queue } = world);
    controller = await world.startController({ env: grace });
    await controller.waitForLog('ready');
    const nodes = all.map((_, at) => ({ name: `node-${at}`, instanceId: instanceId() }));
    await world.kubelet.addNodes(nodes);
    const ids = await queue.sendMany(all.map(({ body }, at) => body(nodes[at]?.instanceId ?? '')));
    all.forEach(({ what }, at) => {
      sent.set(what, { id: ids[at] ?? '', node: nodes[at]?.name ?? '' });
    });
  });

  const sentOf = (what: string): Sent => {
    const found = sent.get(what);
    if (!found) throw new Error(`nothing was sent for ${what}`);
    return found;
  };

  it.each(unreadable)('leaves $what to the dead letter queue', async ({ what }) => {
    const { id, node } = sentOf(what);

    await eventually(async () => {
      if (fateOf(queue, id).at(-1) === 'received') await endVisibility(world, queue, id);
      return (await queue.deadLetters()).some(({ messageId }) => messageId === id);
    });

    expect(timesReceived(queue, id)).toBe(maxReceiveCount);
    expect(fateOf(queue, id)).not.toContain('deleted');
    await expectUntouched(world, node);
  });

  it.each([...notOurs, ...unhandled])('deletes $what at once', async ({ what }) => {
    const { id, node } = sentOf(what);

    await untilDeleted(queue, [id]);

    expect(fateOf(queue, id)).toEqual(['sent', 'received', 'deleted']);
    await expectUntouched(world, node);
  });

  it.each(actedOn)('acts on $what', async ({ what, kind, windowSeconds }) => {
    const { id, node } = sentOf(what);

    await untilDeleted(queue, [id]);

    expect(fateOf(queue, id)).toEqual(['sent', 'received', 'deleted']);
    const marks = marksOf(await getNode(world.api, node));
    expect(marks).toMatchObject({
      cordoned: true,
      taints: [{ key: interruptionKey, value: kind, effect: 'NoSchedule' }],
      label: kind,
      loadBalancerLabel: 'true',
      journal: { interruptions: [{ kind }] },
    });
    const [interruption] = marks.journal?.interruptions ?? [];
    const [sentAt = Number.NaN, , deletedAt = Number.NaN] = queue.events(id).map(({ at }) => at);
    const time = Date.parse(interruption?.time ?? '');
    // EventBridge gives whole seconds.
    expect(time).toBeGreaterThan(sentAt - 5000);
    expect(time).toBeLessThanOrEqual(deletedAt);
    expect(interruption?.deadlineAt).toBe(
      windowSeconds === undefined ? undefined : new Date(time + windowSeconds * 1000).toISOString(),
    );
  });

  it('do not delay a good notice after them, nor end the process', async () => {
    const instance = instanceId();
    await world.kubelet.addNode({ name: 'good', instanceId: instance });
    await eventually(() => [...sent.values()].every(({ id }) => timesReceived(queue, id) > 0));

    const waited = async () => processorWaitMs(controller.pid, process.pid);
    const waitedBeforeMs = await waited();
    const id = await queue.send(spotNotice({ instanceId: instance }));
    await untilDeleted(queue, [id]);
    const waitedMs = (await waited()) - waitedBeforeMs;

    const [mark] = await controllerRequests(world, {
      verb: 'patch',
      resource: 'nodes',
      name: 'good',
    });
    expect(mark?.status).toBe(200);
    // The demand itself, on the controller and not on a busy machine; usually it takes a twentieth of it.
    expect(mark?.answeredAt).toBeLessThan((queue.events(id)[0]?.at ?? 0) + 2000 + waitedMs);
    expect(await stillRuns(controller)).toBe(true);
  });
});

describe.skipIf(needs)('a message', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  beforeAll(async () => {
    // Load balancers are left a target.
    await world.kubelet.addNode({ name: 'spare' });
  });

  it('that cannot be read is deleted at its fifth receive where there is no dead letter queue', async () => {
    const { queue } = await runController(world);
    const id = await queue.send('rubbish');

    for (let receives = 1; receives <= 4; receives++) {
      await eventually(() => timesReceived(queue, id) === receives);
      await endVisibility(world, queue, id);
    }
    await untilDeleted(queue, [id]);

    expect(timesReceived(queue, id)).toBe(5);
    const fate = fateOf(queue, id);
    expect(fate.indexOf('deleted')).toBeGreaterThan(fate.lastIndexOf('received'));
  });

  it("about another cluster's instance is deleted after its grace, counted from the first receive", async () => {
    const { queue } = await runController(world, grace);

    const messages = [
      spotNotice({ instanceId: instanceId() }),
      viaTopic(spotNotice({ instanceId: instanceId() })),
      terminateHook(hookOf(instanceId())),
    ];
    const ids = await queue.sendMany(messages);
    await untilDeleted(queue, ids);

    for (const id of ids) {
      expect(fateOf(queue, id)).toEqual(['sent', 'received', 'visibility-changed', 'deleted']);
      const [, received, , deleted] = queue.events(id);
      // The stand-in's clock for first receives has whole milliseconds, as ours.
      expect((deleted?.at ?? 0) - (received?.at ?? 0)).toBeGreaterThanOrEqual(
        graceSeconds * 1000 - 1,
      );
    }
    expect(world.autoScaling.calls('CompleteLifecycleAction')).toEqual([]);
  });

  it('about an instance that registers within its grace is acted on at once', async () => {
    const { api, kubelet } = world;
    const { queue } = await runController(world, { UNKNOWN_INSTANCE_GRACE_SECONDS: '600' });
    const instance = instanceId();
    const id = await queue.send(spotNotice({ instanceId: instance }));
    await eventually(() => fateOf(queue, id).includes('visibility-changed'));

    await kubelet.addNode({ name: 'late', instanceId: instance });
    await untilDeleted(queue, [id]);

    expect(timesReceived(queue, id)).toBe(1);
    expect(marksOf(await getNode(api, 'late'))).toMatchObject({ label: 'spot-interruption' });
  });
});

type Sent = { readonly id: string; readonly node: string };

function spot(instance: string) {
  return spotNotice({ instanceId: instance });
}

function wrapped(message: object, times: number): object {
  return times === 0 ? message : viaTopic(wrapped(message, times - 1));
}

function without(object: object, ...fields: readonly string[]): object {
  return Object.fromEntries(Object.entries(object).filter(([field]) => !fields.includes(field)));
}

/** Of exactly so many bytes. */
function padded(message: object & { readonly padding: string }, bytes: number): string {
  const bare = JSON.stringify(message).length;
  return JSON.stringify({ ...message, padding: 'x'.repeat(bytes - bare) });
}

async function expectUntouched(world: World, node: string): Promise<void> {
  expect(marksOf(await getNode(world.api, node))).toEqual(noMarks);
  const requests = await controllerRequests(world, { resource: 'nodes', name: node });
  expect(requests).toEqual([]);
}

async function stillRuns({ exited }: Controller): Promise<boolean> {
  return Promise.race([exited.then(() => false), Promise.resolve(true)]);
}
