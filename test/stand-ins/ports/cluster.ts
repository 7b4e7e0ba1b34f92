import type { Clock } from '../../../src/clock.ts';
import type { EvictionAnswer, PodKey } from '../../../src/drain/pods.ts';
import type { WriteAnswer } from '../../../src/intake/node-store.ts';
import {
  INTERRUPTION_KEY,
  JOURNAL_KEY,
  LOAD_BALANCER_KEY,
  UNREADABLE_JOURNAL_KEY,
  type NodePatch,
  type NodeView,
} from '../../../src/plan/node.ts';
import type { PodView } from '../../../src/plan/pod.ts';

/** A pod as the cluster knows it, with what its containers and its machine do. */
export type ClusterPod = PodView &
  Readonly<{
    nodeName: string;
    /** From SIGTERM until its containers have ended by themselves; Infinity: they wait to be killed. */
    endsAfterSeconds: number;
  }>;

export type PodEvent = Readonly<{
  type: 'terminating' | 'departed';
  version: number;
  pod: ClusterPod;
}>;

export function instanceIdOf(number: number): string {
  return `i-${number.toString(16).padStart(17, '0')}`;
}

type NodeListener = (before: NodeView | undefined, after: NodeView | undefined) => void;

/** What an eviction or deletion did, for tests to judge by. */
export type PodAct = Readonly<{
  at: number;
  act: 'evict' | 'delete' | 'shorten';
  name: string;
  uid: string;
  graceSeconds: number;
}>;

/**
 * A cluster with its API server's rules, and kubelets that end pods in virtual time: as much of them
 * as the flow can tell. https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
 */
export class FakeCluster {
  /** Evictions and deletions that took effect, oldest first. */
  readonly acts: PodAct[] = [];
  /** By the uid of the pods' owner: how many of them a budget allows to be gone now; absent: no budget. */
  readonly budgets = new Map<string, number>();
  /** PersistentVolumes attached, by node; and what each claim (`namespace/name`) is bound to. */
  readonly attached = new Map<string, Set<string>>();
  readonly volumeOfClaim = new Map<string, string>();
  /** Of each Node that had an unreadable journal kept aside. */
  readonly keptAside = new Map<string, string>();
  private readonly nodes = new Map<string, NodeView>();
  private readonly pods = new Map<string, ClusterPod>();
  private readonly nodeListeners = new Set<NodeListener>();
  private readonly podEvents: PodEvent[] = [];
  private readonly podListeners = new Set<(event: PodEvent) => void>();
  private readonly kills = new Map<string, { cancel(): void }>();
  /** When a kubelet renewed its Lease last; absent: it does so all the time. */
  private readonly lastRenewals = new Map<string, number>();
  private version = 100;
  private uids = 0;
  private readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  get resourceVersion(): string {
    return String(this.version);
  }

  // ── nodes ───────────────────────────────────────────────────────────────────────────────────

