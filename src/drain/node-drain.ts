import { pause, type Clock, type Timer } from '../clock.ts';
import { forceAt, hooksDueAt, latestSafeStart, planOf, type Plan } from '../plan/deadline.ts';
import type { Journal } from '../plan/journal.ts';
import type { Change } from '../plan/merge.ts';
import type { NodeView } from '../plan/node.ts';
import { TURN_MS } from '../plan/pace.ts';
import type { PodView } from '../plan/pod.ts';
import { nextStep, ownGraceSeconds, type Step } from '../plan/pods.ts';
import { callsForReplacement, type Policy } from '../plan/policy.ts';
import type { Metrics } from '../report/metrics.ts';
import type { ObjectEvents } from '../report/object-events.ts';
import type { Outcomes } from '../report/outcome.ts';
import type { Report } from '../report/report.ts';
import type { WatchedStep, Watchdog } from '../watchdog.ts';
import type { Departures } from './departures.ts';
import { detachment } from './detachment.ts';
import { DrainPods, type Task } from './drain-pods.ts';
import { DrainStory } from './drain-story.ts';
import { LONGEST_RETRY_AFTER_MS, type EvictionQueue, type JobResult } from './eviction-queue.ts';
import type { HookAdvice } from './hook-advice.ts';
import { HookKeeper } from './hook-keeper.ts';
import type { Journals } from './journals.ts';
import type { LifecycleHooks } from './lifecycle-hooks.ts';
import type { EvictionAnswer, Pods, Volumes } from './pods.ts';
import { Replacement } from './replacement.ts';

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

const RECORD_RETRY_MS = 1000;
const MIN_BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 10_000;
const CONFLICT_RETRY_MS = 250;
/** The API server itself gives up on a contended budget after about 10 s. */
const EVICTION_TIMEOUT_MS = 15_000;
const URGENT_TIMEOUT_MS = 3000;
const DELETE_TIMEOUT_MS = 10_000;
const LIFE_CHECK_FIRST_MS = 61_000;
const LIFE_CHECK_EVERY_MS = 15_000;
const LIFE_UNKNOWN_RETRY_MS = 3000;
/** So long nothing is sent past a deadline while nobody can say whether the machine has outlived it. */
const LIFE_UNKNOWN_MS = 30_000;

/**
 * One node's drain: empties it, then settles.
 *
 * Lives from the first record that calls for draining until everything recorded is dealt with and
 * the journal says so, the Node is gone, or the process stops. News of the journal may only change
 * its plan, never start a second one.
 */
