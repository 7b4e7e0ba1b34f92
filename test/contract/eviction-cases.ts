import type { LooseObject } from './answer.ts';
import { eviction, makeBudget, makeReady, type CaseContext, type ContractCase } from './case.ts';

const bound = { nodeName: 'no-such-node' };
const guarded = { app: 'guarded' };
const guardsOne = { minAvailable: 1, selector: { matchLabels: guarded } };

/** Two ready pods, of which one may go. */
async function guardedPair(context: CaseContext): Promise<void> {
  for (const name of ['one', 'two']) {
    await context.makePod(name, { labels: guarded, spec: bound, phase: 'Running' });
  }
  await makeBudget(context, 'guard', guardsOne, { allowed: 1 });
}

export const evictionCases: readonly ContractCase[] = [
  {
    name: 'An unprotected pod is evicted with its own grace, marked, and stays until its kubelet ends it',
    async run({ api, expect, makePod, paths, send }) {
      await makePod('pod', {
        spec: { ...bound, terminationGracePeriodSeconds: 45 },
        phase: 'Running',
      });
      const answer = await send('POST', `${paths.pods}/pod/eviction`, eviction('pod'));
      expect(answer.status).toBe(201);
      expect(answer.body).toEqual({
        kind: 'Status',
        apiVersion: 'v1',
        metadata: {},
        status: 'Success',
        code: 201,
      });
      const pod = await api.get<LooseObject>(`${paths.pods}/pod`);
      expect(pod.metadata.deletionGracePeriodSeconds).toBe(45);
      expect(pod.metadata).toHaveProperty('deletionTimestamp');
      expect(pod.status?.phase).toBe('Running');
      expect(pod.status?.conditions).toContainEqual(
        expect.objectContaining({
          type: 'DisruptionTarget',
          status: 'True',
          reason: 'EvictionByEvictionAPI',
        }),
      );
    },
  },
  {
    name: 'An eviction can shorten the grace',
    async run({ api, expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound, phase: 'Running' });
      const body = eviction('pod', { gracePeriodSeconds: 7 });
      expect((await send('POST', `${paths.pods}/pod/eviction`, body)).status).toBe(201);
      const pod = await api.get<LooseObject>(`${paths.pods}/pod`);
      expect(pod.metadata.deletionGracePeriodSeconds).toBe(7);
    },
  },
  {
    name: 'A finished pod, one without a node, and one evicted with grace 0 go at once',
    async run({ expect, makePod, paths, send }) {
      await makePod('finished', { spec: bound, phase: 'Succeeded' });
      await makePod('unbound');
      await makePod('killed', { spec: bound, phase: 'Running' });
      const options = {
        finished: undefined,
        unbound: undefined,
        killed: { gracePeriodSeconds: 0 },
      };
      for (const [name, deleteOptions] of Object.entries(options)) {
        const body = eviction(name, deleteOptions);
        expect((await send('POST', `${paths.pods}/${name}/eviction`, body)).status).toBe(201);
        expect((await send('GET', `${paths.pods}/${name}`)).status).toBe(404);
      }
    },
  },
  {
    name: 'An eviction of an absent pod is 404, of another name than in the URL 400',
    async run({ expect, makePod, paths, send }) {
      const absent = await send('POST', `${paths.pods}/absent/eviction`, eviction('absent'));
      expect(absent.status).toBe(404);
      expect(absent.failure).toMatchObject({
        reason: 'NotFound',
        message: 'pods "absent" not found',
        details: { name: 'absent', kind: 'pods' },
      });
      await makePod('pod');
      expect((await send('POST', `${paths.pods}/pod/eviction`, eviction('other'))).status).toBe(
        400,
      );
      expect((await send('POST', `${paths.pods}/pod/eviction`, {})).status).toBe(400);
    },
  },
  {
    name: 'A terminating pod can be evicted again: a shorter grace counts, a longer does not',
    async run({ api, expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound, phase: 'Running' });
      const evict = async (deleteOptions?: object): Promise<LooseObject> => {
        const body = eviction('pod', deleteOptions);
        expect((await send('POST', `${paths.pods}/pod/eviction`, body)).status).toBe(201);
        return api.get<LooseObject>(`${paths.pods}/pod`);
      };
      const endOf = ({ metadata }: LooseObject) =>
        Date.parse(metadata.deletionTimestamp ?? '') / 1000;
      const first = await evict({ gracePeriodSeconds: 60 });
      const longer = await evict({ gracePeriodSeconds: 90 });
      expect(endOf(longer)).toBe(endOf(first));
      const shorter = await evict({ gracePeriodSeconds: 20 });
      expect(endOf(shorter)).toBe(endOf(first) - 40);
      expect(shorter.metadata.deletionGracePeriodSeconds).toBe(20);
      const same = await evict();
      expect(endOf(same)).toBe(endOf(shorter));
    },
  },
  {
    name: 'An eviction under another uid is 409 and leaves the pod alone',
    async run({ expect, makePod, paths, send }) {
      const pod = await makePod('pod', { spec: bound, phase: 'Running' });
      const body = eviction('pod', { preconditions: { uid: 'another' } });
      const answer = await send('POST', `${paths.pods}/pod/eviction`, body);
      expect(answer.status).toBe(409);
      expect(answer.failure).toMatchObject({
        reason: 'Conflict',
        details: { name: 'pod', kind: 'Pod' },
      });
      expect(answer.failure.message).toContain(
        `the UID in the precondition (another) does not match the UID in record (${pod.metadata.uid})`,
      );
      const now = await send('GET', `${paths.pods}/pod`);
      expect(now.object.metadata.resourceVersion).toBe(pod.metadata.resourceVersion);
      const right = eviction('pod', { preconditions: { uid: pod.metadata.uid } });
      expect((await send('POST', `${paths.pods}/pod/eviction`, right)).status).toBe(201);
    },
  },
  {
    name: 'An eviction under another uid of a pod that is Pending is answered only after ten seconds',
    mode: 'slow',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound });
      const startedAt = performance.now();
      const body = eviction('pod', { preconditions: { uid: 'another' } });
      const answer = await send('POST', `${paths.pods}/pod/eviction`, body);
      expect(answer.status).toBe(409);
      // The server tries again for itself; a limit of a few seconds would never see its answer.
      expect(performance.now() - startedAt).toBeGreaterThan(8000);
    },
  },
  {
    name: 'An eviction under another uid of a pod that is terminating is answered only after ten seconds',
    mode: 'slow',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound, phase: 'Running' });
      await send('DELETE', `${paths.pods}/pod`);
      const startedAt = performance.now();
      const body = eviction('pod', { preconditions: { uid: 'another' } });
      const answer = await send('POST', `${paths.pods}/pod/eviction`, body);
      expect(answer.status).toBe(409);
      expect(performance.now() - startedAt).toBeGreaterThan(8000);
    },
  },
  {
    name: 'An eviction under another uid of a pod that vanishes meanwhile is 404',
    mode: 'slow',
    async run({ expect, makePod, paths, send }) {
      await makePod('pod', { spec: bound, phase: 'Running' });
      await send('DELETE', `${paths.pods}/pod`);
      const body = eviction('pod', { preconditions: { uid: 'another' } });
      const answer = send('POST', `${paths.pods}/pod/eviction`, body);
      await send('DELETE', `${paths.pods}/pod`, { gracePeriodSeconds: 0 });
      expect((await answer).status).toBe(404);
    },
  },
  {
    name: 'A budget that refuses is 429 with its cause, and without a hint when to come again',
    async run(context) {
      const { expect, makePod, paths, send } = context;
      await makePod('one', { labels: guarded, spec: bound, phase: 'Running' });
      await makePod('two', { labels: guarded, spec: bound, phase: 'Running' });
      const spec = { minAvailable: 2, selector: { matchLabels: guarded } };
      const pending = makeBudget(context, 'guard', spec, { allowed: 0 });
      await pending;
      await context.eventually('the budget counts two', async () => {
        const budget = await context.api.get<LooseObject>(`${paths.budgets}/guard`);
        return budget.status?.currentHealthy === 2;
      });
      const answer = await send('POST', `${paths.pods}/one/eviction`, eviction('one'));
      expect(answer.status).toBe(429);
      expect(answer.headers['content-type']).toContain('application/json');
      expect(answer.headers['retry-after']).toBeUndefined();
      expect(answer.failure.reason).toBe('TooManyRequests');
      expect(answer.failure.details).toEqual({
        causes: [
          {
            reason: 'DisruptionBudget',
            message: 'The disruption budget guard needs 2 healthy pods and has 2 currently',
          },
        ],
      });
      const pod = await send('GET', `${paths.pods}/one`);
      expect(pod.object.metadata).not.toHaveProperty('deletionTimestamp');
    },
  },
  {
    name: 'A budget that has not been processed yet is 429 with a hint of ten seconds',
    mode: 'alone',
    async run(context) {
      const { backend, expect, onEnd, patch, paths, send } = context;
      await guardedPair(context);
      backend.pauseControllers();
      onEnd(() => backend.resumeControllers());
      await patch(`${paths.budgets}/guard`, { spec: { minAvailable: 0 } });
      const answer = await send('POST', `${paths.pods}/one/eviction`, eviction('one'));
      expect(answer.status).toBe(429);
      expect(answer.headers['retry-after']).toBe('10');
      expect(answer.failure.details).toEqual({
        retryAfterSeconds: 10,
        causes: [
          {
            reason: 'DisruptionBudget',
            message: 'The disruption budget guard is still being processed by the server.',
          },
        ],
      });
    },
  },
  {
    name: 'A budget that allows one disruption grants the first eviction and refuses the second',
    mode: 'alone',
    async run(context) {
      const { api, backend, expect, onEnd, paths, send } = context;
      await guardedPair(context);
      backend.pauseControllers();
      onEnd(() => backend.resumeControllers());
      const first = await send('POST', `${paths.pods}/one/eviction`, eviction('one'));
      expect(first.status).toBe(201);
      const budget = await api.get<LooseObject>(`${paths.budgets}/guard`);
      expect(budget.status).toMatchObject({
        disruptionsAllowed: 0,
        disruptedPods: { one: expect.any(String) as string },
      });
      const second = await send('POST', `${paths.pods}/two/eviction`, eviction('two'));
      expect(second.status).toBe(429);
      expect(second.failure.details?.causes?.[0]?.reason).toBe('DisruptionBudget');
    },
  },
  {
    name: 'A budget grants again when another pod has become ready',
    async run(context) {
      const { api, eventually, expect, makePod, paths, send } = context;
      await guardedPair(context);
      expect((await send('POST', `${paths.pods}/one/eviction`, eviction('one'))).status).toBe(201);
      await eventually('the budget refuses', async () => {
        const budget = await api.get<LooseObject>(`${paths.budgets}/guard`);
        return budget.status?.currentHealthy === 1;
      });
      expect((await send('POST', `${paths.pods}/two/eviction`, eviction('two'))).status).toBe(429);
      await makePod('three', { labels: guarded, spec: bound, phase: 'Running' });
      await eventually('the eviction is granted', async () => {
        const { status } = await send('POST', `${paths.pods}/two/eviction`, eviction('two'));
        return status === 201;
      });
    },
  },
  {
    name: 'The budget is charged before the uid is compared',
    mode: 'alone',
    async run(context) {
      const { api, backend, expect, onEnd, paths, send } = context;
      await guardedPair(context);
      backend.pauseControllers();
      onEnd(() => backend.resumeControllers());
      const wrong = eviction('one', { preconditions: { uid: 'another' } });
      expect((await send('POST', `${paths.pods}/one/eviction`, wrong)).status).toBe(409);
      const budget = await api.get<LooseObject>(`${paths.budgets}/guard`);
      expect(budget.status?.disruptionsAllowed).toBe(0);
      expect((await send('POST', `${paths.pods}/two/eviction`, eviction('two'))).status).toBe(429);
    },
  },
  {
    name: 'A refusing budget answers before the uid is compared',
    async run(context) {
      const { expect, makePod, paths, send } = context;
      await makePod('one', { labels: guarded, spec: bound, phase: 'Running' });
      await makeBudget(context, 'guard', guardsOne, { allowed: 0 });
      const body = eviction('one', { preconditions: { uid: 'another' } });
      expect((await send('POST', `${paths.pods}/one/eviction`, body)).status).toBe(429);
    },
  },
  {
    name: 'Two budgets for one pod are 500, without reason or details',
    async run(context) {
      const { expect, makePod, paths, send } = context;
      await makePod('one', { labels: guarded, spec: bound, phase: 'Running' });
      await makeBudget(context, 'first', { ...guardsOne, minAvailable: 0 }, { allowed: 1 });
      await makeBudget(context, 'second', { ...guardsOne, minAvailable: 0 }, { allowed: 1 });
      const answer = await send('POST', `${paths.pods}/one/eviction`, eviction('one'));
      expect(answer.status).toBe(500);
      expect(answer.body).toEqual({
        kind: 'Status',
        apiVersion: 'v1',
        metadata: {},
        status: 'Failure',
        message:
          'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
        code: 500,
      });
    },
  },
  {
    name: 'A pod that two budgets guard can still be deleted',
    async run(context) {
      const { expect, makePod, paths, send } = context;
      await makePod('one', { labels: guarded, spec: bound, phase: 'Running' });
      await makeBudget(context, 'first', guardsOne, { allowed: 0 });
      await makeBudget(context, 'second', guardsOne, { allowed: 0 });
      const answer = await send('DELETE', `${paths.pods}/one`, { gracePeriodSeconds: 3 });
      expect(answer.status).toBe(200);
      expect(answer.object.metadata.deletionGracePeriodSeconds).toBe(3);
    },
  },
  {
    name: 'A Pending pod is evicted in spite of its budget',
    async run(context) {
      const { expect, makePod, paths, send } = context;
      await makePod('one', { labels: guarded, spec: bound });
      await makeBudget(context, 'guard', guardsOne, { allowed: 0 });
      expect((await send('POST', `${paths.pods}/one/eviction`, eviction('one'))).status).toBe(201);
    },
  },
  {
    name: 'A pod that is not ready is refused while its budget lacks healthy pods',
    async run(context) {
      const { expect, makePod, paths, send } = context;
      await makePod('one', { labels: guarded, spec: bound, phase: 'Running', ready: false });
      await makeBudget(context, 'guard', guardsOne, { allowed: 0 });
      const answer = await send('POST', `${paths.pods}/one/eviction`, eviction('one'));
      expect(answer.status).toBe(429);
      expect(answer.failure.details?.causes?.[0]?.message).toBe(
        'The disruption budget guard needs 1 healthy pods and has 0 currently',
      );
    },
  },
  {
    name: 'A pod that is not ready is granted under AlwaysAllow, and not charged',
    async run(context) {
      const { api, expect, makePod, paths, send } = context;
      await makePod('one', { labels: guarded, spec: bound, phase: 'Running', ready: false });
      const spec = { ...guardsOne, unhealthyPodEvictionPolicy: 'AlwaysAllow' };
      await makeBudget(context, 'guard', spec, { allowed: 0 });
      expect((await send('POST', `${paths.pods}/one/eviction`, eviction('one'))).status).toBe(201);
      const budget = await api.get<LooseObject>(`${paths.budgets}/guard`);
      expect(budget.status).not.toHaveProperty('disruptedPods');
    },
  },
  {
    name: 'A pod that is not ready is granted when enough others are, though none of those may go',
    async run(context) {
      const { eventually, expect, makePod, paths, send } = context;
      await makePod('one', { labels: guarded, spec: bound, phase: 'Running', ready: false });
      await makePod('two', { labels: guarded, spec: bound, phase: 'Running' });
      await makeBudget(context, 'guard', guardsOne, { allowed: 0 });
      await eventually('the budget counts one', async () => {
        const budget = await context.api.get<LooseObject>(`${paths.budgets}/guard`);
        return budget.status?.currentHealthy === 1;
      });
      expect((await send('POST', `${paths.pods}/two/eviction`, eviction('two'))).status).toBe(429);
      expect((await send('POST', `${paths.pods}/one/eviction`, eviction('one'))).status).toBe(201);
    },
  },
  {
    name: 'A budget with an empty selector guards all pods, one without a selector none',
    async run(context) {
      const { expect, makePod, paths, send } = context;
      await makePod('one', { spec: bound, phase: 'Running' });
      await makeBudget(context, 'none', { minAvailable: 1 }, { allowed: 0 });
      const dryRun = eviction('one', { dryRun: ['All'] });
      expect((await send('POST', `${paths.pods}/one/eviction`, dryRun)).status).toBe(201);
      await makeBudget(context, 'all', { minAvailable: 1, selector: {} }, { allowed: 0 });
      expect((await send('POST', `${paths.pods}/one/eviction`, dryRun)).status).toBe(429);
    },
  },
  {
    name: 'A dry run of an eviction is granted or refused, and changes nothing',
    async run(context) {
      const { api, expect, paths, send } = context;
      await guardedPair(context);
      const before = await api.get<LooseObject>(`${paths.pods}/one`);
      const dryRun = eviction('one', { dryRun: ['All'] });
      for (let time = 0; time < 2; time += 1) {
        expect((await send('POST', `${paths.pods}/one/eviction`, dryRun)).status).toBe(201);
      }
      const after = await api.get<LooseObject>(`${paths.pods}/one`);
      expect(after.metadata.resourceVersion).toBe(before.metadata.resourceVersion);
      const budget = await api.get<LooseObject>(`${paths.budgets}/guard`);
      expect(budget.status?.disruptionsAllowed).toBe(1);
    },
  },
  {
    name: 'A budget with over 2,000 evictions that nobody confirmed is 403',
    mode: 'alone',
    async run(context) {
      const { backend, expect, onEnd, patch, paths, send } = context;
      await guardedPair(context);
      backend.pauseControllers();
      onEnd(() => backend.resumeControllers());
      const names = Array.from({ length: 2001 }, (_, at) => `gone-${at}`);
      const since = new Date().toISOString().replace(/\.\d+Z$/u, 'Z');
      const disruptedPods = Object.fromEntries(names.map((name) => [name, since]));
      await patch(`${paths.budgets}/guard/status`, { status: { disruptedPods } });
      const answer = await send('POST', `${paths.pods}/one/eviction`, eviction('one'));
      expect(answer.status).toBe(403);
      expect(answer.failure.reason).toBe('Forbidden');
      expect(answer.failure.message).toContain('DisruptedPods map too big');
    },
  },
  {
    name: 'In a terminating namespace an eviction is 403 for that cause, while a deletion works',
    async run({ api, expect, makePod, namespace, paths, send }) {
      await makePod('one', { spec: bound, phase: 'Running' });
      const going = await send('DELETE', `/api/v1/namespaces/${namespace}`);
      expect(going.status).toBe(200);
      expect(going.object.status?.phase).toBe('Terminating');
      const answer = await send('POST', `${paths.pods}/one/eviction`, eviction('one'));
      expect(answer.status).toBe(403);
      expect(answer.failure).toMatchObject({
        reason: 'Forbidden',
        details: { name: 'one', kind: 'pods', causes: [{ reason: 'NamespaceTerminating' }] },
      });
      const pod = await api.get<LooseObject>(`${paths.pods}/one`);
      expect(pod.metadata).not.toHaveProperty('deletionTimestamp');
      const spec = { containers: [{ name: 'main', image: 'none' }] };
      expect((await send('POST', paths.pods, { metadata: { name: 'new' }, spec })).status).toBe(
        403,
      );
      const deleted = await send('DELETE', `${paths.pods}/one`, { gracePeriodSeconds: 0 });
      expect(deleted.status).toBe(200);
    },
  },
  {
    name: 'A namespace that is deleted takes its pods with it, then goes',
    mode: 'slow',
    async run({ eventually, expect, makePod, namespace, paths, send }) {
      await makePod('one', { spec: bound, phase: 'Running' });
      await send('DELETE', `/api/v1/namespaces/${namespace}`);
      const pod = await eventually('the pod is terminating', async () => {
        const { object } = await send('GET', `${paths.pods}/one`);
        return object.metadata.deletionTimestamp !== undefined && object;
      });
      expect(pod.metadata.deletionGracePeriodSeconds).toBe(30);
      await send('DELETE', `${paths.pods}/one`, { gracePeriodSeconds: 0 });
      await eventually('the namespace is gone', async () => {
        return (await send('GET', `/api/v1/namespaces/${namespace}`)).status === 404;
      });
    },
  },
  ...(['forbidden', 'invalid', 'unreachable', 'timeout'] as const).map((refusal): ContractCase => ({
    name: `An eviction that admission refuses (${refusal}) leaves the pod alone, and a deletion works`,
    mode: 'slow',
    async run({ backend, eventually, expect, makePod, namespace, paths, send }) {
      const expected = { forbidden: 403, invalid: 422, unreachable: 500, timeout: 500 }[refusal];
      await makePod('one', { spec: bound, phase: 'Running' });
      await backend.refuseEvictions(namespace, refusal);
      const dryRun = eviction('one', { dryRun: ['All'] });
      await eventually('the refusal is in force', async () => {
        return (await send('POST', `${paths.pods}/one/eviction`, dryRun)).status >= 400;
      });
      const answer = await send('POST', `${paths.pods}/one/eviction`, eviction('one'));
      expect(answer.status).toBe(expected);
      expect(answer.failure.kind).toBe('Status');
      expect(answer.failure.details?.causes?.some((c) => c.reason === 'DisruptionBudget')).not.toBe(
        true,
      );
      const pod = await send('GET', `${paths.pods}/one`);
      expect(pod.object.metadata).not.toHaveProperty('deletionTimestamp');
      expect((await send('DELETE', `${paths.pods}/one`)).status).toBe(200);
    },
  })),
  {
    name: 'Who lacks the right to evict gets 403 with a message that names it',
    async run({ backend, expect, makePod, namespace, paths, send }) {
      await makePod('one', { spec: bound, phase: 'Running' });
      const headers = backend.powerless();
      const answer = await send('POST', `${paths.pods}/one/eviction`, eviction('one'), { headers });
      expect(answer.status).toBe(403);
      expect(answer.failure).toMatchObject({
        reason: 'Forbidden',
        message: `pods "one" is forbidden: User "powerless" cannot create resource "pods/eviction" in API group "" in the namespace "${namespace}"`,
        details: { name: 'one', kind: 'pods' },
      });
      expect(answer.failure.details?.causes).toBeUndefined();
    },
  },
  {
    name: 'A server without capacity answers 429 as text, with a hint, to any request',
    mode: 'alone',
    async run({ backend, eventually, expect, paths, send }) {
      await backend.whileOverloaded(async (headers) => {
        const requests = [
          () => send('GET', paths.pods, undefined, { headers }),
          () => send('POST', `${paths.pods}/one/eviction`, eviction('one'), { headers }),
        ];
        for (const request of requests) {
          // Whoever holds the server's capacity lets go of it for a moment now and then.
          const answer = await eventually('the request is refused', async () => {
            const found = await request();
            return found.status === 429 && found;
          });
          expect(answer.headers['content-type']).toContain('text/plain');
          expect(answer.headers['retry-after']).toBe('1');
          expect(answer.body).toBe('Too many requests, please try again later.\n');
        }
      });
    },
  },
];

