import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { freePort } from '../control-plane/ports.ts';

export type HttpService = {
  /** `http://127.0.0.1:PORT`, or https; the same for its whole life. */
  readonly url: string;
  /** Connections are cut, and new ones refused, or accepted and never answered (`hang`). */
  readonly goAway: (how: 'refuse' | 'hang') => Promise<void>;
  readonly comeBack: () => Promise<void>;
  stop(): Promise<void>;
};

export type HttpHandler = (
  request: IncomingMessage,
  body: string,
  response: ServerResponse,
) => Promise<void>;

// Far above any message of AWS: more is a fault of the test.
const largestBody = 4 * 1024 * 1024;

/** In PEM. */
export type TlsIdentity = { readonly cert: string; readonly key: string };

/** An HTTP server on loopback whose absence can be tried. A handler that throws answers 500. */
export async function startHttpService(
  handler: HttpHandler,
  tls?: TlsIdentity,
): Promise<HttpService> {
  const port = await freePort();
  let hangs = false;
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await readBody(request);
    if (hangs) return;
    try {
      await handler(request, body, response);
    } catch (error) {
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain' });
      response.end(String(error));
    }
  };
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    answer(request, response).catch(() => request.socket.destroy());
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  await listen(server, port);
  return {
    url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    async goAway(how) {
      hangs = how === 'hang';
      if (how === 'refuse') await close(server);
      else server.closeAllConnections();
    },
    async comeBack() {
      if (hangs) {
        hangs = false;
        // Those who wait for an answer that will never come learn of it.
        server.closeAllConnections();
      }
      if (!server.listening) await listen(server, port);
    },
    stop: () => close(server),
  };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > largestBody) throw new Error(`a body of over ${largestBody} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function close(server: Server): Promise<void> {
  if (!server.listening) return Promise.resolve();
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
