import type { Cause } from './api-error.ts';
import { sameJson } from './json.ts';
import { isFinished, type Pod, type PodSpec } from './objects.ts';
import type { MergeRules } from './patch.ts';
import type { Resource } from './resource.ts';
import { forbiddenField, invalidValue, required } from './validation.ts';

/** Values of the two classes every cluster has. */
const builtInPriorities: Readonly<Record<string, number>> = {
  'system-cluster-critical': 2_000_000_000,
  'system-node-critical': 2_000_001_000,
};

export function podTemplateMergeRules(prefix: string): MergeRules {
  const rules: Record<string, string> = {
    [`${prefix}.volumes`]: 'name',
    [`${prefix}.imagePullSecrets`]: 'name',
    [`${prefix}.hostAliases`]: 'ip',
    [`${prefix}.topologySpreadConstraints`]: 'topologyKey',
    [`${prefix}.schedulingGates`]: 'name',
  };
  for (const list of ['containers', 'initContainers', 'ephemeralContainers']) {
    rules[`${prefix}.${list}`] = 'name';
    rules[`${prefix}.${list}.env`] = 'name';
    rules[`${prefix}.${list}.ports`] = 'containerPort';
    rules[`${prefix}.${list}.volumeMounts`] = 'mountPath';
    rules[`${prefix}.${list}.volumeDevices`] = 'devicePath';
  }
  return rules;
}

export const podRules = {
  fields: {
    'spec.nodeName': (pod) => pod.spec.nodeName ?? '',
    'spec.restartPolicy': (pod) => pod.spec.restartPolicy ?? '',
    'spec.schedulerName': (pod) => pod.spec.schedulerName ?? '',
    'spec.serviceAccountName': (pod) => pod.spec.serviceAccountName ?? '',
    'spec.hostNetwork': (pod) => String(pod.spec.hostNetwork ?? false),
    'status.phase': (pod) => pod.status.phase,
    'status.podIP': (pod) => pod.status.podIP ?? '',
    'status.nominatedNodeName': (pod) => pod.status.nominatedNodeName ?? '',
  },
  indexes: {
    'spec.nodeName': (pod) => pod.spec.nodeName ?? '',
    controller: (pod) =>
      pod.metadata.ownerReferences?.find((owner) => owner.controller === true)?.uid,
  },

  prepareCreate(pod) {
    const { spec } = pod;
    spec.restartPolicy ??= 'Always';
    spec.terminationGracePeriodSeconds ??= 30;
    spec.dnsPolicy ??= 'ClusterFirst';
    spec.schedulerName ??= 'default-scheduler';
    spec.securityContext ??= {};
    spec.enableServiceLinks ??= true;
    spec.preemptionPolicy ??= 'PreemptLowerPriority';
    spec.tolerations = withDefaultTolerations(spec.tolerations ?? []);
    spec.priority = builtInPriorities[spec.priorityClassName ?? ''] ?? spec.priority ?? 0;
    pod.status = { phase: 'Pending', qosClass: qualityOfService(spec) };
  },

  prepareUpdate(pod, current) {
    pod.status = current.status;
  },

  validate(pod, current) {
    const causes: Cause[] = [];
    const { spec } = pod;
    if (!Array.isArray(spec.containers) || spec.containers.length === 0) {
      causes.push(required('spec.containers'));
    }
    const grace = spec.terminationGracePeriodSeconds ?? 30;
    if (grace < 0) {
      causes.push(
        invalidValue(
          'spec.terminationGracePeriodSeconds',
          grace,
          'must be greater than or equal to 0',
        ),
      );
    }
    if (current !== undefined && !sameJson(fixedParts(spec), fixedParts(current.spec))) {
      causes.push(
        forbiddenField(
          'spec',
          'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
        ),
      );
    }
    return causes;
  },

  graceSeconds(pod, requestedSeconds) {
    // No kubelet has it, or the kubelet is done with it: nobody would confirm the deletion.
    if ((pod.spec.nodeName ?? '') === '' || isFinished(pod)) return 0;
    const seconds = requestedSeconds ?? pod.spec.terminationGracePeriodSeconds ?? 0;
    return seconds < 0 ? 1 : seconds;
  },
} satisfies Partial<Resource<Pod>>;

function fixedParts(spec: PodSpec): unknown {
  const withoutImage = (container: object): object => ({ ...container, image: undefined });
  return {
    ...spec,
    containers: spec.containers.map(withoutImage),
    initContainers: spec.initContainers?.map(withoutImage),
    activeDeadlineSeconds: undefined,
    tolerations: undefined,
    schedulingGates: undefined,
  };
}

function withDefaultTolerations(
  given: NonNullable<PodSpec['tolerations']>,
): NonNullable<PodSpec['tolerations']> {
  const added = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'].filter(
    (key) =>
      !given.some(
        (toleration) =>
          (toleration.key === key || (toleration.key ?? '') === '') &&
          (toleration.effect === 'NoExecute' || (toleration.effect ?? '') === ''),
      ),
  );
  return [
    ...given,
    ...added.map((key) => ({
      key,
      operator: 'Exists',
      effect: 'NoExecute',
      tolerationSeconds: 300,
    })),
  ];
}

function qualityOfService(spec: PodSpec): string {
  // What is no list of containers is refused after this.
  const containers = Array.isArray(spec.containers) ? spec.containers : [];
  const asks = containers.some((container) => container.resources?.requests !== undefined);
  return asks ? 'Burstable' : 'BestEffort';
}
