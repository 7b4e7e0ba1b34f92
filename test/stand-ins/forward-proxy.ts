import { createServer } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';

export type ForwardProxy = {
  readonly url: string;
  /** Host and port of each request, and of each tunnel that was asked for. */
  readonly targets: readonly string[];
  stop(): Promise<void>;
};

/** As HTTP_PROXY and HTTPS_PROXY name one: passes whole URLs on, and opens tunnels (CONNECT). */
export async function startForwardProxy(): Promise<ForwardProxy> {
  const targets: string[] = [];
  const sockets = new Set<Socket>();
  const upstreamOf = ({ host, hostname, port }: URL, client: Socket): Socket => {
    targets.push(host);
    const upstream = connect(Number(port), hostname);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => sockets.delete(one));
    }
    return upstream;
  };
  const server = createServer((request, response) => {
    const target = new URL(request.url ?? '');
    const upstream = upstreamOf(target, request.socket);
    const { method, rawHeaders } = request;
    const headers = rawHeaders.flatMap((name, i) =>
      i % 2 === 0 ? [`${name}: ${rawHeaders[i + 1] ?? ''}`] : [],
    );
    upstream.write(
      [`${method} ${target.pathname}${target.search} HTTP/1.1`, ...headers, '', ''].join('\r\n'),
    );
    request.pipe(upstream, { end: false });
    response.detachSocket(request.socket);
    upstream.pipe(request.socket);
  });
  server.on('connect', (request, client: Socket, head: Buffer) => {
    const upstream = upstreamOf(new URL(`http://${request.url ?? ''}`), client);
    client.write('HTTP/1.1 200 Connection established\r\n\r\n');
    upstream.write(head);
    upstream.pipe(client);
    client.pipe(upstream);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    targets,
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}
