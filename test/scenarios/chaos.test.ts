import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { MESSAGES } from '../../src/report/messages.ts';
import { mapLimited } from '../control-plane/limiter.ts';
import { between, chanceOf, oneOf, type Chance } from '../harness/chance.ts';
import { getNode, podNamesOn, podsOn } from '../harness/cluster.ts';
import type { Controller } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { interruptionKey, journalKey, marksOf, noMarks, untilSettled } from '../harness/marks.ts';
import { spotNotice, terminateHook } from '../harness/messages.ts';
import { untilDeleted } from '../harness/queued.ts';
import { controllerRequests } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPods, untilRunning } from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import type { LifecycleAction } from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const stormSize = 100;
const waves = 20;
const kills = 8;
const apiServerRestarts = 2;
const queueOutageMs = 10_000;
const group = 'workers';
const hook = 'drain';
const minuteMs = 60_000;
/** From an answer of the API server to its line in the log, on a busy machine. */
const logLagMs = 5000;

/** One message, and what is to become of it. */
type Sent = Readonly<{ id: string }> & Fate;
type Fate =
  /** In the journal of its node, under this identity. */
  | Readonly<{ fate: 'recorded'; node: string; identity: string }>
  | Readonly<{ fate: 'not ours'; rule: string }>
  | Readonly<{ fate: 'stale' }>;

type Storm = readonly Readonly<{
  node: string;
  instanceId: string;
  action: () => LifecycleAction;
}>[];

describe.skipIf(needs)('a storm of interruptions', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it('is survived by two replicas that are killed, with an API server, a queue and an Auto Scaling in trouble', async () => {
    const seed = Number(process.env['NTC_CHAOS_SEED'] ?? randomInt(2 ** 31));
    console.info(`again with the same choices: NTC_CHAOS_SEED=${seed}`);
    const { api, kubelet, autoScaling } = world;
    const queue = await world.queues.createQueue('chaos');
    const storm = await prepare(world);
    const bystanders = ['bystander-0', 'bystander-1', 'outlived-0', 'outlived-1'];
    const outlived = await addNodes(world, bystanders);

    const throttles = chanceOf(seed);
    const endThrottling = autoScaling.faults.add({
      fault: { kind: 'error', status: 400, code: 'Throttling', message: 'Rate exceeded' },
      hits: () => throttles() < 0.5,
    });
    const replicas = new Replicas(world, queue);
    await Promise.all([replicas.start('a'), replicas.start('b')]);
    await eventually(() => replicas.log().some(({ message }) => message === 'ready'));

    // The choices are the seed's; the waits between them are part of the chaos.
    const [sent, , serverKilledAt] = await Promise.all([
      sendStorm(queue, storm, outlived, chanceOf(seed + 1)),
      killReplicas(replicas, chanceOf(seed + 2)),
      restartApiServer(world, chanceOf(seed + 3)),
      takeQueueAway(world, chanceOf(seed + 4)),
    ]);
    await untilDeleted(
      queue,
      sent.map(({ id }) => id),
      { timeoutMs: 120_000, intervalMs: 250 },
    );
    // Of so many hooks, one that is refused eight times in a row is no rarity, and is asked for again
    // after half a minute each time; its node is settled only then.
    endThrottling();
    // Not before: one that is recorded late begins its drain anew.
    await mapLimited(storm, 8, async ({ node }) =>
      untilSettled(api, node, { timeoutMs: 120_000, intervalMs: 250 }),
    );

    // Every node as the table says.
    for (const { node } of storm) {
      const kinds = new Set(
        sent.flatMap((of) => (of.fate === 'recorded' && of.node === node ? [of.identity] : [])),
      );
      const ruling = kinds.has('spot-interruption') ? 'spot-interruption' : 'terminate-hook';
      const marks = marksOf(await getNode(api, node));
      expect(marks).toMatchObject({
        cordoned: true,
        taints: [{ key: interruptionKey, value: ruling, effect: 'NoSchedule' }],
        label: ruling,
        loadBalancerLabel: 'true',
      });
      expect(new Set(marks.journal?.interruptions.map(({ id }) => id))).toEqual(kinds);
      expect(await podsOn(api, node)).toEqual([]);
    }
    for (const node of bystanders) {
      expect(marksOf(await getNode(api, node))).toEqual(noMarks);
      expect(await podNamesOn(api, node)).toEqual([`${node}-pod`]);
    }
    // Every hook once its node was empty: completion comes after the journal says so, and is throttled.
    const actions = await eventually(
      () => {
        const all = autoScaling.actions();
        expect(all.map(({ result }) => result)).toEqual(storm.map(() => 'CONTINUE'));
        return all;
      },
      { timeoutMs: 120_000, intervalMs: 250 },
    );
    for (const { completedAt, instanceId: instance } of actions) {
      const { node = '' } = storm.find((of) => of.instanceId === instance) ?? {};
      for (const { endedAt } of kubelet.records({ node })) {
        expect(completedAt).toBeGreaterThanOrEqual(endedAt ?? Infinity);
      }
    }
    expect(await queue.counts()).toEqual({ visible: 0, inFlight: 0, delayed: 0 });

    const counts = await count(world, queue, sent, serverKilledAt);
    console.info(JSON.stringify({ ...counts, kills: replicas.killed, apiServerRestarts }));
    expect(counts).toMatchObject({ sent: sent.length, lost: 0, deletedBeforeRecorded: [] });
    expect(counts.recorded + counts.notOurs + counts.stale).toBe(sent.length);
    expect(replicas.killed).toBe(kills);
    expect(replicas.faults()).toEqual([]);
    await replicas.stop();
  }, 400_000);
});