  node(name: string): NodeView {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  findNode(name: string): NodeView | undefined {
    return this.nodes.get(name);
  }

  allNodes(): readonly NodeView[] {
    return [...this.nodes.values()];
  }

  /** Registers a Node: `node-1` is instance 1 of machine `uuid-1`, unless told otherwise. */
  addNode(name: string, changes: Partial<NodeView> = {}): NodeView {
    const number = /\d+$/.exec(name)?.[0] ?? '0';
    return this.put({
      name,
      uid: this.nextUid(name),
      resourceVersion: '',
      instanceId: instanceIdOf(Number(number)),
      manager: undefined,
      capacityReservationId: undefined,
      zone: 'eu-west-1a',
      systemUUID: `uuid-${number}`,
      bootId: 'boot-1',
      bootSeenAt: undefined,
      ready: true,
      readySince: undefined,
      unschedulable: false,
      taints: [],
      selected: true,
      interruptionLabel: undefined,
      excludeFromLoadBalancers: undefined,
      journal: undefined,
      held: false,
      deleting: false,
      ...changes,
    });
  }

  /** Another writer's work. */
  changeNode(name: string, changes: Partial<NodeView>): NodeView {
    return this.put({ ...this.node(name), ...changes });
  }

  deleteNode(name: string): void {
    const before = this.node(name);
    this.version += 1;
    this.nodes.delete(name);
    for (const listener of this.nodeListeners) listener(before, undefined);
  }

  patchNode(name: string, resourceVersion: string, patch: NodePatch): WriteAnswer {
    const node = this.nodes.get(name);
    if (node === undefined) return { outcome: 'gone' };
    if (node.resourceVersion !== resourceVersion) return { outcome: 'conflict' };
    const aside = patch.annotations?.[UNREADABLE_JOURNAL_KEY];
    if (typeof aside === 'string') this.keptAside.set(name, aside);
    return {
      outcome: 'written',
      node: this.put({
        ...node,
        interruptionLabel: merged(patch.labels, INTERRUPTION_KEY, node.interruptionLabel),
        excludeFromLoadBalancers: merged(
          patch.labels,
          LOAD_BALANCER_KEY,
          node.excludeFromLoadBalancers,
        ),
        journal: merged(patch.annotations, JOURNAL_KEY, node.journal),
        unschedulable: patch.unschedulable ?? node.unschedulable,
        taints: patch.taints ?? node.taints,
      }),
    };
  }

  onNodeChange(listener: NodeListener): () => void {
    this.nodeListeners.add(listener);
    return () => this.nodeListeners.delete(listener);
  }

  private put(node: NodeView): NodeView {
    this.version += 1;
    const before = this.nodes.get(node.name);
    const after = { ...node, resourceVersion: this.resourceVersion };
    this.nodes.set(node.name, after);
    for (const listener of this.nodeListeners) listener(before, after);
    return after;
  }

  // ── kubelets ────────────────────────────────────────────────────────────────────────────────

  /** The machine is off: its Lease is renewed no more, and its pods end no more. */
  stopKubelet(name: string): void {
    this.lastRenewals.set(name, this.clock.now());
  }

  /** The machine is on again. */
  startKubelet(name: string): void {
    this.lastRenewals.delete(name);
  }

  /** When the kubelet renewed its Lease; undefined: it never did. */
  leaseRenewedAt(name: string): number | undefined {
    if (!this.nodes.has(name)) return undefined;
    return this.lastRenewals.get(name) ?? this.clock.now();
  }

  // ── pods ────────────────────────────────────────────────────────────────────────────────────

  /** Binds a pod to a node: of ReplicaSet `web`, a grace of 30 s that it does not use up. */
  addPod(nodeName: string, name: string, changes: Partial<ClusterPod> = {}): ClusterPod {
    this.version += 1;
    const pod: ClusterPod = {
      uid: this.nextUid(name),
      namespace: 'shop',
      name,
      owner: { kind: 'ReplicaSet', name: 'web', uid: 'web' },
      mirror: false,
      finished: false,
      priorityClass: undefined,
      graceSeconds: 30,
      deletion: undefined,
      toleratesInterruption: false,
      claims: [],
      nodeName,
      endsAfterSeconds: 1,
      ...changes,
    };
    this.pods.set(pod.uid, pod);
    return pod;
  }

  podsOn(nodeName: string): readonly ClusterPod[] {
    return [...this.pods.values()].filter((pod) => pod.nodeName === nodeName);
  }

  allPods(): readonly ClusterPod[] {
    return [...this.pods.values()];
  }

  findPod(namespace: string, name: string): ClusterPod | undefined {
    return [...this.pods.values()].find((pod) => pod.namespace === namespace && pod.name === name);
  }

  /** Another one's deletion: a person's, a controller's. */
  deletePod(pod: PodKey, graceSeconds = 30): void {
    const found = this.pods.get(pod.uid);
    if (found !== undefined) this.terminate(found, graceSeconds);
  }

  /** It vanishes at once, however that came about. */
  removePod(uid: string): void {
    const pod = this.pods.get(uid);
    if (pod === undefined) return;
    this.kills.get(uid)?.cancel();
    this.kills.delete(uid);
    this.pods.delete(uid);
    this.tellPods({ type: 'departed', version: (this.version += 1), pod });
  }

  /** Its containers have all ended with success or failure; the object stays. */
  finishPod(uid: string): void {
    const pod = this.pods.get(uid);
    if (pod === undefined) return;
    const finished = { ...pod, finished: true };
    this.pods.set(uid, finished);
    this.tellPods({ type: 'departed', version: (this.version += 1), pod: finished });
  }

  evict(key: PodKey, graceSeconds: number): EvictionAnswer {
    const pod = this.findPod(key.namespace, key.name);
    if (pod === undefined) return { outcome: 'gone' };
    if (pod.uid !== key.uid) return { outcome: 'conflict', message: 'the UID differs' };
    if (pod.deletion === undefined) {
      const owner = pod.owner?.uid ?? '';
      const allowed = this.budgets.get(owner);
      if (allowed !== undefined && allowed <= 0) {
        return { outcome: 'budget', budget: owner, message: 'not now', retryAfterMs: undefined };
      }
      if (allowed !== undefined) this.budgets.set(owner, allowed - 1);
      this.act('evict', pod, graceSeconds);
      this.terminate(pod, graceSeconds);
    }
    return { outcome: 'accepted' };
  }

  delete(key: PodKey, graceSeconds: number): EvictionAnswer {
    const pod = this.findPod(key.namespace, key.name);
    if (pod === undefined) return { outcome: 'gone' };
    if (pod.uid !== key.uid) return { outcome: 'conflict', message: 'the UID differs' };
    this.act(pod.deletion === undefined ? 'delete' : 'shorten', pod, graceSeconds);
    this.terminate(pod, graceSeconds);
    return { outcome: 'accepted' };
  }

  /** What a watch from that version on would tell. */
  podEventsSince(version: string): readonly PodEvent[] {
    return this.podEvents.filter((event) => event.version > Number(version));
  }

  onPodEvent(listener: (event: PodEvent) => void): () => void {
    this.podListeners.add(listener);
    return () => this.podListeners.delete(listener);
  }

  /** A grace counts from the first deletion, and is only ever shortened; one that is past is a second. */
  private terminate(pod: ClusterPod, graceSeconds: number): void {
    const now = this.clock.now();
    const known = pod.deletion;
    if (known !== undefined && graceSeconds >= known.graceSeconds) return;
    const beganAt = known === undefined ? now : known.endsAt - known.graceSeconds * 1000;
    const isPast = beganAt + graceSeconds * 1000 <= now && known !== undefined;
    const deletion = isPast
      ? { endsAt: now + 1000, graceSeconds: 1 }
      : { endsAt: beganAt + graceSeconds * 1000, graceSeconds };
    const terminating = { ...pod, deletion };
    this.pods.set(pod.uid, terminating);
    this.tellPods({ type: 'terminating', version: (this.version += 1), pod: terminating });
    this.killAfter(terminating, isPast ? 1 : graceSeconds, beganAt);
  }

  /** The kubelet counts a shortened grace from when it sees it. */
  private killAfter(pod: ClusterPod, graceSeconds: number, beganAt: number): void {
    this.kills.get(pod.uid)?.cancel();
    if (this.lastRenewals.has(pod.nodeName)) return;
    const byItself = beganAt + pod.endsAfterSeconds * 1000 - this.clock.now();
    const delayMs = Math.max(0, Math.min(byItself, graceSeconds * 1000));
    const kill = this.clock.after(delayMs, () => {
      if (!this.lastRenewals.has(pod.nodeName)) this.removePod(pod.uid);
    });
    this.kills.set(pod.uid, kill);
  }

  private act(act: PodAct['act'], { name, uid }: ClusterPod, graceSeconds: number): void {
    this.acts.push({ at: this.clock.now(), act, name, uid, graceSeconds });
  }

  private tellPods(event: PodEvent): void {
    this.podEvents.push(event);
    for (const listener of this.podListeners) listener(event);
  }

  private nextUid(name: string): string {
    this.uids += 1;
    return `${name}-uid-${this.uids}`;
  }
}

/** A merge patch's word on one label or annotation: null removes. */
function merged(
  patch: Readonly<Record<string, string | null>> | undefined,
  key: string,
  before: string | undefined,
): string | undefined {
  const value = patch?.[key];
  return value === undefined ? before : (value ?? undefined);
}
