import { describe, expect, test } from 'vitest';
import { rowOf } from '../../src/events/catalogue.ts';
import { parse } from '../../src/events/parse.ts';
import { fixture, fixtureNames, SENT_AT } from '../events/fixtures.ts';
import { matchesPattern } from '../stand-ins/event-pattern.ts';
import { propertiesOf, resolvedStack, type Settings } from './stack.ts';
import { asObject, asText, type Json } from './template.ts';

/** The rules of the synthesized stack: their patterns, by the kind that their description names. */
function patternsOf(settings: Settings = {}): ReadonlyMap<string, Json> {
  const rules = Object.values(propertiesOf(resolvedStack(settings), 'AWS::Events::Rule'));
  return new Map(
    rules.map(({ Description: description, EventPattern: pattern }) => [
      asText(description ?? '').replace('node-termination-controller: ', ''),
      pattern ?? null,
    ]),
  );
}

function matching(patterns: ReadonlyMap<string, Json>, event: Json): string[] {
  return [...patterns].flatMap(([kind, pattern]) => (matchesPattern(pattern, event) ? [kind] : []));
}

/** Fixtures that EventBridge could carry, with the kind of their event where it asks for anything. */
const events = fixtureNames
  .filter((name) => name.endsWith('.json'))
  .map((name) => ({ name, event: JSON.parse(fixture(name)) as Json }))
  .filter(({ event }) => typeof event === 'object' && event !== null && 'detail-type' in event)
  .map(({ name, event }) => ({ name, event, kind: kindOf(name, asObject(event)) }));

function kindOf(name: string, { source, 'detail-type': detailType }: { [key: string]: Json }) {
  const kind = rowOf(asText(source ?? ''), asText(detailType ?? ''))?.kind;
  const parsed = parse(fixture(name), { sentAt: SENT_AT });
  // A rule cannot tell what only parsing shows.
  if (parsed.outcome === 'malformed') return kind;
  if (parsed.outcome === 'not-ours') return parsed.reason === 'no-instance' ? kind : undefined;
  const asks = parsed.events.some(
    (event) => event.kind !== 'state-change' || event.state !== 'pending',
  );
  return asks ? kind : undefined;
}

test('the fixtures have events of every kind, and others', () => {
  const kinds = new Set(events.map(({ kind }) => kind));
  expect(
    [...patternsOf().keys()].filter((kind) => ![...kinds].some((one) => one === kind)),
  ).toEqual([]);
  expect(events.filter(({ kind }) => kind === undefined).length).toBeGreaterThan(5);
});

describe('with every kind on', () => {
  const patterns = patternsOf();

  test.each(events)('$name matches the rule of its kind alone, or none', ({ event, kind }) => {
    expect(matching(patterns, event)).toEqual(kind === undefined ? [] : [kind]);
  });
});

describe.each(['launch-hook', 'state-change', 'scheduled-change'])('with %s off', (off) => {
  const patterns = patternsOf({ [off]: 'false' });

  test('its events match no rule, and all others the same as before', () => {
    for (const { event, kind } of events) {
      expect(matching(patterns, event)).toEqual(kind === undefined || kind === off ? [] : [kind]);
    }
  });
});

test('of state changes, those are let through that are acted on, and no other', () => {
  const states = ['pending', 'running', 'stopping', 'stopped', 'shutting-down', 'terminated'];
  const event = (state: string) => ({
    source: 'aws.ec2',
    'detail-type': 'EC2 Instance State-change Notification',
    detail: { 'instance-id': 'i-0123456789abcdef0', state },
  });
  const patterns = patternsOf();
  expect(states.filter((state) => matching(patterns, event(state)).length > 0)).toEqual(
    states.filter((state) => state !== 'pending'),
  );
});
