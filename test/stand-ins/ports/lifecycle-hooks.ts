import type { Clock } from '../../../src/clock.ts';
import type { HookAction, HookAnswer, LifecycleHooks } from '../../../src/drain/lifecycle-hooks.ts';
import { Gate } from './gate.ts';
import type { Line } from './line.ts';

type Action = {
  readonly group: string;
  readonly hook: string;
  readonly instanceId: string;
  readonly timeoutSeconds: number;
  expiresAt: number;
  completedAt: number | undefined;
};

/** Auto Scaling, as far as lifecycle actions of terminating instances go. */
export class FakeAutoScaling {
  /** Timeouts of hooks, by `group/hook`. */
  readonly timeouts = new Map<string, number>();
  private readonly actions = new Map<string, Action>();
  private readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** A hook's action begins, as the event that is sent of it says. */
  begin(action: HookAction, timeoutSeconds: number): void {
    this.timeouts.set(`${action.group}/${action.hook}`, timeoutSeconds);
    this.actions.set(action.token, {
      ...action,
      timeoutSeconds,
      expiresAt: this.clock.now() + timeoutSeconds * 1000,
      completedAt: undefined,
    });
  }

  /** When an action was completed (not: expired); undefined: it was not. */
  completedAt(token: string): number | undefined {
    return this.actions.get(token)?.completedAt;
  }

  /** When an action expires by itself as things stand; undefined: it is completed, or there is none. */
  expiresAt(token: string): number | undefined {
    const action = this.actions.get(token);
    return action?.completedAt === undefined ? action?.expiresAt : undefined;
  }

  complete(action: HookAction): HookAnswer {
    const active = this.active(action);
    if (active === undefined) return over;
    active.completedAt = this.clock.now();
    return { outcome: 'accepted' };
  }

  heartbeat(action: HookAction): HookAnswer {
    const active = this.active(action);
    if (active === undefined) return over;
    active.expiresAt = this.clock.now() + active.timeoutSeconds * 1000;
    return { outcome: 'accepted' };
  }

  private active({ group, hook, token, instanceId }: HookAction): Action | undefined {
    const action = this.actions.get(token);
    if (action?.group !== group || action.hook !== hook || action.instanceId !== instanceId) {
      return undefined;
    }
    const isOver = action.completedAt !== undefined || action.expiresAt <= this.clock.now();
    return isOver ? undefined : action;
  }
}

const over: HookAnswer = { outcome: 'over', message: 'No active Lifecycle Action found' };

type Description = Awaited<ReturnType<LifecycleHooks['describe']>>;

/** One process's way to Auto Scaling. */
export class FakeLifecycleHooks implements LifecycleHooks {
  readonly completions: Gate<[action: HookAction], HookAnswer>;
  readonly heartbeats: Gate<[action: HookAction], HookAnswer>;
  readonly descriptions: Gate<[group: string, hook: string], Description>;
  readonly replacements: Gate<[instanceId: string], HookAnswer>;
  private readonly autoScaling: FakeAutoScaling;

  constructor(line: Line, autoScaling: FakeAutoScaling) {
    this.completions = new Gate(line);
    this.heartbeats = new Gate(line);
    this.descriptions = new Gate(line);
    this.replacements = new Gate(line);
    this.autoScaling = autoScaling;
  }

  complete(...[action, signal]: Parameters<LifecycleHooks['complete']>) {
    return this.completions.pass([action], () => this.autoScaling.complete(action), signal);
  }

  heartbeat(...[action, signal]: Parameters<LifecycleHooks['heartbeat']>) {
    return this.heartbeats.pass([action], () => this.autoScaling.heartbeat(action), signal);
  }

  replace(...[instanceId, signal]: Parameters<LifecycleHooks['replace']>) {
    return this.replacements.pass([instanceId], () => ({ outcome: 'accepted' }), signal);
  }

  describe(...[group, hook, signal]: Parameters<LifecycleHooks['describe']>) {
    return this.descriptions.pass(
      [group, hook],
      (): Description => {
        const timeoutSeconds = this.autoScaling.timeouts.get(`${group}/${hook}`);
        if (timeoutSeconds === undefined) {
          return { outcome: 'unknown', denied: false, message: 'no such hook' };
        }
        return { outcome: 'found', timeoutSeconds, terminateHooksInGroup: [hook] };
      },
      signal,
    );
  }
}
