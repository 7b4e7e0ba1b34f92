import type { Clock } from '../clock.ts';
import type { PodView } from '../plan/pod.ts';
import {
  leaveReason,
  tierOf,
  UNTRIED,
  type LeaveReason,
  type Progress,
  type Tier,
} from '../plan/pods.ts';
import type { Metrics } from '../report/metrics.ts';
import type { InterruptionOutcome, PodCounts } from '../report/outcome.ts';
import type { Report } from '../report/report.ts';
import type { Departures } from './departures.ts';
import type { Pods } from './pods.ts';

/** A pod that is to leave, and how far that has come. */
export type Task = {
  pod: PodView;
  readonly tier: Tier;
  /** `queued`: waits for its turn; `asked`: the API server is being asked about it. */
  state: 'standing' | 'queued' | 'asked' | 'terminating' | 'gone' | 'reported';
  /** Of its latest place in the queue: an earlier one is void. */
  ticket: number;
  /** The moment when it was told to be gone. */
  goneMoment: number;
  progress: Progress;
  readonly addedAt: number;
  /** From then on nothing is sent for so long. */
  heldBackMs: number;
  refusals: number;
  way: Way;
  /** How it has left if it is gone before an answer says so. */
  wayIfGone: Way;
  /** Last answer that held it up, for people. */
  waitsFor: string | undefined;
  /** Whether that was a budget's. */
  waitsForBudget: boolean;
};

/** How a pod left. */
type Way = 'by itself' | 'evicted' | 'deleted past its budget';

export type Claim = Readonly<{ namespace: string; claim: string }>;

const MAX_CLAIMS_KEPT = 1000;
/** Of those that left, and of those that stayed: as many as a node has by default (110), and more. */
const MAX_PODS_NAMED = 250;
/** Of pods that come to a node that is drained. */
const MAX_LATE_CONTROLLERS = 1000;
/** Pods bound just before the taint are found by a list this long after the mark. */
const SECOND_LIST_MS = 3000;
const LIST_RETRY_MS = 1000;
/** Before the eviction of a pod that takes the place of evicted ones again and again. */
const FIRST_COMEBACK_MS = 1000;
const MAX_COMEBACK_MS = 300_000;
/** A watch that lost its place took it for departed: it is let be for so long. */
const MISTAKEN_MS = 1000;
/** The kubelet's own time to remove a pod whose grace has ended. */
const OVERDUE_MS = 10_000;

/** What is kept of pods that left long since. */
class Departed {
  readonly ways: Record<Way, number> = {
    'by itself': 0,
    evicted: 0,
    'deleted past its budget': 0,
  };
  /** The latest: those before had their time to be detached. */
  claims: readonly Claim[] = [];
  readonly names: string[] = [];

  add(pod: PodView, way: Way): void {
    this.ways[way] += 1;
    if (this.names.length < MAX_PODS_NAMED) this.names.push(nameOf(pod));
    if (pod.claims.length === 0) return;
    this.claims = [...this.claims, ...claimsOf(pod)].slice(-MAX_CLAIMS_KEPT);
  }
}

function claimsOf({ namespace, claims }: PodView): readonly Claim[] {
  return claims.map((claim) => ({ namespace, claim }));
}

function nameOf({ namespace, name }: PodView): string {
  return `${namespace}/${name}`;
}

type DrainPodsPorts = Readonly<{
  pods: Pick<Pods, 'onNode'>;
  departures: Departures;
  clock: Clock;
  metrics: Metrics;
  report: Report;
}>;

/**
 * The pods of one node that are to leave: found by lists, struck out by the watch and by lists that
 * do not show them any more.
 */
export class DrainPods {
  /** When a pod last left (epoch ms). */
  lastDepartureAt = -Infinity;
  /** Of the pods of the latest list and since. */
  private readonly tasks = new Map<string, Task>();
  private readonly departed = new Departed();
  private readonly left = new Map<LeaveReason, number>();
  private readonly lateControllers = new Set<string>();
  /** By owner, or name: in how many lists after the first there were new pods of it, and which was the last. */
  private readonly comebacks = new Map<string, { times: number; moment: number }>();
  private endUse: (() => void) | undefined;
  private listedAt = -Infinity;
  private listRetryAt = -Infinity;
  /** Counts departures and beginnings of lists, whose order a clock of milliseconds does not tell. */
  private moment = 0;
  private listedMoment = -1;
  private departedMoment = -1;
  private ordinaryDepartedMoment = -1;
  private lists = 0;
  private readonly nodeName: string;
  private readonly ports: DrainPodsPorts;
  private readonly self: Readonly<{ namespace: string; name: string }> | undefined;
  private readonly onNews: () => void;

  /** `self`: this process's own pod; `onNews`: the watch has told something of one of them. */
  constructor(
    nodeName: string,
    ports: DrainPodsPorts,
    self: Readonly<{ namespace: string; name: string }> | undefined,
    onNews: () => void,
  ) {
    this.nodeName = nodeName;
    this.ports = ports;
    this.self = self;
    this.onNews = onNews;
  }

