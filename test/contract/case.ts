import { setTimeout as delay } from 'node:timers/promises';
import type { ExpectStatic } from 'vitest';
import type { ApiClient, PatchType, RequestOptions } from '../control-plane/api-client.ts';
import type { NodeObject, PodObject } from '../control-plane/objects.ts';
import type { Answer, LooseObject } from './answer.ts';
import type { Backend } from './backend.ts';
import { openWatch, type WatchReader } from './watch-reader.ts';

/** One thing that a drain controller relies on, said of any Kubernetes API. */
export type ContractCase = {
  /** A sentence; unique. */
  readonly name: string;
  /**
   * `alone`: it pauses controllers, or breaks connections, so nothing else may run meanwhile. `slow`:
   * it waits for the server, and may do so beside others.
   */
  readonly mode?: 'alone' | 'slow';
  readonly run: (context: CaseContext) => Promise<void>;
};

export type CaseContext = {
  readonly backend: Backend;
  readonly api: ApiClient;
  readonly expect: ExpectStatic;
  /** A namespace of this case alone, and a prefix for names that have none. */
  readonly namespace: string;
  readonly paths: Paths;
  /** Runs when the case is over, latest first. */
  readonly onEnd: (release: () => Promise<void> | void) => void;

  /** Any answer is returned; only a failed exchange throws. */
  readonly send: (
    method: string,
    path: string,
    body?: unknown,
    options?: RequestOptions,
  ) => Promise<Answer>;
  readonly patch: (path: string, patch: unknown, type?: PatchType) => Promise<Answer>;
  readonly makeNode: (suffix: string, node?: Partial<NodeObject>) => Promise<NodeObject>;
  /** Bound to no node unless the spec says so, and left alone by the scheduler. */
  readonly makePod: (name: string, wanted?: PodWish) => Promise<PodObject>;
  readonly watch: (path: string, headers?: Record<string, string>) => Promise<WatchReader>;
  /** Polls until the function gives something other than undefined or false. */
  readonly eventually: <T>(what: string, probe: () => Promise<T | undefined | false>) => Promise<T>;
};

export type Paths = {
  readonly nodes: string;
  readonly pods: string;
  readonly budgets: string;
  readonly leases: string;
  readonly events: string;
};

export type PodWish = {
  readonly labels?: Record<string, string>;
  readonly annotations?: Record<string, string>;
  readonly finalizers?: string[];
  readonly spec?: Partial<PodObject['spec']> & Record<string, unknown>;
  /** Written to its status once it is made. */
  readonly phase?: 'Running' | 'Succeeded' | 'Failed';
  /** Only with phase Running; true unless given. */
  readonly ready?: boolean;
};

/** Names are told apart by this, as nothing is ever removed from the server. */
let runs = 0;

export async function runCase(
  backend: Backend,
  expect: ExpectStatic,
  contractCase: ContractCase,
): Promise<void> {
  runs += 1;
  const namespace = `case-${runs}`;
  const releases: (() => Promise<void> | void)[] = [];
  try {
    await contractCase.run(await makeContext(backend, expect, namespace, releases));
  } finally {
    for (const release of releases.toReversed()) await release();
  }
}

async function makeContext(
  backend: Backend,
  expect: ExpectStatic,
  namespace: string,
  releases: (() => Promise<void> | void)[],
): Promise<CaseContext> {
  const { api } = backend;
  await api.create('/api/v1/namespaces', { metadata: { name: namespace } });
  const paths: Paths = {
    nodes: '/api/v1/nodes',
    pods: `/api/v1/namespaces/${namespace}/pods`,
    budgets: `/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets`,
    leases: `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`,
    events: `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
  };
  const send: CaseContext['send'] = async (method, path, body, options) => {
    const answer = await api.request(method, path, body, options);
    const content = typeof answer.body === 'object' && answer.body !== null ? answer.body : {};
    return {
      ...answer,
      failure: content,
      object: content as LooseObject,
    };
  };
  const context: CaseContext = {
    backend,
    api,
    expect,
    namespace,
    paths,
    onEnd: (release) => {
      releases.push(release);
    },
    send,
    patch: (path, patch, type = 'merge') =>
      send('PATCH', path, patch, { headers: { 'content-type': patchContentType(type) } }),

    async makeNode(suffix, node = {}) {
      const name = `${namespace}-${suffix}`;
      const made = await api.create<NodeObject>(paths.nodes, {
        ...node,
        metadata: { labels: { case: namespace }, ...node.metadata, name },
        spec: { ...node.spec },
        status: { conditions: [{ type: 'Ready', status: 'True' }], ...node.status },
      });
      releases.push(() => api.request('DELETE', `${paths.nodes}/${name}`).then(() => {}));
      return made;
    },

    async makePod(name, wanted = {}) {
      const path = `${paths.pods}/${name}`;
      const wantedPod = {
        metadata: {
          name,
          ...(wanted.labels && { labels: wanted.labels }),
          ...(wanted.annotations && { annotations: wanted.annotations }),
          ...(wanted.finalizers && { finalizers: wanted.finalizers }),
        },
        spec: {
          schedulerName: 'nobody',
          containers: [{ name: 'main', image: 'none' }],
          ...wanted.spec,
        },
      };
      const made = await api.create<typeof wantedPod>(paths.pods, wantedPod);
      if (wanted.phase === undefined) return made;
      return api.patch<PodObject>(`${path}/status`, { status: podStatus(wanted) }, 'strategic');
    },

    async watch(path, headers) {
      const watch = await openWatch(backend, path, headers);
      releases.push(() => watch.close());
      return watch;
    },

    async eventually(what, probe) {
      const deadline = performance.now() + 30_000;
      for (;;) {
        const found = await probe();
        if (found !== undefined && found !== false) return found;
        if (performance.now() > deadline) throw new Error(`did not come true within 30 s: ${what}`);
        await delay(10);
      }
    },
  };
  return context;
}

function patchContentType(type: PatchType): string {
  return type === 'strategic'
    ? 'application/strategic-merge-patch+json'
    : `application/${type}-patch+json`;
}

function podStatus({ phase, ready = true }: PodWish): object {
  const isReady = phase === 'Running' && ready;
  return { phase, conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }] };
}

export async function makeReady(
  context: CaseContext,
  podName: string,
  ready = true,
): Promise<void> {
  const path = `${context.paths.pods}/${podName}/status`;
  await context.api.patch(path, { status: podStatus({ phase: 'Running', ready }) }, 'strategic');
}

/** A condition for the index of the budget controller: what was written has been taken in. */
export async function makeBudget(
  context: CaseContext,
  name: string,
  spec: object,
  settled: { allowed: number },
): Promise<LooseObject> {
  const { api, paths, eventually } = context;
  await api.create(paths.budgets, { metadata: { name }, spec });
  return eventually(`budget ${name} allows ${settled.allowed}`, async () => {
    const budget = await api.get<LooseObject>(`${paths.budgets}/${name}`);
    const { status } = budget;
    return (
      status?.observedGeneration === budget.metadata.generation &&
      status?.disruptionsAllowed === settled.allowed &&
      budget
    );
  });
}

export function eviction(name: string, deleteOptions?: object): object {
  return {
    apiVersion: 'policy/v1',
    kind: 'Eviction',
    metadata: { name },
    ...(deleteOptions && { deleteOptions }),
  };
}
