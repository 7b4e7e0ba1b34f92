import type { PodObject } from '../control-plane/objects.ts';
import type { LifecycleAction } from '../stand-ins/auto-scaling.ts';
import { instanceId, type NodeSpec } from '../stand-ins/kubelet.ts';
import { createPod, untilRunning, type PodSpec } from './workloads.ts';
import type { World } from './world.ts';

// What tests interrupt.

/** Of a machine of its own; returns its instance ID. */
export async function addNode(
  { kubelet }: World,
  name: string,
  spec: Omit<Partial<NodeSpec>, 'name' | 'instanceId'> = {},
): Promise<string> {
  const instance = instanceId();
  await kubelet.addNode({ ...spec, name, instanceId: instance });
  return instance;
}

/** Returns when it runs. */
export async function addPod({ api, kubelet }: World, spec: PodSpec): Promise<PodObject> {
  const pod = await createPod(api, spec);
  await untilRunning(kubelet, [pod]);
  return pod;
}

/** A node with a running pod, which leaves soon after it is told to. */
export async function addNodeWithPod(
  world: World,
  node: string,
  {
    pod,
    node: spec,
  }: Readonly<{ pod?: Partial<PodSpec>; node?: Parameters<typeof addNode>[2] }> = {},
): Promise<{ node: string; instance: string; pod: string }> {
  const instance = await addNode(world, node, spec);
  const name = `${node}-pod`;
  await addPod(world, { behaviour: { exitsAfterSeconds: 0.3 }, ...pod, name, node });
  return { node, instance, pod: name };
}

/** A terminate hook of the group, if it has none of that name, and its action for the instance. */
export function beginHook(
  { autoScaling }: World,
  group: string,
  instance: string,
  { hook = 'drain', timeoutSeconds = 300 } = {},
): LifecycleAction {
  autoScaling.addHook({ group, hook, heartbeatTimeoutSeconds: timeoutSeconds });
  return autoScaling.beginAction({ group, hook, instanceId: instance });
}
