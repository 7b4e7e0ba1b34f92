import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Plan } from '../../src/plan/deadline.ts';
import { forceAt } from '../../src/plan/deadline.ts';
import type { PodView } from '../../src/plan/pod.ts';
import {
  leaveReason,
  nextStep,
  ownGraceSeconds,
  tierOf,
  UNTRIED,
  type Progress,
  type Step,
} from '../../src/plan/pods.ts';
import type { Policy } from '../../src/plan/policy.ts';
import { at, planOfSpot, podView, policy } from './samples.ts';

/** Of a pod at so many seconds past noon, the notice being of noon. */
function step(
  seconds: number,
  options: {
    pod?: Partial<PodView>;
    progress?: Partial<Progress>;
    turn?: boolean;
    plan?: Partial<Plan>;
    rules?: Partial<Policy>;
  } = {},
): Step {
  return nextStep(
    podView(options.pod),
    { ...UNTRIED, ...options.progress },
    options.turn ?? true,
    planOfSpot(options.plan),
    policy(options.rules),
    at(seconds),
  );
}

/** Terminating since `sinceSeconds`, with a grace of so many seconds. */
function terminating(sinceSeconds: number, graceSeconds: number): Partial<PodView> {
  return { deletion: { endsAt: at(sinceSeconds + graceSeconds), graceSeconds } };
}

const NO_DEADLINE = { deadlineAt: undefined };

describe('which pods a drain leaves alone', () => {
  test.each([
    { name: 'an ordinary pod', pod: {}, reason: undefined },
    { name: 'a pod without a controller', pod: { owner: undefined }, reason: undefined },
    { name: 'a pod that is terminating', pod: terminating(0, 30), reason: undefined },
    {
      name: 'a DaemonSet pod',
      pod: { owner: { kind: 'DaemonSet', name: 'agent', uid: 'agent-uid' } },
      reason: 'daemonset',
    },
    { name: 'a mirror pod', pod: { mirror: true }, reason: 'mirror' },
    { name: 'a finished pod', pod: { finished: true }, reason: 'finished' },
  ])('$name: $reason', ({ pod, reason }) => {
    expect(leaveReason(podView(pod))).toBe(reason);
  });
});

describe('who leaves first', () => {
  const self = { namespace: 'kube-system', name: 'controller-1' };
  test.each([
    { name: 'ordinary pods', pod: {}, tier: 0 },
    { name: 'pods of any other priority', pod: { priorityClass: 'high' }, tier: 0 },
    {
      name: 'then system-cluster-critical',
      pod: { priorityClass: 'system-cluster-critical' },
      tier: 1,
    },
    { name: 'and system-node-critical', pod: { priorityClass: 'system-node-critical' }, tier: 1 },
    { name: 'then the controller itself', pod: self, tier: 2 },
    {
      name: 'which is known by its namespace, too',
      pod: { namespace: 'other', name: 'controller-1' },
      tier: 0,
    },
  ])('$name', ({ pod, tier }) => {
    expect(tierOf(podView(pod), self)).toBe(tier);
  });

  test('outside of a cluster no pod is the controller', () => {
    expect(tierOf(podView(self), undefined)).toBe(0);
  });
});

describe('the grace of a pod when nothing hurries', () => {
  test.each([
    { own: 30, limit: undefined, grace: 30 },
    { own: 600, limit: 60, grace: 60 },
    { own: 30, limit: 60, grace: 30 },
    { own: 0, limit: undefined, grace: 1 },
    { own: 30, limit: 0, grace: 1 },
  ])('$own s, at most $limit: $grace s', ({ own, limit, grace }) => {
    expect(
      ownGraceSeconds(podView({ graceSeconds: own }), policy({ podGraceSeconds: limit })),
    ).toBe(grace);
  });
});

