import * as z from 'zod';
import { LONGEST_ARN, recognisedField, timeField, valueOf, type Warn } from './field.ts';
import type { Message, Outcome } from './message.ts';

const schema = z.object({
  'capacity-reservation-id': recognisedField(reservationIdIn),
  'end-date': timeField,
});

export function capacityBlockExpiry(message: Message, warn: Warn): Outcome {
  const detail = schema.parse(message.detail);
  const reservationId =
    valueOf('capacity-reservation-id', detail['capacity-reservation-id'], warn) ??
    reservationAmong(message.resources);
  if (reservationId === undefined) {
    return {
      outcome: 'malformed',
      reason: 'neither the detail nor the resources name a capacity reservation',
    };
  }
  const endsAt = valueOf('end-date', detail['end-date'], warn);
  return {
    outcome: 'events',
    events: [{ kind: 'capacity-block-expiry', ...message.about, reservationId, endsAt }],
  };
}

// No longer than the value of a label, by which the nodes of a reservation are found.
const RESERVATION =
  /^(?:arn:aws[a-z0-9-]*:ec2:[a-z0-9:-]*:capacity-reservation\/)?(cr-[0-9a-z]{1,60})$/;

function reservationIdIn(value: string): string | undefined {
  return value.length > LONGEST_ARN ? undefined : RESERVATION.exec(value)?.[1];
}

function reservationAmong(resources: readonly unknown[]): string | undefined {
  for (const resource of resources) {
    const reservationId = typeof resource === 'string' ? reservationIdIn(resource) : undefined;
    if (reservationId !== undefined) return reservationId;
  }
  return undefined;
}
