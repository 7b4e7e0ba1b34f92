import type { Clock } from '../clock.ts';
import type { NodeIndex, NodeStore, WriteAnswer } from '../intake/node-store.ts';
import {
  withBootSeen,
  HOLD_KEY,
  INSTANCE_TYPE_KEY,
  INTERRUPTION_KEY,
  JOURNAL_KEY,
  LOAD_BALANCER_KEY,
  LONGEST_JOURNAL_KEPT,
  MANAGER_KEYS,
  ZONE_KEY,
  type NodePatch,
  type NodeView,
  type Taint,
} from '../plan/node.ts';
import type { Report } from '../report/report.ts';
import type { Watchdog } from '../watchdog.ts';
import { bodyAs, ApiFailure, readOr, writeFailure } from './answers.ts';
import { pathOf, type Answer, type Connection } from './connection.ts';
import { ListWatch, type ApiObject, type Listed } from './list-watch.ts';
import { parseSelector, type Selector } from './selector.ts';

type RawNode = {
  metadata?: {
    name?: string;
    uid?: string;
    resourceVersion?: string;
    labels?: Readonly<Record<string, string>>;
    annotations?: Readonly<Record<string, string>>;
    deletionTimestamp?: string;
  };
  spec?: { providerID?: string; unschedulable?: boolean; taints?: readonly Taint[] };
  status?: {
    conditions?: readonly { type: string; status: string; lastTransitionTime?: string }[];
    nodeInfo?: { systemUUID?: string; bootID?: string };
  };
};

const NO_TAINTS: readonly Taint[] = [];

/** Which facts of a Node are kept beside the fields that are used. */
export type KeptFacts = 'none' | 'machine' | 'machine and labels';

/**
 * The node's fields that are used; undefined for anything that is not a Node as the API server gives
 * it. `reservationLabel` is what CAPACITY_RESERVATION_LABEL names.
 */
export function projectNode(
  raw: RawNode,
  selector: Selector,
  reservationLabel: string,
  kept: KeptFacts = 'none',
): NodeView | undefined {
  const { metadata, spec, status } = raw;
  if (
    metadata?.name === undefined ||
    metadata.uid === undefined ||
    metadata.resourceVersion === undefined
  ) {
    return undefined;
  }
  const ready = status?.conditions?.find(
    ({ type, status: is }) => type === 'Ready' && is === 'True',
  );
  const readySince = Date.parse(ready?.lastTransitionTime ?? '');
  const labels = metadata.labels ?? {};
  const annotations = metadata.annotations ?? {};
  return {
    name: metadata.name,
    uid: metadata.uid,
    resourceVersion: metadata.resourceVersion,
    instanceId: instanceIdOf(spec?.providerID),
    manager: managerOf(labels),
    capacityReservationId: labels[reservationLabel],
    zone: labels[ZONE_KEY],
    systemUUID: status?.nodeInfo?.systemUUID ?? '',
    bootId: status?.nodeInfo?.bootID ?? '',
    bootSeenAt: undefined,
    ready: ready !== undefined,
    readySince: Number.isNaN(readySince) ? undefined : readySince,
    unschedulable: spec?.unschedulable === true,
    taints: spec?.taints?.map(projectTaint) ?? NO_TAINTS,
    selected: selector(labels),
    interruptionLabel: labels[INTERRUPTION_KEY],
    excludeFromLoadBalancers: labels[LOAD_BALANCER_KEY],
    journal: beginningOf(annotations[JOURNAL_KEY]),
    held: annotations[HOLD_KEY] !== undefined,
    deleting: metadata.deletionTimestamp !== undefined,
    ...(kept !== 'none' && {
      facts: {
        providerId: spec?.providerID,
        instanceType: labels[INSTANCE_TYPE_KEY],
        zone: labels[ZONE_KEY],
        labels: kept === 'machine and labels' ? firstOf(labels) : NO_LABELS,
      },
    }),
  };
}

const NO_LABELS: Readonly<Record<string, string>> = {};
/** Anybody may have written any number of them, and the index holds all Nodes'. */
const MOST_LABELS_KEPT = 200;

function firstOf(labels: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(labels).slice(0, MOST_LABELS_KEPT));
}

/** A copy, for a part of a text keeps the whole of it. */
function beginningOf(text: string | undefined): string | undefined {
  if (text === undefined || text.length <= LONGEST_JOURNAL_KEPT) return text;
  return Buffer.from(text.slice(0, LONGEST_JOURNAL_KEPT)).toString();
}

function managerOf(labels: Readonly<Record<string, string>>): NodeView['manager'] {
  if (labels[MANAGER_KEYS.karpenter] !== undefined) return 'karpenter';
  return labels[MANAGER_KEYS.eks] === undefined ? undefined : 'eks';
}

