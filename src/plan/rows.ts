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

/** What shows that the machine is over it and back. */
export type Return =
  /** The instance was started after the event was issued (state `running`). */
  | 'start'
  /** … after the deadline. */
  | 'start-after-deadline'
  /** … and its kubelet has renewed its Lease since. */
  | 'start-and-lease'
  /** Another boot ID (where there is none: Ready anew) after the deadline. */
  | 'boot-after-deadline'
  /** Another boot, whenever. */
  | 'boot'
  /** The change's end has passed, and the node is Ready. */
  | 'end-time'
  /** A day without another event. */
  | 'day'
  /** A launch event with Origin WarmPool. */
  | 'left-warm-pool';

export type RowFacts = Readonly<{
  kind: InterruptionKind;
  returns: readonly Return[];
  /** Budgets count from its beginning on only until a first refusal: there is no time for more. */
  pastBudgets: boolean;
  /** Whether the drain waits for its lead before the deadline; others begin at once. */
  hasLead: boolean;
}>;

const never = { returns: [], pastBudgets: false, hasLead: false } as const;

/** Every reason to empty a node, as the journal names it, and how each ends: the one table of it. */
export const ROWS = {
  'spot-terminate': { ...never, kind: 'spot-interruption' },
  'spot-stop': {
    ...never,
    kind: 'spot-interruption',
    returns: ['start-after-deadline', 'boot-after-deadline'],
  },
  'spot-hibernate': { ...never, kind: 'spot-interruption', returns: ['start-and-lease'] },
  'capacity-reservation': { ...never, kind: 'capacity-reservation' },
  'capacity-block': { ...never, kind: 'capacity-reservation' },
  rebalance: { ...never, kind: 'rebalance', returns: ['boot', 'day'] },
  retirement: { ...never, kind: 'scheduled-change', returns: ['start'] },
  stop: { ...never, kind: 'scheduled-change', returns: ['start', 'boot-after-deadline'] },
  termination: { ...never, kind: 'scheduled-change' },
  reboot: {
    ...never,
    kind: 'scheduled-change',
    returns: ['boot-after-deadline'],
    hasLead: true,
  },
  network: { ...never, kind: 'scheduled-change', returns: ['end-time'], hasLead: true },
  power: { ...never, kind: 'scheduled-change', returns: ['end-time'], hasLead: true },
  'terminate-hook': { ...never, kind: 'terminate-hook' },
  'warm-pool-hook': { ...never, kind: 'terminate-hook', returns: ['start', 'left-warm-pool'] },
  stopping: {
    ...never,
    kind: 'state-change',
    returns: ['start', 'boot-after-deadline'],
    pastBudgets: true,
  },
  'shutting-down': { ...never, kind: 'state-change', pastBudgets: true },
} as const satisfies Readonly<Record<string, RowFacts>>;

export type Row = keyof typeof ROWS;

export function rowFacts(row: Row): RowFacts {
  return ROWS[row];
}

export function isRow(text: string): text is Row {
  return Object.hasOwn(ROWS, text);
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
      throw new Error(`unexpected kind: ${String(kind satisfies never)}`);
  }
}