  /** Otherwise nothing is known of them. */
  get isListed(): boolean {
    return this.lists > 0;
  }

  close(): void {
    for (const uid of this.tasks.keys()) this.ports.departures.unregister(uid);
    this.endUse?.();
  }

  /** Still on their way, or not yet told to go. */
  standing(): Task[] {
    return [...this.tasks.values()].filter(({ state }) => state !== 'gone' && state !== 'reported');
  }

  queued(): Task[] {
    return [...this.tasks.values()].filter(({ state }) => state === 'queued');
  }

  /** How many of the latest list are left where they are, for this reason. */
  leftAlone(reason: LeaveReason): number {
    return this.left.get(reason) ?? 0;
  }

  /** Of the pods that left. */
  claims(): readonly Claim[] {
    return [...this.tasks.values()]
      .flatMap(({ pod, state }) => (state === 'gone' ? claimsOf(pod) : []))
      .concat(this.departed.claims);
  }

  counts(): PodCounts {
    const ways = { ...this.departed.ways };
    for (const { state, way } of this.tasks.values()) if (state === 'gone') ways[way] += 1;
    return {
      evicted: ways.evicted,
      deletedPastBudget: ways['deleted past its budget'],
      leftByThemselves: ways['by itself'],
      stayed: this.standing().length,
    };
  }

  /** Of those that left, and of those that stayed. */
  names(): InterruptionOutcome['podNames'] {
    const gone = [...this.tasks.values()].filter(({ state }) => state === 'gone');
    const named = (tasks: readonly Task[]): string[] =>
      tasks.slice(0, MAX_PODS_NAMED).map(({ pod }) => nameOf(pod));
    return {
      left: [...this.departed.names, ...named(gone)].slice(0, MAX_PODS_NAMED),
      stayed: named(this.standing()),
    };
  }

  /** None is left, and a list after the last departure and well after the mark (epoch ms) says so. */
  isEmpty(markedAt: number): boolean {
    return (
      this.standing().length === 0 &&
      this.listedMoment >= this.departedMoment &&
      this.listedAt >= markedAt + SECOND_LIST_MS
    );
  }

  /** The last tier whose turn it is: pods of it hold up those that follow, unless they cannot end. */
  turn(): number {
    const now = this.ports.clock.now();
    return Math.min(
      ...this.standing().map(({ tier, pod: { deletion } }) =>
        deletion !== undefined && now >= deletion.endsAt + OVERDUE_MS ? Infinity : tier,
      ),
    );
  }

  /**
   * At the start, 3 s after the mark, when the ordinary pods are gone, and at the end; and where a pod
   * should have gone long since, for the watch may have missed it. Epoch ms, as `markedAt`.
   */
  nextListAt(markedAt: number): number {
    if (this.lists === 0) return this.listRetryAt;
    const standing = this.standing();
    const gone = standing.length === 0 ? this.departedMoment : this.ordinaryDepartedMoment;
    const ordinaryAreGone = standing.every(({ tier }) => tier > 0);
    if (ordinaryAreGone && this.listedMoment < gone) return this.listRetryAt;
    const secondAt = markedAt + SECOND_LIST_MS;
    const overdueAt = standing
      .map(({ pod: { deletion } }) =>
        deletion === undefined ? Infinity : deletion.endsAt + OVERDUE_MS,
      )
      .filter((at) => at > this.listedAt)
      .map((at) => Math.max(at, this.listedAt + OVERDUE_MS));
    const nextAt = Math.min(this.listedAt < secondAt ? secondAt : Infinity, ...overdueAt);
    return Math.max(nextAt, this.listRetryAt);
  }

  /** `first`: of the first list, what there is to do is known now. Rejects if it cannot be had; it is due again then. */
  async list(signal: AbortSignal): Promise<Readonly<{ first: boolean }>> {
    const { clock, pods, departures } = this.ports;
    const startedAt = clock.now();
    const moment = this.nextMoment();
    try {
      const { pods: found, resourceVersion } = await pods.onNode(this.nodeName, signal);
      this.endUse ??= departures.use(resourceVersion);
      this.merge(found, moment);
      this.listedAt = startedAt;
      this.listedMoment = moment;
      this.lists += 1;
      return { first: this.lists === 1 };
    } catch (error) {
      this.listRetryAt = clock.now() + LIST_RETRY_MS;
      throw error;
    }
  }

  depart(task: Task): void {
    if (task.state === 'gone') return;
    const moment = this.nextMoment();
    this.strikeOut(task, moment);
    this.departedMoment = moment;
    if (task.tier === 0) this.ordinaryDepartedMoment = moment;
  }

  private nextMoment(): number {
    this.moment += 1;
    return this.moment;
  }

