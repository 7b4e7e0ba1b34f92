import { planOf } from './deadline.ts';
import {
  isOfMachine,
  readJournal,
  recordedMachine,
  UNREADABLE_BYTES_KEPT,
  writeJournal,
  type Journal,
} from './journal.ts';
import { fold, type Change, type Verdict } from './merge.ts';
import {
  INTERRUPTION_KEY,
  JOURNAL_KEY,
  LOAD_BALANCER_KEY,
  OUT_OF_SERVICE_KEY,
  UNREADABLE_JOURNAL_KEY,
  UNSCHEDULABLE_KEY,
  type NodePatch,
  type NodeView,
  type Taint,
} from './node.ts';
import type { Sight } from './over.ts';
import type { Policy } from './policy.ts';

/** What one write to a Node comes to: marks and journal together, so that a node is never half marked. */
export type MarkWrite = Readonly<{
  /** Undefined: the Node is as it should be. */
  patch: NodePatch | undefined;
  /** The Node as it should be. */
  target: NodeView;
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
  | Readonly<{ type: 'journal-missing' }>
  /** The load balancer label: too few targets would be left. */
  | Readonly<{ type: 'label-withheld' }>;

/** Whether this node may leave the load balancers' targets now, for an emergency or a paced drain. */
export type MayExclude = (emergency: boolean) => boolean;

/**
 * Folds changes into a node's journal and computes the patch that makes marks and journal what they
 * should be: marks are at any moment what the interruptions not yet over call for. Pure: the same
 * node, memory, changes and room always give the same patch.
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
  mayExclude: MayExclude,
): MarkWrite | 'unrecordable' {
  const sight = sightOf(node);
  if (sight === undefined) {
    return {
      patch: undefined,
      target: node,
      journal: undefined,
      verdicts: changes.map(() => 'stale'),
      found: [],
    };
  }
  const found: MarkFinding[] = [];
  const read = readJournal(node.journal);
  let target = node;
  let journal: Journal | undefined;
  const memory = remembered && isOfMachine(remembered, sight) ? remembered : undefined;
  if (read.outcome === 'read' && isOfMachine(read.journal, sight)) {
    journal = withForeignCordon(read.journal, node, memory);
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

  const before = journal;
  const verdicts: Verdict[] = [];
  // What is over is over without news of it.
  journal = fold(journal, { type: 'mended' }, sight, policy, now).journal;
  for (const change of changes) {
    const folded = fold(journal, change, sight, policy, now);
    journal = folded.journal;
    verdicts.push(folded.verdict);
  }
  const isBorne = before !== undefined && read.outcome === 'read';
  if (journal !== undefined && (isBorne || saysSomething(journal))) {
    const known = { ...journal, machine: recordedMachine(journal, sight) };
    const served = withOutOfService(target, before, known);
    const marked = withMarks(served.node, served.journal, policy, mayExclude);
    journal = marked.journal;
    if (marked.withheld) found.push({ type: 'label-withheld' });
    const text = writeJournal(journal);
    if (text === undefined) return 'unrecordable';
    target = { ...marked.node, journal: text };
  } else if (read.outcome === 'unreadable') {
    // Never undone from, and nothing known to write instead: it stays for people to see.
    journal = undefined;
  }
  const keep = read.outcome === 'unreadable' && target.journal !== node.journal;
  const patch = difference(node, target, keep ? node.journal : undefined);
  return { patch, target, journal, verdicts, found };
}

/** Whether the Node bears all that a write asked for: an admission webhook of others may change it. */
export function bearsAll(node: NodeView, target: NodeView): boolean {
  return difference(node, target, undefined) === undefined;
}

/** Of a Node without a journal: what would only say that nothing is known is not written. */
function saysSomething({ live, ended, signs }: Journal): boolean {
  return (
    live.length + ended.length > 0 ||
    signs.runningAt !== undefined ||
    signs.leftPoolAt !== undefined ||
    signs.aliveAt !== undefined ||
    signs.stopped !== undefined
  );
}

/** What the Node shows of the machine behind it; undefined: it does not say which that is. */
export function sightOf(node: NodeView): Sight | undefined {
  const { instanceId, systemUUID, bootId, bootSeenAt, ready, readySince } = node;
  return instanceId === undefined
    ? undefined
    : { instanceId, systemUUID, bootId, bootSeenAt, ready, readySince };
}

/** A person took our cordon away, now or before we could write it down: the next one is not ours to undo. */
function withForeignCordon(journal: Journal, node: NodeView, memory: Journal | undefined): Journal {
  const isTaken = !node.unschedulable || memory?.cordonedByUs === false;
  return journal.cordonedByUs === true && isTaken ? { ...journal, cordonedByUs: false } : journal;
}

type Marked = Readonly<{ node: NodeView; journal: Journal; withheld: boolean }>;

/** The node with all that its live interruptions call for, and nothing else of ours. */
function withMarks(
  node: NodeView,
  journal: Journal,
  policy: Policy,
  mayExclude: MayExclude,
): Marked {
  const plan = planOf(journal, policy, undefined);
  if (plan === undefined) return unmarked(node, journal);
  const taint = { key: INTERRUPTION_KEY, value: plan.kind };
  switch (plan.action) {
    case 'prefer-no-schedule': {
      const { taints } = withoutOurCordon(node, journal);
      const bare = unmarked(node, journal);
      const tainted = withTaint(taints, { ...taint, effect: 'PreferNoSchedule' });
      return { ...bare, node: { ...bare.node, taints: tainted } };
    }
    case 'cordon':
    case 'drain': {
      const taints = withTaint(node.taints, { ...taint, effect: 'NoSchedule' });
      const tainted = { ...node, interruptionLabel: plan.kind, taints };
      const cordoned = withCordon(tainted, journal);
      return policy.excludeFromLoadBalancers
        ? withLoadBalancerLabel(cordoned.node, cordoned.journal, () => mayExclude(plan.emergency))
        : { ...cordoned, withheld: false };
    }
    default:
      throw new Error(`unexpected action: ${String(plan.action satisfies never)}`);
  }
}

/** Decided once: a cordon that a person takes away later is not put back. */
function withCordon(node: NodeView, journal: Journal): { node: NodeView; journal: Journal } {
  if (journal.cordonedByUs !== undefined) return { node, journal };
  return {
    node: node.unschedulable ? node : cordon(node),
    journal: { ...journal, cordonedByUs: !node.unschedulable },
  };
}

/**
 * With the taint that Kubernetes' node controller derives from it: else that reads and writes each
 * Node once more, in a storm just when the marks of others wait.
 */
function cordon(node: NodeView): NodeView {
  const taint = { key: UNSCHEDULABLE_KEY, effect: 'NoSchedule' };
  const isThere = node.taints.some(isOfCordon);
  return { ...node, unschedulable: true, taints: isThere ? node.taints : [...node.taints, taint] };
}

function withoutOurCordon(node: NodeView, { cordonedByUs }: Journal): NodeView {
  if (cordonedByUs !== true) return node;
  const taints = node.taints.filter((taint) => !isOfCordon(taint));
  return { ...node, unschedulable: false, taints };
}

function isOfCordon({ key, effect }: Taint): boolean {
  return key === UNSCHEDULABLE_KEY && effect === 'NoSchedule';
}

function withLoadBalancerLabel(
  node: NodeView,
  journal: Journal,
  mayExclude: () => boolean,
): Marked {
  let next = journal;
  if (next.labelledByUs === undefined) {
    const excluded = node.excludeFromLoadBalancers === 'true';
    if (!excluded && !mayExclude()) return { node, journal, withheld: true };
    next = {
      ...next,
      labelledByUs: !excluded,
      labelBefore: excluded ? undefined : node.excludeFromLoadBalancers,
    };
  }
  const marked = next.labelledByUs === true ? { ...node, excludeFromLoadBalancers: 'true' } : node;
  return { node: marked, journal: next, withheld: false };
}

/**
 * Set once, and never again when somebody has taken it away: on a machine that lives it does harm.
 * `before` is the journal that the Node bears.
 */
function withOutOfService(
  node: NodeView,
  before: Journal | undefined,
  after: Journal,
): { node: NodeView; journal: Journal } {
  const isThere = node.taints.some(({ key }) => key === OUT_OF_SERVICE_KEY);
  const wasOurs = before?.signs.outOfServiceByUs === true;
  if (!after.signs.outOfServiceByUs) {
    return { node: wasOurs ? withoutOutOfService(node) : node, journal: after };
  }
  if (wasOurs === isThere) {
    if (wasOurs) return { node, journal: after };
    const taint = { key: OUT_OF_SERVICE_KEY, value: 'nodeshutdown', effect: 'NoExecute' };
    return { node: { ...node, taints: [...node.taints, taint] }, journal: after };
  }
  // Another's, or another's work.
  const signs = { ...after.signs, outOfServiceByUs: false };
  return { node, journal: { ...after, signs } };
}

function withoutOutOfService(node: NodeView): NodeView {
  return { ...node, taints: node.taints.filter(({ key }) => key !== OUT_OF_SERVICE_KEY) };
}

/** The node without what its journal says is ours, and a journal that says that nothing is. */
function unmarked(node: NodeView, journal: Journal): Marked {
  return {
    node: withoutCallers(node, journal),
    journal: {
      ...journal,
      cordonedByUs: undefined,
      labelledByUs: undefined,
      labelBefore: undefined,
    },
    withheld: false,
  };
}

function withoutCallers(node: NodeView, journal: Journal): NodeView {
  const bare = withoutOurCordon(node, journal);
  return {
    ...bare,
    interruptionLabel: undefined,
    taints: bare.taints.filter(({ key }) => key !== INTERRUPTION_KEY),
    excludeFromLoadBalancers:
      journal.labelledByUs === true ? journal.labelBefore : node.excludeFromLoadBalancers,
  };
}

/** The node without what its journal says is ours, and only that. */
export function withoutMarks(node: NodeView, journal: Journal): NodeView {
  const bare = { ...withoutCallers(node, journal), journal: undefined };
  return journal.signs.outOfServiceByUs ? withoutOutOfService(bare) : bare;
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
