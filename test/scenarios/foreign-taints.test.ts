import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ApiError, type ApiClient } from '../control-plane/api-client.ts';
import type { NodeObject, Taint } from '../control-plane/objects.ts';
import { getNode } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { interruptionKey, marksOf, untilSettled } from '../harness/marks.ts';
import { rebalance, spotNotice, terminateHook } from '../harness/messages.ts';
import { controllerRequests } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { watchVersions, type Version } from '../harness/versions.ts';
import { createPods } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const gpu: Taint = { key: 'nvidia.com/gpu', value: 'present', effect: 'NoSchedule' };
const notReady = 'node.kubernetes.io/not-ready';
const unschedulable = 'node.kubernetes.io/unschedulable';
const busyKey = 'test-writer/busy';

describe.skipIf(needs)('the taints of others', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it('survive every write, while others write all the time', async () => {
    const { api, kubelet, autoScaling } = world;
    const nodes = Array.from({ length: 16 }, (_, i) => ({
      name: `shared-${i}`,
      instanceId: instanceId(i + 1),
      taints: [gpu],
      ready: i % 4 !== 0,
    }));
    await kubelet.addNodes(nodes);
    const names = nodes.map(({ name }) => name);
    const notReadyNames = nodes.filter(({ ready }) => !ready).map(({ name }) => name);
    await eventually(async () => {
      const now = await Promise.all(notReadyNames.map((name) => getNode(api, name)));
      return now.every((node) => hasTaint(node, notReady));
    });
    await createPods(
      api,
      names.map((node) => ({
        name: `${node}-pod`,
        node,
        behaviour: { exitsAfterSeconds: 1 },
      })),
    );
    const watch = await watchVersions<NodeObject>(api, '/api/v1/nodes');
    const writers = new Map(names.map((name) => [name, startWriter(api, name)]));
    const { queue } = await runController(world);

    // Three changes of the journal, two of the taint, one after the other; each node settles at last.
    await queue.sendMany(nodes.map((node) => rebalance({ instanceId: node.instanceId })));
    await untilLabelled(api, names, 'rebalance');
    await queue.sendMany(nodes.map((node) => spotNotice({ instanceId: node.instanceId })));
    await untilLabelled(api, names, 'spot-interruption');
    autoScaling.addHook({ group: 'shared', hook: 'drain' });
    const actions = nodes.map((node) =>
      autoScaling.beginAction({ group: 'shared', hook: 'drain', instanceId: node.instanceId }),
    );
    await queue.sendMany(actions.map((action) => terminateHook(action)));
    await eventually(() => actions.every(({ completedAt }) => completedAt !== undefined), {
      timeoutMs: 60_000,
    });
    await Promise.all(names.map((name) => untilSettled(api, name, { timeoutMs: 60_000 })));
    const writes = new Map<string, readonly Write[]>();
    for (const [name, writer] of writers) writes.set(name, await writer.stop());
    await watch.stop();

    for (const { name, ready } of nodes) {
      const versions = watch.of(name);
      const last = versions.at(-1)?.object;
      expect(versions.every(({ object }) => hasTaint(object, gpu.key))).toBe(true);
      expect(versions.every(({ object }) => hasTaint(object, notReady))).toBe(!ready);
      expect(staysOnceThere(versions, unschedulable)).toBe(true);
      expect(staysOnceThere(versions, interruptionKey)).toBe(true);
      expect(last?.spec.taints?.map(({ key }) => key)).toEqual(
        expect.arrayContaining([gpu.key, unschedulable, interruptionKey]),
      );
      for (const { object } of versions) {
        expect(marksOf(object).taints.length).toBeLessThanOrEqual(1);
      }
      expect(lostWrites(versions, writes.get(name) ?? [])).toEqual([]);
    }
    // Else nobody came in anybody's way, and the test has shown nothing.
    const patches = await controllerRequests(world, { verb: 'patch', resource: 'nodes' });
    expect(patches.filter(({ status }) => status === 409).length).toBeGreaterThan(0);
    expect([...writes.values()].every((list) => list.length > 10)).toBe(true);
  });
});

/** The taint of a writer of the test, from this revision to its next write. */
type Write = { readonly revision: number; readonly value: string | undefined };

/** Adds and removes a taint of its own all the time, as a well-behaved program does: with the version it has read. */
function startWriter(api: ApiClient, name: string): { stop(): Promise<readonly Write[]> } {
  const stopping = new AbortController();
  const writes: Write[] = [];
  const run = async () => {
    for (let i = 0; !stopping.signal.aborted; i += 1) {
      const { metadata, spec } = await getNode(api, name);
      const others = (spec.taints ?? []).filter(({ key }) => key !== busyKey);
      const value = i % 2 === 0 ? `${i}` : undefined;
      const own: Taint[] =
        value === undefined ? [] : [{ key: busyKey, value, effect: 'PreferNoSchedule' }];
      try {
        const written = await api.patch<NodeObject>(`/api/v1/nodes/${name}`, {
          metadata: { resourceVersion: metadata.resourceVersion },
          spec: { taints: [...own, ...others] },
        });
        writes.push({ revision: Number(written.metadata.resourceVersion), value });
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 409)) throw error;
      }
      await delay(50);
    }
    return writes;
  };
  const running = run();
  return {
    async stop() {
      stopping.abort();
      return running;
    },
  };
}

/** Versions in which the writer's taint is not what it wrote last. */
function lostWrites(
  versions: readonly Version<NodeObject>[],
  writes: readonly Write[],
): readonly number[] {
  return versions
    .filter(({ object, revision }) => {
      const expected = writes.findLast((write) => write.revision <= revision)?.value;
      return object.spec.taints?.find(({ key }) => key === busyKey)?.value !== expected;
    })
    .map(({ revision }) => revision);
}

function hasTaint({ spec }: NodeObject, wanted: string): boolean {
  return spec.taints?.some(({ key }) => key === wanted) ?? false;
}

function staysOnceThere(versions: readonly Version<NodeObject>[], key: string): boolean {
  const first = versions.findIndex(({ object }) => hasTaint(object, key));
  return first >= 0 && versions.slice(first).every(({ object }) => hasTaint(object, key));
}

async function untilLabelled(
  api: ApiClient,
  names: readonly string[],
  label: string,
): Promise<void> {
  await eventually(async () => {
    const nodes = await api.list<NodeObject>('/api/v1/nodes');
    return nodes
      .filter(({ metadata }) => names.includes(metadata.name))
      .every((node) => marksOf(node).label === label);
  });
}
