import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiClient } from '../../control-plane/api-client.ts';
import { guardFolder } from '../../control-plane/guardian.ts';
import { freePort } from '../../control-plane/ports.ts';
import { disruptionController } from './controllers/disruption.ts';
import {
  garbageCollector,
  namespaceController,
  podGarbageCollector,
} from './controllers/garbage-collector.ts';
import { nodeLifecycleController } from './controllers/node-lifecycle.ts';
import {
  daemonSetController,
  deploymentController,
  replicaSetController,
  statefulSetController,
} from './controllers/replicas.ts';
import { scheduler } from './controllers/scheduler.ts';
import { WorkQueue, type Controller } from './controllers/work-queue.ts';
import { createFaultTable, type Fault, type InjectedFault, type Match } from './faults.ts';
import { namespaces } from './kinds.ts';
import { createObject, emptyMetadata, type Cluster, type Mutations } from './registry.ts';
import type { ApiRequest } from './request.ts';
import { route } from './routes.ts';
import { Listener, type OpenWatch } from './server.ts';
import { Store } from './store.ts';
import { createUserTable, type Attributes, type User } from './users.ts';

export type ControllerName =
  | 'daemonset'
  | 'deployment'
  | 'disruption'
  | 'garbage-collector'
  | 'namespace'
  | 'node-lifecycle'
  | 'pod-garbage-collector'
  | 'replicaset'
  | 'scheduler'
  | 'statefulset';

export type StandInOptions = {
  /** Any free one unless given. */
  readonly port?: number;
  /** Those that run; all unless given. */
  readonly controllers?: readonly ControllerName[];
  /** How late controllers hear of a change. */
  readonly controllerDelayMs?: number;
  readonly bookmarkIntervalMs?: number;
  /** How long after a Node its pods are removed; 55 s on a real one. */
  readonly podsOutliveNodeMs?: number;
  /** How long after the deletion of a namespace its objects are; 5 s on a real one. */
  readonly namespaceEmptiedAfterMs?: number;
  /** Change events kept for each resource: what a watch can be resumed from. */
  readonly historyLimit?: number;
  /** Draws, between 0 and 1, for faults that hit a share of the requests. */
  readonly random?: () => number;
  /** A watcher this far behind is dropped; 32 MiB unless given. */
  readonly watchBacklogLimitBytes?: number;
  readonly mutations?: Partial<Mutations>;
};

export type ServedRequest = {
  readonly request: ApiRequest;
  readonly userName: string;
  /** Epoch ms, with fractions, as the other. */
  readonly receivedAt: number;
  readonly answeredAt: number;
  /** 0 if the connection was broken instead of answered. */
  readonly status: number;
};

export type StandInFaults = {
  inject(fault: Fault): InjectedFault;
  /** Removes all injected faults. */
  clear(): void;
  /** Ends the matching watches, cleanly or with a reset, and returns their number. */
  dropWatches(how: 'end' | 'reset', match?: Match): number;
  /** Forgets all changes: what is resumed from before now gets 410. */
  expireHistory(): void;
  /** Connections stay open and nothing is answered, until `endSilence`. */
  startSilence(): void;
  endSilence(): void;
  /** Refuses connections, and resets the open ones, until `endOutage`. */
  startOutage(): Promise<void>;
  endOutage(): Promise<void>;
};

export type KubernetesStandIn = {
  /** What the program under test talks to: subject to faults. */
  readonly url: string;
  /** For tests: on a listener of its own, which no fault touches. */
  readonly api: ApiClient;
  readonly adminUrl: string;
  /** Path of a kubeconfig for `url`, removed by `stop`. */
  readonly kubeconfig: string;
  readonly faults: StandInFaults;
  /** While paused a controller does nothing; on resumption it catches up. All unless named. */
  pause(name?: ControllerName): void;
  resume(name?: ControllerName): void;
  /** Hears of every request to `url` once it is answered; returns how to stop. */
  observe(listener: (served: ServedRequest) => void): () => void;
  openWatches(): readonly OpenWatch[];
  /**
   * A user who may do what its rules say. Returns its token; requests with any other one, or none,
   * may do everything.
   */
  addUser(user: User): string;
  writeKubeconfig(path: string, token?: string): Promise<void>;
  stop(): Promise<void>;
};

const initialNamespaces = ['default', 'kube-node-lease', 'kube-public', 'kube-system'];
const noAttributes: Attributes = {
  verb: '',
  group: '',
  resource: '',
  subresource: '',
  namespace: '',
  name: '',
};
const noMutations: Mutations = {
  mergeTaintsByKey: false,
  ignoreUidPreconditions: false,
  never410: false,
};

