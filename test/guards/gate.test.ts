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

test('names all that refuses a project', () => {
  const faulty = controller
    .replace('number {', 'number {\n  debugger;')
    .replace('  return 1', "    return '1'");
  const { status, output, lastLine } = check({
    'src/main.ts': main,
    'src/controller.ts': `${faulty}export const spare = 1;\n`,
    'src/intake/forgotten.ts': 'export const forgotten = 1;\n',
  });
  const gates = ['types', 'format', 'lint and walls', 'unused code and dependencies'];
  for (const gate of gates) expect(output).toContain(`FAILED  ${gate} (`);
  expect(output).toContain('no-debugger');
  expect(output).toMatch(/^spare .*src\/controller\.ts/m);
  expect(output).toMatch(/^src\/intake\/forgotten\.ts/m);
  expect(lastLine).toBe(`check failed: ${gates.join(', ')}`);
  expect(status).toBe(1);
});
