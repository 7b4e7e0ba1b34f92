import { randomBytes } from 'node:crypto';
import type { Clock, Timer } from '../clock.ts';
import type { Metrics } from './metrics.ts';
import { worded, type ObjectEvents, type Subject, type ToldEvent } from './object-events.ts';
import type { Report } from './report.ts';

/** As it is written: what is told again becomes a series. Times are epoch ms. */
export type ObjectEvent = ToldEvent &
  Readonly<{
    name: string;
    at: number;
    /** Undefined: told once. */
    series: Readonly<{ count: number; lastAt: number }> | undefined;
  }>;

/** What the API server made of one event. */
export type EventAnswer =
  | Readonly<{ outcome: 'written' }>
  /** Other requests went first for too long. */
  | Readonly<{ outcome: 'not sent' }>
  /** It had been written, and is no more: events are kept for an hour. */
  | Readonly<{ outcome: 'gone' }>
  /** This one alone. */
  | Readonly<{ outcome: 'refused'; message: string }>
  /** The server has enough to do, does not answer, or lets us write none. */
  | Readonly<{ outcome: 'pushed back'; message: string; retryAfterMs: number | undefined }>;

/** Writes events, each within a bounded time. Rejects only for the signal. */
export interface EventSink {
  create(event: ObjectEvent, signal: AbortSignal): Promise<EventAnswer>;
  /** Its series alone. */
  update(event: ObjectEvent, signal: AbortSignal): Promise<EventAnswer>;
}

type Ports = Readonly<{ sink: EventSink; clock: Clock; metrics: Metrics; report: Report }>;

type Remembered = {
  event: ObjectEvent;
  isWritten: boolean;
  writtenCount: number;
  writtenAt: number;
  attempts: number;
};

// A storm has other things to write: a thousand nodes of ten pods would be fourteen thousand events.
export const EVENTS_PER_SECOND = 10;
export const BURST = 100;
export const MOST_UNDER_WAY = 2;
/** Of nodes and of pods each, repetitions included. */
export const MOST_WAITING = 1000;
/** Which of those told are told again: of nodes and pods together. */
export const MOST_REMEMBERED = 4096;
export const MOST_ATTEMPTS = 5;
const FIRST_PAUSE_MS = 5000;
const LONGEST_PAUSE_MS = 60_000;

// As client-go has it: https://github.com/kubernetes/client-go/blob/v0.36.3/tools/events/event_broadcaster.go
const SERIES_ENDS_AFTER_MS = 360_000;
const SERIES_WRITTEN_EVERY_MS = 1_800_000;

/**
 * Writes events when nothing else is to be done: few at a time, so many a second, and none for a
 * while when the API server pushes back. What finds no room is dropped, and counted. Best effort:
 * what waits when the process ends is lost.
 */
export class EventRecorder {
  private readonly remembered = new Memory();
  /** Nodes first. */
  private readonly waiting = { Node: new Set<Remembered>(), Pod: new Set<Remembered>() };
  private readonly closing = new AbortController();
  /** No two processes' names meet. */
  private readonly prefix = randomBytes(5).toString('hex');
  private names = 0;
  private underWay = 0;
  private tokens = BURST;
  private tokensAt: number;
  private pausedUntil = -Infinity;
  private pauseMs = FIRST_PAUSE_MS;
  private isFailing = false;
  private next: Timer | undefined;
  private sweep: Timer | undefined;
  private readonly ports: Ports;

  constructor(ports: Ports) {
    this.ports = ports;
    this.tokensAt = ports.clock.now();
  }

  /** Whether it is worth its words: otherwise there is no room, and it is counted as dropped. */
  admits(subject: Subject, reason: ToldEvent['reason']): boolean {
    if (this.closing.signal.aborted) return false;
    if (this.hasRoom(subject) || this.remembered.hasReason(subject, reason)) return true;
    this.count(subject, 'dropped');
    return false;
  }

  tell(told: ToldEvent): void {
    if (this.closing.signal.aborted) return;
    const now = this.ports.clock.now();
    const known = this.remembered.find(told);
    if (known !== undefined) this.repeat(known, now);
    else if (!this.hasRoom(told.subject)) this.count(told.subject, 'dropped');
    else this.take({ ...told, name: this.nameFor(told.subject), at: now, series: undefined });
    this.pump();
  }

