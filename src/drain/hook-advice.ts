import type { Policy } from '../plan/policy.ts';
import type { Report } from '../report/report.ts';

const MAX_TOLD = 1000;

/** What people should know of hooks and groups, each thing told once in a process's life. */
export class HookAdvice {
  private readonly told = new Set<string>();
  private readonly policy: Policy;
  private readonly report: Report;

  constructor(policy: Policy, report: Report) {
    this.policy = policy;
    this.report = report;
  }

  /** Under `*` all hooks of a group are completed, though some may be another program's. */
  severalHooks(group: string, terminateHooks: readonly string[]): void {
    if (!this.policy.everyHookIsOurs || terminateHooks.length < 2) return;
    if (this.isNew(`several/${group}`)) {
      this.report.warn('several terminate hooks in a group', { group, hooks: terminateHooks });
    }
  }

  /** Permissions are the same for all groups: what is denied for one is told once for all. */
  timeoutUnknown(
    hook: Readonly<{ group: string; hook: string }>,
    assumedSeconds: number,
    { denied, message }: Readonly<{ denied: boolean; message: string }>,
  ): void {
    if (!this.isNew(denied ? 'denied' : `timeout/${hook.group}/${hook.hook}`)) return;
    this.report.warn('lifecycle hook timeout unknown', {
      group: hook.group,
      hook: hook.hook,
      assumedSeconds,
      reason: message,
    });
  }

  private isNew(key: string): boolean {
    if (this.told.has(key)) return false;
    if (this.told.size >= MAX_TOLD) this.told.clear();
    this.told.add(key);
    return true;
  }
}
