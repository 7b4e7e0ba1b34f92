import { budgetRules } from './budget-rules.ts';
import { eventRules } from './event-rules.ts';
import { leaseRules } from './lease-rules.ts';
import { nodeRules } from './node-rules.ts';
import type {
  ApiObject,
  Budget,
  Lease,
  Namespace,
  Node,
  Pod,
  RecordedEvent,
  Workload,
} from './objects.ts';
import { podRules, podTemplateMergeRules } from './pod-rules.ts';
import { defineResource, type Resource } from './resource.ts';

const metadataMergeRules = { 'metadata.finalizers': '', 'metadata.ownerReferences': 'uid' };
const conditionsMergeRules = { ...metadataMergeRules, 'status.conditions': 'type' };

export const namespaces: Resource<Namespace> = defineResource<Namespace>({
  group: '',
  version: 'v1',
  plural: 'namespaces',
  singular: 'namespace',
  kind: 'Namespace',
  namespaced: false,
  shortNames: ['ns'],
  subresources: ['status', 'finalize'],
  returnsDeleted: true,
  fields: { 'status.phase': (namespace) => namespace.status.phase },
  mergeRules: conditionsMergeRules,
  prepareCreate(namespace) {
    namespace.spec = { finalizers: ['kubernetes'] };
    namespace.status = { phase: 'Active' };
    const { metadata } = namespace;
    metadata.labels = { ...metadata.labels, 'kubernetes.io/metadata.name': metadata.name };
  },
  deleting: (namespace) => ({ ...namespace, status: { phase: 'Terminating' } }),
});

export const nodes: Resource<Node> = defineResource<Node>({
  group: '',
  version: 'v1',
  plural: 'nodes',
  singular: 'node',
  kind: 'Node',
  namespaced: false,
  shortNames: ['no'],
  subresources: ['status'],
  ...nodeRules,
  mergeRules: { ...conditionsMergeRules, 'status.addresses': 'type', 'spec.podCIDRs': '' },
});

export const pods: Resource<Pod> = defineResource<Pod>({
  group: '',
  version: 'v1',
  plural: 'pods',
  singular: 'pod',
  kind: 'Pod',
  namespaced: true,
  shortNames: ['po'],
  subresources: ['status', 'binding', 'eviction'],
  returnsDeleted: true,
  counted: true,
  ...podRules,
  mergeRules: {
    ...conditionsMergeRules,
    ...podTemplateMergeRules('spec'),
    'status.podIPs': 'ip',
    'status.hostIPs': 'ip',
  },
});

export const serviceAccounts: Resource = defineResource({
  group: '',
  version: 'v1',
  plural: 'serviceaccounts',
  singular: 'serviceaccount',
  kind: 'ServiceAccount',
  namespaced: true,
  shortNames: ['sa'],
  hasSpec: false,
  subresources: ['token'],
  returnsDeleted: true,
  mergeRules: metadataMergeRules,
});

const configMaps: Resource = defineResource({
  group: '',
  version: 'v1',
  plural: 'configmaps',
  singular: 'configmap',
  kind: 'ConfigMap',
  namespaced: true,
  shortNames: ['cm'],
  hasSpec: false,
  mergeRules: metadataMergeRules,
});

const services: Resource = defineResource({
  group: '',
  version: 'v1',
  plural: 'services',
  singular: 'service',
  kind: 'Service',
  namespaced: true,
  shortNames: ['svc'],
  subresources: ['status'],
  returnsDeleted: true,
  mergeRules: conditionsMergeRules,
});

const persistentVolumes: Resource = defineResource({
  group: '',
  version: 'v1',
  plural: 'persistentvolumes',
  singular: 'persistentvolume',
  kind: 'PersistentVolume',
  namespaced: false,
  shortNames: ['pv'],
  subresources: ['status'],
  returnsDeleted: true,
  mergeRules: metadataMergeRules,
});

