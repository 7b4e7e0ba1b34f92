import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { mapLimited } from '../control-plane/limiter.ts';
import { eventually } from '../harness/eventually.ts';
import { heapOf, heapOnDemand } from '../harness/heap.ts';
import { rebalance, spotNotice } from '../harness/messages.ts';
import { startWorld } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

// A queue full of other clusters' messages and of rubbish, with notices of our own among them and
// behind them all, through the built bundle. Prints how soon those are marked, and what memory it takes.

const { values } = parseArgs({
  options: {
    messages: { type: 'string', default: '100000' },
    rubbish: { type: 'string', default: '10000' },
    bytes: { type: 'string', default: '1000' },
    notices: { type: 'string', default: '20' },
  },
});
const padding = 'x'.repeat(Number(values.bytes));
const noticeCount = Number(values.notices);
const floodCount = Number(values.messages) + Number(values.rubbish);

const world = await startWorld({ backend: 'stand-in' });
try {
  const nodes = Array.from({ length: noticeCount + 1 }, (_, at) => ({
    name: `node-${at}`,
    instanceId: instanceId(),
  }));
  await world.kubelet.addNodes(nodes);
  const queue = await world.queues.createQueue('flooded');
  const rubbishEvery = Math.max(1, Math.floor(floodCount / Math.max(1, Number(values.rubbish))));
  const noticeEvery = Math.ceil(floodCount / noticeCount);
  const notices: string[] = [];
  await mapLimited(
    Array.from({ length: floodCount }, (_, at) => at),
    100,
    async (at) => {
      const isRubbish = Number(values.rubbish) > 0 && at % rubbishEvery === 0;
      await queue.send(
        isRubbish ? `{${padding}` : { ...rebalance({ instanceId: instanceId() }), padding },
      );
      if ((at + 1) % noticeEvery !== 0 && at + 1 !== floodCount) return;
      const node = nodes[notices.length];
      if (node !== undefined) notices.push(await queue.send(spotNotice(node)));
    },
  );
  console.log(`${floodCount} messages and ${notices.length} notices are in the queue`);

  const startedAt = Date.now();
  const controller = await world.startController({
    nodeArgs: heapOnDemand,
    env: { QUEUE_URL: queue.url, LOG_LEVEL: 'error' },
  });
  let highestHeap = 0;
  const isDeleted = (id: string) => queue.events(id).some(({ type }) => type === 'deleted');
  await eventually(
    async () => {
      highestHeap = Math.max(highestHeap, await heapOf(controller));
      return notices.every(isDeleted);
    },
    { timeoutMs: 1_200_000, intervalMs: 2000 },
  );
  const seconds = notices
    .map((id) => queue.events(id).find(({ type }) => type === 'deleted')?.at ?? Infinity)
    .map((at) => (at - startedAt) / 1000);
  const received = queue.events().filter(({ type }) => type === 'received').length;
  // In hundredths of a second, which is what Linux counts in.
  const times = (await readFile(`/proc/${controller.pid}/stat`, 'utf8')).split(' ').slice(13, 15);
  const status = await readFile(`/proc/${controller.pid}/status`, 'utf8');
  console.log(
    JSON.stringify({
      secondsToFirstNotice: Math.min(...seconds),
      secondsToLastNotice: Math.max(...seconds),
      receivesByThen: received,
      receivesPerSecond: Math.round(received / Math.max(...seconds)),
      controllerCpuSeconds: times.reduce((sum, time) => sum + Number(time) / 100, 0),
      highestHeapMiB: Math.round(highestHeap),
      highestResidentMiB: Math.round(Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024),
    }),
  );
  await controller.kill();
} finally {
  await world.stop();
}
