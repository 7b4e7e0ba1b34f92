import { expect, test } from 'vitest';
import type { Answer, ApiRequest, Connection } from '../../src/kubernetes/connection.ts';
import { createEventSink } from '../../src/kubernetes/events.ts';
import type { ObjectEvent } from '../../src/report/event-recorder.ts';

const { signal } = new AbortController();

const POD = { kind: 'Pod', namespace: 'shop', name: 'web-1', uid: 'uid-1' } as const;

function event(changes: Partial<ObjectEvent> = {}): ObjectEvent {
  return {
    subject: { kind: 'Node', name: 'node-1', uid: 'uid-1' },
    reason: 'Drained',
    type: 'Normal',
    action: 'Drain',
    note: 'All pods are gone.',
    name: 'node-1.abc1',
    at: Date.parse('2026-03-01T12:00:00.250Z'),
    series: undefined,
    ...changes,
  };
}

function sinkThatHears(answer: Answer) {
  const requests: ApiRequest[] = [];
  const connection: Connection = {
    namespace: undefined,
    request(request) {
      requests.push(request);
      return Promise.resolve(answer);
    },
    stream: () => Promise.reject(new Error('no stream')),
    close: () => Promise.resolve(),
  };
  return { requests, sink: createEventSink({ connection, instance: 'i'.repeat(200) }) };
}

const success: Answer = { kind: 'success', body: {} };

test('an event on a Node is created in the namespace default', async () => {
  const { sink, requests } = sinkThatHears(success);
  expect(await sink.create(event(), signal)).toEqual({ outcome: 'written' });
  expect(requests).toEqual([
    {
      method: 'POST',
      path: '/apis/events.k8s.io/v1/namespaces/default/events',
      lane: 'event',
      timeoutMs: 5000,
      body: {
        apiVersion: 'events.k8s.io/v1',
        kind: 'Event',
        metadata: { name: 'node-1.abc1', namespace: 'default' },
        eventTime: '2026-03-01T12:00:00.250000Z',
        reportingController: 'node-termination-controller',
        reportingInstance: 'i'.repeat(128),
        regarding: { apiVersion: 'v1', kind: 'Node', name: 'node-1', uid: 'uid-1' },
        reason: 'Drained',
        action: 'Drain',
        type: 'Normal',
        note: 'All pods are gone.',
      },
    },
  ]);
});

test('an event on a Pod is created, and repeated, in its own namespace', async () => {
  const { sink, requests } = sinkThatHears(success);
  const series = { count: 3, lastAt: Date.parse('2026-03-01T12:01:00Z') };
  await sink.create(event({ subject: POD, name: 'web-1.abc1' }), signal);
  await sink.update(event({ subject: POD, name: 'web-1.abc1', series }), signal);
  const [created, repeated] = requests;
  expect(created?.path).toBe('/apis/events.k8s.io/v1/namespaces/shop/events');
  expect(created?.body).toMatchObject({ regarding: POD });
  expect(repeated).toMatchObject({
    method: 'PATCH',
    path: '/apis/events.k8s.io/v1/namespaces/shop/events/web-1.abc1',
    contentType: 'application/merge-patch+json',
    body: { series: { count: 3, lastObservedTime: '2026-03-01T12:01:00.000000Z' } },
  });
});

const failure = (status: number, body: unknown = {}, retryAfter?: string): Answer => ({
  kind: 'failure',
  status,
  body,
  retryAfter,
});
const terminating = { details: { causes: [{ reason: 'NamespaceTerminating' }] } };
const quota = {
  reason: 'Forbidden',
  message:
    'events.events.k8s.io "web-1.abc1" is forbidden: exceeded quota: few, requested: count/events.events.k8s.io=1, used: count/events.events.k8s.io=1, limited: count/events.events.k8s.io=1',
};
const policy = {
  reason: 'Forbidden',
  message:
    "events.events.k8s.io \"web-1.abc1\" is forbidden: ValidatingAdmissionPolicy 'quiet' with binding 'quiet' denied request: no events here",
};
const rights = {
  reason: 'Forbidden',
  message:
    'events.events.k8s.io is forbidden: User "system:serviceaccount:quota:quota" cannot create resource "events" in API group "events.k8s.io" in the namespace "shop": no quota',
};
const starting = {
  reason: 'Forbidden',
  message: 'events.events.k8s.io "web-1.abc1" is forbidden: not yet ready to handle request',
};
const webhook = { message: 'failed calling webhook "events.example.com"' };

test.each<[string, 'create' | 'update', Answer, object]>([
  [
    'its own name is taken: an earlier try had succeeded',
    'create',
    failure(409),
    { outcome: 'written' },
  ],
  ['what was written is gone', 'update', failure(404), { outcome: 'gone' }],
  ['the namespace is gone', 'create', failure(404), { outcome: 'refused' }],
  ['the namespace is going', 'create', failure(403, terminating), { outcome: 'refused' }],
  ['a webhook refuses', 'create', failure(500, webhook), { outcome: 'refused' }],
  ['the quota of its namespace is used up', 'create', failure(403, quota), { outcome: 'refused' }],
  ['a policy refuses', 'create', failure(403, policy), { outcome: 'refused' }],
  ['the right to is missing', 'create', failure(403, rights), { outcome: 'pushed back' }],
  ['admission is starting', 'create', failure(403, starting), { outcome: 'pushed back' }],
  ['it is invalid', 'create', failure(422), { outcome: 'refused' }],
  ['it is forbidden', 'create', failure(403), { outcome: 'pushed back' }],
  [
    'the server is busy',
    'create',
    failure(429, 'slow', '7'),
    { outcome: 'pushed back', retryAfterMs: 7000 },
  ],
  ['the server is in trouble', 'update', failure(504), { outcome: 'pushed back' }],
  ['other requests went first', 'create', { kind: 'crowded' }, { outcome: 'not sent' }],
  [
    'no answer came',
    'create',
    { kind: 'unanswered', message: 'reset', timedOut: false },
    { outcome: 'pushed back', message: 'reset' },
  ],
])('%s', async (_, verb, answer, expected) => {
  const { sink } = sinkThatHears(answer);
  expect(await sink[verb](event(), signal)).toMatchObject(expected);
});
