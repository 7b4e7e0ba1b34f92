import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CATALOGUE } from '../../src/events/catalogue.ts';
import type { Event, Parsed } from '../../src/events/event.ts';
import { parse } from '../../src/events/parse.ts';
import {
  anyBody,
  anyMessage,
  anyValue,
  bodies,
  isBranch,
  isFields,
  read,
  type Json,
} from './arbitraries.ts';
import { inSns, SENT_AT } from './fixtures.ts';

const context = { sentAt: SENT_AT };

const valid = bodies.filter(({ body }) => parse(body, context).outcome === 'events');

/** What everything behind the parser relies on, whatever was parsed. */
function faultsOf(parsed: Parsed): string[] {
  if (parsed.outcome === 'not-ours') return parsed.detail.length > 700 ? ['long detail'] : [];
  if (parsed.outcome === 'malformed') return parsed.reason.length > 700 ? ['long reason'] : [];
  const faults = parsed.events.flatMap(faultsOfEvent);
  if (parsed.events.length === 0) faults.push('no event');
  if (parsed.warnings.length > 10) faults.push('more than ten warnings');
  if (parsed.warnings.some((warning) => warning.length > 900)) faults.push('long warning');
  const instances = parsed.events.map((event) => ('instanceId' in event ? event.instanceId : ''));
  if (new Set(instances).size < instances.length) faults.push('an instance twice');
  return faults;
}

function faultsOfEvent(event: Event): string[] {
  const faults: string[] = [];
  const id = 'instanceId' in event ? event.instanceId : event.reservationId;
  if (!/^(i-([0-9a-f]{8}|[0-9a-f]{17})|cr-[0-9a-z]{1,60})$/.test(id)) faults.push(`id ${id}`);
  if (event.time > SENT_AT) faults.push('issued after it was sent');
  if (event.kind === 'scheduled-change' && event.lastUpdatedAt > SENT_AT)
    faults.push('updated later');
  for (const [field, value] of Object.entries(event)) {
    if (typeof value === 'number' && !Number.isSafeInteger(value))
      faults.push(`${field}: ${value}`);
    if (typeof value !== 'string') continue;
    if (value.length === 0 || value.length > 400 || !value.isWellFormed()) faults.push(field);
    if (value.includes('\0')) faults.push(`NUL in ${field}`);
  }
  return faults;
}

describe('whatever stands in a message', () => {
  test('parsing never throws, and what comes out is sound', () => {
    fc.assert(
      fc.property(anyBody, (body) => {
        expect(faultsOf(parse(body, context))).toEqual([]);
      }),
      { numRuns: 1_500 },
    );
  });

  test('the same text and time give the same result, whatever was parsed in between', () => {
    fc.assert(
      fc.property(anyBody, anyBody, fc.integer(), (body, other, sentAt) => {
        const first = parse(body, { sentAt });
        parse(other, context);
        expect(parse(body, { sentAt })).toEqual(first);
      }),
      { numRuns: 500 },
    );
  });

  test('an SNS envelope around it changes nothing', () => {
    fc.assert(
      fc.property(anyMessage, (message) => {
        const body = JSON.stringify(message);
        expect(parse(inSns(body), context)).toEqual(parse(body, context));
      }),
      { numRuns: 500 },
    );
  });

  test('among the arbitrary messages all outcomes occur, and all kinds of event', () => {
    const seen = new Set<string>();
    for (const body of fc.sample(anyBody, { numRuns: 2_000, seed: 1 })) {
      const parsed = parse(body, context);
      seen.add(parsed.outcome === 'not-ours' ? parsed.reason : parsed.outcome);
      if (parsed.outcome === 'events') for (const event of parsed.events) seen.add(event.kind);
    }
    const kinds = CATALOGUE.map(({ kind }) => kind);
    expect([...seen].toSorted()).toEqual(
      [
        ...kinds,
        'events',
        'malformed',
        'no-instance',
        'not-ec2',
        'test-notification',
        'unknown-detail-type',
      ].toSorted(),
    );
  });
});

type Path = readonly string[];

function pathsOf(value: Json, path: Path = []): Path[] {
  if (!isBranch(value)) return [];
  return Object.entries(value).flatMap(([key, inner]) => [
    [...path, key],
    ...pathsOf(inner, [...path, key]),
  ]);
}

