import { expect, test } from 'vitest';
import { CATALOGUE, rowOf, rowOfTransition } from '../../src/events/catalogue.ts';
import type { EventKind } from '../../src/events/event.ts';
import { parse } from '../../src/events/parse.ts';
import { fixture, fixtureNames, SENT_AT } from './fixtures.ts';

// A type, so that a kind without a row is an error of the compiler.
const kinds: Readonly<Record<EventKind, true>> = {
  'spot-interruption': true,
  'rebalance-recommendation': true,
  'state-change': true,
  'terminate-hook': true,
  'launch-hook': true,
  'scheduled-change': true,
  'capacity-reservation-interruption': true,
  'capacity-block-expiry': true,
};

test('every kind of event has one row', () => {
  expect(CATALOGUE.map(({ kind }) => kind).toSorted()).toEqual(Object.keys(kinds).toSorted());
});

test('no two rows claim the same event', () => {
  const detailTypes = CATALOGUE.flatMap((row) => row.detailTypes);
  const transitions = CATALOGUE.flatMap((row) => row.transition ?? []);
  expect(new Set(detailTypes).size).toBe(detailTypes.length);
  expect(new Set(transitions).size).toBe(transitions.length);
});

test.each(CATALOGUE)('$kind is found by its source and detail-types', (row) => {
  expect(row.detailTypes).not.toEqual([]);
  for (const detailType of row.detailTypes) {
    expect(rowOf(row.source, detailType)).toBe(row);
    expect(rowOf(undefined, detailType)).toBe(row);
    expect(rowOf('com.example', detailType)).toBeUndefined();
  }
});

test('the hooks, and they alone, are found by their transition', () => {
  const byTransition = CATALOGUE.map(({ transition }) => rowOfTransition(transition ?? '')?.kind);
  expect(byTransition.filter((kind) => kind !== undefined)).toEqual([
    'terminate-hook',
    'launch-hook',
  ]);
});

type Envelope = Readonly<{
  source: string;
  'detail-type': string;
  detail: Readonly<Record<string, unknown>>;
}>;

function isEnvelope(message: unknown): message is Envelope {
  return typeof message === 'object' && message !== null && 'detail-type' in message;
}

const envelopes = fixtureNames
  .filter((name) => name.endsWith('.json'))
  .map((name) => ({ name, message: JSON.parse(fixture(name)) as unknown }))
  .filter((found): found is { name: string; message: Envelope } => isEnvelope(found.message));

/** Whether the rule made of some row would send the event. */
function isSent({ source, 'detail-type': detailType, detail }: Envelope): boolean {
  const row = rowOf(source, detailType);
  if (row === undefined) return false;
  return Object.entries(row.rulePattern ?? {}).every(([field, values]) =>
    values.some((value) => value === detail[field]),
  );
}

/** Whether the event asks for anything; a rule cannot tell what only parsing shows. */
function asksForSomething(name: string): boolean {
  const parsed = parse(fixture(name), { sentAt: SENT_AT });
  if (parsed.outcome === 'malformed') return true;
  if (parsed.outcome === 'not-ours') return parsed.reason === 'no-instance';
  return parsed.events.some((event) => event.kind !== 'state-change' || event.state !== 'pending');
}

test.each(envelopes)(
  'a rule sends $name if and only if it asks for something',
  ({ name, message }) => {
    expect(isSent(message)).toBe(asksForSomething(name));
  },
);
