import type { Taint } from '../../src/plan/node.ts';

// What the API server holds and how it answers, in as much as the controller can tell; its rules are
// those of the stand-in that the contract tests hold against a real one.

type Labels = Readonly<Record<string, string>>;

export type RawNode = Readonly<{
  metadata: Readonly<{
    name: string;
    uid: string;
    resourceVersion: string;
    labels: Labels;
    annotations: Labels;
  }>;
  spec: Readonly<{
    providerID?: string;
    unschedulable?: boolean;
    taints?: readonly Taint[];
  }>;
  status: Readonly<{
    conditions: readonly Readonly<{ type: string; status: string; lastTransitionTime: string }>[];
    nodeInfo: Readonly<{ systemUUID: string; bootID: string }>;
  }>;
}>;

export type RawPod = Readonly<{
  metadata: Readonly<{
    name: string;
    namespace: string;
    uid: string;
    resourceVersion: string;
    annotations?: Labels;
    ownerReferences?: readonly Readonly<{
      kind: string;
      name: string;
      uid: string;
      controller: boolean;
    }>[];
    deletionTimestamp?: string;
    deletionGracePeriodSeconds?: number;
  }>;
  spec: Readonly<{
    nodeName: string;
    terminationGracePeriodSeconds: number;
    priorityClassName?: string;
    tolerations?: readonly Readonly<{ operator: string }>[];
    volumes?: readonly Readonly<{
      name: string;
      persistentVolumeClaim: Readonly<{ claimName: string }>;
    }>[];
  }>;
  status: Readonly<{ phase: string }>;
}>;

export type RawLease = Readonly<{
  metadata: Readonly<Record<string, unknown>> & Readonly<{ name: string; resourceVersion: string }>;
  spec: Readonly<Record<string, unknown>>;
}>;

type Kinds = { nodes: RawNode; pods: RawPod; leases: RawLease };
export type Kind = keyof Kinds;

export type WatchEvent = Readonly<{
  kind: Kind;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  version: number;
  object: RawNode | RawPod | RawLease;
  /** Of a pod that counts as unfinished: what the controller's watch sees. */
  selected: boolean;
}>;

type NodePatch = {
  metadata?: {
    resourceVersion?: string;
    labels?: Record<string, string | null>;
    annotations?: Record<string, string | null>;
  };
  spec?: { unschedulable?: boolean; taints?: readonly Taint[] };
};

type DeleteOptions = { gracePeriodSeconds?: number; preconditions?: { uid?: string } };

/** Status of an answer that is not a success. */
export type Refusal = Readonly<{
  status: number;
  reason: string;
  message: string;
  causes?: readonly Readonly<{ reason: string; message: string }>[];
  retryAfterSeconds?: number;
}>;

export type Result<T> = Readonly<{ object: T }> | Readonly<{ refusal: Refusal }>;

const notFound: Refusal = { status: 404, reason: 'NotFound', message: 'not found' };

export function isUnfinished({ status: { phase } }: RawPod): boolean {
  return phase !== 'Succeeded' && phase !== 'Failed';
}

export function podKey({ metadata: { namespace, name } }: RawPod): string {
  return `${namespace}/${name}`;
}

/** What the server asks of, and tells, the rest of the cluster. */
export interface ClusterRules {
  now(): number;
  /** The budget that refuses the pod's eviction now; undefined: none does. */
  refusedBy(pod: RawPod): string | undefined;
  /** A deletion began, or its grace was changed. */
  podTerminates(before: RawPod, after: RawPod): void;
}

export class ApiServer {
  readonly nodes = new Map<string, RawNode>();
  readonly pods = new Map<string, RawPod>();
  readonly leases = new Map<string, RawLease>();
  /** PersistentVolumes, by the node they are attached to. */
  readonly attached = new Map<string, Set<string>>();
  version = 100;
  /** Changes from this version on are remembered: a watch from before gets 410. */
  compactedAt = 0;
  private readonly history: WatchEvent[] = [];
  private readonly listeners = new Set<(event: WatchEvent) => void>();
  private uids = 0;
  private readonly rules: ClusterRules;

  constructor(rules: ClusterRules) {
    this.rules = rules;
  }

  newUid(name: string): string {
    this.uids += 1;
    return `${name}#${this.uids}`;
  }

