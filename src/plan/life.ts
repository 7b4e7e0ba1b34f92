import { deadlineOf } from './deadline.ts';
import type { Interruption } from './interruption.ts';
import type { Journal } from './journal.ts';
import { OUT_OF_SERVICE_KEY, type NodeView } from './node.ts';
import { awaitsLease } from './over.ts';
import type { Policy } from './policy.ts';
import { rowFacts } from './rows.ts';

/** Why, and when (epoch ms), to ask for a kubelet's last Lease renewal. */
export type Look = Readonly<{ at: number; why: LookReason }>;
export type LookReason =
  /** The instance was started: its kubelet's first renewal shows that the machine is back. */
  | 'return'
  /** The instance is said to be off: no renewal shows that it is. */
  | 'off'
  /** The instance should be gone by now. */
  | 'overdue';

const LOOK_EVERY_MS = 5000;
const LOOK_LATER_EVERY_MS = 300_000;
/** So long a machine that was started, or is off, is looked at closely. */
const CLOSELY_MS = 600_000;
/** A machine that should be gone and lives on is reported after this. */
const OVERDUE_MS = 600_000;

/** When to ask next, and why; undefined: there is nothing to ask for. `reported`: ids told of as overdue. */
export function nextLook(
  journal: Journal,
  node: NodeView,
  policy: Policy,
  reported: ReadonlySet<string>,
  now: number,
): Look | undefined {
  const { stopped, runningAt = -Infinity } = journal.signs;
  const returns = journal.live.some((entry) => awaitsLease(entry, journal.signs));
  const isClose = now < runningAt + CLOSELY_MS;
  const overdueAt = Math.min(
    ...journal.live
      .filter(({ id }) => !reported.has(id))
      .map((entry) => overdueFrom(entry, policy)),
  );
  const looks: Look[] = [
    ...(returns
      ? [{ at: now + (isClose ? LOOK_EVERY_MS : LOOK_LATER_EVERY_MS), why: 'return' } as const]
      : []),
    ...(stopped !== undefined &&
    mayBeTakenOut(journal, node, policy) &&
    now < stopped.at + CLOSELY_MS
      ? [{ at: now + LOOK_EVERY_MS, why: 'off' } as const]
      : []),
    ...(overdueAt !== Infinity ? [{ at: Math.max(now, overdueAt), why: 'overdue' } as const] : []),
  ];
  return looks.toSorted((a, b) => a.at - b.at)[0];
}

/** So long nothing is asked after so many looks (1 or more) in a row that got no answer. */
export function unansweredWaitMs(unanswered: number): number {
  return Math.min(LOOK_EVERY_MS * 2 ** (unanswered - 1), LOOK_LATER_EVERY_MS);
}

/** Both conditions but the Lease: on a live node the taint corrupts data. */
export function mayBeTakenOut({ signs }: Journal, node: NodeView, policy: Policy): boolean {
  return (
    policy.outOfServiceTaint &&
    signs.stopped !== undefined &&
    !signs.outOfServiceByUs &&
    node.taints.every(({ key }) => key !== OUT_OF_SERVICE_KEY)
  );
}

/** From when on a machine that still lives is worth telling; Infinity: it may live. */
export function overdueFrom(interruption: Interruption, policy: Policy): number {
  if (rowFacts(interruption.row).returns.length > 0 || interruption.change !== undefined) {
    return Infinity;
  }
  const deadlineAt = deadlineOf(interruption, policy);
  return deadlineAt === undefined ? Infinity : deadlineAt + OVERDUE_MS;
}
