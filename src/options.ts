import * as z from 'zod';
import { parseSelector } from './kubernetes/selector.ts';
import { parseHookPatterns, type HookPatterns } from './plan/hooks.ts';
import { ACTIONS, type DrainLimit } from './plan/policy.ts';
import { concealed, type Concealed } from './report/concealed.ts';
import { STAGES, type Stage } from './report/webhook/message.ts';
import {
  RESERVED_HEADERS,
  webhookSettings,
  type WebhookOptions,
} from './report/webhook/settings.ts';
import { SECRET_PATTERN } from './report/webhook/signature.ts';

type Parsed<Value> =
  | Readonly<{ value: Value }>
  /** Completes "QUEUE_URL is "x", which …"; undefined where what it takes says enough. */
  | Readonly<{ fault: string | undefined }>;

type Otherwise<Value> =
  | 'required'
  /** As one would write it. */
  | Readonly<{ text: string }>
  | Readonly<{
      told: string;
      /** Undefined: the queue's URL does not tell, so the option must be given. */
      from(queueUrl: string): Readonly<{ value: Value }> | undefined;
      /** Matches no URL from which `from` takes nothing; see `pattern`. */
      queueUrlPattern?: string;
    }>;

type Limits = Readonly<{ minimum: number; maximum: number } | { choices: readonly string[] }>;

/**
 * One option, named after its key in the table: `queueUrl` is the flag `--queue-url` and the
 * environment variable `QUEUE_URL`.
 */
type Option<Value> = Readonly<{
  type: 'string' | 'integer' | 'boolean';
  /** Completes "it takes …". */
  takes: string;
  limits?: Limits;
  unit?: 'seconds';
  /**
   * For whoever checks before the controller is there to do it, such as the chart: matches nothing
   * that `parse` refuses. Written so that Go and JavaScript read it alike.
   */
  pattern?: string;
  /** For the same: of a JSON object, the names (in lower case) that are refused. */
  reservedNames?: readonly string[];
  /** Shown nowhere, not even where it is wrong. */
  secret?: true;
  parse(given: string): Parsed<Value>;
  /** What holds where nothing is given. */
  otherwise: Otherwise<Value>;
  description: string;
}>;

type Shape<Value> = Omit<Option<Value>, 'otherwise' | 'description'>;

function text<Value>(
  takes: string,
  parse: (given: string) => Parsed<Value>,
  pattern?: string,
): Shape<Value> {
  return { type: 'string', takes, parse, ...(pattern !== undefined && { pattern }) };
}

function wholeNumber(minimum: number, maximum: number): Shape<number> {
  return {
    type: 'integer',
    takes: `a whole number from ${minimum} to ${maximum}`,
    limits: { minimum, maximum },
    parse(given) {
      const value = /^\d{1,15}$/.test(given) ? Number(given) : Number.NaN;
      return value >= minimum && value <= maximum ? { value } : { fault: undefined };
    },
  };
}

function seconds(minimum: number, maximum: number): Shape<number> {
  return { ...wholeNumber(minimum, maximum), unit: 'seconds' };
}

function choice<const Choice extends string>(...choices: readonly Choice[]): Shape<Choice> {
  return {
    type: 'string',
    takes: `one of ${choices.join(', ')}`,
    limits: { choices },
    parse(given) {
      const value = choices.find((one) => one === given);
      return value === undefined ? { fault: undefined } : { value };
    },
  };
}

const ACTION = { ...choice(...ACTIONS.toReversed()), otherwise: { text: 'drain' } } as const;

const TRUE_OR_FALSE: Shape<boolean> = {
  type: 'boolean',
  takes: 'true or false',
  parse(given) {
    return ['true', 'false'].includes(given) ? { value: given === 'true' } : { fault: undefined };
  },
};

/** For what may be left out; `told` says what that means. */
function absent(told: string) {
  return { told, from: () => ({ value: undefined }) };
}

function derived<Value>(value: Value | undefined): Readonly<{ value: Value }> | undefined {
  return value === undefined ? undefined : { value };
}

const DAY_SECONDS = 86_400;

