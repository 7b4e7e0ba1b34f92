import { afterEach, describe, expect, it } from 'vitest';
import { mapLimited } from '../control-plane/limiter.ts';
import { getNode, getPod, podsOn } from '../harness/cluster.ts';
import type { Controller } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOf, untilSettled } from '../harness/marks.ts';
import { spotNotice, terminateHook } from '../harness/messages.ts';
import { endVisibility, fateOf, timesReceived, untilDeleted } from '../harness/queued.ts';
import { controllerRequests, removalOf, removalsOf, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, runControllerOn } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPod, createPods } from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import type { LifecycleAction } from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const holdKey = 'node-termination-controller/hold';
const hook = 'drain';
const exitsSoon = { exitsAfterSeconds: 0.3 };
const empty = { visible: 0, inFlight: 0, delayed: 0 };

/** One node whose drain is cut off. */
type Drain = {
  readonly world: World;
  readonly node: string;
  readonly action: LifecycleAction;
};

type Moment = {
  readonly moment: string;
  readonly node: string;
  /** Makes the first process get there and no further. */
  readonly arrange?: (drain: Drain) => Promise<void>;
  readonly reached: (drain: Drain) => boolean | Promise<boolean>;
  readonly release?: (drain: Drain) => Promise<void>;
  /** How many of its three pods the first process has evicted by then. */
  readonly evicted: number;
};

const moments: readonly Moment[] = [
  {
    moment: 'before the first eviction',
    node: 'marked',
    arrange: async ({ world, node }) => annotate(world, node, { [holdKey]: '' }),
    reached: async ({ world, node }) =>
      marksOf(await getNode(world.api, node)).journal?.state === 'draining',
    release: async ({ world, node }) => annotate(world, node, { [holdKey]: null }),
    evicted: 0,
  },
  {
    moment: 'between the eviction of pods and their departure',
    node: 'evicting',
    // Answered both: an eviction that a kill cuts is logged as failed, with effect or without.
    reached: async ({ world, node }) => {
      const removals = await Promise.all(
        [`${node}-quick`, `${node}-slow`].map(async (name) => removalsOf(world, { name })),
      );
      return removals.every((of) => of.some(({ status }) => status === 201));
    },
    evicted: 2,
  },
  {
    moment: 'between the last departure and the completion of the hook',
    node: 'emptied',
    arrange: async ({ world }) => {
      world.autoScaling.faults.add({ action: 'CompleteLifecycleAction', fault: { kind: 'hang' } });
    },
    reached: ({ world, action }) => completionsOf(world, action).length > 0,
    release: async ({ world }) => world.autoScaling.faults.clear(),
    evicted: 3,
  },
  {
    moment: 'between the completion of the hook and its record',
    node: 'completed',
    arrange: async ({ world }) => {
      world.autoScaling.faults.add({
        action: 'CompleteLifecycleAction',
        times: 1,
        fault: { kind: 'lose-answer' },
      });
    },
    reached: ({ action }) => action.completedAt !== undefined,
    evicted: 3,
  },
];

