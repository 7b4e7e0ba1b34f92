import type { Taint } from '../control-plane/objects.ts';
import type { LooseObject } from './answer.ts';
import type { CaseContext, ContractCase } from './case.ts';

const notReady = 'node.kubernetes.io/not-ready';
const unschedulable = 'node.kubernetes.io/unschedulable';
const ours = { key: 'example.com/interruption', value: 'spot', effect: 'NoSchedule' } as const;
const gpu = { key: 'example.com/gpu', value: 'yes', effect: 'NoSchedule' } as const;

/** Once the control plane has taken its own first taint away, the version stands still. */
async function settledNode(
  context: CaseContext,
  taints: Taint[] = [],
  suffix = 'node',
): Promise<LooseObject> {
  const { api, eventually, makeNode, paths } = context;
  const { name } = (await makeNode(suffix, { spec: { taints } })).metadata;
  return eventually(`node ${name} is not tainted as not ready`, async () => {
    const node = await api.get<LooseObject>(`${paths.nodes}/${name}`);
    return !taintsOf(node).includes(`${notReady}:NoSchedule`) && node;
  });
}

function taintsOf(node: LooseObject): string[] {
  return (node.spec?.taints ?? []).map((taint) => `${taint.key}:${taint.effect}`).toSorted();
}

