import { badRequest, conflict, type StatusBody } from './api-error.ts';
import { success } from './eviction.ts';
import { pods } from './kinds.ts';
import { withCondition, type Pod } from './objects.ts';
import { readObject, type Cluster } from './registry.ts';

export type Binding = {
  metadata?: { name?: string };
  target?: { kind?: string; name?: string };
};

export function bind(
  cluster: Cluster,
  namespace: string,
  name: string,
  binding: Binding,
): StatusBody {
  if (binding.metadata?.name !== name) {
    throw badRequest('name in URL does not match name in Binding object');
  }
  const nodeName = binding.target?.name ?? '';
  if (nodeName === '') throw badRequest('Binding "target.name" must be set');
  const pod = readObject(cluster, pods, namespace, name);
  const bound = pod.spec.nodeName ?? '';
  if (pod.metadata.deletionTimestamp !== undefined) {
    throw conflict(binder, name, `pod ${name} is being deleted, cannot be assigned to a host`);
  }
  if (bound !== '') {
    throw conflict(binder, name, `pod ${name} is already assigned to node "${bound}"`);
  }
  assignNode(cluster, pod, nodeName);
  return success;
}

const binder = { group: '', plural: 'pods/binding', kind: 'Pod' };

export function assignNode(cluster: Cluster, pod: Pod, nodeName: string): void {
  cluster.store.put(pods, {
    ...pod,
    spec: { ...pod.spec, nodeName },
    status: {
      ...pod.status,
      conditions: withCondition(
        pod.status.conditions,
        { type: 'PodScheduled', status: 'True' },
        Date.now(),
      ),
    },
  });
}
