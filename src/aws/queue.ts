import {
  ChangeMessageVisibilityBatchCommand,
  DeleteMessageBatchCommand,
  GetQueueAttributesCommand,
  ReceiveMessageCommand,
  SQSClient,
  type DeleteMessageBatchCommandOutput,
  type Message as RawMessage,
} from '@aws-sdk/client-sqs';
import * as z from 'zod';
import { bounded, unlessAborted } from '../abort.ts';
import { pause, type Clock } from '../clock.ts';
import type { Message, Queue, Receipt } from '../intake/queue.ts';
import type { Metrics } from '../report/metrics.ts';
import { UNWATCHED, type Watchdog } from '../watchdog.ts';
import { Batches, type Verdicts } from './batches.ts';
import { entryFailureOf, failureOf, type Failure } from './errors.ts';
import { clientDefaults, measured } from './requests.ts';

export interface OpenQueue extends Queue {
  /**
   * Sends what waits to be sent, gives up what has no answer within the limit, and ends polls: before
   * that, up to a second is theirs if something was given back just now.
   */
  close(limitMs: number): Promise<void>;
}

type QueueOptions = Readonly<{
  queueUrl: string;
  /** The queue's: requests are signed for it. */
  region: string;
  clock: Clock;
  metrics?: Metrics;
  watchdog?: Watchdog;
}>;

/** An SQS queue; sends nothing before the first call. */
export function createQueue(options: QueueOptions): OpenQueue {
  return new SqsQueue(options);
}

type ReceiveRequest = Parameters<Queue['receive']>[0];
type VisibilityChange = Readonly<{ message: Receipt; seconds: number }>;

const REQUEST_LIMIT_MS = 5000;
const LONGEST_VISIBILITY_SECONDS = 43_200;
/** How soon a waiting poll brings what has become visible, and that is given back: at least, at most. */
const LATE_POLL_MS = { least: 250, most: 1000 };
/** The same, in the time that a change of visibility took. */
const LATE_POLL_CHANGES = 4;
const RECENTLY_MS = 2000;

/** Far above what is held in hand; shorter than the visibility, after which a handle is worth little. */
const OF_MESSAGES = { mostWaiting: 50_000, tryForMs: 15_000 };

class SqsQueue implements OpenQueue {
  private readonly queueUrl: string;
  private readonly clock: Clock;
  private readonly metrics: Metrics | undefined;
  private readonly client: SQSClient;
  private readonly deletions: Batches<Receipt>;
  private readonly visibilityChanges: Batches<VisibilityChange>;
  /** By receipt handle, the latest change under way: the next one waits for it, so that it rules. */
  private readonly latestChange = new Map<string, Promise<boolean>>();
  /** Polls whose callers have left, until what they bring is given back. */
  private readonly latePolls = new Set<Promise<void>>();
  private gaveBack = { at: -Infinity, tookMs: 0 };
  private readonly closing = new AbortController();

  constructor({ queueUrl, region, clock, metrics, watchdog = UNWATCHED }: QueueOptions) {
    this.queueUrl = queueUrl;
    this.clock = clock;
    this.metrics = metrics;
    this.client = new SQSClient({
      ...clientDefaults(region),
      ...endpointOf(queueUrl, region, process.env),
      // TLS guards the bodies; the checksum would cost more than the rest of a receive.
      md5: false,
    });
    this.deletions = new Batches('delete from the queue', this.sendDeletions.bind(this), clock, {
      watchdog,
      ...OF_MESSAGES,
    });
    this.visibilityChanges = new Batches(
      'change visibility in the queue',
      this.sendVisibilityChanges.bind(this),
      clock,
      { watchdog, ...OF_MESSAGES },
    );
  }

  /**
   * An abort releases the caller at once, but not the poll: SQS may have begun to answer it, and what
   * is handed to a closed connection stays hidden for its visibility timeout. So the poll runs on
   * until its end or `close`, and what it brings is given back.
   */
  async receive(request: ReceiveRequest, signal: AbortSignal): Promise<readonly Message[]> {
    signal.throwIfAborted();
    const polling = this.poll(request);
    try {
      return await unlessAborted(polling, signal);
    } catch (error) {
      if (signal.aborted) {
        const late = this.giveBackLate(polling).finally(() => this.latePolls.delete(late));
        this.latePolls.add(late);
        throw error;
      }
      throw failed('receive from the queue', error);
    }
  }

