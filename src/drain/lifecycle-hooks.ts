export type HookAction = Readonly<{
  group: string;
  hook: string;
  token: string;
  instanceId: string;
}>;

/** What Auto Scaling said about one action of a lifecycle hook. */
export type HookAnswer =
  | Readonly<{ outcome: 'accepted' }>
  /** ValidationError, "No active Lifecycle Action found": the action is over, whoever ended it. */
  | Readonly<{ outcome: 'over'; message: string }>
  /** Throttled, 5xx, no answer, missing permission: try again. `denied` says that a person must act. */
  | Readonly<{ outcome: 'failed'; denied: boolean; message: string }>;

/** https://docs.aws.amazon.com/autoscaling/ec2/userguide/completing-lifecycle-hooks.html */
export interface LifecycleHooks {
  /** CONTINUE, with token and instance ID. Never rejects but for the signal. */
  complete(action: HookAction, signal: AbortSignal): Promise<HookAnswer>;
  /** RecordLifecycleActionHeartbeat. Never rejects but for the signal. */
  heartbeat(action: HookAction, signal: AbortSignal): Promise<HookAnswer>;
  /**
   * TerminateInstanceInAutoScalingGroup without lowering the desired capacity. `over`: the instance
   * is in no group, or on its way out already. Never rejects but for the signal.
   */
  replace(instanceId: string, signal: AbortSignal): Promise<HookAnswer>;
  /**
   * The hook's heartbeat timeout and its transition, from DescribeLifecycleHooks; cached.
   * `unknown`: there is no such hook, or it may not be read (denied).
   */
  describe(
    group: string,
    hook: string,
    signal: AbortSignal,
  ): Promise<
    | Readonly<{
        outcome: 'found';
        timeoutSeconds: number;
        terminateHooksInGroup: readonly string[];
      }>
    | Readonly<{ outcome: 'unknown'; denied: boolean; message: string }>
    | Readonly<{ outcome: 'failed'; message: string }>
  >;
}
