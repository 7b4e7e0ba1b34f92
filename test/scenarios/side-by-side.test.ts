import { describe, expect, it, onTestFinished } from 'vitest';
import { podNamesOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { terminateHook } from '../harness/messages.ts';
import { untilDeleted } from '../harness/queued.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, runControllerOn } from '../harness/running.ts';
import { startSecondConsumer } from '../harness/second-consumer.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPods, untilRunning } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

// What docs/from-nth.md promises of moving without a gap.
describe.skipIf(needs)('beside another handler', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  /** Nodes of one group with a pod each, whose instances have begun to terminate. */
  async function interrupt(group: string, count: number, exitsAfterSeconds: number) {
    const { api, kubelet, autoScaling } = world;
    autoScaling.addHook({ group, hook: 'drain', heartbeatTimeoutSeconds: 300 });
    const nodes = Array.from({ length: count }, (_, i) => ({
      name: `${group}-${i}`,
      instanceId: instanceId(),
    }));
    await kubelet.addNodes(nodes);
    const pods = await createPods(
      api,
      nodes.map(({ name: node }) => ({
        name: `${node}-pod`,
        node,
        graceSeconds: 60,
        behaviour: { exitsAfterSeconds },
      })),
    );
    await untilRunning(kubelet, pods);
    const actions = nodes.map((node) =>
      autoScaling.beginAction({ group, hook: 'drain', instanceId: node.instanceId }),
    );
    return { nodes, actions, messages: actions.map((action) => terminateHook({ ...action })) };
  }

  async function expectAllDone({ nodes, actions }: Awaited<ReturnType<typeof interrupt>>) {
    await eventually(() => actions.every(({ completedAt }) => completedAt !== undefined), {
      timeoutMs: 60_000,
    });
    for (const [i, { name }] of nodes.entries()) {
      expect(await podNamesOn(world.api, name)).toEqual([]);
      const { end, endedAt = Infinity } = world.kubelet.record(`${name}-pod`);
      expect(end).toBe('exited');
      expect(actions[i]?.completedAt).toBeGreaterThanOrEqual(endedAt);
    }
  }

  it('on one queue each message is one’s or the other’s, and every node is drained', async () => {
    const interrupted = await interrupt('shared', 12, 1);
    const queue = await world.queues.createQueue('shared');
    const second = startSecondConsumer(world, queue);
    onTestFinished(() => second.stop());
    const controller = await runControllerOn(world, queue);

    const ids: string[] = [];
    for (const message of interrupted.messages) ids.push(await queue.send(message));
    await untilDeleted(queue, ids, { timeoutMs: 60_000 });
    await expectAllDone(interrupted);

    const ours = controller.logged('interruption received').length;
    expect(ours + second.received.length).toBeGreaterThanOrEqual(ids.length);
  });

  it('on one queue what the other keeps for longer than it hides comes to us as well', async () => {
    const interrupted = await interrupt('returning', 1, 8);
    const queue = await world.queues.createQueue('returning');
    const second = startSecondConsumer(world, queue, { visibilitySeconds: 2 });
    onTestFinished(() => second.stop());
    const [id] = await queue.sendMany(interrupted.messages);
    await eventually(() => second.received.length > 0);

    const controller = await runControllerOn(world, queue);
    await untilDeleted(queue, id === undefined ? [] : [id], { timeoutMs: 60_000 });
    await expectAllDone(interrupted);

    // Told already: not evicted again.
    expect(world.kubelet.record('returning-0-pod').deletions).toHaveLength(1);
    for (const { answer } of controller.logged('lifecycle hook completed')) {
      expect(['accepted', 'over']).toContain(answer);
    }
  });

  it('each with a queue of its own both drain, and the first completes', async () => {
    const interrupted = await interrupt('doubled', 4, 2);
    const theirs = await world.queues.createQueue('theirs');
    const second = startSecondConsumer(world, theirs);
    onTestFinished(() => second.stop());
    const { queue } = await runController(world);

    const ids = await queue.sendMany(interrupted.messages);
    const theirIds = await theirs.sendMany(interrupted.messages);
    await untilDeleted(queue, ids, { timeoutMs: 60_000 });
    await untilDeleted(theirs, theirIds, { timeoutMs: 60_000 });
    await expectAllDone(interrupted);

    for (const { name } of interrupted.nodes) {
      expect(world.kubelet.record(`${name}-pod`).deletions.length).toBeLessThanOrEqual(1);
    }
  });

  it('a rehearsal on a queue of its own changes nothing of what the other does', async () => {
    const interrupted = await interrupt('rehearsed', 2, 1);
    const theirs = await world.queues.createQueue('theirs-alone');
    const second = startSecondConsumer(world, theirs);
    onTestFinished(() => second.stop());
    const { controller, queue } = await runController(world, { DRY_RUN: 'true' });

    await queue.sendMany(interrupted.messages);
    await untilDeleted(theirs, await theirs.sendMany(interrupted.messages));
    await expectAllDone(interrupted);

    expect(controller.logged('dry run')).toHaveLength(1);
    expect(controller.logged('pod evicted')).toEqual([]);
  });
});
