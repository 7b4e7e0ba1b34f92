import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import type { PodKey, PodWatchListener } from '../../../src/drain/pods.ts';
import { skipReason } from '../../control-plane/binaries.ts';
import {
  componentsFor,
  startControlPlane,
  type ControlPlane,
} from '../../control-plane/control-plane.ts';
import type { PodObject } from '../../control-plane/objects.ts';
import { eventually } from '../../harness/eventually.ts';
import {
  budgetStatus,
  createBudget,
  createNamespace,
  createPod,
  createPods,
} from '../../harness/workloads.ts';
import { startKubelet, type Kubelet } from '../../stand-ins/kubelet.ts';
import { startCuttingProxy } from './cutting-proxy.ts';
import { openEdge, RIGHTS, variantOf, type Edge } from './edge.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const options = { controllerManager: true } as const;
const reason = skipReason(componentsFor(options));
const { signal } = new AbortController();
const NODE = 'node-a';
const LIMIT_MS = 15_000;

describe.skipIf(reason)(`pods of a real API server ${reason ?? ''}`, () => {
  let plane: ControlPlane;
  let kubelet: Kubelet;
  let kubeconfig: string;
  let edge: Edge;

  beforeAll(async () => {
    plane = await startControlPlane(options);
    kubelet = await startKubelet({ api: plane.api });
    await kubelet.addNodes([{ name: NODE }, { name: 'node-b' }]);
    ({ kubeconfig } = await plane.kubeconfigFor('edge', RIGHTS));
    edge = openEdge(kubeconfig);
  });

  afterAll(async () => {
    await edge.close();
    await kubelet.stop();
    await plane.stop();
  });

  function keyOf({ metadata }: PodObject): PodKey {
    return { namespace: metadata.namespace ?? '', name: metadata.name, uid: metadata.uid ?? '' };
  }

  async function running(
    name: string,
    more: Partial<Parameters<typeof createPod>[1]> = {},
  ): Promise<PodKey> {
    const pod = await createPod(plane.api, { name, node: NODE, graceSeconds: 3600, ...more });
    await eventually(
      () => kubelet.records({ uid: pod.metadata.uid ?? '' })[0]?.readyAt !== undefined,
    );
    return keyOf(pod);
  }

  async function deletionOf({ namespace, name }: PodKey) {
    return (await edge.pods.read(namespace, name, signal))?.deletion;
  }

  describe('an eviction', () => {
    test('is accepted, and again with a shorter grace', async () => {
      const pod = await running('evicted');
      expect(await edge.pods.evict(pod, 600, LIMIT_MS, signal)).toEqual({ outcome: 'accepted' });
      expect(await deletionOf(pod)).toEqual({ graceSeconds: 600, endsAt: expect.any(Number) });
      expect(await edge.pods.evict(pod, 300, LIMIT_MS, signal)).toEqual({ outcome: 'accepted' });
      expect(await deletionOf(pod)).toMatchObject({ graceSeconds: 300 });
    });

    test('with another uid hits nothing', async () => {
      const pod = await running('somebody-else');
      expect(await edge.pods.evict({ ...pod, uid: 'other' }, 1, LIMIT_MS, signal)).toMatchObject({
        outcome: 'conflict',
        message: expect.stringMatching(/precondition/i),
      });
      expect(await deletionOf(pod)).toBeUndefined();
    });

    test('of no pod: gone, also where there is no namespace', async () => {
      const absent = { namespace: 'default', name: 'absent', uid: 'x' };
      expect(await edge.pods.evict(absent, 1, LIMIT_MS, signal)).toEqual({ outcome: 'gone' });
      const nowhere = { ...absent, namespace: 'nowhere' };
      expect(await edge.pods.evict(nowhere, 1, LIMIT_MS, signal)).toEqual({ outcome: 'gone' });
    });

    test('is refused by a budget, which is named', async () => {
      const pod = await running('guarded', { labels: { app: 'guarded' } });
      await createBudget(plane.api, {
        name: 'guard',
        matchLabels: { app: 'guarded' },
        minAvailable: 1,
      });
      await eventually(async () => (await budgetStatus(plane.api, 'guard'))?.currentHealthy === 1);
      expect(await edge.pods.evict(pod, 1, LIMIT_MS, signal)).toMatchObject({
        outcome: 'budget',
        budget: 'guard',
        retryAfterMs: undefined,
        message: expect.stringContaining('needs 1 healthy pods and has 1 currently'),
      });
    });

    test('is refused for good by two budgets', async () => {
      const pod = await running('twice', { labels: { app: 'twice' } });
      for (const name of ['one', 'two']) {
        await createBudget(plane.api, { name, matchLabels: { app: 'twice' }, minAvailable: 0 });
        await eventually(async () => budgetStatus(plane.api, name));
      }
      expect(await edge.pods.evict(pod, 1, LIMIT_MS, signal)).toMatchObject({
        outcome: 'budget',
        budget: undefined,
        message: expect.stringContaining('more than one PodDisruptionBudget'),
      });
    });

    test('is refused by a budget that nobody has looked at yet, with a hint', async () => {
      const pod = await running('unprocessed', { labels: { app: 'unprocessed' } });
      plane.controllerManager?.pause();
      try {
        await createBudget(plane.api, {
          name: 'new',
          matchLabels: { app: 'unprocessed' },
          minAvailable: 0,
        });
        expect(await edge.pods.evict(pod, 1, LIMIT_MS, signal)).toMatchObject({
          outcome: 'budget',
          budget: 'new',
          retryAfterMs: 10_000,
        });
      } finally {
        plane.controllerManager?.resume();
      }
    });

    test('is refused while no webhook answers that must be asked', async () => {
      const pod = await running('hooked');
      const path = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';
      await plane.api.create(path, {
        metadata: { name: 'away' },
        webhooks: [
          {
            name: 'away.example.com',
            clientConfig: { url: 'https://127.0.0.1:1/deny' },
            rules: [
              {
                apiGroups: [''],
                apiVersions: ['v1'],
                operations: ['CREATE'],
                resources: ['pods/eviction'],
              },
            ],
            sideEffects: 'None',
            admissionReviewVersions: ['v1'],
            failurePolicy: 'Fail',
          },
        ],
      });
      await eventually(async () => {
        const answer = await edge.pods.evict(pod, 3600, LIMIT_MS, signal);
        expect(answer).toMatchObject({ outcome: 'refused', reason: 'webhook' });
        return true;
      });
      await plane.api.delete(`${path}/away`);
      await eventually(async () => {
        const answer = await edge.pods.evict(pod, 3600, LIMIT_MS, signal);
        return answer.outcome === 'accepted';
      });
    });

    test('is refused where the namespace is going, and a deletion is not', async () => {
      await createNamespace(plane.api, 'going');
      const pod = await running('left-behind', { namespace: 'going' });
      plane.controllerManager?.pause();
      try {
        await plane.api.delete('/api/v1/namespaces/going');
        await eventually(async () => {
          const answer = await edge.pods.evict(pod, 1, LIMIT_MS, signal);
          expect(answer).toMatchObject({ outcome: 'refused', reason: 'namespace-terminating' });
          return true;
        });
        expect(await edge.pods.delete(pod, 600, LIMIT_MS, signal)).toEqual({ outcome: 'accepted' });
      } finally {
        plane.controllerManager?.resume();
      }
    });

    test('without the right is refused', async () => {
      const { kubeconfig: reader } = await plane.kubeconfigFor('reader', [
        { apiGroups: [''], resources: ['pods'], verbs: ['get'] },
      ]);
      const other = openEdge(reader);
      const pod = await running('protected');
      expect(await other.pods.evict(pod, 1, LIMIT_MS, signal)).toMatchObject({
        outcome: 'refused',
        reason: 'forbidden',
      });
      await other.close();
    });

    test('without an answer in time says so', async () => {
      const pod = await running('slow');
      await edge.pods.read('default', 'slow', signal);
      // A connection is free again one turn of the event loop after its answer.
      await setImmediate();
      plane.apiServer.pause();
      try {
        await eventually(async () => {
          const answer = await edge.pods.evict(pod, 3600, 700, signal);
          return answer.outcome === 'unreachable' && answer.timedOut;
        });
        const stop = new AbortController();
        const evicted = edge.pods.evict(pod, 3600, LIMIT_MS, stop.signal);
        stop.abort(new Error('stopping'));
        await expect(evicted).rejects.toThrow('stopping');
      } finally {
        plane.apiServer.resume();
      }
    });
  });

  describe('a deletion', () => {
    test('carries grace and uid, past a budget', async () => {
      const pod = await running('doomed', { labels: { app: 'doomed' } });
      await createBudget(plane.api, {
        name: 'doomed',
        matchLabels: { app: 'doomed' },
        minAvailable: 1,
      });
      await eventually(async () => (await budgetStatus(plane.api, 'doomed'))?.currentHealthy === 1);
      expect(await edge.pods.delete({ ...pod, uid: 'other' }, 5, LIMIT_MS, signal)).toMatchObject({
        outcome: 'conflict',
      });
      expect(await edge.pods.delete(pod, 500, LIMIT_MS, signal)).toEqual({ outcome: 'accepted' });
      expect(await deletionOf(pod)).toMatchObject({ graceSeconds: 500 });
      expect(await edge.pods.delete(pod, 1, LIMIT_MS, signal)).toEqual({ outcome: 'accepted' });
      await eventually(
        async () => (await edge.pods.read('default', 'doomed', signal)) === undefined,
      );
      expect(await edge.pods.delete(pod, 1, LIMIT_MS, signal)).toEqual({ outcome: 'gone' });
    });
  });

  describe('the pods of a node', () => {
    test('are all of them and only those, with what a drain needs', async () => {
      await createNamespace(plane.api, 'others');
      await createPods(
        plane.api,
        Array.from({ length: 30 }, (_, number) => ({
          name: `listed-${number}`,
          node: 'node-b',
          namespace: number % 2 === 0 ? 'default' : 'others',
        })),
      );
      await running('elsewhere');
      const { pods, resourceVersion } = await edge.pods.onNode('node-b', signal);
      expect(pods.map(({ name }) => name).toSorted()).toEqual(
        Array.from({ length: 30 }, (_, number) => `listed-${number}`).toSorted(),
      );
      expect(pods[0]).toMatchObject({ graceSeconds: 30, mirror: false, finished: false });
      expect(Number(resourceVersion)).toBeGreaterThan(0);
    });

    test('are none of an unknown node', async () => {
      expect((await edge.pods.onNode('unknown', signal)).pods).toEqual([]);
    });
  });

  describe('the pod watch', () => {
    const stops: AbortController[] = [];

    afterEach(() => {
      for (const stop of stops.splice(0)) stop.abort();
    });

    function watch(from: Edge, resourceVersion: string) {
      const heard = {
        terminating: new Map<string, number[]>(),
        departed: [] as string[],
        snapshots: [] as ReadonlySet<string>[],
      };
      const listener: PodWatchListener = {
        onTerminating: ({ uid }, { graceSeconds }) =>
          void heard.terminating.set(uid, [...(heard.terminating.get(uid) ?? []), graceSeconds]),
        onDeparted: ({ uid }) => void heard.departed.push(uid),
        onSnapshot: (uids) => void heard.snapshots.push(uids),
      };
      const stop = new AbortController();
      stops.push(stop);
      return { ...heard, stop, done: from.pods.watch(resourceVersion, listener, stop.signal) };
    }

    test('tells of deletions from the given version on, shortened graces, ends and finished pods', async () => {
      const early = await running('before-watch');
      const leaves = await running('leaves');
      const { resourceVersion } = await edge.pods.onNode(NODE, signal);
      // Of this one all comes after that version.
      const completes = await running('completes', { behaviour: { completesAfterSeconds: 0.2 } });
      await edge.pods.evict(early, 3000, LIMIT_MS, signal);
      const heard = watch(edge, resourceVersion);
      await edge.pods.evict(leaves, 400, LIMIT_MS, signal);
      await edge.pods.delete(leaves, 2, LIMIT_MS, signal);
      await eventually(
        () => heard.departed.includes(leaves.uid) && heard.departed.includes(completes.uid),
      );
      expect(heard.terminating.get(early.uid)).toEqual([3000]);
      expect(heard.terminating.get(leaves.uid)?.slice(0, 2)).toEqual([400, 2]);
      expect(heard.departed.filter((uid) => uid === leaves.uid)).toHaveLength(1);
      expect(heard.departed).not.toContain(early.uid);
      expect(heard.snapshots).toEqual([]);
      heard.stop.abort();
      await heard.done;
    });

    test('with its connections cut all the time tells each departure once', async () => {
      const proxy = await startCuttingProxy(plane.url);
      const shaky = openEdge(await variantOf(kubeconfig, 'shaky', { server: proxy.url }));
      const { resourceVersion } = await edge.pods.onNode(NODE, signal);
      const heard = watch(shaky, resourceVersion);
      const cutting = setInterval(() => proxy.cut(), 150);
      const pods = await createPods(
        plane.api,
        Array.from({ length: 60 }, (_, number) => ({ name: `shaky-${number}`, node: NODE })),
      );
      for (const pod of pods) await edge.pods.delete(keyOf(pod), 1, LIMIT_MS, signal);
      const uids = pods.map((pod) => keyOf(pod).uid);
      await eventually(() => uids.every((uid) => heard.departed.includes(uid)), {
        timeoutMs: 60_000,
      });
      clearInterval(cutting);
      expect(heard.departed.filter((uid) => uids.includes(uid))).toHaveLength(60);
      heard.stop.abort();
      await heard.done;
      await shaky.close();
      await proxy.stop();
    });

    test('that starts too far back tells what there is', async () => {
      const stays = await running('stays');
      const going = await running('is-going');
      await edge.pods.evict(going, 3000, LIMIT_MS, signal);
      // A new process of the API server remembers nothing of before.
      await plane.apiServer.stop();
      await plane.apiServer.start();
      const heard = watch(edge, '1');
      await eventually(() => heard.snapshots.length === 1);
      expect(heard.snapshots[0]).toContain(stays.uid);
      expect(heard.snapshots[0]).toContain(going.uid);
      expect(heard.terminating.get(going.uid)).toEqual([3000]);
      await edge.pods.delete(stays, 1, LIMIT_MS, signal);
      await eventually(() => heard.departed.includes(stays.uid));
    });

    test('survives an API server that goes and comes', async () => {
      const pod = await running('survivor');
      const { resourceVersion } = await edge.pods.onNode(NODE, signal);
      const heard = watch(edge, resourceVersion);
      await plane.apiServer.stop();
      await plane.apiServer.start();
      await eventually(async () => {
        const answer = await edge.pods.delete(pod, 1, LIMIT_MS, signal);
        return answer.outcome === 'accepted' || answer.outcome === 'gone';
      });
      await eventually(
        () =>
          heard.departed.includes(pod.uid) ||
          heard.snapshots.some((uids) => uids.size > 0 && !uids.has(pod.uid)),
      );
      expect(heard.departed.filter((uid) => uid === pod.uid).length).toBeLessThanOrEqual(1);
    });
  });

  describe('volumes', () => {
    test('are told by node, and by claim', async () => {
      const attach = async (name: string, nodeName: string, volume: string) =>
        plane.api.create('/apis/storage.k8s.io/v1/volumeattachments', {
          metadata: { name },
          spec: { attacher: 'ebs.csi.aws.com', nodeName, source: { persistentVolumeName: volume } },
        });
      await attach('a-1', NODE, 'pv-1');
      await attach('a-2', NODE, 'pv-2');
      await attach('b-1', 'node-b', 'pv-3');
      const attached = await edge.volumes.attachedTo(NODE, signal);
      expect(attached).toHaveLength(2);
      expect(attached).toEqual(expect.arrayContaining(['pv-1', 'pv-2']));
      expect(await edge.volumes.attachedTo('node-b', signal)).toEqual(['pv-3']);
      expect(await edge.volumes.attachedTo('unknown', signal)).toEqual([]);
      await plane.api.delete('/apis/storage.k8s.io/v1/volumeattachments/a-1');
      await eventually(async () => {
        expect(await edge.volumes.attachedTo(NODE, signal)).toEqual(['pv-2']);
        return true;
      });

      const claim = (name: string, volumeName: string | undefined) =>
        plane.api.create('/api/v1/namespaces/default/persistentvolumeclaims', {
          metadata: { name },
          spec: {
            accessModes: ['ReadWriteOnce'],
            resources: { requests: { storage: '1Gi' } },
            storageClassName: 'none',
            ...(volumeName !== undefined && { volumeName }),
          },
        });
      await claim('bound', 'pv-1');
      await claim('unbound', undefined);
      expect(await edge.volumes.volumeOf('default', 'bound', signal)).toBe('pv-1');
      expect(await edge.volumes.volumeOf('default', 'unbound', signal)).toBeUndefined();
      expect(await edge.volumes.volumeOf('default', 'absent', signal)).toBeUndefined();
    });
  });
});

describe.skipIf(reason)(`an overloaded API server ${reason ?? ''}`, () => {
  test('answers in plain text, which means overload and no budget', async () => {
    const plane = await startControlPlane({
      apiServerFlags: [
        '--enable-priority-and-fairness=false',
        '--max-requests-inflight=1',
        '--max-mutating-requests-inflight=1',
      ],
    });
    const { kubeconfig } = await plane.kubeconfigFor('edge', RIGHTS);
    const edge = openEdge(kubeconfig);
    const absent = { namespace: 'default', name: 'absent', uid: 'x' };
    const answers = new Set<string>();
    await eventually(async () => {
      const burst = Array.from({ length: 60 }, () => edge.pods.evict(absent, 1, LIMIT_MS, signal));
      for (const answer of await Promise.all(burst)) answers.add(JSON.stringify(answer));
      return answers.size > 1;
    });
    expect([...answers].toSorted()).toEqual([
      '{"outcome":"gone"}',
      '{"outcome":"overloaded","retryAfterMs":1000}',
    ]);
    await edge.close();
    await plane.stop();
  });
});
