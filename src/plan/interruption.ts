import type { Event } from '../events/event.ts';
import { ROWS, type InterruptionKind, type Row } from './rows.ts';

/** One reason to empty one node, as the journal keeps it. Times are epoch milliseconds. */
export type Interruption = Readonly<{
  /** Identity: what a further message about the same thing is recognised by. */
  id: string;
  row: Row;
  /** Of the row: what people see. */
  kind: InterruptionKind;
  /** When AWS issued the event that rules; of a scheduled change, the first of a start not before its. */
  time: number;
  /** When the first event of it was recorded. */
  recordedAt: number;
  /** When the machine goes; undefined: unknown, or never by itself. Hooks derive it from their timeout. */
  deadlineAt: number | undefined;
  /** Of a scheduled change. */
  change: ChangeVersion | undefined;
  /** When its turn came, if it is paced; undefined: it waits. Emergencies have none. */
  begunAt: number | undefined;
  hook: InterruptionHook | undefined;
  unknown: UnknownFields;
}>;

/** Tells it from all others of its instance, earlier and later ones under the same ID as well. */
export function episodeOf({ id, recordedAt }: Interruption): string {
  return `${recordedAt} ${id}`;
}

/** One that is over: what old news is recognised by. */
export type EndedInterruption = Interruption & Readonly<{ endedAt: number }>;

/** What a later program of the same journal version wrote and this one does not know: kept as it is. */
export type UnknownFields = Readonly<Record<string, unknown>>;

export type ChangeVersion = Readonly<{
  startAt: number | undefined;
  endAt: number | undefined;
  /** Orders the news about one change. */
  updatedAt: number;
  closed: boolean;
  /** The machine is over all that starts up to then, whatever older or newer news say. */
  doneUntil: number | undefined;
  /**
   * What was said of its start, earliest first, whether it rules or was superseded: each start with
   * the time of the first event of it, without those that tell of none later than one before.
   */
  told: readonly Telling[];
  unknown: UnknownFields;
}>;

/** That an event issued at `time` spoke of this start. */
export type Telling = Readonly<{
  startAt: number | undefined;
  time: number;
  unknown: UnknownFields;
}>;

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
/** What an operating system that goes down leaves to its processes. */
const SHUTDOWN_MS = 30_000;

type StateChange = Extract<Event, { kind: 'state-change' }>;

/** The events that are news of a node this version acts on. */
export type NodeEvent =
  | Extract<
      Event,
      {
        kind:
          | 'spot-interruption'
          | 'rebalance-recommendation'
          | 'terminate-hook'
          | 'capacity-reservation-interruption'
          | 'capacity-block-expiry'
          | 'scheduled-change';
      }
    >
  | (StateChange & Readonly<{ state: Exclude<StateChange['state'], 'pending'> }>);

/** What an event asks for: to empty the node, or only to end something there. */
export type Role =
  | Readonly<{ role: 'interrupts' | 'ends'; event: NodeEvent }>
  | Readonly<{ role: 'nothing'; event?: never }>;

/** Launch hooks are no news of a node: their messages are their record. */
export function roleOf(event: Exclude<Event, { kind: 'launch-hook' }>): Role {
  switch (event.kind) {
    case 'spot-interruption':
    case 'rebalance-recommendation':
    case 'terminate-hook':
    case 'capacity-reservation-interruption':
    case 'capacity-block-expiry':
      return { role: 'interrupts', event };
    case 'scheduled-change':
      return { role: event.status === 'closed' ? 'ends' : 'interrupts', event };
    case 'state-change':
      return roleOfState(event);
    default:
      return assertNever(event);
  }
}

function roleOfState(event: StateChange): Role {
  switch (event.state) {
    case 'stopping':
    case 'shutting-down':
      return { role: 'interrupts', event: { ...event, state: event.state } };
    case 'stopped':
    case 'terminated':
    case 'running':
      return { role: 'ends', event: { ...event, state: event.state } };
    case 'pending':
      return { role: 'nothing' };
    default:
      return assertNever(event.state);
  }
}

