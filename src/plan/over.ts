import type { EndedInterruption, Interruption } from './interruption.ts';
import { MAX_ENDED, type Journal, type Machine, type MachineSigns } from './journal.ts';
import type { NodeView } from './node.ts';
import { rowFacts, type Return } from './rows.ts';

/** What the Node shows of its machine now. */
export type Sight = Machine & Pick<NodeView, 'bootSeenAt' | 'ready' | 'readySince'>;

/** After this without another event a rebalance recommendation is over. */
export const REBALANCE_LASTS_MS = 24 * 3_600_000;
/** From the first that is seen of a boot until its node is Ready; being Ready anew later is no sign of it. */
const STARTS_WITHIN_MS = 60_000;

/**
 * The journal without what is over by what the machine shows, or by time: the one place where an
 * interruption ends but for news of its own. The same object where nothing is.
 */
export function withoutOver(journal: Journal, sight: Sight, now: number): Journal {
  const rebooted = hasOtherBoot(journal, sight);
  const over = new Set(
    journal.live.filter((interruption) => isOver(interruption, journal, sight, now)),
  );
  const signs = signsNow(journal, sight, rebooted);
  if (over.size === 0 && signs === journal.signs && !rebooted) return journal;
  return {
    ...withEnded(
      journal,
      journal.live
        .filter((interruption) => over.has(interruption))
        .map((entry) => done(entry, now)),
    ),
    // Noted only now: what this boot ends has ended, and an earlier one than a deadline ends nothing.
    machine: rebooted ? { ...journal.machine, bootId: sight.bootId } : journal.machine,
    signs,
  };
}

/** Whether the machine was started, and a renewal of its kubelet's Lease is all that is missing. */
export function awaitsLease({ row, time }: Interruption, { runningAt }: MachineSigns): boolean {
  return rowFacts(row).returns.includes('start-and-lease') && (runningAt ?? -Infinity) > time;
}

/**
 * Whether the machine was started and only its kubelet has yet to show that it works: its marks stay
 * until then, but what runs on it now is not evicted.
 */
export function isReturning(interruption: Interruption, journal: Journal, sight: Sight): boolean {
  const { returns } = rowFacts(interruption.row);
  if (awaitsLease(interruption, journal.signs)) return true;
  if (!showsOtherBoot(journal, sight)) return false;
  return (
    returns.includes('boot') ||
    // As soon as it is Ready, it is over: of a boot that was only found there nobody knows.
    (returns.includes('boot-after-deadline') &&
      (sight.bootSeenAt ?? -Infinity) > dueAt(interruption))
  );
}

/** When time alone will end something, or may; Infinity: never. */
export function nextOverAt(journal: Journal, now: number): number {
  return Math.min(
    ...journal.live.map((interruption) => {
      const { returns } = rowFacts(interruption.row);
      if (returns.includes('day')) return interruption.time + REBALANCE_LASTS_MS;
      const endAt = returns.includes('end-time') ? interruption.change?.endAt : undefined;
      // Past it, the node's being Ready ends it.
      return endAt !== undefined && endAt > now ? endAt : Infinity;
    }),
  );
}

/** Takes these out of the live ones, and keeps a tombstone of each. */
export function withEnded(journal: Journal, ended: readonly EndedInterruption[]): Journal {
  if (ended.length === 0) return journal;
  const ids = new Set(ended.map(({ id }) => id));
  return {
    ...journal,
    live: journal.live.filter(({ id }) => !ids.has(id)),
    ended: [
      // A scheduled change has one tombstone, which holds all that is known of it.
      ...journal.ended.filter(({ id, change }) => change === undefined || !ids.has(id)),
      ...ended,
    ].slice(-MAX_ENDED),
  };
}

function done(interruption: Interruption, now: number): EndedInterruption {
  const { change } = interruption;
  const doneUntil = Math.max(change?.doneUntil ?? -Infinity, change?.startAt ?? now);
  return { ...interruption, change: change && { ...change, doneUntil }, endedAt: now };
}

function isOver(interruption: Interruption, journal: Journal, sight: Sight, now: number): boolean {
  return rowFacts(interruption.row).returns.some((sign) =>
    shows(sign, interruption, journal, sight, now),
  );
}

function shows(
  sign: Return,
  interruption: Interruption,
  journal: Journal,
  sight: Sight,
  now: number,
): boolean {
  const { time, recordedAt, deadlineAt, change } = interruption;
  const { runningAt = -Infinity, aliveAt = -Infinity, leftPoolAt = -Infinity } = journal.signs;
  switch (sign) {
    case 'start':
      return runningAt > time;
    case 'start-after-deadline':
      return runningAt > (deadlineAt ?? time);
    case 'start-and-lease':
      return awaitsLease(interruption, journal.signs) && aliveAt > runningAt;
    case 'boot':
      return hasOtherBoot(journal, sight);
    case 'boot-after-deadline': {
      const fromAt = dueAt(interruption);
      if (journal.machine.bootId === '' || sight.bootId === '') return isReadyAnew(sight, fromAt);
      // What is only found after it may have been before: then since when the node is Ready tells.
      const backAt = Math.max(sight.bootSeenAt ?? -Infinity, sight.readySince ?? -Infinity);
      // Told of only when it was due, the boot on record may be the one that followed it.
      const isFirst = recordedAt > fromAt && backAt <= recordedAt + STARTS_WITHIN_MS;
      if (isFirst && sight.ready && backAt > fromAt) return true;
      return hasOtherBoot(journal, sight) && (backAt === -Infinity ? now : backAt) > fromAt;
    }
    case 'end-time':
      return change?.endAt !== undefined && now >= change.endAt && sight.ready;
    case 'day':
      return now >= time + REBALANCE_LASTS_MS;
    case 'left-warm-pool':
      return leftPoolAt > time;
    default:
      throw new Error(`unexpected sign: ${String(sign satisfies never)}`);
  }
}

/** When what was announced happens: a boot before it is another one. */
function dueAt({ recordedAt, deadlineAt, change }: Interruption): number {
  return change?.startAt ?? deadlineAt ?? recordedAt;
}

/** Counted once the node is Ready in it: not before is it known since when the machine is back. */
function hasOtherBoot(journal: Journal, sight: Sight): boolean {
  return sight.ready && showsOtherBoot(journal, sight);
}

function showsOtherBoot({ machine }: Journal, { bootId }: Sight): boolean {
  return machine.bootId !== '' && bootId !== '' && machine.bootId !== bootId;
}

function isReadyAnew(sight: Sight, afterAt: number): boolean {
  return sight.ready && sight.readySince !== undefined && sight.readySince > afterAt;
}

/** What is off stays so until the machine has been started, or shows life. */
function signsNow(journal: Journal, sight: Sight, rebooted: boolean): Journal['signs'] {
  const { signs } = journal;
  const { stopped, runningAt = -Infinity, aliveAt = -Infinity } = signs;
  if (stopped === undefined) return signs;
  const started = stopped.state === 'stopped' && runningAt > stopped.at;
  const lives = aliveAt > stopped.at || rebooted || isReadyAnew(sight, stopped.at);
  if (started || lives) {
    // Against the same news once more: the machine was alive after it.
    const outlived = lives ? Math.max(aliveAt, stopped.at + 1) : signs.aliveAt;
    return { ...signs, aliveAt: outlived, stopped: undefined, outOfServiceByUs: false };
  }
  // A node is shown as Ready for a while after it died, so Ready ends no more than the taint.
  return signs.outOfServiceByUs && sight.ready ? { ...signs, outOfServiceByUs: false } : signs;
}
