import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  deletePod,
  evict,
  findPod,
  getLease,
  getNode,
  getPod,
  isReady,
  podNamesOn,
} from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import {
  createDaemonSet,
  createMirrorPod,
  createOwner,
  createPod,
  createPods,
  type PodSpec,
} from '../harness/workloads.ts';
import { startKubelet, type Kubelet } from '../stand-ins/kubelet.ts';
import { skipReason } from './binaries.ts';
import { startControlPlane, type ControlPlane } from './control-plane.ts';
import type { PodObject } from './objects.ts';

const needs = skipReason(['etcd', 'kube-apiserver', 'kube-controller-manager']);

// Timers can fire a millisecond early by the wall clock. How late says how busy the machine is.
const earlyMs = 5;

// The controller manager's watches come back only in steps of up to 30 s.
const afterAnOutage = { timeoutMs: 120_000 };

function expectNotBefore(value: number | undefined, earliest: number): void {
  expect(value).toBeGreaterThanOrEqual(earliest - earlyMs);
}

describe.skipIf(needs)('the kubelet stand-in', { meta: { needs } }, () => {
  let controlPlane: ControlPlane;
  let kubelet: Kubelet;
  const node = 'node-1';

  beforeAll(async () => {
    controlPlane = await startControlPlane({ controllerManager: true });
    kubelet = await startKubelet({ api: controlPlane.api });
    await kubelet.addNode({ name: node, instanceId: 'i-0123456789abcdef0', zone: 'eu-central-1b' });
  });

  afterAll(async () => {
    await kubelet.stop();
    await controlPlane.stop();
  });

  async function runningPod(spec: PodSpec): Promise<void> {
    const { uid = '' } = (await createPod(controlPlane.api, { node, ...spec })).metadata;
    await eventually(() => kubelet.records({ uid })[0]?.runningAt);
  }

  const endOf = (name: string) =>
    eventually(() => {
      const record = kubelet.record(name);
      return record.goneAt !== undefined && record;
    });

  it('registers nodes as the kubelet of an instance does, Ready and without its taint', async () => {
    const found = await getNode(controlPlane.api, node);
    expect(found).toMatchObject({
      metadata: { labels: { 'topology.kubernetes.io/zone': 'eu-central-1b' } },
      spec: { providerID: 'aws:///eu-central-1b/i-0123456789abcdef0' },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    });
    expect(found.status?.nodeInfo).toMatchObject({
      systemUUID: expect.stringMatching(/^ec2/) as string,
      bootID: expect.stringMatching(/-/) as string,
    });
    expect(found.spec.taints ?? []).toEqual([]);
  });

  it('adds many nodes at once, in the order asked for', async () => {
    const names = Array.from({ length: 30 }, (_, index) => `many-${index}`);
    const nodes = await kubelet.addNodes(names.map((name) => ({ name })));
    expect(nodes.map(({ metadata }) => metadata.name)).toEqual(names);
    expect(new Set(nodes.map(({ spec }) => spec.providerID)).size).toBe(30);
  });

  it('adds nodes that are not Ready, and the control plane taints them', async () => {
    await kubelet.addNode({ name: 'broken', ready: false });
    const keys = await eventually(async () => {
      const { spec } = await getNode(controlPlane.api, 'broken');
      return spec.taints?.map(({ key }) => key);
    }, afterAnOutage);
    expect(keys).toContain('node.kubernetes.io/not-ready');
    await kubelet.setReady('broken', true);
    await eventually(
      async () => (await getNode(controlPlane.api, 'broken')).spec.taints === undefined,
      afterAnOutage,
    );
  });

  it('makes bound pods Running and Ready', async () => {
    await runningPod({ name: 'plain' });
    const pod = await getPod(controlPlane.api, 'plain');
    expect(pod.status?.phase).toBe('Running');
    expect(isReady(pod)).toBe(true);
  });

  it('makes pods Ready late, or never, as they say', async () => {
    await runningPod({ name: 'late', behaviour: { readyAfterSeconds: 1 } });
    await runningPod({ name: 'unready', behaviour: { readyAfterSeconds: 'never' } });
    await eventually(() => kubelet.record('late').readyAt);
    const { runningAt = 0, readyAt = 0 } = kubelet.record('late');
    expectNotBefore(readyAt, runningAt + 1000);
    expect(isReady(await getPod(controlPlane.api, 'late'))).toBe(true);
    expect(isReady(await getPod(controlPlane.api, 'unready'))).toBe(false);
  });

  it('finishes pods that complete', async () => {
    await createPod(controlPlane.api, {
      name: 'job',
      node,
      behaviour: { completesAfterSeconds: 0.2 },
    });
    await eventually(
      async () => (await getPod(controlPlane.api, 'job')).status?.phase === 'Succeeded',
    );
    // The API server shows it before its answer has reached the kubelet.
    await eventually(() => kubelet.record('job').end);
    expect(kubelet.record('job').end).toBe('completed');
  });

  it('takes the whole grace of an evicted pod, then kills it', async () => {
    await runningPod({ name: 'stubborn', graceSeconds: 3 });
    expect(await evict(controlPlane.api, 'stubborn')).toBe(201);
    const record = await endOf('stubborn');
    const [deletion] = record.deletions;
    expect(record).toMatchObject({ end: 'killed', deletions: [{ graceSeconds: 3 }] });
    expect(deletion?.killAt).toBe((deletion?.seenAt ?? 0) + 3000);
    expectNotBefore(record.endedAt, deletion?.killAt ?? Infinity);
  });

  it('lets a pod go that exits earlier', async () => {
    await runningPod({ name: 'quick', graceSeconds: 60, behaviour: { exitsAfterSeconds: 0.3 } });
    await evict(controlPlane.api, 'quick');
    expect(await endOf('quick')).toMatchObject({ end: 'exited' });
    expect(await findPod(controlPlane.api, 'quick')).toBeUndefined();
  });

  it('counts a shortened grace anew from when it sees it', async () => {
    await runningPod({ name: 'shortened', graceSeconds: 600 });
    await evict(controlPlane.api, 'shortened');
    const first = await eventually(() => kubelet.record('shortened').deletions[0]);
    // The server counts from the first deletion and would have it over by then.
    await eventually(() => Date.now() > first.seenAt + 2000);
    await deletePod(controlPlane.api, 'shortened', { graceSeconds: 60 });
    const second = await eventually(() => kubelet.record('shortened').deletions[1]);
    expect(second).toMatchObject({ graceSeconds: 60, killAt: second.seenAt + 60_000 });
    expect(second.killAt).toBeGreaterThan(Date.parse(second.deletionTimestamp) + 1000);
  });

  it('kills after a shortened grace, two seconds at least, and ignores a longer one', async () => {
    await runningPod({ name: 'hasty', graceSeconds: 600 });
    await evict(controlPlane.api, 'hasty');
    await deletePod(controlPlane.api, 'hasty', { graceSeconds: 3 });
    await deletePod(controlPlane.api, 'hasty', { graceSeconds: 1 });
    await deletePod(controlPlane.api, 'hasty', { graceSeconds: 300 });
    const record = await endOf('hasty');
    const last = record.deletions.at(-1);
    // Those in between may have been seen as one.
    expect(record.deletions.length).toBeLessThanOrEqual(3);
    expect(last).toMatchObject({ graceSeconds: 1, killAt: (last?.seenAt ?? 0) + 2000 });
    expect(record.end).toBe('killed');
    expectNotBefore(record.endedAt, last?.killAt ?? Infinity);
  });

  it('knows of a pod that never ends, and of one whose object was forced away', async () => {
    await runningPod({ name: 'zombie', graceSeconds: 1, behaviour: { neverEnds: true } });
    await deletePod(controlPlane.api, 'zombie', { graceSeconds: 1 });
    await runningPod({ name: 'beside', graceSeconds: 4 });
    await deletePod(controlPlane.api, 'beside');
    await endOf('beside');
    expect(await findPod(controlPlane.api, 'zombie')).toBeDefined();
    await deletePod(controlPlane.api, 'zombie', { graceSeconds: 0 });
    expect(await endOf('zombie')).toMatchObject({ end: 'abandoned' });
  });

  it('spares a new pod that took the name of an old one', async () => {
    await runningPod({ name: 'again', graceSeconds: 2 });
    await deletePod(controlPlane.api, 'again');
    await eventually(() => kubelet.record('again').deletions[0]);
    await deletePod(controlPlane.api, 'again', { graceSeconds: 0 });
    await eventually(() => kubelet.record('again').goneAt);
    await runningPod({ name: 'again', graceSeconds: 2 });
    const [old, next] = kubelet.records({ name: 'again' });
    expect(old?.uid).not.toBe(next?.uid);
    await runningPod({ name: 'later', graceSeconds: 4 });
    await deletePod(controlPlane.api, 'later');
    await endOf('later');
    expect((await getPod(controlPlane.api, 'again')).metadata.uid).toBe(next?.uid);
  });

  it('does nothing on a machine that is down, and goes on after it has booted', async () => {
    await kubelet.addNode({ name: 'down' });
    const bootId = (await getNode(controlPlane.api, 'down')).status?.nodeInfo?.['bootID'];
    await createPods(controlPlane.api, [
      { name: 'stays', node: 'down' },
      { name: 'leaves', node: 'down', graceSeconds: 1 },
    ]);
    await eventually(
      () => kubelet.records({ node: 'down' }).filter(({ runningAt }) => runningAt).length === 2,
    );
    kubelet.powerOff('down');
    await deletePod(controlPlane.api, 'leaves');
    await runningPod({ name: 'clock', graceSeconds: 4 });
    await deletePod(controlPlane.api, 'clock');
    await endOf('clock');
    expect(await podNamesOn(controlPlane.api, 'down')).toEqual(['leaves', 'stays']);
    expect(kubelet.record('leaves')).toMatchObject({ end: 'lost', deletions: [] });
    await kubelet.powerOn('down');
    expect(await endOf('leaves')).toMatchObject({ end: 'lost' });
    await eventually(() => kubelet.record('stays').end === undefined);
    expect((await getNode(controlPlane.api, 'down')).status?.nodeInfo?.['bootID']).not.toBe(bootId);
  });

  it('renews the Lease of a node when told to, for any time', async () => {
    const at = Date.parse('2026-11-01T12:00:00.250Z');
    await kubelet.renewLease(node, at);
    await kubelet.renewLease(node, at + 1000);
    const lease = await getLease(controlPlane.api, node, 'kube-node-lease');
    expect(lease?.spec).toMatchObject({
      holderIdentity: node,
      renewTime: '2026-11-01T12:00:01.250000Z',
    });
  });

  it('renews Leases by itself, and reports last phases, where it is asked to', async () => {
    const { api } = controlPlane;
    const other = await startKubelet({ api, leaseRenewSeconds: 1, reportsLastPhase: true });
    const phases: string[] = [];
    const watch = new AbortController();
    const watching = api.listAndWatch<PodObject>({
      path: '/api/v1/pods?fieldSelector=metadata.name=reported',
      signal: watch.signal,
      onList: () => undefined,
      onEvent: ({ type, object }) => phases.push(`${type} ${object.status?.phase}`),
    });
    try {
      await other.addNode({ name: 'leased' });
      const renewed = async () =>
        (await getLease(api, 'leased', 'kube-node-lease'))?.spec?.renewTime ?? '';
      const first = await renewed();
      expect(first).toMatch(/^\d{4}-.*\.\d{6}Z$/);
      await eventually(async () => (await renewed()) > first);
      await createPod(api, {
        name: 'reported',
        node: 'leased',
        behaviour: { exitsAfterSeconds: 0 },
      });
      await eventually(() => other.record('reported').runningAt);
      await evict(api, 'reported');
      await eventually(() => phases.some((phase) => phase.startsWith('DELETED')));
      expect(phases.slice(-2)).toEqual(['MODIFIED Succeeded', 'DELETED Succeeded']);
      expect(kubelet.record('reported').runningAt).toBeUndefined();
    } finally {
      await other.stop();
      watch.abort();
      await watching;
    }
  });

  it('runs pods of owners that the garbage collector knows', async () => {
    const { api } = controlPlane;
    await kubelet.addNode({ name: 'owners' });
    const owner = await createOwner(api, 'StatefulSet', { name: 'db' });
    await createPod(api, { name: 'db-0', node: 'owners', owner });
    await createDaemonSet(api, { name: 'agent', nodes: ['owners'] });
    await createMirrorPod(api, { name: 'proxy', node: 'owners' });
    await createPod(api, {
      name: 'critical',
      namespace: 'kube-system',
      node: 'owners',
      priorityClassName: 'system-cluster-critical',
    });
    await eventually(() => {
      const records = kubelet.records({ node: 'owners' });
      return records.length === 4 && records.every(({ runningAt }) => runningAt);
    });
    expect(await podNamesOn(api, 'owners')).toEqual([
      'agent-owners',
      'critical',
      'db-0',
      'proxy-owners',
    ]);
  });

  it('carries on through an outage of the API server', async () => {
    const { api, apiServer } = controlPlane;
    await runningPod({ name: 'ending', graceSeconds: 2 });
    await evict(api, 'ending');
    await eventually(() => kubelet.record('ending').deletions[0]);
    await apiServer.stop();
    await eventually(() => kubelet.record('ending').endedAt);
    await apiServer.start();
    expect(await endOf('ending')).toMatchObject({ end: 'killed' });
    await runningPod({ name: 'next' });
    expect(isReady(await getPod(api, 'next'))).toBe(true);
  });
});
