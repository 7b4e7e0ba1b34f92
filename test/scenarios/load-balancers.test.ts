import { describe, expect, it } from 'vitest';
import { getNode } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOf, untilSettled } from '../harness/marks.ts';
import { rebalance, spotNotice } from '../harness/messages.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

const options: WorldOptions = leastRights;
const needs = worldSkipReason(options);

const label = 'node.kubernetes.io/exclude-from-external-load-balancers';

describe.skipIf(needs)('what load balancers are left with', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  /** As many nodes of one zone. */
  async function addNodes(prefix: string, count: number, zone: string) {
    const nodes = Array.from({ length: count }, (_, i) => ({
      name: `${prefix}-${i + 1}`,
      instanceId: instanceId(),
      zone,
    }));
    await world.kubelet.addNodes(nodes);
    return nodes;
  }

  /** Names of those that are taken out. */
  async function excluded(nodes: readonly { name: string }[]): Promise<readonly string[]> {
    const found = await Promise.all(nodes.map(({ name }) => getNode(world.api, name)));
    return found
      .filter((node) => marksOf(node).loadBalancerLabel === 'true')
      .map(({ metadata }) => metadata.name)
      .toSorted();
  }

  it('is half of the zone where drains are paced, and each label follows when others are Ready', async () => {
    const nodes = await addNodes('paced', 4, 'eu-central-1a');
    const { controller, queue } = await runController(world);

    await queue.sendMany(nodes.map(({ instanceId: id }) => rebalance({ instanceId: id })));
    for (const { name } of nodes) await untilSettled(world.api, name);

    expect(await excluded(nodes)).toHaveLength(2);
    expect(controller.logged('load balancer label withheld')).toHaveLength(2);
    for (const { name } of nodes) {
      expect(marksOf(await getNode(world.api, name)).cordoned).toBe(true);
    }

    await addNodes('paced-spare', 4, 'eu-central-1a');
    await eventually(async () => (await excluded(nodes)).length === 4);
  });

  it('is a node of the cluster in an emergency, and labels that others have set count', async () => {
    // All that other tests have left is out already.
    const nodes = await addNodes('last', 3, 'eu-central-1b');
    const { items } = await world.api.get<{ items: readonly { metadata: { name: string } }[] }>(
      '/api/v1/nodes',
    );
    const others = items.filter(
      ({ metadata }) => !nodes.some(({ name }) => name === metadata.name),
    );
    for (const { metadata } of others) {
      await world.api.patch(`/api/v1/nodes/${metadata.name}`, {
        metadata: { labels: { [label]: 'true' } },
      });
    }
    const { controller, queue } = await runController(world);

    await queue.sendMany(nodes.map(({ instanceId: id }) => spotNotice({ instanceId: id })));
    for (const { name } of nodes) await untilSettled(world.api, name);

    expect(await excluded(nodes)).toHaveLength(2);
    expect(controller.logged('load balancer label withheld')).toHaveLength(1);
    await addNodes('last-spare', 1, 'eu-central-1b');
    await eventually(async () => (await excluded(nodes)).length === 3);
  });
});
