import type { Clock } from './clock.ts';
import type { Ports } from './controller.ts';
import type { EvictionAnswer, PodKey, Pods } from './drain/pods.ts';
import type { NodeIndex, NodeStore } from './intake/node-store.ts';
import type { Queue } from './intake/queue.ts';
import type { NodePatch, NodeView, Taint } from './plan/node.ts';
import { INTERRUPTION_KEY, JOURNAL_KEY, LOAD_BALANCER_KEY } from './plan/node.ts';
import { worded } from './report/object-events.ts';
import { outcomeEvent } from './report/outcome.ts';
import type { Report } from './report/report.ts';

/**
 * DRY_RUN: the same flow, of which nothing reaches the outside but questions. What would be written
 * is remembered in its place, so that all that follows from it is planned, and told, as well.
 */
export function withoutEffect(ports: Ports): Ports {
  const report = marked(ports.report);
  const nodes = new ImaginedNodes(ports.nodes, ports.store, report);
  return {
    queue: readOnlyQueue(ports.queue, ports.clock),
    nodes,
    departed: ports.departed,
    store: nodes,
    pods: imaginedPods(ports.pods, report),
    // Those of pods that are only imagined gone would never be detached.
    volumes: { attachedTo: () => Promise.resolve([]), volumeOf: () => Promise.resolve(undefined) },
    hooks: {
      describe: ports.hooks.describe.bind(ports.hooks),
      complete(action) {
        report.info('would complete a lifecycle hook', { ...action });
        return Promise.resolve({ outcome: 'accepted' });
      },
      heartbeat(action) {
        report.info('would keep a lifecycle hook alive', { ...action });
        return Promise.resolve({ outcome: 'accepted' });
      },
      replace(instanceId) {
        report.info('would replace an instance', { instance: instanceId });
        return Promise.resolve({ outcome: 'accepted' });
      },
    },
    outcomes: {
      // What would be recorded is told already.
      received: () => undefined,
      tell: (outcome) => report.info('would send an outcome', { ...outcomeEvent(outcome) }),
    },
    objectEvents: worded((event) => report.debug('would write a Kubernetes event', event)),
    clock: ports.clock,
    metrics: ports.metrics,
    watchdog: ports.watchdog,
    report,
  };
}

/** Every line says that nothing of it is done. */
function marked(report: Report): Report {
  const dryRun = true;
  return {
    debug: (message, facts) => report.debug(message, { ...facts, dryRun }),
    info: (message, facts) => report.info(message, { ...facts, dryRun }),
    warn: (message, facts) => report.warn(message, { ...facts, dryRun }),
    error: (message, facts) => report.error(message, { ...facts, dryRun }),
  };
}

/** The oldest are forgotten, and judged anew when they are received again. */
const MAX_REMEMBERED = 50_000;

/**
 * Only receives. A message that would be deleted or hidden stays as it is and is received again and
 * again: it is passed over until the moment at which it would be back.
 */
function readOnlyQueue(queue: Queue, clock: Clock): Queue {
  const backAt = new Map<string, number>();
  const hide = (id: string, untilAt: number): void => {
    backAt.delete(id);
    backAt.set(id, untilAt);
    const [oldest] = backAt.keys();
    if (backAt.size > MAX_REMEMBERED && oldest !== undefined) backAt.delete(oldest);
  };
  return {
    async receive(request, signal) {
      const messages = await queue.receive(request, signal);
      const now = clock.now();
      const back = messages.filter(({ id }) => (backAt.get(id) ?? -Infinity) <= now);
      for (const { id } of back) hide(id, now + request.visibilitySeconds * 1000);
      return back;
    },
    delete({ id }) {
      hide(id, Infinity);
      return Promise.resolve(true);
    },
    setVisibility({ id }, seconds) {
      hide(id, clock.now() + seconds * 1000);
      return Promise.resolve(true);
    },
    maxReceiveCount: queue.maxReceiveCount.bind(queue),
  };
}

/** What a Node would be changed by. */
type Imagined = Readonly<{
  uid: string;
  added: readonly Taint[];
  removed: readonly Taint[];
  fields: Partial<
    Pick<NodeView, 'interruptionLabel' | 'excludeFromLoadBalancers' | 'journal' | 'unschedulable'>
  >;
}>;

/** The Nodes as they would be: those that there are, and what was not written on them. */
class ImaginedNodes implements NodeIndex, NodeStore {
  /** By name; of Nodes that there are. */
  private readonly imagined = new Map<string, Imagined>();
  private readonly nodes: NodeIndex;
  private readonly store: NodeStore;
  private readonly report: Report;

  constructor(nodes: NodeIndex, store: NodeStore, report: Report) {
    this.nodes = nodes;
    this.store = store;
    this.report = report;
  }

  get(name: string): NodeView | undefined {
    const node = this.nodes.get(name);
    return node && this.viewOf(node);
  }

