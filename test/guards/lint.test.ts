import { spawnSync } from 'node:child_process';
import { relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ProjectCopy } from './project-copy.ts';

const walls = 'architecture(import-walls)';
const pure = 'architecture(pure)';

// Modules for the others to import.
const modules = {
  'src/events/event.ts': 'export type Event = { kind: string };\nexport const kinds = 1;\n',
  'src/plan/node.ts': "export type Taint = { key: string };\nexport const KEY = 'key';\n",
  'src/plan/merge.ts': 'export const merge = 1;\n',
  'src/intake/queue.ts': 'export type Queue = { depth: number };\nexport const receive = 1;\n',
  'src/drain/lifecycle-hooks.ts':
    'export type Hooks = { count: number };\nexport const hook = 1;\n',
  'src/drain/pods.ts': 'export type Pods = { count: number };\nexport const evict = 1;\n',
  'src/aws/sqs.ts': 'export type Client = { name: string };\nexport const sqs = 1;\n',
  'src/kubernetes/api.ts': 'export type Api = { name: string };\nexport const api = 1;\n',
  'src/report/report.ts': 'export type Report = { name: string };\nexport const report = 1;\n',
  'src/http/server.ts': 'export const serve = 1;\n',
  'src/options.ts': 'export const options = 1;\n',
  'src/controller.ts': 'export const run = 1;\n',
  'src/clock.ts': 'export const now = Date.now;\n',
  'infra/queue.ts': 'export const queue = 1;\n',
  'test/setup/tool.ts': 'export const tool = 1;\n',
};

const refusedImports: readonly [file: string, source: string][] = [
  ['src/events/a.ts', "export { merge } from '../plan/merge.ts';"],
  ['src/events/b.ts', "import type { Taint } from '../plan/node.ts';\nexport type X = Taint;"],
  ['src/events/c.ts', "import { readFileSync } from 'node:fs';\nexport const x = readFileSync;"],
  ['src/events/d.ts', "import { createHash } from 'node:crypto';\nexport const x = createHash;"],
  ['src/events/e.ts', "import { now } from '../clock.ts';\nexport const x = now;"],
  [
    'src/plan/a.ts',
    "import { SQSClient } from '@aws-sdk/client-sqs';\nexport const x = SQSClient;",
  ],
  ['src/plan/b.ts', "import type { Queue } from '../intake/queue.ts';\nexport type X = Queue;"],
  ['src/plan/c.ts', "export type X = import('../drain/pods.ts').Pods;"],
  ['src/plan/d.ts', "export * from '../aws/sqs.ts';"],
  ['src/intake/a.ts', "import type { Pods } from '../drain/pods.ts';\nexport type X = Pods;"],
  ['src/intake/b.ts', "import { sqs } from '../aws/sqs.ts';\nexport const x = sqs;"],
  ['src/intake/c.ts', "import type { Client } from '../aws/sqs.ts';\nexport type X = Client;"],
  ['src/intake/d.ts', "import { api } from '../kubernetes/api.ts';\nexport const x = api;"],
  ['src/intake/e.ts', "import { options } from '../options.ts';\nexport const x = options;"],
  ['src/intake/f.ts', "import { report } from '../report/report.ts';\nexport const x = report;"],
  ['src/intake/g.ts', "import { request } from 'node:http';\nexport const x = request;"],
  [
    'src/intake/h.ts',
    "import { hook } from '../drain/lifecycle-hooks.ts';\nexport const x = hook;",
  ],
  ['src/drain/a.ts', "import type { Queue } from '../intake/queue.ts';\nexport type X = Queue;"],
  ['src/drain/b.ts', "import { sqs } from '../aws/sqs.ts';\nexport const x = sqs;"],
  ['src/drain/c.ts', "import { api } from '../kubernetes/api.ts';\nexport const x = api;"],
  [
    'src/drain/d.ts',
    "import { api } from './../drain/../kubernetes/api.ts';\nexport const x = api;",
  ],
  ['infra/a.ts', "import { merge } from '../src/plan/merge.ts';\nexport const x = merge;"],
  ['infra/b.ts', "import { App } from 'aws-cdk-lib';\nexport const x = App;"],
  ['infra/c.ts', "import { tool } from '../test/setup/tool.ts';\nexport const x = tool;"],
  ['src/aws/infra.ts', "import { queue } from '../../infra/queue.ts';\nexport const x = queue;"],
  ['src/aws/a.ts', "import { receive } from '../intake/queue.ts';\nexport const x = receive;"],
  ['src/aws/b.ts', "import { merge } from '../plan/merge.ts';\nexport const x = merge;"],
  ['src/aws/c.ts', "import { api } from '../kubernetes/api.ts';\nexport const x = api;"],
  ['src/aws/d.ts', "import { report } from '../report/report.ts';\nexport const x = report;"],
  ['src/aws/e.ts', "export const x = import('../kubernetes/api.ts');"],
  ['src/aws/f.ts', "const name = '../kubernetes/api.ts';\nexport const x = import(name);"],
  ['src/aws/g.ts', 'export const x = import(`../kubernetes/api.ts`);'],
  ['src/kubernetes/a.ts', "import { evict } from '../drain/pods.ts';\nexport const x = evict;"],
  ['src/kubernetes/b.ts', "import { merge } from '../plan/merge.ts';\nexport const x = merge;"],
  ['src/kubernetes/c.ts', "import { sqs } from '../aws/sqs.ts';\nexport const x = sqs;"],
  [
    'src/kubernetes/d.ts',
    "import { type Pods, evict } from '../drain/pods.ts';\nexport const x: [Pods?] = [];\nexport const y = evict;",
  ],
  ['src/report/a.ts', "import { receive } from '../intake/queue.ts';\nexport const x = receive;"],
  ['src/report/b.ts', "import { serve } from '../http/server.ts';\nexport const x = serve;"],
  ['src/http/a.ts', "import { api } from '../kubernetes/api.ts';\nexport const x = api;"],
  ['src/http/b.ts', "import { report } from '../report/report.ts';\nexport const x = report;"],
  ['src/drill/a.ts', "import { run } from '../controller.ts';\nexport const x = run;"],
  ['src/doctor/a.ts', "import { tool } from '../../test/setup/tool.ts';\nexport const x = tool;"],
  ['src/utils/a.ts', 'export const x = 1;'],
  ['src/stray.ts', 'export const x = 1;'],
];

