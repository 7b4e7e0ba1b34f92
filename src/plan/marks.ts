import { planOf } from './deadline.ts';
import {
  isOfMachine,
  readJournal,
  recordedMachine,
  UNREADABLE_BYTES_KEPT,
  writeJournal,
  type Journal,
  type Machine,
} from './journal.ts';
import { fold, type Change, type Verdict } from './merge.ts';
import {
  INTERRUPTION_KEY,
  JOURNAL_KEY,
  LOAD_BALANCER_KEY,
  UNREADABLE_JOURNAL_KEY,
  type NodePatch,
  type NodeView,
  type Taint,
} from './node.ts';
import type { Policy } from './policy.ts';

/** What one write to a Node comes to: marks and journal together, so that a node is never half marked. */
export type MarkWrite = Readonly<{
  /** Undefined: the Node is as it should be. */
  patch: NodePatch | undefined;
  /** What the Node's journal says after the write; undefined: it has none. */
  journal: Journal | undefined;
  /** One for each change, in order. */
  verdicts: readonly Verdict[];
  /** Things worth telling. */
  found: readonly MarkFinding[];
}>;

export type MarkFinding =
  | Readonly<{ type: 'journal-void'; journal: Journal }>
  | Readonly<{ type: 'journal-unreadable'; reason: string }>
  | Readonly<{ type: 'journal-missing' }>;

/**
 * Folds changes into a node's journal and computes the patch that makes marks and journal what they
 * should be. Pure: the same node, memory and changes always give the same patch.
 *
 * `remembered` is the journal as this process last knew it: it stands in where the Node's own is
 * missing or unreadable. Returns `unrecordable` when the journal would outgrow its bounds.
 */
export function markWrite(
  node: NodeView,
  remembered: Journal | undefined,
  changes: readonly Change[],
  policy: Policy,
  now: number,
): MarkWrite | 'unrecordable' {
  const machine = machineOf(node);
  if (machine === undefined) {
    return {
      patch: undefined,
      journal: undefined,
      verdicts: changes.map(() => 'stale'),
      found: [],
    };
  }
  const found: MarkFinding[] = [];
  const read = readJournal(node.journal);
  let target = node;
  let journal: Journal | undefined;
  const memory = remembered && isOfMachine(remembered, machine) ? remembered : undefined;
  if (read.outcome === 'read' && isOfMachine(read.journal, machine)) {
    journal = read.journal;
  } else if (read.outcome === 'read') {
    found.push({ type: 'journal-void', journal: read.journal });
    target = withoutMarks(node, read.journal);
    journal = memory;
  } else {
    journal = memory;
    if (read.outcome === 'unreadable') {
      found.push({ type: 'journal-unreadable', reason: read.reason });
    } else if (memory !== undefined && memory.live.length > 0) {
      found.push({ type: 'journal-missing' });
    }
  }

  const verdicts: Verdict[] = [];
  for (const change of changes) {
    const folded = fold(journal, change, machine, now);
    journal = folded.journal;
    verdicts.push(folded.verdict);
  }
  if (journal !== undefined && journal.live.length + journal.ended.length > 0) {
    const known = { ...journal, machine: recordedMachine(journal, machine) };
    const marked = withMarks(target, known, policy);
    journal = marked.journal;
    const text = writeJournal(journal);
    if (text === undefined) return 'unrecordable';
    target = { ...marked.node, journal: text };
  } else if (read.outcome === 'unreadable') {
    // Never undone from, and nothing known to write instead: it stays for people to see.
    journal = undefined;
  }
  const keep = read.outcome === 'unreadable' && target.journal !== node.journal;
  const patch = difference(node, target, keep ? node.journal : undefined);
  return { patch, journal, verdicts, found };
}

export function machineOf(node: NodeView): Machine | undefined {
  if (node.instanceId === undefined) return undefined;
  return { instanceId: node.instanceId, systemUUID: node.systemUUID, bootId: node.bootId };
}

