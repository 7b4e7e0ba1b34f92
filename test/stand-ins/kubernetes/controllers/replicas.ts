import { createHash } from 'node:crypto';
import { sameJson } from '../json.ts';
import {
  daemonSets,
  deployments,
  namespaces,
  nodes,
  pods,
  replicaSets,
  statefulSets,
} from '../kinds.ts';
import {
  controllerOf,
  isFinished,
  isReady,
  type ApiObject,
  type Metadata,
  type Pod,
  type PodSpec,
  type Workload,
} from '../objects.ts';
import { createObject, emptyMetadata, removeObject, type Cluster } from '../registry.ts';
import type { Resource } from '../resource.ts';
import { compileLabelSelector } from '../selectors.ts';
import { keyOf } from '../store.ts';
import type { Controller } from './work-queue.ts';

/** Makes and removes the pods of a ReplicaSet; one that is going or finished is replaced at once. */
export function replicaSetController(cluster: Cluster): Controller {
  return workloadController(cluster, replicaSets, (set, owned) => {
    const wanted = set.spec.replicas ?? 1;
    const living = owned.filter(isLiving);
    for (let missing = wanted - living.length; missing > 0; missing -= 1) {
      createPod(cluster, set, { generateName: `${set.metadata.name}-` }, {});
    }
    const surplus = living.toSorted((a, b) => Number(isReady(a)) - Number(isReady(b)));
    for (const pod of surplus.slice(0, Math.max(0, living.length - wanted))) remove(cluster, pod);
    return replicaStatus(set, living);
  });
}

/** Keeps pods NAME-0 … in order: a name is taken again only when its pod is gone. */
export function statefulSetController(cluster: Cluster): Controller {
  return workloadController(cluster, statefulSets, (set, owned) => {
    const wanted = set.spec.replicas ?? 1;
    const { namespace, name } = set.metadata;
    const inOrder = set.spec.podManagementPolicy !== 'Parallel';
    for (let ordinal = 0; ordinal < wanted; ordinal += 1) {
      const podName = `${name}-${ordinal}`;
      const pod = cluster.store.get(pods, namespace, podName);
      if (pod === undefined) {
        const labels = {
          'statefulset.kubernetes.io/pod-name': podName,
          'apps.kubernetes.io/pod-index': String(ordinal),
        };
        createPod(cluster, set, { name: podName, labels }, {});
        if (inOrder) break;
      } else if (isFinished(pod)) remove(cluster, pod);
      else if (inOrder && (pod.metadata.deletionTimestamp !== undefined || !isReady(pod))) break;
    }
    const ordinalOf = (pod: Pod): number => Number(pod.metadata.name.slice(name.length + 1));
    for (const pod of owned) if (ordinalOf(pod) >= wanted) remove(cluster, pod);
    return replicaStatus(set, owned.filter(isLiving));
  });
}

/** One pod for each node that its selector admits, cordoned or not. */
export function daemonSetController(cluster: Cluster): Controller {
  const { store } = cluster;
  const controller = workloadController(cluster, daemonSets, (set, owned) => {
    const selector = Object.entries(set.spec.template.spec.nodeSelector ?? {});
    const wanted = store
      .list(nodes)
      .filter(({ metadata }) => selector.every(([key, value]) => metadata.labels?.[key] === value))
      .map(({ metadata }) => metadata.name);
    const covered = new Set(owned.filter((pod) => !isFinished(pod)).map(nodeOf));
    for (const nodeName of wanted) {
      if (!covered.has(nodeName)) {
        createPod(cluster, set, { generateName: `${set.metadata.name}-` }, onNode(nodeName));
      }
    }
    for (const pod of owned) if (!wanted.includes(nodeOf(pod) ?? '')) remove(cluster, pod);
    return {
      observedGeneration: set.metadata.generation ?? 0,
      desiredNumberScheduled: wanted.length,
      currentNumberScheduled: covered.size,
      numberReady: owned.filter(isReady).length,
    };
  });
  return {
    ...controller,
    start(enqueue) {
      controller.start(enqueue);
      store.listen(nodes, ({ type }) => {
        if (type === 'MODIFIED') return;
        for (const { metadata } of store.list(daemonSets)) {
          enqueue(keyOf(metadata.namespace, metadata.name));
        }
      });
    },
  };
}

/** One ReplicaSet for each template; those of older templates are scaled to nothing at once. */
export function deploymentController(cluster: Cluster): Controller {
  const { store } = cluster;
  return {
    name: 'deployment',

    start(enqueue) {
      store.listen(deployments, ({ object }) => {
        enqueue(keyOf(object.metadata.namespace, object.metadata.name));
      });
      store.listen(replicaSets, ({ object }) => {
        const owner = controllerOf(object);
        if (owner !== undefined) enqueue(keyOf(object.metadata.namespace, owner.name));
      });
    },

    sync(key) {
      const [namespace = '', name = ''] = key.split('/');
      const deployment = store.get(deployments, namespace, name);
      if (deployment === undefined || deployment.metadata.deletionTimestamp !== undefined) return;
      const { template, replicas = 1 } = deployment.spec;
      const hash = createHash('sha256').update(JSON.stringify(template)).digest('hex').slice(0, 10);
      const sets = store.indexed(replicaSets, 'controller', deployment.metadata.uid);
      const current = sets.find((set) => set.metadata.labels?.['pod-template-hash'] === hash);
      for (const set of sets) {
        const wanted = set === current ? replicas : 0;
        if (set.spec.replicas === wanted) continue;
        const metadata = { ...set.metadata, generation: (set.metadata.generation ?? 0) + 1 };
        store.put(replicaSets, { ...set, metadata, spec: { ...set.spec, replicas: wanted } });
      }
      if (current === undefined) {
        const labels = { ...template.metadata?.labels, 'pod-template-hash': hash };
        createObject(cluster, replicaSets, namespace, {
          apiVersion: 'apps/v1',
          kind: 'ReplicaSet',
          metadata: {
            ...emptyMetadata,
            name: `${name}-${hash}`,
            labels,
            ownerReferences: [ownedBy(deployment)],
          },
          spec: {
            replicas,
            selector: {
              ...deployment.spec.selector,
              matchLabels: { ...deployment.spec.selector.matchLabels, 'pod-template-hash': hash },
            },
            template: { ...template, metadata: { ...template.metadata, labels } },
          },
          status: {},
        });
        return;
      }
      const observedGeneration = deployment.metadata.generation ?? 0;
      const status = { ...current.status, observedGeneration };
      writeStatus(cluster, deployments, deployment, status);
    },
  };
}

