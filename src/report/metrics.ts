import { INTERRUPTION_KINDS } from '../plan/rows.ts';
import { OUTCOMES } from './outcome.ts';
import { STAGES } from './webhook/message.ts';

/**
 * Every metric, as `/metrics` shows it under the prefix `node_termination_`. docs/metrics.md is
 * generated from here. A label has few values, all known beforehand: no node, pod or message is one.
 * What alerts wait for is 0 from the start (`zeros`): of a series that begins with 1 no increase is seen.
 * https://prometheus.io/docs/practices/naming/
 */
export const METRICS = {
  // Intake
  messages_total: {
    type: 'counter',
    labels: ['kind', 'outcome'],
    help: 'Events of messages that were judged for good, by what became of them. Kind none: a message that could not be read.',
    zeros: { kind: ['none'], outcome: ['malformed'] },
  },
  receipt_delay_seconds: {
    type: 'histogram',
    labels: ['kind'],
    buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600, 3600],
    help: "From the event's own time, which has whole seconds, to its receipt.",
  },
  mark_delay_seconds: {
    type: 'histogram',
    labels: ['kind'],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30],
    help: 'From the receipt of an event to the marks on its node.',
  },
  messages_in_hand: {
    type: 'gauge',
    labels: [],
    help: 'Messages received whose end is not settled yet.',
  },
  messages_parked: {
    type: 'gauge',
    labels: [],
    help: 'Messages that wait, hidden, for a node to register or to become Ready.',
  },

  // Draining
  nodes: {
    type: 'gauge',
    labels: ['state'],
    help: 'Nodes that bear a journal, by its state. A standby has none.',
  },
  drains_total: {
    type: 'counter',
    labels: ['kind', 'outcome'],
    help: 'Drains that came to their end. Outcome late: pods were left when the deadline came; such a drain ends later, with another outcome.',
    zeros: {
      kind: INTERRUPTION_KINDS,
      outcome: ['drained', 'late', 'not drained by policy', 'node gone', 'machine off'],
    },
  },
  deadline_spare_seconds: {
    type: 'histogram',
    labels: ['kind'],
    buckets: [-300, -60, -30, -10, -5, 0, 5, 10, 20, 30, 60, 90, 120, 300, 600, 3600],
    help: 'What was left of the time to the deadline when a node was empty; below 0: it came too late.',
  },
  pods_total: {
    type: 'counter',
    labels: ['way'],
    help: 'Pods of drained nodes, by how they left. Way left behind: still there when the deadline came; one that leaves later is counted again.',
    zeros: { way: ['evicted', 'deleted past its budget', 'by itself', 'left behind'] },
  },
  evictions_total: {
    type: 'counter',
    labels: ['request', 'answer'],
    help: 'Evictions, and deletions past a budget or to shorten a grace, by what the API server said.',
  },
  eviction_concurrency_limit: {
    type: 'gauge',
    labels: [],
    help: 'How many evictions may be under way at once, as the API server bears it.',
  },
  lifecycle_hooks_total: {
    type: 'counter',
    labels: ['request', 'result'],
    help: 'Completions and heartbeats of lifecycle hooks, and instances to be replaced, by result. Over: Auto Scaling knows of no such action any more.',
    zeros: {
      request: ['completion', 'heartbeat', 'replacement'],
      result: ['accepted', 'over', 'failed'],
    },
  },

  outcomes_total: {
    type: 'counter',
    labels: ['outcome', 'result'],
    help: 'Outcomes for the event bus, sent or dropped (EVENT_BUS_NAME).',
    zeros: { outcome: OUTCOMES, result: ['sent', 'dropped'] },
  },
  webhook_messages_total: {
    type: 'counter',
    labels: ['stage', 'result'],
    help: 'Messages for the receiver of WEBHOOK_URL, sent or dropped.',
    zeros: { stage: STAGES, result: ['sent', 'dropped'] },
  },

  kubernetes_events_total: {
    type: 'counter',
    labels: ['object', 'result'],
    help: 'Events on Nodes and Pods. Repeated: counted in the series of one that was told before; dropped: there was no room, by the rate limit; failed: the API server did not take it.',
    zeros: { object: ['node', 'pod'], result: ['written', 'repeated', 'dropped', 'failed'] },
  },

  // Outside
  requests_total: {
    type: 'counter',
    labels: ['api', 'operation', 'code'],
    help: 'Requests, by status, or by the name of the error AWS gave. Code none: no answer came.',
  },
  request_duration_seconds: {
    type: 'histogram',
    labels: ['api', 'operation'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    help: 'From sending a request to the end of its answer. Watches are not among them.',
  },

  // This process
  leader: {
    type: 'gauge',
    labels: [],
    help: '1: this replica receives messages and empties nodes; 0: it stands by.',
  },
  build_info: {
    type: 'gauge',
    labels: ['version', 'node_version'],
    help: 'Always 1; the labels tell what runs.',
  },
} as const satisfies Readonly<Record<string, MetricRow>>;

export type MetricRow = Readonly<
  { labels: readonly string[]; help: string } & (
    | { type: 'counter'; zeros?: Readonly<Record<string, readonly string[]>> }
    | { type: 'gauge' }
    | { type: 'histogram'; buckets: readonly number[] }
  )
>;

export type MetricOf<Type extends MetricRow['type']> = {
  [Name in keyof typeof METRICS]: (typeof METRICS)[Name]['type'] extends Type ? Name : never;
}[keyof typeof METRICS];

export type LabelsOf<Name extends keyof typeof METRICS> = Readonly<
  Record<(typeof METRICS)[Name]['labels'][number], string>
>;

export type Reading<Name extends keyof typeof METRICS> = Readonly<{
  labels: LabelsOf<Name>;
  value: number;
}>;

/** How the flow counts what happens. Never throws, and costs little. */
export interface Metrics {
  count<Name extends MetricOf<'counter'>>(name: Name, labels: LabelsOf<Name>, by?: number): void;
  observe<Name extends MetricOf<'histogram'>>(
    name: Name,
    labels: LabelsOf<Name>,
    value: number,
  ): void;
}
