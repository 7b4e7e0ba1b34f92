import type { ApiClient } from '../control-plane/api-client.ts';
import type { PodObject } from '../control-plane/objects.ts';
import { isReady } from '../harness/cluster.ts';

/** What became of one pod. Steps are a count over all that was seen; times are epoch ms. */
export type PodLife = {
  readonly uid: string;
  readonly name: string;
  readonly app: string;
  readonly bornAtStep: number;
  node: string | undefined;
  ready: boolean;
  leftAtStep?: number;
  goneAt?: number;
};

export type Ledger = {
  readonly lives: () => readonly PodLife[];
  /** The count so far. */
  readonly step: () => number;
  /** By uid of the pod that left: the one that took its place. */
  readonly successors: () => ReadonlyMap<string, PodLife>;
  stop(): Promise<void>;
};

/** Follows the pods of a namespace, from outside the controller. */
export async function startLedger(api: ApiClient, namespace: string): Promise<Ledger> {
  const byUid = new Map<string, PodLife>();
  const stopping = new AbortController();
  const listed = Promise.withResolvers<void>();
  let step = 0;

  const see = (pod: PodObject): void => {
    step += 1;
    const { uid = '', name, labels = {}, deletionTimestamp } = pod.metadata;
    let life = byUid.get(uid);
    if (life === undefined) {
      const app = labels['app'] ?? '';
      life = { uid, name, app, bornAtStep: step, node: undefined, ready: false };
      byUid.set(uid, life);
    }
    life.node = pod.spec.nodeName ?? life.node;
    life.ready = isReady(pod);
    if (deletionTimestamp !== undefined) life.leftAtStep ??= step;
  };
  const seeGone = (uid: string): void => {
    step += 1;
    const life = byUid.get(uid);
    if (life === undefined) return;
    life.leftAtStep ??= step;
    life.goneAt ??= Date.now();
  };
  const watching = api.listAndWatch<PodObject>({
    path: `/api/v1/namespaces/${namespace}/pods`,
    signal: stopping.signal,
    onList(pods) {
      const present = new Set(pods.map(({ metadata }) => metadata.uid));
      for (const { uid, goneAt } of byUid.values()) {
        if (goneAt === undefined && !present.has(uid)) seeGone(uid);
      }
      for (const pod of pods) see(pod);
      listed.resolve();
    },
    onEvent: ({ type, object }) =>
      type === 'DELETED' ? seeGone(object.metadata.uid ?? '') : see(object),
  });
  await listed.promise;
  return {
    lives: () => [...byUid.values()],
    step: () => step,
    successors: () => successorsAmong([...byUid.values()]),
    async stop() {
      stopping.abort();
      await watching;
    },
  };
}

/** The first of the same app that began when it had left; each takes the place of one. */
export function successorsAmong(lives: readonly PodLife[]): Map<string, PodLife> {
  const successors = new Map<string, PodLife>();
  const free = lives.toSorted((a, b) => a.bornAtStep - b.bornAtStep);
  const left = lives
    .filter(({ leftAtStep }) => leftAtStep !== undefined)
    .toSorted((a, b) => (a.leftAtStep ?? 0) - (b.leftAtStep ?? 0));
  for (const { uid, app, leftAtStep = Infinity } of left) {
    const at = free.findIndex((life) => life.app === app && life.bornAtStep > leftAtStep);
    if (at === -1) continue;
    for (const successor of free.splice(at, 1)) successors.set(uid, successor);
  }
  return successors;
}
