import type { Clock, Timer } from '../../src/clock.ts';

/** Stands still until it is told to go on. */
export class ManualClock implements Clock {
  private time = 1_800_000_000_000;
  private readonly timers = new Set<{ at: number; callback: () => void }>();

  now(): number {
    return this.time;
  }

  random(): number {
    return 0.5;
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = { at: this.time + delayMs, callback };
    this.timers.add(timer);
    return { cancel: () => this.timers.delete(timer) };
  }

  /** Timers that are set and have not fired. */
  pending(): number {
    return this.timers.size;
  }

  /** Until the earliest of them, ms. */
  untilNext(): number {
    return Math.min(...[...this.timers].map(({ at }) => at - this.time));
  }

  /** Timers go on: they count what passes. */
  setBack(ms: number): void {
    this.time -= ms;
    for (const timer of this.timers) timer.at -= ms;
  }

  advance(ms: number): void {
    const until = this.time + ms;
    for (;;) {
      const [next] = [...this.timers]
        .filter(({ at }) => at <= until)
        .toSorted((a, b) => a.at - b.at);
      if (!next) break;
      this.timers.delete(next);
      this.time = Math.max(this.time, next.at);
      next.callback();
    }
    this.time = until;
  }
}
