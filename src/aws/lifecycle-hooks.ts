import {
  AutoScalingClient,
  CompleteLifecycleActionCommand,
  DescribeLifecycleHooksCommand,
  RecordLifecycleActionHeartbeatCommand,
  TerminateInstanceInAutoScalingGroupCommand,
} from '@aws-sdk/client-auto-scaling';
import { bounded, unlessAborted } from '../abort.ts';
import type { Clock } from '../clock.ts';
import type { HookAction, HookAnswer, LifecycleHooks } from '../drain/lifecycle-hooks.ts';
import type { Metrics } from '../report/metrics.ts';
import { UNWATCHED, type Watchdog } from '../watchdog.ts';
import { failureOf } from './errors.ts';
import { clientDefaults, measured, Slots } from './requests.ts';

export interface OpenLifecycleHooks extends LifecycleHooks {
  /** Cuts what is under way. */
  close(): void;
}

type LifecycleHooksOptions = Readonly<{
  region: string;
  clock: Clock;
  metrics?: Metrics;
  watchdog?: Watchdog;
  /** Groups whose hooks are remembered. */
  mostGroups?: number;
}>;

/** Lifecycle hooks of EC2 Auto Scaling; sends nothing before the first call. */
export function createLifecycleHooks(options: LifecycleHooksOptions): OpenLifecycleHooks {
  return new AutoScalingHooks(options);
}

type Description = Awaited<ReturnType<LifecycleHooks['describe']>>;
type Hook = Readonly<{ timeoutSeconds: number; terminates: boolean }>;
/** What is known of a group: its hooks by name, or why nothing is. */
type Group =
  | Readonly<{ outcome: 'found'; hooks: ReadonlyMap<string, Hook> }>
  | Exclude<Description, { outcome: 'found' }>;
type Known = Readonly<{
  group: Group;
  at: number;
  /** Hooks that were looked for in this very answer, and are not in it. */
  missed: Set<string>;
}>;

const REQUEST_LIMIT_MS = 5000;
/** Auto Scaling throttles soon. */
const MOST_UNDER_WAY = 16;

/** How long an answer holds. */
const FRESH_MS = { found: 10 * 60_000, unknown: 30_000, failed: 2000 };
/** How soon a group is looked at again for a hook that it did not have when it was looked for. */
const NEW_HOOK_MS = 15_000;
const MOST_MISSED = 100;

class AutoScalingHooks implements OpenLifecycleHooks {
  private readonly client: AutoScalingClient;
  private readonly clock: Clock;
  private readonly metrics: Metrics | undefined;
  private readonly mostGroups: number;
  private readonly slots: Slots;
  private readonly known = new Map<string, Known>();
  private readonly lookUps = new Map<string, Promise<Group>>();
  private readonly closing = new AbortController();

  constructor({
    region,
    clock,
    metrics,
    watchdog = UNWATCHED,
    mostGroups = 1000,
  }: LifecycleHooksOptions) {
    this.metrics = metrics;
    this.slots = new Slots(MOST_UNDER_WAY, clock, watchdog, 'Auto Scaling requests');
    this.client = new AutoScalingClient(clientDefaults(region));
    this.clock = clock;
    this.mostGroups = mostGroups;
  }

  complete(action: HookAction, signal: AbortSignal): Promise<HookAnswer> {
    const command = new CompleteLifecycleActionCommand({
      ...namesOf(action),
      LifecycleActionResult: 'CONTINUE',
    });
    return this.act('CompleteLifecycleAction', signal, (abortSignal) =>
      this.client.send(command, { abortSignal }),
    );
  }

  heartbeat(action: HookAction, signal: AbortSignal): Promise<HookAnswer> {
    const command = new RecordLifecycleActionHeartbeatCommand(namesOf(action));
    return this.act('RecordLifecycleActionHeartbeat', signal, (abortSignal) =>
      this.client.send(command, { abortSignal }),
    );
  }

  replace(instanceId: string, signal: AbortSignal): Promise<HookAnswer> {
    const command = new TerminateInstanceInAutoScalingGroupCommand({
      InstanceId: instanceId,
      ShouldDecrementDesiredCapacity: false,
    });
    return this.act('TerminateInstanceInAutoScalingGroup', signal, (abortSignal) =>
      this.client.send(command, { abortSignal }),
    );
  }

  async describe(name: string, hookName: string, signal: AbortSignal): Promise<Description> {
    signal.throwIfAborted();
    const group = await this.groupOf(name, hookName, signal);
    if (group.outcome !== 'found') return group;
    const hook = group.hooks.get(hookName);
    if (hook === undefined) {
      const message = `the group has no lifecycle hook ${hookName}`;
      return { outcome: 'unknown', denied: false, message };
    }
    return {
      outcome: 'found',
      timeoutSeconds: hook.timeoutSeconds,
      terminateHooksInGroup: [...group.hooks].flatMap(([other, { terminates }]) =>
        terminates ? [other] : [],
      ),
    };
  }

