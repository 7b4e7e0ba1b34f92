import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  deadlineOf,
  forceAt,
  hooksDueAt,
  hasOutlived,
  hookExpiresAt,
  latestSafeStart,
  planOf,
  type Plan,
} from '../../src/plan/deadline.ts';
import type { Change } from '../../src/plan/merge.ts';
import type { Policy } from '../../src/plan/policy.ts';
import {
  at,
  capacity,
  eventChange,
  journal,
  journalOf,
  planOfSpot,
  policy,
  rebalance,
  spot,
  terminateHook,
} from './samples.ts';

function described(token: string, timeoutSeconds: number): Change {
  return { type: 'hook-described', token, timeoutSeconds };
}

/** A terminate hook of ours, or of others, with its timeout known. */
function hook(token: string, timeoutSeconds: number, group = 'workers', seconds = 0): Change[] {
  return [eventChange(terminateHook(seconds, { token, group })), described(token, timeoutSeconds)];
}

function planAfter(
  changes: readonly Change[],
  policyChanges: Partial<Policy> = {},
): Plan | undefined {
  return planOf(journalOf(changes), policy(policyChanges), undefined);
}

describe('the plan of a node', () => {
  test('is none where nothing is live', () => {
    expect(planOf(journal(), policy(), undefined)).toBeUndefined();
  });

  test.each([
    {
      name: 'a spot notice gives two minutes from its time',
      changes: [eventChange(spot(0))],
      plan: {
        kind: 'spot-interruption',
        emergency: true,
        windowStartAt: at(0),
        deadlineAt: at(120),
      },
    },
    {
      name: 'hibernation leaves nothing of its window',
      changes: [eventChange(spot(0, { action: 'hibernate' }))],
      plan: { kind: 'spot-interruption', emergency: true, windowStartAt: at(0), deadlineAt: at(0) },
    },
    {
      name: 'a rebalance recommendation has no deadline and is no emergency',
      changes: [eventChange(rebalance(0))],
      plan: { kind: 'rebalance', emergency: false, windowStartAt: at(0), deadlineAt: undefined },
    },
    {
      name: 'a hook has none until its timeout is known',
      changes: [eventChange(terminateHook(0))],
      plan: { kind: 'terminate-hook', emergency: true, deadlineAt: undefined },
    },
    {
      name: 'a hook has its timeout',
      changes: hook('a', 300),
      plan: { kind: 'terminate-hook', emergency: true, windowStartAt: at(0), deadlineAt: at(300) },
    },
    {
      name: 'the spot notice rules over the recommendation before it',
      changes: [eventChange(rebalance(0)), eventChange(spot(60))],
      plan: { kind: 'spot-interruption', windowStartAt: at(60), deadlineAt: at(180) },
    },
    {
      name: 'the earlier of two deadlines rules, with its own window',
      changes: [eventChange(spot(0)), eventChange(capacity(10, { terminatesAt: at(70) }))],
      plan: { kind: 'capacity-reservation', windowStartAt: at(10), deadlineAt: at(70) },
    },
    {
      name: 'an emergency without a deadline names the node before a paced one does',
      changes: [eventChange(rebalance(0)), eventChange(terminateHook(60))],
      plan: { kind: 'terminate-hook', emergency: true, deadlineAt: undefined },
    },
    {
      name: 'a hook of ours that outlasts the spot deadline changes nothing',
      changes: [eventChange(spot(0)), ...hook('a', 300)],
      plan: { kind: 'spot-interruption', deadlineAt: at(120) },
    },
    {
      name: 'a hook of ours that would expire before it is kept alive instead',
      changes: [eventChange(spot(0)), ...hook('a', 30)],
      plan: { kind: 'spot-interruption', deadlineAt: at(120) },
    },
    {
      name: 'a hook of others that would expire before it tightens the plan',
      changes: [eventChange(spot(0)), ...hook('a', 30, 'theirs')],
      plan: { kind: 'terminate-hook', deadlineAt: at(30) },
    },
    {
      name: 'a paced interruption keeps no hook alive',
      changes: [eventChange(rebalance(0)), ...hook('a', 30)],
      plan: { kind: 'terminate-hook', deadlineAt: at(30) },
    },
    {
      name: 'of two hooks of ours, the shorter is kept alive for the longer',
      changes: [...hook('a', 30), ...hook('b', 300)],
      plan: { kind: 'terminate-hook', deadlineAt: at(300) },
    },
    {
      name: 'a hook of ours is kept alive for a longer one of others',
      changes: [...hook('a', 30), ...hook('b', 300, 'theirs')],
      plan: { kind: 'terminate-hook', deadlineAt: at(300) },
    },
    {
      name: 'but not beyond a shorter one of others',
      changes: [...hook('a', 300), ...hook('b', 30, 'theirs')],
      plan: { kind: 'terminate-hook', deadlineAt: at(30) },
    },
  ])('$name', ({ changes, plan }) => {
    expect(planAfter(changes)).toMatchObject(plan);
  });

  test('the time for draining that hooks are to have extends our own only', () => {
    const longer = { terminateHookDrainSeconds: 900 };
    expect(planAfter(hook('a', 300), longer)?.deadlineAt).toBe(at(900));
    expect(planAfter(hook('a', 3600), longer)?.deadlineAt).toBe(at(3600));
    expect(planAfter(hook('a', 300, 'theirs'), longer)?.deadlineAt).toBe(at(300));
  });

  test.each([
    { name: 'a hundred timeouts', timeout: 30, seconds: 3000 },
    { name: 'two days', timeout: 7200, seconds: 172_800 },
  ])('a window is no longer than AWS lets a hook live: $name', ({ timeout, seconds }) => {
    const longer = { terminateHookDrainSeconds: 1_000_000 };
    expect(planAfter(hook('a', timeout), longer)?.deadlineAt).toBe(at(seconds));
  });

  test('a hook is kept alive for others no longer than AWS lets it live', () => {
    const changes = [...hook('a', 30), ...hook('b', 3600, 'theirs')];
    expect(planAfter(changes)).toMatchObject({ kind: 'terminate-hook', deadlineAt: at(3000) });
  });

  test('a hook is not kept alive for one that is done with', () => {
    const done: Change = { type: 'hook-completed', token: 'b' };
    expect(planAfter([...hook('a', 30), ...hook('b', 300), done])?.deadlineAt).toBe(at(30));
  });

  test('a deadline that the machine has outlived counts for nothing', () => {
    const both = journalOf([
      eventChange(spot(0)),
      eventChange(capacity(0, { terminatesAt: at(600) })),
    ]);
    expect(planOf(both, policy(), at(180))).toMatchObject({ deadlineAt: at(120) });
    expect(planOf(both, policy(), at(181))).toMatchObject({
      kind: 'capacity-reservation',
      deadlineAt: at(600),
    });
    expect(planOf(both, policy(), at(661))).toMatchObject({
      emergency: true,
      deadlineAt: undefined,
    });
  });

  test('a hook is not kept alive for a deadline that was outlived', () => {
    const both = journalOf([eventChange(spot(0)), ...hook('a', 300, 'workers', 60)]);
    expect(planOf(both, policy(), at(200))).toMatchObject({
      kind: 'terminate-hook',
      deadlineAt: at(360),
    });
  });
});

