import type { Reporter, TestCase, TestModule, Vitest } from 'vitest/node';

/**
 * Prints at the very end what ran, what was skipped and why, and the counts on a line of their own.
 * With NTC_REQUIRE_ALL=1 a skipped test is a failure.
 */
export default class TallyReporter implements Reporter {
  private vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.vitest = vitest;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const passed = tests.filter((test) => test.result().state === 'passed');
    const failed = tests.filter((test) => test.result().state === 'failed');
    const skipped = tests.filter((test) => !passed.includes(test) && !failed.includes(test));
    // Files that do not load and hooks that throw fail no single test.
    const brokenParents = modules
      .flatMap((module) => [module, ...module.children.allSuites()])
      .filter((parent) => parent.errors().length > 0);
    const assertions = tests.reduce((sum, test) => sum + (test.meta().assertions ?? 0), 0);

    // A filter (-t) skips all that it does not choose; those are not worth a word.
    const chosen = this.vitest?.config.testNamePattern === undefined;
    const requireAll = process.env['NTC_REQUIRE_ALL'] === '1' && chosen;
    let failures = failed.length + brokenParents.length + unhandledErrors.length;
    if (requireAll) failures += skipped.length;
    // Whatever else went wrong (a global setup that throws) runs no test.
    if (tests.length === 0) failures = Math.max(failures, 1);

    const tellSkipped = chosen && skipped.length > 0;
    if (tellSkipped) console.log(describeSkipped(skipped, requireAll));
    console.log(`${tests.length - skipped.length} tests ran, with ${assertions} assertions`);
    if (failures > 0) {
      console.log(`order of tests: --sequence.seed=${this.vitest?.config.sequence.seed ?? ''}`);
      process.exitCode = 1;
    }
    const skips = tellSkipped && !requireAll ? `, ${skipped.length} skipped` : '';
    console.log(`${passed.length} passed, ${failures} failed${skips}`);
  }
}

/** Of one file; where more are skipped for one reason, they are counted. */
const mostNamed = 3;

function describeSkipped(skipped: readonly TestCase[], requireAll: boolean): string {
  const byReason = Map.groupBy(skipped, reasonOf);
  const lines = [...byReason].flatMap(([reason, tests]) => [
    `skipped, ${reason}:`,
    ...[...Map.groupBy(tests, ({ module }) => module)].flatMap(([module, own]) =>
      own.length > mostNamed
        ? [`  ${module.relativeModuleId}, ${own.length} tests (${module.project.name})`]
        : own.map((test) => `  ${module.relativeModuleId} > ${test.fullName}`),
    ),
  ]);
  if (requireAll) lines.push('NTC_REQUIRE_ALL=1 allows no skipped test.');
  return `\n${lines.join('\n')}\n`;
}

/** From `context.skip(reason)`, from `needs` in the meta of the test or a suite around it, or from a name. */
function reasonOf(test: TestCase): string {
  const result = test.result();
  if (result.state === 'skipped' && result.note !== undefined) return result.note;
  for (let task: TestCase['parent'] | TestCase = test; ; task = task.parent) {
    const { needs } = task.meta();
    if (needs !== undefined) return `needs ${needs.replace(/^needs /, '')}`;
    if (task.type !== 'test' && task.errors().length > 0) return 'because a hook before it failed';
    if (task.type === 'module') break;
  }
  const named = /\bneeds [^>]+?(?=\)?(?: >|$))/.exec(test.fullName);
  return named?.[0] ?? 'no reason given';
}