const REGION_PATTERN = '[a-z]+(-[a-z]+)+-[0-9]+';
const ACCOUNT_PATTERN = '[0-9]{12}';
const EVENT_BUS_PATTERN = `^(arn:aws[-a-z]*:events:${REGION_PATTERN}:${ACCOUNT_PATTERN}:event-bus/)?[-._A-Za-z0-9]{1,256}$`;
const EVENT_BUS = new RegExp(EVENT_BUS_PATTERN);
const DNS_NAME_PATTERN = '[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?';
const LABEL_NAME_PATTERN = '[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?';
const LABEL_KEY_PATTERN = `(${DNS_NAME_PATTERN}/)?${LABEL_NAME_PATTERN}`;

/** A list with this separator, blanks around its items. */
function listPattern(item: string): string {
  return ` *${item} *(, *${item} *)*`;
}

function requirementPattern(): string {
  const value = `(${LABEL_NAME_PATTERN})?`;
  return `(${[
    String.raw`${LABEL_KEY_PATTERN} +(in|notin) *\(${listPattern(value)}\)`,
    `${LABEL_KEY_PATTERN} *(=|==|!=) *${value}`,
    `! *${LABEL_KEY_PATTERN}`,
    LABEL_KEY_PATTERN,
  ].join('|')})`;
}

const PORT_PATTERN =
  '([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])';
/** Without user and password, which belong into a header. */
const WEBHOOK_URL_PATTERN = String.raw`https?://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9a-f:]+\])(:${PORT_PATTERN})?([/?][!-~]*)?`;
const HEADER_PATTERN = String.raw`"[-A-Za-z0-9_]{1,100}" *: *"([ !#-\[\]-~]|\\["\\/])*"`;
const HEADERS_PATTERN = String.raw`^ *\{ *(${HEADER_PATTERN} *(, *${HEADER_PATTERN} *)*)?\} *$`;
const HEADERS = new RegExp(HEADERS_PATTERN);
const headersSchema = z.record(z.string(), z.string());
const INTEGRATION_KEY_PATTERN = '^[!-~]{1,256}$';
const INTEGRATION_KEY = new RegExp(INTEGRATION_KEY_PATTERN);
const WEBHOOK_SECRETS = new RegExp(`^${listPattern(SECRET_PATTERN)}$`);

