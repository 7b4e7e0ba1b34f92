import { setTimeout as delay } from 'node:timers/promises';

export type EventuallyOptions = {
  /** A limit for what has hung, not for what is slow; 60 s unless given. */
  readonly timeoutMs?: number;
  /** Unless given, it grows from 20 ms to 100 ms: whoever waits for long keeps the servers free for others. */
  readonly intervalMs?: number;
};

const intervals = { firstMs: 20, growth: 1.2, longestMs: 100 };

/**
 * Calls the function until it neither throws (an `expect` that fails, say) nor returns undefined or
 * false, and returns what it returned. After the limit it throws what was wrong last.
 */
export async function eventually<T>(
  attempt: () => T | Promise<T>,
  options: EventuallyOptions = {},
): Promise<Exclude<Awaited<T>, undefined | false>> {
  const { timeoutMs = 60_000, intervalMs } = options;
  let pauseMs = intervalMs ?? intervals.firstMs;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let last: unknown;
    try {
      const result = await attempt();
      if (result !== undefined && result !== false) {
        return result as Exclude<Awaited<T>, undefined | false>;
      }
      last = new Error(`it returned ${String(result)}`);
    } catch (error) {
      last = error;
    }
    if (performance.now() >= deadline) {
      const reason = last instanceof Error ? last.message : String(last);
      throw new Error(`not within ${timeoutMs} ms: ${reason}`, { cause: last });
    }
    await delay(pauseMs);
    if (intervalMs === undefined) {
      pauseMs = Math.min(pauseMs * intervals.growth, intervals.longestMs);
    }
  }
}

/**
 * For what must not happen: the function must hold from now until `watchMs` have passed. Prefer
 * waiting for a later event that would come after the forbidden one.
 */
export async function always(
  check: () => void | Promise<void>,
  options: { readonly watchMs: number; readonly intervalMs?: number },
): Promise<void> {
  const deadline = performance.now() + options.watchMs;
  while (performance.now() < deadline) {
    await check();
    await delay(options.intervalMs ?? 50);
  }
  await check();
}
