import { describe, expect, onTestFinished, test } from 'vitest';
import { HookAdvice } from '../../src/drain/hook-advice.ts';
import { HookKeeper } from '../../src/drain/hook-keeper.ts';
import type { Journals } from '../../src/drain/journals.ts';
import { planOf } from '../../src/plan/deadline.ts';
import type { Journal } from '../../src/plan/journal.ts';
import { fold, type Change } from '../../src/plan/merge.ts';
import type { Policy } from '../../src/plan/policy.ts';
import {
  at,
  eventChange,
  journalOf,
  MACHINE,
  policy,
  SIGHT,
  spot,
  terminateHook,
} from '../plan/samples.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

const { instanceId } = MACHINE;

type HookOptions = { token?: string; group?: string; timeoutSeconds?: number };

/** A keeper of a journal in memory, that follows each change of it. */
function start(rules: Partial<Policy> = {}) {
  const outside = new Outside();
  const ports = outside.connect();
  const { clock, report } = ports;
  const stopping = new AbortController();
  const state: { journal: Journal; answers: 'unreachable'[] } = {
    journal: journalOf([eventChange(spot(-10_000))]),
    answers: [],
  };
  const follow = (): void => {
    keeper.follow(state.journal, planOf(state.journal, policy(rules), at(-9000)));
  };
  const change = (news: Change): 'recorded' | 'duplicate' | 'stale' => {
    const folded = fold(state.journal, news, SIGHT, policy(), clock.now());
    state.journal = folded.journal ?? state.journal;
    follow();
    return folded.verdict;
  };
  const journals: Journals = {
    journalOf: () => state.journal,
    async apply(_, news) {
      return { outcome: state.answers.shift() ?? change(news) };
    },
  };
  const keeper = new HookKeeper(
    'node-1',
    {
      ...ports,
      journals,
      nodeOf: (name) => ports.nodes.get(name),
      advice: new HookAdvice(policy(rules), report),
    },
    policy(rules),
    stopping.signal,
  );
  onTestFinished(async () => {
    keeper.stop();
    stopping.abort();
    await clock.advance(60_000);
    expect(clock.pending()).toEqual([]);
  });
  return {
    ...ports,
    autoScaling: outside.autoScaling,
    state,
    keeper,
    report,
    stopping,
    change,
    /** A hook whose action begins now. */
    begin: ({ token = 'a', group = 'workers', timeoutSeconds = 100 }: HookOptions = {}): void => {
      const action = { group, hook: `hook-${token}`, token, instanceId };
      outside.autoScaling.begin(action, timeoutSeconds);
      change(eventChange(terminateHook(0, { ...action, time: clock.now() })));
    },
    hook: (token = 'a') => state.journal.live.find(({ hook }) => hook?.token === token)?.hook,
    /** Of each heartbeat, how many seconds after noon. */
    beats: () => ports.hooks.heartbeats.calls.map((call) => Math.round((call.at - at(0)) / 1000)),
    complete: (endAt = Infinity): Promise<void> =>
      clock.resolved(
        keeper.completeAll(
          () => state.journal,
          () => endAt,
          () => true,
        ),
        3_600_000,
      ),
  };
}

