import { EnvHttpProxyAgent, request, type Dispatcher } from 'undici';
import { bounded } from '../../abort.ts';
import type { Clock, Timer } from '../../clock.ts';
import type { NodeFacts } from '../../plan/node.ts';
import type { Metrics } from '../metrics.ts';
import type { InterruptionOutcome, InterruptionReceived, Outcomes } from '../outcome.ts';
import type { Report } from '../report.ts';
import type { Body } from './body.ts';
import { exampleMessages, webhookMessage, type Stage } from './message.ts';
import type { WebhookSettings } from './settings.ts';
import { signature } from './signature.ts';

export interface OpenWebhook extends Outcomes {
  /** Sends what waits; gives up what has no answer within the limit. */
  close(limitMs: number): Promise<void>;
}

type WebhookPorts = Readonly<{
  /** Undefined: there is no such Node now. */
  factsOf: (nodeName: string) => NodeFacts | undefined;
  /** `node-termination-controller/1.2.3` */
  userAgent: string;
  /** Of all that passes here; nobody sets it. */
  clock: Clock;
  /** What time it is for others (epoch ms). */
  wallNow: () => number;
  metrics?: Metrics;
  report: Report;
}>;

type Message = Readonly<{
  id: string;
  node: string;
  stage: Stage;
  body: Body;
  bytes: number;
  addedAt: number;
}>;

/** Messages of one node, oldest first: the next waits until the one before is sent or given up. */
type Lane = { readonly messages: Message[]; attempts: number; pausing: Timer | undefined };

/** What became of one attempt. */
type Verdict =
  | Readonly<{ outcome: 'sent' }>
  /** Asking again will not help. */
  | Readonly<{ outcome: 'refused'; reason: string }>
  /** `retryAfterMs`: the receiver asked for so long a pause, for all messages. */
  | Readonly<{ outcome: 'failed'; reason: string; retryAfterMs: number | undefined }>;

/** Until the head of the answer is here. */
const ATTEMPT_LIMIT_MS = 10_000;
const CONNECT_LIMIT_MS = 5000;
/** Then the connection is given up. */
const DISCARD_LIMIT_MS = 2000;
const MOST_UNDER_WAY = 8;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** An outage of the receiver is outlived for so long; every message is tried once at least. */
const TRY_FOR_MS = 900_000;
const LONGEST_RETRY_AFTER_MS = 300_000;
const MOST_WAITING = 10_000;
const MOST_BYTES_WAITING = 16 * 1024 * 1024;
const MOST_BYTES = 256 * 1024;
/** Of an answer, whose body says nothing to us. */
const MOST_ANSWER_BYTES = 16 * 1024;
/** Nodes whose end may be told when they are gone. */
const MOST_FACTS = 1000;

/**
 * Tells a receiver what happens, a POST for each message: in order for each node, several nodes at
 * once, repeated while it fails for a passing reason. In memory alone: what a process had not sent
 * when it died is not sent by another; what one sends again bears the same ID.
 */
export function createWebhook(settings: WebhookSettings, ports: WebhookPorts): OpenWebhook {
  // The first of all takes many times as long as the others: not while marks wait.
  for (const example of exampleMessages()) settings.format.write(example);
  return new Deliveries(settings, ports);
}

class Deliveries implements OpenWebhook {
  private readonly lanes = new Map<string, Lane>();
  /** Nodes whose next message waits for nothing but its turn. */
  private readonly ready = new Set<string>();
  /** By node; the latest at the end. */
  private readonly facts = new Map<string, NodeFacts>();
  private waiting = 0;
  private bytes = 0;
  private underWay = 0;
  /** Nothing is sent before. */
  private holdUntil = -Infinity;
  private holdTimer: Timer | undefined;
  private closing = false;
  private readonly cut = new AbortController();
  private readonly idle = Promise.withResolvers<void>();
  /** Proxies as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say. */
  private readonly dispatcher = new EnvHttpProxyAgent({
    connections: MOST_UNDER_WAY,
    connect: { timeout: CONNECT_LIMIT_MS },
  });
  private readonly settings: WebhookSettings;
  private readonly ports: WebhookPorts;

  constructor(settings: WebhookSettings, ports: WebhookPorts) {
    this.settings = settings;
    this.ports = ports;
  }

  received(news: InterruptionReceived): void {
    this.add(news);
  }

  tell(outcome: InterruptionOutcome): void {
    this.add(outcome);
  }

