import { pause, type Clock, type Timer } from '../clock.ts';
import { forceAt, hooksDueAt, latestSafeStart, planOf, type Plan } from '../plan/deadline.ts';
import type { Journal } from '../plan/journal.ts';
import type { Change } from '../plan/merge.ts';
import { HOLD_KEY, type NodeView } from '../plan/node.ts';
import { TURN_MS } from '../plan/pace.ts';
import type { PodView } from '../plan/pod.ts';
import {
  leaveReason,
  nextStep,
  ownGraceSeconds,
  tierOf,
  UNTRIED,
  type LeaveReason,
  type Progress,
  type Step,
  type Tier,
} from '../plan/pods.ts';
import { callsForReplacement, type Policy } from '../plan/policy.ts';
import type { InterruptionKind } from '../plan/rows.ts';
import type { Metrics } from '../report/metrics.ts';
import type { ObjectEvents } from '../report/object-events.ts';
import type { InterruptionOutcome, Outcomes, PodCounts } from '../report/outcome.ts';
import type { Report } from '../report/report.ts';
import type { WatchedStep, Watchdog } from '../watchdog.ts';
import type { Departures } from './departures.ts';
import { LONGEST_RETRY_AFTER_MS, type EvictionQueue, type JobResult } from './eviction-queue.ts';
import type { HookAdvice } from './hook-advice.ts';
import { HookKeeper } from './hook-keeper.ts';
import type { Journals } from './journals.ts';
import type { LifecycleHooks } from './lifecycle-hooks.ts';
import type { Denied, EvictionAnswer, Pods, Volumes } from './pods.ts';

export type DrainPolicy = Policy &
  Readonly<{
    /** WAIT_FOR_VOLUMES */
    waitForVolumes: boolean;
    /** LOAD_BALANCER_DRAIN_SECONDS */
    loadBalancerDrainSeconds: number;
    /** This process's own pod, which leaves last; undefined outside of a cluster. */
    self: Readonly<{ namespace: string; name: string }> | undefined;
  }>;

export type DrainPorts = Readonly<{
  pods: Pods;
  volumes: Volumes;
  hooks: LifecycleHooks;
  outcomes: Outcomes;
  objectEvents: ObjectEvents;
  journals: Journals;
  nodeOf: (nodeName: string) => NodeView | undefined;
  /** When the node's kubelet last renewed its Lease, if the node is Ready; `unknown`: no answer came. */
  lifeSign: (nodeName: string, signal: AbortSignal) => Promise<number | 'unknown' | undefined>;
  /** Resolves when no mark waits to be written, or after a bounded time: marks go before evictions. */
  marksFirst: (signal: AbortSignal) => Promise<void>;
  advice: HookAdvice;
  queue: EvictionQueue;
  departures: Departures;
  clock: Clock;
  metrics: Metrics;
  watchdog: Watchdog;
  report: Report;
}>;

/** `stopped`: by us; what is left to do stands in the journal. */
export type DrainEnd = 'settled' | 'node gone' | 'stopped';

type Task = {
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
  /** Last answer that held it up, for people. */
  waitsFor: string | undefined;
  /** Whether that was a budget's. */
  waitsForBudget: boolean;
};

/** How a pod left. */
type Way = 'by itself' | 'evicted' | 'deleted past its budget';

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

type Claim = Readonly<{ namespace: string; claim: string }>;

function claimsOf({ namespace, claims }: PodView): readonly Claim[] {
  return claims.map((claim) => ({ namespace, claim }));
}

function nameOf({ namespace, name }: PodView): string {
  return `${namespace}/${name}`;
}

const MAX_CLAIMS_KEPT = 1000;
/** Of those that left, and of those that stayed: as many as a node has by default (110), and more. */
const MAX_PODS_NAMED = 250;
/** Of pods that come to a node that is drained. */
const MAX_LATE_CONTROLLERS = 1000;
/** Pods bound just before the taint are found by a list this long after the mark. */
const SECOND_LIST_MS = 3000;
const LIST_RETRY_MS = 1000;
const MIN_BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 10_000;
/** Before the eviction of a pod that takes the place of evicted ones again and again. */
const MAX_COMEBACK_MS = 300_000;
const CONFLICT_RETRY_MS = 250;
/** The API server itself gives up on a contended budget after about 10 s. */
const EVICTION_TIMEOUT_MS = 15_000;
const URGENT_TIMEOUT_MS = 3000;
const DELETE_TIMEOUT_MS = 10_000;
const VOLUME_POLL_MS = 2000;
/** How long a denial may be a restarting API server's before it counts as final. */
const VOLUMES_DENIED_MS = 10_000;
/** Without a deadline: the control plane itself force-detaches after 6 minutes. */
const VOLUMES_WITHOUT_DEADLINE_MS = 360_000;
const LIFE_CHECK_FIRST_MS = 61_000;
const LIFE_CHECK_EVERY_MS = 15_000;
const LIFE_UNKNOWN_RETRY_MS = 3000;
/** So long nothing is sent past a deadline while nobody can say whether the machine has outlived it. */
const LIFE_UNKNOWN_MS = 30_000;
const FIRST_WAIT_REPORT_MS = 10_000;
const MAX_WAIT_REPORT_MS = 30 * 60_000;
const REPLACE_RETRY_MS = 1000;
const MAX_REPLACE_RETRY_MS = 300_000;
/** How long a denial may be that of a permission just given, which AWS takes a while to spread. */
const REPLACE_DENIED_MS = 60_000;
const REPLACE_PERMISSION = 'autoscaling:TerminateInstanceInAutoScalingGroup';
/** The kubelet's own time to remove a pod whose grace has ended. */
const OVERDUE_MS = 10_000;
const MAX_PODS_TOLD = 20;

