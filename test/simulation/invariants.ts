import { readJournal, type Journal } from '../../src/plan/journal.ts';
import {
  HOLD_KEY,
  INTERRUPTION_KEY,
  JOURNAL_KEY,
  LOAD_BALANCER_KEY,
  UNSCHEDULABLE_KEY,
  type Taint,
} from '../../src/plan/node.ts';
import { isEmergency } from '../../src/plan/rows.ts';
import type { RawNode, RawPod } from './api-server.ts';
import type { Machine } from './cluster.ts';
import { OutcomesTold } from './outcomes-told.ts';
import type { Entry } from './record.ts';
import {
  MARGIN_MS,
  NEWS_MS,
  SKEW_MS,
  UNKNOWN_GRACE_SECONDS,
  type Reason,
  type Sent,
  type Rest,
  type World,
} from './world.ts';

export type InvariantName =
  | 'I1'
  | 'I2'
  | 'I3'
  | 'I4'
  | 'I5'
  | 'I6'
  | 'I7'
  | 'I8'
  | 'I9'
  | 'no fault of ours';

export type Violation = Readonly<{ invariant: InvariantName; at: number; says: string }>;

/** What a drain needs at the end of which nothing goes wrong: back-off, requests, the margin apart. */
const CALM_MS = 25_000;
/** After the mark, the node's pods are listed a second time. */
const LISTED_AGAIN_MS = 3000 + SKEW_MS;
const OUTLIVED_MS = 60_000;
const RESTORED_WITHIN_MS = 5000;
const TAKEN_OVER_WITHIN_MS = 25_000;

type Checks = Readonly<{ checked: Map<InvariantName, number>; violations: readonly Violation[] }>;

/** Judges a storm by the world's own records, from its beginning to its end. */
export class Invariants implements Checks {
  readonly violations: Violation[] = [];
  /** How often each was judged without an excuse. */
  readonly checked = new Map<InvariantName, number>();
  private readonly world: World;
  /** Journals as the API server has held them, by instance: interruptions that were recorded, once and for all. */
  private readonly recorded = new Map<string, Recorded>();
  /** Whether the cordon that stands on a Node is ours. */
  private readonly cordons = new Map<string, 'ours' | "another's" | undefined>();
  /** By pod: when its eviction was last refused, or got no answer. */
  private readonly refusedAt = new Map<string, number>();
  private readonly boundAt = new Map<string, number>();
  /** Pods that came to a node when nothing was left there to wait for, and no list was to come. */
  private readonly cameToEmpty = new Set<string>();
  /** When the brake was last let go. */
  private readonly releasedAt = new Map<string, number>();
  /** Since when a node is held. */
  private readonly heldSince = new Map<string, number>();
  /** When each Node last registered, and somebody last wrote to it. */
  private readonly registeredAt = new Map<string, number>();
  private readonly meddledAt = new Map<string, number>();
  /** As they stand on the Nodes. */
  private readonly journals = new Map<string, Journal>();
  /** Since when nothing new is to settle on each node. */
  private readonly markedAt = new Map<string, number>();
  /** By node: controllers of which a pod was told to go that came after the mark. */
  private readonly lateControllers = new Map<string, Set<string>>();
  /** Machines of whose journal nobody has a memory. */
  private readonly forgotten = new Set<string>();
  private readonly outcomes: OutcomesTold;

  constructor(world: World) {
    this.world = world;
    this.outcomes = new OutcomesTold(world, {
      count: () => this.count('I9'),
      broken: (says) => this.broken('I9', says),
      journalOf: (name) => this.journals.get(name),
      isForgotten: (name) => this.forgotten.has(name),
      registeredAt: (name) => this.registeredAt.get(name) ?? 0,
      waitedFor: (name, at) => this.waitedFor(name, at).filter((pod) => !this.comesInVain(pod)),
    });
    world.on((entry) => {
      this.see(entry);
      this.outcomes.see(entry);
    });
  }

  private see(entry: Entry): void {
    const { at, what } = entry;
    if (what === 'node written') this.seeNode(entry);
    else if (what === 'node gone') {
      this.journals.delete(entry.node.metadata.name);
      this.noteLoss(entry.node.metadata.name, at, true);
    } else if (what === 'someone' && entry.did === 'removes our journal')
      this.noteLoss(entry.node, at, false);
    else if (what === 'message received') this.watchMark(entry);
    else if (what === 'message deleted') this.judgeDeletion(entry.message, at);
    else if (what === 'pod bound') this.noteBound(entry.pod, at);
    else if (what === 'eviction refused') this.refusedAt.set(entry.pod.metadata.uid, at);
    else if (what === 'eviction' || what === 'deletion') {
      this.judgeRemoval(entry);
      this.noteLatecomer(entry.before);
    } else if (what === 'hook completed') this.judgeCompletion(entry.token, at);
    else if (what === 'hook expired') this.judgeExpiry(entry.token, at);
    else if (what === 'machine off') this.judgeEmptied(entry.node, at);
  }

