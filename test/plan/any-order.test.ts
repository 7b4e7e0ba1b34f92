import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { strongestCall } from '../../src/plan/calls.ts';
import { planOf } from '../../src/plan/deadline.ts';
import type { NodeEvent } from '../../src/plan/interruption.ts';
import { MAX_TOLD, type Journal } from '../../src/plan/journal.ts';
import { fold, type Change, type Verdict } from '../../src/plan/merge.ts';
import type { Sight } from '../../src/plan/over.ts';
import {
  at,
  capacity,
  eventChange,
  policy,
  rebalance,
  scheduledChange,
  SIGHT,
  spot,
  stateChange,
  terminateHook,
} from './samples.ts';

const DAY = 86_400;
const START = 3 * DAY;

type Told = { journal: Journal | undefined; verdicts: readonly Verdict[] };

function tell(
  events: readonly NodeEvent[],
  now = at(300),
  before?: Journal,
  sight: Sight = SIGHT,
): Told {
  let journal = before;
  const verdicts = events.map((event) => {
    const folded = fold(journal, eventChange(event), sight, policy(), now);
    ({ journal } = folded);
    return folded.verdict;
  });
  return { journal, verdicts };
}

/** All that any order must agree on. */
function outcomeOf({ journal }: Told) {
  if (journal === undefined) return undefined;
  return {
    state: journal.state,
    plan: planOf(journal, policy(), undefined),
    call: strongestCall(journal.live, policy()),
    live: journal.live
      .map(({ id, time, deadlineAt, change }) => ({
        id,
        time,
        deadlineAt,
        startAt: change?.startAt,
        updatedAt: change?.updatedAt,
      }))
      .toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    signs: journal.signs,
  };
}

const version = (
  updated: number,
  startDays: number,
  changes: Partial<ReturnType<typeof scheduledChange>> = {},
) =>
  scheduledChange(updated, {
    lastUpdatedAt: at(updated),
    startAt: at(startDays * DAY),
    endAt: at(startDays * DAY + 7200),
    ...changes,
  });

/** Each version is told of once or more, always in the same words. */
const versions = fc
  .array(
    fc.record({
      updated: fc.integer({ min: 0, max: 250 }),
      days: fc.integer({ min: 3, max: 6 }),
      closed: fc.boolean(),
    }),
    { maxLength: 5 },
  )
  .map((rows) => {
    const updates = [...new Set(rows.map(({ updated }) => updated))].toSorted((a, b) => a - b);
    return updates.map((updated, i) =>
      version(updated, rows[i]?.days ?? 6, {
        change: 'retirement',
        ...(rows[i]?.closed === true && { status: 'closed' }),
      }),
    );
  });

const others = fc.array(
  fc.oneof(
    fc.integer({ min: 0, max: 119 }).map((seconds) => spot(seconds)),
    fc.integer({ min: 0, max: 119 }).map((seconds) => spot(seconds, { action: 'stop' })),
    fc.integer({ min: 0, max: 119 }).map((seconds) => rebalance(seconds)),
    fc.integer({ min: 0, max: 29 }).map((seconds) => stateChange('stopping', seconds)),
    fc.constantFrom(stateChange('stopped', 40), stateChange('stopped', 200)),
    // Nothing comes after it.
    fc.constant(stateChange('terminated', 290)),
    fc.constantFrom(
      stateChange('running', 30),
      stateChange('running', 120),
      stateChange('running', 280),
    ),
    fc.constantFrom('a', 'b').map((token) => terminateHook(10, { token })),
    fc.constantFrom('c', 'd').map((token) => terminateHook(10, { token, destination: 'WarmPool' })),
    fc.integer({ min: 120, max: 290 }).map((end) => capacity(10, { terminatesAt: at(end) })),
  ),
  { maxLength: 6 },
);

