import * as z from 'zod';
import type {
  ChangeVersion,
  EndedInterruption,
  Interruption,
  UnknownFields,
} from './interruption.ts';
import { isoTime } from './iso-time.ts';
import { INTERRUPTION_KINDS, isRow, ROWS } from './rows.ts';

/**
 * What is known of one machine's interruptions: the annotation on its Node, and all that a restart
 * has to go by. Ends only with the Node or by undo.
 */
export type Journal = Readonly<{
  machine: RecordedMachine;
  state: JournalState;
  /** Whether the cordon is ours; undefined until we marked: then it is decided once and for all. */
  cordonedByUs: boolean | undefined;
  /** Whether the load balancer label is ours; undefined until we marked. */
  labelledByUs: boolean | undefined;
  /** The load balancer label's value before ours replaced it, to be put back. */
  labelBefore: string | undefined;
  /** When the drain that is over ended: of state `settled`. */
  settledAt: number | undefined;
  /** A paced drain has waited for budgets in vain: not again before. */
  notBeforeAt: number | undefined;
  signs: MachineSigns;
  live: readonly Interruption[];
  /** Interruptions that are over, newest last: what old news is recognised by. */
  ended: readonly EndedInterruption[];
  unknown: UnknownFields;
}>;

/** The machine behind a Node: a Node's name, and even its uid, may outlive it. */
export type Machine = Readonly<{ instanceId: string; systemUUID: string; bootId: string }>;

/** What was heard of the machine itself; each the latest of its sort (epoch ms). */
export type MachineSigns = Readonly<{
  /** It was started (state `running`). */
  runningAt: number | undefined;
  /** A launch event said that it left its warm pool. */
  leftPoolAt: number | undefined;
  /** It was alive: a Lease renewal, or what only a living machine can do. */
  aliveAt: number | undefined;
  /** It is off. */
  stopped: Readonly<{ state: 'stopped' | 'terminated'; at: number }> | undefined;
  /** Whether the out-of-service taint is ours. */
  outOfServiceByUs: boolean;
}>;

const NO_SIGNS: MachineSigns = {
  runningAt: undefined,
  leftPoolAt: undefined,
  aliveAt: undefined,
  stopped: undefined,
  outOfServiceByUs: false,
};

type RecordedMachine = Machine & Readonly<{ unknown: UnknownFields }>;

export const JOURNAL_STATES = ['waiting', 'draining', 'settled', 'stopped', 'undone'] as const;
export type JournalState = (typeof JOURNAL_STATES)[number];

/** Bounds of one journal; the API server takes 256 KiB of annotations a Node, of everybody's together. */
export const MAX_LIVE = 32;
export const MAX_ENDED = 16;
/** Starts of one scheduled change; the latest are kept. */
export const MAX_TOLD = 4;
export const MAX_JOURNAL_BYTES = 16 * 1024;
/** How much of an unreadable journal is kept beside the new one, for people. */
export const UNREADABLE_BYTES_KEPT = 1024;

const VERSION = 1;

/** Of objects and lists within each other: what is nested deeper could be read, but not written again. */
const MAX_LEVELS = 16;

const timeSchema = z
  .string()
  .max(40)
  .transform((text, context) => {
    const time = Date.parse(text);
    if (Number.isNaN(time)) context.addIssue({ code: 'custom', message: `not a time: ${text}` });
    return time;
  });

const hookSchema = z.looseObject({
  group: z.string().min(1).max(255),
  name: z.string().min(1).max(255),
  token: z.string().min(1).max(255),
  timeoutSeconds: z.number().int().positive().max(1_000_000).optional(),
  completedAt: timeSchema.optional(),
});

const tellingSchema = z.looseObject({ startAt: timeSchema.optional(), time: timeSchema });

const changeSchema = z.looseObject({
  startAt: timeSchema.optional(),
  endAt: timeSchema.optional(),
  updatedAt: timeSchema,
  closed: z.boolean().optional(),
  doneUntil: timeSchema.optional(),
  told: z.array(tellingSchema).min(1).max(MAX_TOLD).optional(),
});

const interruptionSchema = z.looseObject({
  id: z.string().min(1).max(512),
  row: z.string().refine(isRow, 'not a row of the table'),
  /** Of the row; written for people. */
  kind: z.enum(INTERRUPTION_KINDS),
  time: timeSchema,
  recordedAt: timeSchema,
  deadlineAt: timeSchema.optional(),
  begunAt: timeSchema.optional(),
  change: changeSchema.optional(),
  hook: hookSchema.optional(),
});

const endedSchema = interruptionSchema.extend({ endedAt: timeSchema });

const machineSchema = z.looseObject({
  instanceId: z.string().min(1).max(64),
  systemUUID: z.string().max(256),
  bootId: z.string().max(256),
});