/**
 * One node's drain: empties it, then settles.
 *
 * Lives from the first record that calls for draining until everything recorded is dealt with and
 * the journal says so, the Node is gone, or the process stops. News of the journal may only change
 * its plan, never start a second one.
 */
export class NodeDrain {
  /** Of the pods of the latest list and since. */
  private readonly tasks = new Map<string, Task>();
  private readonly departed = new Departed();
  private readonly left = new Map<LeaveReason, number>();
  private readonly lateControllers = new Set<string>();
  /** By owner, or name: in how many lists after the first there were new pods of it, and which was the last. */
  private readonly comebacks = new Map<string, { times: number; moment: number }>();
  private readonly stopping = new AbortController();
  private readonly keeper: HookKeeper;
  private readonly startedAt: number;
  private journal: Journal;
  private plan: Plan | undefined;
  private lifeSignAt: number | undefined;
  private lifeCheckAt: number | undefined;
  private lifeUnknownSince: number | undefined;
  private endUse: (() => void) | undefined;
  private listedAt = -Infinity;
  private listRetryAt = -Infinity;
  /** Counts departures and beginnings of lists, whose order a clock of milliseconds does not tell. */
  private moment = 0;
  private listedMoment = -1;
  private departedMoment = -1;
  private ordinaryDepartedMoment = -1;
  private lists = 0;
  private lateTold = false;
  private heldTold = false;
  private waitToldMs = FIRST_WAIT_REPORT_MS;
  private waitTellAt: number;
  /** When a pod last left, or was told to. */
  private progressAt: number;
  private nodeIsGone = false;
  private replacementEnded = false;
  private readonly mark: WatchedStep;
  private wakeUp: () => void = () => undefined;
  private awake = false;
  private readonly nodeName: string;
  private readonly ports: DrainPorts;
  private readonly policy: DrainPolicy;

  constructor(nodeName: string, journal: Journal, ports: DrainPorts, policy: DrainPolicy) {
    this.nodeName = nodeName;
    this.ports = ports;
    this.policy = policy;
    this.journal = journal;
    this.startedAt = ports.clock.now();
    this.progressAt = this.startedAt;
    this.waitTellAt = this.startedAt + FIRST_WAIT_REPORT_MS;
    this.mark = ports.watchdog.begin('drain', `node ${nodeName}`);
    this.keeper = new HookKeeper(nodeName, ports, policy, this.stopping.signal);
    this.replan();
  }

  get instanceId(): string {
    return this.journal.machine.instanceId;
  }

  private get node(): NodeView | undefined {
    return this.ports.nodeOf(this.nodeName);
  }

  /** The journal has changed: the plan follows, the drain goes on. */
  update(journal: Journal): void {
    // Of whatever has come in the Node's place: the hooks of the one that is gone stay what they are.
    if (this.nodeIsGone) return;
    const deadlineAt = this.plan?.deadlineAt;
    this.journal = journal;
    this.replan();
    if (this.plan?.deadlineAt !== deadlineAt) this.leaveQueue();
    this.wake();
  }

  /** The Node is no more: nothing is left to drain, and its hooks wait for nothing. */
  nodeGone(): void {
    this.nodeIsGone = true;
    this.wake();
  }

  /** Something about the Node changed (the brake, say). */
  wake(): void {
    this.awake = true;
    this.wakeUp();
  }

  stop(): void {
    this.stopping.abort();
    this.wake();
  }

  /** The whole drain, step by step. Rejects only by a fault. */
  async run(): Promise<DrainEnd> {
    const { signal } = this.stopping;
    try {
      for (;;) {
        this.mark.move();
        await this.ports.marksFirst(signal);
        const action = this.plan?.action;
        if (action === 'drain') await this.empty();
        this.mark.move();
        await this.detachVolumes();
        await this.drainLoadBalancers();
        // Each of its requests has a mark of its own.
        this.mark.move(Infinity);
        await this.keeper.completeAll(
          () => this.journal,
          // Of a Node that is gone nobody would ask again.
          () => (this.nodeIsGone ? Infinity : this.windowEnd()),
          () => this.nodeIsGone || this.isOverForPods() || this.plan?.action === action,
        );
        this.mark.move();
        if (signal.aborted) return 'stopped';
        // What calls for more, or for less, came meanwhile.
        if (this.plan?.action !== action && !this.hasEnded()) continue;
        if (await this.settle()) return this.nodeIsGone ? 'node gone' : 'settled';
      }
    } catch (error) {
      if (signal.aborted) return 'stopped';
      throw error;
    } finally {
      this.mark.end();
      this.keeper.stop();
      for (const uid of this.tasks.keys()) this.ports.departures.unregister(uid);
      this.endUse?.();
    }
  }

  private hasEnded(): boolean {
    return this.stopping.signal.aborted || this.nodeIsGone || this.isOverForPods();
  }

  /** Its machine is off, or is back: what is left are the hooks. */
  private isOverForPods(): boolean {
    return this.machineIsOff() || this.journal.state === 'settled';
  }

  /** Its pods are dead already: nothing is evicted or waited for, and its hooks are completed. */
  private machineIsOff(): boolean {
    return this.journal.state === 'stopped';
  }

  private replan(): void {
    const before = this.plan?.deadlineAt;
    this.plan = planOf(this.journal, this.policy, this.lifeSignAt) ?? this.plan;
    this.keeper.follow(this.journal, this.plan);
    const deadlineAt = this.plan?.deadlineAt;
    this.lifeCheckAt = deadlineAt === undefined ? undefined : deadlineAt + LIFE_CHECK_FIRST_MS;
    if (deadlineAt !== before) this.lateTold = false;
  }

  // ── emptying ────────────────────────────────────────────────────────────────────────────────