describe('a deadline of one interruption', () => {
  test('is unknown for a hook that is not described', () => {
    const [entry] = journalOf([eventChange(terminateHook(0))]).live;
    expect(deadlineOf(entry!, policy({ terminateHookDrainSeconds: 900 }))).toBeUndefined();
    expect(hookExpiresAt(entry!)).toBeUndefined();
  });

  test.each([
    { lifeSignAt: undefined, outlived: false },
    { lifeSignAt: at(0), outlived: false },
    { lifeSignAt: at(60), outlived: false },
    { lifeSignAt: at(60) + 1, outlived: true },
  ])('is outlived by a sign of life over 60 s after it ($lifeSignAt: $outlived)', (row) => {
    expect(hasOutlived(at(0), row.lifeSignAt)).toBe(row.outlived);
  });
});

describe('when a pod may be forced', () => {
  test.each([
    { name: 'a short grace: when it must begin', grace: 30, forced: at(85) },
    { name: 'the grace that reaches the middle: there', grace: 55, forced: at(60) },
    { name: 'a longer one: in the middle of the window, not before', grace: 600, forced: at(60) },
  ])('$name', ({ grace, forced }) => {
    expect(forceAt(planOfSpot(), policy(), grace)).toBe(forced);
  });

  test('a late event does not move the middle: its window began when it was issued', () => {
    const plan = planOfSpot({ windowStartAt: at(-3600), deadlineAt: at(120) });
    expect(forceAt(plan, policy(), 7200)).toBe(at(-1740));
  });

  test('never without a deadline', () => {
    expect(forceAt(planOfSpot({ deadlineAt: undefined }), policy(), 30)).toBe(Infinity);
  });

  test('at once where there is no window', () => {
    const plan = planOfSpot({ windowStartAt: at(0), deadlineAt: at(0) });
    expect(forceAt(plan, policy(), 30)).toBe(at(0));
  });

  test('never before the middle, never before the grace no longer fits', () => {
    const plans = fc.record({
      start: fc.integer({ min: -10_000, max: 10_000 }),
      length: fc.integer({ min: 0, max: 100_000 }),
      grace: fc.integer({ min: 1, max: 10_000 }),
      margin: fc.integer({ min: 0, max: 60 }),
    });
    fc.assert(
      fc.property(plans, ({ start, length, grace, margin }) => {
        const plan = planOfSpot({ windowStartAt: at(start), deadlineAt: at(start + length) });
        const rules = policy({ marginMs: margin * 1000 });
        const forced = forceAt(plan, rules, grace);
        expect(forced).toBeGreaterThanOrEqual(at(start + length / 2));
        expect(forced).toBeGreaterThanOrEqual(at(start + length - margin - grace));
        expect([at(start + length / 2), at(start + length - margin - grace)]).toContain(forced);
      }),
    );
  });
});

