import { describe, expect, it, onTestFinished } from 'vitest';
import { mapLimited } from '../control-plane/limiter.ts';
import { podsOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOn, untilSettled } from '../harness/marks.ts';
import { spotNotice, terminateHook } from '../harness/messages.ts';
import { processorWaitMs } from '../harness/processor-wait.ts';
import { untilDeleted } from '../harness/queued.ts';
import { controllerRequests, removalOf, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPods } from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const outageMs = 20_000;
/** The demand: how long after the API server is back a node is marked. */
const markedWithinMs = 2000;
const hook = 'drain';

/** `stopped`: killed, connections are reset and refused. `paused`: connections are kept, nothing is answered. */
type Way = 'stopped' | 'paused';
const ways: readonly { readonly way: Way }[] = [{ way: 'stopped' }, { way: 'paused' }];

describe.skipIf(needs)('an outage of the API server', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it.each(ways)(
    'at the moment of the notices loses nothing, and all are marked when it is over ($way)',
    async ({ way }) => {
      const { kubelet } = world;
      const nodes = nodesOf(way, 8);
      await kubelet.addNodes(nodes);
      await createPods(
        world.api,
        nodes.map(({ name }) => podOf(name)),
      );
      await eventually(() => nodes.every(({ name }) => isRunning(world, name)));
      const { controller, queue } = await runController(world);

      const {
        endedAt,
        returnedAt,
        result: ids,
      } = await outage(world, way, async () => {
        const sent = await queue.sendMany(nodes.map((node) => spotNotice(node)));
        await eventually(() => queue.events().some(({ type }) => type === 'received'));
        return sent;
      });
      await expectMarkedSoonAfter(
        world,
        controller.pid,
        returnedAt,
        nodes.map(({ name }) => name),
      );
      await mapLimited(nodes, 4, async ({ name }) => untilSettled(world.api, name));
      await untilDeleted(queue, ids);

      const deletions = queue.events().filter(({ type }) => type === 'deleted');
      for (const { at } of deletions) expect(at).toBeGreaterThan(endedAt);
      for (const id of ids) {
        const inOutage = queue.events(id).filter(({ at }) => at < endedAt);
        expect(inOutage.at(-1)).toMatchObject({ type: 'visibility-changed', visibilitySeconds: 0 });
      }
      for (const { name } of nodes) expect(await podsOn(world.api, name)).toEqual([]);
      expect(await queue.counts()).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
      expect(await controller.stop()).toEqual({ code: 0, signal: null });
    },
  );

  it.each(ways)('in the middle of a drain delays it, and no more ($way)', async ({ way }) => {
    const { api, kubelet, autoScaling } = world;
    const node = `${way}-draining`;
    const instance = instanceId();
    await kubelet.addNode({ name: node, instanceId: instance });
    await createPods(api, [
      { name: `${node}-quick`, node, behaviour: { exitsAfterSeconds: 0.3 } },
      // Ends during the outage; its object is removed after it.
      { name: `${node}-slow`, node, behaviour: { exitsAfterSeconds: 5 } },
      {
        name: `${node}-dns`,
        namespace: 'kube-system',
        node,
        behaviour: { exitsAfterSeconds: 0.3 },
        priorityClassName: 'system-cluster-critical',
      },
    ]);
    await eventually(() => kubelet.records({ node }).every(({ readyAt }) => readyAt));
    autoScaling.addHook({ group: node, hook, heartbeatTimeoutSeconds: 600 });
    const action = autoScaling.beginAction({ group: node, hook, instanceId: instance });
    const { controller, queue } = await runController(world);
    await untilDeleted(queue, [await queue.send(terminateHook(action))]);
    await eventually(() => kubelet.record(`${node}-slow`).deletions.length > 0);

    await outage(world, way, async () => {
      await eventually(() => kubelet.record(`${node}-slow`).endedAt !== undefined);
    });
    await untilSettled(api, node);

    const removals = writesAmong(await controllerRequests(world, { resource: 'pods' }))
      .map(removalOf)
      .filter(({ pod, status }) => pod.startsWith(node) && status === 201);
    expect(removals.map(({ pod }) => pod).toSorted()).toEqual([
      `${node}-dns`,
      `${node}-quick`,
      `${node}-slow`,
    ]);
    expect(action.result).toBe('CONTINUE');
    for (const { endedAt } of kubelet.records({ node })) {
      expect(action.completedAt).toBeGreaterThanOrEqual(endedAt ?? Infinity);
    }
    expect(await controller.stop()).toEqual({ code: 0, signal: null });
  });

  it.each(ways)('that is older than the process is waited for ($way)', async ({ way }) => {
    const { kubelet } = world;
    const nodes = nodesOf(`${way}-early`, 3);
    await kubelet.addNodes(nodes);
    const queue = await world.queues.createQueue(`${way}-early`);

    const { returnedAt, result: controller } = await outage(world, way, async () => {
      const started = await world.startController({ env: { QUEUE_URL: queue.url } });
      onTestFinished(async () => {
        await started.kill();
      });
      await queue.sendMany(nodes.map((node) => spotNotice(node)));
      await started.waitForLog('http listening');
      return started;
    });
    await expectMarkedSoonAfter(
      world,
      controller.pid,
      returnedAt,
      nodes.map(({ name }) => name),
    );
    await mapLimited(nodes, 4, async ({ name }) => untilSettled(world.api, name));
    expect(await queue.counts()).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
    expect(await controller.stop()).toEqual({ code: 0, signal: null });
  });
});

