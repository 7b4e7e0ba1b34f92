import type { Clock, Timer } from '../../../src/clock.ts';

/** The clock as one process sees it: its timers end with the process. */
export class MortalClock implements Clock {
  private readonly armed = new Set<Timer>();
  private isDead = false;
  private readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  now(): number {
    return this.clock.now();
  }

  random(): number {
    return this.clock.random();
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = this.clock.after(delayMs, () => {
      this.armed.delete(mortal);
      callback();
    });
    const mortal: Timer = {
      cancel: () => {
        this.armed.delete(mortal);
        timer.cancel();
      },
    };
    this.armed.add(mortal);
    if (this.isDead) mortal.cancel();
    return mortal;
  }

  die(): void {
    this.isDead = true;
    for (const timer of this.armed) timer.cancel();
  }
}
