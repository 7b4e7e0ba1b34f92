import { sameJson } from '../json.ts';
import { budgets, deployments, pods, replicaSets, statefulSets } from '../kinds.ts';
import {
  controllerOf,
  isReady,
  withCondition,
  type Budget,
  type BudgetStatus,
  type Pod,
} from '../objects.ts';
import type { Cluster } from '../registry.ts';
import { compileLabelSelector } from '../selectors.ts';
import { keyOf } from '../store.ts';
import type { Controller } from './work-queue.ts';

/** An eviction that was granted but not seen within this time counts no longer. */
const deletionTimeoutMs = 120_000;

/** A budget as its controller knows it. */
type Guard = {
  readonly key: string;
  readonly matches: (pod: Pod) => boolean;
  /** By name, kept up by their changes: to look through all pods each time is slow. */
  readonly members: Map<string, Pod>;
};

/** Those of one namespace, by the names of budgets and of the pods that they guard. */
type Guards = {
  readonly byBudget: Map<string, Guard>;
  readonly byPod: Map<string, readonly Guard[]>;
};

/** Keeps the status of PodDisruptionBudgets, from which evictions are granted. */
export function disruptionController(cluster: Cluster): Controller {
  const { store } = cluster;
  const byNamespace = new Map<string, Guards>();
  const guardsIn = (namespace: string): Guards => {
    let guards = byNamespace.get(namespace);
    if (guards === undefined) {
      guards = { byBudget: new Map(), byPod: new Map() };
      byNamespace.set(namespace, guards);
    }
    return guards;
  };

  const guardFor = (budget: Budget): Guard => {
    const { namespace, name } = budget.metadata;
    const matches = guardOf(budget);
    const members = new Map<string, Pod>();
    for (const pod of store.values(pods, namespace)) {
      if (matches(pod)) members.set(pod.metadata.name, pod);
    }
    return { key: keyOf(namespace, name), matches, members };
  };

  return {
    name: 'disruption',

    start(enqueue) {
      store.listen(budgets, ({ type, object, previous }) => {
        const budget = object as Budget;
        const { namespace = '', name } = object.metadata;
        const { byBudget, byPod } = guardsIn(namespace);
        if (type === 'DELETED' || previous?.spec !== budget.spec) byPod.clear();
        if (type === 'DELETED') byBudget.delete(name);
        else if (previous?.spec !== budget.spec) byBudget.set(name, guardFor(budget));
        enqueue(keyOf(namespace, name));
      });
      store.listen(pods, ({ type, object, previous }) => {
        const pod = object as Pod;
        const { namespace = '', name, labels } = pod.metadata;
        const { byBudget, byPod } = guardsIn(namespace);
        const known = byPod.get(name);
        if (type === 'MODIFIED' && known && sameJson(labels, previous?.metadata.labels)) {
          for (const { key, members } of known) {
            members.set(name, pod);
            enqueue(key);
          }
          return;
        }
        const guarding: Guard[] = [];
        for (const guard of byBudget.values()) {
          const { key, matches, members } = guard;
          const wasIn = members.delete(name);
          const isIn = type !== 'DELETED' && matches(pod);
          if (isIn) {
            members.set(name, pod);
            guarding.push(guard);
          }
          if (isIn || wasIn) enqueue(key);
        }
        if (type === 'DELETED') byPod.delete(name);
        else byPod.set(name, guarding);
      });
      for (const kind of [deployments, replicaSets, statefulSets]) {
        store.listen(kind, ({ object, previous }) => {
          // Its own counts are of no interest here.
          if (previous !== undefined && previous.spec === object.spec) return;
          const { namespace } = object.metadata;
          for (const budget of store.values(budgets, namespace)) {
            enqueue(keyOf(namespace, budget.metadata.name));
          }
        });
      }
    },

    sync(key) {
      const [namespace = '', name = ''] = key.split('/');
      const budget = store.get(budgets, namespace, name);
      if (budget === undefined) return;
      const members =
        byNamespace.get(namespace)?.byBudget.get(name)?.members ?? new Map<string, Pod>();
      const status = statusOf(cluster, budget, [...members.values()], Date.now());
      if (!sameJson(status, budget.status)) store.put(budgets, { ...budget, status });
    },
  };
}