describe('a pod whose turn it is', () => {
  test.each([
    { name: 'is evicted at once, with its own grace', seconds: 0, options: {}, graceSeconds: 30 },
    {
      name: 'with what is left, where its own would be too long',
      seconds: 90,
      options: {},
      graceSeconds: 25,
    },
    { name: 'in whole seconds', seconds: 90.5, options: {}, graceSeconds: 24 },
    { name: 'never with less than a second', seconds: 114.5, options: {}, graceSeconds: 1 },
    { name: 'within the margin, too', seconds: 118, options: {}, graceSeconds: 1 },
    { name: 'even past the deadline', seconds: 200, options: {}, graceSeconds: 1 },
    { name: 'never with 0', seconds: 0, options: { pod: { graceSeconds: 0 } }, graceSeconds: 1 },
    {
      name: 'within the limit',
      seconds: 0,
      options: { rules: { podGraceSeconds: 10 } },
      graceSeconds: 10,
    },
    {
      name: 'with its own where there is no deadline',
      seconds: 9999,
      options: { plan: NO_DEADLINE },
      graceSeconds: 30,
    },
  ])('$name', ({ seconds, options, graceSeconds }) => {
    expect(step(seconds, options)).toEqual({ do: 'evict', graceSeconds });
  });
});

describe('a pod that a budget refuses', () => {
  test('waits for its back-off', () => {
    const progress = { refusedAt: at(10), retryAt: at(14) };
    expect(step(10, { progress })).toEqual({ do: 'wait', until: at(14) });
    expect(step(14, { progress })).toEqual({ do: 'evict', graceSeconds: 30 });
  });

  test('is tried again when it may be forced, however long its back-off', () => {
    const progress = { refusedAt: at(80), retryAt: at(100) };
    expect(step(81, { progress })).toEqual({ do: 'wait', until: at(85) });
    expect(step(85, { progress })).toEqual({ do: 'evict', graceSeconds: 30 });
  });

  test('is forced at once by a refusal past that moment, not after its back-off', () => {
    const progress = { refusedAt: at(85), retryAt: at(97) };
    expect(step(85, { progress })).toEqual({ do: 'delete', graceSeconds: 30 });
    expect(step(86, { progress })).toEqual({ do: 'delete', graceSeconds: 29 });
  });

  test('is not forced by a refusal of before, but tried again', () => {
    const progress = { refusedAt: at(84.9), retryAt: at(86) };
    expect(step(100, { progress })).toEqual({ do: 'evict', graceSeconds: 15 });
  });

  test('is forced no earlier than in the middle of the window', () => {
    const pod = { graceSeconds: 600 };
    expect(step(59, { pod, progress: { refusedAt: at(59), retryAt: at(70) } })).toEqual({
      do: 'wait',
      until: at(60),
    });
    expect(step(60, { pod, progress: { refusedAt: at(60), retryAt: at(70) } })).toEqual({
      do: 'delete',
      graceSeconds: 55,
    });
  });

  test('is never forced where budgets are always respected', () => {
    const rules = { budgets: 'always' } as const;
    const progress = { refusedAt: at(100), retryAt: at(104) };
    expect(step(102, { rules, progress })).toEqual({ do: 'wait', until: at(104) });
    expect(step(104, { rules, progress })).toEqual({ do: 'evict', graceSeconds: 11 });
    expect(step(300, { rules, progress })).toEqual({ do: 'evict', graceSeconds: 1 });
  });

  test('is never forced where there is no deadline', () => {
    const progress = { refusedAt: at(9999), retryAt: at(10_003) };
    expect(step(10_003, { plan: NO_DEADLINE, progress })).toEqual({
      do: 'evict',
      graceSeconds: 30,
    });
  });

  test('is forced by the refusal it had when a deadline comes that is nearer than that', () => {
    const late = { windowStartAt: at(-600), deadlineAt: at(20) };
    const progress = { refusedAt: at(10), retryAt: at(20) };
    expect(step(11, { plan: late, progress })).toEqual({ do: 'delete', graceSeconds: 4 });
  });

  test.each([
    { name: 'an eviction', progress: { notBefore: at(90), refusedAt: at(80), retryAt: at(85) } },
    { name: 'a deletion', progress: { notBefore: at(90), refusedAt: at(86), retryAt: at(90) } },
  ])('sends nothing while the API server asks to wait: $name', ({ progress }) => {
    expect(step(87, { progress })).toEqual({ do: 'wait', until: at(90) });
  });
});