async function prepare(world: World): Promise<Storm> {
  const names = Array.from({ length: stormSize }, (_, at) => `storm-${at}`);
  const instances = await addNodes(world, names, { exitsAfterSeconds: 0.5 });
  // So that no hook expires, however slow the machine is.
  world.autoScaling.addHook({ group, hook, heartbeatTimeoutSeconds: 3600 });
  return names.map((node) => {
    const instance = instances.get(node) ?? '';
    let begun: LifecycleAction | undefined;
    return {
      node,
      instanceId: instance,
      action: () =>
        (begun ??= world.autoScaling.beginAction({ group, hook, instanceId: instance })),
    };
  });
}

/** Each with a pod that runs; returns their instances. */
async function addNodes(
  { api, kubelet }: World,
  names: readonly string[],
  behaviour = { exitsAfterSeconds: 0.5 },
): Promise<ReadonlyMap<string, string>> {
  const instances = new Map(names.map((name) => [name, instanceId()]));
  await kubelet.addNodes(
    [...instances].map(([name, instance]) => ({ name, instanceId: instance })),
  );
  const pods = await createPods(
    api,
    names.map((node) => ({ name: `${node}-pod`, node, behaviour })),
  );
  await untilRunning(kubelet, pods);
  for (const name of names) if (name.startsWith('outlived')) await kubelet.renewLease(name);
  return instances;
}

/** In waves: each node's hook, a notice of some, some twice; and what is nothing of ours among them. */
async function sendStorm(
  queue: Queue,
  storm: Storm,
  others: ReadonlyMap<string, string>,
  chance: Chance,
): Promise<readonly Sent[]> {
  const sent: Sent[] = [];
  const send = async (body: object, fate: Fate): Promise<void> => {
    sent.push({ id: await queue.send(body), ...fate });
  };
  const perWave = stormSize / waves;
  for (let wave = 0; wave < waves; wave += 1) {
    for (const { node, instanceId: instance, action } of storm.slice(
      wave * perWave,
      (wave + 1) * perWave,
    )) {
      const body = terminateHook(action());
      const recorded = { fate: 'recorded', node } as const;
      await send(body, { ...recorded, identity: `hook/${action().token}` });
      if (chance() < 0.3) await send(body, { ...recorded, identity: `hook/${action().token}` });
      if (chance() < 0.3) {
        const notice = spotNotice({ instanceId: instance });
        await send(notice, { ...recorded, identity: 'spot-interruption' });
        if (chance() < 0.5) await send(notice, { ...recorded, identity: 'spot-interruption' });
      }
    }
    await send(spotNotice({ instanceId: instanceId() }), {
      fate: 'not ours',
      rule: 'not-in-this-cluster',
    });
    const [someone] = others.values();
    await send(spotNotice({ instanceId: someone ?? '', account: '210987654321' }), {
      fate: 'not ours',
      rule: 'other-account',
    });
    await send(
      { 'detail-type': 'Order Placed', source: 'shop', detail: { 'instance-id': someone } },
      { fate: 'not ours', rule: 'unknown-detail-type' },
    );
    for (const [name, instance] of others) {
      if (!name.startsWith('outlived') || chance() < 0.5) continue;
      const time = Date.now() - 10 * minuteMs;
      await send(spotNotice({ instanceId: instance, time }), { fate: 'stale' });
    }
    await delay(between(chance, 500, 2000));
  }
  return sent;
}

/** Two processes, each of which is replaced when it is killed. */
class Replicas {
  killed = 0;
  private readonly running = new Map<string, Controller>();
  private readonly all: Controller[] = [];
  private readonly world: World;
  private readonly queue: Queue;

  constructor(world: World, queue: Queue) {
    this.world = world;
    this.queue = queue;
  }

  async start(name: string): Promise<void> {
    const controller = await this.world.startController({
      env: {
        QUEUE_URL: this.queue.url,
        LEASE_NAME: 'chaos',
        POD_NAME: name,
        // What is parked when its process dies comes back so much sooner.
        UNKNOWN_INSTANCE_GRACE_SECONDS: '5',
      },
    });
    this.running.set(name, controller);
    this.all.push(controller);
  }

  /** A container is started again under its pod's name; a pod is replaced under another. */
  async kill(chance: Chance): Promise<void> {
    const [first = '', second = ''] = this.running.keys();
    const name = oneOf(chance, [first, second]);
    const controller = this.running.get(name);
    this.running.delete(name);
    await controller?.kill();
    this.killed += 1;
    await this.start(chance() < 0.7 ? name : `${name.slice(0, 1)}-${this.killed}`);
  }

