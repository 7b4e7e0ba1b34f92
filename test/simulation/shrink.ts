import type { InvariantName } from './invariants.ts';
import { run, type Outcome } from './run.ts';
import type { Storm } from './storm.ts';
import type { WorldOptions } from './world.ts';

type Part =
  | 'interruptions'
  | 'noise'
  | 'meddlings'
  | 'faults'
  | 'watchFaults'
  | 'crashes'
  | 'freezes'
  | 'restarts'
  | 'workloads'
  | 'nodes';

/** The largest first: each may make the next superfluous. */
const PARTS: readonly Part[] = [
  'noise',
  'faults',
  'watchFaults',
  'crashes',
  'freezes',
  'restarts',
  'meddlings',
  'interruptions',
  'nodes',
  'workloads',
];

const MOST_RUNS = 400;

/**
 * A smaller storm that breaks the same invariant: whole lists left out first, then halves, then
 * single members, until nothing more can go.
 */
export async function shrink(
  storm: Storm,
  invariant: InvariantName,
  options: WorldOptions,
): Promise<Storm> {
  let smallest = storm;
  let runsLeft = MOST_RUNS;
  /** Whether it is as bad; then it is the smallest so far. */
  const take = async (candidate: Storm): Promise<boolean> => {
    if (runsLeft === 0) return false;
    runsLeft -= 1;
    const { violations } = await run(candidate, options);
    const isAsBad = violations.some((violation) => violation.invariant === invariant);
    if (isAsBad) smallest = candidate;
    return isAsBad;
  };
  const without = async (part: Part, size: number): Promise<void> => {
    let from = 0;
    while (from < smallest[part].length) {
      const last = from + size;
      const members = smallest[part].filter((_, i) => i < from || i >= last);
      if (!(await take({ ...smallest, [part]: members }))) from = last;
    }
  };
  let before: Storm | undefined;
  while (before !== smallest) {
    before = smallest;
    for (const part of PARTS) {
      for (let size = smallest[part].length; size >= 1; size = Math.floor(size / 2)) {
        await without(part, size);
      }
    }
    for (const [i, { copies }] of smallest.interruptions.entries()) {
      const interruption = smallest.interruptions[i];
      if (copies.length < 2 || interruption === undefined) continue;
      const fewer = { ...interruption, copies: copies.slice(0, 1) };
      await take({ ...smallest, interruptions: smallest.interruptions.with(i, fewer) });
    }
  }
  return smallest;
}

/** For people: what broke, how it came about, and how to see it again. */
export function tell(storm: Storm, outcome: Outcome, command: string): string {
  const { nodes, interruptions, noise, faults, crashes } = storm;
  const [violation] = outcome.violations;
  return [
    ...outcome.timeline,
    '',
    `seed ${storm.seed}: ${violation?.invariant ?? 'nothing'} is broken ${((violation?.at ?? 0) / 1000).toFixed(3)} s after the beginning:`,
    `  ${violation?.says ?? ''}`,
    `${nodes.length} nodes, ${interruptions.length} interruptions, ${noise.length} other events, ${faults.length} faults, ${crashes.length} crashes`,
    `again: ${command}`,
  ].join('\n');
}