describe('a pod of a later tier', () => {
  const turn = false;

  test('waits until the tiers before it are gone', () => {
    expect(step(0, { turn })).toEqual({ do: 'wait', until: at(85) });
    expect(step(0, { turn, plan: NO_DEADLINE })).toEqual({ do: 'wait', until: undefined });
  });

  test('yields to time at its latest safe start', () => {
    expect(step(85, { turn })).toEqual({ do: 'evict', graceSeconds: 30 });
  });

  test('keeps the last 15 s of the window for itself', () => {
    const pod = { graceSeconds: 2 };
    expect(step(99, { turn, pod })).toEqual({ do: 'wait', until: at(100) });
    expect(step(100, { turn, pod })).toEqual({ do: 'evict', graceSeconds: 2 });
  });

  test('keeps half of a window that is shorter than twice that', () => {
    const plan = { deadlineAt: at(25) };
    expect(step(9, { turn, plan, pod: { graceSeconds: 2 } })).toEqual({
      do: 'wait',
      until: at(10),
    });
  });

  test('goes at once where nothing is left of the window', () => {
    const plan = { deadlineAt: at(0) };
    expect(step(0, { turn, plan })).toEqual({ do: 'evict', graceSeconds: 1 });
  });
});

describe('a pod that is terminating', () => {
  const tightened = { deadlineAt: at(65) };

  test('is left alone while it will be gone in time', () => {
    expect(step(10, { pod: terminating(0, 115) })).toEqual({ do: 'wait', until: undefined });
  });

  test('is left alone where there is no deadline', () => {
    expect(step(10, { pod: terminating(0, 9999), plan: NO_DEADLINE })).toEqual({
      do: 'wait',
      until: undefined,
    });
  });

  test.each([
    { e: 0, R: 60, graceSeconds: 60 },
    { e: 10, R: 50, graceSeconds: 50 },
    { e: 29, R: 31, graceSeconds: 31 },
    { e: 29.4, R: 30.6, graceSeconds: 30 },
  ])('after $e s with $R s left gets what is left', ({ e, R, graceSeconds }) => {
    const plan = { deadlineAt: at(e + R + 5) };
    expect(step(e, { pod: terminating(0, 600), plan })).toEqual({ do: 'shorten', graceSeconds });
  });

  test.each([
    { name: 'more has passed than is left', e: 40, R: 20 },
    { name: 'as much has passed as is left', e: 30, R: 30 },
    { name: 'the whole seconds that are left are past, though not the rest', e: 30.2, R: 30.8 },
  ])('gets its last call 2 s before the end where $name', ({ e, R }) => {
    const plan = { deadlineAt: at(e + R + 5) };
    const pod = terminating(0, 600);
    const lastCallAt = plan.deadlineAt - 7000;
    expect(step(e, { pod, plan })).toEqual({ do: 'wait', until: lastCallAt });
    expect(nextStep(podView(pod), UNTRIED, true, planOfSpot(plan), policy(), lastCallAt)).toEqual({
      do: 'shorten',
      graceSeconds: 1,
    });
  });

  test('gets nothing after the deadline', () => {
    const pod = terminating(0, 600);
    expect(step(65, { pod, plan: tightened })).toEqual({ do: 'wait', until: undefined });
    expect(step(64.9, { pod, plan: tightened })).toEqual({ do: 'shorten', graceSeconds: 1 });
  });

  test.each([
    { name: 'the server has it end within a second', pod: { endsAt: at(62), graceSeconds: 61 } },
    { name: 'it has a second already', pod: { endsAt: at(70), graceSeconds: 1 } },
  ])('gets no last call twice: $name', ({ pod }) => {
    expect(step(61.5, { pod: { deletion: pod }, plan: tightened })).toEqual({
      do: 'wait',
      until: undefined,
    });
  });

  test('is shortened again by a deadline that is nearer still', () => {
    const shortened = { deletion: { endsAt: at(50), graceSeconds: 50 } };
    expect(step(10, { pod: shortened, plan: { deadlineAt: at(35) } })).toEqual({
      do: 'shorten',
      graceSeconds: 20,
    });
  });

  test('is never evicted again, nor deleted past its budget', () => {
    const progress = { refusedAt: at(100), retryAt: at(100) };
    expect(step(101, { pod: terminating(95, 10), progress })).toEqual({
      do: 'wait',
      until: undefined,
    });
  });
});

