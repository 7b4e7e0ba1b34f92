import type { Clock, Timer } from '../clock.ts';
import { Turns, UNWATCHED, type Watchdog } from '../watchdog.ts';
import type { Failure } from './errors.ts';

/** What became of one entry: whether it took effect, or why nothing is known of it. */
type Verdict = boolean | Failure;

/** The verdicts of a batch, in the order of its entries; undefined where the answer has none. */
export type Verdicts = readonly (Verdict | undefined)[];

/** Sends one batch. Never rejects. */
type Send<Entry> = (entries: readonly Entry[], signal: AbortSignal) => Promise<Verdicts>;

type Item<Entry> = {
  readonly entry: Entry;
  readonly addedAt: number;
  readonly resolve: (tookEffect: boolean) => void;
  readonly reject: (error: Error) => void;
  attempts: number;
};

type BatchOptions = Readonly<{
  watchdog?: Watchdog;
  /** Of entries without an answer, pauses included. */
  mostWaiting: number;
  /** For how long an entry that fails for a passing reason is tried again. */
  tryForMs: number;
}>;

/** Of the SQS API and of PutEvents alike. */
const LARGEST_BATCH = 10;
const LINGER_MS = 4;
const MOST_UNDER_WAY = 8;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;

/**
 * Collects single entries into batches. A batch goes when ten wait, or some milliseconds after the
 * first; several may be under way. What fails for a passing reason waits again after a pause, and
 * goes with whatever else waits then.
 */
export class Batches<Entry> {
  private readonly mostWaiting: number;
  private readonly tryForMs: number;
  private readonly what: string;
  private readonly send: Send<Entry>;
  private readonly clock: Clock;
  private readonly waiting: Item<Entry>[] = [];
  private readonly pausing = new Map<Timer, readonly Item<Entry>[]>();
  private underWay = 0;
  private unanswered = 0;
  /** What waits goes now, be it ten or not. */
  private due = false;
  private linger: Timer | undefined;
  private closing = false;
  private readonly cut = new AbortController();
  private readonly idle = Promise.withResolvers<void>();
  private readonly turns: Turns;

  constructor(
    what: string,
    send: Send<Entry>,
    clock: Clock,
    { watchdog = UNWATCHED, mostWaiting, tryForMs }: BatchOptions,
  ) {
    this.mostWaiting = mostWaiting;
    this.tryForMs = tryForMs;
    this.turns = new Turns(watchdog, 'acknowledge', what);
    this.what = what;
    this.send = send;
    this.clock = clock;
  }

  /** Resolves to whether it took effect; rejects when nobody could be asked, or it was refused. */
  async add(entry: Entry): Promise<boolean> {
    if (this.closing) throw new Error(`${this.what}: closed`);
    if (this.unanswered >= this.mostWaiting) throw new Error(`${this.what}: too many wait`);
    const leave = this.turns.enter();
    this.unanswered++;
    try {
      return await new Promise((resolve, reject) => {
        this.waiting.push({ entry, addedAt: this.clock.now(), resolve, reject, attempts: 0 });
        this.pump();
      });
    } finally {
      this.unanswered--;
      leave();
    }
  }

  /** Sends what waits; rejects what has no answer when the limit has passed. */
  async close(limitMs: number): Promise<void> {
    this.closing = true;
    this.due = true;
    this.pump();
    const limit = this.clock.after(limitMs, () => {
      this.cut.abort(new Error('closed'));
      for (const timer of this.pausing.keys()) timer.cancel();
      const left = [...this.waiting.splice(0), ...[...this.pausing.values()].flat()];
      this.pausing.clear();
      for (const { reject } of left) reject(new Error(`${this.what}: closed`));
      this.settle();
    });
    this.settle();
    await this.idle.promise;
    limit.cancel();
  }

  private pump(): void {
    while (
      this.underWay < MOST_UNDER_WAY &&
      (this.waiting.length >= LARGEST_BATCH || (this.due && this.waiting.length > 0))
    ) {
      void this.sendBatch(this.waiting.splice(0, LARGEST_BATCH));
    }
    if (this.waiting.length === 0) {
      this.linger?.cancel();
      this.linger = undefined;
      this.due = this.closing;
    } else if (!this.due) {
      this.linger ??= this.clock.after(LINGER_MS, () => {
        this.due = true;
        this.pump();
      });
    }
  }

  private async sendBatch(items: readonly Item<Entry>[]): Promise<void> {
    this.underWay++;
    const verdicts = await this.send(
      items.map(({ entry }) => entry),
      this.cut.signal,
    );
    this.underWay--;
    this.turns.move();
    const again: Item<Entry>[] = [];
    for (const [at, item] of items.entries()) {
      const verdict = verdicts[at] ?? UNMENTIONED;
      item.attempts++;
      if (typeof verdict === 'boolean') item.resolve(verdict);
      else if (this.isWorthAnother(item, verdict)) again.push(item);
      else item.reject(new Error(`${this.what}: ${verdict.code}: ${verdict.message}`));
    }
    if (again.length > 0) this.pauseThenSend(again);
    this.pump();
    this.settle();
  }

  private isWorthAnother(item: Item<Entry>, { kind }: Failure): boolean {
    const passing = kind === 'throttled' || kind === 'unavailable';
    return passing && !this.cut.signal.aborted && this.clock.now() - item.addedAt < this.tryForMs;
  }

  private pauseThenSend(items: readonly Item<Entry>[]): void {
    const attempts = Math.max(...items.map((item) => item.attempts));
    const longest = Math.min(FIRST_PAUSE_MS * 2 ** (attempts - 1), LONGEST_PAUSE_MS);
    const timer = this.clock.after(longest * (0.5 + this.clock.random() / 2), () => {
      this.pausing.delete(timer);
      this.waiting.push(...items);
      this.due = true;
      this.pump();
    });
    this.pausing.set(timer, items);
  }

  private settle(): void {
    const left = this.waiting.length + this.pausing.size + this.underWay;
    if (this.closing && left === 0) this.idle.resolve();
  }
}

const UNMENTIONED: Failure = {
  kind: 'unavailable',
  code: 'NoVerdict',
  message: 'the answer does not mention the entry',
};
