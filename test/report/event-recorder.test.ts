import * as fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  EventRecorder,
  recorded,
  type EventAnswer,
  type EventSink,
  type ObjectEvent,
} from '../../src/report/event-recorder.ts';
import type { Subject } from '../../src/report/object-events.ts';
import { FakeMetrics } from '../stand-ins/ports/metrics.ts';
import { FakeReport } from '../stand-ins/ports/report.ts';
import { VirtualClock } from '../stand-ins/virtual-clock.ts';

const RESULTS = ['written', 'repeated', 'dropped', 'failed'] as const;

type Sent = Readonly<{ verb: 'create' | 'update'; at: number; event: ObjectEvent }>;

/** A recorder, and an API server that answers after 10 ms, by turns as it is told. */
function start() {
  const clock = new VirtualClock();
  const metrics = new FakeMetrics();
  const report = new FakeReport(() => clock.now());
  const sent: Sent[] = [];
  const answers: EventAnswer[] = [];
  const state = { silent: false, underWay: 0, mostUnderWay: 0 };
  const ask = async (verb: Sent['verb'], event: ObjectEvent, signal: AbortSignal) => {
    sent.push({ verb, at: clock.now(), event });
    state.underWay += 1;
    state.mostUnderWay = Math.max(state.mostUnderWay, state.underWay);
    const next = answers.shift();
    // Only what was there can be gone.
    const isAbsurd = next === undefined || (verb === 'create' && next.outcome === 'gone');
    const answer: EventAnswer = isAbsurd ? { outcome: 'written' } : next;
    return new Promise<EventAnswer>((resolve, reject) => {
      const done = (): void => {
        state.underWay -= 1;
        timer.cancel();
        signal.removeEventListener('abort', abort);
      };
      const abort = (): void => {
        done();
        reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
      };
      const timer = clock.after(state.silent ? 3_600_000 : 10, () => {
        done();
        resolve(answer);
      });
      signal.addEventListener('abort', abort, { once: true });
    });
  };
  const sink: EventSink = {
    create: (event, signal) => ask('create', event, signal),
    update: (event, signal) => ask('update', event, signal),
  };
  const recorder = new EventRecorder({ sink, clock, metrics, report });
  const events = recorded(recorder);
  onTestFinished(async () => {
    recorder.close();
    await clock.advance(10);
    expect(clock.pending()).toEqual([]);
  });
  const counted = (object: 'node' | 'pod') =>
    Object.fromEntries(
      RESULTS.map((result) => [
        result,
        metrics.counted('kubernetes_events_total', { object, result }),
      ]),
    );
  return { clock, recorder, events, sent, answers, state, report, counted };
}

type Started = ReturnType<typeof start>;

const node = (number = 1) => ({ name: `node-${number}`, uid: `node-uid-${number}` });
const pod = (number = 1) => ({
  namespace: 'shop',
  name: `web-${number}`,
  uid: `pod-uid-${number}`,
});

function replace({ events }: Started, number = 1): void {
  events.onNode(node(number), 'InstanceReplaced', { instance: `i-${number}` });
}

function leaveBehind({ events }: Started, number = 1): void {
  const kind = 'spot-interruption';
  events.onPod(pod(number), 'LeftBehind', { node: 'node-1', kind, deadlineAt: 0 });
}

const names = ({ sent }: Started) => sent.map(({ event }) => event.subject.name);

