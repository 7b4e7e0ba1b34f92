import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { createQueue, type OpenQueue } from '../../src/aws/queue.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { Message } from '../../src/intake/queue.ts';
import { startHttpService } from '../stand-ins/http-service.ts';
import { startQueueService, type Queue, type QueueService } from '../stand-ins/queue.ts';

let service: QueueService;
let standIn: Queue;
const never = new AbortController().signal;

beforeEach(async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'test');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'test');
  service = await startQueueService();
  standIn = await service.createQueue('interruptions');
});

afterEach(async () => {
  await service.stop();
});

/** Its hours pass sixty times as fast. */
const hastyClock: Clock = {
  now: () => Date.now() * 60,
  random: () => Math.random(),
  after: (delayMs, callback) => systemClock.after(delayMs / 60, callback),
};

function open(queueUrl = standIn.url, clock: Clock = systemClock): OpenQueue {
  const queue = createQueue({ queueUrl, region: 'eu-central-1', clock });
  onTestFinished(() => queue.close(0));
  return queue;
}

function receive(
  queue: OpenQueue,
  request: { max?: number; waitSeconds?: number; visibilitySeconds?: number } = {},
  signal = never,
) {
  return queue.receive({ max: 10, waitSeconds: 0, visibilitySeconds: 20, ...request }, signal);
}

async function receiveOne(queue: OpenQueue): Promise<Message> {
  const [message] = await receive(queue, { max: 1, waitSeconds: 5 });
  if (message === undefined) throw new Error('the queue is empty');
  return message;
}

async function receiveAll(queue: OpenQueue, count: number): Promise<Message[]> {
  const messages: Message[] = [];
  while (messages.length < count) messages.push(...(await receive(queue, { waitSeconds: 5 })));
  return messages;
}

describe('receiving', () => {
  test('tells what SQS knows of a message', async () => {
    const before = Date.now();
    const id = await standIn.send('a body');
    const queue = open();
    const first = await receiveOne(queue);
    expect(first).toMatchObject({ id, body: 'a body', receiveCount: 1 });
    expect(first.sentAt).toBeGreaterThanOrEqual(before);
    expect(first.firstReceivedAt).toBeGreaterThanOrEqual(first.sentAt);
    await queue.setVisibility(first, 0);
    const second = await receiveOne(queue);
    expect(second).toMatchObject({ id, receiveCount: 2, sentAt: first.sentAt });
    expect(second.firstReceivedAt).toBe(first.firstReceivedAt);
    expect(second.receiptHandle).not.toBe(first.receiptHandle);
  });

  test('takes no more than it is told to, and hides what it takes for as long as it is told to', async () => {
    await standIn.sendMany(Array.from({ length: 5 }, (_, i) => `${i}`));
    expect(await receive(open(), { max: 3, visibilitySeconds: 77 })).toHaveLength(3);
    const received = standIn.events().filter(({ type }) => type === 'received');
    expect(received).toMatchObject(Array.from({ length: 3 }, () => ({ visibilitySeconds: 77 })));
  });

  test('waits for a message, and gives an empty list when none has come', async () => {
    const queue = open();
    const waiting = receive(queue, { waitSeconds: 20 });
    await standIn.send('late');
    expect(await waiting).toMatchObject([{ body: 'late' }]);
    expect(await receive(queue, { waitSeconds: 1 })).toEqual([]);
  });

  test('rejects, saying what it did and why, when SQS refuses or cannot be reached', async () => {
    const queue = open();
    service.faults.add({ times: 1, fault: { kind: 'error', status: 403, code: 'AccessDenied' } });
    await expect(receive(queue)).rejects.toThrow('cannot receive from the queue: AccessDenied');
    await service.goAway('refuse');
    await expect(receive(queue)).rejects.toThrow(
      /^cannot receive from the queue: ECONNRE(SET|FUSED)$/,
    );
    await service.comeBack();
    await expect(receive(open(`${service.url}/123456789012/nonesuch`))).rejects.toThrow(
      'cannot receive from the queue: QueueDoesNotExist',
    );
    expect(service.requests('ReceiveMessage')).toHaveLength(2);
  });

  test('gives up on a queue that never answers, some seconds after the wait', async () => {
    service.faults.add({ fault: { kind: 'hang' } });
    const queue = open(standIn.url, hastyClock);
    const error: unknown = await receive(queue, { waitSeconds: 20 }).catch(
      (caught: unknown) => caught,
    );
    expect(error).toMatchObject({
      message: 'cannot receive from the queue: TimeoutError',
      cause: { message: 'no answer within 25 s' },
    });
  });

  test('an abort releases the caller at once', async () => {
    const queue = open();
    const stop = new AbortController();
    const receiving = receive(queue, { waitSeconds: 20 }, stop.signal);
    stop.abort(new Error('stopping'));
    await expect(receiving).rejects.toThrow(/^stopping$/);
    await expect(receive(queue, {}, stop.signal)).rejects.toThrow(/^stopping$/);
  });

  test('what a poll brings after the abort is given back at once', async () => {
    const queue = open();
    const stop = new AbortController();
    const delay = service.faults.add({
      action: 'ReceiveMessage',
      fault: { kind: 'delay', delayMs: 100 },
    });
    const id = await standIn.send('on its way');
    const receiving = receive(queue, { visibilitySeconds: 600 }, stop.signal);
    stop.abort(new Error('stopping'));
    await expect(receiving).rejects.toThrow('stopping');
    delay();
    await expect
      .poll(() => standIn.events(id).map(({ type }) => type), { timeout: 10_000 })
      .toEqual(['sent', 'received', 'visibility-changed']);
    expect(await receiveOne(open())).toMatchObject({ id, receiveCount: 2 });
  });
});

