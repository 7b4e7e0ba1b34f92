import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { Pool } from 'undici';
import type { NodeObject } from '../control-plane/objects.ts';
import type { Controller } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { spotNotice } from '../harness/messages.ts';
import { createPods } from '../harness/workloads.ts';
import { startWorld, worldSkipReason, type World } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import { startWebhookReceiver } from '../stand-ins/webhook-receiver.ts';

// Notices for many nodes at once, and for one node of a quiet cluster, through the built bundle on
// the real API server. Prints figures, beside what a bare client reaches in the same run. With
// `--side-by-side KUBERNETES_EVENTS=false` there are further storms, with that setting and without it
// by turns, each on nodes of its own; with `--receiver hang` (or `answer`), with a webhook and without.

const interruptionKey = 'node-termination-controller/interruption';

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '1000' },
    'pods-per-node': { type: 'string', default: '10' },
    quiet: { type: 'string', default: '20' },
    file: { type: 'string' },
    'side-by-side': { type: 'string' },
    receiver: { type: 'string' },
    rounds: { type: 'string', default: '3' },
  },
});
const nodeCount = Number(values.nodes);
const podsPerNode = Number(values['pods-per-node']);
const quietCount = Number(values.quiet);
const rounds = Number(values.rounds);

const reason = worldSkipReason();
if (reason !== undefined) throw new Error(reason);

const { receiver, 'side-by-side': other } = values;
if (receiver !== undefined) await besideWebhook(receiver);
else if (other !== undefined) await sideBySide(other, Object.fromEntries([other.split('=')]));
else await alone();

async function alone(): Promise<void> {
  await using world = await startWorld();
  const names = Array.from({ length: nodeCount + quietCount }, (_, i) => `node-${i}`);
  await world.kubelet.addNodes(names.map((name, i) => ({ name, instanceId: instanceId(i + 1) })));
  const storm = names.slice(quietCount);
  await ceiling(world, storm);
  await addPods(world, storm);
  const controller = await startOn(world);
  await quiet(world, names.slice(0, quietCount));
  await stormOf(world, storm, controller.pid);
  console.log('exit', await controller.stop());
}

async function besideWebhook(how: string): Promise<void> {
  if (how !== 'hang' && how !== 'answer')
    throw new Error(`--receiver takes hang or answer: ${how}`);
  const service = await startWebhookReceiver();
  if (how === 'hang') service.answerAll('hang');
  await sideBySide(`a webhook whose receiver ${how}s`, { WEBHOOK_URL: service.url });
  await service.stop();
}

/** Each storm in a world of its own, so that none has more behind it than the others; by turns, for machines grow tired. */
async function sideBySide(setting: string, env: Readonly<Record<string, string>>): Promise<void> {
  const sides: readonly Side[] = [
    { name: 'as it is', env: {}, figures: [] },
    { name: setting, env, figures: [] },
  ];
  for (let round = 1; round <= rounds; round += 1) {
    for (const side of round % 2 === 1 ? sides : sides.toReversed()) {
      console.log(`round ${round}, ${side.name}:`);
      await using world = await startWorld();
      const names = Array.from({ length: nodeCount }, (_, i) => `node-${i}`);
      await world.kubelet.addNodes(
        names.map((node, i) => ({ name: node, instanceId: instanceId(i + 1) })),
      );
      await addPods(world, names);
      const controller = await startOn(world, side.env);
      side.figures.push(await stormOf(world, names, controller.pid));
      await tellTold(controller);
      console.log('exit', await controller.stop());
    }
  }
  for (const { name: side, figures } of sides) {
    const of = (key: keyof Figures) => median(figures.map((one) => one[key])).toFixed(2);
    console.log(
      `${side}: median of ${rounds} storms of ${nodeCount} nodes: all marked after ${of('markedSeconds')} s, all pods ended after ${of('endedSeconds')} s, ${of('cpuSeconds')} CPU s`,
    );
  }
}

type Figures = Readonly<{ markedSeconds: number; endedSeconds: number; cpuSeconds: number }>;
type Side = Readonly<{ name: string; env: Readonly<Record<string, string>>; figures: Figures[] }>;

