import { describe, expect, test } from 'vitest';
import { pause } from '../../src/clock.ts';
import { NOON, VirtualClock } from './virtual-clock.ts';

describe('virtual time', () => {
  test('passes only when it is told to', async () => {
    const clock = new VirtualClock();
    await clock.settle();
    expect(clock.now()).toBe(NOON);
    await clock.advance(1500);
    expect(clock.now()).toBe(NOON + 1500);
  });

  test('fires timers in order of time and then of creation, each at its own time', async () => {
    const clock = new VirtualClock();
    const fired: string[] = [];
    const arm = (name: string, delayMs: number) =>
      clock.after(delayMs, () => fired.push(`${name} ${clock.now() - NOON}`));
    arm('late', 300);
    arm('first', 100);
    arm('second', 100);
    arm('at once', -5);
    arm('cancelled', 200).cancel();
    await clock.advance(299);
    expect(fired).toEqual(['at once 0', 'first 100', 'second 100']);
    expect(clock.pending()).toEqual([1]);
    await clock.advance(1);
    expect(fired.at(-1)).toBe('late 300');
    expect(clock.pending()).toEqual([]);
  });

  test('lets all happen that a timer sets going before the next one fires', async () => {
    const clock = new VirtualClock();
    const seen: string[] = [];
    const walk = async (name: string): Promise<void> => {
      await pause(clock, 10);
      for (let i = 0; i < 5; i += 1) await Promise.resolve();
      seen.push(`${name} steps`);
      await pause(clock, 10);
      seen.push(`${name} ends`);
    };
    void walk('a');
    void walk('b');
    await clock.advance(20);
    expect(seen).toEqual(['a steps', 'b steps', 'a ends', 'b ends']);
  });

  test('goes as far as a condition needs, and no further', async () => {
    const clock = new VirtualClock();
    let isOver = false;
    clock.after(700, () => (isOver = true));
    clock.after(800, () => (isOver = false));
    await clock.until(() => isOver);
    expect(clock.now()).toBe(NOON + 700);
    await expect(clock.until(() => false, 5000)).rejects.toThrow('not within 5000 ms');
  });

  test('gives what a promise resolves to, or why it rejects', async () => {
    const clock = new VirtualClock();
    const value = pause(clock, 5000).then(() => 7);
    expect(await clock.resolved(value)).toBe(7);
    const failure = pause(clock, 5000).then(() => Promise.reject(new Error('no')));
    await expect(clock.resolved(failure)).rejects.toThrow('no');
  });

  test('does not hang on what never waits', async () => {
    const clock = new VirtualClock();
    const restless = (async () => {
      while (clock.now() < Infinity) await Promise.resolve();
    })();
    await expect(restless).rejects.toThrow('never waiting');
    const again = (): void => {
      clock.after(0, again);
    };
    again();
    await expect(clock.advance(1)).rejects.toThrow('without end');
  });

  test('is the same chance for the same seed', () => {
    const draw = (seed: number) => {
      const clock = new VirtualClock(seed);
      return Array.from({ length: 1000 }, () => clock.random());
    };
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
    expect(draw(7).every((value) => value >= 0 && value < 1)).toBe(true);
    const mean = draw(7).reduce((sum, value) => sum + value, 0) / 1000;
    expect(mean).toBeCloseTo(0.5, 1);
  });
});
