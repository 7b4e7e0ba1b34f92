import { describe, expect, test } from 'vitest';
import type { Parsed } from '../../src/events/event.ts';
import { parse } from '../../src/events/parse.ts';
import { fixture, SENT_AT } from './fixtures.ts';

const INSTANCE = 'i-0b662ef9931388ba0';

/** The fixture's message with other values; undefined takes a field away. */
function altered(
  name: string,
  fields: Readonly<Record<string, unknown>>,
  detail: Readonly<Record<string, unknown>> = {},
): Parsed {
  const message: unknown = JSON.parse(fixture(name), (key, value: unknown) =>
    key === 'detail' && typeof value === 'object' ? { ...value, ...detail } : value,
  );
  if (typeof message !== 'object') throw new Error(`${name} is no object`);
  return parse(JSON.stringify({ ...message, ...fields }), { sentAt: SENT_AT });
}

function firstOf(parsed: Parsed) {
  if (parsed.outcome !== 'events') throw new Error(`not events: ${JSON.stringify(parsed)}`);
  return { event: parsed.events[0], warnings: parsed.warnings };
}

describe('an unknown value gets the harshest known meaning, and a warning', () => {
  test.each([
    ['explode', "instance-action 'explode' is not understood: taken as terminate"],
    ['TERMINATE', "instance-action 'TERMINATE' is not understood: taken as terminate"],
    [undefined, 'instance-action is missing: taken as terminate'],
    [null, 'instance-action is missing: taken as terminate'],
    [7, 'instance-action 7 is not understood: taken as terminate'],
    [['stop'], 'instance-action […] is not understood: taken as terminate'],
    [{ stop: 1 }, 'instance-action {…} is not understood: taken as terminate'],
  ])('a spot notice of action %j terminates', (action, warning) => {
    const { event, warnings } = firstOf(
      altered('spot-interruption-stop.json', {}, { 'instance-action': action }),
    );
    expect(event).toMatchObject({ kind: 'spot-interruption', action: 'terminate' });
    expect(warnings).toEqual([warning]);
  });

  test.each([['rebooting'], [''], [undefined], [3], [{}]])(
    'an instance in state %j is taken as stopping: drained, until it is seen running',
    (state) => {
      const { event, warnings } = firstOf(altered('state-change-running.json', {}, { state }));
      expect(event).toMatchObject({
        kind: 'state-change',
        state: 'stopping',
        instanceId: INSTANCE,
      });
      expect(warnings).toEqual([expect.stringMatching(/^state .*: taken as stopping$/)]);
    },
  );

  test.each([
    ['AutoScalingGroupName', 'a'.repeat(256)],
    ['AutoScalingGroupName', undefined],
    ['LifecycleHookName', ''],
    ['LifecycleHookName', 'drain\0'],
    ['LifecycleHookName', 'drain\ud800'],
    ['LifecycleActionToken', 'a'.repeat(65)],
    ['LifecycleActionToken', null],
    ['LifecycleActionToken', 42],
  ])(
    'a terminate hook with %s %j cannot be completed: the instance is shutting down',
    (field, value) => {
      const { event, warnings } = firstOf(altered('terminate-hook.json', {}, { [field]: value }));
      expect(event).toEqual({
        kind: 'state-change',
        state: 'shutting-down',
        instanceId: INSTANCE,
        eventId: '468fe059-f4b7-445f-bb22-2a271b94974d',
        account: '123456789012',
        time: Date.parse('2026-11-20T10:00:00.214Z'),
      });
      expect(warnings).toContain(
        'group, hook or token is missing: taken as instance state shutting-down',
      );
    },
  );

  test('the same of a notification straight from Auto Scaling', () => {
    const parsed = altered('terminate-hook-direct.json', { LifecycleActionToken: undefined });
    expect(firstOf(parsed).event).toMatchObject({ kind: 'state-change', state: 'shutting-down' });
  });

  test('a launch hook that cannot be completed says only that the instance is pending', () => {
    const parsed = altered('launch-hook.json', {}, { LifecycleHookName: undefined });
    expect(firstOf(parsed).event).toMatchObject({ kind: 'state-change', state: 'pending' });
  });

  test('names as long as Auto Scaling allows, in any script, are taken as they are', () => {
    const names = {
      AutoScalingGroupName: '群'.repeat(255),
      LifecycleHookName: 'h/'.repeat(127),
      LifecycleActionToken: 't'.repeat(64),
    };
    expect(firstOf(altered('terminate-hook.json', {}, names))).toMatchObject({
      event: {
        kind: 'terminate-hook',
        group: names.AutoScalingGroupName,
        hook: names.LifecycleHookName,
        token: names.LifecycleActionToken,
      },
      warnings: [],
    });
  });

  test.each([
    ['Origin', { origin: undefined, destination: 'EC2' }],
    ['Destination', { origin: 'AutoScalingGroup', destination: undefined }],
  ])('%s of another type is left out, with a warning', (field, rest) => {
    const { event, warnings } = firstOf(altered('terminate-hook.json', {}, { [field]: ['EC2'] }));
    expect(event).toMatchObject({ kind: 'terminate-hook', ...rest });
    expect(warnings).toEqual([`${field} […] is not understood: ignored`]);
  });

  test.each([['soon'], [1795168950], [{}]])(
    'a capacity reservation that ends at %j ends at an unknown time',
    (time) => {
      const { event, warnings } = firstOf(
        altered(
          'capacity-reservation-interruption.json',
          {},
          { 'instance-termination-time': time },
        ),
      );
      expect(event).toMatchObject({ instanceId: INSTANCE, terminatesAt: undefined });
      expect(warnings).toHaveLength(1);
    },
  );

  test('a reservation is found among the resources where the detail does not name it', () => {
    const parsed = altered('capacity-block-expiry.json', {}, { 'capacity-reservation-id': 7 });
    expect(firstOf(parsed).event).toMatchObject({ reservationId: 'cr-0a1b2c3d4e5f60718' });
  });
});