function nodesOf(prefix: string, count: number) {
  return Array.from({ length: count }, (_, at) => ({
    name: `${prefix}-${at}`,
    instanceId: instanceId(),
  }));
}

function podOf(node: string) {
  return { name: `${node}-pod`, node, behaviour: { exitsAfterSeconds: 0.3 } };
}

function isRunning({ kubelet }: World, node: string): boolean {
  return kubelet.records({ node }).some(({ runningAt }) => runningAt !== undefined);
}

/**
 * Takes the API server away for 20 s, in which `during` happens. Epoch ms: `endedAt` is when it was
 * let come back, `returnedAt` when it was first seen to be ready again.
 */
async function outage<T>(
  { api, cluster: { apiServer } }: World,
  way: Way,
  during: () => Promise<T>,
): Promise<{ endedAt: number; returnedAt: number; result: T }> {
  if (way === 'stopped') await apiServer.stop();
  else apiServer.pause();
  const since = performance.now();
  let result: T;
  let endedAt: number;
  try {
    result = await during();
    await eventually(() => performance.now() - since >= outageMs, { timeoutMs: outageMs * 2 });
  } finally {
    endedAt = Date.now();
    if (way === 'stopped') await apiServer.start();
    else apiServer.resume();
  }
  let returnedAt = Date.now();
  // The connections of this process may have to be made anew.
  await eventually(async () => (await api.request('GET', '/readyz')).status === 200);
  if (way === 'paused') returnedAt = Date.now();
  return { endedAt, returnedAt, result };
}

/**
 * By the API server's own word: when it had answered the write that marks, or when the mark was seen, if
 * that was earlier. To be called as soon as it is back. The demand is on the controller, not on a machine
 * that ten tests share: for as long as it and this process, which may be the API server, stood in line for
 * a processor, it need not be met.
 */
async function expectMarkedSoonAfter(
  world: World,
  pid: number,
  returnedAt: number,
  nodes: readonly string[],
): Promise<void> {
  const waitedBeforeMs = await processorWaitMs(pid, process.pid);
  await eventually(async () => {
    const marks = await mapLimited(nodes, 4, async (name) => marksOn(world.api, name));
    return marks.every(({ label }) => label !== undefined);
  });
  const seenAt = Date.now();
  const waitedMs = (await processorWaitMs(pid, process.pid)) - waitedBeforeMs;
  for (const name of nodes) {
    const patches = await controllerRequests(world, { verb: 'patch', resource: 'nodes', name });
    const answeredAt = patches.find(({ status }) => status === 200)?.answeredAt ?? Infinity;
    // A write is seen before it is answered and logged; one whose client has left is logged as failed.
    expect(Math.min(answeredAt, seenAt)).toBeLessThan(returnedAt + markedWithinMs + waitedMs);
  }
}
