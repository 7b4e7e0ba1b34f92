import { afterAll, beforeAll } from 'vitest';
import { startWorld, type World, type WorldOptions } from './world.ts';

/**
 * The world of a file's tests: starts before the first of them, and before what else is to happen
 * then; ends after the last.
 */
export function sharedWorld(options: WorldOptions): World {
  let started: World | undefined;
  beforeAll(async () => {
    started = await startWorld(options);
  });
  afterAll(async () => {
    await started?.stop();
  });
  const world = (): World => {
    if (started === undefined) throw new Error('there is no world but in tests and their hooks');
    return started;
  };
  return {
    get cluster() {
      return world().cluster;
    },
    get api() {
      return world().api;
    },
    get kubelet() {
      return world().kubelet;
    },
    get queues() {
      return world().queues;
    },
    get queue() {
      return world().queue;
    },
    get autoScaling() {
      return world().autoScaling;
    },
    get eventBridge() {
      return world().eventBridge;
    },
    get controllerUserName() {
      return world().controllerUserName;
    },
    get environment() {
      return world().environment;
    },
    startController: (controllerOptions) => world().startController(controllerOptions),
    stop: () => world().stop(),
    [Symbol.asyncDispose]: () => world().stop(),
  };
}