describe('news in any order', () => {
  test('of one change end in the same plan: the latest counts', () => {
    fc.assert(
      fc.property(
        versions.chain((told) =>
          fc.tuple(
            fc.constant(told),
            fc.shuffledSubarray([...told, ...told], { minLength: told.length * 2 }),
          ),
        ),
        ([told, shuffled]) => {
          expect(outcomeOf(tell(shuffled))).toEqual(outcomeOf(tell(told)));
        },
      ),
      { numRuns: 500 },
    );
  });

  test('of all kinds end in the same plan', () => {
    fc.assert(
      fc.property(
        fc.tuple(versions, others).chain(([a, b]) => {
          const told: readonly NodeEvent[] = [...a, ...b];
          return fc.tuple(
            fc.constant(told),
            fc.shuffledSubarray([...told, ...told], { minLength: told.length * 2 }),
          );
        }),
        ([told, shuffled]) => {
          expect(outcomeOf(tell(shuffled))).toEqual(outcomeOf(tell(told)));
        },
      ),
      { numRuns: 1000 },
    );
  });

  test.each<[string, readonly NodeEvent[], readonly Verdict[], number]>([
    ['told twice', [version(0, 3), version(0, 3)], ['recorded', 'duplicate'], 1],
    ['put off', [version(0, 3), version(60, 5)], ['recorded', 'recorded'], 1],
    ['put off, told late', [version(60, 5), version(0, 3)], ['recorded', 'stale'], 1],
    [
      'cancelled',
      [version(0, 3), version(60, 3, { status: 'closed' })],
      ['recorded', 'recorded'],
      0,
    ],
    [
      'cancelled before it was known',
      [version(60, 3, { status: 'closed' }), version(0, 3)],
      ['recorded', 'stale'],
      0,
    ],
    [
      'cancelled, and scheduled again',
      [version(0, 3), version(60, 3, { status: 'closed' }), version(90, 4)],
      ['recorded', 'recorded', 'recorded'],
      1,
    ],
    [
      "told by the backup region's copy, a moment later",
      [version(0, 3), { ...version(0, 3), time: at(5), eventId: 'copy' }],
      ['recorded', 'duplicate'],
      1,
    ],
    [
      'of two instances of one event, each by itself',
      [version(0, 3), version(0, 3, { eventArn: 'another' })],
      ['recorded', 'recorded'],
      2,
    ],
  ])('a change that is %s', (_, events, verdicts, live) => {
    const told = tell(events);
    expect(told.verdicts).toEqual(verdicts);
    expect(told.journal?.live).toHaveLength(live);
  });
});

describe('a change that the machine has been through', () => {
  const rebooted: Sight = { ...SIGHT, bootId: 'boot-2' };
  const done = fold(
    tell([version(0, 3)]).journal,
    { type: 'mended' },
    rebooted,
    policy(),
    at(START + 60),
  ).journal;
  const later = (event: NodeEvent) => tell([event], at(START + 120), done, rebooted);

  test.each<[string, NodeEvent, number]>([
    ['the same news', version(0, 3), 0],
    ['a new word on the same start', version(START + 90, 3), 0],
    ['a new word on an earlier start', version(START + 90, 2), 0],
    ['a later start', version(START + 90, 9), 1],
    ['a later start, long superseded', version(-60, 9), 0],
  ])('is reopened by %s or not', (_, event, live) => {
    expect(later(event).journal?.live).toHaveLength(live);
  });

  test('is not reopened by what was put off and then brought back', () => {
    const news = [version(START + 90, 9), version(START + 100, 3)];
    for (const order of [news, news.toReversed()]) {
      expect(tell(order, at(START + 120), done, rebooted).journal?.live).toEqual([]);
    }
  });
});

describe('a machine that was started', () => {
  const retirement = (updated: number, days: number, status: 'upcoming' | 'closed' = 'upcoming') =>
    version(updated, days, { change: 'retirement', status });

  test.each<[string, readonly NodeEvent[], number]>([
    ['told of before', [retirement(10, 3)], 0],
    ['told of before, and again since', [retirement(10, 3), retirement(100, 3)], 0],
    [
      'cancelled twice, before and since, and scheduled again',
      [retirement(10, 3, 'closed'), retirement(100, 3, 'closed'), retirement(120, 3)],
      0,
    ],
    ['brought forward since', [retirement(10, 9), retirement(100, 3)], 0],
    [
      'put off since, and brought back',
      [retirement(10, 3), retirement(100, 9), retirement(120, 3)],
      0,
    ],
    ['put off since', [retirement(10, 3), retirement(100, 9)], 1],
    ['put off before', [retirement(10, 3), retirement(20, 9)], 0],
    ['told of since', [retirement(100, 3)], 1],
  ])('is past the retirement %s or not, in whatever order the news come', (_, news, live) => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray([...news, stateChange('running', 50)], { minLength: news.length + 1 }),
        (events) => {
          expect(tell(events).journal?.live).toHaveLength(live);
        },
      ),
    );
  });
});

test('of a change that is put off again and again, the latest starts are kept', () => {
  const news = Array.from({ length: MAX_TOLD + 2 }, (_, i) => version(i * 10, i + 3));
  for (const order of [news, news.toReversed()]) {
    const [change] = tell(order).journal?.live ?? [];
    expect(change?.time).toBe(news.at(-1)?.time);
    expect(change?.change?.told.map(({ startAt }) => startAt)).toEqual(
      news.slice(-MAX_TOLD).map(({ startAt }) => startAt),
    );
  }
});