function median(figures: readonly number[]): number {
  return figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)] ?? Number.NaN;
}

async function startOn(
  world: World,
  env: Readonly<Record<string, string>> = {},
): Promise<Controller> {
  const controller = await world.startController({
    ...(values.file !== undefined && { file: values.file, args: [] }),
    env: { LOG_LEVEL: 'info', ...env },
  });
  await controller.waitForLog('ready', { timeoutMs: 60_000 });
  return controller;
}

async function addPods(world: World, nodes: readonly string[]): Promise<void> {
  await createPods(
    world.api,
    nodes.flatMap((node, i) =>
      Array.from({ length: podsPerNode }, (_, k) => ({
        name: `pod-${i}-${k}`,
        node,
        graceSeconds: 2,
      })),
    ),
  );
  await eventually(
    () =>
      world.kubelet.records().filter(({ runningAt }) => runningAt !== undefined).length >=
      nodes.length * podsPerNode,
    { timeoutMs: 300_000, intervalMs: 500 },
  );
}

/** How many Kubernetes events and webhook messages were sent, and how many had no room. */
async function tellTold(controller: Controller): Promise<void> {
  const [listening] = controller.logged('http listening');
  const answer = await fetch(`http://127.0.0.1:${String(listening?.['port'])}/metrics`);
  const lines = (await answer.text()).split('\n');
  const told = lines.filter((line) =>
    /^node_termination_(kubernetes_events|webhook_messages)_total\{/.test(line),
  );
  console.log(told.join('\n'));
}

/**
 * What a bare client needs to mark as many nodes, 64 at a time and nothing else: our label, taint and
 * cordon under another key, and an annotation as long as our journal. Whoever watches nodes has the
 * same work with it: the controller manager answers a cordon with a taint of its own.
 */
async function ceiling({ api }: World, nodes: readonly string[]): Promise<void> {
  const { url, ca, token } = api.connection;
  const pool = new Pool(url, { connections: 64, connect: { ca } });
  const patch = (body: object) => async (name: string) => {
    const response = await pool.request({
      method: 'PATCH',
      path: `/api/v1/nodes/${name}`,
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/merge-patch+json',
      },
      body: JSON.stringify(body),
    });
    await response.body.dump();
    if (response.statusCode !== 200) throw new Error(`the bare client got ${response.statusCode}`);
  };
  const marks = {
    metadata: { annotations: { 'bare-client': 'x'.repeat(500) }, labels: { bare: 'true' } },
    spec: { unschedulable: true, taints: [{ key: 'bare', value: 'true', effect: 'NoSchedule' }] },
  };
  const usedBefore = await machineCpuSeconds();
  const startedAt = performance.now();
  await Promise.all(nodes.map(patch(marks)));
  const seconds = (performance.now() - startedAt) / 1000;
  const used = (await machineCpuSeconds()) - usedBefore;
  console.log(
    `bare client: ${nodes.length} nodes marked in ${seconds.toFixed(2)} s; ${used.toFixed(1)} CPU s of the machine`,
  );
  const noMarks = {
    metadata: { annotations: { 'bare-client': null }, labels: { bare: null } },
    spec: { unschedulable: null, taints: null },
  };
  const isClean = ({ spec }: NodeObject) => !spec.unschedulable && !spec.taints?.length;
  await eventually(
    async () => {
      const all = await api.list<NodeObject>('/api/v1/nodes');
      const marked = all.filter((node) => !isClean(node)).map(({ metadata }) => metadata.name);
      await Promise.all(marked.map(patch(noMarks)));
      return marked.length === 0;
    },
    { timeoutMs: 120_000, intervalMs: 2000 },
  );
  await pool.close();
}

/** Resolves the moment each node bears our label, by name (ms of performance.now). */
function marksOf(world: World, signal: AbortSignal): Map<string, number> {
  const marks = new Map<string, number>();
  const see = (node: NodeObject): void => {
    const marked = node.metadata.labels?.[interruptionKey] !== undefined;
    if (marked && !marks.has(node.metadata.name)) marks.set(node.metadata.name, performance.now());
  };
  void world.api.listAndWatch<NodeObject>({
    path: `/api/v1/nodes?labelSelector=${encodeURIComponent(interruptionKey)}`,
    onList: (nodes) => nodes.forEach(see),
    onEvent: ({ object }) => see(object),
    signal,
  });
  return marks;
}

