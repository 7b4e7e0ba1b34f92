import { describe, expect, it } from 'vitest';
import type { Mutations } from '../stand-ins/kubernetes/registry.ts';
import { runCase } from './case.ts';
import { contractCases } from './kubernetes.contract.ts';
import { startStandInBackend } from './stand-in-backend.ts';

/** What of the contract breaks with each fault; everything else must still hold. */
const brokenBy: Readonly<Record<keyof Mutations, readonly string[]>> = {
  mergeTaintsByKey: [
    'A strategic merge patch of taints replaces the whole list',
    'A taint cannot be deleted by a directive',
  ],
  ignoreUidPreconditions: [
    'A node is not deleted under another uid',
    'A pod is not deleted under another uid or version',
    'An eviction under another uid is 409 and leaves the pod alone',
    'The budget is charged before the uid is compared',
  ],
  never410: [
    'A continue token that has expired is 410, with one to go on without consistency',
    'A list of an exact version that is forgotten is 410',
    'A watch from a version that is forgotten says 410 as an ERROR event, and ends',
  ],
};

async function failuresOf(mutation: keyof Mutations): Promise<string[]> {
  const started = await startStandInBackend({ [mutation]: true });
  const failed: string[] = [];
  try {
    for (const contractCase of contractCases.filter(({ mode }) => mode !== 'slow')) {
      try {
        await runCase(started.backend, expect, contractCase);
      } catch {
        // That it fails is the finding; why is for the run against the stand-in as it should be.
        failed.push(contractCase.name);
      }
    }
  } finally {
    await started.stop();
  }
  return failed;
}

describe('The contract suite sees a Kubernetes API that is wrong', () => {
  it.for(Object.entries(brokenBy))('%s', async ([mutation, broken]) => {
    const failed = await failuresOf(mutation as keyof Mutations);
    expect(failed.toSorted()).toEqual(broken.toSorted());
  });
});