const TABLE = {
  queueUrl: {
    ...text(
      'the URL of a standard SQS queue, such as https://sqs.eu-central-1.amazonaws.com/123456789012/NAME',
      parseQueueUrl,
      String.raw`^https?://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9a-f:]+\])(:[0-9]{1,4})?/([-A-Za-z0-9._~%]+/)*[-A-Za-z0-9_]{1,80}$`,
    ),
    otherwise: 'required',
    description:
      'The SQS queue that the EventBridge rules and lifecycle hooks send to. Requests go to the host of this URL, or to AWS_ENDPOINT_URL_SQS or AWS_ENDPOINT_URL where one of them is set.',
  },
  awsRegion: {
    ...text(
      'the name of an AWS region, such as eu-central-1',
      (given) => (REGION.test(given) ? { value: given } : { fault: undefined }),
      `^${REGION_PATTERN}$`,
    ),
    otherwise: {
      told: 'the region in QUEUE_URL',
      from: (queueUrl: string) => derived(regionOfQueue(queueUrl)),
      queueUrlPattern: `^https?://(([-a-z0-9]+[.])*(sqs|sqs-fips)[.]${REGION_PATTERN}[.]|${REGION_PATTERN}[.]queue[.]|queue[.]amazonaws[.]com/)`,
    },
    description:
      "The region of the cluster's instances and Auto Scaling groups. The queue may be in another one: its URL says which.",
  },
  kubeconfig: {
    ...text('the path of a kubeconfig file', (path) => ({ value: path }), '^.+$'),
    otherwise: absent("the service account of the controller's pod"),
    description: 'How to reach the Kubernetes API server from outside the cluster.',
  },
  nodeSelector: {
    ...text(
      'a label selector, such as pool=spot,team in (a, b)',
      parseNodeSelector,
      `^${listPattern(requirementPattern())}$`,
    ),
    otherwise: { told: 'all nodes', from: () => ({ value: '' }) },
    description: 'The nodes to look after. Messages about others are deleted without effect.',
  },
  managedNodes: {
    ...choice('assist', 'handle', 'ignore'),
    otherwise: { text: 'assist' },
    description:
      'Nodes that others manage, told by the labels karpenter.sh/nodepool and eks.amazonaws.com/nodegroup. assist: rebalance recommendations and lifecycle hooks are left to the owner, everything else is done. handle: all is done. ignore: nothing is.',
  },
  hooks: {
    ...text(
      'patterns GROUP/HOOK, separated by commas, in which * and ? are wildcards',
      parseHooks,
      `^${listPattern('([*]|[^, /]([^,/]*[^, /])?/[^, ]([^,]*[^, ])?)')}$`,
    ),
    otherwise: { text: '*' },
    description:
      'The lifecycle hooks that are ours to complete and to keep alive. Other terminate hooks still drain their node, but completing them is left to their owners.',
  },
  eventAccounts: {
    ...text(
      'account IDs of 12 digits, separated by commas, or * for any account',
      parseAccounts,
      `^( *[*] *|${listPattern(ACCOUNT_PATTERN)})$`,
    ),
    otherwise: {
      told: 'the account in QUEUE_URL',
      from: (queueUrl: string) => derived(accountsOfQueue(queueUrl)),
      queueUrlPattern: `/${ACCOUNT_PATTERN}/[^/]+$`,
    },
    description: 'Events of other AWS accounts are deleted without effect.',
  },
  spotInterruptionAction: {
    ...ACTION,
    description:
      'What a spot interruption calls for. drain: mark the node and evict its pods. cordon: all marks, no evictions. prefer-no-schedule: a PreferNoSchedule taint only. ignore: nothing. Of several interruptions of one node, the strongest action wins.',
  },
  capacityReservationAction: {
    ...ACTION,
    description:
      'The same for the interruption of a capacity reservation and the end of a capacity block.',
  },
  rebalanceAction: { ...ACTION, description: 'The same for a rebalance recommendation.' },
  scheduledChangeAction: {
    ...ACTION,
    description: 'The same for a scheduled change (maintenance, retirement) of AWS Health.',
  },
  stateChangeAction: {
    ...ACTION,
    description: 'The same for an instance that is being stopped or terminated.',
  },
  terminateHookAction: {
    ...ACTION,
    description:
      'The same for a terminate hook. Once the action has ended, the hooks that are ours are completed; with ignore, none is.',
  },
  dryRun: {
    ...TRUE_OR_FALSE,
    otherwise: { text: 'false' },
    description:
      'Plan and log all that would be done, and do none of it: nothing is written, evicted, completed or deleted. Messages stay in the queue and their receive counts rise, so it wants a queue of its own.',
  },
  capacityReservationLabel: {
    ...text('the key of a node label', parseLabelKey, `^${LABEL_KEY_PATTERN}$`),
    otherwise: { text: 'karpenter.k8s.aws/capacity-reservation-id' },
    description:
      'The label that holds the ID of the capacity reservation a node runs in. The end of a capacity block is told by that ID alone.',
  },
  deadlineMarginSeconds: {
    ...seconds(0, 60),
    otherwise: { text: '5' },
    description:
      'How long before AWS takes the instance everything on it should be over: every deadline is brought forward by this much.',
  },
  disruptionBudgets: {
    ...choice('until-deadline', 'always'),
    otherwise: { text: 'until-deadline' },
    description:
      'How long PodDisruptionBudgets are respected. until-deadline: a pod that a budget still holds when its grace period is about to outlast the deadline is deleted, so that it ends in order rather than with the machine. always: never deleted past a budget.',
  },
  podGraceSeconds: {
    ...seconds(1, DAY_SECONDS),
    otherwise: absent("the pod's own grace period"),
    description:
      'An upper limit for the grace period of evicted pods. It only shortens; a deadline may shorten it further.',
  },
  voluntaryDrainLimit: {
    ...text(
      'a whole number from 1 to 100000, or a percentage from 1% to 100%',
      parseDrainLimit,
      '^([1-9][0-9]{0,4}|100000|([1-9][0-9]?|100)%)$',
    ),
    otherwise: { text: '10%' },
    description:
      'How many nodes may be drained at once for rebalance recommendations and scheduled changes, which can wait their turn: a number, or a percentage of the nodes that NODE_SELECTOR chooses, rounded down, but at least one. From half an hour before its deadline on (or the lead, if that is shorter) a node is drained whatever the limit.',
  },
  scheduledChangeLeadSeconds: {
    ...seconds(1, 30 * DAY_SECONDS),
    otherwise: { text: '3600' },
    description:
      'How long before the start of a scheduled reboot, network or power maintenance the drain of the node begins. Until then nothing but a PreferNoSchedule taint keeps new pods away. Retirements, stops and terminations are drained as soon as they are known.',
  },
  terminateHookDrainSeconds: {
    ...seconds(30, 2 * DAY_SECONDS),
    otherwise: absent("the hook's heartbeat timeout"),
    description:
      "How long a drain for a terminate hook of ours may take. Where this is longer than the hook's timeout, heartbeats keep the hook alive; AWS allows 48 hours or 100 times the timeout, whichever is less.",
  },
  afterVoluntaryDrain: {
    ...choice('keep', 'replace'),
    otherwise: { text: 'keep' },
    description:
      'What becomes of an instance that was drained for a rebalance recommendation or its retirement. keep: nothing. replace: it is terminated in its Auto Scaling group without lowering the desired capacity, so that the group launches another.',
  },
  excludeFromLoadBalancers: {
    ...TRUE_OR_FALSE,
    otherwise: { text: 'true' },
    description:
      'Take the node out of load balancers that target nodes, by the label node.kubernetes.io/exclude-from-external-load-balancers.',
  },
  outOfServiceTaint: {
    ...TRUE_OR_FALSE,
    otherwise: { text: 'false' },
    description:
      'Put the taint node.kubernetes.io/out-of-service on a node whose instance is stopped or terminated, so that its pods are removed and its volumes detached at once: only when the node is not Ready and its kubelet has renewed no Lease since, and never longer than until it is Ready again.',
  },
  loadBalancerDrainSeconds: {
    ...seconds(0, 3600),
    otherwise: { text: '0' },
    description:
      'How long to wait, once the node is empty, before its lifecycle hooks are completed, so that load balancers finish deregistering it. Never beyond the deadline.',
  },
  waitForVolumes: {
    ...TRUE_OR_FALSE,
    otherwise: { text: 'true' },
    description:
      'Before completing lifecycle hooks, wait until the volumes of the evicted pods are detached, so that StatefulSets start elsewhere at once. Never beyond the deadline.',
  },
  unknownInstanceGraceSeconds: {
    ...seconds(0, 3600),
    otherwise: { text: '60' },
    description:
      'How long a message about an instance that no node claims waits for the node to register. After that it is deleted as not of this cluster. So long, too, a Node that was deleted may register anew before the interruption that waited there for its turn is told to be not possible.',
  },
  completeUnknownHooks: {
    ...TRUE_OR_FALSE,
    otherwise: { text: 'false' },
    description:
      "Complete the lifecycle hooks of instances that never became nodes. Right only where the queue gets the hooks of this cluster's groups alone.",
  },
  leaderElection: {
    ...TRUE_OR_FALSE,
    otherwise: { text: 'true' },
    description:
      'Whether replicas agree by a Lease on the one that works; the others stand by with their node index filled. Without it, run one replica.',
  },
  leaseName: {
    ...text('the name of a Lease', parseDnsName, `^${DNS_NAME_PATTERN}$`),
    otherwise: { text: 'node-termination-controller' },
    description:
      "The Lease that replicas agree by, in the namespace of the controller's own pod. One for each queue.",
  },
  httpPort: {
    ...wholeNumber(0, 65_535),
    otherwise: { text: '8080' },
    description:
      'The port of /healthz, /readyz and /metrics. 0 takes any free port, which the log names.',
  },
  podNamespace: {
    ...text('the name of a namespace', parseDnsName, `^${DNS_NAME_PATTERN}$`),
    otherwise: absent('unknown'),
    description:
      "The namespace of the controller's own pod, from the downward API, and of its Lease. Where it is not given: that of the kubeconfig's context, or default.",
  },
  podName: {
    ...text('the name of a pod', parseDnsName, `^${DNS_NAME_PATTERN}$`),
    otherwise: absent('unknown'),
    description:
      "The name of the controller's own pod, from the downward API, by which the Lease names its holder. When its own node is drained, it evicts itself last.",
  },
  kubernetesEvents: {
    ...TRUE_OR_FALSE,
    otherwise: { text: 'true' },
    description:
      'Whether Nodes and Pods are told by Kubernetes events what becomes of them, as kubectl describe shows it. They are the last of all requests, limited in rate, and dropped where there is no room.',
  },
  eventBusName: {
    ...text(
      'the name or the ARN of an EventBridge event bus',
      (given) => (EVENT_BUS.test(given) ? { value: given } : { fault: undefined }),
      EVENT_BUS_PATTERN,
    ),
    otherwise: absent('off'),
    description:
      'The event bus that is told what became of each interruption, with detail-type Node Interruption Outcome.',
  },
  webhookUrl: {
    ...text('an http or https URL', parseWebhookUrl, `^${WEBHOOK_URL_PATTERN}$`),
    secret: true,
    otherwise: absent('off'),
    description:
      'Where to POST a message when an interruption is recorded on its Node, and when it has come to its end (docs/webhook.md). Proxies by HTTPS_PROXY, HTTP_PROXY and NO_PROXY.',
  },
  webhookTemplate: {
    ...text('a Liquid template', (given) => ({
      value: concealed(given, `${given.length} characters`),
    })),
    secret: true,
    otherwise: absent('a CloudEvent'),
    description:
      'The body of a message, with its fields in {{ }}. They are escaped for JSON, unless WEBHOOK_HEADERS gives a Content-Type that is none.',
  },
  webhookTemplateFile: {
    ...text('the path of a file', (path) => ({ value: path })),
    otherwise: absent('none'),
    description: 'A file with that template, in the place of WEBHOOK_TEMPLATE.',
  },
  webhookHeaders: {
    ...text('a JSON object of header names and texts', parseHeaders, HEADERS_PATTERN),
    reservedNames: RESERVED_HEADERS,
    secret: true,
    otherwise: absent('none'),
    description: 'Further headers of the messages: Authorization, say.',
  },
  webhookSecret: {
    ...text(
      'whsec_ and 24 bytes or more in base64; several, while one takes the place of another, separated by commas',
      parseWebhookSecrets,
      `^${listPattern(SECRET_PATTERN)}$`,
    ),
    secret: true,
    otherwise: absent('not signed'),
    description: 'Signs the messages by the convention of Standard Webhooks.',
  },
  webhookIntegrationKey: {
    ...text(
      'up to 256 visible characters',
      (given) =>
        INTEGRATION_KEY.test(given) ? { value: concealed(given, 'given') } : { fault: undefined },
      INTEGRATION_KEY_PATTERN,
    ),
    secret: true,
    otherwise: absent('none'),
    description:
      "A key that the receiver wants in the body, which the template has there as {{ integrationKey }}: PagerDuty's routing key, say.",
  },
  webhookStages: {
    ...text(
      `some of ${STAGES.join(', ')}, separated by commas`,
      parseStages,
      `^${listPattern(`(${STAGES.join('|')})`)}$`,
    ),
    otherwise: { text: STAGES.join(',') },
    description:
      'What to tell of. received: an interruption was recorded on its Node. drained: all pods have left. failed: pods were left at the deadline, or when the Node or its machine was gone. cancelled: it was over before the node was empty.',
  },
  logLevel: {
    ...choice('debug', 'info', 'warn', 'error'),
    otherwise: { text: 'info' },
    description: 'The least severe level that is logged.',
  },
  logFormat: {
    ...choice('json', 'text'),
    otherwise: { text: 'json' },
    description: 'json: an object a line, for machines. text: aligned lines, for people.',
  },
} as const satisfies Readonly<Record<string, Option<unknown>>>;