  close(): void {
    this.closing.abort(new Error('lifecycle hooks are closed'));
    this.client.destroy();
  }

  private async act(
    operation: string,
    signal: AbortSignal,
    send: (signal: AbortSignal) => Promise<unknown>,
  ): Promise<HookAnswer> {
    signal.throwIfAborted();
    try {
      await this.send(operation, [signal], send);
      return { outcome: 'accepted' };
    } catch (error) {
      signal.throwIfAborted();
      const { kind, code, message } = failureOf(error);
      // "No active Lifecycle Action found", mostly; whatever else is not valid, such as a group that
      // is gone, will not become so. ScalingActivityInProgress: the instance is on its way out.
      if (code === 'ValidationError' || code.startsWith('ScalingActivityInProgress'))
        return { outcome: 'over', message };
      return { outcome: 'failed', denied: kind === 'denied', message: `${code}: ${message}` };
    }
  }

  private async groupOf(name: string, hookName: string, signal: AbortSignal): Promise<Group> {
    const known = this.known.get(name);
    if (known !== undefined) {
      const { group, at, missed } = known;
      const isMissing = group.outcome === 'found' && !group.hooks.has(hookName);
      // Made since that answer, perhaps: only one that was looked for there is known not to be.
      const missingMs = missed.has(hookName) ? NEW_HOOK_MS : 0;
      if (this.clock.now() - at < (isMissing ? missingMs : FRESH_MS[group.outcome])) return group;
    }
    const found = await unlessAborted(this.lookUp(name), signal);
    if (found.outcome === 'found' && !found.hooks.has(hookName)) {
      const missed = this.known.get(name)?.missed;
      if (missed !== undefined && missed.size < MOST_MISSED) missed.add(hookName);
    }
    // What was known of it is worth more than no answer.
    return found.outcome === 'failed' && known?.group.outcome === 'found' ? known.group : found;
  }

  /** One at a time for a group, on behalf of all who ask, so no one of them can abort it. */
  private lookUp(name: string): Promise<Group> {
    const underWay = this.lookUps.get(name) ?? this.describeGroup(name);
    this.lookUps.set(name, underWay);
    return underWay;
  }

  private async describeGroup(name: string): Promise<Group> {
    // All hooks of the group: there are 50 at most, in one answer.
    const command = new DescribeLifecycleHooksCommand({ AutoScalingGroupName: name });
    let group: Group;
    try {
      const { LifecycleHooks = [] } = await this.send('DescribeLifecycleHooks', [], (abortSignal) =>
        this.client.send(command, { abortSignal }),
      );
      const hooks = LifecycleHooks.map(
        (hook) =>
          [
            hook.LifecycleHookName ?? '',
            {
              timeoutSeconds: hook.HeartbeatTimeout ?? DEFAULT_TIMEOUT_SECONDS,
              terminates: hook.LifecycleTransition === 'autoscaling:EC2_INSTANCE_TERMINATING',
            },
          ] as const,
      );
      group = { outcome: 'found', hooks: new Map(hooks) };
    } catch (error) {
      group = withoutAnswer(error);
    }
    this.lookUps.delete(name);
    this.remember(name, group);
    return group;
  }

  private remember(name: string, group: Group): void {
    const before = this.known.get(name);
    if (group.outcome === 'failed' && before?.group.outcome === 'found') return;
    this.known.delete(name);
    this.known.set(name, { group, at: this.clock.now(), missed: new Set() });
    const [oldest] = this.known.keys();
    if (this.known.size > this.mostGroups && oldest !== undefined) this.known.delete(oldest);
  }

  private send<Answer>(
    operation: string,
    signals: readonly AbortSignal[],
    send: (signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer> {
    const all = [this.closing.signal, ...signals];
    return this.slots.run(all, () =>
      measured(this.metrics, 'autoscaling', operation, () =>
        bounded(this.clock, REQUEST_LIMIT_MS, all, send),
      ),
    );
  }
}

/** Of a hook that was made without one. */
const DEFAULT_TIMEOUT_SECONDS = 3600;

function withoutAnswer(error: unknown): Group {
  const { kind, code, message } = failureOf(error);
  const told = `${code}: ${message}`;
  if (kind === 'throttled' || kind === 'unavailable') return { outcome: 'failed', message: told };
  return { outcome: 'unknown', denied: kind === 'denied', message: told };
}

/** The instance too: a token from a forged journal cannot complete another machine's hook. */
function namesOf({ group, hook, token, instanceId }: HookAction) {
  return {
    AutoScalingGroupName: group,
    LifecycleHookName: hook,
    LifecycleActionToken: token,
    InstanceId: instanceId,
  };
}
