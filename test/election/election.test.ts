import { describe, expect, onTestFinished, test } from 'vitest';
import { pause } from '../../src/clock.ts';
import { Election, type Term } from '../../src/election/election.ts';
import type { Claim, Lease, LeaseAnswer, LeaseStore } from '../../src/election/lease.ts';
import { SelfWatch } from '../../src/self-watch.ts';
import { FakeReport } from '../stand-ins/ports/report.ts';
import { VirtualClock } from '../stand-ins/virtual-clock.ts';

const FAILED: LeaseAnswer = { outcome: 'failed', message: 'connection refused' };

/** The API server's one Lease, and the time each request takes. */
class Leases {
  lease: Lease | undefined;
  renewals = 0;
  private version = 0;
  private readonly followers = new Set<(lease: Lease | undefined) => void>();

  put(holder: string, acquiredAt = 0): void {
    const transitions = (this.lease?.transitions ?? 0) + 1;
    this.set({ holder, transitions, acquiredAt, metadata: {}, resourceVersion: '' });
  }

  remove(): void {
    this.lease = undefined;
    for (const tell of this.followers) tell(undefined);
  }

  set(lease: Lease): void {
    this.version += 1;
    this.lease = { ...lease, resourceVersion: String(this.version) };
    for (const tell of this.followers) tell(this.lease);
  }

  /** As one process reaches it. */
  connect(clock: VirtualClock) {
    const state = { latencyMs: 5, cut: false, loseAnswers: false, tells: true, cutTakesMs: 0 };
    const after = async (act: () => LeaseAnswer, signal: AbortSignal): Promise<LeaseAnswer> => {
      signal.throwIfAborted();
      const answered = Promise.withResolvers<void>();
      clock.after(state.latencyMs / 2, () => answered.resolve());
      await answered.promise;
      const answer = state.cut ? FAILED : act();
      const arrived = Promise.withResolvers<void>();
      clock.after(state.latencyMs / 2, () => arrived.resolve());
      await arrived.promise;
      signal.throwIfAborted();
      return state.loseAnswers ? FAILED : answer;
    };
    const found = (): LeaseAnswer =>
      this.lease === undefined ? { outcome: 'absent' } : { outcome: 'lease', lease: this.lease };
    const write = (claim: Claim): LeaseAnswer => {
      this.renewals += 1;
      const { holder, transitions, acquiredAt } = claim;
      this.set({ holder, transitions, acquiredAt, metadata: {}, resourceVersion: '' });
      return found();
    };
    const store: LeaseStore = {
      read: (signal) => after(found, signal),
      create: (claim, signal) =>
        after(() => (this.lease === undefined ? write(claim) : { outcome: 'conflict' }), signal),
      update: (lease, claim, signal) =>
        after(() => {
          if (this.lease === undefined) return { outcome: 'absent' };
          const isSame = lease.resourceVersion === this.lease.resourceVersion;
          return isSame ? write(claim) : { outcome: 'conflict' };
        }, signal),
      follow: async (onChange, signal) => {
        const tell = (lease: Lease | undefined): void => {
          if (state.tells && !state.cut) clock.after(10, () => onChange(lease));
        };
        this.followers.add(tell);
        tell(this.lease);
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        this.followers.delete(tell);
      },
    };
    return { store, state };
  }
}

function start() {
  const clock = new VirtualClock();
  const leases = new Leases();
  const terms: string[] = [];
  const endings: (() => Promise<unknown>)[] = [];
  onTestFinished(async () => {
    for (const end of endings) await end();
  });

  function replica(identity: string) {
    const { store, state } = leases.connect(clock);
    const report = new FakeReport(() => clock.now());
    const watchdog = new SelfWatch(clock, report);
    const begin = (): Term => {
      terms.push(`${identity} begins`);
      return {
        end: () => Promise.resolve(void terms.push(`${identity} ends`)),
        async cut() {
          terms.push(`${identity} is cut`);
          if (state.cutTakesMs === 0) return;
          await pause(clock, state.cutTakesMs);
          terms.push(`${identity} is gone`);
        },
      };
    };
    const election = new Election({ leases: store, clock, watchdog, report, begin }, identity);
    const stop = new AbortController();
    const running = election.run(stop.signal);
    endings.push(async () => {
      stop.abort();
      await clock.resolved(running, 60_000);
    });
    return { election, running, stop, state, report };
  }
  return { clock, leases, terms, replica };
}