  /**
   * A journal goes with its Node, or by a person's hand, and is written again from memory: of a Node
   * by whoever has seen it go, of an annotation by the leader. Where none of them lives on, or can see
   * and write, there is no memory of it: the double fault that nothing is promised of.
   */
  private noteLoss(name: string, at: number, isOfNode: boolean): void {
    const { world } = this;
    const witnesses = [...world.replicas].filter(({ hasIndex, isLeading }) =>
      isOfNode ? hasIndex : isLeading,
    );
    world.clock.after(isOfNode ? TAKEN_OVER_WITHIN_MS : RESTORED_WITHIN_MS, () => {
      const now = world.now();
      const isKnown = witnesses.some((witness) => world.replicas.has(witness));
      const isHeldUp = isOfNode
        ? world.wasTroubled(now - CALM_MS, now, ['api'])
        : world.wasTroubled(at - 12_000, now, ['api', 'process']);
      if (!isKnown || isHeldUp) this.forgotten.add(name);
    });
  }

  // ── I1 ──────────────────────────────────────────────────────────────────────────────────────

  /** A message is deleted only when recorded, duplicate, stale, or not ours. */
  private judgeDeletion(id: string, at: number): void {
    const sent = this.world.messages.get(id);
    if (sent === undefined) return;
    this.count('I1');
    const why = this.mayBeDeleted(sent, at);
    if (!why)
      this.broken(
        'I1',
        `message ${id} (${describe(sent)}) was deleted, but is neither recorded nor old nor another's`,
      );
  }

  private mayBeDeleted(sent: Sent, now: number): boolean {
    const { noise, event, instanceId, launchToken } = sent;
    const waitedMs = now - (sent.receivedAt ?? now);
    const graceIsOver = waitedMs >= UNKNOWN_GRACE_SECONDS * 1000 - 2 * SKEW_MS;
    if (launchToken !== undefined)
      return (
        this.world.hooks.get(launchToken)?.end !== undefined || now > this.launchEnd(launchToken)
      );
    switch (noise) {
      case 'rubbish':
        return sent.receives >= 5;
      case 'instance of another cluster':
      case 'hook of another cluster':
        return graceIsOver;
      case 'other account':
      case 'unknown detail-type':
      case 'test notification':
      case 'state of another cluster':
        return true;
      case undefined:
        break;
      default:
        throw new Error(`unexpected noise: ${String(noise satisfies never)}`);
    }
    if (event === undefined || instanceId === undefined) return false;
    const machine = this.world.cluster.machineOf(instanceId);
    if (machine === undefined) return false;
    const node = this.world.cluster.api.nodes.get(machine.name);
    const recorded = this.recorded.get(instanceId);
    if (sent.identity !== undefined && recorded?.ids.has(sent.identity) === true)
      return this.isVersionRecorded(sent, recorded);
    if (event.kind === 'state-change') {
      if (event.state === 'running' && (recorded?.runningAt ?? 0) >= event.time) return true;
      if (
        (event.state === 'stopped' || event.state === 'terminated') &&
        (recorded?.stoppedAt ?? 0) >= event.time
      )
        return true;
      // Nothing to end where there is no Node.
      if (
        node === undefined &&
        (event.state === 'running' || event.state === 'stopped' || event.state === 'terminated')
      )
        return true;
      // The machine was alive after it, as its kubelet shows.
      if (machine.onSince > event.time) return true;
    }
    if (event.kind === 'scheduled-change' && event.status === 'closed' && node === undefined)
      return true;
    // Its Node was gone for a moment, and nothing was left to drain; or for the grace.
    if (event.kind === 'terminate-hook' && this.world.hooks.get(event.token)?.end !== undefined)
      return true;
    if ((node === undefined || machine.isGone) && graceIsOver) return true;
    // It has outlived what was said of it.
    const deadlineAt = sent.reason?.deadlineAt;
    return deadlineAt !== undefined && now > deadlineAt + OUTLIVED_MS - SKEW_MS && machine.isOn;
  }

  private isVersionRecorded({ event, identity }: Sent, recorded: Recorded): boolean {
    if (event?.kind !== 'scheduled-change' || identity === undefined) return true;
    return latestOf(recorded.versions.get(identity)) >= event.lastUpdatedAt;
  }

  private launchEnd(token: string): number {
    const action = this.world.hooks.get(token);
    return action === undefined
      ? 0
      : action.beganAt + action.timeoutSeconds * 1000 - SKEW_MS - 1000;
  }

  // ── I2 ──────────────────────────────────────────────────────────────────────────────────────