  delete(message: Receipt): Promise<boolean> {
    return this.deletions.add(message);
  }

  async setVisibility(message: Receipt, seconds: number): Promise<boolean> {
    const { receiptHandle } = message;
    const startedAt = this.clock.now();
    const change = this.changeAfter(this.latestChange.get(receiptHandle), {
      message,
      seconds: Math.min(Math.max(Math.ceil(seconds), 0), LONGEST_VISIBILITY_SECONDS),
    });
    this.latestChange.set(receiptHandle, change);
    try {
      const changed = await change;
      const now = this.clock.now();
      if (seconds === 0) this.gaveBack = { at: now, tookMs: now - startedAt };
      return changed;
    } finally {
      if (this.latestChange.get(receiptHandle) === change) this.latestChange.delete(receiptHandle);
    }
  }

  async maxReceiveCount(signal: AbortSignal): Promise<number | undefined> {
    const command = new GetQueueAttributesCommand({
      QueueUrl: this.queueUrl,
      AttributeNames: ['RedrivePolicy'],
    });
    try {
      const { Attributes } = await this.send(
        'GetQueueAttributes',
        [signal],
        REQUEST_LIMIT_MS,
        (abortSignal) => this.client.send(command, { abortSignal }),
      );
      const policy = Attributes?.RedrivePolicy;
      return policy === undefined ? undefined : redrivePolicy.parse(policy).maxReceiveCount;
    } catch (error) {
      signal.throwIfAborted();
      if (failureOf(error).code.startsWith('AccessDenied')) return undefined;
      throw failed("read the queue's redrive policy", error);
    }
  }

  async close(limitMs: number): Promise<void> {
    // What was given back may have gone to a poll of ours that was still waiting.
    const { at, tookMs } = this.gaveBack;
    if (this.clock.now() - at < RECENTLY_MS) {
      const { least, most } = LATE_POLL_MS;
      await this.untilLatePollsEnd(Math.min(Math.max(least, LATE_POLL_CHANGES * tookMs), most));
    }
    await Promise.all([this.deletions.close(limitMs), this.visibilityChanges.close(limitMs)]);
    this.closing.abort(new Error('the queue is closed'));
    this.client.destroy();
  }

  private async poll(request: ReceiveRequest): Promise<readonly Message[]> {
    const command = new ReceiveMessageCommand({
      QueueUrl: this.queueUrl,
      MaxNumberOfMessages: request.max,
      WaitTimeSeconds: request.waitSeconds,
      VisibilityTimeout: request.visibilitySeconds,
      MessageSystemAttributeNames: [
        'SentTimestamp',
        'ApproximateFirstReceiveTimestamp',
        'ApproximateReceiveCount',
      ],
    });
    const limitMs = request.waitSeconds * 1000 + REQUEST_LIMIT_MS;
    const { Messages = [] } = await this.send('ReceiveMessage', [], limitMs, (abortSignal) =>
      this.client.send(command, { abortSignal }),
    );
    return Messages.map((raw) => toMessage(raw, this.clock.now()));
  }

  private async giveBackLate(polling: Promise<readonly Message[]>): Promise<void> {
    const [polled] = await Promise.allSettled([polling]);
    if (polled.status === 'rejected') return;
    // One that cannot be given back comes back by itself, at the end of its visibility timeout.
    await Promise.allSettled(polled.value.map((message) => this.setVisibility(message, 0)));
  }

  private async untilLatePollsEnd(limitMs: number): Promise<void> {
    const ended = new AbortController();
    const all = Promise.all(this.latePolls).then(() => ended.abort());
    await Promise.race([all, pause(this.clock, limitMs, ended.signal)]);
  }

  private async changeAfter(
    earlier: Promise<boolean> | undefined,
    change: VisibilityChange,
  ): Promise<boolean> {
    if (earlier !== undefined) await Promise.allSettled([earlier]);
    return this.visibilityChanges.add(change);
  }

  private sendDeletions(messages: readonly Receipt[], signal: AbortSignal): Promise<Verdicts> {
    const command = new DeleteMessageBatchCommand({
      QueueUrl: this.queueUrl,
      Entries: messages.map(({ receiptHandle }, at) => ({
        Id: String(at),
        ReceiptHandle: receiptHandle,
      })),
    });
    return this.verdicts('DeleteMessageBatch', messages.length, signal, (abortSignal) =>
      this.client.send(command, { abortSignal }),
    );
  }

