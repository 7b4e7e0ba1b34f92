import { describe, expect, test } from 'vitest';
import * as messages from '../harness/messages.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { Outside } from '../stand-ins/ports/outside.ts';
import { start } from './start.ts';

describe('a message', () => {
  test('is recorded, and then deleted, within a moment', async () => {
    const { notice, isMarked, sqs, store, clock } = start();
    await clock.advance(3000);
    const id = notice();
    await clock.advance(100);
    expect(isMarked()).toBe(true);
    expect(sqs.ids).toEqual([]);
    const [write] = store.writes.calls;
    const deleted = sqs.eventsOf(id).find(({ type }) => type === 'deleted');
    expect(deleted?.at).toBeGreaterThan(write!.at);
  });

  test('is not deleted before the API server has the record', async () => {
    const { notice, sqs, store, clock } = start();
    const release = store.writes.hold();
    const id = notice();
    await clock.advance(60_000);
    expect(sqs.ids).toEqual([id]);
    release();
    await clock.advance(100);
    expect(sqs.ids).toEqual([]);
    expect(sqs.eventsOf(id).filter(({ type }) => type === 'received')).toHaveLength(1);
  });

  test('that comes twice is deleted twice, and recorded once', async () => {
    const { notice, sqs, store, clock } = start();
    const time = clock.now();
    notice(1, { time });
    notice(1, { time });
    await clock.advance(100);
    expect(sqs.ids).toEqual([]);
    expect(store.writes.count).toBe(1);
  });

  test.each([
    {
      name: 'of an unknown detail-type',
      body: {
        ...messages.spotNotice({ instanceId: instanceIdOf(1) }),
        'detail-type': 'EC2 Asteroid Warning',
      },
    },
    { name: 'of a test notification', body: messages.testNotification('workers') },
    {
      name: 'of another account',
      body: messages.spotNotice({ instanceId: instanceIdOf(1), account: '999999999999' }),
    },
    {
      name: 'of a state that nothing is done about',
      body: messages.stateChange({ instanceId: instanceIdOf(1), state: 'pending' }),
    },
  ])('$name is deleted at once, and nothing is done', async ({ body }) => {
    const { sqs, isMarked, clock } = start();
    sqs.send(body);
    await clock.advance(100);
    expect(sqs.ids).toEqual([]);
    expect(isMarked()).toBe(false);
  });

  test('is counted by what became of it, and told as a sum each minute', async () => {
    const { notice, sqs, report, clock } = start();
    notice();
    notice();
    sqs.send(messages.testNotification('workers'));
    sqs.send('{');
    await clock.advance(61_000);
    expect(report.told('messages judged')).toEqual([
      {
        recorded: 1,
        duplicate: 1,
        'test-notification': 1,
        malformed: 3,
        parked: 0,
        inHand: 0,
      },
    ]);
  });

  test('that waits for an overloaded API server stays in hand, hidden', async () => {
    const { notice, sqs, store, clock } = start();
    store.writes.answerBy(() => ({ outcome: 'overloaded', retryAfterMs: 2000 }));
    const id = notice();
    await clock.advance(90_000);
    const events = sqs.eventsOf(id);
    expect(events.filter(({ type }) => type === 'received')).toHaveLength(1);
    expect(events.filter(({ type }) => type === 'hidden').length).toBeGreaterThanOrEqual(8);
    store.writes.answerBy(undefined);
    await clock.advance(10_000);
    expect(sqs.ids).toEqual([]);
  });
});

