import { isoTime } from '../plan/iso-time.ts';
import type { InterruptionKind } from '../plan/rows.ts';

/** What an event on a Node tells beside its reason. Times are epoch ms. */
type NodeFacts = Readonly<{
  Interrupted: Interrupted & Readonly<{ instance: string; waits: boolean }>;
  Draining: Interrupted & Readonly<{ pods: number; staying: number }>;
  DrainWaiting: Standing;
  DrainHeld: Readonly<{ annotation: string }>;
  DrainReleased: Readonly<{ annotation: string }>;
  DrainPostponed: Readonly<{ until: number }>;
  DrainLate: Standing;
  Drained: Readonly<{
    evicted: number;
    deletedPastBudget: number;
    leftByThemselves: number;
    /** Of those before the deadline; undefined: there is none. */
    secondsToSpare: number | undefined;
  }>;
  DrainEnded: Readonly<{ why: 'not drained by policy' | 'machine off' }>;
  DeadlineOutlived: Readonly<{ kind: Kind; isDraining: boolean }>;
  LifecycleHookCompleted: Hook;
  LifecycleHookNotCompleted: Hook & Readonly<{ why: string }>;
  InstanceReplaced: Readonly<{ instance: string }>;
  OutOfService: Readonly<{ taint: string }>;
  InterruptionOver: Readonly<{ kind: Kind }>;
  MarksRemoved: Readonly<{ instance: string }>;
  LoadBalancerLabelWithheld: Readonly<{ label: string }>;
  RecordingRefused: Readonly<{ why: string }>;
  AmbiguousInstance: Readonly<{ instance: string; nodes: readonly string[] }>;
}>;

/** … on a Pod. */
type PodFacts = Readonly<{
  NodeInterrupted: OfNode & Readonly<{ graceSeconds: number }>;
  DeletedPastBudget: OfNode & Readonly<{ graceSeconds: number; refusedBy: string }>;
  GraceShortened: OfNode & Readonly<{ graceSeconds: number }>;
  /** `forcedAt` undefined: it is never deleted without being allowed. */
  EvictionRefused: OfNode & Readonly<{ refusedBy: string; forcedAt: number | undefined }>;
  LeftBehind: OfNode;
}>;

type Interrupted = Readonly<{ kind: Kind; deadlineAt: number | undefined }>;
/** Undefined: none rules any more. */
type Kind = InterruptionKind | undefined;
type OfNode = Interrupted & Readonly<{ node: string }>;
type Standing = Readonly<{ pods: readonly string[]; podsLeft: number }>;
type Hook = Readonly<{ group: string; hook: string }>;

type Row<Facts> = Readonly<{
  type: 'Normal' | 'Warning';
  /** What was done, or was to be: a field of its own in every event. */
  action: string;
  meaning: string;
  note: (facts: Facts) => string;
}>;

type Table<FactsByReason> = {
  readonly [Reason in keyof FactsByReason]: Row<FactsByReason[Reason]>;
};

/**
 * Every event that `kubectl describe node` can show of us; docs/kubernetes-events.md is generated
 * from here. A reason is a name: searches and alerts depend on it. Times in a note are absolute, so
 * that what is told again is the same note, and becomes a series.
 * https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
 */
