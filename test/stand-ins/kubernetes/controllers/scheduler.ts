import { assignNode } from '../binding.ts';
import { nodes, pods } from '../kinds.ts';
import {
  isFinished,
  withCondition,
  type Node,
  type NodeSelectorTerm,
  type Pod,
  type Taint,
  type Toleration,
} from '../objects.ts';
import type { Cluster } from '../registry.ts';
import { requirement } from '../selectors.ts';
import { keyOf } from '../store.ts';
import type { Controller } from './work-queue.ts';

const unschedulableTaint: Taint = {
  key: 'node.kubernetes.io/unschedulable',
  effect: 'NoSchedule',
};
const defaultPodsPerNode = 110;

/** Binds pods to the node with the fewest that will have them. Resources count by pods alone. */
export function scheduler(cluster: Cluster): Controller {
  const { store } = cluster;
  /** Pods of each node: with a thousand nodes, asking the store for each would take most of the time. */
  const counts = new Map<string, number>();
  const count = (pod: Pod | undefined, change: 1 | -1): void => {
    const nodeName = pod?.spec.nodeName ?? '';
    if (nodeName !== '') counts.set(nodeName, (counts.get(nodeName) ?? 0) + change);
  };

  return {
    name: 'scheduler',

    start(enqueue) {
      const waiting = (): Pod[] => store.indexed(pods, 'spec.nodeName', '').filter(isSchedulable);
      store.listen(pods, ({ type, object, previous }) => {
        const pod = object as Pod;
        count(previous as Pod | undefined, -1);
        if (type !== 'DELETED') count(pod, 1);
        if (type !== 'DELETED' && isSchedulable(pod)) {
          if (previous === undefined) enqueue(keyOf(pod.metadata.namespace, pod.metadata.name));
          return;
        }
        // A pod that leaves makes room.
        if (type === 'DELETED' && (pod.spec.nodeName ?? '') !== '') retry();
      });
      const retry = (): void => {
        for (const pod of waiting()) enqueue(keyOf(pod.metadata.namespace, pod.metadata.name));
      };
      store.listen(nodes, retry);
    },

    sync(key) {
      const [namespace = '', name = ''] = key.split('/');
      const pod = store.get(pods, namespace, name);
      if (pod === undefined || !isSchedulable(pod)) return;
      const chosen = choose(cluster, pod, counts);
      if (chosen !== undefined) assignNode(cluster, pod, chosen.metadata.name);
      else reportUnschedulable(cluster, pod);
    },
  };
}

function isSchedulable(pod: Pod): boolean {
  return (
    (pod.spec.nodeName ?? '') === '' &&
    pod.metadata.deletionTimestamp === undefined &&
    !isFinished(pod) &&
    (pod.spec.schedulingGates ?? []).length === 0 &&
    (pod.spec.schedulerName ?? 'default-scheduler') === 'default-scheduler'
  );
}

function choose(cluster: Cluster, pod: Pod, counts: ReadonlyMap<string, number>): Node | undefined {
  let best: Node | undefined;
  let bestCost = Infinity;
  for (const node of cluster.store.values(nodes)) {
    const count = counts.get(node.metadata.name) ?? 0;
    // The cheap comparison goes first: with many nodes it leaves few to look at closely.
    if (count >= bestCost || count >= capacityOf(node) || !admits(node, pod)) continue;
    const cost = count + dislike(node, pod);
    if (cost < bestCost) {
      best = node;
      bestCost = cost;
    }
  }
  return best;
}

function capacityOf(node: Node): number {
  return Number(node.status.allocatable?.['pods'] ?? defaultPodsPerNode);
}

function admits(node: Node, pod: Pod): boolean {
  const tolerations = pod.spec.tolerations ?? [];
  if (node.spec.unschedulable === true && !isTolerated(unschedulableTaint, tolerations))
    return false;
  const repels = (node.spec.taints ?? []).some(
    (taint) => taint.effect !== 'PreferNoSchedule' && !isTolerated(taint, tolerations),
  );
  if (repels) return false;
  const labels = node.metadata.labels ?? {};
  for (const [key, value] of Object.entries(pod.spec.nodeSelector ?? {})) {
    if (labels[key] !== value) return false;
  }
  const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return required === undefined || required.nodeSelectorTerms.some((term) => isTermMet(term, node));
}

function isTermMet(term: NodeSelectorTerm, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  const fields = { 'metadata.name': node.metadata.name };
  return (
    (term.matchExpressions ?? []).every((e) =>
      requirement(e.key, e.operator, e.values ?? [])(labels),
    ) &&
    (term.matchFields ?? []).every((e) => requirement(e.key, e.operator, e.values ?? [])(fields))
  );
}

/** As many pods as make a node with this taint worth avoiding. */
function dislike(node: Node, pod: Pod): number {
  const unwelcoming = (node.spec.taints ?? []).some(
    (taint) =>
      taint.effect === 'PreferNoSchedule' && !isTolerated(taint, pod.spec.tolerations ?? []),
  );
  return unwelcoming ? 1000 : 0;
}

function isTolerated(taint: Taint, tolerations: readonly Toleration[]): boolean {
  return tolerations.some((toleration) => {
    if ((toleration.effect ?? '') !== '' && toleration.effect !== taint.effect) return false;
    if ((toleration.key ?? '') === '') return toleration.operator === 'Exists';
    if (toleration.key !== taint.key) return false;
    return toleration.operator === 'Exists' || (toleration.value ?? '') === (taint.value ?? '');
  });
}

function reportUnschedulable(cluster: Cluster, pod: Pod): void {
  const known = pod.status.conditions?.some(
    (condition) => condition.type === 'PodScheduled' && condition.status === 'False',
  );
  if (known === true) return;
  const condition = {
    type: 'PodScheduled',
    status: 'False',
    reason: 'Unschedulable',
    message: `0/${cluster.store.count(nodes)} nodes are available`,
  };
  const conditions = withCondition(pod.status.conditions, condition, Date.now());
  cluster.store.put(pods, { ...pod, status: { ...pod.status, conditions } });
}