describe('a message that cannot be read', () => {
  test('is deleted at its fifth receive where there is no redrive policy, its body told', async () => {
    const { sqs, report, clock } = start();
    const id = sqs.send('no JSON at all');
    await clock.advance(79_000);
    expect(sqs.ids).toEqual([id]);
    await clock.advance(3000);
    expect(sqs.ids).toEqual([]);
    expect(report.told('malformed message')).toHaveLength(4);
    expect(report.told('malformed message deleted')).toMatchObject([{ body: 'no JSON at all' }]);
  });

  test('is left to the redrive policy where there is one', async () => {
    const outside = new Outside();
    outside.sqs.maxReceiveCount = 10;
    const { sqs, queue, clock } = start({ outside });
    const id = sqs.send('no JSON at all');
    await clock.advance(300_000);
    expect(sqs.ids).toEqual([id]);
    expect(queue.hidings.count).toBe(0);
  });

  test('is left until it is known whether there is one', async () => {
    const outside = new Outside();
    outside.sqs.maxReceiveCount = 10;
    const { sqs, queue, report, clock } = start({ outside });
    queue.inquiries.answerNext(...Array.from({ length: 30 }, () => new Error('throttled')));
    const id = sqs.send('no JSON at all');
    await clock.advance(200_000);
    expect(sqs.ids).toEqual([id]);
    expect(report.told('redrive policy not read').length).toBeGreaterThan(10);
  });

  test('does not keep good ones waiting', async () => {
    const { notice, sqs, isMarked, clock } = start();
    for (let i = 0; i < 50; i += 1) sqs.send(`{"nonsense": ${i}`);
    notice();
    await clock.advance(300);
    expect(isMarked()).toBe(true);
  });
});

describe('a message of an instance without a node', () => {
  test('is hidden for its grace and half a minute more, at once', async () => {
    const { notice, sqs, clock } = start();
    const id = notice(7);
    await clock.advance(100);
    expect(sqs.eventsOf(id)).toMatchObject([{ type: 'received' }, { type: 'hidden', seconds: 90 }]);
  });

  test('is deleted at the end of its grace when the watch has spoken since', async () => {
    const { notice, sqs, nodes, store, clock } = start();
    notice(7);
    await clock.advance(30_000);
    nodes.bookmark();
    await clock.advance(29_000);
    expect(sqs.ids).toHaveLength(1);
    await clock.advance(3000);
    expect(sqs.ids).toEqual([]);
    expect(nodes.refreshes.count + store.writes.count + store.reads.count).toBe(0);
  });

  test('is one of many that one list proves absent when the watch is silent', async () => {
    const { notice, sqs, nodes, clock } = start();
    for (let i = 0; i < 50; i += 1) notice(100 + i);
    await clock.advance(65_000);
    expect(sqs.ids).toEqual([]);
    expect(nodes.refreshes.count).toBe(1);
  });

  test('is kept while neither watch nor list says that it is not here', async () => {
    const { notice, sqs, nodes, report, clock } = start();
    nodes.refreshes.answerNext(new Error('timed out'), new Error('timed out'));
    const id = notice(7);
    await clock.advance(61_500);
    expect(sqs.ids).toEqual([id]);
    await clock.advance(8000);
    expect(report.told('nodes not listed')).toHaveLength(2);
    expect(sqs.ids).toEqual([]);
  });

  test('is recorded as soon as the Node registers', async () => {
    const { notice, isMarked, cluster, sqs, clock } = start();
    const id = notice(7);
    await clock.advance(20_000);
    cluster.addNode('node-7');
    await clock.advance(100);
    expect(isMarked(7)).toBe(true);
    expect(sqs.ids).toEqual([]);
    expect(sqs.eventsOf(id).filter(({ type }) => type === 'received')).toHaveLength(1);
  });

  test('is recorded as soon as the cloud provider says which instance it is', async () => {
    const { notice, isMarked, cluster, clock } = start();
    notice(7);
    cluster.addNode('node-7', { instanceId: undefined });
    await clock.advance(5000);
    cluster.changeNode('node-7', { instanceId: instanceIdOf(7) });
    await clock.advance(100);
    expect(isMarked(7)).toBe(true);
  });

  test('is recorded where only the list of the last moment knows the Node', async () => {
    const { notice, isMarked, cluster, nodes, sqs, clock } = start();
    const speak = nodes.silence();
    notice(7);
    await clock.advance(5000);
    cluster.addNode('node-7');
    await clock.advance(60_000);
    expect(isMarked(7)).toBe(true);
    expect(sqs.ids).toEqual([]);
    speak();
  });

  test('has its grace from its first receive, whoever received it', async () => {
    const { notice, sqs, nodes, clock } = start();
    const id = notice(7);
    const [taken] = sqs.take(1, 20);
    expect(taken?.id).toBe(id);
    await clock.advance(59_500);
    nodes.bookmark();
    await clock.advance(2500);
    expect(sqs.ids).toEqual([]);
  });

  test('comes back when the Node goes before the watch says so, and then waits', async () => {
    const { notice, sqs, nodes, cluster, clock } = start();
    const speak = nodes.silence();
    cluster.deleteNode('node-1');
    const id = notice();
    await clock.advance(1100);
    expect(sqs.eventsOf(id).filter(({ type }) => type === 'received')).toHaveLength(2);
    speak();
    await clock.advance(5000);
    expect(sqs.eventsOf(id).at(-1)).toMatchObject({ type: 'hidden' });
    expect(sqs.eventsOf(id).filter(({ type }) => type === 'received').length).toBeLessThan(5);
  });

  test('waits without any timer but the one that ends its grace', async () => {
    const { notice, clock } = start();
    notice(7);
    await clock.advance(61_000 - 100);
    // The long poll, the look at what is due, the sum of the minute.
    expect(clock.pending().length).toBeLessThanOrEqual(3);
  });
});

