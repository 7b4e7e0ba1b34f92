import { describe, expect, it, onTestFinished } from 'vitest';
import type { NodeObject } from '../control-plane/objects.ts';
import { startApiFront } from '../harness/api-front.ts';
import { findPod, getPod } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOf, untilSettled } from '../harness/marks.ts';
import { rebalance, spotNotice } from '../harness/messages.ts';
import { removalsOf, type Removal } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { watchVersions } from '../harness/versions.ts';
import {
  budgetStatus,
  createBudget,
  createOwner,
  createPod,
  createPods,
  untilRunning,
} from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const marginMs = 5000;
const exitsSoon = { exitsAfterSeconds: 0.5 };

describe.skipIf(needs)('a budget that refuses', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it.each([
    // What is left after its grace comes later than the middle of the two minutes.
    { node: 'short-grace', graceSeconds: 10, noticeSecondsAgo: 95, forcedSecondsAfterNotice: 105 },
    // Its grace would have had to begin before the notice: half of the window is the budget's.
    { node: 'long-grace', graceSeconds: 115, noticeSecondsAgo: 52, forcedSecondsAfterNotice: 60 },
  ])(
    'holds a pod until its time has come, and is passed only after another eviction was refused ($node)',
    async ({ node, graceSeconds, noticeSecondsAgo, forcedSecondsAfterNotice }) => {
      const { api, kubelet } = world;
      const instance = instanceId();
      await kubelet.addNode({ name: node, instanceId: instance });
      await createPod(api, { name: `${node}-free`, node, behaviour: exitsSoon });
      const uid = await createHeldPod(world, { name: `${node}-held`, node, graceSeconds });
      const { queue } = await runController(world);
      const notice = spotNotice({
        instanceId: instance,
        time: Date.now() - noticeSecondsAgo * 1000,
      });
      const noticedAt = Date.parse(notice.time);
      const deadlineAt = noticedAt + 120_000;
      const forceAt = noticedAt + forcedSecondsAfterNotice * 1000;

      await queue.send(notice);
      await untilSettled(api, node, { timeoutMs: 60_000 });

      const [freed, ...shortened] = await removalsOf(world, { name: `${node}-free` });
      expect(freed).toMatchObject({ by: 'eviction', status: 201 });
      // An eviction that was long on its way leaves less than it was sent with.
      for (const { graceSeconds: grace } of shortened) {
        expect(grace).toBeLessThan(freed?.graceSeconds ?? 0);
      }
      const removals = await removalsOf(world, { name: `${node}-held` });
      const deletion = removals.at(-1);
      const evictions = removals.slice(0, -1);
      expect(deletion).toMatchObject({ by: 'deletion', status: 200, uid });
      expect(deletion?.receivedAt).toBeGreaterThanOrEqual(forceAt);
      // In time: it gets what was left at that moment, less what the last eviction took of it.
      const leftSeconds = (deadlineAt - marginMs - forceAt) / 1000;
      expect(deletion?.graceSeconds).toBeGreaterThanOrEqual(
        Math.min(graceSeconds, leftSeconds) - 3,
      );
      const endsAt = (deletion?.receivedAt ?? 0) + (deletion?.graceSeconds ?? 0) * 1000;
      expect(endsAt).toBeLessThan(deadlineAt - marginMs + 1000);
      expect(kubelet.records({ uid })).toMatchObject([{ end: 'exited' }]);

      // One at once, and one when it was time.
      expect(evictions.length).toBeGreaterThanOrEqual(2);
      for (const eviction of evictions) {
        expect(eviction).toMatchObject({ by: 'eviction', status: 429, uid });
      }
      expect(evictions[0]?.receivedAt).toBeLessThan(forceAt);
      expect(evictions.at(-1)?.receivedAt).toBeGreaterThanOrEqual(forceAt);
      expect(deletion?.receivedAt).toBeGreaterThan(evictions.at(-1)?.answeredAt ?? Infinity);
      // The last one does not wait for its turn.
      for (const gapMs of gapsOf(evictions.slice(0, -1))) expect(gapMs).toBeGreaterThanOrEqual(990);
    },
  );

  it('is never passed with DISRUPTION_BUDGETS=always, and the pod leaves when it allows it', async () => {
    const { api, kubelet } = world;
    const node = 'respectful';
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    const uid = await createHeldPod(world, { name: `${node}-held`, node, graceSeconds: 2 });
    const { queue } = await runController(world, { DISRUPTION_BUDGETS: 'always' });
    const notice = spotNotice({ instanceId: instance, time: Date.now() - 112_000 });
    const deadlineAt = Date.parse(notice.time) + 120_000;

    await queue.send(notice);
    // Whatever it would have done at the deadline comes before an eviction that is later than it.
    const refused = await eventually(
      async () => {
        const removals = await removalsOf(world, { name: `${node}-held` });
        return removals.some(({ receivedAt }) => receivedAt > deadlineAt) && removals;
      },
      { timeoutMs: 60_000, intervalMs: 500 },
    );
    expect(refused.length).toBeGreaterThanOrEqual(2);
    for (const removal of refused) {
      expect(removal).toMatchObject({ by: 'eviction', status: 429, uid });
    }
    expect((await getPod(api, `${node}-held`)).metadata.deletionTimestamp).toBeUndefined();

    await api.delete(`/apis/policy/v1/namespaces/default/poddisruptionbudgets/${node}-held`);
    await untilSettled(api, node, { timeoutMs: 60_000 });
    const removals = await removalsOf(world, { name: `${node}-held` });
    expect(removals.filter(({ by }) => by === 'deletion')).toEqual([]);
    expect(removals.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(kubelet.records({ uid })).toMatchObject([{ end: 'exited' }]);
  });

  it('that is contended does not make a pod count as gone', async () => {
    const { api, kubelet } = world;
    const node = 'contended';
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    const owner = await createOwner(api, 'ReplicaSet', { name: node });
    const pods = await createPods(
      api,
      Array.from({ length: 10 }, (_, i) => ({
        name: `${node}-${i}`,
        node,
        owner,
        behaviour: exitsSoon,
      })),
    );
    await untilRunning(kubelet, pods);
    // What the server says when its own retries on the budget's status have come to nothing.
    const conflicts = new Map<string, number>();
    const front = await startApiFront(world, ({ method, path }) => {
      const pod = /\/pods\/([^/]+)\/eviction$/.exec(path)?.[1];
      const before = conflicts.get(pod ?? '') ?? 0;
      if (method !== 'POST' || pod === undefined || before === 3) return undefined;
      conflicts.set(pod, before + 1);
      return {
        kind: 'Status',
        code: 409,
        reason: 'Conflict',
        message: `Operation cannot be fulfilled on poddisruptionbudgets.policy "${node}": the object has been modified`,
      };
    });
    onTestFinished(() => front.stop());
    const { queue } = await runController(world, { KUBECONFIG: front.kubeconfig });
    const podWatch = await watchVersions(api, '/api/v1/namespaces/default/pods');
    const nodeWatch = await watchVersions<NodeObject>(api, '/api/v1/nodes');

    await queue.send(rebalance({ instanceId: instance }));
    await untilSettled(api, node);
    // What the server has answered, its watches may tell a moment later.
    await eventually(
      () =>
        nodeWatch.of(node).some(({ object }) => isSettled(object)) &&
        pods.every(({ metadata }) => podWatch.of(metadata.name).some(({ deleted }) => deleted)),
    );
    await Promise.all([podWatch.stop(), nodeWatch.stop()]);

    expect([...conflicts.values()]).toEqual(pods.map(() => 3));
    const settled = nodeWatch.of(node).find(({ object }) => isSettled(object));
    for (const { metadata } of pods) {
      expect(await removalsOf(world, metadata)).toMatchObject([
        { by: 'eviction', status: 201, uid: metadata.uid },
      ]);
      const gone = podWatch.of(metadata.name).find(({ deleted }) => deleted);
      expect(gone?.revision).toBeLessThan(settled?.revision ?? 0);
    }
  });

  it('holds a pod without a deadline; one of its name that comes up elsewhere is another pod', async () => {
    const { api, kubelet } = world;
    const node = 'moved-from';
    const name = 'moved-0';
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    await kubelet.addNode({ name: 'moved-to' });
    const owner = await createOwner(api, 'StatefulSet', { name: 'moved' });
    const uid = await createHeldPod(world, { name, node, graceSeconds: 2, owner });
    const { queue } = await runController(world);

    await queue.send(rebalance({ instanceId: instance }));
    await eventually(async () => {
      const removals = await removalsOf(world, { name });
      return removals.filter(({ status }) => status === 429).length >= 2;
    });
    // Its owner moves it, past the budget and by itself.
    await api.delete(`/api/v1/namespaces/default/pods/${name}`, { gracePeriodSeconds: 1 });
    await eventually(async () => (await findPod(api, name)) === undefined);
    const moved = await createPod(api, {
      name,
      node: 'moved-to',
      owner,
      labels: { budget: name },
      behaviour: exitsSoon,
    });
    await untilSettled(api, node);

    const removals = await removalsOf(world, { name });
    for (const removal of removals) expect(removal).toMatchObject({ by: 'eviction', uid });
    const now = await getPod(api, name);
    expect(now.metadata.uid).toBe(moved.metadata.uid);
    expect(now.metadata.deletionTimestamp).toBeUndefined();
  });
});

/** Runs, and is the only pod of a budget that needs one. Returns its uid. */
async function createHeldPod(
  { api }: World,
  spec: Parameters<typeof createPod>[1],
): Promise<string> {
  const { name } = spec;
  const labels = { budget: name };
  const { metadata } = await createPod(api, { ...spec, labels, behaviour: exitsSoon });
  await createBudget(api, { name, matchLabels: labels, minAvailable: 1 });
  await eventually(async () => (await budgetStatus(api, name))?.currentHealthy === 1);
  return metadata.uid ?? '';
}

function isSettled(node: NodeObject): boolean {
  return marksOf(node).journal?.state === 'settled';
}

function gapsOf(removals: readonly Removal[]): number[] {
  return removals.slice(1).map(({ receivedAt }, i) => receivedAt - (removals[i]?.answeredAt ?? 0));
}