  private merge(found: readonly PodView[], moment: number): void {
    this.left.clear();
    const present = new Set<string>();
    for (const pod of found) {
      const reason = leaveReason(pod);
      if (reason !== undefined) {
        this.left.set(reason, (this.left.get(reason) ?? 0) + 1);
        continue;
      }
      present.add(pod.uid);
      const task = this.tasks.get(pod.uid);
      if (task === undefined) this.add(pod, moment);
      // Told gone since the list was asked for, which may be older than that.
      else if (task.state !== 'gone' || task.goneMoment < moment) this.renew(task, pod);
    }
    // What this very list found gone needs no other list.
    for (const task of this.tasks.values()) {
      if (present.has(task.pod.uid)) continue;
      if (task.state !== 'gone') this.strikeOut(task, moment);
      else if (task.goneMoment < moment) this.forget(task);
    }
  }

  private renew(task: Task, pod: PodView): void {
    // A deletion is never taken back: the list may be older than its beginning.
    task.pod = { ...pod, deletion: pod.deletion ?? task.pod.deletion };
    // A watch that lost its place may have taken it for departed.
    if (task.state === 'gone') {
      task.state = 'standing';
      task.progress = { ...task.progress, notBefore: this.ports.clock.now() + MISTAKEN_MS };
      this.listen(task);
    }
    if (task.pod.deletion !== undefined && task.state === 'standing') task.state = 'terminating';
  }

  private add(pod: PodView, moment: number): void {
    const task: Task = {
      pod,
      tier: tierOf(pod, this.self),
      state: pod.deletion === undefined ? 'standing' : 'terminating',
      ticket: 0,
      goneMoment: -1,
      progress: UNTRIED,
      addedAt: this.ports.clock.now(),
      heldBackMs: 0,
      refusals: 0,
      way: 'by itself',
      wayIfGone: 'by itself',
      waitsFor: undefined,
      waitsForBudget: false,
    };
    this.tasks.set(pod.uid, task);
    if (this.lists > 0 && pod.toleratesInterruption && this.isKnownLatecomer(pod)) {
      task.state = 'reported';
      this.ports.report.warn('pod comes back to the node', this.factsOf(pod));
      return;
    }
    if (this.lists > 0) task.heldBackMs = this.comebackMs(pod, moment);
    this.listen(task);
  }

  /** A pod that tolerates our taint comes back as often as it is evicted: once per controller is enough. */
  private isKnownLatecomer(pod: PodView): boolean {
    const controller = pod.owner?.uid ?? pod.uid;
    if (this.lateControllers.has(controller)) return true;
    const [oldest] = this.lateControllers;
    if (oldest !== undefined && this.lateControllers.size >= MAX_LATE_CONTROLLERS)
      this.lateControllers.delete(oldest);
    this.lateControllers.add(controller);
    return false;
  }

  /**
   * How long a pod that came after the first list is let be. Bound by name, pods come whatever the
   * taint, each as soon as the one before has gone: they are evicted ever more slowly.
   */
  private comebackMs(pod: PodView, moment: number): number {
    const { owner, namespace, name } = pod;
    const key = owner?.uid ?? `${namespace}/${name}`;
    const known = this.comebacks.get(key);
    const times = (known?.times ?? 0) + (known?.moment === moment ? 0 : 1);
    this.comebacks.delete(key);
    this.comebacks.set(key, { times, moment });
    const [oldest] = this.comebacks.keys();
    if (oldest !== undefined && this.comebacks.size > MAX_LATE_CONTROLLERS)
      this.comebacks.delete(oldest);
    if (times < 2) return 0;
    if (times === 2 && known?.moment !== moment) {
      const facts = { ...this.factsOf(pod), owner: owner?.name };
      this.ports.report.warn('pods keep coming to the node', facts);
    }
    return Math.min(FIRST_COMEBACK_MS * 2 ** (times - 2), MAX_COMEBACK_MS);
  }

  private listen(task: Task): void {
    this.ports.departures.register(task.pod.uid, {
      onTerminating: (deletion) => {
        task.pod = { ...task.pod, deletion };
        if (task.state === 'standing') task.state = 'terminating';
        this.onNews();
      },
      onDeparted: () => {
        this.depart(task);
        this.onNews();
      },
    });
  }

  private strikeOut(task: Task, moment: number): void {
    task.state = 'gone';
    if (task.way === 'by itself') task.way = task.wayIfGone;
    this.ports.metrics.count('pods_total', { way: task.way });
    this.lastDepartureAt = this.ports.clock.now();
    task.goneMoment = moment;
    this.ports.departures.unregister(task.pod.uid);
  }

  /** No list will show it again. A drain may last for weeks, in which pods come and go. */
  private forget({ pod, way }: Task): void {
    this.tasks.delete(pod.uid);
    this.departed.add(pod, way);
  }

  private factsOf({ namespace, name }: PodView): Record<string, unknown> {
    return { node: this.nodeName, namespace, pod: name };
  }
}
