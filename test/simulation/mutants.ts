import type { Ports } from '../../src/controller.ts';
import type { NodeIndex } from '../../src/intake/node-store.ts';
import { INTERRUPTION_KEY, JOURNAL_KEY, type NodeView } from '../../src/plan/node.ts';
import type { Outcomes } from '../../src/report/outcome.ts';
import type { InvariantName } from './invariants.ts';
import type { Mutation } from './replica.ts';
import type { Way } from './way.ts';

/** A controller that is wrong in one way, and what must tell. */
export type Mutant = Readonly<{
  does: string;
  breaks: InvariantName;
  /** One that catches it. */
  storm: number;
  /** Only a process that dies shows it. */
  needsCrashes?: boolean;
  mutation: Mutation;
}>;

export const MUTANTS: readonly Mutant[] = [
  {
    does: 'acknowledges before it records',
    breaks: 'I1',
    storm: 1,
    mutation: {
      ports: (ports) => ({
        ...ports,
        queue: altered(ports.queue, {
          async receive(request, signal) {
            const messages = await ports.queue.receive(request, signal);
            for (const message of messages) void ports.queue.delete(message).catch(() => false);
            return messages;
          },
        }),
      }),
    },
  },
  {
    does: 'takes a conflict for a write',
    breaks: 'I1',
    storm: 8,
    mutation: {
      ports: (ports) => ({
        ...ports,
        store: altered(ports.store, {
          async write(...args) {
            const answer = await ports.store.write(...args);
            if (answer.outcome !== 'conflict') return answer;
            const node = ports.nodes.get(args[0]);
            return node === undefined ? { outcome: 'gone' } : { outcome: 'written', node };
          },
        }),
      }),
    },
  },
  {
    does: 'takes an overloaded server for a write',
    breaks: 'I1',
    storm: 11,
    mutation: {
      ports: (ports) => ({
        ...ports,
        store: altered(ports.store, {
          async write(...args) {
            const answer = await ports.store.write(...args);
            if (answer.outcome !== 'overloaded') return answer;
            const node = ports.nodes.get(args[0]);
            return node === undefined ? { outcome: 'gone' } : { outcome: 'written', node };
          },
        }),
      }),
    },
  },
  {
    does: 'deletes what it should park',
    breaks: 'I1',
    storm: 1,
    mutation: {
      ports: (ports) => ({
        ...ports,
        queue: altered(ports.queue, {
          setVisibility: (message, seconds) =>
            seconds >= 60
              ? ports.queue.delete(message)
              : ports.queue.setVisibility(message, seconds),
        }),
      }),
    },
  },
  {
    does: 'marks nodes seconds later',
    breaks: 'I2',
    storm: 1,
    mutation: {
      ports: (ports) => ({
        ...ports,
        store: altered(ports.store, {
          async write(...args) {
            await new Promise<void>((resolve) => ports.clock.after(3000, resolve));
            return ports.store.write(...args);
          },
        }),
      }),
    },
  },
  {
    does: 'keeps an index of what Nodes once were',
    breaks: 'I8',
    storm: 2,
    mutation: {
      connection: (connection) =>
        altered(connection, {
          stream(request, options, signal) {
            if (request.path !== '/api/v1/nodes')
              return connection.stream(request, options, signal);
            const onData = (line: Buffer): boolean =>
              line.includes('"type":"MODIFIED"') || options.onData(line);
            return connection.stream(request, { ...options, onData }, signal);
          },
        }),
    },
  },
  {
    does: 'evicts whatever bears the name',
    breaks: 'I3',
    storm: 352,
    mutation: {
      connection: (connection) =>
        altered(connection, {
          request: (request, signal) =>
            connection.request({ ...request, body: withoutUid(request.body) }, signal),
        }),
    },
  },
  {
    does: 'deletes past every budget at once',
    breaks: 'I3',
    storm: 1,
    mutation: {
      ports: (ports) => ({
        ...ports,
        pods: altered(ports.pods, { evict: (...args) => ports.pods.delete(...args) }),
      }),
    },
  },
  {
    does: 'forces twice',
    breaks: 'I3',
    storm: 1,
    mutation: {
      ports: (ports) => ({
        ...ports,
        pods: altered(ports.pods, {
          async delete(pod, graceSeconds, timeoutMs, signal) {
            await ports.pods.delete(pod, graceSeconds, timeoutMs, signal);
            return ports.pods.delete(pod, 1, timeoutMs, signal);
          },
        }),
      }),
    },
  },
  {
    does: 'gives no grace',
    breaks: 'I3',
    storm: 1,
    mutation: {
      ports: (ports) => ({
        ...ports,
        pods: altered(ports.pods, {
          evict: (pod, _, timeoutMs, signal) => ports.pods.evict(pod, 0, timeoutMs, signal),
        }),
      }),
    },
  },
  {
    does: 'loses the pace',
    breaks: 'I3',
    storm: 1,
    mutation: { policy: (policy) => ({ ...policy, voluntaryDrainLimit: { nodes: 100 } }) },
  },
  {
    does: "ignores the operator's brake",
    breaks: 'I3',
    storm: 21,
    mutation: { ports: (ports) => withViews(ports, (node) => ({ ...node, held: false })) },
  },
  {
    does: 'forgets a hook',
    breaks: 'I4',
    storm: 1,
    mutation: {
      ports: (ports) => ({
        ...ports,
        hooks: altered(ports.hooks, { complete: async () => ({ outcome: 'accepted' }) }),
      }),
    },
  },
  {
    does: 'completes before the node is empty',
    breaks: 'I4',
    storm: 3,
    mutation: {
      ports: (ports) => ({
        ...ports,
        pods: altered(ports.pods, {
          async onNode(nodeName, signal) {
            const { pods, resourceVersion } = await ports.pods.onNode(nodeName, signal);
            return { pods: pods.filter(({ deletion }) => deletion === undefined), resourceVersion };
          },
        }),
      }),
    },
  },
  {
    does: 'writes taints without the resource version',
    breaks: 'I5',
    storm: 10,
    mutation: {
      connection: (connection) =>
        altered(connection, {
          request: (request, signal) =>
            connection.request(
              request.method === 'PATCH'
                ? { ...request, body: withoutVersion(request.body) }
                : request,
              signal,
            ),
        }),
    },
  },
  {
    does: "un-cordons a person's cordon",
    breaks: 'I5',
    storm: 5,
    mutation: {
      ports: (ports) => ({
        ...ports,
        store: altered(ports.store, {
          write(name, version, patch, signal, lane) {
            const isUndone = patch.taints?.every(({ key }) => key !== INTERRUPTION_KEY) === true;
            const harder = isUndone ? { ...patch, unschedulable: false } : patch;
            return ports.store.write(name, version, harder, signal, lane);
          },
        }),
      }),
    },
  },
  {
    does: 'never forces',
    breaks: 'I6',
    storm: 18,
    mutation: { policy: (policy) => ({ ...policy, budgets: 'always' }) },
  },
  {
    does: 're-acts to old news',
    breaks: 'I8',
    storm: 228,
    mutation: {
      ports: (ports) => ({
        ...ports,
        store: altered(ports.store, { kubeletRenewed: async () => ({ outcome: 'never' }) }),
      }),
    },
  },
  {
    does: 'leaves its watch of pods open',
    breaks: 'I7',
    storm: 1,
    mutation: {
      ports: (ports) => ({
        ...ports,
        pods: altered(ports.pods, {
          watch: (version, listener) =>
            ports.pods.watch(version, listener, new AbortController().signal),
        }),
      }),
    },
  },
  // ── what only a process that dies shows ───────────────────────────────────────────────────────
  {
    does: 'says that a hook is completed before it is',
    breaks: 'I4',
    storm: 170,
    needsCrashes: true,
    mutation: {
      ports: (ports) => ({
        ...ports,
        hooks: altered(ports.hooks, {
          async complete(action, signal) {
            if (!action.hook.startsWith('drain')) return ports.hooks.complete(action, signal);
            const complete = (): void => {
              ports.hooks.complete(action, new AbortController().signal).then(
                ({ outcome }) => {
                  if (outcome === 'failed') ports.clock.after(1000, complete);
                },
                () => undefined,
              );
            };
            ports.clock.after(1500, complete);
            signal.throwIfAborted();
            return { outcome: 'accepted' };
          },
        }),
      }),
    },
  },
  {
    does: 'resumes no drain',
    breaks: 'I6',
    storm: 18,
    needsCrashes: true,
    mutation: {
      ports(ports) {
        const before = new Set([...ports.nodes.all()].flatMap(({ journal }) => journal ?? []));
        return withViews(ports, (node) =>
          node.journal !== undefined && before.has(node.journal)
            ? { ...node, journal: undefined }
            : node,
        );
      },
    },
  },
  {
    does: 'keeps in memory alone that the cordon is its own',
    breaks: 'I8',
    storm: 2,
    needsCrashes: true,
    mutation: inMemoryAlone(({ cordonedByUs: _, ...journal }) => journal),
  },
  {
    does: 'keeps in memory alone what is over',
    breaks: 'I8',
    storm: 177,
    mutation: inMemoryAlone((journal) => ({ ...journal, ended: [] })),
  },
  {
    does: 'keeps in memory alone the hooks',
    breaks: 'I4',
    storm: 4,
    needsCrashes: true,
    mutation: inMemoryAlone((journal) => ({
      ...journal,
      interruptions: journal.interruptions.map(({ hook: _, ...entry }) => entry),
    })),
  },
  {
    does: 'keeps in memory alone the deadlines',
    breaks: 'I6',
    storm: 18,
    needsCrashes: true,
    mutation: inMemoryAlone((journal) => ({
      ...journal,
      interruptions: journal.interruptions.map(({ deadlineAt: _, ...entry }) => entry),
    })),
  },
  {
    does: 'tells every end as a success',
    breaks: 'I9',
    storm: 1,
    mutation: telling((outcomes) => ({
      tell: (told) => outcomes.tell({ ...told, outcome: 'drained' }),
    })),
  },
  {
    does: 'tells nobody what it has received',
    breaks: 'I9',
    storm: 1,
    mutation: telling(() => ({ received: () => undefined })),
  },
  {
    does: 'tells nothing of what it could not drain',
    breaks: 'I9',
    storm: 1,
    mutation: telling((outcomes) => ({
      tell(told) {
        if (told.outcome !== 'not-possible') outcomes.tell(told);
      },
    })),
  },
];

