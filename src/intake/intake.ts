import { pause, type Clock } from '../clock.ts';
import type { HookAction, LifecycleHooks } from '../drain/lifecycle-hooks.ts';
import type { CapacityBlockExpiry, Event, LaunchHook } from '../events/event.ts';
import { parse } from '../events/parse.ts';
import type { NodeEvent } from '../plan/interruption.ts';
import type { Metrics } from '../report/metrics.ts';
import type { ObjectEvents } from '../report/object-events.ts';
import type { Report } from '../report/report.ts';
import type { Watchdog } from '../watchdog.ts';
import type { Breaker } from './breaker.ts';
import type { DepartedNodes } from './departed-nodes.ts';
import { Hand, type Settlement } from './hand.ts';
import { factsOf, Judge, subjectOf, type EventVerdict } from './judge.ts';
import type { LaunchPolicy } from './launch-hooks.ts';
import type { NodeIndex, NodeStore } from './node-store.ts';
import { Park, type HomelessMessage, type ParkedMessage } from './park.ts';
import type { Message, Queue, Receipt } from './queue.ts';
import { Receiver } from './receive.ts';
import type { Records } from './records.ts';

export type IntakePolicy = LaunchPolicy &
  Readonly<{
    /** EVENT_ACCOUNTS; undefined: any. */
    accounts: ReadonlySet<string> | undefined;
    /** UNKNOWN_INSTANCE_GRACE_SECONDS */
    unknownInstanceGraceSeconds: number;
  }>;

export type IntakePorts = Readonly<{
  queue: Queue;
  nodes: NodeIndex;
  departed: DepartedNodes;
  store: NodeStore;
  hooks: Pick<LifecycleHooks, 'complete' | 'describe'>;
  clock: Clock;
  objectEvents: ObjectEvents;
  metrics: Metrics;
  watchdog: Watchdog;
  report: Report;
}>;

/** What a message in hand may wait for its record at most, at the rate the API server takes writes. */
const SECONDS_IN_HAND = 5;
const MIN_IN_HAND = 10;
const MAX_IN_HAND = 1000;
const PARALLEL_WRITES = 64;
/** Of a parked message beyond its grace, so that it comes back should this process die. */
const PARKED_EXTRA_SECONDS = 30;
/** A Node came, or has gone, between the look at the index and the parking: judged again soon. */
const MISSED_SECONDS = 1;
/** Without a redrive policy, a malformed message is deleted at this receive. */
const MAX_MALFORMED_RECEIVES = 5;
const RECHECK_SECONDS = 30;
/** Of a message that waits for its node; looked at, and hidden again, at half. */
const HELD_SECONDS = 60;
/** The index is asked to prove itself fresh only when its watch was silent for this long. */
const PROOF_AFTER_MS = 2000;
const PROVE_AGAIN_MS = 3000;
const TALLY_MS = 60_000;
const REDRIVE_RETRY_MS = 10_000;
/** On stop; with all that comes after it, the process ends within 5 s on a busy machine, too. */
const FINISH_WRITES_WITHIN_MS = 1000;

/** Receive → parse → locate → record → acknowledge. */
export class Intake {
  private readonly ports: IntakePorts;
  private readonly policy: IntakePolicy;
  private readonly breaker: Breaker;
  private readonly records: Records;
  private readonly judge: Judge;
  private readonly hand: Hand;
  private readonly park: Park;
  private readonly receiver: Receiver;
  private readonly stopping = new AbortController();
  private readonly tally = new Map<string, number>();
  private tallyTimer: ReturnType<Clock['after']> | undefined;
  private unsubscribe: (() => void) | undefined;
  private readonly judging = new Set<Promise<void>>();
  private eventsInHand = 0;
  private redrive: 'unknown' | 'none' | 'some' = 'unknown';
  private proving = false;
  private proveAgainAt = 0;

  constructor(ports: IntakePorts, policy: IntakePolicy, records: Records, breaker: Breaker) {
    this.ports = ports;
    this.policy = policy;
    this.records = records;
    this.breaker = breaker;
    this.judge = new Judge(ports, records, policy, policy.accounts);
    this.hand = new Hand(ports.queue, ports.clock, ports.report);
    this.park = new Park(ports.clock, (due) => this.takeUpDue(due));
    this.receiver = new Receiver(
      ports,
      () => this.room(),
      (messages) => this.accept(messages),
    );
  }