describe('deleting and hiding', () => {
  test('single calls travel together, ten at most in a request', async () => {
    await standIn.sendMany(Array.from({ length: 25 }, (_, i) => `${i}`));
    const queue = open();
    const messages = await receiveAll(queue, 25);
    const hidden = await Promise.all(messages.map((message) => queue.setVisibility(message, 60)));
    expect(hidden).toEqual(Array(25).fill(true));
    const counts = (action: 'ChangeMessageVisibilityBatch' | 'DeleteMessageBatch') =>
      service.requests(action).map(({ count }) => count);
    expect(counts('ChangeMessageVisibilityBatch').toSorted((a, b) => a - b)).toEqual([5, 10, 10]);
    const deleted = await Promise.all(messages.map((message) => queue.delete(message)));
    expect(deleted).toEqual(Array(25).fill(true));
    expect(counts('DeleteMessageBatch').toSorted((a, b) => a - b)).toEqual([5, 10, 10]);
    expect(await standIn.counts()).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
  });

  test('visibility 0 gives a message back, and more than SQS allows is cut to it', async () => {
    const id = await standIn.send('a');
    const queue = open();
    expect(await queue.setVisibility(await receiveOne(queue), 0)).toBe(true);
    expect(await queue.setVisibility(await receiveOne(queue), 1_000_000)).toBe(true);
    expect(standIn.events(id)).toMatchObject([
      { type: 'sent' },
      { type: 'received' },
      { type: 'visibility-changed', visibilitySeconds: 0 },
      { type: 'received' },
      { type: 'visibility-changed', visibilitySeconds: 43_200 },
    ]);
  });

  test('of two changes of one message the later one rules, even if the first must be repeated', async () => {
    const id = await standIn.send('a');
    const queue = open();
    const message = await receiveOne(queue);
    service.faults.add({
      action: 'ChangeMessageVisibilityBatch',
      times: 1,
      fault: { kind: 'error', status: 503, code: 'ServiceUnavailable' },
    });
    const both = [queue.setVisibility(message, 600), queue.setVisibility(message, 0)];
    expect(await Promise.all(both)).toEqual([true, true]);
    expect(standIn.events(id).slice(2)).toMatchObject([
      { visibilitySeconds: 600 },
      { visibilitySeconds: 0 },
    ]);
  });

  test('a handle that is no longer good is told, and its neighbours are not harmed', async () => {
    await standIn.sendMany(['a', 'b']);
    const queue = open();
    const [one, other] = await receiveAll(queue, 2);
    if (one === undefined || other === undefined) throw new Error('two were sent');
    const garbage = { ...one, receiptHandle: 'garbage' };
    expect(
      await Promise.all([queue.delete(one), queue.delete(garbage), queue.delete(other)]),
    ).toEqual([true, false, true]);
    expect(
      await Promise.all([queue.setVisibility(one, 0), queue.setVisibility(garbage, 0)]),
    ).toEqual([false, false]);
  });

  test('an entry that fails for a passing reason goes again, alone', async () => {
    await standIn.sendMany(['a', 'b', 'c']);
    const queue = open();
    const messages = await receiveAll(queue, 3);
    let failures = 2;
    service.failEntries((messageId) => messageId === messages[1]?.id && failures-- > 0);
    expect(await Promise.all(messages.map((message) => queue.delete(message)))).toEqual([
      true,
      true,
      true,
    ]);
    expect(service.requests('DeleteMessageBatch').map(({ count }) => count)).toEqual([3, 1, 1]);
    expect(await standIn.messages()).toEqual([]);
  });

  test.each([
    { fault: { kind: 'error', status: 503, code: 'ServiceUnavailable' } },
    { fault: { kind: 'error', status: 500, code: 'InternalFailure' } },
    { fault: { kind: 'error', status: 400, code: 'RequestThrottled' } },
    { fault: { kind: 'error', status: 400, code: 'ThrottlingException' } },
    { fault: { kind: 'lose-request' } },
    { fault: { kind: 'lose-answer' } },
  ] as const)('a batch is sent again after $fault', async ({ fault }) => {
    await standIn.sendMany(['a', 'b']);
    const queue = open();
    const messages = await receiveAll(queue, 2);
    service.faults.add({ action: 'DeleteMessageBatch', times: 2, fault });
    expect(await Promise.all(messages.map((message) => queue.delete(message)))).toEqual([
      true,
      true,
    ]);
    expect(service.requests('DeleteMessageBatch')).toHaveLength(3);
    expect(await standIn.messages()).toEqual([]);
  });

  test('a refusal is not repeated', async () => {
    await standIn.send('a');
    const queue = open();
    const message = await receiveOne(queue);
    service.faults.add({ fault: { kind: 'error', status: 403, code: 'AccessDeniedException' } });
    await expect(queue.delete(message)).rejects.toThrow(
      'delete from the queue: AccessDeniedException',
    );
    expect(service.requests('DeleteMessageBatch')).toHaveLength(1);
  });

  test('when the queue stays away, or hangs, the callers are told within a bound', async () => {
    await standIn.sendMany(['a', 'b']);
    const [one, other] = await receiveAll(open(), 2);
    if (one === undefined || other === undefined) throw new Error('two were sent');
    const queue = open(standIn.url, hastyClock);
    service.faults.add({ action: 'DeleteMessageBatch', fault: { kind: 'hang' } });
    await expect(queue.delete(one)).rejects.toThrow('delete from the queue: TimeoutError');
    await service.goAway('refuse');
    const refused = open(standIn.url, { ...systemClock, now: () => hastyClock.now() });
    await expect(refused.setVisibility(other, 5)).rejects.toThrow(/ECONNRE(SET|FUSED)/);
  });
});