export const NODE_EVENTS: Table<NodeFacts> = {
  Interrupted: {
    type: 'Warning',
    action: 'Mark',
    meaning: 'AWS will take the instance, or may: the node is marked.',
    note({ kind, instance, deadlineAt, waits }) {
      const turn = waits ? ' It waits for its turn to be drained; new pods avoid it.' : '';
      return `${headline(kind, instance)}${deadline(deadlineAt)}.${turn}`;
    },
  },
  Draining: {
    type: 'Normal',
    action: 'Drain',
    meaning: "The node's pods are being evicted; those of DaemonSets and the like stay.",
    note({ kind, deadlineAt, pods, staying }) {
      const stay = staying === 0 ? '' : `; staying with the node: ${staying}`;
      const what = pods === 0 ? 'There is no pod to evict' : `Evicting ${counted(pods, 'pod')}`;
      return `${what} because of a ${named(kind)}${deadline(deadlineAt)}${stay}.`;
    },
  },
  DrainWaiting: {
    type: 'Normal',
    action: 'Drain',
    meaning: 'Which pods the drain still waits for, and why. Told at growing intervals.',
    note: ({ pods, podsLeft }) => `Waiting for ${counted(podsLeft, 'pod')}: ${pods.join('; ')}`,
  },
  DrainHeld: {
    type: 'Warning',
    action: 'Drain',
    meaning: 'An operator holds the drain: nothing more is evicted.',
    note: ({ annotation }) => `Nothing more is evicted while annotation ${annotation} is there.`,
  },
  DrainReleased: {
    type: 'Normal',
    action: 'Drain',
    meaning: 'The operator holds the drain no longer.',
    note: ({ annotation }) => `Annotation ${annotation} is gone: evictions go on.`,
  },
  DrainPostponed: {
    type: 'Normal',
    action: 'Drain',
    meaning: 'A drain that can wait was held up by disruption budgets alone, and makes room.',
    note: ({ until }) =>
      `Held up by disruption budgets alone: other nodes go first until ${utc(until)}.`,
  },
  DrainLate: {
    type: 'Warning',
    action: 'Drain',
    meaning: 'The deadline came while pods were still there.',
    note: ({ pods, podsLeft }) =>
      `The deadline came with ${counted(podsLeft, 'pod')} left: ${pods.join('; ')}`,
  },
  Drained: {
    type: 'Normal',
    action: 'Drain',
    meaning: 'All pods that had to go are gone.',
    note({ secondsToSpare, evicted, deletedPastBudget, leftByThemselves }) {
      const ways = [
        [evicted, 'evicted'],
        [deletedPastBudget, 'deleted past a budget'],
        [leftByThemselves, 'gone by itself'],
      ] as const;
      const told = ways.flatMap(([count, way]) => (count === 0 ? [] : [`${count} ${way}`]));
      const left = told.length === 0 ? '' : `: ${told.join(', ')}`;
      return `All pods are gone${spare(secondsToSpare)}${left}.`;
    },
  },
  DrainEnded: {
    type: 'Normal',
    action: 'Drain',
    meaning: 'Nothing is evicted: the chosen action does not ask for it, or the instance is off.',
    note: ({ why }) =>
      why === 'machine off'
        ? 'The instance is off: nothing more is evicted.'
        : 'Pods stay: the action chosen for such an interruption does not ask for their eviction.',
  },
  DeadlineOutlived: {
    type: 'Warning',
    action: 'Drain',
    meaning: 'The machine is alive long after AWS should have taken it.',
    note: ({ kind, isDraining }) =>
      `Alive long after the deadline of its ${named(kind)}: ${
        isDraining
          ? 'the drain goes on without one.'
          : 'the marks stay until somebody takes them away.'
      }`,
  },
  LifecycleHookCompleted: {
    type: 'Normal',
    action: 'CompleteLifecycleAction',
    meaning: 'Auto Scaling was told to go on with the instance.',
    note: ({ group, hook }) => `Told Auto Scaling to go on: hook ${hook} of group ${group}.`,
  },
  LifecycleHookNotCompleted: {
    type: 'Warning',
    action: 'CompleteLifecycleAction',
    meaning: 'Auto Scaling did not accept that before the time of the hook was over.',
    note: ({ group, hook, why }) =>
      `Auto Scaling could not be told to go on (hook ${hook} of group ${group}): ${why}`,
  },
  InstanceReplaced: {
    type: 'Normal',
    action: 'TerminateInstance',
    meaning: 'AFTER_VOLUNTARY_DRAIN=replace: the drained instance is being terminated.',
    note: ({ instance }) => `Terminated instance ${instance}; its group launches another.`,
  },
  OutOfService: {
    type: 'Warning',
    action: 'Mark',
    meaning: 'OUT_OF_SERVICE_TAINT: the machine is off beyond doubt.',
    note: ({ taint }) => `The machine is off: taint ${taint} frees its pods and volumes.`,
  },
  InterruptionOver: {
    type: 'Normal',
    action: 'Unmark',
    meaning: 'An interruption was called off, or the machine is back from it.',
    note: ({ kind }) => `The ${named(kind)} is over.`,
  },
  MarksRemoved: {
    type: 'Normal',
    action: 'Unmark',
    meaning: 'No interruption is left: all that this program had put on the Node is gone.',
    note: ({ instance }) => `Nothing interrupts instance ${instance} any more.`,
  },
  LoadBalancerLabelWithheld: {
    type: 'Warning',
    action: 'Mark',
    meaning: 'Load balancers would be left with too few targets without this node.',
    note: ({ label }) =>
      `Still among the targets of load balancers, which would have too few others: label ${label} is withheld.`,
  },
  RecordingRefused: {
    type: 'Warning',
    action: 'Mark',
    meaning: 'The API server refuses the marks for good; an emergency is drained from memory.',
    note: ({ why }) => `The interruption cannot be recorded here: ${why}`,
  },
  AmbiguousInstance: {
    type: 'Warning',
    action: 'Mark',
    meaning: 'Several nodes claim one instance; none is touched until only one is left.',
    note: ({ instance, nodes }) =>
      `Instance ${instance} is interrupted, and several nodes claim it (${nodes.join(', ')}): delete those that are not the machine.`,
  },
};

