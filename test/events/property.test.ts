import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CATALOGUE } from '../../src/events/catalogue.ts';
import type { Event, Parsed } from '../../src/events/event.ts';
import { parse } from '../../src/events/parse.ts';
import { fixture, fixtureNames, inSns, SENT_AT } from './fixtures.ts';
import { anyText } from './text.ts';

const context = { sentAt: SENT_AT };

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

function read(text: string): Json {
  const value: Json = JSON.parse(text);
  return value;
}

type Fields = { [key: string]: Json };

function isBranch(value: Json | undefined): value is Json[] | Fields {
  return typeof value === 'object' && value !== null;
}

function isFields(value: Json | undefined): value is Fields {
  return isBranch(value) && !Array.isArray(value);
}

const bodies = fixtureNames.map((name) => ({ name, body: fixture(name) }));
const valid = bodies.filter(({ body }) => parse(body, context).outcome === 'events');

// Values that the parsers know, in places where they may not belong.
const knownValue: fc.Arbitrary<Json> = fc.constantFrom<Json>(
  'i-0b662ef9931388ba0',
  'i-0a1b2c3d',
  'arn:aws:ec2:us-east-2b:instance/i-0b662ef9931388ba0',
  'cr-0a1b2c3d4e5f60718',
  'h-0c6ab6f38bdcb24f6',
  '123456789012',
  'terminate',
  'stopping',
  'EC2',
  'scheduledChange',
  'AWS_EC2_INSTANCE_STOP_SCHEDULED',
  'closed',
  '2026-11-20T10:00:00Z',
  'Fri, 04 Dec 2026 15:00:00 GMT',
  'autoscaling:EC2_INSTANCE_TERMINATING',
  'autoscaling:TEST_NOTIFICATION',
  '__proto__',
  'i-0b662ef9931388ba0\0',
  '\ud800',
);
const anyJson = fc.json().map(read);
const longText = fc.nat({ max: 500 }).map((length) => 'x'.repeat(length));
const anyValue: fc.Arbitrary<Json> = fc.oneof(knownValue, anyJson, anyText, longText);

const anyEntity = fc.oneof(
  anyValue,
  fc.dictionary(fc.constantFrom('entityValue', 'status', 'statusCode'), anyValue),
);
const anyDetail = fc.oneof(
  anyValue,
  fc.record(
    {
      'instance-id': anyValue,
      'instance-action': anyValue,
      'instance-termination-time': anyValue,
      state: anyValue,
      'capacity-reservation-id': anyValue,
      'end-date': anyValue,
      EC2InstanceId: anyValue,
      AutoScalingGroupName: anyValue,
      LifecycleHookName: anyValue,
      LifecycleActionToken: anyValue,
      Origin: anyValue,
      Destination: anyValue,
      service: anyValue,
      eventTypeCategory: anyValue,
      eventTypeCode: anyValue,
      eventArn: anyValue,
      affectedAccount: anyValue,
      startTime: anyValue,
      endTime: anyValue,
      lastUpdatedTime: anyValue,
      statusCode: anyValue,
      affectedEntities: fc.oneof(anyValue, fc.array(anyEntity)),
    },
    { requiredKeys: [] },
  ),
);
const anyMessage = fc.oneof(
  fc.record(
    {
      'detail-type': fc.oneof(
        fc.constantFrom(...CATALOGUE.flatMap((row) => row.detailTypes)),
        anyValue,
      ),
      source: fc.oneof(fc.constantFrom(...CATALOGUE.map((row) => row.source)), anyValue),
      id: anyValue,
      account: anyValue,
      time: anyValue,
      resources: fc.oneof(anyValue, fc.array(anyValue)),
      detail: anyDetail,
    },
    { requiredKeys: ['detail-type', 'detail'] },
  ),
  fc
    .tuple(anyDetail, fc.record({ LifecycleTransition: anyValue, Event: anyValue, Time: anyValue }))
    .map(([detail, more]) => (isFields(detail) ? { ...detail, ...more } : more)),
  fc.record({ Type: fc.constantFrom('Notification', 'Other'), Message: anyValue }),
);

function wrapped(body: string, times: number): string {
  return times === 0 ? body : inSns(wrapped(body, times - 1));
}

const anyBody = fc.oneof(
  anyText,
  fc.json(),
  fc
    .tuple(anyMessage, fc.nat({ max: 5 }))
    .map(([message, times]) => wrapped(JSON.stringify(message), times)),
  // A message cut off or garbled on its way.
  fc
    .tuple(fc.constantFrom(...bodies), fc.nat(), fc.nat(), anyText)
    .map(([{ body }, at, length, text]) => {
      const start = at % (body.length + 1);
      return body.slice(0, start) + text + body.slice(start + (length % 50));
    }),
);

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
