import { getEventListeners } from 'node:events';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { connect, type ApiRequest, type Connection } from '../../src/kubernetes/connection.ts';
import { ManualClock } from './manual-clock.ts';
import { recordedReport } from './recorded-report.ts';
import { startScriptedServer, type Call, type ScriptedServer } from './scripted-server.ts';

const GET: ApiRequest = { method: 'GET', path: '/api/v1/nodes/a', lane: 'mark' };
const BULK: ApiRequest = { ...GET, path: '/api/v1/pods', lane: 'bulk' };
const { signal } = new AbortController();

let server: ScriptedServer;
let clock: ManualClock;
let folder: string;
const open: Connection[] = [];

beforeEach(async () => {
  server = await startScriptedServer();
  clock = new ManualClock();
  folder = await mkdtemp(join(tmpdir(), 'connection-'));
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((connection) => connection.close()));
  await server.stop();
  await rm(folder, { recursive: true });
});

function connectTo(kubeconfigPath: string, report = recordedReport()): Connection {
  const connection = connect({ kubeconfigPath, userAgent: 'controller/1.2.3', clock, report });
  open.push(connection);
  return connection;
}

async function connected(user?: object): Promise<Connection> {
  return connectTo(await server.kubeconfig(user));
}

describe('a request', () => {
  test('carries token, user agent, query and JSON body, and brings the parsed answer', async () => {
    const connection = await connected();
    const answer = connection.request(
      {
        method: 'PATCH',
        path: '/api/v1/nodes/a',
        query: { fieldManager: 'a&b' },
        body: { spec: { unschedulable: true } },
        contentType: 'application/merge-patch+json',
        lane: 'mark',
      },
      signal,
    );
    const call = await server.take();
    expect(call).toMatchObject({
      method: 'PATCH',
      path: '/api/v1/nodes/a',
      body: '{"spec":{"unschedulable":true}}',
      headers: {
        authorization: 'Bearer secret',
        'user-agent': 'controller/1.2.3',
        'content-type': 'application/merge-patch+json',
        accept: 'application/json',
      },
    });
    expect(call.query.get('fieldManager')).toBe('a&b');
    call.json(200, { kind: 'Node' });
    expect(await answer).toEqual({ kind: 'success', body: { kind: 'Node' } });
  });

  test('that fails brings status, body and the hint', async () => {
    const connection = await connected();
    const answer = connection.request(GET, signal);
    (await server.take()).json(409, { message: 'no' }, { 'retry-after': '3' });
    expect(await answer).toEqual({
      kind: 'failure',
      status: 409,
      body: { message: 'no' },
      retryAfter: '3',
    });
  });

  test.each([
    ['plain text', (call: Call) => call.text(429, 'Too many requests')],
    [
      'what is only called JSON',
      (call: Call) => call.text(429, 'Too many requests', { 'content-type': 'application/json' }),
    ],
  ])('that is answered with %s brings the text', async (_, respond) => {
    const connection = await connected();
    const answer = connection.request(GET, signal);
    respond(await server.take());
    expect(await answer).toMatchObject({ kind: 'failure', status: 429, body: 'Too many requests' });
  });

  test('follows no redirect', async () => {
    const connection = await connected();
    const answer = connection.request(GET, signal);
    (await server.take()).text(307, '', { location: `${server.url}/elsewhere` });
    expect(await answer).toMatchObject({ kind: 'failure', status: 307 });
    expect(server.untaken()).toBe(0);
  });

  test('keeps to the path of the server address', async () => {
    const path = join(folder, 'config');
    await writeFile(
      path,
      JSON.stringify({
        'current-context': 'c',
        clusters: [
          {
            name: 'c',
            cluster: { server: `${server.url}/k8s/c-1/`, 'insecure-skip-tls-verify': true },
          },
        ],
        users: [{ name: 'u', user: {} }],
        contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      }),
    );
    const answer = connectTo(path).request(GET, signal);
    const call = await server.take();
    expect(call.path).toBe('/k8s/c-1/api/v1/nodes/a');
    call.json(200, {});
    expect(await answer).toMatchObject({ kind: 'success' });
  });

  test('uses the connection of an earlier one, and leaves nothing on signal and clock', async () => {
    const connection = await connected();
    const { signal: own } = new AbortController();
    for (let count = 0; count < 10; count++) {
      const answer = connection.request(GET, own);
      (await server.take()).json(200, {});
      await answer;
    }
    // One may still be on its way back into the pool when the next request leaves.
    expect(server.connections()).toBeLessThanOrEqual(2);
    expect(getEventListeners(own, 'abort')).toEqual([]);
    expect(clock.pending()).toBe(0);
  });
});

