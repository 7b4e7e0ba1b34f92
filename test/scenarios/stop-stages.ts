import { expect, onTestFinished } from 'vitest';
import { mapLimited } from '../control-plane/limiter.ts';
import type { NodeObject } from '../control-plane/objects.ts';
import { podsOn } from '../harness/cluster.ts';
import type { Controller } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { interruptionKey, marksOf, noMarks } from '../harness/marks.ts';
import { spotNotice } from '../harness/messages.ts';
import { fateOf, isDeleted, untilDeleted } from '../harness/queued.ts';
import { runControllerOn } from '../harness/running.ts';
import { createPods } from '../harness/workloads.ts';
import type { World } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';

// Where a process is when it is asked to stop, and what is wrong outside then.

/** The demand. */
export const stopsWithinMs = 5000;

/** What is wrong outside while the process is told to stop. */
type Trouble = {
  readonly trouble: string;
  readonly begin: (world: World) => void | Promise<void>;
  readonly end: (world: World) => void | Promise<void>;
  /** By whose absence messages cannot be given back. */
  readonly ofQueue?: boolean;
  /** The log line after which the process knows of it. */
  readonly noticed?: string;
};

const nothing: Trouble = {
  trouble: 'all is well',
  begin: () => undefined,
  end: () => undefined,
};
export const troubles: readonly Trouble[] = [
  {
    trouble: 'the API server is stopped',
    begin: ({ cluster }) => cluster.apiServer.stop(),
    end: ({ cluster }) => cluster.apiServer.start(),
    noticed: 'API server unreachable',
  },
  {
    trouble: 'the API server is paused',
    begin: ({ cluster }) => cluster.apiServer.pause(),
    end: ({ cluster }) => cluster.apiServer.resume(),
    // A mark waits as long for its answer as the Lease for its renewal.
    noticed: 'leadership not renewed',
  },
  {
    trouble: 'the queue refuses connections',
    begin: ({ queues }) => queues.goAway('refuse'),
    end: ({ queues }) => queues.comeBack(),
    ofQueue: true,
    noticed: 'queue unreachable',
  },
  {
    trouble: 'the queue is silent',
    begin: ({ queues }) => queues.goAway('hang'),
    end: ({ queues }) => queues.comeBack(),
    ofQueue: true,
    noticed: 'queue unreachable',
  },
];

type Load = {
  readonly nodes: readonly { readonly name: string; readonly instanceId: string }[];
  readonly queue: Queue;
  /** Sends the notice of each node, once. */
  readonly send: () => Promise<readonly string[]>;
};

type Stage = {
  readonly stage: string;
  /** Short, for names of nodes. */
  readonly key: string;
  readonly nodes: number;
  /** The process gets to the stage, the trouble begins. */
  readonly reach: (world: World, load: Load, trouble: Trouble) => Promise<Controller>;
};

export const start: Stage = {
  stage: 'while it starts',
  key: 'start',
  nodes: 3,
  async reach(world, { queue, send }, { begin }) {
    await send();
    await begin(world);
    const controller = await startWithoutWaiting(world, queue);
    // Its first line.
    await controller.waitForLog('started');
    return controller;
  },
};
export const idle: Stage = {
  stage: 'while it is idle',
  key: 'idle',
  nodes: 3,
  async reach(world, { queue }, { begin }) {
    const controller = await runControllerOn(world, queue);
    await begin(world);
    return controller;
  },
};
export const storm: Stage = {
  stage: 'in a storm',
  key: 'storm',
  nodes: 200,
  async reach(world, { queue, send }, { begin }) {
    const controller = await runControllerOn(world, queue);
    const ids = await send();
    await eventually(() => ids.some((id) => isDeleted(queue, id)), { intervalMs: 5 });
    await begin(world);
    return controller;
  },
};
export const draining: Stage = {
  stage: 'in the middle of drains',
  key: 'drains',
  nodes: 3,
  async reach(world, { nodes, queue, send }, { begin }) {
    const controller = await runControllerOn(world, queue);
    await untilDeleted(queue, await send());
    await eventually(() =>
      nodes.every(({ name }) =>
        world.kubelet.records({ node: name }).some(({ deletions }) => deletions.length > 0),
      ),
    );
    await begin(world);
    return controller;
  },
};
export const troubled: Stage = {
  stage: 'when it has noticed that',
  key: 'noticed',
  nodes: 3,
  async reach(world, { queue, send }, { begin, noticed }) {
    const controller = await runControllerOn(world, queue);
    await begin(world);
    await send();
    await controller.waitForLog(noticed ?? '', { timeoutMs: 60_000 });
    return controller;
  },
};

export type StopCase = {
  readonly when: string;
  readonly what: string;
  readonly stage: Stage;
  readonly trouble: Trouble;
};

export function stopCases(
  stages: readonly Stage[],
  among: readonly Trouble[] = [nothing, ...troubles],
): StopCase[] {
  return stages.flatMap((stage) =>
    among.map((trouble) => ({ when: stage.stage, what: trouble.trouble, stage, trouble })),
  );
}

