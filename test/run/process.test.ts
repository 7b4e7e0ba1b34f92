import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { describeOptions } from '../../src/options.ts';
import { STAGES } from '../../src/watchdog.ts';
import { bundlePath, controllerEnvironment, startController } from '../harness/controller.ts';
import { kubeconfigFor } from './kubeconfig.ts';

const QUEUE_URL = 'http://127.0.0.1:9/123456789012/interruptions';
let folder: string;
let kubeconfig: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'process-'));
  kubeconfig = join(folder, 'kubeconfig');
  // A port that nobody listens on.
  await writeFile(kubeconfig, kubeconfigFor('https://127.0.0.1:9'));
});

afterAll(() => rm(folder, { recursive: true }));

async function start(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  nodeArgs: readonly string[] = [],
) {
  const controller = await startController({ args, env, nodeArgs });
  onTestFinished(async () => {
    await controller.kill();
  });
  return controller;
}

/** Runs to its end. */
async function runToEnd(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const controller = await start(args, env);
  const { code } = await controller.exited;
  const text = (wanted: 'stdout' | 'stderr') =>
    controller.log.filter(({ stream }) => stream === wanted).map((line) => line.text);
  return {
    code,
    stdout: text('stdout'),
    stderr: text('stderr'),
    logged: (message: string) => controller.logged(message),
  };
}

describe('the command line', () => {
  test('bad options: all faults, exit code 2, and nothing else has happened', async () => {
    const args = ['run', '--queue-ulr', 'x', '--http-port=99999'];
    expect(await runToEnd(args, { LOG_LEVEL: 'loud' })).toMatchObject({
      code: 2,
      stdout: [],
      stderr: [
        'There is no flag "--queue-ulr": did you mean --queue-url?',
        '--http-port is "99999": it takes a whole number from 0 to 65535.',
        'LOG_LEVEL is "loud": it takes one of debug, info, warn, error.',
        expect.stringMatching(/^QUEUE_URL is missing: /),
      ],
    });
  });

  test.each([
    { args: ['rnu'], told: 'There is no command "rnu": it is one of run, options.' },
    { args: [], told: 'A command is missing: it is one of run, options.' },
    { args: ['toString'], told: 'There is no command "toString": it is one of run, options.' },
    {
      args: ['options', '--format', 'xml'],
      told: '"--format xml" is not expected here: options takes --format markdown or --format json.',
    },
  ])('$args: exit code 2', async ({ args, told }) => {
    expect(await runToEnd(args)).toMatchObject({ code: 2, stdout: [], stderr: [told] });
  });

  test('options prints the table, as Markdown or as JSON', async () => {
    const markdown = await runToEnd(['options']);
    expect(markdown).toMatchObject({ code: 0, stderr: [] });
    expect(`${markdown.stdout.join('\n')}\n`).toBe(await readFile('docs/options.md', 'utf8'));
    const json = await runToEnd(['options', '--format', 'json']);
    expect(JSON.parse(json.stdout.join('\n'))).toEqual(describeOptions());
  });

  test('--version and --help', async () => {
    expect(await runToEnd(['--version'])).toMatchObject({
      code: 0,
      stdout: [packageJson.version],
    });
    const help = await runToEnd(['run', '--help']);
    expect(help.code).toBe(0);
    for (const { flag } of describeOptions()) {
      expect(help.stdout.some((line) => line.startsWith(`  ${flag} (`))).toBe(true);
    }
  });
});

