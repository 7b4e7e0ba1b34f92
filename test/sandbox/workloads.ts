import { eventually } from '../harness/eventually.ts';
import { budgetStatus, createBudget } from '../harness/workloads.ts';
import type { PodBehaviour } from '../stand-ins/kubelet.ts';
import type { Chance } from './chance.ts';
import type { SandboxCluster } from './cluster.ts';

/** By label `app`, which every pod of the sandbox bears. */
export type App = 'web' | 'checkout' | 'ledger' | 'encoder' | 'node-agent';

export type Workload = {
  readonly app: App;
  readonly kind: 'deployments' | 'statefulsets' | 'daemonsets';
  readonly replicas: number;
  readonly graceSeconds: number;
  readonly behaviour: PodBehaviour;
};

/** In the order in which they are made: whatever comes later finds the nodes evenly filled. */
export function workloadsFor(nodes: number, chance: Chance): readonly Workload[] {
  const endsAfter = (least: number, most: number): PodBehaviour => ({
    exitsAfterSeconds: Number(chance.between(least, most).toFixed(1)),
  });
  return [
    {
      app: 'node-agent',
      kind: 'daemonsets',
      replicas: nodes,
      graceSeconds: 30,
      behaviour: {},
    },
    {
      app: 'web',
      kind: 'deployments',
      replicas: nodes * 2,
      graceSeconds: 30,
      behaviour: endsAfter(0.5, 2),
    },
    {
      app: 'checkout',
      kind: 'deployments',
      replicas: 3,
      graceSeconds: 30,
      behaviour: endsAfter(0.5, 1),
    },
    {
      app: 'ledger',
      kind: 'statefulsets',
      replicas: 3,
      graceSeconds: 60,
      behaviour: endsAfter(2, 3),
    },
    // Longer than any spot notice leaves: a film that is half encoded.
    {
      app: 'encoder',
      kind: 'deployments',
      replicas: 1,
      graceSeconds: 600,
      behaviour: endsAfter(4.5, 5.2),
    },
  ];
}

/** Returns when it allows one disruption. */
export async function createCheckoutBudget({ api, namespace }: SandboxCluster): Promise<void> {
  await createBudget(api, {
    name: 'checkout',
    namespace,
    matchLabels: { app: 'checkout' },
    maxUnavailable: 1,
  });
  await eventually(
    async () => (await budgetStatus(api, 'checkout', namespace))?.disruptionsAllowed === 1,
  );
}

export async function createWorkload(cluster: SandboxCluster, workload: Workload): Promise<void> {
  const { app, kind, replicas, graceSeconds } = workload;
  const { api, namespace, label } = cluster;
  const labels = { app, [label.key]: label.value };
  await api.create(`/apis/apps/v1/namespaces/${namespace}/${kind}`, {
    metadata: { name: app, labels },
    spec: {
      ...(kind === 'daemonsets' ? {} : { replicas }),
      ...(kind === 'statefulsets' ? { serviceName: app, podManagementPolicy: 'Parallel' } : {}),
      selector: { matchLabels: { app } },
      template: {
        metadata: { labels },
        spec: {
          containers: [{ name: 'main', image: 'none' }],
          terminationGracePeriodSeconds: graceSeconds,
          // On made-up nodes only, which take no others.
          nodeSelector: { [label.key]: label.value },
          tolerations: [{ key: label.key, operator: 'Exists' }],
        },
      },
    },
  });
}
