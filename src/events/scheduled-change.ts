import * as z from 'zod';
import type { ScheduledChange } from './event.ts';
import {
  accountField,
  described,
  instanceField,
  lenient,
  type Read,
  textField,
  timeField,
  valueOf,
  valueOr,
  type Warn,
} from './field.ts';
import { instancesAmong, type Message, type Outcome } from './message.ts';

/**
 * Instances of one message; more are left out, with a warning. AWS splits larger events into pages:
 * at a hundred bytes an entity, the largest message that SQS takes stays within it.
 */
const MAX_INSTANCES = 10_000;

const schema = z.object({
  service: lenient(z.string()),
  eventTypeCategory: lenient(z.string()),
  eventTypeCode: textField(100),
  // Short of the API's 1,600, for it is part of an identity in the journal; real ones have about 200.
  eventArn: textField(400),
  affectedAccount: accountField,
  startTime: timeField,
  endTime: timeField,
  lastUpdatedTime: timeField,
  statusCode: lenient(z.string()),
  affectedEntities: lenient(z.array(z.unknown())),
});

const entitySchema = z.object({
  // May also name a host, a volume or a reservation, none of which is an instance.
  entityValue: instanceField,
  // Both names occur: https://docs.aws.amazon.com/health/latest/ug/aws-health-events-eventbridge-schema.html
  status: lenient(z.string()),
  statusCode: lenient(z.string()),
});

type Change = ScheduledChange['change'];

const CHANGES: ReadonlyMap<string, Change> = new Map<string, Change>([
  ['AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED', 'reboot'],
  ['AWS_EC2_INSTANCE_REBOOT_FLEXIBLE_MAINTENANCE_SCHEDULED', 'reboot'],
  ['AWS_EC2_SYSTEM_REBOOT_MAINTENANCE_SCHEDULED', 'reboot'],
  ['AWS_EC2_INSTANCE_NETWORK_MAINTENANCE_SCHEDULED', 'network'],
  ['AWS_EC2_DEDICATED_HOST_NETWORK_MAINTENANCE_SCHEDULED', 'network'],
  ['AWS_EC2_INSTANCE_POWER_MAINTENANCE_SCHEDULED', 'power'],
  ['AWS_EC2_PERSISTENT_INSTANCE_POWER_MAINTENANCE_SCHEDULED', 'power'],
  ['AWS_EC2_DEDICATED_HOST_POWER_MAINTENANCE_SCHEDULED', 'power'],
  ['AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED', 'retirement'],
  ['AWS_EC2_INSTANCE_RETIREMENT_EXPEDITED', 'retirement'],
  ['AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED', 'retirement'],
  ['AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_EXPEDITED', 'retirement'],
  ['AWS_EC2_DEDICATED_HOST_RETIREMENT_SCHEDULED', 'retirement'],
  ['AWS_EC2_INSTANCE_STOP_SCHEDULED', 'stop'],
  ['AWS_EC2_INSTANCE_TERMINATION_SCHEDULED', 'termination'],
]);

type Status = ScheduledChange['status'];

const OVER: ReadonlySet<string> = new Set([
  'closed',
  'resolved',
  'completed',
  'cancelled',
  'canceled',
]);
// `unimpaired` says how the machine is now, not that the change is off.
const NOT_OVER: ReadonlySet<string> = new Set([
  'open',
  'upcoming',
  'pending',
  'impaired',
  'unimpaired',
  'unknown',
]);

