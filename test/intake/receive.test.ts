import { describe, expect, onTestFinished, test } from 'vitest';
import type { Message } from '../../src/intake/queue.ts';
import { Receiver } from '../../src/intake/receive.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

function start({ room = () => 1000 }: { room?: (received: number) => number } = {}) {
  const outside = new Outside();
  const ports = outside.connect();
  const received: Message[] = [];
  const receiver = new Receiver(
    ports,
    () => room(received.length),
    (messages) => received.push(...messages),
  );
  onTestFinished(async () => {
    await ports.clock.resolved(receiver.stop());
    expect(ports.clock.pending()).toEqual([]);
  });
  receiver.start();
  return { ...ports, sqs: outside.sqs, receiver, received };
}

function sendMany(sqs: { send(body: unknown): string }, count: number): void {
  for (let i = 0; i < count; i += 1) sqs.send(`${i}`);
}

describe('receiving', () => {
  test('keeps one long poll of 20 s when there is nothing', async () => {
    const { queue, clock } = start();
    await clock.advance(100_000);
    expect(queue.polling).toBe(1);
    expect(queue.receives.count).toBe(5);
    expect(new Set(queue.receives.calls.map(({ args }) => args.join()))).toEqual(
      new Set(['10,20,20']),
    );
  });

  test('has a message as soon as it is sent', async () => {
    const { sqs, clock, received } = start();
    await clock.advance(7000);
    sqs.send('a');
    await clock.advance(50);
    expect(received).toHaveLength(1);
  });

  test('receives in parallel as long as batches come back full, and then no more', async () => {
    const { sqs, queue, clock, received } = start();
    sendMany(sqs, 900);
    let most = 0;
    for (let i = 0; i < 200; i += 1) {
      await clock.advance(5);
      most = Math.max(most, queue.polling);
    }
    expect(received).toHaveLength(900);
    expect(most).toBeGreaterThan(4);
    expect(most).toBeLessThanOrEqual(12);
    await clock.advance(1000);
    expect(queue.polling).toBe(1);
  });

  test('receives no more than there is room for', async () => {
    let room = 13;
    const { sqs, clock, received } = start({ room: (count) => room - count });
    sendMany(sqs, 100);
    await clock.advance(5000);
    expect(received).toHaveLength(13);
    room = 50;
    await clock.advance(5000);
    expect(received).toHaveLength(50);
  });

  test('begins nothing while there is no room, and goes on when it is woken', async () => {
    let room = 0;
    const { sqs, queue, clock, receiver, received } = start({ room: () => room });
    sendMany(sqs, 1);
    await clock.advance(60_000);
    expect(queue.receives.count).toBe(0);
    room = 10;
    receiver.wake();
    await clock.advance(20);
    expect(received).toHaveLength(1);
  });

  test('notices room that nobody told of', async () => {
    let room = 0;
    const { sqs, clock, received } = start({ room: () => room });
    sendMany(sqs, 1);
    await clock.advance(60_000);
    room = 10;
    await clock.advance(150);
    expect(received).toHaveLength(1);
  });
});

describe('a long poll that does not wait', () => {
  test('is not asked more often than five times a second', async () => {
    const ports = new Outside().connect();
    let asked = 0;
    ports.queue.receive = async () => {
      asked += 1;
      return [];
    };
    const receiver = new Receiver(
      ports,
      () => 10,
      () => undefined,
    );
    receiver.start();
    await ports.clock.advance(10_000);
    expect(asked).toBeLessThanOrEqual(51);
    await ports.clock.resolved(receiver.stop());
  });
});

describe('a queue that does not answer', () => {
  test('is asked again ever more slowly, every 5 s at last', async () => {
    const { queue, clock, report, receiver } = start();
    queue.receives.answerBy(() => {
      throw new Error('connection refused');
    });
    await clock.advance(60_000);
    const gaps = queue.receives.calls
      .map(({ at }) => at)
      .map((at, i, all) => at - (all[i - 1] ?? at))
      .slice(1);
    expect(gaps.slice(0, 3)).toEqual([255, 505, 1005]);
    expect(Math.max(...gaps)).toBe(5005);
    expect(receiver.failure).toContain('connection refused');
    expect(report.told('queue unreachable')).toHaveLength(1);
  });

  test('is received from as soon as it answers', async () => {
    const { sqs, queue, clock, report, receiver, received } = start();
    queue.receives.answerBy(() => {
      throw new Error('connection refused');
    });
    await clock.advance(60_000);
    queue.receives.answerBy(undefined);
    sendMany(sqs, 1);
    await clock.advance(5100);
    expect(received).toHaveLength(1);
    expect(receiver.failure).toBeUndefined();
    expect(report.told('queue answers again')).toHaveLength(1);
  });
});

describe('stopping', () => {
  test('ends a long poll at once', async () => {
    const { queue, clock, receiver } = start();
    await clock.advance(5000);
    await clock.resolved(receiver.stop(), 10);
    expect(queue.polling).toBe(0);
  });

  test('ends a wait for room at once', async () => {
    const { clock, receiver } = start({ room: () => 0 });
    await clock.advance(5050);
    await clock.resolved(receiver.stop(), 10);
    expect(clock.pending()).toEqual([]);
  });

  test('ends a back-off at once', async () => {
    const { queue, clock, receiver } = start();
    queue.receives.answerBy(() => {
      throw new Error('connection refused');
    });
    await clock.advance(8000);
    await clock.resolved(receiver.stop(), 10);
    expect(clock.pending()).toEqual([]);
  });
});
