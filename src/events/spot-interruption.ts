import * as z from 'zod';
import { instanceField, lenient, valueOr, type Warn } from './field.ts';
import { instanceOf, type Message, NO_INSTANCE, type Outcome } from './message.ts';

const schema = z.object({
  'instance-id': instanceField,
  'instance-action': lenient(z.enum(['terminate', 'stop', 'hibernate'])),
});

export function spotInterruption(message: Message, warn: Warn): Outcome {
  const detail = schema.parse(message.detail);
  const instanceId = instanceOf('instance-id', detail['instance-id'], message.resources, warn);
  if (instanceId === undefined) return NO_INSTANCE;
  const action = valueOr('instance-action', detail['instance-action'], 'terminate', warn);
  return {
    outcome: 'events',
    events: [{ kind: 'spot-interruption', ...message.about, instanceId, action }],
  };
}
