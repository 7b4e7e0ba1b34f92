import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planOf } from '../../src/plan/deadline.ts';
import { MAX_ENDED, type Journal } from '../../src/plan/journal.ts';
import { fold, type Change, type Verdict } from '../../src/plan/merge.ts';
import {
  at,
  capacity,
  eventChange,
  interruption,
  journal,
  journalOf,
  MACHINE,
  policy,
  rebalance,
  scheduledChange,
  SIGHT,
  spot,
  stateChange,
  terminateHook,
} from './samples.ts';

const SETTLED: Change = { type: 'settled', asOf: ['spot-interruption', 'rebalance'] };

function verdictOf(before: readonly Change[], change: Change): Verdict {
  const known = before.length === 0 ? undefined : journalOf(before);
  return fold(known, change, SIGHT, policy(), at(1)).verdict;
}

function folded(before: Journal | undefined, change: Change, now = at(1)): Journal {
  const { journal: after } = fold(before, change, SIGHT, policy(), now);
  if (after === undefined) throw new Error('no journal');
  return after;
}

describe('an event that joins a journal', () => {
  test.each([
    { name: 'the first one', before: [], event: spot(0), verdict: 'recorded' },
    { name: 'the same again', before: [spot(0)], event: spot(0), verdict: 'duplicate' },
    { name: 'another kind', before: [rebalance(0)], event: spot(5), verdict: 'recorded' },
    {
      name: 'the kind again, later in its window',
      before: [spot(0)],
      event: spot(60),
      verdict: 'duplicate',
    },
    {
      name: 'the kind again at its very deadline',
      before: [spot(0)],
      event: spot(120),
      verdict: 'duplicate',
    },
    {
      name: 'the kind again after its deadline',
      before: [spot(0)],
      event: spot(121),
      verdict: 'recorded',
    },
    {
      name: 'the kind from before, delivered late',
      before: [spot(60)],
      event: spot(0),
      verdict: 'recorded',
    },
    {
      name: 'the kind of an episode long over',
      before: [spot(1000)],
      event: spot(0),
      verdict: 'stale',
    },
    {
      name: 'a capacity interruption that comes sooner than was said',
      before: [capacity(0, { terminatesAt: at(600) })],
      event: capacity(10, { terminatesAt: at(300) }),
      verdict: 'recorded',
    },
    {
      name: 'one that comes later than was said',
      before: [capacity(0, { terminatesAt: at(300) })],
      event: capacity(10, { terminatesAt: at(600) }),
      verdict: 'duplicate',
    },
    {
      name: 'a hook with another token',
      before: [terminateHook(0)],
      event: terminateHook(0, { token: 'token-2' }),
      verdict: 'recorded',
    },
    {
      name: 'a hook with the same token',
      before: [terminateHook(0)],
      event: terminateHook(9),
      verdict: 'duplicate',
    },
    {
      name: 'a rebalance recommendation repeated',
      before: [rebalance(0)],
      event: rebalance(0),
      verdict: 'duplicate',
    },
    {
      name: 'a new rebalance recommendation',
      before: [rebalance(0)],
      event: rebalance(60),
      verdict: 'recorded',
    },
    {
      name: 'an old rebalance recommendation',
      before: [rebalance(60)],
      event: rebalance(0),
      verdict: 'duplicate',
    },
    {
      name: 'hibernation beside termination',
      before: [spot(0)],
      event: spot(0, { action: 'hibernate' }),
      verdict: 'recorded',
    },
  ] as const)('$name: $verdict', ({ before, event, verdict }) => {
    expect(verdictOf(before.map(eventChange), eventChange(event))).toBe(verdict);
  });

  test('leaves one entry for what is told twice', () => {
    const twice = journalOf(
      [spot(0), spot(0), spot(60), rebalance(0), rebalance(0)].map(eventChange),
    );
    expect(twice.live.map(({ id }) => id)).toEqual(['spot-interruption', 'rebalance']);
  });

  test('makes a settled node drain again', () => {
    const begun: Change = { type: 'begun', ids: ['rebalance'] };
    const settled = folded(journalOf([eventChange(rebalance(0)), begun]), {
      type: 'settled',
      asOf: ['rebalance'],
    });
    expect(settled.state).toBe('settled');
    expect(folded(settled, eventChange(spot(5))).state).toBe('draining');
  });

  test('does not make a settled node drain again when it is no news', () => {
    const settled = folded(journalOf([eventChange(spot(0))]), {
      type: 'settled',
      asOf: ['spot-interruption'],
    });
    expect(folded(settled, eventChange(spot(0))).state).toBe('settled');
  });

  test('leaves a tombstone of the episode it replaces', () => {
    const after = journalOf([spot(0), spot(500)].map(eventChange), at(501));
    expect(after.live).toMatchObject([{ time: at(500), deadlineAt: at(620) }]);
    expect(after.ended).toMatchObject([{ deadlineAt: at(120), endedAt: at(501) }]);
  });

  test('keeps as many tombstones as a journal holds, the newest', () => {
    const notices = Array.from({ length: 40 }, (_, i) => eventChange(spot(i * 200)));
    const after = journalOf(notices);
    expect(after.ended).toHaveLength(MAX_ENDED);
    expect(after.ended.at(-1)?.time).toBe(at(38 * 200));
  });

  test('is stale when its episode has ended', () => {
    const over = { ...interruption(), endedAt: at(130) };
    const before = journal({ ended: [over] });
    expect(fold(before, eventChange(spot(0)), SIGHT, policy(), at(200)).verdict).toBe('stale');
    expect(fold(before, eventChange(spot(120)), SIGHT, policy(), at(200)).verdict).toBe('stale');
    expect(fold(before, eventChange(spot(121)), SIGHT, policy(), at(200)).verdict).toBe('recorded');
  });

  test('is stale when it is not later than the end of what had no deadline', () => {
    const over = {
      ...interruption({ id: 'rebalance', kind: 'rebalance', deadlineAt: undefined }),
      endedAt: at(60),
    };
    const before = journal({ ended: [over] });
    expect(fold(before, eventChange(rebalance(60)), SIGHT, policy(), at(90)).verdict).toBe('stale');
    expect(fold(before, eventChange(rebalance(61)), SIGHT, policy(), at(90)).verdict).toBe(
      'recorded',
    );
  });

  test('is stale when its hook has ended, however late it is told', () => {
    const { hook } = journalOf([eventChange(terminateHook(0))]).live[0]!;
    const over = {
      ...interruption({ id: 'hook/token-1', kind: 'terminate-hook', hook }),
      endedAt: at(60),
    };
    const change = eventChange(terminateHook(9999));
    expect(fold(journal({ ended: [over] }), change, SIGHT, policy(), at(9999)).verdict).toBe(
      'stale',
    );
  });

  test('begins a journal of its own where the one before is of another machine', () => {
    const machine = { ...MACHINE, instanceId: 'i-0fedcba9876543210' };
    const { journal: after } = fold(
      journalOf([eventChange(rebalance(0))]),
      eventChange(spot(5)),
      { ...SIGHT, ...machine },
      policy(),
      at(6),
    );
    expect(after?.machine.instanceId).toBe('i-0fedcba9876543210');
    expect(after?.live.map(({ id }) => id)).toEqual(['spot-interruption']);
  });

  test('does not forget the systemUUID while the kubelet has yet to report it', () => {
    const before = journalOf([eventChange(rebalance(0))]);
    const unreported = { ...SIGHT, systemUUID: '', bootId: '' };
    const { journal: after } = fold(before, eventChange(spot(5)), unreported, policy(), at(6));
    expect(after?.machine).toEqual({ ...MACHINE, unknown: {} });
  });

  test('takes the place of the oldest hook that is done with, where there is no other', () => {
    const hooks = Array.from({ length: 32 }, (_, i) =>
      eventChange(terminateHook(0, { token: `${i}` })),
    );
    const done: Change[] = ['7', '9'].map((token) => ({ type: 'hook-completed', token }));
    const full = journalOf([...hooks, ...done]);
    const after = folded(full, eventChange(spot(5)), at(6));
    expect(after.live).toHaveLength(32);
    expect(after.live.at(-1)?.id).toBe('spot-interruption');
    expect(after.ended).toMatchObject([{ id: 'hook/7', endedAt: at(6) }]);
    // Told again, the hook is old news.
    expect(fold(after, hooks[7]!, SIGHT, policy(), at(7)).verdict).toBe('stale');
  });

  test('notes the boot it came in', () => {
    const before = journalOf([eventChange(rebalance(0))]);
    const { journal: after } = fold(
      before,
      eventChange(spot(5)),
      { ...SIGHT, bootId: 'boot-2' },
      policy(),
      at(6),
    );
    expect(after?.machine.bootId).toBe('boot-2');
  });
});

