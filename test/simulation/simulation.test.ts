import { execFileSync } from 'node:child_process';
import { describe, expect, test, vi } from 'vitest';
import { MUTANTS } from './mutants.ts';
import { run } from './run.ts';
import { shrink, tell } from './shrink.ts';
import { stormOf } from './storm.ts';

const LIMIT_MS = 180_000;

describe('a seed', { timeout: LIMIT_MS }, () => {
  test.each([1, 7, 42, 314, 2718])('%i decides everything, to the letter', async (seed) => {
    const first = await run(stormOf(seed), { keepsTimeline: true });
    await run(stormOf(seed + 1));
    const second = await run(stormOf(seed), { keepsTimeline: true });
    expect(second.hash).toBe(first.hash);
    expect(second.timeline).toEqual(first.timeline);
    expect(first.timeline.length).toBeGreaterThan(100);
  });

  test('takes the same course in another process', async () => {
    const { hash } = await run(stormOf(5), { keepsTimeline: true });
    const main = `${import.meta.dirname}/main.ts`;
    const said = execFileSync(process.execPath, [main, '--seed', '5', '--timeline'], {
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    });
    expect(said).toContain(`hash of all that: ${hash}`);
  });

  test('takes the same course whether or not it is told', async () => {
    const told = await run(stormOf(11), { keepsTimeline: true });
    const untold = await run(stormOf(11));
    expect({ ...untold, hash: told.hash, timeline: told.timeline }).toEqual(told);
  });

  test('is another storm than the next one', async () => {
    const hashes = await Promise.all(
      [1, 2, 3].map(async (seed) => (await run(stormOf(seed), { keepsTimeline: true })).hash),
    );
    expect(new Set(hashes).size).toBe(3);
  });

  test("asks nothing of this machine's clock, timers or chance", async () => {
    const asked: string[] = [];
    const spies = [
      vi.spyOn(Date, 'now').mockImplementation(() => asked.push('Date.now')),
      vi.spyOn(performance, 'now').mockImplementation(() => asked.push('performance.now')),
      vi.spyOn(Math, 'random').mockImplementation(() => asked.push('Math.random')),
      vi.spyOn(globalThis, 'setTimeout').mockImplementation(() => {
        throw new Error('a real timer');
      }),
    ];
    const outcome = await run(stormOf(3));
    for (const spy of spies) spy.mockRestore();
    expect(asked).toEqual([]);
    expect(outcome.violations).toEqual([]);
  });
});

describe('a storm that breaks an invariant', { timeout: LIMIT_MS }, () => {
  const mutant = MUTANTS.find(({ does }) => does === 'forgets a hook');
  const options = { mutation: mutant?.mutation ?? {} };

  test('is made smaller as long as it breaks it, and told with seed, invariant and command', async () => {
    const storm = stormOf(1);
    const smaller = await shrink(storm, 'I4', options);
    const outcome = await run(smaller, { ...options, keepsTimeline: true });
    expect(outcome.violations.map(({ invariant }) => invariant)).toContain('I4');
    expect(smaller.interruptions).toHaveLength(1);
    expect([...smaller.noise, ...smaller.faults, ...smaller.crashes, ...smaller.meddlings]).toEqual(
      [],
    );
    const text = tell(smaller, outcome, 'npm run simulate -- --seed 1 --storms 1');
    expect(text).toContain('seed 1: I4 is broken');
    expect(text).toContain('hook begun');
    expect(text).toContain('again: npm run simulate -- --seed 1 --storms 1');
  });
});
