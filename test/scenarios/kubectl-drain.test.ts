import { execFile } from 'node:child_process';
import { randomInt, randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { findComponent, skipReason } from '../control-plane/binaries.ts';
import { mapLimited } from '../control-plane/limiter.ts';
import type { OwnerReference, PodObject } from '../control-plane/objects.ts';
import { deletePod } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { rebalance } from '../harness/messages.ts';
import { controllerRequests, removalOf, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import {
  createMirrorPod,
  createNamespace,
  createOwner,
  createPod,
  untilRunning,
  type PodSpec,
} from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

// Without a controller manager: its garbage collector would delete pods whose owner is gone.
const options: WorldOptions = {
  audit: 'with-bodies',
  controllerManager: false,
  ...leastRights,
  backend: 'real',
};
const needs = worldSkipReason(options) ?? skipReason(['kubectl']);

const run = promisify(execFile);

const NODES = 50;
const exitsSoon = { exitsAfterSeconds: 0.3 };
const ended = { completesAfterSeconds: 0 };
const neverEnds = { neverEnds: true };

type Owners = Readonly<Record<'ReplicaSet' | 'StatefulSet' | 'DaemonSet', OwnerReference>>;

type Sort = Readonly<{
  sort: string;
  /** Whether we leave it alone although kubectl, with its flags, moves it. */
  leftAlone?: true;
  pod: (owners: Owners) => Partial<PodSpec>;
  /** What is done to it before the drains. */
  prepare?: (world: World, pod: PodObject) => Promise<void>;
}>;

const SORTS: readonly Sort[] = [
  { sort: 'replicaset', pod: ({ ReplicaSet: owner }) => ({ owner }) },
  { sort: 'statefulset', pod: ({ StatefulSet: owner }) => ({ owner }) },
  { sort: 'bare', pod: () => ({}) },
  { sort: 'scratch', pod: () => ({ volumes: [{ name: 'scratch', emptyDir: {} }] }) },
  { sort: 'unknown-owner', pod: () => ({ owner: ownerOfNobody('Rollout', 'example.com/v1') }) },
  {
    sort: 'no-controller',
    pod: ({ DaemonSet: owner }) => ({ owner: { ...owner, controller: false } }),
  },
  {
    sort: 'critical',
    pod: () => ({ namespace: 'kube-system', priorityClassName: 'system-node-critical' }),
  },
  { sort: 'tolerant', pod: () => ({ tolerations: [{ operator: 'Exists' }] }) },
  { sort: 'elsewhere', pod: ({ ReplicaSet: _ }) => ({ namespace: 'elsewhere' }) },
  { sort: 'pending', pod: () => ({ behaviour: { startsAfterSeconds: 3600 } }) },
  { sort: 'daemonset', pod: ({ DaemonSet: owner }) => ({ owner }) },
  {
    sort: 'daemonset-finished',
    leftAlone: true,
    pod: ({ DaemonSet: owner }) => ({ owner, behaviour: ended }),
  },
  {
    sort: 'daemonset-gone',
    leftAlone: true,
    pod: () => ({ owner: ownerOfNobody('DaemonSet', 'apps/v1') }),
  },
  {
    sort: 'finished',
    leftAlone: true,
    pod: ({ ReplicaSet: owner }) => ({ owner, behaviour: ended }),
  },
  { sort: 'finished-bare', leftAlone: true, pod: () => ({ behaviour: ended }) },
  {
    sort: 'terminating',
    leftAlone: true,
    pod: ({ ReplicaSet: owner }) => ({ owner, graceSeconds: 5, behaviour: neverEnds }),
    async prepare({ api, kubelet }, pod) {
      await untilRunning(kubelet, [pod]);
      await deletePod(api, pod.metadata.name);
    },
  },
];

function ownerOfNobody(kind: string, apiVersion: string): OwnerReference {
  return { apiVersion, kind, name: 'nobody', uid: randomUUID(), controller: true };
}

describe.skipIf(needs)('kubectl drain', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  /** What kubectl, with all its flags, would evict on a node: `namespace/name`. */
  async function movedByKubectl(node: string): Promise<string[]> {
    const flags = ['--ignore-daemonsets', '--delete-emptydir-data', '--force', '--dry-run=client'];
    const kubeconfig = ['--kubeconfig', world.cluster.adminKubeconfig];
    const { stdout } = await run(findComponent('kubectl') ?? '', [
      ...kubeconfig,
      'drain',
      node,
      ...flags,
    ]);
    return [...stdout.matchAll(/^evicting pod (\S+) \(dry run\)$/gm)].map(([, pod]) => pod ?? '');
  }

  it('moves the same pods as we do, less what need not be moved', async () => {
    const { api, kubelet } = world;
    await createNamespace(api, 'elsewhere');
    const owners: Owners = {
      ReplicaSet: await createOwner(api, 'ReplicaSet', { name: 'web' }),
      StatefulSet: await createOwner(api, 'StatefulSet', { name: 'db' }),
      DaemonSet: await createOwner(api, 'DaemonSet', { name: 'agent' }),
    };
    const nodes = Array.from({ length: NODES }, (_, i) => ({
      name: `node-${i}`,
      instanceId: instanceId(),
    }));
    await kubelet.addNodes(nodes);
    const pods = nodes.flatMap(({ name: node }) =>
      Array.from({ length: randomInt(2, 9) }, (_, i) => {
        const sort = SORTS[randomInt(SORTS.length)];
        if (sort === undefined) throw new Error('no sort');
        return { sort, node, name: `${node}-${i}-${sort.sort}` };
      }),
    );
    const leftAlone = new Set<string>();
    await mapLimited(pods, 16, async ({ sort, node, name }) => {
      const spec = { behaviour: exitsSoon, ...sort.pod(owners), name, node };
      const pod = await createPod(api, spec);
      if (spec.behaviour === ended) {
        await eventually(
          () => kubelet.records({ uid: pod.metadata.uid ?? '' })[0]?.end === 'completed',
        );
      }
      await sort.prepare?.(world, pod);
      if (sort.leftAlone) leftAlone.add(`${pod.metadata.namespace}/${name}`);
    });
    await mapLimited(nodes, 8, async ({ name }) =>
      createMirrorPod(api, { name: 'static', node: name }),
    );
    const expected = (await mapLimited(nodes, 2, async ({ name }) => movedByKubectl(name))).flat();
    const { queue } = await runController(world, { VOLUNTARY_DRAIN_LIMIT: '100%' });

    await queue.sendMany(nodes.map((node) => rebalance({ instanceId: node.instanceId })));
    const wanted = expected.filter((pod) => !leftAlone.has(pod)).toSorted();
    const moved = async (): Promise<string[]> => {
      const requests = writesAmong(await controllerRequests(world, { resource: 'pods' }));
      const accepted = requests.filter(({ status }) => status < 300);
      return accepted.map((request) => `${request.namespace}/${removalOf(request).pod}`).toSorted();
    };
    // Critical pods wait for the ordinary ones, and for those that should have ended long since.
    await eventually(
      async () => {
        const done = new Set(await moved());
        expect(wanted.filter((pod) => !done.has(pod))).toEqual([]);
        return true;
      },
      { timeoutMs: 120_000, intervalMs: 500 },
    );

    expect(await moved()).toEqual(wanted);
    // Of what kubectl moves, it moves what we leave alone for a reason, too.
    expect(expected).toEqual(expect.arrayContaining([...leftAlone]));
    // And what neither moves is there.
    const there = await api.list<PodObject>('/api/v1/pods');
    expect(there.filter(({ metadata }) => metadata.name.startsWith('static-'))).toHaveLength(NODES);
  });
});