  /** Messages received and not settled. */
  get inHand(): number {
    return this.hand.size;
  }

  get parked(): number {
    return this.park.size;
  }

  /** Why the queue does not answer, or that it has not yet; undefined: it does. */
  get queueFailure(): string | undefined {
    const { failure, hasReceived } = this.receiver;
    // A first poll may last 20 s; what is asked beside it is answered at once.
    const hasAnswered = hasReceived || this.redrive !== 'unknown';
    return failure ?? (hasAnswered ? undefined : 'no answer yet');
  }

  start(): void {
    this.unsubscribe = this.ports.nodes.subscribe((before, after) => {
      const subjects = new Set<string>();
      if (after?.instanceId !== before?.instanceId || after?.ready !== before?.ready) {
        // One that has gone, too: its hooks wait for nothing any more.
        const instanceId = after?.instanceId ?? before?.instanceId;
        if (instanceId !== undefined) subjects.add(instanceId);
      }
      const reservationId = after?.capacityReservationId;
      const isNew =
        reservationId !== before?.capacityReservationId || after?.instanceId !== before?.instanceId;
      if (reservationId !== undefined && isNew) subjects.add(reservationId);
      for (const subject of subjects) {
        for (const parked of this.park.takeFor(subject)) this.rejudge(parked);
      }
    });
    this.breaker.onChange(() => this.receiver.wake());
    void this.readRedrivePolicy();
    this.receiver.start();
  }

  /** Begins nothing new, gives back what is in hand and parked. */
  async stop(): Promise<void> {
    this.unsubscribe?.();
    this.tallyTimer?.cancel();
    await this.receiver.stop();
    await this.records.stop(FINISH_WRITES_WITHIN_MS);
    this.stopping.abort();
    // Every judgement ends by the abort, and what was written a moment ago is acknowledged.
    await Promise.all(this.judging);
    this.park.close();
    for (const { message } of this.park.all()) {
      this.park.take(message.id);
      this.hand.take(message);
    }
    await this.hand.giveAllBack();
    this.tallyTimer?.cancel();
  }

  private room(): number {
    if (this.breaker.isOpen) return 0;
    const bound = Math.round(this.records.rate(PARALLEL_WRITES) * SECONDS_IN_HAND);
    // One message may tell of many instances, each of which is written to its Node.
    const inHand = Math.max(this.hand.size, this.eventsInHand);
    return Math.min(Math.max(bound, MIN_IN_HAND), MAX_IN_HAND) - inHand;
  }

  private accept(messages: readonly Message[]): void {
    for (const { body, ...message } of messages) {
      if (!this.hand.take(message)) continue;
      if (this.breaker.isOpen || this.isStopping()) {
        this.hand.settle(message, { end: 'hide', seconds: 0 });
        continue;
      }
      this.park.take(message.id);
      this.handle(message, body);
    }
  }

  /** At once, so that the body is kept by nobody who waits. */
  private handle(message: Receipt, body: string): void {
    const parsed = parse(body, { sentAt: message.sentAt });
    switch (parsed.outcome) {
      case 'events':
        for (const warning of parsed.warnings) {
          this.ports.report.warn('unknown value', { messageId: message.id, warning });
        }
        for (const event of parsed.events) {
          this.ports.report.debug('event received', { messageId: message.id, ...factsOf(event) });
        }
        this.judgeAndSettle(message, parsed.events);
        return;
      case 'not-ours':
        this.count('none', parsed.reason);
        this.ports.report.debug('not ours', {
          messageId: message.id,
          reason: parsed.reason,
          detail: parsed.detail,
        });
        this.settle(message, { end: 'delete' });
        return;
      case 'malformed':
        this.settle(message, this.judgeMalformed(message, parsed.reason, body));
        return;
      default:
        throw new Error(`unexpected result: ${JSON.stringify(parsed satisfies never)}`);
    }
  }

  private judgeAndSettle(message: Receipt, events: readonly Event[]): void {
    this.eventsInHand += events.length;
    this.track(
      this.judgeAll(message, events).then((settlement) => {
        this.eventsInHand -= events.length;
        this.settle(message, settlement);
      }),
    );
  }