describe('a request without an answer', () => {
  test('ends at its time limit', async () => {
    const connection = await connected();
    const answer = connection.request({ ...GET, timeoutMs: 3000 }, signal);
    await server.take();
    clock.advance(2999);
    clock.advance(1);
    expect(await answer).toEqual({
      kind: 'unanswered',
      message: 'no answer within 3 s',
      timedOut: true,
    });
  });

  test('ends at its time limit in the midst of the body, too', async () => {
    const connection = await connected();
    const answer = connection.request(GET, signal);
    const call = await server.take();
    call.open();
    call.bytes(Buffer.from('{"kind":'));
    clock.advance(10_000);
    expect(await answer).toMatchObject({ kind: 'unanswered', timedOut: true });
  });

  test('names a reset', async () => {
    const connection = await connected();
    const answer = connection.request(GET, signal);
    (await server.take()).reset();
    expect(await answer).toEqual({
      kind: 'unanswered',
      message: expect.stringMatching(/ECONNRESET|other side closed/),
      timedOut: false,
    });
  });

  test('names a refused connection', async () => {
    const connection = await connected();
    await server.stop();
    const answer = await connection.request(GET, signal);
    server = await startScriptedServer();
    expect(answer).toEqual({
      kind: 'unanswered',
      message: expect.stringContaining('ECONNREFUSED'),
      timedOut: false,
    });
  });

  test('rejects with the reason when it is aborted, and cuts the connection', async () => {
    const connection = await connected();
    const stop = new AbortController();
    const answer = connection.request(GET, stop.signal);
    const call = await server.take();
    const closed = new Promise((resolve) => {
      call.socket.once('close', resolve);
    });
    stop.abort(new Error('no longer wanted'));
    await expect(answer).rejects.toThrow('no longer wanted');
    await closed;
    expect(clock.pending()).toBe(0);
  });

  test('is not sent at all with an aborted signal', async () => {
    const connection = await connected();
    await expect(connection.request(GET, AbortSignal.abort(new Error('late')))).rejects.toThrow(
      'late',
    );
    const next = connection.request(GET, signal);
    (await server.take()).json(200, {});
    await next;
    expect(server.untaken()).toBe(0);
  });

  test('ends when the connection is closed', async () => {
    const connection = await connected();
    const answer = connection.request(GET, signal);
    await server.take();
    await connection.close();
    expect(await answer).toMatchObject({ kind: 'unanswered', timedOut: false });
    expect(await connection.request(GET, signal)).toMatchObject({ message: 'connection closed' });
  });

  test('as a mark makes the next one start on a new connection', async () => {
    const connection = await connected();
    const warm = [connection.request(GET, signal), connection.request(GET, signal)];
    const warmCalls = [await server.take(), await server.take()];
    for (const call of warmCalls) call.json(200, {});
    await Promise.all(warm);
    const answer = connection.request(GET, signal);
    await server.take();
    clock.advance(10_000);
    await answer;
    const next = connection.request(GET, signal);
    const call = await server.take();
    expect(warmCalls.map(({ socket }) => socket)).not.toContain(call.socket);
    call.json(200, {});
    expect(await next).toMatchObject({ kind: 'success' });
  });
});

