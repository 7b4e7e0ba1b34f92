import { access } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { CoreV1Api, KubeConfig } from '@kubernetes/client-node';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ApiClient } from '../../control-plane/api-client.ts';
import type { NodeObject, PodObject } from '../../control-plane/objects.ts';
import { startKubernetesStandIn, type KubernetesStandIn, type StandInOptions } from './stand-in.ts';

const releases: (() => Promise<void>)[] = [];
const limit = { timeout: 15_000, interval: 10 };

afterEach(async () => {
  for (const release of releases.splice(0).toReversed()) await release();
});

/** The stand-in, and a client of the side that faults touch. */
async function start(
  options?: StandInOptions,
): Promise<{ standIn: KubernetesStandIn; client: ApiClient }> {
  const standIn = await startKubernetesStandIn(options);
  releases.push(() => standIn.stop());
  const client = new ApiClient({ url: standIn.url });
  releases.push(() => client.close());
  return { standIn, client };
}

const pods = '/api/v1/namespaces/default/pods';
const pod = (name: string, annotations: Record<string, string> = {}) => ({
  metadata: { name, annotations },
  spec: { schedulerName: 'nobody', containers: [{ name: 'main', image: 'none' }] },
});
const broken = { code: expect.stringMatching(/^(ECONNRESET|UND_ERR_SOCKET)$/u) as unknown };
const refused = { cause: expect.objectContaining({ code: 'ECONNREFUSED' }) as unknown };

