import { expect, test } from 'vitest';
import type { Event, Parsed } from '../../src/events/event.ts';
import { parse } from '../../src/events/parse.ts';
import { fixture, fixtureNames, SENT_AT } from './fixtures.ts';

const TIME = Date.parse('2026-11-20T10:00:00Z');
const instanceId = 'i-0b662ef9931388ba0';
const account = '123456789012';

function events(...found: readonly Event[]): Parsed {
  return { outcome: 'events', events: found, warnings: [] };
}

function spot(eventId: string, action: 'terminate' | 'stop' | 'hibernate'): Parsed {
  return events({ kind: 'spot-interruption', eventId, account, time: TIME, instanceId, action });
}

function state(eventId: string, now: Extract<Event, { kind: 'state-change' }>['state']): Parsed {
  return events({ kind: 'state-change', eventId, account, time: TIME, instanceId, state: now });
}

function hook(
  kind: 'terminate-hook' | 'launch-hook',
  eventId: string,
  way: { origin?: string; destination?: string; time?: number } = {},
): Parsed {
  return events({
    kind,
    eventId,
    account,
    time: way.time ?? TIME + 214,
    instanceId,
    group: 'eks-workers-a',
    hook: kind === 'terminate-hook' ? 'node-terminate' : 'node-launch',
    token: '71514b9d-6a40-4b26-8523-05e7ee35fa40',
    origin: way.origin,
    destination: way.destination,
  });
}

function capacityReservation(terminatesAt: number | undefined): Parsed {
  return events({
    kind: 'capacity-reservation-interruption',
    eventId: '12345678-1234-4234-9234-123456789012',
    account,
    time: TIME,
    instanceId,
    terminatesAt,
  });
}

function notOurs(
  reason: Extract<Parsed, { outcome: 'not-ours' }>['reason'],
  detail: string,
): Parsed {
  return { outcome: 'not-ours', reason, detail };
}

function malformed(reason: string): Parsed {
  return { outcome: 'malformed', reason };
}

const spotId = '1e5527d7-bb36-4607-3370-4164db56a40e';
const requestId = '5d858daa-5692-135e-98ca-ef04118c2ab5';
const autoScalingTime = TIME + 123;

