import type { PolicyRule } from '../control-plane/control-plane.ts';
import { controllerNamespace, type WorldOptions } from './world.ts';

const clusterRules: readonly PolicyRule[] = [
  { apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch', 'patch'] },
  { apiGroups: [''], resources: ['pods'], verbs: ['get', 'list', 'watch', 'delete'] },
  { apiGroups: [''], resources: ['pods/eviction'], verbs: ['create'] },
  // Which volume a pod's claim is bound to, and whether that is still attached.
  { apiGroups: [''], resources: ['persistentvolumeclaims'], verbs: ['get'] },
  { apiGroups: ['storage.k8s.io'], resources: ['volumeattachments'], verbs: ['list'] },
];

// The kubelets' signs of life.
const leaseRules: readonly PolicyRule[] = [
  { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get'] },
];

// The controller's own, by which replicas agree.
const ownLeaseRules: readonly PolicyRule[] = [
  {
    apiGroups: ['coordination.k8s.io'],
    resources: ['leases'],
    verbs: ['get', 'list', 'watch', 'create', 'update'],
  },
];

/** Of a world in which the controller may do what it needs to, and nothing else. */
export const leastRights = {
  controllerRules: clusterRules,
  controllerAccess: {
    namespaceRules: { 'kube-node-lease': leaseRules, [controllerNamespace]: ownLeaseRules },
  },
} satisfies WorldOptions;
