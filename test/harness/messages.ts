import { randomUUID } from 'node:crypto';

// Message bodies as AWS sends them. Times are epoch ms, now unless given.

export type EventFields = {
  readonly instanceId: string;
  readonly time?: number;
  readonly id?: string;
  readonly account?: string;
  readonly region?: string;
};

export type HookFields = Omit<EventFields, 'instanceId'> & {
  readonly instanceId: string;
  readonly group: string;
  readonly hook: string;
  readonly token?: string;
  readonly origin?: 'AutoScalingGroup' | 'EC2' | 'WarmPool';
  readonly destination?: 'EC2' | 'AutoScalingGroup' | 'WarmPool';
  readonly notificationMetadata?: string;
};

const defaults = { account: '123456789012', region: 'eu-central-1' };

/** The envelope of EventBridge. */
function envelope(
  source: string,
  detailType: string,
  detail: object,
  fields: Partial<EventFields> & { readonly resources?: readonly string[] } = {},
) {
  const { account = defaults.account, region = defaults.region } = fields;
  const arn =
    fields.instanceId === undefined
      ? []
      : [`arn:aws:ec2:${region}:${account}:instance/${fields.instanceId}`];
  return {
    version: '0',
    id: fields.id ?? randomUUID(),
    'detail-type': detailType,
    source,
    account,
    time: wholeSeconds(fields.time ?? Date.now()),
    region,
    resources: fields.resources ?? arn,
    detail,
  };
}

export function spotNotice(
  fields: EventFields & { readonly action?: 'terminate' | 'stop' | 'hibernate' },
) {
  return envelope(
    'aws.ec2',
    'EC2 Spot Instance Interruption Warning',
    { 'instance-id': fields.instanceId, 'instance-action': fields.action ?? 'terminate' },
    fields,
  );
}

export function rebalance(fields: EventFields) {
  return envelope(
    'aws.ec2',
    'EC2 Instance Rebalance Recommendation',
    { 'instance-id': fields.instanceId },
    fields,
  );
}

export function stateChange(
  fields: EventFields & {
    readonly state: 'pending' | 'running' | 'stopping' | 'stopped' | 'shutting-down' | 'terminated';
  },
) {
  return envelope(
    'aws.ec2',
    'EC2 Instance State-change Notification',
    { 'instance-id': fields.instanceId, state: fields.state },
    fields,
  );
}

export function terminateHook(fields: HookFields) {
  return envelope(
    'aws.autoscaling',
    'EC2 Instance-terminate Lifecycle Action',
    hookDetail(fields, 'autoscaling:EC2_INSTANCE_TERMINATING'),
    { ...fields, resources: [groupArn(fields)] },
  );
}

export function launchHook(fields: HookFields) {
  return envelope(
    'aws.autoscaling',
    'EC2 Instance-launch Lifecycle Action',
    hookDetail(fields, 'autoscaling:EC2_INSTANCE_LAUNCHING'),
    { ...fields, resources: [groupArn(fields)] },
  );
}

/** As Auto Scaling sends it to a hook's own notification target, without EventBridge. */
export function directHook(
  fields: HookFields & { readonly transition?: 'TERMINATING' | 'LAUNCHING' },
) {
  return {
    LifecycleHookName: fields.hook,
    AccountId: fields.account ?? defaults.account,
    RequestId: fields.id ?? randomUUID(),
    LifecycleTransition: `autoscaling:EC2_INSTANCE_${fields.transition ?? 'TERMINATING'}`,
    AutoScalingGroupName: fields.group,
    Service: 'AWS Auto Scaling',
    Time: new Date(fields.time ?? Date.now()).toISOString(),
    EC2InstanceId: fields.instanceId,
    LifecycleActionToken: fields.token ?? randomUUID(),
    ...(fields.notificationMetadata === undefined
      ? {}
      : { NotificationMetadata: fields.notificationMetadata }),
  };
}

/** Sent once when a hook is created. */
export function testNotification(group: string) {
  return {
    AccountId: defaults.account,
    RequestId: randomUUID(),
    AutoScalingGroupARN: groupArn({ group }),
    AutoScalingGroupName: group,
    Service: 'AWS Auto Scaling',
    Event: 'autoscaling:TEST_NOTIFICATION',
    Time: new Date().toISOString(),
  };
}

