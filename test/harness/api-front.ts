import { readFile, writeFile } from 'node:fs/promises';
import { Agent as HttpAgent, createServer, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { StatusObject } from '../control-plane/objects.ts';
import type { World } from './world.ts';

/** The answer to a request instead of the API server's; undefined leaves it to that. */
export type Front = (request: {
  readonly method: string;
  readonly path: string;
}) => StatusObject | undefined;

export type ApiFront = {
  /** Path of the controller's own, but by way of the front. */
  readonly kubeconfig: string;
  stop(): Promise<void>;
};

/** For answers that the real API server gives only by a race that no test can win at will. */
export async function startApiFront(world: World, front: Front): Promise<ApiFront> {
  const { url, ca, folder } = world.cluster;
  const isPlain = new URL(url).protocol === 'http:';
  const agent = isPlain
    ? new HttpAgent({ keepAlive: true })
    : new HttpsAgent({ ca, keepAlive: true });
  const request = isPlain ? httpRequest : httpsRequest;
  const server = createServer((incoming, outgoing) => {
    const { method = 'GET', url: path = '/', headers } = incoming;
    const answer = front({ method, path });
    if (answer) {
      incoming.resume();
      outgoing.writeHead(answer.code ?? 500, { 'content-type': 'application/json' });
      outgoing.end(JSON.stringify({ apiVersion: 'v1', status: 'Failure', ...answer }));
      return;
    }
    const forwarded = request(`${url}${path}`, { method, headers, agent }, (response) => {
      outgoing.writeHead(response.statusCode ?? 502, response.headers);
      outgoing.flushHeaders();
      response.pipe(outgoing);
      response.once('error', () => outgoing.destroy());
    });
    forwarded.once('error', () => outgoing.destroy());
    outgoing.once('close', () => forwarded.destroy());
    incoming.pipe(forwarded);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  const config = JSON.parse(await readFile(world.environment['KUBECONFIG'] ?? '', 'utf8')) as {
    clusters: { cluster: object }[];
  };
  const cluster = { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true };
  for (const entry of config.clusters) entry.cluster = cluster;
  const kubeconfig = join(folder, `front-${port}.kubeconfig`);
  await writeFile(kubeconfig, JSON.stringify(config), { mode: 0o600 });
  return {
    kubeconfig,
    async stop() {
      agent.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}