export const nodeCases: readonly ContractCase[] = [
  {
    name: 'One merge patch cordons, taints, labels and annotates a node in one version',
    async run(context) {
      const { expect, patch, paths, watch } = context;
      const node = await settledNode(context, [gpu]);
      const { name, resourceVersion } = node.metadata;
      const changes = await watch(
        `${paths.nodes}?watch=1&resourceVersion=${resourceVersion}&fieldSelector=metadata.name%3D${name}`,
      );
      const answer = await patch(`${paths.nodes}/${name}`, {
        metadata: {
          resourceVersion,
          labels: { 'example.com/interruption': 'spot' },
          annotations: { 'example.com/journal': '{}' },
        },
        spec: { unschedulable: true, taints: [gpu, ours] },
      });
      expect(answer.status).toBe(200);
      const seen = await changes.next();
      expect(seen).toMatchObject({
        type: 'MODIFIED',
        object: {
          metadata: {
            resourceVersion: answer.object.metadata.resourceVersion,
            labels: { 'example.com/interruption': 'spot', case: context.namespace },
            annotations: { 'example.com/journal': '{}' },
          },
          spec: { unschedulable: true, taints: [gpu, ours] },
        },
      });
    },
  },
  {
    name: 'A strategic merge patch of taints replaces the whole list',
    async run(context) {
      const { expect, patch, paths } = context;
      const { name } = (await settledNode(context, [gpu])).metadata;
      const answer = await patch(
        `${paths.nodes}/${name}`,
        { spec: { taints: [ours] } },
        'strategic',
      );
      expect(answer.status).toBe(200);
      expect(taintsOf(answer.object)).toEqual(['example.com/interruption:NoSchedule']);
    },
  },
  {
    name: 'A merge patch of taints replaces the whole list',
    async run(context) {
      const { expect, patch, paths } = context;
      const { name } = (await settledNode(context, [gpu])).metadata;
      const answer = await patch(`${paths.nodes}/${name}`, { spec: { taints: [ours] } }, 'merge');
      expect(answer.status).toBe(200);
      expect(taintsOf(answer.object)).toEqual(['example.com/interruption:NoSchedule']);
    },
  },
  {
    name: 'A taint cannot be deleted by a directive',
    async run(context) {
      const { expect, patch, paths } = context;
      const { name } = (await settledNode(context, [gpu])).metadata;
      const answer = await patch(
        `${paths.nodes}/${name}`,
        { spec: { taints: [{ key: gpu.key, $patch: 'delete' }] } },
        'strategic',
      );
      expect(answer.status).toBe(422);
      expect(answer.failure.reason).toBe('Invalid');
      expect(answer.failure.details?.causes?.[0]).toMatchObject({
        reason: 'FieldValueRequired',
        field: 'metadata.taints[0].effect',
      });
    },
  },
  {
    name: 'Two taints of one key and effect are 422, of two effects they are two taints',
    async run(context) {
      const { expect, patch, paths } = context;
      const { name } = (await settledNode(context)).metadata;
      const path = `${paths.nodes}/${name}`;
      const twice = await patch(path, { spec: { taints: [gpu, { ...gpu, value: 'no' }] } });
      expect(twice.status).toBe(422);
      expect(twice.failure.details?.causes?.[0]?.reason).toBe('FieldValueDuplicate');
      const both = await patch(path, { spec: { taints: [gpu, { ...gpu, effect: 'NoExecute' }] } });
      expect(both.status).toBe(200);
      expect(taintsOf(both.object)).toHaveLength(2);
    },
  },
  {
    name: 'A taint of an unknown effect is 422',
    async run(context) {
      const { expect, patch, paths } = context;
      const { name } = (await settledNode(context)).metadata;
      const taints = [{ ...gpu, effect: 'NoWay' }];
      const answer = await patch(`${paths.nodes}/${name}`, { spec: { taints } });
      expect(answer.status).toBe(422);
      expect(answer.failure.details?.causes?.[0]?.reason).toBe('FieldValueNotSupported');
    },
  },
  {
    name: 'A patch with a stale version is 409 and changes nothing, whatever its type',
    async run(context) {
      const { api, expect, patch, paths } = context;
      const node = await settledNode(context, [gpu]);
      const path = `${paths.nodes}/${node.metadata.name}`;
      const fresh = await patch(path, { metadata: { labels: { changed: 'yes' } } });
      const change = {
        metadata: { resourceVersion: node.metadata.resourceVersion },
        spec: { taints: [ours] },
      };
      for (const type of ['merge', 'strategic'] as const) {
        const answer = await patch(path, change, type);
        expect(answer.status).toBe(409);
        expect(answer.failure).toMatchObject({
          kind: 'Status',
          status: 'Failure',
          reason: 'Conflict',
          details: { name: node.metadata.name, kind: 'nodes' },
          code: 409,
        });
        expect(answer.failure.message).toContain('the object has been modified');
      }
      const after = await api.get<LooseObject>(path);
      expect(after.metadata.resourceVersion).toBe(fresh.object.metadata.resourceVersion);
      expect(taintsOf(after)).toEqual(['example.com/gpu:NoSchedule']);
    },
  },
  {
    name: 'A patch without a version overwrites the taints of others',
    async run(context) {
      const { expect, patch, paths } = context;
      const node = await settledNode(context);
      const path = `${paths.nodes}/${node.metadata.name}`;
      await patch(path, { spec: { taints: [gpu] } });
      const answer = await patch(path, { spec: { taints: [ours] } });
      expect(answer.status).toBe(200);
      expect(taintsOf(answer.object)).toEqual(['example.com/interruption:NoSchedule']);
    },
  },
  {
    name: 'A merge patch leaves the labels and annotations of others, and removes with null',
    async run(context) {
      const { expect, patch, paths } = context;
      const node = await settledNode(context);
      const path = `${paths.nodes}/${node.metadata.name}`;
      await patch(path, { metadata: { labels: { theirs: 'a' }, annotations: { theirs: 'b' } } });
      await patch(path, { metadata: { labels: { ours: 'c' }, annotations: { ours: 'd' } } });
      const answer = await patch(path, {
        metadata: { labels: { ours: null }, annotations: { ours: null, absent: null } },
      });
      expect(answer.status).toBe(200);
      expect(answer.object.metadata.labels).toEqual({ case: context.namespace, theirs: 'a' });
      expect(answer.object.metadata.annotations?.['theirs']).toBe('b');
      expect(answer.object.metadata.annotations).not.toHaveProperty('ours');
    },
  },
  {
    name: 'A patch that changes nothing keeps the version and is no change for a watcher',
    async run(context) {
      const { expect, patch, paths, watch } = context;
      const node = await settledNode(context, [gpu]);
      const { name, resourceVersion } = node.metadata;
      const changes = await watch(
        `${paths.nodes}?watch=1&resourceVersion=${resourceVersion}&fieldSelector=metadata.name%3D${name}`,
      );
      const same = await patch(`${paths.nodes}/${name}`, { spec: { taints: [gpu] } });
      expect(same.status).toBe(200);
      expect(same.object.metadata.resourceVersion).toBe(resourceVersion);
      const real = await patch(`${paths.nodes}/${name}`, { metadata: { labels: { now: 'yes' } } });
      const seen = await changes.next();
      expect(seen).toMatchObject({
        object: { metadata: { resourceVersion: real.object.metadata.resourceVersion } },
      });
    },
  },
  {
    name: 'A JSON patch appends a taint, but not to an absent list, nor one that is there',
    async run(context) {
      const { expect, patch, paths } = context;
      const node = await settledNode(context);
      const path = `${paths.nodes}/${node.metadata.name}`;
      const append = [{ op: 'add', path: '/spec/taints/-', value: ours }];
      const absent = await patch(path, append, 'json');
      expect(absent.status).toBe(422);
      expect(absent.failure).toMatchObject({
        reason: 'Invalid',
        message: 'the server rejected our request due to an error in our request',
      });
      await patch(path, { spec: { taints: [gpu] } });
      const first = await patch(path, append, 'json');
      expect(first.status).toBe(200);
      expect(taintsOf(first.object)).toEqual([
        'example.com/gpu:NoSchedule',
        'example.com/interruption:NoSchedule',
      ]);
      const second = await patch(path, append, 'json');
      expect(second.status).toBe(422);
      expect(second.failure.details?.causes?.[0]?.reason).toBe('FieldValueDuplicate');
    },
  },
  {
    name: 'A failed test of a JSON patch is 422 with a message that says nothing',
    async run(context) {
      const { expect, patch, paths } = context;
      const node = await settledNode(context);
      const path = `${paths.nodes}/${node.metadata.name}`;
      const test = [
        { op: 'test', path: '/metadata/labels/case', value: 'another' },
        { op: 'add', path: '/metadata/labels/added', value: 'yes' },
      ];
      const answer = await patch(path, test, 'json');
      expect(answer.status).toBe(422);
      expect(answer.failure).toMatchObject({
        reason: 'Invalid',
        message: 'the server rejected our request due to an error in our request',
      });
      const passed = await patch(
        path,
        [
          { op: 'test', path: '/metadata/labels/case', value: context.namespace },
          { op: 'replace', path: '/metadata/labels/case', value: 'replaced' },
          { op: 'add', path: '/metadata/annotations', value: { 'example.com~1a': 'b' } },
          { op: 'add', path: '/metadata/annotations/example.com~1c', value: 'd' },
          { op: 'remove', path: '/metadata/annotations/example.com~01a' },
        ],
        'json',
      );
      expect(passed.status).toBe(200);
      expect(passed.object.metadata.labels).toEqual({ case: 'replaced' });
      expect(passed.object.metadata.annotations).toEqual({ 'example.com/c': 'd' });
    },
  },
  {
    name: 'The control plane taints a node just after it is cordoned, and frees it after',
    async run(context) {
      const { api, expect, eventually, patch, paths } = context;
      const node = await settledNode(context, [gpu]);
      const path = `${paths.nodes}/${node.metadata.name}`;
      const cordoned = await patch(path, { spec: { unschedulable: true } });
      expect(taintsOf(cordoned.object)).toEqual(['example.com/gpu:NoSchedule']);
      const tainted = await eventually('the node is tainted', async () => {
        const now = await api.get<LooseObject>(path);
        return taintsOf(now).length === 2 && now;
      });
      expect(taintsOf(tainted)).toEqual([
        'example.com/gpu:NoSchedule',
        `${unschedulable}:NoSchedule`,
      ]);
      const freed = await patch(path, { spec: { unschedulable: false } });
      expect(freed.object.spec).not.toHaveProperty('unschedulable');
      const after = await eventually('the taint is gone', async () => {
        const now = await api.get<LooseObject>(path);
        return taintsOf(now).length === 1 && now;
      });
      expect(taintsOf(after)).toEqual(['example.com/gpu:NoSchedule']);
    },
  },
  {
    name: 'A cordon that comes with its taint is left as it is',
    async run(context) {
      const { api, expect, eventually, patch, paths } = context;
      const first = await settledNode(context);
      const second = await settledNode(context, [], 'later');
      const taint = { key: unschedulable, effect: 'NoSchedule' };
      const spec = { unschedulable: true, taints: [ours, taint] };
      const cordoned = await patch(`${paths.nodes}/${first.metadata.name}`, { spec });
      const later = `${paths.nodes}/${second.metadata.name}`;
      await patch(later, { spec: { unschedulable: true } });
      await eventually('one that came after it is tainted', async () => {
        return taintsOf(await api.get<LooseObject>(later)).length === 1;
      });
      const { name, resourceVersion } = cordoned.object.metadata;
      const now = await api.get<LooseObject>(`${paths.nodes}/${name}`);
      expect(now.metadata.resourceVersion).toBe(resourceVersion);
    },
  },
  {
    name: 'Whoever has cordoned a node meets a 409 with the version of that very write',
    async run(context) {
      const { api, expect, eventually, patch, paths } = context;
      const node = await settledNode(context);
      const path = `${paths.nodes}/${node.metadata.name}`;
      const cordoned = await patch(path, { spec: { unschedulable: true } });
      const { resourceVersion } = cordoned.object.metadata;
      await eventually('the node is tainted', async () => {
        return taintsOf(await api.get<LooseObject>(path)).length === 1;
      });
      const answer = await patch(path, { metadata: { resourceVersion, labels: { late: 'yes' } } });
      expect(answer.status).toBe(409);
    },
  },
  {
    name: 'Three writers of taints with versions lose none of them',
    async run(context) {
      const { api, expect, patch, paths } = context;
      const node = await settledNode(context, [gpu]);
      const path = `${paths.nodes}/${node.metadata.name}`;
      let conflicts = 0;
      // All begin with what was the same for all, so that but one of them can be first.
      const seen = await api.get<LooseObject>(path);
      const add = async (key: string): Promise<void> => {
        for (let read = seen; ; read = await api.get<LooseObject>(path)) {
          const { metadata, spec } = read;
          const taints = [...(spec?.taints ?? []), { key, effect: 'NoSchedule' }];
          const { resourceVersion } = metadata;
          const { status } = await patch(path, { metadata: { resourceVersion }, spec: { taints } });
          if (status === 200) return;
          expect(status).toBe(409);
          conflicts += 1;
        }
      };
      await Promise.all(['example.com/a', 'example.com/b', 'example.com/c'].map(add));
      const after = await api.get<LooseObject>(path);
      expect(taintsOf(after)).toEqual(
        ['a', 'b', 'c', 'gpu'].map((name) => `example.com/${name}:NoSchedule`),
      );
      expect(conflicts).toBeGreaterThanOrEqual(2);
    },
  },
  {
    name: 'A node that is not Ready is tainted until it is',
    async run(context) {
      const { api, expect, eventually, patch, paths } = context;
      const { name } = (await settledNode(context)).metadata;
      const path = `${paths.nodes}/${name}`;
      const report = (status: string) =>
        patch(
          `${path}/status`,
          { status: { conditions: [{ type: 'Ready', status }] } },
          'strategic',
        );
      const isTainted = async () =>
        taintsOf(await api.get<LooseObject>(path)).includes(`${notReady}:NoSchedule`);
      expect((await report('False')).status).toBe(200);
      await eventually('the taint is there', isTainted);
      expect((await report('True')).status).toBe(200);
      await eventually('the taint is gone', async () => !(await isTainted()));
    },
  },
  {
    name: 'A write to the status leaves the spec, and a write to the node leaves the status',
    async run(context) {
      const { expect, patch, paths } = context;
      const node = await settledNode(context);
      const path = `${paths.nodes}/${node.metadata.name}`;
      const condition = (type: string) => ({ type, status: 'True' });
      const viaStatus = await patch(
        `${path}/status`,
        { spec: { unschedulable: true }, status: { conditions: [condition('DiskPressure')] } },
        'strategic',
      );
      expect(viaStatus.status).toBe(200);
      expect(viaStatus.object.spec).not.toHaveProperty('unschedulable');
      expect(viaStatus.object.status?.conditions?.map(({ type }) => type).toSorted()).toEqual([
        'DiskPressure',
        'Ready',
      ]);
      const viaNode = await patch(path, {
        metadata: { labels: { seen: 'yes' } },
        status: { conditions: [] },
      });
      expect(viaNode.status).toBe(200);
      expect(viaNode.object.metadata.labels).toHaveProperty('seen', 'yes');
      expect(viaNode.object.status?.conditions).toHaveLength(2);
    },
  },
  {
    name: 'A strategic merge patch of conditions merges by type',
    async run(context) {
      const { expect, patch, paths } = context;
      const { name } = (await settledNode(context)).metadata;
      const conditions = [
        { type: 'Ready', status: 'False', reason: 'Stopped' },
        { type: 'MemoryPressure', status: 'False' },
      ];
      const answer = await patch(
        `${paths.nodes}/${name}/status`,
        { status: { conditions } },
        'strategic',
      );
      expect(answer.status).toBe(200);
      const found = answer.object.status?.conditions ?? [];
      expect(found).toHaveLength(2);
      expect(found.find(({ type }) => type === 'Ready')).toMatchObject({
        status: 'False',
        reason: 'Stopped',
      });
    },
  },
  {
    name: 'The provider ID of a node can be set once',
    async run(context) {
      const { expect, patch, paths } = context;
      const { name } = (await settledNode(context)).metadata;
      const path = `${paths.nodes}/${name}`;
      const set = await patch(path, { spec: { providerID: 'aws:///eu-west-1a/i-1' } });
      expect(set.status).toBe(200);
      const changed = await patch(path, { spec: { providerID: 'aws:///eu-west-1a/i-2' } });
      expect(changed.status).toBe(422);
      expect(changed.failure.details?.causes?.[0]).toMatchObject({
        reason: 'FieldValueForbidden',
        field: 'spec.providerID',
      });
    },
  },
  {
    name: 'A label value that is none is 422',
    async run(context) {
      const { expect, patch, paths } = context;
      const { name } = (await settledNode(context)).metadata;
      for (const value of ['two words', 'x'.repeat(64), '-dash']) {
        const answer = await patch(`${paths.nodes}/${name}`, {
          metadata: { labels: { a: value } },
        });
        expect(answer.status).toBe(422);
        expect(answer.failure.details?.causes?.[0]?.field).toBe('metadata.labels');
      }
    },
  },
  {
    name: 'Annotations of more than 256 KiB are 422, a body of more than 3 MiB is 413',
    async run(context) {
      const { expect, patch, paths } = context;
      const { name } = (await settledNode(context)).metadata;
      const path = `${paths.nodes}/${name}`;
      const sized = (bytes: number) => ({ metadata: { annotations: { a: 'x'.repeat(bytes) } } });
      expect((await patch(path, sized(200 * 1024))).status).toBe(200);
      const tooLong = await patch(path, sized(257 * 1024));
      expect(tooLong.status).toBe(422);
      expect(tooLong.failure.details?.causes?.[0]).toMatchObject({
        reason: 'FieldValueTooLong',
        field: 'metadata.annotations',
      });
      const tooLarge = await patch(path, sized(3 * 1024 * 1024 + 1));
      expect(tooLarge.status).toBe(413);
      expect(tooLarge.failure.reason).toBe('RequestEntityTooLarge');
    },
  },
  {
    name: 'A PUT of a node replaces it; with a stale version it is 409, without one it is taken',
    async run(context) {
      const { expect, patch, paths, send } = context;
      const node = await settledNode(context);
      const { name, resourceVersion } = node.metadata;
      const path = `${paths.nodes}/${name}`;
      await patch(path, { metadata: { labels: { changed: 'yes' } } });
      const stale = await send('PUT', path, {
        metadata: { name, resourceVersion },
        spec: { taints: [gpu] },
      });
      expect(stale.status).toBe(409);
      const blind = await send('PUT', path, { metadata: { name }, spec: { taints: [ours] } });
      expect(blind.status).toBe(200);
      expect(blind.object.metadata.uid).toBe(node.metadata.uid);
      expect(blind.object.metadata.labels).toBeUndefined();
      expect(taintsOf(blind.object)).toEqual(['example.com/interruption:NoSchedule']);
    },
  },
  {
    name: 'A PUT must name its object as the URL does',
    async run(context) {
      const { expect, paths, send } = context;
      const { name } = (await settledNode(context)).metadata;
      const path = `${paths.nodes}/${name}`;
      expect((await send('PUT', path, { metadata: { name: 'another' } })).status).toBe(400);
      expect((await send('PUT', path, { metadata: {} })).status).toBe(400);
    },
  },
  {
    name: 'A uid in a PUT or patch must be that of the object',
    async run(context) {
      const { expect, patch, paths, send } = context;
      const { name } = (await settledNode(context)).metadata;
      const path = `${paths.nodes}/${name}`;
      const put = await send('PUT', path, { metadata: { name, uid: 'another' }, spec: {} });
      expect(put.status).toBe(409);
      expect(put.failure.reason).toBe('Conflict');
      const patched = await patch(path, { metadata: { uid: 'another' } });
      expect(patched.status).toBe(422);
      expect(patched.failure.details?.causes?.[0]?.field).toBe('metadata.uid');
    },
  },
  {
    name: 'A patch of an absent node is 404',
    async run({ expect, namespace, patch, paths }) {
      const answer = await patch(`${paths.nodes}/${namespace}-absent`, { spec: {} });
      expect(answer.status).toBe(404);
      expect(answer.failure).toMatchObject({
        reason: 'NotFound',
        message: `nodes "${namespace}-absent" not found`,
        details: { name: `${namespace}-absent`, kind: 'nodes' },
      });
    },
  },
  {
    name: 'A patch of another content type is 415, one that is no JSON of its kind 400',
    async run(context) {
      const { expect, patch, paths, send } = context;
      const { name } = (await settledNode(context)).metadata;
      const path = `${paths.nodes}/${name}`;
      const plain = await send(
        'PATCH',
        path,
        {},
        { headers: { 'content-type': 'application/json' } },
      );
      expect(plain.status).toBe(415);
      expect(plain.failure.reason).toBe('UnsupportedMediaType');
      expect((await patch(path, [], 'merge')).status).toBe(400);
      expect((await patch(path, 'text', 'strategic')).status).toBe(400);
      expect((await patch(path, {}, 'json')).status).toBe(400);
    },
  },
  {
    name: 'A dry run of a patch answers as the patch would and changes nothing',
    async run(context) {
      const { api, expect, patch, paths } = context;
      const node = await settledNode(context);
      const path = `${paths.nodes}/${node.metadata.name}`;
      const answer = await patch(`${path}?dryRun=All`, { spec: { taints: [ours] } });
      expect(answer.status).toBe(200);
      expect(taintsOf(answer.object)).toEqual(['example.com/interruption:NoSchedule']);
      const after = await api.get<LooseObject>(path);
      expect(after.metadata.resourceVersion).toBe(node.metadata.resourceVersion);
    },
  },
  {
    name: 'A node goes at once when it is deleted, and one of the same name is another',
    async run(context) {
      const { api, expect, paths, send } = context;
      const node = await settledNode(context);
      const { name, uid } = node.metadata;
      const path = `${paths.nodes}/${name}`;
      const again = await send('POST', paths.nodes, { metadata: { name } });
      expect(again.status).toBe(409);
      expect(again.failure).toMatchObject({
        reason: 'AlreadyExists',
        message: `nodes "${name}" already exists`,
      });
      const gone = await send('DELETE', path);
      expect(gone.status).toBe(200);
      expect(gone.failure).toMatchObject({
        kind: 'Status',
        status: 'Success',
        details: { name, kind: 'nodes' },
      });
      expect((await send('GET', path)).status).toBe(404);
      expect((await send('DELETE', path)).status).toBe(404);
      const made = await api.create<LooseObject>(paths.nodes, {
        metadata: { name },
      } as LooseObject);
      expect(made.metadata.uid).not.toBe(uid);
    },
  },
  {
    name: 'A node is not deleted under another uid',
    async run(context) {
      const { expect, paths, send } = context;
      const { name } = (await settledNode(context)).metadata;
      const answer = await send('DELETE', `${paths.nodes}/${name}`, {
        preconditions: { uid: 'another' },
      });
      expect(answer.status).toBe(409);
      expect((await send('GET', `${paths.nodes}/${name}`)).status).toBe(200);
    },
  },
];