  /** While the API server answers, an interrupted node is marked within 2 s of receipt. */
  private watchMark({
    message: id,
    process,
    at,
  }: Extract<Entry, { what: 'message received' }>): void {
    const { world } = this;
    const sent = world.messages.get(id);
    const reason = sent?.reason;
    if (sent?.event === undefined || reason === undefined || sent.identity === undefined) return;
    const { identity } = sent;
    const { name } = reason.machine;
    if (!world.cluster.api.nodes.has(name)) return;
    world.clock.after(2000, () => {
      const registeredAt = this.registeredAt.get(name) ?? 0;
      const node = world.cluster.api.nodes.get(name);
      const now = world.now();
      const replica = [...world.replicas].find(({ way }) => way.process === process);
      if (node === undefined || replica?.isLeading !== true || reason.machine.isGone) return;
      if (reason.token !== undefined && world.hooks.get(reason.token)?.end !== undefined) return;
      // How old it is follows from the hook's timeout.
      const isAgeAsked = reason.token !== undefined && at - reason.time > OUTLIVED_MS - SKEW_MS;
      if (isAgeAsked && world.wasTroubled(at - 10_000, now, ['auto-scaling'])) return;
      // It did not know the Node yet, or the machine has shown that the news are old.
      if (registeredAt > at - NEWS_MS || reason.overAt < now || this.isOutlived(reason, now))
        return;
      if (world.wasTroubled(at - 10_000, now, ['api', 'process']) || this.isAnswerLost(sent, at))
        return;
      this.count('I2');
      const recorded = this.recorded.get(reason.machine.instanceId);
      if (recorded?.ids.has(identity) === true && hasMark(node)) return;
      if (this.meddledAt.has(name) && now - (this.meddledAt.get(name) ?? 0) < 35_000) return;
      this.broken(
        'I2',
        `${name} is not marked 2 s after ${describe(sent)} was received, and nothing was wrong`,
      );
    });
  }

  /** The receive's own answer did not arrive. */
  private isAnswerLost(_sent: Sent, at: number): boolean {
    return this.world.wasTroubled(at - 100, at + 2000, ['queue']);
  }

  private isOutlived({ deadlineAt }: Reason, now: number): boolean {
    return deadlineAt !== undefined && now > deadlineAt + OUTLIVED_MS - 3 * SKEW_MS;
  }

  // ── I3, I8 ──────────────────────────────────────────────────────────────────────────────────

  /** No pod leaves that must not, none before its time, none with less grace than there is; and none by old news. */
  private judgeRemoval(entry: Extract<Entry, { what: 'eviction' | 'deletion' }>): void {
    const { before: pod, at, process, graceSeconds } = entry;
    const { world } = this;
    const { name } = pod.metadata;
    this.count('I3');
    if (!world.cluster.isToLeave(pod)) this.broken('I3', `${name} is not to be evicted at all`);
    if (graceSeconds === undefined || graceSeconds < 1)
      this.broken('I3', `${name} was given a grace of ${graceSeconds}`);
    const machine = world.cluster.machines.get(pod.spec.nodeName);
    if (machine === undefined) return;
    const held = this.heldSince.get(machine.name);
    if (
      held !== undefined &&
      at - held > NEWS_MS &&
      !world.wasTroubled(held, at, ['api', 'process'])
    ) {
      this.broken('I3', `${name} was evicted while ${machine.name} was held`);
    }
    const reasons = this.reasonsOf(machine, at);
    if (reasons.length === 0 && this.forgotten.has(machine.name)) return;
    if (reasons.length === 0) {
      const was = world.reasons.some(
        (reason) => reason.machine === machine && reason.receivedAt !== undefined,
      );
      this.broken(
        was ? 'I8' : 'I3',
        was
          ? `${name} was evicted although ${machine.name} is over all that was said of it`
          : `${name} was evicted from ${machine.name}, of which nothing is known`,
      );
      return;
    }
    if (reasons.every(({ isPaced }) => isPaced)) this.judgePace(machine, name);
    if (pod.metadata.deletionTimestamp !== undefined) this.judgeShortening(entry, reasons);
    else {
      this.judgeGrace(entry, reasons);
      if (entry.what === 'deletion') this.judgeForce(pod, at, reasons, process);
    }
  }

  /** What calls for draining the machine now, or did a moment ago. */
  private reasonsOf(machine: Machine, now: number): readonly Reason[] {
    return this.world.reasons.filter((reason) => {
      if (reason.machine !== machine || reason.receivedAt === undefined) return false;
      if (this.wasOldNews(reason)) return false;
      const since = this.overSince(reason);
      if (since === Infinity || now <= since + NEWS_MS) return true;
      // Word of its end was held up.
      return (
        this.world.wasTroubled(since - 500, now, ['api', 'process', 'queue']) &&
        now <= since + 60_000
      );
    });
  }