describe('priority', () => {
  test('while marks are under way, of a hundred bulk requests two are sent', async () => {
    const connection = await connected();
    const mark = connection.request(GET, signal);
    const markCall = await server.take();
    const bulk = Array.from({ length: 100 }, () => connection.request(BULK, signal));
    const first = [await server.take(), await server.take()];
    first[0]?.json(200, {});
    const third = await server.take();
    expect(server.untaken()).toBe(0);
    markCall.json(200, {});
    await mark;
    first[1]?.json(200, {});
    third.json(200, {});
    for (let left = 97; left > 0; left--) (await server.take()).json(200, {});
    expect(new Set((await Promise.all(bulk)).map(({ kind }) => kind))).toEqual(
      new Set(['success']),
    );
  });

  test('a mark is sent while bulk fills its places, and the time limit counts from being sent', async () => {
    const connection = await connected();
    const bulk = Array.from({ length: 65 }, (_, at) =>
      connection.request({ ...BULK, path: `${BULK.path}/${at}` }, signal),
    );
    // They arrive in any order.
    const calls: Call[] = [];
    for (let count = 0; count < 64; count++) calls.push(await server.take());
    const mark = connection.request(GET, signal);
    const markCall = await server.take();
    expect(markCall.path).toBe(GET.path);
    markCall.json(200, {});
    expect(await mark).toMatchObject({ kind: 'success' });
    clock.advance(9000);
    calls.find(({ path }) => path === `${BULK.path}/0`)?.json(200, {});
    const last = await server.take();
    clock.advance(9000);
    last.json(200, {});
    expect(await bulk[64]).toMatchObject({ kind: 'success' });
    expect(await bulk[1]).toMatchObject({ kind: 'unanswered' });
  });
});

describe('credentials', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  const tokenFile = (): string => join(folder, 'token');
  const asUser = (): object => ({
    'auth-provider': { name: 'tokenFile', config: { tokenFile: tokenFile() } },
  });

  test('a token file is read anew, without its line feed, when a minute has passed', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: clock.now() });
    await writeFile(tokenFile(), 'first\n');
    const connection = await connected(asUser());
    const seen: (string | undefined)[] = [];
    for (const [token, ms] of [
      ['second', 9000],
      ['third', 61_000],
      ['fourth', 0],
    ] as const) {
      const answer = connection.request(GET, signal);
      const call = await server.take();
      seen.push(call.headers.authorization);
      call.json(200, {});
      await answer;
      await writeFile(tokenFile(), `${token}\n`);
      clock.advance(ms);
      vi.setSystemTime(clock.now());
    }
    const last = connection.request(GET, signal);
    const call = await server.take();
    seen.push(call.headers.authorization);
    call.json(200, {});
    await last;
    expect(seen).toEqual(['Bearer first', 'Bearer first', 'Bearer third', 'Bearer third']);
  });

  test('a 401 makes it read the token at once and try once more', async () => {
    await writeFile(tokenFile(), 'old');
    const connection = await connected(asUser());
    const answer = connection.request(GET, signal);
    const refused = await server.take();
    await writeFile(tokenFile(), 'new');
    refused.json(401, { message: 'Unauthorized' });
    const again = await server.take();
    expect(again.headers.authorization).toBe('Bearer new');
    again.json(200, { kind: 'Node' });
    expect(await answer).toMatchObject({ kind: 'success' });
  });

  test('a 401 with the same token again is an answer', async () => {
    await writeFile(tokenFile(), 'old');
    const connection = await connected(asUser());
    const answer = connection.request(GET, signal);
    (await server.take()).json(401, { message: 'Unauthorized' });
    expect(await answer).toMatchObject({ kind: 'failure', status: 401 });
    expect(server.untaken()).toBe(0);
  });

  test('many refused at once read the token once', async () => {
    await writeFile(tokenFile(), 'old');
    const connection = await connected(asUser());
    const answers = Array.from({ length: 20 }, () => connection.request(GET, signal));
    const refused = [];
    for (let count = 0; count < 20; count++) refused.push(await server.take());
    await writeFile(tokenFile(), 'new');
    for (const call of refused) call.json(401, {});
    for (let count = 0; count < 20; count++) {
      const again = await server.take();
      expect(again.headers.authorization).toBe('Bearer new');
      again.json(200, {});
    }
    expect(new Set((await Promise.all(answers)).map(({ kind }) => kind))).toEqual(
      new Set(['success']),
    );
  });

  test('a token file that has gone leaves the last token in use, and is told', async () => {
    await writeFile(tokenFile(), 'old');
    const report = recordedReport();
    const connection = connectTo(await server.kubeconfig(asUser()), report);
    const first = connection.request(GET, signal);
    const refused = await server.take();
    await rm(tokenFile());
    refused.json(401, {});
    expect(await first).toMatchObject({ kind: 'failure', status: 401 });
    const second = connection.request(GET, signal);
    const call = await server.take();
    expect(call.headers.authorization).toBe('Bearer old');
    call.json(200, {});
    expect(await second).toMatchObject({ kind: 'success' });
    expect(report.said).toContainEqual([
      'warn',
      'credentials not renewed',
      { error: expect.any(Error) },
    ]);
  });

  test('a token file that never was means no request', async () => {
    const connection = await connected(asUser());
    expect(await connection.request(GET, signal)).toMatchObject({
      kind: 'unanswered',
      message: expect.stringContaining('ENOENT'),
    });
  });

  /** Hands out `from-plugin-1`, `from-plugin-2` … */
  function plugin(): object {
    const runs = join(folder, 'runs');
    const script = `echo >> ${runs}; printf '{"kind":"ExecCredential","status":{"token":"from-plugin-%d"}}' "$(wc -l < ${runs})"`;
    return {
      exec: {
        apiVersion: 'client.authentication.k8s.io/v1',
        command: '/bin/sh',
        args: ['-c', script],
      },
    };
  }

  test('a plugin is asked, and asked again after a 401', async () => {
    const connection = await connected(plugin());
    const answer = connection.request(GET, signal);
    const refused = await server.take();
    expect(refused.headers.authorization).toBe('Bearer from-plugin-1');
    refused.json(401, {});
    const again = await server.take();
    expect(again.headers.authorization).toBe('Bearer from-plugin-2');
    again.json(200, {});
    expect(await answer).toMatchObject({ kind: 'success' });
  });

  test('a late 401 of old credentials asks no plugin: there are newer ones', async () => {
    const connection = await connected(plugin());
    const answers = [connection.request(GET, signal), connection.request(GET, signal)];
    const [first, second] = [await server.take(), await server.take()];
    first.json(401, {});
    (await server.take()).json(200, {});
    clock.advance(5000);
    second.json(401, {});
    const again = await server.take();
    expect(again.headers.authorization).toBe('Bearer from-plugin-2');
    again.json(200, {});
    await Promise.all(answers);
  });

  test('user and password become basic authentication', async () => {
    const connection = await connected({ username: 'me', password: 'pass' });
    const answer = connection.request(GET, signal);
    const call = await server.take();
    expect(call.headers.authorization).toBe(`Basic ${btoa('me:pass')}`);
    call.json(200, {});
    await answer;
  });
});

