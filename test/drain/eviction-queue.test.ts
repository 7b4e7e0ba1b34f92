import { describe, expect, test } from 'vitest';
import { EvictionQueue, type JobResult } from '../../src/drain/eviction-queue.ts';
import { VirtualClock } from '../stand-ins/virtual-clock.ts';

const OVERLOADED = { overloaded: true, retryAfterMs: undefined } as const;

function start() {
  const clock = new VirtualClock();
  const queue = new EvictionQueue(clock);
  const begun: string[] = [];
  const open = new Map<string, (result: JobResult) => void>();
  const add = (name: string, urgency = Infinity, group = name): void =>
    queue.add({
      urgency,
      group,
      perform() {
        begun.push(name);
        return new Promise((resolve) => open.set(name, resolve));
      },
    });
  const end = async (name: string, result: JobResult = 'done'): Promise<void> => {
    open.get(name)?.(result);
    open.delete(name);
    await clock.settle();
  };
  return {
    clock,
    queue,
    begun,
    add,
    addMany: (count: number, prefix = 'pod', group?: string): void => {
      for (let i = 0; i < count; i += 1) add(`${prefix}-${i}`, Infinity, group ?? `${prefix}-${i}`);
    },
    end,
    /** Those under way, oldest first. */
    open: (): readonly string[] => [...open.keys()],
    /** Of those under way now. */
    endRound: async (result: JobResult = 'done'): Promise<void> => {
      const round = [...open.keys()];
      for (const name of round) await end(name, result);
    },
    /** Of those and of all that come after. */
    endAll: async (): Promise<void> => {
      for (const name of open.keys()) await end(name);
    },
  };
}

describe('the order of evictions', () => {
  test('is that of the time left, over all nodes; else that of their coming', async () => {
    const { addMany, add, begun, endAll } = start();
    addMany(16, 'filler');
    add('later', 2000);
    add('never-1');
    add('soonest', 1000);
    add('never-2');
    add('past', -5000);
    add('later too', 2000);
    await endAll();
    expect(begun.slice(16)).toEqual([
      'past',
      'soonest',
      'later',
      'later too',
      'never-1',
      'never-2',
    ]);
  });

  test('holds within a contended group, too', async () => {
    const { add, begun, end, endAll } = start();
    add('first', 5000, 'web');
    await end('first', 'contended');
    for (let i = 0; i < 4; i += 1) add(`running-${i}`, 5000, 'web');
    add('c', 3000, 'web');
    add('d', 4000, 'web');
    add('a', 1000, 'web');
    add('b', 2000, 'web');
    await endAll();
    expect(begun.slice(5)).toEqual(['a', 'b', 'c', 'd']);
  });
});

describe('how many are under way', () => {
  test('is 16 at first', async () => {
    const { addMany, open, queue } = start();
    addMany(100);
    expect(open()).toHaveLength(16);
    expect(queue.concurrencyLimit).toBe(16);
  });

  test('grows by one for each round that goes well, up to 64', async () => {
    const { addMany, endRound, open, queue } = start();
    addMany(5000);
    await endRound();
    await endRound();
    expect(queue.concurrencyLimit).toBe(17);
    for (let i = 0; i < 60; i += 1) await endRound();
    expect(queue.concurrencyLimit).toBe(64);
    expect(open()).toHaveLength(64);
  });

  test('is halved by a sign of overload, once for a burst of them', async () => {
    const { addMany, end, queue } = start();
    addMany(100);
    for (let i = 0; i < 6; i += 1) await end(`pod-${i}`, OVERLOADED);
    expect(queue.concurrencyLimit).toBe(8);
  });

  test('is halved again by a later one, and never below one', async () => {
    const { addMany, clock, open, end, queue } = start();
    addMany(100);
    for (let i = 0; i < 8; i += 1) {
      await end(open()[0]!, OVERLOADED);
      await clock.advance(600);
    }
    expect(queue.concurrencyLimit).toBe(1);
    expect(open().length).toBeGreaterThan(0);
  });

  test('is not lowered by a budget that refuses', async () => {
    const { addMany, endRound, queue } = start();
    addMany(100);
    await endRound('contended');
    expect(queue.concurrencyLimit).toBeGreaterThanOrEqual(16);
  });

  test('is not raised by what asked nothing', async () => {
    const { addMany, endRound, queue } = start();
    addMany(1000);
    for (let i = 0; i < 40; i += 1) await endRound('nothing');
    expect(queue.concurrencyLimit).toBe(16);
  });
});

