import { isWaiting } from './calls.ts';
import { lastCallAt, opensAt } from './deadline.ts';
import type { Interruption } from './interruption.ts';
import type { Journal } from './journal.ts';
import { callsForReplacement, type DrainLimit, type Policy } from './policy.ts';
import { isEmergency, rowFacts } from './rows.ts';

/** Nodes that may be drained for paced interruptions at once: at least one. */
export function limitOf(limit: DrainLimit, selectedNodes: number): number {
  const nodes = 'nodes' in limit ? limit.nodes : Math.floor((selectedNodes * limit.percent) / 100);
  return Math.max(1, nodes);
}

/** How long a drained node with a deadline, or to be replaced, keeps its slot, and a postponed one waits. */
export const TURN_MS = 15 * 60_000;

/** Nodes whose turn has come, with the interruptions to begin; and when to look again (epoch ms). */
export type Turns = Readonly<{
  begin: readonly Turn[];
  nextAt: number;
}>;
type Turn = Readonly<{ name: string; ids: readonly string[] }>;

type Candidate = Readonly<{ name: string; ids: readonly string[]; age: number }>;

/**
 * Whose turn it is, of all nodes with paced interruptions: the oldest first, as many as the limit
 * leaves slots for; from its last call on, any. Nodes passed over get no turn, and keep what slot
 * they have.
 */
export function turnsOf(
  nodes: ReadonlyMap<string, Journal>,
  limit: number,
  policy: Policy,
  now: number,
  passedOver: ReadonlySet<string>,
): Turns {
  const opening = openings(nodes, limit, policy);
  const begin: Turn[] = [];
  const candidates: Candidate[] = [];
  let taken = 0;
  let nextAt = Infinity;
  for (const [name, journal] of nodes) {
    const slotUntil = slotEndsAt(journal, policy);
    const hasSlot = now < slotUntil;
    if (hasSlot) taken += 1;
    if (hasSlot && slotUntil < nextAt) nextAt = slotUntil;
    if (passedOver.has(name)) continue;
    const waiting = journal.live.filter(
      (entry) => isWaiting(entry) && policy.actions[entry.kind] !== 'ignore',
    );
    const last = waiting.filter((entry) => lastCallAt(entry, policy) <= now);
    // Only drains are counted: marks alone empty nothing.
    const free = waiting.filter((entry) => policy.actions[entry.kind] !== 'drain');
    const notBeforeAt = journal.notBeforeAt ?? -Infinity;
    const open = waiting.filter((entry) => Math.max(opening(entry), notBeforeAt) <= now);
    const ids = open.map(({ id }) => id);
    if (hasSlot && open.length > 0) begin.push({ name, ids });
    else if (last.length > 0) {
      begin.push({ name, ids: [...new Set([...last.map(({ id }) => id), ...ids])] });
      if (!hasSlot && !hasEmergency(journal, policy)) taken += 1;
    } else if (open.length > 0 && open.every((entry) => free.includes(entry))) {
      begin.push({ name, ids });
    } else if (open.length > 0 && !hasEmergency(journal, policy)) {
      candidates.push({ name, ids, age: Math.min(...open.map(({ recordedAt }) => recordedAt)) });
    }
    for (const entry of waiting) {
      const atLast = lastCallAt(entry, policy);
      const opensLaterAt = Math.max(opening(entry), notBeforeAt);
      for (const at of [atLast, opensLaterAt]) if (at > now && at < nextAt) nextAt = at;
    }
  }
  candidates.sort((a, b) => a.age - b.age || (a.name < b.name ? -1 : 1));
  const chosen = candidates.slice(0, Math.max(0, limit - taken));
  return { begin: [...begin, ...chosen.map(({ name, ids }) => ({ name, ids }))], nextAt };
}

/**
 * When each interruption opens. Nodes that start together could not be drained one group after the
 * other within the lead: they begin earlier by as many turns as their groups need.
 */
function openings(
  nodes: ReadonlyMap<string, Journal>,
  limit: number,
  policy: Policy,
): (interruption: Interruption) => number {
  const together = new Map<number, number>();
  for (const { live } of nodes.values()) {
    const starts = live.filter(hasCommonStart).map(({ deadlineAt }) => deadlineAt);
    for (const start of new Set(starts)) together.set(start, (together.get(start) ?? 0) + 1);
  }
  return (interruption) => {
    const opens = opensAt(interruption, policy);
    if (!hasCommonStart(interruption)) return opens;
    const count = together.get(interruption.deadlineAt) ?? 1;
    return count < 2 ? opens : opens - TURN_MS * Math.ceil(count / limit);
  };
}

function hasCommonStart(
  interruption: Interruption,
): interruption is Interruption & { deadlineAt: number } {
  return rowFacts(interruption.row).hasLead && interruption.deadlineAt !== undefined;
}

/** An emergency lifts its node out of the pace. */
function hasEmergency({ live }: Journal, policy: Policy): boolean {
  return live.some(({ kind }) => isEmergency(kind) && policy.actions[kind] !== 'ignore');
}

/** Until when a node counts against the limit; -Infinity: it does not. */
function slotEndsAt(journal: Journal, policy: Policy): number {
  const begun = journal.live.filter(
    (entry) =>
      !isEmergency(entry.kind) && !isWaiting(entry) && policy.actions[entry.kind] === 'drain',
  );
  if (begun.length === 0 || hasEmergency(journal, policy)) return -Infinity;
  if (journal.state === 'draining') return Infinity;
  if (journal.state !== 'settled') return -Infinity;
  // One that should have been replaced by then cannot be.
  const isBounded =
    begun.some(({ deadlineAt }) => deadlineAt !== undefined) ||
    callsForReplacement(journal, policy);
  return isBounded && journal.settledAt !== undefined ? journal.settledAt + TURN_MS : Infinity;
}