const allowedImports: readonly [file: string, source: string][] = [
  ['infra/d.ts', "import { kinds } from '../src/events/event.ts';\nexport const x = kinds;"],
  ['infra/e.ts', "import { App } from 'aws-cdk-lib/core';\nexport const x = App;"],
  [
    'src/events/ok.ts',
    "import { z } from 'zod';\nimport { kinds } from './event.ts';\nexport const x = [z, kinds];",
  ],
  ['src/plan/ok.ts', "import { kinds } from '../events/event.ts';\nexport const x = kinds;"],
  [
    'src/intake/ok.ts',
    "import { kinds } from '../events/event.ts';\nimport { merge } from '../plan/merge.ts';\nimport type { Report } from '../report/report.ts';\nexport const x: [Report?] = [];\nexport const y = [kinds, merge];",
  ],
  [
    'src/drain/ok.ts',
    "import { now } from '../clock.ts';\nimport { merge } from '../plan/merge.ts';\nexport const x = [now, merge];",
  ],
  [
    'src/aws/ok.ts',
    "import { SQSClient } from '@aws-sdk/client-sqs';\nimport type { Queue } from '../intake/queue.ts';\nexport const x: [Queue?] = [];\nexport const y = SQSClient;",
  ],
  [
    'src/kubernetes/ok.ts',
    "import { Pool } from 'undici';\nimport type { Pods } from '../drain/pods.ts';\nimport { KEY } from '../plan/node.ts';\nexport const x: [Pods?] = [];\nexport const y = [Pool, KEY];",
  ],
  [
    'src/main.ts',
    "import { api } from './kubernetes/api.ts';\nimport { run } from './controller.ts';\nexport const x = [api, run];",
  ],
  [
    'test/any.ts',
    "import { api } from '../src/kubernetes/api.ts';\nimport { merge } from '../src/plan/merge.ts';\nexport const x = [api, merge];",
  ],
];

const impure: readonly [name: string, source: string][] = [
  ['date-now', 'export const x = () => Date.now();'],
  ['date-computed', "export const x = () => Date['now']();"],
  ['date-alias', 'const D = Date;\nexport const x = () => D.now();'],
  ['date-destructured', 'const { now } = Date;\nexport const x = now;'],
  ['date-empty', 'export const x = () => new Date();'],
  ['date-called', 'export const x = () => Date();'],
  ['random', 'export const x = () => Math.random();'],
  ['random-destructured', 'const { random } = Math;\nexport const x = random;'],
  ['performance', 'export const x = () => performance.now();'],
  ['timeout', 'export const x = () => setTimeout(() => x(), 1);'],
  ['interval', 'export const x = () => setInterval(() => x(), 1);'],
  ['microtask', 'export const x = () => queueMicrotask(() => undefined);'],
  ['process', "export const x = () => process.env['X'];"],
  ['global-this', 'export const x = () => globalThis.Date.now();'],
  ['console', 'export const x = () => console.log(1);'],
  ['fetch', "export const x = () => fetch('http://127.0.0.1');"],
  ['crypto', 'export const x = () => crypto.randomUUID();'],
  ['async', 'export async function x() {}'],
  ['async-arrow', 'export const x = async () => 1;'],
  ['promise', 'export const x = Promise.resolve(1);'],
  ['promise-type', 'export type X = () => Promise<void>;'],
  ['top-level-await', 'await 1;\nexport const x = 1;'],
  ['dynamic-import', "export const x = import('./node.ts');"],
];

