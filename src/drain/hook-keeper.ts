import { pause, type Clock, type Timer } from '../clock.ts';
import {
  hookExpiresAt,
  hookLimitAt,
  LONGEST_HOOK_MS,
  UNDESCRIBED_HOOK_TIMEOUT_SECONDS,
  type Plan,
} from '../plan/deadline.ts';
import type { Interruption, InterruptionHook } from '../plan/interruption.ts';
import type { Journal } from '../plan/journal.ts';
import type { NodeView } from '../plan/node.ts';
import { hasOpenHook, type Policy } from '../plan/policy.ts';
import type { ObjectEvents } from '../report/object-events.ts';
import type { Report } from '../report/report.ts';
import { watched, type Watchdog } from '../watchdog.ts';
import type { HookAdvice } from './hook-advice.ts';
import type { Journals } from './journals.ts';
import type { HookAction, LifecycleHooks } from './lifecycle-hooks.ts';

type Ports = Readonly<{
  hooks: LifecycleHooks;
  advice: HookAdvice;
  journals: Journals;
  nodeOf: (nodeName: string) => NodeView | undefined;
  objectEvents: ObjectEvents;
  clock: Clock;
  watchdog: Watchdog;
  report: Report;
}>;

type Hooked = Interruption & Readonly<{ hook: InterruptionHook }>;

const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 30_000;

/**
 * The lifecycle hooks of one node's interruptions: learns their timeouts, keeps ours alive as long
 * as the plan outlasts them, and completes ours, each with its token and this node's instance ID.
 * https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks-overview.html
 */
export class HookKeeper {
  private readonly described = new Set<string>();
  private readonly beats = new Map<string, { at: number; timer: Timer | undefined }>();
  /** The plan's deadline: hooks of ours are to live that long. */
  private neededUntil: number | undefined;
  /** Tokens that are done with, whatever the journal says yet. */
  private readonly done = new Set<string>();
  private instanceId = '';
  private readonly nodeName: string;
  private readonly ports: Ports;
  private readonly policy: Policy;
  private readonly ended = new AbortController();
  private readonly signal: AbortSignal;

  constructor(nodeName: string, ports: Ports, policy: Policy, signal: AbortSignal) {
    this.nodeName = nodeName;
    this.ports = ports;
    this.policy = policy;
    this.signal = AbortSignal.any([signal, this.ended.signal]);
  }

  /** To be called with every change of journal or plan. */
  follow(journal: Journal, plan: Plan | undefined): void {
    this.instanceId = journal.machine.instanceId;
    this.neededUntil = plan?.deadlineAt;
    this.forgetAllBut(new Set(journal.live.map(({ hook }) => hook?.token)));
    for (const interruption of journal.live) {
      if (!isHooked(interruption)) continue;
      const { hook } = interruption;
      if (hook.timeoutSeconds === undefined && !this.described.has(hook.token)) {
        this.described.add(hook.token);
        void this.describe(hook);
      }
      if (this.isOurs(interruption)) this.keepAlive(interruption);
    }
  }

  private forgetAllBut(live: ReadonlySet<string | undefined>): void {
    for (const tokens of [this.described, this.done]) {
      for (const token of tokens) if (!live.has(token)) tokens.delete(token);
    }
    for (const [token, { timer }] of this.beats) {
      if (live.has(token)) continue;
      timer?.cancel();
      this.beats.delete(token);
    }
  }

  /** Hooks of ours that still wait for their completion. */
  left(journal: Journal): readonly Hooked[] {
    return journal.live.filter((entry): entry is Hooked => isHooked(entry) && this.isOurs(entry));
  }

  /** When the first of the hooks that are left expires, heartbeats included; Infinity: none, or not known. */
  leftUntil(journal: Journal): number {
    return Math.min(...this.left(journal).map((entry) => this.livesUntil(entry) ?? Infinity));
  }

