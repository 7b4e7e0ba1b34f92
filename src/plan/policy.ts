import type { Interruption } from './interruption.ts';
import type { Journal } from './journal.ts';
import type { NodeView } from './node.ts';
import { isEmergency, type InterruptionKind } from './rows.ts';

/** What to do about a kind of interruption, the weakest first. */
export const ACTIONS = [
  /** Nothing: neither marks nor completed hooks. */
  'ignore',
  /** That taint only. */
  'prefer-no-schedule',
  /** All marks, no evictions. */
  'cordon',
  'drain',
] as const;
export type Action = (typeof ACTIONS)[number];

/** So many nodes, or so many of a hundred selected ones. */
export type DrainLimit = Readonly<{ nodes: number }> | Readonly<{ percent: number }>;

/** What the options ask of planning; see docs/options.md. */
export type Policy = Readonly<{
  /** SPOT_INTERRUPTION_ACTION and its like. */
  actions: Readonly<Record<InterruptionKind, Action>>;
  /** MANAGED_NODES */
  managedNodes: 'assist' | 'handle' | 'ignore';
  /** DEADLINE_MARGIN_SECONDS: what must be over this long before a deadline. */
  marginMs: number;
  /** DISRUPTION_BUDGETS */
  budgets: 'until-deadline' | 'always';
  /** POD_GRACE_SECONDS: upper limit of the grace we send; undefined: the pod's own. */
  podGraceSeconds: number | undefined;
  /** TERMINATE_HOOK_DRAIN_SECONDS: window of a terminate hook of ours, if longer than its timeout. */
  terminateHookDrainSeconds: number | undefined;
  /** AFTER_VOLUNTARY_DRAIN */
  afterVoluntaryDrain: 'keep' | 'replace';
  /** VOLUNTARY_DRAIN_LIMIT */
  voluntaryDrainLimit: DrainLimit;
  /** SCHEDULED_CHANGE_LEAD_SECONDS */
  scheduledChangeLeadMs: number;
  /** OUT_OF_SERVICE_TAINT */
  outOfServiceTaint: boolean;
  /** EXCLUDE_FROM_LOAD_BALANCERS */
  excludeFromLoadBalancers: boolean;
  /** HOOKS is, or has in it, `*`. */
  everyHookIsOurs: boolean;
  /** HOOKS: whether a lifecycle hook is ours to complete and to keep alive. */
  isOurHook: (group: string, hook: string) => boolean;
}>;

export function strongestAction(actions: readonly Action[]): Action {
  return ACTIONS.findLast((action) => actions.includes(action)) ?? 'ignore';
}

/** Whether news of this kind is left to whoever manages the node (MANAGED_NODES). */
export function isLeftToOwner(
  kind: InterruptionKind | 'launch-hook',
  { manager }: Pick<NodeView, 'manager'>,
  { managedNodes }: Policy,
): boolean {
  if (manager === undefined) return false;
  switch (managedNodes) {
    case 'handle':
      return false;
    case 'assist':
      return kind === 'rebalance' || kind === 'terminate-hook' || kind === 'launch-hook';
    case 'ignore':
      return true;
    default:
      throw new Error(`unexpected setting: ${JSON.stringify(managedNodes satisfies never)}`);
  }
}

/** Whether its lifecycle hook is ours to complete, and not known to be completed. */
export function hasOpenHook({ kind, hook }: Interruption, policy: Policy): boolean {
  return (
    hook !== undefined &&
    hook.completedAt === undefined &&
    policy.actions[kind] !== 'ignore' &&
    policy.isOurHook(hook.group, hook.name)
  );
}

/**
 * Whether the drained instance is to be replaced: for what may happen to it, or for failing hardware.
 * In an emergency it goes by itself.
 */
export function callsForReplacement({ live }: Journal, policy: Policy): boolean {
  if (policy.afterVoluntaryDrain === 'keep') return false;
  if (live.some(({ kind }) => isEmergency(kind))) return false;
  return live.some(
    ({ kind, row, begunAt }) =>
      (row === 'rebalance' || row === 'retirement') &&
      begunAt !== undefined &&
      policy.actions[kind] === 'drain',
  );
}
