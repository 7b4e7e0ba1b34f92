import { describe, expect, onTestFinished, test } from 'vitest';
import { startController } from '../../src/controller.ts';
import { withoutEffect } from '../../src/dry-run.ts';
import { EVERY_KIND } from '../harness/every-kind.ts';
import * as messages from '../harness/messages.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { flowPolicy } from '../stand-ins/ports/flow-policy.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

/** A dry run over one node with two pods, one of them behind a budget that always refuses. */
async function start() {
  const outside = new Outside();
  const { cluster, sqs, autoScaling } = outside;
  cluster.addNode('node-1', { capacityReservationId: 'cr-1' });
  cluster.addPod('node-1', 'web-1');
  cluster.addPod('node-1', 'db-0', {
    owner: { kind: 'StatefulSet', name: 'db', uid: 'db' },
    claims: ['data'],
  });
  cluster.budgets.set('db', 0);
  cluster.volumeOfClaim.set('shop/data', 'pv-1');
  cluster.attached.set('node-1', new Set(['pv-1']));
  const ports = outside.connect();
  const controller = startController(
    withoutEffect(ports),
    flowPolicy({ afterVoluntaryDrain: 'replace', completeUnknownHooks: true }),
  );
  onTestFinished(async () => {
    await ports.clock.resolved(controller.stop(), 5000);
    expect(ports.report.faults()).toEqual([]);
  });
  return { ...ports, cluster, sqs, autoScaling };
}

const instanceId = instanceIdOf(1);
const hook = { group: 'workers', hook: 'drain', token: `token-${instanceId}`, instanceId };
const about = { instanceId, reservationId: 'cr-1', group: 'workers' };

describe('a dry run', () => {
  test.each(EVERY_KIND)('of $name changes nothing', async ({ message }) => {
    const { sqs, cluster, autoScaling, store, pods, hooks, clock } = await start();
    autoScaling.begin(hook, 300);
    const id = sqs.send(message({ ...about, time: clock.now() }));
    await clock.advance(400_000);
    expect(sqs.ids).toEqual([id]);
    expect(new Set(sqs.eventsOf(id).map(({ type }) => type))).toEqual(new Set(['received']));
    expect(store.writes.count).toBe(0);
    expect(pods.evictions.count + pods.deletions.count).toBe(0);
    const { completions, heartbeats, replacements } = hooks;
    expect(completions.count + heartbeats.count + replacements.count).toBe(0);
    expect(cluster.node('node-1')).toMatchObject({ journal: undefined, taints: [] });
    expect(cluster.acts).toEqual([]);
  });

  test('of a terminate hook of an instance without a node changes nothing', async () => {
    const { sqs, hooks, clock } = await start();
    const id = sqs.send(
      messages.terminateHook({ ...hook, instanceId: instanceIdOf(7), time: clock.now() }),
    );
    await clock.advance(400_000);
    expect(sqs.ids).toEqual([id]);
    expect(new Set(sqs.eventsOf(id).map(({ type }) => type))).toEqual(new Set(['received']));
    expect(hooks.completions.count).toBe(0);
  });

  test('tells all that would be done, and that it is not', async () => {
    const { sqs, autoScaling, report, clock } = await start();
    autoScaling.begin(hook, 300);
    sqs.send(messages.terminateHook({ ...hook, time: clock.now() }));
    await clock.advance(60_000);
    expect(report.told('would change a node')).not.toEqual([]);
    expect(report.told('would evict a pod').map(({ pod }) => pod)).toEqual(['web-1', 'db-0']);
    expect(report.told('drained')).toHaveLength(1);
    expect(report.told('would complete a lifecycle hook')).toMatchObject([hook]);
    expect(report.lines.every(({ facts }) => facts['dryRun'] === true)).toBe(true);
  });

  test('tells that a drained instance would be replaced', async () => {
    const { sqs, report, clock } = await start();
    sqs.send(messages.rebalance({ instanceId, time: clock.now() }));
    await clock.advance(60_000);
    expect(report.told('would replace an instance')).toEqual([
      { instance: instanceId, dryRun: true },
    ]);
  });

  test('plans each message once, however often it is received', async () => {
    const { sqs, report, clock } = await start();
    const id = sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(400_000);
    expect(sqs.eventsOf(id).length).toBeGreaterThan(10);
    expect(report.told('interruption received')).toHaveLength(1);
    expect(report.told('drained')).toHaveLength(1);
  });

  test('follows what others do to the nodes', async () => {
    const { sqs, cluster, report, clock } = await start();
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(1000);
    const foreign = { key: 'dedicated', value: 'team-a', effect: 'NoSchedule' };
    cluster.changeNode('node-1', { taints: [foreign] });
    await clock.advance(10_000);
    expect(report.told('would change a node').length).toBeLessThan(4);
    cluster.deleteNode('node-1');
    cluster.addNode('node-1', { instanceId: instanceIdOf(2), systemUUID: 'another' });
    sqs.send(messages.spotNotice({ instanceId: instanceIdOf(2), time: clock.now() }));
    await clock.advance(10_000);
    expect(report.told('marked').map(({ instance }) => instance)).toEqual([
      instanceId,
      instanceIdOf(2),
    ]);
    expect(report.told('journal void')).toEqual([]);
  });
});
