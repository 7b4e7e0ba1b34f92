import * as z from 'zod';
import {
  accountField,
  described,
  lenient,
  type Read,
  textField,
  timeField,
  valueOf,
  valueOr,
  type Warn,
} from './field.ts';
import type { Message } from './message.ts';

export type Unwrapped =
  | Readonly<{
      wrapper: 'eventbridge';
      /** Undefined where the envelope has none. */
      source: string | undefined;
      detailType: string;
      message: Message;
    }>
  | Readonly<{ wrapper: 'auto-scaling'; transition: string; message: Message }>
  | Readonly<{ wrapper: 'test-notification' }>
  | Readonly<{ wrapper: 'none'; reason: string }>;

/** The most that SQS takes, in bytes, of which a text has at least as many as characters. */
const MAX_BODY_LENGTH = 1_048_576;

/** Whoever forwards messages from topic to topic may wrap them again; more layers are no event. */
const MAX_SNS_LAYERS = 3;

/** Time stamps ahead of the sending by more than clocks are apart. */
const CLOCK_SKEW_MS = 60_000;

/** Sent once when a hook is made: https://docs.aws.amazon.com/autoscaling/ec2/userguide/prepare-for-lifecycle-notifications.html */
const TEST_NOTIFICATION = 'autoscaling:TEST_NOTIFICATION';

const eventBridgeSchema = z.object({
  id: textField(128),
  account: accountField,
  time: timeField,
  source: lenient(z.string()),
  resources: z.unknown().optional(),
  detail: z.unknown().optional(),
});

const autoScalingSchema = z.object({
  RequestId: textField(128),
  AccountId: accountField,
  Time: timeField,
  LifecycleTransition: z.unknown().optional(),
  Event: z.unknown().optional(),
});

/** Takes SNS envelopes off and reads what every event has. Never throws. */
export function unwrap(body: string, sentAt: number, warn: Warn): Unwrapped {
  if (body.length > MAX_BODY_LENGTH) return none(`longer than ${MAX_BODY_LENGTH} characters`);
  let text = body;
  for (let layer = 0; layer <= MAX_SNS_LAYERS; layer++) {
    const json = readJson(text);
    if ('fault' in json) return none(json.fault);
    const { value } = json;
    if (!isObject(value)) return none('not a JSON object');
    const detailType = value['detail-type'];
    if (typeof detailType === 'string') return eventBridge(value, detailType, sentAt, warn);
    if ('LifecycleTransition' in value || 'Event' in value) return autoScaling(value, sentAt, warn);
    const { Type: type, Message: inner } = value;
    if (type !== 'Notification' || typeof inner !== 'string') {
      return none(
        type === undefined
          ? 'no event: neither detail-type nor LifecycleTransition, nor an SNS envelope'
          : `an SNS message that carries no event: Type ${described(type)}`,
      );
    }
    text = inner;
  }
  return none(`more than ${MAX_SNS_LAYERS} SNS envelopes, one in the other`);
}

function eventBridge(value: Fields, detailType: string, sentAt: number, warn: Warn): Unwrapped {
  const { id, account, time, source, resources, detail } = eventBridgeSchema.parse(value);
  return {
    wrapper: 'eventbridge',
    source: valueOf('source', source, warn),
    detailType,
    message: {
      about: {
        eventId: valueOf('id', id, warn),
        account: valueOf('account', account, warn),
        time: issuedAt('time', time, sentAt, warn),
      },
      sentAt,
      detail: isObject(detail) ? detail : {},
      // Capacity reservations have a plain text here, all others a list.
      resources: Array.isArray(resources) ? resources : [resources],
    },
  };
}

function autoScaling(value: Fields, sentAt: number, warn: Warn): Unwrapped {
  const { RequestId, AccountId, Time, LifecycleTransition, Event } = autoScalingSchema.parse(value);
  if (LifecycleTransition === TEST_NOTIFICATION || Event === TEST_NOTIFICATION) {
    return { wrapper: 'test-notification' };
  }
  const transition = LifecycleTransition ?? Event;
  if (typeof transition !== 'string') {
    return none(`an Auto Scaling notification of LifecycleTransition ${described(transition)}`);
  }
  return {
    wrapper: 'auto-scaling',
    transition,
    message: {
      about: {
        eventId: valueOf('RequestId', RequestId, warn),
        account: valueOf('AccountId', AccountId, warn),
        time: issuedAt('Time', Time, sentAt, warn),
      },
      sentAt,
      detail: value,
      resources: [],
    },
  };
}

/** When AWS issued the event; never later than it was sent, whatever it says. */
function issuedAt(name: string, read: Read<number>, sentAt: number, warn: Warn): number {
  const time = valueOr(name, read, sentAt, warn, 'the time of sending');
  // AWS Health has been seen to put the start of a change here, weeks ahead.
  if (time > sentAt + CLOCK_SKEW_MS) warn(`${name} is later than the sending: taken as that`);
  return Math.min(time, sentAt);
}

type Fields = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readJson(text: string): Readonly<{ value: unknown }> | Readonly<{ fault: string }> {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    // The parser's message quotes the text, which may be of any characters.
    return { fault: `not JSON: ${described(error instanceof Error ? error.message : error)}` };
  }
}

function none(reason: string): Unwrapped {
  return { wrapper: 'none', reason };
}