/** The port, but for some of its methods. */
function altered<Port extends object>(port: Port, changes: Partial<Port>): Port {
  return new Proxy(port, {
    get(target, key) {
      if (Object.hasOwn(changes, key)) return Reflect.get(changes, key) as unknown;
      const value = Reflect.get(target, key) as unknown;
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** Every Node as `see` shows it, wherever it comes from. */
function withViews(ports: Ports, see: (node: NodeView) => NodeView): Ports {
  const maybe = (node: NodeView | undefined): NodeView | undefined => node && see(node);
  const { nodes, store } = ports;
  const index: NodeIndex = altered(nodes, {
    get: (name) => maybe(nodes.get(name)),
    byInstance: (instanceId) => nodes.byInstance(instanceId).map(see),
    all: () => [...nodes.all()].map(see),
    subscribe: (listener) =>
      nodes.subscribe((before, after) => listener(maybe(before), maybe(after))),
  });
  return {
    ...ports,
    nodes: index,
    store: altered(store, {
      async read(name, signal) {
        const answer = await store.read(name, signal);
        return answer.outcome === 'found' ? { ...answer, node: see(answer.node) } : answer;
      },
      async write(...args) {
        const answer = await store.write(...args);
        return answer.outcome === 'written' ? { ...answer, node: see(answer.node) } : answer;
      },
    }),
  };
}

function telling(changes: (outcomes: Outcomes) => Partial<Outcomes>): Mutation {
  return {
    ports: ({ outcomes, ...ports }) => ({
      ...ports,
      outcomes: altered(outcomes, changes(outcomes)),
    }),
  };
}

type JournalText = Record<string, unknown> & {
  interruptions: readonly Record<string, unknown>[];
};

/** What a process knows, by what it wrote of it. */
const known = new WeakMap<Way, Map<string, string>>();

/** What `written` leaves out of a journal, the process that wrote it knows, and no other. */
function inMemoryAlone(written: (journal: JournalText) => JournalText | object): Mutation {
  return {
    ports(ports, way) {
      const memory = known.get(way) ?? new Map<string, string>();
      known.set(way, memory);
      const seen = withViews(ports, (node) => ({
        ...node,
        journal:
          node.journal === undefined ? undefined : (memory.get(node.journal) ?? node.journal),
      }));
      const { store } = seen;
      return {
        ...seen,
        store: altered(store, {
          write(name, version, patch, signal, lane) {
            const text = patch.annotations?.[JOURNAL_KEY];
            if (typeof text !== 'string') return store.write(name, version, patch, signal, lane);
            const less = JSON.stringify(written(JSON.parse(text) as JournalText));
            memory.set(less, text);
            const annotations = { ...patch.annotations, [JOURNAL_KEY]: less };
            return store.write(name, version, { ...patch, annotations }, signal, lane);
          },
        }),
      };
    },
  };
}

function withoutUid(body: unknown): unknown {
  const { preconditions, deleteOptions, ...rest } = (body ?? {}) as {
    preconditions?: object;
    deleteOptions?: { gracePeriodSeconds?: number };
  };
  if (preconditions === undefined && deleteOptions === undefined) return body;
  const { gracePeriodSeconds } = deleteOptions ?? {};
  return deleteOptions === undefined ? rest : { ...rest, deleteOptions: { gracePeriodSeconds } };
}

function withoutVersion(body: unknown): unknown {
  const { metadata, ...rest } = body as { metadata: Record<string, unknown> };
  return { ...rest, metadata: { ...metadata, resourceVersion: undefined } };
}
