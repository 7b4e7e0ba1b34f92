/** Time and chance as the flow sees them; the simulation has its own. */
export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Calls back once after at least `delayMs`, which may exceed the 24.8 days of a Node timer. */
  after(delayMs: number, callback: () => void): Timer;
  /** In [0, 1). */
  random(): number;
}

export interface Timer {
  cancel(): void;
}

const LONGEST_NODE_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  random: () => Math.random(),
  after(delayMs, callback) {
    let handle: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      handle = setTimeout(
        () => {
          if (leftMs > LONGEST_NODE_TIMER_MS) arm(leftMs - LONGEST_NODE_TIMER_MS);
          else callback();
        },
        Math.min(Math.max(leftMs, 0), LONGEST_NODE_TIMER_MS),
      );
    };
    arm(delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
};

/** The same, but what passes between two of its times is what has passed, though clocks are set. */
export const steadyClock: Clock = {
  ...systemClock,
  now: () => performance.timeOrigin + performance.now(),
};

/** Resolves after `delayMs`, or at once when the signal aborts: the caller looks at the signal. */
export function pause(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      timer.cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = clock.after(delayMs, done);
    signal?.addEventListener('abort', done, { once: true });
  });
}