  /** Nothing more is written. */
  close(): void {
    this.closing.abort(new Error('no more events are written'));
    this.next?.cancel();
    this.sweep?.cancel();
    for (const waiting of Object.values(this.waiting)) {
      for (const { event, isWritten } of waiting)
        if (!isWritten) this.count(event.subject, 'dropped');
      waiting.clear();
    }
    this.remembered.clear();
  }

  private hasRoom({ kind }: Subject): boolean {
    return this.waiting[kind].size < MOST_WAITING;
  }

  /** Whether there was room: that is no less scarce for repetitions. */
  private enqueue(known: Remembered): boolean {
    if (!this.hasRoom(known.event.subject)) return false;
    this.waiting[known.event.subject.kind].add(known);
    return true;
  }

  private take(event: ObjectEvent): void {
    const fresh = { event, isWritten: false, writtenCount: 0, writtenAt: 0, attempts: 0 };
    this.remembered.add(fresh);
    this.waiting[event.subject.kind].add(fresh);
    this.sweep ??= this.ports.clock.after(SERIES_ENDS_AFTER_MS, () => this.endSeries());
  }

  /** Written when it is the first repetition, and then from time to time: the count may wait. */
  private repeat(known: Remembered, now: number): void {
    const { event } = known;
    known.event = { ...event, series: { count: (event.series?.count ?? 1) + 1, lastAt: now } };
    this.count(event.subject, 'repeated');
    if (!known.isWritten) return;
    if (known.writtenCount === 1 || now - known.writtenAt >= SERIES_WRITTEN_EVERY_MS) {
      this.enqueue(known);
    }
  }

  /** What has not been told for a while is told as a new one next time; its last count is written. */
  private endSeries(): void {
    this.sweep = undefined;
    const now = this.ports.clock.now();
    for (const known of this.remembered.all()) {
      const { event, isWritten, writtenCount } = known;
      if (!isWritten || now - (event.series?.lastAt ?? event.at) < SERIES_ENDS_AFTER_MS) continue;
      // Where there is no room, it ends with the next sweep.
      if ((event.series?.count ?? 1) > writtenCount && !this.enqueue(known)) continue;
      this.remembered.delete(known);
    }
    if (this.remembered.size > 0) {
      this.sweep = this.ports.clock.after(SERIES_ENDS_AFTER_MS, () => this.endSeries());
    }
    this.pump();
  }

  private pump(): void {
    if (this.closing.signal.aborted) return;
    const { clock } = this.ports;
    const now = clock.now();
    // A clock may be set back.
    const passedMs = Math.max(0, now - this.tokensAt);
    this.pausedUntil = Math.min(this.pausedUntil, now + LONGEST_PAUSE_MS);
    this.tokens = Math.min(BURST, this.tokens + (passedMs / 1000) * EVENTS_PER_SECOND);
    this.tokensAt = now;
    while (now >= this.pausedUntil && this.underWay < MOST_UNDER_WAY && this.tokens >= 1) {
      const [first] = this.waiting.Node.size > 0 ? this.waiting.Node : this.waiting.Pod;
      if (first === undefined) return;
      this.waiting[first.event.subject.kind].delete(first);
      this.tokens -= 1;
      void this.write(first);
    }
    // Whatever is under way looks again when it ends.
    if (this.next !== undefined || this.underWay >= MOST_UNDER_WAY) return;
    if (this.waiting.Node.size + this.waiting.Pod.size === 0) return;
    const tokenInMs = ((1 - this.tokens) / EVENTS_PER_SECOND) * 1000;
    this.next = clock.after(Math.max(1, tokenInMs, this.pausedUntil - now), () => {
      this.next = undefined;
      this.pump();
    });
  }

  private async write(known: Remembered): Promise<void> {
    const { event, isWritten } = known;
    const { signal } = this.closing;
    this.underWay += 1;
    const answer = await this.ask(event, isWritten, signal);
    this.underWay -= 1;
    if (signal.aborted && answer.outcome !== 'written') {
      this.giveUp(known, 'dropped');
      return;
    }
    this.conclude(known, event, answer);
    this.pump();
  }

  private async ask(
    event: ObjectEvent,
    isWritten: boolean,
    signal: AbortSignal,
  ): Promise<EventAnswer> {
    const { sink } = this.ports;
    try {
      return await (isWritten ? sink.update(event, signal) : sink.create(event, signal));
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return { outcome: 'pushed back', message, retryAfterMs: undefined };
    }
  }

