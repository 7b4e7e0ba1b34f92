import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { startHttpServer, type Check } from '../../src/http/server.ts';
import { FakeReport } from '../stand-ins/ports/report.ts';

const report = new FakeReport(() => systemClock.now());
const metrics = { contentType: 'text/plain; version=0.0.4', text: async () => 'up 1\n' };

async function start(readiness: () => readonly Check[] = () => [], port = 0) {
  const server = await startHttpServer({ port, health: () => [], readiness, metrics, report });
  onTestFinished(() => server.close());
  return { server, url: `http://127.0.0.1:${server.port}` };
}

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  onTestFinished(() => {
    socket.destroy();
  });
  await once(socket, 'connect');
  return socket;
}

describe('health over HTTP', () => {
  test('a working process is healthy, ready or not', async () => {
    const { url } = await start(() => [{ name: 'node index', ok: false }]);
    const response = await fetch(`${url}/healthz`);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ ok: true, checks: [] });
  });

  test('it is ready when every check holds, and says which does not', async () => {
    const checks = [
      { name: 'node index', ok: true },
      { name: 'queue', ok: false, detail: 'AccessDenied' },
    ];
    let all: readonly Check[] = checks;
    const { url } = await start(() => all);
    const before = await fetch(`${url}/readyz?verbose`);
    expect(before.status).toBe(503);
    expect(await before.json()).toEqual({ ok: false, checks });
    all = checks.slice(0, 1);
    const after = await fetch(`${url}/readyz`);
    expect(after.status).toBe(200);
    expect(after.headers.get('cache-control')).toBe('no-store');
    expect(await after.json()).toEqual({ ok: true, checks: all });
  });

  test('HEAD tells the same without a body', async () => {
    const { url } = await start(() => [{ name: 'queue', ok: false }]);
    const response = await fetch(`${url}/readyz`, { method: 'HEAD' });
    expect(response.status).toBe(503);
    expect(await response.text()).toBe('');
    expect(Number(response.headers.get('content-length'))).toBeGreaterThan(0);
  });

  test.each(['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])('%s is not allowed', async (method) => {
    const { url } = await start();
    const response = await fetch(`${url}/healthz`, { method });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('GET, HEAD');
  });

  test.each(['/', '/healthz/', '/toString', '/__proto__', '/../healthz/x', '//healthz'])(
    '%s is not found',
    async (path) => {
      const { url } = await start();
      expect((await fetch(`${url}${path}`)).status).toBe(404);
    },
  );

  test('garbage is answered with 400, headers without end are cut', async () => {
    const { server } = await start();
    const garbage = await open(server.port);
    garbage.write('not http\r\n\r\n');
    expect(String((await once(garbage, 'data'))[0])).toContain('400 Bad Request');
    const flood = await open(server.port);
    flood.on('error', () => undefined);
    flood.write(`GET /healthz HTTP/1.1\r\nx: ${'x'.repeat(20_000)}`);
    expect(String((await once(flood, 'data'))[0])).toContain('431');
  });

  test('a client that never finishes its request is shown out', async () => {
    const { server } = await start();
    const slow = await open(server.port);
    slow.write('GET /healthz HTTP/1.1\r\n');
    expect(String((await once(slow, 'data'))[0])).toContain('408 Request Timeout');
  });

  test('metrics are text for Prometheus', async () => {
    const { url } = await start();
    const response = await fetch(`${url}/metrics`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe(metrics.contentType);
    expect(await response.text()).toBe('up 1\n');
  });

  test('metrics that cannot be read end the connection, and are told', async () => {
    const text = () => Promise.reject(new Error('no figures'));
    const broken = { contentType: 'text/plain', text };
    const server = await startHttpServer({
      port: 0,
      health: () => [],
      readiness: () => [],
      metrics: broken,
      report,
    });
    onTestFinished(() => server.close());
    await expect(fetch(`http://127.0.0.1:${server.port}/metrics`)).rejects.toThrow('fetch failed');
    expect(report.told('http server failed').at(-1)).toMatchObject({
      error: { message: 'no figures' },
    });
  });

  test('a port that is taken is an error', async () => {
    const { server } = await start();
    await expect(start(undefined, server.port)).rejects.toThrow(
      `cannot listen on port ${server.port}`,
    );
  });

  test('closing does not wait for connections that are kept open', async () => {
    const server = await startHttpServer({
      port: 0,
      health: () => [],
      readiness: () => [],
      metrics,
      report,
    });
    const kept = await open(server.port);
    kept.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n');
    await once(kept, 'data');
    const closed = once(kept, 'close');
    await server.close();
    await closed;
    await expect(fetch(`http://127.0.0.1:${server.port}/healthz`)).rejects.toThrow('fetch failed');
  });
});