/** Pods of a ReplicaSet, of which this many are ready. */
async function replicaSetPods(
  context: CaseContext,
  replicas: number,
  ready: number,
): Promise<string[]> {
  const { api, eventually, namespace, paths } = context;
  await api.create(`/apis/apps/v1/namespaces/${namespace}/replicasets`, {
    metadata: { name: 'set' },
    spec: {
      replicas,
      selector: { matchLabels: guarded },
      template: {
        metadata: { labels: guarded },
        spec: {
          schedulerName: 'nobody',
          nodeName: bound.nodeName,
          containers: [{ name: 'main', image: 'none' }],
        },
      },
    },
  });
  const made = await eventually(`${replicas} pods exist`, async () => {
    const pods = await api.list(`${paths.pods}?labelSelector=app%3Dguarded`);
    return pods.length === replicas && pods.map(({ metadata }) => metadata.name);
  });
  for (const name of made.slice(0, ready)) await makeReady(context, name);
  return made;
}

type Expectation = {
  readonly of: string;
  readonly spec: object;
  readonly replicas: number;
  readonly ready: number;
  readonly status: object;
};

const expectations: readonly Expectation[] = [
  {
    of: 'a number of available pods',
    spec: { minAvailable: 2 },
    replicas: 3,
    ready: 3,
    status: { expectedPods: 3, desiredHealthy: 2, currentHealthy: 3, disruptionsAllowed: 1 },
  },
  {
    of: 'half of three available pods, rounded up',
    spec: { minAvailable: '50%' },
    replicas: 3,
    ready: 3,
    status: { expectedPods: 3, desiredHealthy: 2, currentHealthy: 3, disruptionsAllowed: 1 },
  },
  {
    of: 'a number of unavailable pods',
    spec: { maxUnavailable: 1 },
    replicas: 3,
    ready: 3,
    status: { expectedPods: 3, desiredHealthy: 2, currentHealthy: 3, disruptionsAllowed: 1 },
  },
  {
    of: 'half of three unavailable pods, rounded up',
    spec: { maxUnavailable: '50%' },
    replicas: 3,
    ready: 3,
    status: { expectedPods: 3, desiredHealthy: 1, currentHealthy: 3, disruptionsAllowed: 2 },
  },
  {
    of: 'no unavailable pod',
    spec: { maxUnavailable: 0 },
    replicas: 2,
    ready: 2,
    status: { expectedPods: 2, desiredHealthy: 2, currentHealthy: 2, disruptionsAllowed: 0 },
  },
  {
    of: 'unavailable pods of which some are so already',
    spec: { maxUnavailable: 1 },
    replicas: 3,
    ready: 1,
    status: { expectedPods: 3, desiredHealthy: 2, currentHealthy: 1, disruptionsAllowed: 0 },
  },
];

