import type { Event } from '../events/event.ts';

/** The kinds people see: value of our label and taint. */
export const INTERRUPTION_KINDS = [
  'spot-interruption',
  'capacity-reservation',
  'rebalance',
  'scheduled-change',
  'terminate-hook',
  'state-change',
] as const;
export type InterruptionKind = (typeof INTERRUPTION_KINDS)[number];

/** One reason to empty one node, as the journal keeps it. Times are epoch milliseconds. */
export type Interruption = Readonly<{
  /** Identity: what a further message about the same thing is recognised by. */
  id: string;
  kind: InterruptionKind;
  /** When AWS issued the event that rules. */
  time: number;
  /** When the first event of it was recorded. */
  recordedAt: number;
  /** When the machine goes; undefined: unknown, or never by itself. Hooks derive it from their timeout. */
  deadlineAt: number | undefined;
  hook: InterruptionHook | undefined;
  unknown: UnknownFields;
}>;

/** What a later program of the same journal version wrote and this one does not know: kept as it is. */
export type UnknownFields = Readonly<Record<string, unknown>>;

export type InterruptionHook = Readonly<{
  group: string;
  name: string;
  token: string;
  /** The hook's heartbeat timeout; undefined until it was described. */
  timeoutSeconds: number | undefined;
  /** When its completion was accepted, or found to be over. */
  completedAt: number | undefined;
  unknown: UnknownFields;
}>;

/** Of the spot notice: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html */
const SPOT_NOTICE_MS = 120_000;

/**
 * Told 40 minutes before the block ends; its instances begin to go half an hour before that.
 * https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/capacity-blocks-monitor.html
 */
const CAPACITY_BLOCK_NOTICE_MS = 600_000;

/** The events that are interruptions of a node this version acts on. */
export type InterruptingEvent = Extract<
  Event,
  {
    kind:
      | 'spot-interruption'
      | 'rebalance-recommendation'
      | 'terminate-hook'
      | 'capacity-reservation-interruption'
      | 'capacity-block-expiry';
  }
>;

export function isInterrupting(event: Event): event is InterruptingEvent {
  switch (event.kind) {
    case 'spot-interruption':
    case 'rebalance-recommendation':
    case 'terminate-hook':
    case 'capacity-reservation-interruption':
    case 'capacity-block-expiry':
      return true;
    case 'state-change':
    case 'launch-hook':
    case 'scheduled-change':
      return false;
    default:
      return assertNever(event);
  }
}

/** The kind that people see, which options are named after. */
export function kindOf(event: InterruptingEvent): InterruptionKind {
  switch (event.kind) {
    case 'spot-interruption':
    case 'terminate-hook':
      return event.kind;
    case 'capacity-reservation-interruption':
    case 'capacity-block-expiry':
      return 'capacity-reservation';
    case 'rebalance-recommendation':
      return 'rebalance';
    default:
      return assertNever(event);
  }
}

/** The interruption that an event begins; merging decides whether it is news. */
export function interruptionOf(event: InterruptingEvent, now: number): Interruption {
  const common = {
    kind: kindOf(event),
    time: event.time,
    recordedAt: now,
    hook: undefined,
    unknown: {},
  };
  switch (event.kind) {
    case 'spot-interruption':
      return event.action === 'hibernate'
        ? // Hibernation begins with the notice: nothing is left of its window.
          { ...common, id: 'spot-hibernate', deadlineAt: event.time }
        : {
            ...common,
            id: 'spot-interruption',
            deadlineAt: event.time + SPOT_NOTICE_MS,
          };
    case 'capacity-reservation-interruption':
      return {
        ...common,
        id: 'capacity-reservation',
        deadlineAt: event.terminatesAt ?? event.time + SPOT_NOTICE_MS,
      };
    case 'capacity-block-expiry':
      return {
        ...common,
        id: 'capacity-block',
        deadlineAt: event.time + CAPACITY_BLOCK_NOTICE_MS,
      };
    case 'rebalance-recommendation':
      return { ...common, id: 'rebalance', deadlineAt: undefined };
    case 'terminate-hook':
      return {
        ...common,
        id: `hook/${event.token}`,
        deadlineAt: undefined,
        hook: {
          group: event.group,
          name: event.hook,
          token: event.token,
          timeoutSeconds: undefined,
          completedAt: undefined,
          unknown: {},
        },
      };
    default:
      return assertNever(event);
  }
}

/** Paced interruptions may wait their turn; all others are emergencies. */
export function isEmergency(kind: InterruptionKind): boolean {
  switch (kind) {
    case 'rebalance':
    case 'scheduled-change':
      return false;
    case 'spot-interruption':
    case 'capacity-reservation':
    case 'terminate-hook':
    case 'state-change':
      return true;
    default:
      return assertNever(kind);
  }
}

function assertNever(value: never): never {
  throw new Error(`unexpected value: ${JSON.stringify(value)}`);
}