describe('the timeout of a hook', () => {
  test('is asked for once, and kept', async () => {
    const { begin, hook, hooks, change, clock } = start();
    begin({ timeoutSeconds: 900 });
    change(eventChange(spot(1)));
    await clock.advance(100);
    expect(hook()?.timeoutSeconds).toBe(900);
    expect(hooks.descriptions.count).toBe(1);
  });

  test('is asked for of hooks of others, too, for it is a deadline', async () => {
    const { begin, hook, clock } = start();
    begin({ group: 'theirs', timeoutSeconds: 900 });
    await clock.advance(100);
    expect(hook()?.timeoutSeconds).toBe(900);
  });

  test('is asked for again, ever more slowly, while Auto Scaling does not answer', async () => {
    const { begin, hook, hooks, clock } = start();
    hooks.descriptions.answerBy(() => ({ outcome: 'failed', message: 'throttled' }));
    begin();
    await clock.advance(120_000);
    expect(hooks.descriptions.count).toBeGreaterThan(5);
    expect(hooks.descriptions.count).toBeLessThan(10);
    hooks.descriptions.answerBy(undefined);
    await clock.advance(31_000);
    expect(hook()?.timeoutSeconds).toBe(100);
  });

  test('is asked for no longer than its drain lasts', async () => {
    const { begin, hooks, keeper, clock } = start();
    hooks.descriptions.answerBy(() => ({ outcome: 'failed', message: 'throttled' }));
    begin();
    await clock.advance(2000);
    const asked = hooks.descriptions.count;
    keeper.stop();
    await clock.advance(120_000);
    expect(hooks.descriptions.count).toBe(asked);
    expect(clock.pending()).toEqual([]);
  });

  test('is assumed to be 300 s, and that told, where it may not be read', async () => {
    const { begin, hook, hooks, report, clock } = start();
    hooks.descriptions.answerBy(() => ({ outcome: 'unknown', denied: true, message: 'denied' }));
    begin();
    await clock.advance(100);
    expect(hook()?.timeoutSeconds).toBe(300);
    begin({ token: 'b', group: 'others' });
    await clock.advance(100);
    expect(hook('b')?.timeoutSeconds).toBe(300);
    expect(report.told('lifecycle hook timeout unknown')).toMatchObject([{ assumedSeconds: 300 }]);
  });

  test('comes with one warning for a group of several hooks, where all hooks are ours', async () => {
    const { begin, hooks, report, clock } = start({ everyHookIsOurs: true });
    hooks.descriptions.answerBy((group) => ({
      outcome: 'found',
      timeoutSeconds: 100,
      terminateHooksInGroup: group === 'workers' ? ['drain', 'ship-logs'] : ['drain'],
    }));
    begin();
    begin({ token: 'b' });
    begin({ token: 'c', group: 'single' });
    await clock.advance(100);
    expect(report.told('several terminate hooks in a group')).toEqual([
      { group: 'workers', hooks: ['drain', 'ship-logs'] },
    ]);
  });

  test('comes without a warning where our hooks are named', async () => {
    const { begin, hooks, report, clock } = start();
    hooks.descriptions.answerBy(() => ({
      outcome: 'found',
      timeoutSeconds: 100,
      terminateHooksInGroup: ['drain', 'ship-logs'],
    }));
    begin();
    await clock.advance(100);
    expect(report.told('several terminate hooks in a group')).toEqual([]);
  });

  test('is written as soon as the API server takes it', async () => {
    const { begin, hook, state, clock } = start();
    state.answers.push('unreachable', 'unreachable');
    begin();
    await clock.advance(500);
    expect(hook()?.timeoutSeconds).toBeUndefined();
    await clock.advance(5000);
    expect(hook()?.timeoutSeconds).toBe(100);
  });
});