describe('Faults of the Kubernetes stand-in', () => {
  it('overload answers 429 as text to as many requests as asked, and then no more', async () => {
    const { standIn, client } = await start();
    const fault = standIn.faults.inject({
      match: { verb: 'create', resource: 'pods' },
      effect: { kind: 'overloaded', retryAfterSeconds: 7 },
      times: 2,
    });
    const answers = [];
    for (const name of ['a', 'b', 'c']) answers.push(await client.request('POST', pods, pod(name)));
    expect(answers.map(({ status }) => status)).toEqual([429, 429, 201]);
    expect(answers[0]?.headers).toMatchObject({ 'retry-after': '7' });
    expect(answers[0]?.headers['content-type']).toContain('text/plain');
    expect(fault.hits()).toBe(2);
    expect(await client.list(pods)).toHaveLength(1);
  });

  it('touch only what they match, and not the tests themselves', async () => {
    const { standIn, client } = await start();
    standIn.faults.inject({
      match: { verb: ['list', 'get'], resource: 'pods', namespace: 'default' },
      effect: { kind: 'unavailable' },
    });
    expect((await client.request('GET', pods)).status).toBe(503);
    expect((await client.request('GET', '/api/v1/nodes')).status).toBe(200);
    expect((await client.request('GET', '/api/v1/namespaces/kube-system/pods')).status).toBe(200);
    expect((await standIn.api.request('GET', pods)).status).toBe(200);
    standIn.faults.clear();
    expect((await client.request('GET', pods)).status).toBe(200);
  });

  it('can hit a share of the requests, as the given numbers draw', async () => {
    const draws = [0.1, 0.6, 0.4, 0.9];
    const { standIn, client } = await start({ random: () => draws.shift() ?? 1 });
    standIn.faults.inject({ effect: { kind: 'unavailable' }, share: 0.5 });
    const statuses = [];
    for (let at = 0; at < 4; at += 1) statuses.push((await client.request('GET', pods)).status);
    expect(statuses).toEqual([503, 200, 503, 200]);
  });

  it('reset a connection before the request is done, or after it', async () => {
    const { standIn, client } = await start();
    const reset = (name: string, when: 'before' | 'after') =>
      standIn.faults.inject({
        match: { verb: 'create', where: ({ body }) => body.includes(`"${name}"`) },
        effect: { kind: 'reset', when },
      });
    reset('a', 'before');
    reset('b', 'after');
    await expect(client.request('POST', pods, pod('a'))).rejects.toMatchObject(broken);
    await expect(client.request('POST', pods, pod('b'))).rejects.toMatchObject(broken);
    const made = await client.list(pods);
    expect(made.map(({ metadata }) => metadata.name)).toEqual(['b']);
  });

  it('leave a request without an answer', async () => {
    const { standIn, client } = await start();
    standIn.faults.inject({ match: { verb: 'create' }, effect: { kind: 'hang' } });
    const request = client.request('POST', pods, pod('a'), { timeoutMs: 200 });
    await expect(request).rejects.toMatchObject({ name: 'TimeoutError' });
    expect(await standIn.api.list(pods)).toEqual([]);
  });

  it('delay an answer', async () => {
    const { standIn, client } = await start();
    standIn.faults.inject({ match: { verb: 'list' }, effect: { kind: 'delay', delayMs: 120 } });
    const startedAt = performance.now();
    expect((await client.request('GET', pods)).status).toBe(200);
    // Timers may be early by a fraction of a millisecond.
    expect(performance.now() - startedAt).toBeGreaterThan(118);
  });

  it('take a right away, in requests and in access reviews', async () => {
    const { standIn, client } = await start();
    standIn.faults.inject({
      match: { verb: 'create', resource: 'pods', subresource: 'eviction' },
      effect: { kind: 'forbidden', userName: 'controller' },
    });
    const answer = await client.request('POST', `${pods}/a/eviction`, { metadata: { name: 'a' } });
    expect(answer).toMatchObject({
      status: 403,
      body: {
        message:
          'pods "a" is forbidden: User "controller" cannot create resource "pods/eviction" in API group "" in the namespace "default"',
      },
    });
    const review = (resourceAttributes: Record<string, string>) =>
      client.request('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
        spec: { resourceAttributes },
      });
    const evict = await review({ verb: 'create', resource: 'pods', subresource: 'eviction' });
    const remove = await review({ verb: 'delete', resource: 'pods' });
    expect(evict.body).toMatchObject({ status: { allowed: false } });
    expect(remove.body).toMatchObject({ status: { allowed: true } });
  });

  it.for(['end', 'reset'] as const)(
    'drop watches (%s), which a client takes up again',
    async (how) => {
      const { standIn, client } = await start();
      const over = new AbortController();
      const seen: string[] = [];
      let lists = 0;
      const watching = client.listAndWatch<PodObject>({
        path: pods,
        onList: () => {
          lists += 1;
        },
        onEvent: ({ type, object }) => seen.push(`${type} ${object.metadata.name}`),
        signal: over.signal,
      });
      await vi.waitUntil(() => standIn.openWatches().length === 1, limit);
      await standIn.api.create(pods, pod('a'));
      await vi.waitUntil(() => seen.length === 1, limit);
      expect(standIn.faults.dropWatches(how, { resource: 'nodes' })).toBe(0);
      expect(standIn.faults.dropWatches(how, { resource: 'pods' })).toBe(1);
      await standIn.api.create(pods, pod('b'));
      await vi.waitUntil(() => seen.length === 2, limit);
      over.abort();
      await watching;
      expect(seen).toEqual(['ADDED a', 'ADDED b']);
      expect(lists).toBe(1);
    },
  );

  it('forget the past, so that a dropped watch must list again', async () => {
    const { standIn, client } = await start();
    const over = new AbortController();
    const lists: number[] = [];
    const watching = client.listAndWatch<PodObject>({
      path: `${pods}?fieldSelector=metadata.name!=hidden`,
      onList: (items) => lists.push(items.length),
      onEvent: () => {},
      signal: over.signal,
    });
    await vi.waitUntil(() => standIn.openWatches().length === 1, limit);
    const away = { match: { verb: 'watch' }, effect: { kind: 'unavailable' } } as const;
    const fault = standIn.faults.inject(away);
    standIn.faults.dropWatches('end');
    await standIn.api.create(pods, pod('a'));
    standIn.faults.expireHistory();
    fault.remove();
    await vi.waitUntil(() => lists.length === 2, limit);
    over.abort();
    await watching;
    expect(lists).toEqual([0, 1]);
  });

  it('keep the server away for a time, at the same address with the same data', async () => {
    const { standIn, client } = await start();
    await client.create(pods, pod('a'));
    await standIn.faults.startOutage();
    await expect(fetch(standIn.url)).rejects.toMatchObject(refused);
    expect(await standIn.api.list(pods)).toHaveLength(1);
    await standIn.faults.endOutage();
    const found = await vi.waitFor(() => client.list(pods), limit);
    expect(found).toHaveLength(1);
  });

  it('hold controllers back, which then catch up', async () => {
    const { standIn, client } = await start();
    standIn.pause('node-lifecycle');
    await client.create('/api/v1/nodes', {
      metadata: { name: 'node' },
      spec: { unschedulable: true },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    });
    const taints = async () => (await client.get<NodeObject>('/api/v1/nodes/node')).spec.taints;
    await client.create('/api/v1/namespaces', { metadata: { name: 'other' } });
    await vi.waitUntil(
      () => client.find('/api/v1/namespaces/other/serviceaccounts/default'),
      limit,
    );
    expect(await taints()).toBeUndefined();
    standIn.resume('node-lifecycle');
    await vi.waitUntil(async () => (await taints())?.length === 1, limit);
    expect(await taints()).toMatchObject([{ key: 'node.kubernetes.io/unschedulable' }]);
  });
});

