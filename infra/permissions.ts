/** Switched on with the option of the controller that needs it. */
export type Feature = 'replace-instances' | 'outcome-bus';

/** What the controller may do at AWS: each action with the call that needs it. */
export type Permission = Readonly<{
  sid: string;
  /** Needed only with this feature, which this option of the controller switches on. */
  feature?: Feature;
  option?: string;
  on: 'queue' | 'groups' | 'bus' | 'everything';
  actions: Readonly<Record<string, string>>;
}>;

export const PERMISSIONS: readonly Permission[] = [
  {
    sid: 'ConsumeInterruptions',
    on: 'queue',
    actions: {
      'sqs:ReceiveMessage': 'the long poll of the intake',
      'sqs:DeleteMessage': 'a message is done: recorded, duplicate, stale, or not ours',
      'sqs:ChangeMessageVisibility':
        'a message waits for its node, is kept in hand, or is given back on stop',
      'sqs:GetQueueAttributes':
        'the redrive policy, read at start: it decides what becomes of malformed messages',
    },
  },
  {
    sid: 'CompleteLifecycleHooks',
    on: 'groups',
    actions: {
      'autoscaling:CompleteLifecycleAction': 'the node is empty, or ready: its instance may go on',
      'autoscaling:RecordLifecycleActionHeartbeat': 'a drain takes longer than its hook',
    },
  },
  {
    sid: 'ReadLifecycleHooks',
    // Auto Scaling knows no narrower resource for this action.
    on: 'everything',
    actions: {
      'autoscaling:DescribeLifecycleHooks':
        "a terminate hook's timeout, which is the deadline; without it, TERMINATE_HOOK_DRAIN_SECONDS or a default",
    },
  },
  {
    sid: 'ReplaceInstances',
    feature: 'replace-instances',
    option: 'AFTER_VOLUNTARY_DRAIN',
    on: 'groups',
    actions: {
      'autoscaling:TerminateInstanceInAutoScalingGroup':
        'an instance that was emptied ahead of time makes room for its successor',
    },
  },
  {
    sid: 'TellOutcomes',
    feature: 'outcome-bus',
    option: 'EVENT_BUS_NAME',
    on: 'bus',
    actions: { 'events:PutEvents': 'what became of each interruption' },
  },
];

/** ARNs, or whatever stands for them where the policy is used. */
export type PolicyResources<Arn> = Readonly<{
  queue: Arn;
  groups: readonly Arn[];
  /** Of the outcomes; needed with the feature. */
  bus?: Arn;
}>;

/** The statement of an IAM policy that grants it. */
export function statementOf<Arn>(permission: Permission, resources: PolicyResources<Arn>) {
  return {
    Sid: permission.sid,
    Effect: 'Allow',
    Action: Object.keys(permission.actions),
    Resource: resourcesOf(permission, resources),
  };
}

/** The whole policy, for whoever deploys by other means than ours. */
export function policyOf(resources: PolicyResources<string>, features: ReadonlySet<Feature>) {
  const granted = PERMISSIONS.filter(
    ({ feature }) => feature === undefined || features.has(feature),
  );
  return {
    Version: '2012-10-17',
    Statement: granted.map((permission) => statementOf(permission, resources)),
  };
}

function resourcesOf<Arn>({ sid, on }: Permission, resources: PolicyResources<Arn>) {
  switch (on) {
    case 'queue':
      return [resources.queue];
    case 'groups':
      return resources.groups;
    case 'bus':
      if (resources.bus === undefined) throw new Error(`${sid} needs the bus of the outcomes`);
      return [resources.bus];
    case 'everything':
      return ['*'];
    default:
      return assertNever(on);
  }
}

function assertNever(value: never): never {
  throw new Error(`unexpected: ${String(value)}`);
}
