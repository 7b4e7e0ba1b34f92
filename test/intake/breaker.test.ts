import { describe, expect, test } from 'vitest';
import { Breaker } from '../../src/intake/breaker.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

function start() {
  const ports = new Outside().connect();
  const breaker = new Breaker((signal) => ports.store.ping(signal), ports.clock, ports.report);
  const changes: boolean[] = [];
  breaker.onChange((open) => changes.push(open));
  return { ...ports, breaker, changes };
}

describe('the circuit breaker', () => {
  test('is closed, and asks nothing, until a write finds nobody', async () => {
    const { breaker, store, clock } = start();
    await clock.advance(60_000);
    expect(breaker.isOpen).toBe(false);
    expect(store.pings.count).toBe(0);
    expect(clock.pending()).toEqual([]);
  });

  test('asks at once, and then every second, until there is an answer', async () => {
    const { breaker, store, clock, changes } = start();
    const comeBack = store.goAway();
    breaker.trip('connection refused');
    expect(breaker.isOpen).toBe(true);
    await clock.advance(3900);
    expect(store.pings.count).toBe(4);
    comeBack();
    await clock.advance(300);
    expect(breaker.isOpen).toBe(false);
    expect(changes).toEqual([true, false]);
  });

  test('closes as soon as the API server answers the first time', async () => {
    const { breaker, clock } = start();
    breaker.trip('connection reset');
    await clock.advance(20);
    expect(breaker.isOpen).toBe(false);
    expect(clock.pending()).toEqual([]);
  });

  test('tells once of many writes that find nobody', async () => {
    const { breaker, store, clock, changes, report } = start();
    store.goAway();
    for (let i = 0; i < 5; i += 1) breaker.trip('connection refused');
    await clock.advance(2000);
    expect(changes).toEqual([true]);
    expect(report.told('API server unreachable')).toEqual([{ reason: 'connection refused' }]);
    expect(store.pings.count).toBeLessThanOrEqual(3);
    breaker.stop();
    await clock.advance(0);
  });

  test('opens again, and asks again, after it has closed', async () => {
    const { breaker, store, clock, changes } = start();
    breaker.trip('connection reset');
    await clock.advance(100);
    breaker.trip('connection reset');
    await clock.advance(100);
    // So soon again, what answered was not what writes need: it is not asked at once.
    expect(changes).toEqual([true, false, true]);
    await clock.advance(1000);
    expect(changes).toEqual([true, false, true, false]);
    expect(store.pings.count).toBe(2);
  });

  test('asks ever later while what answers is not what writes need', async () => {
    const { breaker, store, clock } = start();
    const closedAfter: number[] = [];
    for (let i = 0; i < 8; i += 1) {
      breaker.trip('connection reset');
      const openedAt = clock.now();
      await clock.until(() => !breaker.isOpen);
      closedAfter.push(Math.round((clock.now() - openedAt) / 1000));
    }
    expect(closedAfter).toEqual([0, 1, 2, 4, 8, 16, 30, 30]);
    expect(store.pings.count).toBe(8);
  });

  test('asks at once again after a while in which it stayed closed', async () => {
    const { breaker, clock } = start();
    for (let i = 0; i < 4; i += 1) {
      breaker.trip('connection reset');
      await clock.until(() => !breaker.isOpen);
    }
    await clock.advance(5000);
    breaker.trip('connection reset');
    await clock.advance(20);
    expect(breaker.isOpen).toBe(false);
  });

  test.each([
    { name: 'while it asks', afterMs: 2 },
    { name: 'between two questions', afterMs: 500 },
  ])('stopped $name, it asks no more and tells nobody', async ({ afterMs }) => {
    const { breaker, store, clock, changes } = start();
    store.goAway();
    breaker.trip('connection refused');
    await clock.advance(afterMs);
    breaker.stop();
    await clock.advance(10_000);
    expect(changes).toEqual([true]);
    expect(store.pings.count).toBe(1);
    expect(clock.pending()).toEqual([]);
  });

  test('does not open when it has been stopped', () => {
    const { breaker, changes } = start();
    breaker.stop();
    breaker.trip('connection refused');
    expect(breaker.isOpen).toBe(false);
    expect(changes).toEqual([]);
  });
});
