import type { Clock } from '../clock.ts';
import { deadlineOf, type Plan } from '../plan/deadline.ts';
import { episodeOf, type Interruption } from '../plan/interruption.ts';
import type { Journal } from '../plan/journal.ts';
import { HOLD_KEY, type NodeView } from '../plan/node.ts';
import type { Policy } from '../plan/policy.ts';
import type { Metrics } from '../report/metrics.ts';
import type { ObjectEvents } from '../report/object-events.ts';
import type { InterruptionOutcome, Outcomes, PodCounts } from '../report/outcome.ts';
import type { Report } from '../report/report.ts';
import type { DrainPods, Task } from './drain-pods.ts';

const FIRST_WAIT_REPORT_MS = 10_000;
const MAX_WAIT_REPORT_MS = 30 * 60_000;
const MAX_PODS_TOLD = 20;

/** How a drain ends, in the log's words. */
type End = 'drained' | 'not drained by policy' | 'node gone' | 'machine off';

/** What the drain is told of, as it is at that moment. */
export type DrainState = Readonly<{
  /** Undefined: it is gone. */
  node: NodeView | undefined;
  journal: Journal;
  plan: Plan | undefined;
}>;

type StoryPorts = Readonly<{
  outcomes: Outcomes;
  objectEvents: ObjectEvents;
  clock: Clock;
  metrics: Metrics;
  report: Report;
}>;

/** One drain as others see it: its log lines, metrics, Kubernetes events and outcomes. */
export class DrainStory {
  private lateTold = false;
  /** Interruptions that are known to be late, by episode. */
  private lateOnes: ReadonlySet<string> = new Set();
  /** When the next one will be. */
  private nextLateAt = Infinity;
  private heldTold = false;
  private waitToldMs = FIRST_WAIT_REPORT_MS;
  private waitTellAt: number;
  private readonly startedAt: number;
  private readonly nodeName: string;
  private readonly tasks: DrainPods;
  private readonly ports: StoryPorts;
  private readonly policy: Policy;
  private readonly state: () => DrainState;

  constructor(
    nodeName: string,
    tasks: DrainPods,
    ports: StoryPorts,
    policy: Policy,
    state: () => DrainState,
  ) {
    this.nodeName = nodeName;
    this.tasks = tasks;
    this.ports = ports;
    this.policy = policy;
    this.state = state;
    this.startedAt = ports.clock.now();
    this.waitTellAt = this.startedAt + FIRST_WAIT_REPORT_MS;
  }

  /** When it wants to say again on what it waits, or that more is late (epoch ms). */
  get nextAt(): number {
    const isAhead = this.nextLateAt > this.ports.clock.now();
    return isAhead ? Math.min(this.waitTellAt, this.nextLateAt) : this.waitTellAt;
  }

  /** What is late by another deadline is told again. */
  deadlineChanged(): void {
    this.lateTold = false;
  }

  begun(): void {
    const { clock, objectEvents, report } = this.ports;
    const { node, journal, plan } = this.state();
    const standing = this.tasks.standing();
    const daemonSet = this.tasks.leftAlone('daemonset');
    const mirror = this.tasks.leftAlone('mirror');
    const deadlineAt = plan?.deadlineAt;
    objectEvents.onNode(node, 'Draining', {
      ...this.ofNode(),
      pods: standing.length,
      staying: daemonSet + mirror,
    });
    report.info('draining', {
      node: this.nodeName,
      instance: journal.machine.instanceId,
      kind: plan?.kind,
      ...(deadlineAt !== undefined && {
        deadline: new Date(deadlineAt),
        secondsLeft: Math.round((deadlineAt - clock.now()) / 100) / 10,
      }),
      pods: standing.length,
      critical: standing.filter(({ tier }) => tier > 0).length,
      terminating: standing.filter(({ pod }) => pod.deletion !== undefined).length,
      daemonSet,
      mirror,
      finished: this.tasks.leftAlone('finished'),
    });
  }