describe('a Lease that nobody holds', () => {
  test.each(['absent', 'empty'])('(%s) is taken at once', async (how) => {
    const { clock, leases, terms, replica } = start();
    if (how === 'empty') leases.put('');
    const { election } = replica('a');
    await clock.advance(100);
    expect(terms).toEqual(['a begins']);
    expect(election.isLeading).toBe(true);
    expect(leases.lease?.holder).toBe('a');
  });

  test('is taken by one of those that want it, and the others stand by', async () => {
    const { clock, terms, replica } = start();
    const replicas = ['a', 'b', 'c'].map((name) => replica(name));
    await clock.advance(60_000);
    expect(terms).toHaveLength(1);
    const leader = terms[0]?.split(' ')[0];
    const standbys = replicas.filter(({ election }) => !election.isLeading);
    expect(standbys.map(({ election }) => election.standsBehind)).toEqual([leader, leader]);
  });

  test('that names an earlier process of this pod is taken at once', async () => {
    const { clock, leases, terms, replica } = start();
    leases.put('a');
    replica('a');
    await clock.advance(100);
    expect(terms).toEqual(['a begins']);
  });
});

describe('a leader', () => {
  test('renews every 2 s, and no more often for its own news', async () => {
    const { clock, leases, replica } = start();
    replica('a');
    await clock.advance(100);
    const before = leases.renewals;
    await clock.advance(60_000);
    expect(leases.renewals - before).toBeGreaterThanOrEqual(28);
    expect(leases.renewals - before).toBeLessThanOrEqual(30);
  });

  test('that is asked to stop ends its term, then hands over within a second', async () => {
    const { clock, leases, terms, replica } = start();
    const { stop, running } = replica('a');
    await clock.advance(100);
    replica('b');
    await clock.advance(5000);
    stop.abort();
    expect(await clock.resolved(running)).toBe('stopped');
    await clock.advance(1000);
    expect(terms).toEqual(['a begins', 'a ends', 'b begins']);
    expect(leases.lease).toMatchObject({ holder: 'b', transitions: 1 });
  });

  test('hands over although the answer to its last renewal was cut short', async () => {
    const { clock, terms, replica } = start();
    const { stop, running, state } = replica('a');
    await clock.advance(1990);
    replica('b');
    state.latencyMs = 100;
    // Sent, and written; the answer is on its way when the stop comes.
    await clock.advance(75);
    stop.abort();
    expect(await clock.resolved(running)).toBe('stopped');
    await clock.advance(1000);
    expect(terms).toEqual(['a begins', 'a ends', 'b begins']);
  });

  test('begins no new term before nothing is left of the one that was cut', async () => {
    const { clock, terms, replica } = start();
    const { state } = replica('a');
    // The renewal sent at 8 s is answered after the deadline.
    await clock.advance(7900);
    state.latencyMs = 11_000;
    state.cutTakesMs = 3000;
    await clock.advance(11_000);
    state.latencyMs = 5;
    await clock.advance(20_000);
    expect(terms).toEqual(['a begins', 'a is cut', 'a is gone', 'a begins']);
  });

  test('that is asked to stop while it asks for the Lease does not leave it taken', async () => {
    const { clock, leases, replica } = start();
    const { state, stop, running } = replica('a');
    state.latencyMs = 100;
    await clock.advance(170);
    expect(leases.lease?.holder).toBe('a');
    stop.abort();
    expect(await clock.resolved(running)).toBe('stopped');
    expect(leases.lease?.holder).toBe('');
  });

  test('that dies is followed within its Lease, a retry and a second', async () => {
    const { clock, terms, replica } = start();
    const { state } = replica('a');
    await clock.advance(4100);
    replica('b');
    await clock.advance(1000);
    state.cut = true;
    await clock.advance(18_000);
    expect(terms).toContain('b begins');
  });

  test('that is cut off stops writing before its Lease can be taken', async () => {
    const { clock, terms, replica } = start();
    const { state, election, report } = replica('a');
    await clock.advance(100);
    replica('b');
    await clock.advance(3000);
    state.cut = true;
    await clock.advance(10_000);
    expect(terms).toEqual(['a begins', 'a is cut']);
    expect(election.isLeading).toBe(false);
    expect(report.told('leadership not renewed')).toHaveLength(1);
    await clock.advance(8000);
    expect(terms).toEqual(['a begins', 'a is cut', 'b begins']);
  });

  test('that was cut off goes on if its Lease still names it', async () => {
    const { clock, leases, terms, replica } = start();
    const { state, report } = replica('a');
    await clock.advance(3000);
    state.cut = true;
    await clock.advance(12_000);
    state.cut = false;
    await clock.advance(3000);
    expect(terms).toEqual(['a begins', 'a is cut', 'a begins']);
    expect(report.told('leading again')).toHaveLength(1);
    expect(leases.lease?.holder).toBe('a');
  });

  test('that was cut off ends when it sees another holder', async () => {
    const { clock, terms, replica } = start();
    const { state, running } = replica('a');
    await clock.advance(100);
    replica('b');
    await clock.advance(3000);
    state.cut = true;
    await clock.advance(20_000);
    state.cut = false;
    expect(await clock.resolved(running, 10_000)).toBe('superseded');
    expect(terms).toEqual(['a begins', 'a is cut', 'b begins']);
  });

  test('whose Lease is given to another ends at once', async () => {
    const { clock, leases, terms, replica } = start();
    const { running } = replica('a');
    await clock.advance(3000);
    leases.put('someone');
    expect(await clock.resolved(running, 200)).toBe('superseded');
    expect(terms).toEqual(['a begins', 'a is cut']);
  });

  test('keeps its term when its Lease is deleted, emptied or written on by hand', async () => {
    const { clock, leases, terms, replica } = start();
    replica('a');
    await clock.advance(3000);
    leases.remove();
    await clock.advance(3000);
    expect(leases.lease?.holder).toBe('a');
    leases.put('');
    await clock.advance(3000);
    expect(leases.lease?.holder).toBe('a');
    leases.put('a');
    await clock.advance(15_000);
    expect(leases.lease?.holder).toBe('a');
    expect(terms).toEqual(['a begins']);
  });

  test('renews although answers are lost or slow', async () => {
    const { clock, terms, replica } = start();
    const { state } = replica('a');
    await clock.advance(3000);
    for (let i = 0; i < 10; i += 1) {
      state.loseAnswers = true;
      await clock.advance(6000);
      state.loseAnswers = false;
      await clock.advance(4000);
    }
    state.latencyMs = 2900;
    await clock.advance(60_000);
    expect(terms).toEqual(['a begins']);
  });
});