/** `aws:///ZONE/i-…`; Fargate (`…/UUID/fargate-…`) and hybrid nodes have no instance. */
function instanceIdOf(providerId: string | undefined): string | undefined {
  return /^aws:\/\/.*\/(i-[0-9a-f]+)$/.exec(providerId ?? '')?.[1];
}

function projectTaint({ key, value, effect, timeAdded }: Taint): Taint {
  return {
    key,
    effect,
    ...(value !== undefined && { value }),
    ...(timeAdded !== undefined && { timeAdded }),
  };
}

/**
 * Which of two resource versions is later: positive, negative or 0 as in a comparison; undefined
 * where they are not the decimal numbers that the API promises since 1.35.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
 */
export function compareVersions(left: string, right: string): number | undefined {
  if (left === right) return 0;
  if (!/^[1-9]\d*$/.test(left) || !/^[1-9]\d*$/.test(right)) return undefined;
  if (left.length !== right.length) return left.length - right.length;
  return left < right ? -1 : 1;
}

export interface StartedNodeIndex extends NodeIndex {
  /** Begins to follow; resolves at the first complete list, however long that takes, or when closed. */
  start(): Promise<void>;
  close(): Promise<void>;
}

type NodeIndexOptions = Readonly<{
  connection: Connection;
  /** Label selector; throws at creation if it is none. */
  selector: string;
  /** CAPACITY_RESERVATION_LABEL */
  reservationLabel: string;
  /** None unless given. */
  keptFacts?: KeptFacts;
  clock: Clock;
  watchdog?: Watchdog;
  report: Report;
}>;

export function createNodeIndex(options: NodeIndexOptions): StartedNodeIndex {
  return new WatchedNodeIndex(options);
}

type Listener = Parameters<NodeIndex['subscribe']>[0];

class WatchedNodeIndex implements StartedNodeIndex {
  private readonly byName = new Map<string, NodeView>();
  private readonly byInstanceId = new Map<string, readonly NodeView[]>();
  private readonly listeners = new Set<Listener>();
  private readonly clock: Clock;
  private readonly report: Report;
  private readonly listWatch: ListWatch<NodeView>;
  private readonly closing = new AbortController();
  private readonly filled = Promise.withResolvers<void>();
  private running: Promise<void> | undefined;

  constructor({ selector: text, reservationLabel, keptFacts, ...options }: NodeIndexOptions) {
    this.clock = options.clock;
    this.report = options.report;
    const selector = parseSelector(text);
    this.listWatch = new ListWatch(
      {
        what: 'nodes',
        path: '/api/v1/nodes',
        project: (raw: ApiObject) => projectNode(raw, selector, reservationLabel, keptFacts),
      },
      {
        onList: (listed) => this.takeList(listed),
        onEvent: (type, node) => {
          if (type === 'DELETED') this.remove(node);
          else this.take(node, this.clock.now());
        },
      },
      options,
    );
  }

  start(): Promise<void> {
    this.running ??= this.listWatch.run(this.closing.signal);
    void this.running.then(this.filled.resolve, this.filled.reject);
    return this.filled.promise;
  }

  async close(): Promise<void> {
    this.closing.abort(new Error('node index closed'));
    await this.running;
  }

  get(name: string): NodeView | undefined {
    return this.byName.get(name);
  }

  byInstance(instanceId: string): readonly NodeView[] {
    return this.byInstanceId.get(instanceId) ?? [];
  }

  all(): Iterable<NodeView> {
    return this.byName.values();
  }

  learn(node: NodeView): void {
    const held = this.byName.get(node.name);
    const known = held === undefined ? this.listWatch.watchedVersion() : held.resourceVersion;
    // Not held, and older than what the watch has told: deleted in the meantime.
    if (known === undefined || (compareVersions(node.resourceVersion, known) ?? 0) <= 0) return;
    this.take(node, this.clock.now());
  }

  lastHeardAt(): number {
    return this.listWatch.lastHeardAt();
  }

  refresh(signal: AbortSignal): Promise<void> {
    return this.listWatch.refresh(signal);
  }

