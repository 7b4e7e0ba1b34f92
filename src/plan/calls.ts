import type { Interruption } from './interruption.ts';
import { strongestAction, type Action, type Policy } from './policy.ts';
import { isEmergency } from './rows.ts';

/** Whether it is paced and its turn has not come. */
export function isWaiting({ kind, begunAt }: Interruption): boolean {
  return !isEmergency(kind) && begunAt === undefined;
}

/** What one interruption calls for now: one that waits only asks that nothing new settles there. */
function callOf(interruption: Interruption, policy: Policy): Action {
  const action = policy.actions[interruption.kind];
  return isWaiting(interruption) && action !== 'ignore' ? 'prefer-no-schedule' : action;
}

/** The strongest call wins. */
export function strongestCall(live: readonly Interruption[], policy: Policy): Action {
  return strongestAction(live.map((interruption) => callOf(interruption, policy)));
}

/** Whether it calls for its action now; of those that do not, none is waited for. */
export function isCalling(interruption: Interruption, policy: Policy): boolean {
  return !isWaiting(interruption) && policy.actions[interruption.kind] !== 'ignore';
}