  /** Each event is recorded without waiting for the others; the message ends when all have. */
  private async judgeAll(message: Receipt, events: readonly Event[]): Promise<Settlement> {
    const { signal } = this.stopping;
    const verdicts = await Promise.all(
      events.map((event) =>
        this.judge.judge(event, signal).catch((error: unknown): EventVerdict => {
          if (signal.aborted) return { end: 'unreachable' };
          this.ports.report.error('event not judged', {
            messageId: message.id,
            ...factsOf(event),
            error,
          });
          return { end: 'later', seconds: RECHECK_SECONDS };
        }),
      ),
    );
    for (const [at, verdict] of verdicts.entries()) {
      if (verdict.end === 'over') this.count(events[at]?.kind ?? 'none', verdict.outcome);
    }
    if (verdicts.some(({ end }) => end === 'unreachable')) return { end: 'hide', seconds: 0 };
    const delays = verdicts.flatMap((verdict) =>
      verdict.end === 'later' ? [verdict.seconds] : [],
    );
    if (delays.length > 0) return { end: 'hide', seconds: Math.min(...delays) };
    const homeless = verdicts.flatMap((verdict) =>
      verdict.end === 'no-node' ? [verdict.event] : [],
    );
    if (homeless.length > 0) return this.parkMessage(message, homeless);
    // Such a message has no other event.
    const held = verdicts.find((verdict) => verdict.end === 'held');
    if (held !== undefined) return this.hold(message, held.event, held.againAt);
    return { end: 'delete' };
  }

  private judgeMalformed(message: Receipt, reason: string, body: string): Settlement {
    const facts = { messageId: message.id, reason, receives: message.receiveCount };
    this.count('none', 'malformed');
    if (this.redrive === 'none' && message.receiveCount >= MAX_MALFORMED_RECEIVES) {
      this.ports.report.error('malformed message deleted', { ...facts, body });
      return { end: 'delete' };
    }
    this.ports.report.warn('malformed message', facts);
    return { end: 'leave' };
  }

  /** Hidden for its grace and a little more; remembered, if there is room, for a Node that appears. */
  private parkMessage(message: Receipt, events: readonly NodeEvent[]): Settlement {
    // While another event of the message was recorded, say: parked, it would wait in vain.
    if (events.some((event) => this.hasNode(event)))
      return { end: 'hide', seconds: MISSED_SECONDS };
    const now = this.ports.clock.now();
    const graceMs = this.policy.unknownInstanceGraceSeconds * 1000;
    const until = message.firstReceivedAt + graceMs;
    const seconds = Math.ceil(Math.max(0, until - now) / 1000) + PARKED_EXTRA_SECONDS;
    this.park.add({ waitsFor: 'a Node', message, events, parkedAt: now, until });
    this.ports.report.debug('parked', {
      messageId: message.id,
      subjects: events.map(subjectOf),
      seconds,
    });
    return { end: 'hide', seconds };
  }

  /** Hidden for a minute, and again at half of it; remembered, if there is room, for its Node. */
  private hold(
    message: Receipt,
    event: LaunchHook | CapacityBlockExpiry,
    againAt: number,
  ): Settlement {
    this.park.add({ waitsFor: 'news of its Node', message, events: [event], until: againAt });
    return { end: 'hide', seconds: HELD_SECONDS };
  }

  private hasNode(event: NodeEvent): boolean {
    const { nodes } = this.ports;
    if (event.kind !== 'capacity-block-expiry')
      return nodes.byInstance(event.instanceId).length > 0;
    return [...nodes.all()].some(
      ({ capacityReservationId }) => capacityReservationId === event.reservationId,
    );
  }

  /** In hand until it is judged: parked again, deleted, or left to come back. */
  private rejudge(parked: ParkedMessage): void {
    this.park.take(parked.message.id);
    if (!this.hand.take(parked.message)) return;
    this.judgeAndSettle(parked.message, parked.events);
  }

  private takeUpDue(due: readonly ParkedMessage[]): void {
    for (const parked of due) if (parked.waitsFor === 'news of its Node') this.rejudge(parked);
    this.endGrace(due.filter((parked) => parked.waitsFor === 'a Node'));
  }

