import { describe, expect, test } from 'vitest';
import { at, stateChange } from '../plan/samples.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { addPods, beginHook, newOutside, rebalance, spot, startDrains, soon } from './start.ts';

describe('a Node that is deleted while it is drained', () => {
  test('ends the drain', async () => {
    const started = startDrains();
    const { cluster, record, drains, report, pods, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 2);
    await record(spot());
    await clock.advance(10_000);
    cluster.deleteNode('node-1');
    await clock.advance(100);
    expect(drains.active).toBe(0);
    expect(report.told('node gone')).toMatchObject([{ node: 'node-1', stayed: 2 }]);
    const asked = pods.evictions.count;
    await clock.advance(60_000);
    expect(pods.evictions.count).toBe(asked);
    expect(pods.watches.size).toBe(0);
    expect(soon(clock)).toEqual([]);
  });

  test('has its hooks completed at once', async () => {
    const started = startDrains();
    const { cluster, record, autoScaling, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(beginHook(started));
    await clock.advance(10_000);
    expect(autoScaling.completedAt('token-1')).toBeUndefined();
    cluster.deleteNode('node-1');
    await clock.advance(100);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
  });

  test.each([
    { name: 'volumes', rules: {}, attached: true },
    { name: 'load balancers', rules: { loadBalancerDrainSeconds: 200 }, attached: false },
  ])('does not wait for $name any more', async ({ rules, attached }) => {
    const started = startDrains({ rules });
    const { cluster, record, autoScaling, clock } = started;
    if (attached) {
      cluster.volumeOfClaim.set('shop/data', 'pv-1');
      cluster.attached.set('node-1', new Set(['pv-1']));
    }
    addPods(started, 1, { claims: ['data'] });
    await record(beginHook(started));
    await clock.advance(20_000);
    expect(autoScaling.completedAt('token-1')).toBeUndefined();
    cluster.deleteNode('node-1');
    await clock.advance(2500);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
  });

  test('is drained again when its machine registers anew', async () => {
    const started = startDrains();
    const { cluster, record, journal, clock } = started;
    await record(spot());
    await clock.advance(10_000);
    expect(journal().state).toBe('settled');
    cluster.deleteNode('node-1');
    await clock.advance(5000);
    cluster.addNode('node-1');
    addPods(started, 1);
    await clock.advance(100);
    expect(journal().state).toBe('draining');
    await clock.advance(5000);
    expect(cluster.podsOn('node-1')).toEqual([]);
    expect(journal().state).toBe('settled');
  });

  test('is drained again although its machine was back before its hooks were completed', async () => {
    const started = startDrains();
    const { cluster, record, hooks, journal, clock } = started;
    hooks.completions.extraMs = 10_000;
    addPods(started, 1, { endsAfterSeconds: 20 });
    await record(beginHook(started));
    await clock.advance(1000);
    cluster.deleteNode('node-1');
    await clock.advance(1000);
    cluster.addNode('node-1');
    await clock.advance(60_000);
    expect(cluster.podsOn('node-1')).toEqual([]);
    expect(journal().state).toBe('settled');
  });
});

describe('a Node that goes while nobody leads', () => {
  /** A term in which a hook was recorded, and which has ended before the node was empty. */
  async function afterTerm() {
    const first = startDrains();
    addPods(first, 1, { endsAfterSeconds: 3600 });
    await first.record(beginHook(first, { timeoutSeconds: 3600 }));
    await first.clock.advance(1000);
    await first.stop();
    return first;
  }

  test('has its hooks completed by the next term', async () => {
    const { outside, ports, cluster, clock, autoScaling } = await afterTerm();
    cluster.deleteNode('node-1');
    await clock.advance(60_000);
    expect(autoScaling.completedAt('token-1')).toBeUndefined();
    const second = startDrains({ outside, ports });
    await clock.advance(1000);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
    expect(second.acts()).toEqual(['evict web-1-1 30']);
  });

  test('has its hooks completed by the replica that takes over, through throttling', async () => {
    const outside = newOutside();
    const standby = outside.connect();
    const first = startDrains({ outside });
    await first.record(spot());
    await first.record(beginHook(first, { timeoutSeconds: 3600 }));
    first.kill();
    first.cluster.deleteNode('node-1');
    await first.clock.advance(150_000);
    const throttled = { outcome: 'failed', denied: false, message: 'throttled' } as const;
    standby.hooks.completions.answerNext(throttled, throttled, throttled);
    const second = startDrains({ outside, ports: standby });
    await second.clock.advance(30_000);
    expect(second.autoScaling.completedAt('token-1')).toBeDefined();
    expect(soon(second.clock)).toEqual([]);
  });

  test('is drained on when it is back, and its hooks wait for that', async () => {
    const { outside, ports, cluster, clock, autoScaling } = await afterTerm();
    cluster.deleteNode('node-1');
    await clock.advance(10_000);
    cluster.addNode('node-1');
    await clock.advance(10_000);
    const second = startDrains({ outside, ports });
    await clock.advance(1000);
    expect(second.report.told('journal restored')).toHaveLength(1);
    expect(second.journal().state).toBe('draining');
    expect(autoScaling.completedAt('token-1')).toBeUndefined();
    for (const { uid } of cluster.podsOn('node-1')) cluster.removePod(uid);
    await clock.advance(10_000);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
  });

  test('is forgotten after an hour', async () => {
    const { outside, ports, cluster, clock, autoScaling } = await afterTerm();
    cluster.deleteNode('node-1');
    await clock.advance(3_600_000);
    startDrains({ outside, ports });
    await clock.advance(1000);
    expect(autoScaling.completedAt('token-1')).toBeUndefined();
  });
});

describe('a Node that registers anew while its hook cannot be completed', () => {
  test('is empty before the hook is completed', async () => {
    const started = startDrains();
    const { cluster, record, hooks, autoScaling, clock } = started;
    cluster.budgets.set('web', 0);
    const [pod] = addPods(started, 1);
    await record(beginHook(started));
    await clock.advance(5000);
    hooks.completions.answerNext({ outcome: 'failed', denied: false, message: 'throttled' });
    cluster.deleteNode('node-1');
    await clock.advance(100);
    cluster.addNode('node-1');
    await clock.advance(20_000);
    expect(autoScaling.completedAt('token-1')).toBeUndefined();
    cluster.removePod(pod?.uid ?? '');
    await clock.advance(5000);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
  });
});

describe('a Node whose name another machine takes over', () => {
  test('has the hooks of the one that is gone completed, in its name', async () => {
    const started = startDrains();
    const { cluster, record, hooks, autoScaling, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(beginHook(started));
    await clock.advance(5000);
    hooks.completions.answerNext({ outcome: 'failed', denied: false, message: 'throttled' });
    cluster.deleteNode('node-1');
    cluster.addNode('node-1', { instanceId: instanceIdOf(2), systemUUID: 'uuid-2' });
    await clock.advance(100);
    // The new one is interrupted while the old one's hook is still to be completed.
    await record(rebalance(5, 2));
    await clock.advance(10_000);
    expect(hooks.completions.calls.map(({ args: [{ instanceId }] }) => instanceId)).toEqual([
      instanceIdOf(1),
      instanceIdOf(1),
    ]);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
  });

  test('is drained for the new machine when that is interrupted', async () => {
    const started = startDrains();
    const { cluster, record, hooks, journal, clock } = started;
    hooks.completions.extraMs = 20_000;
    await record(beginHook(started));
    await clock.advance(1000);
    cluster.deleteNode('node-1');
    cluster.addNode('node-1', { instanceId: instanceIdOf(2), systemUUID: 'uuid-2' });
    addPods(started, 1);
    await clock.advance(100);
    await record(spot(1, 2));
    await clock.advance(60_000);
    expect(cluster.podsOn('node-1')).toEqual([]);
    expect(journal()).toMatchObject({ state: 'settled', machine: { instanceId: instanceIdOf(2) } });
  });

  test('is left alone when nothing calls for its drain', async () => {
    const started = startDrains();
    const { cluster, record, pods, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(spot());
    await clock.advance(5000);
    cluster.changeNode('node-1', { systemUUID: 'another' });
    await clock.advance(1000);
    const asked = pods.evictions.count;
    await clock.advance(120_000);
    expect(pods.evictions.count).toBe(asked);
    expect(cluster.node('node-1')).toMatchObject({
      journal: undefined,
      unschedulable: false,
      taints: [],
    });
    expect(soon(clock)).toEqual([]);
  });
});

describe('a machine that is off', () => {
  const offAt = 5;

  async function startOff(options: { group?: string; denied?: boolean } = {}) {
    const started = startDrains();
    const { cluster, record, hooks, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    if (options.denied === true) {
      hooks.completions.answerBy(() => ({ outcome: 'failed', denied: true, message: 'denied' }));
    }
    await record(beginHook(started, { group: options.group ?? 'workers' }));
    await clock.advance(offAt * 1000);
    cluster.stopKubelet('node-1');
    await record(stateChange('stopped', offAt, { instanceId: instanceIdOf(1) }));
    return started;
  }

  test('is drained no more for the hooks of others', async () => {
    const { drains, journal, report, clock } = await startOff({ group: 'theirs' });
    await clock.advance(10_000);
    expect(journal()).toMatchObject({ state: 'stopped', live: [{ hook: { group: 'theirs' } }] });
    const told = report.told('machine off').length;
    await clock.advance(120_000);
    expect(drains.active).toBe(0);
    expect(report.told('machine off')).toHaveLength(told);
    expect(told).toBe(1);
  });

  test('has a hook that was given up tried again, ever more slowly, every 5 minutes at last', async () => {
    const { hooks, journal, clock } = await startOff({ denied: true });
    await clock.advance(1_000_000);
    expect(journal()).toMatchObject({ state: 'stopped' });
    const before = hooks.completions.count;
    await clock.advance(3_600_000);
    expect(hooks.completions.count - before).toBeGreaterThanOrEqual(11);
    expect(hooks.completions.count - before).toBeLessThanOrEqual(13);
  });

  test('has a hook that was given up completed as soon as the journal changes', async () => {
    const started = await startOff({ denied: true });
    const { hooks, record, autoScaling, clock } = started;
    await clock.advance(2_000_000);
    hooks.completions.answerBy(undefined);
    await record(beginHook(started, { token: 'token-2' }));
    await clock.advance(1000);
    expect(autoScaling.completedAt('token-2')).toBeDefined();
  });
});

describe('a process that dies', () => {
  test('leaves a drain that the next one finishes from the journal', async () => {
    const outside = newOutside();
    const first = startDrains({ outside });
    addPods(first, 40, { endsAfterSeconds: 10 });
    await first.record(beginHook(first));
    await first.clock.until(() => first.cluster.acts.length > 0);
    first.kill();
    expect(first.cluster.acts.length).toBeLessThan(40);
    await outside.clock.advance(3000);

    const { cluster, autoScaling, journal, report, clock } = startDrains({ outside });
    expect(report.told('resumed')).toEqual([{ nodes: 1 }]);
    await clock.advance(20_000);
    expect(cluster.podsOn('node-1')).toEqual([]);
    expect(cluster.acts).toHaveLength(40);
    expect(autoScaling.completedAt('token-1')).toBeDefined();
    expect(journal().state).toBe('settled');
  });

  test('between the completion of a hook and its record does no harm', async () => {
    const outside = newOutside();
    const first = startDrains({ outside });
    await first.record(beginHook(first));
    await first.clock.until(() => first.autoScaling.completedAt('token-1') !== undefined, 30_000);
    first.kill();
    await outside.clock.advance(1000);

    const { journal, report, clock } = startDrains({ outside });
    await clock.advance(5000);
    expect(journal()).toMatchObject({ state: 'settled' });
    expect(report.told('lifecycle hook completed')).toMatchObject([{ answer: 'over' }]);
  });

  test('leaves a settled node in peace', async () => {
    const outside = newOutside();
    const first = startDrains({ outside });
    await first.record(spot());
    await first.clock.advance(10_000);
    first.kill();
    addPods(first, 1, { owner: { kind: 'DaemonSet', name: 'agent', uid: 'agent' } });

    const { pods, drains, clock } = startDrains({ outside });
    await clock.advance(10_000);
    expect(drains.active).toBe(0);
    expect(pods.lists.count).toBe(0);
    expect(soon(clock)).toEqual([]);
  });

  test.each([10, 30, 60, 100, 300, 1000, 2500, 3020, 5000, 12_000, 20_030])(
    '%d ms after the record costs no pod and no hook',
    async (afterMs) => {
      const outside = newOutside();
      const first = startDrains({ outside });
      first.cluster.budgets.set('web', 1);
      addPods(first, 3, { endsAfterSeconds: 4 });
      first.cluster.onPodEvent(({ type }) => {
        if (type === 'departed') first.cluster.budgets.set('web', 1);
      });
      await first.record(beginHook(first));
      await outside.clock.advance(afterMs);
      first.kill();
      await outside.clock.advance(2000);

      const { cluster, autoScaling, journal, clock } = startDrains({ outside });
      await clock.advance(60_000);
      expect(cluster.podsOn('node-1')).toEqual([]);
      expect(cluster.acts.map(({ act }) => act)).toEqual(['evict', 'evict', 'evict']);
      expect(autoScaling.completedAt('token-1')).toBeDefined();
      expect(journal().state).toBe('settled');
      expect(soon(clock)).toEqual([]);
    },
  );
});

describe('stopping', () => {
  test.each([
    { name: 'at once', afterMs: 0 },
    { name: 'while evictions are under way', afterMs: 35 },
    { name: 'while budgets are waited for', afterMs: 20_000 },
    { name: 'while a machine is asked for life', afterMs: 181_003 },
  ])('$name ends all drains, and leaves no timer', async ({ afterMs }) => {
    const started = startDrains({ nodes: 3, rules: { budgets: 'always' } });
    const { cluster, record, pods, report, stop, clock } = started;
    cluster.budgets.set('web', 0);
    for (const i of [1, 2, 3]) {
      addPods(started, 10, {}, `node-${i}`);
      await record(spot(0, i), `node-${i}`);
    }
    await clock.advance(Math.max(0, at(0) + afterMs - clock.now()));
    await stop();
    const asked = pods.evictions.count;
    await clock.advance(60_000);
    expect(pods.evictions.count).toBe(asked);
    expect(pods.watches.size).toBe(0);
    expect(report.told('drain failed')).toEqual([]);
    expect(soon(clock)).toEqual([]);
  });

  test('begins no drain any more', async () => {
    const started = startDrains();
    const { cluster, drains, pods, stop, records, clock } = started;
    addPods(started, 1);
    void records.apply('node-1', { type: 'event', event: spot() });
    await clock.advance(3);
    await stop();
    await clock.advance(10_000);
    expect(cluster.node('node-1').journal).toBeDefined();
    expect(drains.active).toBe(0);
    expect(pods.evictions.count).toBe(0);
  });
});

describe('many nodes', () => {
  test('are drained at once, by one watch of pods', async () => {
    const started = startDrains({ nodes: 50 });
    const { cluster, records, pods, drains, clock } = started;
    for (let i = 1; i <= 50; i += 1) {
      addPods(started, 10, {}, `node-${i}`);
      void records.apply(`node-${i}`, { type: 'event', event: spot(0, i) });
    }
    await clock.advance(2000);
    expect(drains.active).toBe(50);
    expect(pods.watches.size).toBe(1);
    await clock.advance(30_000);
    expect(cluster.allPods()).toEqual([]);
    expect(drains.active).toBe(0);
    expect(pods.watches.size).toBe(0);
  });

  test('behind one budget are emptied a pod at a time, none past it, none written off', async () => {
    const started = startDrains({ nodes: 5 });
    const { cluster, records, pods, clock } = started;
    cluster.budgets.set('web', 1);
    let gone = 0;
    cluster.onPodEvent(({ type }) => {
      if (type !== 'departed') return;
      gone += 1;
      cluster.budgets.set('web', 1);
    });
    for (let i = 1; i <= 5; i += 1) {
      addPods(started, 10, {}, `node-${i}`);
      void records.apply(`node-${i}`, { type: 'event', event: rebalance(0, i) });
    }
    await clock.advance(600_000);
    expect(gone).toBe(50);
    expect(pods.deletions.count).toBe(0);
    expect(soon(clock)).toEqual([]);
  });
});