describe('whatever is told', () => {
  const interrupting = fc.oneof(
    fc.integer({ min: 0, max: 119 }).map((seconds) => spot(seconds)),
    fc.integer({ min: 0, max: 119 }).map((seconds) => rebalance(seconds)),
    fc.integer({ min: 0, max: 29 }).map((seconds) => stateChange('shutting-down', seconds)),
    fc.constantFrom('a', 'b', 'e').map((token) => terminateHook(10, { token })),
    fc.constantFrom('x', 'y').map((eventArn) => version(0, 3, { eventArn })),
    fc.integer({ min: 120, max: 290 }).map((end) => capacity(10, { terminatesAt: at(end) })),
  );

  test('the plan never loosens without news that cancel or put off', () => {
    const deadlines = (journal: Journal | undefined) =>
      new Map(journal?.live.map(({ id, deadlineAt }) => [id, deadlineAt ?? Infinity]));
    fc.assert(
      fc.property(fc.array(interrupting, { maxLength: 12 }), (events) => {
        let journal: Journal | undefined;
        for (const event of events) {
          const before = journal;
          ({ journal } = tell([event], at(100), before));
          const now = deadlines(journal);
          for (const [id, deadlineAt] of deadlines(before)) {
            expect(now.get(id)).toBeLessThanOrEqual(deadlineAt);
          }
        }
      }),
    );
  });

  test('no hook is lost, until it is completed or its machine is back from the pool', () => {
    const anything = fc.oneof(
      interrupting,
      others.filter((events) => events.length > 0).map((events) => events[0] ?? spot()),
      versions.filter((events) => events.length > 0).map((events) => events[0] ?? spot()),
    );
    fc.assert(
      fc.property(fc.array(anything, { maxLength: 20 }), (events) => {
        const { journal } = tell(events);
        const startedAt = journal?.signs.runningAt ?? -Infinity;
        const expected = events.flatMap((event) => {
          if (event.kind !== 'terminate-hook') return [];
          const isBack = event.destination === 'WarmPool' && startedAt > event.time;
          return isBack ? [] : [event.token];
        });
        const tokens = journal?.live.flatMap(({ hook }) => hook?.token ?? []) ?? [];
        expect(new Set(tokens)).toEqual(new Set(expected));
      }),
    );
  });

  test('a machine that came back is not hurt by old news, in whatever order and number', () => {
    const goesAndReturns = fc.oneof(
      fc.integer({ min: 0, max: 300 }).map((seconds) => spot(seconds, { action: 'stop' })),
      fc.integer({ min: 0, max: 300 }).map((seconds) => spot(seconds, { action: 'hibernate' })),
      fc.integer({ min: 0, max: 300 }).map((seconds) => rebalance(seconds)),
      fc.integer({ min: 0, max: 300 }).map((seconds) => stateChange('stopping', seconds)),
      fc.integer({ min: 0, max: 300 }).map((seconds) => stateChange('stopped', seconds)),
      fc.integer({ min: 0, max: 300 }).map((seconds) => stateChange('running', seconds)),
      fc
        .tuple(
          fc.integer({ min: 0, max: 300 }),
          fc.constantFrom('reboot', 'stop', 'retirement'),
          fc.constantFrom('x', 'y'),
        )
        .map(([updated, change, eventArn]) =>
          scheduledChange(updated, {
            change,
            eventArn,
            startAt: at(900),
            lastUpdatedAt: at(updated),
          }),
        ),
      fc
        .constantFrom('a', 'b')
        .map((token) => terminateHook(10, { token, destination: 'WarmPool' })),
    );
    fc.assert(
      fc.property(
        fc.array(goesAndReturns, { maxLength: 10 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        (history, replays) => {
          const before = tell(history, at(301)).journal;
          const back: Sight = { ...SIGHT, bootId: 'boot-2', readySince: at(1000) };
          const changes: Change[] = [
            eventChange(stateChange('running', 990)),
            { type: 'alive', at: at(1001) },
          ];
          let journal = changes.reduce<Journal | undefined>(
            (known, change) => fold(known, change, back, policy(), at(1002)).journal,
            before,
          );
          expect(journal?.live).toEqual([]);
          const old = replays.flatMap((i) => history[i % Math.max(1, history.length)] ?? []);
          for (const event of old) {
            ({ journal } = fold(journal, eventChange(event), back, policy(), at(1100)));
            expect(journal?.live).toEqual([]);
            expect(journal?.state).toBe('undone');
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});