/** The value with another one at the path, or, for undefined, without the path. */
function withChange(value: Json, [key, ...rest]: Path, change: Json | undefined): Json {
  if (key === undefined || !isBranch(value)) return value;
  const entries = Object.entries(value).flatMap(([name, inner]): [string, Json][] => {
    if (name !== key) return [[name, inner]];
    if (rest.length > 0) return [[name, withChange(inner, rest, change)]];
    return change === undefined ? [] : [[name, change]];
  });
  if (Array.isArray(value)) return entries.map(([, inner]) => inner);
  return Object.fromEntries(entries);
}

// These say what a message is; another value there makes it another message.
const TELLING = ['detail-type', 'source', 'LifecycleTransition', 'service', 'eventTypeCategory'];

/** The fields of a fixture that may hold anything, and the event still is of its kind. */
const changeable = valid
  .filter(({ name }) => !name.startsWith('sns-'))
  .flatMap(({ name, body }) => {
    const message = read(body);
    return pathsOf(message)
      .filter((path) => !TELLING.includes(path.at(-1) ?? ''))
      .map((path) => ({ name, message, path }))
      .filter(({ path: changed }) => namesOf(withChange(message, changed, undefined)).length > 0);
  });

/** Instances, or capacity reservations, that the message still names where a parser looks for them. */
function namesOf(message: Json): string[] {
  if (!isFields(message)) return [];
  const { detail, resources, EC2InstanceId } = message;
  const text = JSON.stringify([
    EC2InstanceId,
    resources,
    isFields(detail)
      ? [
          detail['instance-id'],
          detail['EC2InstanceId'],
          detail['capacity-reservation-id'],
          detail['affectedEntities'],
        ]
      : [],
  ]);
  return text.match(/\bi-[0-9a-f]{17}|\bi-[0-9a-f]{8}|\bcr-[0-9a-z]+/g) ?? [];
}

/** Where, but for an instance's own field, instances are named. */
const NAMING = ['affectedEntities', 'resources'];

function subjectsOf(parsed: Parsed): string[] {
  if (parsed.outcome !== 'events') return [];
  return parsed.events.map((event) =>
    'instanceId' in event ? event.instanceId : event.reservationId,
  );
}

describe('one odd field in a valid message', () => {
  test('there are many to try', () => {
    expect(changeable.length).toBeGreaterThan(500);
    expect(new Set(changeable.map(({ name }) => name)).size).toBeGreaterThan(40);
  });

  test.each<{ name: string; value: Json | undefined }>([
    { name: 'nothing', value: undefined },
    { name: 'null', value: null },
    { name: 'true', value: true },
    { name: '-1', value: -1 },
    { name: 'an empty text', value: '' },
    { name: 'NUL', value: '\0' },
    { name: 'a lone surrogate', value: '\ud800' },
    { name: 'a long text', value: 'x'.repeat(2_000) },
    { name: 'an empty list', value: [] },
    { name: 'a list in a list', value: [[]] },
    { name: 'an empty object', value: {} },
    { name: 'a prototype', value: read('{"__proto__": {"instance-id": "i-0a1b2c3d"}}') },
  ])('$name instead of any value leaves events of the same instances', ({ value }) => {
    const failures = changeable.filter(({ message, path }) => {
      const odd = withChange(message, path, value);
      const parsed = parse(JSON.stringify(odd), context);
      if (parsed.outcome !== 'events' || faultsOf(parsed).length > 0) return true;
      const found = subjectsOf(parsed);
      // Elsewhere than where instances are named, they must be the very ones of before.
      return NAMING.some((key) => path.includes(key)) || path.join() === 'detail'
        ? !found.every((subject) => namesOf(odd).includes(subject))
        : found.join() !== subjectsOf(parse(JSON.stringify(message), context)).join();
    });
    expect(failures.map(({ name, path }) => `${name}: ${path.join('.')}`)).toEqual([]);
  });

  test('nor does any other value', () => {
    fc.assert(
      fc.property(fc.constantFrom(...changeable), anyValue, ({ message, path }, value) => {
        const parsed = parse(JSON.stringify(withChange(message, path, value)), context);
        expect(parsed.outcome).toBe('events');
        expect(faultsOf(parsed)).toEqual([]);
      }),
      { numRuns: 1_000 },
    );
  });
});
