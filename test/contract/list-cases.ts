import type { Answer } from './answer.ts';
import type { CaseContext, ContractCase } from './case.ts';
import { restartOnce } from './restart.ts';

const metadataList = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';
const metadataObject = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';

function namesOf(answer: Answer): string[] {
  return (answer.object.items ?? []).map(({ metadata }) => metadata.name);
}

async function makePods({ makePod }: CaseContext, names: readonly string[]): Promise<void> {
  for (const name of names) await makePod(name, { labels: { app: 'listed' } });
}

const query = (parameters: Record<string, string>): string =>
  `?${new URLSearchParams(parameters).toString()}`;

export const listCases: readonly ContractCase[] = [
  {
    name: 'A list is ordered by name, has a version, and leaves kind and apiVersion out of its items',
    async run(context) {
      const { expect, paths, send } = context;
      await makePods(context, ['b', 'c', 'a']);
      const answer = await send('GET', paths.pods);
      expect(answer.status).toBe(200);
      expect(answer.object).toMatchObject({ kind: 'PodList', apiVersion: 'v1' });
      expect(namesOf(answer)).toEqual(['a', 'b', 'c']);
      for (const item of answer.object.items ?? []) {
        expect(item).not.toHaveProperty('kind');
        expect(item).not.toHaveProperty('apiVersion');
        expect(Number(item.metadata.resourceVersion)).toBeLessThanOrEqual(
          Number(answer.object.metadata.resourceVersion),
        );
      }
    },
  },
  {
    name: 'An empty list has no items and a version',
    async run({ expect, paths, send }) {
      const answer = await send('GET', paths.pods);
      expect(answer.object.items).toEqual([]);
      expect(Number(answer.object.metadata.resourceVersion)).toBeGreaterThan(0);
    },
  },
  {
    name: 'A list without a version contains what was written just before it',
    async run({ expect, makePod, paths, send }) {
      for (let at = 0; at < 10; at += 1) {
        await makePod(`pod-${at}`);
        const answer = await send('GET', paths.pods);
        expect(answer.object.items).toHaveLength(at + 1);
      }
    },
  },
  {
    name: 'A list over all namespaces and one of a namespace agree',
    async run(context) {
      const { expect, namespace, send } = context;
      await makePods(context, ['a', 'b']);
      const selector = query({ fieldSelector: `metadata.namespace=${namespace}` });
      const answer = await send('GET', `/api/v1/pods${selector}`);
      expect(namesOf(answer)).toEqual(['a', 'b']);
    },
  },
  {
    name: 'Pods are listed by their node, their name and their phase',
    async run({ expect, makePod, namespace, paths, send }) {
      const nodeName = `${namespace}-node`;
      await makePod('here', { spec: { nodeName } });
      await makePod('done', { spec: { nodeName }, phase: 'Succeeded' });
      await makePod('failed', { spec: { nodeName }, phase: 'Failed' });
      await makePod('there', { spec: { nodeName: 'another' }, phase: 'Running' });
      await makePod('nowhere');
      const listed = async (fieldSelector: string): Promise<string[]> =>
        namesOf(await send('GET', paths.pods + query({ fieldSelector })));
      expect(await listed(`spec.nodeName=${nodeName}`)).toEqual(['done', 'failed', 'here']);
      expect(await listed('spec.nodeName=')).toEqual(['nowhere']);
      expect(await listed('metadata.name=there')).toEqual(['there']);
      expect(await listed('metadata.name!=there,spec.nodeName!=')).toEqual([
        'done',
        'failed',
        'here',
      ]);
      const unfinished = 'status.phase!=Succeeded,status.phase!=Failed';
      expect(await listed(`spec.nodeName=${nodeName},${unfinished}`)).toEqual(['here']);
      expect(await listed('status.phase==Running')).toEqual(['there']);
    },
  },
  {
    name: 'Nodes are listed by whether they are cordoned',
    async run(context) {
      const { expect, makeNode, namespace, send } = context;
      await makeNode('free');
      await makeNode('cordoned', { spec: { unschedulable: true } });
      const listed = async (fieldSelector: string): Promise<string[]> =>
        namesOf(
          await send(
            'GET',
            `/api/v1/nodes${query({ fieldSelector, labelSelector: `case=${namespace}` })}`,
          ),
        );
      expect(await listed('spec.unschedulable=true')).toEqual([`${namespace}-cordoned`]);
      expect(await listed('spec.unschedulable=false')).toEqual([`${namespace}-free`]);
      expect(await listed(`metadata.name=${namespace}-free`)).toEqual([`${namespace}-free`]);
    },
  },
  {
    name: 'A field that cannot be selected by is 400, and so is a selector that is none',
    async run({ expect, paths, send }) {
      const field = await send('GET', paths.pods + query({ fieldSelector: 'spec.hostname=x' }));
      expect(field.status).toBe(400);
      expect(field.failure.message).toContain('field label not supported: spec.hostname');
      const node = await send('GET', paths.nodes + query({ fieldSelector: 'spec.providerID=x' }));
      expect(node.status).toBe(400);
      const label = await send('GET', paths.pods + query({ labelSelector: 'two words' }));
      expect(label.status).toBe(400);
    },
  },
  {
    name: 'Labels select by value, by set and by presence',
    async run({ expect, makePod, paths, send }) {
      await makePod('a', { labels: { app: 'one', tier: 'front' } });
      await makePod('b', { labels: { app: 'two' } });
      await makePod('c', { labels: { app: 'three', tier: '' } });
      await makePod('d');
      const listed = async (labelSelector: string): Promise<string[]> =>
        namesOf(await send('GET', paths.pods + query({ labelSelector })));
      expect(await listed('app=one')).toEqual(['a']);
      expect(await listed('app==one')).toEqual(['a']);
      expect(await listed('app!=one')).toEqual(['b', 'c', 'd']);
      expect(await listed('app in (one, two)')).toEqual(['a', 'b']);
      expect(await listed('app notin (one,two)')).toEqual(['c', 'd']);
      expect(await listed('tier')).toEqual(['a', 'c']);
      expect(await listed('!tier')).toEqual(['b', 'd']);
      expect(await listed('tier=')).toEqual(['c']);
      expect(await listed('app in (one,three),tier=front')).toEqual(['a']);
    },
  },
  {
    name: 'Pages continue the list of the first one, whatever happens meanwhile',
    async run(context) {
      const { expect, makePod, paths, send } = context;
      await makePods(context, ['a', 'b', 'c', 'd', 'e']);
      const first = await send('GET', paths.pods + query({ limit: '2' }));
      expect(namesOf(first)).toEqual(['a', 'b']);
      expect(first.object.metadata.remainingItemCount).toBe(3);
      await send('DELETE', `${paths.pods}/d`);
      await makePod('bb');
      await makePod('f');
      const token = first.object.metadata.continue ?? '';
      const second = await send('GET', paths.pods + query({ limit: '2', continue: token }));
      expect(namesOf(second)).toEqual(['c', 'd']);
      expect(second.object.metadata.resourceVersion).toBe(first.object.metadata.resourceVersion);
      expect(second.object.metadata.remainingItemCount).toBe(1);
      const next = second.object.metadata.continue ?? '';
      const last = await send('GET', paths.pods + query({ limit: '2', continue: next }));
      expect(namesOf(last)).toEqual(['e']);
      expect(last.object.metadata).not.toHaveProperty('continue');
      expect(last.object.metadata).not.toHaveProperty('remainingItemCount');
      const fresh = await send('GET', paths.pods);
      expect(namesOf(fresh)).toEqual(['a', 'b', 'bb', 'c', 'e', 'f']);
    },
  },
  {
    name: 'Pages of a selection do not say how much is left',
    async run(context) {
      const { expect, paths, send } = context;
      await makePods(context, ['a', 'b', 'c']);
      const first = await send(
        'GET',
        paths.pods + query({ limit: '2', labelSelector: 'app=listed' }),
      );
      expect(namesOf(first)).toEqual(['a', 'b']);
      expect(first.object.metadata).not.toHaveProperty('remainingItemCount');
      const token = first.object.metadata.continue ?? '';
      const rest = await send(
        'GET',
        paths.pods + query({ limit: '2', labelSelector: 'app=listed', continue: token }),
      );
      expect(namesOf(rest)).toEqual(['c']);
    },
  },
  {
    name: 'A list of exactly the limit is one page',
    async run(context) {
      const { expect, paths, send } = context;
      await makePods(context, ['a', 'b']);
      const answer = await send('GET', paths.pods + query({ limit: '2' }));
      expect(namesOf(answer)).toEqual(['a', 'b']);
      expect(answer.object.metadata).not.toHaveProperty('continue');
    },
  },
  {
    name: 'A continue token that has expired is 410, with one to go on without consistency',
    async run({ backend, expect, send }) {
      const { pods, continueToken } = await restartOnce(backend);
      const expired = await send('GET', pods + query({ limit: '5', continue: continueToken }));
      expect(expired.status).toBe(410);
      expect(expired.failure.reason).toBe('Expired');
      const other = expired.failure.metadata?.continue ?? '';
      expect(other).not.toBe('');
      const rest = await send('GET', pods + query({ limit: '5', continue: other }));
      expect(rest.status).toBe(200);
      expect(namesOf(rest)).toEqual(['d', 'e']);
    },
  },
  {
    name: 'A list of an exact version that is forgotten is 410',
    async run({ backend, expect, send }) {
      const { pods, version } = await restartOnce(backend);
      const then = query({ resourceVersionMatch: 'Exact', resourceVersion: version });
      const answer = await send('GET', pods + then);
      expect(answer.status).toBe(410);
      expect(answer.failure.reason).toBe('Expired');
    },
  },
  {
    name: 'A continue token that is none, or comes with a version, is 400',
    async run(context) {
      const { expect, paths, send } = context;
      await makePods(context, ['a', 'b']);
      const none = await send('GET', paths.pods + query({ limit: '1', continue: 'none' }));
      expect(none.status).toBe(400);
      const first = await send('GET', paths.pods + query({ limit: '1' }));
      const token = first.object.metadata.continue ?? '';
      const both = query({ limit: '1', continue: token, resourceVersion: '5' });
      expect((await send('GET', paths.pods + both)).status).toBe(400);
    },
  },
  {
    name: 'Version 0 is answered from the cache, as a whole whatever the limit',
    async run(context) {
      const { eventually, expect, paths, send } = context;
      await makePods(context, ['a', 'b', 'c']);
      const answer = await eventually('the cache has them', async () => {
        const found = await send('GET', paths.pods + query({ limit: '1', resourceVersion: '0' }));
        return (found.object.items?.length ?? 0) >= 3 && found;
      });
      expect(namesOf(answer)).toEqual(['a', 'b', 'c']);
      expect(answer.object.metadata).not.toHaveProperty('continue');
      expect(Number(answer.object.metadata.resourceVersion)).toBeGreaterThan(0);
    },
  },
  {
    name: 'A version that was seen is answered at that version or later',
    async run({ expect, makePod, paths, send }) {
      const pod = await makePod('pod');
      const { resourceVersion = '' } = pod.metadata;
      const answer = await send('GET', paths.pods + query({ resourceVersion }));
      expect(namesOf(answer)).toEqual(['pod']);
      expect(Number(answer.object.metadata.resourceVersion)).toBeGreaterThanOrEqual(
        Number(resourceVersion),
      );
    },
  },
  {
    name: 'A version of the future is 504 after three seconds',
    mode: 'slow',
    async run({ expect, paths, send }) {
      const answer = await send('GET', paths.pods + query({ resourceVersion: '999999999' }));
      expect(answer.status).toBe(504);
      expect(answer.headers['retry-after']).toBe('1');
      expect(answer.failure).toMatchObject({
        reason: 'Timeout',
        details: { retryAfterSeconds: 1, causes: [{ reason: 'ResourceVersionTooLarge' }] },
      });
    },
  },
  {
    name: 'A version that is none is 400, a match without a version 422',
    async run({ expect, paths, send }) {
      expect((await send('GET', paths.pods + query({ resourceVersion: 'new' }))).status).toBe(400);
      const match = await send('GET', paths.pods + query({ resourceVersionMatch: 'Exact' }));
      expect(match.status).toBe(422);
      const zero = query({ resourceVersionMatch: 'Exact', resourceVersion: '0' });
      expect((await send('GET', paths.pods + zero)).status).toBe(422);
    },
  },
  {
    name: 'A list of an exact version shows what was then',
    async run(context) {
      const { expect, paths, send } = context;
      await makePods(context, ['a', 'b']);
      const { resourceVersion } = (await send('GET', paths.pods)).object.metadata;
      await send('DELETE', `${paths.pods}/a`);
      await makePods(context, ['c']);
      const then = query({ resourceVersionMatch: 'Exact', resourceVersion });
      const answer = await send('GET', paths.pods + then);
      expect(namesOf(answer)).toEqual(['a', 'b']);
      expect(answer.object.metadata.resourceVersion).toBe(resourceVersion);
    },
  },
  {
    name: 'A list of metadata alone has neither spec nor status, but annotations',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod', { annotations: { note: 'kept' }, labels: { app: 'listed' } });
      const headers = { accept: metadataList };
      const answer = await send('GET', paths.pods, undefined, { headers });
      expect(answer.object).toMatchObject({
        kind: 'PartialObjectMetadataList',
        apiVersion: 'meta.k8s.io/v1',
      });
      const [item] = answer.object.items ?? [];
      expect(item).toMatchObject({
        kind: 'PartialObjectMetadata',
        apiVersion: 'meta.k8s.io/v1',
        metadata: { name: 'pod', annotations: { note: 'kept' }, labels: { app: 'listed' } },
      });
      expect(item).not.toHaveProperty('spec');
      expect(item).not.toHaveProperty('status');
    },
  },
  {
    name: 'A list of metadata alone takes selectors and pages',
    async run(context) {
      const { expect, makePod, namespace, paths, send } = context;
      const nodeName = `${namespace}-node`;
      for (const name of ['a', 'b', 'c']) await makePod(name, { spec: { nodeName } });
      await makePod('done', { spec: { nodeName }, phase: 'Succeeded' });
      await makePod('elsewhere');
      const headers = { accept: metadataList };
      const selected = {
        fieldSelector: `spec.nodeName=${nodeName},status.phase!=Succeeded`,
        limit: '2',
      };
      const first = await send('GET', paths.pods + query(selected), undefined, { headers });
      expect(namesOf(first)).toEqual(['a', 'b']);
      const next = { ...selected, continue: first.object.metadata.continue ?? '' };
      const rest = await send('GET', paths.pods + query(next), undefined, { headers });
      expect(namesOf(rest)).toEqual(['c']);
    },
  },
  {
    name: 'The metadata alone of one object can be read',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod');
      const headers = { accept: metadataObject };
      const answer = await send('GET', `${paths.pods}/pod`, undefined, { headers });
      expect(answer.object).toMatchObject({
        kind: 'PartialObjectMetadata',
        metadata: { name: 'pod' },
      });
      expect(answer.object).not.toHaveProperty('spec');
    },
  },
  {
    name: 'A form that does not fit the request is 406, even where another is offered after it',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod');
      const asked = async (path: string, accept: string): Promise<number> =>
        (await send('GET', path, undefined, { headers: { accept } })).status;
      expect(await asked(paths.pods, metadataObject)).toBe(406);
      expect(await asked(`${paths.pods}/pod`, metadataList)).toBe(406);
      expect(await asked(paths.pods, `${metadataObject},application/json`)).toBe(406);
      expect(await asked(paths.pods, 'application/xml')).toBe(406);
      expect(await asked(paths.pods, 'application/xml, */*')).toBe(200);
    },
  },
  {
    name: 'An object can be read at version 0',
    async run({ eventually, expect, makePod, paths, send }) {
      await makePod('pod');
      const answer = await eventually('the cache has it', async () => {
        const found = await send('GET', `${paths.pods}/pod?resourceVersion=0`);
        return found.status === 200 && found;
      });
      expect(answer.object.metadata.name).toBe('pod');
    },
  },
  {
    name: 'What is served nowhere is 404, a method that is not served 405',
    async run({ expect, namespace, paths, send }) {
      for (const path of ['/nothing', '/api/v1/nothings', '/apis/nothing.example.com/v1/things']) {
        expect((await send('GET', path)).status).toBe(404);
      }
      expect((await send('GET', `${paths.pods}/pod/nothing`)).status).toBe(404);
      expect((await send('PUT', paths.pods, {})).status).toBe(405);
      expect((await send('POST', `/api/v1/namespaces/${namespace}`, {})).status).toBe(405);
    },
  },
];
