import * as z from 'zod';
import { instanceField, type Warn } from './field.ts';
import { instanceOf, type Message, NO_INSTANCE, type Outcome } from './message.ts';

const schema = z.object({ 'instance-id': instanceField });

export function rebalanceRecommendation(message: Message, warn: Warn): Outcome {
  const detail = schema.parse(message.detail);
  const instanceId = instanceOf('instance-id', detail['instance-id'], message.resources, warn);
  if (instanceId === undefined) return NO_INSTANCE;
  return {
    outcome: 'events',
    events: [{ kind: 'rebalance-recommendation', ...message.about, instanceId }],
  };
}
