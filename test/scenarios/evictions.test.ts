import { describe, expect, it } from 'vitest';
import { deletePod, findPod, podNamesOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { untilSettled } from '../harness/marks.ts';
import { rebalance, spotNotice, terminateHook } from '../harness/messages.ts';
import { addNode, addPod, beginHook } from '../harness/nodes.ts';
import { removalsOf } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import {
  budgetStatus,
  createBudget,
  createNamespace,
  createOwner,
  createPod,
} from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const exitsSoon = { exitsAfterSeconds: 0.3 };
const toleratesAll = [{ operator: 'Exists' }];

describe.skipIf(needs)('an eviction', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  /** Which never allows anything. */
  async function budget(name: string, labels: Readonly<Record<string, string>>) {
    await createBudget(world.api, { name, matchLabels: labels, minAvailable: 1 });
    await eventually(async () => {
      const status = await budgetStatus(world.api, name);
      return status !== undefined && status.expectedPods > 0 && status.disruptionsAllowed === 0;
    });
  }

  it('is not needed for a pod that finishes while its budget holds it', async () => {
    const instance = await addNode(world, 'finishing');
    const labels = { app: 'finishing' };
    await addPod(world, {
      name: 'finishing-job',
      node: 'finishing',
      labels,
      behaviour: { completesAfterSeconds: 8 },
    });
    await budget('finishing', labels);
    const { queue } = await runController(world);

    await queue.send(rebalance({ instanceId: instance }));
    await untilSettled(world.api, 'finishing', { timeoutMs: 60_000 });

    const pod = await findPod(world.api, 'finishing-job');
    expect(pod?.status?.phase).toBe('Succeeded');
    for (const { by, status } of await removalsOf(world, { name: 'finishing-job' })) {
      expect({ by, status }).toEqual({ by: 'eviction', status: 429 });
    }
  });

  it('is not needed for a pod that others delete while its budget holds it', async () => {
    const instance = await addNode(world, 'deleted');
    const labels = { app: 'deleted' };
    await addPod(world, { name: 'deleted-pod', node: 'deleted', labels, behaviour: exitsSoon });
    await budget('deleted', labels);
    const { queue } = await runController(world);

    await queue.send(rebalance({ instanceId: instance }));
    await eventually(async () => (await removalsOf(world, { name: 'deleted-pod' })).length > 0);
    await deletePod(world.api, 'deleted-pod');
    await untilSettled(world.api, 'deleted');

    const removals = await removalsOf(world, { name: 'deleted-pod' });
    expect(new Set(removals.map(({ by, status }) => `${by} ${status}`))).toEqual(
      new Set(['eviction 429']),
    );
  });

  it('of pods that come late and tolerate the taint is made once for their controller', async () => {
    const node = 'late';
    const instance = await addNode(world, node);
    await addPod(world, { name: 'late-slow', node, behaviour: { exitsAfterSeconds: 10 } });
    const owner = await createOwner(world.api, 'StatefulSet', { name: 'late' });
    const { controller, queue } = await runController(world);

    await queue.send(spotNotice({ instanceId: instance }));
    // It has to be there at the second list, three seconds after the mark.
    await eventually(() => world.kubelet.record('late-slow').deletions.length > 0, {
      intervalMs: 5,
    });
    const late = { node, owner, tolerations: toleratesAll };
    await createPod(world.api, { ...late, name: 'late-first', behaviour: exitsSoon });
    await eventually(async () => (await findPod(world.api, 'late-first')) === undefined);
    await addPod(world, { ...late, name: 'late-second' });
    await untilSettled(world.api, node, { timeoutMs: 60_000 });

    expect(await removalsOf(world, { name: 'late-first' })).toMatchObject([{ by: 'eviction' }]);
    expect(await removalsOf(world, { name: 'late-second' })).toEqual([]);
    expect(await podNamesOn(world.api, node)).toEqual(['late-second']);
    expect(controller.logged('pod comes back to the node')).toMatchObject([{ pod: 'late-second' }]);
  });

  it('of a pod whose namespace is going is left to the namespace', async () => {
    const node = 'going';
    const instance = await addNode(world, node);
    await createNamespace(world.api, 'going');
    await addPod(world, { name: 'going-pod', namespace: 'going', node, behaviour: exitsSoon });
    await addPod(world, { name: 'staying-pod', node, behaviour: exitsSoon });
    const { queue } = await runController(world);

    await world.api.delete('/api/v1/namespaces/going');
    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(world.api, node);

    const removals = await removalsOf(world, { name: 'going-pod', namespace: 'going' });
    for (const { by } of removals) expect(by).toBe('eviction');
    expect(await podNamesOn(world.api, node)).toEqual([]);
  });

  it('of a pod with two budgets can never succeed: it is deleted when its time has come', async () => {
    const node = 'two-budgets';
    const instance = await addNode(world, node);
    const labels = { app: node };
    await addPod(world, {
      name: `${node}-pod`,
      node,
      labels,
      graceSeconds: 2,
      behaviour: exitsSoon,
    });
    await budget(`${node}-a`, labels);
    await budget(`${node}-b`, labels);
    const { queue } = await runController(world);
    const hook = beginHook(world, node, instance, { timeoutSeconds: 24 });
    const sentAt = Date.now();

    await queue.send(terminateHook({ ...hook }));
    await eventually(() => hook.completedAt !== undefined, { timeoutMs: 60_000 });

    const removals = await removalsOf(world, { name: `${node}-pod` });
    const last = removals.at(-1);
    expect(
      removals.slice(0, -1).every(({ by, status }) => by === 'eviction' && status === 500),
    ).toBe(true);
    expect(last).toMatchObject({ by: 'deletion', status: 200 });
    // The event's time has whole seconds.
    expect((last?.receivedAt ?? 0) - sentAt).toBeGreaterThanOrEqual(15_900);
    expect(hook.result).toBe('CONTINUE');
  });

  it('of a pod that a finalizer keeps for ever is told, holds up no other, and ends at the deadline', async () => {
    const node = 'finalizer';
    const instance = await addNode(world, node);
    const path = '/api/v1/namespaces/default/pods/finalizer-pod';
    await addPod(world, { name: 'finalizer-pod', node, graceSeconds: 2, behaviour: exitsSoon });
    await world.api.patch(path, { metadata: { finalizers: ['example.com/never'] } });
    const agent = { priorityClassName: 'system-cluster-critical', behaviour: exitsSoon };
    await addPod(world, { ...agent, name: 'finalizer-critical', namespace: 'kube-system', node });
    const { controller, queue } = await runController(world);
    const hook = beginHook(world, node, instance, { timeoutSeconds: 30 });

    await queue.send(terminateHook({ ...hook }));
    const told = await controller.waitForLog('not all pods left in time', { timeoutMs: 60_000 });

    expect(told.fields?.['pods']).toEqual([expect.stringContaining('default/finalizer-pod')]);
    expect(await podNamesOn(world.api, node)).toEqual(['finalizer-pod']);
    await eventually(() =>
      world.autoScaling
        .calls('CompleteLifecycleAction')
        .some(({ parameters }) => parameters['LifecycleActionToken'] === hook.token),
    );
    await world.api.patch(path, { metadata: { finalizers: null } });
    await untilSettled(world.api, node);
  });
});
