import type { Queue, QueueEvent } from '../stand-ins/queue.ts';
import { eventually, type EventuallyOptions } from './eventually.ts';
import type { World } from './world.ts';

/** What has become of a message so far, in a word each. */
export function fateOf(queue: Queue, messageId: string): readonly QueueEvent['type'][] {
  return queue.events(messageId).map(({ type }) => type);
}

export function isDeleted(queue: Queue, messageId: string): boolean {
  return fateOf(queue, messageId).includes('deleted');
}

export function timesReceived(queue: Queue, messageId: string): number {
  return fateOf(queue, messageId).filter((type) => type === 'received').length;
}

export async function untilDeleted(
  queue: Queue,
  messageIds: readonly string[],
  options?: EventuallyOptions,
): Promise<void> {
  await eventually(() => {
    const left = messageIds.filter((id) => !isDeleted(queue, id));
    if (left.length > 0) {
      const fate = fateOf(queue, left[0] ?? '').join(', ');
      throw new Error(`${left.length} not deleted, the first: ${fate}`);
    }
    return true;
  }, options);
}

/**
 * Makes a hidden message visible now, as if the time it is hidden for were over: with the handle of
 * its latest receive, which is what its receiver could do.
 */
export async function endVisibility(
  { queues }: World,
  queue: Queue,
  messageId: string,
): Promise<void> {
  const received = queue.events(messageId).findLast((event) => event.type === 'received');
  if (!received) throw new Error(`message ${messageId} was never received`);
  const response = await fetch(queues.url, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-amz-json-1.0',
      'x-amz-target': 'AmazonSQS.ChangeMessageVisibility',
    },
    body: JSON.stringify({
      QueueUrl: queue.url,
      ReceiptHandle: received.receiptHandle,
      VisibilityTimeout: 0,
    }),
  });
  if (!response.ok) throw new Error(`not made visible: ${await response.text()}`);
}
