/**
 * One message as one receive handed it out, without its body: all that is kept of it once it is
 * parsed, for a body may have a MiB. Times are epoch milliseconds.
 */
export type Receipt = Readonly<{
  id: string;
  /** Belongs to this receive: after a later receive of the same message only the newer is sure to work. */
  receiptHandle: string;
  sentAt: number;
  firstReceivedAt: number;
  receiveCount: number;
}>;

export type Message = Receipt & Readonly<{ body: string }>;

/**
 * The queue, as intake uses it. `delete` and `setVisibility` may be called for single messages at any
 * rate: the edge sends them in batches of ten and retries what fails for a passing reason. They
 * resolve false when the handle is no longer good (the message was received again, or is gone), and
 * reject when the queue could not be asked.
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
 */
export interface Queue {
  /** `max` 1 to 10; `waitSeconds` 0 to 20. Resolves to none at the end of the wait. */
  receive(
    request: Readonly<{ max: number; waitSeconds: number; visibilitySeconds: number }>,
    signal: AbortSignal,
  ): Promise<readonly Message[]>;
  delete(message: Receipt): Promise<boolean>;
  /** 0 gives the message back. At most 43,200. */
  setVisibility(message: Receipt, seconds: number): Promise<boolean>;
  /** Receives after which the redrive policy takes a message away; undefined without one, or if it may not be read. */
  maxReceiveCount(signal: AbortSignal): Promise<number | undefined>;
}