export const budgetCases: readonly ContractCase[] = [
  ...expectations.map(({ of, spec, replicas, ready, status }): ContractCase => ({
    name: `A budget is counted for ${of}`,
    async run(context) {
      const { api, eventually, expect, paths } = context;
      await replicaSetPods(context, replicas, ready);
      await api.create(paths.budgets, {
        metadata: { name: 'guard' },
        spec: { ...spec, selector: { matchLabels: guarded } },
      });
      const wanted = expect.objectContaining(status) as object;
      const budget = await eventually('the budget is counted', async () => {
        const now = await api.get<LooseObject>(`${paths.budgets}/guard`);
        const counted =
          now.status?.expectedPods === replicas && now.status.currentHealthy === ready;
        return counted && now;
      });
      expect(budget.status).toEqual(wanted);
      expect(budget.status?.observedGeneration).toBe(budget.metadata.generation);
      const allowed = (budget.status?.disruptionsAllowed ?? 0) > 0;
      expect(budget.status?.conditions).toContainEqual(
        expect.objectContaining({
          type: 'DisruptionAllowed',
          status: allowed ? 'True' : 'False',
          reason: allowed ? 'SufficientPods' : 'InsufficientPods',
        }),
      );
    },
  })),
  {
    name: 'A terminating pod counts as unhealthy, its replacement once it is ready',
    async run(context) {
      const { api, eventually, expect, paths, send } = context;
      const [first = '', ...others] = await replicaSetPods(context, 2, 2);
      const spec = { maxUnavailable: 1, selector: { matchLabels: guarded } };
      await makeBudget(context, 'guard', spec, { allowed: 1 });
      expect((await send('POST', `${paths.pods}/${first}/eviction`, eviction(first))).status).toBe(
        201,
      );
      const settled = (allowed: number) => async (): Promise<boolean> => {
        const { status } = await api.get<LooseObject>(`${paths.budgets}/guard`);
        return status?.currentHealthy === 1 + allowed && status.disruptionsAllowed === allowed;
      };
      await eventually('nothing more is allowed', settled(0));
      const replacement = await eventually('a replacement exists', async () => {
        const pods = await api.list<LooseObject>(paths.pods);
        return pods.find(({ metadata }) => ![first, ...others].includes(metadata.name));
      });
      expect((await send('GET', `${paths.pods}/${first}`)).status).toBe(200);
      await makeReady(context, replacement.metadata.name);
      await eventually('one more is allowed', settled(1));
      expect((await send('GET', `${paths.budgets}/guard`)).object.status?.expectedPods).toBe(2);
    },
  },
  {
    name: 'A budget cannot set both of its numbers, nor impossible ones',
    async run({ expect, paths, send }) {
      const selector = { matchLabels: guarded };
      for (const spec of [
        { minAvailable: 1, maxUnavailable: 1 },
        { minAvailable: -1 },
        { maxUnavailable: '120%' },
        { minAvailable: 'many' },
        { minAvailable: 1, unhealthyPodEvictionPolicy: 'Sometimes' },
      ]) {
        const answer = await send('POST', paths.budgets, {
          metadata: { name: 'guard' },
          spec: { ...spec, selector },
        });
        expect(answer.status).toBe(422);
      }
    },
  },
  {
    name: 'A budget counts up its generation with its spec, and wants a version in a PUT',
    async run(context) {
      const { api, eventually, expect, patch, paths, send } = context;
      await makeBudget(context, 'guard', guardsOne, { allowed: 0 });
      const path = `${paths.budgets}/guard`;
      const changed = await patch(path, { spec: { minAvailable: 3 } });
      expect(changed.object.metadata.generation).toBe(2);
      const labelled = await patch(path, { metadata: { labels: { a: 'b' } } });
      expect(labelled.object.metadata.generation).toBe(2);
      await eventually('the change is observed', async () => {
        const { status } = await api.get<LooseObject>(path);
        return status?.observedGeneration === 2 && status.desiredHealthy === 3;
      });
      const blind = await send('PUT', path, { metadata: { name: 'guard' }, spec: guardsOne });
      expect(blind.status).toBe(422);
      expect(blind.failure.details?.causes?.[0]?.field).toBe('metadata.resourceVersion');
    },
  },
];
