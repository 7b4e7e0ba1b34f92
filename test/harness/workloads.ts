import type { ApiClient } from '../control-plane/api-client.ts';
import { mapLimited } from '../control-plane/limiter.ts';
import type {
  KubernetesObject,
  NodeObject,
  ObjectMeta,
  OwnerReference,
  PodObject,
} from '../control-plane/objects.ts';
import { behaviourAnnotation, type Kubelet, type PodBehaviour } from '../stand-ins/kubelet.ts';
import { eventually } from './eventually.ts';

export type PodSpec = {
  readonly name: string;
  readonly namespace?: string;
  /** Bound at creation; left to the scheduler unless given. */
  readonly node?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** 30 unless given, as in Kubernetes. */
  readonly graceSeconds?: number;
  readonly owner?: OwnerReference;
  readonly priorityClassName?: string;
  readonly tolerations?: readonly Record<string, unknown>[];
  readonly volumes?: readonly Record<string, unknown>[];
  /** What the kubelet stand-in does with it. */
  readonly behaviour?: PodBehaviour;
};

/** Creates pods, 24 at a time; returns them as created, not yet running. */
export async function createPods(api: ApiClient, specs: readonly PodSpec[]): Promise<PodObject[]> {
  return mapLimited(specs, 24, async (spec) =>
    api.create(`/api/v1/namespaces/${spec.namespace ?? 'default'}/pods`, podObject(spec)),
  );
}

export async function createPod(api: ApiClient, spec: PodSpec): Promise<PodObject> {
  return api.create(`/api/v1/namespaces/${spec.namespace ?? 'default'}/pods`, podObject(spec));
}

/** Waits until their kubelet has started them. */
export async function untilRunning(kubelet: Kubelet, pods: readonly PodObject[]): Promise<void> {
  await eventually(() =>
    pods.every(
      ({ metadata: { uid = '' } }) => kubelet.records({ uid })[0]?.runningAt !== undefined,
    ),
  );
}

export async function createNamespace(api: ApiClient, name: string): Promise<void> {
  await api.create('/api/v1/namespaces', { metadata: { name } });
}

export type BudgetSpec = {
  readonly name: string;
  readonly namespace?: string;
  readonly matchLabels: Readonly<Record<string, string>>;
  readonly minAvailable?: number | string;
  readonly maxUnavailable?: number | string;
  readonly unhealthyPodEvictionPolicy?: 'IfHealthyBudget' | 'AlwaysAllow';
};

/**
 * Needs a controller manager. Until that has processed it, evictions are refused whatever it says:
 * wait for `budgetStatus`.
 */
export async function createBudget(api: ApiClient, spec: BudgetSpec): Promise<void> {
  const { name, namespace = 'default', matchLabels, ...rest } = spec;
  await api.create(`/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets`, {
    metadata: { name },
    spec: { selector: { matchLabels }, ...rest },
  });
}

export type BudgetStatus = {
  readonly disruptionsAllowed: number;
  readonly currentHealthy: number;
  readonly desiredHealthy: number;
  readonly expectedPods: number;
};

/** Undefined until the controller manager has processed the budget as it is now. */
export async function budgetStatus(
  api: ApiClient,
  name: string,
  namespace = 'default',
): Promise<BudgetStatus | undefined> {
  const budget = await api.get<{
    metadata: { generation?: number };
    status?: BudgetStatus & { observedGeneration?: number };
  }>(`/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets/${name}`);
  return budget.status?.observedGeneration === budget.metadata.generation
    ? budget.status
    : undefined;
}

/**
 * An object that owns pods, without pods of its own; the garbage collector would delete pods whose
 * owner does not exist. DaemonSet and StatefulSet only make sense while their controllers do not run
 * (the default of the control plane).
 */
