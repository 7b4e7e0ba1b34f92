/** What the options ask of planning; see docs/options.md. */
export type Policy = Readonly<{
  /** DEADLINE_MARGIN_SECONDS: what must be over this long before a deadline. */
  marginMs: number;
  /** DISRUPTION_BUDGETS */
  budgets: 'until-deadline' | 'always';
  /** POD_GRACE_SECONDS: upper limit of the grace we send; undefined: the pod's own. */
  podGraceSeconds: number | undefined;
  /** TERMINATE_HOOK_DRAIN_SECONDS: window of a terminate hook of ours, if longer than its timeout. */
  terminateHookDrainSeconds: number | undefined;
  /** EXCLUDE_FROM_LOAD_BALANCERS */
  excludeFromLoadBalancers: boolean;
  /** HOOKS: whether a lifecycle hook is ours to complete and to keep alive. */
  isOurHook: (group: string, hook: string) => boolean;
}>;
