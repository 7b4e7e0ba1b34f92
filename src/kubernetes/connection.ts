import { Pool, ProxyAgent, type Dispatcher } from 'undici';
import type { Clock } from '../clock.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Report } from '../report/report.ts';
import { Turns, UNWATCHED, type Watchdog } from '../watchdog.ts';
import { createAdmission, type Admission, type Lane } from './admission.ts';
import {
  createAuthenticator,
  sameTls,
  type Authenticator,
  type Credentials,
  type TlsMaterial,
} from './credentials.ts';
import { exchange, type Exchanged, type ExchangeOptions } from './exchange.ts';
import { operationOf } from './operation.ts';

export type ApiRequest = Readonly<{
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Starts with a slash; its segments are encoded (`pathOf`). */
  path: string;
  query?: Readonly<Record<string, string>>;
  body?: unknown;
  contentType?: 'application/json' | 'application/merge-patch+json';
  accept?: string;
  /** `watch` goes past the admission, over the watches' own connections. */
  lane: Lane | 'watch';
  timeoutMs?: number;
}>;

/** What came back. Failures are values; only an aborted signal rejects. `body`: parsed if it was JSON, else the text. */
export type Answer =
  /** Status 2xx. */
  | Readonly<{ kind: 'success'; body: unknown }>
  /** Any other status. `retryAfter`: the header as it stood. */
  | Failure
  /** `timedOut`: it was sent, and no answer came in time. */
  | Readonly<{ kind: 'unanswered'; message: string; timedOut: boolean }>
  /** Not sent: too many requests wait for a place, or it has waited for one too long. */
  | Readonly<{ kind: 'crowded' }>;

export type Failure = Readonly<{
  kind: 'failure';
  status: number;
  body: unknown;
  retryAfter: string | undefined;
}>;

export type StreamOptions = Readonly<{
  /** The longest silence. */
  idleMs: number;
  /** The head of a 2xx answer is here. */
  onOpen: () => void;
  /** False ends the stream. */
  onData: (chunk: Buffer) => boolean;
}>;

export interface Connection {
  /** Of the kubeconfig's context or, within a cluster, of this pod. */
  readonly namespace: string | undefined;
  request(request: ApiRequest, signal: AbortSignal): Promise<Answer>;
  /** A 2xx answer's body goes to `onData`; resolves at its end. */
  stream(request: ApiRequest, options: StreamOptions, signal: AbortSignal): Promise<Answer>;
  /** Cuts all connections; what is in flight is unanswered. */
  close(): Promise<void>;
}

export type ConnectOptions = Readonly<{
  /** File, or several as in kubectl's KUBECONFIG; undefined: in-cluster. */
  kubeconfigPath: string | undefined;
  userAgent: string;
  clock: Clock;
  metrics?: Metrics;
  watchdog?: Watchdog;
  report: Report;
}>;

const REQUEST_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 5000;
/** More at once make each take longer, and the server no faster. */
const LIMITS = {
  marks: 32,
  bulk: 64,
  bulkBesideMarks: 2,
  events: 2,
  eventsAfterMarksMs: 1000,
  eventsBetweenMarksAfterMs: 15_000,
  waiting: 20_000,
  // An event's is below what the watchdog allows a lane to stand still: nothing but others hold it up.
  longestWaitMs: { mark: 300_000, bulk: 300_000, event: 30_000 },
};
const REQUEST_CONNECTIONS = LIMITS.marks + LIMITS.bulk + LIMITS.events;
/** The standing watches, one pod watch, and the lists they begin with. */
const WATCH_CONNECTIONS = 16;
/** Below the 90 s after which the API server closes an idle connection. */
const KEEP_ALIVE_MS = 60_000;
/** The kernel probes after this silence, each second, and gives up after ten probes. */
const PROBE_AFTER_MS = 15_000;
const REPLACE_POOL_AGAIN_AFTER_MS = 10_000;

/** Throws when the configuration is missing or unusable; does no I/O on the network. */
export function connect(options: ConnectOptions): Connection {
  const { clock, report } = options;
  return new PooledConnection(
    createAuthenticator(options.kubeconfigPath, clock, report),
    createAdmission(LIMITS, clock),
    options,
  );
}

type Pools = Readonly<{ tls: TlsMaterial; requests: Dispatcher; watches: Dispatcher }>;