  /** At growing intervals: on which pods it waits, and why. */
  waits(): void {
    const { clock, objectEvents, report } = this.ports;
    if (clock.now() < this.waitTellAt) return;
    this.waitToldMs = Math.min(this.waitToldMs * 2, MAX_WAIT_REPORT_MS);
    this.waitTellAt = clock.now() + this.waitToldMs;
    const standing = this.tasks.standing();
    if (standing.length === 0) return;
    const { node, plan } = this.state();
    const deadlineAt = plan?.deadlineAt;
    const facts = { podsLeft: standing.length, pods: describe(standing) };
    report.info('still draining', {
      node: this.nodeName,
      kind: plan?.kind,
      ...(deadlineAt !== undefined && {
        secondsLeft: Math.round((deadlineAt - clock.now()) / 1000),
      }),
      ...facts,
    });
    objectEvents.onNode(node, 'DrainWaiting', facts);
  }

  /** `until`: epoch ms. */
  postponed(until: number): void {
    const { objectEvents, report } = this.ports;
    const pods = describe(this.tasks.standing());
    report.info('drain postponed', { node: this.nodeName, until: new Date(until), pods });
    objectEvents.onNode(this.state().node, 'DrainPostponed', { until });
  }

  /** Whether an operator's brake is on: told when that changes. */
  held(held: boolean): void {
    if (held === this.heldTold) return;
    this.heldTold = held;
    const { objectEvents, report } = this.ports;
    report.warn(held ? 'held by an operator' : 'released by an operator', { node: this.nodeName });
    const reason = held ? 'DrainHeld' : 'DrainReleased';
    objectEvents.onNode(this.state().node, reason, { annotation: HOLD_KEY });
  }

  /** The window has ended with pods left: told once for each deadline. */
  late(): void {
    const standing = this.tasks.standing();
    if (standing.length === 0) return;
    this.tellLateOnes();
    if (this.lateTold) return;
    this.lateTold = true;
    const { metrics, objectEvents, report } = this.ports;
    const { node, plan } = this.state();
    metrics.count('drains_total', { kind: plan?.kind ?? 'none', outcome: 'late' });
    metrics.count('pods_total', { way: 'left behind' }, standing.length);
    const facts = { podsLeft: standing.length, pods: describe(standing) };
    report.error('not all pods left in time', { node: this.nodeName, kind: plan?.kind, ...facts });
    objectEvents.onNode(node, 'DrainLate', facts);
    const told = this.ofNode();
    for (const { pod } of standing) objectEvents.onPod(pod, 'LeftBehind', told);
  }

  private tellLateOnes(): void {
    const { journal, plan } = this.state();
    const untilAt = Math.max(this.ports.clock.now(), plan?.deadlineAt ?? -Infinity);
    const late = new Map<string, Interruption>();
    this.nextLateAt = Infinity;
    for (const interruption of journal.live) {
      const deadlineAt = this.deadlineOf(interruption);
      if (deadlineAt === undefined) continue;
      if (deadlineAt <= untilAt) late.set(episodeOf(interruption), interruption);
      else this.nextLateAt = Math.min(this.nextLateAt, deadlineAt);
    }
    const fresh = [...late].filter(([episode]) => !this.lateOnes.has(episode));
    this.lateOnes = new Set(late.keys());
    const interruptions = fresh.map(([, interruption]) => interruption);
    if (fresh.length > 0) this.tellOutcome('late', this.tasks.counts(), interruptions);
  }

  outlived(): void {
    const { objectEvents, report } = this.ports;
    const { node, plan } = this.state();
    const kind = plan?.kind;
    report.warn('machine outlived its deadline', { node: this.nodeName, kind });
    objectEvents.onNode(node, 'DeadlineOutlived', { kind, isDraining: true });
  }

