import type { LooseObject } from './answer.ts';
import type { CaseContext, ContractCase } from './case.ts';
import { eviction, makeReady } from './case.ts';

const event = {
  eventTime: '2026-01-01T00:00:00.000000Z',
  reportingController: 'example.com/controller',
  reportingInstance: 'controller-1',
  action: 'Drain',
  reason: 'Interrupted',
  type: 'Warning',
  note: 'The node will be taken back',
};

function regarding({ namespace }: CaseContext): object {
  return { apiVersion: 'v1', kind: 'Pod', name: 'pod', namespace };
}

export const eventCases: readonly ContractCase[] = [
  {
    name: 'An event of events.k8s.io is also one of core/v1, under the names it has there',
    async run(context) {
      const { expect, namespace, paths, send } = context;
      const answer = await send('POST', paths.events, {
        metadata: { generateName: 'event-' },
        ...event,
        regarding: regarding(context),
      });
      expect(answer.status).toBe(201);
      expect(answer.object).toMatchObject({
        kind: 'Event',
        apiVersion: 'events.k8s.io/v1',
        ...event,
      });
      const { name } = answer.object.metadata;
      const core = await send('GET', `/api/v1/namespaces/${namespace}/events/${name}`);
      expect(core.object).toMatchObject({
        kind: 'Event',
        apiVersion: 'v1',
        involvedObject: regarding(context),
        message: event.note,
        reason: event.reason,
        type: event.type,
        reportingComponent: event.reportingController,
      });
      const selected = new URLSearchParams({ fieldSelector: 'involvedObject.name=pod' });
      const list = await send(
        'GET',
        `/api/v1/namespaces/${namespace}/events?${selected.toString()}`,
      );
      expect(list.object.items).toHaveLength(1);
      const other = new URLSearchParams({ fieldSelector: 'regarding.name=other' });
      expect((await send('GET', `${paths.events}?${other.toString()}`)).object.items).toEqual([]);
    },
  },
  {
    name: 'An event about a node lives in the namespace default',
    async run({ expect, namespace, paths, send }) {
      const about = { kind: 'Node', name: `${namespace}-node`, uid: `${namespace}-node` };
      const elsewhere = await send('POST', paths.events, {
        metadata: { name: 'event' },
        ...event,
        regarding: about,
      });
      expect(elsewhere.status).toBe(422);
      const there = await send('POST', '/apis/events.k8s.io/v1/namespaces/default/events', {
        metadata: { name: `${namespace}-event` },
        ...event,
        regarding: about,
      });
      expect(there.status).toBe(201);
    },
  },
  {
    name: 'An event that lacks a field, or has one too long, is 422; a time of three digits 400',
    async run(context) {
      const { expect, paths, send } = context;
      const post = (change: object) =>
        send('POST', paths.events, {
          metadata: { generateName: 'event-' },
          ...event,
          regarding: regarding(context),
          ...change,
        });
      for (const field of [
        'eventTime',
        'reportingController',
        'reportingInstance',
        'action',
        'reason',
        'type',
      ]) {
        const answer = await post({ [field]: undefined });
        expect(answer.status).toBe(422);
      }
      expect((await post({ note: 'x'.repeat(1025) })).status).toBe(422);
      expect((await post({ reason: 'x'.repeat(129) })).status).toBe(422);
      expect((await post({ type: 'Error' })).status).toBe(422);
      expect((await post({ note: 'x'.repeat(1024) })).status).toBe(201);
      expect((await post({ eventTime: '2026-01-01T00:00:00.000Z' })).status).toBe(400);
    },
  },
  {
    name: 'An event can become a series, but its note stays',
    async run(context) {
      const { expect, patch, paths, send } = context;
      await send('POST', paths.events, {
        metadata: { name: 'event' },
        ...event,
        regarding: regarding(context),
      });
      const series = { count: 2, lastObservedTime: '2026-01-01T00:00:01.000000Z' };
      const repeated = await patch(`${paths.events}/event`, { series });
      expect(repeated.status).toBe(200);
      expect(repeated.object).toHaveProperty('series', series);
      const changed = await patch(`${paths.events}/event`, { note: 'another' });
      expect(changed.status).toBe(422);
    },
  },
  {
    name: 'An event can begin as a series, under a name that no other has; what is gone cannot go on',
    async run(context) {
      const { expect, patch, paths, send } = context;
      const series = { count: 2, lastObservedTime: '2026-01-01T00:00:01.000000Z' };
      const create = () =>
        send('POST', paths.events, {
          metadata: { name: 'event.0123456789abcdef' },
          ...event,
          regarding: regarding(context),
          series,
        });
      const created = await create();
      expect(created.status).toBe(201);
      expect(created.object).toHaveProperty('series', series);
      expect((await create()).status).toBe(409);
      const gone = await patch(`${paths.events}/event.gone`, { series });
      expect(gone.status).toBe(404);
    },
  },
];