describe('the latest safe start of a pod', () => {
  test('leaves its whole grace and the margin before the deadline', () => {
    expect(latestSafeStart(planOfSpot(), policy(), 30)).toBe(at(85));
    expect(latestSafeStart(planOfSpot(), policy({ marginMs: 20_000 }), 30)).toBe(at(70));
  });

  test('is never where there is no deadline', () => {
    expect(latestSafeStart(planOfSpot({ deadlineAt: undefined }), policy(), 30)).toBe(Infinity);
  });
});

describe('when hooks are due, whatever they wait for', () => {
  test.each([
    { name: 'a hook that expires with the window', livesUntil: 120, due: 115 },
    { name: 'a hook that expires within the margin after it', livesUntil: 124, due: 115 },
    { name: 'a hook that outlives it', livesUntil: 125, due: 120 },
    { name: 'no hook', livesUntil: Infinity, due: 120 },
  ])('$name: $due s', ({ livesUntil, due }) => {
    expect(hooksDueAt(planOfSpot(), policy(), at(livesUntil))).toBe(at(due));
  });

  test('not before the middle of the window, however large the margin', () => {
    const rules = policy({ marginMs: 600_000 });
    expect(hooksDueAt(planOfSpot(), rules, at(120))).toBe(at(60));
  });

  test('never where there is no deadline', () => {
    const plan = planOfSpot({ deadlineAt: undefined });
    expect(hooksDueAt(plan, policy(), at(120))).toBe(Infinity);
  });
});