function workloadController(
  cluster: Cluster,
  resource: Resource<Workload>,
  sync: (workload: Workload, owned: readonly Pod[]) => Record<string, unknown>,
): Controller {
  const { store } = cluster;
  return {
    name: resource.singular,

    start(enqueue) {
      store.listen(resource, ({ type, object }) => {
        if (type !== 'DELETED') enqueue(keyOf(object.metadata.namespace, object.metadata.name));
      });
      store.listen(pods, ({ object }) => {
        const owner = controllerOf(object);
        if (owner?.kind === resource.kind) enqueue(keyOf(object.metadata.namespace, owner.name));
      });
    },

    sync(key) {
      const [namespace = '', name = ''] = key.split('/');
      const workload = store.get(resource, namespace, name);
      if (workload === undefined || workload.metadata.deletionTimestamp !== undefined) return;
      const matches = compileLabelSelector(workload.spec.selector);
      const owned: Pod[] = [];
      for (const pod of store.indexed(pods, 'controller', workload.metadata.uid)) {
        if (matches(pod.metadata.labels ?? {})) owned.push(pod);
        else if (pod.metadata.deletionTimestamp === undefined) release(cluster, pod, workload);
      }
      writeStatus(cluster, resource, workload, sync(workload, owned));
    },
  };
}

function writeStatus(
  cluster: Cluster,
  resource: Resource<Workload>,
  workload: Workload,
  status: Record<string, unknown>,
): void {
  if (!sameJson(status, workload.status)) cluster.store.put(resource, { ...workload, status });
}

function replicaStatus(set: Workload, living: readonly Pod[]): Record<string, unknown> {
  const ready = living.filter(isReady).length;
  return {
    observedGeneration: set.metadata.generation ?? 0,
    replicas: living.length,
    readyReplicas: ready,
    availableReplicas: ready,
  };
}

function createPod(
  cluster: Cluster,
  workload: Workload,
  named: Partial<Pick<Metadata, 'name' | 'generateName' | 'labels'>>,
  placement: Partial<PodSpec>,
): void {
  const { template } = workload.spec;
  const { namespace } = workload.metadata;
  if (namespace === undefined || isGoing(cluster, namespace)) return;
  createObject(cluster, pods, namespace, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...emptyMetadata,
      ...named,
      labels: { ...template.metadata?.labels, ...named.labels },
      ...(template.metadata?.annotations !== undefined && {
        annotations: template.metadata.annotations,
      }),
      ownerReferences: [ownedBy(workload)],
    },
    spec: { ...template.spec, ...placement },
    status: { phase: 'Pending' },
  });
}

function isGoing(cluster: Cluster, namespace: string): boolean {
  const found = cluster.store.get(namespaces, undefined, namespace);
  return found === undefined || found.metadata.deletionTimestamp !== undefined;
}

function onNode(nodeName: string): Partial<PodSpec> {
  const keys = [
    'not-ready',
    'unreachable',
    'disk-pressure',
    'memory-pressure',
    'pid-pressure',
    'unschedulable',
  ];
  return {
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [
            { matchFields: [{ key: 'metadata.name', operator: 'In', values: [nodeName] }] },
          ],
        },
      },
    },
    tolerations: [
      { operator: 'Exists' },
      ...keys.map((key) => ({ key: `node.kubernetes.io/${key}`, operator: 'Exists' })),
    ],
  };
}

function nodeOf(pod: Pod): string | undefined {
  const terms =
    pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
      ?.nodeSelectorTerms;
  return pod.spec.nodeName ?? terms?.[0]?.matchFields?.[0]?.values?.[0];
}

function ownedBy(object: ApiObject): NonNullable<Metadata['ownerReferences']>[number] {
  const { apiVersion, kind } = object;
  const { name, uid } = object.metadata;
  return { apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true };
}

/** A pod that the selector does not find is none of the workload's business. */
function release(cluster: Cluster, pod: Pod, { metadata: { uid } }: Workload): void {
  const ownerReferences = pod.metadata.ownerReferences?.filter((owner) => owner.uid !== uid) ?? [];
  const metadata = { ...pod.metadata, ownerReferences };
  if (ownerReferences.length === 0) Reflect.deleteProperty(metadata, 'ownerReferences');
  cluster.store.put(pods, { ...pod, metadata });
}

function isLiving(pod: Pod): boolean {
  return !isFinished(pod) && pod.metadata.deletionTimestamp === undefined;
}

function remove(cluster: Cluster, pod: Pod): void {
  if (pod.metadata.deletionTimestamp !== undefined) return;
  removeObject(cluster, pods, pod.metadata.namespace, pod.metadata.name, {});
}
