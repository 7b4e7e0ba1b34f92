import { describe, expect, test } from 'vitest';
import { Park, type HomelessMessage } from '../../src/intake/park.ts';
import { rebalance, spot } from '../plan/samples.ts';
import { VirtualClock } from '../stand-ins/virtual-clock.ts';

function start() {
  const clock = new VirtualClock();
  const due: string[][] = [];
  const park = new Park(clock, (batch) => due.push(batch.map(({ message }) => message.id)));
  return { clock, park, due };
}

function parked(
  clock: VirtualClock,
  id: string,
  options: { graceMs?: number; instances?: string[] } = {},
): HomelessMessage {
  const now = clock.now();
  const { graceMs = 60_000, instances = ['i-1'] } = options;
  return {
    waitsFor: 'a Node',
    message: {
      id,
      receiptHandle: id,
      sentAt: now,
      firstReceivedAt: now,
      receiveCount: 1,
    },
    events: instances.map((instanceId) => spot(0, { instanceId })),
    parkedAt: now,
    until: now + graceMs,
  };
}

describe('the parked messages', () => {
  test('are due within a second of the end of their grace, and until they are taken', async () => {
    const { clock, park, due } = start();
    park.add(parked(clock, 'a', { graceMs: 5500 }));
    await clock.advance(5400);
    expect(due).toEqual([]);
    await clock.advance(1000);
    expect(due).toEqual([['a']]);
    await clock.advance(1000);
    expect(due).toEqual([['a'], ['a']]);
  });

  test('are due together when their grace ends together', async () => {
    const { clock, park, due } = start();
    park.add(parked(clock, 'a', { graceMs: 1000 }));
    park.add(parked(clock, 'b', { graceMs: 900 }));
    await clock.advance(1000);
    expect(due).toEqual([['a', 'b']]);
  });

  test('are taken by the instance they wait for, each once', () => {
    const { clock, park } = start();
    park.add(parked(clock, 'a', { instances: ['i-1', 'i-2'] }));
    park.add(parked(clock, 'b', { instances: ['i-2'] }));
    park.add(parked(clock, 'c', { instances: ['i-3'] }));
    expect(park.takeFor('i-2').map(({ message }) => message.id)).toEqual(['a', 'b']);
    expect(park.takeFor('i-2')).toEqual([]);
    expect(park.takeFor('i-1')).toEqual([]);
    expect(park.size).toBe(1);
  });

  test('hold a message once, as it was parked last', () => {
    const { clock, park } = start();
    const first = parked(clock, 'a');
    const second = { ...parked(clock, 'a'), events: [rebalance(0, { instanceId: 'i-2' })] };
    park.add(first);
    park.add(second);
    expect(park.size).toBe(1);
    expect(park.holds(first)).toBe(false);
    expect(park.holds(second)).toBe(true);
    expect(park.takeFor('i-1')).toEqual([]);
  });

  test('are 10,000 at most', () => {
    const { clock, park } = start();
    const added = Array.from({ length: 10_000 }, (_, i) => park.add(parked(clock, `m${i}`)));
    expect(added.every(Boolean)).toBe(true);
    expect(park.add(parked(clock, 'one more'))).toBe(false);
    expect(park.add(parked(clock, 'm5'))).toBe(true);
    park.take('m7');
    expect(park.add(parked(clock, 'one more'))).toBe(true);
    expect(park.size).toBe(10_000);
  });

  test('set no timer when there are none', async () => {
    const { clock, park } = start();
    park.add(parked(clock, 'a'));
    park.take('a');
    await clock.advance(1000);
    expect(clock.pending()).toEqual([]);
  });

  test('set none when they are closed', () => {
    const { clock, park } = start();
    park.add(parked(clock, 'a'));
    park.close();
    expect(clock.pending()).toEqual([]);
    expect(park.all()).toHaveLength(1);
  });
});
