import {
  AutoScalingClient,
  CompleteLifecycleActionCommand,
  DescribeLifecycleHooksCommand,
  RecordLifecycleActionHeartbeatCommand,
  TerminateInstanceInAutoScalingGroupCommand,
} from '@aws-sdk/client-auto-scaling';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import {
  accessDenied,
  internalFailure,
  startAutoScaling,
  throttling,
  type AutoScaling,
  type LifecycleAction,
} from './auto-scaling.ts';

describe('the Auto Scaling stand-in, as the client sees it', () => {
  let autoScaling: AutoScaling;
  let client: AutoScalingClient;
  let action: LifecycleAction;
  const group = 'workers';
  const hook = 'drain';
  const instanceId = 'i-0123456789abcdef0';

  beforeEach(async () => {
    autoScaling = await startAutoScaling();
    autoScaling.addHook({ group, hook, heartbeatTimeoutSeconds: 300 });
    action = autoScaling.beginAction({ group, hook, instanceId });
    client = new AutoScalingClient({
      endpoint: autoScaling.url,
      region: 'eu-central-1',
      credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'fake' },
      maxAttempts: 1,
    });
  });

  afterEach(async () => {
    client.destroy();
    await autoScaling.stop();
  });

  const base = { AutoScalingGroupName: group, LifecycleHookName: hook };

  async function complete(input: { LifecycleActionToken?: string; InstanceId?: string }) {
    return client.send(
      new CompleteLifecycleActionCommand({ ...base, LifecycleActionResult: 'CONTINUE', ...input }),
    );
  }

  async function heartbeat(LifecycleActionToken: string) {
    return client.send(
      new RecordLifecycleActionHeartbeatCommand({ ...base, LifecycleActionToken }),
    );
  }

  it.each([
    ['token', () => ({ LifecycleActionToken: action.token })],
    ['instance', () => ({ InstanceId: instanceId })],
    ['both', () => ({ LifecycleActionToken: action.token, InstanceId: instanceId })],
  ])('completes an active action, named by %s', async (_how, input) => {
    await complete(input());
    expect(autoScaling.actions()).toMatchObject([{ token: action.token, result: 'CONTINUE' }]);
    expect(autoScaling.actions()[0]?.completedAt).toBeGreaterThanOrEqual(action.startedAt);
    expect(autoScaling.calls('CompleteLifecycleAction')).toMatchObject([
      { status: 200, parameters: { ...base, ...input(), LifecycleActionResult: 'CONTINUE' } },
    ]);
  });

  it('knows an action only once, and no other', async () => {
    const token = action.token;
    const over = (what: string) => ({
      name: 'ValidationError',
      message: `No active Lifecycle Action found with ${what}`,
      $metadata: { httpStatusCode: 400 },
    });
    await expect(complete({ LifecycleActionToken: 'unknown' })).rejects.toMatchObject(
      over('token unknown'),
    );
    await expect(
      complete({ LifecycleActionToken: token, InstanceId: 'i-00000000000000000' }),
    ).rejects.toMatchObject(over(`token ${token}`));
    await expect(complete({ InstanceId: 'i-00000000000000000' })).rejects.toMatchObject(
      over('instance ID i-00000000000000000'),
    );
    await complete({ LifecycleActionToken: token });
    await expect(complete({ LifecycleActionToken: token })).rejects.toMatchObject(
      over(`token ${token}`),
    );
    await expect(heartbeat(token)).rejects.toMatchObject(over(`token ${token}`));
    expect(autoScaling.calls().map(({ code }) => code)).toEqual([
      'ValidationError',
      'ValidationError',
      'ValidationError',
      undefined,
      'ValidationError',
      'ValidationError',
    ]);
  });

  it('lets an action expire, unless heartbeats keep it alive', async () => {
    // Many times the longest pause that a busy machine makes between two heartbeats.
    autoScaling.addHook({ group, hook: 'short', heartbeatTimeoutSeconds: 5 });
    const [kept, left] = ['i-00000000000000001', 'i-00000000000000002'].map((id) =>
      autoScaling.beginAction({ group, hook: 'short', instanceId: id }),
    );
    const beat = async (LifecycleActionToken = '') =>
      client.send(
        new RecordLifecycleActionHeartbeatCommand({
          AutoScalingGroupName: group,
          LifecycleHookName: 'short',
          LifecycleActionToken,
        }),
      );
    await eventually(async () => {
      await beat(kept?.token);
      return Date.now() > (left?.expiresAt ?? Infinity);
    });
    await expect(beat(left?.token)).rejects.toMatchObject({ name: 'ValidationError' });
    await beat(kept?.token);
    expect(kept?.expiresAt).toBeGreaterThan(left?.expiresAt ?? 0);
  });

  it('describes the hooks of a group, all or some', async () => {
    autoScaling.addHook({
      group,
      hook: 'launch & join',
      transition: 'autoscaling:EC2_INSTANCE_LAUNCHING',
    });
    const describeHooks = async (LifecycleHookNames?: string[]) =>
      (
        await client.send(
          new DescribeLifecycleHooksCommand({ AutoScalingGroupName: group, LifecycleHookNames }),
        )
      ).LifecycleHooks;
    expect(await describeHooks()).toEqual([
      {
        AutoScalingGroupName: group,
        LifecycleHookName: hook,
        LifecycleTransition: 'autoscaling:EC2_INSTANCE_TERMINATING',
        HeartbeatTimeout: 300,
        GlobalTimeout: 30_000,
        DefaultResult: 'ABANDON',
      },
      expect.objectContaining({ LifecycleHookName: 'launch & join', HeartbeatTimeout: 3600 }),
    ]);
    expect(await describeHooks([hook])).toHaveLength(1);
    await expect(
      client.send(new DescribeLifecycleHooksCommand({ AutoScalingGroupName: 'absent' })),
    ).rejects.toMatchObject({ name: 'ValidationError' });
  });

  it('terminates instances that it knows', async () => {
    autoScaling.addInstance(group, instanceId);
    const terminate = async (InstanceId: string) =>
      client.send(
        new TerminateInstanceInAutoScalingGroupCommand({
          InstanceId,
          ShouldDecrementDesiredCapacity: false,
        }),
      );
    expect((await terminate(instanceId)).Activity).toMatchObject({
      AutoScalingGroupName: group,
      StatusCode: 'InProgress',
    });
    expect(autoScaling.terminated()).toEqual([instanceId]);
    await expect(terminate('i-00000000000000000')).rejects.toMatchObject({
      name: 'ValidationError',
    });
    const [call] = autoScaling.calls('TerminateInstanceInAutoScalingGroup');
    expect(call?.parameters['ShouldDecrementDesiredCapacity']).toBe('false');
  });

  it('fails on demand', async () => {
    const LifecycleActionToken = action.token;
    autoScaling.faults.add({ action: 'CompleteLifecycleAction', times: 1, fault: throttling });
    await expect(complete({ LifecycleActionToken })).rejects.toMatchObject({
      name: 'Throttling',
      message: 'Rate exceeded',
    });
    autoScaling.faults.add({ times: 1, fault: internalFailure });
    await expect(complete({ LifecycleActionToken })).rejects.toMatchObject({
      name: 'InternalFailure',
      $metadata: { httpStatusCode: 500 },
    });
    autoScaling.faults.add({ action: 'DescribeLifecycleHooks', fault: accessDenied });
    await expect(
      client.send(new DescribeLifecycleHooksCommand({ AutoScalingGroupName: group })),
    ).rejects.toMatchObject({ name: 'AccessDenied', $metadata: { httpStatusCode: 403 } });
    autoScaling.faults.add({
      action: 'CompleteLifecycleAction',
      times: 1,
      fault: { kind: 'lose-answer' },
    });
    await expect(complete({ LifecycleActionToken })).rejects.toThrow(/hang up|aborted|reset/);
    expect(autoScaling.actions({ token: action.token })[0]?.result).toBe('CONTINUE');
    autoScaling.faults.clear();
    expect(autoScaling.calls().map(({ status }) => status)).toEqual([400, 500, 403, 0]);
  });

  it('can do as asked and never say so', async () => {
    autoScaling.faults.add({ times: 1, fault: { kind: 'withhold-answer' } });
    const command = new CompleteLifecycleActionCommand({
      ...base,
      LifecycleActionResult: 'CONTINUE',
      LifecycleActionToken: action.token,
    });
    const abort = new AbortController();
    const waiting = client.send(command, { abortSignal: abort.signal });
    await eventually(() => autoScaling.actions()[0]?.result === 'CONTINUE');
    abort.abort();
    await expect(waiting).rejects.toThrow(/abort/i);
    expect(autoScaling.calls()).toMatchObject([{ status: 0 }]);
  });

  it('can be away', async () => {
    await autoScaling.goAway('refuse');
    await expect(heartbeat(action.token)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await autoScaling.comeBack();
    await heartbeat(action.token);
    expect(autoScaling.calls()).toHaveLength(1);
  });
});
