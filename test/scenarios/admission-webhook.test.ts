import { describe, expect, it, onTestFinished } from 'vitest';
import { refuseEvictions } from '../harness/admission.ts';
import { eventually } from '../harness/eventually.ts';
import { untilSettled } from '../harness/marks.ts';
import { rebalance, terminateHook } from '../harness/messages.ts';
import { addNode, addPod, beginHook } from '../harness/nodes.ts';
import { removalsOf } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createNamespace } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights, backend: 'real' };
const needs = worldSkipReason(options);

const exitsSoon = { exitsAfterSeconds: 0.3 };

describe.skipIf(needs)('an eviction', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it.each([
    { code: 403, message: 'not on a Sunday' },
    { code: 500, message: 'out of order' },
  ])(
    'that a webhook refuses with $code waits alone, and is made past it in the end',
    async (refusal) => {
      const node = `webhook-${refusal.code}`;
      const instance = await addNode(world, node);
      await createNamespace(world.api, node);
      await addPod(world, {
        name: 'guarded',
        namespace: node,
        node,
        graceSeconds: 2,
        behaviour: exitsSoon,
      });
      await addPod(world, { name: `${node}-free`, node, behaviour: exitsSoon });
      const webhook = await refuseEvictions(world.api, node, refusal);
      onTestFinished(() => webhook.stop());
      const { queue } = await runController(world);
      const hook = beginHook(world, node, instance, { timeoutSeconds: 24 });

      await queue.send(terminateHook({ ...hook }));
      await eventually(() => hook.completedAt !== undefined, { timeoutMs: 60_000 });

      const guarded = await removalsOf(world, { name: 'guarded', namespace: node });
      expect(webhook.asked()).toBeGreaterThan(1);
      expect(guarded.at(-1)).toMatchObject({ by: 'deletion', status: 200 });
      for (const { by, status } of guarded.slice(0, -1)) {
        expect({ by, status }).toEqual({ by: 'eviction', status: refusal.code });
      }
      const [free] = await removalsOf(world, { name: `${node}-free` });
      expect(free?.receivedAt).toBeLessThan(guarded.at(-1)?.receivedAt ?? 0);
    },
  );

  it('that a webhook refuses for a while is made when it relents', async () => {
    const node = 'webhook-relents';
    const instance = await addNode(world, node);
    await createNamespace(world.api, node);
    await addPod(world, { name: 'guarded', namespace: node, node, behaviour: exitsSoon });
    const webhook = await refuseEvictions(world.api, node, { code: 403, message: 'not yet' });
    onTestFinished(() => webhook.stop());
    const { queue } = await runController(world);

    await queue.send(rebalance({ instanceId: instance }));
    await eventually(() => webhook.asked() > 2, { timeoutMs: 60_000 });
    webhook.relent();
    await untilSettled(world.api, node, { timeoutMs: 60_000 });

    const guarded = await removalsOf(world, { name: 'guarded', namespace: node });
    expect(guarded.at(-1)).toMatchObject({ by: 'eviction', status: 201 });
  });
});
