import { isCalling, strongestCall } from './calls.ts';
import type { Interruption } from './interruption.ts';
import type { Journal } from './journal.ts';
import type { Action, Policy } from './policy.ts';
import { isEmergency, rowFacts, type InterruptionKind } from './rows.ts';

/** What one node's live interruptions call for, taken together. Times are epoch milliseconds. */
export type Plan = Readonly<{
  /** Kind of the ruling interruption: value of label and taint. */
  kind: InterruptionKind;
  emergency: boolean;
  /** The strongest of the live interruptions'. */
  action: Exclude<Action, 'ignore'>;
  /** From when to when there is time to empty the node; no deadline: budgets rule for ever. */
  windowStartAt: number;
  deadlineAt: number | undefined;
  /** The system is going down already: a budget that has refused once is not asked again. */
  pastBudgets: boolean;
}>;

/** A machine that gives a sign of life this long after a deadline has outlived it. */
const OUTLIVED_AFTER_MS = 60_000;

/**
 * The timeout that drains assume of a hook that may not be described: short enough to act before
 * most hooks expire, while heartbeats keep those of ours alive.
 */
export const UNDESCRIBED_HOOK_TIMEOUT_SECONDS = 300;

/** Whether a machine lives on past a deadline. `lifeSignAt`: last kubelet Lease renewal of a Ready node. */
export function hasOutlived(deadlineAt: number, lifeSignAt: number | undefined): boolean {
  return lifeSignAt !== undefined && lifeSignAt > deadlineAt + OUTLIVED_AFTER_MS;
}

/** When a hook expires by itself, heartbeats apart; undefined until its timeout is known. */
export function hookExpiresAt(interruption: Interruption): number | undefined {
  const timeoutSeconds = interruption.hook?.timeoutSeconds;
  return timeoutSeconds === undefined ? undefined : interruption.time + timeoutSeconds * 1000;
}

/** AWS keeps an action alive for the smaller of 48 h and 100 times its timeout, heartbeats or not. */
export const LONGEST_HOOK_MS = 48 * 3_600_000;
const LONGEST_HOOK_TIMEOUTS = 100;

/**
 * Beyond this no heartbeat keeps the hook alive; undefined until its timeout is known.
 * https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks-overview.html
 */
export function hookLimitAt(interruption: Interruption): number | undefined {
  const timeoutSeconds = interruption.hook?.timeoutSeconds;
  if (timeoutSeconds === undefined) return undefined;
  return (
    interruption.time + Math.min(LONGEST_HOOK_MS, LONGEST_HOOK_TIMEOUTS * timeoutSeconds * 1000)
  );
}

/** The deadline one interruption sets by itself. */
export function deadlineOf(interruption: Interruption, policy: Policy): number | undefined {
  const { hook } = interruption;
  if (hook === undefined) return interruption.deadlineAt;
  const expiresAt = hookExpiresAt(interruption);
  if (expiresAt === undefined) return undefined;
  const drainSeconds = policy.terminateHookDrainSeconds;
  if (drainSeconds === undefined || !policy.isOurHook(hook.group, hook.name)) return expiresAt;
  const wantedAt = Math.max(expiresAt, interruption.time + drainSeconds * 1000);
  return Math.min(wantedAt, hookLimitAt(interruption) ?? Infinity);
}

const LAST_CALL_MS = 30 * 60_000;

type LeadPolicy = Pick<Policy, 'scheduledChangeLeadMs'>;

/** From when on a paced interruption may be drained for; pace says whether it is. */
export function opensAt(interruption: Interruption, policy: LeadPolicy): number {
  const { row, deadlineAt, recordedAt } = interruption;
  if (!rowFacts(row).hasLead || deadlineAt === undefined) return recordedAt;
  return deadlineAt - policy.scheduledChangeLeadMs;
}

/** From then on a paced interruption is drained for whatever the pace; Infinity: it has no deadline. */
export function lastCallAt({ deadlineAt }: Interruption, policy: LeadPolicy): number {
  if (deadlineAt === undefined) return Infinity;
  return deadlineAt - Math.min(LAST_CALL_MS, policy.scheduledChangeLeadMs);
}

/** Where the window begins that ends with the deadline. */
function windowStartOf(interruption: Interruption, policy: Policy): number {
  return interruption.change === undefined ? interruption.time : opensAt(interruption, policy);
}

