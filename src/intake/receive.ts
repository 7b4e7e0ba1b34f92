import { pause, type Clock } from '../clock.ts';
import type { Report } from '../report/report.ts';
import type { Watchdog, WatchedStep } from '../watchdog.ts';
import { VISIBILITY_SECONDS } from './hand.ts';
import type { Message, Queue } from './queue.ts';

const BATCH = 10;
const LONG_POLL_SECONDS = 20;
const MAX_PARALLEL_RECEIVES = 12;
const MAX_BACKOFF_MS = 5000;
const BRIEF_POLL_MS = 200;

/**
 * Receives while there is room: one long poll when idle, and more receives beside it as long as
 * batches come back full.
 *
 * States: *paused* (no room, or the breaker is open: nothing new is begun), *receiving*, *stopped*
 * for good by `stop`.
 */
export class Receiver {
  private readonly stopping = new AbortController();
  private readonly running = new Set<Promise<void>>();
  private parallel = 0;
  private failing: string | undefined;
  private answered = false;
  private wakeUp: () => void = () => undefined;
  private readonly queue: Queue;
  private readonly clock: Clock;
  private readonly watchdog: Watchdog;
  private readonly report: Report;
  /** How many messages may come in now; 0 while nothing may. */
  private readonly room: () => number;
  private readonly onMessages: (messages: readonly Message[]) => void;

  constructor(
    ports: Readonly<{ queue: Queue; clock: Clock; watchdog: Watchdog; report: Report }>,
    room: () => number,
    onMessages: (messages: readonly Message[]) => void,
  ) {
    this.queue = ports.queue;
    this.clock = ports.clock;
    this.watchdog = ports.watchdog;
    this.report = ports.report;
    this.room = room;
    this.onMessages = onMessages;
  }

  /** Why the last receive failed; undefined: it did not. */
  get failure(): string | undefined {
    return this.failing;
  }

  /** Whether any receive has been answered yet. */
  get hasReceived(): boolean {
    return this.answered;
  }

  start(): void {
    this.spawn(LONG_POLL_SECONDS);
  }

  /** To be called when room may have come. */
  wake(): void {
    this.wakeUp();
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    this.wakeUp();
    await Promise.all(this.running);
  }

  private spawn(waitSeconds: number): void {
    this.parallel += 1;
    const step = this.watchdog.begin('receive', waitSeconds > 0 ? 'the long poll' : 'a receive');
    const running = this.receiveOn(waitSeconds, step).finally(() => {
      step.end();
      this.parallel -= 1;
      this.running.delete(running);
    });
    this.running.add(running);
  }

  /** The standing receive goes on until the stop; one beside it until a batch is not full. */
  private async receiveOn(waitSeconds: number, step: WatchedStep): Promise<void> {
    const { signal } = this.stopping;
    const standing = waitSeconds > 0;
    let failures = 0;
    while (!this.isStopping()) {
      step.move();
      const room = this.room() - (this.parallel - 1) * BATCH;
      if (room <= 0) {
        if (!standing) return;
        await this.woken();
        continue;
      }
      const max = Math.min(BATCH, room);
      const startedAt = this.clock.now();
      let messages: readonly Message[];
      try {
        messages = await this.queue.receive(
          { max, waitSeconds, visibilitySeconds: VISIBILITY_SECONDS },
          signal,
        );
        if (this.failing !== undefined) this.report.info('queue answers again');
        this.failing = undefined;
        this.answered = true;
        failures = 0;
      } catch (error) {
        if (this.isStopping()) return;
        this.tellFailure(error);
        if (!standing) return;
        await pause(this.clock, Math.min(250 * 2 ** failures, MAX_BACKOFF_MS), signal);
        failures += 1;
        continue;
      }
      this.onMessages(messages);
      const full = messages.length === max && max === BATCH;
      if (!full && !standing) return;
      // A long poll that does not wait, of some proxy, must not become a busy loop.
      if (messages.length === 0 && this.clock.now() - startedAt < BRIEF_POLL_MS) {
        await pause(this.clock, BRIEF_POLL_MS, signal);
      }
      if (full && this.parallel < MAX_PARALLEL_RECEIVES) this.spawn(0);
    }
  }

  private tellFailure(error: unknown): void {
    const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    if (this.failing !== reason) this.report.error('queue unreachable', { error });
    this.failing = reason;
  }

  private isStopping(): boolean {
    return this.stopping.signal.aborted;
  }

  /** Room does not always announce itself: looked for every 100 ms at the latest. */
  private woken(): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.clock.after(100, () => resolve());
      this.wakeUp = () => {
        timer.cancel();
        resolve();
      };
    });
  }
}