const persistentVolumeClaims: Resource = defineResource({
  group: '',
  version: 'v1',
  plural: 'persistentvolumeclaims',
  singular: 'persistentvolumeclaim',
  kind: 'PersistentVolumeClaim',
  namespaced: true,
  shortNames: ['pvc'],
  subresources: ['status'],
  returnsDeleted: true,
  mergeRules: metadataMergeRules,
});

/** Kept in the form of events.k8s.io/v1; core/v1 shows the same objects (event-rules.ts). */
export const events: Resource<RecordedEvent> = defineResource<RecordedEvent>({
  group: 'events.k8s.io',
  version: 'v1',
  plural: 'events',
  singular: 'event',
  kind: 'Event',
  namespaced: true,
  shortNames: ['ev'],
  hasSpec: false,
  ...eventRules,
  mergeRules: metadataMergeRules,
});

export const budgets: Resource<Budget> = defineResource<Budget>({
  group: 'policy',
  version: 'v1',
  plural: 'poddisruptionbudgets',
  singular: 'poddisruptionbudget',
  kind: 'PodDisruptionBudget',
  namespaced: true,
  shortNames: ['pdb'],
  subresources: ['status'],
  counted: true,
  ...budgetRules,
  mergeRules: conditionsMergeRules,
});

const leases: Resource<Lease> = defineResource<Lease>({
  group: 'coordination.k8s.io',
  version: 'v1',
  plural: 'leases',
  singular: 'lease',
  kind: 'Lease',
  namespaced: true,
  unconditionalUpdate: false,
  createOnUpdate: true,
  ...leaseRules,
  mergeRules: metadataMergeRules,
});

const volumeAttachments: Resource = defineResource({
  group: 'storage.k8s.io',
  version: 'v1',
  plural: 'volumeattachments',
  singular: 'volumeattachment',
  kind: 'VolumeAttachment',
  namespaced: false,
  subresources: ['status'],
  returnsDeleted: true,
  unconditionalUpdate: false,
  mergeRules: metadataMergeRules,
  prepareCreate(attachment) {
    attachment.status = { attached: false };
  },
});

const priorityClasses: Resource = defineResource({
  group: 'scheduling.k8s.io',
  version: 'v1',
  plural: 'priorityclasses',
  singular: 'priorityclass',
  kind: 'PriorityClass',
  namespaced: false,
  shortNames: ['pc'],
  hasSpec: false,
  mergeRules: metadataMergeRules,
});

function workload(
  plural: string,
  singular: string,
  kind: string,
  shortName: string,
): Resource<Workload> {
  return defineResource<Workload>({
    group: 'apps',
    version: 'v1',
    plural,
    singular,
    kind,
    namespaced: true,
    shortNames: [shortName],
    subresources: kind === 'DaemonSet' ? ['status'] : ['status', 'scale'],
    counted: true,
    mergeRules: { ...conditionsMergeRules, ...podTemplateMergeRules('spec.template.spec') },
    indexes: { controller: controllerUid },
    prepareCreate(object) {
      object.status = {};
      if (kind !== 'DaemonSet') object.spec.replicas ??= 1;
    },
  });
}

function controllerUid(object: ApiObject): string | undefined {
  return object.metadata.ownerReferences?.find((owner) => owner.controller === true)?.uid;
}

export const deployments = workload('deployments', 'deployment', 'Deployment', 'deploy');
export const replicaSets = workload('replicasets', 'replicaset', 'ReplicaSet', 'rs');
export const statefulSets = workload('statefulsets', 'statefulset', 'StatefulSet', 'sts');
export const daemonSets = workload('daemonsets', 'daemonset', 'DaemonSet', 'ds');

/** Everything that is stored, in the order of discovery. */
export const resources: readonly Resource[] = [
  configMaps,
  namespaces,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  serviceAccounts,
  services,
  events,
  daemonSets,
  deployments,
  replicaSets,
  statefulSets,
  leases,
  budgets,
  priorityClasses,
  volumeAttachments,
];
