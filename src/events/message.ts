import type { Event, NotOursByShape } from './event.ts';
import { instanceIdIn, type Read, valueOf, type Warn } from './field.ts';

/** One event with its wrappers off: what a parser of the catalogue gets. */
export type Message = Readonly<{
  /** The facts that every event carries. */
  about: Readonly<{ eventId: string | undefined; account: string | undefined; time: number }>;
  /** When the message was sent, epoch milliseconds: nothing it tells of was issued later. */
  sentAt: number;
  /** The event's own fields. */
  detail: object;
  resources: readonly unknown[];
}>;

/** Reads the events of one kind. Never throws; says by `warn` what it did not understand. */
export type Parser = (message: Message, warn: Warn) => Outcome;

export type Outcome =
  | Readonly<{ outcome: 'events'; events: readonly [Event, ...Event[]] }>
  | Readonly<{ outcome: 'not-ours'; reason: NotOursByShape; detail: string }>
  | Readonly<{ outcome: 'malformed'; reason: string }>;

export const NO_INSTANCE = {
  outcome: 'malformed',
  reason: 'neither the detail nor the resources name an instance',
} as const satisfies Outcome;

/** The instance an event is about: from its own field, else the first among the resources. */
export function instanceOf(
  name: string,
  read: Read<string>,
  resources: readonly unknown[],
  warn: Warn,
): string | undefined {
  return valueOf(name, read, warn) ?? instancesAmong(resources).next().value;
}

export function* instancesAmong(resources: readonly unknown[]): Generator<string, undefined> {
  for (const resource of resources) {
    const instanceId = typeof resource === 'string' ? instanceIdIn(resource) : undefined;
    if (instanceId !== undefined) yield instanceId;
  }
  return undefined;
}
