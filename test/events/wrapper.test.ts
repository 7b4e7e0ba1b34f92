import { describe, expect, test } from 'vitest';
import { parse } from '../../src/events/parse.ts';
import { fixture, inSns, SENT_AT } from './fixtures.ts';

const context = { sentAt: SENT_AT };
const spot = fixture('spot-interruption-terminate.json');

function wrapped(body: string, times: number): string {
  return times === 0 ? body : inSns(wrapped(body, times - 1));
}

describe('SNS around an event', () => {
  test.each([1, 2, 3])('%i deep changes nothing', (times) => {
    expect(parse(wrapped(spot, times), context)).toEqual(parse(spot, context));
  });

  test.each([4, 5, 10])('%i deep is malformed', (times) => {
    expect(parse(wrapped(spot, times), context)).toEqual({
      outcome: 'malformed',
      reason: 'more than 3 SNS envelopes, one in the other',
    });
  });

  test.each([[{}], [7], [null], [undefined], [[spot]]])(
    'with %j for a message is malformed',
    (message) => {
      const body = JSON.stringify({ Type: 'Notification', Message: message });
      expect(parse(body, context)).toEqual({
        outcome: 'malformed',
        reason: "an SNS message that carries no event: Type 'Notification'",
      });
    },
  );

  test('a subscription that waits to be confirmed is malformed: its URL must not be deleted', () => {
    expect(parse(fixture('sns-subscription-confirmation.json'), context).outcome).toBe('malformed');
  });
});

describe('a notification of Auto Scaling', () => {
  const hook = fixture('terminate-hook-direct.json');

  test.each([[5], [null], [{}]])('of transition %j is malformed', (transition) => {
    const body = hook.replace('"autoscaling:EC2_INSTANCE_TERMINATING"', JSON.stringify(transition));
    expect(parse(body, context).outcome).toBe('malformed');
  });

  test.each(['autoscaling:EC2_INSTANCE_MOVING', '__proto__', ''])(
    'of transition "%s" is not ours',
    (transition) => {
      expect(
        parse(hook.replace('autoscaling:EC2_INSTANCE_TERMINATING', transition), context),
      ).toEqual({
        outcome: 'not-ours',
        reason: 'unknown-detail-type',
        detail: `'${transition}'`,
      });
    },
  );

  test('without an instance is malformed', () => {
    expect(parse(hook.replace('EC2InstanceId', 'InstanceId'), context)).toMatchObject({
      outcome: 'malformed',
    });
  });
});

describe('harmless', () => {
  const megabyte = 'x'.repeat(1_000_000);

  test.each([
    ['a text longer than SQS takes', `"${megabyte}${megabyte}"`],
    ['lists in lists', '['.repeat(200_000) + ']'.repeat(200_000)],
    ['objects in objects', '{"detail":'.repeat(50_000) + '1' + '}'.repeat(50_000)],
    ['lists without an end', '['.repeat(1_000_000)],
    ['NUL', '\0'],
    ['NUL around an event', `\0${spot}\0`],
    ['a byte order mark', `\ufeff${spot}`],
    ['a lone surrogate', '"\ud800'],
    ['null', 'null'],
    ['a number', '1e999'],
    ['a text', JSON.stringify(spot)],
    ['spaces', '   \n'],
  ])('%s is malformed', (_, body) => {
    expect(parse(body, context)).toMatchObject({ outcome: 'malformed' });
  });

  test('a large message is read', () => {
    const body = spot.replace('"version": "0"', `"version": "${'0'.repeat(250_000)}"`);
    expect(parse(body, context)).toEqual(parse(spot, context));
  });

  test('a value nested deeper than a recursion can follow is one more unknown value', () => {
    const deep = '['.repeat(100_000) + ']'.repeat(100_000);
    expect(parse(spot.replace('"terminate"', deep), context)).toMatchObject({
      outcome: 'events',
      warnings: ['instance-action […] is not understood: taken as terminate'],
    });
  });

  test('keys that would reach a prototype reach none', () => {
    const poison = '"__proto__": {"instance-id": "i-0a1b2c3d", "detail-type": "x", "polluted": 1}';
    const body = spot.replaceAll(
      '{',
      `{ ${poison}, "constructor": {"prototype": {"polluted": 1}},`,
    );
    expect(parse(body, context)).toEqual(parse(spot, context));
    expect(Reflect.get({}, 'polluted')).toBeUndefined();
  });

  test('an instance ID that only a prototype holds is none', () => {
    const body = `{"detail-type": "EC2 Instance Rebalance Recommendation", "source": "aws.ec2",
      "detail": {"__proto__": {"instance-id": "i-0a1b2c3d"}}}`;
    expect(parse(body, context).outcome).toBe('malformed');
  });

  test('of a key that occurs twice the last one counts', () => {
    const body = spot.replace('"instance-action"', '"instance-action": "stop", "instance-action"');
    expect(parse(body, context)).toEqual(parse(spot, context));
  });
});
