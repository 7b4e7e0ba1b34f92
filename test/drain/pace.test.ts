import { describe, expect, onTestFinished, test } from 'vitest';
import { Pacer } from '../../src/drain/pacer.ts';
import { at, scheduledChange, stateChange } from '../plan/samples.ts';
import * as samples from '../plan/samples.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import {
  addPods,
  beginHook,
  newOutside,
  rebalance,
  spot,
  startDrains,
  type Started,
} from './start.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const reboot = (
  number: number,
  startSeconds: number,
  changes: Partial<ReturnType<typeof scheduledChange>> = {},
) =>
  scheduledChange(0, {
    instanceId: instanceIdOf(number),
    startAt: at(startSeconds),
    endAt: at(startSeconds + 7200),
    ...changes,
  });

function states({ cluster, journal }: Started): Record<string, string> {
  return Object.fromEntries(
    cluster
      .allNodes()
      .filter((node) => node.journal !== undefined)
      .map(({ name }) => [name, journal(name).state]),
  );
}

function taintOf({ cluster }: Started, node = 'node-1'): readonly string[] {
  return cluster.node(node).taints.map(({ key, value, effect }) => `${value ?? key}:${effect}`);
}

describe('paced drains', () => {
  test('go one after the other, the oldest first, and a slot is free when its node is gone', async () => {
    const started = startDrains({ nodes: 3, rules: { voluntaryDrainLimit: { nodes: 1 } } });
    const { cluster, record, clock } = started;
    for (const number of [1, 2, 3]) {
      addPods(started, 2, {}, `node-${number}`);
      await record(rebalance(0, number), `node-${number}`);
    }
    await clock.advance(MINUTE);
    expect(states(started)).toEqual({
      'node-1': 'settled',
      'node-2': 'waiting',
      'node-3': 'waiting',
    });
    expect(taintOf(started, 'node-2')).toEqual(['rebalance:PreferNoSchedule']);
    expect(cluster.podsOn('node-2')).toHaveLength(2);

    await clock.advance(HOUR);
    expect(states(started)['node-2']).toBe('waiting');
    cluster.deleteNode('node-1');
    await clock.advance(MINUTE);
    expect(states(started)).toEqual({ 'node-2': 'settled', 'node-3': 'waiting' });
  });

  test('keep their slot while a further turn of theirs cannot be recorded', async () => {
    const { clock, report } = newOutside().connect();
    const asked: string[] = [];
    const pacer = new Pacer(
      {
        clock,
        report,
        selectedNodes: () => 2,
        journals: {
          journalOf: () => undefined,
          apply: async (name) => {
            asked.push(name);
            return { outcome: 'refused' };
          },
        },
      },
      samples.policy({ voluntaryDrainLimit: { nodes: 1 } }),
    );
    onTestFinished(() => pacer.stop());
    const rebalanced = {
      id: 'rebalance',
      row: 'rebalance',
      kind: 'rebalance',
      deadlineAt: undefined,
    } as const;
    const begun = samples.interruption({ ...rebalanced, begunAt: at(1) });
    const retired = samples.interruption({
      id: 'change/retirement',
      row: 'retirement',
      kind: 'scheduled-change',
      deadlineAt: at(9 * 86_400),
    });
    pacer.follow('node-1', samples.journal({ state: 'draining', live: [begun, retired] }));
    const waits = samples.interruption(rebalanced);
    pacer.follow('node-2', samples.journal({ state: 'waiting', live: [waits] }));
    await clock.advance(5 * MINUTE);
    expect(asked.length).toBeGreaterThan(1);
    expect(new Set(asked)).toEqual(new Set(['node-1']));
  });

  test('give up their slot 15 minutes after they are drained, where they have a deadline', async () => {
    const started = startDrains({ nodes: 2, rules: { voluntaryDrainLimit: { nodes: 1 } } });
    const { record, clock } = started;
    for (const number of [1, 2]) {
      await record(reboot(number, 30 * 86_400, { change: 'retirement' }), `node-${number}`);
    }
    await clock.advance(14 * MINUTE);
    expect(states(started)).toEqual({ 'node-1': 'settled', 'node-2': 'waiting' });
    await clock.advance(2 * MINUTE);
    expect(states(started)).toEqual({ 'node-1': 'settled', 'node-2': 'settled' });
  });

  test('give up their slot although their instances may not be replaced', async () => {
    const rules = { voluntaryDrainLimit: { nodes: 1 }, afterVoluntaryDrain: 'replace' } as const;
    const started = startDrains({ nodes: 2, rules });
    const { record, hooks, clock, report } = started;
    hooks.replacements.answerBy(() => ({ outcome: 'failed', denied: true, message: '403' }));
    for (const number of [1, 2]) await record(rebalance(0, number), `node-${number}`);
    await clock.advance(14 * MINUTE);
    expect(states(started)).toEqual({ 'node-1': 'settled', 'node-2': 'waiting' });
    await clock.advance(6 * MINUTE);
    expect(states(started)).toEqual({ 'node-1': 'settled', 'node-2': 'settled' });
    expect(report.told('instance not replaced')).toHaveLength(2);
  });

  test('of a reboot in 40 days begin an hour before it, whatever restarts there are', async () => {
    const outside = newOutside(1);
    const first = startDrains({ outside });
    addPods(first, 2);
    await first.record(reboot(1, 40 * 86_400));
    await first.clock.advance(20 * DAY);
    expect(states(first)).toEqual({ 'node-1': 'waiting' });
    first.kill();

    const second = startDrains({ outside });
    await second.clock.advance(20 * DAY - HOUR - MINUTE);
    expect(states(second)).toEqual({ 'node-1': 'waiting' });
    expect(second.acts()).toEqual([]);
    await second.clock.advance(2 * MINUTE);
    expect(states(second)).toEqual({ 'node-1': 'settled' });
    expect(second.acts()).toEqual(['evict web-1-1 30', 'evict web-1-2 30']);
    expect(taintOf(second)).toContain('scheduled-change:NoSchedule');
  });

  test('that wait for budgets alone for 15 minutes wait again, marks too, for 15 minutes', async () => {
    const started = startDrains({ nodes: 2, rules: { voluntaryDrainLimit: { nodes: 1 } } });
    const { cluster, record, clock, report } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 2);
    await record(rebalance(0, 1), 'node-1');
    await clock.advance(1000);
    await record(rebalance(0, 2), 'node-2');
    await clock.advance(14 * MINUTE);
    expect(states(started)).toEqual({ 'node-1': 'draining', 'node-2': 'waiting' });
    expect(cluster.node('node-1').unschedulable).toBe(true);

    await clock.advance(2 * MINUTE);
    expect(report.told('drain postponed')).toHaveLength(1);
    expect(states(started)).toEqual({ 'node-1': 'waiting', 'node-2': 'settled' });
    expect(cluster.node('node-1')).toMatchObject({
      unschedulable: false,
      interruptionLabel: undefined,
      excludeFromLoadBalancers: undefined,
    });
    expect(taintOf(started)).toEqual(['rebalance:PreferNoSchedule']);

    cluster.deleteNode('node-2');
    await clock.advance(12 * MINUTE);
    expect(states(started)).toEqual({ 'node-1': 'waiting' });
    await clock.advance(4 * MINUTE);
    expect(states(started)).toEqual({ 'node-1': 'draining' });
    cluster.budgets.set('web', 2);
    await clock.advance(MINUTE);
    expect(states(started)).toEqual({ 'node-1': 'settled' });
  });

  test('do not wait again from their last call on: budgets yield to the deadline', async () => {
    const started = startDrains({ nodes: 1 });
    const { cluster, record, clock, report, journal } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(reboot(1, 1800));
    await clock.advance(25 * MINUTE);
    expect(journal().state).toBe('draining');
    await clock.advance(5 * MINUTE);
    expect(report.told('drain postponed')).toEqual([]);
    expect(report.told('pod deleted past its budget')).toHaveLength(1);
    expect(journal().state).toBe('settled');
  });

  test('are lifted by an emergency, and others take their place', async () => {
    const started = startDrains({ nodes: 2, rules: { voluntaryDrainLimit: { nodes: 1 } } });
    const { record, clock, cluster } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(rebalance(0, 1), 'node-1');
    await clock.advance(1000);
    await record(rebalance(0, 2), 'node-2');
    await clock.advance(1000);
    expect(states(started)).toEqual({ 'node-1': 'draining', 'node-2': 'waiting' });
    await record(spot(2, 1), 'node-1');
    await clock.advance(10_000);
    expect(states(started)).toEqual({ 'node-1': 'draining', 'node-2': 'settled' });
    expect(taintOf(started)).toContain('spot-interruption:NoSchedule');
  });

  test('stop where they stand when their change is cancelled, and the node is as it was', async () => {
    const started = startDrains();
    const { record, clock, cluster, drains } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 2);
    await record(reboot(1, 2400));
    await clock.advance(5000);
    expect(cluster.node('node-1').unschedulable).toBe(true);
    await record(reboot(1, 2400, { status: 'closed', lastUpdatedAt: at(4) }));
    await clock.advance(1000);
    expect(drains.active).toBe(0);
    expect(cluster.podsOn('node-1')).toHaveLength(2);
    expect(cluster.node('node-1')).toMatchObject({ unschedulable: false, taints: [] });
    expect(states(started)).toEqual({ 'node-1': 'undone' });
  });
});

