import { createHash } from 'node:crypto';
import * as z from 'zod';
import { episodeOf, type Interruption } from '../plan/interruption.ts';
import { isoTime } from '../plan/iso-time.ts';
import { INTERRUPTION_KINDS } from '../plan/rows.ts';

/** That one interruption was recorded on its Node, for whoever is told of it outside of this process. */
export type InterruptionReceived = Readonly<{
  node: string;
  instanceId: string;
  interruption: Interruption;
  /**
   * When it is recorded, of the plan that rules; at its end, its own, or the later one until which
   * heartbeats keep its hook alive. Undefined: there is none.
   */
  deadlineAt: number | undefined;
}>;

/** What became of it. */
export type InterruptionOutcome = InterruptionReceived &
  Readonly<{
    outcome: (typeof OUTCOMES)[number];
    endedAt: number;
    pods: PodCounts | undefined;
    /** As `namespace/name`, so many of each that a message has room for them. */
    podNames: Readonly<{ left: readonly string[]; stayed: readonly string[] }>;
  }>;

/** How the node's pods left, and how many had not. */
export type PodCounts = Readonly<{
  evicted: number;
  deletedPastBudget: number;
  leftByThemselves: number;
  stayed: number;
}>;

/** Whoever is told of interruptions outside of this process; holds up nobody, and never throws. */
export interface Outcomes {
  received(news: InterruptionReceived): void;
  tell(outcome: InterruptionOutcome): void;
}

export const OUTCOMES = ['drained', 'forced', 'late', 'cancelled', 'not-possible'] as const;

/** Of an interruption: the same in all that is told of it, by whichever process, and in nothing else. */
export function eventIdOf({ instanceId, interruption }: InterruptionReceived): string {
  const digest = createHash('sha256').update(`${instanceId} ${episodeOf(interruption)}`);
  return digest.digest('hex').slice(0, 32);
}

const timeSchema = z.iso.datetime();
const countSchema = z.int().nonnegative();

export const podCountsSchema = z.object({
  evicted: countSchema,
  deletedPastBudget: countSchema,
  leftByThemselves: countSchema,
  stayed: countSchema,
});

/** The detail of the event; docs/outcome-event.schema.json is generated from here. */
export const outcomeEventSchema = z
  .object({
    version: z.literal(1),
    eventId: z
      .string()
      .describe('Of the interruption: the same whoever tells its outcome, and in the webhook.'),
    node: z.string().describe('Name of the Node.'),
    instanceId: z.string(),
    kind: z.enum(INTERRUPTION_KINDS),
    interruption: z
      .string()
      .describe('Tells it from others of the instance; the same in every event about it.'),
    outcome: z
      .enum(OUTCOMES)
      .describe(
        'drained: all pods left within their budgets. forced: the deadline left no time for some budget. late: pods were still there when the deadline came. cancelled: it was over before the node was empty. not-possible: the Node or its machine was gone before its pods had left.',
      ),
    time: timeSchema.describe('When AWS issued the event.'),
    recordedAt: timeSchema.describe('When it was recorded on the Node.'),
    deadline: timeSchema
      .optional()
      .describe(
        'By when the pods had to be gone for this interruption, be there earlier ones of the node: its own deadline, or the later one until which heartbeats kept its hook alive. Absent where it had none.',
      ),
    endedAt: timeSchema,
    secondsToSpare: z
      .number()
      .optional()
      .describe('From the end to that deadline; negative if it came too late.'),
    pods: podCountsSchema
      .optional()
      .describe(
        'Of the whole node, by how they left; absent where it was not drained, or nobody knows.',
      ),
  })
  .describe('Detail of the event `Node Interruption Outcome`.');

export type OutcomeEvent = z.output<typeof outcomeEventSchema>;

/** As the outside reads it. */
export function outcomeEvent(told: InterruptionOutcome): OutcomeEvent {
  const { interruption, deadlineAt, endedAt } = told;
  return {
    version: 1,
    eventId: eventIdOf(told),
    node: told.node,
    instanceId: told.instanceId,
    kind: interruption.kind,
    interruption: interruption.id,
    outcome: told.outcome,
    time: isoTime(interruption.time),
    recordedAt: isoTime(interruption.recordedAt),
    ...(deadlineAt !== undefined && {
      deadline: isoTime(deadlineAt),
      secondsToSpare: Math.round((deadlineAt - endedAt) / 100) / 10,
    }),
    endedAt: isoTime(endedAt),
    ...(told.pods && { pods: told.pods }),
  };
}

export const MOST_REMEMBERED = 40_000;

/**
 * Each interruption's receipt and its first outcome: that of a node which drains on for another reason is
 * told once. What it has handed on counts as told, so it lives no longer than those whom it tells.
 */
export function firstOnly(...all: readonly Outcomes[]): Outcomes {
  const told = new Set<string>();
  const isFirst = (what: string, news: InterruptionReceived): boolean => {
    const key = `${what} ${eventIdOf(news)}`;
    // What is told again and again stays among the latest.
    const isNew = !told.delete(key);
    told.add(key);
    const [oldest] = told;
    if (told.size > MOST_REMEMBERED && oldest !== undefined) told.delete(oldest);
    return isNew;
  };
  return {
    received(news) {
      if (isFirst('received', news)) for (const one of all) one.received(news);
    },
    tell(outcome) {
      if (isFirst('outcome', outcome)) for (const one of all) one.tell(outcome);
    },
  };
}

/** For a bus that is told of the ends alone. */
export function asEvents(put: (event: OutcomeEvent) => void): Outcomes {
  return { received: () => undefined, tell: (outcome) => put(outcomeEvent(outcome)) };
}