  /**
   * Nobody can tell under which boot advice was issued but from its record: what a machine was through
   * before that does not end it.
   */
  private overSince({ kind, id, machine, overAt }: Reason): number {
    if (kind !== 'rebalance') return overAt;
    const recordedAt = this.recorded.get(machine.instanceId)?.ids.get(id);
    return recordedAt !== undefined && recordedAt < overAt ? overAt : Infinity;
  }

  /** First heard of when the machine had outlived it long since. */
  private wasOldNews({ deadlineAt, receivedAt, machine, kind, overAt }: Reason): boolean {
    if (receivedAt === undefined) return true;
    if (kind !== 'rebalance' && receivedAt > overAt + NEWS_MS) return true;
    if (deadlineAt === undefined || kind === 'reboot' || kind === 'hook') return false;
    return (
      receivedAt > Math.max(deadlineAt + OUTLIVED_MS, machine.onSince) + 12_000 + SKEW_MS &&
      machine.isOn
    );
  }

  /** The kubelet may have shown already that it outlived it. */
  private mayBeOldNews({ deadlineAt, receivedAt }: Reason): boolean {
    return (
      deadlineAt !== undefined &&
      receivedAt !== undefined &&
      receivedAt > deadlineAt + OUTLIVED_MS - SKEW_MS
    );
  }

  private judgePace(machine: Machine, pod: string): void {
    const { world } = this;
    const paced = [...world.cluster.machines.values()].filter((other) => {
      const journal = this.journals.get(other.name);
      if (journal?.state !== 'draining' && journal?.state !== 'settled') return false;
      // One that registered anew was no Node for a moment, and its turn another's.
      if ((this.registeredAt.get(other.name) ?? 0) > world.startedAt) return false;
      // From its last call on, no limit counts.
      if (
        journal.live.some(({ kind, deadlineAt }) => isEmergency(kind) || deadlineAt !== undefined)
      )
        return false;
      const reasons = this.reasonsOf(other, world.now());
      return (
        reasons.length > 0 &&
        reasons.every(({ isPaced, deadlineAt }) => isPaced && deadlineAt === undefined)
      );
    });
    const isLastCall = world.reasons.some(
      (reason) => reason.machine === machine && reason.kind === 'reboot',
    );
    if (isLastCall || world.storm.replicas === 'overlapping') return;
    if (paced.length > world.storm.pacedAtOnce) {
      this.broken(
        'I3',
        `${pod} was evicted from ${machine.name} while ${paced.length} nodes were drained that may wait their turn`,
      );
    }
  }

  /** Never less than the pod's own, or than what is left until the deadline. */
  private judgeGrace(
    { before: pod, at, graceSeconds = 0 }: Extract<Entry, { what: 'eviction' | 'deletion' }>,
    reasons: readonly Reason[],
  ): void {
    const endAt = this.earliestDeadline(reasons, at) - MARGIN_MS;
    const leftSeconds = Math.floor((endAt - at - 2 * SKEW_MS) / 1000) - 1;
    const owed = Math.min(pod.spec.terminationGracePeriodSeconds, leftSeconds);
    if (graceSeconds < owed && !this.world.wasTroubled(at - 15_000, at, ['process'])) {
      this.broken(
        'I3',
        `${pod.metadata.name} was given a grace of ${graceSeconds} s, and ${owed} s were left`,
      );
    }
  }

  private judgeShortening(
    { before: pod, after, at, graceSeconds = 0 }: Extract<Entry, { what: 'eviction' | 'deletion' }>,
    reasons: readonly Reason[],
  ): void {
    if (before(after) >= before(pod)) return;
    const endAt = this.earliestDeadline(reasons, at) - MARGIN_MS;
    // The kubelet counts it from now.
    const endsAt = at + graceSeconds * 1000;
    // As much as fits is left to it: a second at least, and the whole seconds of the API.
    if (endsAt < endAt - 2 * SKEW_MS - 3000) {
      this.broken(
        'I3',
        `${pod.metadata.name}'s grace was cut to ${graceSeconds} s, ${((endAt - endsAt) / 1000).toFixed(1)} s before there was need`,
      );
    }
  }

  /** Past its budget only from `forceAt` on, and after a refusal. */
  private judgeForce(pod: RawPod, at: number, reasons: readonly Reason[], process: string): void {
    const { name, uid } = pod.metadata;
    const forceAt = Math.min(
      ...this.windowsOf(reasons, at).map(({ deadlineAt, windowStartAt, isPastBudgets }) => {
        if (isPastBudgets) return windowStartAt;
        const middle = windowStartAt + (deadlineAt - windowStartAt) / 2;
        return Math.max(
          deadlineAt - MARGIN_MS - pod.spec.terminationGracePeriodSeconds * 1000,
          middle,
        );
      }),
    );
    if (at < forceAt - 2 * SKEW_MS - 1000) {
      this.broken(
        'I3',
        `${name} was deleted past its budget ${((forceAt - at) / 1000).toFixed(1)} s before that may be`,
      );
    }
    const refusedAt = this.refusedAt.get(uid);
    const isUnanswered = this.world.wasTroubled(forceAt - 20_000, at, ['api']);
    if ((refusedAt === undefined || refusedAt < forceAt - 2 * SKEW_MS - 1000) && !isUnanswered) {
      this.broken(
        'I3',
        `${name} was deleted past its budget by ${process}, which had not refused it`,
      );
    }
  }

