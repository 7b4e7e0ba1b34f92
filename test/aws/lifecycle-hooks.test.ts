import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { createLifecycleHooks } from '../../src/aws/lifecycle-hooks.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import {
  accessDenied,
  internalFailure,
  startAutoScaling,
  throttling,
  type AutoScaling,
  type AutoScalingAction,
} from '../stand-ins/auto-scaling.ts';

let service: AutoScaling;
const never = new AbortController().signal;

beforeEach(async () => {
  service = await startAutoScaling();
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'test');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'test');
  vi.stubEnv('AWS_ENDPOINT_URL_AUTO_SCALING', service.url);
  service.addHook({ group: 'workers', hook: 'drain', heartbeatTimeoutSeconds: 300 });
  service.addHook({ group: 'workers', hook: 'ship-logs', heartbeatTimeoutSeconds: 60 });
  service.addHook({
    group: 'workers',
    hook: 'join',
    transition: 'autoscaling:EC2_INSTANCE_LAUNCHING',
  });
});

afterEach(async () => {
  await service.stop();
});

function open(clock: Clock = systemClock) {
  const hooks = createLifecycleHooks({ region: 'eu-central-1', clock });
  onTestFinished(() => hooks.close());
  return hooks;
}

/** Time that passes as the test says; timers run as ever. */
function settableClock() {
  let now = 0;
  return {
    clock: { ...systemClock, now: () => now } satisfies Clock,
    advance: (ms: number) => {
      now += ms;
    },
  };
}

function begin(instanceId = 'i-1') {
  const { token } = service.beginAction({ group: 'workers', hook: 'drain', instanceId });
  return { group: 'workers', hook: 'drain', token, instanceId };
}

function calls(action: AutoScalingAction): number {
  return service.calls(action).length;
}

describe('completing a hook', () => {
  test('says CONTINUE, with the token and the instance', async () => {
    const action = begin();
    expect(await open().complete(action, never)).toEqual({ outcome: 'accepted' });
    expect(service.actions()).toMatchObject([{ token: action.token, result: 'CONTINUE' }]);
    expect(service.calls()).toMatchObject([
      {
        action: 'CompleteLifecycleAction',
        parameters: {
          AutoScalingGroupName: 'workers',
          LifecycleHookName: 'drain',
          LifecycleActionToken: action.token,
          InstanceId: 'i-1',
          LifecycleActionResult: 'CONTINUE',
        },
      },
    ]);
  });

  test("another machine's hook is not completed by a token that was slipped in", async () => {
    const stolen = { ...begin('i-other'), instanceId: 'i-1' };
    expect(await open().complete(stolen, never)).toMatchObject({ outcome: 'over' });
    expect(service.actions()[0]?.completedAt).toBeUndefined();
  });

  test('an action that is over is told as over, whoever ended it', async () => {
    const action = begin();
    const hooks = open();
    await hooks.complete(action, never);
    expect(await hooks.complete(action, never)).toEqual({
      outcome: 'over',
      message: expect.stringContaining('No active Lifecycle Action found') as unknown,
    });
    expect(await hooks.complete({ ...action, group: 'gone' }, never)).toMatchObject({
      outcome: 'over',
      message: expect.stringContaining('AutoScalingGroup name not found') as unknown,
    });
  });

  test.each([
    { name: 'throttled', fault: throttling, denied: false, told: /^Throttling: / },
    { name: 'internal failure', fault: internalFailure, denied: false, told: /^InternalFailure: / },
    { name: 'denied', fault: accessDenied, denied: true, told: /^AccessDenied: .*authorized/ },
    {
      name: 'connection lost',
      fault: { kind: 'lose-request' },
      denied: false,
      told: /^ECONNRESET/,
    },
  ] as const)('$name is told after one attempt: the caller tries again', async (row) => {
    const { fault, denied, told } = row;
    const action = begin();
    const hooks = open();
    service.faults.add({ times: 1, fault });
    expect(await hooks.complete(action, never)).toEqual({
      outcome: 'failed',
      denied,
      message: expect.stringMatching(told) as unknown,
    });
    expect(calls('CompleteLifecycleAction')).toBe(1);
    expect(await hooks.complete(action, never)).toEqual({ outcome: 'accepted' });
  });

  test('no answer is a failure after some seconds, and an abort rejects at once', async () => {
    service.faults.add({ fault: { kind: 'hang' } });
    const hasty = {
      ...systemClock,
      after: ((ms, run) => systemClock.after(ms / 50, run)) as Clock['after'],
    };
    expect(await open(hasty).complete(begin(), never)).toEqual({
      outcome: 'failed',
      denied: false,
      message: 'TimeoutError: no answer within 5 s',
    });
    const stop = new AbortController();
    const completing = open().complete(begin(), stop.signal);
    stop.abort(new Error('stopping'));
    await expect(completing).rejects.toThrow(/^stopping$/);
  });

  test('in a storm a few are asked for at a time, and none runs into its limit for waiting', async () => {
    const hooks = open();
    const actions = Array.from({ length: 100 }, (_, i) => begin(`i-${i}`));
    const answers = await Promise.all(actions.map((action) => hooks.complete(action, never)));
    expect(answers).toEqual(actions.map(() => ({ outcome: 'accepted' })));
  });
});

