import { describe, expect, test } from 'vitest';
import {
  INTERRUPTION_KINDS,
  interruptionOf,
  isEmergency,
  isInterrupting,
} from '../../src/plan/interruption.ts';
import { at, capacity, INSTANCE, rebalance, spot, terminateHook } from './samples.ts';

describe('what an event says of a node', () => {
  test.each([
    {
      name: 'a spot instance that is terminated goes two minutes after the notice',
      event: spot(0),
      expected: { id: 'spot-interruption', kind: 'spot-interruption', deadlineAt: at(120) },
    },
    {
      name: 'one that is stopped, too',
      event: spot(0, { action: 'stop' }),
      expected: { id: 'spot-interruption', kind: 'spot-interruption', deadlineAt: at(120) },
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

  test.each([spot(), rebalance(), capacity(), terminateHook()])(
    '$kind interrupts a node',
    (event) => {
      expect(isInterrupting(event)).toBe(true);
    },
  );

  test('a state change interrupts no node in this version', () => {
    const event = {
      kind: 'state-change',
      eventId: undefined,
      account: undefined,
      time: at(0),
      instanceId: INSTANCE,
      state: 'stopping',
    } as const;
    expect(isInterrupting(event)).toBe(false);
  });
});
