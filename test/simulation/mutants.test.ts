import { describe, expect, test } from 'vitest';
import { MUTANTS, type Mutant } from './mutants.ts';
import { run, type Outcome } from './run.ts';
import { stormOf, type Storm } from './storm.ts';

const STORMS = 500;
/** From I1 to I9. */
const INVARIANTS = 9;
/** So many, and the one that catches it, leave a mutant alone that only crashes show. */
const CALM_STORMS = 40;
const LIMIT_MS = 600_000;

const catches = ({ breaks }: Mutant, { violations }: Outcome): boolean =>
  violations.some(({ invariant }) => invariant === breaks);

/** The same, with one process from beginning to end. */
function withoutCrashes(storm: Storm): Storm {
  return { ...storm, replicas: 'single', freezes: [], restarts: [] };
}

/** The first of these storms that catches it; Infinity: none does. */
async function caughtBy(mutant: Mutant, seeds: Iterable<number>): Promise<number> {
  for (const seed of seeds) {
    const outcome = await run(stormOf(seed), { mutation: mutant.mutation });
    if (catches(mutant, outcome)) return seed;
  }
  return Infinity;
}

function upTo(last: number): readonly number[] {
  return Array.from({ length: last }, (_, i) => i + 1);
}

describe('a controller that', { timeout: LIMIT_MS }, () => {
  test.each(MUTANTS.map((mutant) => [mutant.does, mutant] as const))(
    '%s is caught by the invariant it breaks',
    async (does, mutant) => {
      // Known from earlier runs; only where it has changed are the others asked.
      const known = await caughtBy(mutant, [mutant.storm]);
      const storm = known === Infinity ? await caughtBy(mutant, upTo(STORMS)) : known;
      expect(storm).toBeLessThanOrEqual(STORMS);
      if (known === Infinity) console.log(`a controller that ${does} is caught by storm ${storm}`);
    },
  );
});

describe(
  'while no process dies, that invariant is kept by a controller that',
  { timeout: LIMIT_MS },
  () => {
    const hidden = MUTANTS.filter(({ needsCrashes }) => needsCrashes === true);

    test.each(hidden.map((mutant) => [mutant.does, mutant] as const))('%s', async (_, mutant) => {
      for (const seed of [mutant.storm, ...upTo(CALM_STORMS)]) {
        const options = { mutation: mutant.mutation, hasCrashes: false };
        const outcome = await run(withoutCrashes(stormOf(seed)), options);
        expect(catches(mutant, outcome), `storm ${seed}`).toBe(false);
      }
    });

    test('at least four of them, and of all at least one for each invariant', () => {
      expect(new Set(MUTANTS.map(({ breaks }) => breaks)).size).toBe(INVARIANTS);
      expect(hidden.length).toBeGreaterThanOrEqual(4);
      expect(MUTANTS.length).toBeGreaterThanOrEqual(12);
    });
  },
);
