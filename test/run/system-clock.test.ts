import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';

const DAY = 86_400_000;

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

// A Node timer of more than 2^31 - 1 ms fires at once.
test.each([1, 24, 25, 50, 400])('a timer of %i days fires then, and not before', (days) => {
  const fired = vi.fn<() => void>();
  systemClock.after(days * DAY, fired);
  vi.advanceTimersByTime(days * DAY - 1);
  expect(fired).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect(fired).toHaveBeenCalledOnce();
});

test('a timer of 60 days can be cancelled on the fiftieth', () => {
  const fired = vi.fn<() => void>();
  const timer = systemClock.after(60 * DAY, fired);
  vi.advanceTimersByTime(50 * DAY);
  timer.cancel();
  vi.advanceTimersByTime(50 * DAY);
  expect(fired).not.toHaveBeenCalled();
});
