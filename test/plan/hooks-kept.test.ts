import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planOf } from '../../src/plan/deadline.ts';
import { MAX_LIVE, readJournal, writeJournal, type Journal } from '../../src/plan/journal.ts';
import { fold, type Change, type Verdict } from '../../src/plan/merge.ts';
import {
  at,
  capacity,
  capacityBlock,
  eventChange,
  policy,
  rebalance,
  scheduledChange,
  SIGHT,
  spot,
  stateChange,
  terminateHook,
} from './samples.ts';

const TOKENS = ['a', 'b', 'c', 'd'];
const seconds = fc.integer({ min: 0, max: 7200 });
const token = fc.constantFrom(...TOKENS);

/** Anything that can be written into a journal, but what undoes a warm pool's hook. */
const change: fc.Arbitrary<Change> = fc.oneof(
  fc
    .tuple(seconds, token)
    .map(([time, one]) => eventChange(terminateHook(time, { token: one, hook: `hook-${one}` }))),
  seconds.map((time) => eventChange(spot(time))),
  seconds.map((time) => eventChange(spot(time, { action: 'stop' }))),
  seconds.map((time) => eventChange(rebalance(time))),
  seconds.map((time) => eventChange(capacity(time))),
  seconds.map((time) => eventChange(capacityBlock(time))),
  fc
    .tuple(seconds, fc.constantFrom('open', 'upcoming', 'closed'))
    .map(([time, status]) => eventChange(scheduledChange(time, { status }))),
  fc
    .tuple(
      seconds,
      fc.constantFrom('running', 'stopping', 'stopped', 'shutting-down', 'terminated'),
    )
    .map(([time, state]) => eventChange(stateChange(state, time))),
  fc.tuple(token, fc.integer({ min: 30, max: 7200 })).map(([one, timeoutSeconds]): Change => ({
    type: 'hook-described',
    token: one,
    timeoutSeconds,
  })),
  token.map((one): Change => ({ type: 'hook-completed', token: one })),
  fc
    .subarray(['spot-interruption', 'rebalance', ...TOKENS.map((one) => `hook/${one}`)])
    .map((asOf): Change => ({ type: 'settled', asOf })),
  seconds.map((time): Change => ({ type: 'alive', at: at(time) })),
  fc.constant<Change>({ type: 'mended' }),
);

type Step = Readonly<{ change: Change; afterSeconds: number }>;

const history: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.record({ change, afterSeconds: fc.integer({ min: 0, max: 600 }) }),
  { maxLength: 30 },
);

function openTokens(journal: Journal | undefined): string[] {
  return (journal?.live ?? []).flatMap(({ hook }) =>
    hook !== undefined && hook.completedAt === undefined ? [hook.token] : [],
  );
}

type Visit = (journal: Journal | undefined, made: Change, verdict: Verdict) => void;

/** The journal after each step, written to a Node and read again. */
function play(steps: readonly Step[], visit: Visit): void {
  let journal: Journal | undefined;
  let now = at(0);
  for (const step of steps) {
    now += step.afterSeconds * 1000;
    const folded = fold(journal, step.change, SIGHT, policy(), now);
    ({ journal } = folded);
    if (journal !== undefined) {
      const read = readJournal(writeJournal(journal));
      journal = read.outcome === 'read' ? read.journal : undefined;
    }
    visit(journal, step.change, folded.verdict);
  }
}

describe('no hook is ever lost', () => {
  test('in whatever history: what was recorded waits until it is completed', () => {
    fc.assert(
      fc.property(history, (steps) => {
        const expected = new Set<string>();
        const completed = new Set<string>();
        play(steps, (journal, made, verdict) => {
          const event = made.type === 'event' ? made.event : undefined;
          const isRecorded = verdict === 'recorded';
          if (event?.kind === 'terminate-hook' && isRecorded && !completed.has(event.token)) {
            expected.add(event.token);
          }
          if (made.type === 'hook-completed' && expected.has(made.token)) completed.add(made.token);
          if (made.type === 'hook-completed') expected.delete(made.token);
          expect(new Set(openTokens(journal))).toEqual(expected);
        });
      }),
      { numRuns: 1000 },
    );
  });

  test('however many there are, the oldest that are completed give way first', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: MAX_LIVE - 1 }), (completed) => {
        const hooks = Array.from({ length: MAX_LIVE + completed }, (_, i) =>
          eventChange(terminateHook(i, { token: `t${i}`, hook: `h${i}` })),
        );
        const done = Array.from({ length: completed }, (_, i): Change => ({
          type: 'hook-completed',
          token: `t${i}`,
        }));
        const steps = [...hooks.slice(0, MAX_LIVE), ...done, ...hooks.slice(MAX_LIVE)];
        let last: Journal | undefined;
        play(
          steps.map((one) => ({ change: one, afterSeconds: 0 })),
          (journal) => {
            last = journal;
          },
        );
        expect(openTokens(last)).toHaveLength(MAX_LIVE);
      }),
      { numRuns: 20 },
    );
  });

  test('a hook that waits keeps the node in its plan', () => {
    fc.assert(
      fc.property(history, (steps) => {
        play(steps, (journal) => {
          if (journal === undefined || openTokens(journal).length === 0) return;
          expect(planOf(journal, policy(), undefined)).toBeDefined();
          expect(['draining', 'settled', 'stopped']).toContain(journal.state);
        });
      }),
      { numRuns: 500 },
    );
  });
});