/** The node with all that its live interruptions call for. */
function withMarks(
  node: NodeView,
  journal: Journal,
  policy: Policy,
): { node: NodeView; journal: Journal } {
  const plan = planOf(journal, policy, undefined);
  if (plan === undefined) return { node, journal };
  const taint = { key: INTERRUPTION_KEY, value: plan.kind };
  if (plan.action === 'prefer-no-schedule') {
    const taints = withTaint(node.taints, { ...taint, effect: 'PreferNoSchedule' });
    return { node: { ...node, taints }, journal };
  }
  let marked: NodeView = {
    ...node,
    interruptionLabel: plan.kind,
    taints: withTaint(node.taints, { ...taint, effect: 'NoSchedule' }),
  };
  let next = journal;
  // Decided once: a cordon that a person takes away later is not put back.
  if (next.cordonedByUs === undefined) {
    next = { ...next, cordonedByUs: !node.unschedulable };
    marked = { ...marked, unschedulable: true };
  }
  if (policy.excludeFromLoadBalancers) {
    if (next.labelledByUs === undefined) {
      const excluded = node.excludeFromLoadBalancers === 'true';
      next = {
        ...next,
        labelledByUs: !excluded,
        labelBefore: excluded ? undefined : node.excludeFromLoadBalancers,
      };
    }
    if (next.labelledByUs === true) marked = { ...marked, excludeFromLoadBalancers: 'true' };
  }
  return { node: marked, journal: next };
}

/** The node without what its journal says is ours, and only that. */
export function withoutMarks(node: NodeView, journal: Journal): NodeView {
  return {
    ...node,
    journal: undefined,
    interruptionLabel: undefined,
    taints: node.taints.filter(({ key }) => key !== INTERRUPTION_KEY),
    unschedulable: journal.cordonedByUs === true ? false : node.unschedulable,
    excludeFromLoadBalancers:
      journal.labelledByUs === true ? journal.labelBefore : node.excludeFromLoadBalancers,
  };
}

/** Exactly one taint of our key; the others keep their order. */
function withTaint(taints: readonly Taint[], wanted: Taint): readonly Taint[] {
  const ours = taints.filter(({ key }) => key === INTERRUPTION_KEY);
  const [present] = ours;
  if (ours.length === 1 && present?.value === wanted.value && present?.effect === wanted.effect) {
    return taints;
  }
  return [...taints.filter(({ key }) => key !== INTERRUPTION_KEY), wanted];
}

function difference(
  from: NodeView,
  to: NodeView,
  unreadable: string | undefined,
): NodePatch | undefined {
  const labels: Record<string, string | null> = {};
  if (from.interruptionLabel !== to.interruptionLabel) {
    labels[INTERRUPTION_KEY] = to.interruptionLabel ?? null;
  }
  if (from.excludeFromLoadBalancers !== to.excludeFromLoadBalancers) {
    labels[LOAD_BALANCER_KEY] = to.excludeFromLoadBalancers ?? null;
  }
  const annotations: Record<string, string | null> = {};
  if (from.journal !== to.journal) annotations[JOURNAL_KEY] = to.journal ?? null;
  if (unreadable !== undefined) {
    annotations[UNREADABLE_JOURNAL_KEY] = firstBytes(unreadable, UNREADABLE_BYTES_KEPT);
  }
  const patch: NodePatch = {
    ...(Object.keys(labels).length > 0 && { labels }),
    ...(Object.keys(annotations).length > 0 && { annotations }),
    ...(from.unschedulable !== to.unschedulable && { unschedulable: to.unschedulable }),
    ...(from.taints !== to.taints && !sameTaints(from.taints, to.taints) && { taints: to.taints }),
  };
  return Object.keys(patch).length === 0 ? undefined : patch;
}

/** Whole characters of at most so many bytes together. */
function firstBytes(text: string, bytes: number): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(bytes));
  return text.slice(0, read);
}

function sameTaints(a: readonly Taint[], b: readonly Taint[]): boolean {
  return (
    a.length === b.length &&
    a.every((taint, i) => {
      const other = b[i];
      return (
        taint.key === other?.key && taint.value === other.value && taint.effect === other.effect
      );
    })
  );
}