export const accessCases: readonly ContractCase[] = [
  {
    name: 'The server says that it is ready, and which version it is',
    async run({ expect, send }) {
      for (const path of ['/readyz', '/healthz', '/livez']) {
        const answer = await send('GET', path);
        expect(answer.status).toBe(200);
        expect(answer.body).toBe('ok');
      }
      const version = await send('GET', '/version');
      expect(version.body).toMatchObject({
        major: '1',
        minor: expect.stringMatching(/^\d+/u) as string,
        gitVersion: expect.stringMatching(/^v1\.\d+\.\d+/u) as string,
      });
    },
  },
  {
    name: 'Discovery names the groups and resources of a drain, evictions among them',
    async run({ expect, send }) {
      expect((await send('GET', '/api')).body).toMatchObject({
        kind: 'APIVersions',
        versions: ['v1'],
      });
      const { body } = await send('GET', '/apis');
      const groups = (body as { groups: { name: string }[] }).groups.map(({ name }) => name);
      for (const group of [
        'apps',
        'policy',
        'coordination.k8s.io',
        'events.k8s.io',
        'storage.k8s.io',
      ]) {
        expect(groups).toContain(group);
      }
      const core = await send('GET', '/api/v1');
      const { resources } = core.body as { resources: { name: string }[] };
      expect(resources).toContainEqual(
        expect.objectContaining({
          name: 'pods/eviction',
          namespaced: true,
          group: 'policy',
          version: 'v1',
          kind: 'Eviction',
          verbs: ['create'],
        }),
      );
      expect(resources).toContainEqual(
        expect.objectContaining({ name: 'nodes', namespaced: false, kind: 'Node' }),
      );
      expect((await send('GET', '/apis/policy/v1')).body).toMatchObject({
        kind: 'APIResourceList',
        groupVersion: 'policy/v1',
      });
      expect((await send('GET', '/apis/nothing.example.com')).status).toBe(404);
    },
  },
  {
    name: 'An access review says yes, or just no',
    async run({ backend, expect, namespace, send }) {
      const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
      const resourceAttributes = {
        verb: 'create',
        resource: 'pods',
        subresource: 'eviction',
        namespace,
      };
      const review = { spec: { resourceAttributes } };
      const yes = await send('POST', path, review);
      expect(yes.status).toBe(201);
      expect(yes.object.status?.allowed).toBe(true);
      const no = await send('POST', path, review, { headers: backend.powerless() });
      expect(no.status).toBe(201);
      expect(no.object.status).toEqual({ allowed: false });
    },
  },
  {
    name: 'Who lacks a right at the cluster scope is told so',
    async run({ backend, expect, namespace, send }) {
      const headers = backend.powerless();
      const answer = await send('DELETE', `/api/v1/nodes/${namespace}`, undefined, { headers });
      expect(answer.status).toBe(403);
      expect(answer.failure.message).toBe(
        `nodes "${namespace}" is forbidden: User "powerless" cannot delete resource "nodes" in API group "" at the cluster scope`,
      );
      const path = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/lease`;
      const lease = await send('GET', path, undefined, { headers });
      expect(lease.failure.message).toBe(
        `leases.coordination.k8s.io "lease" is forbidden: User "powerless" cannot get resource "leases" in API group "coordination.k8s.io" in the namespace "${namespace}"`,
      );
    },
  },
  {
    name: 'A token of a ServiceAccount lasts ten minutes at least',
    async run({ api, expect, namespace, send }) {
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts`;
      await api.create(path, { metadata: { name: 'account' } });
      const ask = (expirationSeconds: number) =>
        send('POST', `${path}/account/token`, { spec: { expirationSeconds } });
      expect((await ask(599)).status).toBe(422);
      const granted = await ask(600);
      expect(granted.status).toBe(201);
      expect(granted.object.status?.token).toMatch(/^\S{20,}$/u);
      expect((await send('POST', `${path}/absent/token`, { spec: {} })).status).toBe(404);
    },
  },
  {
    name: 'A namespace gets its default ServiceAccount',
    async run({ eventually, expect, namespace, send }) {
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts/default`;
      const account = await eventually('the account exists', async () => {
        const answer = await send('GET', path);
        return answer.status === 200 && answer.object;
      });
      expect(account.metadata.namespace).toBe(namespace);
    },
  },
  {
    name: 'VolumeAttachments are made, listed, watched and removed',
    async run({ api, expect, namespace, send, watch }) {
      const path = '/apis/storage.k8s.io/v1/volumeattachments';
      const name = `${namespace}-attachment`;
      const spec = {
        attacher: 'csi.example.com',
        nodeName: `${namespace}-node`,
        source: { persistentVolumeName: `${namespace}-volume` },
      };
      const made = await send('POST', path, { metadata: { name }, spec });
      expect(made.status).toBe(201);
      expect(made.object).toMatchObject({
        kind: 'VolumeAttachment',
        spec,
        status: { attached: false },
      });
      const listed = await api.list<LooseObject>(path);
      expect(listed.map(({ metadata }) => metadata.name)).toContain(name);
      const { resourceVersion } = made.object.metadata;
      const changes = await watch(`${path}?watch=1&resourceVersion=${resourceVersion}`);
      const gone = await send('DELETE', `${path}/${name}`);
      expect(gone.status).toBe(200);
      expect(await changes.nextChange()).toBe(`DELETED ${name}`);
    },
  },
];

const template = (context: CaseContext, spec: object = {}): object => ({
  metadata: { labels: { app: 'app' } },
  spec: {
    nodeSelector: { case: context.namespace },
    containers: [{ name: 'main', image: 'none' }],
    ...spec,
  },
});

const selector = { matchLabels: { app: 'app' } };

async function podsOf(
  { api, eventually, paths }: CaseContext,
  what: string,
  holds: (pods: readonly LooseObject[]) => boolean,
): Promise<readonly LooseObject[]> {
  return eventually(what, async () => {
    const pods = await api.list<LooseObject>(paths.pods);
    return holds(pods) && pods;
  });
}

/** '' for a pod that is not bound. */
const nodeNames = (pods: readonly LooseObject[]): string[] =>
  pods.map(({ spec }) => spec?.nodeName ?? '');

async function makeReadyNode(context: CaseContext, suffix: string, spec = {}): Promise<string> {
  const { api, eventually, makeNode, paths } = context;
  const status = { allocatable: { cpu: '4', memory: '8Gi', pods: '110' } };
  const { name } = (await makeNode(suffix, { spec, status })).metadata;
  await eventually(`node ${name} is schedulable`, async () => {
    const { spec: now } = await api.get<LooseObject>(`${paths.nodes}/${name}`);
    return !(now?.taints ?? []).some(({ key }) => key.endsWith('/not-ready'));
  });
  return name;
}

export const workloadCases: readonly ContractCase[] = [
  {
    name: 'A Deployment makes a ReplicaSet, which makes pods, and both go with it',
    async run(context) {
      const { api, eventually, expect, namespace } = context;
      const apps = `/apis/apps/v1/namespaces/${namespace}`;
      await api.create(`${apps}/deployments`, {
        metadata: { name: 'app' },
        spec: { replicas: 2, selector, template: template(context) },
      });
      const pods = await podsOf(context, 'two pods exist', ({ length }) => length === 2);
      const [set] = await api.list<LooseObject>(`${apps}/replicasets`);
      expect(set?.metadata.ownerReferences).toContainEqual(
        expect.objectContaining({ kind: 'Deployment', name: 'app', controller: true }),
      );
      for (const pod of pods) {
        expect(pod.metadata.name.startsWith(`${set?.metadata.name}-`)).toBe(true);
        expect(pod.metadata.ownerReferences).toContainEqual(
          expect.objectContaining({ kind: 'ReplicaSet', uid: set?.metadata.uid, controller: true }),
        );
      }
      await api.delete(`${apps}/deployments/app`, { propagationPolicy: 'Background' });
      await podsOf(context, 'no pods are left', ({ length }) => length === 0);
      await eventually('no sets are left', async () => {
        return (await api.list(`${apps}/replicasets`)).length === 0;
      });
    },
  },
  {
    name: 'An evicted pod of a ReplicaSet is replaced at once, on a node that will have it',
    async run(context) {
      const { api, expect, namespace, patch, paths, send } = context;
      const first = await makeReadyNode(context, 'first');
      await api.create(`/apis/apps/v1/namespaces/${namespace}/replicasets`, {
        metadata: { name: 'app' },
        spec: { replicas: 1, selector, template: template(context) },
      });
      const [pod] = await podsOf(
        context,
        'the pod is bound',
        (pods) => nodeNames(pods)[0] === first,
      );
      const name = pod?.metadata.name ?? '';
      await makeReady(context, name);
      const second = await makeReadyNode(context, 'second');
      await patch(`${paths.nodes}/${first}`, { spec: { unschedulable: true } });
      expect((await send('POST', `${paths.pods}/${name}/eviction`, eviction(name))).status).toBe(
        201,
      );
      const pods = await podsOf(context, 'a replacement is bound', (found) => {
        return found.length === 2 && nodeNames(found).includes(second);
      });
      const old = pods.find(({ metadata }) => metadata.name === name);
      expect(old?.metadata).toHaveProperty('deletionTimestamp');
    },
  },
  {
    name: 'A pod that its ReplicaSet does not select is let go, not removed',
    async run(context) {
      const { api, eventually, expect, namespace, paths, send } = context;
      const set = await api.create<LooseObject>(
        `/apis/apps/v1/namespaces/${namespace}/replicasets`,
        {
          metadata: { name: 'app' },
          spec: { replicas: 0, selector, template: template(context) },
        } as unknown as LooseObject,
      );
      const owner = {
        apiVersion: 'apps/v1',
        kind: 'ReplicaSet',
        name: 'app',
        uid: set.metadata.uid,
        controller: true,
      };
      const pod = (name: string, labels: Record<string, string>) => ({
        metadata: { name, labels, ownerReferences: [owner] },
        spec: { schedulerName: 'nobody', containers: [{ name: 'main', image: 'none' }] },
      });
      await send('POST', paths.pods, pod('selected', { app: 'app' }));
      await send('POST', paths.pods, pod('other', {}));
      await eventually('the selected one is removed', async () => {
        return (await send('GET', `${paths.pods}/selected`)).status === 404;
      });
      const other = await eventually('the other one is let go', async () => {
        const { object } = await send('GET', `${paths.pods}/other`);
        return object.metadata.ownerReferences === undefined && object;
      });
      expect(other.metadata).not.toHaveProperty('deletionTimestamp');
    },
  },
  {
    name: 'A pod of a StatefulSet comes back under its name, once the old one is gone',
    async run(context) {
      const { api, eventually, expect, namespace, paths, send } = context;
      const node = await makeReadyNode(context, 'node');
      await api.create(`/apis/apps/v1/namespaces/${namespace}/statefulsets`, {
        metadata: { name: 'app' },
        spec: { replicas: 1, serviceName: 'app', selector, template: template(context) },
      });
      const [pod] = await podsOf(
        context,
        'the pod is bound',
        (pods) => nodeNames(pods)[0] === node,
      );
      expect(pod?.metadata.name).toBe('app-0');
      await makeReady(context, 'app-0');
      await send('POST', `${paths.pods}/app-0/eviction`, eviction('app-0'));
      const still = await api.get<LooseObject>(`${paths.pods}/app-0`);
      expect(still.metadata.uid).toBe(pod?.metadata.uid);
      await send('DELETE', `${paths.pods}/app-0`, { gracePeriodSeconds: 0 });
      const next = await eventually('it has come back', async () => {
        const answer = await send('GET', `${paths.pods}/app-0`);
        return answer.status === 200 && answer.object;
      });
      expect(next.metadata.uid).not.toBe(pod?.metadata.uid);
    },
  },
  {
    name: 'A DaemonSet puts a pod on every node it selects, a cordoned one too',
    async run(context) {
      const { api, expect, namespace } = context;
      const free = await makeReadyNode(context, 'free');
      const cordoned = await makeReadyNode(context, 'cordoned', { unschedulable: true });
      await api.create(`/apis/apps/v1/namespaces/${namespace}/daemonsets`, {
        metadata: { name: 'app' },
        spec: { selector, template: template(context) },
      });
      const pods = await podsOf(context, 'both nodes have one', (found) => {
        return nodeNames(found).filter((name) => name !== '').length === 2;
      });
      expect(nodeNames(pods).toSorted()).toEqual([cordoned, free].toSorted());
      expect(pods[0]?.metadata.ownerReferences?.[0]).toMatchObject({
        kind: 'DaemonSet',
        controller: true,
      });
    },
  },
  {
    name: 'The scheduler keeps away from taints that a pod does not tolerate',
    async run(context) {
      const { eventually, expect, makePod, namespace, patch, paths, send } = context;
      const node = await makeReadyNode(context, 'node');
      await patch(`${paths.nodes}/${node}`, {
        spec: { taints: [{ key: 'example.com/gone', effect: 'NoSchedule' }] },
      });
      const spec = { schedulerName: 'default-scheduler', nodeSelector: { case: namespace } };
      await makePod('tolerant', {
        spec: { ...spec, tolerations: [{ key: 'example.com/gone', operator: 'Exists' }] },
      });
      await makePod('other', { spec });
      const nodeOf = async (name: string) => (await send('GET', `${paths.pods}/${name}`)).object;
      await eventually('the tolerant one is bound', async () => {
        return (await nodeOf('tolerant')).spec?.nodeName === node;
      });
      const other = await eventually('the other one is reported', async () => {
        const pod = await nodeOf('other');
        return pod.status?.conditions?.some((c) => c.type === 'PodScheduled') && pod;
      });
      expect(other.status?.conditions).toContainEqual(
        expect.objectContaining({ type: 'PodScheduled', status: 'False', reason: 'Unschedulable' }),
      );
      expect(other.spec).not.toHaveProperty('nodeName');
      await patch(`${paths.nodes}/${node}`, { spec: { taints: null } });
      await eventually(
        'it is bound now',
        async () => (await nodeOf('other')).spec?.nodeName === node,
      );
    },
  },
  {
    name: 'The scheduler prefers nodes without a taint of preference',
    async run(context) {
      const { eventually, expect, makePod, namespace, paths, send } = context;
      const preferred = await makeReadyNode(context, 'preferred');
      await makeReadyNode(context, 'avoided', {
        taints: [{ key: 'example.com/soon', effect: 'PreferNoSchedule' }],
      });
      const spec = { schedulerName: 'default-scheduler', nodeSelector: { case: namespace } };
      for (const name of ['a', 'b', 'c']) {
        await makePod(name, { spec });
        const bound = await eventually('it is bound', async () => {
          return (await send('GET', `${paths.pods}/${name}`)).object.spec?.nodeName;
        });
        expect(bound).toBe(preferred);
      }
    },
  },
];
