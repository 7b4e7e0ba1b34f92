import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { leastRights } from '../harness/rules.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { stopAndGoOn, stopCases, storm, troubled, troubles, type Endings } from './stop-stages.ts';

const options: WorldOptions = { ...leastRights };
const needs = worldSkipReason(options);

describe.skipIf(needs)('a process that is asked to stop', { meta: { needs } }, () => {
  const world = sharedWorld(options);
  const endings: Endings = [];

  beforeAll(async () => {
    // Load balancers are left a target.
    await world.kubelet.addNode({ name: 'spare' });
  });

  afterEach(async () => {
    for (let ending = endings.pop(); ending; ending = endings.pop()) await ending();
  });

  it.each([...stopCases([storm]), ...stopCases([troubled], troubles)])(
    '$when ($what) ends in 5 s with 0, and the next one finishes all',
    async (stopCase) => {
      const left = await stopAndGoOn(world, stopCase, endings);
      expect(left).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
    },
  );
});