const journalSchema = z.looseObject({
  version: z.literal(VERSION),
  machine: machineSchema,
  state: z.enum(JOURNAL_STATES),
  cordonedByUs: z.boolean().optional(),
  labelledByUs: z.boolean().optional(),
  labelBefore: z.string().max(63).optional(),
  settledAt: timeSchema.optional(),
  notBeforeAt: timeSchema.optional(),
  runningAt: timeSchema.optional(),
  leftPoolAt: timeSchema.optional(),
  aliveAt: timeSchema.optional(),
  stoppedAt: timeSchema.optional(),
  terminatedAt: timeSchema.optional(),
  outOfServiceByUs: z.boolean().optional(),
  interruptions: z.array(interruptionSchema).max(MAX_LIVE),
  ended: z.array(endedSchema).max(MAX_ENDED),
});

export type ReadJournal =
  | Readonly<{ outcome: 'none' }>
  | Readonly<{ outcome: 'read'; journal: Journal }>
  | Readonly<{ outcome: 'unreadable'; reason: string }>;

/** Of the latest texts: each is read several times in a row, as index, record and drain look at its Node. */
const recentlyRead = new Map<string, ReadJournal>();
const MAX_RECENTLY_READ = 256;

/** Reads the annotation. Never throws: a person, a kubelet or a later version may have written it. */
export function readJournal(text: string | undefined): ReadJournal {
  if (text === undefined) return { outcome: 'none' };
  const known = recentlyRead.get(text);
  if (known !== undefined) return known;
  const read = readText(text);
  const [oldest] = recentlyRead.keys();
  if (oldest !== undefined && recentlyRead.size >= MAX_RECENTLY_READ) recentlyRead.delete(oldest);
  recentlyRead.set(text, read);
  return read;
}