  private earliestDeadline(reasons: readonly Reason[], at: number): number {
    return Math.min(...this.windowsOf(reasons, at).map(({ deadlineAt }) => deadlineAt));
  }

  /** Those with a deadline, as they were when the controller recorded them last, or had until just now. */
  private windowsOf(reasons: readonly Reason[], at: number): readonly Window[] {
    return reasons.flatMap((reason): readonly Window[] => {
      const { id, kind, machine, starts, windowStartAt, deadlineAt } = reason;
      if (deadlineAt === undefined) return [];
      const isPastBudgets = kind === 'stopping' || kind === 'shutting-down';
      const versions = this.recorded.get(machine.instanceId)?.versions.get(id) ?? [];
      const recorded = starts.filter(({ updatedAt }) =>
        versions.some(
          (version, i) =>
            version.updatedAt === updatedAt &&
            (versions[i + 1]?.recordedAt ?? Infinity) >= at - NEWS_MS,
        ),
      );
      if (recorded.length === 0) return [{ windowStartAt, deadlineAt, isPastBudgets }];
      const leadMs = this.world.policy.scheduledChangeLeadMs;
      return recorded.map(({ startAt }) => ({
        windowStartAt: startAt - leadMs,
        deadlineAt: startAt,
        isPastBudgets,
      }));
    });
  }

  // ── I4 ──────────────────────────────────────────────────────────────────────────────────────

  /** A hook of ours is completed when its node is empty, the machine is gone, or the window has ended; never before. */
  private judgeCompletion(token: string, at: number): void {
    const { world } = this;
    const action = world.hooks.get(token);
    if (action === undefined) return;
    this.count('I4');
    const { machine } = action;
    if (!action.isOurs) this.broken('I4', `${token} is not ours, and was completed`);
    const node = world.cluster.api.nodes.get(machine.name);
    if (action.isLaunch) {
      const ready = node?.status.conditions[0]?.status === 'True';
      if (!ready && !world.wasTroubled(at - 5000, at, ['api', 'process'])) {
        this.broken('I4', `${token} was completed before ${machine.name} was Ready`);
      }
      return;
    }
    // Gone, or off: nothing is left to drain. What has just registered anew was gone when it was asked.
    if (node === undefined || !machine.isOn || machine.isGone) return;
    const registeredAt = this.registeredAt.get(machine.name) ?? 0;
    const isNewsHeldUp = world.wasTroubled(registeredAt, at, ['api']);
    if (at - registeredAt < (isNewsHeldUp ? 15_000 : NEWS_MS)) return;
    const windowEnd = Math.min(
      ...world.reasons
        .filter((reason) => reason.machine === machine && !reason.isPaced)
        .map(({ deadlineAt }) => deadlineAt ?? Infinity),
    );
    // What a hook would expire with is over the margin before.
    if (at >= windowEnd - MARGIN_MS - SKEW_MS) return;
    const left = this.waitedFor(machine.name, at);
    if (left.length > 0) {
      this.broken(
        'I4',
        `${token} was completed while ${left.map(({ metadata }) => metadata.name).join()} was still on ${machine.name}`,
      );
    }
  }

  /** Pods that a drain waits for, and must have heard of. */
  private waitedFor(name: string, at: number): readonly RawPod[] {
    return this.world.cluster
      .podsOn(name)
      .filter((pod) => this.isWaitedFor(pod) && !this.isJustHeardOf(pod, at));
  }

  /** It came after the mark, which it tolerates: but for the first of its controller it is let be. */
  private comesInVain(pod: RawPod): boolean {
    return this.isLatecomer(pod) && this.world.cluster.workloadOf(pod)?.tolerates === true;
  }

  private isWaitedFor(pod: RawPod): boolean {
    if (!this.world.cluster.isToLeave(pod)) return false;
    if (!this.isLatecomer(pod)) return true;
    if (this.world.cluster.workloadOf(pod)?.tolerates !== true) return true;
    if (this.cameToEmpty.has(pod.metadata.uid)) return false;
    // Once per controller and node: the rest of them are let be.
    return this.lateControllers.get(pod.spec.nodeName)?.has(controllerOf(pod)) !== true;
  }

