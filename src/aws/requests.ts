import { bounded, unlessAborted } from '../abort.ts';
import type { Clock } from '../clock.ts';
import type { Metrics } from '../report/metrics.ts';
import { Turns, type Watchdog, type Stage } from '../watchdog.ts';
import { failureOf } from './errors.ts';

/** Counts and times one request. `operation`: as the API of the service names it. */
export async function measured<T>(
  metrics: Metrics | undefined,
  api: 'sqs' | 'autoscaling' | 'events',
  operation: string,
  send: () => Promise<T>,
): Promise<T> {
  const startedAt = performance.now();
  let code = '200';
  try {
    return await send();
  } catch (error) {
    const failure = failureOf(error);
    code = failure.code === 'TimeoutError' ? 'none' : failure.code;
    throw error;
  } finally {
    const seconds = (performance.now() - startedAt) / 1000;
    metrics?.count('requests_total', { api, operation, code });
    metrics?.observe('request_duration_seconds', { api, operation }, seconds);
  }
}

/** Of one's turn, in which others are answered or given up. */
const LONGEST_TURN_MS = 300_000;

/** At most so many pieces of work at once; the rest wait their turn, which the work's own time limit does not count. */
export class Slots {
  private free: number;
  private readonly waiting = new Set<() => void>();
  private readonly clock: Clock;
  private readonly turns: Turns;

  constructor(count: number, clock: Clock, watchdog: Watchdog, stage: Stage) {
    this.free = count;
    this.clock = clock;
    this.turns = new Turns(watchdog, stage, 'all');
  }

  /** Rejects as `bounded` does, where the turn does not come in time, too. */
  async run<T>(signals: readonly AbortSignal[], work: () => Promise<T>): Promise<T> {
    const leave = this.turns.enter();
    try {
      if (this.free > 0) this.free--;
      else await bounded(this.clock, LONGEST_TURN_MS, signals, (signal) => this.turn(signal));
      try {
        return await work();
      } finally {
        this.release();
      }
    } finally {
      leave();
    }
  }

  private async turn(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.waiting.add(resolve);
    try {
      await unlessAborted(promise, signal);
    } catch (error) {
      // No longer waiting: the turn had come when the signal aborted.
      if (!this.waiting.delete(resolve)) this.release();
      throw error;
    }
  }

  private release(): void {
    const [next] = this.waiting;
    if (next === undefined) {
      this.free++;
      return;
    }
    this.waiting.delete(next);
    next();
  }
}

/** Requests that one client may have under way; more wait within the SDK. */
const MOST_CONNECTIONS = 64;

/**
 * Of every client. Credentials and endpoints are found in the SDK's own ways. One attempt: retries are
 * the callers', who know what is still worth it; a second layer would multiply them in a storm.
 */
export function clientDefaults(region: string) {
  return {
    region,
    maxAttempts: 1,
    requestHandler: {
      connectionTimeout: 2000,
      httpAgent: { maxSockets: MOST_CONNECTIONS },
      httpsAgent: { maxSockets: MOST_CONNECTIONS },
    },
  };
}
