/** What the controller may do in the cluster: each verb with the call that needs it. */
export type KubernetesPermission = Readonly<{
  /** The whole cluster, one namespace, or the one that the controller's pod is in. */
  within: 'cluster' | 'kube-node-lease' | 'own namespace';
  apiGroup: string;
  resource: string;
  /** Of the one object that is meant; verbs that cannot be narrowed so have an entry of their own. */
  object?: 'lease';
  /** Granted only while these options of the controller have these values. */
  onlyWith?: Readonly<Record<string, boolean>>;
  verbs: Readonly<Record<string, Need>>;
}>;

export type Need = Readonly<{
  call: string;
  /** What a test shows to be there with the permission, and gone without it. */
  behaviour: string;
}>;

const WRITES = { dryRun: false };

export const KUBERNETES_PERMISSIONS: readonly KubernetesPermission[] = [
  {
    within: 'cluster',
    apiGroup: '',
    resource: 'nodes',
    verbs: {
      list: {
        call: 'the index of nodes, by which an instance is found: filled at start',
        behaviour: 'the controller becomes ready and takes messages',
      },
      watch: {
        call: 'the index of nodes is kept true',
        behaviour: 'a launch hook is completed once its node is Ready',
      },
      get: {
        call: 'a Node that somebody else has changed meanwhile is read before it is written again',
        behaviour: 'a node is marked although its first write met with a conflict',
      },
    },
  },
  {
    within: 'cluster',
    apiGroup: '',
    resource: 'nodes',
    onlyWith: WRITES,
    verbs: {
      patch: {
        call: 'marks and journal: taint, cordon, labels, annotation, in one write',
        behaviour: 'an interrupted node is marked',
      },
    },
  },
  {
    within: 'cluster',
    apiGroup: '',
    resource: 'pods',
    verbs: {
      list: {
        call: 'the pods of a node that is being emptied',
        behaviour: 'the pods of an interrupted node are evicted',
      },
      watch: {
        call: 'the departure of pods, while any node is being emptied',
        behaviour: 'a drain ends as soon as the last pod is gone',
      },
      get: {
        call: 'a pod whose eviction met with a conflict: is it still the same one?',
        behaviour: 'a pod that was replaced by another of its name is taken for gone',
      },
    },
  },
  {
    within: 'cluster',
    apiGroup: '',
    resource: 'pods',
    onlyWith: WRITES,
    verbs: {
      delete: {
        call: 'a pod that its budget still holds when it must end; a shorter grace for one that is ending',
        behaviour: 'a pod that its budget holds is deleted before the deadline',
      },
    },
  },
  {
    within: 'cluster',
    apiGroup: '',
    resource: 'pods/eviction',
    onlyWith: WRITES,
    verbs: {
      create: {
        call: 'the eviction of a pod',
        behaviour: 'a pod is evicted, not deleted, while there is time',
      },
    },
  },
  {
    within: 'cluster',
    apiGroup: 'events.k8s.io',
    resource: 'events',
    onlyWith: { ...WRITES, kubernetesEvents: true },
    verbs: {
      create: {
        call: 'events on Nodes and Pods, for kubectl describe',
        behaviour: 'an interrupted node says so among its events',
      },
      patch: {
        call: 'how often the same was told: the series of an event',
        behaviour: 'what is told again and again is one event with a count',
      },
    },
  },
  {
    within: 'cluster',
    apiGroup: '',
    resource: 'persistentvolumeclaims',
    onlyWith: { ...WRITES, waitForVolumes: true },
    verbs: {
      get: {
        call: "the volume behind an evicted pod's claim",
        behaviour: "a hook is not completed before the evicted pods' volumes are detached",
      },
    },
  },
  {
    within: 'cluster',
    apiGroup: 'storage.k8s.io',
    resource: 'volumeattachments',
    onlyWith: { ...WRITES, waitForVolumes: true },
    verbs: {
      list: {
        call: 'whether that volume is still attached',
        behaviour: 'a hook is not completed while a volume is attached',
      },
    },
  },
  {
    within: 'kube-node-lease',
    apiGroup: 'coordination.k8s.io',
    resource: 'leases',
    verbs: {
      get: {
        call: "a kubelet's sign of life: a machine that outlived its deadline is not drained for old news",
        behaviour: 'old news leaves a living node alone',
      },
    },
  },
  {
    within: 'own namespace',
    apiGroup: 'coordination.k8s.io',
    resource: 'leases',
    object: 'lease',
    onlyWith: { ...WRITES, leaderElection: true },
    verbs: {
      get: {
        call: 'the Lease is read before it is taken',
        behaviour: 'a replica takes a Lease that is free',
      },
      list: {
        call: 'the Lease is followed: where it stands',
        behaviour: 'a standby takes an emptied Lease at once',
      },
      watch: {
        call: 'the Lease is followed: what becomes of it',
        behaviour: 'a standby takes an emptied Lease at once, however long it has stood by',
      },
      update: {
        call: 'the Lease is taken, renewed and, on stop, emptied',
        behaviour: 'a leader keeps its Lease',
      },
    },
  },
  {
    within: 'own namespace',
    apiGroup: 'coordination.k8s.io',
    resource: 'leases',
    onlyWith: { ...WRITES, leaderElection: true },
    verbs: {
      create: {
        call: 'a Lease that somebody has deleted is made again (a creation cannot be narrowed to a name)',
        behaviour: 'a Lease that is missing is made',
      },
    },
  },
];