  byInstance(instanceId: string): readonly NodeView[] {
    return this.nodes.byInstance(instanceId).map((node) => this.viewOf(node));
  }

  all(): Iterable<NodeView> {
    return [...this.nodes.all()].map((node) => this.viewOf(node));
  }

  /** What is learned was only imagined. */
  learn(): void {
    return undefined;
  }

  lastHeardAt(): number {
    return this.nodes.lastHeardAt();
  }

  refresh(signal: AbortSignal): Promise<void> {
    return this.nodes.refresh(signal);
  }

  subscribe(listener: Parameters<NodeIndex['subscribe']>[0]): () => void {
    return this.nodes.subscribe((before, after) => {
      const was = before && this.viewOf(before);
      if (before !== undefined && before.uid !== after?.uid) this.imagined.delete(before.name);
      listener(was, after && this.viewOf(after));
    });
  }

  write(name: string, _resourceVersion: string, patch: NodePatch): ReturnType<NodeStore['write']> {
    const node = this.nodes.get(name);
    if (node === undefined) return Promise.resolve({ outcome: 'gone' });
    const before = this.imagined.get(name);
    const taints = patch.taints ?? this.viewOf(node).taints;
    this.imagined.set(name, {
      uid: node.uid,
      added: taints.filter((taint) => !hasTaint(node.taints, taint)),
      removed: node.taints.filter((taint) => !hasTaint(taints, taint)),
      fields: { ...(before?.uid === node.uid && before.fields), ...fieldsOf(patch) },
    });
    this.report.info('would change a node', { node: name, patch });
    return Promise.resolve({ outcome: 'written', node: this.viewOf(node) });
  }

  async read(name: string, signal: AbortSignal): ReturnType<NodeStore['read']> {
    const answer = await this.store.read(name, signal);
    return answer.outcome === 'found' ? { ...answer, node: this.viewOf(answer.node) } : answer;
  }

  kubeletRenewed(name: string, signal: AbortSignal): ReturnType<NodeStore['kubeletRenewed']> {
    return this.store.kubeletRenewed(name, signal);
  }

  ping(signal: AbortSignal): Promise<boolean> {
    return this.store.ping(signal);
  }

  private viewOf(node: NodeView): NodeView {
    const imagined = this.imagined.get(node.name);
    if (imagined?.uid !== node.uid) return node;
    const { added, removed, fields } = imagined;
    const kept = node.taints.filter((taint) => !hasTaint(removed, taint));
    const taints = [...kept, ...added.filter((taint) => !hasTaint(kept, taint))];
    return { ...node, ...fields, taints };
  }
}

function hasTaint(taints: readonly Taint[], { key, value, effect }: Taint): boolean {
  return taints.some((one) => one.key === key && one.value === value && one.effect === effect);
}

/** Undefined values are wanted: that is how a label or annotation is taken away. */
function fieldsOf({ labels = {}, annotations = {}, unschedulable }: NodePatch): Imagined['fields'] {
  return {
    ...(INTERRUPTION_KEY in labels && { interruptionLabel: labels[INTERRUPTION_KEY] ?? undefined }),
    ...(LOAD_BALANCER_KEY in labels && {
      excludeFromLoadBalancers: labels[LOAD_BALANCER_KEY] ?? undefined,
    }),
    ...(JOURNAL_KEY in annotations && { journal: annotations[JOURNAL_KEY] ?? undefined }),
    ...(unschedulable !== undefined && { unschedulable }),
  };
}

/** Beyond, the oldest is there again, and would be evicted once more. */
const MAX_GONE = 200_000;

/** Pods that would be evicted are gone from then on, as far as the drains are told. */
function imaginedPods(pods: Pods, report: Report): Pods {
  const gone = new Set<string>();
  const go = ({ uid }: PodKey): Promise<EvictionAnswer> => {
    gone.add(uid);
    const [oldest] = gone;
    if (gone.size > MAX_GONE && oldest !== undefined) gone.delete(oldest);
    return Promise.resolve({ outcome: 'gone' });
  };
  return {
    async onNode(nodeName, signal) {
      const listed = await pods.onNode(nodeName, signal);
      return { ...listed, pods: listed.pods.filter(({ uid }) => !gone.has(uid)) };
    },
    async read(namespace, name, signal) {
      const pod = await pods.read(namespace, name, signal);
      return pod !== undefined && gone.has(pod.uid) ? undefined : pod;
    },
    evict(pod, graceSeconds) {
      report.info('would evict a pod', { namespace: pod.namespace, pod: pod.name, graceSeconds });
      return go(pod);
    },
    delete(pod, graceSeconds) {
      report.info('would delete a pod', { namespace: pod.namespace, pod: pod.name, graceSeconds });
      return go(pod);
    },
    watch: pods.watch.bind(pods),
  };
}