  ended(end: End): void {
    const { clock, metrics, report } = this.ports;
    const { node, journal, plan } = this.state();
    const now = clock.now();
    const kind = plan?.kind ?? 'none';
    const spareMs = plan?.deadlineAt === undefined ? undefined : plan.deadlineAt - now;
    metrics.count('drains_total', { kind, outcome: end });
    if (end === 'drained' && spareMs !== undefined)
      metrics.observe('deadline_spare_seconds', { kind }, spareMs / 1000);
    const pods = this.tasks.counts();
    report.info(end, {
      node: this.nodeName,
      instance: journal.machine.instanceId,
      kind: plan?.kind,
      action: plan?.action,
      ...(spareMs !== undefined && { secondsToSpare: Math.round(spareMs / 100) / 10 }),
      secondsTaken: Math.round((now - this.startedAt) / 100) / 10,
      ...pods,
    });
    this.tellNode(node, end, pods, spareMs);
    this.tellEnds(journal.live);
  }

  /** What came when the end of these was told already (IDs) has ended in the same way. */
  endedAfter(told: readonly string[]): void {
    this.tellEnds(this.state().journal.live.filter(({ id }) => !told.includes(id)));
  }

  private tellEnds(interruptions: readonly Interruption[]): void {
    // By policy there was nothing to bring about.
    if (this.state().plan?.action !== 'drain') return;
    const pods = this.tasks.counts();
    if (!this.tasks.isListed) this.tellOutcome('not-possible', undefined, interruptions);
    else if (pods.stayed > 0) this.tellOutcome('not-possible', pods, interruptions);
    else {
      const outcome = pods.deletedPastBudget > 0 ? 'forced' : 'drained';
      this.tellOutcome(outcome, pods, interruptions);
    }
  }

  /** What its pods are told of the node. */
  ofNode() {
    const { plan } = this.state();
    return { node: this.nodeName, kind: plan?.kind, deadlineAt: plan?.deadlineAt };
  }

  ofPod({ pod, waitsFor }: Task): Record<string, unknown> {
    return {
      node: this.nodeName,
      namespace: pod.namespace,
      pod: pod.name,
      ...(waitsFor !== undefined && { waitedFor: waitsFor }),
    };
  }

  /** By when the pods have to be gone for this one; heartbeats keep some alive until the plan's. */
  private deadlineOf(interruption: Interruption): number | undefined {
    const ownAt = deadlineOf(interruption, this.policy);
    const planAt = this.state().plan?.deadlineAt ?? -Infinity;
    return ownAt === undefined ? undefined : Math.max(ownAt, planAt);
  }

  private tellNode(
    node: NodeView | undefined,
    end: End,
    pods: PodCounts,
    spareMs: number | undefined,
  ): void {
    const { objectEvents } = this.ports;
    const secondsToSpare = spareMs === undefined ? undefined : spareMs / 1000;
    if (end === 'drained') objectEvents.onNode(node, 'Drained', { ...pods, secondsToSpare });
    else if (end !== 'node gone') objectEvents.onNode(node, 'DrainEnded', { why: end });
  }

  private tellOutcome(
    outcome: InterruptionOutcome['outcome'],
    pods: PodCounts | undefined,
    interruptions: readonly Interruption[],
  ): void {
    const { clock, outcomes } = this.ports;
    const { journal } = this.state();
    const podNames = this.tasks.names();
    for (const interruption of interruptions) {
      outcomes.tell({
        node: this.nodeName,
        instanceId: journal.machine.instanceId,
        interruption,
        outcome,
        deadlineAt: this.deadlineOf(interruption),
        endedAt: clock.now(),
        pods,
        podNames,
      });
    }
  }
}

function describe(tasks: readonly Task[]): readonly string[] {
  return tasks
    .slice(0, MAX_PODS_TOLD)
    .map(
      ({ pod, waitsFor }) =>
        `${pod.namespace}/${pod.name}: ${pod.deletion === undefined ? (waitsFor ?? 'not yet tried') : `terminating until ${new Date(pod.deletion.endsAt).toISOString()}`}`,
    );
}