  private isJustHeardOf(pod: RawPod, now: number): boolean {
    return this.isLatecomer(pod) && now - (this.boundAt.get(pod.metadata.uid) ?? 0) < 2000;
  }

  /** It came after the mark. */
  private isLatecomer({ metadata, spec }: RawPod): boolean {
    const markedAt = this.markedAt.get(spec.nodeName);
    return markedAt !== undefined && (this.boundAt.get(metadata.uid) ?? 0) > markedAt;
  }

  private noteBound(pod: RawPod, at: number): void {
    const { uid } = pod.metadata;
    const { nodeName } = pod.spec;
    this.boundAt.set(uid, at);
    const markedAt = this.markedAt.get(nodeName) ?? Infinity;
    if (at < markedAt + LISTED_AGAIN_MS) return;
    const others = this.world.cluster
      .podsOn(nodeName)
      .filter(({ metadata }) => metadata.uid !== uid);
    if (!others.some((other) => this.isWaitedFor(other))) this.cameToEmpty.add(uid);
  }

  private noteLatecomer(pod: RawPod): void {
    if (!this.isLatecomer(pod)) return;
    const { nodeName } = pod.spec;
    const known = this.lateControllers.get(nodeName) ?? new Set();
    this.lateControllers.set(nodeName, known.add(controllerOf(pod)));
  }

  /** Nobody completed it: there was no time, or something was wrong for too long. */
  private judgeExpiry(token: string, at: number): void {
    const { world } = this;
    const action = world.hooks.get(token);
    if (action === undefined || !action.isOurs || action.isLaunch) return;
    const { machine } = action;
    const receivedAt = world.reasons.find((reason) => reason.token === token)?.receivedAt;
    if (receivedAt === undefined || this.forgotten.has(machine.name)) return;
    const calmFrom = this.lastTroubleBefore(at, ['api', 'auto-scaling', 'process', 'queue']);
    if (at - Math.max(calmFrom, receivedAt) < CALM_MS + 10_000) return;
    this.count('I4');
    this.broken('I4', `${token} of ${machine.name} was never completed`);
  }

  private lastTroubleBefore(at: number, of: Parameters<World['wasTroubled']>[2]): number {
    return Math.max(
      0,
      ...this.world.troubles
        .filter((trouble) => of.includes(trouble.of) && trouble.at <= at)
        .map(({ until }) => Math.min(until, at)),
    );
  }

  // ── I5 ──────────────────────────────────────────────────────────────────────────────────────

  private seeNode({
    by,
    isOurs,
    before,
    after,
    at,
  }: Extract<Entry, { what: 'node written' }>): void {
    const { name } = after.metadata;
    if (before === undefined) this.registeredAt.set(name, at);
    const { annotations } = after.metadata;
    if (
      before?.metadata.annotations[JOURNAL_KEY] !== annotations[JOURNAL_KEY] ||
      before === undefined
    )
      this.learnJournal(after);
    if (isOurs && before !== undefined) this.judgeWrite(before, after, at);
    else if (by === 'someone') this.meddledAt.set(name, at);
    const is = after.spec.unschedulable === true;
    const was = before?.spec.unschedulable === true;
    if (is && !was) this.cordons.set(name, isOurs ? 'ours' : "another's");
    if (!is) this.cordons.delete(name);
    // Somebody else's hand does not make it another mark.
    if (before === undefined || (!isMarkedHard(after) && isOurs)) {
      this.markedAt.delete(name);
      this.lateControllers.delete(name);
    }
    if (isMarkedHard(after) && !this.markedAt.has(name)) this.markedAt.set(name, at);
    const isHeld = after.metadata.annotations[HOLD_KEY] !== undefined;
    if (!isHeld && this.heldSince.delete(name)) this.releasedAt.set(name, at);
    if (isHeld && !this.heldSince.has(name)) this.heldSince.set(name, at);
  }

