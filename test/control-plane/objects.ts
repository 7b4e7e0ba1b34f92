// The fields of Kubernetes objects that tests read or write; others pass through untouched.

export type OwnerReference = {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
};

export type ObjectMeta = {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  creationTimestamp?: string;
  /** End of the grace, in whole seconds, not its beginning. */
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  ownerReferences?: OwnerReference[];
};

export type KubernetesObject = {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
};

export type TaintEffect = 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';
export type Taint = { key: string; value?: string; effect: TaintEffect; timeAdded?: string };

export type Condition = {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  reason?: string;
  message?: string;
  lastHeartbeatTime?: string;
  lastTransitionTime?: string;
};

export type NodeObject = KubernetesObject & {
  spec: { providerID?: string; unschedulable?: boolean; taints?: Taint[]; podCIDR?: string };
  status?: {
    conditions?: Condition[];
    nodeInfo?: Record<string, string>;
    addresses?: { type: string; address: string }[];
    capacity?: Record<string, string>;
    allocatable?: Record<string, string>;
  };
};

export type PodPhase = 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';

export type PodObject = KubernetesObject & {
  spec: {
    nodeName?: string;
    terminationGracePeriodSeconds?: number;
    priorityClassName?: string;
    containers: { name: string; image: string }[];
    tolerations?: Record<string, unknown>[];
    volumes?: Record<string, unknown>[];
  };
  status?: { phase?: PodPhase; conditions?: Condition[] };
};

export type LeaseObject = KubernetesObject & {
  spec?: {
    holderIdentity?: string | null;
    leaseDurationSeconds?: number;
    acquireTime?: string;
    renewTime?: string;
    leaseTransitions?: number;
  };
};

/** Body of an answer that is not an object, errors above all. */
export type StatusObject = {
  kind: 'Status';
  status?: string;
  message?: string;
  reason?: string;
  code?: number;
  details?: { retryAfterSeconds?: number; causes?: { reason?: string; message?: string }[] };
};