export function scheduledChange(message: Message, warn: Warn): Outcome {
  const detail = schema.parse(message.detail);
  const service = valueOr('service', detail.service, 'EC2', warn);
  if (service !== 'EC2') {
    return { outcome: 'not-ours', reason: 'not-ec2', detail: `service ${described(service)}` };
  }
  const category = valueOr('eventTypeCategory', detail.eventTypeCategory, 'scheduledChange', warn);
  if (category !== 'scheduledChange') {
    return {
      outcome: 'not-ours',
      reason: 'unknown-detail-type',
      detail: `AWS Health Event of category ${described(category)}`,
    };
  }

  const code = valueOr('eventTypeCode', detail.eventTypeCode, 'unknown', warn);
  const status = eventStatus(detail.statusCode, warn);
  const instances = affectedInstances(detail.affectedEntities, status, warn);
  if (instances.size === 0) {
    for (const instanceId of instancesAmong(message.resources)) instances.set(instanceId, status);
  }
  const [first, ...others] = instances;
  if (first === undefined) return { outcome: 'not-ours', reason: 'no-instance', detail: code };
  if (others.length >= MAX_INSTANCES) {
    warn(`${instances.size} instances: only the first ${MAX_INSTANCES} are heeded`);
    others.length = MAX_INSTANCES - 1;
  }

  const { time } = message.about;
  const lastUpdatedAt = valueOf('lastUpdatedTime', detail.lastUpdatedTime, warn) ?? time;
  const common = {
    kind: 'scheduled-change',
    ...message.about,
    // In an organisation's view the envelope names the account that was told, not the one affected.
    account: valueOf('affectedAccount', detail.affectedAccount, warn) ?? message.about.account,
    // Without an ARN the code tells the changes of one instance apart, through every rescheduling.
    eventArn: valueOr('eventArn', detail.eventArn, code, warn),
    code,
    change: changeOf(code, warn),
    startAt: valueOf('startTime', detail.startTime, warn),
    endAt: valueOf('endTime', detail.endTime, warn),
    lastUpdatedAt: Math.min(lastUpdatedAt, message.sentAt),
  } as const;
  const event = ([instanceId, statusOfIt]: readonly [string, Status]): ScheduledChange => ({
    ...common,
    instanceId,
    status: statusOfIt,
  });
  return { outcome: 'events', events: [event(first), ...others.map(event)] };
}

function changeOf(code: string, warn: Warn): Change {
  const change = CHANGES.get(code);
  if (change !== undefined) return change;
  warn(`eventTypeCode ${described(code)} is not known: taken as retirement`);
  return 'retirement';
}

function eventStatus(read: Read<string>, warn: Warn): Status {
  const status = valueOf('statusCode', read, warn)?.toLowerCase() ?? 'open';
  if (OVER.has(status)) return 'closed';
  if (status === 'upcoming') return 'upcoming';
  if (!NOT_OVER.has(status)) warn(`statusCode ${described(status)} is not known: taken as open`);
  return 'open';
}

/** Each instance once; of entries that disagree, the one that is not over counts. */
function affectedInstances(
  read: readonly unknown[] | Exclude<Read<string>, string>,
  status: Status,
  warn: Warn,
): Map<string, Status> {
  const instances = new Map<string, Status>();
  if (!isList(read)) {
    valueOf('affectedEntities', read, warn);
    return instances;
  }
  for (const entry of read) {
    const entity = entitySchema.safeParse(entry).data;
    const instanceId = valueOf('affectedEntities[].entityValue', entity?.entityValue, warn);
    if (instanceId === undefined) continue;
    const over = isOver(entity?.status ?? entity?.statusCode, warn);
    if (!over || !instances.has(instanceId)) instances.set(instanceId, over ? 'closed' : status);
  }
  return instances;
}

function isList(
  read: readonly unknown[] | Exclude<Read<string>, string>,
): read is readonly unknown[] {
  return Array.isArray(read);
}

function isOver(read: Read<string>, warn: Warn): boolean {
  const status = valueOf('affectedEntities[].status', read, warn)?.toLowerCase();
  if (status === undefined) return false;
  if (OVER.has(status)) return true;
  if (!NOT_OVER.has(status)) {
    warn(`affectedEntities[].status ${described(status)} is not known: taken as not over`);
  }
  return false;
}
