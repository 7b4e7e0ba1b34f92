/** A taint of a Node. https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/ */
export type Taint = Readonly<{
  key: string;
  value?: string;
  effect: string;
  timeAdded?: string;
}>;

/** The fields of a Node that decisions use; all that the index keeps of it. */
export type NodeView = Readonly<{
  name: string;
  uid: string;
  resourceVersion: string;
  /** From `spec.providerID`; undefined for Fargate, hybrid and not yet initialised nodes. */
  instanceId: string | undefined;
  /** Who manages the node besides us, by its labels. */
  manager: 'karpenter' | 'eks' | undefined;
  /** Value of the label that CAPACITY_RESERVATION_LABEL names. */
  capacityReservationId: string | undefined;
  /** Label `topology.kubernetes.io/zone`. */
  zone: string | undefined;
  /** `status.nodeInfo`; empty before the kubelet's first report. */
  systemUUID: string;
  bootId: string;
  /** When this boot was seen to take another's place (epoch ms); undefined: it was found there. */
  bootSeenAt: number | undefined;
  ready: boolean;
  /** Since when it is Ready (epoch ms); undefined: it is not, or does not say. */
  readySince: number | undefined;
  unschedulable: boolean;
  /** The whole list: `spec.taints` is atomic, so whoever writes it must know all of it. */
  taints: readonly Taint[];
  /** Whether NODE_SELECTOR chooses this node. */
  selected: boolean;
  /** Value of our label `node-termination-controller/interruption`. */
  interruptionLabel: string | undefined;
  /** Value of `node.kubernetes.io/exclude-from-external-load-balancers`. */
  excludeFromLoadBalancers: string | undefined;
  /** Annotation `node-termination-controller/journal`, as it stands; of one that is too long to be read, the beginning. */
  journal: string | undefined;
  /** Whether annotation `node-termination-controller/hold` stands on it. */
  held: boolean;
  deleting: boolean;
  /** Of no consequence to what is done; present where somebody is to be told of it. */
  facts?: NodeFacts;
}>;

/** What people know a machine by. */
export type NodeFacts = Readonly<{
  providerId: string | undefined;
  instanceType: string | undefined;
  zone: string | undefined;
  /** Empty unless they are asked for. */
  labels: Readonly<Record<string, string>>;
}>;

/** The Node as it is now, with what it does not say itself. `changedAt`: it has just become so. */
export function withBootSeen(
  before: NodeView | undefined,
  node: NodeView,
  changedAt: number | undefined,
): NodeView {
  if (before === undefined || before.bootId === '' || node.bootId === '') return node;
  const bootSeenAt = before.bootId === node.bootId ? before.bootSeenAt : changedAt;
  return bootSeenAt === undefined ? node : { ...node, bootSeenAt };
}

/** What a write of ours changes on a Node; absent fields stay as they are. */
export type NodePatch = Readonly<{
  /** Labels and annotations: null removes. */
  labels?: Readonly<Record<string, string | null>>;
  annotations?: Readonly<Record<string, string | null>>;
  unschedulable?: boolean;
  /** Replaces the whole list. */
  taints?: readonly Taint[];
}>;

/** Names of what we put on a Node; charts, dashboards and people depend on them. */
export const INTERRUPTION_KEY = 'node-termination-controller/interruption';
export const JOURNAL_KEY = 'node-termination-controller/journal';
/** More than can be read (`MAX_JOURNAL_BYTES`): anybody may have written it, and the index holds all Nodes'. */
export const LONGEST_JOURNAL_KEPT = 17 * 1024;
export const UNREADABLE_JOURNAL_KEY = 'node-termination-controller/journal-unreadable';
export const HOLD_KEY = 'node-termination-controller/hold';
/** https://kubernetes.io/docs/reference/labels-annotations-taints/#node-kubernetes-io-exclude-from-external-load-balancers */
export const LOAD_BALANCER_KEY = 'node.kubernetes.io/exclude-from-external-load-balancers';
/** https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown */
export const OUT_OF_SERVICE_KEY = 'node.kubernetes.io/out-of-service';
/** https://kubernetes.io/docs/reference/labels-annotations-taints/#node-kubernetes-io-unschedulable */
export const UNSCHEDULABLE_KEY = 'node.kubernetes.io/unschedulable';
export const ZONE_KEY = 'topology.kubernetes.io/zone';
export const INSTANCE_TYPE_KEY = 'node.kubernetes.io/instance-type';
/** Labels that tell who else manages a node. */
export const MANAGER_KEYS = {
  karpenter: 'karpenter.sh/nodepool',
  eks: 'eks.amazonaws.com/nodegroup',
} as const;
