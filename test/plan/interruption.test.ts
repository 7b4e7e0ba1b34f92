import { describe, expect, test } from 'vitest';
import { newsOf, roleOf, type Interruption, type NodeEvent } from '../../src/plan/interruption.ts';
import { INTERRUPTION_KINDS, isEmergency } from '../../src/plan/rows.ts';
import {
  at,
  capacity,
  INSTANCE,
  rebalance,
  scheduledChange,
  spot,
  stateChange,
  terminateHook,
} from './samples.ts';

function interruptionOf(event: NodeEvent, now: number): Interruption {
  const news = newsOf(event, now);
  if (news.about !== 'interruption') throw new Error(`of the machine: ${news.state}`);
  return news.interruption;
}

describe('what an event says of a node', () => {
  test.each([
    {
      name: 'a spot instance that is terminated goes two minutes after the notice',
      event: spot(0),
      expected: { id: 'spot-interruption', kind: 'spot-interruption', deadlineAt: at(120) },
    },
    {
      name: 'one that is stopped, too, but may come back',
      event: spot(0, { action: 'stop' }),
      expected: { row: 'spot-stop', kind: 'spot-interruption', deadlineAt: at(120) },
    },
    {
      name: 'hibernation begins with its notice, and is another thing than termination',
      event: spot(0, { action: 'hibernate' }),
      expected: { id: 'spot-hibernate', kind: 'spot-interruption', deadlineAt: at(0) },
    },
    {
      name: 'a capacity reservation names the moment itself',
      event: capacity(0, { terminatesAt: at(300) }),
      expected: { id: 'capacity-reservation', kind: 'capacity-reservation', deadlineAt: at(300) },
    },
    {
      name: 'and means two minutes where it does not',
      event: capacity(0),
      expected: { id: 'capacity-reservation', kind: 'capacity-reservation', deadlineAt: at(120) },
    },
    {
      name: 'a rebalance recommendation has no deadline',
      event: rebalance(0),
      expected: { id: 'rebalance', kind: 'rebalance', deadlineAt: undefined },
    },
    {
      name: 'a scheduled change goes at its start',
      event: scheduledChange(0, { startAt: at(9000) }),
      expected: { row: 'reboot', kind: 'scheduled-change', deadlineAt: at(9000) },
    },
    {
      name: 'one that is first seen after its start may go at any moment, or never',
      event: scheduledChange(0, { startAt: at(-60) }),
      expected: { row: 'reboot', kind: 'scheduled-change', deadlineAt: undefined },
    },
    {
      name: 'an instance that is being stopped has half a minute',
      event: stateChange('stopping'),
      expected: { row: 'stopping', kind: 'state-change', deadlineAt: at(30) },
    },
    {
      name: 'one that is being terminated, too',
      event: stateChange('shutting-down'),
      expected: { row: 'shutting-down', kind: 'state-change', deadlineAt: at(30) },
    },
    {
      name: 'a terminate hook to a warm pool is one that the machine comes back from',
      event: terminateHook(0, { destination: 'WarmPool' }),
      expected: { row: 'warm-pool-hook', kind: 'terminate-hook' },
    },
    {
      name: 'a terminate hook is told by its token, and has no deadline until it is described',
      event: terminateHook(0, { token: 'abc' }),
      expected: { id: 'hook/abc', kind: 'terminate-hook', deadlineAt: undefined },
    },
  ])('$name', ({ event, expected }) => {
    expect(interruptionOf(event, at(3))).toMatchObject({
      ...expected,
      time: at(0),
      recordedAt: at(3),
    });
  });

  test('a hook keeps what its completion needs', () => {
    expect(interruptionOf(terminateHook(), at(3)).hook).toEqual({
      group: 'workers',
      name: 'drain',
      token: 'token-1',
      timeoutSeconds: undefined,
      completedAt: undefined,
      unknown: {},
    });
  });

  test('paced are rebalance recommendations and scheduled changes, and nothing else', () => {
    const paced = INTERRUPTION_KINDS.filter((kind) => !isEmergency(kind));
    expect(paced).toEqual(['rebalance', 'scheduled-change']);
  });

  test.each([
    spot(),
    rebalance(),
    capacity(),
    terminateHook(),
    scheduledChange(),
    stateChange('stopping'),
    stateChange('shutting-down'),
  ])('$kind interrupts a node', (event) => {
    expect(roleOf(event)).toEqual({ role: 'interrupts', event });
  });

  test.each([
    scheduledChange(0, { status: 'closed' }),
    stateChange('stopped'),
    stateChange('terminated'),
    stateChange('running'),
  ])('$kind that is over only ends something', (event) => {
    expect(roleOf(event)).toEqual({ role: 'ends', event });
  });

  test('an instance that is about to run asks for nothing', () => {
    const event = {
      kind: 'state-change',
      eventId: undefined,
      account: undefined,
      time: at(0),
      instanceId: INSTANCE,
      state: 'pending',
    } as const;
    expect(roleOf(event)).toEqual({ role: 'nothing' });
  });
});
