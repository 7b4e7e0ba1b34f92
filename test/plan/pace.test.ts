import { describe, expect, test } from 'vitest';
import type { Interruption } from '../../src/plan/interruption.ts';
import type { Journal } from '../../src/plan/journal.ts';
import { limitOf, TURN_MS, turnsOf } from '../../src/plan/pace.ts';
import type { Policy } from '../../src/plan/policy.ts';
import { at, interruption, journal, policy } from './samples.ts';

const HOUR = 3600;
const DAY = 24 * HOUR;

function rebalanced(changes: Partial<Interruption> = {}): Interruption {
  return interruption({
    id: 'rebalance',
    row: 'rebalance',
    kind: 'rebalance',
    deadlineAt: undefined,
    ...changes,
  });
}

function maintained(
  row: 'reboot' | 'retirement',
  startSeconds: number,
  changes: Partial<Interruption> = {},
): Interruption {
  return interruption({
    id: `change/${row}`,
    row,
    kind: 'scheduled-change',
    deadlineAt: at(startSeconds),
    ...changes,
  });
}

function waiting(live: readonly Interruption[], changes: Partial<Journal> = {}): Journal {
  return journal({ state: 'waiting', live, ...changes });
}

function turns(
  nodes: Readonly<Record<string, Journal>>,
  limit: number,
  now = at(10),
  rules: Partial<Policy> = {},
  passedOver: readonly string[] = [],
) {
  const { begin, nextAt } = turnsOf(
    new Map(Object.entries(nodes)),
    limit,
    policy(rules),
    now,
    new Set(passedOver),
  );
  return { names: begin.map(({ name }) => name).toSorted(), begin, nextAt };
}

describe('the limit', () => {
  test.each([
    [{ nodes: 3 }, 100, 3],
    [{ percent: 10 }, 100, 10],
    [{ percent: 10 }, 109, 10],
    [{ percent: 10 }, 9, 1],
    [{ percent: 100 }, 7, 7],
    [{ percent: 1 }, 0, 1],
  ])('of %j of %i nodes is %i', (limit, nodes, expected) => {
    expect(limitOf(limit, nodes)).toBe(expected);
  });
});

