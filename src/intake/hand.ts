import { pause, type Clock, type Timer } from '../clock.ts';
import type { Report } from '../report/report.ts';
import type { Queue, Receipt } from './queue.ts';

/** How long a received message is hidden from others; extended at half while it is in hand. */
export const VISIBILITY_SECONDS = 20;

/** A queue that does not answer is not waited for: what it hides comes back by itself. */
const GIVE_BACK_WITHIN_MS = 1000;

/** The one way a message leaves our hands. */
export type Settlement =
  | Readonly<{ end: 'delete' }>
  /** Visible again after so many seconds; 0 gives it back. */
  | Readonly<{ end: 'hide'; seconds: number }>
  /** Comes back by itself when its visibility ends: left to the queue's redrive policy. */
  | Readonly<{ end: 'leave' }>;

type Held = { message: Receipt; timer: Timer };

/**
 * The messages in hand: received and not settled. Keeps them hidden, and settles each exactly once;
 * a message that is received again meanwhile only brings a newer handle.
 */
export class Hand {
  private readonly held = new Map<string, Held>();
  private readonly settling = new Set<Promise<void>>();
  private readonly queue: Queue;
  private readonly clock: Clock;
  private readonly report: Report;

  constructor(queue: Queue, clock: Clock, report: Report) {
    this.queue = queue;
    this.clock = clock;
    this.report = report;
  }

  get size(): number {
    return this.held.size;
  }

  /** False: the message was in hand already, and only its handle is news. */
  take(message: Receipt): boolean {
    const present = this.held.get(message.id);
    if (present !== undefined) {
      present.message = message;
      return false;
    }
    const held: Held = { message, timer: this.extendAtHalf(message.id) };
    this.held.set(message.id, held);
    return true;
  }

  /** Never rejects: a settlement that fails brings the message back, and it is judged again. */
  settle(message: Receipt, settlement: Settlement): void {
    const held = this.held.get(message.id);
    if (held === undefined) return;
    held.timer.cancel();
    this.held.delete(message.id);
    this.track(this.perform(held.message, settlement));
  }

  /** Gives everything back, and waits a moment for the queue to know of it and of earlier settlements. */
  async giveAllBack(): Promise<void> {
    for (const { message } of this.held.values()) this.settle(message, { end: 'hide', seconds: 0 });
    const known = new AbortController();
    const settled = Promise.all(this.settling).then(() => known.abort());
    await Promise.race([settled, pause(this.clock, GIVE_BACK_WITHIN_MS, known.signal)]);
  }

  private async perform(message: Receipt, settlement: Settlement): Promise<void> {
    try {
      switch (settlement.end) {
        case 'delete':
          await this.queue.delete(message);
          return;
        case 'hide':
          await this.queue.setVisibility(message, settlement.seconds);
          return;
        case 'leave':
          return;
        default:
          throw new Error(`unexpected settlement: ${JSON.stringify(settlement satisfies never)}`);
      }
    } catch (error) {
      this.report.warn('message not settled', { messageId: message.id, settlement, error });
    }
  }

  private extendAtHalf(id: string): Timer {
    return this.clock.after(VISIBILITY_SECONDS * 500, () => {
      const held = this.held.get(id);
      if (held === undefined) return;
      held.timer = this.extendAtHalf(id);
      this.track(this.perform(held.message, { end: 'hide', seconds: VISIBILITY_SECONDS }));
    });
  }

  private track(work: Promise<void>): void {
    const tracked = work.finally(() => this.settling.delete(tracked));
    this.settling.add(tracked);
  }
}
