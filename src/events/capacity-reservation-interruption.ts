import * as z from 'zod';
import { instanceField, timeField, valueOf, type Warn } from './field.ts';
import { instanceOf, type Message, NO_INSTANCE, type Outcome } from './message.ts';

const schema = z.object({
  'instance-id': instanceField,
  'instance-termination-time': timeField,
});

export function capacityReservationInterruption(message: Message, warn: Warn): Outcome {
  const detail = schema.parse(message.detail);
  const instanceId = instanceOf('instance-id', detail['instance-id'], message.resources, warn);
  if (instanceId === undefined) return NO_INSTANCE;
  const terminatesAt = valueOf(
    'instance-termination-time',
    detail['instance-termination-time'],
    warn,
  );
  return {
    outcome: 'events',
    events: [
      { kind: 'capacity-reservation-interruption', ...message.about, instanceId, terminatesAt },
    ],
  };
}
