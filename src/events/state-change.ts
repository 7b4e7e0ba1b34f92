import * as z from 'zod';
import { instanceField, lenient, valueOr, type Warn } from './field.ts';
import { instanceOf, type Message, NO_INSTANCE, type Outcome } from './message.ts';

const schema = z.object({
  'instance-id': instanceField,
  state: lenient(
    z.enum(['pending', 'running', 'stopping', 'stopped', 'shutting-down', 'terminated']),
  ),
});

/**
 * An unknown state is taken as `stopping`: as harsh as `shutting-down` (both drain at once), but the
 * one of the two that a later `running` takes back. `stopped` and `terminated` would be milder: for
 * them nothing is left to drain.
 */
export function stateChange(message: Message, warn: Warn): Outcome {
  const detail = schema.parse(message.detail);
  const instanceId = instanceOf('instance-id', detail['instance-id'], message.resources, warn);
  if (instanceId === undefined) return NO_INSTANCE;
  const state = valueOr('state', detail.state, 'stopping', warn);
  return {
    outcome: 'events',
    events: [{ kind: 'state-change', ...message.about, instanceId, state }],
  };
}
