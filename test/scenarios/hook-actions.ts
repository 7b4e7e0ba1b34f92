import { expect } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import type { World } from '../harness/world.ts';
import type { AutoScalingCall, LifecycleAction } from '../stand-ins/auto-scaling.ts';

// What the tests of lifecycle hooks do and expect alike.

export async function untilRunning({ kubelet }: World, pod: string): Promise<void> {
  await eventually(() => kubelet.record(pod).runningAt !== undefined);
}

export function callsFor(
  { autoScaling }: World,
  action: Parameters<World['autoScaling']['calls']>[0],
  group: string,
): readonly AutoScalingCall[] {
  return autoScaling
    .calls(action)
    .filter(({ parameters }) => parameters['AutoScalingGroupName'] === group);
}

export function expectNamed({ parameters }: AutoScalingCall, action: LifecycleAction): void {
  expect(parameters).toMatchObject({
    AutoScalingGroupName: action.group,
    LifecycleHookName: action.hook,
    LifecycleActionToken: action.token,
    InstanceId: action.instanceId,
    LifecycleActionResult: 'CONTINUE',
  });
}

/** By one call, which named token and instance. */
export function expectCompleted(world: World, action: LifecycleAction): void {
  const calls = callsFor(world, 'CompleteLifecycleAction', action.group).filter(
    ({ parameters }) => parameters['LifecycleHookName'] === action.hook,
  );
  expect(calls).toMatchObject([{ status: 200 }]);
  for (const call of calls) expectNamed(call, action);
  expect(action.result).toBe('CONTINUE');
}
