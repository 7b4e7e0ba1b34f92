import * as z from 'zod';
import { isoTime } from '../../plan/iso-time.ts';
import type { NodeFacts } from '../../plan/node.ts';
import { INTERRUPTION_KINDS, ROWS, type InterruptionKind } from '../../plan/rows.ts';
import {
  eventIdOf,
  OUTCOMES,
  podCountsSchema,
  type InterruptionOutcome,
  type InterruptionReceived,
} from '../outcome.ts';

/** What a receiver may be told of: WEBHOOK_STAGES. */
export const STAGES = ['received', 'drained', 'failed', 'cancelled'] as const;
export type Stage = (typeof STAGES)[number];

const timeSchema = z.iso.datetime();

/** What a message says; docs/webhook-message.schema.json is generated from here. */
export const webhookDataSchema = z
  .object({
    version: z.literal(1),
    stage: z
      .enum(STAGES)
      .describe(
        'received: recorded on the Node. drained: all pods have left. failed: pods were left at the deadline, or when the Node or its machine was gone. cancelled: it was over before the node was empty.',
      ),
    outcome: z.enum(OUTCOMES).nullable().describe('As on EventBridge; null while it is open.'),
    eventId: z.string().describe('Of the interruption: the same in all its stages, in no other.'),
    description: z.string().describe('All of it in a sentence.'),
    node: z.string().describe('Name of the Node.'),
    instanceId: z.string(),
    providerId: z.string().nullable().describe('`spec.providerID` of the Node.'),
    instanceType: z.string().nullable().describe('By its label.'),
    zone: z.string().nullable().describe('By its label.'),
    kind: z.enum(INTERRUPTION_KINDS),
    reason: z.string().describe('The kind in detail: a row of docs/how-it-decides.md.'),
    interruption: z.string().describe('Tells it from others of the instance.'),
    autoScalingGroup: z.string().nullable().describe('Of a terminate hook.'),
    lifecycleHook: z.string().nullable().describe('Of a terminate hook: its name.'),
    time: timeSchema.describe('When AWS issued the event.'),
    startTime: timeSchema.describe('Of a scheduled change, its start; else the same as `time`.'),
    recordedAt: timeSchema.describe('When it was recorded on the Node.'),
    deadline: timeSchema
      .nullable()
      .describe('By when the pods have to be gone, where it is known.'),
    endedAt: timeSchema.nullable(),
    secondsToSpare: z.number().nullable().describe('From the end to the deadline.'),
    podCounts: podCountsSchema.nullable().describe('Of the whole node, by how they left.'),
    pods: z
      .array(z.string())
      .describe('`namespace/name` of those that left, at most 250; known from its end on.'),
    podsLeft: z.array(z.string()).describe('Those that had not left then, at most 250.'),
  })
  .describe('Data of a webhook message. Every field is there in every stage.');

export type WebhookData = z.output<typeof webhookDataSchema>;

export type WebhookMessage = Readonly<{
  /** The same whenever, and by whichever process, this stage of this interruption is told. */
  id: string;
  data: WebhookData;
  nodeLabels: Readonly<Record<string, string>>;
}>;

const NO_FACTS: NodeFacts = {
  providerId: undefined,
  instanceType: undefined,
  zone: undefined,
  labels: {},
};

/** `facts`: undefined where the Node is not known any more. */
export function webhookMessage(
  told: InterruptionReceived | InterruptionOutcome,
  facts: NodeFacts = NO_FACTS,
): WebhookMessage {
  const { node, instanceId, interruption, deadlineAt } = told;
  const end = 'outcome' in told ? told : undefined;
  const stage = end === undefined ? 'received' : stageOf(end.outcome);
  const eventId = eventIdOf(told);
  const data: WebhookData = {
    version: 1,
    stage,
    outcome: end?.outcome ?? null,
    eventId,
    description: describe(told),
    node,
    instanceId,
    providerId: facts.providerId ?? null,
    instanceType: facts.instanceType ?? null,
    zone: facts.zone ?? null,
    kind: interruption.kind,
    reason: interruption.row,
    interruption: interruption.id,
    autoScalingGroup: interruption.hook?.group ?? null,
    lifecycleHook: interruption.hook?.name ?? null,
    time: isoTime(interruption.time),
    startTime: isoTime(interruption.change?.startAt ?? interruption.time),
    recordedAt: isoTime(interruption.recordedAt),
    deadline: deadlineAt === undefined ? null : isoTime(deadlineAt),
    endedAt: end === undefined ? null : isoTime(end.endedAt),
    secondsToSpare: end === undefined ? null : (secondsToSpare(end) ?? null),
    podCounts: end?.pods ?? null,
    pods: [...(end?.podNames.left ?? [])],
    podsLeft: [...(end?.podNames.stayed ?? [])],
  };
  return { id: `${eventId}-${stage}`, data, nodeLabels: facts.labels };
}

function secondsToSpare({ deadlineAt, endedAt }: InterruptionOutcome): number | undefined {
  return deadlineAt === undefined ? undefined : Math.round((deadlineAt - endedAt) / 100) / 10;
}