describe('closing', () => {
  test('sends what waits, cuts polls, and takes nothing more', async () => {
    await standIn.sendMany(['a', 'b']);
    const queue = open();
    const [one, other] = await receiveAll(queue, 2);
    if (one === undefined || other === undefined) throw new Error('two were sent');
    const poll = receive(queue, { waitSeconds: 20 });
    const [polled, ...others] = await Promise.allSettled([
      poll,
      queue.delete(one),
      queue.setVisibility(other, 60),
      queue.close(5000),
    ]);
    expect(polled).toMatchObject({
      reason: {
        message: 'cannot receive from the queue: Error',
        cause: { message: 'the queue is closed' },
      },
    });
    expect(others).toEqual([
      { status: 'fulfilled', value: true },
      { status: 'fulfilled', value: true },
      { status: 'fulfilled', value: undefined },
    ]);
    await expect(queue.delete(other)).rejects.toThrow('closed');
    await expect(receive(queue)).rejects.toThrow('cannot receive from the queue');
    expect(standIn.events(other.id).at(-1)).toMatchObject({
      type: 'visibility-changed',
      visibilitySeconds: 60,
    });
  });

  test.each([
    { delayMs: 100, times: 1 },
    // Of a queue that is slow, more is awaited than of others.
    { delayMs: 600, times: 2 },
  ])('gives back once more what a poll of its own took (%o)', async ({ delayMs, times }) => {
    const queue = open();
    await standIn.sendMany(['a', 'b', 'c']);
    const messages = await receiveAll(queue, 3);
    const stop = new AbortController();
    const polling = receive(queue, { waitSeconds: 20 }, stop.signal);
    stop.abort(new Error('stopping'));
    await expect(polling).rejects.toThrow('stopping');
    // The poll is there before what it will take.
    service.faults.add({
      action: 'ChangeMessageVisibilityBatch',
      times,
      fault: { kind: 'delay', delayMs },
    });
    await Promise.all(messages.map((message) => queue.setVisibility(message, 0)));
    await queue.close(500);
    expect(await standIn.counts()).toEqual({ visible: 3, inFlight: 0, delayed: 0 });
  });

  test('gives up at its limit what has no answer', async () => {
    await standIn.sendMany(['a', 'b']);
    const queue = open();
    const [one, other] = await receiveAll(queue, 2);
    if (one === undefined || other === undefined) throw new Error('two were sent');
    service.faults.add({ action: 'DeleteMessageBatch', fault: { kind: 'hang' } });
    service.faults.add({
      action: 'ChangeMessageVisibilityBatch',
      fault: { kind: 'error', status: 503, code: 'ServiceUnavailable' },
    });
    const outcomes = Promise.allSettled([queue.delete(one), queue.setVisibility(other, 0)]);
    await queue.close(300);
    expect(await outcomes).toMatchObject([{ status: 'rejected' }, { status: 'rejected' }]);
  });
});

