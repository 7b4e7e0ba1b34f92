import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { Batches } from '../../src/aws/batches.ts';
import { Slots } from '../../src/aws/requests.ts';
import { pause } from '../../src/clock.ts';
import { Election, type Term } from '../../src/election/election.ts';
import type { LeaseAnswer, LeaseStore } from '../../src/election/lease.ts';
import { connect, type Connection } from '../../src/kubernetes/connection.ts';
import { ListWatch } from '../../src/kubernetes/list-watch.ts';
import { SelfWatch } from '../../src/self-watch.ts';
import { ManualClock } from '../kubernetes/manual-clock.ts';
import { startScriptedServer } from '../kubernetes/scripted-server.ts';
import { FakeReport } from '../stand-ins/ports/report.ts';
import { VirtualClock } from '../stand-ins/virtual-clock.ts';

const never = new Promise<never>(() => undefined);
const { signal: noSignal } = new AbortController();
const HOUR_MS = 3_600_000;

let clock: VirtualClock;
let report: FakeReport;
let watchdog: SelfWatch;

beforeEach(() => {
  clock = new VirtualClock();
  report = new FakeReport(() => clock.now());
  watchdog = new SelfWatch(clock, report);
  watchdog.start();
});

afterEach(() => {
  watchdog.stop();
});

const stuck = (): readonly string[] => report.told('stage stuck').map(({ stage }) => String(stage));

describe('the watch over the edges finds stuck', () => {
  test('requests to Auto Scaling of which none ends', async () => {
    const slots = new Slots(1, clock, watchdog, 'Auto Scaling requests');
    void slots.run([], () => never);
    await clock.advance(59_000);
    expect(stuck()).toEqual([]);
    await clock.advance(2000);
    expect(stuck()).toEqual(['Auto Scaling requests']);
  });

  test('but not those of which one ends now and then, though others wait for longer', async () => {
    const slots = new Slots(1, clock, watchdog, 'Auto Scaling requests');
    const running = Array.from({ length: 8 }, () => slots.run([], () => pause(clock, 30_000)));
    await clock.advance(8 * 30_000 + 1000);
    await Promise.all(running);
    expect(stuck()).toEqual([]);
  });

  test('a turn that does not come is given up', async () => {
    const slots = new Slots(1, clock, watchdog, 'Auto Scaling requests');
    void slots.run([], () => never);
    const late = slots.run([], () => Promise.resolve('done'));
    const refusal = late.catch((error: unknown) => String(error));
    await clock.advance(300_000);
    expect(await refusal).toContain('no answer within 300 s');
  });

  test('acknowledgements that nobody answers', async () => {
    const batches = new Batches('delete', () => never, clock, {
      watchdog,
      mostWaiting: 10,
      tryForMs: 15_000,
    });
    void batches.add(1);
    await clock.advance(61_000);
    expect(stuck()).toEqual(['acknowledge']);
  });

  test('requests to the API server whose places are not given back', async () => {
    const server = await startScriptedServer();
    // Its time stands still, so that no limit ends what the server does not answer.
    const connection = connect({
      kubeconfigPath: await server.kubeconfig(),
      userAgent: 'x',
      clock: new ManualClock(),
      watchdog,
      report,
    });
    onTestFinished(async () => {
      await connection.close();
      await server.stop();
    });
    void connection.request({ method: 'GET', path: '/', lane: 'mark' }, noSignal);
    await server.take();
    await clock.advance(61_000);
    expect(report.told('stage stuck')).toMatchObject([
      { stage: 'API server requests', what: 'marks' },
    ]);
  });

  test('a watch that says nothing and does not end', async () => {
    follow({ stream: () => never });
    await clock.advance(299_000);
    expect(stuck()).toEqual([]);
    await clock.advance(2000);
    expect(report.told('stage stuck')).toMatchObject([{ stage: 'watch', what: 'things' }]);
  });

  test('a list that does not end', async () => {
    follow({ request: () => never });
    await clock.advance(301_000);
    expect(stuck()).toEqual(['watch']);
  });

  test('an election that has no answer', async () => {
    elect(() => never);
    await clock.advance(61_000);
    expect(stuck()).toEqual(['leader election']);
  });

  test('an election whose term does not end when it is cut', async () => {
    let leases = 0;
    elect(
      () => {
        leases += 1;
        return Promise.resolve(leases > 5 ? FAILED : held('a', leases));
      },
      { end: () => never, cut: () => never },
    );
    await clock.advance(120_000);
    expect(stuck()).toEqual(['leader election']);
  });
});