type Key = keyof typeof TABLE;
type ValueOf<Row> = Row extends {
  parse(given: string): Parsed<infer Value>;
  otherwise: infer Absent;
}
  ? Value | (Absent extends { from(queueUrl: string): infer Derived } ? Told<Derived> : never)
  : never;
type Told<Derived> = Derived extends { value: infer Value } ? Value : never;

/** What the process was told, checked and complete. */
export type Options = { readonly [One in Key]: ValueOf<(typeof TABLE)[One]> };

const ROWS: ReadonlyMap<string, Option<unknown>> = new Map(Object.entries(TABLE));

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads flags (`--queue-url X`, `--queue-url=X`; booleans `--x`, `--x=false`) and the environment. A
 * flag wins; an empty variable counts as not set. All faults are found, each told in a sentence.
 */
export function parseOptions(
  flags: readonly string[],
  environment: Environment,
): Readonly<{ options: Options }> | Readonly<{ faults: readonly string[] }> {
  const { given, faults } = readFlags(flags);
  const values: Record<string, unknown> = {};
  const unusable = new Set<string>();
  for (const [key, row] of ROWS) {
    const said = given.has(key) ? given.get(key) : (variable(environment, key) ?? defaultText(row));
    if (said === undefined) {
      if (given.has(key)) unusable.add(key);
      continue;
    }
    const parsed = row.parse(said);
    if ('value' in parsed) {
      values[key] = parsed.value;
      continue;
    }
    unusable.add(key);
    const name = given.has(key) ? flagOf(key) : variableOf(key);
    const why = parsed.fault === undefined ? '' : `, which ${parsed.fault}`;
    const shown = row.secret === true ? 'given a value that is not shown here' : quote(said);
    faults.push(`${name} is ${shown}${why}: it takes ${row.takes}.`);
  }
  const { queueUrl } = values;
  for (const [key, { otherwise, takes }] of ROWS) {
    if (key in values || unusable.has(key)) continue;
    const hint = `${flagOf(key)} or ${variableOf(key)} takes ${takes}`;
    if (otherwise === 'required') {
      faults.push(`${variableOf(key)} is missing: ${hint}.`);
    } else if ('from' in otherwise && typeof queueUrl === 'string') {
      const holds = otherwise.from(queueUrl);
      if (holds !== undefined) values[key] = holds.value;
      else faults.push(`${variableOf(key)} is missing, and QUEUE_URL does not tell it: ${hint}.`);
    }
  }
  if (hasWebhook(values) && ![...unusable].some((key) => key.startsWith('webhook'))) {
    const webhook = webhookSettings(values, environment);
    if (webhook !== undefined && 'faults' in webhook) faults.push(...webhook.faults);
  }
  return faults.length === 0 && isComplete(values) ? { options: values } : { faults };
}