describe('TLS', () => {
  const fixture = (name: string): string => join(import.meta.dirname, 'fixtures', name);
  let secure: ScriptedServer;

  beforeEach(async () => {
    secure = await startScriptedServer({
      key: await readFile(fixture('server.key')),
      cert: await readFile(fixture('server.crt')),
      ca: await readFile(fixture('ca.crt')),
      requestCert: true,
      rejectUnauthorized: true,
    });
    for (const name of ['ca.crt', 'client.crt', 'client.key']) {
      await copyFile(fixture(name), join(folder, name));
    }
  });

  afterEach(async () => {
    await secure.stop();
  });

  /** With files beside the kubeconfig, named relative to it. */
  async function securelyConnected(cluster: object = {}): Promise<Connection> {
    const path = join(folder, 'config');
    await writeFile(
      path,
      JSON.stringify({
        'current-context': 'c',
        clusters: [
          {
            name: 'c',
            cluster: { server: secure.url, 'certificate-authority': 'ca.crt', ...cluster },
          },
        ],
        users: [
          { name: 'u', user: { 'client-certificate': 'client.crt', 'client-key': 'client.key' } },
        ],
        contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      }),
    );
    return connectTo(path);
  }

  async function answered(connection: Connection): Promise<Call> {
    const answer = connection.request(GET, signal);
    const call = await secure.take();
    call.json(200, {});
    expect(await answer).toMatchObject({ kind: 'success' });
    return call;
  }

  test('shows the certificate of the client, on one connection for many requests', async () => {
    const connection = await securelyConnected();
    const { socket } = await answered(connection);
    expect((socket as TLSSocket).getPeerCertificate().subject).toEqual({ O: 'edge', CN: 'client' });
    for (let count = 0; count < 10; count++) await answered(connection);
    expect(secure.connections()).toBeLessThanOrEqual(2);
  });

  test('trusts no server of another authority, and this one once the file names its own', async () => {
    await copyFile(fixture('other-ca.crt'), join(folder, 'ca.crt'));
    const connection = await securelyConnected();
    expect(await connection.request(GET, signal)).toMatchObject({
      kind: 'unanswered',
      message: expect.stringMatching(/certificate/),
      timedOut: false,
    });
    await copyFile(fixture('ca.crt'), join(folder, 'ca.crt'));
    clock.advance(10_000);
    await answered(connection);
  });

  test('a request under way when the files change is answered on its old connection', async () => {
    const connection = await securelyConnected();
    const early = connection.request({ ...GET, timeoutMs: 60_000 }, signal);
    const earlyCall = await secure.take();
    const authorities = [
      await readFile(fixture('ca.crt')),
      await readFile(fixture('other-ca.crt')),
    ];
    await writeFile(join(folder, 'ca.crt'), Buffer.concat(authorities));
    clock.advance(10_000);
    const later = await answered(connection);
    expect(later.socket).not.toBe(earlyCall.socket);
    earlyCall.json(200, {});
    expect(await early).toMatchObject({ kind: 'success' });
  });

  test('checks the name that the kubeconfig gives to the server', async () => {
    await answered(await securelyConnected({ 'tls-server-name': 'api.example.com' }));
    const wrong = await securelyConnected({ 'tls-server-name': 'else.example.com' });
    expect(await wrong.request(GET, signal)).toMatchObject({
      kind: 'unanswered',
      message: expect.stringContaining('else.example.com'),
    });
  });
});

