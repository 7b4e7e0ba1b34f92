import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

function testsIn(...folders: string[]): string[] {
  return folders.map((folder) => `test/${folder}/**/*.test.ts`);
}

// These start servers, tools, or the built controller; those start all of it. All others are pure.
const servers = testsIn(
  'chart',
  'contract',
  'control-plane',
  'guards',
  'infra',
  'kubernetes/api-server',
  'prometheus',
  'release',
  'run',
  'sandbox',
);
const scenarios = testsIn('scenarios');
// They ask of the API server what the stand-in does not have: admission webhooks, kubectl's own rules.
const realOnly = ['admission-webhook', 'kubectl-describe', 'kubectl-drain'].map(
  (name) => `test/scenarios/${name}.test.ts`,
);

const leftOver = 'test/setup/left-over-processes.ts';

const shared: TestProjectInlineConfiguration['test'] = {
  pool: 'forks',
  environment: 'node',
  globalSetup: [leftOver],
  setupFiles: ['test/setup/count-assertions.ts', 'test/setup/leaks.ts'],
  // A retry would hide a flake.
  retry: 0,
  expect: { requireAssertions: true },
  unstubEnvs: true,
  restoreMocks: true,
};

// Limits for what has hung, not for what is slow. There are more workers than cores, for these mostly
// wait: for grace periods, outages and deadlines.
const patient: TestProjectInlineConfiguration['test'] = {
  ...shared,
  testTimeout: 180_000,
  hookTimeout: 180_000,
};

// Modules have no state that a file could leave to the next, and to load them anew for each takes
// long: as the tests themselves for the pure ones, a second of each file for the scenarios.
const isolate = false;

// In any order, so that no test can come to depend on another.
const shuffle = { files: false, tests: true };

// They wait for a minute or more, in files that are not the largest. Begun last, they would run alone.
const longest = [
  'sandbox/sandbox',
  'release/image',
  'guards/gate',
  'scenarios/orderly-stop-under-strain',
  'scenarios/api-outage',
  'scenarios/nth-failures',
  'scenarios/policy',
  'scenarios/machine-identity',
  'scenarios/crash',
  'scenarios/nth-acceptance',
  'scenarios/orderly-stop',
  'guards/tally',
].map((name) => `/test/${name}.test.ts`);

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = longest.findIndex((name) => moduleId.endsWith(name));
      return at === -1 ? longest.length : at;
    };
    // oxlint-disable-next-line unicorn/no-array-sort -- a sequencer's, of no array
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => rank(a) - rank(b));
  }
}

// With Go they build what they need: the control plane, Prometheus' tools, actionlint.
const hasGoOrControlPlane =
  Boolean(process.env['KUBEBUILDER_ASSETS']) || spawnSync('go', ['version']).status === 0;
const withStandIns = { groupOrder: 1, maxWorkers: 10 };
// A control plane goes with each worker. Where there is none, they keep the others' idle moments busy.
const withControlPlanes = hasGoOrControlPlane ? { groupOrder: 2, maxWorkers: 5 } : withStandIns;

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    reporters: [['default', { summary: false }], './test/setup/tally-reporter.ts'],
    allowOnly: false,
    teardownTimeout: 60_000,
    projects: [
      {
        test: {
          ...shared,
          name: 'unit',
          include: testsIn('**'),
          exclude: [...servers, ...scenarios],
          testTimeout: 60_000,
          isolate,
          // Some wait for time limits.
          maxWorkers: Math.max(4, availableParallelism()),
          sequence: { shuffle, groupOrder: 0 },
        },
      },
      {
        test: {
          ...patient,
          name: 'servers',
          include: servers,
          globalSetup: [leftOver, 'test/setup/build-bundle.ts'],
          maxWorkers: withControlPlanes.maxWorkers,
          sequence: { shuffle, groupOrder: withControlPlanes.groupOrder },
        },
      },
      {
        test: {
          ...patient,
          name: 'scenarios on the stand-in',
          include: scenarios,
          exclude: realOnly,
          env: { NTC_TEST_BACKEND: 'stand-in' },
          isolate,
          globalSetup: [leftOver, 'test/setup/build-bundle.ts'],
          maxWorkers: withStandIns.maxWorkers,
          sequence: { shuffle, groupOrder: withStandIns.groupOrder },
        },
      },
      {
        test: {
          ...patient,
          name: 'scenarios on the real control plane',
          include: scenarios,
          env: { NTC_TEST_BACKEND: 'real' },
          isolate,
          globalSetup: [leftOver, 'test/setup/build-bundle.ts'],
          maxWorkers: withControlPlanes.maxWorkers,
          sequence: { shuffle, groupOrder: withControlPlanes.groupOrder },
        },
      },
    ],
  },
});
