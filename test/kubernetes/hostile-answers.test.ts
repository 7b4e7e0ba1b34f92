import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Answer, Connection } from '../../src/kubernetes/connection.ts';
import { createLeaseStore } from '../../src/kubernetes/leases.ts';
import { createNodeStore } from '../../src/kubernetes/nodes.ts';
import { createPods } from '../../src/kubernetes/pods.ts';
import { createVolumes } from '../../src/kubernetes/volumes.ts';
import { anyText } from '../events/text.ts';
import { ManualClock } from './manual-clock.ts';
import { recordedReport } from './recorded-report.ts';

const { signal } = new AbortController();

/** Anything, and more often something that looks like what is read. */
const { value: anything } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, depthSize: 'small' },
    fc.constantFrom(null, true, 0, -1, 1e308, '', '1', 'x', '__proto__'),
    anyText,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(
      fc.constantFrom(
        'metadata',
        'spec',
        'status',
        'items',
        'name',
        'namespace',
        'uid',
        'resourceVersion',
        'labels',
        'annotations',
        'ownerReferences',
        'deletionTimestamp',
        'providerID',
        'taints',
        'conditions',
        'nodeInfo',
        'tolerations',
        'volumes',
        'containers',
        'message',
        'reason',
        'details',
        'causes',
        'code',
        'retryAfterSeconds',
        'holderIdentity',
        'renewTime',
        'acquireTime',
        'source',
        'persistentVolumeName',
        'volumeName',
        'continue',
        'constructor',
        'toString',
        '__proto__',
      ),
      tie('value'),
      { maxKeys: 6 },
    ),
  ),
}));

const answers: fc.Arbitrary<Answer> = fc.oneof(
  fc.record({ kind: fc.constant('success' as const), body: anything }),
  fc.record({
    kind: fc.constant('failure' as const),
    status: fc.constantFrom(301, 400, 401, 403, 404, 409, 410, 413, 422, 429, 500, 502, 503, 504),
    body: anything,
    retryAfter: fc.option(anyText, { nil: undefined }),
  }),
);

function over(answer: Answer) {
  const clock = new ManualClock();
  const connection: Connection = {
    namespace: undefined,
    request: () => Promise.resolve(answer),
    stream: () => Promise.resolve(answer),
    close: () => Promise.resolve(),
  };
  const options = { connection, clock, report: recordedReport() };
  return {
    store: createNodeStore({ connection, selector: 'a=b,c', reservationLabel: 'r' }),
    pods: createPods(options),
    volumes: createVolumes(options),
    leases: createLeaseStore({ ...options, namespace: 'n', name: 'l' }),
  };
}

type Ports = ReturnType<typeof over>;

const pod = { namespace: 'n', name: 'p', uid: 'u' };
const claim = { holder: 'a', durationSeconds: 15, acquiredAt: 0, renewedAt: 0, transitions: 0 };

/** What the ports may make of an answer; a list or a read may reject, with an ApiFailure. */
const calls: Readonly<Record<string, (ports: Ports) => Promise<unknown>>> = {
  'a write of a Node': ({ store }) => store.write('n', '1', {}, signal, 'mark'),
  'a read of a Node': ({ store }) => store.read('n', signal),
  "a kubelet's Lease": ({ store }) => store.kubeletRenewed('n', signal),
  'a ping': ({ store }) => store.ping(signal),
  'a list of pods': ({ pods }) => pods.onNode('n', signal),
  'a read of a pod': ({ pods }) => pods.read('n', 'p', signal),
  'an eviction': ({ pods }) => pods.evict(pod, 30, 1000, signal),
  'a deletion': ({ pods }) => pods.delete(pod, 30, 1000, signal),
  'a list of attachments': ({ volumes }) => volumes.attachedTo('n', signal),
  'a read of a claim': ({ volumes }) => volumes.volumeOf('n', 'c', signal),
  'a read of the Lease': ({ leases }) => leases.read(signal),
  'a claim to the Lease': ({ leases }) => leases.create(claim, signal),
};

describe('whatever the API server answers', () => {
  test.each(Object.entries(calls))('%s is an answer or an ApiFailure', async (_, call) => {
    await fc.assert(
      fc.asyncProperty(answers, async (answer) => {
        const failure = await call(over(answer)).then(
          () => undefined,
          (error: unknown) => (error instanceof Error ? error.name : String(error)),
        );
        expect([undefined, 'ApiFailure']).toContain(failure);
      }),
      { numRuns: 500 },
    );
    expect(Object.prototype).not.toHaveProperty('name');
  });

  test("a kubelet's Lease whose time cannot be made into text was never renewed", async () => {
    const renewTime = { toString: null, valueOf: null };
    const { store } = over({ kind: 'success', body: { spec: { renewTime } } });
    expect(await store.kubeletRenewed('n', signal)).toEqual({ outcome: 'never' });
  });
});
