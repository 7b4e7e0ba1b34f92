import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { startController, type Controller } from './controller.ts';

const file = join(import.meta.dirname, 'fixtures/process.ts');

describe('the handle of a controller process', () => {
  const started: Controller[] = [];

  afterEach(async () => {
    await Promise.all(started.splice(0).map((controller) => controller.kill()));
  });

  async function start(end: string, env: Record<string, string> = {}): Promise<Controller> {
    const controller = await startController({ file, args: [end], env });
    started.push(controller);
    return controller;
  }

  it('gives it a world of its own, whatever the environment of the tests', async () => {
    const controller = await start('on-signal', { QUEUE_URL: 'http://127.0.0.1:1/queue' });
    const { fields } = await controller.waitForLog('started');
    expect(fields).toEqual({
      message: 'started',
      pid: controller.pid,
      arguments: ['on-signal'],
      environment: {
        QUEUE_URL: 'http://127.0.0.1:1/queue',
        AWS_REGION: 'eu-central-1',
        AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
        HTTP_PORT: '0',
      },
    });
  });

  it('finds log lines of the past and of both outputs', async () => {
    const controller = await start('on-signal');
    await controller.waitForLog('ready');
    expect(await controller.waitForLog('started')).toBe(controller.log[0]);
    expect(await controller.waitForLog(({ stream }) => stream === 'stderr')).toEqual({
      stream: 'stderr',
      text: 'plain text',
      fields: undefined,
    });
    expect(controller.logged('ready')).toEqual([{ message: 'ready' }]);
    expect(controller.logged('never logged')).toEqual([]);
  });

  it('stops it by SIGTERM and reads its last line', async () => {
    const controller = await start('on-signal');
    await controller.waitForLog('ready');
    expect(await controller.stop()).toEqual({ code: 0, signal: null });
    expect(controller.log.at(-1)?.fields).toEqual({ message: 'stopped' });
  });

  it('calls it an error if SIGTERM does not end it, and kills it', async () => {
    const controller = await start('never');
    await controller.waitForLog('ready');
    await expect(controller.stop({ limitMs: 300 })).rejects.toThrow(
      /still running 300 ms after SIGTERM; the last lines:\n.*"ready"/s,
    );
    expect(await controller.exited).toEqual({ code: null, signal: 'SIGKILL' });
  });

  it('kills the process itself', async () => {
    const controller = await start('on-signal');
    await controller.waitForLog('ready');
    process.kill(controller.pid, 'SIGKILL');
    expect(await controller.exited).toEqual({ code: null, signal: 'SIGKILL' });
    expect(await controller.kill()).toEqual({ code: null, signal: 'SIGKILL' });
  });

  it('does not wait for a line of a process that has ended, but shows its last ones', async () => {
    const controller = await start('at-once');
    await expect(controller.waitForLog('never logged')).rejects.toThrow(
      /ended with 3 before "never logged":\n.*plain text/s,
    );
    expect(await controller.exited).toEqual({ code: 3, signal: null });
  });

  it('shows the last lines when the one waited for does not come', async () => {
    const controller = await start('on-signal');
    await controller.waitForLog('ready');
    await expect(controller.waitForLog('never logged', { timeoutMs: 100 })).rejects.toThrow(
      /"never logged" was not logged; the last lines:\n.*"ready"/s,
    );
  });

  it('says how to make the bundle where there is none', async () => {
    await expect(startController({ file: '/nonexistent/main.js' })).rejects.toThrow(
      '/nonexistent/main.js is missing: run npm run build',
    );
  });
});
