import * as messages from './messages.ts';

/** What a message of the table is about. Its hook's action may have begun. */
export type Subject = Readonly<{
  instanceId: string;
  reservationId: string;
  group: string;
  /** Epoch ms. */
  time: number;
}>;

type KindOfMessage = Readonly<{ name: string; message: (about: Subject) => object | string }>;

const MAINTENANCE = [
  'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
  'AWS_EC2_SYSTEM_REBOOT_MAINTENANCE_SCHEDULED',
  'AWS_EC2_INSTANCE_NETWORK_MAINTENANCE_SCHEDULED',
  'AWS_EC2_INSTANCE_POWER_MAINTENANCE_SCHEDULED',
  'AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED',
  'AWS_EC2_INSTANCE_STOP_SCHEDULED',
  'AWS_EC2_INSTANCE_TERMINATION_SCHEDULED',
];
const STATES = [
  'pending',
  'running',
  'stopping',
  'stopped',
  'shutting-down',
  'terminated',
] as const;

function hookOf({ group, instanceId, time }: Subject) {
  return { group, hook: 'drain', token: `token-${instanceId}`, instanceId, time };
}

/** Every kind of message that can arrive, in every wrapper it can come in. */
export const EVERY_KIND: readonly KindOfMessage[] = [
  ...(['terminate', 'stop', 'hibernate'] as const).map((action) => ({
    name: `a spot interruption (${action})`,
    message: ({ instanceId, time }: Subject) => messages.spotNotice({ instanceId, time, action }),
  })),
  {
    name: 'a rebalance recommendation',
    message: ({ instanceId, time }) => messages.rebalance({ instanceId, time }),
  },
  {
    name: 'the interruption of a capacity reservation',
    message: ({ instanceId, time }) =>
      messages.capacityReservationInterruption({ instanceId, time }),
  },
  {
    name: 'the end of a capacity block',
    message: ({ reservationId, time }) =>
      messages.capacityBlockExpiry({ reservationId, time, endTime: time + 2_400_000 }),
  },
  ...MAINTENANCE.map((eventTypeCode) => ({
    name: `a scheduled change (${eventTypeCode})`,
    message: ({ instanceId, time }: Subject) =>
      messages.scheduledChange({
        instanceIds: [instanceId],
        eventTypeCode,
        startTime: time + 600_000,
        time,
      }),
  })),
  {
    name: 'a scheduled change that is closed',
    message: ({ instanceId, time }) =>
      messages.scheduledChange({
        instanceIds: [instanceId],
        statusCode: 'closed',
        startTime: time + 600_000,
        time,
      }),
  },
  ...STATES.map((state) => ({
    name: `state ${state}`,
    message: ({ instanceId, time }: Subject) => messages.stateChange({ instanceId, state, time }),
  })),
  { name: 'a terminate hook', message: (about) => messages.terminateHook(hookOf(about)) },
  {
    name: 'a terminate hook from Auto Scaling itself',
    message: (about) => messages.directHook(hookOf(about)),
  },
  { name: 'a launch hook', message: (about) => messages.launchHook(hookOf(about)) },
  {
    name: 'a launch hook from Auto Scaling itself',
    message: (about) => messages.directHook({ ...hookOf(about), transition: 'LAUNCHING' }),
  },
  {
    name: 'a spot interruption through a topic',
    message: ({ instanceId, time }) => messages.viaTopic(messages.spotNotice({ instanceId, time })),
  },
  {
    name: 'a terminate hook from Auto Scaling itself through a topic',
    message: (about) => messages.viaTopic(messages.directHook(hookOf(about))),
  },
  { name: 'a test notification', message: ({ group }) => messages.testNotification(group) },
  {
    name: 'an event of another account',
    message: ({ instanceId, time }) =>
      messages.spotNotice({ instanceId, time, account: '999999999999' }),
  },
  {
    name: 'an unknown event',
    message: ({ instanceId, time }) => ({
      ...messages.spotNotice({ instanceId, time }),
      'detail-type': 'EC2 Instance Something Else',
    }),
  },
  { name: 'rubbish', message: () => '{' },
];
