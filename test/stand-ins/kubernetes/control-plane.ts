import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiClient } from '../../control-plane/api-client.ts';
import type { AuditEntry, AuditFilter } from '../../control-plane/audit.ts';
import type {
  ComponentControl,
  ControlPlane,
  ControlPlaneOptions,
} from '../../control-plane/control-plane.ts';
import { guardFolder } from '../../control-plane/guardian.ts';
import {
  startKubernetesStandIn,
  type ControllerName,
  type KubernetesStandIn,
  type ServedRequest,
} from './stand-in.ts';

type Control = Pick<ComponentControl, 'pause' | 'resume'>;

/** What a real control plane offers to tests, as far as one within this process can. */
export type StandInControlPlane = Pick<
  ControlPlane,
  'url' | 'ca' | 'api' | 'adminKubeconfig' | 'folder' | 'kubeconfigFor' | 'auditEntries' | 'stop'
> & {
  /** `stop` breaks connections and refuses new ones; `start` is with the same data, but no history. */
  readonly apiServer: Control & Pick<ComponentControl, 'start' | 'stop'>;
  readonly controllerManager: Control | undefined;
  readonly scheduler: Control | undefined;
  readonly standIn: KubernetesStandIn;
};

/** Names of kube-controller-manager's controllers, less their ending, that the stand-in has. */
const controllers: Readonly<Record<string, ControllerName>> = {
  daemonset: 'daemonset',
  deployment: 'deployment',
  disruption: 'disruption',
  'garbage-collector': 'garbage-collector',
  namespace: 'namespace',
  'node-lifecycle': 'node-lifecycle',
  'pod-garbage-collector': 'pod-garbage-collector',
  replicaset: 'replicaset',
  statefulset: 'statefulset',
};
/** As in the control plane for tests: these would fight pods that are made by hand. */
const notByDefault = new Set<ControllerName>(['daemonset', 'statefulset']);

/** Entries kept; the oldest go first. */
const auditLimit = 200_000;

/** The stand-in behind the interface of the real control plane, for tests that run on either. */
export async function startStandInControlPlane(
  options: Pick<ControlPlaneOptions, 'controllerManager' | 'scheduler' | 'audit'> = {},
): Promise<StandInControlPlane> {
  const managed = managedControllers(options.controllerManager ?? false);
  const standIn = await startKubernetesStandIn({
    controllers: [...managed, ...(options.scheduler === true ? (['scheduler'] as const) : [])],
  });
  const folder = await mkdtemp(join(tmpdir(), 'stand-in-control-plane-'));
  const unguardFolder = guardFolder(folder);
  const admin = standIn.addUser({ name: 'admin' });
  const api = new ApiClient({ url: standIn.url, token: admin });
  const adminKubeconfig = join(folder, 'admin.kubeconfig');
  await standIn.writeKubeconfig(adminKubeconfig, admin);

  const entries: AuditEntry[] = [];
  let hasLostEntries = false;
  if (options.audit !== undefined && options.audit !== false) {
    const withBodies = options.audit === 'with-bodies';
    standIn.observe((served) => {
      entries.push(auditEntry(served, entries.length, withBodies));
      if (entries.length > auditLimit) {
        entries.splice(0, auditLimit / 10);
        hasLostEntries = true;
      }
    });
  }
  const { faults } = standIn;
  const controlOf = (names: readonly ControllerName[]): Control => ({
    pause() {
      for (const name of names) standIn.pause(name);
    },
    resume() {
      for (const name of names) standIn.resume(name);
    },
  });

  return {
    url: standIn.url,
    ca: '',
    api,
    adminKubeconfig,
    folder,
    standIn,
    apiServer: {
      stop: () => faults.startOutage(),
      async start() {
        faults.expireHistory();
        await faults.endOutage();
      },
      pause: () => {
        faults.startSilence();
      },
      resume: () => {
        faults.endSilence();
      },
    },
    controllerManager: managed.length === 0 ? undefined : controlOf(managed),
    scheduler: options.scheduler === true ? controlOf(['scheduler']) : undefined,
    async kubeconfigFor(account, rules, { namespace = 'default', namespaceRules = {} } = {}) {
      if ((await api.find(`/api/v1/namespaces/${namespace}`)) === undefined) {
        await api.create('/api/v1/namespaces', { metadata: { name: namespace } });
      }
      const userName = `system:serviceaccount:${namespace}:${account}`;
      const token = standIn.addUser({ name: userName, rules, namespaceRules });
      const kubeconfig = join(folder, `${account}.kubeconfig`);
      await standIn.writeKubeconfig(kubeconfig, token);
      return { kubeconfig, token, userName };
    },
    async auditEntries(filter = {}) {
      // What is missing would be taken for what was never asked.
      if (hasLostEntries) throw new Error(`over ${auditLimit} requests: the oldest are lost`);
      return entries
        .filter((entry) => matches(entry, filter))
        .toSorted((a, b) => a.receivedAt - b.receivedAt);
    },
    async stop() {
      await api.close();
      await standIn.stop();
      await rm(folder, { recursive: true, force: true });
      unguardFolder();
    },
  };
}

function managedControllers(
  wanted: NonNullable<ControlPlaneOptions['controllerManager']>,
): ControllerName[] {
  if (wanted === false) return [];
  if (wanted === true) {
    return Object.values(controllers).filter((name) => !notByDefault.has(name));
  }
  // Those that it has not are of no consequence to a drain (endpoints, certificates).
  return wanted.flatMap((name) => controllers[name.replace(/-controller$/u, '')] ?? []);
}

function auditEntry(served: ServedRequest, number: number, withBodies: boolean): AuditEntry {
  const { request, userName, receivedAt, answeredAt, status } = served;
  const { verb, resource, subresource, namespace, name, headers, body } = request;
  return {
    auditId: String(number),
    stage: verb === 'watch' ? 'ResponseStarted' : 'ResponseComplete',
    verb,
    path: `${request.path}${request.query.size === 0 ? '' : `?${request.query.toString()}`}`,
    resource: resource === '' ? undefined : resource,
    subresource,
    namespace,
    name,
    userName,
    userAgent: typeof headers['user-agent'] === 'string' ? headers['user-agent'] : '',
    status,
    receivedAt,
    answeredAt,
    body: withBodies && body.length > 0 ? (JSON.parse(body.toString()) as unknown) : undefined,
  };
}

function matches(entry: AuditEntry, filter: AuditFilter): boolean {
  const { stage = 'ResponseComplete', userAgent = '', subresource, ...exact } = filter;
  if (entry.stage !== stage || !entry.userAgent.includes(userAgent)) return false;
  if (subresource !== undefined && (entry.subresource ?? null) !== subresource) return false;
  return (Object.keys(exact) as (keyof typeof exact)[]).every(
    (field) => exact[field] === undefined || entry[field] === exact[field],
  );
}