export async function createOwner(
  api: ApiClient,
  kind: 'DaemonSet' | 'StatefulSet' | 'ReplicaSet',
  spec: { readonly name: string; readonly namespace?: string; readonly replicas?: number },
): Promise<OwnerReference> {
  const { name, namespace = 'default', replicas = 0 } = spec;
  const labels = { 'test-owner': name };
  const path = `/apis/apps/v1/namespaces/${namespace}/${kind.toLowerCase()}s`;
  const owner = await api.create<KubernetesObject & { spec: object }>(path, {
    apiVersion: 'apps/v1',
    kind,
    metadata: { name },
    spec: {
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [container] } },
      ...(kind === 'DaemonSet' ? {} : { replicas }),
      ...(kind === 'StatefulSet' ? { serviceName: name } : {}),
    },
  });
  return ownerReference('apps/v1', kind, owner.metadata);
}

/** A DaemonSet and a running pod of it on each of the nodes, with the tolerations such pods have. */
export async function createDaemonSet(
  api: ApiClient,
  spec: { readonly name: string; readonly namespace?: string; readonly nodes: readonly string[] },
): Promise<PodObject[]> {
  const { name, namespace = 'kube-system', nodes } = spec;
  const owner = await createOwner(api, 'DaemonSet', { name, namespace });
  return createPods(
    api,
    nodes.map((node) => ({
      name: `${name}-${node}`,
      namespace,
      node,
      owner,
      labels: { 'test-owner': name },
      tolerations: ['not-ready', 'unreachable', 'disk-pressure', 'unschedulable'].map((taint) => ({
        key: `node.kubernetes.io/${taint}`,
        operator: 'Exists',
      })),
    })),
  );
}

/** What the API server shows of a static pod: owned by its Node, and marked. */
export async function createMirrorPod(
  api: ApiClient,
  spec: { readonly name: string; readonly namespace?: string; readonly node: string },
): Promise<PodObject> {
  const node = await api.get<NodeObject>(`/api/v1/nodes/${spec.node}`);
  const owner = ownerReference('v1', 'Node', node.metadata);
  return createPod(api, {
    ...spec,
    name: `${spec.name}-${spec.node}`,
    namespace: spec.namespace ?? 'kube-system',
    owner,
    annotations: {
      'kubernetes.io/config.mirror': 'f1a7c0de',
      'kubernetes.io/config.hash': 'f1a7c0de',
      'kubernetes.io/config.source': 'file',
    },
  });
}

/** A Deployment whose pods somebody must schedule. */
export async function createDeployment(
  api: ApiClient,
  spec: {
    readonly name: string;
    readonly namespace?: string;
    readonly replicas: number;
    readonly labels?: Readonly<Record<string, string>>;
    readonly graceSeconds?: number;
  },
): Promise<void> {
  const { name, namespace = 'default', replicas } = spec;
  const labels = { app: name, ...spec.labels };
  const pod = podObject({ name, labels, graceSeconds: spec.graceSeconds ?? 30 });
  await api.create(`/apis/apps/v1/namespaces/${namespace}/deployments`, {
    metadata: { name },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: { metadata: { labels }, spec: pod.spec },
    },
  });
}

function ownerReference(
  apiVersion: string,
  kind: string,
  { name, uid }: ObjectMeta,
): OwnerReference {
  if (uid === undefined) throw new Error(`${kind} ${name} has no uid`);
  return { apiVersion, kind, name, uid, controller: true };
}

const container = { name: 'main', image: 'none' };

function podObject(spec: PodSpec): PodObject {
  const annotations = {
    ...spec.annotations,
    ...(spec.behaviour ? { [behaviourAnnotation]: JSON.stringify(spec.behaviour) } : {}),
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: spec.name,
      ...(spec.labels ? { labels: { ...spec.labels } } : {}),
      ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
      ...(spec.owner ? { ownerReferences: [spec.owner] } : {}),
    },
    spec: {
      containers: [container],
      terminationGracePeriodSeconds: spec.graceSeconds ?? 30,
      ...(spec.node === undefined ? {} : { nodeName: spec.node }),
      ...(spec.priorityClassName === undefined
        ? {}
        : { priorityClassName: spec.priorityClassName }),
      ...(spec.tolerations ? { tolerations: [...spec.tolerations] } : {}),
      ...(spec.volumes ? { volumes: [...spec.volumes] } : {}),
    },
  };
}