/** A Kubernetes API server in this process: the part of it that a drain uses, without authentication. */
export async function startKubernetesStandIn(
  options: StandInOptions = {},
): Promise<KubernetesStandIn> {
  const cluster: Cluster = {
    store: new Store(options.historyLimit ?? 50_000),
    mutations: { ...noMutations, ...options.mutations },
  };
  const faults = createFaultTable(options.random ?? Math.random);
  const users = createUserTable();
  const listeners = new Set<(served: ServedRequest) => void>();
  const settings = {
    bookmarkIntervalMs: options.bookmarkIntervalMs ?? 60_000,
    isAllowed: (given: Record<string, string>, request: ApiRequest) =>
      !faults.isForbidden(given, request) && users.mayDo(request, { ...noAttributes, ...given }),
  };

  const { watchBacklogLimitBytes = 32 * 1024 * 1024 } = options;
  const served = new Listener(watchBacklogLimitBytes, {
    async answer(request) {
      users.authorise(request);
      return route(cluster, settings, request);
    },
    effects: (request) => faults.take(request),
    answered(request, status, receivedAt, answeredAt) {
      const userName = users.nameOf(request);
      for (const listener of listeners) {
        listener({ request, userName, receivedAt, answeredAt, status });
      }
    },
  });
  const admin = new Listener(watchBacklogLimitBytes, {
    answer: (request) => route(cluster, settings, request),
    effects: () => [],
  });

  const queues = new Map<string, WorkQueue>();
  for (const controller of controllersOf(cluster, options)) {
    if (options.controllers?.includes(controller.name as ControllerName) === false) continue;
    queues.set(controller.name, new WorkQueue(controller, options.controllerDelayMs ?? 5));
  }
  for (const name of initialNamespaces) {
    createObject(cluster, namespaces, undefined, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { ...emptyMetadata, name },
      spec: {},
      status: { phase: 'Active' },
    });
  }

  // Not one of the ports that systems give away: it must be free again after an outage.
  await served.open(options.port ?? (await freePort()));
  await admin.open();
  const api = new ApiClient({ url: admin.url });
  const folder = await mkdtemp(join(tmpdir(), 'kubernetes-stand-in-'));
  const unguardFolder = guardFolder(folder);
  const kubeconfig = join(folder, 'kubeconfig');
  await writeFile(kubeconfig, kubeconfigFor(served.url));
  const named = (name: ControllerName | undefined): WorkQueue[] =>
    [...queues].filter(([key]) => name === undefined || key === name).map(([, queue]) => queue);

  return {
    url: served.url,
    api,
    adminUrl: admin.url,
    kubeconfig,
    faults: {
      inject: (fault) => faults.inject(fault),
      clear: () => {
        faults.clear();
      },
      dropWatches(how, match = {}) {
        const dropped = served.openWatches.filter(({ request }) => matchesWatch(match, request));
        for (const watch of dropped) watch[how]();
        return dropped.length;
      },
      expireHistory: () => {
        cluster.store.forgetHistory();
      },
      startSilence: () => {
        served.pause();
      },
      endSilence: () => {
        served.resume();
      },
      startOutage: () => served.close(),
      endOutage: () => served.open(),
    },
    pause(name) {
      for (const queue of named(name)) queue.pause();
    },
    resume(name) {
      for (const queue of named(name)) queue.resume();
    },
    observe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    openWatches: () => served.openWatches,
    addUser: (user) => users.add(user),
    writeKubeconfig: (path, token) => writeFile(path, kubeconfigFor(served.url, token)),
    async stop() {
      served.resume();
      for (const queue of queues.values()) queue.stop();
      await api.close();
      await Promise.all([served.close(), admin.close()]);
      await rm(folder, { recursive: true, force: true });
      unguardFolder();
    },
  };
}

function matchesWatch(match: Match, request: ApiRequest): boolean {
  if (match.resource !== undefined && match.resource !== request.resource) return false;
  if (match.namespace !== undefined && match.namespace !== request.namespace) return false;
  return match.where === undefined || match.where(request);
}

function controllersOf(cluster: Cluster, options: StandInOptions): Controller[] {
  return [
    nodeLifecycleController(cluster),
    disruptionController(cluster),
    scheduler(cluster),
    replicaSetController(cluster),
    statefulSetController(cluster),
    daemonSetController(cluster),
    deploymentController(cluster),
    garbageCollector(cluster),
    podGarbageCollector(cluster, options.podsOutliveNodeMs ?? 55_000),
    namespaceController(cluster, options.namespaceEmptiedAfterMs ?? 5000),
  ];
}

function kubeconfigFor(url: string, token = 'any'): string {
  // JSON is YAML, and every reader of kubeconfigs takes it. The official JavaScript client uses plain
  // HTTP only where TLS need not be verified.
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'stand-in',
    clusters: [{ name: 'stand-in', cluster: { server: url, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'stand-in', user: { token } }],
    contexts: [{ name: 'stand-in', context: { cluster: 'stand-in', user: 'stand-in' } }],
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}
