import { describe, expect, it } from 'vitest';
import { parse } from '../../src/events/parse.ts';
import {
  capacityBlockExpiry,
  capacityReservationInterruption,
  directHook,
  launchHook,
  rebalance,
  scheduledChange,
  spotNotice,
  stateChange,
  terminateHook,
  testNotification,
  viaTopic,
} from './messages.ts';

const instanceId = 'i-0123456789abcdef0';
const time = Date.parse('2026-11-22T18:45:10Z');
const later = time + 3_600_000;
const hook = { instanceId, time, group: 'workers', hook: 'drain', token: 'a-token' };

const parsed = (message: object) => parse(JSON.stringify(message), { sentAt: time });

describe('the messages that tests send', () => {
  it.each([
    ['spot-interruption', spotNotice({ instanceId, time }), { instanceId, action: 'terminate' }],
    ['spot-interruption', spotNotice({ instanceId, time, action: 'stop' }), { action: 'stop' }],
    ['rebalance-recommendation', rebalance({ instanceId, time }), { instanceId }],
    ['state-change', stateChange({ instanceId, time, state: 'stopping' }), { state: 'stopping' }],
    ['terminate-hook', terminateHook(hook), { instanceId, group: 'workers', token: 'a-token' }],
    ['terminate-hook', directHook(hook), { instanceId, hook: 'drain', token: 'a-token' }],
    ['launch-hook', directHook({ ...hook, transition: 'LAUNCHING' }), { instanceId }],
    ['launch-hook', launchHook({ ...hook, destination: 'WarmPool' }), { destination: 'WarmPool' }],
    [
      'scheduled-change',
      scheduledChange({ instanceIds: [instanceId], time, startTime: later }),
      { instanceId, change: 'retirement', startAt: later, status: 'upcoming' },
    ],
    [
      'capacity-reservation-interruption',
      capacityReservationInterruption({ instanceId, time, terminationTime: later }),
      { instanceId },
    ],
    [
      'capacity-block-expiry',
      capacityBlockExpiry({ reservationId: 'cr-0123456789abcdef0', time, endTime: later }),
      {},
    ],
    ['spot-interruption', viaTopic(spotNotice({ instanceId, time })), { instanceId }],
    ['terminate-hook', viaTopic(directHook(hook)), { instanceId }],
  ])('read as a %s without a warning', (kind, message, fields) => {
    expect(parsed(message)).toMatchObject({
      outcome: 'events',
      events: [{ kind, time, account: '123456789012', ...fields }],
      warnings: [],
    });
  });

  it('name every instance of a scheduled change', () => {
    const other = 'i-00000000000000001';
    const message = scheduledChange({ instanceIds: [instanceId, other], time, startTime: later });
    expect(parsed(message)).toMatchObject({
      outcome: 'events',
      events: [{ instanceId }, { instanceId: other }],
    });
  });

  it('mean nothing where they are tests of AWS itself', () => {
    expect(parsed(testNotification('workers'))).toMatchObject({ outcome: 'not-ours' });
  });
});