class PooledConnection implements Connection {
  readonly namespace: string | undefined;
  private readonly authenticator: Authenticator;
  private readonly admission: Admission;
  private readonly turns: Readonly<Record<Lane, Turns>>;
  private readonly clock: Clock;
  private readonly metrics: Metrics | undefined;
  private readonly report: Report;
  private readonly origin: string;
  private readonly pathPrefix: string;
  private readonly userAgent: string;
  private pools: Pools | undefined;
  private replacedAt = 0;
  private closed = false;
  /** Replaced, but with requests still on them. */
  private readonly retired = new Set<Dispatcher>();

  constructor(authenticator: Authenticator, admission: Admission, options: ConnectOptions) {
    this.authenticator = authenticator;
    this.namespace = authenticator.namespace;
    this.admission = admission;
    const { watchdog = UNWATCHED } = options;
    const turnsOf = (what: string) => new Turns(watchdog, 'API server requests', what);
    this.turns = {
      mark: turnsOf('marks'),
      bulk: turnsOf('all but marks'),
      event: turnsOf('events'),
    };
    this.clock = options.clock;
    this.metrics = options.metrics;
    this.report = options.report;
    this.userAgent = options.userAgent;
    this.origin = authenticator.server.origin;
    this.pathPrefix = authenticator.server.pathname.replace(/\/$/, '');
  }

  async request(request: ApiRequest, signal: AbortSignal): Promise<Answer> {
    const answer = await this.withCredentials(request, {}, signal);
    if (answer.kind === 'unanswered' && answer.timedOut && request.lane === 'mark')
      this.replaceRequestPool();
    return answer;
  }

  async stream(request: ApiRequest, options: StreamOptions, signal: AbortSignal): Promise<Answer> {
    return this.withCredentials(request, options, signal);
  }

  async close(): Promise<void> {
    this.closed = true;
    const open = [...this.retired];
    if (this.pools !== undefined) open.push(this.pools.requests, this.pools.watches);
    this.pools = undefined;
    await Promise.all(open.map((pool) => pool.destroy(new Error('connection closed'))));
  }

  private async withCredentials(
    request: ApiRequest,
    options: Partial<StreamOptions>,
    signal: AbortSignal,
  ): Promise<Answer> {
    let credentials: Credentials;
    try {
      const held = this.authenticator.current();
      credentials = held instanceof Promise ? await held : held;
    } catch (error) {
      signal.throwIfAborted();
      return { kind: 'unanswered', message: `no credentials: ${String(error)}`, timedOut: false };
    }
    const first = await this.attempt(request, credentials, options, signal);
    if (first.kind !== 'failure' || first.status !== 401) return first;
    let renewed: Credentials;
    try {
      renewed = await this.authenticator.renew(credentials);
    } catch (error) {
      this.report.warn('credentials not renewed', { error });
      return first;
    }
    return renewed === credentials ? first : this.attempt(request, renewed, options, signal);
  }

  private async attempt(
    request: ApiRequest,
    credentials: Credentials,
    options: Partial<StreamOptions>,
    signal: AbortSignal,
  ): Promise<Answer> {
    signal.throwIfAborted();
    if (request.lane === 'watch') return this.send(request, credentials, options, signal);
    const leave = this.turns[request.lane].enter();
    try {
      const admitted = this.admission.admit(request.lane, signal);
      const release = admitted instanceof Promise ? await admitted : admitted;
      if (release === undefined) return { kind: 'crowded' };
      return await this.send(request, credentials, options, signal, release);
    } finally {
      leave();
    }
  }

  private async send(
    request: ApiRequest,
    credentials: Credentials,
    options: Partial<StreamOptions>,
    signal: AbortSignal,
    release?: () => void,
  ): Promise<Answer> {
    if (this.closed) {
      release?.();
      return { kind: 'unanswered', message: 'connection closed', timedOut: false };
    }
    const pools = this.poolsFor(credentials.tls);
    const exchangeOptions: ExchangeOptions = {
      clock: this.clock,
      timeoutMs: request.timeoutMs ?? REQUEST_TIMEOUT_MS,
      ...(release && { onReleased: release }),
      ...options,
    };
    const startedAt = performance.now();
    const exchanged = await exchange(
      request.lane === 'watch' ? pools.watches : pools.requests,
      this.dispatchOptions(request, credentials),
      exchangeOptions,
      signal,
    );
    this.measure(request, exchanged, startedAt);
    return toAnswer(exchanged);
  }

