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

/** Keeps the status of PodDisruptionBudgets, from which evictions are granted. */
export function disruptionController(cluster: Cluster): Controller {
  const { store } = cluster;
  return {
    name: 'disruption',

    start(enqueue) {
      store.listen(budgets, ({ object }) => {
        enqueue(keyOf(object.metadata.namespace, object.metadata.name));
      });
      store.listen(pods, ({ object, previous }) => {
        const { namespace } = object.metadata;
        for (const budget of store.list(budgets, namespace)) {
          const { selector } = budget.spec;
          if (selector === undefined) continue;
          const matches = compileLabelSelector(selector);
          const concerned =
            matches(object.metadata.labels ?? {}) || matches(previous?.metadata.labels ?? {});
          if (concerned) enqueue(keyOf(namespace, budget.metadata.name));
        }
      });
      for (const kind of [deployments, replicaSets, statefulSets]) {
        store.listen(kind, ({ object }) => {
          const { namespace } = object.metadata;
          for (const budget of store.list(budgets, namespace)) {
            enqueue(keyOf(namespace, budget.metadata.name));
          }
        });
      }
    },

    sync(key) {
      const [namespace = '', name = ''] = key.split('/');
      const budget = store.get(budgets, namespace, name);
      if (budget === undefined) return;
      const status = statusOf(cluster, budget, Date.now());
      if (!sameJson(status, budget.status)) store.put(budgets, { ...budget, status });
    },
  };
}

function statusOf(cluster: Cluster, budget: Budget, nowMs: number): BudgetStatus {
  const { spec, status, metadata } = budget;
  const matches = spec.selector === undefined ? () => false : compileLabelSelector(spec.selector);
  const guarded = cluster.store
    .list(pods, metadata.namespace)
    .filter((pod) => matches(pod.metadata.labels ?? {}));

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
