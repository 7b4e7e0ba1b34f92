import { setTimeout as delay } from 'node:timers/promises';
import type { LooseObject } from './answer.ts';
import type { ContractCase } from './case.ts';

const bound = { nodeName: 'no-such-node' };

/** Whole seconds, as deletionTimestamp is cut. */
function secondsOf(time: string | undefined): number {
  return Date.parse(time ?? '') / 1000;
}

export const podCases: readonly ContractCase[] = [
  {
    name: 'A new pod is Pending, with thirty seconds of grace and tolerations of its own',
    async run({ expect, makePod }) {
      const pod = await makePod('pod');
      expect(pod).toMatchObject({
        kind: 'Pod',
        apiVersion: 'v1',
        spec: { terminationGracePeriodSeconds: 30, priority: 0, restartPolicy: 'Always' },
        status: { phase: 'Pending' },
      });
      expect(pod.spec.tolerations?.map(({ key }) => key).toSorted()).toEqual([
        'node.kubernetes.io/not-ready',
        'node.kubernetes.io/unreachable',
      ]);
    },
  },
  {
    name: 'The two critical priority classes have their values',
    async run({ expect, makePod }) {
      const cluster = await makePod('a', {
        spec: { priorityClassName: 'system-cluster-critical' },
      });
      const node = await makePod('b', { spec: { priorityClassName: 'system-node-critical' } });
      expect(cluster.spec).toHaveProperty('priority', 2_000_000_000);
      expect(node.spec).toHaveProperty('priority', 2_000_001_000);
    },
  },
  {
    name: 'A pod whose name is taken is 409, one without containers 422',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod');
      const spec = { containers: [{ name: 'main', image: 'none' }] };
      const taken = await send('POST', paths.pods, { metadata: { name: 'pod' }, spec });
      expect(taken.status).toBe(409);
      expect(taken.failure.reason).toBe('AlreadyExists');
      const empty = await send('POST', paths.pods, { metadata: { name: 'empty' }, spec: {} });
      expect(empty.status).toBe(422);
      expect(empty.failure.details?.causes?.[0]?.field).toBe('spec.containers');
      const misnamed = await send('POST', paths.pods, { metadata: { name: 'Mis_named' }, spec });
      expect(misnamed.status).toBe(422);
      expect(misnamed.failure.details?.causes?.[0]?.field).toBe('metadata.name');
    },
  },
  {
    name: 'A pod needs its namespace: absent is 404, another than in the URL 400',
    async run({ expect, namespace, paths, send }) {
      const spec = { containers: [{ name: 'main', image: 'none' }] };
      const nowhere = await send('POST', `/api/v1/namespaces/${namespace}-absent/pods`, {
        metadata: { name: 'pod' },
        spec,
      });
      expect(nowhere.status).toBe(404);
      expect(nowhere.failure.details).toMatchObject({
        name: `${namespace}-absent`,
        kind: 'namespaces',
      });
      const another = { metadata: { name: 'pod', namespace: 'default' }, spec };
      expect((await send('POST', paths.pods, another)).status).toBe(400);
    },
  },
  {
    name: 'A body of another kind, or no JSON, is 400; a resourceVersion at creation is 500',
    async run({ expect, paths, send }) {
      const spec = { containers: [{ name: 'main', image: 'none' }] };
      const asNode = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'pod' }, spec };
      expect((await send('POST', paths.pods, asNode)).status).toBe(400);
      const headers = { 'content-type': 'application/json' };
      expect((await send('POST', paths.pods, undefined, { headers })).status).toBe(400);
      const versioned = { metadata: { name: 'pod', resourceVersion: '1' }, spec };
      expect((await send('POST', paths.pods, versioned)).status).toBe(500);
    },
  },
  {
    name: 'A name is generated where only its beginning is given',
    async run({ expect, paths, send }) {
      const spec = { schedulerName: 'nobody', containers: [{ name: 'main', image: 'none' }] };
      const wanted = { metadata: { generateName: 'pod-' }, spec };
      const [first, second] = await Promise.all([
        send('POST', paths.pods, wanted),
        send('POST', paths.pods, wanted),
      ]);
      expect(first.object.metadata.name).toMatch(/^pod-[a-z0-9]{5}$/u);
      expect(second.object.metadata.name).not.toBe(first.object.metadata.name);
    },
  },
  {
    name: 'A bound pod stays until the end of its grace, which is its deletionTimestamp',
    async run({ api, expect, makePod, paths, send }) {
      await makePod('pod', {
        spec: { ...bound, terminationGracePeriodSeconds: 40 },
        phase: 'Running',
      });
      const before = Math.floor(Date.now() / 1000);
      const answer = await send('DELETE', `${paths.pods}/pod`);
      const after = Math.floor(Date.now() / 1000);
      expect(answer.status).toBe(200);
      const { metadata } = answer.object;
      expect(answer.object).toMatchObject({ kind: 'Pod' });
      expect(metadata.deletionGracePeriodSeconds).toBe(40);
      expect(metadata.deletionTimestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/u);
      expect(secondsOf(metadata.deletionTimestamp)).toBeGreaterThanOrEqual(before + 40);
      expect(secondsOf(metadata.deletionTimestamp)).toBeLessThanOrEqual(after + 40);
      const now = await api.get<LooseObject>(`${paths.pods}/pod`);
      expect(now.metadata.deletionTimestamp).toBe(metadata.deletionTimestamp);
      expect(now.status?.phase).toBe('Running');
    },
  },
  {
    name: 'A bound pod that is still Pending has its grace as well',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound });
      const answer = await send('DELETE', `${paths.pods}/pod`);
      expect(answer.object.metadata.deletionGracePeriodSeconds).toBe(30);
      expect((await send('GET', `${paths.pods}/pod`)).status).toBe(200);
    },
  },
  {
    name: 'A pod without a node, or one that is finished, goes at once',
    async run({ expect, makePod, paths, send }) {
      await makePod('unbound');
      await makePod('succeeded', { spec: bound, phase: 'Succeeded' });
      await makePod('failed', { spec: bound, phase: 'Failed' });
      for (const name of ['unbound', 'succeeded', 'failed']) {
        const answer = await send('DELETE', `${paths.pods}/${name}`, { gracePeriodSeconds: 60 });
        expect(answer.status).toBe(200);
        expect(answer.object.metadata.deletionGracePeriodSeconds).toBe(0);
        expect((await send('GET', `${paths.pods}/${name}`)).status).toBe(404);
      }
    },
  },
  {
    name: 'Grace 0 removes the object at once, in the body or in the query',
    async run({ expect, makePod, paths, send }) {
      await makePod('body', { spec: bound, phase: 'Running' });
      await makePod('query', { spec: bound, phase: 'Running' });
      const body = await send('DELETE', `${paths.pods}/body`, { gracePeriodSeconds: 0 });
      const query = await send('DELETE', `${paths.pods}/query?gracePeriodSeconds=0`);
      for (const answer of [body, query]) {
        expect(answer.status).toBe(200);
        expect(answer.object.kind).toBe('Pod');
        expect(answer.object.metadata.deletionGracePeriodSeconds).toBe(0);
      }
      expect((await send('GET', `${paths.pods}/body`)).status).toBe(404);
      expect((await send('GET', `${paths.pods}/query`)).status).toBe(404);
    },
  },
  {
    name: 'A shorter grace counts from the first deletion, to the second',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound, phase: 'Running' });
      const first = await send('DELETE', `${paths.pods}/pod`, { gracePeriodSeconds: 60 });
      const end = secondsOf(first.object.metadata.deletionTimestamp);
      const second = await send('DELETE', `${paths.pods}/pod`, { gracePeriodSeconds: 25 });
      expect(second.status).toBe(200);
      expect(second.object.metadata.deletionGracePeriodSeconds).toBe(25);
      expect(secondsOf(second.object.metadata.deletionTimestamp)).toBe(end - 35);
      const third = await send('DELETE', `${paths.pods}/pod`, { gracePeriodSeconds: 20 });
      expect(secondsOf(third.object.metadata.deletionTimestamp)).toBe(end - 40);
    },
  },
  {
    name: 'A longer grace, or none, leaves a deletion as it is',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound, phase: 'Running' });
      const first = await send('DELETE', `${paths.pods}/pod`, { gracePeriodSeconds: 20 });
      const { deletionTimestamp, resourceVersion } = first.object.metadata;
      for (const options of [{ gracePeriodSeconds: 60 }, { gracePeriodSeconds: 20 }, {}]) {
        const again = await send('DELETE', `${paths.pods}/pod`, options);
        expect(again.status).toBe(200);
        expect(again.object.metadata).toMatchObject({ deletionTimestamp, resourceVersion });
        expect(again.object.metadata.deletionGracePeriodSeconds).toBe(20);
      }
    },
  },
  {
    name: 'A shorter grace that would be over already becomes one second, from now',
    mode: 'slow',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound, phase: 'Running' });
      const first = await send('DELETE', `${paths.pods}/pod`, { gracePeriodSeconds: 60 });
      const begun = secondsOf(first.object.metadata.deletionTimestamp) - 60;
      while (Date.now() / 1000 < begun + 3) await delay(50);
      const before = Math.floor(Date.now() / 1000);
      const second = await send('DELETE', `${paths.pods}/pod`, { gracePeriodSeconds: 1 });
      expect(second.object.metadata.deletionGracePeriodSeconds).toBe(1);
      const end = secondsOf(second.object.metadata.deletionTimestamp);
      expect(end).toBeGreaterThanOrEqual(before);
      expect(end).toBeLessThanOrEqual(Math.floor(Date.now() / 1000));
      expect((await send('GET', `${paths.pods}/pod`)).status).toBe(200);
    },
  },
  {
    name: 'A negative grace is one second',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound, phase: 'Running' });
      const answer = await send('DELETE', `${paths.pods}/pod`, { gracePeriodSeconds: -5 });
      expect(answer.status).toBe(200);
      expect(answer.object.metadata.deletionGracePeriodSeconds).toBe(1);
    },
  },
  {
    name: 'A kubelet ends a terminating pod with grace 0 and its uid',
    async run({ api, expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound, phase: 'Running' });
      await send('DELETE', `${paths.pods}/pod`);
      const { metadata } = await api.get<LooseObject>(`${paths.pods}/pod`);
      const answer = await send('DELETE', `${paths.pods}/pod`, {
        gracePeriodSeconds: 0,
        preconditions: { uid: metadata.uid },
      });
      expect(answer.status).toBe(200);
      expect((await send('GET', `${paths.pods}/pod`)).status).toBe(404);
    },
  },
  {
    name: 'A pod is not deleted under another uid or version',
    async run({ expect, makePod, paths, send }) {
      const pod = await makePod('pod', { spec: bound, phase: 'Running' });
      const otherUid = await send('DELETE', `${paths.pods}/pod`, {
        gracePeriodSeconds: 5,
        preconditions: { uid: 'another' },
      });
      expect(otherUid.status).toBe(409);
      expect(otherUid.failure).toMatchObject({
        reason: 'Conflict',
        details: { name: 'pod', kind: 'Pod' },
      });
      expect(otherUid.failure.message).toContain(
        `the UID in the precondition (another) does not match the UID in record (${pod.metadata.uid})`,
      );
      const otherVersion = await send('DELETE', `${paths.pods}/pod`, {
        preconditions: { resourceVersion: '1' },
      });
      expect(otherVersion.status).toBe(409);
      const now = await send('GET', `${paths.pods}/pod`);
      expect(now.object.metadata).not.toHaveProperty('deletionTimestamp');
      expect(now.object.metadata.resourceVersion).toBe(pod.metadata.resourceVersion);
    },
  },
  {
    name: 'A finalizer keeps a deleted pod until it is taken away',
    async run({ expect, makePod, patch, paths, send }) {
      await makePod('pod', { finalizers: ['example.com/keep'] });
      const answer = await send('DELETE', `${paths.pods}/pod`);
      expect(answer.status).toBe(200);
      expect(answer.object.metadata).toHaveProperty('deletionTimestamp');
      expect((await send('GET', `${paths.pods}/pod`)).status).toBe(200);
      const released = await patch(`${paths.pods}/pod`, { metadata: { finalizers: null } });
      expect(released.status).toBe(200);
      expect((await send('GET', `${paths.pods}/pod`)).status).toBe(404);
    },
  },
  {
    name: 'A pod of the same name is another: its uid differs',
    async run({ expect, makePod, paths, send }) {
      const first = await makePod('pod');
      await send('DELETE', `${paths.pods}/pod`);
      const second = await makePod('pod');
      expect(second.metadata.uid).not.toBe(first.metadata.uid);
    },
  },
  {
    name: 'A dry run of a deletion changes nothing',
    async run({ expect, makePod, paths, send }) {
      const pod = await makePod('pod', { spec: bound, phase: 'Running' });
      const answer = await send('DELETE', `${paths.pods}/pod`, { dryRun: ['All'] });
      expect(answer.status).toBe(200);
      const now = await send('GET', `${paths.pods}/pod`);
      expect(now.object.metadata.resourceVersion).toBe(pod.metadata.resourceVersion);
    },
  },
  {
    name: 'A collection is deleted by labels',
    async run({ api, expect, makePod, paths, send }) {
      await makePod('a', { labels: { app: 'one' } });
      await makePod('b', { labels: { app: 'one' } });
      await makePod('c', { labels: { app: 'two' } });
      const answer = await send('DELETE', `${paths.pods}?labelSelector=app%3Done`);
      expect(answer.status).toBe(200);
      const left = await api.list(paths.pods);
      expect(left.map(({ metadata }) => metadata.name)).toEqual(['c']);
    },
  },
  {
    name: 'A pod is bound once',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod');
      const binding = (target: string) => ({
        apiVersion: 'v1',
        kind: 'Binding',
        metadata: { name: 'pod' },
        target: { kind: 'Node', name: target },
      });
      const first = await send('POST', `${paths.pods}/pod/binding`, binding('one'));
      expect(first.status).toBe(201);
      expect(first.failure).toMatchObject({ kind: 'Status', status: 'Success' });
      const pod = await send('GET', `${paths.pods}/pod`);
      expect(pod.object.spec?.nodeName).toBe('one');
      expect(pod.object.status?.conditions).toContainEqual(
        expect.objectContaining({ type: 'PodScheduled', status: 'True' }),
      );
      const second = await send('POST', `${paths.pods}/pod/binding`, binding('two'));
      expect(second.status).toBe(409);
      expect(second.failure.message).toContain('already assigned to node "one"');
      const nobody = await send('POST', `${paths.pods}/absent/binding`, {
        ...binding('one'),
        metadata: { name: 'absent' },
      });
      expect(nobody.status).toBe(404);
    },
  },
  {
    name: "A pod's node cannot be changed by a patch",
    async run({ expect, makePod, patch, paths }) {
      await makePod('pod');
      const answer = await patch(`${paths.pods}/pod`, { spec: { nodeName: 'elsewhere' } });
      expect(answer.status).toBe(422);
      expect(answer.failure.details?.causes?.[0]).toMatchObject({ field: 'spec' });
    },
  },
  {
    name: "A pod's status is written apart, its conditions merged by type",
    async run({ expect, makePod, patch, paths }) {
      await makePod('pod', { spec: bound, phase: 'Running' });
      const conditions = [{ type: 'DisruptionTarget', status: 'True' }];
      const answer = await patch(
        `${paths.pods}/pod/status`,
        { spec: { nodeName: 'elsewhere' }, status: { conditions } },
        'strategic',
      );
      expect(answer.status).toBe(200);
      expect(answer.object.spec?.nodeName).toBe(bound.nodeName);
      expect(answer.object.status).toMatchObject({ phase: 'Running' });
      expect(answer.object.status?.conditions?.map(({ type }) => type).toSorted()).toEqual([
        'DisruptionTarget',
        'Ready',
      ]);
      const viaPod = await patch(`${paths.pods}/pod`, { status: { phase: 'Failed' } });
      expect(viaPod.object.status?.phase).toBe('Running');
    },
  },
  {
    name: 'Labels and annotations of a pod can be patched, and its version moves',
    async run({ expect, makePod, patch, paths }) {
      const pod = await makePod('pod', { labels: { a: 'b' } });
      const answer = await patch(
        `${paths.pods}/pod`,
        { metadata: { labels: { c: 'd' } } },
        'strategic',
      );
      expect(answer.object.metadata.labels).toEqual({ a: 'b', c: 'd' });
      expect(Number(answer.object.metadata.resourceVersion)).toBeGreaterThan(
        Number(pod.metadata.resourceVersion),
      );
    },
  },
];