/** As below; of options that are not given nothing is known where the queue is not. */
function hasWebhook(values: object): values is WebhookOptions {
  return 'webhookStages' in values;
}

/** Each value is of its row's own parse or derivation, so its type is its row's. */
function isComplete(values: object): values is Options {
  return [...ROWS.keys()].every((key) => key in values);
}

function variable(environment: Environment, key: string): string | undefined {
  const value = environment[variableOf(key)];
  return value === '' ? undefined : value;
}

function defaultText({ otherwise }: Option<unknown>): string | undefined {
  return otherwise !== 'required' && 'text' in otherwise ? otherwise.text : undefined;
}

/** What flags say, by key; undefined: given, but so that a fault tells of it. */
function readFlags(flags: readonly string[]): {
  given: Map<string, string | undefined>;
  faults: string[];
} {
  const given = new Map<string, string | undefined>();
  const faults: string[] = [];
  for (let at = 0; at < flags.length; at++) {
    const argument = flags[at] ?? '';
    if (!argument.startsWith('--')) {
      faults.push(
        `${quote(argument)} is not expected here: options are given as --flag VALUE, --flag=VALUE or --flag.`,
      );
      continue;
    }
    const equals = argument.indexOf('=');
    const flag = equals < 0 ? argument : argument.slice(0, equals);
    const next =
      equals < 0 && flags[at + 1]?.startsWith('--') === false ? flags[at + 1] : undefined;
    const [key, row] = [...ROWS].find(([one]) => flagOf(one) === flag) ?? [];
    if (key === undefined || row === undefined) {
      const close = closestFlag(flag);
      faults.push(
        `There is no flag ${quote(flag)}${close === undefined ? '.' : `: did you mean ${close}?`}`,
      );
      // What follows an unknown flag is most likely its value.
      if (next !== undefined) at++;
      continue;
    }
    let value = equals < 0 ? next : argument.slice(equals + 1);
    if (row.type === 'boolean' && equals < 0) value = 'true';
    else if (next !== undefined) at++;
    if (given.has(key)) {
      faults.push(`${flag} is given more than once: it takes ${row.takes}.`);
      value = undefined;
    } else if (value === undefined || value === '') {
      faults.push(`${flag} is given without a value: it takes ${row.takes}.`);
      value = undefined;
    }
    given.set(key, value);
  }
  return { given, faults };
}

