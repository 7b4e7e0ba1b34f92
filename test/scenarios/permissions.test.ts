import { describe, expect, it } from 'vitest';
import { PERMISSIONS } from '../../infra/permissions.ts';
import { describeOptions } from '../../src/options.ts';
import { awsActions } from '../harness/aws-actions.ts';
import { eventually } from '../harness/eventually.ts';
import { untilSettled } from '../harness/marks.ts';
import { rebalance, spotNotice, terminateHook } from '../harness/messages.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPod } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import { untilRunning } from './hook-actions.ts';

const options: WorldOptions = { ...leastRights };
const needs = worldSkipReason(options);

/** An option that the controller does not have yet asks for nothing. */
const variables = new Set(describeOptions().map(({ variable }) => variable));
const permitted = PERMISSIONS.filter(({ option }) => option === undefined || variables.has(option));

describe.skipIf(needs)('of AWS', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  // That it does nothing else is checked at the end of every world.
  it('the controller does all that its IAM policy allows', async () => {
    const { api, autoScaling, eventBridge, kubelet } = world;
    const [held, replaced] = [instanceId(), instanceId()];
    await kubelet.addNode({ name: 'held', instanceId: held });
    await kubelet.addNode({ name: 'replaced', instanceId: replaced });
    // It outlasts half of the hook's time, at which the hook is kept alive.
    await createPod(api, { name: 'slow', node: 'held', behaviour: { exitsAfterSeconds: 10 } });
    await untilRunning(world, 'slow');
    autoScaling.addInstance('group', replaced);
    autoScaling.addHook({ group: 'group', hook: 'drain', heartbeatTimeoutSeconds: 12 });
    const { queue } = await runController(world, {
      AFTER_VOLUNTARY_DRAIN: 'replace',
      TERMINATE_HOOK_DRAIN_SECONDS: '3600',
      EVENT_BUS_NAME: 'outcomes',
    });

    const unknown = await queue.send(spotNotice({ instanceId: instanceId() }));
    await queue.send(rebalance({ instanceId: replaced }));
    const action = autoScaling.beginAction({ group: 'group', hook: 'drain', instanceId: held });
    await queue.send(terminateHook(action));

    await untilSettled(api, 'held', { timeoutMs: 90_000 });
    await untilSettled(api, 'replaced', { timeoutMs: 90_000 });
    await eventually(() => queue.events(unknown).some(({ type }) => type === 'visibility-changed'));

    expect(action.result).toBe('CONTINUE');
    expect(autoScaling.terminated()).toEqual([replaced]);
    await eventually(() => eventBridge.events('outcomes').length === 2);
    expect(awsActions(world)).toEqual(
      permitted.flatMap(({ actions }) => Object.keys(actions)).toSorted(),
    );
  });
});
