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

/** Our taint of a spot notice, and one of another's. */
export const spotTaint: Taint = {
  key: interruptionKey,
  value: 'spot-interruption',
  effect: 'NoSchedule',
};
export const gpuTaint: Taint = { key: 'nvidia.com/gpu', value: 'present', effect: 'NoSchedule' };

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

export async function marksOn(api: ApiClient, node: string): Promise<Marks> {
  return marksOf(await getNode(api, node));
}

/** Waits until the journal is in this state; returns the marks then. */
export async function untilState(
  api: ApiClient,
  node: string,
  state: JournalObject['state'],
  options?: EventuallyOptions,
): Promise<Marks> {
  return eventually(async () => {
    const marks = await marksOn(api, node);
    return marks.journal?.state === state && marks;
  }, options);
}

/** Waits until the journal says that the node is drained and all about it is dealt with. */
export async function untilSettled(
  api: ApiClient,
  node: string,
  options?: EventuallyOptions,
): Promise<JournalObject> {
  const { journal } = await untilState(api, node, 'settled', options);
  if (journal === undefined) throw new Error(`no journal on ${node}`);
  return journal;
}