function readText(text: string): ReadJournal {
  if (!fits(text)) return { outcome: 'unreadable', reason: 'too long' };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    return {
      outcome: 'unreadable',
      reason: `not JSON: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
  if (!isShallow(json, MAX_LEVELS)) return { outcome: 'unreadable', reason: 'nested too deep' };
  const result = journalSchema.safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0];
    const where = issue?.path.join('.') ?? '';
    return { outcome: 'unreadable', reason: `${where}: ${issue?.message ?? 'not a journal'}` };
  }
  const { data } = result;
  const { instanceId, systemUUID, bootId } = data.machine;
  return {
    outcome: 'read',
    journal: {
      machine: { instanceId, systemUUID, bootId, unknown: unknownOf(data.machine, machineSchema) },
      state: data.state,
      cordonedByUs: data.cordonedByUs,
      labelledByUs: data.labelledByUs,
      labelBefore: data.labelBefore,
      settledAt: data.settledAt,
      notBeforeAt: data.notBeforeAt,
      signs: {
        runningAt: data.runningAt,
        leftPoolAt: data.leftPoolAt,
        aliveAt: data.aliveAt,
        stopped: stoppedOf(data),
        outOfServiceByUs: data.outOfServiceByUs === true,
      },
      live: data.interruptions.map((entry) => toInterruption(entry, interruptionSchema)),
      ended: data.ended.map((entry) => ({
        ...toInterruption(entry, endedSchema),
        endedAt: entry.endedAt,
      })),
      unknown: unknownOf(data, journalSchema),
    },
  };
}

function stoppedOf({
  stoppedAt,
  terminatedAt,
}: z.output<typeof journalSchema>): MachineSigns['stopped'] {
  if (terminatedAt !== undefined) return { state: 'terminated', at: terminatedAt };
  return stoppedAt === undefined ? undefined : { state: 'stopped', at: stoppedAt };
}

function isShallow(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return levels > 0 && Object.values(value).every((inner) => isShallow(inner, levels - 1));
}

function unknownOf(
  data: Readonly<Record<string, unknown>>,
  schema: Readonly<{ shape: object }>,
): UnknownFields {
  const fields = Object.keys(data).filter((field) => !Object.hasOwn(schema.shape, field));
  return Object.fromEntries(fields.map((field) => [field, data[field]]));
}

function toInterruption(
  entry: z.output<typeof interruptionSchema>,
  schema: Readonly<{ shape: object }>,
): Interruption {
  return {
    id: entry.id,
    row: entry.row,
    kind: ROWS[entry.row].kind,
    time: entry.time,
    recordedAt: entry.recordedAt,
    deadlineAt: entry.deadlineAt,
    begunAt: entry.begunAt,
    change: entry.change && {
      startAt: entry.change.startAt,
      endAt: entry.change.endAt,
      updatedAt: entry.change.updatedAt,
      closed: entry.change.closed === true,
      doneUntil: entry.change.doneUntil,
      told: entry.change.told?.map((telling) => ({
        startAt: telling.startAt,
        time: telling.time,
        unknown: unknownOf(telling, tellingSchema),
      })) ?? [{ startAt: entry.change.startAt, time: entry.time, unknown: {} }],
      unknown: unknownOf(entry.change, changeSchema),
    },
    hook: entry.hook && {
      group: entry.hook.group,
      name: entry.hook.name,
      token: entry.hook.token,
      timeoutSeconds: entry.hook.timeoutSeconds,
      completedAt: entry.hook.completedAt,
      unknown: unknownOf(entry.hook, hookSchema),
    },
    unknown: unknownOf(entry, schema),
  };
}

/**
 * The annotation's text, within the bounds: ended interruptions go first, oldest first. Undefined
 * when the live ones alone are too many or too long: such a journal cannot be recorded.
 */
export function writeJournal(journal: Journal): string | undefined {
  if (journal.live.length > MAX_LIVE) return undefined;
  let ended = journal.ended.slice(-MAX_ENDED);
  const { signs } = journal;
  for (;;) {
    const text = JSON.stringify({
      version: VERSION,
      machine: {
        instanceId: journal.machine.instanceId,
        systemUUID: journal.machine.systemUUID,
        bootId: journal.machine.bootId,
        ...journal.machine.unknown,
      },
      state: journal.state,
      cordonedByUs: journal.cordonedByUs,
      labelledByUs: journal.labelledByUs,
      labelBefore: journal.labelBefore,
      settledAt: isoIfKnown(journal.settledAt),
      notBeforeAt: isoIfKnown(journal.notBeforeAt),
      runningAt: isoIfKnown(signs.runningAt),
      leftPoolAt: isoIfKnown(signs.leftPoolAt),
      aliveAt: isoIfKnown(signs.aliveAt),
      ...(signs.stopped && { [`${signs.stopped.state}At`]: isoTime(signs.stopped.at) }),
      outOfServiceByUs: signs.outOfServiceByUs || undefined,
      interruptions: journal.live.map(fromInterruption),
      ended: ended.map((entry) => ({
        ...fromInterruption(entry),
        endedAt: isoTime(entry.endedAt),
      })),
      ...journal.unknown,
    });
    if (fits(text)) return text;
    if (ended.length === 0) return undefined;
    ended = ended.slice(1);
  }
}

function fromInterruption(interruption: Interruption): Record<string, unknown> {
  const { change, hook } = interruption;
  return {
    id: interruption.id,
    row: interruption.row,
    kind: interruption.kind,
    time: isoTime(interruption.time),
    recordedAt: isoTime(interruption.recordedAt),
    deadlineAt: isoIfKnown(interruption.deadlineAt),
    begunAt: isoIfKnown(interruption.begunAt),
    change: change && fromChange(change),
    hook: hook && {
      group: hook.group,
      name: hook.name,
      token: hook.token,
      timeoutSeconds: hook.timeoutSeconds,
      completedAt: isoIfKnown(hook.completedAt),
      ...hook.unknown,
    },
    ...interruption.unknown,
  };
}

function fromChange(change: ChangeVersion): Record<string, unknown> {
  return {
    startAt: isoIfKnown(change.startAt),
    endAt: isoIfKnown(change.endAt),
    updatedAt: isoTime(change.updatedAt),
    closed: change.closed || undefined,
    doneUntil: isoIfKnown(change.doneUntil),
    told: change.told.map(({ startAt, time, unknown }) => ({
      startAt: isoIfKnown(startAt),
      time: isoTime(time),
      ...unknown,
    })),
    ...change.unknown,
  };
}

/** People read the annotation too. */
function isoIfKnown(time: number | undefined): string | undefined {
  return time === undefined ? undefined : isoTime(time);
}

function fits(text: string): boolean {
  // Three bytes of UTF-8 are the most that one unit of a string comes to.
  if (text.length * 3 <= MAX_JOURNAL_BYTES) return true;
  return new TextEncoder().encode(text).length <= MAX_JOURNAL_BYTES;
}

export function emptyJournal({ instanceId, systemUUID, bootId }: Machine): Journal {
  return {
    machine: { instanceId, systemUUID, bootId, unknown: {} },
    state: 'undone',
    cordonedByUs: undefined,
    labelledByUs: undefined,
    labelBefore: undefined,
    settledAt: undefined,
    notBeforeAt: undefined,
    signs: NO_SIGNS,
    live: [],
    ended: [],
    unknown: {},
  };
}

/**
 * Whether the journal tells of the machine that is behind the Node now. A kubelet that starts under
 * a Node's old name leaves annotations and even the providerID as they are: only the systemUUID
 * tells, and it is empty before the kubelet's first report.
 */
export function isOfMachine(journal: Journal, machine: Machine): boolean {
  if (journal.machine.instanceId !== machine.instanceId) return false;
  const [recorded, present] = [journal.machine.systemUUID, machine.systemUUID];
  return recorded === '' || present === '' || recorded.toLowerCase() === present.toLowerCase();
}

/** What a journal written before the kubelet's first report lacks, a later one knows; never the reverse. */
export function recordedMachine(journal: Journal, machine: Machine): Journal['machine'] {
  return {
    ...journal.machine,
    systemUUID: journal.machine.systemUUID || machine.systemUUID,
    bootId: journal.machine.bootId || machine.bootId,
  };
}
