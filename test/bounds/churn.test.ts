import { describe, expect, test } from 'vitest';
import { LoadBalancerFloor } from '../../src/plan/floor.ts';
import { EventRecorder, recorded, type EventSink } from '../../src/report/event-recorder.ts';
import { addPods, beginHook, newOutside, rebalance, spot, startDrains } from '../drain/start.ts';
import { start as startIntake } from '../intake/start.ts';
import { nodeView } from '../plan/samples.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { VirtualClock } from '../stand-ins/virtual-clock.ts';
import { collectionsOf } from './collections.ts';

/** All that are larger. */
function above(
  limit: number,
  sizes: ReadonlyMap<string, number>,
): readonly (readonly [string, number])[] {
  return [...sizes].filter(([, size]) => size > limit);
}

describe('nothing is left in memory', () => {
  test('of nodes that were interrupted and have gone, but for an hour', async () => {
    const started = startDrains({ nodes: 2 });
    const { cluster, clock, record, records, drains } = started;
    for (let number = 10; number < 60; number += 1) {
      const node = `node-${number}`;
      cluster.addNode(node, { instanceId: instanceIdOf(number), zone: `zone-${number}` });
      addPods(started, 2, {}, node);
      await clock.advance(100);
      await record(beginHook(started, { token: `token-${number}`, number }), node);
      await record(rebalance(0, number), node);
      await record(spot(0, number), node);
      await clock.advance(20_000);
      for (const { uid } of cluster.podsOn(node)) cluster.removePod(uid);
      cluster.deleteNode(node);
      await clock.advance(1000);
    }
    await clock.advance(600_000);
    const sizes = collectionsOf({ records, drains }, 'flow');
    expect(sizes.get('flow.records.departed.byInstance')).toBe(50);
    const left = above(5, sizes).filter(([path]) => !path.startsWith('flow.records.departed'));
    expect(left).toEqual([]);
  });

  test('of pods that came and went while a drain lasted', async () => {
    const started = startDrains({ outside: newOutside(1) });
    const { cluster, clock, record, drains } = started;
    addPods(started, 1, { uid: 'stays', owner: { kind: 'ReplicaSet', name: 'db', uid: 'db' } });
    cluster.budgets.set('db', 0);
    await record(rebalance(0));
    await clock.advance(5000);
    for (let round = 0; round < 40; round += 1) {
      // Of a Job of its own each, and by one of them the node is listed again.
      for (let i = 0; i < 10; i += 1) {
        cluster.addPod('node-1', `job-${round}-${i}`, {
          owner: { kind: 'Job', name: `job-${round}`, uid: `job-${round}-${i}` },
          toleratesInterruption: true,
          claims: Array.from({ length: 5 }, (_, k) => `claim-${round}-${i}-${k}`),
        });
      }
      cluster.addPod('node-1', `overdue-${round}`, {
        deletion: { endsAt: clock.now(), graceSeconds: 0 },
        endsAfterSeconds: 1,
      });
      drains.wake('node-1');
      await clock.advance(60_000);
    }
    const large = above(100, collectionsOf(drains, 'drains'));
    expect(large).toEqual([
      ['drains.drains[].tasks.departed.claims', 1000],
      ['drains.drains[].tasks.departed.names', 250],
    ]);
  });

  test('of hooks that came and went while a drain lasted', async () => {
    const started = startDrains();
    const { cluster, clock, record, drains, journal } = started;
    addPods(started, 1);
    cluster.budgets.set('web', 0);
    for (let i = 0; i < 60; i += 1) {
      await record(beginHook(started, { token: `token-${i}`, timeoutSeconds: 30 }));
      await clock.advance(120_000);
    }
    expect(journal().live.length).toBeGreaterThan(0);
    expect(above(40, collectionsOf(drains, 'drains'))).toEqual([]);
  });

  test('of events that were told, beyond what may wait and what may come again', async () => {
    const clock = new VirtualClock();
    const sink: EventSink = {
      create: () => Promise.resolve({ outcome: 'written' }),
      update: () => Promise.resolve({ outcome: 'written' }),
    };
    const { metrics, report } = newOutside().connect();
    const recorder = new EventRecorder({ sink, clock, metrics, report });
    const events = recorded(recorder);
    for (let i = 0; i < 10_000; i += 1) {
      events.onNode({ name: 'node', uid: `${i}` }, 'MarksRemoved', { instance: 'i-1' });
      if (i % 10 === 0) await clock.advance(1000);
    }
    for (let i = 0; i < 5000; i += 1) {
      events.onNode({ name: 'node', uid: `burst-${i}` }, 'MarksRemoved', { instance: 'i-1' });
    }
    const sizes = collectionsOf(recorder, 'recorder');
    expect(sizes.get('recorder.remembered.byKey')).toBe(4096);
    expect(sizes.get('recorder.remembered.notes')).toBe(4096);
    expect(sizes.get('recorder.waiting.Node')).toBe(1000);
    await clock.advance(1_000_000);
    expect(above(0, collectionsOf(recorder, 'recorder'))).toEqual([]);
    expect(clock.pending()).toEqual([]);
    recorder.close();
  });

  test('of zones that have no nodes any more', () => {
    const floor = new LoadBalancerFloor();
    for (let i = 0; i < 1000; i += 1) floor.learn('node-1', nodeView({ zone: `zone-${i}` }));
    expect(above(1, collectionsOf(floor, 'floor'))).toEqual([]);
  });
});

describe('messages in memory', () => {
  test('are held without their bodies', async () => {
    const { sqs, clock, intake, notice } = startIntake({ nodes: 0 });
    for (let i = 1; i <= 20; i += 1) notice(i, { padding: 'x'.repeat(100_000) });
    await clock.advance(5000);
    expect(sqs.ids).toHaveLength(20);
    const sizes = collectionsOf(intake, 'intake');
    expect(sizes.get('intake.park.byMessage')).toBe(20);
    expect(JSON.stringify([...parkedOf(intake)]).length).toBeLessThan(20_000);
  });

  test('are parked no more than of 50,000 instances together', async () => {
    const { sqs, clock, intake } = startIntake({ nodes: 0 });
    for (let i = 0; i < 12; i += 1) {
      const instances = Array.from({ length: 9000 }, (_, k) => ({
        entityValue: instanceIdOf(i * 9000 + k + 1),
      }));
      sqs.send({
        'detail-type': 'AWS Health Event',
        source: 'aws.health',
        account: '123456789012',
        time: new Date(clock.now()).toISOString(),
        detail: {
          service: 'EC2',
          eventTypeCategory: 'scheduledChange',
          eventTypeCode: 'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
          eventArn: `arn:aws:health:eu-central-1::event/EC2/x/${i}`,
          startTime: 'Sat, 05 Jun 2027 15:10:09 GMT',
          affectedEntities: instances,
        },
      });
    }
    await clock.advance(10_000);
    expect(collectionsOf(intake, 'intake').get('intake.park.byMessage')).toBe(5);
    // All are hidden all the same, and judged when they come back.
    expect(sqs.ids).toHaveLength(12);
  });
});

function parkedOf(intake: object): Iterable<unknown> {
  const park: unknown = Reflect.get(intake, 'park');
  const byMessage: unknown =
    typeof park === 'object' && park !== null ? Reflect.get(park, 'byMessage') : undefined;
  if (byMessage instanceof Map) return byMessage.values();
  throw new Error('the parked messages are somewhere else');
}
