import { describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { untilSettled } from '../harness/marks.ts';
import { spotNotice } from '../harness/messages.ts';
import { addNodeWithPod } from '../harness/nodes.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { stopsWithinMs } from './stop-stages.ts';

const options: WorldOptions = { ...leastRights };
const needs = worldSkipReason(options);

describe.skipIf(needs)('outcomes on EventBridge', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it('that wait when the Lease cannot be renewed are sent, once, in the term after it', async () => {
    const { cluster, eventBridge } = world;
    const { instance } = await addNodeWithPod(world, 'partitioned');
    const { controller, queue } = await runController(world, { EVENT_BUS_NAME: 'outcomes' });
    const told = () =>
      eventBridge.events('outcomes').filter(({ resources }) => resources.includes(instance));
    await eventBridge.goAway('hang');
    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(world.api, 'partitioned');

    await cluster.apiServer.stop();
    try {
      await controller.waitForLog('leadership not renewed', { timeoutMs: 60_000 });
    } finally {
      await cluster.apiServer.start();
    }
    await controller.waitForLog('leading again', { timeoutMs: 60_000 });
    const early = told();
    await eventBridge.comeBack();
    await eventually(() => told().length > 0);

    expect(early).toEqual([]);
    expect(told()).toMatchObject([{ detail: { node: 'partitioned', outcome: 'drained' } }]);
    expect(controller.logged('outcome not sent')).toEqual([]);
    expect(await controller.stop()).toMatchObject({ code: 0 });
    expect(told()).toHaveLength(1);
  });

  it('that nobody takes do not hold up the end, and are told as not sent', async () => {
    const { eventBridge } = world;
    const { instance } = await addNodeWithPod(world, 'unheard');
    const { controller, queue } = await runController(world, { EVENT_BUS_NAME: 'outcomes' });
    await eventBridge.goAway('hang');
    try {
      await queue.send(spotNotice({ instanceId: instance }));
      await untilSettled(world.api, 'unheard');
      expect(await controller.stop({ limitMs: stopsWithinMs })).toMatchObject({ code: 0 });
    } finally {
      await eventBridge.comeBack();
    }
    expect(controller.logged('outcome not sent')).toMatchObject([{ node: 'unheard' }]);
    expect(controller.logged('stop takes too long')).toEqual([]);
  });
});
