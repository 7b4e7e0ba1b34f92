import TinyQueue from 'tinyqueue';
import type { Clock, Timer } from '../clock.ts';
import { Turns, UNWATCHED, watched, type Watchdog } from '../watchdog.ts';

/** One request about one pod, to be made when its turn comes. */
export type EvictionJob = Readonly<{
  /** Latest safe start (epoch ms): the queue's order over all nodes. Infinity: no deadline. */
  urgency: number;
  /** Pods that are likely to share a budget: those of one controller. */
  group: string;
  /** Never rejects. */
  perform: () => Promise<JobResult>;
}>;

export type JobResult =
  | 'done'
  /** Nothing was asked of the API server. */
  | 'nothing'
  /** A budget stands behind this controller's pods: few at a time are faster than many. */
  | 'contended'
  | Readonly<{ overloaded: true; retryAfterMs: number | undefined }>;

type Queued = {
  readonly job: EvictionJob;
  readonly order: number;
  readonly leave: () => void;
};

const INITIAL_LIMIT = 16;
const MAX_LIMIT = 64;
/** Of one controller's pods, once it was seen to be contended. */
const CONTENDED_LIMIT = 4;
/** An answer that takes this long tells of the server's own retries on a contended budget. */
const SLOW_MS = 1000;
/** One burst of refusals is one sign of overload. */
const DECREASE_EVERY_MS = 500;
const DEFAULT_RETRY_AFTER_MS = 500;
/** A proxy may ask for more than any deadline leaves. */
export const LONGEST_RETRY_AFTER_MS = 10_000;
const MAX_CONTENDED_GROUPS = 10_000;

/**
 * The evictions of all nodes, the one with the least time left first. How many are under way adapts
 * to what the API server bears: one more for each round that went well, half on a sign of overload.
 */
export class EvictionQueue {
  private readonly waiting = new TinyQueue<Queued>([], byUrgency);
  /** Jobs passed over because their group is at its limit, by group. */
  private readonly passedOver = new Map<string, TinyQueue<Queued>>();
  private readonly contended = new Set<string>();
  private readonly inFlightOfGroup = new Map<string, number>();
  private limit = INITIAL_LIMIT;
  private inFlight = 0;
  private order = 0;
  private decreasedAt = -Infinity;
  private resume: Timer | undefined;
  private resumeAt = -Infinity;
  private closed = false;
  private readonly clock: Clock;
  private readonly watchdog: Watchdog;
  private readonly turns: Turns;

  constructor(clock: Clock, watchdog: Watchdog = UNWATCHED) {
    this.clock = clock;
    this.watchdog = watchdog;
    this.turns = new Turns(watchdog, 'evict', 'the queue');
  }

  /** How many requests may be under way now. */
  get concurrencyLimit(): number {
    return Math.floor(this.limit);
  }

  add(job: EvictionJob): void {
    this.waiting.push({ job, order: this.order, leave: this.turns.enter() });
    this.order += 1;
    this.pump();
  }

  /** Begins nothing new. */
  close(): void {
    this.closed = true;
    this.resume?.cancel();
    for (const { leave } of this.waiting.data) leave();
    for (const { data } of this.passedOver.values()) for (const { leave } of data) leave();
  }

  private pump(): void {
    if (this.closed || this.resume !== undefined) return;
    while (this.inFlight < Math.floor(this.limit)) {
      const next = this.waiting.pop();
      if (next === undefined) return;
      const { group } = next.job;
      if (this.contended.has(group) && (this.inFlightOfGroup.get(group) ?? 0) >= CONTENDED_LIMIT) {
        const others = this.passedOver.get(group);
        if (others === undefined) this.passedOver.set(group, new TinyQueue([next], byUrgency));
        else others.push(next);
        continue;
      }
      void this.perform(next);
    }
  }

  private async perform({ job, leave }: Queued): Promise<void> {
    const { group } = job;
    this.inFlight += 1;
    this.inFlightOfGroup.set(group, (this.inFlightOfGroup.get(group) ?? 0) + 1);
    const startedAt = this.clock.now();
    const result = await watched(this.watchdog, 'evict', `a pod of ${group}`, job.perform);
    leave();
    this.inFlight -= 1;
    const left = (this.inFlightOfGroup.get(group) ?? 1) - 1;
    if (left === 0) this.inFlightOfGroup.delete(group);
    else this.inFlightOfGroup.set(group, left);
    if (typeof result === 'object') this.slowDown(result.retryAfterMs);
    else if (result !== 'nothing') {
      this.limit = Math.min(MAX_LIMIT, this.limit + 1 / this.limit);
      if (result === 'contended' || this.clock.now() - startedAt > SLOW_MS) this.contend(group);
    }
    const passedOver = this.passedOver.get(group);
    const next = passedOver?.pop();
    if (next !== undefined) this.waiting.push(next);
    if (passedOver?.length === 0) this.passedOver.delete(group);
    this.pump();
  }

  private contend(group: string): void {
    this.contended.delete(group);
    this.contended.add(group);
    const [oldest] = this.contended;
    if (this.contended.size > MAX_CONTENDED_GROUPS && oldest !== undefined)
      this.contended.delete(oldest);
  }

  private slowDown(retryAfterMs: number | undefined): void {
    const now = this.clock.now();
    if (now - this.decreasedAt >= DECREASE_EVERY_MS) {
      this.decreasedAt = now;
      this.limit = Math.max(1, this.limit / 2);
    }
    const pauseMs = Math.min(retryAfterMs ?? DEFAULT_RETRY_AFTER_MS, LONGEST_RETRY_AFTER_MS);
    if (this.closed || now + pauseMs <= this.resumeAt) return;
    this.resume?.cancel();
    this.resumeAt = now + pauseMs;
    this.resume = this.clock.after(pauseMs, () => {
      this.resume = undefined;
      this.pump();
    });
  }
}

/** The difference of two infinities is no number, and leaves it to the order. */
function byUrgency(a: Queued, b: Queued): number {
  return a.job.urgency - b.job.urgency || a.order - b.order;
}