function stageOf(outcome: InterruptionOutcome['outcome']): Stage {
  switch (outcome) {
    case 'drained':
    case 'forced':
      return 'drained';
    case 'late':
    case 'not-possible':
      return 'failed';
    case 'cancelled':
      return 'cancelled';
    default:
      return assertNever(outcome);
  }
}

const KIND_WORDS: Readonly<Record<InterruptionKind, string>> = {
  'spot-interruption': 'spot interruption',
  'capacity-reservation': 'end of a capacity reservation',
  rebalance: 'rebalance recommendation',
  'scheduled-change': 'scheduled change',
  'terminate-hook': 'terminate hook',
  'state-change': 'stop or termination',
};

function describe(told: InterruptionReceived | InterruptionOutcome): string {
  const { node, instanceId, interruption, deadlineAt } = told;
  const { kind, hook } = interruption;
  const by = hook === undefined ? '' : ` (hook ${hook.group}/${hook.name})`;
  const what = `${KIND_WORDS[kind]}${by} of instance ${instanceId}`;
  if (!('outcome' in told)) {
    const until =
      deadlineAt === undefined ? '' : `; its pods have to be gone by ${isoTime(deadlineAt)}`;
    return `Recorded on node ${node}: ${what}${until}.`;
  }
  const { evicted = 0, deletedPastBudget = 0, leftByThemselves = 0, stayed = 0 } = told.pods ?? {};
  const moved = evicted + deletedPastBudget + leftByThemselves;
  switch (told.outcome) {
    case 'drained':
    case 'forced': {
      const spare = secondsToSpare(told);
      const forced = told.outcome === 'forced' ? `, ${deletedPastBudget} past their budgets` : '';
      const left = spare === undefined ? '' : `; ${spare} s to spare`;
      return `Node ${node} is empty, for ${what}: ${countOf(moved)} left${forced}${left}.`;
    }
    case 'late':
      return `Node ${node} was not empty in time, for ${what}: ${countOf(stayed)} there at the deadline.`;
    case 'not-possible': {
      const left =
        told.pods === undefined ? 'its pods are not known' : `${countOf(stayed)} had not left`;
      return `Node ${node} or its machine was gone before it was empty, for ${what}: ${left}.`;
    }
    case 'cancelled':
      return `Over before node ${node} was empty: ${what}.`;
    default:
      return assertNever(told.outcome);
  }
}

function countOf(pods: number): string {
  return pods === 1 ? '1 pod' : `${pods} pods`;
}

const AT = Date.UTC(2026, 2, 1, 12);

/** Of each stage: with all that it may say, and with as little as it can. */
export function exampleMessages(): readonly WebhookMessage[] {
  const node = 'ip-10-0-0-1.eu-central-1.compute.internal';
  const instanceId = 'i-0123456789abcdef0';
  const of = (id: string, row: keyof typeof ROWS) => ({
    id,
    row,
    kind: ROWS[row].kind,
    time: AT,
    recordedAt: AT + 1000,
    deadlineAt: undefined,
    change: undefined,
    begunAt: undefined,
    hook: undefined,
    unknown: {},
  });
  const token = '01234567-89ab-cdef-0123-456789abcdef';
  // Auto Scaling lets groups have such names.
  const hook = {
    group: 'workers "eu" \\ 1',
    name: 'drain',
    token,
    timeoutSeconds: 300,
    completedAt: undefined,
    unknown: {},
  };
  const full: InterruptionReceived = {
    node,
    instanceId,
    interruption: { ...of(`hook/${token}`, 'terminate-hook'), hook },
    deadlineAt: AT + 300_000,
  };
  const facts: NodeFacts = {
    providerId: `aws:///eu-central-1a/${instanceId}`,
    instanceType: 'm7g.large',
    zone: 'eu-central-1a',
    labels: { 'kubernetes.io/hostname': node, 'topology.kubernetes.io/zone': 'eu-central-1a' },
  };
  const sparse: InterruptionReceived = {
    node,
    instanceId,
    interruption: of('rebalance', 'rebalance'),
    deadlineAt: undefined,
  };
  const ends = (told: InterruptionReceived, outcome: InterruptionOutcome['outcome']) => ({
    ...told,
    outcome,
    endedAt: AT + 60_000,
    pods: { evicted: 2, deletedPastBudget: 0, leftByThemselves: 0, stayed: 1 },
    podNames: { left: ['shop/web-0', 'shop/web-1'], stayed: ['shop/db-0'] },
  });
  const bare = { pods: undefined, podNames: { left: [], stayed: [] } };
  const outcomes = ['drained', 'late', 'cancelled'] as const;
  return [
    webhookMessage(full, facts),
    webhookMessage(sparse),
    ...outcomes.flatMap((outcome) => [
      webhookMessage(ends(full, outcome), facts),
      webhookMessage({ ...ends(sparse, outcome), ...bare }),
    ]),
  ];
}

function assertNever(value: never): never {
  throw new Error(`unexpected value: ${JSON.stringify(value)}`);
}