export type ScheduledChangeFields = Omit<EventFields, 'instanceId'> & {
  readonly instanceIds: readonly string[];
  readonly startTime: number;
  readonly endTime?: number;
  readonly lastUpdatedTime?: number;
  readonly eventTypeCode?: string;
  readonly eventArn?: string;
  readonly statusCode?: 'open' | 'upcoming' | 'closed';
  readonly page?: number;
  readonly totalPages?: number;
  readonly backupEvent?: boolean;
};

export function scheduledChange(fields: ScheduledChangeFields) {
  const { account = defaults.account, region = defaults.region } = fields;
  const code = fields.eventTypeCode ?? 'AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED';
  const startTime = new Date(fields.startTime).toUTCString();
  const endTime = new Date(fields.endTime ?? fields.startTime).toUTCString();
  const detail = {
    eventArn: fields.eventArn ?? `arn:aws:health:${region}::event/EC2/${code}/${randomUUID()}`,
    service: 'EC2',
    eventTypeCode: code,
    eventTypeCategory: 'scheduledChange',
    eventScopeCode: 'ACCOUNT_SPECIFIC',
    startTime,
    endTime,
    lastUpdatedTime: new Date(fields.lastUpdatedTime ?? fields.time ?? Date.now()).toUTCString(),
    statusCode: fields.statusCode ?? 'upcoming',
    eventRegion: region,
    eventDescription: [{ language: 'en_US', latestDescription: 'A description.' }],
    affectedEntities: fields.instanceIds.map((entityValue) => ({ entityValue })),
    affectedAccount: account,
    page: String(fields.page ?? 1),
    totalPages: String(fields.totalPages ?? 1),
    ...(fields.backupEvent === undefined ? {} : { backupEvent: String(fields.backupEvent) }),
  };
  return envelope('aws.health', 'AWS Health Event', detail, {
    ...fields,
    resources: fields.instanceIds,
  });
}

export function capacityReservationInterruption(
  fields: EventFields & { readonly terminationTime?: number },
) {
  return envelope(
    'aws.ec2',
    'EC2 Capacity Reservation Instance Interruption Warning',
    {
      'instance-id': fields.instanceId,
      'instance-action': 'terminate',
      ...(fields.terminationTime === undefined
        ? {}
        : { 'instance-termination-time': wholeSeconds(fields.terminationTime) }),
    },
    fields,
  );
}

export function capacityBlockExpiry(
  fields: Omit<EventFields, 'instanceId'> & {
    readonly reservationId: string;
    readonly endTime: number;
  },
) {
  return envelope(
    'aws.ec2',
    'Capacity Block Reservation Expiration Warning',
    {
      'capacity-reservation-id': fields.reservationId,
      'end-date': wholeSeconds(fields.endTime),
    },
    { ...fields, resources: [] },
  );
}

/** Any message, as a topic hands it on with raw delivery off. */
export function viaTopic(message: object) {
  return {
    Type: 'Notification',
    MessageId: randomUUID(),
    TopicArn: `arn:aws:sns:${defaults.region}:${defaults.account}:interruptions`,
    Message: JSON.stringify(message),
    Timestamp: new Date().toISOString(),
    SignatureVersion: '1',
    Signature: 'none',
    SigningCertURL: 'https://sns.example/cert.pem',
    UnsubscribeURL: 'https://sns.example/unsubscribe',
  };
}

function hookDetail(fields: HookFields, transition: string) {
  return {
    LifecycleActionToken: fields.token ?? randomUUID(),
    AutoScalingGroupName: fields.group,
    LifecycleHookName: fields.hook,
    EC2InstanceId: fields.instanceId,
    LifecycleTransition: transition,
    Origin: fields.origin ?? 'AutoScalingGroup',
    Destination: fields.destination ?? 'EC2',
    ...(fields.notificationMetadata === undefined
      ? {}
      : { NotificationMetadata: fields.notificationMetadata }),
  };
}

function groupArn(fields: { group: string; account?: string; region?: string }): string {
  const { account = defaults.account, region = defaults.region } = fields;
  return `arn:aws:autoscaling:${region}:${account}:autoScalingGroup:00000000-0000-4000-8000-000000000000:autoScalingGroupName/${fields.group}`;
}

// EventBridge gives whole seconds.
function wholeSeconds(epochMs: number): string {
  return new Date(epochMs).toISOString().replace(/\.\d{3}Z$/, 'Z');
}