export class NodeDrain {
  private readonly stopping = new AbortController();
  private readonly tasks: DrainPods;
  private readonly story: DrainStory;
  private readonly keeper: HookKeeper;
  private readonly replacement: Replacement;
  private readonly startedAt: number;
  private journal: Journal;
  private plan: Plan | undefined;
  private lifeSignAt: number | undefined;
  private lifeCheckAt: number | undefined;
  private lifeUnknownSince: number | undefined;
  /** When a pod was last told to leave, or giving way was last put off. */
  private progressAt: number;
  private nodeIsGone = false;
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
    this.mark = ports.watchdog.begin('drain', `node ${nodeName}`);
    this.tasks = new DrainPods(nodeName, ports, policy.self, () => this.wake());
    this.story = new DrainStory(nodeName, this.tasks, ports, policy, () => ({
      node: this.node,
      journal: this.journal,
      plan: this.plan,
    }));
    this.keeper = new HookKeeper(nodeName, ports, policy, this.stopping.signal);
    this.replacement = new Replacement(nodeName, ports, () => this.node);
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
      this.tasks.close();
    }
  }

  private hasEnded(): boolean {
    return this.stopping.signal.aborted || this.nodeIsGone || this.isOverForPods();
  }

  /** Its machine is off, or is back: what is left are the hooks. */
  private isOverForPods(): boolean {
    return this.machineIsOff() || this.journal.state === 'settled';
  }

  /** There is nothing left to drain. */
  private isGone(): boolean {
    return this.nodeIsGone || this.machineIsOff();
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
    if (deadlineAt !== before) this.story.deadlineChanged();
  }

  // ── emptying ────────────────────────────────────────────────────────────────────────────────

  /** Returns when the node is known to be empty, the window has ended, or the drain has. */
  private async empty(): Promise<void> {
    while (!this.hasEnded() && this.plan?.action === 'drain') {
      this.awake = false;
      this.mark.move();
      if (this.ports.clock.now() >= this.tasks.nextListAt(this.markedAt())) await this.list();
      // Before anything is sent: what has outlived its deadline has all the time it needs.
      if (this.windowIsOver()) await this.checkLife();
      if (this.hasEnded()) return;
      const nextAt = this.lifeIsUnknown() ? Infinity : this.submit();
      if (this.tasks.isEmpty(this.markedAt())) return;
      // While nobody can say whether the machine lives on, its hooks wait as well.
      const isLate = this.windowIsOver() || this.hooksAreDue();
      if (isLate && !this.lifeIsUnknown()) {
        this.story.late();
        if (this.hooksLeft()) return;
      }
      this.story.waits();
      await this.postponeIfStuck();
      const windowEndsAt = this.windowIsOver() ? Infinity : this.hooksDueAt();
      const lifeCheckAt = this.lifeCheckAt ?? Infinity;
      await this.sleepUntil(
        Math.min(
          nextAt,
          this.tasks.nextListAt(this.markedAt()),
          this.story.nextAt,
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
    const standing = this.tasks.standing();
    const turn = this.tasks.turn();
    const stuck =
      standing.some(({ waitsForBudget }) => waitsForBudget) &&
      standing.every(
        (task) => task.pod.deletion === undefined && (task.waitsForBudget || task.tier > turn),
      );
    return stuck ? Math.max(this.progressAt, this.tasks.lastDepartureAt) + TURN_MS : Infinity;
  }

  /** Back to waiting, marks too: the journal says so, and ends this drain. */
  private async postponeIfStuck(): Promise<void> {
    const now = this.ports.clock.now();
    if (this.isHeld()) this.progressAt = now;
    if (now < this.stuckAt()) return;
    // Refused from the last call on, and under an emergency.
    this.progressAt = now;
    const until = now + TURN_MS;
    const { outcome } = await this.recorded({ type: 'postponed', until });
    if (outcome === 'unreachable') this.progressAt = now + RECORD_RETRY_MS - TURN_MS;
    if (outcome === 'recorded') this.story.postponed(until);
  }

  /** Not before this drain began: the mark's answer may have come late, and a resumed drain's watch, too. */
  private markedAt(): number {
    const recordedAt = Math.min(...this.journal.live.map((entry) => entry.recordedAt));
    return Math.max(recordedAt, this.startedAt);
  }

  private async list(): Promise<void> {
    try {
      const { first } = await this.tasks.list(this.stopping.signal);
      if (first) this.story.begun();
    } catch (error) {
      if (!this.hasEnded())
        this.ports.report.warn('pods not listed', { node: this.nodeName, error });
    }
  }

  /** In time for a deadline all the same, which may come, or tighten, meanwhile. */
  private heldBackUntil({ pod, addedAt, heldBackMs }: Task, plan: Plan): number {
    const latestAt = latestSafeStart(plan, this.policy, ownGraceSeconds(pod, this.policy));
    const shortestMs = Math.min(heldBackMs, MIN_BACKOFF_MS);
    return Math.min(addedAt + heldBackMs, Math.max(latestAt, addedAt + shortestMs));
  }

  /** Queues every step that is due; returns when the next one will be (epoch ms). */
  private submit(): number {
    const { clock, queue } = this.ports;
    const now = clock.now();
    if (this.isHeld()) return Infinity;
    let nextAt = Infinity;
    const turn = this.tasks.turn();
    for (const task of this.tasks.standing()) {
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
    for (const task of this.tasks.queued()) this.unqueue(task);
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

  private isHeld(): boolean {
    const held = this.node?.held ?? false;
    this.story.held(held);
    return held;
  }

  // ── one pod ─────────────────────────────────────────────────────────────────────────────────

  /** The task's turn has come: decides anew, for the plan may have changed while it waited. */
  private async perform(task: Task): Promise<JobResult> {
    const { clock, pods } = this.ports;
    const { pod } = task;
    const mayAct = !this.hasEnded() && !this.isHeld() && this.plan?.action === 'drain';
    const askedAt = clock.now();
    const step = mayAct ? this.stepOf(task, this.tasks.turn(), askedAt) : undefined;
    if (step === undefined || step.do === 'wait') {
      this.unqueue(task);
      return 'nothing';
    }
    task.state = 'asked';
    const before = task.wayIfGone;
    // It may be gone before the answer is here, and no answer may come.
    if (step.do !== 'shorten')
      task.wayIfGone = step.do === 'evict' ? 'evicted' : 'deleted past its budget';
    const { signal } = this.stopping;
    let answer: EvictionAnswer;
    try {
      answer =
        step.do === 'evict'
          ? await pods.evict(pod, step.graceSeconds, this.evictionTimeoutMs(pod), signal)
          : await pods.delete(pod, step.graceSeconds, DELETE_TIMEOUT_MS, signal);
    } catch (error) {
      if (!this.hasEnded())
        this.ports.report.error('eviction failed', { ...this.story.ofPod(task), error });
      task.progress = { ...task.progress, notBefore: clock.now() + MIN_BACKOFF_MS };
      this.unqueue(task);
      return 'done';
    }
    if (answer.outcome === 'overloaded') task.wayIfGone = before;
    else if (step.do !== 'shorten' && saysItStands(answer)) task.wayIfGone = 'by itself';
    const result = await this.digest(task, step, answer, askedAt);
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
    askedAt: number,
  ): Promise<JobResult> {
    const { clock } = this.ports;
    const now = clock.now();
    switch (answer.outcome) {
      case 'accepted':
        this.accepted(task, step, askedAt);
        return 'done';
      case 'gone':
        this.tasks.depart(task);
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

  private accepted(task: Task, step: Exclude<Step, { do: 'wait' }>, askedAt: number): void {
    const { clock, objectEvents, report } = this.ports;
    const { graceSeconds } = step;
    const facts = { ...this.story.ofPod(task), graceSeconds };
    const told = { ...this.story.ofNode(), graceSeconds };
    const refusedBy = task.waitsFor ?? 'its budget';
    task.waitsFor = undefined;
    task.waitsForBudget = false;
    this.progressAt = clock.now();
    // What the watch will say, a moment early. Counted from the question, however long the answer took:
    // a grace that fills the time left would seem too long otherwise, and be cut again.
    const known = task.pod.deletion;
    if (known === undefined) {
      const endsAt = askedAt + step.graceSeconds * 1000;
      task.pod = { ...task.pod, deletion: { endsAt, graceSeconds: step.graceSeconds } };
    } else if (step.do === 'shorten') {
      const beganAt = known.endsAt - known.graceSeconds * 1000;
      const endsAt = Math.max(beganAt + step.graceSeconds * 1000, askedAt);
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
      ...this.story.ofNode(),
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
        this.tasks.depart(task);
        return 'done';
      }
      task.pod = now;
      task.waitsFor = message;
    } catch (error) {
      if (!this.hasEnded()) report.warn('pod not read', { ...this.story.ofPod(task), error });
    }
    task.progress = {
      ...task.progress,
      ...(step.do === 'evict' && { refusedAt: clock.now() }),
      notBefore: clock.now() + CONFLICT_RETRY_MS * (1 + clock.random()),
    };
    return 'contended';
  }

  // ── the end of the window ───────────────────────────────────────────────────────────────────

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

  /** A machine that lives on has outlived its deadline: the drain goes on as if there were none. */
  private async checkLife(): Promise<void> {
    const { clock } = this.ports;
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
    if (this.plan?.deadlineAt !== deadlineAt) this.story.outlived();
    else this.lifeCheckAt = clock.now() + LIFE_CHECK_EVERY_MS;
  }

  private lifeIsUnknown(): boolean {
    const since = this.lifeUnknownSince;
    return since !== undefined && this.ports.clock.now() < since + LIFE_UNKNOWN_MS;
  }

  // ── settling ────────────────────────────────────────────────────────────────────────────────

  /** Volumes of the pods that left must be detached before those can start elsewhere. */
  private async detachVolumes(): Promise<void> {
    const claims = this.tasks.claims();
    if (!this.policy.waitForVolumes || claims.length === 0) return;
    await detachment(this.nodeName, claims, this.ports, {
      dueAt: () => this.hooksDueAt(),
      hasEnded: () => this.hasEnded(),
      moved: () => this.mark.move(),
      signal: this.stopping.signal,
    });
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
      this.story.ended('node gone');
      return true;
    }
    if (this.machineIsOff()) {
      this.story.ended('machine off');
      return true;
    }
    if (this.isOverForPods()) return true;
    // One that came in the last moment.
    if (this.hooksLeft()) return false;
    // With pods left the window is over, and so may be the machine: watched until they are gone, those
    // included that came meanwhile, which only a list shows.
    const drained = this.plan?.action === 'drain';
    if (drained && !this.tasks.isEmpty(this.markedAt())) return false;
    if (drained && !(await this.replaceInstance())) return false;
    const asOf = this.journal.live.map(({ id }) => id);
    this.story.ended(drained ? 'drained' : 'not drained by policy');
    for (;;) {
      const result = await this.recorded({ type: 'settled', asOf });
      // What came meanwhile has ended with the Node or its machine.
      if (this.isGone()) this.story.endedAfter(asOf);
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
          await pause(clock, RECORD_RETRY_MS, this.stopping.signal);
          break;
        default:
          throw new Error(`unexpected outcome: ${JSON.stringify(result.outcome satisfies never)}`);
      }
    }
  }

  /** False: it was to be replaced, but what happened meanwhile calls for another look. */
  private async replaceInstance(): Promise<boolean> {
    const { journal } = this;
    if (!callsForReplacement(journal, this.policy)) return true;
    const asBefore = async (at: number): Promise<boolean> => {
      this.awake = false;
      await this.sleepUntil(at);
      return !this.hasEnded() && this.journal === journal;
    };
    return this.replacement.done(journal.machine.instanceId, asBefore, this.stopping.signal);
  }

  /** The record, whose own mark it is, may wait for the API server as long as that takes. */
  private async recorded(change: Change): ReturnType<Journals['apply']> {
    this.mark.move(Infinity);
    const result = await this.ports.journals.apply(this.nodeName, change);
    this.mark.move();
    return result;
  }

  /** When it is deleted though its eviction is refused; undefined: never, or at once. */
  private forcedAt(pod: PodView): number | undefined {
    if (this.plan === undefined || this.policy.budgets === 'always') return undefined;
    const at = forceAt(this.plan, this.policy, ownGraceSeconds(pod, this.policy));
    return at === Infinity || at <= this.ports.clock.now() ? undefined : at;
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

/** Whether the answer says that neither this nor what was asked before has taken effect. */
function saysItStands(answer: EvictionAnswer): boolean {
  switch (answer.outcome) {
    case 'budget':
    case 'conflict':
      return true;
    case 'refused':
      return answer.reason !== 'timeout';
    case 'accepted':
    case 'gone':
    case 'overloaded':
    case 'unreachable':
      return false;
    default:
      throw new Error(`unexpected answer: ${JSON.stringify(answer satisfies never)}`);
  }
}
