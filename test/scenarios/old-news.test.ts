import { describe, expect, it } from 'vitest';
import { getNode, getPod } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOf, noMarks, untilSettled } from '../harness/marks.ts';
import { rebalance, spotNotice, terminateHook } from '../harness/messages.ts';
import { addNodeWithPod } from '../harness/nodes.ts';
import { controllerRequests, removalsOf, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPod } from '../harness/workloads.ts';
import { worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import type { Queue } from '../stand-ins/queue.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const minuteMs = 60_000;
const exitsSoon = { pod: { behaviour: { exitsAfterSeconds: 0.5 } } };

describe.skipIf(needs)('old news', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it('of an interruption that is under way changes nothing', async () => {
    const { api } = world;
    const { node, instance, pod } = await addNodeWithPod(world, 'twice', {
      pod: { behaviour: { exitsAfterSeconds: 2 } },
    });
    const { queue } = await runController(world);
    const notice = spotNotice({ instanceId: instance });

    const ids = await queue.sendMany([notice, notice]);
    await eventually(() => world.kubelet.record(pod).deletions.length > 0);
    ids.push(await queue.send(notice));
    await untilDeleted(queue, ids);
    const journal = await untilSettled(api, node);

    expect(journal.interruptions).toHaveLength(1);
    // One that marks, one that settles.
    expect(await writesTo(world, node)).toMatchObject([
      { verb: 'patch', status: 200 },
      { verb: 'patch', status: 200 },
    ]);
    expect(await removalsOf(world, { name: pod })).toMatchObject([{ by: 'eviction', status: 201 }]);
  });

  it.each([
    { kind: 'a spot notice', name: 'settled-spot', message: spotNotice },
    { kind: 'a rebalance recommendation', name: 'settled-rebalance', message: rebalance },
  ])(
    'of an interruption that is dealt with changes nothing ($kind)',
    async ({ name, message: messageOf }) => {
      const { api } = world;
      const { node, instance } = await addNodeWithPod(world, name, exitsSoon);
      const { queue } = await runController(world);
      const message = messageOf({ instanceId: instance });
      await queue.send(message);
      await untilSettled(api, node);
      // Somebody has put a pod there all the same.
      const guest = `${name}-guest`;
      const { metadata } = await createPod(api, { name: guest, node });
      const before = await getNode(api, node);
      const writes = await writesTo(world, node);

      await untilDeleted(queue, [await queue.send(message)]);
      // The same once more, to a process that knows of it only from the journal.
      const next = await runController(world);
      await untilDeleted(next.queue, [await next.queue.send(message)]);

      expect(await writesTo(world, node)).toEqual(writes);
      const after = await getNode(api, node);
      expect(after.metadata.resourceVersion).toBe(before.metadata.resourceVersion);
      expect(await removalsOf(world, { name: guest })).toEqual([]);
      expect((await getPod(api, guest)).metadata).toMatchObject({ uid: metadata.uid });
    },
  );

  it('about a machine that has come back since does nothing to the healthy node', async () => {
    const { api, kubelet, autoScaling } = world;
    const { node, instance, pod } = await addNodeWithPod(world, 'returned', exitsSoon);
    const before = await getNode(api, node);
    await kubelet.renewLease(node);
    autoScaling.addHook({ group: 'returned', hook: 'drain', heartbeatTimeoutSeconds: 60 });
    const { queue } = await runController(world);
    const time = Date.now() - 5 * minuteMs;

    const ids = await queue.sendMany([
      spotNotice({ instanceId: instance, time }),
      spotNotice({ instanceId: instance, time, action: 'stop' }),
      spotNotice({ instanceId: instance, time, action: 'hibernate' }),
      terminateHook({ instanceId: instance, time, group: 'returned', hook: 'drain' }),
    ]);
    await untilDeleted(queue, ids);

    expect(await writesTo(world, node)).toEqual([]);
    const after = await getNode(api, node);
    expect(after.metadata.resourceVersion).toBe(before.metadata.resourceVersion);
    expect(marksOf(after)).toEqual(noMarks);
    expect(await removalsOf(world, { name: pod })).toEqual([]);
    expect(kubelet.record(pod).deletions).toEqual([]);
    for (const id of ids) {
      expect(queue.events(id).map(({ type }) => type)).toEqual(['sent', 'received', 'deleted']);
    }
  });

  it.each([
    { life: 'from before its deadline', name: 'silent', renewedAfterDeadlineMs: -minuteMs },
    { life: 'at its very deadline', name: 'dying', renewedAfterDeadlineMs: 0 },
  ])('is news where the last sign of life is $life', async ({ name, renewedAfterDeadlineMs }) => {
    const { api, kubelet } = world;
    const { node, instance, pod } = await addNodeWithPod(world, name, exitsSoon);
    const { queue } = await runController(world);
    const notice = spotNotice({ instanceId: instance, time: Date.now() - 5 * minuteMs });
    const deadlineAt = Date.parse(notice.time) + 2 * minuteMs;
    await kubelet.renewLease(node, deadlineAt + renewedAfterDeadlineMs);

    await untilDeleted(queue, [await queue.send(notice)]);
    await untilSettled(api, node);

    expect(marksOf(await getNode(api, node))).toMatchObject({ label: 'spot-interruption' });
    expect(await removalsOf(world, { name: pod })).toMatchObject([{ by: 'eviction', status: 201 }]);
  });
});

async function untilDeleted(queue: Queue, messageIds: readonly string[]): Promise<void> {
  await eventually(() =>
    messageIds.every((id) => queue.events(id).some(({ type }) => type === 'deleted')),
  );
}

async function writesTo(world: World, node: string) {
  return writesAmong(await controllerRequests(world, { resource: 'nodes', name: node }));
}
