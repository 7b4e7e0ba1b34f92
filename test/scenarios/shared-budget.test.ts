import { describe, expect, it } from 'vitest';
import type { NodeObject, PodObject } from '../control-plane/objects.ts';
import { isReady } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOf } from '../harness/marks.ts';
import { rebalance } from '../harness/messages.ts';
import { controllerRequests, removalOf, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { watchVersions } from '../harness/versions.ts';
import { budgetStatus, createBudget, createDeployment } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const nodes = 20;
const replicas = 200;
// The disruption controller has to see each replacement before it allows the next eviction.
const limitMs = 400_000;

const options: WorldOptions = {
  audit: 'with-bodies',
  scheduler: true,
  ...leastRights,
  kubelet: { behaviourOf: () => ({ exitsAfterSeconds: 0 }) },
};
const needs = worldSkipReason(options);

describe.skipIf(needs)('twenty nodes behind one budget', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it(
    'lose one pod at a time, and are done when the last is gone',
    { timeout: limitMs },
    async () => {
      const { api, kubelet } = world;
      const doomed = Array.from({ length: nodes }, (_, i) => ({
        name: `doomed-${i}`,
        instanceId: instanceId(i + 1),
      }));
      await kubelet.addNodes(doomed);
      await createDeployment(api, { name: 'web', replicas, graceSeconds: 5 });
      await createBudget(api, { name: 'web', matchLabels: { app: 'web' }, maxUnavailable: 1 });
      await eventually(async () => (await budgetStatus(api, 'web'))?.currentHealthy === replicas, {
        timeoutMs: 60_000,
      });
      await kubelet.addNodes(Array.from({ length: 4 }, (_, i) => ({ name: `spare-${i}` })));
      const podWatch = await watchVersions<PodObject>(api, '/api/v1/namespaces/default/pods');
      const nodeWatch = await watchVersions<NodeObject>(api, '/api/v1/nodes');
      const originals = new Map(
        podWatch.versions.map(({ object: { metadata, spec } }) => [metadata.uid, spec.nodeName]),
      );
      expect(originals.size).toBe(replicas);
      const { queue } = await runController(world);

      await queue.sendMany(doomed.map((node) => rebalance({ instanceId: node.instanceId })));
      await eventually(
        () =>
          doomed.every(({ name }) =>
            nodeWatch.of(name).some(({ object }) => marksOf(object).journal?.state === 'settled'),
          ),
        { timeoutMs: limitMs - 60_000, intervalMs: 250 },
      );
      await Promise.all([podWatch.stop(), nodeWatch.stop()]);

      // The budget: at no revision of the cluster was more than one of the pods away.
      const healthy = new Set<string | undefined>();
      let fewest = Infinity;
      for (const [i, { object, deleted }] of podWatch.versions.entries()) {
        const { uid, deletionTimestamp } = object.metadata;
        if (!deleted && deletionTimestamp === undefined && isReady(object)) healthy.add(uid);
        else healthy.delete(uid);
        if (i >= replicas - 1) fewest = Math.min(fewest, healthy.size);
      }
      expect(fewest).toBe(replicas - 1);

      // Gone is gone: each of the pods that were there was evicted, once, and before its node was done.
      const settledAt = new Map(
        doomed.map(({ name }) => [
          name,
          nodeWatch.of(name).find(({ object }) => marksOf(object).journal?.state === 'settled')
            ?.revision,
        ]),
      );
      const goneAt = new Map(
        podWatch.versions
          .filter(({ deleted }) => deleted)
          .map(({ object, revision }) => [object.metadata.uid, revision]),
      );
      for (const [uid, node = ''] of originals) {
        expect(goneAt.get(uid)).toBeLessThan(settledAt.get(node) ?? 0);
      }
      const removals = writesAmong(await controllerRequests(world, { resource: 'pods' })).map(
        removalOf,
      );
      expect(removals.filter(({ by }) => by === 'deletion')).toEqual([]);
      const evicted = removals.filter(({ status }) => status === 201).map(({ uid }) => uid);
      expect(new Set(evicted)).toEqual(new Set(originals.keys()));
      expect(evicted).toHaveLength(replicas);
    },
  );
});
