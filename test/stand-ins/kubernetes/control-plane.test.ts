import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiClient } from '../../control-plane/api-client.ts';
import { startStandInControlPlane, type StandInControlPlane } from './control-plane.ts';

const nodes = '/api/v1/nodes';
const lease = '/apis/coordination.k8s.io/v1/namespaces/home/leases/lease';
const limit = { timeout: 15_000, interval: 10 };

describe('The stand-in as a control plane', () => {
  let plane: StandInControlPlane;
  const clients: ApiClient[] = [];

  beforeEach(async () => {
    plane = await startStandInControlPlane({ audit: 'with-bodies', controllerManager: true });
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
    await plane.stop();
  });

  function clientWith(token: string): ApiClient {
    const client = new ApiClient({ url: plane.url, token }, { userAgent: 'controller/1' });
    clients.push(client);
    return client;
  }

  it('lets an account do what its rules say, and nothing else', async () => {
    const access = await plane.kubeconfigFor(
      'controller',
      [{ apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list'] }],
      {
        namespace: 'home',
        namespaceRules: {
          home: [
            {
              apiGroups: ['coordination.k8s.io'],
              resources: ['leases'],
              resourceNames: ['lease'],
              verbs: ['*'],
            },
          ],
        },
      },
    );
    const client = clientWith(access.token);
    const put = (path: string) =>
      client.request('PUT', path, { metadata: { name: path.split('/').at(-1) }, spec: {} });
    expect((await client.request('GET', nodes)).status).toBe(200);
    expect((await client.request('GET', `${nodes}?watch=1`)).status).toBe(403);
    expect((await client.request('DELETE', `${nodes}/node`)).status).toBe(403);
    expect((await put(lease)).status).toBe(201);
    expect((await put(`${lease}-other`)).status).toBe(403);
    expect((await put(lease.replace('home', 'default'))).status).toBe(403);
    expect((await client.request('GET', '/version')).status).toBe(200);
    const review = (verb: string) =>
      client.request('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
        spec: { resourceAttributes: { verb, resource: 'nodes' } },
      });
    expect((await review('get')).body).toMatchObject({ status: { allowed: true } });
    expect((await review('patch')).body).toMatchObject({ status: { allowed: false } });
  });

  it('keeps a log of requests that can be asked by user, verb and object', async () => {
    const access = await plane.kubeconfigFor('controller', [
      { apiGroups: ['*'], resources: ['*'], verbs: ['*'] },
    ]);
    const client = clientWith(access.token);
    await plane.api.create(nodes, { metadata: { name: 'node' } });
    await client.patch(`${nodes}/node`, { metadata: { labels: { a: 'b' } } });
    const entries = await plane.auditEntries({ userName: access.userName });
    expect(entries).toMatchObject([
      {
        verb: 'patch',
        resource: 'nodes',
        name: 'node',
        userName: 'system:serviceaccount:default:controller',
        userAgent: 'controller/1',
        status: 200,
        body: { metadata: { labels: { a: 'b' } } },
      },
    ]);
    const created = await plane.auditEntries({ userName: 'admin', verb: 'create', name: 'node' });
    expect(created).toEqual([]);
    expect(await plane.auditEntries({ verb: 'create', resource: 'nodes' })).toHaveLength(1);
  });

  it('answers nothing while its API server is paused, and all of it afterwards', async () => {
    plane.apiServer.pause();
    const patience = { timeoutMs: 150 };
    const impatient = plane.api.request('GET', nodes, undefined, patience);
    await expect(impatient).rejects.toMatchObject({ name: 'TimeoutError' });
    const patient = plane.api.create(nodes, { metadata: { name: 'node' } });
    plane.apiServer.resume();
    expect((await patient).metadata).toMatchObject({ name: 'node' });
  });

  it('refuses connections while its API server is stopped, and has forgotten the past after', async () => {
    const before = await plane.api.get<{ metadata: { resourceVersion: string } }>(nodes);
    await plane.api.create(nodes, { metadata: { name: 'node' } });
    await plane.apiServer.stop();
    await expect(fetch(plane.url)).rejects.toMatchObject({
      cause: expect.objectContaining({ code: 'ECONNREFUSED' }) as unknown,
    });
    await plane.apiServer.start();
    const found = await vi.waitFor(() => plane.api.list(nodes), limit);
    expect(found).toHaveLength(1);
    const { resourceVersion } = before.metadata;
    const watch = await fetch(`${plane.url}${nodes}?watch=1&resourceVersion=${resourceVersion}`);
    expect(await watch.text()).toContain('"code":410');
  });

  it('has the controllers that were asked for, and can hold them back', async () => {
    plane.controllerManager?.pause();
    await plane.api.create(nodes, { metadata: { name: 'node' }, spec: { unschedulable: true } });
    const taints = async () => {
      const node = await plane.api.get<{ spec: { taints?: object[] } }>(`${nodes}/node`);
      return node.spec.taints ?? [];
    };
    expect(await taints()).toEqual([]);
    plane.controllerManager?.resume();
    await vi.waitUntil(async () => (await taints()).length > 0, limit);
    expect(plane.scheduler).toBeUndefined();
  });
});