  async close(limitMs: number): Promise<void> {
    this.closing = true;
    // Once each, whatever pause was asked for: there will be no later.
    this.holdUntil = -Infinity;
    for (const [node, lane] of this.lanes) if (lane.pausing !== undefined) this.resume(node, lane);
    this.pump();
    const limit = this.ports.clock.after(limitMs, () => {
      this.cut.abort(new Error('stopping'));
      this.dropAll('stopping');
    });
    this.settle();
    await this.idle.promise;
    limit.cancel();
    this.holdTimer?.cancel();
    await this.dispatcher.destroy();
  }

  private add(told: InterruptionReceived | InterruptionOutcome): void {
    const { format, stages } = this.settings;
    const { clock } = this.ports;
    const { id, data, nodeLabels } = webhookMessage(told, this.remember(told.node));
    if (!stages.includes(data.stage)) return;
    const { node, stage } = data;
    let body: Body;
    try {
      body = format.write({ id, data, nodeLabels });
    } catch (error) {
      this.tellDropped({ id, node, stage }, error instanceof Error ? error.message : 'no body', 0);
      return;
    }
    const bytes = Buffer.byteLength(body.text);
    const reason = this.refusal(bytes);
    if (reason !== undefined) {
      this.tellDropped({ id, node, stage }, reason, 0);
      return;
    }
    let lane = this.lanes.get(node);
    if (lane === undefined) {
      lane = { messages: [], attempts: 0, pausing: undefined };
      this.lanes.set(node, lane);
      this.ready.add(node);
    }
    lane.messages.push({ id, node, stage, body, bytes, addedAt: clock.now() });
    this.waiting += 1;
    this.bytes += bytes;
    this.pump();
  }

  /** Of a Node that is gone, what it was when it was last told of. */
  private remember(node: string): NodeFacts | undefined {
    const facts = this.ports.factsOf(node) ?? this.facts.get(node);
    if (facts === undefined) return undefined;
    this.facts.delete(node);
    this.facts.set(node, facts);
    const [oldest] = this.facts.keys();
    if (this.facts.size > MOST_FACTS && oldest !== undefined) this.facts.delete(oldest);
    return facts;
  }

  private refusal(bytes: number): string | undefined {
    if (this.closing) return 'stopping';
    if (bytes > MOST_BYTES) return `the message has ${bytes} bytes`;
    const isFull = this.waiting >= MOST_WAITING || this.bytes + bytes > MOST_BYTES_WAITING;
    return isFull ? 'too many messages wait' : undefined;
  }

  private pump(): void {
    const { clock } = this.ports;
    const now = clock.now();
    for (const node of this.ready) {
      const heldMs = this.holdUntil - now;
      if (heldMs > 0) {
        this.holdTimer ??= clock.after(heldMs, () => {
          this.holdTimer = undefined;
          this.pump();
        });
        return;
      }
      if (this.underWay >= MOST_UNDER_WAY) return;
      this.ready.delete(node);
      const lane = this.lanes.get(node);
      if (lane !== undefined) void this.send(node, lane);
    }
  }

  private async send(node: string, lane: Lane): Promise<void> {
    const { clock, metrics, report } = this.ports;
    const [message] = lane.messages;
    if (message === undefined) return;
    this.underWay += 1;
    lane.attempts += 1;
    const verdict = await this.attempt(message);
    this.underWay -= 1;
    const { id, stage } = message;
    if (verdict.outcome === 'sent') {
      metrics?.count('webhook_messages_total', { stage, result: 'sent' });
      report.debug('webhook message sent', { node, stage, id, attempts: lane.attempts });
      this.next(node, lane);
    } else if (verdict.outcome === 'refused' || !this.isWorthAnother(message)) {
      const reason = this.cut.signal.aborted ? 'stopping' : verdict.reason;
      this.tellDropped(message, reason, lane.attempts);
      this.next(node, lane);
      if (this.closing && 'retryAfterMs' in verdict && verdict.retryAfterMs !== undefined) {
        this.dropAll('stopping, and the receiver asks for a pause');
      }
    } else {
      report.debug('webhook message failed', { node, stage, id, reason: verdict.reason });
      if (verdict.retryAfterMs !== undefined) {
        this.holdUntil = Math.max(this.holdUntil, clock.now() + verdict.retryAfterMs);
      }
      const longest = Math.min(FIRST_PAUSE_MS * 2 ** (lane.attempts - 1), LONGEST_PAUSE_MS);
      const pauseMs = longest * (0.5 + clock.random() / 2);
      lane.pausing = clock.after(pauseMs, () => {
        this.resume(node, lane);
        this.pump();
      });
    }
    this.pump();
    this.settle();
  }

  private isWorthAnother({ addedAt }: Message): boolean {
    return !this.closing && this.ports.clock.now() - addedAt < TRY_FOR_MS;
  }

  private resume(node: string, lane: Lane): void {
    lane.pausing?.cancel();
    lane.pausing = undefined;
    this.ready.add(node);
  }

