/**
 * What the Kubernetes edge costs against a real API server: CPU of this process for each request,
 * requests a second, memory of the index. `node test/bench/kubernetes.ts [nodes] [pods]`
 */
import { readFile } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { Pool } from 'undici';
import { systemClock } from '../../src/clock.ts';
import { connect } from '../../src/kubernetes/connection.ts';
import { createNodeIndex, createNodeStore } from '../../src/kubernetes/nodes.ts';
import { createPods } from '../../src/kubernetes/pods.ts';
import type { NodeView } from '../../src/plan/node.ts';
import type { PodView } from '../../src/plan/pod.ts';
import type { Report } from '../../src/report/report.ts';
import { startControlPlane, type ControlPlane } from '../control-plane/control-plane.ts';
import { mapLimited } from '../control-plane/limiter.ts';

const nodeCount = Number(process.argv[2] ?? 1000);
const podCount = Number(process.argv[3] ?? 2000);
const { signal } = new AbortController();

type Figures = { ms: number; cpuMs: number };

async function measure<T>(work: () => Promise<T>): Promise<[T, Figures]> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const result = await work();
  const { user, system } = process.cpuUsage(cpu);
  return [result, { ms: performance.now() - start, cpuMs: (user + system) / 1000 }];
}

async function settledMemory(): Promise<NodeJS.MemoryUsage> {
  for (let count = 0; count < 3; count++) {
    await setImmediate();
    globalThis.gc?.();
  }
  return process.memoryUsage();
}

function print(
  what: string,
  count: number,
  { ms, cpuMs }: Figures,
  latencies: number[] = [],
): void {
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number): string => (sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(0);
  console.log(
    `${what.padEnd(34)} ${String(count).padStart(6)} in ${ms.toFixed(0).padStart(6)} ms, ` +
      `${((count * 1000) / ms).toFixed(0).padStart(5)}/s, CPU ${(cpuMs / count).toFixed(3)} ms each` +
      (latencies.length > 0 ? `, latency median ${at(0.5)} ms, 99 % ${at(0.99)} ms` : ''),
  );
}

async function timed<T>(latencies: number[], work: Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work;
  latencies.push(performance.now() - start);
  return result;
}

/** About the size of a real Node: 10 to 15 KB with its managedFields. */
function nodeObject(number: number) {
  const name = `ip-10-0-${Math.floor(number / 256)}-${number % 256}.eu-central-1.compute.internal`;
  return {
    metadata: {
      name,
      labels: Object.fromEntries(
        Array.from({ length: 25 }, (_, index) => [`example.com/label-${index}`, `value-${index}`]),
      ),
    },
    spec: { providerID: `aws:///eu-central-1a/i-${number.toString(16).padStart(17, '0')}` },
    status: {
      images: Array.from({ length: 40 }, (_, index) => ({
        names: [
          `123456789012.dkr.ecr.eu-central-1.amazonaws.com/service-${index}@sha256:${'ab'.repeat(32)}`,
          `123456789012.dkr.ecr.eu-central-1.amazonaws.com/service-${index}:v1.2.${index}`,
        ],
        sizeBytes: 100_000_000 + index,
      })),
      conditions: ['MemoryPressure', 'DiskPressure', 'PIDPressure', 'Ready'].map((type) => ({
        type,
        status: type === 'Ready' ? 'True' : 'False',
        reason: `Kubelet${type}`,
        message: `kubelet has reported about ${type} as it does each five minutes`,
      })),
      nodeInfo: {
        machineID: 'ec2',
        systemUUID: 'ec2',
        bootID: 'boot',
        kernelVersion: '6.12',
        osImage: 'AL2023',
        containerRuntimeVersion: 'containerd://2',
        kubeletVersion: 'v1.36.3',
        kubeProxyVersion: '',
        operatingSystem: 'linux',
        architecture: 'amd64',
      },
    },
  };
}

const quiet: Report = {
  debug: () => undefined,
  info: () => undefined,
  warn: (message, facts) => console.warn(message, facts),
  error: (message, facts) => console.error(message, facts),
};

