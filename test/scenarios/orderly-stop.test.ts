import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { getNode } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOf } from '../harness/marks.ts';
import { spotNotice, terminateHook } from '../harness/messages.ts';
import { fateOf, untilDeleted } from '../harness/queued.ts';
import { leastRights } from '../harness/rules.ts';
import { runControllerOn } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import {
  draining,
  idle,
  loadOf,
  nodesOf,
  removeNodes,
  start,
  stopAndGoOn,
  stopCases,
  stopsWithinMs,
  type Endings,
} from './stop-stages.ts';

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
    world.autoScaling.faults.clear();
    for (let ending = endings.pop(); ending; ending = endings.pop()) await ending();
  });

  it.each(stopCases([start, idle, draining]))(
    '$when ($what) ends in 5 s with 0, and the next one finishes all',
    async (stopCase) => {
      const left = await stopAndGoOn(world, stopCase, endings);
      expect(left).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
    },
  );

  it('while messages wait for their nodes gives them back', async () => {
    const { kubelet } = world;
    const nodes = nodesOf('awaited', 12);
    const queue = await world.queues.createQueue('awaited');
    const controller = await runControllerOn(world, queue);
    const ids = await queue.sendMany(nodes.map((node) => spotNotice(node)));
    await eventually(() => ids.every((id) => fateOf(queue, id).includes('visibility-changed')));
    const before = await queue.counts();

    const exit = await controller.stop({ limitMs: stopsWithinMs });

    expect(before).toEqual({ visible: 0, inFlight: 12, delayed: 0 });
    expect(exit).toEqual({ code: 0, signal: null });
    expect(await queue.counts()).toEqual({ visible: 12, inFlight: 0, delayed: 0 });
    await kubelet.addNodes(nodes);
    endings.push(async () => removeNodes(world, nodes));
    await runControllerOn(world, queue);
    await untilDeleted(queue, ids);
  });

  it('while Auto Scaling is silent about a completion ends in 5 s with 0', async () => {
    const { api, autoScaling } = world;
    const { nodes, queue } = await loadOf(world, 'silent', 1);
    const [{ name, instanceId: instance } = { name: '', instanceId: '' }] = nodes;
    autoScaling.addHook({ group: name, hook: 'drain', heartbeatTimeoutSeconds: 300 });
    const action = autoScaling.beginAction({ group: name, hook: 'drain', instanceId: instance });
    autoScaling.faults.add({ action: 'CompleteLifecycleAction', fault: { kind: 'hang' } });
    const controller = await runControllerOn(world, queue);
    await queue.send(terminateHook(action));
    await eventually(() => autoScaling.calls('CompleteLifecycleAction').length > 0);

    const exit = await controller.stop({ limitMs: stopsWithinMs });
    const before = marksOf(await getNode(api, name)).journal;
    autoScaling.faults.clear();
    await runControllerOn(world, queue);
    await eventually(() => action.completedAt !== undefined);

    expect(exit).toEqual({ code: 0, signal: null });
    expect(before?.state).toBe('draining');
    expect(action.result).toBe('CONTINUE');
  });
});
