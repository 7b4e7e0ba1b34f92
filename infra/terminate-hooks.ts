import { CfnLifecycleHook } from 'aws-cdk-lib/aws-autoscaling';
import { CfnRole } from 'aws-cdk-lib/aws-iam';
import { Token, type CfnCondition } from 'aws-cdk-lib/core';
import { Construct } from 'constructs';
import type { InterruptionQueue } from './interruption-queue.ts';
import { guard, onlyIf, type Switch } from './switch.ts';

export interface TerminateHooksProps {
  readonly queue: InterruptionQueue;
  /** The Auto Scaling groups, by name; they exist already. `id` names the resource if the name is a token. */
  readonly groups: readonly Readonly<{ name: string; id?: string; on?: Exclude<Switch, false> }>[];
  /** How long an instance waits at most for a controller that does not answer: 30 to 7200, 300 unless given. */
  readonly timeoutSeconds?: number;
  /** Notifications go to the queue without EventBridge. Off unless given: the rules deliver them. */
  readonly straightToQueue?: Switch;
}

const HOOK_NAME = 'node-termination-controller';

/** Lifecycle hooks that hold an instance until its node is empty. */
export class TerminateHooks extends Construct {
  constructor(scope: Construct, id: string, props: TerminateHooksProps) {
    super(scope, id);
    const { queue, groups, timeoutSeconds = 300, straightToQueue = false } = props;
    if (groups.length === 0) return;
    const sender = straightToQueue === false ? undefined : this.sender(props, straightToQueue);
    for (const { name, id: hookId = name, on = true } of groups) {
      const hook = new CfnLifecycleHook(this, hookId, {
        autoScalingGroupName: name,
        lifecycleHookName: HOOK_NAME,
        lifecycleTransition: 'autoscaling:EC2_INSTANCE_TERMINATING',
        heartbeatTimeout: timeoutSeconds,
        // The instance goes either way; ABANDON would skip the group's other hooks.
        defaultResult: 'CONTINUE',
      });
      guard(on, hook);
      // A hook that notifies sends a test when it is made, and is refused if that does not arrive.
      hook.addResourceDependency(queue.policy);
      if (sender === undefined) continue;
      hook.notificationTargetArn = Token.asString(onlyIf(sender.on, queue.queue.queueArn));
      hook.roleArn = Token.asString(onlyIf(sender.on, sender.role.attrArn));
    }
  }

  /** The role by which Auto Scaling sends. */
  private sender({ queue }: TerminateHooksProps, straightToQueue: CfnCondition | true) {
    const role = new CfnRole(this, 'SenderRole', {
      description:
        'Auto Scaling sends lifecycle notifications to the queue of node-termination-controller',
      assumeRolePolicyDocument: {
        Version: '2012-10-17',
        Statement: [
          {
            Effect: 'Allow',
            Principal: { Service: 'autoscaling.amazonaws.com' },
            Action: 'sts:AssumeRole',
          },
        ],
      },
      policies: [
        {
          policyName: 'send-lifecycle-notifications',
          policyDocument: {
            Version: '2012-10-17',
            Statement: [
              {
                Effect: 'Allow',
                Action: ['sqs:SendMessage', 'sqs:GetQueueUrl'],
                Resource: [queue.queue.queueArn],
              },
            ],
          },
        },
      ],
    });
    guard(straightToQueue, role);
    queue.allowPrincipal(role.attrArn, straightToQueue);
    return { role, on: straightToQueue };
  }
}