async function run(plane: ControlPlane): Promise<void> {
  const clock = systemClock;
  const options = {
    kubeconfigPath: plane.adminKubeconfig,
    userAgent: 'bench/0',
    clock,
    report: quiet,
  };
  const connection = connect(options);
  const store = createNodeStore({ connection, selector: '', reservationLabel: 'reservation' });
  const pods = createPods({ connection, clock, report: quiet });
  const index = createNodeIndex({
    connection,
    selector: '',
    reservationLabel: 'reservation',
    clock,
    report: quiet,
  });

  const numbers = Array.from({ length: nodeCount }, (_, number) => number);
  await mapLimited(numbers, 32, async (number) =>
    plane.api.create('/api/v1/nodes', nodeObject(number)),
  );

  const before = await settledMemory();
  const [, listing] = await measure(() => index.start());
  print('list of all nodes, per node', nodeCount, listing);
  const after = await settledMemory();
  const kilobytes = (after.heapUsed - before.heapUsed) / 1024;
  console.log(
    `index: ${(kilobytes / nodeCount).toFixed(2)} KB of heap for each node; RSS ${(after.rss / 2 ** 20).toFixed(0)} MB`,
  );

  const mark = async (node: NodeView, round: number, latencies: number[]): Promise<void> => {
    const { outcome } = await timed(
      latencies,
      store.write(
        node.name,
        node.resourceVersion,
        {
          unschedulable: true,
          taints: [
            ...node.taints.filter(({ key }) => key !== 'bench'),
            { key: 'bench', value: String(round), effect: 'NoSchedule' },
          ],
          labels: { 'bench/label': String(round) },
          annotations: { 'bench/journal': 'x'.repeat(600) },
        },
        signal,
        'mark',
      ),
    );
    if (outcome !== 'written') throw new Error(`mark: ${outcome}`);
  };
  const marked: number[] = [];
  const [, marking] = await measure(() =>
    Promise.all([...index.all()].map((node) => mark(node, 0, marked))),
  );
  print('marks, all at once', nodeCount, marking, marked);
  await index.refresh(signal);
  const warm: number[] = [];
  const [, markingAgain] = await measure(() =>
    Promise.all([...index.all()].map((node) => mark(node, 1, warm))),
  );
  print('marks again', nodeCount, markingAgain, warm);
  await index.refresh(signal);
  await index.close();
  const alone: number[] = [];
  const [, markingAlone] = await measure(() =>
    Promise.all([...index.all()].map((node) => mark(node, 2, alone))),
  );
  print('marks again, without a watch', nodeCount, markingAlone, alone);
  const body = {
    metadata: {
      labels: { 'bench/label': '9' },
      annotations: { 'bench/journal': 'y'.repeat(600) },
    },
    spec: { unschedulable: true, taints: [{ key: 'bench', value: '9', effect: 'NoSchedule' }] },
  };
  await bare(
    plane,
    'marks',
    [...index.all()].map(({ name }) => ({ method: 'PATCH', path: `/api/v1/nodes/${name}`, body })),
  );

  const podNumbers = Array.from({ length: podCount }, (_, number) => number);
  const podSpec = (number: number, generation: string) => ({
    metadata: { name: `pod-${generation}-${number}` },
    spec: {
      nodeName: nodeObject(number % nodeCount).metadata.name,
      containers: [{ name: 'main', image: 'none' }],
    },
  });
  const createAll = async (generation: string): Promise<void> => {
    await mapLimited(podNumbers, 32, async (number) =>
      plane.api.create('/api/v1/namespaces/default/pods', podSpec(number, generation)),
    );
  };
  await createAll('a');
  const nodes = [...index.all()];
  const listed: number[] = [];
  const [lists, listingPods] = await measure(() =>
    Promise.all(nodes.map(({ name }) => timed(listed, pods.onNode(name, signal)))),
  );
  print('lists of one node’s pods, at once', nodeCount, listingPods, listed);

  const evict = async (pod: PodView, latencies: number[]): Promise<void> => {
    const { outcome } = await timed(latencies, pods.evict(pod, 30, 30_000, signal));
    if (outcome !== 'accepted') throw new Error(`eviction: ${outcome}`);
  };
  const evicted: number[] = [];
  const [, evicting] = await measure(() =>
    Promise.all(lists.flatMap((list) => list.pods).map((pod) => evict(pod, evicted))),
  );
  print('evictions, all at once', podCount, evicting, evicted);
  await createAll('bare');
  await bare(
    plane,
    'evictions',
    podNumbers.map((number) => {
      const { name } = podSpec(number, 'bare').metadata;
      const path = `/api/v1/namespaces/default/pods/${name}/eviction`;
      const metadata = { name, namespace: 'default' };
      return {
        method: 'POST',
        path,
        body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata },
      };
    }),
  );

  await createAll('b');
  const again = await Promise.all(nodes.map(({ name }) => pods.onNode(name, signal)));
  const fresh = again.flatMap((list) => list.pods).filter(({ deletion }) => deletion === undefined);
  const second = createNodeIndex({
    connection,
    selector: '',
    reservationLabel: 'reservation',
    clock,
    report: quiet,
  });
  await second.start();
  const bulkLatencies: number[] = [];
  const markLatencies: number[] = [];
  const [, both] = await measure(async () => {
    const evictions = Promise.all(fresh.map((pod) => evict(pod, bulkLatencies)));
    const marks = Promise.all([...second.all()].map((node) => mark(node, 3, markLatencies)));
    await Promise.all([evictions, marks]);
  });
  print('marks amid evictions: all requests', fresh.length + nodeCount, both);
  print(
    '  of these, marks',
    nodeCount,
    { ms: Math.max(...markLatencies), cpuMs: 0 },
    markLatencies,
  );

  await second.close();
  await connection.close();
}

/** The ceiling: undici with nothing around it. */
async function bare(
  plane: ControlPlane,
  what: string,
  requests: readonly Readonly<{ method: 'PATCH' | 'POST'; path: string; body: object }>[],
): Promise<void> {
  const kubeconfig = JSON.parse(await readFile(plane.adminKubeconfig, 'utf8')) as {
    users: [{ user: { token: string } }];
  };
  const pool = new Pool(plane.url, { connections: 64, allowH2: false, connect: { ca: plane.ca } });
  const latencies: number[] = [];
  const send = async ({
    method,
    path,
    body: content,
  }: (typeof requests)[number]): Promise<void> => {
    const { statusCode, body } = await pool.request({
      method,
      path,
      headers: {
        authorization: `Bearer ${kubeconfig.users[0].user.token}`,
        'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
      },
      body: JSON.stringify(content),
    });
    await body.json();
    if (statusCode >= 300) throw new Error(`bare client: ${statusCode}`);
  };
  const [, figures] = await measure(() =>
    Promise.all(requests.map((request) => timed(latencies, send(request)))),
  );
  print(`  ${what} by a bare client`, requests.length, figures, latencies);
  await pool.close();
}

const plane = await startControlPlane();
try {
  await run(plane);
} finally {
  await plane.stop();
}
