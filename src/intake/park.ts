import type { Clock, Timer } from '../clock.ts';
import type { CapacityBlockExpiry, LaunchHook } from '../events/event.ts';
import type { NodeEvent } from '../plan/interruption.ts';
import { subjectOf } from './judge.ts';
import type { Receipt } from './queue.ts';

/** A message that waits, hidden. */
export type ParkedMessage = HomelessMessage | HeldMessage;

/** Its instance, or capacity block, has no Node (yet). */
export type HomelessMessage = Readonly<{
  waitsFor: 'a Node';
  message: Receipt;
  /** Those of its events that wait for a Node. */
  events: readonly NodeEvent[];
  parkedAt: number;
  /** End of the grace, counted from the first receive (epoch ms). */
  until: number;
}>;

/** Its Node is there and not yet what it should be; the only record until then. */
type HeldMessage = Readonly<{
  waitsFor: 'news of its Node';
  message: Receipt;
  events: readonly [LaunchHook | CapacityBlockExpiry];
  /** When it is looked at, and hidden, again. */
  until: number;
}>;

/** Beyond this many, messages are only hidden, and judged again when they come back. */
const MAX_PARKED = 10_000;
/** Of all of them together: one message may tell of ten thousand instances. */
const MAX_PARKED_EVENTS = 50_000;
const SWEEP_MS = 1000;

/**
 * Messages for instances without a Node, until the Node appears or their grace is over, and those
 * whose Nodes are not Ready, or not told apart, yet. An account's rules feed every cluster, so most messages of a shared account pass through here: no request is
 * made for any of them but the two that hide and delete it.
 */
export class Park {
  private readonly byMessage = new Map<string, ParkedMessage>();
  private readonly bySubject = new Map<string, Set<string>>();
  private eventCount = 0;
  private sweeping: Timer | undefined;
  private readonly clock: Clock;
  private readonly onDue: (due: readonly ParkedMessage[]) => void;

  constructor(clock: Clock, onDue: (due: readonly ParkedMessage[]) => void) {
    this.clock = clock;
    this.onDue = onDue;
  }

  get size(): number {
    return this.byMessage.size;
  }

  all(): readonly ParkedMessage[] {
    return [...this.byMessage.values()];
  }

  /** False: there is no room. */
  add(parked: ParkedMessage): boolean {
    this.take(parked.message.id);
    const eventCount = this.eventCount + parked.events.length;
    if (this.byMessage.size >= MAX_PARKED || eventCount > MAX_PARKED_EVENTS) return false;
    this.byMessage.set(parked.message.id, parked);
    this.eventCount = eventCount;
    for (const subject of parked.events.map(subjectOf)) {
      const ids = this.bySubject.get(subject) ?? new Set();
      this.bySubject.set(subject, ids.add(parked.message.id));
    }
    this.sweeping ??= this.clock.after(SWEEP_MS, () => this.sweep());
    return true;
  }

  holds(parked: ParkedMessage): boolean {
    return this.byMessage.get(parked.message.id) === parked;
  }

  /** Takes a message out; undefined: it is not parked. */
  take(messageId: string): ParkedMessage | undefined {
    const parked = this.byMessage.get(messageId);
    if (parked === undefined) return undefined;
    this.byMessage.delete(messageId);
    this.eventCount -= parked.events.length;
    for (const subject of parked.events.map(subjectOf)) {
      const ids = this.bySubject.get(subject);
      ids?.delete(messageId);
      if (ids?.size === 0) this.bySubject.delete(subject);
    }
    return parked;
  }

  /** Takes out all that wait for a Node of this instance or reservation. */
  takeFor(subject: string): readonly ParkedMessage[] {
    return [...(this.bySubject.get(subject) ?? [])].flatMap((id) => this.take(id) ?? []);
  }

  close(): void {
    this.sweeping?.cancel();
    this.sweeping = undefined;
  }

  private sweep(): void {
    const now = this.clock.now();
    const due = this.all().filter(({ until }) => until <= now);
    this.sweeping =
      this.byMessage.size > 0 ? this.clock.after(SWEEP_MS, () => this.sweep()) : undefined;
    if (due.length > 0) this.onDue(due);
  }
}