describe('no alarm comes of', () => {
  test('a queue, or an event bus, that refuses every batch for as long as it is tried', async () => {
    const throttled = async () =>
      Promise.resolve([{ kind: 'throttled', code: 'Throttling', message: 'slow down' } as const]);
    const batches = new Batches('put', throttled, clock, {
      watchdog,
      mostWaiting: 10,
      tryForMs: 300_000,
    });
    const refusal = batches.add(1).catch((error: unknown) => String(error));
    await clock.advance(310_000);
    expect(await refusal).toContain('slow down');
    expect(stuck()).toEqual([]);
  });

  test.each([
    { way: 'refuses at once', takesMs: 0, timedOut: false },
    { way: 'does not answer', takesMs: 10_000, timedOut: true },
  ])('an API server that $way for hours', async ({ takesMs, timedOut }) => {
    const unanswered = async () => {
      await pause(clock, takesMs);
      return { kind: 'unanswered', message: 'no answer', timedOut } as const;
    };
    follow({ request: unanswered, stream: unanswered });
    elect(async () => {
      await pause(clock, takesMs);
      return FAILED;
    });
    await clock.advance(3 * HOUR_MS);
    expect(stuck()).toEqual([]);
  });

  test('a standby that waits for hours', async () => {
    let renewals = 0;
    elect(() => {
      renewals += 1;
      return Promise.resolve(held('another', renewals));
    });
    await clock.advance(6 * HOUR_MS);
    expect(stuck()).toEqual([]);
  });

  test('a process that was paused, or had no processor, for an hour', async () => {
    let now = 0;
    const timers: (() => void)[] = [];
    const jumping = new SelfWatch(
      {
        now: () => now,
        random: () => 0,
        after: (_delayMs, callback) => {
          timers.push(callback);
          return { cancel: () => undefined };
        },
      },
      report,
    );
    jumping.start();
    jumping.begin('receive', 'the long poll');
    now += HOUR_MS;
    timers.shift()?.();
    expect(stuck()).toEqual([]);
    expect(report.told('event loop blocked')).toEqual([{ seconds: 3600 }]);
    for (let second = 0; second < 60; second += 1) {
      now += 1000;
      timers.shift()?.();
    }
    // It has had its time since.
    expect(stuck()).toEqual(['receive']);
    jumping.stop();
  });
});

const FAILED: LeaseAnswer = { outcome: 'failed', message: 'no answer' };

function held(holder: string, version: number): LeaseAnswer {
  const lease = { holder, transitions: 0, acquiredAt: 0, metadata: {} };
  return { outcome: 'lease', lease: { ...lease, resourceVersion: String(version) } };
}

/** Follows a collection over a connection of which these answers come. */
function follow(answers: Partial<Pick<Connection, 'request' | 'stream'>>): void {
  const listed = { metadata: { resourceVersion: '1' }, items: [] };
  const connection: Connection = {
    namespace: undefined,
    request: () => Promise.resolve({ kind: 'success', body: listed }),
    stream: () => never,
    close: () => Promise.resolve(),
    ...answers,
  };
  const follower = { onList: () => undefined, onEvent: () => undefined };
  const feed = { what: 'things', path: '/things', project: () => undefined };
  const stop = new AbortController();
  void new ListWatch(feed, follower, { connection, clock, watchdog, report }).run(stop.signal);
  onTestFinished(() => stop.abort());
}

/** Replica `a` in an election whose every question is answered so. */
function elect(
  answer: () => Promise<LeaseAnswer>,
  term: Term = { end: () => Promise.resolve(), cut: () => Promise.resolve() },
): void {
  const leases: LeaseStore = {
    read: answer,
    create: answer,
    update: answer,
    follow: () => never,
  };
  const stop = new AbortController();
  void new Election({ leases, clock, watchdog, report, begin: () => term }, 'a').run(stop.signal);
  onTestFinished(() => stop.abort());
}
