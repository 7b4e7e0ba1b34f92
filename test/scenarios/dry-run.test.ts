import { describe, expect, it } from 'vitest';
import { getNode, podNamesOn } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { EVERY_KIND } from '../harness/every-kind.ts';
import { marksOf, noMarks } from '../harness/marks.ts';
import { spotNotice } from '../harness/messages.ts';
import { timesReceived } from '../harness/queued.ts';
import { controllerRequests, writesAmong } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { createPods, untilRunning } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = { audit: 'with-bodies', ...leastRights };
const needs = worldSkipReason(options);

const group = 'rehearsed';
const dryRun = {
  DRY_RUN: 'true',
  AFTER_VOLUNTARY_DRAIN: 'replace',
  COMPLETE_UNKNOWN_HOOKS: 'true',
  UNKNOWN_INSTANCE_GRACE_SECONDS: '1',
};

describe.skipIf(needs)('a dry run', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  it('of the whole table writes, completes and deletes nothing, and tells what it would do', async () => {
    const { api, kubelet, autoScaling } = world;
    autoScaling.addHook({ group, hook: 'drain', heartbeatTimeoutSeconds: 300 });
    const nodes = [...EVERY_KIND.keys(), EVERY_KIND.length].map((i) => ({
      name: `kind-${i}`,
      instanceId: instanceId(),
      labels: { 'karpenter.k8s.aws/capacity-reservation-id': `cr-${i}` },
    }));
    for (const node of nodes) {
      await kubelet.addNode(node);
      const token = `token-${node.instanceId}`;
      autoScaling.beginAction({ group, hook: 'drain', instanceId: node.instanceId, token });
    }
    const pods = await createPods(
      api,
      nodes.map(({ name }) => ({ name: `${name}-pod`, node: name })),
    );
    await untilRunning(kubelet, pods);
    const { controller, queue } = await runController(world, dryRun);
    const time = Date.now();

    const ids: string[] = [];
    for (const [i, { message }] of EVERY_KIND.entries()) {
      const about = {
        instanceId: nodes[i]?.instanceId ?? '',
        reservationId: `cr-${i}`,
        group,
        time,
      };
      ids.push(await queue.send(message(about)));
    }
    ids.push(await queue.send(spotNotice({ instanceId: instanceId() })));
    await eventually(() => ids.every((id) => timesReceived(queue, id) > 0));
    // What comes last is planned to its end.
    const last = nodes.at(-1);
    ids.push(await queue.send(spotNotice({ instanceId: last?.instanceId ?? '' })));
    await controller.waitForLog(
      ({ fields }) => fields?.['message'] === 'drained' && fields['node'] === last?.name,
    );

    const lines = controller.log.flatMap(({ fields }) => (fields === undefined ? [] : [fields]));
    expect(controller.logged('dry run')).toHaveLength(1);
    expect(lines.some(({ message }) => message === 'would change a node')).toBe(true);
    expect(lines.some(({ message }) => message === 'would evict a pod')).toBe(true);
    expect(lines.some(({ message }) => message === 'would complete a lifecycle hook')).toBe(true);

    expect(writesAmong(await controllerRequests(world))).toEqual([]);
    expect(autoScaling.calls().filter(({ action }) => !action.startsWith('Describe'))).toEqual([]);
    for (const id of ids) {
      expect(new Set(queue.events(id).map(({ type }) => type))).toEqual(
        new Set(['sent', 'received']),
      );
    }
    for (const { name } of nodes) {
      expect(marksOf(await getNode(api, name))).toEqual(noMarks);
      expect(await podNamesOn(api, name)).toEqual([`${name}-pod`]);
    }
  });
});
