import type { LooseObject } from './answer.ts';
import type { CaseContext, ContractCase } from './case.ts';
import { eviction } from './case.ts';
import { restartOnce } from './restart.ts';
import type { WatchLine } from './watch-reader.ts';

const metadataObject = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
const metadataList = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';
const unfinished = 'status.phase!=Succeeded,status.phase!=Failed';

const query = (parameters: Record<string, string>): string =>
  `?${new URLSearchParams({ watch: '1', ...parameters }).toString()}`;

async function versionNow({ api, paths }: CaseContext): Promise<string> {
  return (await api.get<LooseObject>(paths.pods)).metadata.resourceVersion;
}

function described(lines: readonly WatchLine[]): string[] {
  return lines
    .filter(({ type }) => type !== 'BOOKMARK')
    .map(({ type, object }) => `${type} ${object.metadata.name}`);
}

export const watchCases: readonly ContractCase[] = [
  {
    name: "A watch from a list's version replays nothing and tells of all that follows, in order",
    async run(context) {
      const { expect, makePod, patch, paths, send, watch } = context;
      await makePod('old');
      const resourceVersion = await versionNow(context);
      const changes = await watch(paths.pods + query({ resourceVersion }));
      expect(changes.status).toBe(200);
      await makePod('new');
      await patch(`${paths.pods}/old`, { metadata: { labels: { a: 'b' } } });
      await send('DELETE', `${paths.pods}/new`);
      const lines: WatchLine[] = [];
      while (lines.at(-1)?.type !== 'DELETED') {
        const line = await changes.next();
        if (typeof line === 'string') break;
        lines.push(line);
      }
      expect(described(lines)).toEqual([
        'ADDED new',
        'MODIFIED old',
        'MODIFIED new',
        'DELETED new',
      ]);
      const versions = lines.map(({ object }) => Number(object.metadata.resourceVersion));
      expect(versions).toEqual(versions.toSorted((a, b) => a - b));
      expect(new Set(versions).size).toBe(versions.length);
      expect(lines[0]?.object).toMatchObject({ kind: 'Pod', apiVersion: 'v1' });
    },
  },
  {
    name: 'A watch resumed after a broken connection tells once of all that was missed',
    async run(context) {
      const { expect, makePod, patch, paths, send, watch } = context;
      const first = await watch(paths.pods + query({ resourceVersion: await versionNow(context) }));
      await makePod('a');
      const seen = await first.next();
      if (typeof seen === 'string') throw new Error(`the watch is ${seen}`);
      await first.close();
      await makePod('b');
      await patch(`${paths.pods}/a`, { metadata: { labels: { c: 'd' } } });
      await send('DELETE', `${paths.pods}/b`);
      const { resourceVersion } = seen.object.metadata;
      const second = await watch(paths.pods + query({ resourceVersion, timeoutSeconds: '1' }));
      expect(described(await second.rest())).toEqual([
        'ADDED b',
        'MODIFIED a',
        'MODIFIED b',
        'DELETED b',
      ]);
    },
  },
  {
    name: 'A watch ends cleanly after its time',
    mode: 'slow',
    async run(context) {
      const { expect, paths, watch } = context;
      const resourceVersion = await versionNow(context);
      const startedAt = performance.now();
      const changes = await watch(paths.pods + query({ resourceVersion, timeoutSeconds: '2' }));
      expect(await changes.next()).toBe('ended');
      const seconds = (performance.now() - startedAt) / 1000;
      expect(seconds).toBeGreaterThan(1.8);
      expect(seconds).toBeLessThan(20);
    },
  },
  {
    name: 'A watch without a version, or from version 0, begins with what there is',
    async run(context) {
      const { expect, makePod, paths, watch } = context;
      await makePod('a');
      await makePod('b');
      for (const parameters of [{}, { resourceVersion: '0' }]) {
        const changes = await watch(paths.pods + query(parameters));
        expect([await changes.nextChange(), await changes.nextChange()].toSorted()).toEqual([
          'ADDED a',
          'ADDED b',
        ]);
        await changes.close();
      }
    },
  },
  {
    name: 'Initial events end with a marked bookmark, then changes follow',
    async run(context) {
      const { expect, makePod, paths, watch } = context;
      await makePod('a');
      await makePod('b');
      const changes = await watch(
        paths.pods +
          query({
            sendInitialEvents: 'true',
            resourceVersionMatch: 'NotOlderThan',
            allowWatchBookmarks: 'true',
          }),
      );
      const lines: WatchLine[] = [];
      while (lines.at(-1)?.type !== 'BOOKMARK') {
        const line = await changes.next();
        if (typeof line === 'string') break;
        lines.push(line);
      }
      expect(described(lines).toSorted()).toEqual(['ADDED a', 'ADDED b']);
      expect(lines.at(-1)?.object.metadata.annotations).toEqual({
        'k8s.io/initial-events-end': 'true',
      });
      await makePod('c');
      expect(await changes.nextChange()).toBe('ADDED c');
    },
  },
  {
    name: 'Initial events need their version match, and a version match needs them',
    async run({ expect, paths, send }) {
      const alone = await send('GET', paths.pods + query({ sendInitialEvents: 'true' }));
      expect(alone.status).toBe(422);
      expect(alone.failure.details?.causes?.[0]).toMatchObject({
        reason: 'FieldValueForbidden',
        field: 'resourceVersionMatch',
      });
      const match = query({ resourceVersionMatch: 'NotOlderThan', resourceVersion: '1' });
      expect((await send('GET', paths.pods + match)).status).toBe(422);
    },
  },
  {
    name: 'Bookmarks keep the version of a quiet watch fresh',
    mode: 'slow',
    async run(context) {
      const { api, expect, namespace, paths, watch } = context;
      const resourceVersion = await versionNow(context);
      const selected = { fieldSelector: 'metadata.name=nobody' };
      const changes = await watch(
        paths.pods +
          query({
            ...selected,
            resourceVersion,
            allowWatchBookmarks: 'true',
            timeoutSeconds: '4',
          }),
      );
      const made = await api.create<LooseObject>(paths.pods, {
        metadata: { name: 'unseen', namespace },
        spec: { schedulerName: 'nobody', containers: [{ name: 'main', image: 'none' }] },
      } as unknown as LooseObject);
      const lines = await changes.rest();
      expect(described(lines)).toEqual([]);
      const last = lines.at(-1);
      expect(last).toMatchObject({ type: 'BOOKMARK', object: { kind: 'Pod', apiVersion: 'v1' } });
      expect(Number(last?.object.metadata.resourceVersion)).toBeGreaterThanOrEqual(
        Number(made.metadata.resourceVersion),
      );
      expect(last?.object.metadata).not.toHaveProperty('name');
      const resumed = await watch(
        paths.pods +
          query({
            resourceVersion: last?.object.metadata.resourceVersion ?? '',
            timeoutSeconds: '1',
          }),
      );
      expect(described(await resumed.rest())).toEqual([]);
    },
  },
  {
    name: 'A watch that did not ask for bookmarks gets none',
    mode: 'slow',
    async run(context) {
      const { expect, paths, watch } = context;
      const resourceVersion = await versionNow(context);
      const changes = await watch(paths.pods + query({ resourceVersion, timeoutSeconds: '3' }));
      expect(await changes.rest()).toEqual([]);
    },
  },
  {
    name: 'A pod that finishes leaves a selection of unfinished ones as DELETED, as it last was in it',
    async run(context) {
      const { expect, makePod, patch, paths, watch } = context;
      await makePod('pod', { spec: { nodeName: 'node' }, phase: 'Running' });
      const resourceVersion = await versionNow(context);
      const changes = await watch(
        paths.pods + query({ resourceVersion, fieldSelector: unfinished }),
      );
      const done = await patch(`${paths.pods}/pod/status`, { status: { phase: 'Succeeded' } });
      expect(await changes.next()).toMatchObject({
        type: 'DELETED',
        object: {
          metadata: { name: 'pod', resourceVersion: done.object.metadata.resourceVersion },
          status: { phase: 'Running' },
        },
      });
      // What happens outside the selection is not told.
      await patch(`${paths.pods}/pod`, { metadata: { labels: { a: 'b' } } });
      await makePod('next');
      expect(await changes.nextChange()).toBe('ADDED next');
    },
  },
  {
    name: 'A pod appears in the selection of its node as ADDED when it is bound',
    async run(context) {
      const { expect, makePod, namespace, paths, send, watch } = context;
      await makePod('pod');
      const fieldSelector = `spec.nodeName=${namespace}-node`;
      const resourceVersion = await versionNow(context);
      const changes = await watch(`/api/v1/pods${query({ resourceVersion, fieldSelector })}`);
      await send('POST', `${paths.pods}/pod/binding`, {
        metadata: { name: 'pod' },
        target: { kind: 'Node', name: `${namespace}-node` },
      });
      expect(await changes.next()).toMatchObject({
        type: 'ADDED',
        object: { metadata: { name: 'pod' }, spec: { nodeName: `${namespace}-node` } },
      });
    },
  },
  {
    name: 'A label takes an object out of a selection, and back into it',
    async run(context) {
      const { expect, makePod, patch, paths, watch } = context;
      await makePod('pod', { labels: { tier: 'front' } });
      const resourceVersion = await versionNow(context);
      const changes = await watch(
        paths.pods + query({ resourceVersion, labelSelector: 'tier=front' }),
      );
      await patch(`${paths.pods}/pod`, { metadata: { labels: { tier: 'back' } } });
      await patch(`${paths.pods}/pod`, { metadata: { labels: { tier: 'front' } } });
      await patch(`${paths.pods}/pod`, { metadata: { labels: { other: 'yes' } } });
      expect([
        await changes.nextChange(),
        await changes.nextChange(),
        await changes.nextChange(),
      ]).toEqual(['DELETED pod', 'ADDED pod', 'MODIFIED pod']);
    },
  },
  {
    name: 'A watch of one name tells of nothing else',
    async run(context) {
      const { expect, makePod, paths, watch } = context;
      const resourceVersion = await versionNow(context);
      const changes = await watch(
        paths.pods + query({ resourceVersion, fieldSelector: 'metadata.name=mine' }),
      );
      await makePod('other');
      await makePod('mine');
      expect(await changes.nextChange()).toBe('ADDED mine');
    },
  },
  {
    name: 'A watch of one namespace tells of nothing else',
    async run(context) {
      const { expect, makePod, namespace, paths, send, watch } = context;
      const resourceVersion = await versionNow(context);
      const changes = await watch(paths.pods + query({ resourceVersion }));
      await send('POST', '/api/v1/namespaces/default/pods', {
        metadata: { name: `${namespace}-other` },
        spec: { schedulerName: 'nobody', containers: [{ name: 'main', image: 'none' }] },
      });
      await makePod('mine');
      expect(await changes.nextChange()).toBe('ADDED mine');
    },
  },
  {
    name: 'A watch of metadata alone shows neither spec nor status, nor does its bookmark',
    mode: 'slow',
    async run(context) {
      const { expect, makePod, patch, paths, watch } = context;
      await makePod('pod', {
        spec: { nodeName: 'node' },
        phase: 'Running',
        annotations: { a: 'b' },
      });
      const resourceVersion = await versionNow(context);
      const changes = await watch(
        paths.pods +
          query({
            resourceVersion,
            fieldSelector: unfinished,
            allowWatchBookmarks: 'true',
            timeoutSeconds: '3',
          }),
        { accept: metadataObject },
      );
      await patch(`${paths.pods}/pod`, { metadata: { labels: { c: 'd' } } });
      await patch(`${paths.pods}/pod/status`, { status: { phase: 'Failed' } });
      const lines = await changes.rest();
      expect(described(lines)).toEqual(['MODIFIED pod', 'DELETED pod']);
      expect(lines.some(({ type }) => type === 'BOOKMARK')).toBe(true);
      for (const { object } of lines) {
        expect(object).toMatchObject({
          kind: 'PartialObjectMetadata',
          apiVersion: 'meta.k8s.io/v1',
        });
        expect(Object.keys(object).toSorted()).toEqual(['apiVersion', 'kind', 'metadata']);
      }
      const change = lines.find(({ type }) => type === 'MODIFIED');
      expect(change?.object.metadata).toMatchObject({
        annotations: { a: 'b' },
        labels: { c: 'd' },
      });
    },
  },
  {
    name: 'A watch in the form of a list of metadata ends at once and says nothing',
    async run(context) {
      const { expect, makePod, paths, watch } = context;
      await makePod('pod');
      const changes = await watch(paths.pods + query({}), { accept: metadataList });
      expect(changes.status).toBe(200);
      expect(await changes.next()).toBe('ended');
    },
  },
  {
    name: 'An eviction shows as two changes: the condition, then the deletion',
    async run(context) {
      const { expect, makePod, paths, send, watch } = context;
      await makePod('pod', { spec: { nodeName: 'node' }, phase: 'Running' });
      const resourceVersion = await versionNow(context);
      const changes = await watch(paths.pods + query({ resourceVersion }));
      await send('POST', `${paths.pods}/pod/eviction`, eviction('pod'));
      const first = await changes.next();
      const second = await changes.next();
      expect(first).toMatchObject({ type: 'MODIFIED' });
      expect(first).not.toHaveProperty('object.metadata.deletionTimestamp');
      expect(second).toMatchObject({
        type: 'MODIFIED',
        object: { metadata: { deletionGracePeriodSeconds: 30 } },
      });
      await send('DELETE', `${paths.pods}/pod`, { gracePeriodSeconds: 0 });
      const third = await changes.next();
      const last = await changes.next();
      expect(third).toMatchObject({
        type: 'MODIFIED',
        object: { metadata: { deletionGracePeriodSeconds: 0 } },
      });
      expect(last).toMatchObject({
        type: 'DELETED',
        object: { metadata: { deletionGracePeriodSeconds: 0 }, status: { phase: 'Running' } },
      });
    },
  },
  {
    name: 'A shortened grace shows as one change',
    async run(context) {
      const { expect, makePod, paths, send, watch } = context;
      await makePod('pod', { spec: { nodeName: 'node' }, phase: 'Running' });
      await send('DELETE', `${paths.pods}/pod`);
      const resourceVersion = await versionNow(context);
      const changes = await watch(paths.pods + query({ resourceVersion }));
      await send('DELETE', `${paths.pods}/pod`, { gracePeriodSeconds: 9 });
      expect(await changes.next()).toMatchObject({
        type: 'MODIFIED',
        object: { metadata: { deletionGracePeriodSeconds: 9 } },
      });
    },
  },
  {
    name: 'A watch from a version of the future waits for it',
    async run(context) {
      const { expect, makePod, paths, watch } = context;
      const resourceVersion = String(Number(await versionNow(context)) + 100_000);
      const changes = await watch(paths.pods + query({ resourceVersion, timeoutSeconds: '1' }));
      expect(changes.status).toBe(200);
      await makePod('pod');
      expect(described(await changes.rest())).toEqual([]);
    },
  },
  {
    name: 'A watch from a version that is none is no watch',
    async run({ expect, paths, send }) {
      const answer = await send('GET', paths.pods + query({ resourceVersion: 'new' }));
      expect(answer.status).toBe(500);
      expect(answer.failure.status).toBe('Failure');
    },
  },
  {
    name: 'A restart breaks watches; data and versions stay, and a fresh list can be watched from',
    async run({ api, backend, expect, watch }) {
      const { pods, survivor, version, watchEnd } = await restartOnce(backend);
      expect(watchEnd).toMatch(/ended|broken/u);
      const list = await api.get<LooseObject>(pods);
      expect(list.items?.map(({ metadata }) => metadata.name)).toEqual(['a', 'b', 'd', 'e']);
      expect(list.items?.[0]?.metadata).toMatchObject({
        uid: survivor.metadata.uid,
        resourceVersion: survivor.metadata.resourceVersion,
      });
      const { resourceVersion } = list.metadata;
      expect(Number(resourceVersion)).toBeGreaterThan(Number(version));
      const after = await watch(pods + query({ resourceVersion }));
      await api.patch(`${pods}/a`, { metadata: { labels: { changed: 'yes' } } });
      expect(await after.nextChange()).toBe('MODIFIED a');
    },
  },
  {
    name: 'A watch from a version that is forgotten says 410 as an ERROR event, and ends',
    async run({ backend, expect, watch }) {
      const { pods, version } = await restartOnce(backend);
      for (const accept of ['application/json', metadataObject]) {
        const forgotten = query({ resourceVersion: version, timeoutSeconds: '5' });
        const changes = await watch(pods + forgotten, { accept });
        expect(changes.status).toBe(200);
        expect(await changes.next()).toMatchObject({
          type: 'ERROR',
          object: { kind: 'Status', status: 'Failure', reason: 'Expired', code: 410 },
        });
        expect(await changes.next()).toBe('ended');
        await changes.close();
      }
    },
  },
];
