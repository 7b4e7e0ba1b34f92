/** Times are RFC 3339 as the API server prints them: whole seconds, or six fractional digits for MicroTime. */
export type OwnerReference = {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
};

export type Metadata = {
  name: string;
  generateName?: string;
  namespace?: string;
  uid: string;
  resourceVersion: string;
  generation?: number;
  creationTimestamp: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: OwnerReference[];
};

/** Stored objects are never changed in place: serialised forms and watch history refer to them. */
export type ApiObject = {
  apiVersion: string;
  kind: string;
  metadata: Metadata;
  spec?: unknown;
  status?: unknown;
};

export type Condition = {
  type: string;
  status: string;
  reason?: string;
  message?: string;
  observedGeneration?: number;
  lastTransitionTime?: string;
};

export type LabelSelector = {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
};

export type Toleration = { key?: string; operator?: string; value?: string; effect?: string };

export type Container = {
  name: string;
  image?: string;
  resources?: { requests?: Record<string, string | number> };
};

export type NodeSelectorTerm = {
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
  matchFields?: { key: string; operator: string; values?: string[] }[];
};

export type PodSpec = {
  nodeName?: string;
  containers: Container[];
  initContainers?: Container[];
  terminationGracePeriodSeconds?: number;
  activeDeadlineSeconds?: number;
  nodeSelector?: Record<string, string>;
  tolerations?: Toleration[];
  affinity?: {
    nodeAffinity?: {
      requiredDuringSchedulingIgnoredDuringExecution?: { nodeSelectorTerms: NodeSelectorTerm[] };
    };
  };
  priority?: number;
  priorityClassName?: string;
  preemptionPolicy?: string;
  restartPolicy?: string;
  dnsPolicy?: string;
  schedulerName?: string;
  schedulingGates?: { name: string }[];
  serviceAccountName?: string;
  securityContext?: object;
  enableServiceLinks?: boolean;
  hostNetwork?: boolean;
};

export type PodStatus = {
  phase: string;
  conditions?: Condition[];
  podIP?: string;
  nominatedNodeName?: string;
  qosClass?: string;
};

export type Pod = ApiObject & { spec: PodSpec; status: PodStatus };

export type Taint = { key: string; value?: string; effect: string; timeAdded?: string };

export type Node = ApiObject & {
  spec: { providerID?: string; unschedulable?: boolean; taints?: Taint[] };
  status: {
    conditions?: Condition[];
    capacity?: Record<string, string>;
    allocatable?: Record<string, string>;
  };
};

export type BudgetStatus = {
  observedGeneration?: number;
  disruptedPods?: Record<string, string>;
  disruptionsAllowed: number;
  currentHealthy: number;
  desiredHealthy: number;
  expectedPods: number;
  conditions?: Condition[];
};

export type Budget = ApiObject & {
  spec: {
    minAvailable?: number | string;
    maxUnavailable?: number | string;
    selector?: LabelSelector;
    unhealthyPodEvictionPolicy?: string;
  };
  status: BudgetStatus;
};

export type Lease = ApiObject & {
  spec: {
    holderIdentity?: string | null;
    leaseDurationSeconds?: number;
    acquireTime?: string | null;
    renewTime?: string | null;
    leaseTransitions?: number;
  };
};

export type PodTemplate = {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
  spec: PodSpec;
};

export type Workload = ApiObject & {
  spec: {
    replicas?: number;
    selector: LabelSelector;
    template: PodTemplate;
    serviceName?: string;
    podManagementPolicy?: string;
  };
  status: Record<string, unknown>;
};

export type Namespace = ApiObject & {
  spec: { finalizers?: string[] };
  status: { phase: string };
};

export type RecordedEvent = ApiObject & {
  eventTime?: string | null;
  reportingController?: string;
  reportingInstance?: string;
  action?: string;
  reason?: string;
  type?: string;
  note?: string;
  regarding?: Record<string, string>;
  related?: Record<string, string>;
  series?: object;
  deprecatedSource?: Record<string, string>;
  deprecatedFirstTimestamp?: string | null;
  deprecatedLastTimestamp?: string | null;
  deprecatedCount?: number;
};

export function secondsTime(atMs: number): string {
  return `${new Date(atMs).toISOString().slice(0, 19)}Z`;
}

export function isReady(object: { status: { conditions?: Condition[] } }): boolean {
  return object.status.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false;
}

export function isFinished(pod: Pod): boolean {
  return pod.status.phase === 'Succeeded' || pod.status.phase === 'Failed';
}

export function controllerOf(object: ApiObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((owner) => owner.controller === true);
}

/** Sets a condition; its transition time moves only when its status does. */
export function withCondition(
  conditions: readonly Condition[] | undefined,
  wanted: Condition,
  nowMs: number,
): Condition[] {
  const others = conditions?.filter((c) => c.type !== wanted.type) ?? [];
  const previous = conditions?.find((c) => c.type === wanted.type);
  const lastTransitionTime =
    previous?.status === wanted.status && previous.lastTransitionTime !== undefined
      ? previous.lastTransitionTime
      : secondsTime(nowMs);
  return [...others, { ...wanted, lastTransitionTime }];
}