  /**
   * Completes each until it is accepted or over, or the window has ended after a first try; stops
   * asking when there is something to do before.
   */
  async completeAll(
    journal: () => Journal,
    windowEnd: () => number,
    mayGoOn: () => boolean,
  ): Promise<void> {
    for (;;) {
      const left = this.left(journal());
      if (left.length === 0 || this.signal.aborted || !mayGoOn()) return;
      await Promise.all(left.map((entry) => this.complete(entry, windowEnd, mayGoOn)));
    }
  }

  stop(): void {
    this.ended.abort(new Error('the drain has ended'));
    for (const { timer } of this.beats.values()) timer?.cancel();
    this.beats.clear();
  }

  private isOurs(entry: Hooked): boolean {
    return hasOpenHook(entry, this.policy) && !this.done.has(entry.hook.token);
  }

  private async complete(
    entry: Hooked,
    windowEnd: () => number,
    mayGoOn: () => boolean,
  ): Promise<void> {
    const { hook } = entry;
    const told = { group: hook.group, hook: hook.name };
    const limitAt = hookLimitAt(entry) ?? entry.time + LONGEST_HOOK_MS;
    const endAt = (): number => Math.min(windowEnd(), limitAt);
    const { clock, hooks, nodeOf, objectEvents, report } = this.ports;
    let retryMs = FIRST_RETRY_MS;
    let isTold = false;
    while (!this.signal.aborted && mayGoOn()) {
      const answer = await this.ask(() => hooks.complete(this.actionOf(hook), this.signal));
      if (answer === undefined) return;
      const facts = this.factsOf(hook);
      if (answer.outcome !== 'failed') {
        this.finish(hook.token);
        report.info('lifecycle hook completed', { ...facts, answer: answer.outcome });
        objectEvents.onNode(nodeOf(this.nodeName), 'LifecycleHookCompleted', told);
        // Should this be lost, the next process asks again and is told that the action is over.
        await this.ports.journals.apply(this.nodeName, {
          type: 'hook-completed',
          token: hook.token,
        });
        return;
      }
      if (clock.now() >= endAt()) {
        this.finish(hook.token);
        const why = answer.message;
        report.error('lifecycle hook not completed', { ...facts, reason: why });
        objectEvents.onNode(nodeOf(this.nodeName), 'LifecycleHookNotCompleted', { ...told, why });
        return;
      }
      if (!isTold) {
        report.warn('lifecycle hook not yet completed', {
          ...facts,
          denied: answer.denied,
          reason: answer.message,
        });
      }
      isTold = true;
      const untilEndMs = Math.max(0, endAt() - clock.now());
      await pause(clock, Math.min(retryMs * (0.75 + clock.random() / 2), untilEndMs), this.signal);
      retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
    }
  }

  private finish(token: string): void {
    this.done.add(token);
    this.beats.get(token)?.timer?.cancel();
    this.beats.delete(token);
  }

  private async describe(hook: InterruptionHook): Promise<void> {
    const { clock, hooks, journals, advice } = this.ports;
    let retryMs = FIRST_RETRY_MS;
    while (!this.signal.aborted) {
      const answer = await this.ask(() => hooks.describe(hook.group, hook.name, this.signal));
      if (answer === undefined) return;
      if (answer.outcome !== 'failed') {
        let timeoutSeconds = UNDESCRIBED_HOOK_TIMEOUT_SECONDS;
        if (answer.outcome === 'found') {
          ({ timeoutSeconds } = answer);
          advice.severalHooks(hook.group, answer.terminateHooksInGroup);
        } else advice.timeoutUnknown(this.actionOf(hook), timeoutSeconds, answer);
        const written = await journals.apply(this.nodeName, {
          type: 'hook-described',
          token: hook.token,
          timeoutSeconds,
        });
        if (written.outcome !== 'unreachable') return;
      }
      await pause(clock, retryMs, this.signal);
      retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
    }
  }

