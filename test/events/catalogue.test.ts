import { expect, test } from 'vitest';
import { CATALOGUE, rowOf, rowOfTransition } from '../../src/events/catalogue.ts';
import type { EventKind } from '../../src/events/event.ts';

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