describe('keeping a hook alive', () => {
  const longer = { terminateHookDrainSeconds: 480 };

  test('beats at half its timeout while the window outlasts it, and then no more', async () => {
    const { begin, beats, clock } = start(longer);
    begin();
    await clock.advance(600_000);
    // Each beat buys 100 s: the one at 400 reaches beyond 480.
    expect(beats()).toEqual([50, 100, 150, 200, 250, 300, 350, 400]);
    expect(clock.pending()).toEqual([]);
  });

  test('is not needed where the timeout is as long as the window', async () => {
    const { begin, beats, clock } = start();
    begin();
    await clock.advance(200_000);
    expect(beats()).toEqual([]);
    expect(clock.pending()).toEqual([]);
  });

  test('is for the hooks that are ours', async () => {
    const { begin, beats, clock } = start(longer);
    begin({ group: 'theirs' });
    await clock.advance(600_000);
    expect(beats()).toEqual([]);
  });

  test('is done for another emergency’s deadline', async () => {
    const { begin, beats, change, clock } = start();
    begin({ timeoutSeconds: 60 });
    change(eventChange(spot(20)));
    await clock.advance(200_000);
    expect(beats()).toEqual([30, 60, 90]);
  });

  test('ends when a nearer deadline makes it needless', async () => {
    const { begin, beats, change, clock } = start(longer);
    begin({ timeoutSeconds: 200 });
    await clock.advance(20_000);
    change(eventChange(spot(20)));
    await clock.advance(600_000);
    expect(beats()).toEqual([]);
    expect(clock.pending()).toEqual([]);
  });

  test('goes on for the deadline of the moment, not that of the first beat', async () => {
    const { begin, beats, hooks, clock } = start({ terminateHookDrainSeconds: 100 });
    begin({ timeoutSeconds: 60 });
    hooks.heartbeats.extraMs = 3000;
    await clock.advance(31_000);
    // While the first beat is on its way.
    begin({ token: 'b', timeoutSeconds: 300 });
    await clock.advance(400_000);
    expect(beats().at(-1)).toBeGreaterThan(331 - 60);
    expect(beats().at(-1)).toBeLessThan(331);
  });

  test('catches up after a restart', async () => {
    const { begin, state, keeper, beats, clock } = start(longer);
    begin();
    await clock.advance(100);
    keeper.stop();
    await clock.advance(80_000);
    keeper.follow(state.journal, planOf(state.journal, policy(longer), at(-9000)));
    await clock.advance(10);
    expect(beats()).toEqual([80]);
  });

  test('is tried again, ever more slowly, when a beat is not taken', async () => {
    const { begin, beats, hooks, report, clock } = start(longer);
    hooks.heartbeats.answerBy(() => ({ outcome: 'failed', denied: false, message: 'throttled' }));
    begin();
    await clock.advance(99_000);
    expect(beats().length).toBeGreaterThan(3);
    expect(beats().length).toBeLessThan(8);
    expect(report.told('lifecycle hook not kept alive')).toHaveLength(beats().length);
    hooks.heartbeats.answerBy(undefined);
  });

  test('is not tried again when its time is over', async () => {
    const { begin, beats, hooks, clock } = start(longer);
    hooks.heartbeats.answerBy(() => ({ outcome: 'failed', denied: true, message: 'denied' }));
    begin();
    await clock.advance(1_000_000);
    expect(beats().at(-1)).toBeLessThan(480 + 60);
    expect(clock.pending()).toEqual([]);
  });

  test('ends when the action is over, and that is kept', async () => {
    const { begin, beats, hook, hooks, report, clock } = start(longer);
    begin();
    hooks.heartbeats.answerNext({ outcome: 'over', message: 'No active Lifecycle Action found' });
    await clock.advance(600_000);
    expect(beats()).toEqual([50]);
    expect(hook()?.completedAt).toBeDefined();
    expect(report.told('lifecycle hook over')).toHaveLength(1);
  });

  test('ends with the keeper', async () => {
    const { begin, beats, keeper, clock } = start(longer);
    begin();
    await clock.advance(60_000);
    keeper.stop();
    await clock.advance(600_000);
    expect(beats()).toEqual([50]);
    expect(clock.pending()).toEqual([]);
  });

  test('ends after a hundred timeouts, when AWS lets no action live on', async () => {
    const { begin, beats, clock } = start({ terminateHookDrainSeconds: 1_000_000 });
    begin({ timeoutSeconds: 100 });
    await clock.advance(20_000_000);
    expect(beats().at(-1)).toBeLessThan(10_100);
    expect(clock.pending()).toEqual([]);
  });
});