describe('the process', () => {
  test('waits for an API server that does not answer: healthy, not ready, and stops when asked', async () => {
    const controller = await start(['run', '--queue-url', QUEUE_URL, '--kubeconfig', kubeconfig]);
    const { fields } = await controller.waitForLog('http listening');
    const url = `http://127.0.0.1:${String(fields?.['port'])}`;
    const health = await fetch(`${url}/healthz`);
    expect(health.status).toBe(200);
    expect(await health.json()).toEqual({
      ok: true,
      checks: Object.keys(STAGES).map((name) => ({ name, ok: true })),
    });
    const ready = await fetch(`${url}/readyz`);
    expect(ready.status).toBe(503);
    expect(await ready.json()).toEqual({
      ok: false,
      checks: [
        { name: 'not stopping', ok: true },
        { name: 'node index', ok: false },
        { name: 'queue', ok: false },
      ],
    });
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toContain('node_termination_leader 0\n');
    expect(metrics).toMatch(
      /^node_termination_build_info\{version=".+",node_version="v24.+"\} 1$/m,
    );
    expect(metrics).toMatch(/^node_termination_requests_total\{.*operation="list nodes".*\}/m);
    expect(await controller.stop({ limitMs: 5000 })).toMatchObject({ code: 0 });
    expect(controller.logged('stopping')).toMatchObject([{ reason: 'SIGTERM' }]);
    expect(controller.log.at(-1)?.fields).toMatchObject({ message: 'stopped' });
    expect(controller.log.filter((line) => line.fields === undefined)).toEqual([]);
  });

  test('has signals in hand before it evaluates what takes a while', async () => {
    const notes = `
      const hasTls = () => process.moduleLoadList.includes('NativeModule tls');
      process.on('newListener', (name) => name === 'SIGTERM' && console.error('SIGTERM', hasTls()));
      process.on('exit', () => console.error('exit', hasTls()));`;
    const nodeArgs = ['--import', `data:text/javascript,${encodeURIComponent(notes)}`];
    const controller = await start(['--version'], {}, nodeArgs);
    await controller.exited;
    const told = controller.log.filter(({ stream }) => stream === 'stderr');
    expect(told.map(({ text }) => text)).toEqual(['SIGTERM false', 'exit true']);
  });

  test('asked to stop before it has begun, it stops all the same', async () => {
    const controller = await start(['run', '--queue-url', QUEUE_URL, '--kubeconfig', kubeconfig]);
    await controller.waitForLog('started');
    controller.signal('SIGINT');
    expect(await controller.exited).toMatchObject({ code: 0 });
  });

  test('asked twice, it ends at once', async () => {
    const controller = await start(['run', '--queue-url', QUEUE_URL, '--kubeconfig', kubeconfig]);
    await controller.waitForLog('started');
    controller.signal('SIGTERM');
    controller.signal('SIGINT');
    expect(await controller.exited).toMatchObject({ code: 0 });
  });

  test.each([
    {
      name: 'no such kubeconfig',
      args: ['--kubeconfig', '/nonexistent/kubeconfig'],
      told: /\/nonexistent\/kubeconfig cannot be read/,
    },
    { name: 'neither kubeconfig nor cluster', args: [], told: /Not inside a cluster/ },
  ])('$name: exit code 1, and why', async ({ args, told }) => {
    const ended = await runToEnd(['run', '--queue-url', QUEUE_URL, ...args]);
    expect(ended).toMatchObject({ code: 1, stderr: [] });
    expect(ended.logged('fatal error')).toMatchObject([
      { level: 'error', error: { message: expect.stringMatching(told) as unknown } },
    ]);
    expect(ended.stdout.at(-1)).toContain('"fatal error"');
  });

  test('a port that is taken: exit code 1, and why', async () => {
    const other = createServer().listen(0);
    await once(other, 'listening');
    onTestFinished(() => {
      other.close();
    });
    const address = other.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const args = ['run', '--queue-url', QUEUE_URL, '--kubeconfig', kubeconfig];
    const ended = await runToEnd([...args, '--http-port', String(port)]);
    expect(ended.code).toBe(1);
    expect(ended.logged('fatal error')).toMatchObject([
      { error: { message: `cannot listen on port ${port}`, cause: { code: 'EADDRINUSE' } } },
    ]);
  });

  test.each([
    { what: 'an exception', code: 'throw new Error("boom")', origin: 'uncaughtException' },
    {
      what: 'a rejection',
      code: 'Promise.reject(new Error("boom"))',
      origin: 'unhandledRejection',
    },
  ])('$what that nobody handles: exit code 1, and why', async ({ code, origin }) => {
    const onSignal = `data:text/javascript,process.on('SIGUSR2', () => { ${code} })`;
    const controller = await start(
      ['run', '--queue-url', QUEUE_URL, '--kubeconfig', kubeconfig],
      {},
      ['--import', onSignal],
    );
    await controller.waitForLog('http listening');
    controller.signal('SIGUSR2');
    expect(await controller.exited).toMatchObject({ code: 1 });
    expect(controller.log.at(-1)?.fields).toMatchObject({
      message: 'fatal error',
      origin,
      error: { message: 'boom', stack: expect.stringContaining('at ') as unknown },
    });
  });

  test('whose event loop is blocked does not answer; afterwards it says so', async () => {
    const blocked = `data:text/javascript,process.on('SIGUSR2', () => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 12_000);
    })`;
    const controller = await start(
      ['run', '--queue-url', QUEUE_URL, '--kubeconfig', kubeconfig],
      {},
      ['--import', blocked],
    );
    const { fields } = await controller.waitForLog('http listening');
    const url = `http://127.0.0.1:${String(fields?.['port'])}/healthz`;
    expect((await fetch(url)).status).toBe(200);
    controller.signal('SIGUSR2');
    // One may still be answered before the signal is taken.
    const probes = async () => {
      for (;;) await fetch(url, { signal: AbortSignal.timeout(2000) });
    };
    await expect(probes()).rejects.toThrow('timeout');
    await controller.waitForLog('event loop blocked', { timeoutMs: 60_000 });
    expect((await fetch(url)).status).toBe(200);
  });

  test('the reader of a printed table may leave early', async () => {
    const child = spawn(process.execPath, [bundlePath, 'options', '--format', 'json'], {
      env: controllerEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.destroy();
    let told = '';
    child.stderr.on('data', (chunk: Buffer) => (told += chunk.toString()));
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(told).toBe('');
  });

  test('without anybody to read its log it goes on, and stops when asked', async () => {
    const args = [bundlePath, 'run', '--queue-url', QUEUE_URL, '--kubeconfig', kubeconfig];
    const child = spawn(process.execPath, args, {
      env: { ...controllerEnvironment(), LOG_LEVEL: 'debug' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    await once(child.stdout, 'data');
    child.stdout.destroy();
    const [told] = (await once(child.stderr, 'data')) as [Buffer];
    expect(told.toString()).toBe('The log is lost: write EPIPE\n');
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
  });
});