  /** Cordons, labels and taints of others survive; and no marks come by old news. */
  private judgeWrite(before: RawNode, after: RawNode, at: number): void {
    const { name } = after.metadata;
    this.count('I5');
    const others = (node: RawNode): string =>
      (node.spec.taints ?? [])
        .filter((taint) => taint.key !== INTERRUPTION_KEY && !isOfCordon(taint))
        .map(({ key, value, effect }) => `${key}=${value}:${effect}`)
        .join();
    if (others(before) !== others(after))
      this.broken(
        'I5',
        `taints of others on ${name} were ${others(before)} and are ${others(after)}`,
      );
    const isCordoned = after.spec.unschedulable === true;
    const hadTaint = before.spec.taints?.some(isOfCordon) === true;
    const isToHaveTaint =
      isCordoned === (before.spec.unschedulable === true) ? hadTaint : isCordoned;
    if ((after.spec.taints?.some(isOfCordon) === true) !== isToHaveTaint)
      this.broken('I5', `the taint of the cordon of ${name} does not go with the cordon`);
    const ours = new Set([INTERRUPTION_KEY, LOAD_BALANCER_KEY]);
    for (const [key, value] of Object.entries({
      ...before.metadata.labels,
      ...after.metadata.labels,
    })) {
      if (ours.has(key)) continue;
      if (before.metadata.labels[key] !== value || after.metadata.labels[key] !== value) {
        this.broken('I5', `label ${key} of ${name} is another's, and was changed`);
      }
    }
    const was = before.spec.unschedulable === true;
    if (was && after.spec.unschedulable !== true && this.cordons.get(name) !== 'ours') {
      this.broken('I5', `${name} was un-cordoned, and the cordon was another's`);
    }
    const machine = this.world.cluster.machines.get(name);
    if (
      machine !== undefined &&
      !this.forgotten.has(name) &&
      !isMarkedHard(before) &&
      isMarkedHard(after)
    ) {
      this.count('I8');
      if (
        this.reasonsOf(machine, at).length === 0 &&
        this.world.reasons.some((reason) => reason.machine === machine)
      ) {
        this.broken('I8', `${name} was marked by old news`);
      }
    }
  }

  // ── I6 ──────────────────────────────────────────────────────────────────────────────────────

  /** The machine goes now: what could have left in time is gone. */
  private judgeEmptied(name: string, at: number): void {
    const { world } = this;
    const machine = world.cluster.machines.get(name);
    if (machine === undefined || !world.cluster.api.nodes.has(name)) return;
    // What AWS announced for this moment.
    const reason = world.reasons.find(
      (candidate) =>
        candidate.machine === machine &&
        candidate.deadlineAt !== undefined &&
        Math.abs(candidate.deadlineAt - at) < 1000 &&
        candidate.overAt > at,
    );
    if (reason?.receivedAt === undefined || this.forgotten.has(name)) return;
    const knownAt = Math.max(
      reason.receivedAt,
      this.lastTroubleBefore(at, ['api', 'process']),
      this.lastHeldBefore(name),
      this.registeredAt.get(name) ?? 0,
    );
    if (at - MARGIN_MS - knownAt < CALM_MS) return;
    // Its message was answered by nobody.
    if (world.wasTroubled(reason.receivedAt - 1000, reason.receivedAt + 1000, ['queue'])) return;
    this.count('I6');
    const left = world.cluster.podsOn(name).filter((pod) => {
      const workload = world.cluster.workloadOf(pod);
      const boundAt = this.boundAt.get(pod.metadata.uid) ?? 0;
      return (
        world.cluster.isToLeave(pod) &&
        workload?.isStuck !== true &&
        workload?.tolerates !== true &&
        boundAt < knownAt
      );
    });
    if (left.length > 0) {
      this.broken(
        'I6',
        `${name} went with ${left.map(({ metadata }) => metadata.name).join()} on it, and there was time to empty it`,
      );
    }
  }