describe('a terminate hook', () => {
  test('is completed at once when its Node has gone within the hour', async () => {
    const { hook, cluster, autoScaling, sqs, clock } = start();
    await clock.advance(1000);
    cluster.deleteNode('node-1');
    await clock.advance(60_000);
    hook();
    await clock.advance(100);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
    expect(sqs.ids).toEqual([]);
  });

  test('is completed as soon as the Node goes that its message was too quick for', async () => {
    const { hook, nodes, cluster, autoScaling, sqs, clock } = start();
    const speak = nodes.silence();
    cluster.deleteNode('node-1');
    hook();
    await clock.advance(500);
    speak();
    await clock.advance(1500);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
    expect(sqs.ids).toEqual([]);
  });

  test('of an instance never seen is left alone', async () => {
    const { hook, nodes, autoScaling, sqs, clock } = start();
    hook(7);
    await clock.advance(100);
    nodes.bookmark();
    await clock.advance(62_000);
    expect(sqs.ids).toEqual([]);
    expect(autoScaling.completedAt('token-7')).toBeUndefined();
  });

  test('of an instance never seen is completed where such hooks are ours, after the grace', async () => {
    const { hook, nodes, autoScaling, sqs, clock } = start({
      rules: { completeUnknownHooks: true },
    });
    hook(7);
    await clock.advance(100);
    nodes.bookmark();
    await clock.advance(58_000);
    expect(autoScaling.completedAt('token-7')).toBeUndefined();
    await clock.advance(4000);
    expect(autoScaling.completedAt('token-7')).toBeDefined();
    expect(sqs.ids).toEqual([]);
  });

  test('of others is not, even then', async () => {
    const { hook, autoScaling, sqs, clock } = start({ rules: { completeUnknownHooks: true } });
    hook(7, { group: 'theirs' });
    await clock.advance(65_000);
    expect(sqs.ids).toEqual([]);
    expect(autoScaling.completedAt('token-7')).toBeUndefined();
  });

  test('that Auto Scaling does not take yet is tried again', async () => {
    const { hook, hooks, autoScaling, sqs, clock } = start({
      rules: { completeUnknownHooks: true },
    });
    hooks.completions.answerNext({ outcome: 'failed', denied: false, message: 'throttled' });
    hook(7);
    await clock.advance(65_000);
    expect(sqs.ids).toHaveLength(1);
    await clock.advance(40_000);
    expect(autoScaling.completedAt('token-7')).toBeDefined();
    expect(sqs.ids).toEqual([]);
  });
});

describe('an instance that two Nodes claim', () => {
  test('has its messages hidden half a minute at a time, until one Node is gone', async () => {
    const { notice, cluster, sqs, isMarked, clock } = start();
    cluster.addNode('node-2', { instanceId: instanceIdOf(1) });
    await clock.advance(100);
    const id = notice();
    await clock.advance(65_000);
    expect(sqs.eventsOf(id).filter(({ type }) => type === 'hidden')).toHaveLength(3);
    expect(isMarked(1) || isMarked(2)).toBe(false);
    cluster.deleteNode('node-1');
    await clock.advance(31_000);
    expect(isMarked(2)).toBe(true);
    expect(sqs.ids).toEqual([]);
  });

  test('has them deleted after the deadline', async () => {
    const { notice, cluster, sqs, isMarked, clock } = start();
    cluster.addNode('node-2', { instanceId: instanceIdOf(1) });
    await clock.advance(100);
    notice();
    await clock.advance(155_000);
    expect(sqs.ids).toEqual([]);
    expect(isMarked(1) || isMarked(2)).toBe(false);
  });
});