describe('an overloaded API server', () => {
  test('is left alone for as long as it asks', async () => {
    const { addMany, end, clock, begun } = start();
    addMany(100);
    await end('pod-0', { overloaded: true, retryAfterMs: 3000 });
    await end('pod-1');
    await clock.advance(2900);
    expect(begun).toHaveLength(16);
    for (let i = 2; i < 16; i += 1) await end(`pod-${i}`);
    await clock.advance(200);
    // Half as many as before.
    expect(begun.length - 16).toBeGreaterThanOrEqual(8);
    expect(begun.length - 16).toBeLessThan(10);
  });

  test('is left alone for half a second where it does not say', async () => {
    const { addMany, end, clock, begun } = start();
    addMany(18);
    for (let i = 0; i < 16; i += 1) await end(`pod-${i}`, OVERLOADED);
    await clock.advance(400);
    expect(begun).toHaveLength(16);
    await clock.advance(200);
    expect(begun).toHaveLength(18);
  });

  test('is left alone for the longest of what it asks', async () => {
    const { addMany, end, clock, begun } = start();
    addMany(18);
    await end('pod-0', OVERLOADED);
    await end('pod-1', { overloaded: true, retryAfterMs: 5000 });
    await end('pod-2', OVERLOADED);
    for (let i = 3; i < 16; i += 1) await end(`pod-${i}`);
    await clock.advance(4900);
    expect(begun).toHaveLength(16);
    await clock.advance(200);
    expect(begun).toHaveLength(18);
    expect(clock.pending()).toEqual([]);
  });

  test('is not left alone for as long as no deadline would bear', async () => {
    const { addMany, endRound, clock, begun } = start();
    addMany(17);
    await endRound({ overloaded: true, retryAfterMs: 3_600_000 });
    await clock.advance(30_000);
    expect(begun).toHaveLength(17);
  });
});

describe('the pods of one controller', () => {
  test('are evicted as any others until a budget is met', () => {
    const { addMany, open } = start();
    addMany(40, 'web', 'web');
    expect(open()).toHaveLength(16);
  });

  test('are evicted four at a time once it is', async () => {
    const { addMany, add, end, endRound, open } = start();
    addMany(40, 'web', 'web');
    add('other');
    await end('web-0', 'contended');
    for (let i = 1; i < 12; i += 1) await end(`web-${i}`);
    expect(open().filter((name) => name.startsWith('web'))).toHaveLength(4);
    for (let i = 0; i < 5; i += 1) {
      await endRound();
      expect(open().length).toBeLessThanOrEqual(4);
    }
  });

  test('are so, too, once an answer took over a second', async () => {
    const { addMany, endRound, clock, open } = start();
    addMany(40, 'web', 'web');
    await clock.advance(1001);
    await endRound();
    expect(open()).toHaveLength(4);
  });

  test('do not hold up those of others', async () => {
    const { addMany, end, open } = start();
    addMany(40, 'web', 'web');
    await end('web-0', 'contended');
    addMany(12, 'other');
    for (let i = 1; i < 16; i += 1) await end(`web-${i}`);
    expect(open().filter((name) => name.startsWith('other'))).toHaveLength(12);
  });

  test('are all evicted in the end, whatever the answers', async () => {
    const { addMany, open, end, clock, begun } = start();
    addMany(200, 'web', 'web');
    addMany(100, 'other');
    const results: readonly JobResult[] = ['done', 'contended', 'nothing', OVERLOADED];
    for (let i = 0; begun.length < 300 || open().length > 0; i += 1) {
      const [next] = open();
      if (next !== undefined) await end(next, results[Math.floor(clock.random() * 4)]);
      else await clock.advance(500);
      if (i > 2000) throw new Error('it does not end');
    }
    await clock.advance(500);
    expect(new Set(begun).size).toBe(300);
    expect(clock.pending()).toEqual([]);
  });
});

describe('closing', () => {
  test('begins nothing more, and leaves no timer', async () => {
    const { queue, addMany, end, endRound, clock, begun } = start();
    addMany(40);
    await end('pod-0', OVERLOADED);
    queue.close();
    await endRound();
    await clock.advance(10_000);
    expect(begun).toHaveLength(16);
    expect(clock.pending()).toEqual([]);
  });
});
