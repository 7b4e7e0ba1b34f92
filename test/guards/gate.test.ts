import { spawnSync } from 'node:child_process';
import { afterEach, expect, test } from 'vitest';
import { ProjectCopy } from './project-copy.ts';

let project: ProjectCopy | undefined;

afterEach(() => project?.remove());

const tools = ['esbuild', 'knip', 'oxfmt', 'oxlint', 'typescript', 'vitest'];
const packageJson = `{
  "type": "module",
  "scripts": {
    "check": "node scripts/check.ts",
    "format": "oxfmt"
  },
  "devDependencies": {
${tools.map((tool) => `    "${tool}": "*"`).join(',\n')}
  }
}
`;

function check(files: Readonly<Record<string, string>>) {
  project = new ProjectCopy({
    'package.json': packageJson,
    ...files,
  });
  const { status, stdout } = spawnSync(process.execPath, ['scripts/check.ts'], {
    cwd: project.folder,
    encoding: 'utf8',
  });
  return { status, output: stdout, lastLine: stdout.trimEnd().split('\n').at(-1) };
}

const main = "import { run } from './controller.ts';\n\nrun();\n";
const controller = 'export function run(): number {\n  return 1;\n}\n';

test('lets a sound project through', () => {
  const { status, output } = check({ 'src/main.ts': main, 'src/controller.ts': controller });
  expect(output).not.toContain('FAILED');
  expect(status).toBe(0);
});

test.each([
  ['types', { 'src/controller.ts': controller.replace('return 1', "return '1'") }],
  [
    'lint and walls',
    { 'src/controller.ts': controller.replace('number {', 'number {\n  debugger;') },
  ],
  ['format', { 'src/controller.ts': controller.replace('  return', '    return') }],
  [
    'unused code and dependencies',
    { 'src/controller.ts': `${controller}export const spare = 1;\n` },
  ],
  ['unused code and dependencies', { 'src/intake/forgotten.ts': 'export const forgotten = 1;\n' }],
])('names what refused a project: %s', (name, files) => {
  const { status, output, lastLine } = check({
    'src/main.ts': main,
    'src/controller.ts': controller,
    ...files,
  });
  expect(output).toContain(`FAILED  ${name} (`);
  expect(lastLine).toBe(`check failed: ${name}`);
  expect(status).toBe(1);
});
