import { pause, type Clock } from '../clock.ts';
import type { Report } from '../report/report.ts';
import { UNWATCHED, type Watchdog } from '../watchdog.ts';

/** Opened again so soon after it closed, what answered was not what writes need. */
const FLAPPING_MS = 5000;
const MAX_DELAY_MS = 30_000;

/**
 * Whether the API server answers. Closed: it does. Open: a write found no answer; any answer closes
 * it, asked for at once and then every second; one that keeps opening waits ever longer. While it is
 * open nothing is received.
 */
export class Breaker {
  private openSince: number | undefined;
  private closedAt = -Infinity;
  private delayMs = 0;
  private readonly listeners = new Set<(open: boolean) => void>();
  private readonly stopping = new AbortController();
  private readonly ping: (signal: AbortSignal) => Promise<boolean>;
  private readonly clock: Clock;
  private readonly report: Report;
  private readonly watchdog: Watchdog;

  constructor(
    ping: (signal: AbortSignal) => Promise<boolean>,
    clock: Clock,
    report: Report,
    watchdog: Watchdog = UNWATCHED,
  ) {
    this.ping = ping;
    this.clock = clock;
    this.report = report;
    this.watchdog = watchdog;
  }

  get isOpen(): boolean {
    return this.openSince !== undefined;
  }

  onChange(listener: (open: boolean) => void): void {
    this.listeners.add(listener);
  }

  /** A request found nobody. */
  trip(message: string): void {
    if (this.openSince !== undefined || this.isStopping()) return;
    this.openSince = this.clock.now();
    const isFlapping = this.openSince - this.closedAt < FLAPPING_MS;
    this.delayMs = isFlapping ? Math.min(Math.max(1000, this.delayMs * 2), MAX_DELAY_MS) : 0;
    this.report.error('API server unreachable', { reason: message });
    this.tell();
    void this.probe();
  }

  stop(): void {
    this.stopping.abort();
  }

  private async probe(): Promise<void> {
    const { signal } = this.stopping;
    const step = this.watchdog.begin('API server probe', 'the circuit breaker');
    if (this.delayMs > 0) await pause(this.clock, this.delayMs, signal);
    while (!(await this.answers())) {
      step.move();
      await pause(this.clock, 1000, signal);
    }
    step.end();
    if (this.isStopping() || this.openSince === undefined) return;
    const seconds = (this.clock.now() - this.openSince) / 1000;
    this.openSince = undefined;
    this.closedAt = this.clock.now();
    this.report.info('API server answers again', { seconds });
    this.tell();
  }

  /** True, too, when there is nobody left to ask for: stopping cuts the ping short. */
  private async answers(): Promise<boolean> {
    if (this.isStopping()) return true;
    try {
      return await this.ping(this.stopping.signal);
    } catch (error) {
      if (this.isStopping()) return true;
      throw error;
    }
  }

  private isStopping(): boolean {
    return this.stopping.signal.aborted;
  }

  private tell(): void {
    for (const listener of this.listeners) listener(this.isOpen);
  }
}