/** The same for `kubectl describe pod`. */
export const POD_EVENTS: Table<PodFacts> = {
  NodeInterrupted: {
    type: 'Normal',
    action: 'Evict',
    meaning: 'The pod was evicted, for the reason and the deadline of its node.',
    note: (facts) => `Evicted with ${facts.graceSeconds} s to end. ${aboutNode(facts)}`,
  },
  DeletedPastBudget: {
    type: 'Warning',
    action: 'Delete',
    meaning: 'The deadline left no time to wait for the disruption budget any longer.',
    note: (facts) =>
      `Deleted with ${facts.graceSeconds} s to end; its eviction was refused (${facts.refusedBy}) for as long as there was time. ${aboutNode(facts)}`,
  },
  GraceShortened: {
    type: 'Normal',
    action: 'Delete',
    meaning: 'The deadline has come closer: a pod that was ending gets less time.',
    note: (facts) => `The time to end is now ${facts.graceSeconds} s. ${aboutNode(facts)}`,
  },
  EvictionRefused: {
    type: 'Warning',
    action: 'Evict',
    meaning: 'Something refuses the eviction: a disruption budget, most likely. It is tried again.',
    note(facts) {
      const forced =
        facts.forcedAt === undefined ? '' : `, and deleted from ${utc(facts.forcedAt)} on`;
      return `Eviction refused (${facts.refusedBy}): tried again${forced}. ${aboutNode(facts)}`;
    },
  },
  LeftBehind: {
    type: 'Warning',
    action: 'Evict',
    meaning: 'The deadline of its node came while the pod was still there.',
    note: (facts) => `Still there at the deadline. ${aboutNode(facts)}`,
  },
};

const KINDS: Readonly<Record<InterruptionKind, string>> = {
  'spot-interruption': 'spot interruption',
  'capacity-reservation': 'capacity reservation interruption',
  rebalance: 'rebalance recommendation',
  'scheduled-change': 'scheduled change',
  'terminate-hook': 'termination by its Auto Scaling group',
  'state-change': 'stop or termination of its instance',
};

function named(kind: Kind): string {
  return kind === undefined ? 'interruption' : KINDS[kind];
}

function headline(kind: Kind, instance: string): string {
  const words = named(kind);
  return `${words.slice(0, 1).toUpperCase()}${words.slice(1)}, instance ${instance}`;
}

function deadline(at: number | undefined): string {
  return at === undefined ? '' : `, deadline ${utc(at)}`;
}

function aboutNode({ node, kind, deadlineAt }: OfNode): string {
  return `Node ${node}: ${named(kind)}${deadline(deadlineAt)}.`;
}

function spare(seconds: number | undefined): string {
  if (seconds === undefined) return '';
  const whole = Math.round(Math.abs(seconds));
  return `, ${whole} s ${seconds < 0 ? 'after' : 'before'} the deadline`;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** To the second. */
function utc(at: number): string {
  return isoTime(at).replace(/\.\d+/, '');
}

/** The object that an event is about. */
export type Subject =
  | Readonly<{ kind: 'Node'; name: string; uid: string }>
  | Readonly<{ kind: 'Pod'; namespace: string; name: string; uid: string }>;

/** Tells what happens on the Nodes and Pods it happens to. Holds up nobody, and never throws. */
export interface ObjectEvents {
  onNode<Reason extends keyof NodeFacts>(
    node: Readonly<{ name: string; uid: string }> | undefined,
    reason: Reason,
    facts: NodeFacts[Reason],
  ): void;
  onPod<Reason extends keyof PodFacts>(
    pod: Readonly<{ namespace: string; name: string; uid: string }>,
    reason: Reason,
    facts: PodFacts[Reason],
  ): void;
}

/** One that may be told. */
export type ToldEvent = Readonly<{
  subject: Subject;
  reason: keyof NodeFacts | keyof PodFacts;
  type: 'Normal' | 'Warning';
  action: string;
  note: string;
}>;

/** The API server takes no longer ones, in bytes of UTF-8. */
const LONGEST_NOTE_BYTES = 1024;

/**
 * The words for it. A Node that is gone is told nothing. `admits`: asked before they are found, which
 * in a storm would be in vain for most.
 */
export function worded(
  tell: (event: ToldEvent) => void,
  admits: (subject: Subject, reason: ToldEvent['reason']) => boolean = () => true,
): ObjectEvents {
  return {
    onNode(node, reason, facts) {
      if (node === undefined) return;
      const subject = { kind: 'Node', name: node.name, uid: node.uid } as const;
      if (!admits(subject, reason)) return;
      const { note, type, action } = NODE_EVENTS[reason];
      tell({ subject, reason, type, action, note: cut(note(facts)) });
    },
    onPod({ namespace, name, uid }, reason, facts) {
      const subject = { kind: 'Pod', namespace, name, uid } as const;
      if (!admits(subject, reason)) return;
      const { note, type, action } = POD_EVENTS[reason];
      tell({ subject, reason, type, action, note: cut(note(facts)) });
    },
  };
}

function cut(note: string): string {
  // Three bytes of UTF-8 are the most that one unit of a string comes to.
  if (note.length * 3 <= LONGEST_NOTE_BYTES) return note;
  if (Buffer.byteLength(note) <= LONGEST_NOTE_BYTES) return note;
  const room = LONGEST_NOTE_BYTES - Buffer.byteLength('…');
  const { read } = new TextEncoder().encodeInto(note, new Uint8Array(room));
  return `${note.slice(0, read)}…`;
}

/** Where events are switched off. */
export const NO_OBJECT_EVENTS: ObjectEvents = { onNode: () => undefined, onPod: () => undefined };
