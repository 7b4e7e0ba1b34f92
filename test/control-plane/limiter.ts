export type Limiter = <T>(task: () => Promise<T>) => Promise<T>;

/** Runs at most `limit` of the tasks given to it at a time, first come, first served. */
export function createLimiter(limit: number): Limiter {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (task) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await task();
    } finally {
      const next = waiting.shift();
      // The place is handed on, so that a newcomer cannot slip in between.
      if (next) next();
      else running -= 1;
    }
  };
}

/** Results in the order of the items; the first failure rejects. */
export async function mapLimited<T, R>(
  items: readonly T[],
  limit: number,
  task: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const limiter = createLimiter(limit);
  return Promise.all(items.map((item, index) => limiter(() => task(item, index))));
}
