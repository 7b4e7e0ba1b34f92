import {
  KUBERNETES_PERMISSIONS,
  type KubernetesPermission,
} from '../../scripts/chart/permissions.ts';
import type { PolicyRule } from '../control-plane/control-plane.ts';
import { controllerNamespace, type WorldOptions } from './world.ts';

/** As the chart grants them, but for any Lease of the namespace: tests have one for each queue. */
function rulesWithin(place: KubernetesPermission['within']): PolicyRule[] {
  return KUBERNETES_PERMISSIONS.filter(({ within }) => within === place).map(
    ({ apiGroup, resource, verbs }) => ({
      apiGroups: [apiGroup],
      resources: [resource],
      verbs: Object.keys(verbs),
    }),
  );
}

/** Of a world in which the controller may do what the chart lets it, and nothing else. */
export const leastRights = {
  controllerRules: rulesWithin('cluster'),
  controllerAccess: {
    namespaceRules: {
      'kube-node-lease': rulesWithin('kube-node-lease'),
      [controllerNamespace]: rulesWithin('own namespace'),
    },
  },
} satisfies WorldOptions;