describe('whatever the pod, the plan and the moment', () => {
  const situation = fc.record({
    now: fc.integer({ min: -100_000, max: 400_000 }),
    windowStart: fc.integer({ min: -100_000, max: 200_000 }),
    window: fc.option(fc.integer({ min: 0, max: 200_000 }), { nil: undefined }),
    graceSeconds: fc.integer({ min: 0, max: 900 }),
    limit: fc.option(fc.integer({ min: 1, max: 900 }), { nil: undefined }),
    budgets: fc.constantFrom('always' as const, 'until-deadline' as const),
    turn: fc.boolean(),
    refusedAgo: fc.option(fc.integer({ min: 0, max: 100_000 }), { nil: undefined }),
    backOff: fc.integer({ min: 0, max: 20_000 }),
    deletedAgo: fc.option(fc.integer({ min: 0, max: 100_000 }), { nil: undefined }),
  });

  function stepIn(given: typeof situation extends fc.Arbitrary<infer T> ? T : never) {
    const now = at(0) + given.now;
    const plan = planOfSpot({
      windowStartAt: at(0) + given.windowStart,
      deadlineAt: given.window === undefined ? undefined : at(0) + given.windowStart + given.window,
    });
    const rules = policy({ budgets: given.budgets, podGraceSeconds: given.limit });
    const beganAt = given.deletedAgo === undefined ? undefined : now - given.deletedAgo;
    const pod = podView({
      graceSeconds: given.graceSeconds,
      deletion:
        beganAt === undefined
          ? undefined
          : { endsAt: beganAt + given.graceSeconds * 1000, graceSeconds: given.graceSeconds },
    });
    const refusedAt = given.refusedAgo === undefined ? undefined : now - given.refusedAgo;
    const progress = {
      refusedAt,
      retryAt: refusedAt === undefined ? 0 : refusedAt + given.backOff,
      notBefore: 0,
    };
    const endAt = plan.deadlineAt === undefined ? Infinity : plan.deadlineAt - rules.marginMs;
    const taken = nextStep(pod, progress, given.turn, plan, rules, now);
    return { taken, pod, plan, rules, now, refusedAt, endAt };
  }

  test('no grace is below a second, nor above the time that is left', () => {
    fc.assert(
      fc.property(situation, (given) => {
        const { taken, now, endAt } = stepIn(given);
        if (taken.do === 'wait') return;
        expect(taken.graceSeconds).toBeGreaterThanOrEqual(1);
        expect(taken.graceSeconds).toBeLessThanOrEqual(Math.max(1, (endAt - now) / 1000));
        expect(Number.isInteger(taken.graceSeconds)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test('nothing is forced but after a refusal past the moment for it', () => {
    fc.assert(
      fc.property(situation, (given) => {
        const { taken, pod, plan, rules, now, refusedAt } = stepIn(given);
        if (taken.do !== 'delete') return;
        const forcedFrom = forceAt(plan, rules, ownGraceSeconds(pod, rules));
        expect(rules.budgets).toBe('until-deadline');
        expect(refusedAt).toBeGreaterThanOrEqual(forcedFrom);
        expect(now).toBeGreaterThanOrEqual(forcedFrom);
      }),
      { numRuns: 1000 },
    );
  });

  test('who waits waits for a later moment, or for something to happen', () => {
    fc.assert(
      fc.property(situation, (given) => {
        const { taken, now } = stepIn(given);
        if (taken.do !== 'wait') return;
        expect(taken.until ?? Infinity).toBeGreaterThan(now);
      }),
      { numRuns: 1000 },
    );
  });

  test('a grace is only ever shortened, and ends in time wherever it still can', () => {
    fc.assert(
      fc.property(situation, (given) => {
        const { taken, pod, now, endAt } = stepIn(given);
        if (taken.do !== 'shorten') return;
        const { endsAt, graceSeconds } = pod.deletion!;
        const beganAt = endsAt - graceSeconds * 1000;
        // As the API server counts: from the first deletion; what is past is a second from now.
        const counted = beganAt + taken.graceSeconds * 1000;
        const newEnd = counted > now ? counted : now + 1000;
        expect(newEnd).toBeLessThan(endsAt);
        expect(newEnd).toBeLessThanOrEqual(Math.max(endAt, now + 1000));
      }),
      { numRuns: 1000 },
    );
  });
});
