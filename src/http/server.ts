import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Report } from '../report/report.ts';

/** One thing that has to hold; `detail` says why it does not, or how it stands. */
export type Check = Readonly<{ name: string; ok: boolean; detail?: string }>;

export interface HttpServer {
  /** The one it listens on; told apart from the one asked for where that is 0. */
  readonly port: number;
  close(): Promise<void>;
}

type HttpServerOptions = Readonly<{
  port: number;
  /** Of /healthz: whether the process works. That it answers is itself a part of it. */
  health: () => readonly Check[];
  /** Of /readyz: whether it does its job. */
  readiness: () => readonly Check[];
  /** Of /metrics. */
  metrics: Readonly<{ contentType: string; text: () => Promise<string> }>;
  report: Report;
}>;

type Page = Readonly<{ status: number; contentType: string; text: string }>;
type Pages = Readonly<Record<string, () => Page | Promise<Page>>>;

const SLOWEST_REQUEST_MS = 5000;
const MOST_CONNECTIONS = 256;
const LARGEST_HEADER_BYTES = 8192;

/** Read-only answers about this process. Rejects if the port cannot be had. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { health, readiness, metrics, report } = options;
  const pages: Pages = {
    '/healthz': () => checksPage(health()),
    '/readyz': () => checksPage(readiness()),
    '/metrics': async () => ({
      status: 200,
      contentType: metrics.contentType,
      text: await metrics.text(),
    }),
  };
  const server = createServer(
    {
      headersTimeout: SLOWEST_REQUEST_MS,
      requestTimeout: SLOWEST_REQUEST_MS,
      keepAliveTimeout: SLOWEST_REQUEST_MS,
      connectionsCheckingInterval: 1000,
      maxHeaderSize: LARGEST_HEADER_BYTES,
    },
    (request, response) => {
      answer(request, response, pages).catch((error: unknown) => {
        report.warn('http server failed', { error });
        response.destroy();
      });
    },
  );
  server.maxConnections = MOST_CONNECTIONS;
  const port = await listen(server, options.port);
  // A connection that cannot be taken (no file descriptors are left, say) is no reason to end.
  server.on('error', (error) => report.warn('http server failed', { error }));
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        // Answers are small and immediate: what is still open is idle, or does not read.
        server.closeAllConnections();
      }),
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  pages: Pages,
): Promise<void> {
  const path = request.url?.split('?')[0] ?? '';
  const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
  if (page === undefined) {
    send(request, response, json(404, { error: 'not found' }));
    return;
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    send(request, response, json(405, { error: 'method not allowed' }));
    return;
  }
  send(request, response, await page());
}

function checksPage(checks: readonly Check[]): Page {
  const ok = checks.every((check) => check.ok);
  return json(ok ? 200 : 503, { ok, checks });
}

function json(status: number, body: object): Page {
  return { status, contentType: 'application/json', text: `${JSON.stringify(body)}\n` };
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, contentType, text }: Page,
): void {
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(request.method === 'HEAD' ? undefined : text);
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const refuse = (cause: Error): void =>
      reject(new Error(`cannot listen on port ${port}`, { cause }));
    server.once('error', refuse);
    server.listen(port, () => {
      server.off('error', refuse);
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}
