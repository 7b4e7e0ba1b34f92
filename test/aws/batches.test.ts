import { describe, expect, test } from 'vitest';
import { Batches, type Verdicts } from '../../src/aws/batches.ts';
import { systemClock, type Clock } from '../../src/clock.ts';

const bounds = { mostWaiting: 50_000, tryForMs: 15_000 };

/** Sends only what the test lets through. */
function gate(clock: Clock = systemClock) {
  const sent: { entries: readonly number[]; answer: (verdicts: Verdicts) => void }[] = [];
  const batches = new Batches<number>(
    'test',
    (entries, signal) =>
      new Promise((resolve) => {
        sent.push({ entries, answer: resolve });
        signal.addEventListener('abort', () => resolve([]));
      }),
    clock,
    bounds,
  );
  return { batches, sent };
}

const yes = Array.from({ length: 10 }, () => true);

describe('batches', () => {
  test('ten go at once, without waiting for company', () => {
    const { batches, sent } = gate({ ...systemClock, after: () => ({ cancel: () => undefined }) });
    for (let i = 0; i < 25; i++) void batches.add(i);
    expect(sent.map(({ entries }) => entries.length)).toEqual([10, 10]);
  });

  test('at most eight are under way; the rest goes, in order, as they come back', async () => {
    const { batches, sent } = gate();
    const added = Array.from({ length: 200 }, (_, i) => batches.add(i));
    expect(sent).toHaveLength(8);
    for (let i = 0; i < 20; i++) {
      sent[i]?.answer(yes);
      await Promise.all(added.slice(i * 10, i * 10 + 10));
      expect(sent).toHaveLength(Math.min(9 + i, 20));
    }
    expect(sent.flatMap(({ entries }) => entries)).toEqual(Array.from(added, (_, i) => i));
  });

  test('what is refused forever keeps nothing else', async () => {
    const { batches, sent } = gate();
    const refused = batches.add(1);
    const accepted = batches.add(2);
    await expect.poll(() => sent.length).toBe(1);
    sent[0]?.answer([{ kind: 'refused', code: 'No', message: 'never' }, true]);
    await expect(refused).rejects.toThrow(/^test: No: never$/);
    expect(await accepted).toBe(true);
  });

  test('pauses grow, and end when the time is up', async () => {
    let now = 0;
    const pauses: number[] = [];
    const clock: Clock = {
      now: () => now,
      random: () => 1,
      after(delayMs, callback) {
        if (delayMs >= 100) pauses.push(delayMs);
        now += delayMs;
        queueMicrotask(callback);
        return { cancel: () => undefined };
      },
    };
    const batches = new Batches<number>(
      'test',
      async () => [{ kind: 'throttled', code: 'Throttling', message: 'slow down' }],
      clock,
      bounds,
    );
    await expect(batches.add(1)).rejects.toThrow('test: Throttling: slow down');
    expect(pauses.slice(0, 6)).toEqual([100, 200, 400, 800, 1600, 2000]);
    expect(pauses.reduce((sum, pause) => sum + pause)).toBeLessThanOrEqual(17_000);
  });

  test('more than a process can have in hand is refused, not hoarded', async () => {
    const { batches, sent } = gate();
    const outcomes = Promise.allSettled(Array.from({ length: 50_001 }, (_, i) => batches.add(i)));
    expect(sent).toHaveLength(8);
    await batches.close(0);
    const reasons = (await outcomes).map((outcome) =>
      outcome.status === 'rejected' ? String(outcome.reason) : outcome.value,
    );
    expect(reasons.at(-1)).toBe('Error: test: too many wait');
    expect(reasons.at(-2)).toBe('Error: test: closed');
    expect(reasons[0]).toBe('Error: test: NoVerdict: the answer does not mention the entry');
  });

  test('entries that pause between attempts count as well', async () => {
    const { batches, sent } = gate({ ...systemClock, after: () => ({ cancel: () => undefined }) });
    const throttled = Array.from({ length: 10 }, () => ({
      kind: 'throttled' as const,
      code: 'Throttling',
      message: 'slow down',
    }));
    const pausing = Array.from({ length: 50_000 }, (_, i) => batches.add(i));
    for (let answered = 0; answered < 5000; answered++) {
      while (sent[answered] === undefined) await Promise.resolve();
      sent[answered]?.answer(throttled);
    }
    await expect(batches.add(0)).rejects.toThrow('too many wait');
    expect(pausing).toHaveLength(50_000);
  });
});