describe('an API server that does not answer', () => {
  test('gets its messages given back, and no more are received', async () => {
    const { notice, sqs, store, queue, clock } = start({ nodes: 30 });
    const comeBack = store.goAway();
    for (let i = 1; i <= 30; i += 1) notice(i);
    await clock.advance(1000);
    const received = sqs.events.filter(({ type }) => type === 'received').length;
    expect(sqs.ids.every((id) => (sqs.visibleAt(id) ?? 0) <= clock.now())).toBe(true);
    await clock.advance(30_000);
    expect(sqs.events.filter(({ type }) => type === 'received').length).toBeLessThanOrEqual(
      received + 10,
    );
    expect(queue.polling).toBe(0);
    comeBack();
  });

  test('has them within two seconds of its return', async () => {
    const { notice, sqs, store, isMarked, clock } = start({ nodes: 30 });
    const comeBack = store.goAway();
    for (let i = 1; i <= 30; i += 1) notice(i);
    await clock.advance(20_000);
    comeBack();
    await clock.advance(2000);
    expect(Array.from({ length: 30 }, (_, i) => isMarked(i + 1)).every(Boolean)).toBe(true);
    expect(sqs.ids).toEqual([]);
  });
});

describe('a storm', () => {
  test('is in hand only as far as the API server takes it', async () => {
    const { notice, records, sqs, store, clock } = start({ nodes: 3000 });
    store.writes.extraMs = 2000;
    for (let i = 1; i <= 3000; i += 1) notice(i);
    let most = 0;
    for (let i = 0; i < 100; i += 1) {
      await clock.advance(100);
      most = Math.max(most, records.marksPending);
    }
    expect(most).toBeLessThanOrEqual(1000);
    // At two seconds a write, 64 at a time: 5 s of that rate are 160.
    await clock.advance(5000);
    expect(records.marksPending).toBeLessThanOrEqual(170);
    store.writes.extraMs = 0;
    await clock.advance(60_000);
    expect(sqs.ids).toEqual([]);
  });
});

describe('when all is quiet', () => {
  test('there is one long poll, and no timer but its end', async () => {
    const { notice, hook, queue, cluster, clock } = start({ nodes: 5 });
    for (let i = 1; i <= 9; i += 1) notice(i);
    hook(1);
    cluster.addNode('node-6');
    await clock.advance(300_000);
    expect(queue.polling).toBe(1);
    expect(clock.pending().length).toBe(1);
  });
});

describe('stopping', () => {
  test('gives back what is parked and what is in hand', async () => {
    const { notice, sqs, store, stop, clock } = start({ nodes: 5 });
    for (let i = 11; i <= 40; i += 1) notice(i);
    await clock.advance(1000);
    store.writes.answerBy(() => ({ outcome: 'overloaded', retryAfterMs: 20_000 }));
    for (let i = 1; i <= 5; i += 1) notice(i);
    await clock.advance(1000);
    await stop();
    expect(sqs.ids).toHaveLength(35);
    expect(sqs.ids.every((id) => (sqs.visibleAt(id) ?? 0) <= clock.now())).toBe(true);
  });

  test('finishes the write in flight, and acknowledges it', async () => {
    const { notice, sqs, store, isMarked, stop, clock } = start();
    store.writes.extraMs = 500;
    notice();
    await clock.advance(100);
    await stop();
    expect(isMarked()).toBe(true);
    expect(sqs.ids).toEqual([]);
  });

  test('gives back what a judgement waited for, though that is cut short', async () => {
    const { notice, sqs, store, stop, clock } = start();
    store.renewals.hold();
    const id = notice(1, { time: clock.now() - 600_000 });
    await clock.advance(1000);
    await stop();
    expect(sqs.visibleAt(id)).toBeLessThanOrEqual(clock.now());
    expect(sqs.eventsOf(id).at(-1)).toMatchObject({ type: 'hidden', seconds: 0 });
  });

  test.each([
    { name: 'at once', prepare: () => undefined, afterMs: 0 },
    { name: 'when idle', prepare: () => undefined, afterMs: 30_000 },
    {
      name: 'during an outage of the API server',
      prepare: ({ store, notice }: ReturnType<typeof start>) => {
        store.goAway();
        for (let i = 1; i <= 50; i += 1) notice(i);
      },
      afterMs: 5000,
    },
    {
      name: 'during an outage of the queue',
      prepare: ({ queue, notice }: ReturnType<typeof start>) => {
        notice();
        queue.receives.answerBy(() => {
          throw new Error('connection refused');
        });
      },
      afterMs: 5000,
    },
    {
      name: 'during a storm',
      prepare: ({ notice }: ReturnType<typeof start>) => {
        for (let i = 1; i <= 500; i += 1) notice(i);
      },
      afterMs: 60,
    },
    {
      name: 'while the watch is silent and the list hangs',
      prepare: ({ notice, nodes }: ReturnType<typeof start>) => {
        nodes.refreshes.hold();
        notice(999);
      },
      afterMs: 62_000,
    },
  ])('$name leaves no timer, and takes less than 2 s', async ({ prepare, afterMs }) => {
    const started = start({ nodes: 50 });
    prepare(started);
    await started.clock.advance(afterMs);
    const startedAt = started.clock.now();
    await started.stop();
    expect(started.clock.now() - startedAt).toBeLessThan(2000);
    await started.clock.advance(100);
    expect(started.clock.pending()).toEqual([]);
  });
});

