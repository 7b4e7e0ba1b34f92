import * as z from 'zod';
import type { InstanceStateChange } from './event.ts';
import { instanceField, textField, valueOf, type Warn } from './field.ts';
import { instanceOf, type Message, NO_INSTANCE, type Outcome } from './message.ts';

// Names have at most 255 characters, tokens 36:
// https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_LifecycleHook.html
const schema = z.object({
  EC2InstanceId: instanceField,
  AutoScalingGroupName: textField(255),
  LifecycleHookName: textField(255),
  LifecycleActionToken: textField(64),
  Origin: textField(64),
  Destination: textField(64),
});

export function terminateHook(message: Message, warn: Warn): Outcome {
  return lifecycleHook('terminate-hook', 'shutting-down', message, warn);
}

export function launchHook(message: Message, warn: Warn): Outcome {
  return lifecycleHook('launch-hook', 'pending', message, warn);
}

/**
 * Without group, hook and token there is no hook that could be kept alive or completed; what is left
 * of the message is what it says about the instance: that it is being terminated (drained as such,
 * for no hook says how long it has) or launched (nothing to do).
 */
function lifecycleHook(
  kind: 'terminate-hook' | 'launch-hook',
  stateWithoutHook: InstanceStateChange['state'],
  message: Message,
  warn: Warn,
): Outcome {
  const detail = schema.parse(message.detail);
  const instanceId = instanceOf('EC2InstanceId', detail.EC2InstanceId, message.resources, warn);
  if (instanceId === undefined) return NO_INSTANCE;
  const group = valueOf('AutoScalingGroupName', detail.AutoScalingGroupName, warn);
  const hook = valueOf('LifecycleHookName', detail.LifecycleHookName, warn);
  const token = valueOf('LifecycleActionToken', detail.LifecycleActionToken, warn);
  if (group === undefined || hook === undefined || token === undefined) {
    warn(`group, hook or token is missing: taken as instance state ${stateWithoutHook}`);
    return {
      outcome: 'events',
      events: [{ kind: 'state-change', ...message.about, instanceId, state: stateWithoutHook }],
    };
  }
  const origin = valueOf('Origin', detail.Origin, warn);
  const destination = valueOf('Destination', detail.Destination, warn);
  return {
    outcome: 'events',
    events: [{ kind, ...message.about, instanceId, group, hook, token, origin, destination }],
  };
}
