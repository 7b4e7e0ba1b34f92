import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { startController, type Ports } from '../../src/controller.ts';
import type { LifecycleHooks } from '../../src/drain/lifecycle-hooks.ts';
import type { Pods } from '../../src/drain/pods.ts';
import { operationOf } from '../../src/kubernetes/operation.ts';
import { measuredPorts } from '../../src/measured.ts';
import { EventRecorder, recorded } from '../../src/report/event-recorder.ts';
import { METRICS, type MetricRow, type Metrics } from '../../src/report/metrics.ts';
import { createMetrics, type Readings } from '../../src/report/prometheus.ts';
import * as messages from '../harness/messages.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { flowPolicy } from '../stand-ins/ports/flow-policy.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

const readings: Readings = {
  messages_in_hand: () => [{ labels: {}, value: 3 }],
  messages_parked: () => [],
  eviction_concurrency_limit: () => [],
  nodes: () => [{ labels: { state: 'draining' }, value: 2 }],
  leader: () => [{ labels: {}, value: 1 }],
  build_info: () => [{ labels: { version: '1.2.3', node_version: 'v24.0.0' }, value: 1 }],
};

/** What of ours is shown, without its values. */
async function seriesOf(metrics: { text(): Promise<string> }): Promise<readonly string[]> {
  return (await metrics.text())
    .split('\n')
    .filter((line) => line.startsWith('node_termination_'))
    .map((line) => line.slice(0, line.lastIndexOf(' ')));
}

/** The whole flow in virtual time, measured. */
function start({ metrics }: { metrics?: Metrics } = {}) {
  const outside = new Outside();
  const own = outside.connect();
  const ports: Ports = { ...own, ...(metrics && { metrics }) };
  const controller = startController(measuredPorts(ports), flowPolicy({ waitForVolumes: false }));
  onTestFinished(async () => {
    await own.clock.resolved(controller.stop(), 10_000);
    expect(own.report.faults()).toEqual([]);
  });
  const { cluster, sqs, autoScaling } = outside;
  return { ...own, cluster, sqs, autoScaling, controller };
}

describe('the metrics of the flow', () => {
  test('of a notice: its message, delays, drain, pods, and the time to spare', async () => {
    const { cluster, sqs, clock, metrics } = start();
    cluster.addNode('node-1');
    cluster.addPod('node-1', 'web-1');
    cluster.addPod('node-1', 'web-2');
    const kind = 'spot-interruption';
    sqs.send(messages.spotNotice({ instanceId: instanceIdOf(1), time: clock.now() }));
    await clock.advance(60_000);
    expect(metrics.counted('messages_total', { kind, outcome: 'recorded' })).toBe(1);
    const [receipt = Number.NaN] = metrics.values('receipt_delay_seconds', { kind });
    expect(receipt).toBeGreaterThanOrEqual(0);
    const [mark = Number.NaN] = metrics.values('mark_delay_seconds', { kind });
    expect(mark).toBeGreaterThan(0);
    expect(metrics.counted('drains_total', { kind, outcome: 'drained' })).toBe(1);
    expect(metrics.counted('pods_total', { way: 'evicted' })).toBe(2);
    expect(metrics.counted('evictions_total', { request: 'eviction', answer: 'accepted' })).toBe(2);
    const [spare = Number.NaN] = metrics.values('deadline_spare_seconds', { kind });
    expect(spare).toBeGreaterThan(60);
    expect(spare).toBeLessThan(120);
  });

  test('of a budget that refuses: the refusals, and the deletion at the deadline', async () => {
    const { cluster, sqs, clock, metrics } = start();
    cluster.addNode('node-1');
    cluster.addPod('node-1', 'db-0', { owner: { kind: 'StatefulSet', name: 'db', uid: 'db' } });
    cluster.budgets.set('db', 0);
    sqs.send(messages.spotNotice({ instanceId: instanceIdOf(1), time: clock.now() }));
    await clock.advance(150_000);
    const refused = metrics.counted('evictions_total', { request: 'eviction', answer: 'budget' });
    expect(refused).toBeGreaterThan(1);
    const deletion = { request: 'deletion', answer: 'accepted' };
    expect(metrics.counted('evictions_total', deletion)).toBe(1);
    expect(metrics.counted('pods_total', { way: 'deleted past its budget' })).toBe(1);
  });

  test('of a node that is held: a late drain, and a pod left behind', async () => {
    const { cluster, sqs, clock, metrics } = start();
    cluster.addNode('node-1', { held: true });
    cluster.addPod('node-1', 'stuck');
    const kind = 'spot-interruption';
    sqs.send(messages.spotNotice({ instanceId: instanceIdOf(1), time: clock.now() }));
    await clock.advance(130_000);
    expect(metrics.counted('drains_total', { kind, outcome: 'late' })).toBe(1);
    expect(metrics.counted('pods_total', { way: 'left behind' })).toBe(1);
  });

  test('of messages that are not acted on: each by its reason', async () => {
    const { cluster, sqs, clock, metrics } = start();
    cluster.addNode('node-1');
    sqs.send('not JSON');
    sqs.send(messages.spotNotice({ instanceId: instanceIdOf(9), time: clock.now() }));
    const notice = messages.spotNotice({ instanceId: instanceIdOf(1), time: clock.now() });
    sqs.send(notice);
    await clock.advance(5000);
    sqs.send(notice);
    await clock.advance(100_000);
    const kind = 'spot-interruption';
    expect(
      metrics.counted('messages_total', { kind: 'none', outcome: 'malformed' }),
    ).toBeGreaterThan(0);
    expect(metrics.counted('messages_total', { kind, outcome: 'not-in-this-cluster' })).toBe(1);
    expect(metrics.counted('messages_total', { kind, outcome: 'duplicate' })).toBe(1);
  });

  test('of a hook: its completion', async () => {
    const { cluster, sqs, autoScaling, clock, metrics } = start();
    cluster.addNode('node-1');
    const instanceId = instanceIdOf(1);
    const hook = { group: 'workers', hook: 'drain', token: 'token-1', instanceId };
    autoScaling.begin(hook, 300);
    sqs.send(messages.terminateHook({ ...hook, time: clock.now() }));
    await clock.advance(60_000);
    const completion = { request: 'completion', result: 'accepted' };
    expect(metrics.counted('lifecycle_hooks_total', completion)).toBe(1);
  });

  test('tell how much there is to do', async () => {
    const { cluster, sqs, clock, controller } = start();
    cluster.addNode('node-1');
    cluster.addPod('node-1', 'db-0', { owner: { kind: 'StatefulSet', name: 'db', uid: 'db' } });
    cluster.budgets.set('db', 0);
    sqs.send(messages.spotNotice({ instanceId: instanceIdOf(1), time: clock.now() }));
    sqs.send(messages.spotNotice({ instanceId: instanceIdOf(9), time: clock.now() }));
    await clock.advance(5000);
    const { states, inHand, parked, evictionLimit } = controller.figures();
    expect(states).toEqual(['draining']);
    expect(inHand).toBe(0);
    expect(parked).toBe(1);
    expect(evictionLimit).toBeGreaterThan(0);
  });
});