  log(): readonly Readonly<Record<string, unknown>>[] {
    return this.all.flatMap(({ log }) =>
      log.flatMap(({ fields }) => (fields === undefined ? [] : [fields])),
    );
  }

  /** Lines that no outside, however bad, may bring about. */
  faults(): readonly unknown[] {
    const isFault = new Map<string, boolean>(
      Object.entries(MESSAGES).map(([text, { meaning }]) => [
        text,
        meaning.includes('fault of this program') || text === 'fatal error',
      ]),
    );
    return this.log().filter(({ message }) => isFault.get(String(message)) === true);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.running.values()].map((controller) => controller.stop()));
  }
}

async function killReplicas(replicas: Replicas, chance: Chance): Promise<void> {
  while (replicas.killed < kills) {
    await delay(between(chance, 1500, 5000));
    await replicas.kill(chance);
  }
}

/** Returns when it was gone, each time. */
async function restartApiServer({ cluster }: World, chance: Chance): Promise<readonly number[]> {
  const killedAt: number[] = [];
  for (let restarts = 0; restarts < apiServerRestarts; restarts += 1) {
    await delay(between(chance, 4000, 12_000));
    await cluster.apiServer.stop();
    killedAt.push(Date.now());
    await delay(between(chance, 0, 2000));
    await cluster.apiServer.start();
  }
  return killedAt;
}

async function takeQueueAway({ queues }: World, chance: Chance): Promise<void> {
  await delay(between(chance, 4000, 12_000));
  await queues.goAway(oneOf(chance, ['refuse', 'hang']));
  await delay(queueOutageMs);
  await queues.comeBack();
}

type Counts = Readonly<{
  sent: number;
  /** In the journal of their node. */
  recorded: number;
  /** By rule. */
  notOurs: number;
  stale: number;
  /** Deleted by no rule, or not deleted. */
  lost: number;
  /** By the API server's log: of those recorded, deleted before their record was answered; and all it has of them. */
  deletedBeforeRecorded: readonly string[];
  receives: number;
}>;

/** From the journals of the queue and of the API server alone. */
async function count(
  world: World,
  queue: Queue,
  sent: readonly Sent[],
  serverKilledAt: readonly number[],
): Promise<Counts> {
  const deletedAt = new Map<string, number>();
  let receives = 0;
  for (const event of queue.events()) {
    if (event.type === 'received') receives += 1;
    if (event.type === 'deleted') deletedAt.set(event.messageId, event.at);
  }
  const patches = await controllerRequests(world, { verb: 'patch', resource: 'nodes' });
  const recordedAt = new Map<string, number>();
  const written = new Set<string>();
  for (const { name = '', status, body, answeredAt } of patches) {
    if (status !== 200) continue;
    written.add(name);
    const { metadata } = body as { metadata?: { annotations?: Record<string, string> } };
    const journal = metadata?.annotations?.[journalKey];
    if (journal === undefined) continue;
    const { interruptions } = JSON.parse(journal) as { interruptions: { id: string }[] };
    for (const { id } of interruptions) {
      const key = `${name} ${id}`;
      if (!recordedAt.has(key)) recordedAt.set(key, answeredAt);
    }
  }
  const inJournal = new Set<string>();
  for (const node of new Set(sent.flatMap((of) => (of.fate === 'recorded' ? [of.node] : [])))) {
    const { journal } = marksOf(await getNode(world.api, node));
    for (const { id } of journal?.interruptions ?? []) inJournal.add(`${node} ${id}`);
  }
  const counts = { recorded: 0, notOurs: 0, stale: 0, lost: 0 };
  const deletedBeforeRecorded: string[] = [];
  for (const message of sent) {
    const deleted = deletedAt.get(message.id);
    if (deleted === undefined) counts.lost += 1;
    else if (message.fate === 'not ours') counts.notOurs += 1;
    else if (message.fate === 'stale') counts.stale += 1;
    else {
      const key = `${message.node} ${message.identity}`;
      if (!inJournal.has(key)) counts.lost += 1;
      else counts.recorded += 1;
      const loggedAt = recordedAt.get(key) ?? -Infinity;
      // A server that is killed may have answered without a line in its log: the first is a later write's.
      const isLineLost = serverKilledAt.some(
        (killedAt) => killedAt > deleted - logLagMs && killedAt < loggedAt,
      );
      if (loggedAt > deleted && !isLineLost) {
        const writes = patches
          .filter(({ name }) => name === message.node)
          .map(({ status, receivedAt, answeredAt }) => ({ status, receivedAt, answeredAt }));
        const fate = queue.events(message.id).map(({ type, at }) => ({ type, at }));
        deletedBeforeRecorded.push(JSON.stringify({ key, loggedAt, fate, writes }));
      }
    }
  }
  expect([...written].filter((node) => !node.startsWith('storm-'))).toEqual([]);
  return { sent: sent.length, ...counts, deletedBeforeRecorded, receives };
}
