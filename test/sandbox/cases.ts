import type { ApiClient } from '../control-plane/api-client.ts';
import type { NodeObject } from '../control-plane/objects.ts';
import { marksOf } from '../harness/marks.ts';
import { isDeleted } from '../harness/queued.ts';
import type { LifecycleAction } from '../stand-ins/auto-scaling.ts';
import type { Queue } from '../stand-ins/queue.ts';
import type { Ledger, PodLife } from './ledger.ts';
import type { Machine } from './machines.ts';

export type InterruptionKind = 'spot' | 'rebalance' | 'hook';

export type Interruption = {
  readonly kind: InterruptionKind;
  readonly messageId: string;
  /** Of a terminate hook. */
  readonly action: LifecycleAction | undefined;
};

/** A machine that is interrupted, as seen from outside the controller. */
export type Case = {
  readonly machine: Machine;
  readonly interruptions: Interruption[];
  /** Of the ledger, when it began. */
  readonly sinceStep: number;
  /** Undefined until the controller calls the node settled, and no pod is there that had to go. */
  end: CaseEnd | undefined;
};

export type CaseEnd = {
  /** Pods that had to go and are gone. */
  readonly moved: readonly PodLife[];
  /** Between the last departure and the earliest deadline; undefined where there is none. */
  readonly secondsToSpare: number | undefined;
};

export type Cases = {
  readonly all: () => readonly Case[];
  /** The case of the machine, which is open again if it had ended. */
  open(machine: Machine): Case;
  stop(): Promise<void>;
};

const checkIntervalMs = 100;

/** Watches the nodes; `onEnd` hears of each case that has ended. */
export function startCases(
  api: ApiClient,
  queue: Queue,
  ledger: Ledger,
  onEnd: (ended: Case) => void,
): Cases {
  const cases = new Map<string, Case>();
  const nodes = new Map<string, NodeObject>();
  const stopping = new AbortController();
  const watching = api.listAndWatch<NodeObject>({
    path: '/api/v1/nodes',
    signal: stopping.signal,
    onList: (all) => {
      nodes.clear();
      for (const node of all) nodes.set(node.metadata.name, node);
    },
    onEvent: ({ type, object }) => {
      if (type === 'DELETED') nodes.delete(object.metadata.name);
      else nodes.set(object.metadata.name, object);
    },
  });
  const timer = setInterval(() => {
    for (const one of cases.values()) {
      const node = nodes.get(one.machine.name);
      if (one.end !== undefined || node === undefined) continue;
      one.end = endOf(one, node, queue, ledger);
      if (one.end !== undefined) onEnd(one);
    }
  }, checkIntervalMs);

  return {
    all: () => [...cases.values()],
    open(machine) {
      const known = cases.get(machine.name);
      if (known) {
        known.end = undefined;
        return known;
      }
      const sinceStep = ledger.step();
      const opened: Case = { machine, interruptions: [], sinceStep, end: undefined };
      cases.set(machine.name, opened);
      return opened;
    },
    async stop() {
      clearInterval(timer);
      stopping.abort();
      await watching;
    },
  };
}

function endOf(one: Case, node: NodeObject, queue: Queue, ledger: Ledger): CaseEnd | undefined {
  const { interruptions, machine, sinceStep } = one;
  const { journal } = marksOf(node);
  if (journal?.state !== 'settled' || journal.interruptions.length < interruptions.length) {
    return undefined;
  }
  if (!interruptions.every(({ messageId }) => isDeleted(queue, messageId))) return undefined;
  if (podsLeftOn(machine, ledger).length > 0) return undefined;
  const moved = ledger
    .lives()
    .filter(
      ({ node: on, app, leftAtStep = 0 }) =>
        on === machine.name && hasToGo(app) && leftAtStep > sinceStep,
    );
  const deadlines = [
    ...journal.interruptions.flatMap(({ deadlineAt }) =>
      deadlineAt === undefined ? [] : [Date.parse(deadlineAt)],
    ),
    // A hook's is its own timeout.
    ...interruptions.flatMap(({ action }) => action?.expiresAt ?? []),
  ];
  const lastGoneAt = Math.max(...moved.map(({ goneAt = 0 }) => goneAt));
  const secondsToSpare =
    deadlines.length === 0 || moved.length === 0
      ? undefined
      : (Math.min(...deadlines) - lastGoneAt) / 1000;
  return { moved, secondsToSpare };
}

export function podsLeftOn(machine: Machine, ledger: Ledger): PodLife[] {
  return ledger
    .lives()
    .filter(
      ({ node, app, goneAt }) => node === machine.name && hasToGo(app) && goneAt === undefined,
    );
}

function hasToGo(app: string): boolean {
  return app !== 'node-agent';
}
