import { describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { untilSettled } from '../harness/marks.ts';
import { terminateHook } from '../harness/messages.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createOwner, createPods, untilRunning } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const attachments = '/apis/storage.k8s.io/v1/volumeattachments';

describe.skipIf(needs)('volumes of a drained node', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  /** A node with a StatefulSet's pod and a DaemonSet's, a volume of each attached, and a hook. */
  async function arrange(name: string, env: Readonly<Record<string, string>> = {}) {
    const { api, kubelet, autoScaling } = world;
    const instance = instanceId();
    await kubelet.addNode({ name, instanceId: instance });
    for (const role of ['db', 'agent']) {
      const claim = `${name}-${role}`;
      await api.create('/api/v1/namespaces/default/persistentvolumeclaims', {
        metadata: { name: claim },
        spec: {
          accessModes: ['ReadWriteOnce'],
          resources: { requests: { storage: '1Gi' } },
          volumeName: `pv-${claim}`,
        },
      });
      await api.create(attachments, {
        metadata: { name: `csi-${claim}` },
        spec: {
          attacher: 'ebs.csi.aws.com',
          nodeName: name,
          source: { persistentVolumeName: `pv-${claim}` },
        },
      });
    }
    const volumesOf = (role: string) => [
      { name: 'data', persistentVolumeClaim: { claimName: `${name}-${role}` } },
    ];
    const behaviour = { exitsAfterSeconds: 0.3 };
    const pods = await createPods(api, [
      {
        name: `${name}-db-0`,
        node: name,
        owner: await createOwner(api, 'StatefulSet', { name: `${name}-db` }),
        volumes: volumesOf('db'),
        behaviour,
      },
      {
        name: `${name}-agent`,
        node: name,
        owner: await createOwner(api, 'DaemonSet', { name: `${name}-agent` }),
        volumes: volumesOf('agent'),
      },
    ]);
    await untilRunning(kubelet, pods);
    const running = await runController(world, env);
    autoScaling.addHook({ group: name, hook: 'drain', heartbeatTimeoutSeconds: 300 });
    const hook = autoScaling.beginAction({ group: name, hook: 'drain', instanceId: instance });
    await running.queue.send(terminateHook({ ...hook }));
    return { ...running, hook };
  }

  it('are waited for before the hook is completed, but not those of a DaemonSet', async () => {
    const { api } = world;
    const { controller, hook } = await arrange('attached');

    const waiting = await controller.waitForLog('waiting for volumes');
    const completedBefore = hook.completedAt;
    await api.delete(`${attachments}/csi-attached-db`);
    await untilSettled(api, 'attached');

    expect(waiting.fields?.['volumes']).toEqual(['pv-attached-db']);
    expect(completedBefore).toBeUndefined();
    expect(hook.result).toBe('CONTINUE');
    expect(controller.logged('volumes still attached')).toEqual([]);
  });

  it('are not waited for with WAIT_FOR_VOLUMES=false', async () => {
    const { controller, hook } = await arrange('unwaited', { WAIT_FOR_VOLUMES: 'false' });

    await untilSettled(world.api, 'unwaited');

    expect(hook.result).toBe('CONTINUE');
    expect(controller.logged('waiting for volumes')).toEqual([]);
  });

  it('are not waited for where the right to see them is missing, which is told once', async () => {
    const { api, cluster } = world;
    const { controllerRules, controllerAccess } = leastRights;
    const rules = controllerRules.filter(({ apiGroups }) => !apiGroups?.includes('storage.k8s.io'));
    const { kubeconfig } = await cluster.kubeconfigFor('without-volumes', rules, {
      namespace: 'default',
      ...controllerAccess,
    });
    const { controller, hook } = await arrange('unseen', { KUBECONFIG: kubeconfig });

    await eventually(() => hook.completedAt !== undefined, { timeoutMs: 60_000 });
    await untilSettled(api, 'unseen');

    expect(controller.logged('volumes not waited for')).toHaveLength(1);
    expect(controller.logged('volumes not listed')).toEqual([]);
  });
});