function variableOf(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

function flagOf(key: string): string {
  return `--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Quoted and cut, so that no value can break up or flood the report. */
function quote(value: string): string {
  return JSON.stringify(value.length > 200 ? `${value.slice(0, 200)}…` : value);
}

/** The flag that was most likely meant, if one is near. */
function closestFlag(flag: string): string | undefined {
  const wanted = flag.toLowerCase().replaceAll('_', '-').slice(0, 100);
  const near = [...ROWS.keys()]
    .map((key) => ({ flag: flagOf(key), edits: editDistance(wanted, flagOf(key)) }))
    .toSorted((a, b) => a.edits - b.edits)[0];
  return near !== undefined && near.edits <= Math.max(2, wanted.length / 4) ? near.flag : undefined;
}

/** Levenshtein's, with neighbours swapped counted as one. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const cell = (row: number, column: number): number => rows[row]?.[column] ?? Infinity;
  for (let i = 1; i <= a.length; i++) {
    rows[i] = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      rows[i]?.push(
        Math.min(
          cell(i - 1, j) + 1,
          cell(i, j - 1) + 1,
          cell(i - 1, j - 1) + (same ? 0 : 1),
          swapped ? cell(i - 2, j - 2) + 1 : Infinity,
        ),
      );
    }
  }
  return cell(a.length, b.length);
}

const REGION = /^[a-z]+(-[a-z]+)+-\d+$/;
const ACCOUNT = /^\d{12}$/;

function parseQueueUrl(given: string): Parsed<string> {
  if (!URL.canParse(given)) return { fault: 'is not a URL' };
  const url = new URL(given);
  if (!['http:', 'https:'].includes(url.protocol)) return { fault: 'is neither http nor https' };
  const name = url.pathname.split('/').at(-1) ?? '';
  // In a FIFO queue a message that waits for its node would hold up all others of its group.
  if (name.endsWith('.fifo')) return { fault: 'is a FIFO queue' };
  if (!/^[\w-]{1,80}$/.test(name)) return { fault: 'does not end in the name of a queue' };
  return { value: given };
}

/**
 * The region that the host of a queue's URL names: `sqs.REGION.…`, `vpce-….sqs.REGION.vpce.…`,
 * `sqs-fips.REGION.…`, and the older `REGION.queue.…` and `queue.…`.
 * https://docs.aws.amazon.com/general/latest/gr/sqs-service.html
 */
export function regionOfQueue(queueUrl: string): string | undefined {
  const { hostname } = new URL(queueUrl);
  if (hostname === 'queue.amazonaws.com') return 'us-east-1';
  const labels = hostname.split('.');
  const service = labels.findIndex((label) => ['sqs', 'sqs-fips', 'queue'].includes(label));
  if (service < 0) return undefined;
  const region = labels[service] === 'queue' ? labels[service - 1] : labels[service + 1];
  return region !== undefined && REGION.test(region) ? region : undefined;
}

function accountsOfQueue(queueUrl: string): readonly string[] | undefined {
  const account = new URL(queueUrl).pathname.split('/').at(-2);
  return account !== undefined && ACCOUNT.test(account) ? [account] : undefined;
}

function parseNodeSelector(given: string): Parsed<string> {
  try {
    parseSelector(given);
    return { value: given };
  } catch (error) {
    return { fault: `is none: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function parseDrainLimit(given: string): Parsed<DrainLimit> {
  const [, digits, percent] = /^(\d{1,6})(%?)$/.exec(given) ?? [];
  const value = Number(digits ?? Number.NaN);
  const isPercentage = percent === '%';
  if (!(value >= 1 && value <= (isPercentage ? 100 : 100_000))) return { fault: undefined };
  return { value: isPercentage ? { percent: value } : { nodes: value } };
}

/** https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set */
function parseLabelKey(given: string): Parsed<string> {
  const [name = '', prefix] = given.split('/').toReversed();
  const isName = /^[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?$/.test(name);
  const isPrefixed = prefix === undefined || 'value' in parseDnsName(prefix);
  const isKey = isName && isPrefixed && given.split('/').length <= 2;
  return isKey ? { value: given } : { fault: undefined };
}

function parseHooks(given: string): Parsed<HookPatterns> {
  const parsed = parseHookPatterns(given);
  return 'fault' in parsed ? parsed : { value: parsed };
}

function parseAccounts(given: string): Parsed<readonly string[] | '*'> {
  if (given.trim() === '*') return { value: '*' };
  const accounts = given.split(',').map((account) => account.trim());
  const wrong = accounts.find((account) => !ACCOUNT.test(account));
  return wrong === undefined ? { value: accounts } : { fault: `has ${quote(wrong)} in it` };
}

function parseWebhookUrl(given: string): Parsed<Concealed<URL>> {
  if (!URL.canParse(given)) return { fault: 'is not a URL' };
  const url = new URL(given);
  if (!['http:', 'https:'].includes(url.protocol)) return { fault: 'is neither http nor https' };
  if (url.username !== '' || url.password !== '') {
    return { fault: 'has a user or a password in it (WEBHOOK_HEADERS takes Authorization)' };
  }
  // Who knows the path of a chat's webhook may write there.
  return { value: concealed(url, `${url.origin}/…`) };
}

function parseHeaders(given: string): Parsed<Concealed<Readonly<Record<string, string>>>> {
  if (!HEADERS.test(given)) return { fault: undefined };
  const headers = headersSchema.parse(JSON.parse(given));
  return { value: concealed(headers, Object.keys(headers).join(', ')) };
}

function parseWebhookSecrets(given: string): Parsed<Concealed<readonly string[]>> {
  if (!WEBHOOK_SECRETS.test(given)) return { fault: undefined };
  const secrets = given.split(',').map((secret) => secret.trim());
  return { value: concealed(secrets, `${secrets.length} given`) };
}

function parseStages(given: string): Parsed<readonly Stage[]> {
  const names = given.split(',').map((name) => name.trim());
  const stages = names.flatMap((name) => STAGES.find((stage) => stage === name) ?? []);
  const wrong = names.find((name) => !STAGES.some((stage) => stage === name));
  return wrong === undefined ? { value: stages } : { fault: `has ${quote(wrong)} in it` };
}

function parseDnsName(given: string): Parsed<string> {
  return /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(given)
    ? { value: given }
    : { fault: undefined };
}

/** The table as data: for `options --format json`, and for whatever is generated from it. */
export function describeOptions() {
  return [...ROWS].map(([key, { parse: _, otherwise, ...row }]) => ({
    /** Of the chart's `controller`. */
    key,
    variable: variableOf(key),
    flag: flagOf(key),
    required: otherwise === 'required',
    /** As one would write it; null where `defaultMeaning` tells it in words, or where it is required. */
    default: otherwise !== 'required' && 'text' in otherwise ? otherwise.text : null,
    defaultMeaning: otherwise !== 'required' && 'told' in otherwise ? otherwise.told : null,
    /** Where the default is taken from the queue's URL: matches the URLs that tell it. */
    ...(otherwise !== 'required' &&
      'queueUrlPattern' in otherwise && { queueUrlPattern: otherwise.queueUrlPattern }),
    ...row,
  }));
}

/** The table as a Markdown document. */
export function optionsMarkdown(): string {
  const rows = describeOptions().map((row) => {
    const unit = row.unit === undefined ? '' : ` ${row.unit}`;
    const holds = row.default === null ? row.defaultMeaning : `\`${row.default}\`${unit}`;
    const takes = `${row.takes.slice(0, 1).toUpperCase()}${row.takes.slice(1)}.`;
    return [
      `\`${row.variable}\``,
      `\`${row.flag}\``,
      holds ?? '**required**',
      takes,
      row.description,
    ];
  });
  const table = [
    ['Variable', 'Flag', 'Default', 'Takes', 'Meaning'],
    Array(5).fill('---'),
    ...rows,
  ];
  return `# Options

Each option is an environment variable and a flag of \`node-termination-controller run\`; the flag wins. A flag is written \`--flag VALUE\` or \`--flag=VALUE\`, a flag for true or false also \`--flag\` alone. An empty variable counts as not set. Whatever is wrong is reported together, with exit code 2, before anything starts.

Credentials and endpoints of AWS are found as by every AWS SDK: IAM roles for service accounts, EKS Pod Identity, instance profile, \`AWS_PROFILE\`, \`AWS_ENDPOINT_URL\` and the rest.

${table.map((cells) => `| ${cells.map(escapeCell).join(' | ')} |`).join('\n')}
`;
}

export function escapeCell(cell: string): string {
  return cell.replaceAll('|', '\\|');
}