describe('time alone', () => {
  test('ends a rebalance recommendation after a day', async () => {
    const started = startDrains();
    const { record, clock, cluster } = started;
    await record(rebalance());
    await clock.advance(DAY - MINUTE);
    expect(states(started)).toEqual({ 'node-1': 'settled' });
    await clock.advance(2 * MINUTE);
    expect(states(started)).toEqual({ 'node-1': 'undone' });
    expect(cluster.node('node-1')).toMatchObject({ unschedulable: false, taints: [] });
  });

  test('ends a network maintenance at its end, when the node is Ready', async () => {
    const started = startDrains();
    const { record, clock, cluster } = started;
    await record(reboot(1, 2 * 3600, { change: 'network' }));
    await clock.advance(3 * HOUR);
    cluster.changeNode('node-1', { ready: false });
    await clock.advance(2 * HOUR);
    expect(states(started)).toEqual({ 'node-1': 'settled' });
    cluster.changeNode('node-1', { ready: true, readySince: clock.now() });
    await clock.advance(1000);
    expect(states(started)).toEqual({ 'node-1': 'undone' });
  });
});

describe('a machine that goes off', () => {
  test('has its hooks completed and its pods left alone', async () => {
    const started = startDrains({ nodes: 1 });
    const { record, clock, cluster, autoScaling, journal, acts, report } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 2);
    await record(beginHook(started, { timeoutSeconds: 3600 }));
    await clock.advance(10_000);
    expect(autoScaling.completedAt('token-1')).toBeUndefined();
    await record(stateChange('terminated', 10, { instanceId: instanceIdOf(1) }));
    await clock.advance(1000);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
    expect(journal().state).toBe('stopped');
    expect(acts()).toEqual([]);
    expect(report.told('machine off')).toHaveLength(1);
  });

  test('has its hooks completed by the next process, if this one dies', async () => {
    const outside = newOutside(1);
    const first = startDrains({ outside });
    const { autoScaling } = first;
    first.hooks.completions.answerBy(() => ({
      outcome: 'failed',
      denied: false,
      message: 'later',
    }));
    await first.record(beginHook(first, { timeoutSeconds: 3600 }));
    await first.record(stateChange('terminated', 10, { instanceId: instanceIdOf(1) }));
    await first.clock.advance(3000);
    first.kill();
    const second = startDrains({ outside });
    await second.clock.advance(1000);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
    expect(second.journal().state).toBe('stopped');
  });

  test('is taken out of service when it is not Ready and its Lease is older, and put back on return', async () => {
    const started = startDrains({ rules: { outOfServiceTaint: true } });
    const { record, clock, cluster } = started;
    const keys = () => cluster.node('node-1').taints.map(({ key }) => key);
    await clock.advance(1000);
    cluster.stopKubelet('node-1');
    await clock.advance(1000);
    await record(stateChange('stopped', 2, { instanceId: instanceIdOf(1) }));
    // Shown as Ready for a while after it died.
    await clock.advance(40_000);
    expect(keys()).toEqual([]);
    cluster.changeNode('node-1', { ready: false });
    await clock.advance(6000);
    expect(keys()).toEqual(['node.kubernetes.io/out-of-service']);
    cluster.changeNode('node-1', { ready: true, readySince: clock.now(), bootId: 'boot-2' });
    await clock.advance(1000);
    expect(keys()).toEqual([]);
    expect(states(started)).toEqual({ 'node-1': 'undone' });
  });

  test('is not while its kubelet renews its Lease', async () => {
    const started = startDrains({ rules: { outOfServiceTaint: true } });
    const { record, clock, cluster, journal } = started;
    cluster.changeNode('node-1', { ready: false });
    await record(stateChange('stopped', 0, { instanceId: instanceIdOf(1) }));
    await clock.advance(20 * MINUTE);
    expect(cluster.node('node-1').taints).toEqual([]);
    expect(journal().state).toBe('undone');
  });

  test('is not where its kubelet has no Lease: that proves nothing', async () => {
    const started = startDrains({ rules: { outOfServiceTaint: true } });
    const { record, clock, cluster, store } = started;
    store.renewals.answerBy(() => ({ outcome: 'never' }));
    cluster.changeNode('node-1', { ready: false });
    await record(stateChange('stopped', 0, { instanceId: instanceIdOf(1) }));
    await clock.advance(MINUTE);
    expect(store.renewals.count).toBeGreaterThan(5);
    expect(cluster.node('node-1').taints).toEqual([]);
    // There is one after all, and it is older.
    store.renewals.answerBy(() => ({ outcome: 'at', at: samples.at(-600) }));
    await clock.advance(10_000);
    expect(cluster.node('node-1').taints).toMatchObject([
      { key: 'node.kubernetes.io/out-of-service' },
    ]);
  });

  test('is watched for 10 minutes, and then left to others', async () => {
    const started = startDrains({ rules: { outOfServiceTaint: true } });
    const { record, clock, cluster, store } = started;
    cluster.stopKubelet('node-1');
    await clock.advance(1000);
    await record(stateChange('stopped', 1, { instanceId: instanceIdOf(1) }));
    await clock.advance(11 * MINUTE);
    const asked = store.renewals.count;
    cluster.changeNode('node-1', { ready: false });
    await clock.advance(HOUR);
    expect(cluster.node('node-1').taints).toEqual([]);
    expect(store.renewals.count).toBe(asked);
  });

  test('is not without the option', async () => {
    const started = startDrains();
    const { record, clock, cluster, store } = started;
    cluster.stopKubelet('node-1');
    cluster.changeNode('node-1', { ready: false });
    await record(stateChange('stopped', 1, { instanceId: instanceIdOf(1) }));
    await clock.advance(HOUR);
    expect(cluster.node('node-1').taints).toEqual([]);
    expect(store.renewals.count).toBe(0);
  });
});