describe('The Kubernetes stand-in', () => {
  it('drops a watcher that does not read', async () => {
    const { standIn } = await start({ watchBacklogLimitBytes: 1024 * 1024 });
    const { hostname, port } = new URL(standIn.url);
    const socket = connect(Number(port), hostname);
    releases.push(async () => {
      socket.destroy();
    });
    socket.pause();
    socket.write(`GET ${pods}?watch=1 HTTP/1.1\r\nHost: api\r\n\r\n`);
    await vi.waitUntil(() => standIn.openWatches().length === 1, limit);
    const ballast = 'x'.repeat(250_000);
    let made = 0;
    await vi.waitUntil(async () => {
      made += 1;
      await standIn.api.create(pods, pod(`pod-${made}`, { ballast }));
      return standIn.openWatches().length === 0;
    }, limit);
    expect(made).toBeGreaterThan(4);
  });

  it('serves the official client through its kubeconfig', async () => {
    const { standIn } = await start();
    await standIn.api.create('/api/v1/nodes', { metadata: { name: 'node' } });
    const config = new KubeConfig();
    config.loadFromFile(standIn.kubeconfig);
    const nodes = await config.makeApiClient(CoreV1Api).listNode();
    expect(nodes.items.map(({ metadata }) => metadata?.name)).toEqual(['node']);
  });

  it('removes the pods of a node some time after the node', async () => {
    const { client } = await start({ podsOutliveNodeMs: 1000 });
    await client.create('/api/v1/nodes', { metadata: { name: 'node' } });
    await client.create(pods, {
      ...pod('pod'),
      spec: { ...pod('pod').spec, nodeName: 'node' },
    });
    await client.delete('/api/v1/nodes/node');
    expect(await client.list(pods)).toHaveLength(1);
    await vi.waitUntil(async () => (await client.list(pods)).length === 0, limit);
  });

  it('removes the pods of a node that is certainly off, but not of a live one', async () => {
    const { client } = await start();
    const taints = [{ key: 'node.kubernetes.io/out-of-service', effect: 'NoExecute' as const }];
    for (const [name, status] of [
      ['live', 'True'],
      ['off', 'Unknown'],
    ] as const) {
      await client.create('/api/v1/nodes', {
        metadata: { name },
        status: { conditions: [{ type: 'Ready', status }] },
      });
      await client.create(pods, {
        ...pod(`on-${name}`),
        spec: { ...pod(name).spec, nodeName: name },
      });
      await client.patch(`/api/v1/nodes/${name}`, { spec: { taints } });
    }
    await vi.waitUntil(async () => (await client.list(pods)).length === 1, limit);
    const left = await client.list(pods);
    expect(left.map(({ metadata }) => metadata.name)).toEqual(['on-live']);
  });

  it('tells of every request', async () => {
    const { standIn, client } = await start();
    const told: string[] = [];
    const stop = standIn.observe(({ request, status }) => {
      told.push(`${request.verb} ${request.resource} ${request.name ?? ''} ${status}`);
    });
    await client.create(pods, pod('a'));
    await client.request('GET', `${pods}/b`);
    await standIn.api.list(pods);
    stop();
    await client.list(pods);
    expect(told).toEqual(['create pods  201', 'get pods b 404']);
  });

  it('can be put on a given port, and leaves nothing when it is stopped', async () => {
    const free = createServer();
    await new Promise<void>((resolve) => free.listen(0, '127.0.0.1', resolve));
    const { port } = free.address() as AddressInfo;
    await new Promise((resolve) => free.close(resolve));
    const standIn = await startKubernetesStandIn({ port });
    expect(standIn.url).toBe(`http://127.0.0.1:${port}`);
    const watching = fetch(`${standIn.url}${pods}?watch=1`);
    expect((await watching).status).toBe(200);
    await standIn.stop();
    await expect(fetch(standIn.url)).rejects.toMatchObject(refused);
    await expect(access(standIn.kubeconfig)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
