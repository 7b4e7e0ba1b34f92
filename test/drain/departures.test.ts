import { describe, expect, test } from 'vitest';
import { Departures } from '../../src/drain/departures.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

function start() {
  const outside = new Outside();
  const { cluster } = outside;
  cluster.addNode('node-1');
  const ports = outside.connect();
  const departures = new Departures(ports.pods, ports.report);
  const heard: string[] = [];
  const register = (uid: string): void =>
    departures.register(uid, {
      onTerminating: ({ graceSeconds }) => heard.push(`${uid} terminating ${graceSeconds}`),
      onDeparted: () => heard.push(`${uid} departed`),
    });
  return { ...ports, cluster, departures, heard, register };
}

describe('the watch of departures', () => {
  test('runs once for all drains, from the first one’s list until the last one ends', async () => {
    const { departures, pods, clock } = start();
    const endFirst = departures.use('7');
    const endSecond = departures.use('9');
    expect([...pods.watches].map(({ from }) => from)).toEqual(['7']);
    endFirst();
    expect(pods.watches.size).toBe(1);
    endSecond();
    await clock.advance(10);
    expect(pods.watches.size).toBe(0);
    departures.use('12')();
    departures.use('13');
    expect([...pods.watches].map(({ from }) => from)).toEqual(['13']);
  });

  test('tells each drain of its own pods', async () => {
    const { departures, cluster, clock, heard, register } = start();
    const mine = cluster.addPod('node-1', 'mine', { uid: 'mine' });
    cluster.addPod('node-1', 'other', { uid: 'other' });
    departures.use(cluster.resourceVersion);
    register('mine');
    cluster.deletePod(mine, 20);
    cluster.removePod('other');
    await clock.advance(5000);
    expect(heard).toEqual(['mine terminating 20', 'mine departed']);
  });

  test('takes a pod that has finished for departed', async () => {
    const { departures, cluster, clock, heard, register } = start();
    cluster.addPod('node-1', 'job', { uid: 'job' });
    departures.use(cluster.resourceVersion);
    register('job');
    cluster.finishPod('job');
    await clock.advance(10);
    expect(heard).toEqual(['job departed']);
  });

  test('tells what departed between a list and the registration', async () => {
    const { departures, cluster, clock, heard, register } = start();
    cluster.addPod('node-1', 'quick', { uid: 'quick' });
    departures.use(cluster.resourceVersion);
    cluster.removePod('quick');
    await clock.advance(10);
    register('quick');
    expect(heard).toEqual(['quick departed']);
  });

  test('tells nothing twice, and nothing of what is no longer waited for', async () => {
    const { departures, cluster, clock, heard, register } = start();
    cluster.addPod('node-1', 'a', { uid: 'a' });
    cluster.addPod('node-1', 'b', { uid: 'b' });
    departures.use(cluster.resourceVersion);
    register('a');
    register('b');
    departures.unregister('b');
    cluster.removePod('a');
    cluster.removePod('b');
    await clock.advance(10);
    expect(heard).toEqual(['a departed']);
  });

  test('takes whoever is missing after a gap for departed', async () => {
    const { departures, cluster, pods, heard, register } = start();
    cluster.addPod('node-1', 'still', { uid: 'still' });
    departures.use('1');
    register('still');
    register('missed');
    pods.snapshot();
    expect(heard).toEqual(['missed departed']);
  });

  test('begins anew with the next drain when it has ended by a fault', async () => {
    const { departures, cluster, pods, clock, report, heard, register } = start();
    cluster.addPod('node-1', 'a', { uid: 'a' });
    departures.use(cluster.resourceVersion);
    for (const watch of pods.watches) watch.fail(new Error('a fault'));
    await clock.advance(10);
    expect(report.told('pod watch ended')).toHaveLength(1);
    const end = departures.use(cluster.resourceVersion);
    register('a');
    cluster.removePod('a');
    await clock.advance(10);
    expect(heard).toEqual(['a departed']);
    end();
  });
});
