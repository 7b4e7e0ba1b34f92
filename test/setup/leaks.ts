import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, vi } from 'vitest';

// Of what a test leaves behind, others fail. These run after all hooks of the file.

// Unit tests share their process: a clock that stands still is the clock of all that follow.
afterEach(() => {
  if (!vi.isFakeTimers()) return;
  vi.useRealTimers();
  throw new Error('made-up timers that this test set up and did not take away');
});

// What a test file starts, it ends: a server or a process that is still there keeps a port, or eats
// the time of others.
const kinds = new Set(['TCPServerWrap', 'ProcessWrap']);

/** Beyond it, what is being closed hangs. */
const limitMs = 10_000;

const before = leftOver().length;

afterAll(async () => {
  const limitAt = performance.now() + limitMs;
  while (leftOver().length > before && performance.now() < limitAt) await delay(20);
  const left = leftOver();
  if (left.length > before) {
    throw new Error(`servers or processes that this file started and did not end: ${left.join()}`);
  }
});

function leftOver(): string[] {
  return process.getActiveResourcesInfo().filter((kind) => kinds.has(kind));
}