describe('the time of an event', () => {
  test.each([[undefined], [''], ['yesterday'], ['2026-02-30T00:00:00Z'], [1795168800], [[]]])(
    '%j is taken as the time of sending, with a warning',
    (time) => {
      const { event, warnings } = firstOf(altered('spot-interruption-terminate.json', { time }));
      expect(event?.time).toBe(SENT_AT);
      expect(warnings).toEqual([expect.stringMatching(/^time .*: taken as the time of sending$/)]);
    },
  );

  test.each([
    ['2026-11-20T10:00:02.001Z', 0],
    ['2026-11-20T10:01:02Z', 0],
    ['2026-11-20T10:01:03Z', 1],
    ['2099-01-01T00:00:00Z', 1],
  ])(
    '%s, after the sending, is the time of sending, warned of if clocks do not explain it',
    (time, warned) => {
      const { event, warnings } = firstOf(altered('spot-interruption-terminate.json', { time }));
      expect(event?.time).toBe(SENT_AT);
      expect(warnings).toHaveLength(warned);
    },
  );

  test('is kept however old it is', () => {
    const parsed = altered('spot-interruption-terminate.json', { time: '1970-01-01T00:00:00Z' });
    expect(firstOf(parsed)).toMatchObject({ event: { time: 0 }, warnings: [] });
  });
});

describe('the envelope', () => {
  test.each([
    [undefined, undefined, 0],
    ['', undefined, 0],
    ['12345678901', undefined, 1],
    [123456789012, undefined, 1],
    ['000000000012', '000000000012', 0],
  ])('account %j is %j', (value, account, warned) => {
    const { event, warnings } = firstOf(
      altered('spot-interruption-terminate.json', { account: value }),
    );
    expect(event?.account).toBe(account);
    expect(warnings).toHaveLength(warned);
  });

  test.each([[undefined], ['x'.repeat(129)], [7], ['\u0007']])('id %j is left out', (id) => {
    expect(firstOf(altered('spot-interruption-terminate.json', { id })).event).toMatchObject({
      eventId: undefined,
      instanceId: INSTANCE,
    });
  });

  test.each([[undefined], [null], ['text'], [7], [[]]])(
    'where detail is %j the instance is found among the resources',
    (detail) => {
      const { event } = firstOf(altered('spot-interruption-stop.json', { detail }));
      expect(event).toMatchObject({
        kind: 'spot-interruption',
        instanceId: INSTANCE,
        action: 'terminate',
      });
    },
  );

  test.each([
    [`arn:aws:ec2:us-east-2:123456789012:instance/${INSTANCE}`],
    [INSTANCE],
    [[INSTANCE]],
    [[null, 7, {}, 'arn:aws:ec2:us-east-2:123456789012:volume/vol-01234567', INSTANCE]],
  ])('resources may be %j', (resources) => {
    const { event } = firstOf(
      altered('rebalance-recommendation.json', { resources }, { 'instance-id': undefined }),
    );
    expect(event).toMatchObject({ instanceId: INSTANCE });
  });

  test('the detail rules over the resources', () => {
    const { event } = firstOf(
      altered('rebalance-recommendation.json', { resources: ['i-0a1b2c3d'] }),
    );
    expect(event).toMatchObject({ instanceId: INSTANCE });
  });

  test.each([[undefined], [null], [7]])('without a source (%j) the detail-type tells', (source) => {
    expect(firstOf(altered('rebalance-recommendation.json', { source })).event).toMatchObject({
      kind: 'rebalance-recommendation',
    });
  });

  test.each([['aws.health'], ['com.example'], ['AWS.EC2'], [' aws.ec2']])(
    'the same detail-type of source %j is not ours',
    (source) => {
      expect(altered('rebalance-recommendation.json', { source })).toMatchObject({
        outcome: 'not-ours',
        reason: 'unknown-detail-type',
      });
    },
  );

  test.each([['__proto__'], ['constructor'], ['toString'], ['']])(
    'detail-type %j is not ours',
    (detailType) => {
      expect(altered('rebalance-recommendation.json', { 'detail-type': detailType })).toMatchObject(
        {
          outcome: 'not-ours',
          reason: 'unknown-detail-type',
        },
      );
    },
  );
});

test('ten warnings tell enough', () => {
  const affectedEntities = Array.from({ length: 100 }, (_, index) => ({
    entityValue: `h-${index}`,
  }));
  const { warnings } = firstOf(
    altered('scheduled-change-stop.json', {}, { affectedEntities: [...affectedEntities] }),
  );
  expect(warnings).toHaveLength(10);
});
