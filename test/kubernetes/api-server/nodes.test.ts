import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { NodeView } from '../../../src/plan/node.ts';
import { skipReason } from '../../control-plane/binaries.ts';
import {
  componentsFor,
  startControlPlane,
  type ControlPlane,
} from '../../control-plane/control-plane.ts';
import type { NodeObject } from '../../control-plane/objects.ts';
import { eventually } from '../../harness/eventually.ts';
import { startCuttingProxy } from './cutting-proxy.ts';
import { openEdge, RIGHTS, variantOf, type Edge } from './edge.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const reason = skipReason(componentsFor({}));
const { signal } = new AbortController();

// Without a controller manager, so that nobody else writes to the nodes.
describe.skipIf(reason)(`nodes of a real API server ${reason ?? ''}`, () => {
  let plane: ControlPlane;
  let kubeconfig: string;
  let userName: string;
  let edge: Edge;

  beforeAll(async () => {
    plane = await startControlPlane({ audit: true });
    ({ kubeconfig, userName } = await plane.kubeconfigFor('edge', RIGHTS));
    edge = openEdge(kubeconfig);
    await edge.nodes.start();
  });

  afterAll(async () => {
    await edge.close();
    await plane.stop();
  });

  async function addNode(name: string, more: Partial<NodeObject['spec']> = {}): Promise<NodeView> {
    await plane.api.create('/api/v1/nodes', {
      metadata: { name },
      spec: { providerID: `aws:///eu-central-1a/i-${Buffer.from(name).toString('hex')}`, ...more },
    });
    return eventually(() => edge.nodes.get(name));
  }

  test('marks are one write, and what others set stays', async () => {
    const gpu = { key: 'gpu', value: 'yes', effect: 'NoSchedule' as const };
    const node = await addNode('marked', { taints: [gpu] });
    const ours = {
      key: 'node-termination-controller/interruption',
      value: 'rebalance',
      effect: 'NoSchedule',
    };
    const answer = await edge.store.write(
      'marked',
      node.resourceVersion,
      {
        unschedulable: true,
        taints: [...node.taints, ours],
        labels: { 'node-termination-controller/interruption': 'rebalance' },
        annotations: { 'node-termination-controller/journal': '{"version":1}' },
      },
      signal,
      'mark',
    );
    expect(answer).toMatchObject({
      outcome: 'written',
      node: { name: 'marked', unschedulable: true, taints: [gpu, ours], journal: '{"version":1}' },
    });
    const { metadata, spec } = await plane.api.get<NodeObject>('/api/v1/nodes/marked');
    expect(spec).toMatchObject({ unschedulable: true, taints: [gpu, ours] });
    expect(metadata.annotations).toMatchObject({
      'node-termination-controller/journal': '{"version":1}',
    });
    const writes = await eventually(async () => {
      const entries = await plane.auditEntries({ userName, name: 'marked' });
      return entries.length > 0 && entries;
    });
    expect(writes.map(({ verb }) => verb)).toEqual(['patch']);

    if (answer.outcome !== 'written') return;
    const undone = await edge.store.write(
      'marked',
      answer.node.resourceVersion,
      {
        unschedulable: false,
        taints: [gpu],
        labels: { 'node-termination-controller/interruption': null },
        annotations: { 'node-termination-controller/journal': null },
      },
      signal,
      'mark',
    );
    expect(undone).toMatchObject({
      outcome: 'written',
      node: {
        unschedulable: false,
        taints: [gpu],
        journal: undefined,
        interruptionLabel: undefined,
      },
    });
  });

  test('the last taint can be taken away', async () => {
    const node = await addNode('untainted', { taints: [{ key: 'x', effect: 'NoSchedule' }] });
    const answer = await edge.store.write(
      'untainted',
      node.resourceVersion,
      { taints: [] },
      signal,
      'mark',
    );
    expect(answer).toMatchObject({ outcome: 'written', node: { taints: [] } });
  });

  test('a stale version is a conflict, and reading tells the new one', async () => {
    const node = await addNode('stale');
    await plane.api.patch('/api/v1/nodes/stale', { metadata: { labels: { a: 'b' } } });
    expect(
      await edge.store.write(
        'stale',
        node.resourceVersion,
        { unschedulable: true },
        signal,
        'mark',
      ),
    ).toEqual({
      outcome: 'conflict',
    });
    const read = await edge.store.read('stale', signal);
    expect(read).toMatchObject({ outcome: 'found', node: { name: 'stale' } });
    if (read.outcome !== 'found') return;
    expect(
      await edge.store.write(
        'stale',
        read.node.resourceVersion,
        { unschedulable: true },
        signal,
        'mark',
      ),
    ).toMatchObject({ outcome: 'written' });
  });

  test('no node: gone, for writing and for reading', async () => {
    expect(await edge.store.write('absent', '1', { unschedulable: true }, signal, 'mark')).toEqual({
      outcome: 'gone',
    });
    expect(await edge.store.read('absent', signal)).toEqual({ outcome: 'gone' });
  });

  test('what the API server can never take is refused', async () => {
    const node = await addNode('refusing');
    expect(
      await edge.store.write(
        'refusing',
        node.resourceVersion,
        { taints: [{ key: 'a', effect: 'Wrong' }] },
        signal,
        'mark',
      ),
    ).toMatchObject({ outcome: 'refused', status: 422, message: expect.stringContaining('Wrong') });
    expect(
      await edge.store.write(
        'refusing',
        node.resourceVersion,
        { annotations: { large: 'x'.repeat(300 * 1024) } },
        signal,
        'mark',
      ),
    ).toMatchObject({ outcome: 'refused' });
    expect(
      await edge.store.write(
        'refusing',
        node.resourceVersion,
        { annotations: { huge: 'x'.repeat(4 * 1024 * 1024) } },
        signal,
        'mark',
      ),
    ).toMatchObject({ outcome: 'refused', status: 413 });
  });

  test('without the right it is forbidden', async () => {
    const reader = await plane.kubeconfigFor('reader', [
      { apiGroups: [''], resources: ['nodes'], verbs: ['get'] },
    ]);
    const other = openEdge(reader.kubeconfig);
    const node = await addNode('forbidden');
    expect(await other.store.read('forbidden', signal)).toMatchObject({ outcome: 'found' });
    expect(
      await other.store.write(
        'forbidden',
        node.resourceVersion,
        { unschedulable: true },
        signal,
        'mark',
      ),
    ).toMatchObject({ outcome: 'forbidden', message: expect.stringContaining('cannot patch') });
    await other.close();
  });

  test('the kubelet’s Lease tells in which second it was renewed', async () => {
    const renewTime = '2026-11-22T19:00:01.234567Z';
    await plane.api.create('/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases', {
      metadata: { name: 'leased', namespace: 'kube-node-lease' },
      spec: { holderIdentity: 'leased', leaseDurationSeconds: 40, renewTime },
    });
    expect(await edge.store.kubeletRenewed('leased', signal)).toEqual({
      outcome: 'at',
      at: Date.parse('2026-11-22T19:00:01Z'),
    });
    expect(await edge.store.kubeletRenewed('absent', signal)).toEqual({ outcome: 'never' });
  });

  test('a token that is refused is read again from its file', async () => {
    const { token } = await plane.kubeconfigFor('rotating', RIGHTS);
    const tokenFile = join(plane.folder, 'rotating.token');
    await writeFile(tokenFile, 'not-a-token');
    const path = await variantOf(kubeconfig, 'rotating', {
      user: { 'auth-provider': { name: 'tokenFile', config: { tokenFile } } },
    });
    const rotating = openEdge(path);
    expect(await rotating.store.read('absent', signal)).toMatchObject({ outcome: 'forbidden' });
    await writeFile(tokenFile, `${token}\n`);
    await eventually(async () => (await rotating.store.read('absent', signal)).outcome === 'gone');
    await rotating.close();
  });

  test('more nodes than fit a page are all there', async () => {
    const names = Array.from({ length: 1100 }, (_, number) => `page-${number}`);
    await Promise.all(
      Array.from({ length: 20 }, async (_, worker) => {
        for (const name of names.filter((__, number) => number % 20 === worker)) {
          await plane.api.create('/api/v1/nodes', { metadata: { name } });
        }
      }),
    );
    const fresh = openEdge(kubeconfig);
    await fresh.nodes.start();
    const found = [...fresh.nodes.all()]
      .map(({ name }) => name)
      .filter((name) => name.startsWith('page-'));
    expect(found.toSorted()).toEqual(names.toSorted());
    await fresh.close();
    await Promise.all(
      Array.from({ length: 20 }, async (_, worker) => {
        for (const name of names.filter((__, number) => number % 20 === worker)) {
          await plane.api.delete(`/api/v1/nodes/${name}`);
        }
      }),
    );
    await eventually(() => [...edge.nodes.all()].every(({ name }) => !name.startsWith('page-')));
  });

  test('a refresh holds what was there when it was asked for', async () => {
    for (let number = 0; number < 10; number++) {
      await plane.api.create('/api/v1/nodes', { metadata: { name: `fresh-${number}` } });
      await edge.nodes.refresh(signal);
      expect(edge.nodes.get(`fresh-${number}`)).toBeDefined();
    }
  });

  test('under churn, with its connections cut all the time, the index misses nothing and tells nothing twice', async () => {
    const proxy = await startCuttingProxy(plane.url);
    const churned = openEdge(await variantOf(kubeconfig, 'churned', { server: proxy.url }));
    const faults: string[] = [];
    const known = new Map<string, NodeView>();
    const deleted: string[] = [];
    churned.nodes.subscribe((before, after) => {
      const name = (after ?? before)?.name ?? '';
      if (known.get(name) !== before) faults.push(`${name}: before is not what was told last`);
      if (before !== undefined && after !== undefined && before.uid !== after.uid) {
        faults.push(`${name}: another node without an end of the first`);
      }
      if (after !== undefined && churned.nodes.get(name) !== after)
        faults.push(`${name}: told before held`);
      if (after === undefined) {
        known.delete(name);
        deleted.push(before?.uid ?? '');
      } else known.set(name, after);
    });
    await churned.nodes.start();
    const cutting = setInterval(() => proxy.cut(), 120);
    await Promise.all(
      Array.from({ length: 8 }, async (_, worker) => {
        for (let round = 0; round < 15; round++) {
          const name = `churn-${worker}`;
          await plane.api.create('/api/v1/nodes', {
            metadata: { name },
            spec: { providerID: `aws:///eu-central-1a/i-${worker}${round}` },
          });
          for (let write = 0; write < 3; write++) {
            const view = await edge.store.read(name, signal);
            if (view.outcome !== 'found') continue;
            const answer = await edge.store.write(
              name,
              view.node.resourceVersion,
              { labels: { write: String(write) } },
              signal,
              'mark',
            );
            if (answer.outcome === 'written') churned.nodes.learn(answer.node);
          }
          if (round < 14) await plane.api.delete(`/api/v1/nodes/${name}`);
        }
      }),
    );
    clearInterval(cutting);
    const actual = await plane.api.list<NodeObject>('/api/v1/nodes');
    const expected = actual
      .map(({ metadata }) => `${metadata.uid}@${metadata.resourceVersion}`)
      .toSorted();
    await eventually(() => {
      const held = [...churned.nodes.all()].map(
        ({ uid, resourceVersion }) => `${uid}@${resourceVersion}`,
      );
      expect(held.toSorted()).toEqual(expected);
      return true;
    });
    expect(faults).toEqual([]);
    expect(new Set(deleted).size).toBe(deleted.length);
    expect([...known.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1))).toEqual(
      [...churned.nodes.all()].toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    );
    expect(churned.nodes.byInstance('i-014').map(({ name }) => name)).toEqual(['churn-0']);
    expect(churned.nodes.byInstance('i-013')).toEqual([]);
    await churned.close();
    await proxy.stop();
  });

  test('an API server that stands still is unreachable, and answers when it goes on', async () => {
    const node = await addNode('paused');
    plane.apiServer.pause();
    try {
      // It may still answer what it has begun.
      await eventually(async () => !(await edge.store.ping(signal)));
      expect(
        await edge.store.write(
          'paused',
          node.resourceVersion,
          { unschedulable: true },
          signal,
          'mark',
        ),
      ).toMatchObject({ outcome: 'unreachable' });
    } finally {
      plane.apiServer.resume();
    }
    await eventually(async () => edge.store.ping(signal));
    const { outcome } = await edge.store.read('paused', signal);
    expect(outcome).toBe('found');
  });

  test('after the API server was away the index goes on, and knows what has changed meanwhile', async () => {
    await addNode('stays');
    const before = edge.nodes.lastHeardAt();
    await plane.apiServer.stop();
    expect(await edge.store.ping(signal)).toBe(false);
    expect(await edge.store.read('stays', signal)).toMatchObject({
      outcome: 'unreachable',
      message: expect.stringContaining('ECONNREFUSED'),
    });
    await expect(edge.nodes.refresh(signal)).rejects.toThrow('could not list nodes');
    await plane.apiServer.start();
    await plane.api.delete('/api/v1/nodes/stays');
    await addNode('came');
    await eventually(() => edge.nodes.get('stays') === undefined);
    expect(edge.nodes.lastHeardAt()).toBeGreaterThan(before);
    expect(await edge.store.ping(signal)).toBe(true);
  });
});
