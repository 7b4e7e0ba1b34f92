import { describe, expect, test } from 'vitest';
import { evictionAnswer, writeFailure } from '../../src/kubernetes/answers.ts';
import type { Answer, Failure } from '../../src/kubernetes/connection.ts';

function status(code: number, body: object, retryAfter?: string): Failure {
  return { kind: 'failure', status: code, body: { kind: 'Status', ...body }, retryAfter };
}

function text(code: number, body: string, retryAfter?: string): Failure {
  return { kind: 'failure', status: code, body, retryAfter };
}

/** As kube-apiserver 1.36 sends them. */
const violatesBudget = status(429, {
  message: "Cannot evict pod as it would violate the pod's disruption budget.",
  reason: 'TooManyRequests',
  details: {
    causes: [
      {
        reason: 'DisruptionBudget',
        message: 'The disruption budget guard needs 2 healthy pods and has 2 currently',
      },
    ],
  },
});
const budgetNotProcessed = status(
  429,
  {
    message: "Cannot evict pod as it would violate the pod's disruption budget.",
    reason: 'TooManyRequests',
    details: {
      retryAfterSeconds: 10,
      causes: [
        {
          reason: 'DisruptionBudget',
          message: 'The disruption budget guard is still being processed by the server.',
        },
      ],
    },
  },
  '10',
);
const overloaded = text(429, 'Too many requests, please try again later.\n', '1');
const twoBudgets = status(500, {
  message:
    'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
});
const budgetForbids = (why: string) =>
  status(403, {
    message: `poddisruptionbudgets.policy "guard" is forbidden: ${why}`,
    reason: 'Forbidden',
    details: { name: 'guard', group: 'policy', kind: 'poddisruptionbudgets' },
  });
const namespaceTerminating = status(403, {
  message:
    'pods "web" is forbidden: unable to create new content in namespace going because it is being terminated',
  reason: 'Forbidden',
  details: {
    name: 'web',
    kind: 'pods',
    causes: [{ reason: 'NamespaceTerminating', field: 'metadata.namespace' }],
  },
});
const noRight = status(403, {
  message:
    'pods "web" is forbidden: User "system:serviceaccount:a:b" cannot create resource "pods/eviction"',
  reason: 'Forbidden',
});
const webhookDenied = (code: number) =>
  status(code, { message: 'admission webhook "guard.example.com" denied the request: not now' });
const webhookUnreachable = status(500, {
  message:
    'Internal error occurred: failed calling webhook "guard.example.com": failed to call webhook: dial tcp',
  reason: 'InternalError',
});
const contended = status(
  504,
  {
    message: 'Timeout: couldn\'t update PodDisruptionBudget "guard" due to conflicts',
    reason: 'Timeout',
  },
  '10',
);
const timedOut = status(504, {
  message: 'Timeout: request did not complete within the allotted timeout',
});
const otherUid = status(409, {
  message:
    'Operation cannot be fulfilled on pods "web": Precondition failed: UID in precondition: x, UID in object meta: y',
  reason: 'Conflict',
});
const noPod = status(404, {
  message: 'pods "web" not found',
  details: { name: 'web', kind: 'pods' },
});
const noBudget = status(404, {
  message: 'poddisruptionbudgets.policy "guard" not found',
  details: { name: 'guard', kind: 'poddisruptionbudgets' },
});
const etcdAway = status(500, {
  message:
    'The update operation against pods could not be completed at this time, please try again.',
  reason: 'ServerTimeout',
  details: { retryAfterSeconds: 2 },
});

