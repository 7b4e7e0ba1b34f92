import { RULES } from './event-patterns.ts';

type Shape =
  /** Whole texts match the pattern. */
  | Readonly<{ type: 'text'; pattern: string; takes: string }>
  | Readonly<{ type: 'flag' }>
  | Readonly<{ type: 'number'; minimum: number; maximum: number }>
  /** Comma-separated, without blanks. */
  | Readonly<{ type: 'list'; maximum: number; takes: string }>;

/** One choice of whoever deploys: `-c name=value`, or the parameter `Name`. */
export type Setting = Shape & Readonly<{ name: string; otherwise?: string; description: string }>;

const DNS_NAME = {
  pattern: '[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?',
  takes: 'the name of a Kubernetes object',
};
const OPTIONAL_ARN = { pattern: '|arn:[^\\s,]+', takes: 'an ARN' };

export const SETTINGS = [
  {
    name: 'clusterName',
    type: 'text',
    pattern: '[A-Za-z0-9][A-Za-z0-9_-]{0,52}',
    takes: 'the name of a cluster: at most 53 letters, digits, - and _',
    description:
      'The cluster. The queue is called after it, and an EKS Pod Identity association is made with it.',
  },
  {
    name: 'namespace',
    type: 'text',
    ...DNS_NAME,
    otherwise: 'node-termination-controller',
    description: 'Where the controller runs.',
  },
  {
    name: 'serviceAccountName',
    type: 'text',
    ...DNS_NAME,
    otherwise: 'node-termination-controller',
    description: 'As which the controller runs.',
  },
  {
    name: 'oidcProviderArn',
    type: 'text',
    pattern: '|arn:[^\\s,]+:oidc-provider/[^\\s,]+',
    takes: "the ARN of IAM's OIDC provider of the cluster",
    otherwise: '',
    description:
      'Given: the role is for IRSA (IAM roles for service accounts). Empty: it is for EKS Pod Identity.',
  },
  ...RULES.map(
    ({ kind }) =>
      ({
        name: kind,
        type: 'flag',
        otherwise: 'true',
        description: `Whether events of this kind are sent to the queue.`,
      }) as const,
  ),
  {
    name: 'groupNames',
    type: 'text',
    pattern: '[^\\s,:/]+',
    takes: 'the name of an Auto Scaling group, in which * and ? are wildcards',
    otherwise: '*',
    description: 'The Auto Scaling groups whose lifecycle hooks the controller may complete.',
  },
  {
    name: 'hookGroups',
    type: 'list',
    maximum: 10,
    takes: 'at most 10 names of Auto Scaling groups, separated by commas without blanks',
    otherwise: '',
    description: 'The Auto Scaling groups that get a terminate hook.',
  },
  {
    name: 'hookTimeoutSeconds',
    type: 'number',
    minimum: 30,
    maximum: 7200,
    otherwise: '300',
    description:
      'The heartbeat timeout of these hooks: how long an instance waits for a controller that does not answer. TERMINATE_HOOK_DRAIN_SECONDS may make a drain longer than this.',
  },
  {
    name: 'hooksStraightToQueue',
    type: 'flag',
    otherwise: 'false',
    description:
      'Whether these hooks notify the queue themselves. Else the rule terminate-hook brings their events, with those of all other groups of the account.',
  },
  {
    name: 'replaceInstances',
    type: 'flag',
    otherwise: 'false',
    description:
      'Whether the controller may terminate instances: for AFTER_VOLUNTARY_DRAIN=replace.',
  },
  {
    name: 'outcomeBus',
    type: 'flag',
    otherwise: 'false',
    description: 'Whether an event bus for outcomes is made: for EVENT_BUS_NAME.',
  },
  {
    name: 'alarmTopicArn',
    type: 'text',
    ...OPTIONAL_ARN,
    otherwise: '',
    description: 'An SNS topic that the alarms tell.',
  },
  {
    name: 'senderTopicArn',
    type: 'text',
    ...OPTIONAL_ARN,
    otherwise: '',
    description: 'An SNS topic, to which the queue is subscribed, that may send as well.',
  },
  {
    name: 'senderPrincipalArn',
    type: 'text',
    ...OPTIONAL_ARN,
    otherwise: '',
    description:
      'A role or user that may send as well if its own policies allow it: to drill, or to redrive dead letters.',
  },
] as const satisfies readonly Setting[];

export type SettingName = (typeof SETTINGS)[number]['name'];

export function settingOf(name: SettingName): Setting {
  const setting = SETTINGS.find((one) => one.name === name);
  if (setting === undefined) throw new Error(`there is no setting ${name}`);
  return setting;
}

/** What a setting takes, as a pattern of the whole text. */
export function patternOf(setting: Setting): RegExp {
  switch (setting.type) {
    case 'text':
      return new RegExp(`^(?:${setting.pattern})$`);
    case 'flag':
      return /^(?:true|false)$/;
    case 'number':
      return /^\d{1,9}$/;
    case 'list':
      return new RegExp(`^(?:|[^\\s,]+(?:,[^\\s,]+){0,${setting.maximum - 1}})$`);
    default:
      return assertNever(setting);
  }
}

/** Completes "it takes …". */
export function takenBy(setting: Setting): string {
  switch (setting.type) {
    case 'flag':
      return 'true or false';
    case 'number':
      return `a whole number from ${setting.minimum} to ${setting.maximum}`;
    case 'text':
    case 'list':
      return setting.takes;
    default:
      return assertNever(setting);
  }
}

export function isTaken(setting: Setting, value: string): boolean {
  if (!patternOf(setting).test(value)) return false;
  if (setting.type !== 'number') return true;
  return Number(value) >= setting.minimum && Number(value) <= setting.maximum;
}

function assertNever(value: never): never {
  throw new Error(`unexpected: ${JSON.stringify(value)}`);
}