  private measure(request: ApiRequest, exchanged: Exchanged, startedAt: number): void {
    if (this.metrics === undefined) return;
    const of = { api: 'kubernetes', operation: operationOf(request) };
    const code = exchanged.kind === 'answer' ? String(exchanged.status) : 'none';
    this.metrics.count('requests_total', { ...of, code });
    if (request.query?.['watch'] === 'true') return;
    const seconds = (performance.now() - startedAt) / 1000;
    this.metrics.observe('request_duration_seconds', of, seconds);
  }

  private dispatchOptions(
    request: ApiRequest,
    credentials: Credentials,
  ): Dispatcher.DispatchOptions {
    const query =
      request.query === undefined ? '' : `?${new URLSearchParams(request.query).toString()}`;
    return {
      origin: this.origin,
      method: request.method,
      // Or undici would give up the connection after every DELETE that has a body.
      reset: false,
      path: `${this.pathPrefix}${request.path}${query}`,
      headers: {
        ...credentials.headers,
        accept: request.accept ?? 'application/json',
        'user-agent': this.userAgent,
        ...(request.body !== undefined && {
          'content-type': request.contentType ?? 'application/json',
        }),
      },
      ...(request.body !== undefined && { body: JSON.stringify(request.body) }),
    };
  }

  private poolsFor(tls: TlsMaterial): Pools {
    if (this.pools !== undefined && sameTls(this.pools.tls, tls)) return this.pools;
    const old = this.pools;
    this.pools = {
      tls,
      requests: this.openPool(tls, REQUEST_CONNECTIONS),
      watches: this.openPool(tls, WATCH_CONNECTIONS),
    };
    if (old !== undefined) {
      this.retire(old.requests);
      this.retire(old.watches);
    }
    return this.pools;
  }

  /**
   * A mark that got no answer in time may have gone to a server that has died without a word, and
   * so may the next one on each idle connection: they start on new ones.
   */
  private replaceRequestPool(): void {
    const now = this.clock.now();
    if (this.pools === undefined || now - this.replacedAt < REPLACE_POOL_AGAIN_AFTER_MS) return;
    this.replacedAt = now;
    const { tls, requests } = this.pools;
    this.pools = { ...this.pools, requests: this.openPool(tls, REQUEST_CONNECTIONS) };
    this.retire(requests);
  }

  private openPool(tls: TlsMaterial, connections: number): Dispatcher {
    const shared = {
      connections,
      allowH2: false,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      // Every exchange has its own limits.
      headersTimeout: 0,
      bodyTimeout: 0,
      connectTimeout: CONNECT_TIMEOUT_MS,
    };
    const connector = { ...tls, keepAlive: true, keepAliveInitialDelay: PROBE_AFTER_MS };
    const { proxyUrl } = this.authenticator;
    if (proxyUrl !== undefined)
      return new ProxyAgent({ ...shared, uri: proxyUrl, requestTls: connector });
    return new Pool(this.origin, { ...shared, connect: connector });
  }

  private retire(pool: Dispatcher): void {
    this.retired.add(pool);
    pool.close(() => this.retired.delete(pool));
  }
}

function toAnswer(exchanged: Exchanged): Answer {
  if (exchanged.kind === 'none') {
    const { message, timedOut, sent } = exchanged;
    return { kind: 'unanswered', message, timedOut: timedOut && sent };
  }
  const { status, headers } = exchanged;
  const isJson = headers['content-type']?.includes('json') === true;
  const body = isJson ? parsedOrText(exchanged.body) : exchanged.body;
  if (status >= 200 && status < 300) return { kind: 'success', body };
  return { kind: 'failure', status, body, retryAfter: headers['retry-after'] };
}

function parsedOrText(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // What it says is still shown to people; nothing else is read from an answer of the wrong shape.
    return text;
  }
}

/** Joins encoded segments: `pathOf('api', 'v1', 'nodes', name)`. */
export function pathOf(...segments: readonly string[]): string {
  return segments.map((segment) => `/${encodeURIComponent(segment)}`).join('');
}