  private lastHeldBefore(name: string): number {
    return this.heldSince.has(name) ? Infinity : (this.releasedAt.get(name) ?? 0);
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────

  /** All is quiet, long after the last fault. */
  judgeEnd(): void {
    const { world } = this;
    this.count('I7');
    for (const id of world.sqs.ids) {
      const sent = world.messages.get(id);
      if (sent !== undefined && !this.mayStay(sent))
        this.broken('I7', `message ${id} (${describe(sent)}) is still in the queue`);
    }
    for (const replica of world.replicas) this.judgeWatches(replica.watches, replica.isLeading);
    for (const [name, node] of world.cluster.api.nodes) this.judgeRest(name, node);
    this.outcomes.judgeEnd();
    for (const fault of world.faultsOfOurs) this.broken('no fault of ours', fault);
  }

  /** Timers are what the journals call for: as many as a process has that knows nothing else. */
  judgeTimers(before: Rest, after: Rest): void {
    // Something has changed after all.
    if (before.journals !== after.journals) return;
    this.count('I7');
    if (before.timers === undefined || after.timers === undefined || before.timers > after.timers) {
      this.broken(
        'I7',
        `${before.timers} timers were left when all was quiet, and ${after.timers} are called for`,
      );
    }
  }

  private mayStay({ launchToken, noise }: Sent): boolean {
    // Left to the queue, until it has been received five times.
    if (noise === 'rubbish') return true;
    return launchToken !== undefined && this.world.hooks.get(launchToken)?.end === undefined;
  }

  private judgeWatches(watches: readonly string[], isLeading: boolean): void {
    const standing = this.world.isElected ? ['leases', 'nodes'] : ['nodes'];
    const active =
      isLeading && [...this.journals.values()].some(({ state }) => state === 'draining');
    const expected = active ? [...standing, 'pods'].toSorted() : standing;
    const isOdd =
      watches.some((kind) => !expected.includes(kind)) ||
      standing.some((kind) => !watches.includes(kind));
    if (isOdd)
      this.broken(
        'I7',
        `watches of ${watches.join()} are open, and ${expected.join()} are called for`,
      );
  }

  /** Marks are what is called for, no more and no less. */
  private judgeRest(name: string, node: RawNode): void {
    const { world } = this;
    const machine = world.cluster.machines.get(name);
    if (machine === undefined || this.forgotten.has(name)) return;
    const now = world.now();
    const reasons = this.reasonsOf(machine, now);
    const given = world.reasons.filter((reason) => reason.machine === machine);
    this.count('I8');
    if (
      reasons.length === 0 &&
      given.length > 0 &&
      (hasMark(node) || this.cordons.get(name) === 'ours')
    ) {
      this.broken('I8', `${name} still bears marks, and is over all that was said of it`);
    }
    if (!machine.isOn || node.status.conditions[0]?.status !== 'True') return;
    const live = reasons.filter(
      (reason) => reason.overAt === Infinity && !this.mayBeOldNews(reason),
    );
    if (live.length === 0 || node.metadata.annotations[HOLD_KEY] !== undefined) return;
    this.count('I6');
    if (!hasMark(node)) this.broken('I6', `${name} is to be emptied, and is not even marked`);
  }

  // ── journals ────────────────────────────────────────────────────────────────────────────────

  private learnJournal(node: RawNode): void {
    const { name } = node.metadata;
    const text = node.metadata.annotations[JOURNAL_KEY];
    const read = readJournal(text);
    if (read.outcome !== 'read') {
      this.journals.delete(name);
      return;
    }
    const { journal } = read;
    this.journals.set(name, journal);
    const { instanceId } = journal.machine;
    const known = this.recorded.get(instanceId) ?? {
      ids: new Map(),
      versions: new Map(),
      runningAt: 0,
      stoppedAt: 0,
    };
    for (const { id, change } of [...journal.live, ...journal.ended]) {
      if (!known.ids.has(id)) known.ids.set(id, this.world.now());
      const versions = known.versions.get(id) ?? [];
      if (change !== undefined && change.updatedAt > latestOf(versions)) {
        const version = { updatedAt: change.updatedAt, recordedAt: this.world.now() };
        known.versions.set(id, [...versions, version]);
      }
    }
    const { runningAt = 0, stopped, aliveAt = 0 } = journal.signs;
    known.runningAt = Math.max(known.runningAt, runningAt);
    known.stoppedAt = Math.max(known.stoppedAt, stopped?.at ?? 0, aliveAt);
    this.recorded.set(instanceId, known);
  }

  private count(invariant: InvariantName): void {
    this.checked.set(invariant, (this.checked.get(invariant) ?? 0) + 1);
  }

  private broken(invariant: InvariantName, says: string): void {
    this.violations.push({ invariant, at: this.world.now() - this.world.startedAt, says });
  }
}

type Recorded = {
  /** Since when. */
  readonly ids: Map<string, number>;
  /** Of scheduled changes, oldest first. */
  readonly versions: Map<string, readonly Version[]>;
  runningAt: number;
  stoppedAt: number;
};

type Version = Readonly<{ updatedAt: number; recordedAt: number }>;

type Window = Readonly<{ windowStartAt: number; deadlineAt: number; isPastBudgets: boolean }>;

function latestOf(versions: readonly Version[] = []): number {
  return versions.at(-1)?.updatedAt ?? 0;
}

function controllerOf({ metadata: { uid, ownerReferences } }: RawPod): string {
  return ownerReferences?.find(({ controller }) => controller)?.uid ?? uid;
}

function before({ metadata: { deletionTimestamp } }: RawPod): number {
  return Date.parse(deletionTimestamp ?? '');
}

function hasMark({ spec }: RawNode): boolean {
  return (spec.taints ?? []).some(({ key }) => key === INTERRUPTION_KEY);
}

/** The control plane would derive it from the cordon. */
function isOfCordon({ key, effect }: Taint): boolean {
  return key === UNSCHEDULABLE_KEY && effect === 'NoSchedule';
}

function isMarkedHard({ spec }: RawNode): boolean {
  return (spec.taints ?? []).some(
    ({ key, effect }) => key === INTERRUPTION_KEY && effect === 'NoSchedule',
  );
}

function describe({ noise, reason, event, launchToken }: Sent): string {
  if (noise !== undefined) return noise;
  if (launchToken !== undefined) return launchToken;
  const what = event?.kind === 'state-change' ? `state ${event.state}` : (reason?.kind ?? '?');
  return `${what} of ${reason?.machine.name ?? (event !== undefined && 'instanceId' in event ? event.instanceId : '?')}`;
}