describe('a machine that comes back', () => {
  test('from hibernation is undone when its kubelet shows life, and what runs on it is let be', async () => {
    const started = startDrains();
    const { record, clock, cluster, acts, journal } = started;
    addPods(started, 1, { endsAfterSeconds: Infinity });
    cluster.stopKubelet('node-1');
    await record(samples.spot(0, { instanceId: instanceIdOf(1), action: 'hibernate' }));
    await clock.advance(5000);
    const before = acts().length;
    await record(stateChange('running', 600, { instanceId: instanceIdOf(1) }));
    expect(journal().state).toBe('settled');
    addPods(started, 1, { toleratesInterruption: true });
    await clock.advance(5 * MINUTE);
    expect(journal().state).toBe('settled');
    cluster.startKubelet('node-1');
    await clock.advance(10 * MINUTE);
    expect(journal().state).toBe('undone');
    expect(acts()).toHaveLength(before);
    expect(cluster.node('node-1')).toMatchObject({ unschedulable: false, taints: [] });
  });

  test('though it should be gone is told of, once, and stays marked', async () => {
    const started = startDrains();
    const { record, clock, cluster, report } = started;
    await record(spot());
    await clock.advance(11 * MINUTE);
    expect(report.told('machine alive after its deadline')).toEqual([]);
    await clock.advance(2 * HOUR);
    expect(report.told('machine alive after its deadline')).toHaveLength(1);
    expect(cluster.node('node-1').unschedulable).toBe(true);
  });

  test('though it should be gone is asked for at growing intervals while no answer comes', async () => {
    const started = startDrains();
    const { record, clock, report, store } = started;
    await record(spot());
    await clock.advance(11 * MINUTE);
    store.renewals.answerBy(() => ({ outcome: 'unknown' }));
    const before = store.renewals.count;
    // Due 12 minutes after noon: asked then, and 5, 15, 35, 75, 155 s and so on after that.
    await clock.advance(2 * MINUTE);
    expect(store.renewals.count - before).toBe(4);
    await clock.advance(HOUR);
    expect(store.renewals.count - before).toBeLessThan(20);
    expect(report.told('machine alive after its deadline')).toEqual([]);

    store.renewals.answerBy(undefined);
    await clock.advance(5 * MINUTE);
    expect(report.told('machine alive after its deadline')).toHaveLength(1);
  });
});
