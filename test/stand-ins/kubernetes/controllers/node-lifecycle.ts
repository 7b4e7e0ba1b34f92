import { sameJson } from '../json.ts';
import { nodes } from '../kinds.ts';
import { isReady, type Node, type Taint } from '../objects.ts';
import type { Cluster } from '../registry.ts';
import type { Controller } from './work-queue.ts';

const kept = {
  unschedulable: 'node.kubernetes.io/unschedulable',
  notReady: 'node.kubernetes.io/not-ready',
  unreachable: 'node.kubernetes.io/unreachable',
};

/**
 * Keeps the NoSchedule taints that mirror a node's state. It is a second writer of spec.taints just
 * after a cordon that comes without its taint (kubectl's, say), an everyday reason for a 409.
 */
export function nodeLifecycleController(cluster: Cluster): Controller {
  const { store } = cluster;
  return {
    name: 'node-lifecycle',
    start(enqueue) {
      store.listen(nodes, ({ object }) => {
        enqueue(object.metadata.name);
      });
    },
    sync(name) {
      const node = store.get(nodes, undefined, name);
      if (node === undefined || node.metadata.deletionTimestamp !== undefined) return;
      const taints = wantedTaints(node, node.spec.taints ?? []);
      if (sameJson(taints, node.spec.taints ?? [])) return;
      const spec: Node['spec'] = { ...node.spec, taints };
      if (taints.length === 0) delete spec.taints;
      store.put(nodes, { ...node, spec });
    },
  };
}

function wantedTaints(node: Node, current: readonly Taint[]): Taint[] {
  const ready = node.status.conditions?.find((condition) => condition.type === 'Ready')?.status;
  const wanted = new Map([
    [kept.unschedulable, node.spec.unschedulable === true],
    [kept.notReady, !isReady(node) && ready !== 'Unknown'],
    [kept.unreachable, ready === 'Unknown'],
  ]);
  const isOurs = (taint: Taint): boolean => wanted.has(taint.key) && taint.effect === 'NoSchedule';
  const taints = current.filter((taint) => !isOurs(taint) || wanted.get(taint.key) === true);
  for (const [key, isWanted] of wanted) {
    if (!isWanted || taints.some((taint) => taint.key === key && isOurs(taint))) continue;
    const since = key === kept.unschedulable ? { timeAdded: timeNow() } : {};
    taints.push({ key, effect: 'NoSchedule', ...since });
  }
  return taints;
}

function timeNow(): string {
  return `${new Date().toISOString().slice(0, 19)}Z`;
}
