import type { Clock } from '../clock.ts';
import type { LifecycleHooks } from '../drain/lifecycle-hooks.ts';
import type { LaunchHook } from '../events/event.ts';
import { isLeftToOwner, type Policy } from '../plan/policy.ts';
import type { Report } from '../report/report.ts';
import type { NodeIndex } from './node-store.ts';

export type LaunchVerdict =
  | Readonly<{
      end: 'over';
      outcome:
        | 'hook-completed'
        | 'hook-not-ours'
        | 'hook-expired'
        | 'not-selected'
        | 'left-to-owner'
        | 'not-in-this-cluster';
    }>
  /** Judged again at that moment, or when its Node changes. */
  | Readonly<{ end: 'held'; event: LaunchHook; againAt: number }>;

export type LaunchPolicy = Policy &
  Readonly<{
    /** COMPLETE_UNKNOWN_HOOKS */
    completeUnknownHooks: boolean;
  }>;

type Ports = Readonly<{
  nodes: NodeIndex;
  hooks: Pick<LifecycleHooks, 'complete' | 'describe'>;
  clock: Clock;
  report: Report;
}>;

/** Half of the time for which a held message is hidden. */
export const LOOK_AGAIN_MS = 30_000;
const FIRST_RETRY_MS = 1000;
/** A failed completion is repeated after this part of the event's age, so that storms thin out. */
const RETRY_AFTER_PART = 8;
/**
 * Assumed of a hook that may not be described, as of one made without a timeout: to complete too
 * late is refused, to give up too early would fail the launch.
 */
const UNDESCRIBED_TIMEOUT_SECONDS = 3600;

/**
 * Launch hooks: CONTINUE when the instance's node is Ready, so that the group counts it in only then.
 * On the way into a warm pool there is nothing to wait for. They never mark a node; the message is
 * their only record. https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html
 */
export class LaunchHooks {
  private timeoutUnknownTold = false;
  private readonly ports: Ports;
  private readonly policy: LaunchPolicy;

  constructor(ports: Ports, policy: LaunchPolicy) {
    this.ports = ports;
    this.policy = policy;
  }

  /** Rejects only by the signal. */
  async judge(event: LaunchHook, signal: AbortSignal): Promise<LaunchVerdict> {
    const { nodes, clock } = this.ports;
    if (!this.policy.isOurHook(event.group, event.hook)) {
      return { end: 'over', outcome: 'hook-not-ours' };
    }
    const [node, other] = nodes.byInstance(event.instanceId);
    if (node !== undefined && other === undefined) {
      if (!node.selected) return { end: 'over', outcome: 'not-selected' };
      if (isLeftToOwner('launch-hook', node, this.policy)) {
        return { end: 'over', outcome: 'left-to-owner' };
      }
    }
    const isDue = this.isDue(event);
    const reason = isDue ? await this.complete(event, signal) : 'not Ready';
    if (reason === undefined) return { end: 'over', outcome: 'hook-completed' };
    const expiresAt = await this.expiryOf(event, signal);
    const now = clock.now();
    if (now >= expiresAt) {
      // Of another cluster's instance, most likely.
      if (node === undefined) return { end: 'over', outcome: 'not-in-this-cluster' };
      this.ports.report.error('lifecycle hook not completed', {
        ...factsOf(event),
        node: node.name,
        reason,
      });
      return { end: 'over', outcome: 'hook-expired' };
    }
    // While its timeout was asked for.
    if (!isDue && this.isDue(event)) return this.judge(event, signal);
    const againMs = isDue ? this.retryMs(event) : LOOK_AGAIN_MS;
    return { end: 'held', event, againAt: Math.min(now + againMs, expiresAt) };
  }

  private isDue({ instanceId, destination }: LaunchHook): boolean {
    const [node, other] = this.ports.nodes.byInstance(instanceId);
    // Of two that claim the instance, one will go.
    if (other !== undefined) return false;
    if (destination !== 'WarmPool') return node?.ready === true;
    return node !== undefined || this.policy.completeUnknownHooks;
  }

  /** Why it was not accepted; undefined: it was, or the action is over. */
  private async complete(event: LaunchHook, signal: AbortSignal): Promise<string | undefined> {
    const { hooks, report } = this.ports;
    const answer = await hooks.complete(event, signal);
    if (answer.outcome !== 'failed') {
      report.info('lifecycle hook completed', { ...factsOf(event), answer: answer.outcome });
      return undefined;
    }
    const facts = { ...factsOf(event), denied: answer.denied, reason: answer.message };
    report.warn('lifecycle hook not yet completed', facts);
    return answer.message;
  }

  private retryMs({ time }: LaunchHook): number {
    const { clock } = this.ports;
    const ageMs = clock.now() - time;
    const delayMs = Math.min(Math.max(ageMs / RETRY_AFTER_PART, FIRST_RETRY_MS), LOOK_AGAIN_MS);
    return delayMs * (0.75 + clock.random() / 4);
  }

  private async expiryOf(event: LaunchHook, signal: AbortSignal): Promise<number> {
    const { hooks, report } = this.ports;
    const described = await hooks.describe(event.group, event.hook, signal);
    if (described.outcome === 'found') return event.time + described.timeoutSeconds * 1000;
    if (described.outcome === 'unknown' && described.denied && !this.timeoutUnknownTold) {
      this.timeoutUnknownTold = true;
      report.warn('lifecycle hook timeout unknown', {
        group: event.group,
        hook: event.hook,
        assumedSeconds: UNDESCRIBED_TIMEOUT_SECONDS,
        reason: described.message,
      });
    }
    return event.time + UNDESCRIBED_TIMEOUT_SECONDS * 1000;
  }
}

function factsOf({ instanceId, group, hook }: LaunchHook): Record<string, unknown> {
  return { instance: instanceId, group, hook };
}
