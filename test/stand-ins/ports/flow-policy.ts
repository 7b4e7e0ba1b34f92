import type { DrainPolicy } from '../../../src/drain/node-drain.ts';
import type { IntakePolicy } from '../../../src/intake/intake.ts';
import { policy } from '../../plan/samples.ts';

/** What the whole flow is run by in virtual time. */
export function flowPolicy(
  changes: Partial<IntakePolicy & DrainPolicy> = {},
): IntakePolicy & DrainPolicy {
  return {
    ...policy(),
    accounts: new Set(['123456789012']),
    unknownInstanceGraceSeconds: 60,
    completeUnknownHooks: false,
    waitForVolumes: true,
    loadBalancerDrainSeconds: 0,
    self: undefined,
    ...changes,
  };
}
