import { describe, expect, test } from 'vitest';
import { Hand } from '../../src/intake/hand.ts';
import type { Message } from '../../src/intake/queue.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

function start() {
  const outside = new Outside();
  const ports = outside.connect();
  const hand = new Hand(ports.queue, ports.clock, ports.report);
  const receive = (max = 10): readonly Message[] => outside.sqs.take(max, 20);
  const receiveOne = (): Message => {
    const [message] = receive(1);
    if (message === undefined) throw new Error('nothing to receive');
    return message;
  };
  return { ...ports, sqs: outside.sqs, hand, receive, receiveOne };
}

describe('a message in hand', () => {
  test('stays hidden by an extension each ten seconds', async () => {
    const { hand, sqs, clock, receive, receiveOne } = start();
    const id = sqs.send('a');
    hand.take(receiveOne());
    await clock.advance(95_000);
    expect(sqs.eventsOf(id).filter(({ type }) => type === 'hidden')).toHaveLength(9);
    expect(receive()).toEqual([]);
    expect(hand.size).toBe(1);
  });

  test('is deleted, and no longer kept hidden, when it is settled so', async () => {
    const { hand, sqs, clock, receiveOne } = start();
    sqs.send('a');
    const message = receiveOne();
    hand.take(message);
    hand.settle(message, { end: 'delete' });
    expect(hand.size).toBe(0);
    await clock.advance(100);
    expect(sqs.ids).toEqual([]);
    expect(clock.pending()).toEqual([]);
  });

  test('comes back after as long as its settlement says', async () => {
    const { hand, sqs, clock, receive, receiveOne } = start();
    sqs.send('a');
    const message = receiveOne();
    hand.take(message);
    hand.settle(message, { end: 'hide', seconds: 90 });
    await clock.advance(89_000);
    expect(receive()).toEqual([]);
    await clock.advance(2000);
    expect(receive()).toHaveLength(1);
  });

  test('that is left comes back by itself, without a word to the queue', async () => {
    const { hand, sqs, queue, clock, receive, receiveOne } = start();
    sqs.send('a');
    const message = receiveOne();
    hand.take(message);
    hand.settle(message, { end: 'leave' });
    await clock.advance(20_000);
    expect(queue.hidings.count + queue.deletions.count).toBe(0);
    expect(receive()).toHaveLength(1);
  });

  test('is settled once, whoever settles it again', async () => {
    const { hand, sqs, queue, clock, receiveOne } = start();
    sqs.send('a');
    const message = receiveOne();
    hand.take(message);
    hand.settle(message, { end: 'delete' });
    hand.settle(message, { end: 'hide', seconds: 0 });
    await clock.advance(100);
    expect(queue.deletions.count).toBe(1);
    expect(queue.hidings.count).toBe(0);
  });

  test('that is received again only brings a newer handle, which settles it', async () => {
    const { hand, sqs, clock, receiveOne } = start();
    const id = sqs.send('a');
    const first = receiveOne();
    expect(hand.take(first)).toBe(true);
    sqs.setVisibility(first, 0);
    expect(hand.take(receiveOne())).toBe(false);
    expect(hand.size).toBe(1);
    hand.settle(first, { end: 'delete' });
    await clock.advance(100);
    expect(sqs.visibleAt(id)).toBeUndefined();
  });

  test('is tried again by its next receive where the queue cannot be told', async () => {
    const { hand, sqs, queue, clock, report, receiveOne } = start();
    sqs.send('a');
    const message = receiveOne();
    hand.take(message);
    queue.deletions.answerNext(new Error('connection reset'));
    hand.settle(message, { end: 'delete' });
    await clock.advance(20_000);
    expect(report.told('message not settled')).toMatchObject([{ messageId: 'message-1' }]);
    expect(hand.take(receiveOne())).toBe(true);
  });

  test('is kept hidden although one extension fails', async () => {
    const { hand, sqs, queue, clock, receiveOne } = start();
    sqs.send('a');
    hand.take(receiveOne());
    queue.hidings.answerNext(new Error('throttled'));
    await clock.advance(10_000);
    await clock.advance(9_900);
    expect(queue.hidings.count).toBe(1);
    await clock.advance(1000);
    expect(queue.hidings.count).toBe(2);
  });
});

describe('giving everything back', () => {
  test('makes all visible, and waits until the queue knows', async () => {
    const { hand, sqs, clock, receive } = start();
    for (let i = 0; i < 5; i += 1) sqs.send(`${i}`);
    for (const message of receive()) hand.take(message);
    await clock.resolved(hand.giveAllBack());
    expect(hand.size).toBe(0);
    expect(receive()).toHaveLength(5);
    expect(clock.pending()).toEqual([]);
  });

  test('waits no more than a moment for a queue that does not answer', async () => {
    const { hand, sqs, queue, clock, receiveOne } = start();
    sqs.send('a');
    hand.take(receiveOne());
    queue.hidings.hold();
    await clock.resolved(hand.giveAllBack(), 1500);
    expect(hand.size).toBe(0);
  });

  test('waits for settlements that are on their way', async () => {
    const { hand, sqs, queue, clock, receiveOne } = start();
    sqs.send('a');
    const message = receiveOne();
    hand.take(message);
    const release = queue.deletions.hold();
    hand.settle(message, { end: 'delete' });
    let done = false;
    const givenBack = hand.giveAllBack().then(() => (done = true));
    await clock.advance(500);
    expect(done).toBe(false);
    release();
    await clock.resolved(givenBack);
    expect(sqs.ids).toEqual([]);
  });

  test('does not wait for long for a queue that does not answer', async () => {
    const { hand, sqs, queue, clock, receiveOne } = start();
    sqs.send('a');
    hand.take(receiveOne());
    const release = queue.hidings.hold();
    let done = false;
    const givenBack = hand.giveAllBack().then(() => (done = true));
    await clock.advance(900);
    expect(done).toBe(false);
    await clock.advance(100);
    expect(done).toBe(true);
    release();
    await clock.resolved(givenBack);
  });
});
