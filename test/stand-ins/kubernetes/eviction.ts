import { setTimeout as delay } from 'node:timers/promises';
import { ApiError, badRequest, budgetRefuses, forbidden, type StatusBody } from './api-error.ts';
import { budgets, pods } from './kinds.ts';
import {
  isFinished,
  isReady,
  secondsTime,
  withCondition,
  type Budget,
  type Pod,
} from './objects.ts';
import {
  readObject,
  removeObject,
  requireLivingNamespace,
  requirePreconditions,
  type Cluster,
  type DeleteOptions,
} from './registry.ts';
import { compileLabelSelector } from './selectors.ts';

export type Eviction = {
  metadata?: { name?: string; namespace?: string };
  deleteOptions?: DeleteOptions;
};

export const success: StatusBody = {
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: 'Success',
  code: 201,
};

const disruptedPodsLimit = 2000;
/** The server tries again on a conflict this often, at this distance, before it answers 409. */
const conflictRetries = 20;
const conflictRetryMs = 500;

/**
 * The order of the real server's steps, each with a consequence: a pod for which budgets do not
 * count is retried on a conflict for ten seconds before the answer; and a budget is charged before
 * the uid is compared.
 */
export async function evict(
  cluster: Cluster,
  namespace: string,
  name: string,
  eviction: Eviction,
): Promise<StatusBody> {
  if (eviction.metadata?.name !== name) {
    throw badRequest('name in URL does not match name in Eviction object');
  }
  requireLivingNamespace(cluster, pods, { name, namespace });
  const options = eviction.deleteOptions ?? {};
  const pod = await evictWithoutBudget(cluster, namespace, name, options);
  if (pod === undefined) return success;

  const matching = budgetsOf(cluster, pod);
  if (matching.length > 1) {
    throw new ApiError(
      500,
      undefined,
      'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
    );
  }
  const [budget] = matching;
  if (budget !== undefined && !isExempt(pod, budget)) {
    charge(cluster, budget, pod, options.dryRun?.includes('All') ?? false);
  }
  addConditionAndDelete(cluster, pod, options);
  return success;
}

/** Undefined if the pod is gone or going without a budget's word, else the pod to ask budgets about. */
async function evictWithoutBudget(
  cluster: Cluster,
  namespace: string,
  name: string,
  options: DeleteOptions,
): Promise<Pod | undefined> {
  for (let attempt = 1; ; attempt += 1) {
    const pod = readObject(cluster, pods, namespace, name);
    const ignoresBudgets =
      isFinished(pod) ||
      pod.status.phase === 'Pending' ||
      pod.metadata.deletionTimestamp !== undefined;
    if (!ignoresBudgets) return pod;
    try {
      addConditionAndDelete(cluster, pod, options);
      return undefined;
    } catch (error) {
      const isConflict = error instanceof ApiError && error.code === 409;
      const mayRetry = options.preconditions?.resourceVersion === undefined;
      if (!isConflict || !mayRetry || attempt === conflictRetries) throw error;
    }
    await delay(conflictRetryMs);
  }
}

function budgetsOf(cluster: Cluster, pod: Pod): Budget[] {
  return [...cluster.store.values(budgets, pod.metadata.namespace)].filter(({ spec }) => {
    // No selector selects nothing, an empty one everything.
    return (
      spec.selector !== undefined && compileLabelSelector(spec.selector)(pod.metadata.labels ?? {})
    );
  });
}

function isExempt(pod: Pod, { spec, status }: Budget): boolean {
  if (isReady(pod)) return false;
  if (spec.unhealthyPodEvictionPolicy === 'AlwaysAllow') return true;
  return status.currentHealthy >= status.desiredHealthy && status.desiredHealthy > 0;
}

function charge(cluster: Cluster, budget: Budget, pod: Pod, dryRun: boolean): void {
  const { name, generation = 0 } = budget.metadata;
  const { status } = budget;
  if ((status.observedGeneration ?? 0) < generation) {
    throw budgetRefuses(
      `The disruption budget ${name} is still being processed by the server.`,
      10,
    );
  }
  if (Object.keys(status.disruptedPods ?? {}).length > disruptedPodsLimit) {
    throw forbidden(
      { group: 'policy', plural: 'poddisruptionbudget', kind: budgets.kind },
      name,
      'DisruptedPods map too big - too many evictions not confirmed by PDB controller',
    );
  }
  if (status.disruptionsAllowed === 0) throw budgetRefuses(refusal(budget));
  if (dryRun) return;
  const disruptionsAllowed = status.disruptionsAllowed - 1;
  const nowMs = Date.now();
  cluster.store.put(budgets, {
    ...budget,
    status: {
      ...status,
      disruptionsAllowed,
      disruptedPods: { ...status.disruptedPods, [pod.metadata.name]: secondsTime(nowMs) },
      ...(disruptionsAllowed === 0 && {
        conditions: withCondition(
          status.conditions,
          { type: 'DisruptionAllowed', status: 'False', reason: 'InsufficientPods', message: '' },
          nowMs,
        ),
      }),
    },
  });
}

function refusal({ metadata: { name }, status }: Budget): string {
  const condition = status.conditions?.find((c) => c.type === 'DisruptionAllowed');
  const message = condition?.message ?? '';
  if (condition?.status === 'False' && message !== '' && condition.reason === 'SyncFailed') {
    return `The disruption budget ${name} does not allow evicting pods currently because it failed sync: ${message}`;
  }
  if (status.currentHealthy <= status.desiredHealthy) {
    return `The disruption budget ${name} needs ${status.desiredHealthy} healthy pods and has ${status.currentHealthy} currently`;
  }
  return `The disruption budget ${name} does not allow evicting pods currently`;
}

/** Two writes, and so two events for watchers: the condition first, then the deletion. */
function addConditionAndDelete(cluster: Cluster, pod: Pod, options: DeleteOptions): void {
  const { namespace, name } = pod.metadata;
  let { preconditions } = options;
  if (!(options.dryRun?.includes('All') ?? false)) {
    requirePreconditions(cluster, 'Pod', pod.metadata, preconditions);
    const conditions = withCondition(
      pod.status.conditions,
      {
        type: 'DisruptionTarget',
        status: 'True',
        reason: 'EvictionByEvictionAPI',
        message: 'Eviction API: evicting',
      },
      Date.now(),
    );
    const already = pod.status.conditions?.some((c) => c.type === 'DisruptionTarget') ?? false;
    if (!already) {
      const marked = cluster.store.put(pods, { ...pod, status: { ...pod.status, conditions } });
      if (preconditions?.resourceVersion !== undefined) {
        preconditions = { ...preconditions, resourceVersion: marked.metadata.resourceVersion };
      }
    }
  }
  removeObject(cluster, pods, namespace, name, {
    ...options,
    ...(preconditions !== undefined && { preconditions }),
  });
}