/**
 * What waits for its turn sets no deadline for what does not. The earliest deadline rules. Two
 * exceptions: a deadline that the machine has outlived counts for nothing, and a hook of ours that
 * would expire before another emergency's deadline (be it another hook's) is kept alive until then
 * instead of tightening it. Undefined: nothing is live that is not ignored.
 */
export function planOf(
  journal: Journal,
  policy: Policy,
  lifeSignAt: number | undefined,
): Plan | undefined {
  const minded = journal.live.filter(({ kind }) => policy.actions[kind] !== 'ignore');
  const calling = minded.filter((interruption) => isCalling(interruption, policy));
  const rows = (calling.length > 0 ? calling : minded).map((interruption) => {
    const deadlineAt = deadlineOf(interruption, policy);
    return {
      interruption,
      deadlineAt:
        deadlineAt !== undefined && hasOutlived(deadlineAt, lifeSignAt) ? undefined : deadlineAt,
    };
  });
  const lastEmergencyAt = Math.max(
    ...rows.map(({ interruption: { kind, hook }, deadlineAt }) =>
      isEmergency(kind) && hook?.completedAt === undefined ? (deadlineAt ?? -Infinity) : -Infinity,
    ),
  );
  const candidates = rows.flatMap((row) => {
    const { interruption, deadlineAt } = row;
    const { hook } = interruption;
    const isOurs = hook !== undefined && policy.isOurHook(hook.group, hook.name);
    if (!isOurs || deadlineAt === undefined || deadlineAt >= lastEmergencyAt) return [row];
    const limitAt = hookLimitAt(interruption) ?? Infinity;
    return limitAt >= lastEmergencyAt ? [] : [{ interruption, deadlineAt: limitAt }];
  });
  const [ruling] = candidates.toSorted(
    (a, b) =>
      (a.deadlineAt ?? Infinity) - (b.deadlineAt ?? Infinity) ||
      Number(isEmergency(b.interruption.kind)) - Number(isEmergency(a.interruption.kind)) ||
      a.interruption.time - b.interruption.time ||
      (a.interruption.id < b.interruption.id ? -1 : 1),
  );
  const action = strongestCall(minded, policy);
  if (ruling === undefined || action === 'ignore') return undefined;
  return {
    kind: ruling.interruption.kind,
    emergency: rows.some((row) => isEmergency(row.interruption.kind)),
    action,
    windowStartAt: Math.min(
      windowStartOf(ruling.interruption, policy),
      ruling.deadlineAt ?? Infinity,
    ),
    deadlineAt: ruling.deadlineAt,
    pastBudgets: rowFacts(ruling.interruption.row).pastBudgets,
  };
}

/** The moment by which everything must be over. */
export function endOf(plan: Plan, policy: Policy): number | undefined {
  return plan.deadlineAt === undefined ? undefined : plan.deadlineAt - policy.marginMs;
}

/** From when on a pod with this grace goes past its budget; Infinity: never. */
export function forceAt(plan: Plan, policy: Policy, graceSeconds: number): number {
  const endAt = endOf(plan, policy);
  if (plan.deadlineAt === undefined || endAt === undefined) return Infinity;
  if (plan.pastBudgets) return plan.windowStartAt;
  return Math.max(endAt - graceSeconds * 1000, middleOf(plan.windowStartAt, plan.deadlineAt));
}

/**
 * When what hooks wait for is over, done or not: at the deadline, or the margin before it where a hook
 * expires with it and would be completed too late. Infinity: no deadline. `hooksLiveUntil`: the
 * earliest end of those to be completed, heartbeats included; Infinity: none, or not known.
 */
export function hooksDueAt(plan: Plan, policy: Policy, hooksLiveUntil: number): number {
  const endAt = endOf(plan, policy);
  if (plan.deadlineAt === undefined || endAt === undefined) return Infinity;
  if (hooksLiveUntil >= plan.deadlineAt + policy.marginMs) return plan.deadlineAt;
  return Math.max(endAt, middleOf(plan.windowStartAt, plan.deadlineAt));
}

function middleOf(startAt: number, endAt: number): number {
  return startAt + (endAt - startAt) / 2;
}

/** The last moment at which deletion must begin for the whole grace to fit; Infinity: no deadline. */
export function latestSafeStart(plan: Plan, policy: Policy, graceSeconds: number): number {
  const endAt = endOf(plan, policy);
  return endAt === undefined ? Infinity : endAt - graceSeconds * 1000;
}
