import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { described, instanceIdIn, timeIn } from '../../src/events/field.ts';
import { anyText } from './text.ts';

describe('an instance ID', () => {
  test.each([
    ['i-0b662ef9931388ba0', 'i-0b662ef9931388ba0'],
    ['i-0a1b2c3d', 'i-0a1b2c3d'],
    ['arn:aws:ec2:us-east-2:123456789012:instance/i-0b662ef9931388ba0', 'i-0b662ef9931388ba0'],
    ['arn:aws:ec2:us-east-2b:instance/i-0b662ef9931388ba0', 'i-0b662ef9931388ba0'],
    ['arn:aws-cn:ec2:cn-north-1:123456789012:instance/i-0a1b2c3d', 'i-0a1b2c3d'],
    ['arn:aws-us-gov:ec2:us-gov-west-1:123456789012:instance/i-0a1b2c3d', 'i-0a1b2c3d'],
    ['arn:aws-iso-b:ec2:us-isob-east-1:123456789012:instance/i-0a1b2c3d', 'i-0a1b2c3d'],
    ['arn:aws-eusc:ec2:eusc-de-east-1:123456789012:instance/i-0a1b2c3d', 'i-0a1b2c3d'],
  ])('in %s is %s', (text, instanceId) => {
    expect(instanceIdIn(text)).toBe(instanceId);
  });

  test.each([
    [''],
    ['i-'],
    ['i-0b662ef9931388ba'],
    ['i-0b662ef9931388ba00'],
    ['i-0b662ef9931388bag'],
    ['I-0A1B2C3D'],
    [' i-0a1b2c3d'],
    ['i-0a1b2c3d\n'],
    ['i-0a1b2c3d i-0a1b2c3e'],
    ['mi-0a1b2c3d'],
    ['h-0a1b2c3d'],
    ['arn:aws:ec2:us-east-2:123456789012:volume/vol-0a1b2c3d'],
    ['arn:aws:ec2:us-east-2:123456789012:dedicated-host/h-0a1b2c3d'],
    ['arn:aws:ssm:us-east-2:123456789012:instance/i-0a1b2c3d'],
    ['arn:other:ec2:us-east-2:123456789012:instance/i-0a1b2c3d'],
    ['https://example.com/instance/i-0a1b2c3d'],
  ])('is not in %j', (text) => {
    expect(instanceIdIn(text)).toBeUndefined();
  });

  test('is not in a text that it would keep alive, far longer than any ARN', () => {
    const region = 'a'.repeat(1_000_000);
    expect(instanceIdIn(`arn:aws:ec2:${region}:instance/i-0a1b2c3d`)).toBeUndefined();
  });
});

describe('a time', () => {
  const NOON = Date.UTC(2026, 10, 20, 12);

  test.each([
    ['2026-11-20T12:00:00Z', NOON],
    ['2026-11-20T12:00:00.123Z', NOON + 123],
    ['2026-11-20T12:00:00.1Z', NOON + 100],
    ['2026-11-20T12:00:00.999999999Z', NOON + 999],
    ['2026-11-20t12:00:00z', NOON],
    ['2026-11-20 12:00:00Z', NOON],
    ['2026-11-20T12:00Z', NOON],
    ['2026-11-20T12:00:00', NOON],
    ['2026-11-20T12:00:00+00:00', NOON],
    ['2026-11-20T14:00:00+02:00', NOON],
    ['2026-11-20T06:30:00-0530', NOON],
    ['2024-02-29T00:00:00Z', Date.UTC(2024, 1, 29)],
    ['2016-12-31T23:59:60Z', Date.UTC(2017, 0, 1)],
    ['Fri, 20 Nov 2026 12:00:00 GMT', NOON],
    ['20 Nov 2026 12:00:00 GMT', NOON],
    ['Tue, 1 Dec 2026 22:00:00 GMT', Date.UTC(2026, 11, 1, 22)],
    ['Tue, 01 dec 2026 22:00:00 +0000', Date.UTC(2026, 11, 1, 22)],
    // A Sunday; so AWS's own example.
    ['Sat, 05 Jun 2016 15:10:09 GMT', Date.UTC(2016, 5, 5, 15, 10, 9)],
  ])('%s', (text, at) => {
    expect(timeIn(text)).toBe(at);
  });

  test.each([
    [''],
    ['now'],
    ['2026'],
    ['2026-11-20'],
    ['1763640000'],
    ['2026-02-30T12:00:00Z'],
    ['2025-02-29T12:00:00Z'],
    ['2026-13-01T12:00:00Z'],
    ['2026-00-01T12:00:00Z'],
    ['2026-11-00T12:00:00Z'],
    ['2026-11-20T24:00:00Z'],
    ['2026-11-20T12:60:00Z'],
    ['2026-11-20T12:00:61Z'],
    ['2026-11-20T12:00:00+24:00'],
    ['2026-11-20T12:00:00+00:60'],
    ['2026-11-20T12:00:00.Z'],
    ['0000-01-01T00:00:00Z'],
    ['0099-01-01T00:00:00Z'],
    ['1969-12-31T23:59:59Z'],
    ['+12026-11-20T12:00:00Z'],
    ['2026-11-20T12:00:00Z\n'],
    ['yyyy-mm-ddThh:mm:ssZ'],
    ['Fri, 31 Feb 2026 12:00:00 GMT'],
    ['Fri, 20 Foo 2026 12:00:00 GMT'],
    ['Fri, 20 Nov 2026 12:00:00 PST'],
    ['Fri, 20 Nov 2026'],
    ['Friday, 20-Nov-26 12:00:00 GMT'],
    ['٢٠٢٦-11-20T12:00:00Z'],
  ])('%j is none', (text) => {
    expect(timeIn(text)).toBeUndefined();
  });

  const anyTime = fc.date({
    min: new Date('1970-01-01T00:00:00Z'),
    max: new Date('9999-12-31T23:59:59Z'),
    noInvalidDate: true,
  });

  test('every time comes back from either way of writing it', () => {
    fc.assert(
      fc.property(anyTime, (date) => {
        expect(timeIn(date.toISOString())).toBe(date.getTime());
        expect(timeIn(date.toUTCString())).toBe(Math.floor(date.getTime() / 1000) * 1000);
      }),
    );
  });

  test('a day exists if and only if the calendar has it', () => {
    const digits = (max: number) => fc.integer({ min: 0, max });
    fc.assert(
      fc.property(
        fc.integer({ min: 1970, max: 2100 }),
        digits(13),
        digits(32),
        (year, month, day) => {
          const two = (value: number) => String(value).padStart(2, '0');
          const written = `${year}-${two(month)}-${two(day)}`;
          const date = new Date(Date.UTC(year, month - 1, day));
          const exists = date.toISOString().startsWith(written);
          expect(timeIn(`${written}T00:00:00Z`)).toBe(exists ? date.getTime() : undefined);
        },
      ),
    );
  });
});

test('whatever is described takes a short line without control characters or lone surrogates', () => {
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), anyText), (value) => {
      const text = described(value);
      expect(text.length).toBeLessThan(620);
      expect(text.split('').every((unit) => unit >= ' ')).toBe(true);
      expect(text.isWellFormed()).toBe(true);
    }),
  );
});