  /** `event`: as it was sent. */
  private conclude(known: Remembered, event: ObjectEvent, answer: EventAnswer): void {
    const { clock } = this.ports;
    switch (answer.outcome) {
      case 'written':
        if (!known.isWritten) this.count(event.subject, 'written');
        known.isWritten = true;
        known.writtenCount = event.series?.count ?? 1;
        known.writtenAt = clock.now();
        known.attempts = 0;
        this.pauseMs = FIRST_PAUSE_MS;
        this.isFailing = false;
        // Told again while it was on its way.
        if (known.writtenCount === 1 && known.event.series !== undefined) this.enqueue(known);
        return;
      case 'not sent':
        if (!this.enqueue(known)) this.giveUp(known, 'dropped');
        return;
      case 'gone':
        this.remembered.delete(known);
        return;
      case 'refused':
        this.ports.report.debug('Kubernetes event refused', {
          ...event.subject,
          event: event.reason,
          reason: answer.message,
        });
        this.giveUp(known, 'failed');
        return;
      case 'pushed back':
        this.tellFailure(answer.message);
        this.pausedUntil =
          clock.now() + Math.min(answer.retryAfterMs ?? this.pauseMs, LONGEST_PAUSE_MS);
        this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
        known.attempts += 1;
        if (known.attempts >= MOST_ATTEMPTS) this.giveUp(known, 'failed');
        else if (!this.enqueue(known)) this.giveUp(known, 'dropped');
        return;
      default:
        throw new Error(`unexpected answer: ${JSON.stringify(answer satisfies never)}`);
    }
  }

  private giveUp(known: Remembered, result: 'dropped' | 'failed'): void {
    if (!known.isWritten) this.count(known.event.subject, result);
    this.remembered.delete(known);
  }

  private tellFailure(reason: string): void {
    if (!this.isFailing) this.ports.report.warn('Kubernetes events not written', { reason });
    this.isFailing = true;
  }

  private count({ kind }: Subject, result: 'written' | 'repeated' | 'dropped' | 'failed'): void {
    const object = kind.toLowerCase();
    this.ports.metrics.count('kubernetes_events_total', { object, result });
  }

  /** Of at most 253 characters, as that of its object. */
  private nameFor({ name }: Subject): string {
    this.names += 1;
    return `${name.slice(0, 220).replace(/[^a-z0-9]+$/, '')}.${this.prefix}${this.names.toString(16)}`;
  }
}

/** What happens, told in words as far as there is room for them. */
export function recorded(recorder: EventRecorder): ObjectEvents {
  return worded(
    (event) => recorder.tell(event),
    (subject, reason) => recorder.admits(subject, reason),
  );
}

/** What was told, of which the oldest go first. What is told again after that is a new event. */
class Memory {
  /** In the order in which they were first told. */
  private readonly byKey = new Map<string, Remembered>();
  /** How many notes there are of each subject and reason. */
  private readonly notes = new Map<string, number>();

  get size(): number {
    return this.byKey.size;
  }

  all(): readonly Remembered[] {
    return [...this.byKey.values()];
  }

  find(event: ToldEvent): Remembered | undefined {
    return this.byKey.get(keyOf(event));
  }

  hasReason(subject: Subject, reason: ToldEvent['reason']): boolean {
    return this.notes.has(reasonKeyOf(subject, reason));
  }

  add(known: Remembered): void {
    const { subject, reason } = known.event;
    const reasonKey = reasonKeyOf(subject, reason);
    this.byKey.set(keyOf(known.event), known);
    this.notes.set(reasonKey, (this.notes.get(reasonKey) ?? 0) + 1);
    const [oldest] = this.byKey.values();
    if (this.size > MOST_REMEMBERED && oldest !== undefined) this.delete(oldest);
  }

  delete(known: Remembered): void {
    const key = keyOf(known.event);
    // Forgotten, and told anew since.
    if (this.byKey.get(key) !== known) return;
    this.byKey.delete(key);
    const { subject, reason } = known.event;
    const reasonKey = reasonKeyOf(subject, reason);
    const left = (this.notes.get(reasonKey) ?? 1) - 1;
    if (left === 0) this.notes.delete(reasonKey);
    else this.notes.set(reasonKey, left);
  }

  clear(): void {
    this.byKey.clear();
    this.notes.clear();
  }
}

function keyOf({ subject, reason, note }: ToldEvent): string {
  return `${reasonKeyOf(subject, reason)} ${note}`;
}

/** Neither has a space in it. */
function reasonKeyOf({ uid }: Subject, reason: ToldEvent['reason']): string {
  return `${uid} ${reason}`;
}