describe.skipIf(needs)('a process that is killed', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  afterEach(() => {
    world.queues.faults.clear();
    world.autoScaling.faults.clear();
  });

  it.each(moments)(
    '$moment is followed by one that finishes from the journal, with nothing in the queue',
    async ({ node, arrange, reached, release, evicted }) => {
      const { api, kubelet, autoScaling } = world;
      const instance = instanceId();
      await kubelet.addNode({ name: node, instanceId: instance });
      const pods = await createPods(api, [
        { name: `${node}-quick`, node, behaviour: exitsSoon },
        { name: `${node}-slow`, node, behaviour: { exitsAfterSeconds: 3 } },
        // Not evicted before the others are gone.
        {
          name: `${node}-dns`,
          namespace: 'kube-system',
          node,
          behaviour: exitsSoon,
          priorityClassName: 'system-cluster-critical',
        },
      ]);
      await eventually(() => kubelet.records({ node }).every(({ readyAt }) => readyAt));
      autoScaling.addHook({ group: node, hook, heartbeatTimeoutSeconds: 300 });
      const action = autoScaling.beginAction({ group: node, hook, instanceId: instance });
      const drain = { world, node, action };
      await arrange?.(drain);
      const { controller, queue } = await runController(world);
      const ids = await queue.sendMany([
        spotNotice({ instanceId: instance }),
        terminateHook(action),
      ]);
      await untilDeleted(queue, ids);
      await eventually(() => reached(drain));

      expect(await controller.kill()).toEqual({ code: null, signal: 'SIGKILL' });
      expect(await queue.counts()).toEqual(empty);
      const before = await Promise.all(
        pods.map(async ({ metadata }) => removalsOf(world, metadata)),
      );
      await release?.(drain);
      await runControllerOn(world, queue);
      const journal = await untilSettled(api, node);

      expect(before.flat()).toHaveLength(evicted);
      for (const id of ids) expect(fateOf(queue, id)).toEqual(['sent', 'received', 'deleted']);
      expect(journal.interruptions.map(({ kind }) => kind).toSorted()).toEqual([
        'spot-interruption',
        'terminate-hook',
      ]);
      for (const { metadata } of pods) {
        expect(await removalsOf(world, metadata)).toMatchObject([
          { by: 'eviction', status: 201, uid: metadata.uid },
        ]);
      }
      expect(action.result).toBe('CONTINUE');
      for (const { endedAt } of kubelet.records({ node })) {
        expect(action.completedAt).toBeGreaterThanOrEqual(endedAt ?? Infinity);
      }
      for (const { parameters } of completionsOf(world, action)) {
        expect(parameters).toMatchObject({
          LifecycleActionToken: action.token,
          InstanceId: instance,
          LifecycleActionResult: 'CONTINUE',
        });
      }
      // What was left of the journal's own steps is done, too.
      expect(journal.interruptions.find(({ hook: of }) => of)?.hook).toMatchObject({
        token: action.token,
        completedAt: expect.any(String) as string,
      });
    },
  );

  it('between record and acknowledgement, twice, leaves one drain', async () => {
    const { api, kubelet } = world;
    const node = 'unacknowledged';
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    const { metadata } = await createPod(api, { name: `${node}-pod`, node, behaviour: exitsSoon });
    await eventually(() => kubelet.record(metadata.name).readyAt !== undefined);
    world.queues.faults.add({ action: 'DeleteMessageBatch', fault: { kind: 'hang' } });

    const { controller: first, queue } = await runController(world);
    const id = await queue.send(spotNotice({ instanceId: instance }));
    await untilAcknowledging(world, queue, 1);
    await first.kill();
    const recorded = marksOf(await getNode(api, node)).journal?.interruptions;
    const second = await runControllerOn(world, queue);
    await untilSettled(api, node);
    const settled = await getNode(api, node);
    const guest = await createPod(api, { name: `${node}-guest`, node });
    // Hidden for as long as the first process asked for, then it comes back by itself.
    await eventually(() => timesReceived(queue, id) === 2, { timeoutMs: 60_000 });
    await untilAcknowledging(world, queue, 2);
    await second.kill();
    world.queues.faults.clear();
    await runControllerOn(world, queue);
    await endVisibility(world, queue, id);
    await untilDeleted(queue, [id]);

    expect(recorded).toHaveLength(1);
    expect(timesReceived(queue, id)).toBe(3);
    expect(await queue.counts()).toEqual(empty);
    const after = await getNode(api, node);
    expect(marksOf(after)).toEqual(marksOf(settled));
    // One that marks, one that settles.
    const writes = writesAmong(await controllerRequests(world, { resource: 'nodes', name: node }));
    expect(writes).toMatchObject([
      { verb: 'patch', status: 200 },
      { verb: 'patch', status: 200 },
    ]);
    // One that was under way when the first process was killed is cut: 504, with effect or without.
    const removals = (await removalsOf(world, metadata)).filter(({ status }) => status !== 504);
    expect(removals.length).toBeLessThanOrEqual(1);
    for (const removal of removals) expect(removal).toMatchObject({ by: 'eviction', status: 201 });
    expect(kubelet.record(metadata.name).deletions).toHaveLength(1);
    expect(await removalsOf(world, guest.metadata)).toEqual([]);
    expect((await getPod(api, guest.metadata.name)).metadata.uid).toBe(guest.metadata.uid);
  });

  it('over and over in the middle of many drains loses none and evicts no pod twice', async () => {
    const { api, kubelet } = world;
    const nodes = Array.from({ length: 12 }, (_, at) => ({
      name: `storm-${at}`,
      instanceId: instanceId(),
    }));
    await kubelet.addNodes(nodes);
    const pods = await createPods(
      api,
      nodes.flatMap(({ name: node }, at) =>
        [0, 1, 2].map((pod) => ({
          name: `${node}-${pod}`,
          node,
          behaviour: { exitsAfterSeconds: 0.3 + ((at + pod) % 5) },
        })),
      ),
    );
    const names = pods.map(({ metadata }) => metadata.name);
    await eventually(() => names.every((name) => kubelet.record(name).readyAt !== undefined));
    const queue = await world.queues.createQueue('storm');
    const ids = await queue.sendMany(nodes.map((node) => spotNotice(node)));

    // Each process lives until it has moved something.
    const deaths: Controller[] = [];
    for (let share = 1; share <= 6; share++) {
      const controller = await runControllerOn(world, queue);
      await eventually(
        () => names.filter((name) => hasLeft(world, name)).length >= (names.length * share) / 8,
      );
      await controller.kill();
      deaths.push(controller);
    }
    await runControllerOn(world, queue);
    await mapLimited(nodes, 4, async ({ name }) => untilSettled(api, name, { timeoutMs: 60_000 }));
    await untilDeleted(queue, ids, { timeoutMs: 60_000 });

    expect(new Set(deaths.map(({ pid }) => pid)).size).toBe(6);
    const removals = writesAmong(await controllerRequests(world, { resource: 'pods' }))
      .map(removalOf)
      .filter(({ pod }) => names.includes(pod));
    // One that was under way at a kill is cut: 504, and its pod may be asked for again.
    const evictions = removals.filter(({ status }) => status !== 504);
    for (const eviction of evictions)
      expect(eviction).toMatchObject({ by: 'eviction', status: 201 });
    const evicted = evictions.map(({ pod }) => pod);
    expect(new Set(evicted).size).toBe(evicted.length);
    expect(new Set(removals.map(({ pod }) => pod))).toEqual(new Set(names));
    for (const name of names) expect(kubelet.record(name).deletions).toHaveLength(1);
    for (const { name } of nodes) {
      expect(await podsOn(api, name)).toEqual([]);
      const { journal } = marksOf(await getNode(api, name));
      expect(journal?.interruptions).toHaveLength(1);
    }
  });
});

function completionsOf({ autoScaling }: World, { token }: LifecycleAction) {
  return autoScaling
    .calls('CompleteLifecycleAction')
    .filter(({ parameters }) => parameters['LifecycleActionToken'] === token);
}

function hasLeft({ kubelet }: World, pod: string): boolean {
  return kubelet.record(pod).endedAt !== undefined;
}

/** Waits until a message of this queue was to be deleted so many times by processes, each in vain. */
async function untilAcknowledging(
  { queues }: World,
  queue: Queue,
  processes: number,
): Promise<void> {
  // Each tries several times; the first of the next process comes after its receive.
  const receives = () => queue.events().filter(({ type }) => type === 'received');
  await eventually(() => {
    const since = receives()[processes - 1]?.at ?? Infinity;
    return queues
      .requests('DeleteMessageBatch')
      .some((request) => request.queue === queue.name && request.at >= since);
  });
}

async function annotate(
  { api }: World,
  node: string,
  annotations: Readonly<Record<string, string | null>>,
): Promise<void> {
  await api.patch(`/api/v1/nodes/${node}`, { metadata: { annotations } });
}
