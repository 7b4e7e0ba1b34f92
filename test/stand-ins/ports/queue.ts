import type { Clock } from '../../../src/clock.ts';
import type { Message, Queue } from '../../../src/intake/queue.ts';
import { Gate } from './gate.ts';
import type { Line } from './line.ts';

type Stored = {
  readonly id: string;
  readonly body: string;
  readonly sentAt: number;
  firstReceivedAt: number | undefined;
  receiveCount: number;
  handle: string | undefined;
  visibleAt: number;
};

/** What happened to a message. `hidden` with 0 s: given back. */
export type QueueEvent = Readonly<{ at: number; id: string }> &
  (
    | Readonly<{ type: 'received' | 'deleted' }>
    | Readonly<{ type: 'hidden'; seconds: number }>
    | Readonly<{ type: 'stale handle' }>
  );

/** An SQS queue: at least once, and hidden for a while from whoever else would receive. */
export class FakeSqs {
  readonly events: QueueEvent[] = [];
  maxReceiveCount: number | undefined;
  private readonly messages = new Map<string, Stored>();
  private readonly waiters = new Set<() => void>();
  private count = 0;
  private readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Returns the message's ID. An object is sent as JSON. */
  send(body: unknown): string {
    this.count += 1;
    const id = `message-${this.count}`;
    const now = this.clock.now();
    this.messages.set(id, {
      id,
      body: typeof body === 'string' ? body : JSON.stringify(body),
      sentAt: now,
      firstReceivedAt: undefined,
      receiveCount: 0,
      handle: undefined,
      visibleAt: now,
    });
    this.wake();
    return id;
  }

  /** IDs of all messages that are not deleted. */
  get ids(): readonly string[] {
    return [...this.messages.keys()];
  }

  /** Of one message, oldest first. */
  eventsOf(id: string): readonly QueueEvent[] {
    return this.events.filter((event) => event.id === id);
  }

  /** Epoch milliseconds; undefined: it is deleted. */
  visibleAt(id: string): number | undefined {
    return this.messages.get(id)?.visibleAt;
  }

  take(max: number, visibilitySeconds: number): readonly Message[] {
    const now = this.clock.now();
    const found = [...this.messages.values()].filter(({ visibleAt }) => visibleAt <= now);
    return found.slice(0, max).map((stored) => {
      stored.receiveCount += 1;
      stored.firstReceivedAt ??= now;
      stored.handle = `${stored.id}/${stored.receiveCount}`;
      stored.visibleAt = now + visibilitySeconds * 1000;
      this.events.push({ at: now, id: stored.id, type: 'received' });
      return {
        id: stored.id,
        receiptHandle: stored.handle,
        body: stored.body,
        sentAt: stored.sentAt,
        firstReceivedAt: stored.firstReceivedAt,
        receiveCount: stored.receiveCount,
      };
    });
  }

  delete({ id, receiptHandle }: Message): boolean {
    const stored = this.heldBy(id, receiptHandle);
    if (stored === undefined) return false;
    this.messages.delete(id);
    this.events.push({ at: this.clock.now(), id, type: 'deleted' });
    return true;
  }

  setVisibility({ id, receiptHandle }: Message, seconds: number): boolean {
    const stored = this.heldBy(id, receiptHandle);
    if (stored === undefined) return false;
    stored.visibleAt = this.clock.now() + seconds * 1000;
    this.events.push({ at: this.clock.now(), id, type: 'hidden', seconds });
    this.wake();
    return true;
  }

  /** Resolves when a message may be visible, at the latest after so long. */
  async news(waitMs: number, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        timer.cancel();
        this.waiters.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = this.clock.after(waitMs, done);
      this.waiters.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  now(): number {
    return this.clock.now();
  }

  /** When the next hidden message becomes visible. */
  nextVisibleAt(): number {
    return Math.min(...[...this.messages.values()].map(({ visibleAt }) => visibleAt));
  }

  /** As a queue that delivers at least once may: visible to others although somebody has it in hand. */
  deliverAgain(id: string): void {
    const stored = this.messages.get(id);
    if (stored === undefined) return;
    stored.visibleAt = this.clock.now();
    this.wake();
  }

  /** Whether this receive of it may still delete and hide it. */
  isHeldBy({ id, receiptHandle }: Message): boolean {
    return this.messages.get(id)?.handle === receiptHandle;
  }

  private heldBy(id: string, handle: string): Stored | undefined {
    const stored = this.messages.get(id);
    if (stored?.handle === handle) return stored;
    this.events.push({ at: this.clock.now(), id, type: 'stale handle' });
    return undefined;
  }

  private wake(): void {
    for (const waiter of this.waiters) waiter();
  }
}

/** One process's way to the queue. */
export class FakeQueue implements Queue {
  readonly receives: Gate<[max: number, waitSeconds: number, visibilitySeconds: number], undefined>;
  readonly deletions: Gate<[id: string], boolean>;
  readonly hidings: Gate<[id: string, seconds: number], boolean>;
  readonly inquiries: Gate<[], number | undefined>;
  /** Receives that wait for a message now. */
  polling = 0;
  private readonly line: Line;
  private readonly sqs: FakeSqs;

  constructor(line: Line, sqs: FakeSqs) {
    this.line = line;
    this.sqs = sqs;
    this.receives = new Gate(line);
    this.deletions = new Gate(line);
    this.hidings = new Gate(line);
    this.inquiries = new Gate(line);
  }

  async receive(...[request, signal]: Parameters<Queue['receive']>): Promise<readonly Message[]> {
    const { max, waitSeconds, visibilitySeconds } = request;
    this.polling += 1;
    try {
      await this.receives.pass([max, waitSeconds, visibilitySeconds], () => undefined, signal);
      const until = this.line.now() + waitSeconds * 1000;
      for (;;) {
        signal.throwIfAborted();
        const messages = this.sqs.take(max, visibilitySeconds);
        const now = this.line.now();
        if (messages.length > 0 || now >= until) {
          await this.line.travel();
          return messages;
        }
        await this.sqs.news(Math.min(until, this.sqs.nextVisibleAt()) - now, signal);
      }
    } finally {
      this.polling -= 1;
    }
  }

  delete(message: Message): Promise<boolean> {
    return this.deletions.pass([message.id], () => this.sqs.delete(message));
  }

  setVisibility(message: Message, seconds: number): Promise<boolean> {
    return this.hidings.pass([message.id, seconds], () => this.sqs.setVisibility(message, seconds));
  }

  maxReceiveCount(signal: AbortSignal): Promise<number | undefined> {
    return this.inquiries.pass([], () => this.sqs.maxReceiveCount, signal);
  }
}