describe('the end of a capacity block whose node the cloud provider has yet to name', () => {
  const unnamed = { capacityReservationId: 'cr-7', instanceId: undefined };

  function sendExpiry({ sqs, clock }: ReturnType<typeof start>): string {
    const endTime = clock.now() + 2_400_000;
    return sqs.send(
      messages.capacityBlockExpiry({ reservationId: 'cr-7', time: clock.now(), endTime }),
    );
  }

  test('is held until that is known, received once, and then recorded', async () => {
    const started = start();
    const { sqs, cluster, isMarked, clock } = started;
    cluster.addNode('node-2', unnamed);
    cluster.addNode('node-3', { capacityReservationId: 'cr-7' });
    const id = sendExpiry(started);
    await clock.advance(300_000);
    expect(isMarked(3)).toBe(true);
    expect(isMarked(2)).toBe(false);
    expect(sqs.eventsOf(id).filter(({ type }) => type === 'received')).toHaveLength(1);
    cluster.changeNode('node-2', { instanceId: instanceIdOf(2) });
    await clock.advance(200);
    expect(isMarked(2)).toBe(true);
    expect(sqs.ids).toEqual([]);
  });

  test('is given up when its instances begin to go', async () => {
    const started = start();
    started.cluster.addNode('node-2', unnamed);
    sendExpiry(started);
    await started.clock.advance(599_000);
    expect(started.sqs.ids).toHaveLength(1);
    await started.clock.advance(3000);
    expect(started.sqs.ids).toEqual([]);
  });
});

describe('the end of a capacity block that no node runs in', () => {
  test('is recorded as soon as a node registers with the reservation', async () => {
    const { sqs, cluster, isMarked, clock } = start();
    const id = sqs.send(
      messages.capacityBlockExpiry({
        reservationId: 'cr-7',
        time: clock.now(),
        endTime: clock.now() + 2_400_000,
      }),
    );
    await clock.advance(5000);
    expect(sqs.ids).toEqual([id]);
    cluster.addNode('node-2', { capacityReservationId: 'cr-7' });
    await clock.advance(200);
    expect(sqs.ids).toEqual([]);
    expect(isMarked(2)).toBe(true);
    expect(isMarked(1)).toBe(false);
  });

  test('is not of this cluster at the end of its grace', async () => {
    const { sqs, clock } = start();
    sqs.send(
      messages.capacityBlockExpiry({
        reservationId: 'cr-7',
        time: clock.now(),
        endTime: clock.now() + 2_400_000,
      }),
    );
    await clock.advance(70_000);
    expect(sqs.ids).toEqual([]);
  });

  test('takes no queue for reachable before it has answered anything', async () => {
    const { intake, queue, clock } = start();
    const freeReceives = queue.receives.hold();
    const freeInquiries = queue.inquiries.hold();
    await clock.advance(1000);
    expect(intake.queueFailure).toBe('no answer yet');
    freeInquiries();
    await clock.advance(1000);
    expect(intake.queueFailure).toBeUndefined();
    freeReceives();
  });
});