/** What is undone after a test, the latest first. */
export type Endings = (() => void | Promise<void>)[];

let loads = 0;

/**
 * The process gets to the stage and is told to stop in the midst of the trouble; another one goes on.
 * Resolves to what is left in the queue then.
 */
export async function stopAndGoOn(
  world: World,
  { stage, trouble }: StopCase,
  endings: Endings,
): Promise<Awaited<ReturnType<Queue['counts']>>> {
  loads += 1;
  const prefix = `${stage.key}-${loads}`;
  const { api } = world;
  const load = await loadOf(world, prefix, stage.nodes);
  const { nodes, queue } = load;
  endings.push(async () => removeNodes(world, nodes));
  let isOver = false;
  const end = async () => {
    if (isOver) return;
    isOver = true;
    await trouble.end(world);
    await eventually(async () => (await api.request('GET', '/readyz')).status === 200);
  };
  endings.push(end);
  const controller = await stage.reach(world, load, trouble);

  const exit = await controller.stop({ limitMs: stopsWithinMs });
  await end();

  expect(exit).toEqual({ code: 0, signal: null });
  const ids = await load.send();
  if (!trouble.ofQueue) {
    await eventually(
      async () => {
        if ((await queue.counts()).inFlight === 0) return true;
        const hidden = ids.filter((id) => fateOf(queue, id).at(-1) === 'received');
        throw new Error(`not given back: ${JSON.stringify(hidden.map((id) => queue.events(id)))}`);
      },
      { timeoutMs: 3000 },
    );
  }
  const left = await api.list<NodeObject>('/api/v1/nodes');
  for (const [at, { name }] of nodes.entries()) {
    const node = left.find(({ metadata }) => metadata.name === name);
    expectAllOrNothing(node);
    // Only what is recorded may have been acknowledged.
    expect(isMarked(node) || !isDeleted(queue, ids[at] ?? '')).toBe(true);
  }

  await runControllerOn(world, queue);
  await untilDeleted(queue, ids, { timeoutMs: 60_000 });
  await eventually(
    async () => {
      const now = await api.list<NodeObject>('/api/v1/nodes');
      const states = now
        .filter(({ metadata }) => nodes.some(({ name }) => name === metadata.name))
        .map((node) => marksOf(node).journal?.state);
      expect(states).toEqual(nodes.map(() => 'settled'));
      return true;
    },
    { timeoutMs: 60_000, intervalMs: 250 },
  );
  for (const { name } of nodes.slice(0, 3)) expect(await podsOn(api, name)).toEqual([]);
  return queue.counts();
}

export function nodesOf(prefix: string, count: number): Load['nodes'] {
  return Array.from({ length: count }, (_, at) => ({
    name: `${prefix}-${at}`,
    instanceId: instanceId(),
  }));
}

/** Nodes, pods on some of them, and a queue of their own. */
export async function loadOf(world: World, prefix: string, count: number): Promise<Load> {
  const { api, kubelet, queues } = world;
  const nodes = nodesOf(prefix, count);
  await kubelet.addNodes(nodes);
  const inhabited = nodes.slice(0, 20);
  await createPods(
    api,
    inhabited.map(({ name }) => ({
      name: `${name}-pod`,
      node: name,
      behaviour: { exitsAfterSeconds: 2 },
    })),
  );
  await eventually(() =>
    inhabited.every(({ name }) => kubelet.records({ node: name })[0]?.readyAt !== undefined),
  );
  const queue = await queues.createQueue(prefix);
  let ids: Promise<readonly string[]> | undefined;
  const send = async () => (ids ??= queue.sendMany(nodes.map((node) => spotNotice(node))));
  return { nodes, queue, send };
}

/** Later processes of this world would go on with what stands on them. */
export async function removeNodes({ kubelet }: World, nodes: Load['nodes']): Promise<void> {
  await mapLimited(nodes, 24, async ({ name }) => kubelet.removeNode(name));
}

async function startWithoutWaiting(world: World, queue: Queue): Promise<Controller> {
  const controller = await world.startController({ env: { QUEUE_URL: queue.url } });
  onTestFinished(async () => {
    await controller.kill();
  });
  return controller;
}

function isMarked(node: NodeObject | undefined): boolean {
  return node !== undefined && marksOf(node).journal !== undefined;
}

function expectAllOrNothing(node: NodeObject | undefined): void {
  const marks = node && marksOf(node);
  const expected = isMarked(node)
    ? {
        cordoned: true,
        taints: [{ key: interruptionKey, value: 'spot-interruption', effect: 'NoSchedule' }],
        label: 'spot-interruption',
        loadBalancerLabel: 'true',
        journal: { interruptions: [{ kind: 'spot-interruption' }] },
      }
    : noMarks;
  expect(marks).toMatchObject(expected);
}