  /** Returns when the node is known to be empty, the window has ended, or the drain has. */
  private async empty(): Promise<void> {
    while (!this.hasEnded() && this.plan?.action === 'drain') {
      this.awake = false;
      this.mark.move();
      const now = this.ports.clock.now();
      if (this.listIsDue(now)) await this.list();
      // Before anything is sent: what has outlived its deadline has all the time it needs.
      if (this.windowIsOver()) await this.checkLife();
      if (this.hasEnded()) return;
      const nextAt = this.lifeIsUnknown() ? Infinity : this.submit();
      if (this.isEmpty()) return;
      // While nobody can say whether the machine lives on, its hooks wait as well.
      const isLate = this.windowIsOver() || this.hooksAreDue();
      if (isLate && !this.lifeIsUnknown()) {
        this.tellLate();
        if (this.hooksLeft()) return;
      }
      this.tellWaits();
      await this.postponeIfStuck();
      const windowEndsAt = this.windowIsOver() ? Infinity : this.hooksDueAt();
      const lifeCheckAt = this.lifeCheckAt ?? Infinity;
      await this.sleepUntil(
        Math.min(
          nextAt,
          this.nextListAt(),
          this.waitTellAt,
          windowEndsAt,
          lifeCheckAt,
          this.stuckAt(),
        ),
      );
    }
  }

  // ── giving way ──────────────────────────────────────────────────────────────────────────────

  /** When a paced drain that only waits for budgets makes room for others; Infinity: it does not. */
  private stuckAt(): number {
    if (this.plan === undefined || this.plan.emergency) return Infinity;
    const standing = this.standing();
    const turn = this.turn(this.ports.clock.now());
    const stuck =
      standing.some(({ waitsForBudget }) => waitsForBudget) &&
      standing.every(
        (task) => task.pod.deletion === undefined && (task.waitsForBudget || task.tier > turn),
      );
    return stuck ? this.progressAt + TURN_MS : Infinity;
  }

  /** Back to waiting, marks too: the journal says so, and ends this drain. */
  private async postponeIfStuck(): Promise<void> {
    const { clock, report } = this.ports;
    const now = clock.now();
    if (this.isHeld()) this.progressAt = now;
    if (now < this.stuckAt()) return;
    // Refused from the last call on, and under an emergency.
    this.progressAt = now;
    const until = now + TURN_MS;
    const { outcome } = await this.recorded({ type: 'postponed', until });
    if (outcome === 'unreachable') this.progressAt = now + LIST_RETRY_MS - TURN_MS;
    if (outcome !== 'recorded') return;
    report.info('drain postponed', {
      node: this.nodeName,
      until: new Date(until),
      pods: this.describe(this.standing()),
    });
    this.ports.objectEvents.onNode(this.node, 'DrainPostponed', { until });
  }

  /** Pods still on their way, or not yet told to go. */
  private standing(): Task[] {
    return [...this.tasks.values()].filter(({ state }) => state !== 'gone' && state !== 'reported');
  }

  private isEmpty(): boolean {
    return (
      this.standing().length === 0 &&
      this.listedMoment >= this.departedMoment &&
      this.listedAt >= this.markedAt() + SECOND_LIST_MS
    );
  }

  /** Not before this drain began: the mark's answer may have come late, and a resumed drain's watch, too. */
  private markedAt(): number {
    const recordedAt = Math.min(...this.journal.live.map((entry) => entry.recordedAt));
    return Math.max(recordedAt, this.startedAt);
  }

  private listIsDue(now: number): boolean {
    return now >= this.nextListAt();
  }

  /**
   * At the start, 3 s after the mark, when the ordinary pods are gone, and at the end; and where a pod
   * should have gone long since, for the watch may have missed it.
   */
  private nextListAt(): number {
    if (this.lists === 0) return this.listRetryAt;
    const standing = this.standing();
    const gone = standing.length === 0 ? this.departedMoment : this.ordinaryDepartedMoment;
    const ordinaryAreGone = standing.every(({ tier }) => tier > 0);
    if (ordinaryAreGone && this.listedMoment < gone) return this.listRetryAt;
    const secondAt = this.markedAt() + SECOND_LIST_MS;
    const overdueAt = standing
      .map(({ pod: { deletion } }) =>
        deletion === undefined ? Infinity : deletion.endsAt + OVERDUE_MS,
      )
      .filter((at) => at > this.listedAt)
      .map((at) => Math.max(at, this.listedAt + OVERDUE_MS));
    const nextAt = Math.min(this.listedAt < secondAt ? secondAt : Infinity, ...overdueAt);
    return Math.max(nextAt, this.listRetryAt);
  }

