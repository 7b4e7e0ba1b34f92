import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { podNamesOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { spotNotice } from '../harness/messages.ts';
import { createPod } from '../harness/workloads.ts';
import { startWorld, worldSkipReason, type Backend, type WorldCluster } from '../harness/world.ts';
import { ApiClient } from './api-client.ts';

describe('a world for scenarios, on the stand-in', () => {
  declareWorld('stand-in');
});

const needs = worldSkipReason({ backend: 'real' });

describe.skipIf(needs)(
  'a world for scenarios, on the real control plane',
  { meta: { needs } },
  () => {
    declareWorld('real');
  },
);

function declareWorld(backend: Backend): void {
  it('has all that a controller looks for, and ends with it', async () => {
    const world = await startWorld({
      backend,
      audit: true,
      queue: { maxReceiveCount: 5 },
      controllerRules: [{ apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list'] }],
    });
    await world.kubelet.addNode({ name: 'node-1', instanceId: 'i-0123456789abcdef0' });
    await createPod(world.api, { name: 'web', node: 'node-1' });
    await eventually(() => world.kubelet.record('web').readyAt);
    expect(await podNamesOn(world.api, 'node-1')).toEqual(['web']);
    await world.queue.send(spotNotice({ instanceId: 'i-0123456789abcdef0' }));
    expect(await world.queue.counts()).toMatchObject({ visible: 1 });

    const controller = await world.startController({
      file: join(import.meta.dirname, '../harness/fixtures/process.ts'),
    });
    const { fields } = await controller.waitForLog('started');
    expect(fields).toMatchObject({ environment: { QUEUE_URL: world.queue.url } });
    expect(world.controllerUserName).toBe(
      'system:serviceaccount:node-termination-controller:controller',
    );
    const api = await clientOf(world.cluster, world.environment['KUBECONFIG'] ?? '');
    expect(await api.list('/api/v1/nodes')).toHaveLength(1);
    expect((await api.request('GET', '/api/v1/pods')).status).toBe(403);
    await api.close();
    await eventually(async () => {
      const entries = await world.cluster.auditEntries({ userName: world.controllerUserName });
      return entries.some(({ verb, resource }) => verb === 'list' && resource === 'nodes');
    });

    await world.stop();
    expect(await controller.exited).toEqual({ code: null, signal: 'SIGKILL' });
    await expect(access(world.cluster.folder)).rejects.toThrow('ENOENT');
  });
}

async function clientOf({ url, ca }: WorldCluster, kubeconfig: string): Promise<ApiClient> {
  const { users } = JSON.parse(await readFile(kubeconfig, 'utf8')) as {
    users: { user: { token: string } }[];
  };
  return new ApiClient({ url, ca, token: users[0]?.user.token ?? '' });
}