describe('events of Nodes and Pods', () => {
  test('are written at once, with a name that no other has', async () => {
    const started = start();
    replace(started);
    leaveBehind(started);
    await started.clock.advance(100);
    expect(started.sent).toMatchObject([
      {
        verb: 'create',
        event: {
          subject: { kind: 'Node', name: 'node-1', uid: 'node-uid-1' } satisfies Subject,
          reason: 'InstanceReplaced',
          type: 'Normal',
          action: 'TerminateInstance',
          note: 'Terminated instance i-1; its group launches another.',
          series: undefined,
        },
      },
      { verb: 'create', event: { subject: { kind: 'Pod', namespace: 'shop' } } },
    ]);
    const [first, second] = started.sent.map(({ event }) => event.name);
    expect(first).toMatch(/^node-1\.[0-9a-f]+$/);
    expect(second).toMatch(/^web-1\.[0-9a-f]+$/);
    const others = start();
    replace(others);
    await others.clock.advance(100);
    expect(others.sent[0]?.event.name).not.toBe(first);
  });

  test('have names of at most 253 characters that end in a letter or digit', async () => {
    const started = start();
    const name = `${'a'.repeat(219)}.${'b'.repeat(33)}`;
    started.events.onNode({ name, uid: 'x' }, 'InstanceReplaced', { instance: 'i-1' });
    await started.clock.advance(100);
    expect(started.sent[0]?.event.name).toMatch(/^a{219}\.[0-9a-f]{11,33}$/);
  });

  test.each(['x', '…', '🎈'])('have notes of at most 1024 bytes, whole ones: %s', async (piece) => {
    const { events, clock, sent } = start();
    events.onNode(node(), 'RecordingRefused', { why: piece.repeat(2000) });
    await clock.advance(100);
    const note = sent[0]?.event.note ?? '';
    expect(Buffer.byteLength(note)).toBeLessThanOrEqual(1024);
    expect(Buffer.byteLength(note)).toBeGreaterThan(1020);
    expect(note).toMatch(new RegExp(`recorded here: (${piece})+…$`, 'u'));
  });

  test('are written within a minute after the clock was set back', async () => {
    const started = start();
    const { clock, sent, answers } = started;
    answers.push({ outcome: 'pushed back', message: 'busy', retryAfterMs: undefined });
    replace(started);
    await clock.advance(100);
    clock.setBack(3_600_000);
    for (let number = 2; number <= 50; number += 1) replace(started, number);
    await clock.advance(70_000);
    expect(sent).toHaveLength(51);
  });

  test('are not written of a Node that is gone', async () => {
    const { events, clock, sent } = start();
    events.onNode(undefined, 'InstanceReplaced', { instance: 'i-1' });
    await clock.advance(100);
    expect(sent).toEqual([]);
  });

  test('become a series: written at the first repetition, each half hour, and at its end', async () => {
    const started = start();
    const { clock, sent, counted } = started;
    const writes = () =>
      sent.map(({ verb, event }) => `${verb} ${event.series?.count ?? 1}`).join(', ');
    replace(started);
    await clock.advance(60_000);
    replace(started);
    await clock.advance(1000);
    expect(writes()).toBe('create 1, update 2');
    for (let minute = 2; minute <= 40; minute += 1) {
      await clock.advance(60_000);
      replace(started);
    }
    await clock.advance(1000);
    expect(writes()).toBe('create 1, update 2, update 32');
    const lastAt = clock.now() - 1000;
    await clock.advance(720_000);
    expect(writes()).toBe('create 1, update 2, update 32, update 41');
    expect(sent.at(-1)?.event.series).toEqual({ count: 41, lastAt });
    expect(new Set(sent.map(({ event }) => event.name)).size).toBe(1);
    expect(counted('node')).toEqual({ written: 1, repeated: 40, dropped: 0, failed: 0 });
    // And then it is news again.
    replace(started);
    await clock.advance(1000);
    expect(writes()).toMatch(/, create 1$/);
  });

  test('that are told again while they wait, or are on their way, are counted all the same', async () => {
    const started = start();
    const { clock, sent, answers } = started;
    replace(started);
    replace(started);
    await clock.advance(1000);
    expect(sent.map(({ verb, event }) => [verb, event.series?.count])).toEqual([
      ['create', undefined],
      ['update', 2],
    ]);
    answers.push({ outcome: 'pushed back', message: 'busy', retryAfterMs: undefined });
    replace(started, 2);
    await clock.advance(100);
    replace(started, 3);
    replace(started, 3);
    await clock.advance(6000);
    expect(sent.at(-1)?.event).toMatchObject({ series: { count: 2 }, note: /i-3/ });
  });

  test('that the API server has forgotten are told as new ones next time', async () => {
    const started = start();
    const { clock, sent, answers } = started;
    replace(started);
    await clock.advance(1000);
    answers.push({ outcome: 'gone' });
    replace(started);
    await clock.advance(1000);
    replace(started);
    await clock.advance(1000);
    expect(sent.map(({ verb }) => verb)).toEqual(['create', 'update', 'create']);
  });

  test('are a hundred at once, then ten a second, two at a time, those of Nodes first', async () => {
    const started = start();
    const { clock, sent, state } = started;
    for (let number = 1; number <= 150; number += 1) leaveBehind(started, number);
    for (let number = 1; number <= 50; number += 1) replace(started, number);
    await clock.advance(900);
    expect(sent.length).toBeGreaterThanOrEqual(100);
    expect(sent.length).toBeLessThanOrEqual(110);
    expect(state.mostUnderWay).toBe(2);
    // Two pods were on their way before there was a Node.
    expect(
      names(started)
        .slice(2, 52)
        .every((name) => name.startsWith('node-')),
    ).toBe(true);
    const before = sent.length;
    await clock.advance(5000);
    expect(sent.length - before).toBe(50);
    await clock.advance(10_000);
    expect(sent).toHaveLength(200);
  });

  test('that find no room are dropped, and counted', async () => {
    const started = start();
    for (let number = 1; number <= 5000; number += 1) {
      replace(started, number);
      leaveBehind(started, number);
    }
    await started.clock.advance(600_000);
    const [nodes, pods] = [started.counted('node'), started.counted('pod')];
    expect(nodes['written']).toBeGreaterThanOrEqual(1000);
    expect(nodes['written']).toBeLessThanOrEqual(1002);
    expect(nodes).toMatchObject({
      repeated: 0,
      failed: 0,
      dropped: 5000 - (nodes['written'] ?? 0),
    });
    expect(pods).toMatchObject({ written: 1001, dropped: 3999 });
    expect(started.sent).toHaveLength((nodes['written'] ?? 0) + 1001);
  });

  test('are not worded where there is no room, unless they may be told again', async () => {
    const started = start();
    started.state.silent = true;
    for (let i = 0; i < 1500; i += 1) leaveBehind(started, i);
    let words = 0;
    const facts = {
      node: 'node-1',
      kind: 'spot-interruption' as const,
      get deadlineAt() {
        words += 1;
        return 0;
      },
    };
    started.events.onPod(pod(1500), 'LeftBehind', facts);
    expect(words).toBe(0);
    started.events.onPod(pod(1), 'DeletedPastBudget', {
      ...facts,
      graceSeconds: 1,
      refusedBy: 'budget',
    });
    started.events.onPod(pod(1), 'LeftBehind', facts);
    expect(words).toBeGreaterThan(0);
    expect(started.counted('pod')).toMatchObject({ repeated: 1, dropped: 500 });
    await started.clock.advance(10);
  });

  test('that are told again have no more room than others, and are written in the end', async () => {
    const started = start();
    const { clock, answers, sent } = started;
    for (let number = 1; number <= 3000; number += 1) {
      replace(started, number);
      if (number % 50 === 0) await clock.advance(5000);
    }
    answers.push({ outcome: 'pushed back', message: 'busy', retryAfterMs: 30_000 });
    replace(started, 3001);
    await clock.advance(100);
    expect(sent).toHaveLength(3001);
    for (let number = 1; number <= 3000; number += 1) replace(started, number);
    const updates = () => sent.filter(({ verb }) => verb === 'update').length;
    await clock.advance(300_000);
    expect(updates()).toBe(999);
    await clock.advance(3_600_000);
    expect(updates()).toBe(3000);
    expect(started.counted('node')).toEqual({
      written: 3001,
      repeated: 3000,
      dropped: 0,
      failed: 0,
    });
  });

  test('that are dropped or refused are no beginning of a series', async () => {
    const started = start();
    const { clock, answers, sent, report } = started;
    answers.push({ outcome: 'refused', message: 'the namespace is going' });
    leaveBehind(started);
    await clock.advance(1000);
    leaveBehind(started);
    await clock.advance(1000);
    expect(sent.map(({ verb }) => verb)).toEqual(['create', 'create']);
    expect(started.counted('pod')).toMatchObject({ failed: 1, written: 1 });
    expect(report.told('Kubernetes event refused')).toMatchObject([
      { reason: 'the namespace is going' },
    ]);
  });

  test('pause when the API server pushes back, longer each time, and give up', async () => {
    const started = start();
    const { clock, answers, sent, report } = started;
    const busy = { outcome: 'pushed back', message: 'too many requests' } as const;
    for (let i = 0; i < 5; i += 1) answers.push({ ...busy, retryAfterMs: undefined });
    replace(started);
    await clock.advance(300_000);
    const startedAt = sent[0]?.at ?? 0;
    const seconds = sent.map(({ at }) => Math.round((at - startedAt) / 1000));
    expect(seconds).toEqual([0, 5, 15, 35, 75]);
    expect(started.counted('node')).toMatchObject({ failed: 1, written: 0 });
    expect(report.told('Kubernetes events not written')).toHaveLength(1);
  });

  test('come again as soon as the API server asks, but not sooner', async () => {
    const started = start();
    const { clock, answers, sent } = started;
    answers.push({ outcome: 'pushed back', message: 'busy', retryAfterMs: 7000 });
    replace(started);
    await clock.advance(100);
    replace(started, 2);
    await clock.advance(6800);
    expect(sent).toHaveLength(1);
    await clock.advance(1000);
    expect(names(started)).toEqual(['node-1', 'node-1', 'node-2']);
  });

  test('wait on, and are told as no failure, while other requests go first', async () => {
    const started = start();
    const { clock, answers, sent, report } = started;
    for (let i = 0; i < 8; i += 1) answers.push({ outcome: 'not sent' });
    replace(started);
    replace(started, 2);
    await clock.advance(10_000);
    expect(sent).toHaveLength(10);
    expect(started.counted('node')).toMatchObject({ written: 2, failed: 0, dropped: 0 });
    expect(report.told('Kubernetes events not written')).toEqual([]);
  });

  test('end with the process, and are then counted as dropped', async () => {
    const started = start();
    const { clock, recorder, sent, state } = started;
    state.silent = true;
    for (let number = 1; number <= 5; number += 1) replace(started, number);
    await clock.advance(100);
    recorder.close();
    replace(started, 6);
    await clock.advance(100);
    expect(sent).toHaveLength(2);
    expect(state.underWay).toBe(0);
    expect(started.counted('node')).toMatchObject({ dropped: 5 });
  });

  test('are each counted once, whatever the API server says', async () => {
    const answer = fc.oneof(
      { weight: 4, arbitrary: fc.constant<EventAnswer>({ outcome: 'written' }) },
      fc.constant<EventAnswer>({ outcome: 'gone' }),
      fc.constant<EventAnswer>({ outcome: 'not sent' }),
      fc.constant<EventAnswer>({ outcome: 'refused', message: 'no' }),
      fc.record({
        outcome: fc.constant('pushed back' as const),
        message: fc.constant('busy'),
        retryAfterMs: fc.option(fc.nat(90_000), { nil: undefined }),
      }),
    );
    const told = fc.record({ number: fc.integer({ min: 1, max: 20 }), waitMs: fc.nat(400_000) });
    await fc.assert(
      fc.asyncProperty(fc.array(answer), fc.array(told), async (answers, tellings) => {
        const started = start();
        started.answers.push(...answers);
        for (const { number, waitMs } of tellings) {
          replace(started, number);
          await started.clock.advance(waitMs);
        }
        await started.clock.advance(3_600_000);
        const counts = Object.values(started.counted('node'));
        expect(counts.reduce((sum, count) => sum + count, 0)).toBe(tellings.length);
        expect(started.clock.pending()).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });
});