describe('completing', () => {
  test('asks CONTINUE for each hook of ours, with its token and this instance, once', async () => {
    const { begin, complete, hook, hooks, autoScaling, clock } = start();
    begin({ token: 'a' });
    begin({ token: 'b' });
    begin({ token: 'c', group: 'theirs' });
    await clock.advance(100);
    await complete();
    expect(hooks.completions.calls.map(({ args: [action] }) => action)).toEqual([
      { group: 'workers', hook: 'hook-a', token: 'a', instanceId },
      { group: 'workers', hook: 'hook-b', token: 'b', instanceId },
    ]);
    expect(autoScaling.completedAt('c')).toBeUndefined();
    expect(hook('a')?.completedAt).toBeDefined();
    await complete();
    expect(hooks.completions.count).toBe(2);
  });

  test('ends the heartbeats', async () => {
    const { begin, complete, beats, clock } = start({ terminateHookDrainSeconds: 480 });
    begin();
    await clock.advance(60_000);
    await complete();
    await clock.advance(600_000);
    expect(beats()).toEqual([50]);
    expect(clock.pending()).toEqual([]);
  });

  test('is content with an action that is over', async () => {
    const { begin, complete, hook, hooks, clock } = start();
    begin();
    await clock.advance(101_000);
    await complete();
    expect(hooks.completions.count).toBe(1);
    expect(hook()?.completedAt).toBeDefined();
  });

  test('is tried until it is taken, ever more slowly, and told once', async () => {
    const { begin, complete, autoScaling, hooks, report, clock } = start();
    begin({ timeoutSeconds: 3600 });
    hooks.completions.answerBy(() => ({ outcome: 'failed', denied: true, message: 'denied' }));
    clock.after(120_000, () => hooks.completions.answerBy(undefined));
    await complete();
    expect(autoScaling.completedAt('a')).toBeDefined();
    expect(hooks.completions.count).toBeGreaterThan(5);
    expect(hooks.completions.count).toBeLessThan(14);
    expect(report.told('lifecycle hook not yet completed')).toMatchObject([{ denied: true }]);
  });

  test('is given up at the end of the window, not before a first try', async () => {
    const { begin, complete, hook, hooks, report, clock } = start();
    begin({ timeoutSeconds: 3600 });
    hooks.completions.answerBy(() => ({ outcome: 'failed', denied: false, message: 'throttled' }));
    await complete(at(60));
    expect(clock.now() - at(60)).toBeLessThan(1000);
    expect(clock.now()).toBeGreaterThanOrEqual(at(60));
    expect(report.told('lifecycle hook not completed')).toHaveLength(1);
    expect(hook()?.completedAt).toBeUndefined();
    const asked = hooks.completions.count;
    await complete(at(60));
    expect(hooks.completions.count).toBe(asked);
  });

  test('is given up after two days, when no action lives any more', async () => {
    const { begin, hooks, report, keeper, state, clock } = start();
    begin({ timeoutSeconds: 3600 });
    hooks.completions.answerBy(() => ({ outcome: 'failed', denied: true, message: 'denied' }));
    const completed = keeper.completeAll(
      () => state.journal,
      () => Infinity,
      () => true,
    );
    await clock.resolved(completed, 49 * 3_600_000);
    expect(clock.now()).toBeGreaterThanOrEqual(at(48 * 3600));
    expect(report.told('lifecycle hook not completed')).toHaveLength(1);
  });

  test('goes on with a hook that comes meanwhile', async () => {
    const { begin, complete, autoScaling, hooks, clock } = start();
    begin();
    hooks.completions.extraMs = 2000;
    clock.after(1000, () => begin({ token: 'b' }));
    await complete();
    expect(autoScaling.completedAt('b')).toBeDefined();
  });

  test('ends at once when the process stops', async () => {
    const { begin, keeper, state, hooks, stopping, clock } = start();
    begin();
    hooks.completions.hold();
    const completed = keeper.completeAll(
      () => state.journal,
      () => Infinity,
      () => true,
    );
    await clock.advance(1000);
    stopping.abort();
    await clock.resolved(completed, 10);
    expect(hooks.completions.count).toBe(1);
  });
});