describe('the configuration', () => {
  test('may name a server that speaks plain HTTP, as a proxy beside the process does', async () => {
    const file = join(folder, 'plain');
    await writeFile(
      file,
      JSON.stringify({
        'current-context': 'test',
        clusters: [{ name: 'test', cluster: { server: server.url } }],
        users: [{ name: 'test', user: { token: 'plain' } }],
        contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
      }),
    );
    const answer = connectTo(file).request(GET, signal);
    const call = await server.take();
    expect(call.headers.authorization).toBe('Bearer plain');
    call.json(200, {});
    expect(await answer).toMatchObject({ kind: 'success' });
  });

  test('of several files is merged, and what comes first wins', async () => {
    const second = join(folder, 'second');
    await writeFile(
      second,
      JSON.stringify({
        'current-context': 'other',
        clusters: [{ name: 'test', cluster: { server: 'http://nowhere.invalid' } }],
        users: [{ name: 'from-second', user: { token: 'second' } }],
      }),
    );
    const first = join(folder, 'first');
    await writeFile(
      first,
      JSON.stringify({
        'current-context': 'test',
        clusters: [
          { name: 'test', cluster: { server: server.url, 'insecure-skip-tls-verify': true } },
        ],
        contexts: [{ name: 'test', context: { cluster: 'test', user: 'from-second' } }],
      }),
    );
    const answer = connectTo(`${first}:${second}`).request(GET, signal);
    const call = await server.take();
    expect(call.headers.authorization).toBe('Bearer second');
    call.json(200, {});
    await answer;
  });

  test('is missing: the file is named', () => {
    expect(() => connectTo(join(folder, 'absent'))).toThrow(/kubeconfig .*absent cannot be read/);
  });

  test('is none: the file is named', async () => {
    const path = join(folder, 'broken');
    await writeFile(path, '{"clusters": [');
    expect(() => connectTo(path)).toThrow(/kubeconfig .*broken cannot be read/);
  });

  test('has no cluster for its context', async () => {
    const path = join(folder, 'empty');
    await writeFile(path, '{"current-context":"x"}');
    expect(() => connectTo(path)).toThrow('no cluster for its current context');
  });

  test('in a cluster is asked for by its absence, and outside one says what is missing', () => {
    vi.stubEnv('KUBERNETES_SERVICE_HOST', undefined);
    expect(() =>
      connect({ kubeconfigPath: undefined, userAgent: 'x', clock, report: recordedReport() }),
    ).toThrow('KUBERNETES_SERVICE_HOST');
  });
});