// Scheduled changes have a table of their own.
const expected: Readonly<Record<string, Parsed>> = {
  'spot-interruption-terminate.json': spot(spotId, 'terminate'),
  'spot-interruption-stop.json': spot('2f6638e8-cc47-5718-4481-5275ec67b51f', 'stop'),
  'spot-interruption-hibernate.json': spot('3a7749f9-dd58-6829-5592-6386fd78c62a', 'hibernate'),
  'spot-interruption-short-id-in-china.json': events({
    kind: 'spot-interruption',
    eventId: '4b885a0a-ee69-793a-66a3-74970e89d73b',
    account,
    time: TIME,
    instanceId: 'i-0a1b2c3d',
    action: 'terminate',
  }),
  'rebalance-recommendation.json': events({
    kind: 'rebalance-recommendation',
    eventId: '5d5555d5-dd55-5555-5555-5555dd55d55d',
    account,
    time: TIME,
    instanceId,
  }),
  'state-change-pending.json': state('0bf73129-1428-4cd3-a780-95db273d1602', 'pending'),
  'state-change-running.json': state('1bf73129-1428-4cd3-a780-95db273d1602', 'running'),
  'state-change-stopping.json': state('2bf73129-1428-4cd3-a780-95db273d1602', 'stopping'),
  'state-change-stopped.json': state('3bf73129-1428-4cd3-a780-95db273d1602', 'stopped'),
  'state-change-shutting-down.json': state('4bf73129-1428-4cd3-a780-95db273d1602', 'shutting-down'),
  'state-change-terminated.json': state('5bf73129-1428-4cd3-a780-95db273d1602', 'terminated'),
  'terminate-hook.json': hook('terminate-hook', '468fe059-f4b7-445f-bb22-2a271b94974d', {
    origin: 'AutoScalingGroup',
    destination: 'EC2',
  }),
  'terminate-hook-without-origin.json': hook(
    'terminate-hook',
    '579af16a-05c8-556a-cc33-3b382ca5a85e',
  ),
  'terminate-hook-to-warm-pool.json': hook(
    'terminate-hook',
    '68ab027b-16d9-667b-dd44-4c493db6b96f',
    { origin: 'AutoScalingGroup', destination: 'WarmPool' },
  ),
  'terminate-hook-direct.json': hook('terminate-hook', requestId, { time: autoScalingTime }),
  'terminate-hook-direct-with-metadata.json': hook('terminate-hook', requestId, {
    time: autoScalingTime,
    origin: 'AutoScalingGroup',
    destination: 'EC2',
  }),
  'launch-hook.json': hook('launch-hook', '79bc138c-27ea-778c-ee55-5d5a4ec7ca70', {
    origin: 'EC2',
    destination: 'AutoScalingGroup',
  }),
  'launch-hook-to-warm-pool.json': hook('launch-hook', '8acd249d-38fb-889d-ff66-6e6b5fd8db81', {
    origin: 'EC2',
    destination: 'WarmPool',
  }),
  'launch-hook-from-warm-pool.json': hook('launch-hook', '9bde35ae-490c-99ae-0077-7f7c60e9ec92', {
    origin: 'WarmPool',
    destination: 'AutoScalingGroup',
  }),
  'launch-hook-direct.json': hook('launch-hook', requestId, { time: autoScalingTime }),
  'capacity-reservation-interruption.json': capacityReservation(TIME + 150_000),
  'capacity-reservation-interruption-interruptible.json': capacityReservation(TIME + 150_000),
  'capacity-reservation-interruption-without-time.json': capacityReservation(undefined),
  'capacity-block-expiry.json': events({
    kind: 'capacity-block-expiry',
    eventId: '23456789-2345-4345-a345-234567890123',
    account,
    time: TIME,
    reservationId: 'cr-0a1b2c3d4e5f60718',
    endsAt: TIME + 2_400_000,
  }),

  'sns-spot-interruption.json': spot(spotId, 'terminate'),
  'sns-twice-spot-interruption.json': spot(spotId, 'terminate'),
  'sns-terminate-hook-direct.json': hook('terminate-hook', requestId, { time: autoScalingTime }),

  'test-notification.json': notOurs('test-notification', 'of a lifecycle hook'),
  'test-notification-as-transition.json': notOurs('test-notification', 'of a lifecycle hook'),
  'sns-test-notification.json': notOurs('test-notification', 'of a lifecycle hook'),
  'auto-scaling-notification-terminate.json': notOurs(
    'unknown-detail-type',
    "'autoscaling:EC2_INSTANCE_TERMINATE'",
  ),
  'capacity-block-delivered.json': notOurs(
    'unknown-detail-type',
    "'Capacity Block Reservation Delivered' of 'aws.ec2'",
  ),
  'unknown-detail-type.json': notOurs(
    'unknown-detail-type',
    "'EBS Volume Notification' of 'aws.ec2'",
  ),
  'unknown-source.json': notOurs(
    'unknown-detail-type',
    "'EC2 Spot Instance Interruption Warning' of 'com.example.drill'",
  ),
  'health-abuse.json': notOurs('unknown-detail-type', "'AWS Health Abuse Event' of 'aws.health'"),
  'health-issue.json': notOurs('unknown-detail-type', "AWS Health Event of category 'issue'"),
  'health-notification.json': notOurs(
    'unknown-detail-type',
    "AWS Health Event of category 'accountNotification'",
  ),
  'health-other-service.json': notOurs('not-ec2', "service 'RDS'"),
  'health-public-scheduled-change.json': notOurs(
    'no-instance',
    'AWS_EC2_SYSTEM_REBOOT_MAINTENANCE_SCHEDULED',
  ),
  'scheduled-change-host-alone.json': notOurs(
    'no-instance',
    'AWS_EC2_DEDICATED_HOST_RETIREMENT_SCHEDULED',
  ),

  'malformed-empty.txt': malformed('not JSON'),
  'malformed-not-json.txt': malformed('not JSON'),
  'malformed-truncated.txt': malformed('not JSON'),
  'malformed-list-of-events.json': malformed('not a JSON object'),
  'malformed-without-wrapper.json': malformed(
    'no event: neither detail-type nor LifecycleTransition, nor an SNS envelope',
  ),
  'malformed-without-instance.json': malformed(
    'neither the detail nor the resources name an instance',
  ),
  'malformed-without-reservation.json': malformed(
    'neither the detail nor the resources name a capacity reservation',
  ),
  'sns-subscription-confirmation.json': malformed(
    "an SNS message that carries no event: Type 'SubscriptionConfirmation'",
  ),
  'sns-plain-text.json': malformed('not JSON'),
};

test.each(Object.keys(expected))('%s is read in full', (name) => {
  const parsed = parse(fixture(name), { sentAt: SENT_AT });
  expect(withoutQuote(parsed)).toEqual(expected[name]);
});

/** Without what the JSON parser says beyond that it is not JSON. */
function withoutQuote(parsed: Parsed): Parsed {
  if (parsed.outcome !== 'malformed') return parsed;
  return { ...parsed, reason: parsed.reason.replace(/^not JSON: '.*'$/, 'not JSON') };
}

test('every fixture has its place in this table, or as a scheduled change in the other', () => {
  const elsewhere = fixtureNames.filter((name) => !Object.hasOwn(expected, name));
  expect(elsewhere.filter((name) => !name.startsWith('scheduled-change-'))).toEqual([]);
  expect(Object.keys(expected).filter((name) => !fixtureNames.includes(name))).toEqual([]);
});
