import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { createBudget, budgetStatus, createPod } from '../harness/workloads.ts';
import { ApiClient, ApiError } from './api-client.ts';
import { skipReason } from './binaries.ts';
import { startControlPlane, type ControlPlane } from './control-plane.ts';
import type { NodeObject, PodObject } from './objects.ts';

const needs = skipReason(['etcd', 'kube-apiserver', 'kube-controller-manager', 'kubectl']);

describe.skipIf(needs)('the control plane', { meta: { needs } }, () => {
  let controlPlane: ControlPlane;

  beforeAll(async () => {
    controlPlane = await startControlPlane({ controllerManager: true, audit: 'with-bodies' });
  });

  afterAll(async () => {
    await controlPlane.stop();
  });

  it('answers as the version that is pinned', async () => {
    const version = await controlPlane.api.get<{ gitVersion: string }>('/version');
    const goMod = await readFile(join(import.meta.dirname, 'go.mod'), 'utf8');
    expect(goMod).toContain(`k8s.io/kubernetes ${version.gitVersion}`);
    const { stdout } = await controlPlane.kubectl(['version', '-o', 'json']);
    expect(JSON.parse(stdout)).toMatchObject({ serverVersion: { gitVersion: version.gitVersion } });
  });

  it('runs the controllers: a budget is processed', async () => {
    const { api } = controlPlane;
    await createBudget(api, { name: 'idle', matchLabels: { app: 'none' }, minAvailable: 1 });
    // After an outage the controller manager's watches come back only in steps of up to 30 s.
    const status = await eventually(() => budgetStatus(api, 'idle'), { timeoutMs: 120_000 });
    expect(status).toMatchObject({ expectedPods: 0, disruptionsAllowed: 0 });
  });

  it('lets an account do what its rules say, at once, and nothing else', async () => {
    const { token, userName, kubeconfig } = await controlPlane.kubeconfigFor(
      'reader',
      [{ apiGroups: [''], resources: ['nodes'], verbs: ['list'] }],
      {
        namespace: 'readers',
        namespaceRules: {
          readers: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['list'] }],
        },
      },
    );
    const reader = new ApiClient({ url: controlPlane.url, ca: controlPlane.ca, token });
    try {
      const status = async (path: string) => (await reader.request('GET', path)).status;
      expect(await status('/api/v1/nodes')).toBe(200);
      expect(await status('/api/v1/namespaces/readers/configmaps')).toBe(200);
      expect(await status('/api/v1/namespaces/default/configmaps')).toBe(403);
      expect(await status('/api/v1/pods')).toBe(403);
    } finally {
      await reader.close();
    }
    expect(userName).toBe('system:serviceaccount:readers:reader');
    const { stdout } = await controlPlane.kubectl(['--kubeconfig', kubeconfig, 'auth', 'whoami']);
    expect(stdout).toContain(userName);
  });

  it('tells of every request who sent it, what it was and how it was answered', async () => {
    const { token, userName } = await controlPlane.kubeconfigFor('auditee', [
      { apiGroups: [''], resources: ['nodes'], verbs: ['patch'] },
    ]);
    const { url, ca } = controlPlane;
    const client = new ApiClient({ url, ca, token }, { userAgent: 'auditee/1' });
    const patch = { metadata: { labels: { audited: 'yes' } } };
    await expect(client.patch('/api/v1/nodes/absent', patch)).rejects.toThrow(ApiError);
    await client.request('DELETE', '/api/v1/namespaces/default/pods/absent');
    await client.close();
    const entries = await eventually(async () => {
      const found = await controlPlane.auditEntries({ userName });
      return found.length === 2 && found;
    });
    expect(entries).toMatchObject([
      {
        verb: 'patch',
        resource: 'nodes',
        name: 'absent',
        status: 404,
        userAgent: 'auditee/1',
        body: patch,
      },
      { verb: 'delete', resource: 'pods', namespace: 'default', status: 403 },
    ]);
    expect(await controlPlane.auditEntries({ userName, verb: 'delete' })).toHaveLength(1);
    expect(await controlPlane.auditEntries({ userAgent: 'nobody/1' })).toEqual([]);
  });

  it('comes back from an outage with its data and on its port, and watches go on', async () => {
    const { api, apiServer } = controlPlane;
    const node = (name: string): NodeObject => ({ metadata: { name }, spec: {} });
    await api.create('/api/v1/nodes', node('before'));
    const seen = new Set<string>();
    const stop = new AbortController();
    const watching = api.listAndWatch<NodeObject>({
      path: '/api/v1/nodes',
      signal: stop.signal,
      onList: (nodes) => nodes.forEach(({ metadata }) => seen.add(metadata.name)),
      onEvent: ({ object }) => seen.add(object.metadata.name),
    });
    await eventually(() => seen.has('before'));

    await apiServer.stop();
    await expect(api.get('/api/v1/nodes')).rejects.toThrow(/fetch failed|ECONN|closed|other side/i);
    expect(() => apiServer.pid()).toThrow('kube-apiserver is stopped');
    await apiServer.start();

    expect((await api.get<NodeObject>('/api/v1/nodes/before')).metadata.name).toBe('before');
    await api.create('/api/v1/nodes', node('after'));
    await eventually(() => seen.has('after'));
    stop.abort();
    await watching;
  });

  it('can be made to hang without losing its connections', async () => {
    const { api, apiServer } = controlPlane;
    apiServer.pause();
    const ask = async (): Promise<unknown> =>
      api
        .request('GET', '/api/v1/nodes', undefined, { timeoutMs: 300 })
        .catch((error: unknown) => error);
    // What it had read by then it may still answer.
    await eventually(async () => {
      expect(await ask()).toMatchObject({ name: 'TimeoutError' });
      return true;
    }).finally(() => apiServer.resume());
    expect((await api.request('GET', '/api/v1/nodes')).status).toBe(200);
  });

  it('answers a request that fails with its status, and throws only where success is expected', async () => {
    const { api } = controlPlane;
    const path = '/api/v1/namespaces/default/pods/absent';
    expect(await api.request('GET', path)).toMatchObject({
      status: 404,
      body: { kind: 'Status', reason: 'NotFound' },
    });
    expect(await api.find(path)).toBeUndefined();
    await expect(api.get(path)).rejects.toMatchObject({ status: 404 });
    const pod = await createPod(api, { name: 'unbound' });
    expect(pod.status?.phase).toBe('Pending');
    await api.delete('/api/v1/namespaces/default/pods/unbound', { gracePeriodSeconds: 0 });
    expect(await api.list<PodObject>('/api/v1/namespaces/default/pods')).toEqual([]);
  });
});