describe('a standby', () => {
  test('believes no clock but its own: a Lease renewed in the far past or future is as good', async () => {
    const { clock, leases, terms, replica } = start();
    leases.put('elsewhere');
    replica('b');
    for (let i = 0; i < 30; i += 1) {
      await clock.advance(5000);
      leases.put('elsewhere', i % 2 === 0 ? 0 : clock.now() * 2);
    }
    expect(terms).toEqual([]);
    await clock.advance(15_500);
    expect(terms).toEqual(['b begins']);
  });

  test('takes over without a word of the watch', async () => {
    const { clock, leases, terms, replica } = start();
    leases.put('elsewhere');
    const { state } = replica('b');
    state.tells = false;
    await clock.advance(18_000);
    expect(terms).toEqual(['b begins']);
  });

  test('that reaches nothing goes on trying, and says so once', async () => {
    const { clock, terms, replica } = start();
    const { state, report, election } = replica('b');
    state.cut = true;
    await clock.advance(60_000);
    expect(report.told('lease not reached')).toHaveLength(1);
    expect(election.standsBehind).toBeUndefined();
    state.cut = false;
    await clock.advance(3000);
    expect(terms).toEqual(['b begins']);
  });

  test('that is asked to stop leaves the Lease alone', async () => {
    const { clock, leases, terms, replica } = start();
    leases.put('elsewhere');
    const { stop, running } = replica('b');
    await clock.advance(1000);
    stop.abort();
    expect(await clock.resolved(running)).toBe('stopped');
    expect(leases.lease?.holder).toBe('elsewhere');
    expect(terms).toEqual([]);
  });
});
