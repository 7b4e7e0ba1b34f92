import { spawn, type StdioOptions } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { runVariable, startedByVariable } from '../setup/test-run.ts';
import { guardProcess } from './guardian.ts';

export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type GuardedProcess = {
  readonly pid: number;
  /** Resolves when the process has exited; never rejects. */
  readonly exited: Promise<Exit>;
  /** Undefined while it runs. */
  exit(): Exit | undefined;
  /** Sends a signal to this very process; does nothing once it has exited. */
  signal(name: NodeJS.Signals): void;
  /** SIGKILL, then waits for the exit. */
  kill(): Promise<Exit>;
};

export type GuardedProcessOptions = {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** Both outputs are appended here. Without it they come as lines through `onLine`. */
  readonly logFile?: string;
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
};

/**
 * Starts a process that ends with this one at the latest, even if this one is killed. It is in a
 * process group of its own: a Ctrl-C in the terminal reaches it through us, or not at all.
 */
export async function startGuardedProcess(options: GuardedProcessOptions): Promise<GuardedProcess> {
  const log = options.logFile === undefined ? undefined : openSync(options.logFile, 'a');
  const stdio: StdioOptions = log === undefined ? ['ignore', 'pipe', 'pipe'] : ['ignore', log, log];
  const child = spawn(options.command, options.args, {
    stdio,
    detached: true,
    env: { ...(options.env ?? process.env), [startedByVariable]: process.env[runVariable] },
  });
  if (log !== undefined) closeSync(log);
  const { pid } = child;
  if (pid === undefined) {
    const cause = await new Promise((resolve) => child.once('error', resolve));
    throw new Error(`cannot start ${options.command}`, { cause });
  }
  const unguard = guardProcess(pid);
  const { onLine } = options;
  if (onLine && child.stdout && child.stderr) {
    readLines(child.stdout, (line) => onLine(line, 'stdout'));
    readLines(child.stderr, (line) => onLine(line, 'stderr'));
  }
  let exit: Exit | undefined;
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      exit = { code, signal };
      unguard();
      if (log !== undefined) resolve(exit);
    });
    // With pipes, "close" comes after the last line has been read.
    if (log === undefined) child.once('close', (code, signal) => resolve({ code, signal }));
  });
  const signal = (name: NodeJS.Signals) => {
    if (!exit) child.kill(name);
  };
  return {
    pid,
    exited,
    exit: () => exit,
    signal,
    async kill() {
      signal('SIGKILL');
      return exited;
    },
  };
}

function readLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
  stream.on('end', () => {
    if (rest) onLine(rest);
  });
}

/** The last lines of a log file, for error messages. */
export async function tailOf(logFile: string, lines = 15): Promise<string> {
  const text = await readFile(logFile, 'utf8');
  return text.trimEnd().split('\n').slice(-lines).join('\n');
}
