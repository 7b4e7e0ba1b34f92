import { setTimeout as delay } from 'node:timers/promises';
import {
  ChangeMessageVisibilityBatchCommand,
  ChangeMessageVisibilityCommand,
  DeleteMessageBatchCommand,
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
  type Message,
  type ReceiveMessageCommandInput,
} from '@aws-sdk/client-sqs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { startQueueService, type Queue, type QueueService } from './queue.ts';

describe('the queue stand-in, as the SQS client sees it', () => {
  let service: QueueService;
  let queue: Queue;
  let client: SQSClient;

  beforeEach(async () => {
    service = await startQueueService();
    queue = await service.createQueue('interruptions', {
      attributes: { VisibilityTimeout: '20' },
      maxReceiveCount: 3,
    });
    client = newClient();
  });

  afterEach(async () => {
    client.destroy();
    await service.stop();
  });

  function newClient(): SQSClient {
    return new SQSClient({
      endpoint: service.url,
      region: 'eu-central-1',
      credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'fake' },
      maxAttempts: 1,
    });
  }

  async function receive(
    input: Partial<ReceiveMessageCommandInput> = {},
    options: { abortSignal?: AbortSignal } = {},
  ): Promise<Message[]> {
    const command = new ReceiveMessageCommand({
      QueueUrl: queue.url,
      MaxNumberOfMessages: 10,
      ...input,
    });
    return (await client.send(command, options)).Messages ?? [];
  }

  async function receiveOne(input: Partial<ReceiveMessageCommandInput> = {}) {
    const [message] = await receive(input);
    return { handle: message?.ReceiptHandle ?? '', message };
  }

  const remove = async (ReceiptHandle: string) =>
    client.send(new DeleteMessageCommand({ QueueUrl: queue.url, ReceiptHandle }));
  const hide = async (ReceiptHandle: string, VisibilityTimeout: number) =>
    client.send(
      new ChangeMessageVisibilityCommand({ QueueUrl: queue.url, ReceiptHandle, VisibilityTimeout }),
    );
  const types = (messageId: string) => queue.events(messageId).map(({ type }) => type);

  it('hands out, hides and deletes messages', async () => {
    const messageId = await queue.send({ hello: 'world' });
    const { handle, message } = await receiveOne();
    expect(message).toMatchObject({ MessageId: messageId, Body: '{"hello":"world"}' });
    expect(await receive()).toEqual([]);
    expect(await queue.counts()).toEqual({ visible: 0, inFlight: 1, delayed: 0 });
    await remove(handle);
    expect(await queue.counts()).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
    expect(types(messageId)).toEqual(['sent', 'received', 'deleted']);
  });

  it('gives at most ten at a time', async () => {
    await queue.sendMany(Array.from({ length: 12 }, (_, index) => ({ index })));
    expect(await receive()).toHaveLength(10);
    expect(await receive()).toHaveLength(2);
  });

  it('takes messages from clients, too', async () => {
    const { MessageId = '' } = await client.send(
      new SendMessageCommand({ QueueUrl: queue.url, MessageBody: 'text' }),
    );
    expect(await queue.messages()).toMatchObject([
      { messageId: MessageId, body: 'text', state: 'visible', receiveCount: 0 },
    ]);
    expect(types(MessageId)).toEqual(['sent']);
  });

  it('gives attributes only to those who ask, and counts receives for itself', async () => {
    const messageId = await queue.send('text');
    const { handle, message } = await receiveOne();
    expect(message?.Attributes).toBeUndefined();
    await hide(handle, 0);
    const asked = await receiveOne({ MessageSystemAttributeNames: ['ApproximateReceiveCount'] });
    expect(asked.message?.Attributes).toEqual({ ApproximateReceiveCount: '2' });
    const received = queue.events(messageId).filter(({ type }) => type === 'received');
    expect(received).toMatchObject([
      { receiveCount: 1, visibilitySeconds: 20 },
      { receiveCount: 2, visibilitySeconds: 20 },
    ]);
  });

  it('wakes a long poll as soon as a message comes', async () => {
    const polling = receive({ WaitTimeSeconds: 20 });
    await eventually(() => service.requests('ReceiveMessage').length === 1);
    expect(service.requests('ReceiveMessage')).toMatchObject([{ status: undefined }]);
    await queue.send('text');
    expect(await polling).toHaveLength(1);
  });

  it('ends a long poll that has waited in vain', async () => {
    expect(await receive({ WaitTimeSeconds: 1 })).toEqual([]);
    expect(service.requests('ReceiveMessage')).toMatchObject([{ status: 200, count: 0 }]);
  });

  it('gives messages to the longest waiting of many long polls, each to one', async () => {
    const polls = [1, 2, 3].map(async () =>
      receive({ WaitTimeSeconds: 2, MaxNumberOfMessages: 1 }),
    );
    await queue.sendMany(['a', 'b']);
    const bodies = (await Promise.all(polls)).flat().map(({ Body }) => Body);
    expect(new Set(bodies)).toEqual(new Set(['a', 'b']));
    expect(bodies).toHaveLength(2);
  });

  it('loses no message to a long poll that was aborted', async () => {
    for (let round = 0; round < 5; round++) {
      const abort = new AbortController();
      const polling = receive({ WaitTimeSeconds: 20 }, { abortSignal: abort.signal }).catch(
        (error: unknown) => error,
      );
      // Aborted on its way, or while it waits.
      if (round % 2 === 0) await delay(30);
      abort.abort();
      expect(await polling).toMatchObject({ name: 'AbortError' });
    }
    await queue.send('text');
    const { handle, message } = await receiveOne({ WaitTimeSeconds: 5 });
    expect(message?.Body).toBe('text');
    await remove(handle);
  });

  it('loses no message to a client that went away in the middle of a receive', async () => {
    const messageId = await queue.send('text');
    service.faults.add({
      action: 'ReceiveMessage',
      times: 1,
      fault: { kind: 'delay', delayMs: 200 },
    });
    const abort = new AbortController();
    const polling = receive({}, { abortSignal: abort.signal });
    await eventually(() => service.requests('ReceiveMessage').length === 1);
    abort.abort();
    await expect(polling).rejects.toMatchObject({ name: 'AbortError' });
    await eventually(() => types(messageId).includes('returned'));
    expect(await receive()).toHaveLength(1);
    expect(types(messageId)).toEqual(['sent', 'received', 'returned', 'received']);
  });

  it('shows a message again after its visibility timeout, and wakes long polls for it', async () => {
    await queue.send('text');
    const { handle } = await receiveOne({ VisibilityTimeout: 1 });
    expect(await queue.counts()).toMatchObject({ inFlight: 1 });
    const again = await receiveOne({ WaitTimeSeconds: 5 });
    expect(again.message?.Body).toBe('text');
    expect(again.handle).not.toBe(handle);
  });

  it('deletes nothing by the handle of an earlier receive, yet answers with success', async () => {
    const messageId = await queue.send('text');
    const old = await receiveOne();
    await hide(old.handle, 0);
    const latest = await receiveOne();
    await remove(old.handle);
    expect(await queue.counts()).toMatchObject({ inFlight: 1 });
    await remove(latest.handle);
    await remove(latest.handle);
    expect(await queue.messages()).toEqual([]);
    expect(types(messageId).slice(-3)).toEqual(['delete-ignored', 'deleted', 'delete-ignored']);
  });

  it('deletes by the latest handle even after the visibility timeout', async () => {
    await queue.send('text');
    const { handle } = await receiveOne({ VisibilityTimeout: 1 });
    await eventually(async () => (await queue.counts()).visible === 1);
    await remove(handle);
    expect(await queue.counts()).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
    expect(await receive({ WaitTimeSeconds: 1 })).toEqual([]);
    await queue.send('next');
    expect((await receiveOne()).message?.Body).toBe('next');
  });

  it('hides a message for longer, or shows it at once', async () => {
    await queue.send('text');
    const { handle } = await receiveOne();
    await hide(handle, 600);
    const [message] = await queue.messages();
    expect(message?.visibleAt).toBeGreaterThan(Date.now() + 500_000);
    await hide(handle, 0);
    expect(await queue.counts()).toMatchObject({ visible: 1, inFlight: 0 });
  });

  it('refuses handles that never were, and to hide what was deleted', async () => {
    await queue.send('text');
    const { handle } = await receiveOne();
    await remove(handle);
    await expect(remove('garbage')).rejects.toMatchObject({ name: 'ReceiptHandleIsInvalid' });
    await expect(hide('garbage', 5)).rejects.toMatchObject({ name: 'ReceiptHandleIsInvalid' });
    await expect(hide(handle, 5)).rejects.toMatchObject({
      $metadata: { httpStatusCode: 400 },
      message: expect.stringContaining('Message does not exist or is not available') as string,
    });
  });

  it('answers batches entry by entry', async () => {
    const [first = '', second = ''] = await queue.sendMany(['a', 'b', 'c']);
    const messages = await receive();
    const handles = messages.map(({ ReceiptHandle = '' }) => ReceiptHandle);
    service.failEntries((messageId) => messageId === second);
    const deletion = await client.send(
      new DeleteMessageBatchCommand({
        QueueUrl: queue.url,
        Entries: [...handles, 'garbage'].map((ReceiptHandle, index) => ({
          Id: `e${index}`,
          ReceiptHandle,
        })),
      }),
    );
    expect(deletion.Successful).toHaveLength(2);
    expect(deletion.Failed?.map(({ Code, SenderFault }) => [Code, SenderFault])).toEqual([
      ['InternalError', false],
      ['ReceiptHandleIsInvalid', true],
    ]);
    service.failEntries(undefined);
    expect((await queue.messages()).map(({ messageId }) => messageId)).toEqual([second]);
    expect(types(first)).toEqual(['sent', 'received', 'deleted']);

    const change = await client.send(
      new ChangeMessageVisibilityBatchCommand({
        QueueUrl: queue.url,
        Entries: handles.map((ReceiptHandle, index) => ({
          Id: `e${index}`,
          ReceiptHandle,
          VisibilityTimeout: 0,
        })),
      }),
    );
    expect(change.Successful).toHaveLength(1);
    expect(change.Failed?.map(({ Code }) => Code)).toEqual([
      'InvalidParameterValue',
      'InvalidParameterValue',
    ]);
    expect(await queue.counts()).toEqual({ visible: 1, inFlight: 0, delayed: 0 });
  });

  it('moves what was received too often to the dead letters', async () => {
    const messageId = await queue.send('poison');
    for (let count = 0; count < 3; count++) await hide((await receiveOne()).handle, 0);
    expect(await receive()).toEqual([]);
    expect(await queue.messages()).toEqual([]);
    expect(await queue.deadLetters()).toMatchObject([{ messageId, body: 'poison' }]);
  });

  it('tells its attributes, the redrive policy among them', async () => {
    const { Attributes } = await client.send(
      new GetQueueAttributesCommand({ QueueUrl: queue.url, AttributeNames: ['All'] }),
    );
    expect(Attributes).toMatchObject({ VisibilityTimeout: '20' });
    expect(JSON.parse(Attributes?.['RedrivePolicy'] ?? '')).toMatchObject({ maxReceiveCount: 3 });
    await expect(
      client.send(new GetQueueAttributesCommand({ QueueUrl: `${queue.url}-absent` })),
    ).rejects.toMatchObject({ name: 'QueueDoesNotExist' });
  });

  it('can refuse connections, or hang, and come back on the same port', async () => {
    // Each time a client without an old connection, which would only learn that it was cut.
    const attempt = async (abortSignal: AbortSignal) => {
      client.destroy();
      client = newClient();
      return receive({}, { abortSignal });
    };
    const patient = () => AbortSignal.timeout(10_000);
    await service.goAway('refuse');
    await expect(attempt(patient())).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await service.comeBack();
    expect(await attempt(patient())).toEqual([]);
    await service.goAway('hang');
    await expect(attempt(AbortSignal.timeout(200))).rejects.toThrow(/abort/i);
    await service.comeBack();
    expect(await attempt(patient())).toEqual([]);
  });

  it('fails on demand: with an error, before the effect, or after it', async () => {
    await queue.sendMany(['a', 'b']);
    const { handle } = await receiveOne({ MaxNumberOfMessages: 1 });
    service.faults.add({
      action: 'DeleteMessage',
      times: 1,
      fault: { kind: 'error', status: 500, code: 'InternalFailure' },
    });
    await expect(remove(handle)).rejects.toMatchObject({ $metadata: { httpStatusCode: 500 } });
    service.faults.add({ action: 'DeleteMessage', times: 1, fault: { kind: 'lose-request' } });
    await expect(remove(handle)).rejects.toThrow(/hang up|aborted|reset/);
    expect(await queue.messages()).toHaveLength(2);
    service.faults.add({ action: 'DeleteMessage', times: 1, fault: { kind: 'lose-answer' } });
    await expect(remove(handle)).rejects.toThrow(/hang up|aborted|reset/);
    expect(await queue.messages()).toHaveLength(1);
    const undo = service.faults.add({
      fault: { kind: 'error', status: 403, code: 'AccessDeniedException' },
    });
    await expect(receive()).rejects.toMatchObject({ name: 'AccessDeniedException' });
    undo();
    expect(await receive()).toHaveLength(1);
    expect(service.requests('DeleteMessage').map(({ status }) => status)).toEqual([500, 0, 0]);
  });
});
