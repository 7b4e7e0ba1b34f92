import * as fc from 'fast-check';
import { CATALOGUE } from '../../src/events/catalogue.ts';
import { fixture, fixtureNames, inSns } from './fixtures.ts';
import { anyText } from './text.ts';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export function read(text: string): Json {
  const value: Json = JSON.parse(text);
  return value;
}

type Fields = { [key: string]: Json };

export function isBranch(value: Json | undefined): value is Json[] | Fields {
  return typeof value === 'object' && value !== null;
}

export function isFields(value: Json | undefined): value is Fields {
  return isBranch(value) && !Array.isArray(value);
}

export const bodies = fixtureNames.map((name) => ({ name, body: fixture(name) }));

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
export const anyValue: fc.Arbitrary<Json> = fc.oneof(knownValue, anyJson, anyText, longText);

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
export const anyMessage = fc.oneof(
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

/** Messages of all sorts: sound, garbled, forged, rubbish. */
export const anyBody = fc.oneof(
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
