import { access } from 'node:fs/promises';
import { devNull } from 'node:os';
import { resolve } from 'node:path';
import {
  startGuardedProcess,
  type Exit,
  type GuardedProcess,
} from '../control-plane/guarded-process.ts';
import { eventually, type EventuallyOptions } from './eventually.ts';

export type LogLine = {
  readonly stream: 'stdout' | 'stderr';
  readonly text: string;
  /** Undefined if the line is no JSON object. */
  readonly fields: Readonly<Record<string, unknown>> | undefined;
};

export type ControllerOptions = {
  /** Beside what every controller of a test gets (fake credentials, JSON log, any free port). */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** After the file; `['run']` unless given. */
  readonly args?: readonly string[];
  /** Options of Node itself, before the file. */
  readonly nodeArgs?: readonly string[];
  /** `dist/main.js` unless given. */
  readonly file?: string;
};

export type Controller = {
  /** Of the bundle's own process. */
  readonly pid: number;
  readonly exited: Promise<Exit>;
  /** All lines so far. */
  readonly log: readonly LogLine[];
  /** JSON lines with this message. */
  logged(message: string): readonly Readonly<Record<string, unknown>>[];
  /** The first line that matches, past or future. Throws at once if the process ends without it. */
  waitForLog(
    match: string | ((line: LogLine) => boolean),
    options?: EventuallyOptions,
  ): Promise<LogLine>;
  /** Sends it to the bundle's own pid and does not wait. */
  signal(name: NodeJS.Signals): void;
  /** SIGKILL; returns when it is gone. */
  kill(): Promise<Exit>;
  /** SIGTERM; after `limitMs` (20 s) it is killed and that is an error. */
  stop(options?: { limitMs?: number }): Promise<Exit>;
};

const projectRoot = resolve(import.meta.dirname, '../..');
/** What users run; made by `npm run build`. */
export const bundlePath = resolve(projectRoot, 'dist/main.js');

/** Compiled code, which halves the processor time of a start; hundreds are started. */
const compileCache = resolve(projectRoot, 'node_modules/.cache/controller');

const mostLogLines = 200_000;

/**
 * The environment every controller of a test gets: nothing of ours but PATH, no credentials but fake
 * ones, and no way to find others.
 */
export function controllerEnvironment(): Record<string, string> {
  return {
    PATH: process.env['PATH'] ?? '',
    AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
    AWS_SECRET_ACCESS_KEY: 'fake',
    AWS_REGION: 'eu-central-1',
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_CONFIG_FILE: devNull,
    AWS_SHARED_CREDENTIALS_FILE: devNull,
    LOG_FORMAT: 'json',
    HTTP_PORT: '0',
    NODE_COMPILE_CACHE: compileCache,
  };
}

/** Starts the built controller as a process of its own, which ends with the test runner at the latest. */
export async function startController(options: ControllerOptions = {}): Promise<Controller> {
  const { file = bundlePath, args = ['run'], nodeArgs = [] } = options;
  await access(file).catch((error: unknown) => {
    throw new Error(`${file} is missing: run npm run build`, { cause: error });
  });
  const log: LogLine[] = [];
  const child = await startGuardedProcess({
    command: process.execPath,
    args: [...nodeArgs, file, ...args],
    env: { ...controllerEnvironment(), ...options.env },
    onLine(text, stream) {
      if (log.length >= mostLogLines) child.signal('SIGKILL');
      else log.push({ stream, text, fields: fieldsOf(text) });
    },
  });
  return {
    pid: child.pid,
    exited: child.exited,
    log,
    logged: (message) =>
      log.flatMap(({ fields }) => (fields?.['message'] === message ? [fields] : [])),
    waitForLog: async (match, eventuallyOptions) =>
      waitForLog(child, log, match, eventuallyOptions),
    signal: (name) => child.signal(name),
    kill: () => child.kill(),
    stop: async ({ limitMs = 20_000 } = {}) => stop(child, log, limitMs),
  };
}

async function waitForLog(
  child: GuardedProcess,
  log: readonly LogLine[],
  match: string | ((line: LogLine) => boolean),
  options?: EventuallyOptions,
): Promise<LogLine> {
  const matches =
    typeof match === 'string' ? ({ fields }: LogLine) => fields?.['message'] === match : match;
  const wanted = typeof match === 'string' ? `"${match}"` : 'the line waited for';
  let checked = 0;
  const next = (): LogLine | undefined => {
    for (; checked < log.length; checked++) {
      const line = log[checked];
      if (line && matches(line)) return line;
    }
    return undefined;
  };
  const result = await eventually<LogLine | Exit | undefined>(
    async () => {
      if (!child.exit()) return next();
      // Its last lines are read by then.
      const exit = await child.exited;
      return next() ?? exit;
    },
    // Costs nobody else a request, and what is done next is often a race.
    { intervalMs: 20, ...options },
  ).catch((error: unknown) => {
    throw new Error(`${wanted} was not logged; the last lines:\n${tail(log)}`, { cause: error });
  });
  if ('text' in result) return result;
  throw new Error(
    `the controller ended with ${result.signal ?? result.code} before ${wanted}:\n${tail(log)}`,
  );
}

async function stop(
  child: GuardedProcess,
  log: readonly LogLine[],
  limitMs: number,
): Promise<Exit> {
  child.signal('SIGTERM');
  const limit = AbortSignal.timeout(limitMs);
  const { promise: expired, resolve: expire } = Promise.withResolvers<undefined>();
  limit.addEventListener('abort', () => expire(undefined), { once: true });
  const exit = await Promise.race([child.exited, expired]);
  if (exit) return exit;
  await child.kill();
  throw new Error(`still running ${limitMs} ms after SIGTERM; the last lines:\n${tail(log)}`);
}

function tail(log: readonly LogLine[]): string {
  return log
    .slice(-20)
    .map(({ text }) => text)
    .join('\n');
}

function fieldsOf(text: string): Readonly<Record<string, unknown>> | undefined {
  if (!text.startsWith('{')) return undefined;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