  onChange(listener: (event: WatchEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  since(kind: Kind, version: number): readonly WatchEvent[] {
    return this.history.filter((event) => event.kind === kind && event.version > version);
  }

  /** Forgets all changes. */
  compact(): void {
    this.compactedAt = this.version;
    this.history.length = 0;
  }

  putNode(node: RawNode): RawNode {
    const stored = { ...node, metadata: { ...node.metadata, resourceVersion: this.nextVersion() } };
    const type = this.nodes.has(node.metadata.name) ? 'MODIFIED' : 'ADDED';
    this.nodes.set(node.metadata.name, stored);
    this.tell('nodes', type, stored, true);
    return stored;
  }

  removeNode(name: string): RawNode | undefined {
    const node = this.nodes.get(name);
    if (node === undefined) return undefined;
    this.nodes.delete(name);
    const last = { ...node, metadata: { ...node.metadata, resourceVersion: this.nextVersion() } };
    this.tell('nodes', 'DELETED', last, true);
    return node;
  }

  patchNode(name: string, patch: NodePatch): Result<RawNode> {
    const node = this.nodes.get(name);
    if (node === undefined) return { refusal: notFound };
    const { metadata, spec } = patch;
    const expected = metadata?.resourceVersion;
    if (expected !== undefined && expected !== node.metadata.resourceVersion) {
      return {
        refusal: { status: 409, reason: 'Conflict', message: 'the object has been modified' },
      };
    }
    const after: RawNode = {
      ...node,
      metadata: {
        ...node.metadata,
        labels: merged(node.metadata.labels, metadata?.labels),
        annotations: merged(node.metadata.annotations, metadata?.annotations),
      },
      spec: { ...node.spec, ...spec },
    };
    return { object: this.putNode(after) };
  }

  putPod(pod: RawPod): RawPod {
    const stored = { ...pod, metadata: { ...pod.metadata, resourceVersion: this.nextVersion() } };
    const before = this.pods.get(podKey(pod));
    this.pods.set(podKey(pod), stored);
    const wasSelected = before !== undefined && isUnfinished(before);
    if (isUnfinished(stored)) this.tell('pods', wasSelected ? 'MODIFIED' : 'ADDED', stored, true);
    else this.tell('pods', 'DELETED', stored, wasSelected);
    return stored;
  }

  removePod(pod: RawPod): void {
    const present = this.pods.get(podKey(pod));
    if (present?.metadata.uid !== pod.metadata.uid) return;
    this.pods.delete(podKey(pod));
    const metadata = { ...present.metadata, resourceVersion: this.nextVersion() };
    this.tell('pods', 'DELETED', { ...present, metadata }, isUnfinished(present));
  }

  /** The eviction subresource: in the order of the real one, the budget is asked before the uid is compared. */
  evict(
    key: string,
    options: DeleteOptions,
    onRefused: (pod: RawPod, budget: string) => void,
  ): Result<Readonly<{ before: RawPod; after: RawPod }>> {
    const pod = this.pods.get(key);
    if (pod === undefined) return { refusal: notFound };
    if (pod.metadata.deletionTimestamp === undefined && isUnfinished(pod)) {
      const budget = this.rules.refusedBy(pod);
      if (budget !== undefined) {
        onRefused(pod, budget);
        return { refusal: refusedByBudget(budget) };
      }
    }
    return this.deletePod(key, options);
  }

  deletePod(
    key: string,
    { gracePeriodSeconds, preconditions }: DeleteOptions,
  ): Result<Readonly<{ before: RawPod; after: RawPod }>> {
    const pod = this.pods.get(key);
    if (pod === undefined) return { refusal: notFound };
    if (preconditions?.uid !== undefined && preconditions.uid !== pod.metadata.uid) {
      return {
        refusal: {
          status: 409,
          reason: 'Conflict',
          message: 'the UID in the precondition differs',
        },
      };
    }
    const after = this.terminated(pod, gracePeriodSeconds);
    if (after !== pod) this.rules.podTerminates(pod, after);
    return { object: { before: pod, after } };
  }

  putLease(
    name: string,
    metadata: Readonly<Record<string, unknown>>,
    spec: RawLease['spec'],
  ): RawLease {
    const lease = { metadata: { ...metadata, name, resourceVersion: this.nextVersion() }, spec };
    const type = this.leases.has(name) ? 'MODIFIED' : 'ADDED';
    this.leases.set(name, lease);
    this.tell('leases', type, lease, true);
    return lease;
  }

  /** A grace counts from the first deletion, and is only ever shortened; one that is past is a second. */
  private terminated(pod: RawPod, graceSeconds: number | undefined): RawPod {
    const now = this.rules.now();
    const grace = graceSeconds ?? pod.spec.terminationGracePeriodSeconds;
    const { deletionTimestamp, deletionGracePeriodSeconds: known } = pod.metadata;
    if (deletionTimestamp !== undefined && known !== undefined && grace >= known) return pod;
    const beganAt =
      deletionTimestamp === undefined ? now : Date.parse(deletionTimestamp) - (known ?? 0) * 1000;
    const isPast = deletionTimestamp !== undefined && beganAt + grace * 1000 <= now;
    const endsAt = isPast ? now + 1000 : beganAt + grace * 1000;
    const metadata = {
      ...pod.metadata,
      deletionTimestamp: `${new Date(endsAt).toISOString().slice(0, 19)}Z`,
      deletionGracePeriodSeconds: isPast ? 1 : grace,
    };
    return this.putPod({ ...pod, metadata });
  }

  private nextVersion(): string {
    this.version += 1;
    return String(this.version);
  }

  private tell(
    kind: Kind,
    type: WatchEvent['type'],
    object: WatchEvent['object'],
    selected: boolean,
  ): void {
    const event = { kind, type, version: this.version, object, selected };
    this.history.push(event);
    for (const listener of this.listeners) listener(event);
  }
}

function refusedByBudget(budget: string): Refusal {
  return {
    status: 429,
    reason: 'TooManyRequests',
    message: "Cannot evict pod as it would violate the pod's disruption budget.",
    causes: [
      {
        reason: 'DisruptionBudget',
        message: `The disruption budget ${budget} needs 2 healthy pods and has 2 currently`,
      },
    ],
  };
}

function merged(
  before: Labels,
  patch: Readonly<Record<string, string | null>> | undefined,
): Labels {
  if (patch === undefined) return before;
  const after: Record<string, string> = { ...before };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete after[key];
    else after[key] = value;
  }
  return after;
}
