import { describe, expect, test } from 'vitest';
import { MUTANTS, type Mutant } from './mutants.ts';
import { run, type Outcome } from './run.ts';
import { stormOf, type Storm } from './storm.ts';

const STORMS = 500;
/** At least so many leave a mutant alone that only crashes show. */
const CALM_STORMS = 60;
const LIMIT_MS = 600_000;

const catches = ({ breaks }: Mutant, { violations }: Outcome): boolean =>
  violations.some(({ invariant }) => invariant === breaks);

/** The same, with one process from beginning to end. */
function withoutCrashes(storm: Storm): Storm {
  return { ...storm, replicas: 'single', crashes: [], freezes: [], restarts: [] };
}

async function caughtBy(mutant: Mutant): Promise<number> {
  for (let seed = 1; seed <= STORMS; seed += 1) {
    const outcome = await run(stormOf(seed), { mutation: mutant.mutation });
    if (catches(mutant, outcome)) return seed;
  }
  return Infinity;
}

describe('a controller that', { timeout: LIMIT_MS }, () => {
  test.each(MUTANTS.map((mutant) => [mutant.does, mutant] as const))(
    '%s is caught by the invariant it breaks',
    async (does, mutant) => {
      const seed = await caughtBy(mutant);
      expect(seed).toBeLessThanOrEqual(STORMS);
      console.log(`a controller that ${does} breaks ${mutant.breaks} in storm ${seed}`);
    },
  );
});

describe(
  'while no process dies, that invariant is kept by a controller that',
  { timeout: LIMIT_MS },
  () => {
    const hidden = MUTANTS.filter(({ needsCrashes }) => needsCrashes === true);

    test.each(hidden.map((mutant) => [mutant.does, mutant] as const))('%s', async (_, mutant) => {
      const count = Math.max(CALM_STORMS, await caughtBy(mutant));
      for (let seed = 1; seed <= count; seed += 1) {
        const outcome = await run(withoutCrashes(stormOf(seed)), { mutation: mutant.mutation });
        expect(catches(mutant, outcome), `storm ${seed}`).toBe(false);
      }
    });

    test('at least four of them', () => {
      expect(hidden.length).toBeGreaterThanOrEqual(4);
      expect(MUTANTS.length).toBeGreaterThanOrEqual(12);
    });
  },
);
