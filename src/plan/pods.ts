import { endOf, forceAt, latestSafeStart, type Plan } from './deadline.ts';
import type { PodView } from './pod.ts';
import type { Policy } from './policy.ts';

/** Why a drain leaves a pod alone. */
export type LeaveReason = 'daemonset' | 'mirror' | 'finished';

export function leaveReason(pod: PodView): LeaveReason | undefined {
  if (pod.mirror) return 'mirror';
  if (pod.finished) return 'finished';
  if (pod.owner?.kind === 'DaemonSet') return 'daemonset';
  return undefined;
}

/** Lower tiers leave first: the rest may need the later ones to shut down cleanly. */
export type Tier = 0 | 1 | 2;

const CRITICAL: ReadonlySet<string> = new Set(['system-cluster-critical', 'system-node-critical']);

export function tierOf(
  pod: PodView,
  self: Readonly<{ namespace: string; name: string }> | undefined,
): Tier {
  if (pod.namespace === self?.namespace && pod.name === self.name) return 2;
  return pod.priorityClass !== undefined && CRITICAL.has(pod.priorityClass) ? 1 : 0;
}

/** How far one pod's eviction has come. Times are epoch milliseconds. */
export type Progress = Readonly<{
  /** When the last eviction was refused for this pod's sake; undefined: never. */
  refusedAt: number | undefined;
  /** Back-off after a refusal: no eviction before, except where it may be followed by force. */
  retryAt: number;
  /** Nothing at all is sent before. */
  notBefore: number;
}>;

export const UNTRIED: Progress = { refusedAt: undefined, retryAt: 0, notBefore: 0 };

/** What to do about one pod now. `until` undefined: nothing until something happens. */
export type Step =
  | Readonly<{ do: 'evict'; graceSeconds: number }>
  /** Past its budget. */
  | Readonly<{ do: 'delete'; graceSeconds: number }>
  /** It is terminating, but would outlast the deadline. */
  | Readonly<{ do: 'shorten'; graceSeconds: number }>
  | Readonly<{ do: 'wait'; until: number | undefined }>;

/** What the last tiers keep of the window, however long the earlier ones take. */
const LAST_TIERS_MS = 15_000;

/** Before the end, so that a pod whose grace could not be cut short gets its SIGKILL in time. */
const LAST_CALL_MS = 2_000;

/** The grace a pod gets when nothing hurries. */
export function ownGraceSeconds(pod: PodView, policy: Policy): number {
  return Math.max(1, Math.min(pod.graceSeconds, policy.podGraceSeconds ?? Infinity));
}

/**
 * The next step for one pod. `turn` says whether all earlier tiers are gone: order yields to time,
 * so a pod past its latest safe start goes whatever its tier.
 */
export function nextStep(
  pod: PodView,
  progress: Progress,
  turn: boolean,
  plan: Plan,
  policy: Policy,
  now: number,
): Step {
  if (pod.deletion !== undefined) return stepOfTerminating(pod.deletion, plan, policy, now);
  const ownGrace = ownGraceSeconds(pod, policy);
  const turnAt = turn
    ? -Infinity
    : Math.min(tierOpensAt(plan, policy), latestSafeStart(plan, policy, ownGrace));
  const forcedFrom = policy.budgets === 'always' ? Infinity : forceAt(plan, policy, ownGrace);
  // Only a refusal past that moment counts: an eviction is always tried first.
  const force = progress.refusedAt !== undefined && progress.refusedAt >= forcedFrom;
  // A refused pod is tried again when it may be forced, however long its back-off, and forced at once.
  const triedAt = force ? -Infinity : Math.min(progress.retryAt, forcedFrom);
  const startAt = Math.max(turnAt, triedAt, progress.notBefore);
  if (now < startAt) return { do: 'wait', until: startAt === Infinity ? undefined : startAt };
  return {
    do: force ? 'delete' : 'evict',
    graceSeconds: graceToSend(ownGrace, plan, policy, now),
  };
}

function tierOpensAt(plan: Plan, policy: Policy): number {
  const endAt = endOf(plan, policy);
  if (endAt === undefined) return Infinity;
  return endAt - Math.min(LAST_TIERS_MS, Math.max(0, endAt - plan.windowStartAt) / 2);
}

/** Never longer than the time left, never below 1 s: 0 would remove the object while containers run. */
function graceToSend(ownGrace: number, plan: Plan, policy: Policy, now: number): number {
  const endAt = endOf(plan, policy);
  if (endAt === undefined) return ownGrace;
  return Math.max(1, Math.min(ownGrace, Math.floor((endAt - now) / 1000)));
}

/**
 * The API server counts a new grace from the first deletion, the kubelet from when it sees it: a
 * grace of R given after e < R seconds ends on time, while one that the server finds already past
 * would kill at once, and so must wait for the last moment. R in the whole seconds that are sent.
 */
function stepOfTerminating(
  deletion: NonNullable<PodView['deletion']>,
  plan: Plan,
  policy: Policy,
  now: number,
): Step {
  const endAt = endOf(plan, policy);
  if (plan.deadlineAt === undefined || endAt === undefined) return { do: 'wait', until: undefined };
  if (deletion.endsAt <= endAt || now >= plan.deadlineAt) return { do: 'wait', until: undefined };
  const sinceMs = now - (deletion.endsAt - deletion.graceSeconds * 1000);
  const graceSeconds = Math.floor((endAt - now) / 1000);
  if (graceSeconds >= 1 && sinceMs < graceSeconds * 1000) return { do: 'shorten', graceSeconds };
  const lastCallAt = endAt - LAST_CALL_MS;
  if (now < lastCallAt) return { do: 'wait', until: lastCallAt };
  // A second is the shortest, and begins no earlier than now.
  const isShortest = deletion.graceSeconds <= 1 || deletion.endsAt <= now + 1000;
  return isShortest ? { do: 'wait', until: undefined } : { do: 'shorten', graceSeconds: 1 };
}
