import { onTestFinished } from 'vitest';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';
import type { Controller } from './controller.ts';
import { untilSettled } from './marks.ts';
import { spotNotice } from './messages.ts';
import { untilDeleted } from './queued.ts';
import type { World } from './world.ts';

let queues = 0;

/** Tests that share a world do not wait for each other's paced drains. */
const outOfTheWay = { VOLUNTARY_DRAIN_LIMIT: '1000' };

/**
 * A controller for one test, with a queue of its own, so that tests that share a world do not see
 * each other's messages. It is ready to receive; killed when the test ends.
 */
export async function runController(
  world: World,
  env: Readonly<Record<string, string>> = {},
): Promise<{ readonly controller: Controller; readonly queue: Queue }> {
  queues += 1;
  const queue = await world.queues.createQueue(`interruptions-${queues}`);
  return { controller: await runControllerOn(world, queue, env), queue };
}

/** The same with a queue that is there: another process's, say. */
export async function runControllerOn(
  world: World,
  queue: Queue,
  env: Readonly<Record<string, string>> = {},
): Promise<Controller> {
  const controller = await world.startController({
    // A Lease for each queue: controllers of one queue are replicas of each other.
    env: { QUEUE_URL: queue.url, LEASE_NAME: queue.name, ...outOfTheWay, ...env },
  });
  onTestFinished(async () => {
    await controller.kill();
  });
  await controller.waitForLog('ready');
  return controller;
}

/** A whole drain, after which all that the process had to do before has been done, too. */
export async function untilProcessed(world: World, queue: Queue, node: string): Promise<void> {
  const instance = instanceId();
  await world.kubelet.addNode({ name: node, instanceId: instance });
  await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instance }))]);
  await untilSettled(world.api, node);
}