/** No selector guards nothing, an empty one everything. */
function guardOf({ spec }: Budget): (pod: Pod) => boolean {
  const { selector } = spec;
  if (selector === undefined) return () => false;
  const matches = compileLabelSelector(selector);
  return (pod) => matches(pod.metadata.labels ?? {});
}

function statusOf(
  cluster: Cluster,
  budget: Budget,
  guarded: readonly Pod[],
  nowMs: number,
): BudgetStatus {
  const { status, metadata } = budget;
  const { expectedPods, desiredHealthy } = expectation(cluster, budget, guarded);
  const disruptedPods = stillDisrupted(guarded, status.disruptedPods ?? {}, nowMs);
  const currentHealthy = guarded.filter(
    (pod) =>
      pod.metadata.deletionTimestamp === undefined &&
      disruptedPods[pod.metadata.name] === undefined &&
      isReady(pod),
  ).length;
  const surplus = currentHealthy - desiredHealthy;
  const disruptionsAllowed = expectedPods <= 0 || surplus <= 0 ? 0 : surplus;
  const generation = metadata.generation ?? 0;
  const condition = {
    type: 'DisruptionAllowed',
    status: disruptionsAllowed > 0 ? 'True' : 'False',
    reason: disruptionsAllowed > 0 ? 'SufficientPods' : 'InsufficientPods',
    message: '',
    observedGeneration: generation,
  };
  return {
    ...(Object.keys(disruptedPods).length > 0 && { disruptedPods }),
    disruptionsAllowed,
    currentHealthy,
    desiredHealthy,
    expectedPods,
    observedGeneration: generation,
    conditions: withCondition(status.conditions, condition, nowMs),
  };
}

function stillDisrupted(
  guarded: readonly Pod[],
  disrupted: Readonly<Record<string, string>>,
  nowMs: number,
): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const { metadata } of guarded) {
    const since = disrupted[metadata.name];
    if (since === undefined || metadata.deletionTimestamp !== undefined) continue;
    if (Date.parse(since) + deletionTimeoutMs > nowMs) kept[metadata.name] = since;
  }
  return kept;
}

/** A number counts against the pods there are, a percentage against those their controllers want. */
function expectation(
  cluster: Cluster,
  { spec }: Budget,
  guarded: readonly Pod[],
): { expectedPods: number; desiredHealthy: number } {
  const { minAvailable, maxUnavailable } = spec;
  if (maxUnavailable !== undefined) {
    const expectedPods = wantedByControllers(cluster, guarded);
    const desiredHealthy = Math.max(0, expectedPods - scaled(maxUnavailable, expectedPods));
    return { expectedPods, desiredHealthy };
  }
  if (typeof minAvailable === 'string') {
    const expectedPods = wantedByControllers(cluster, guarded);
    return { expectedPods, desiredHealthy: scaled(minAvailable, expectedPods) };
  }
  return { expectedPods: guarded.length, desiredHealthy: minAvailable ?? 0 };
}

/** Percentages are rounded up, for both fields. */
function scaled(value: number | string, total: number): number {
  if (typeof value === 'number') return value;
  return Math.ceil((Number.parseInt(value, 10) * total) / 100);
}

function wantedByControllers(cluster: Cluster, guarded: readonly Pod[]): number {
  const { store } = cluster;
  const wanted = new Map<string, number>();
  for (const pod of guarded) {
    const owner = controllerOf(pod);
    if (owner === undefined || wanted.has(owner.uid)) continue;
    const { namespace } = pod.metadata;
    const kind = owner.kind === 'StatefulSet' ? statefulSets : replicaSets;
    const set = store.get(kind, namespace, owner.name);
    const above = set === undefined ? undefined : controllerOf(set);
    const deployment =
      above === undefined ? undefined : store.get(deployments, namespace, above.name);
    const scale = deployment ?? set;
    if (scale !== undefined) wanted.set(scale.metadata.uid, scale.spec.replicas ?? 1);
  }
  return [...wanted.values()].reduce((sum, replicas) => sum + replicas, 0);
}