/** Events of one episode: each is issued before any of the deadlines. */
const episode = fc.array(
  fc.oneof(
    fc.integer({ min: 0, max: 119 }).map((seconds) => spot(seconds)),
    fc.integer({ min: 0, max: 119 }).map((seconds) => rebalance(seconds)),
    fc
      .tuple(fc.integer({ min: 0, max: 119 }), fc.option(fc.integer({ min: 120, max: 400 })))
      .map(([seconds, end]) =>
        capacity(seconds, { terminatesAt: end === null ? undefined : at(end) }),
      ),
    fc
      .tuple(fc.integer({ min: 0, max: 119 }), fc.constantFrom('a', 'b', 'c'), fc.boolean())
      .map(([seconds, token, ours]) =>
        // Who a hook belongs to does not change from telling to telling.
        terminateHook(seconds, { token: `${token}-${ours}`, group: ours ? 'workers' : 'theirs' }),
      ),
  ),
  { minLength: 1, maxLength: 8 },
);

const described: readonly Change[] = ['a', 'b', 'c'].flatMap((token, i) =>
  [true, false].map((ours): Change => ({
    type: 'hook-described',
    token: `${token}-${ours}`,
    timeoutSeconds: 120 + 60 * i,
  })),
);

function planAfter(events: readonly Parameters<typeof eventChange>[0][]) {
  return planOf(journalOf([...events.map(eventChange), ...described]), policy(), undefined);
}

