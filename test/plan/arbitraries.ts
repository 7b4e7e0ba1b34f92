import * as fc from 'fast-check';
import type { EndedInterruption, Interruption } from '../../src/plan/interruption.ts';
import { JOURNAL_STATES, MAX_TOLD, type Journal } from '../../src/plan/journal.ts';
import type { Taint } from '../../src/plan/node.ts';
import { isRow, ROWS } from '../../src/plan/rows.ts';

/** Any moment that a journal may hold. */
const time = fc.integer({ min: 0, max: 8.64e15 });

/** Cheaper than whole planes of Unicode, with characters of one to four bytes. */
const unit = fc.constantFrom('a', 'b', '-', '/', '"', 'é', '語', '😀');
const name = fc.string({ minLength: 1, maxLength: 30, unit });

/**
 * Without what JSON escapes: Node 24.21's JSON.parse takes such a key for another of its length once
 * it has read an object that has that one in the same place, however deep in the text.
 */
const key = fc.string({ maxLength: 8 }).map((text) => text.replaceAll(/["\\]/g, '_'));

/** JSON, as flat as what is kept. */
const { value } = fc.letrec<{ value: fc.JsonValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, depthIdentifier: 'json', withCrossShrink: true },
    fc.jsonValue({ maxDepth: 0 }),
    fc.array(tie('value'), { depthIdentifier: 'json' }),
    fc.dictionary(key, tie('value'), { depthIdentifier: 'json', noNullPrototype: true }),
  ),
}));

function isFree(known: readonly string[]): (key: string) => boolean {
  return (key) => !known.includes(key) && key !== '__proto__';
}

function unknownBeside(...known: readonly string[]): fc.Arbitrary<Record<string, unknown>> {
  const name = fc.oneof(key, fc.constantFrom('constructor', 'toString'));
  return fc
    .dictionary(name.filter(isFree(known)), value, { maxKeys: 2, noNullPrototype: true })
    .map((unknown) => JSON.parse(JSON.stringify(unknown)) as Record<string, unknown>);
}

const hook = fc.record({
  group: name,
  name,
  token: name,
  timeoutSeconds: fc.option(fc.integer({ min: 1, max: 172_800 }), { nil: undefined }),
  completedAt: fc.option(time, { nil: undefined }),
  unknown: unknownBeside('group', 'name', 'token', 'timeoutSeconds', 'completedAt'),
});

const telling = fc.record({
  startAt: fc.option(time, { nil: undefined }),
  time,
  unknown: unknownBeside('startAt', 'time'),
});

const change = fc.record({
  startAt: fc.option(time, { nil: undefined }),
  endAt: fc.option(time, { nil: undefined }),
  updatedAt: time,
  closed: fc.boolean(),
  doneUntil: fc.option(time, { nil: undefined }),
  told: fc.array(telling, { minLength: 1, maxLength: MAX_TOLD }),
  unknown: unknownBeside('startAt', 'endAt', 'updatedAt', 'closed', 'doneUntil', 'told'),
});

const interruptionFields = [
  'id',
  'row',
  'kind',
  'time',
  'recordedAt',
  'deadlineAt',
  'begunAt',
  'change',
  'hook',
];

const ROW_NAMES = Object.keys(ROWS).filter(isRow);

function interruptionWith(...known: readonly string[]): fc.Arbitrary<Interruption> {
  return fc
    .record({
      id: name,
      row: fc.constantFrom(...ROW_NAMES),
      time,
      recordedAt: time,
      deadlineAt: fc.option(time, { nil: undefined }),
      begunAt: fc.option(time, { nil: undefined }),
      change: fc.option(change, { nil: undefined }),
      hook: fc.option(hook, { nil: undefined }),
      unknown: unknownBeside(...interruptionFields, ...known),
    })
    .map((interruption) => ({ ...interruption, kind: ROWS[interruption.row].kind }));
}

const ended: fc.Arbitrary<EndedInterruption> = fc
  .tuple(interruptionWith('endedAt'), time)
  .map(([interruption, endedAt]) => ({ ...interruption, endedAt }));

/** Any journal of so many interruptions at most; one of many may be too long to be written. */
export function journals(maxLive: number, maxEnded: number): fc.Arbitrary<Journal> {
  return fc.record({
    machine: fc.record({
      instanceId: name,
      systemUUID: fc.string({ maxLength: 36 }),
      bootId: fc.string({ maxLength: 36 }),
      unknown: unknownBeside('instanceId', 'systemUUID', 'bootId'),
    }),
    state: fc.constantFrom(...JOURNAL_STATES),
    cordonedByUs: fc.option(fc.boolean(), { nil: undefined }),
    labelledByUs: fc.option(fc.boolean(), { nil: undefined }),
    labelBefore: fc.option(fc.string({ maxLength: 63 }), { nil: undefined }),
    settledAt: fc.option(time, { nil: undefined }),
    notBeforeAt: fc.option(time, { nil: undefined }),
    signs: fc.record({
      runningAt: fc.option(time, { nil: undefined }),
      leftPoolAt: fc.option(time, { nil: undefined }),
      aliveAt: fc.option(time, { nil: undefined }),
      stopped: fc.option(
        fc.record({ state: fc.constantFrom('stopped' as const, 'terminated' as const), at: time }),
        { nil: undefined },
      ),
      outOfServiceByUs: fc.boolean(),
    }),
    live: fc.array(interruptionWith(), { maxLength: maxLive }),
    ended: fc.array(ended, { maxLength: maxEnded }),
    unknown: unknownBeside(
      'version',
      'machine',
      'state',
      'cordonedByUs',
      'labelledByUs',
      'labelBefore',
      'settledAt',
      'notBeforeAt',
      'runningAt',
      'leftPoolAt',
      'aliveAt',
      'stoppedAt',
      'terminatedAt',
      'outOfServiceByUs',
      'interruptions',
      'ended',
    ),
  });
}

/** Taints of others. */
export const foreignTaints: fc.Arbitrary<readonly Taint[]> = fc.array(
  fc.record(
    {
      key: fc.constantFrom(
        'nvidia.com/gpu',
        'node.kubernetes.io/unschedulable',
        'node.kubernetes.io/not-ready',
        'dedicated',
      ),
      value: fc.constantFrom('', 'true', 'team-a'),
      effect: fc.constantFrom('NoSchedule', 'NoExecute', 'PreferNoSchedule'),
      timeAdded: fc.constant('2026-03-01T11:00:00Z'),
    },
    { requiredKeys: ['key', 'effect'] },
  ),
  { maxLength: 5 },
);
