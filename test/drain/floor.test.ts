import { expect, test } from 'vitest';
import { addPods, rebalance, spot, startDrains, type Started } from './start.ts';

function labelled({ cluster }: Started): readonly string[] {
  return cluster
    .allNodes()
    .filter(({ excludeFromLoadBalancers }) => excludeFromLoadBalancers === 'true')
    .map(({ name }) => name);
}

test('paced drains leave load balancers half of the zone, and label more when others are Ready', async () => {
  const started = startDrains({ nodes: 4 });
  const { record, clock, cluster, report } = started;
  for (const number of [1, 2, 3, 4]) {
    addPods(started, 1, {}, `node-${number}`);
    await record(rebalance(0, number), `node-${number}`);
  }
  await clock.advance(60_000);
  expect(labelled(started)).toHaveLength(2);
  expect(report.told('load balancer label withheld')).toHaveLength(2);
  // All else is done for them.
  expect(cluster.allNodes().every(({ unschedulable }) => unschedulable)).toBe(true);
  expect(cluster.allPods()).toEqual([]);

  for (const number of [5, 6, 7, 8]) cluster.addNode(`node-${number}`);
  await clock.advance(5000);
  expect(labelled(started)).toEqual(['node-1', 'node-2', 'node-3', 'node-4']);
});

test('emergencies at one moment leave load balancers a node of the cluster', async () => {
  const started = startDrains({ nodes: 5 });
  const { clock, records, report, cluster } = started;
  const numbers = [1, 2, 3, 4, 5];
  await clock.resolved(
    Promise.all(
      numbers.map((number) =>
        records.apply(`node-${number}`, { type: 'event', event: spot(0, number) }),
      ),
    ),
  );
  expect(labelled(started)).toHaveLength(4);
  expect(report.told('load balancer label withheld')).toHaveLength(1);
  cluster.addNode('node-6');
  await clock.advance(5000);
  expect(labelled(started)).toEqual(numbers.map((number) => `node-${number}`));
});

test('a label that was withheld does not keep a node from being given back', async () => {
  const started = startDrains({ nodes: 1 });
  const { clock, cluster, record } = started;
  await record(rebalance());
  await clock.advance(10_000);
  expect(labelled(started)).toEqual([]);
  cluster.changeNode('node-1', { bootId: 'boot-2' });
  await clock.advance(1000);
  expect(cluster.node('node-1')).toMatchObject({
    unschedulable: false,
    taints: [],
    excludeFromLoadBalancers: undefined,
  });
});
