import { spawnSync } from 'node:child_process';
import { stripVTControlCharacters } from 'node:util';
import { afterEach, expect, test } from 'vitest';
import { runVariable, startedByVariable } from '../setup/test-run.ts';
import { ProjectCopy } from './project-copy.ts';

let project: ProjectCopy | undefined;

afterEach(() => project?.remove());

const imports = "import { beforeAll, describe, expect, test } from 'vitest';\n";

/** Runs the tests of a project of its own with this one's runner. */
function runTests(files: Readonly<Record<string, string>>, environment: NodeJS.ProcessEnv = {}) {
  project = new ProjectCopy({ 'package.json': '{ "type": "module" }', ...files });
  const outer = Object.entries(process.env).filter(([name]) => !/^(VITEST|NTC_|TEST$)/.test(name));
  const { status, stdout, stderr } = spawnSync('vitest', ['run'], {
    cwd: project.folder,
    encoding: 'utf8',
    env: { ...Object.fromEntries(outer), ...environment },
  });
  return { status, stderr, output: stdout, lastLine: stdout.trimEnd().split('\n').at(-1) };
}

// Sources of a made-up project: what they skip, and do wrong, is what the guards are tried on.

const passing = {
  'test/plan/pass.test.ts': `${imports}
    test('two', () => { expect(1).toBe(1); expect(2).toBe(2); });
    test('three', ({ expect }) => { expect(1).toBe(1); expect(2).toBe(2); expect(3).toBe(3); });`,
};

const skipping = {
  'test/plan/skip.test.ts': `${imports}
    test('by note', ({ skip }) => skip('needs etcd: set X'));
    describe.skip('meta', { meta: { needs: 'kubectl: set Y' } }, () => { test('a', () => {}); });
    describe.skip('by name (needs helm: set Z)', () => { test('b', () => {}); });
    test.skip('without a word', () => {});`,
};

// Skipped for one reason, so that the tally may count them rather than name them.
const many = {
  'test/plan/many.test.ts': `${imports}
    describe.skip('m', { meta: { needs: 'kubectl: set Y' } }, () => {
      test.each([1, 2, 3, 4])('%d', () => {});
    });`,
};

test('counts tests and assertions, tells why each skipped test was skipped, and how many passed', () => {
  const { status, output, lastLine } = runTests({ ...passing, ...skipping, ...many });
  expect(output).toContain('2 tests ran, with 5 assertions\n');
  expect(output).toContain('skipped, needs etcd: set X:\n  test/plan/skip.test.ts > by note\n');
  expect(output).toMatch(
    /skipped, needs kubectl: set Y:\n(.+\n)*  test\/plan\/skip.test.ts > meta > a\n/,
  );
  expect(output).toMatch(
    /skipped, needs kubectl: set Y:\n(.+\n)*  test\/plan\/many.test.ts, 4 tests \(unit\)\n/,
  );
  expect(output).toMatch(/skipped, needs helm: set Z:\n.+ > b\n/);
  expect(output).toMatch(/skipped, no reason given:\n.+ > without a word\n/);
  expect(lastLine).toBe('2 passed, 0 failed, 8 skipped');
  expect(status).toBe(0);
});

test('with NTC_REQUIRE_ALL=1 a skipped test is a failure', () => {
  const { status, lastLine } = runTests({ ...passing, ...skipping }, { NTC_REQUIRE_ALL: '1' });
  expect(lastLine).toBe('2 passed, 4 failed');
  expect(status).toBe(1);
});

// `only` among them: it would keep all other tests of its file from running.
const failing = {
  'asserts-nothing': "test('x', () => {});",
  'is-retried-into-passing': "let n = 0;\ntest('x', () => { n += 1; expect(n).toBe(2); });",
  'throws-in-a-hook':
    "beforeAll(() => { throw new Error('x'); });\ntest('x', () => { expect(1).toBe(1); });",
  'rejects-behind-the-back':
    "test('x', () => { void Promise.reject(new Error('x')); expect(1).toBe(1); });",
  'leaves-a-server-behind':
    "import { createServer } from 'node:net';\ntest('x', () => { createServer().listen(0); expect(1).toBe(1); });",
  'does-not-load': "throw new Error('x');",
  'is-the-only-one-to-run': "test.only('x', () => { expect(1).toBe(1); });",
};

// In one run, for each takes seconds to begin: every one of them is told, and counted once.
test(`fails on a test file that ${Object.keys(failing).join(', or ')}`, () => {
  const files = Object.entries(failing).map(([name, source]) => [
    `test/plan/${name}.test.ts`,
    `${imports}${source}`,
  ]);
  const { status, stderr, lastLine } = runTests(
    Object.fromEntries(files) as Record<string, string>,
  );
  for (const [file] of files) {
    expect(stripVTControlCharacters(stderr)).toMatch(
      new RegExp(`(FAIL .* |error originated in ")${file}`),
    );
  }
  const passedBeforeTheirFaults = 2;
  expect(lastLine).toBe(`${passedBeforeTheirFaults} passed, ${files.length} failed, 1 skipped`);
  expect(status).toBe(1);
});

test('ends with 1 where a rejection behind the back is all that went wrong', () => {
  const { status, lastLine } = runTests({
    'test/plan/x.test.ts': `${imports}${failing['rejects-behind-the-back']}`,
  });
  expect(lastLine).toBe('1 passed, 1 failed');
  expect(status).toBe(1);
});

test('fails where a process outlives the run', () => {
  const { status, stderr } = runTests({
    'test/plan/x.test.ts': `${imports}import { spawn } from 'node:child_process';
      test('x', () => {
        const env = { ...process.env, ${startedByVariable}: process.env.${runVariable} };
        spawn('sleep', ['60'], { env, detached: true, stdio: 'ignore' }).unref();
        expect(1).toBe(1);
      });`,
  });
  expect(stderr).toMatch(/processes outlived the tests:\n\d+ sleep 60/);
  expect(status).toBe(1);
});

test('fails where the controller cannot be built', () => {
  const { status, lastLine } = runTests({
    'test/scenarios/x.test.ts': `${imports}test('x', () => { expect(1).toBe(1); });`,
  });
  expect(lastLine).toMatch(/^0 passed, [1-9] failed/);
  expect(status).toBe(1);
});
