import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';

// The one gate. Warnings are errors in each of them.
const checks = [
  { name: 'types', command: ['tsc', '-p', '.'] },
  { name: 'lint and walls', command: ['oxlint'] },
  { name: 'format', command: ['oxfmt', '--check', '--no-error-on-unmatched-pattern'] },
  { name: 'unused code and dependencies', command: ['knip', '--no-progress'] },
] as const;

type Check = (typeof checks)[number];

/** Runs one tool; resolves to whether it found nothing, and what it said. */
async function run({ command: [tool, ...args] }: Check) {
  const { promise, resolve } = Promise.withResolvers<{ passed: boolean; output: string }>();
  const child = spawn(tool, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  child.on('error', (error) => resolve({ passed: false, output: `${output}${error.message}\n` }));
  child.on('close', (code) => resolve({ passed: code === 0, output }));
  return promise;
}

const waiting = [...checks];
const failed: string[] = [];

async function work(): Promise<void> {
  for (let check = waiting.shift(); check; check = waiting.shift()) {
    const startedAt = performance.now();
    const { passed, output } = await run(check);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    const line = `${check.name} (${check.command[0]}), ${seconds} s`;
    if (passed) {
      console.log(`ok      ${line}`);
      continue;
    }
    failed.push(check.name);
    console.log(`FAILED  ${line}\n\n${output}`);
  }
}

await Promise.all(Array.from({ length: Math.min(availableParallelism(), 2) }, work));
if (failed.length > 0) {
  console.log(`check failed: ${failed.join(', ')}`);
  process.exitCode = 1;
}