describe('the redrive policy', () => {
  test('its receive count is read', async () => {
    const withLetters = await service.createQueue('with-letters', { maxReceiveCount: 7 });
    expect(await open(withLetters.url).maxReceiveCount(never)).toBe(7);
  });

  test('there may be none', async () => {
    expect(await open().maxReceiveCount(never)).toBeUndefined();
  });

  test('without the permission it is as if there were none, any other failure is told', async () => {
    service.faults.add({ times: 1, fault: { kind: 'error', status: 403, code: 'AccessDenied' } });
    const queue = open();
    expect(await queue.maxReceiveCount(never)).toBeUndefined();
    await service.goAway('refuse');
    await expect(queue.maxReceiveCount(never)).rejects.toThrow(
      /^cannot read the queue's redrive policy: ECONNRE(SET|FUSED)$/,
    );
  });
});

describe('answers that only AWS gives', () => {
  const handle: Message = {
    id: '1',
    receiptHandle: 'h',
    body: '',
    sentAt: 0,
    firstReceivedAt: 0,
    receiveCount: 1,
  };

  async function answering(...answers: readonly (object | string)[]) {
    let asked = 0;
    const scripted = await startHttpService(async (_request, _body, response) => {
      const answer = answers[Math.min(asked++, answers.length - 1)];
      const text = typeof answer === 'string' ? answer : JSON.stringify(answer);
      const type = typeof answer === 'string' ? 'text/html' : 'application/x-amz-json-1.0';
      response.writeHead(200, { 'content-type': type }).end(text);
    });
    onTestFinished(() => scripted.stop());
    return { queue: open(`${scripted.url}/123456789012/q`), asked: () => asked };
  }

  test.each([
    ['AWS.SimpleQueueService.MessageNotInflight', true],
    ['MessageNotInflight', true],
    ['InvalidParameterValue', true],
    ['ReceiptHandleIsInvalid', true],
  ])('%s of an entry: its handle is no longer good', async (Code, SenderFault) => {
    const Failed = [{ Id: '0', SenderFault, Code, Message: 'Total VisibilityTimeout …' }];
    const { queue, asked } = await answering({ Successful: [], Failed });
    expect(await queue.setVisibility(handle, 60)).toBe(false);
    expect(asked()).toBe(1);
  });

  test('an entry that the answer does not mention goes again', async () => {
    const { queue, asked } = await answering({}, { Successful: [{ Id: '0' }] });
    expect(await queue.delete(handle)).toBe(true);
    expect(asked()).toBe(2);
  });

  test("a proxy's page in place of an answer is a passing failure", async () => {
    const { queue } = await answering('<html>busy</html>', { Successful: [{ Id: '0' }] });
    expect(await queue.delete(handle)).toBe(true);
  });

  test('an entry that is refused for good is not repeated', async () => {
    const Failed = [{ Id: '0', SenderFault: true, Code: 'KmsDisabled', Message: 'key disabled' }];
    const { queue, asked } = await answering({ Failed });
    await expect(queue.delete(handle)).rejects.toThrow('KmsDisabled: key disabled');
    expect(asked()).toBe(1);
  });

  test('a message without its attributes is taken as new', async () => {
    const { queue } = await answering({ Messages: [{ MessageId: 'm', ReceiptHandle: 'h' }] });
    const before = Date.now();
    const [message] = await receive(queue);
    expect(message).toMatchObject({ id: 'm', body: '', receiveCount: 1 });
    expect(message?.sentAt).toBeGreaterThanOrEqual(before);
  });
});

describe('where requests go', () => {
  test.each(['AWS_ENDPOINT_URL_SQS', 'AWS_ENDPOINT_URL'])('%s stands in for AWS', async (name) => {
    vi.stubEnv(name, service.url);
    await standIn.send('a');
    expect(await receiveOne(open(standIn.awsUrl))).toMatchObject({ body: 'a' });
  });

  test('an endpoint that is set wins over the host in the URL of the queue', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL_SQS', service.url);
    await standIn.send('a');
    const elsewhere =
      'https://vpce-1.sqs.eu-central-1.vpce.amazonaws.com/123456789012/interruptions';
    expect(await receiveOne(open(elsewhere))).toMatchObject({ body: 'a' });
  });
});