test('a heartbeat pushes the timeout out', async () => {
  const action = begin();
  const [before] = service.actions();
  const expiresAt = before?.expiresAt ?? 0;
  await expect.poll(() => Date.now() + 300_000 > expiresAt).toBe(true);
  expect(await open().heartbeat(action, never)).toEqual({ outcome: 'accepted' });
  expect(service.actions()[0]?.expiresAt).toBeGreaterThan(expiresAt);
  expect(await open().heartbeat({ ...action, token: 'x' }, never)).toMatchObject({
    outcome: 'over',
  });
});

describe('replacing an instance', () => {
  test('leaves the desired capacity as it is', async () => {
    service.addInstance('workers', 'i-1');
    expect(await open().replace('i-1', never)).toEqual({ outcome: 'accepted' });
    expect(service.terminated()).toEqual(['i-1']);
    const [call] = service.calls('TerminateInstanceInAutoScalingGroup');
    expect(call?.parameters).toMatchObject({
      InstanceId: 'i-1',
      ShouldDecrementDesiredCapacity: 'false',
    });
  });

  test('that is in no group is over', async () => {
    expect(await open().replace('i-2', never)).toMatchObject({ outcome: 'over' });
  });
});

describe('describing a hook', () => {
  test('tells its timeout, and the terminate hooks beside it', async () => {
    expect(await open().describe('workers', 'drain', never)).toEqual({
      outcome: 'found',
      timeoutSeconds: 300,
      terminateHooksInGroup: ['drain', 'ship-logs'],
    });
  });

  test('asks once for all who ask at the same time, and for all hooks of the group', async () => {
    const hooks = open();
    await Promise.all(
      ['drain', 'ship-logs', 'drain', 'join'].map((hook) => hooks.describe('workers', hook, never)),
    );
    await hooks.describe('workers', 'drain', never);
    expect(calls('DescribeLifecycleHooks')).toBe(1);
  });

  test('asks again after ten minutes, and keeps what it knows if there is no answer then', async () => {
    const { clock, advance } = settableClock();
    const hooks = open(clock);
    await hooks.describe('workers', 'drain', never);
    service.addHook({ group: 'workers', hook: 'drain', heartbeatTimeoutSeconds: 900 });
    advance(11 * 60_000);
    service.faults.add({ times: 1, fault: throttling });
    expect(await hooks.describe('workers', 'drain', never)).toMatchObject({ timeoutSeconds: 300 });
    expect(await hooks.describe('workers', 'drain', never)).toMatchObject({ timeoutSeconds: 900 });
    expect(calls('DescribeLifecycleHooks')).toBe(3);
  });

  test('a hook that is not there is unknown, and looked for again a little later', async () => {
    const { clock, advance } = settableClock();
    const hooks = open(clock);
    expect(await hooks.describe('workers', 'new', never)).toEqual({
      outcome: 'unknown',
      denied: false,
      message: 'the group has no lifecycle hook new',
    });
    service.addHook({ group: 'workers', hook: 'new', heartbeatTimeoutSeconds: 120 });
    expect(await hooks.describe('workers', 'new', never)).toMatchObject({ outcome: 'unknown' });
    advance(16_000);
    expect(await hooks.describe('workers', 'new', never)).toMatchObject({ timeoutSeconds: 120 });
  });

  test('a hook made since its group was looked at is looked for at once', async () => {
    const hooks = open();
    expect(await hooks.describe('workers', 'drain', never)).toMatchObject({ outcome: 'found' });
    service.addHook({ group: 'workers', hook: 'newer', heartbeatTimeoutSeconds: 120 });
    expect(await hooks.describe('workers', 'newer', never)).toMatchObject({ timeoutSeconds: 120 });
    expect(calls('DescribeLifecycleHooks')).toBe(2);
  });

  test('a hook that was looked for in vain is not asked for all the time, nor does it cost others', async () => {
    const hooks = open();
    for (const hook of ['none', 'drain', 'none', 'drain', 'none']) {
      await hooks.describe('workers', hook, never);
    }
    expect(calls('DescribeLifecycleHooks')).toBe(1);
  });

  test.each([
    { name: 'a group that is gone', group: 'gone', fault: undefined, denied: false },
    { name: 'no permission', group: 'workers', fault: accessDenied, denied: true },
  ])('$name: unknown, and not asked for again for half a minute', async (row) => {
    const { clock, advance } = settableClock();
    const hooks = open(clock);
    if (row.fault !== undefined) service.faults.add({ fault: row.fault });
    const unknown = { outcome: 'unknown', denied: row.denied };
    expect(await hooks.describe(row.group, 'drain', never)).toMatchObject(unknown);
    advance(29_000);
    expect(await hooks.describe(row.group, 'drain', never)).toMatchObject(unknown);
    expect(calls('DescribeLifecycleHooks')).toBe(1);
    service.faults.clear();
    service.addHook({ group: row.group, hook: 'drain' });
    advance(2000);
    expect(await hooks.describe(row.group, 'drain', never)).toMatchObject({ outcome: 'found' });
  });

  test('a failure is told, and not asked for again for two seconds', async () => {
    const { clock, advance } = settableClock();
    const hooks = open(clock);
    service.faults.add({ times: 1, fault: throttling });
    const failed = { outcome: 'failed', message: 'Throttling: Rate exceeded' };
    expect(await hooks.describe('workers', 'drain', never)).toEqual(failed);
    expect(await hooks.describe('workers', 'drain', never)).toEqual(failed);
    advance(2000);
    expect(await hooks.describe('workers', 'drain', never)).toMatchObject({ outcome: 'found' });
  });

  test('one who stops asking does not stop the others', async () => {
    service.faults.add({ times: 1, fault: { kind: 'delay', delayMs: 50 } });
    const hooks = open();
    const stop = new AbortController();
    const impatient = hooks.describe('workers', 'drain', stop.signal);
    const patient = hooks.describe('workers', 'drain', never);
    stop.abort(new Error('stopping'));
    await expect(impatient).rejects.toThrow(/^stopping$/);
    expect(await patient).toMatchObject({ outcome: 'found' });
    expect(calls('DescribeLifecycleHooks')).toBe(1);
  });

  test('it remembers the latest groups, and no more than it may', async () => {
    const hooks = createLifecycleHooks({
      region: 'eu-central-1',
      clock: systemClock,
      mostGroups: 2,
    });
    onTestFinished(() => hooks.close());
    for (const group of ['a', 'b', 'c']) service.addHook({ group, hook: 'h' });
    for (const group of ['a', 'b', 'c', 'b', 'c']) await hooks.describe(group, 'h', never);
    expect(calls('DescribeLifecycleHooks')).toBe(3);
    await hooks.describe('a', 'h', never);
    expect(calls('DescribeLifecycleHooks')).toBe(4);
  });
});