async function quiet(world: World, nodes: readonly string[]): Promise<void> {
  const watching = new AbortController();
  const marks = marksOf(world, watching.signal);
  const latencies: number[] = [];
  for (const node of nodes) {
    const startedAt = performance.now();
    await world.queue.send(spotNotice({ instanceId: instanceOf(node) }));
    await eventually(() => marks.has(node), { intervalMs: 2 });
    latencies.push((marks.get(node) ?? Number.NaN) - startedAt);
  }
  watching.abort();
  console.log(`one notice, quiet controller: ${summary(latencies)} ms from sending to the mark`);
  await eventually(() => settledAll(world, nodes), { timeoutMs: 60_000, intervalMs: 200 });
}

async function stormOf(world: World, nodes: readonly string[], pid: number): Promise<Figures> {
  const watching = new AbortController();
  const marks = marksOf(world, watching.signal);
  const before = await cpuSeconds(pid);
  const usedBefore = await machineCpuSeconds();
  const startedAt = performance.now();
  await world.queue.sendMany(nodes.map((node) => spotNotice({ instanceId: instanceOf(node) })));
  const sentAt = performance.now();
  await eventually(() => nodes.every((node) => marks.has(node)), { timeoutMs: 120_000 });
  const marking = (await cpuSeconds(pid)) - before;
  const used = (await machineCpuSeconds()) - usedBefore;
  const latencies = nodes.map((node) => (marks.get(node) ?? Number.NaN) - startedAt);
  const markedSeconds = Math.max(...latencies) / 1000;
  console.log(
    `storm: ${nodes.length} notices sent in ${((sentAt - startedAt) / 1000).toFixed(2)} s; marked after the first was sent: ${summary(latencies)} ms; ${marking.toFixed(1)} CPU s of the controller`,
  );
  const others = used - marking;
  const floor = others / availableParallelism();
  console.log(
    `until then ${used.toFixed(1)} CPU s of the machine, ${others.toFixed(1)} without the controller (API server, etcd, controller manager, queue, this bench): on ${availableParallelism()} processors no controller could do it in less than ${floor.toFixed(2)} s`,
  );
  watching.abort();
  await eventually(() => world.kubelet.records().every(({ endedAt }) => endedAt !== undefined), {
    timeoutMs: 180_000,
    intervalMs: 100,
  });
  const endedSeconds = (performance.now() - startedAt) / 1000;
  console.log(`all pods ended after ${endedSeconds.toFixed(1)} s`);
  await eventually(() => settledAll(world, nodes), { timeoutMs: 120_000, intervalMs: 500 });
  console.log(`all nodes settled after ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
  const usedSeconds = (await cpuSeconds(pid)) - before;
  console.log(`controller: ${usedSeconds.toFixed(1)} CPU s, ${await residentMiB(pid)} MiB`);
  console.log('queue', await world.queue.counts());
  return { markedSeconds, endedSeconds, cpuSeconds: usedSeconds };
}

async function settledAll(world: World, nodes: readonly string[]): Promise<boolean> {
  const wanted = new Set(nodes);
  const all = await world.api.list<NodeObject>('/api/v1/nodes');
  return all
    .filter(({ metadata }) => wanted.has(metadata.name))
    .every(
      ({ metadata }) =>
        metadata.annotations?.['node-termination-controller/journal']?.includes(
          '"state":"settled"',
        ) ?? false,
    );
}

function instanceOf(node: string): string {
  return instanceId(Number(node.slice('node-'.length)) + 1);
}

function summary(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): string =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN).toFixed(
      0,
    );
  return `median ${at(0.5)}, 99 % ${at(0.99)}, slowest ${at(1)}`;
}

/** Of all processes together. https://docs.kernel.org/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat */
async function machineCpuSeconds(): Promise<number> {
  const [line = ''] = (await readFile('/proc/stat', 'utf8')).split('\n');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = line
    .split(/ +/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq) / 100;
}

async function cpuSeconds(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function residentMiB(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(text)?.[1]) / 1024);
}