  private sendVisibilityChanges(
    changes: readonly VisibilityChange[],
    signal: AbortSignal,
  ): Promise<Verdicts> {
    const command = new ChangeMessageVisibilityBatchCommand({
      QueueUrl: this.queueUrl,
      Entries: changes.map(({ message, seconds }, at) => ({
        Id: String(at),
        ReceiptHandle: message.receiptHandle,
        VisibilityTimeout: seconds,
      })),
    });
    return this.verdicts('ChangeMessageVisibilityBatch', changes.length, signal, (abortSignal) =>
      this.client.send(command, { abortSignal }),
    );
  }

  /** Of both kinds of batch, whose answers have one shape. */
  private async verdicts(
    operation: string,
    count: number,
    signal: AbortSignal,
    send: (signal: AbortSignal) => Promise<BatchAnswer>,
  ): Promise<Verdicts> {
    try {
      const { Successful = [], Failed = [] } = await this.send(
        operation,
        [signal],
        REQUEST_LIMIT_MS,
        send,
      );
      const byId = new Map<string | undefined, Verdicts[number]>();
      for (const { Id } of Successful) byId.set(Id, true);
      for (const { Id, Code, SenderFault, Message: told } of Failed) {
        const failure = entryFailureOf(Code, SenderFault, told);
        byId.set(Id, STALE_HANDLE.has(failure.code) ? false : failure);
      }
      return Array.from({ length: count }, (_, at) => byId.get(String(at)));
    } catch (error) {
      return Array<Failure>(count).fill(failureOf(error));
    }
  }

  private send<Answer>(
    operation: string,
    signals: readonly AbortSignal[],
    limitMs: number,
    send: (signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer> {
    return measured(this.metrics, 'sqs', operation, () =>
      bounded(this.clock, limitMs, [this.closing.signal, ...signals], send),
    );
  }
}

type BatchAnswer = Pick<DeleteMessageBatchCommandOutput, 'Successful' | 'Failed'>;

/**
 * The message was received again, is gone, or has been hidden for the twelve hours that SQS allows.
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
 */
const STALE_HANDLE = new Set([
  'ReceiptHandleIsInvalid',
  'InvalidParameterValue',
  'MessageNotInflight',
]);

const redrivePolicy = z
  .string()
  .transform((text): unknown => JSON.parse(text))
  .pipe(z.object({ maxReceiveCount: z.coerce.number().int().positive() }));

function toMessage(raw: RawMessage, now: number): Message {
  const { Attributes = {} } = raw;
  const sentAt = numberOr(Attributes.SentTimestamp, now);
  return {
    id: raw.MessageId ?? '',
    receiptHandle: raw.ReceiptHandle ?? '',
    body: raw.Body ?? '',
    sentAt,
    firstReceivedAt: numberOr(Attributes.ApproximateFirstReceiveTimestamp, now),
    receiveCount: numberOr(Attributes.ApproximateReceiveCount, 1),
  };
}

function numberOr(text: string | undefined, otherwise: number): number {
  const value = Number(text);
  return Number.isFinite(value) ? value : otherwise;
}

/**
 * The usual endpoint, and one set for the SDK, are the SDK's to find (FIPS and dual stack included).
 * Any other host in the queue's URL, such as a VPC endpoint or an emulator, is the endpoint itself.
 */
function endpointOf(
  queueUrl: string,
  region: string,
  environment: Readonly<Record<string, string | undefined>>,
): Readonly<{ endpoint?: string; useQueueUrlAsEndpoint: false }> {
  const { origin, hostname } = new URL(queueUrl);
  const usual = [
    `sqs.${region}.amazonaws.com`,
    `sqs.${region}.amazonaws.com.cn`,
    `${region}.queue.amazonaws.com`,
    'queue.amazonaws.com',
  ];
  const isSet =
    environment['AWS_IGNORE_CONFIGURED_ENDPOINT_URLS'] !== 'true' &&
    [environment['AWS_ENDPOINT_URL_SQS'], environment['AWS_ENDPOINT_URL']].some(Boolean);
  return isSet || usual.includes(hostname)
    ? { useQueueUrlAsEndpoint: false }
    : { useQueueUrlAsEndpoint: false, endpoint: origin };
}

function failed(what: string, error: unknown): Error {
  return new Error(`cannot ${what}: ${failureOf(error).code}`, { cause: error });
}
