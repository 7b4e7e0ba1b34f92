import type { Clock } from '../../../src/clock.ts';
import { MortalClock } from './mortal-clock.ts';

/**
 * The way of one process to everything outside: how long a call takes each way, and the end of all
 * calls when the process dies.
 */
export class Line {
  latencyMs = 5;
  /** The process's own: dead with it. */
  readonly clock: MortalClock;
  private heardAt = 0;

  constructor(clock: Clock) {
    this.clock = new MortalClock(clock);
  }

  now(): number {
    return this.clock.now();
  }

  /** The process is dead: nothing it has asked for is ever answered, nothing more is heard of it. */
  cut(): void {
    this.clock.die();
  }

  /** One way. Rejects with the signal's reason; never settles for a process that is dead. */
  travel(signal?: AbortSignal, delayMs = this.latencyMs): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        timer.cancel();
        reject(reasonOf(signal));
      };
      const timer = this.clock.after(delayMs, () => {
        signal?.removeEventListener('abort', abort);
        resolve();
      });
      if (signal?.aborted) abort();
      else signal?.addEventListener('abort', abort, { once: true });
    });
  }

  /** Word from outside, in order. */
  hear(listener: () => void): void {
    this.heardAt = Math.max(this.heardAt, this.clock.now() + this.latencyMs);
    this.clock.after(this.heardAt - this.clock.now(), listener);
  }
}

function reasonOf(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new Error('aborted', { cause: reason });
}