const pureSource = `
export type When = { at: Date; map: ReadonlyMap<string, number> };
export function inOrder(times: readonly string[], now: number): readonly Date[] {
  const parsed = times.map((time) => Date.parse(time)).filter((time) => !Number.isNaN(time));
  return [...new Set(parsed)].toSorted((a, b) => a - b).map((time) => new Date(Math.min(time, now)));
}
`;

// Of the other rules those that the project's correctness leans on.
const others: readonly [rule: string, file: string, source: string][] = [
  [
    'typescript(no-floating-promises)',
    'src/aws/floating.ts',
    'export function x(work: () => Promise<void>): void {\n  work();\n}',
  ],
  [
    'typescript(no-misused-promises)',
    'src/aws/misused.ts',
    'export function x(work: () => Promise<boolean>): number {\n  return work() ? 1 : 2;\n}',
  ],
  [
    'typescript(switch-exhaustiveness-check)',
    'src/plan/switch.ts',
    "export function x(kind: 'a' | 'b'): number {\n  switch (kind) {\n    case 'a':\n      return 1;\n    default:\n      return 2;\n  }\n}",
  ],
  ['eslint(no-console)', 'src/aws/console.ts', 'export const x = (): void => console.log(1);'],
  ['eslint(no-unused-vars)', 'src/aws/unused.ts', 'const unused = 1;\nexport const x = 2;'],
  [
    'eslint(no-empty)',
    'src/aws/swallow.ts',
    'export function x(work: () => void): void {\n  try {\n    work();\n  } catch {}\n}',
  ],
  [
    'eslint(preserve-caught-error)',
    'src/aws/cause.ts',
    "export function x(work: () => void): void {\n  try {\n    work();\n  } catch (error) {\n    throw new Error('failed');\n  }\n}",
  ],
  ['eslint(no-warning-comments)', 'src/aws/later.ts', '// FIXME: later\nexport const x = 1;'],
  [
    'vitest(no-focused-tests)',
    'test/focused.test.ts',
    "import { expect, test } from 'vitest';\ntest.only('x', () => {\n  expect(1).toBe(1);\n});",
  ],
];

const cycle = {
  'src/drain/left.ts':
    "import { right } from './right.ts';\nexport const left = (): unknown => right;\n",
  'src/drain/right.ts':
    "import { left } from './left.ts';\nexport const right = (): unknown => left;\n",
  'src/drain/type-left.ts':
    "import type { Right } from './type-right.ts';\nexport type Left = { right?: Right };\n",
  'src/drain/type-right.ts':
    "import type { Left } from './type-left.ts';\nexport type Right = { left?: Left };\n",
};

const report = z.object({
  diagnostics: z.array(
    z.object({
      code: z.string().optional(),
      filename: z.string(),
      severity: z.string(),
      message: z.string(),
    }),
  ),
});

let project: ProjectCopy;
let refused: ReadonlyMap<string, readonly string[]>;

beforeAll(() => {
  project = new ProjectCopy({
    ...modules,
    ...cycle,
    ...Object.fromEntries([...refusedImports, ...allowedImports]),
    ...Object.fromEntries(others.map(([, file, source]) => [file, source])),
    ...Object.fromEntries(impure.map(([name, source]) => [`src/plan/${name}.ts`, source])),
    'src/plan/pure.ts': pureSource,
    'src/intake/impure.ts':
      impure.map(([, source]) => source).find((source) => source.includes('setTimeout')) ?? '',
  });
  const { stdout, status } = spawnSync('oxlint', ['--format', 'json'], {
    cwd: project.folder,
    encoding: 'utf8',
  });
  if (status !== 1) throw new Error(`oxlint ended with ${status}: ${stdout}`);
  const { diagnostics } = report.parse(JSON.parse(stdout));
  const byFile = Map.groupBy(diagnostics, ({ filename }) =>
    relative(project.folder, `${project.folder}/${filename}`),
  );
  refused = new Map(
    [...byFile].map(([file, found]) => [file, found.map(({ code }) => code ?? '')]),
  );
});

afterAll(() => project.remove());

describe('a wall between layers', () => {
  test.each(refusedImports)('refuses %s', (file) => {
    expect(refused.get(file)).toContain(walls);
  });

  test.each(allowedImports)('lets %s through', (file) => {
    expect(refused.get(file) ?? []).not.toContain(walls);
  });
});

describe('the pure core', () => {
  test.each(impure)('refuses %s', (name) => {
    expect(refused.get(`src/plan/${name}.ts`)).toContain(pure);
  });

  test('may compute with times it is given', () => {
    expect(refused.get('src/plan/pure.ts')).toBeUndefined();
  });

  test('is pure alone: a stage may use a timer', () => {
    expect(refused.get('src/intake/impure.ts') ?? []).not.toContain(pure);
  });
});

describe('the linter', () => {
  test.each(others)('refuses %s', (rule, file) => {
    expect(refused.get(file)).toContain(rule);
  });

  test.each(Object.keys(cycle))('refuses the import cycle of %s', (file) => {
    expect(refused.get(file)).toContain('import(no-cycle)');
  });
});