describe('/metrics', () => {
  test('shows every metric with its help, type and prefix', async () => {
    const text = await createMetrics(readings).text();
    for (const [name, { type, help }] of Object.entries<MetricRow>(METRICS)) {
      expect(text).toContain(`# HELP node_termination_${name} ${help}\n`);
      expect(text).toContain(`# TYPE node_termination_${name} ${type}\n`);
    }
    expect(text).toContain('node_termination_nodes{state="draining"} 2\n');
    expect(text).toContain('node_termination_leader 1\n');
    expect(text).toContain('process_cpu_seconds_total');
  });

  test('has as many series after many nodes, pods and messages as after few', async () => {
    const metrics = createMetrics(readings);
    const { cluster, sqs, clock } = start({ metrics });
    const interrupt = async (from: number, to: number) => {
      for (let number = from; number <= to; number += 1) {
        cluster.addNode(`node-${number}`, { instanceId: instanceIdOf(number) });
        cluster.addPod(`node-${number}`, `web-${number}`);
        const time = clock.now();
        sqs.send(messages.spotNotice({ instanceId: instanceIdOf(number), time }));
        sqs.send(messages.spotNotice({ instanceId: instanceIdOf(100_000 + number), time }));
      }
      await clock.advance(200_000);
    };
    await interrupt(1, 3);
    const few = await seriesOf(metrics);
    await interrupt(4, 400);
    expect(await seriesOf(metrics)).toEqual(few);
    expect(await metrics.text()).toContain(
      'node_termination_drains_total{kind="spot-interruption",outcome="drained"} 400\n',
    );
  });

  test('has as many series after requests about 10,000 nodes, pods, hooks and messages', async () => {
    const metrics = createMetrics(readings);
    const { clock, report, ...own } = new Outside().connect();
    const pods: Pods = {
      onNode: own.pods.onNode.bind(own.pods),
      read: own.pods.read.bind(own.pods),
      watch: own.pods.watch.bind(own.pods),
      evict: () => Promise.resolve({ outcome: 'gone' }),
      delete: () => Promise.resolve({ outcome: 'accepted' }),
    };
    const hooks: LifecycleHooks = {
      describe: own.hooks.describe.bind(own.hooks),
      heartbeat: own.hooks.heartbeat.bind(own.hooks),
      replace: own.hooks.replace.bind(own.hooks),
      complete: () => Promise.resolve({ outcome: 'accepted' }),
    };
    const ports = measuredPorts({ ...own, clock, report, pods, hooks, metrics });
    const sink = {
      create: () => Promise.resolve({ outcome: 'written' as const }),
      update: () => Promise.resolve({ outcome: 'written' as const }),
    };
    const recorder = new EventRecorder({ sink, clock, metrics, report });
    const events = recorded(recorder);
    const { signal } = new AbortController();
    const ask = async (number: number) => {
      const name = `name-${number}`;
      const pod = { namespace: `namespace-${number}`, name, uid: `uid-${number}` };
      await ports.pods.evict(pod, 30, 1000, signal);
      await ports.pods.delete(pod, 30, 1000, signal);
      const instanceId = instanceIdOf(number);
      await ports.hooks.complete({ group: name, hook: name, token: name, instanceId }, signal);
      events.onNode({ name, uid: name }, 'InstanceReplaced', { instance: instanceId });
      for (const [method, path] of [
        ['PATCH', `/api/v1/nodes/${name}`],
        ['POST', `/api/v1/namespaces/${pod.namespace}/pods/${name}/eviction`],
        ['DELETE', `/api/v1/namespaces/${pod.namespace}/pods/${name}`],
        ['GET', `/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/${name}`],
        ['PATCH', `/apis/events.k8s.io/v1/namespaces/${pod.namespace}/events/${name}.1`],
        ['GET', `/api/v1/pods`],
      ] as const) {
        const query = { fieldSelector: `spec.nodeName=${name}` };
        const of = { api: 'kubernetes', operation: operationOf({ method, path, query }) };
        metrics.count('requests_total', { ...of, code: '200' });
        metrics.observe('request_duration_seconds', of, number / 1000);
      }
    };
    await ask(1);
    const few = await seriesOf(metrics);
    expect(few).toContain(
      'node_termination_requests_total{api="kubernetes",operation="create pods/eviction",code="200"}',
    );
    for (let number = 2; number <= 10_000; number += 1) await ask(number);
    recorder.close();
    expect(await seriesOf(metrics)).toEqual(few);
    expect(await metrics.text()).toContain(
      'node_termination_evictions_total{request="eviction",answer="gone"} 10000\n',
    );
  });

  test('has what alerts wait for from the start, and no other values of those labels later', async () => {
    const metrics = createMetrics(readings);
    const zeroed = Object.entries<MetricRow>(METRICS).flatMap(([name, row]) =>
      row.type === 'counter' && row.zeros !== undefined ? [name] : [],
    );
    const series = async () =>
      (await seriesOf(metrics)).filter((one) =>
        zeroed.some((name) => one.startsWith(`node_termination_${name}{`)),
      );
    const before = await series();
    expect(before).toContain(
      'node_termination_drains_total{kind="spot-interruption",outcome="late"}',
    );
    const { cluster, sqs, autoScaling, clock } = start({ metrics });
    cluster.addNode('node-1', { held: true });
    cluster.addPod('node-1', 'stuck');
    cluster.addNode('node-2');
    cluster.addPod('node-2', 'web');
    const hook = { group: 'workers', hook: 'drain', token: 'token-1', instanceId: instanceIdOf(2) };
    autoScaling.begin(hook, 300);
    sqs.send(messages.spotNotice({ instanceId: instanceIdOf(1), time: clock.now() }));
    sqs.send(messages.terminateHook({ ...hook, time: clock.now() }));
    sqs.send('not JSON');
    await clock.advance(130_000);
    cluster.changeNode('node-1', { held: false });
    await clock.advance(60_000);
    cluster.addNode('node-3');
    sqs.send(messages.spotNotice({ instanceId: instanceIdOf(3), time: clock.now() }));
    await clock.advance(1000);
    cluster.deleteNode('node-3');
    await clock.advance(60_000);
    const known = new Set(before);
    const others = (await series()).filter(
      (one) => !known.has(one) && !one.startsWith('node_termination_messages_total'),
    );
    expect(others).toEqual([]);
  });
});

test('every metric of the table is fed somewhere', async () => {
  const files = (await readdir('src', { recursive: true })).filter(
    (file) => file.endsWith('.ts') && file !== join('report', 'metrics.ts'),
  );
  const texts = await Promise.all(files.map((file) => readFile(join('src', file), 'utf8')));
  const source = texts.join('\n');
  const fed = (name: string): boolean =>
    source.includes(`'${name}'`) ||
    source.includes(`    ${name}: () =>`) ||
    source.includes(`    ${name}() {`);
  expect(Object.keys(METRICS).filter((name) => !fed(name))).toEqual([]);
});