describe('whose turn it is', () => {
  test('the oldest first, as many as there are slots', () => {
    const nodes = {
      young: waiting([rebalanced({ recordedAt: at(5) })]),
      old: waiting([rebalanced({ recordedAt: at(1) })]),
      middle: waiting([rebalanced({ recordedAt: at(3) })]),
    };
    expect(turns(nodes, 2).names).toEqual(['middle', 'old']);
    expect(turns(nodes, 1).names).toEqual(['old']);
    expect(turns(nodes, 9).names).toEqual(['middle', 'old', 'young']);
  });

  test('nobody while the slots are taken', () => {
    const nodes = {
      drained: journal({ state: 'draining', live: [rebalanced({ begunAt: at(1) })] }),
      next: waiting([rebalanced()]),
    };
    expect(turns(nodes, 1)).toMatchObject({ names: [], nextAt: Infinity });
    expect(turns(nodes, 2).names).toEqual(['next']);
  });

  test('a node that is passed over keeps the slot it has, and gets no turn for more', () => {
    const nodes = {
      drained: journal({
        state: 'draining',
        live: [rebalanced({ begunAt: at(1) }), maintained('retirement', 9 * DAY)],
      }),
      next: waiting([rebalanced()]),
    };
    expect(turns(nodes, 1, at(10), {}, ['drained']).names).toEqual([]);
    expect(turns(nodes, 2, at(10), {}, ['drained']).names).toEqual(['next']);
  });

  test('a node that is passed over takes no free slot from the next', () => {
    const nodes = {
      oldest: waiting([rebalanced({ recordedAt: at(1) })]),
      next: waiting([rebalanced({ recordedAt: at(2) })]),
      dueAtLast: waiting([maintained('reboot', 600)]),
    };
    expect(turns(nodes, 1, at(10), {}, ['oldest', 'dueAtLast']).names).toEqual(['next']);
  });

  test('a drained node keeps its slot until it is gone, where it has no deadline', () => {
    const nodes = {
      drained: journal({
        state: 'settled',
        settledAt: at(2),
        live: [rebalanced({ begunAt: at(1) })],
      }),
      next: waiting([rebalanced()]),
    };
    expect(turns(nodes, 1, at(20 * HOUR)).names).toEqual([]);
  });

  test('with a deadline it gives it up after 15 minutes', () => {
    const nodes = {
      drained: journal({
        state: 'settled',
        settledAt: at(2),
        live: [maintained('retirement', 30 * DAY, { begunAt: at(1) })],
      }),
      next: waiting([rebalanced()]),
    };
    expect(turns(nodes, 1)).toMatchObject({ names: [], nextAt: at(2) + TURN_MS });
    expect(turns(nodes, 1, at(2) + TURN_MS).names).toEqual(['next']);
  });

  test('an emergency lifts its node out: it takes no slot', () => {
    const nodes = {
      urgent: journal({
        state: 'draining',
        live: [rebalanced({ begunAt: at(1) }), interruption()],
      }),
      next: waiting([rebalanced()]),
    };
    expect(turns(nodes, 1).names).toEqual(['next']);
  });

  test('a machine that is off takes none either', () => {
    const nodes = {
      off: journal({ state: 'stopped', live: [rebalanced({ begunAt: at(1) })] }),
      next: waiting([rebalanced()]),
    };
    expect(turns(nodes, 1).names).toEqual(['next']);
  });

  test('a retirement is due at once, a reboot at its lead', () => {
    const start = 10 * DAY;
    expect(turns({ a: waiting([maintained('retirement', start)]) }, 1).names).toEqual(['a']);
    const reboot = { a: waiting([maintained('reboot', start)]) };
    expect(turns(reboot, 1)).toMatchObject({ names: [], nextAt: at(start - HOUR) });
    expect(turns(reboot, 1, at(start - HOUR)).names).toEqual(['a']);
    expect(
      turns(reboot, 1, at(start - 2 * HOUR), { scheduledChangeLeadMs: 2 * HOUR * 1000 }).names,
    ).toEqual(['a']);
  });

  test('one first seen after its start is due at once, and has no last call', () => {
    const late = maintained('reboot', 0, { deadlineAt: undefined });
    expect(turns({ a: waiting([late]) }, 1).names).toEqual(['a']);
    const full = {
      a: waiting([late]),
      b: journal({ state: 'draining', live: [rebalanced({ begunAt: at(1) })] }),
    };
    expect(turns(full, 1, at(9 * DAY))).toMatchObject({ names: [], nextAt: Infinity });
  });

  test('from its last call on, half an hour before its deadline, whatever the limit', () => {
    const start = 10 * DAY;
    const nodes = {
      full: journal({ state: 'draining', live: [rebalanced({ begunAt: at(1) })] }),
      due: waiting([maintained('reboot', start)]),
    };
    expect(turns(nodes, 1, at(start - 1801))).toMatchObject({
      names: [],
      nextAt: at(start - 1800),
    });
    expect(turns(nodes, 1, at(start - 1800)).names).toEqual(['due']);
  });

  test('a lead shorter than that is the last call', () => {
    const start = 10 * DAY;
    const nodes = {
      full: journal({ state: 'draining', live: [rebalanced({ begunAt: at(1) })] }),
      due: waiting([maintained('reboot', start)]),
    };
    const rules = { scheduledChangeLeadMs: 60_000 };
    expect(turns(nodes, 1, at(start - 61), rules).names).toEqual([]);
    expect(turns(nodes, 1, at(start - 60), rules).names).toEqual(['due']);
  });

  test('nodes with a common start begin earlier, by as many turns as their groups need', () => {
    const start = 10 * DAY;
    const nodes = Object.fromEntries(
      Array.from({ length: 5 }, (_, i) => [`n${i}`, waiting([maintained('reboot', start)])]),
    );
    const opens = start - HOUR - 3 * 15 * 60;
    expect(turns(nodes, 2, at(opens - 1))).toMatchObject({ names: [], nextAt: at(opens) });
    expect(turns(nodes, 2, at(opens)).names).toEqual(['n0', 'n1']);
  });

  test('one that was put back waits until then, but for its last call', () => {
    const notBeforeAt = at(900);
    const nodes = { a: waiting([rebalanced()], { notBeforeAt }) };
    expect(turns(nodes, 1)).toMatchObject({ names: [], nextAt: notBeforeAt });
    expect(turns(nodes, 1, notBeforeAt).names).toEqual(['a']);
    const due = { a: waiting([maintained('reboot', 1000)], { notBeforeAt }) };
    expect(turns(due, 1).names).toEqual(['a']);
  });

  test('all that is due on a node begins with it, and nothing else', () => {
    const live = [rebalanced(), maintained('reboot', 10 * DAY), maintained('retirement', 9 * DAY)];
    expect(turns({ a: waiting(live) }, 1).begin).toEqual([
      { name: 'a', ids: ['rebalance', 'change/retirement'] },
    ]);
  });

  test('what comes due on a node that is being drained takes no further slot', () => {
    const live = [rebalanced({ begunAt: at(1) }), maintained('retirement', 9 * DAY)];
    expect(turns({ a: journal({ state: 'draining', live }) }, 1).begin).toEqual([
      { name: 'a', ids: ['change/retirement'] },
    ]);
  });

  test('what is not drained by policy waits for no slot, and what is ignored for nothing', () => {
    const nodes = {
      full: journal({
        state: 'draining',
        live: [maintained('retirement', 9 * DAY, { begunAt: at(1) })],
      }),
      next: waiting([rebalanced()]),
    };
    const { actions } = policy();
    const cordon = { actions: { ...actions, rebalance: 'cordon' } } as const;
    const ignore = { actions: { ...actions, rebalance: 'ignore' } } as const;
    expect(turns(nodes, 1, at(10), cordon).names).toEqual(['next']);
    expect(turns(nodes, 9, at(10), ignore).names).toEqual([]);
  });
});
