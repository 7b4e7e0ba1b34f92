import type { ApiClient } from '../control-plane/api-client.ts';
import type { NodeObject, Taint } from '../control-plane/objects.ts';
import { getNode } from './cluster.ts';
import { eventually, type EventuallyOptions } from './eventually.ts';

// The names that charts, dashboards and other programs depend on, spelled out: a test that took
// them from the sources would not see them change.
export const interruptionKey = 'node-termination-controller/interruption';
export const journalKey = 'node-termination-controller/journal';
export const loadBalancerKey = 'node.kubernetes.io/exclude-from-external-load-balancers';

/** The journal's annotation, as far as tests read it. Times are RFC 3339. */
export type JournalObject = {
  readonly version: number;
  readonly machine: { readonly instanceId: string; systemUUID: string; bootId: string };
  readonly state: 'waiting' | 'draining' | 'settled' | 'stopped' | 'undone';
  readonly cordonedByUs?: boolean;
  readonly labelledByUs?: boolean;
  readonly interruptions: readonly {
    readonly id: string;
    readonly kind: string;
    readonly time: string;
    readonly recordedAt: string;
    readonly deadlineAt?: string;
    readonly begunAt?: string;
    readonly hook?: { readonly group: string; readonly name: string; readonly token: string };
  }[];
};

/** All that the controller puts on a Node. */
export type Marks = {
  readonly cordoned: boolean;
  /** Of our key. */
  readonly taints: readonly Taint[];
  readonly label: string | undefined;
  readonly loadBalancerLabel: string | undefined;
  readonly journal: JournalObject | undefined;
};

export function marksOf({ metadata, spec }: NodeObject): Marks {
  const journal = metadata.annotations?.[journalKey];
  return {
    cordoned: spec.unschedulable === true,
    taints: (spec.taints ?? []).filter(({ key }) => key === interruptionKey),
    label: metadata.labels?.[interruptionKey],
    loadBalancerLabel: metadata.labels?.[loadBalancerKey],
    journal: journal === undefined ? undefined : (JSON.parse(journal) as JournalObject),
  };
}

export const noMarks: Marks = {
  cordoned: false,
  taints: [],
  label: undefined,
  loadBalancerLabel: undefined,
  journal: undefined,
};

/** Waits until the journal says that the node is drained and all about it is dealt with. */
export async function untilSettled(
  api: ApiClient,
  node: string,
  options?: EventuallyOptions,
): Promise<JournalObject> {
  return eventually(async () => {
    const { journal } = marksOf(await getNode(api, node));
    return journal?.state === 'settled' && journal;
  }, options);
}