  /** Heartbeats at half the timeout, while the window outlasts the hook. */
  private keepAlive(entry: Hooked): void {
    const { clock } = this.ports;
    const { neededUntil } = this;
    const { hook } = entry;
    const aliveUntil = this.livesUntil(entry);
    if (hook.timeoutSeconds === undefined || aliveUntil === undefined) return;
    const timeoutMs = hook.timeoutSeconds * 1000;
    const beat = this.beats.get(hook.token);
    const limitAt = hookLimitAt(entry) ?? Infinity;
    if (neededUntil === undefined || neededUntil <= aliveUntil || clock.now() >= limitAt) {
      beat?.timer?.cancel();
      if (beat !== undefined) beat.timer = undefined;
      return;
    }
    if (beat?.timer !== undefined) return;
    const nextAt = (beat?.at ?? entry.time) + timeoutMs / 2;
    this.scheduleBeat(entry, beat?.at ?? entry.time, nextAt - clock.now(), FIRST_RETRY_MS);
  }

  /** Undefined until its timeout is known. */
  private livesUntil(entry: Hooked): number | undefined {
    const { timeoutSeconds, token } = entry.hook;
    const beat = this.beats.get(token);
    if (timeoutSeconds === undefined || beat === undefined) return hookExpiresAt(entry);
    return Math.min(beat.at + timeoutSeconds * 1000, hookLimitAt(entry) ?? Infinity);
  }

  private isNeeded(entry: Hooked): boolean {
    const now = this.ports.clock.now();
    return now < (this.neededUntil ?? -Infinity) && now < (hookLimitAt(entry) ?? Infinity);
  }

  private scheduleBeat(entry: Hooked, lastAt: number, delayMs: number, retryMs: number): void {
    const timer = this.ports.clock.after(Math.max(0, delayMs), () => {
      void this.beat(entry, lastAt, retryMs);
    });
    this.beats.set(entry.hook.token, { at: lastAt, timer });
  }

  private async beat(entry: Hooked, lastAt: number, retryMs: number): Promise<void> {
    const { clock, hooks, report } = this.ports;
    const { hook } = entry;
    const answer = await this.ask(() => hooks.heartbeat(this.actionOf(hook), this.signal));
    if (answer === undefined || !this.isOurs(entry) || !this.beats.has(hook.token)) return;
    const facts = this.factsOf(hook);
    switch (answer.outcome) {
      case 'accepted':
        report.info('lifecycle hook kept alive', facts);
        this.beats.set(hook.token, { at: clock.now(), timer: undefined });
        this.keepAlive(entry);
        return;
      case 'over':
        report.warn('lifecycle hook over', { ...facts, reason: answer.message });
        this.finish(hook.token);
        await this.ports.journals.apply(this.nodeName, {
          type: 'hook-completed',
          token: hook.token,
        });
        return;
      case 'failed':
        report.warn('lifecycle hook not kept alive', { ...facts, reason: answer.message });
        if (!this.isNeeded(entry)) return;
        this.scheduleBeat(
          entry,
          lastAt,
          retryMs * (1 + clock.random()),
          Math.min(retryMs * 2, MAX_RETRY_MS),
        );
        return;
      default:
        throw new Error(`unexpected answer: ${JSON.stringify(answer satisfies never)}`);
    }
  }

  /** Undefined: we are stopping. */
  private async ask<Answer>(request: () => Promise<Answer>): Promise<Answer | undefined> {
    const what = `hooks of node ${this.nodeName}`;
    try {
      return await watched(this.ports.watchdog, 'drain', what, request);
    } catch (error) {
      if (!this.signal.aborted) throw error;
      return undefined;
    }
  }

  private actionOf(hook: InterruptionHook): HookAction {
    return { group: hook.group, hook: hook.name, token: hook.token, instanceId: this.instanceId };
  }

  private factsOf(hook: InterruptionHook): Record<string, unknown> {
    return { node: this.nodeName, instance: this.instanceId, group: hook.group, hook: hook.name };
  }
}

function isHooked(entry: Interruption): entry is Hooked {
  return entry.hook !== undefined;
}
