import { setImmediate as nextTurn } from 'node:timers/promises';
import TinyQueue from 'tinyqueue';
import type { Clock, Timer } from '../../src/clock.ts';

/** When everything begins, unless a test says otherwise. */
export const NOON = Date.parse('2026-03-01T12:00:00Z');

/** Of calls within one turn, and of timers within one millisecond: more is a loop that never rests. */
const RESTLESS = 100_000;

const TURNS_A_ROUND = 8;

type Pending = Timer & {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
};

/**
 * Time that passes only when a test says so, and chance that is the same for the same seed. Timers
 * fire one by one, in order of time and then of creation, and all that each of them sets going
 * without further waiting has happened before the next: the same test always takes the same course.
 */
export class VirtualClock implements Clock {
  private time: number;
  private setBackMs = 0;
  private state: number;
  private order = 0;
  private calls = 0;
  private readonly queue = new TinyQueue<Pending>([], (a, b) => a.at - b.at || a.order - b.order);
  private readonly armed = new Set<Pending>();

  constructor(seed = 1, startsAt = NOON) {
    this.state = seed;
    this.time = startsAt;
  }

  now(): number {
    this.calls += 1;
    if (this.calls > RESTLESS) throw new Error('asked for the time again and again, never waiting');
    return this.time - this.setBackMs;
  }

  /** As the clock of a host is: what had been armed fires when it would have. */
  setBack(ms: number): void {
    this.setBackMs += ms;
  }

  after(delayMs: number, callback: () => void): Timer {
    if (Number.isNaN(delayMs)) throw new Error('a timer needs a number');
    const timer: Pending = {
      at: this.time + Math.max(0, delayMs),
      order: this.order++,
      callback,
      cancel: () => this.armed.delete(timer),
    };
    this.armed.add(timer);
    this.queue.push(timer);
    return timer;
  }

  /** mulberry32: https://gist.github.com/tommyettinger/46a874533244883189143505d203312c */
  random(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** In how many milliseconds each timer that is armed will fire, soonest first. */
  pending(): readonly number[] {
    return [...this.armed].map(({ at }) => at - this.time).toSorted((a, b) => a - b);
  }

  /** Lets happen what needs no time. */
  async settle(): Promise<void> {
    await nextTurn();
    this.calls = 0;
  }

  /** Lets so much time pass. */
  async advance(ms: number): Promise<void> {
    const until = this.time + ms;
    await this.settle();
    await this.fireAll(until);
    this.time = until;
  }

  /** Lets time pass until the condition holds; throws if it does not within so much time. */
  async until(condition: () => boolean, withinMs = 60_000): Promise<void> {
    const limit = this.time + withinMs;
    await this.settle();
    while (!condition()) {
      if (!this.fireNext(limit))
        throw new Error(`not within ${withinMs} ms: ${condition.toString()}`);
      await this.settle();
    }
  }

  /** What the promise resolves to, however much time that takes. */
  async resolved<T>(promise: Promise<T>, withinMs = 60_000): Promise<T> {
    let over = false;
    const ended = (): void => {
      over = true;
    };
    promise.then(ended, ended);
    await this.until(() => over, withinMs);
    return promise;
  }

  private fired = { at: Number.NaN, count: 0 };

  /** One timer a turn: all that it sets going has happened before the next, which has a turn of its own. */
  private fireAll(until: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let isOver = false;
      let waiting = 0;
      const turn = (): void => {
        waiting -= 1;
        if (isOver) return;
        this.calls = 0;
        try {
          isOver = !this.fireNext(until);
        } catch (error) {
          isOver = true;
          reject(asError(error));
          return;
        }
        if (isOver) resolve();
        else if (waiting === 0) begin();
      };
      // Several at a time, for a round of the event loop costs more than a turn.
      const begin = (): void => {
        waiting = TURNS_A_ROUND;
        for (let i = 0; i < TURNS_A_ROUND; i += 1) setImmediate(turn);
      };
      begin();
    });
  }

  private fireNext(until: number): boolean {
    let next = this.queue.peek();
    while (next !== undefined && !this.armed.has(next)) {
      this.queue.pop();
      next = this.queue.peek();
    }
    if (next === undefined || next.at > until) return false;
    this.queue.pop();
    this.armed.delete(next);
    this.time = Math.max(this.time, next.at);
    this.fired =
      this.fired.at === this.time
        ? { ...this.fired, count: this.fired.count + 1 }
        : { at: this.time, count: 1 };
    if (this.fired.count > RESTLESS) throw new Error('timers fire without end at one moment');
    next.callback();
    return true;
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
}
