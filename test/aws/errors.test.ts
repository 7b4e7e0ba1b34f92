import { describe, expect, test } from 'vitest';
import { entryFailureOf, failureOf } from '../../src/aws/errors.ts';

/** As the SDK throws them. */
function sdkError(name: string, httpStatusCode?: number, code?: string): Error {
  return Object.assign(new Error('told'), {
    name,
    $metadata: { httpStatusCode },
    ...(code !== undefined && { code }),
  });
}

describe('what the failure of an AWS request means', () => {
  test.each([
    ['Throttling', 400, 'throttled'],
    ['ThrottlingException', 400, 'throttled'],
    ['RequestThrottled', 403, 'throttled'],
    ['KmsThrottled', 400, 'throttled'],
    ['RequestLimitExceeded', 503, 'throttled'],
    ['TooManyRequestsException', 429, 'throttled'],
    ['SlowDown', 503, 'throttled'],
    ['InternalFailure', 500, 'unavailable'],
    ['ServiceUnavailable', 503, 'unavailable'],
    ['ResourceContentionFault', 500, 'unavailable'],
    ['RequestTimeout', 408, 'unavailable'],
    ['SyntaxError', 200, 'unavailable'],
    ['TimeoutError', undefined, 'unavailable'],
    ['AccessDenied', 403, 'denied'],
    ['AccessDeniedException', 400, 'denied'],
    ['ExpiredToken', 403, 'denied'],
    ['InvalidClientTokenId', 403, 'denied'],
    ['UnrecognizedClientException', 400, 'denied'],
    ['CredentialsProviderError', undefined, 'denied'],
    ['ValidationError', 400, 'refused'],
    ['QueueDoesNotExist', 400, 'refused'],
    ['AWS.SimpleQueueService.NonExistentQueue', 400, 'refused'],
  ] as const)('%s with status %s: %s', (name, status, kind) => {
    const code = name.split('.').at(-1);
    expect(failureOf(sdkError(name, status))).toEqual({ kind, code, message: 'told' });
  });

  test.each(['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'EPIPE'])(
    '%s is told by that name, whatever the SDK calls it',
    (code) => {
      const failure = { kind: 'unavailable', code, message: 'told' };
      expect(failureOf(sdkError('TimeoutError', undefined, code))).toEqual(failure);
    },
  );

  test('whatever else is thrown is a passing failure', () => {
    expect(failureOf('text')).toMatchObject({ kind: 'unavailable', message: 'text' });
    expect(failureOf(undefined)).toMatchObject({ kind: 'unavailable', message: 'undefined' });
  });

  test("an entry of a batch: the sender's fault is final, SQS's own passes", () => {
    expect(entryFailureOf('InternalError', false, 'm').kind).toBe('unavailable');
    expect(entryFailureOf('KMS.ThrottlingException', true, 'm').kind).toBe('throttled');
    expect(entryFailureOf('KmsDisabled', true, 'm').kind).toBe('refused');
    expect(entryFailureOf(undefined, undefined, undefined)).toEqual({
      kind: 'unavailable',
      code: 'Unknown',
      message: 'Unknown',
    });
  });
});