  private async list(): Promise<void> {
    const { clock, pods, report, departures } = this.ports;
    const startedAt = clock.now();
    const moment = this.nextMoment();
    try {
      const { pods: found, resourceVersion } = await pods.onNode(
        this.nodeName,
        this.stopping.signal,
      );
      this.endUse ??= departures.use(resourceVersion);
      this.merge(found, moment);
      this.listedAt = startedAt;
      this.listedMoment = moment;
      this.lists += 1;
      if (this.lists === 1) this.tellStart();
    } catch (error) {
      if (this.hasEnded()) return;
      this.listRetryAt = clock.now() + LIST_RETRY_MS;
      report.warn('pods not listed', { node: this.nodeName, error });
    }
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
      task.progress = { ...task.progress, notBefore: this.ports.clock.now() + MIN_BACKOFF_MS };
      this.listen(task);
    }
    if (task.pod.deletion !== undefined && task.state === 'standing') task.state = 'terminating';
  }

  private add(pod: PodView, moment: number): void {
    const task: Task = {
      pod,
      tier: tierOf(pod, this.policy.self),
      state: pod.deletion === undefined ? 'standing' : 'terminating',
      ticket: 0,
      goneMoment: -1,
      progress: UNTRIED,
      addedAt: this.ports.clock.now(),
      heldBackMs: 0,
      refusals: 0,
      way: 'by itself',
      waitsFor: undefined,
      waitsForBudget: false,
    };
    this.tasks.set(pod.uid, task);
    if (this.lists > 0 && pod.toleratesInterruption && this.isKnownLatecomer(pod)) {
      task.state = 'reported';
      this.ports.report.warn('pod comes back to the node', this.factsOf(task));
      return;
    }
    if (this.lists > 0) task.heldBackMs = this.comebackMs(task, moment);
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
  private comebackMs(task: Task, moment: number): number {
    const { owner, namespace, name } = task.pod;
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
      const facts = { ...this.factsOf(task), owner: owner?.name };
      this.ports.report.warn('pods keep coming to the node', facts);
    }
    return Math.min(MIN_BACKOFF_MS * 2 ** (times - 2), MAX_COMEBACK_MS);
  }

  /** In time for a deadline all the same, which may come, or tighten, meanwhile. */
  private heldBackUntil({ pod, addedAt, heldBackMs }: Task, plan: Plan): number {
    const latestAt = latestSafeStart(plan, this.policy, ownGraceSeconds(pod, this.policy));
    const shortestMs = Math.min(heldBackMs, MIN_BACKOFF_MS);
    return Math.min(addedAt + heldBackMs, Math.max(latestAt, addedAt + shortestMs));
  }

  private listen(task: Task): void {
    this.ports.departures.register(task.pod.uid, {
      onTerminating: (deletion) => {
        task.pod = { ...task.pod, deletion };
        if (task.state === 'standing') task.state = 'terminating';
        this.wake();
      },
      onDeparted: () => {
        this.depart(task);
        this.wake();
      },
    });
  }

  private depart(task: Task): void {
    if (task.state === 'gone') return;
    const moment = this.nextMoment();
    this.strikeOut(task, moment);
    this.departedMoment = moment;
    if (task.tier === 0) this.ordinaryDepartedMoment = moment;
  }

  private strikeOut(task: Task, moment: number): void {
    task.state = 'gone';
    this.ports.metrics.count('pods_total', { way: task.way });
    this.progressAt = this.ports.clock.now();
    task.goneMoment = moment;
    this.ports.departures.unregister(task.pod.uid);
  }

  /** No list will show it again. A drain may last for weeks, in which pods come and go. */
  private forget({ pod, way }: Task): void {
    this.tasks.delete(pod.uid);
    this.departed.add(pod, way);
  }

  /** Queues every step that is due; returns when the next one will be (epoch ms). */
  private submit(): number {
    const { clock, queue } = this.ports;
    const now = clock.now();
    if (this.isHeld()) return Infinity;
    let nextAt = Infinity;
    const turn = this.turn(now);
    for (const task of this.standing()) {
      if (task.state === 'queued' || task.state === 'asked') continue;
      const step = this.stepOf(task, turn, now);
      if (step === undefined) continue;
      if (step.do === 'wait') {
        nextAt = Math.min(nextAt, step.until ?? Infinity);
        continue;
      }
      task.state = 'queued';
      task.ticket += 1;
      const { ticket } = task;
      queue.add({
        urgency: this.plan
          ? latestSafeStart(this.plan, this.policy, ownGraceSeconds(task.pod, this.policy))
          : Infinity,
        // What goes past budgets does not wait for those who respect them.
        group: step.do === 'evict' ? (task.pod.owner?.uid ?? task.pod.uid) : task.pod.uid,
        perform: async () => {
          // A state of `gone` came from the watch: the budget would be charged for nothing.
          if (task.state !== 'queued' || task.ticket !== ticket) return 'nothing';
          const result = await this.perform(task);
          this.wake();
          return result;
        },
      });
    }
    return nextAt;
  }

  /** Places in the queue were given for another deadline: they are given anew. */
  private leaveQueue(): void {
    for (const task of this.tasks.values()) if (task.state === 'queued') this.unqueue(task);
  }

  private stepOf(task: Task, turn: number, now: number): Step | undefined {
    if (this.plan === undefined) return undefined;
    const notBefore = Math.max(task.progress.notBefore, this.heldBackUntil(task, this.plan));
    return nextStep(
      task.pod,
      { ...task.progress, notBefore },
      task.tier <= turn,
      this.plan,
      this.policy,
      now,
    );
  }

  /** The last tier whose turn it is: pods of it hold up those that follow, unless they cannot end. */
  private turn(now: number): number {
    return Math.min(
      ...this.standing().map(({ tier, pod: { deletion } }) =>
        deletion !== undefined && now >= deletion.endsAt + OVERDUE_MS ? Infinity : tier,
      ),
    );
  }

  private isHeld(): boolean {
    const held = this.node?.held ?? false;
    if (held !== this.heldTold) {
      this.heldTold = held;
      this.ports.report.warn(held ? 'held by an operator' : 'released by an operator', {
        node: this.nodeName,
      });
      const reason = held ? 'DrainHeld' : 'DrainReleased';
      this.ports.objectEvents.onNode(this.node, reason, { annotation: HOLD_KEY });
    }
    return held;
  }

  // ── one pod ─────────────────────────────────────────────────────────────────────────────────

  /** The task's turn has come: decides anew, for the plan may have changed while it waited. */
  private async perform(task: Task): Promise<JobResult> {
    const { clock, pods } = this.ports;
    const { pod } = task;
    const mayAct = !this.hasEnded() && !this.isHeld() && this.plan?.action === 'drain';
    const now = clock.now();
    const step = mayAct ? this.stepOf(task, this.turn(now), now) : undefined;
    if (step === undefined || step.do === 'wait') {
      this.unqueue(task);
      return 'nothing';
    }
    task.state = 'asked';
    const { signal } = this.stopping;
    let answer: EvictionAnswer;
    try {
      answer =
        step.do === 'evict'
          ? await pods.evict(pod, step.graceSeconds, this.evictionTimeoutMs(pod), signal)
          : await pods.delete(pod, step.graceSeconds, DELETE_TIMEOUT_MS, signal);
    } catch (error) {
      if (!this.hasEnded())
        this.ports.report.error('eviction failed', { ...this.factsOf(task), error });
      task.progress = { ...task.progress, notBefore: clock.now() + MIN_BACKOFF_MS };
      this.unqueue(task);
      return 'done';
    }
    const result = await this.digest(task, step, answer);
    this.unqueue(task);
    return result;
  }

  private unqueue(task: Task): void {
    if (task.state === 'queued' || task.state === 'asked') {
      task.state = task.pod.deletion === undefined ? 'standing' : 'terminating';
    }
  }

  /** Past the moment from which it may be deleted, an eviction is not waited for long. */
  private evictionTimeoutMs(pod: PodView): number {
    if (this.plan === undefined || this.policy.budgets === 'always') return EVICTION_TIMEOUT_MS;
    const leftMs =
      forceAt(this.plan, this.policy, ownGraceSeconds(pod, this.policy)) - this.ports.clock.now();
    return Math.min(EVICTION_TIMEOUT_MS, Math.max(URGENT_TIMEOUT_MS, leftMs));
  }

  private async digest(
    task: Task,
    step: Exclude<Step, { do: 'wait' }>,
    answer: EvictionAnswer,
  ): Promise<JobResult> {
    const { clock } = this.ports;
    const now = clock.now();
    switch (answer.outcome) {
      case 'accepted':
        this.accepted(task, step, now);
        return 'done';
      case 'gone':
        this.depart(task);
        return 'done';
      case 'conflict':
        return this.readAfterConflict(task, step, answer.message);
      case 'budget':
        this.refuse(
          task,
          step,
          answer.budget ? `budget ${answer.budget}` : answer.message,
          answer.retryAfterMs,
        );
        task.waitsForBudget = true;
        return 'contended';
      case 'refused':
        this.refuse(task, step, `${answer.reason}: ${answer.message}`, undefined);
        return 'done';
      case 'overloaded':
        task.progress = {
          ...task.progress,
          notBefore: now + Math.min(answer.retryAfterMs ?? MIN_BACKOFF_MS, LONGEST_RETRY_AFTER_MS),
        };
        return { overloaded: true, retryAfterMs: answer.retryAfterMs };
      case 'unreachable':
        if (answer.timedOut && step.do === 'evict') {
          this.refuse(task, step, 'no answer in time: the budget is contended', undefined);
          return 'contended';
        }
        task.progress = { ...task.progress, notBefore: now + MIN_BACKOFF_MS };
        return { overloaded: true, retryAfterMs: undefined };
      default:
        throw new Error(`unexpected answer: ${JSON.stringify(answer satisfies never)}`);
    }
  }

  private accepted(task: Task, step: Exclude<Step, { do: 'wait' }>, now: number): void {
    const { objectEvents, report } = this.ports;
    const { graceSeconds } = step;
    const facts = { ...this.factsOf(task), graceSeconds };
    const told = { ...this.toldOfNode(), graceSeconds };
    const refusedBy = task.waitsFor ?? 'its budget';
    task.waitsFor = undefined;
    task.waitsForBudget = false;
    this.progressAt = now;
    // What the watch will say, a moment early; never later than the server's own.
    const known = task.pod.deletion;
    if (known === undefined) {
      const endsAt = now + step.graceSeconds * 1000;
      task.pod = { ...task.pod, deletion: { endsAt, graceSeconds: step.graceSeconds } };
    } else if (step.do === 'shorten') {
      const beganAt = known.endsAt - known.graceSeconds * 1000;
      const endsAt = Math.max(beganAt + step.graceSeconds * 1000, now);
      task.pod = { ...task.pod, deletion: { endsAt, graceSeconds: (endsAt - beganAt) / 1000 } };
    }
    switch (step.do) {
      case 'evict':
        task.way = 'evicted';
        report.debug('pod evicted', facts);
        objectEvents.onPod(task.pod, 'NodeInterrupted', told);
        return;
      case 'delete':
        task.way = 'deleted past its budget';
        report.warn('pod deleted past its budget', facts);
        objectEvents.onPod(task.pod, 'DeletedPastBudget', { ...told, refusedBy });
        return;
      case 'shorten':
        report.info('pod grace shortened', facts);
        objectEvents.onPod(task.pod, 'GraceShortened', told);
        return;
      default:
        throw new Error(`unexpected step: ${JSON.stringify(step satisfies never)}`);
    }
  }

  private refuse(
    task: Task,
    step: Exclude<Step, { do: 'wait' }>,
    waitsFor: string,
    retryAfterMs: number | undefined,
  ): void {
    const now = this.ports.clock.now();
    const backoffMs = Math.min(MIN_BACKOFF_MS * 1.5 ** task.refusals, MAX_BACKOFF_MS);
    const jitteredMs = backoffMs * (0.75 + this.ports.clock.random() / 2);
    task.refusals += 1;
    task.waitsFor = waitsFor;
    task.waitsForBudget = false;
    this.ports.objectEvents.onPod(task.pod, 'EvictionRefused', {
      ...this.toldOfNode(),
      refusedBy: waitsFor,
      forcedAt: this.forcedAt(task.pod),
    });
    const untilAt = now + Math.max(MIN_BACKOFF_MS, jitteredMs, retryAfterMs ?? 0);
    task.progress =
      step.do === 'evict'
        ? { ...task.progress, refusedAt: now, retryAt: untilAt }
        : { ...task.progress, notBefore: untilAt };
  }

  /** 409 says nothing by itself: another uid is gone, the same uid was refused and is tried again. */
  private async readAfterConflict(
    task: Task,
    step: Exclude<Step, { do: 'wait' }>,
    message: string,
  ): Promise<JobResult> {
    const { pods, clock, report } = this.ports;
    try {
      const now = await pods.read(task.pod.namespace, task.pod.name, this.stopping.signal);
      if (now?.uid !== task.pod.uid) {
        this.depart(task);
        return 'done';
      }
      task.pod = now;
      task.waitsFor = message;
    } catch (error) {
      if (!this.hasEnded()) report.warn('pod not read', { ...this.factsOf(task), error });
    }
    task.progress = {
      ...task.progress,
      ...(step.do === 'evict' && { refusedAt: clock.now() }),
      notBefore: clock.now() + CONFLICT_RETRY_MS * (1 + clock.random()),
    };
    return 'contended';
  }

  // ── the end of the window ───────────────────────────────────────────────────────────────────

  /** Of the plan that rules, for people and metrics. */
  private get rulingKind(): InterruptionKind | 'none' {
    return this.plan?.kind ?? 'none';
  }

  private windowEnd(): number {
    return this.plan?.deadlineAt ?? Infinity;
  }

  /** When the stages before the hooks end. */
  private hooksDueAt(): number {
    if (this.plan === undefined) return Infinity;
    return hooksDueAt(this.plan, this.policy, this.keeper.leftUntil(this.journal));
  }

  private hooksAreDue(): boolean {
    return this.hooksLeft() && this.ports.clock.now() >= this.hooksDueAt();
  }

  private windowIsOver(): boolean {
    return this.ports.clock.now() >= this.windowEnd();
  }

  private hooksLeft(): boolean {
    return this.keeper.left(this.journal).length > 0;
  }

  private tellLate(): void {
    const standing = this.standing();
    if (this.lateTold || standing.length === 0) return;
    this.lateTold = true;
    const { metrics, report } = this.ports;
    metrics.count('drains_total', { kind: this.rulingKind, outcome: 'late' });
    metrics.count('pods_total', { way: 'left behind' }, standing.length);
    report.error('not all pods left in time', {
      node: this.nodeName,
      kind: this.plan?.kind,
      podsLeft: standing.length,
      pods: this.describe(standing),
    });
    const pods = this.describe(standing);
    this.ports.objectEvents.onNode(this.node, 'DrainLate', { podsLeft: standing.length, pods });
    const told = this.toldOfNode();
    for (const { pod } of standing) this.ports.objectEvents.onPod(pod, 'LeftBehind', told);
    this.tellOutcome('late', this.podCounts());
  }

  /** A machine that lives on has outlived its deadline: the drain goes on as if there were none. */
  private async checkLife(): Promise<void> {
    const { clock, report } = this.ports;
    if (this.lifeCheckAt === undefined || clock.now() < this.lifeCheckAt) return;
    const lifeSignAt = await this.ports.lifeSign(this.nodeName, this.stopping.signal);
    if (lifeSignAt === 'unknown') {
      this.lifeUnknownSince ??= clock.now();
      this.lifeCheckAt = clock.now() + LIFE_UNKNOWN_RETRY_MS;
      return;
    }
    this.lifeUnknownSince = undefined;
    const deadlineAt = this.plan?.deadlineAt;
    this.lifeSignAt = lifeSignAt ?? this.lifeSignAt;
    this.replan();
    if (this.plan?.deadlineAt !== deadlineAt) {
      const kind = this.plan?.kind;
      report.warn('machine outlived its deadline', { node: this.nodeName, kind });
      this.ports.objectEvents.onNode(this.node, 'DeadlineOutlived', { kind, isDraining: true });
    } else this.lifeCheckAt = clock.now() + LIFE_CHECK_EVERY_MS;
  }

  private lifeIsUnknown(): boolean {
    const since = this.lifeUnknownSince;
    return since !== undefined && this.ports.clock.now() < since + LIFE_UNKNOWN_MS;
  }

  // ── settling ────────────────────────────────────────────────────────────────────────────────

  /** Volumes of the pods that left must be detached before those can start elsewhere. */
  private async detachVolumes(): Promise<void> {
    const { clock, report } = this.ports;
    const claims = [...this.tasks.values()]
      .flatMap(({ pod, state }) => (state === 'gone' ? claimsOf(pod) : []))
      .concat(this.departed.claims);
    if (!this.policy.waitForVolumes || claims.length === 0) return;
    const latestAt = clock.now() + VOLUMES_WITHOUT_DEADLINE_MS;
    // A deadline may come, or tighten, meanwhile.
    const leftMs = (): number => Math.min(this.hooksDueAt(), latestAt) - clock.now();
    const node = this.nodeName;
    const ours = new Map<string, string | undefined>();
    let waiting: readonly string[] = [];
    const told = { waiting: false, failure: false };
    let deniedSince: number | undefined;
    while (!this.hasEnded() && leftMs() > 0) {
      this.mark.move();
      try {
        const found = await this.attachedOf(claims, ours);
        if ('denied' in found) {
          deniedSince ??= clock.now();
          if (clock.now() - deniedSince >= VOLUMES_DENIED_MS) {
            report.warn('volumes not waited for', { node, reason: found.denied });
            return;
          }
        } else {
          deniedSince = undefined;
          waiting = found.volumes;
          if (waiting.length === 0) return;
          if (!told.waiting) report.info('waiting for volumes', { node, volumes: waiting });
          told.waiting = true;
        }
      } catch (error) {
        if (!this.hasEnded() && !told.failure) report.warn('volumes not listed', { node, error });
        told.failure = true;
      }
      await pause(clock, Math.min(VOLUME_POLL_MS, Math.max(0, leftMs())), this.stopping.signal);
    }
    if (!this.hasEnded() && waiting.length > 0) {
      report.warn('volumes still attached', { node, volumes: waiting });
    }
  }

  /** Which volumes of these claims are attached; `known` keeps what each claim is bound to. */
  private async attachedOf(
    claims: readonly Claim[],
    known: Map<string, string | undefined>,
  ): Promise<Readonly<{ volumes: readonly string[] }> | Denied> {
    const { volumes } = this.ports;
    const { signal } = this.stopping;
    const attached = await volumes.attachedTo(this.nodeName, signal);
    if ('denied' in attached) return attached;
    if (attached.length === 0) return { volumes: [] };
    const unknown = claims.filter(({ namespace, claim }) => !known.has(`${namespace}/${claim}`));
    const bound = await Promise.all(
      unknown.map(async ({ namespace, claim }) => ({
        key: `${namespace}/${claim}`,
        volume: await volumes.volumeOf(namespace, claim, signal),
      })),
    );
    for (const { key, volume } of bound) {
      if (typeof volume === 'object') return volume;
      known.set(key, volume);
    }
    const ours = new Set(known.values());
    return { volumes: attached.filter((volume) => ours.has(volume)) };
  }

  private async drainLoadBalancers(): Promise<void> {
    const { clock } = this.ports;
    const action = this.plan?.action;
    if (action === 'prefer-no-schedule') return;
    const latestAt = clock.now() + this.policy.loadBalancerDrainSeconds * 1000;
    const untilAt = (): number => Math.min(this.hooksDueAt(), latestAt);
    while (!this.hasEnded() && clock.now() < untilAt() && this.plan?.action === action) {
      this.awake = false;
      await this.sleepUntil(untilAt());
    }
  }

  /** True: the journal says so, or nothing is left to say it to. */
  private async settle(): Promise<boolean> {
    const { clock } = this.ports;
    if (this.nodeIsGone) {
      this.tellEnd('node gone');
      return true;
    }
    if (this.machineIsOff()) {
      this.tellEnd('machine off');
      return true;
    }
    if (this.isOverForPods()) return true;
    // One that came in the last moment.
    if (this.hooksLeft()) return false;
    // With pods left the window is over, and so may be the machine: watched until one of them goes.
    const drained = this.plan?.action === 'drain';
    if (drained && this.standing().length > 0) return false;
    if (drained && !(await this.replaceInstance())) return false;
    const asOf = this.journal.live.map(({ id }) => id);
    this.tellEnd(drained ? 'drained' : 'not drained by policy');
    for (;;) {
      const result = await this.recorded({ type: 'settled', asOf });
      if (this.hasEnded()) return true;
      switch (result.outcome) {
        case 'recorded':
          // News folded into the same write, after this, call for the drain to go on.
          return this.journal.state !== 'draining';
        case 'gone':
        case 'refused':
          return true;
        case 'duplicate':
        case 'stale':
          // Something new came meanwhile, or somebody else has settled or undone it.
          return (
            this.journal.state !== 'draining' ||
            this.journal.live.every(({ id }) => asOf.includes(id))
          );
        case 'unreachable':
          await pause(clock, LIST_RETRY_MS, this.stopping.signal);
          break;
        default:
          throw new Error(`unexpected outcome: ${JSON.stringify(result.outcome satisfies never)}`);
      }
    }
  }

  /** False: it was to be replaced, but what happened meanwhile calls for another look. */
  private async replaceInstance(): Promise<boolean> {
    const { clock, hooks, objectEvents, report } = this.ports;
    const { journal } = this;
    const { instanceId } = journal.machine;
    const facts = { node: this.nodeName, instance: instanceId };
    let retryMs = REPLACE_RETRY_MS;
    let deniedSince: number | undefined;
    while (!this.replacementEnded && callsForReplacement(journal, this.policy)) {
      const answer = await hooks.replace(instanceId, this.stopping.signal);
      if (answer.outcome !== 'failed') {
        this.replacementEnded = true;
        report.info('instance replaced', { ...facts, answer: answer.outcome });
        objectEvents.onNode(this.node, 'InstanceReplaced', { instance: instanceId });
        return true;
      }
      const reason = answer.message;
      deniedSince = answer.denied ? (deniedSince ?? clock.now()) : undefined;
      if (deniedSince !== undefined && clock.now() - deniedSince >= REPLACE_DENIED_MS) {
        this.replacementEnded = true;
        report.warn('instance not replaced', { ...facts, permission: REPLACE_PERMISSION, reason });
        return true;
      }
      if (retryMs === REPLACE_RETRY_MS) {
        report.warn('instance not yet replaced', { ...facts, denied: answer.denied, reason });
      }
      this.awake = false;
      await this.sleepUntil(clock.now() + retryMs * (0.75 + clock.random() / 2));
      if (this.hasEnded() || this.journal !== journal) return false;
      retryMs = Math.min(retryMs * 2, MAX_REPLACE_RETRY_MS);
    }
    return true;
  }

  /** The record, whose own mark it is, may wait for the API server as long as that takes. */
  private async recorded(change: Change): ReturnType<Journals['apply']> {
    this.mark.move(Infinity);
    const result = await this.ports.journals.apply(this.nodeName, change);
    this.mark.move();
    return result;
  }

  // ── telling ─────────────────────────────────────────────────────────────────────────────────

  private tellStart(): void {
    const { clock, objectEvents, report } = this.ports;
    const standing = this.standing();
    const deadlineAt = this.plan?.deadlineAt;
    objectEvents.onNode(this.node, 'Draining', {
      ...this.toldOfNode(),
      pods: standing.length,
      staying: (this.left.get('daemonset') ?? 0) + (this.left.get('mirror') ?? 0),
    });
    report.info('draining', {
      node: this.nodeName,
      instance: this.journal.machine.instanceId,
      kind: this.plan?.kind,
      ...(deadlineAt !== undefined && {
        deadline: new Date(deadlineAt),
        secondsLeft: Math.round((deadlineAt - clock.now()) / 100) / 10,
      }),
      pods: standing.length,
      critical: standing.filter(({ tier }) => tier > 0).length,
      terminating: standing.filter(({ pod }) => pod.deletion !== undefined).length,
      daemonSet: this.left.get('daemonset') ?? 0,
      mirror: this.left.get('mirror') ?? 0,
      finished: this.left.get('finished') ?? 0,
    });
  }

  /** At growing intervals: on which pods it waits, and why. */
  private tellWaits(): void {
    const { clock, report } = this.ports;
    if (clock.now() < this.waitTellAt) return;
    this.waitToldMs = Math.min(this.waitToldMs * 2, MAX_WAIT_REPORT_MS);
    this.waitTellAt = clock.now() + this.waitToldMs;
    const standing = this.standing();
    if (standing.length === 0) return;
    const deadlineAt = this.plan?.deadlineAt;
    report.info('still draining', {
      node: this.nodeName,
      kind: this.plan?.kind,
      ...(deadlineAt !== undefined && {
        secondsLeft: Math.round((deadlineAt - clock.now()) / 1000),
      }),
      podsLeft: standing.length,
      pods: this.describe(standing),
    });
    this.ports.objectEvents.onNode(this.node, 'DrainWaiting', {
      podsLeft: standing.length,
      pods: this.describe(standing),
    });
  }

  private tellEnd(
    message: 'drained' | 'not drained by policy' | 'node gone' | 'machine off',
  ): void {
    const { clock, metrics, report } = this.ports;
    const now = clock.now();
    const deadlineAt = this.plan?.deadlineAt;
    metrics.count('drains_total', { kind: this.rulingKind, outcome: message });
    if (message === 'drained' && deadlineAt !== undefined) {
      const seconds = (deadlineAt - now) / 1000;
      metrics.observe('deadline_spare_seconds', { kind: this.rulingKind }, seconds);
    }
    const pods = this.podCounts();
    report.info(message, {
      node: this.nodeName,
      instance: this.journal.machine.instanceId,
      kind: this.plan?.kind,
      action: this.plan?.action,
      ...(deadlineAt !== undefined && {
        secondsToSpare: Math.round((deadlineAt - now) / 100) / 10,
      }),
      secondsTaken: Math.round((now - this.startedAt) / 100) / 10,
      ...pods,
    });
    this.tellNode(message, deadlineAt === undefined ? undefined : (deadlineAt - now) / 1000);
    // By policy there was nothing to bring about.
    if (message === 'not drained by policy') return;
    if (pods.stayed > 0) this.tellOutcome('not-possible', pods);
    else this.tellOutcome(pods.deletedPastBudget > 0 ? 'forced' : 'drained', pods);
  }

  private tellNode(
    end: 'drained' | 'not drained by policy' | 'node gone' | 'machine off',
    secondsToSpare: number | undefined,
  ): void {
    const { objectEvents } = this.ports;
    if (end === 'drained')
      objectEvents.onNode(this.node, 'Drained', { ...this.podCounts(), secondsToSpare });
    else if (end !== 'node gone') objectEvents.onNode(this.node, 'DrainEnded', { why: end });
  }

  private podCounts(): PodCounts {
    const ways = { ...this.departed.ways };
    for (const { state, way } of this.tasks.values()) if (state === 'gone') ways[way] += 1;
    return {
      evicted: ways.evicted,
      deletedPastBudget: ways['deleted past its budget'],
      leftByThemselves: ways['by itself'],
      stayed: this.standing().length,
    };
  }

  private podNames(): InterruptionOutcome['podNames'] {
    const gone = [...this.tasks.values()].filter(({ state }) => state === 'gone');
    const named = (tasks: readonly Task[]): string[] =>
      tasks.slice(0, MAX_PODS_NAMED).map(({ pod }) => nameOf(pod));
    return {
      left: [...this.departed.names, ...named(gone)].slice(0, MAX_PODS_NAMED),
      stayed: named(this.standing()),
    };
  }

  private tellOutcome(outcome: InterruptionOutcome['outcome'], pods: PodCounts): void {
    const { clock, outcomes } = this.ports;
    const podNames = this.podNames();
    for (const interruption of this.journal.live) {
      outcomes.tell({
        node: this.nodeName,
        instanceId: this.journal.machine.instanceId,
        interruption,
        outcome,
        deadlineAt: this.plan?.deadlineAt,
        endedAt: clock.now(),
        pods,
        podNames,
      });
    }
  }

  private describe(tasks: readonly Task[]): readonly string[] {
    return tasks
      .slice(0, MAX_PODS_TOLD)
      .map(
        ({ pod, waitsFor }) =>
          `${pod.namespace}/${pod.name}: ${pod.deletion === undefined ? (waitsFor ?? 'not yet tried') : `terminating until ${new Date(pod.deletion.endsAt).toISOString()}`}`,
      );
  }

  /** What its pods are told of it. */
  private toldOfNode() {
    return { node: this.nodeName, kind: this.plan?.kind, deadlineAt: this.plan?.deadlineAt };
  }

  /** When it is deleted though its eviction is refused; undefined: never, or at once. */
  private forcedAt(pod: PodView): number | undefined {
    if (this.plan === undefined || this.policy.budgets === 'always') return undefined;
    const at = forceAt(this.plan, this.policy, ownGraceSeconds(pod, this.policy));
    return at === Infinity || at <= this.ports.clock.now() ? undefined : at;
  }

  private factsOf(task: Task): Record<string, unknown> {
    return {
      node: this.nodeName,
      namespace: task.pod.namespace,
      pod: task.pod.name,
      ...(task.waitsFor !== undefined && { waitedFor: task.waitsFor }),
    };
  }

  private sleepUntil(at: number): Promise<void> {
    const { clock } = this.ports;
    if (this.awake) return Promise.resolve();
    this.mark.move(Math.max(0, at - clock.now()));
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const done = (): void => {
        timer?.cancel();
        this.wakeUp = () => undefined;
        resolve();
      };
      this.wakeUp = done;
      if (at !== Infinity) timer = clock.after(Math.max(0, at - clock.now()), done);
    });
  }
}
