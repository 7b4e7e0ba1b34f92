import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { ApiError } from './api-error.ts';
import { assertNever } from './assert-never.ts';
import { refusedByRole, unavailable, type Effect } from './faults.ts';
import { parseRequest, type ApiRequest } from './request.ts';
import { json, jsonHeaders, type Answer } from './routes.ts';

const bodyLimitBytes = 3 * 1024 * 1024;

export type OpenWatch = {
  readonly request: ApiRequest;
  /** Ends it cleanly, as a time limit does. */
  end(): void;
  /** Breaks its connection. */
  reset(): void;
};

export type Handler = {
  answer(request: ApiRequest): Promise<Answer>;
  /** Faults for this request. */
  effects(request: ApiRequest): readonly Effect[];
  /**
   * After the answer, or the start of a watch; status 0 where the connection was broken instead.
   * Both times in epoch ms, with fractions: that of the answer before it leaves, since its receiver may
   * act on it before this process is on a processor again.
   */
  answered?(request: ApiRequest, status: number, receivedAt: number, answeredAt: number): void;
};

/** An HTTP server on 127.0.0.1 that can be closed and opened again on the same port. */
export class Listener {
  private readonly watchBacklogLimitBytes: number;
  private readonly handler: Handler;
  private readonly watches = new Set<OpenWatch>();
  private server: Server | undefined;
  private readonly sockets = new Set<Socket>();
  private port = 0;
  private gate = Promise.withResolvers<void>();

  /** @param watchBacklogLimitBytes a watcher this far behind is dropped, as the API server drops slow ones */
  constructor(watchBacklogLimitBytes: number, handler: Handler) {
    this.watchBacklogLimitBytes = watchBacklogLimitBytes;
    this.handler = handler;
    this.gate.resolve();
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get openWatches(): readonly OpenWatch[] {
    return [...this.watches];
  }

  /** @param port 0 for any free one; opening again takes the port of before */
  async open(port = this.port): Promise<void> {
    if (this.server !== undefined) return;
    const server = createServer(
      { keepAliveTimeout: 90_000, requestTimeout: 0 },
      (request, response) => {
        void this.serve(request, response);
      },
    );
    server.on('connection', (socket) => {
      this.sockets.add(socket);
      socket.setNoDelay(true);
      socket.once('close', () => this.sockets.delete(socket));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', resolve);
    });
    this.server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  /** New connections are refused and the open ones reset, like those of a process that was killed. */
  async close(): Promise<void> {
    const { server } = this;
    if (server === undefined) return;
    this.server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of this.sockets) socket.resetAndDestroy();
    await closed;
  }

  /** Like SIGSTOP: connections stay open, new ones are taken, and nothing is answered or sent. */
  pause(): void {
    this.gate = Promise.withResolvers<void>();
  }

  /** What has come meanwhile is answered now. */
  resume(): void {
    this.gate.resolve();
  }

  private async serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const receivedAt = epochMs();
    let body: Buffer | undefined;
    try {
      body = await readBody(message);
    } catch {
      // The client went away in the middle of its request: nobody is left to answer.
      response.destroy();
      return;
    }
    await this.gate.promise;
    const request = parseRequest({
      method: message.method ?? 'GET',
      url: message.url ?? '/',
      headers: message.headers,
      body: body ?? Buffer.alloc(0),
    });
    if (request === undefined) {
      response.writeHead(400).end('the path cannot be decoded\n');
      return;
    }
    let answer: Answer;
    let resetAfter = false;
    try {
      if (body === undefined) throw tooLarge();
      for (const effect of this.handler.effects(request)) {
        const answeredAt = epochMs();
        if (effect.kind === 'reset' && effect.when === 'after') resetAfter = true;
        else if (!(await passes(effect, request, response))) {
          this.handler.answered?.(request, response.statusCode, receivedAt, answeredAt);
          return;
        }
      }
      answer = await this.handler.answer(request);
    } catch (error) {
      if (!(error instanceof ApiError)) {
        // A fault of the stand-in itself: whoever waits is told, and the test run fails on the rest.
        response.writeHead(500).end(String(error));
        throw error;
      }
      answer = { ...json(error.code, error.status), headers: { ...jsonHeaders, ...error.headers } };
    }
    const answeredAt = epochMs();
    if (resetAfter) {
      message.socket.resetAndDestroy();
      this.handler.answered?.(request, 0, receivedAt, answeredAt);
      return;
    }
    if (answer.kind === 'watch') {
      this.serveWatch(request, response, answer);
      this.handler.answered?.(request, 200, receivedAt, answeredAt);
      return;
    }
    response.writeHead(answer.status, {
      ...answer.headers,
      'content-length': Buffer.byteLength(answer.body),
    });
    response.end(answer.body);
    this.handler.answered?.(request, answer.status, receivedAt, answeredAt);
  }

  private serveWatch(
    request: ApiRequest,
    response: ServerResponse,
    answer: Extract<Answer, { kind: 'watch' }>,
  ): void {
    response.writeHead(200, jsonHeaders);
    response.flushHeaders();
    // Lines of one turn of the event loop leave in one write: a burst of changes is one packet.
    let pending: string[] = [];
    let scheduled = false;
    let ended = false;
    let stop = (): void => {};
    const flush = (): void => {
      scheduled = false;
      if (response.destroyed) return;
      if (pending.length > 0) response.write(pending.join(''));
      pending = [];
      if (ended) response.end();
      else if (response.writableLength > this.watchBacklogLimitBytes) watch.end();
    };
    const schedule = (): void => {
      if (scheduled) return;
      scheduled = true;
      void this.gate.promise.then(() => setImmediate(flush));
    };
    const finish = (): void => {
      ended = true;
      this.watches.delete(watch);
      schedule();
    };
    const watch: OpenWatch = {
      request,
      end: () => {
        stop();
        finish();
      },
      reset: () => response.socket?.resetAndDestroy(),
    };
    this.watches.add(watch);
    response.once('close', () => {
      this.watches.delete(watch);
      stop();
    });
    stop = answer.start({
      write(line) {
        pending.push(line);
        schedule();
      },
      end: finish,
    });
  }
}

/** Undefined if it is larger than the API server takes. */
async function readBody(message: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= bodyLimitBytes) chunks.push(chunk);
  }
  return bytes > bodyLimitBytes ? undefined : Buffer.concat(chunks);
}

function tooLarge(): ApiError {
  return new ApiError(
    413,
    'RequestEntityTooLarge',
    `Request entity too large: limit is ${bodyLimitBytes}`,
    {},
  );
}

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

/** False if the effect has taken the answer's place; throws what is to be answered instead. */
async function passes(
  effect: Effect,
  request: ApiRequest,
  response: ServerResponse,
): Promise<boolean> {
  switch (effect.kind) {
    case 'delay':
      await delay(effect.delayMs);
      return true;
    case 'overloaded': {
      const seconds = effect.retryAfterSeconds ?? 1;
      const headers = {
        'content-type': 'text/plain; charset=utf-8',
        'retry-after': String(seconds),
      };
      response.writeHead(429, headers).end('Too many requests, please try again later.\n');
      return false;
    }
    case 'unavailable':
      throw unavailable();
    case 'forbidden':
      throw refusedByRole(request, effect.userName ?? 'system:anonymous');
    case 'status': {
      const { code = 500, reason, message = '', details, metadata } = effect.status;
      throw new ApiError(code, reason, message, details, metadata);
    }
    case 'reset':
      response.socket?.resetAndDestroy();
      return false;
    case 'hang':
      return false;
    default:
      return assertNever(effect);
  }
}