  subscribe(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Departures first: an instance that has a new Node must not seem to have two. */
  private takeList({ items, resourceVersion }: Listed<NodeView>): void {
    const listed = new Map(items.map((node) => [node.name, node]));
    for (const held of this.byName.values()) {
      if (listed.has(held.name)) continue;
      // Learned from a write after the list was made.
      if ((compareVersions(held.resourceVersion, resourceVersion) ?? 0) > 0) continue;
      this.remove(held);
    }
    for (const node of items) this.take(node, undefined);
    this.filled.resolve();
  }

  /** `changedAt`: it has just become so; undefined: a list says no more than that it is. */
  private take(node: NodeView, changedAt: number | undefined): void {
    const held = this.byName.get(node.name);
    // A write's answer may have been here before the watch's word of it.
    if (
      held !== undefined &&
      (compareVersions(node.resourceVersion, held.resourceVersion) ?? 1) <= 0
    )
      return;
    if (held !== undefined && held.uid !== node.uid) this.remove(held);
    const before = this.byName.get(node.name);
    const after = withBootSeen(before, node, changedAt);
    this.byName.set(node.name, after);
    if (before?.instanceId !== node.instanceId) this.forgetInstance(before);
    if (node.instanceId !== undefined) {
      const others = this.byInstance(node.instanceId).filter(({ name }) => name !== node.name);
      this.byInstanceId.set(node.instanceId, [...others, after]);
    }
    this.notify(before, after);
  }

  /** Only the same Node object: its name may be in use again already. */
  private remove(node: NodeView): void {
    const held = this.byName.get(node.name);
    if (held?.uid !== node.uid) return;
    this.byName.delete(node.name);
    this.forgetInstance(held);
    this.notify(held, undefined);
  }

  private forgetInstance(node: NodeView | undefined): void {
    if (node?.instanceId === undefined) return;
    const others = this.byInstance(node.instanceId).filter(({ name }) => name !== node.name);
    if (others.length > 0) this.byInstanceId.set(node.instanceId, others);
    else this.byInstanceId.delete(node.instanceId);
  }

  private notify(before: NodeView | undefined, after: NodeView | undefined): void {
    for (const listener of this.listeners) {
      try {
        listener(before, after);
      } catch (error) {
        // The other listeners, and the index itself, are not to suffer for it.
        this.report.error('listener failed', {
          node: (after ?? before)?.name,
          error,
        });
      }
    }
  }
}

const PING_TIMEOUT_MS = 5000;

type NodeStoreOptions = Pick<
  NodeIndexOptions,
  'connection' | 'selector' | 'reservationLabel' | 'keptFacts'
>;

export function createNodeStore({
  connection,
  selector: text,
  reservationLabel,
  keptFacts,
}: NodeStoreOptions): NodeStore {
  const selector = parseSelector(text);

  function viewOf(answer: Answer): NodeView | undefined {
    const raw = answer.kind === 'success' ? bodyAs<RawNode>(answer.body) : undefined;
    return raw && readOr(raw, (node) => projectNode(node, selector, reservationLabel, keptFacts));
  }

  return {
    async write(name, resourceVersion, patch, signal, lane): Promise<WriteAnswer> {
      const answer = await connection.request(
        {
          method: 'PATCH',
          path: pathOf('api', 'v1', 'nodes', name),
          body: bodyOf(resourceVersion, patch),
          contentType: 'application/merge-patch+json',
          lane,
        },
        signal,
      );
      const node = viewOf(answer);
      if (node !== undefined) return { outcome: 'written', node };
      return answer.kind === 'success' ? notANode(name, answer) : writeFailure(answer);
    },

    async read(name, signal) {
      const answer = await connection.request(
        { method: 'GET', path: pathOf('api', 'v1', 'nodes', name), lane: 'mark' },
        signal,
      );
      const node = viewOf(answer);
      if (node !== undefined) return { outcome: 'found', node };
      if (answer.kind === 'success') return notANode(name, answer);
      const failure = writeFailure(answer);
      // A GET has nothing to conflict with.
      return failure.outcome === 'conflict' ? notANode(name, answer) : failure;
    },

    async kubeletRenewed(name, signal) {
      const answer = await connection.request(
        {
          method: 'GET',
          path: pathOf(
            'apis',
            'coordination.k8s.io',
            'v1',
            'namespaces',
            'kube-node-lease',
            'leases',
            name,
          ),
          lane: 'mark',
        },
        signal,
      );
      if (answer.kind === 'failure' && answer.status === 404) return { outcome: 'never' };
      if (answer.kind !== 'success') return { outcome: 'unknown' };
      const lease = bodyAs<{ spec?: { renewTime?: string } | null }>(answer.body);
      const at = readOr(lease, (read) => Date.parse(read?.spec?.renewTime ?? ''));
      return at === undefined || Number.isNaN(at)
        ? { outcome: 'never' }
        : { outcome: 'at', at: Math.floor(at / 1000) * 1000 };
    },

    async ping(signal) {
      // Not behind marks that hang: what it asks is whether they still have to.
      const answer = await connection.request(
        { method: 'GET', path: '/version', lane: 'watch', timeoutMs: PING_TIMEOUT_MS },
        signal,
      );
      return answer.kind === 'success' || answer.kind === 'failure';
    },
  };
}

function notANode(name: string, answer: Answer): Extract<WriteAnswer, { outcome: 'unreachable' }> {
  return { outcome: 'unreachable', message: new ApiFailure(`read node ${name}`, answer).message };
}

function bodyOf(
  resourceVersion: string,
  { labels, annotations, unschedulable, taints }: NodePatch,
) {
  return {
    metadata: { resourceVersion, ...(labels && { labels }), ...(annotations && { annotations }) },
    ...((unschedulable !== undefined || taints) && {
      spec: { ...(unschedulable !== undefined && { unschedulable }), ...(taints && { taints }) },
    }),
  };
}