  /** The grace is over: not in this cluster, if the index is known to be fresh. */
  private endGrace(due: readonly HomelessMessage[]): void {
    const now = this.ports.clock.now();
    const heardAt = this.ports.nodes.lastHeardAt();
    const doubtful = due.filter(({ parkedAt }) => heardAt <= parkedAt);
    for (const parked of due) if (heardAt > parked.parkedAt) this.dismiss(parked);
    if (doubtful.some(({ parkedAt }) => now - parkedAt >= PROOF_AFTER_MS))
      void this.prove(doubtful);
  }

  /** One consistent list for the whole batch. */
  private async prove(batch: readonly HomelessMessage[]): Promise<void> {
    const { clock } = this.ports;
    if (this.proving || this.breaker.isOpen || clock.now() < this.proveAgainAt) return;
    this.proving = true;
    try {
      await this.ports.nodes.refresh(this.stopping.signal);
      for (const parked of batch) this.dismiss(parked);
    } catch (error) {
      this.proveAgainAt = clock.now() + PROVE_AGAIN_MS;
      if (!this.isStopping()) this.ports.report.warn('nodes not listed', { error });
    } finally {
      this.proving = false;
    }
  }

  private dismiss(parked: HomelessMessage): void {
    const { message, events } = parked;
    // A later receive may have parked it anew: that one's grace is judged by itself.
    if (!this.park.holds(parked)) return;
    this.park.take(message.id);
    if (!this.hand.take(message)) return;
    this.track(
      this.completeUnknownHooks(message, events).then((settlement) => {
        if (settlement.end === 'delete') {
          for (const { kind } of events) this.count(kind, 'not-in-this-cluster');
          this.ports.report.debug('not in this cluster', {
            messageId: message.id,
            subjects: events.map(subjectOf),
          });
        }
        this.settle(message, settlement);
      }),
    );
  }

  private track(work: Promise<void>): void {
    const tracked = work.finally(() => this.judging.delete(tracked));
    this.judging.add(tracked);
  }

  private async completeUnknownHooks(
    message: Receipt,
    events: readonly NodeEvent[],
  ): Promise<Settlement> {
    if (!this.policy.completeUnknownHooks) return { end: 'delete' };
    const actions: HookAction[] = events.flatMap((event) =>
      event.kind === 'terminate-hook' && this.policy.isOurHook(event.group, event.hook)
        ? [event]
        : [],
    );
    const answers = await Promise.all(
      actions.map((action) => this.judge.completeWithoutNode(action, this.stopping.signal)),
    ).catch((error: unknown) => {
      this.ports.report.warn('message not settled', { messageId: message.id, error });
      return undefined;
    });
    const done = answers?.every(({ outcome }) => outcome !== 'failed') ?? false;
    return done ? { end: 'delete' } : { end: 'hide', seconds: RECHECK_SECONDS };
  }

  private settle(message: Receipt, settlement: Settlement): void {
    this.hand.settle(message, settlement);
    this.receiver.wake();
  }

  private isStopping(): boolean {
    return this.stopping.signal.aborted;
  }

  private async readRedrivePolicy(): Promise<void> {
    const { signal } = this.stopping;
    while (!this.isStopping()) {
      try {
        const maxReceiveCount = await this.ports.queue.maxReceiveCount(signal);
        this.redrive = maxReceiveCount === undefined ? 'none' : 'some';
        return;
      } catch (error) {
        if (!this.isStopping()) this.ports.report.warn('redrive policy not read', { error });
        await pause(this.ports.clock, REDRIVE_RETRY_MS, signal);
      }
    }
  }

  /** Told as a sum now and then: in a shared account most messages are others'. */
  private count(kind: Event['kind'] | 'none', outcome: string): void {
    this.ports.metrics.count('messages_total', { kind, outcome });
    this.tally.set(outcome, (this.tally.get(outcome) ?? 0) + 1);
    this.tallyTimer ??= this.ports.clock.after(TALLY_MS, () => {
      this.tallyTimer = undefined;
      this.ports.report.info('messages judged', {
        ...Object.fromEntries(this.tally),
        parked: this.park.size,
        inHand: this.hand.size,
      });
      this.tally.clear();
    });
  }
}