describe('news of a scheduled change that began before its lead', () => {
  // Days before its start: its group needs many turns.
  const waiting = journalOf([eventChange(scheduledChange(0))]);
  const ids = waiting.live.map(({ id }) => id);
  const begun = folded(waiting, { type: 'begun', ids }, at(2));
  const settled = folded(begun, { type: 'settled', asOf: ids }, at(3));
  const toldAgain = eventChange(scheduledChange(0, { lastUpdatedAt: at(60) }));
  const DAY = 86_400;
  const rescheduled = eventChange(
    scheduledChange(0, { lastUpdatedAt: at(60), startAt: at(9 * DAY), endAt: at(9 * DAY + 7200) }),
  );

  test.each([
    { name: 'draining', before: begun },
    { name: 'settled', before: settled },
  ])('leaves a $name node as it is when its start is the same', ({ name, before }) => {
    expect(before.state).toBe(name);
    const after = folded(before, toldAgain, at(61));
    expect(after).toMatchObject({ state: name, live: [{ begunAt: at(2) }] });
    expect(after.live[0]?.change?.updatedAt).toBe(at(60));
  });

  test.each([
    { name: 'draining', before: begun },
    { name: 'settled', before: settled },
  ])('puts a $name node back to waiting when it is rescheduled beyond its lead', ({ before }) => {
    const after = folded(before, rescheduled, at(61));
    expect(after.state).toBe('waiting');
    expect(after.live[0]?.begunAt).toBeUndefined();
  });
});

describe('events of one instance in whatever order', () => {
  test('end in the same plan', () => {
    const orders = episode.chain((events) =>
      fc.tuple(
        fc.shuffledSubarray(events, { minLength: events.length }),
        fc.shuffledSubarray(events, { minLength: events.length }),
      ),
    );
    fc.assert(
      fc.property(orders, ([one, other]) => {
        expect(planAfter(one)).toEqual(planAfter(other));
      }),
      { numRuns: 500 },
    );
  });

  test('end in the same plan however often each is delivered', () => {
    const redelivered = episode.chain((events) =>
      fc.tuple(
        fc.constant(events),
        fc
          .array(fc.constantFrom(...events), { maxLength: 8 })
          .chain((more) =>
            fc.shuffledSubarray([...events, ...more], { minLength: events.length + more.length }),
          ),
      ),
    );
    fc.assert(
      fc.property(redelivered, ([once, often]) => {
        expect(planAfter(often)).toEqual(planAfter(once));
      }),
      { numRuns: 500 },
    );
  });

  test('of two episodes, end in that of the later one', () => {
    const notices = fc.array(
      fc.integer({ min: 0, max: 119 }).map((seconds) => spot(seconds)),
      { minLength: 1, maxLength: 4 },
    );
    fc.assert(
      fc.property(notices, notices, (earlier, others) => {
        const later = others.map((event) => ({ ...event, time: event.time + 3_600_000 }));
        const expected = planAfter(later);
        expect(planAfter([...earlier, ...later])).toEqual(expected);
        expect(planAfter([...later, ...earlier])).toEqual(expected);
      }),
    );
  });

  test('only ever tighten the plan, unless a hook of ours is kept alive', () => {
    fc.assert(
      fc.property(episode, (events) => {
        const tightening = events.filter(
          (event) => event.kind !== 'terminate-hook' || event.group === 'theirs',
        );
        const deadlines = tightening.map(
          (_, i) => planAfter(tightening.slice(0, i + 1))?.deadlineAt ?? Infinity,
        );
        expect(deadlines).toEqual(deadlines.toSorted((a, b) => b - a));
      }),
    );
  });
});