describe('the answer to an eviction', () => {
  const rows: readonly (readonly [string, Answer, object])[] = [
    ['2xx: accepted', { kind: 'success', body: {} }, { outcome: 'accepted' }],
    ['404: gone', noPod, { outcome: 'gone' }],
    ['404 of the budget says nothing about the pod', noBudget, { outcome: 'conflict' }],
    ['409 says nothing by itself', otherUid, { outcome: 'conflict' }],
    [
      '429 with the cause: the budget',
      violatesBudget,
      { outcome: 'budget', budget: 'guard', retryAfterMs: undefined },
    ],
    [
      '429 of a budget not yet processed, with a hint',
      budgetNotProcessed,
      { outcome: 'budget', budget: 'guard', retryAfterMs: 10_000 },
    ],
    ['429 in plain text: overload', overloaded, { outcome: 'overloaded', retryAfterMs: 1000 }],
    ['503: overload', text(503, ''), { outcome: 'overloaded', retryAfterMs: undefined }],
    [
      'a hint of 0 is none',
      status(429, { details: { retryAfterSeconds: 0 } }, '0'),
      { outcome: 'overloaded', retryAfterMs: undefined },
    ],
    ['etcd away: overload', etcdAway, { outcome: 'overloaded', retryAfterMs: 2000 }],
    ['two budgets', twoBudgets, { outcome: 'budget', budget: undefined }],
    [
      '403: too many disrupted pods',
      budgetForbids(
        'DisruptedPods map too big - too many evictions not confirmed by PDB controller',
      ),
      { outcome: 'budget', budget: 'guard' },
    ],
    [
      '403: negative disruptions',
      budgetForbids('pdb disruptions allowed is negative'),
      { outcome: 'budget', budget: 'guard' },
    ],
    [
      '504 of a contended budget',
      contended,
      { outcome: 'budget', budget: 'guard', retryAfterMs: 10_000 },
    ],
    ['504', timedOut, { outcome: 'refused', reason: 'timeout' }],
    ['502 of a load balancer', text(502, '<html>'), { outcome: 'refused', reason: 'timeout' }],
    [
      'namespace going',
      namespaceTerminating,
      { outcome: 'refused', reason: 'namespace-terminating' },
    ],
    ['no right', noRight, { outcome: 'refused', reason: 'forbidden' }],
    ['401', status(401, { message: 'Unauthorized' }), { outcome: 'refused', reason: 'forbidden' }],
    ['422', status(422, { message: 'invalid' }), { outcome: 'refused', reason: 'invalid' }],
    ['400', status(400, { message: 'name in URL' }), { outcome: 'refused', reason: 'invalid' }],
    ['302 is not followed', text(302, ''), { outcome: 'refused', reason: 'invalid' }],
    ['webhook away', webhookUnreachable, { outcome: 'refused', reason: 'webhook' }],
    [
      'no answer in time',
      { kind: 'unanswered', message: 'no answer within 10 s', timedOut: true },
      { outcome: 'unreachable', timedOut: true },
    ],
    [
      'connection refused',
      { kind: 'unanswered', message: 'ECONNREFUSED', timedOut: false },
      { outcome: 'unreachable', message: 'ECONNREFUSED', timedOut: false },
    ],
    ['too many wait', { kind: 'crowded' }, { outcome: 'overloaded', retryAfterMs: undefined }],
  ];
  test.each(rows)('%s', (_, answer, meaning) => {
    expect(evictionAnswer(answer)).toMatchObject(meaning);
  });

  test.each([400, 403, 404, 409, 429, 500, 503])(
    'a webhook that denies with %i concerns this pod alone',
    (code) => {
      expect(evictionAnswer(webhookDenied(code))).toEqual({
        outcome: 'refused',
        reason: 'webhook',
        message: 'admission webhook "guard.example.com" denied the request: not now',
      });
    },
  );

  test('the message tells what the server said, its causes too', () => {
    expect(evictionAnswer(violatesBudget)).toMatchObject({
      message:
        "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget guard needs 2 healthy pods and has 2 currently",
    });
  });

  test('a message is cut where nobody would read on', () => {
    const answer = evictionAnswer(text(400, 'x'.repeat(10_000)));
    expect(answer).toMatchObject({ message: 'x'.repeat(500) });
  });
});

describe('the answer to a write that failed', () => {
  const rows: readonly (readonly [string, Exclude<Answer, { kind: 'success' }>, object])[] = [
    ['404', status(404, { message: 'nodes "a" not found' }), { outcome: 'gone' }],
    ['409', status(409, { reason: 'Conflict' }), { outcome: 'conflict' }],
    ['429', overloaded, { outcome: 'overloaded', retryAfterMs: 1000 }],
    ['503', status(503, {}, '7'), { outcome: 'overloaded', retryAfterMs: 7000 }],
    ['500 of etcd', etcdAway, { outcome: 'overloaded', retryAfterMs: 2000 }],
    ['502', text(502, ''), { outcome: 'overloaded', retryAfterMs: undefined }],
    ['504', timedOut, { outcome: 'overloaded', retryAfterMs: undefined }],
    [
      '401',
      status(401, { message: 'Unauthorized' }),
      { outcome: 'forbidden', message: 'Unauthorized' },
    ],
    ['403', noRight, { outcome: 'forbidden' }],
    ['a webhook denies', webhookDenied(400), { outcome: 'forbidden' }],
    ['a webhook denies with 409', webhookDenied(409), { outcome: 'forbidden' }],
    ['a webhook cannot be called', webhookUnreachable, { outcome: 'forbidden' }],
    ['400', status(400, {}), { outcome: 'refused', status: 400 }],
    ['413', text(413, 'too large'), { outcome: 'refused', status: 413, message: 'too large' }],
    ['422', status(422, { message: 'no' }), { outcome: 'refused', status: 422, message: 'no' }],
    ['307 is not followed', text(307, ''), { outcome: 'refused', message: 'HTTP status 307' }],
    [
      'no answer',
      { kind: 'unanswered', message: 'ECONNRESET', timedOut: false },
      { outcome: 'unreachable', message: 'ECONNRESET' },
    ],
    ['too many wait', { kind: 'crowded' }, { outcome: 'overloaded', retryAfterMs: undefined }],
  ];
  test.each(rows)('%s', (_, answer, meaning) => {
    expect(writeFailure(answer)).toMatchObject(meaning);
  });
});
