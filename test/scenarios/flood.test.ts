import { describe, expect, it } from 'vitest';
import { mapLimited } from '../control-plane/limiter.ts';
import { eventually } from '../harness/eventually.ts';
import { heapOf, heapOnDemand } from '../harness/heap.ts';
import { untilSettled } from '../harness/marks.ts';
import { spotNotice } from '../harness/messages.ts';
import { fateOf, untilDeleted } from '../harness/queued.ts';
import { leastRights } from '../harness/rules.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';

const options: WorldOptions = leastRights;
const needs = worldSkipReason(options);

const mebibyte = 1024 * 1024;
/** Far below what the messages have together, and far above what is kept of them. */
const mostGrowthMiB = 48;
/** Of a receive, 20 s, but for the moment between it and its record; what is hidden for longer comes back later still. */
const leastHiddenMs = 19_000;

/** Why a controller gives back what is in hand. */
const inTroubleBy = ['API server unreachable', 'leadership not renewed'];

const floods = [
  {
    what: 'messages of other clusters',
    count: 4000,
    bytes: 32 * 1024,
    body: (bytes: number): string =>
      JSON.stringify({ ...spotNotice({ instanceId: instanceId() }), padding: 'x'.repeat(bytes) }),
  },
  {
    what: 'messages that are none of ours by content',
    count: 4000,
    bytes: 32 * 1024,
    body: (bytes: number): string =>
      JSON.stringify({ 'detail-type': 'Order Placed', source: 'shop', padding: 'x'.repeat(bytes) }),
  },
  {
    what: 'rubbish',
    count: 1500,
    bytes: 96 * 1024,
    body: (bytes: number): string => `{"detail-type": ${'['.repeat(bytes)}`,
  },
];

describe.skipIf(needs)('a queue full of', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it.each(floods)(
    '$count $what ($bytes bytes each) takes no memory, and notices among and behind them are heard',
    async ({ what, count, bytes, body }) => {
      const name = what.replaceAll(/\W+/g, '-');
      const queue = await world.queues.createQueue(name);
      const controller = await world.startController({
        nodeArgs: heapOnDemand,
        // A line for each receive of rubbish would be another flood.
        env: { QUEUE_URL: queue.url, LEASE_NAME: name, LOG_LEVEL: 'error' },
      });
      const nodes = Array.from({ length: 3 }, (_, at) => ({
        name: `${name}-${at}`,
        instanceId: instanceId(),
      }));
      await world.kubelet.addNodes(nodes);
      // A first message, so that all is loaded that there is to load.
      const [first, ...others] = nodes;
      const firstId = await queue.send(spotNotice({ instanceId: first?.instanceId ?? '' }));
      await untilDeleted(queue, [firstId]);
      const before = await heapOf(controller);

      const [among, behind] = others;
      const flood: string[] = [];
      const send = async (many: number): Promise<void> => {
        await mapLimited(Array.from({ length: many }), 50, async () => {
          flood.push(await queue.send(body(bytes)));
        });
      };
      await send(count / 2);
      const notices = [await queue.send(spotNotice({ instanceId: among?.instanceId ?? '' }))];
      await send(count / 2);
      notices.push(await queue.send(spotNotice({ instanceId: behind?.instanceId ?? '' })));

      await untilDeleted(queue, notices, { timeoutMs: 150_000 });
      const received = () =>
        new Set(
          queue.events().flatMap((event) => (event.type === 'received' ? [event.messageId] : [])),
        );
      await eventually(() => received().size === count + 3, { timeoutMs: 150_000 });
      // Buffers of answers go a while after the answers; what is kept of messages stays for a minute.
      const after = await eventually(async () => {
        const heap = await heapOf(controller);
        return heap - before < mostGrowthMiB && heap;
      });

      // What comes back again and again would be before those that have not been heard at all.
      const arrived = flood.slice(0, 20).filter((id) => !fateOf(queue, id).includes('returned'));
      // On a machine that is too busy to write to the API server in time, what arrives is given back.
      const inTrouble = inTroubleBy.some((message) => controller.logged(message).length > 0);
      for (const id of arrived) {
        const [leastMs = Infinity] = gapsOf(queue, id, inTrouble).toSorted((one, two) => one - two);
        expect(leastMs, JSON.stringify(queue.events(id))).toBeGreaterThanOrEqual(leastHiddenMs);
      }
      expect((count * bytes) / mebibyte).toBeGreaterThan(2 * mostGrowthMiB);
      expect(after - before).toBeLessThan(mostGrowthMiB);
      await mapLimited(nodes, 3, async (node) => untilSettled(world.api, node.name));
      expect(await controller.kill()).toMatchObject({ signal: 'SIGKILL' });
    },
    400_000,
  );
});

/** Between receives of the message, in ms; those that the controller ended itself are left out if it may. */
function gapsOf(queue: Queue, messageId: string, mayGiveBack: boolean): readonly number[] {
  const gapsMs: number[] = [];
  let hiddenAt: number | undefined;
  for (const event of queue.events(messageId)) {
    if (event.type === 'received') {
      if (hiddenAt !== undefined) gapsMs.push(event.at - hiddenAt);
      hiddenAt = event.at;
    } else if (event.type === 'visibility-changed' && event.visibilitySeconds === 0) {
      if (mayGiveBack) hiddenAt = undefined;
    }
  }
  return gapsMs;
}