  /** Done with its first message, in one way or the other. */
  private next(node: string, lane: Lane): void {
    const done = lane.messages.shift();
    if (done === undefined) return;
    this.waiting -= 1;
    this.bytes -= done.bytes;
    lane.attempts = 0;
    if (lane.messages.length > 0) this.ready.add(node);
    else this.lanes.delete(node);
  }

  private dropAll(reason: string): void {
    for (const [node, lane] of this.lanes) {
      lane.pausing?.cancel();
      // The first of those that are not ready is under way: its attempt, which is cut, tells of it.
      const isUnderWay = !this.ready.has(node) && lane.pausing === undefined;
      for (const message of lane.messages.splice(isUnderWay ? 1 : 0)) {
        this.waiting -= 1;
        this.bytes -= message.bytes;
        this.tellDropped(message, reason, 0);
      }
      if (!isUnderWay) this.lanes.delete(node);
    }
    this.ready.clear();
    this.settle();
  }

  private settle(): void {
    if (this.closing && this.lanes.size === 0) this.idle.resolve();
  }

  private tellDropped(
    { id, node, stage }: Pick<Message, 'id' | 'node' | 'stage'>,
    reason: string,
    attempts: number,
  ): void {
    const { metrics, report } = this.ports;
    const receiver = this.settings.url.origin;
    metrics?.count('webhook_messages_total', { stage, result: 'dropped' });
    report.warn('webhook message not sent', { node, stage, id, receiver, reason, attempts });
  }

  /** Never rejects. */
  private async attempt(message: Message): Promise<Verdict> {
    const { clock, metrics, wallNow } = this.ports;
    const startedAt = performance.now();
    let code = 'none';
    try {
      const { statusCode, headers, body } = await bounded(
        clock,
        ATTEMPT_LIMIT_MS,
        [this.cut.signal],
        (signal) => this.post(message, signal),
      );
      code = String(statusCode);
      await this.discard(body);
      return verdictOf(statusCode, headers['retry-after'], wallNow());
    } catch (error) {
      return { outcome: 'failed', reason: reasonOf(error), retryAfterMs: undefined };
    } finally {
      const of = { api: 'webhook', operation: 'POST' };
      metrics?.count('requests_total', { ...of, code });
      metrics?.observe('request_duration_seconds', of, (performance.now() - startedAt) / 1000);
    }
  }

  private async post({ id, body }: Message, signal: AbortSignal) {
    const { url, headers, secrets } = this.settings;
    const timestampSeconds = Math.floor(this.ports.wallNow() / 1000);
    const answer = await request(url, {
      dispatcher: this.dispatcher,
      method: 'POST',
      headers: {
        'user-agent': this.ports.userAgent,
        ...headers,
        'content-type': body.contentType,
        'webhook-id': id,
        'webhook-timestamp': String(timestampSeconds),
        ...(secrets.length > 0 && {
          'webhook-signature': signature(secrets, { id, timestampSeconds, body: body.text }),
        }),
      },
      body: body.text,
      signal,
    });
    return answer;
  }

  /** The head has said it all; a body that ends soon leaves the connection to the next message. */
  private async discard(body: Dispatcher.ResponseData['body']): Promise<void> {
    try {
      await bounded(this.ports.clock, DISCARD_LIMIT_MS, [this.cut.signal], (signal) =>
        body.dump({ limit: MOST_ANSWER_BYTES, signal }),
      );
    } catch (error) {
      this.ports.report.debug('webhook answer cut short', { reason: reasonOf(error) });
    }
  }
}

function verdictOf(
  status: number,
  retryAfter: string | string[] | undefined,
  now: number,
): Verdict {
  if (status >= 200 && status < 300) return { outcome: 'sent' };
  const reason = `status ${status}`;
  if (status === 429 || status === 503) {
    return { outcome: 'failed', reason, retryAfterMs: retryAfterMs(retryAfter, now) };
  }
  if (status === 408 || status >= 500)
    return { outcome: 'failed', reason, retryAfterMs: undefined };
  const isRedirect = status >= 300 && status < 400;
  return { outcome: 'refused', reason: isRedirect ? `${reason}, a redirect` : reason };
}

/** Seconds or a date. https://www.rfc-editor.org/rfc/rfc9110#field.retry-after */
function retryAfterMs(header: string | string[] | undefined, now: number): number | undefined {
  const [text = ''] = [header].flat();
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return ms > 0 ? Math.min(ms, LONGEST_RETRY_AFTER_MS) : undefined;
}

/** Names no more of the receiver than host and port. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message || ('code' in error ? String(error.code) : error.name);
}