describe.skipIf(needs)('a control plane that has ended', { meta: { needs } }, () => {
  it('leaves neither processes nor files behind', async () => {
    const { folder, etcd, apiServer, stop } = await startControlPlane();
    const pids = [etcd.pid(), apiServer.pid()];
    expect(await Promise.all(pids.map(isRunning))).toEqual([true, true]);
    await stop();
    expect(await Promise.all(pids.map(isRunning))).toEqual([false, false]);
    await expect(access(folder)).rejects.toThrow('ENOENT');
  });

  it.each(['SIGKILL', 'SIGTERM'] as const)(
    'leaves nothing behind if whoever started it ends by %s',
    async (signal) => {
      const runner = spawn(process.execPath, [join(import.meta.dirname, 'fixtures/runner.ts')], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [line] = (await once(runner.stdout, 'data')) as [Buffer];
      const { folder, pids } = JSON.parse(line.toString()) as { folder: string; pids: number[] };
      expect(await Promise.all(pids.map(isRunning))).toEqual([true, true, true]);
      runner.kill(signal);
      await eventually(async () => {
        expect(await Promise.all(pids.map(isRunning))).toEqual([false, false, false]);
        await expect(access(folder)).rejects.toThrow('ENOENT');
        return true;
      });
    },
  );
});

/** A zombie has ended, too: where PID 1 does not reap, it stays. */
async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (stat !== undefined) return stat.charAt(stat.lastIndexOf(')') + 2) !== 'Z';
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