/** The kind that people see, which options are named after. */
export function kindOf(event: NodeEvent): InterruptionKind {
  switch (event.kind) {
    case 'spot-interruption':
    case 'terminate-hook':
    case 'scheduled-change':
    case 'state-change':
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

/** What an event says of the node: an interruption (that may be closed), or the machine's own state. */
export type News =
  | Readonly<{ about: 'interruption'; interruption: Interruption }>
  | Readonly<{ about: 'machine'; state: 'stopped' | 'terminated' | 'running'; time: number }>;

/** Merging decides whether it is news indeed. */
export function newsOf(event: NodeEvent, now: number): News {
  if (
    event.kind === 'state-change' &&
    event.state !== 'stopping' &&
    event.state !== 'shutting-down'
  ) {
    return { about: 'machine', state: event.state, time: event.time };
  }
  return { about: 'interruption', interruption: interruptionOf(event, now) };
}

/** The interruption that an event tells of; of one that only ends something, what it ends. */
function interruptionOf(event: NodeEvent, now: number): Interruption {
  const from = (
    row: Row,
    id: string,
    facts: Partial<Pick<Interruption, 'deadlineAt' | 'hook' | 'change'>>,
  ): Interruption => ({
    id,
    row,
    kind: ROWS[row].kind,
    time: event.time,
    recordedAt: now,
    deadlineAt: undefined,
    change: undefined,
    begunAt: undefined,
    hook: undefined,
    unknown: {},
    ...facts,
  });
  switch (event.kind) {
    case 'spot-interruption':
      switch (event.action) {
        case 'hibernate':
          // Hibernation begins with the notice: nothing is left of its window.
          return from('spot-hibernate', 'spot-hibernate', { deadlineAt: event.time });
        case 'stop':
          return from('spot-stop', 'spot-stop', { deadlineAt: event.time + SPOT_NOTICE_MS });
        case 'terminate':
          return from('spot-terminate', 'spot-interruption', {
            deadlineAt: event.time + SPOT_NOTICE_MS,
          });
        default:
          return assertNever(event.action);
      }
    case 'capacity-reservation-interruption':
      return from('capacity-reservation', 'capacity-reservation', {
        deadlineAt: event.terminatesAt ?? event.time + SPOT_NOTICE_MS,
      });
    case 'capacity-block-expiry':
      return from('capacity-block', 'capacity-block', {
        deadlineAt: event.time + CAPACITY_BLOCK_NOTICE_MS,
      });
    case 'rebalance-recommendation':
      return from('rebalance', 'rebalance', {});
    case 'terminate-hook':
      return from(
        event.destination === 'WarmPool' ? 'warm-pool-hook' : 'terminate-hook',
        `hook/${event.token}`,
        {
          hook: {
            group: event.group,
            name: event.hook,
            token: event.token,
            timeoutSeconds: undefined,
            completedAt: undefined,
            unknown: {},
          },
        },
      );
    case 'scheduled-change': {
      const { startAt, endAt, lastUpdatedAt: updatedAt, status } = event;
      return from(event.change, `change/${event.account ?? ''}/${event.eventArn}`, {
        // First seen after its start, it may come at any moment, or never.
        deadlineAt: startAt !== undefined && startAt > now ? startAt : undefined,
        change: {
          startAt,
          endAt,
          updatedAt,
          closed: status === 'closed',
          doneUntil: undefined,
          told: [{ startAt, time: event.time, unknown: {} }],
          unknown: {},
        },
      });
    }
    case 'state-change': {
      const row = event.state === 'shutting-down' ? 'shutting-down' : 'stopping';
      return from(row, row, { deadlineAt: event.time + SHUTDOWN_MS });
    }
    default:
      return assertNever(event);
  }
}

function assertNever(value: never): never {
  throw new Error(`unexpected value: ${JSON.stringify(value)}`);
}
