import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** One request that waits for the test to answer it. */
export type Call = {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  /** The same for all requests of one connection. */
  readonly socket: Socket;
  readonly json: (
    status: number,
    body: unknown,
    headers?: Readonly<Record<string, string>>,
  ) => void;
  readonly text: (status: number, body: string, headers?: Readonly<Record<string, string>>) => void;
  /** Sends the head of a stream. */
  readonly open: () => void;
  /** One line for each event. */
  readonly events: (...events: readonly object[]) => void;
  readonly bytes: (chunk: Buffer) => void;
  readonly end: () => void;
  /** RST, whatever has been sent. */
  readonly reset: () => void;
};

export type ScriptedServer = {
  readonly url: string;
  /** Path of a kubeconfig for it with `token`, or with the user given. */
  kubeconfig(user?: object): Promise<string>;
  /** The next request, in order of arrival. */
  take(): Promise<Call>;
  /** Requests that have arrived and were not taken. */
  untaken(): number;
  /** Connections ever made. */
  connections(): number;
  stop(): Promise<void>;
};

/** A server, of HTTPS if `tls` is given, that answers nothing by itself. */
export async function startScriptedServer(tls?: ServerOptions): Promise<ScriptedServer> {
  const arrived: Call[] = [];
  const takers: ((call: Call) => void)[] = [];
  let connections = 0;
  const take = (request: IncomingMessage, response: ServerResponse): void => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const call = callOf(request, response, Buffer.concat(chunks).toString('utf8'));
      const taker = takers.shift();
      if (taker) taker(call);
      else arrived.push(call);
    });
  };
  const server = tls ? createTlsServer(tls, take) : createServer(take);
  server.on('connection', () => {
    connections++;
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const url = `${tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const folder = await mkdtemp(join(tmpdir(), 'scripted-server-'));
  return {
    url,
    async kubeconfig(user = { token: 'secret' }) {
      const path = join(folder, 'kubeconfig');
      await writeFile(path, kubeconfigText(url, user));
      return path;
    },
    async take() {
      const call = arrived.shift();
      return (
        call ??
        new Promise((resolve) => {
          takers.push(resolve);
        })
      );
    },
    untaken: () => arrived.length,
    connections: () => connections,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => {
        server.close(resolve);
      });
      await rm(folder, { recursive: true });
    },
  };
}

function kubeconfigText(server: string, user: object): string {
  return JSON.stringify({
    'current-context': 'test',
    // Plain HTTP is taken only together with this.
    clusters: [{ name: 'test', cluster: { server, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'test', user }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
  });
}

function callOf(request: IncomingMessage, response: ServerResponse, body: string): Call {
  const url = new URL(request.url ?? '/', 'http://server');
  const { socket } = request;
  return {
    method: request.method ?? '',
    path: url.pathname,
    query: url.searchParams,
    headers: request.headers,
    body,
    socket,
    json(status, content, headers = {}) {
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify(content));
    },
    text(status, content, headers = {}) {
      response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers });
      response.end(content);
    },
    open() {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.flushHeaders();
    },
    events(...events) {
      response.write(events.map((event) => `${JSON.stringify(event)}\n`).join(''));
    },
    bytes: (chunk) => void response.write(chunk),
    end: () => void response.end(),
    reset: () => void socket.resetAndDestroy(),
  };
}