describe('what a drain reports', () => {
  const hooked = journalOf([eventChange(terminateHook(0))]);

  test('the timeout of a hook is kept', () => {
    const after = folded(hooked, { type: 'hook-described', token: 'token-1', timeoutSeconds: 300 });
    expect(after.live[0]?.hook?.timeoutSeconds).toBe(300);
  });

  test('the completion of a hook is kept, with its first moment', () => {
    const once = folded(hooked, { type: 'hook-completed', token: 'token-1' }, at(50));
    const twice = folded(once, { type: 'hook-completed', token: 'token-1' }, at(60));
    expect(twice.live[0]?.hook?.completedAt).toBe(at(50));
  });

  test.each([
    { type: 'hook-described', token: 'another', timeoutSeconds: 5 },
    { type: 'hook-completed', token: 'another' },
  ] as const)('$type of a token that is not known changes nothing', (change) => {
    expect(fold(hooked, change, SIGHT, policy(), at(1))).toEqual({
      journal: hooked,
      verdict: 'stale',
    });
    expect(fold(undefined, change, SIGHT, policy(), at(1))).toEqual({
      journal: undefined,
      verdict: 'stale',
    });
  });

  test('a node is settled for the interruptions that were dealt with', () => {
    const both = journalOf([rebalance(0), spot(5)].map(eventChange));
    const asOf = ['rebalance', 'spot-interruption'];
    expect(fold(both, { type: 'settled', asOf }, SIGHT, policy(), at(9))).toMatchObject({
      journal: { state: 'settled' },
      verdict: 'recorded',
    });
  });

  test('a node is not settled while one of them is not', () => {
    const both = journalOf([capacity(0), spot(5)].map(eventChange));
    expect(
      fold(both, { type: 'settled', asOf: ['capacity-reservation'] }, SIGHT, policy(), at(9)),
    ).toEqual({
      journal: both,
      verdict: 'stale',
    });
  });

  test.each([
    { state: 'waiting', changes: [eventChange(rebalance(0))] },
    { state: 'settled', changes: [eventChange(spot(0)), SETTLED] },
    { state: 'stopped', changes: [spot(0), stateChange('stopped', 1)].map(eventChange) },
    { state: 'undone', changes: [eventChange(stateChange('running'))] },
  ])('a $state node is not settled', ({ state, changes }) => {
    const before = journalOf(changes);
    expect(before.state).toBe(state);
    expect(fold(before, SETTLED, SIGHT, policy(), at(9)).verdict).toBe('stale');
  });

  test('to mend changes nothing of the journal', () => {
    expect(fold(hooked, { type: 'mended' }, SIGHT, policy(), at(9))).toEqual({
      journal: hooked,
      verdict: 'duplicate',
    });
  });
});

describe('the journal of a deleted Node whose machine registers anew', () => {
  const before = journalOf([eventChange(spot(0)), eventChange(terminateHook(0))]);
  const marked = { ...before, cordonedByUs: true, labelledByUs: true, labelBefore: 'false' };

  function restored(own: Journal | undefined, old: Journal): ReturnType<typeof fold> {
    return fold(own, { type: 'restored', journal: old }, SIGHT, policy(), at(30));
  }

  test('comes back with its interruptions', () => {
    const result = restored(undefined, marked);
    expect(result.verdict).toBe('recorded');
    expect(result.journal?.live).toEqual(before.live);
  });

  test('does not claim marks that the new Node never bore', () => {
    expect(restored(undefined, marked).journal).toMatchObject({
      cordonedByUs: undefined,
      labelledByUs: undefined,
      labelBefore: undefined,
    });
  });

  test('makes a settled node drain again, for pods may have come to the new one', () => {
    expect(restored(undefined, { ...marked, state: 'settled' }).journal?.state).toBe('draining');
  });

  test('joins what was recorded on the new Node already', () => {
    const own = folded(undefined, eventChange(rebalance(20)), at(21));
    const result = restored(own, marked);
    expect(result.verdict).toBe('recorded');
    expect(result.journal?.live.map(({ id }) => id).toSorted()).toEqual([
      'hook/token-1',
      'rebalance',
      'spot-interruption',
    ]);
  });

  test('brings nothing back that the new Node was told is cancelled', () => {
    const old = journalOf([eventChange(scheduledChange(0))]);
    const own = journalOf([eventChange(scheduledChange(20, { status: 'closed' }))]);
    expect(restored(own, old).journal?.live).toEqual([]);
  });

  test('knows what was put off on the old Node, whatever the new one was told again', () => {
    const later = scheduledChange(20, { startAt: at(9 * 86_400) });
    const old = journalOf([eventChange(later)]);
    const own = journalOf([eventChange(scheduledChange(0))]);
    expect(restored(own, old).journal?.live).toMatchObject([{ deadlineAt: later.startAt }]);
  });

  test('adds nothing to a journal that knows all of it', () => {
    expect(restored(before, marked)).toEqual({ journal: before, verdict: 'duplicate' });
  });

  test('is of no use to another machine', () => {
    const other = { ...marked, machine: { ...marked.machine, systemUUID: 'another' } };
    expect(restored(undefined, other)).toEqual({ journal: undefined, verdict: 'stale' });
  });
});
