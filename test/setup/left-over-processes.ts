import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { runVariable, startedByVariable } from './test-run.ts';

/** Those of a worker that has ended are killed a moment later. */
const limitMs = 10_000;

/**
 * No process that a test started may outlive the run, nor any that such a process started itself: all
 * bear the run's name in their environment. Looked up in /proc, so on Linux only.
 */
export function setup(): () => Promise<void> {
  const run = (process.env[runVariable] ??= randomUUID());
  return async () => {
    const limitAt = performance.now() + limitMs;
    let left = await processesOf(run);
    while (left.length > 0 && performance.now() < limitAt) {
      await delay(100);
      left = await processesOf(run);
    }
    if (left.length > 0) throw new Error(`processes outlived the tests:\n${left.join('\n')}`);
  };
}

async function processesOf(run: string): Promise<string[]> {
  if (process.platform !== 'linux') return [];
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(pids.map(async (pid) => describeIfOf(pid, run)));
  return found.filter((text) => text !== undefined);
}

async function describeIfOf(pid: string, run: string): Promise<string | undefined> {
  try {
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8');
    if (!environment.split('\0').includes(`${startedByVariable}=${run}`)) return undefined;
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8');
    return `${pid} ${command.replaceAll('\0', ' ')}`;
  } catch {
    // Gone meanwhile, or another user's.
    return undefined;
  }
}
