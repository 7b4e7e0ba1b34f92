import { describe, expect, test } from 'vitest';
import { at, NOON } from '../plan/samples.ts';
import {
  addPods,
  capacity,
  newOutside,
  rebalance,
  SELF,
  spot,
  startDrains,
  type Started,
  soon,
} from './start.ts';

/** Whole seconds after noon of each call. */
function times(calls: readonly { at: number }[]): readonly number[] {
  return calls.map((call) => Math.round((call.at - NOON) / 1000));
}

function isEmpty({ cluster }: Started, node = 'node-1'): boolean {
  return cluster.podsOn(node).length === 0;
}

const STUBBORN = { endsAfterSeconds: Infinity };

describe('emptying a node', () => {
  test('evicts its pods, each with its own grace, and settles when they are gone', async () => {
    const started = startDrains();
    const { record, acts, journal, report, clock } = started;
    started.cluster.addPod('node-1', 'quick', { graceSeconds: 5 });
    started.cluster.addPod('node-1', 'slow', { graceSeconds: 60, endsAfterSeconds: 20 });
    await record(spot());
    await clock.advance(19_000);
    expect(acts()).toEqual(['evict quick 5', 'evict slow 60']);
    expect(journal().state).toBe('draining');
    await clock.advance(3000);
    expect(isEmpty(started)).toBe(true);
    expect(journal().state).toBe('settled');
    expect(report.told('drained')).toMatchObject([{ node: 'node-1', evicted: 2, stayed: 0 }]);
  });

  test('leaves DaemonSet, mirror and finished pods alone', async () => {
    const { cluster, record, acts, journal, report, clock } = startDrains();
    cluster.addPod('node-1', 'agent', {
      owner: { kind: 'DaemonSet', name: 'agent', uid: 'agent' },
    });
    cluster.addPod('node-1', 'kube-proxy', { mirror: true });
    cluster.addPod('node-1', 'job', { finished: true });
    await record(spot());
    await clock.advance(5000);
    expect(acts()).toEqual([]);
    expect(journal().state).toBe('settled');
    expect(report.told('draining')).toMatchObject([
      { pods: 0, daemonSet: 1, mirror: 1, finished: 1 },
    ]);
  });

  test('does not begin before the mark is written', async () => {
    const started = startDrains();
    const { records, pods, store, acts, clock } = started;
    addPods(started, 1);
    const release = store.writes.hold();
    void records.apply('node-1', { type: 'event', event: spot() });
    await clock.advance(5000);
    expect(pods.lists.count).toBe(0);
    release();
    await clock.advance(100);
    expect(acts()).toEqual(['evict web-1-1 30']);
  });

  test('lists pods at the start, 3 s after the mark, when the ordinary are gone, and at the end', async () => {
    const { cluster, record, pods, journal, clock } = startDrains();
    cluster.addPod('node-1', 'web', { graceSeconds: 20, ...STUBBORN });
    cluster.addPod('node-1', 'web-2', { graceSeconds: 20, ...STUBBORN });
    for (const [i, endsAfterSeconds] of [5, 7, 9].entries()) {
      cluster.addPod('node-1', `dns-${i}`, {
        priorityClass: 'system-cluster-critical',
        endsAfterSeconds,
      });
    }
    await record(spot());
    await clock.advance(60_000);
    expect(journal().state).toBe('settled');
    expect(times(pods.lists.calls)).toEqual([0, 3, 20, 29]);
  });

  test('finds a pod that was bound just before the taint', async () => {
    const started = startDrains();
    const { cluster, record, acts, journal, clock } = started;
    await record(spot());
    await clock.advance(1000);
    cluster.addPod('node-1', 'latecomer');
    await clock.advance(6000);
    expect(acts()).toEqual(['evict latecomer 30']);
    expect(journal().state).toBe('settled');
  });

  test('asks nothing about a pod that leaves by itself before its turn', async () => {
    const started = startDrains();
    const { cluster, record, pods, report, clock } = started;
    const many = addPods(started, 20);
    const release = pods.evictions.hold();
    await record(spot());
    await clock.advance(100);
    expect(pods.evictions.count).toBe(16);
    cluster.removePod(many[19]!.uid);
    await clock.advance(100);
    release();
    await clock.advance(5000);
    expect(pods.evictions.count).toBe(19);
    expect(report.told('drained')).toMatchObject([{ evicted: 19, leftByThemselves: 1 }]);
  });

  test('asks again each second while the API server lists no pods', async () => {
    const started = startDrains();
    const { record, pods, acts, report, clock } = started;
    addPods(started, 1);
    pods.lists.answerNext(...Array.from({ length: 5 }, () => new Error('timed out')));
    await record(spot());
    await clock.advance(4500);
    expect(report.told('pods not listed').length).toBeLessThanOrEqual(5);
    await clock.advance(1500);
    expect(acts()).toEqual(['evict web-1-1 30']);
  });

  test('waits for a pod that was being deleted already, and does not evict it', async () => {
    const { cluster, record, acts, journal, clock } = startDrains();
    const pod = cluster.addPod('node-1', 'leaving', { endsAfterSeconds: 10 });
    cluster.deletePod(pod, 30);
    await record(spot());
    await clock.advance(8000);
    expect(journal().state).toBe('draining');
    await clock.advance(3000);
    expect(journal().state).toBe('settled');
    expect(acts()).toEqual([]);
  });

  test('is not misled by a list that is older than what the watch has told', async () => {
    const started = startDrains();
    const { record, pods, acts, journal, clock } = started;
    addPods(started, 3, { endsAfterSeconds: 3 });
    await record(spot());
    await clock.advance(2500);
    // The list 3 s after the mark still sees the pods, and comes back after they have gone.
    pods.lists.extraMs = 500;
    await clock.advance(5000);
    expect(journal().state).toBe('settled');
    expect(acts()).toHaveLength(3);
  });

  test('evicts nobody twice because a list is older than the eviction', async () => {
    const started = startDrains();
    const { record, pods, clock } = started;
    addPods(started, 3, { endsAfterSeconds: 20 });
    const releaseEvictions = pods.evictions.hold();
    await record(spot());
    await clock.advance(2900);
    pods.lists.extraMs = 500;
    await clock.advance(100);
    clock.after(20, releaseEvictions);
    await clock.advance(10_000);
    expect(pods.evictions.count).toBe(3);
  });

  test('finds by itself that a pod has gone of which the watch told nothing', async () => {
    const started = startDrains();
    const { record, pods, journal, clock } = started;
    addPods(started, 2, { graceSeconds: 10, endsAfterSeconds: 4 });
    await record(rebalance());
    await clock.advance(100);
    for (const watch of pods.watches) pods.watches.delete(watch);
    await clock.advance(25_000);
    expect(journal().state).toBe('settled');
  });

  test('takes back what a watch that lost its place took for gone', async () => {
    const started = startDrains();
    const { record, pods, journal, acts, clock } = started;
    addPods(started, 1, { endsAfterSeconds: 10 });
    await record(spot());
    await clock.advance(4000);
    for (const { listener } of pods.watches) listener.onSnapshot(new Set());
    await clock.advance(1000);
    expect(journal().state).toBe('draining');
    await clock.advance(8000);
    expect(journal().state).toBe('settled');
    expect(acts()).toHaveLength(1);
  });

  test('leaves neither timer nor watch behind', async () => {
    const started = startDrains({ nodes: 5 });
    const { record, pods, drains, clock } = started;
    for (let i = 1; i <= 5; i += 1) {
      addPods(started, 4, {}, `node-${i}`);
      await record(i % 2 === 0 ? spot(0, i) : rebalance(0, i), `node-${i}`);
    }
    await clock.advance(60_000);
    expect(drains.active).toBe(0);
    expect(pods.watches.size).toBe(0);
    expect(soon(clock)).toEqual([]);
  });
});

describe('the order in which pods leave', () => {
  const critical = { priorityClass: 'system-cluster-critical' };

  test('is ordinary, critical, and the controller itself', async () => {
    const { cluster, record, acts, clock } = startDrains();
    cluster.addPod('node-1', SELF.name, { namespace: SELF.namespace });
    cluster.addPod('node-1', 'dns', { ...critical, endsAfterSeconds: 4 });
    cluster.addPod('node-1', 'web', { endsAfterSeconds: 8 });
    await record(spot());
    await clock.advance(60_000);
    expect(acts()).toEqual(['evict web 30', 'evict dns 30', 'evict controller-1 30']);
    expect(times(cluster.acts)).toEqual([0, 8, 12]);
  });

  test('yields to time: the last ones keep 15 s of the window, or their grace', async () => {
    const { cluster, record, clock } = startDrains();
    cluster.budgets.set('web', 0);
    cluster.addPod('node-1', 'web', { graceSeconds: 2 });
    cluster.addPod('node-1', 'dns', { ...critical, owner: undefined, graceSeconds: 5 });
    cluster.addPod('node-1', 'storage', { ...critical, owner: undefined, graceSeconds: 60 });
    await record(spot());
    await clock.advance(121_000);
    const evictedAt = Object.fromEntries(
      cluster.acts.map(({ name, at: when }) => [name, Math.round((when - NOON) / 1000)]),
    );
    expect(evictedAt).toMatchObject({ storage: 55, dns: 100 });
  });

  test('is not held up by a pod that should have gone long since', async () => {
    const { cluster, record, clock } = startDrains();
    const stuck = cluster.addPod('node-1', 'stuck', { graceSeconds: 5, ...STUBBORN });
    cluster.addPod('node-1', 'dns', { ...critical, owner: undefined });
    await record(rebalance());
    await clock.advance(100);
    // Its node does not let go of it.
    cluster.stopKubelet('node-1');
    await clock.advance(14_000);
    expect(cluster.acts.map(({ name }) => name)).toEqual(['stuck']);
    await clock.advance(2000);
    expect(cluster.acts.map(({ name }) => name)).toEqual(['stuck', 'dns']);
    cluster.removePod(stuck.uid);
  });
});

describe('a pod that comes to a marked node', () => {
  const tolerant = {
    toleratesInterruption: true,
    owner: { kind: 'StatefulSet', name: 'agent', uid: 'agent' },
  };

  test('is evicted once, then reported and not waited for', async () => {
    const { cluster, record, acts, journal, report, clock } = startDrains();
    let count = 0;
    const comeBack = (): void => {
      count += 1;
      cluster.addPod('node-1', `agent-${count}`, tolerant);
    };
    cluster.onPodEvent(({ type }) => {
      if (type === 'departed') comeBack();
    });
    comeBack();
    await record(spot());
    await clock.advance(30_000);
    expect(acts()).toEqual(['evict agent-1 30', 'evict agent-2 30']);
    expect(report.told('pod comes back to the node')).toMatchObject([{ pod: 'agent-3' }]);
    expect(journal().state).toBe('settled');
  });

  /** One that a controller binds by name, with a new one for each that goes. */
  function bindAgain({ cluster }: ReturnType<typeof startDrains>): void {
    let count = 0;
    const bind = (): void => {
      count += 1;
      const owner = { kind: 'ReplicaSet', name: 'bound', uid: 'bound' };
      cluster.addPod('node-1', `bound-${count}`, { owner, endsAfterSeconds: 0 });
    };
    cluster.onPodEvent(({ type, pod }) => {
      if (type === 'departed' && pod.owner?.uid === 'bound') bind();
    });
    bind();
  }

  test('is evicted ever more slowly where another takes its place each time', async () => {
    const started = startDrains();
    const { record, cluster, clock, report } = started;
    bindAgain(started);
    await record(rebalance());
    await clock.advance(3_600_000);
    const gaps = cluster.acts.map((act, i, all) => act.at - (all[i - 1]?.at ?? act.at));
    expect(cluster.acts.length).toBeLessThan(25);
    expect(gaps.slice(2)).toEqual(gaps.slice(2).toSorted((a, b) => a - b));
    expect(gaps.at(-1)).toBeCloseTo(300_000, -3);
    expect(report.told('pods keep coming to the node')).toMatchObject([
      { node: 'node-1', namespace: 'shop', owner: 'bound' },
    ]);
  });

  test('is evicted in time for the deadline however often others did before', async () => {
    const started = startDrains();
    const { record, cluster, clock } = started;
    bindAgain(started);
    await record(rebalance());
    await clock.advance(3_600_000);
    const before = cluster.acts.length;
    await record(spot(3600));
    await clock.advance(120_000);
    const late = cluster.acts.slice(before).map((act) => act.at - at(3600));
    expect(late.length).toBeGreaterThan(1);
    expect(Math.min(...late)).toBeLessThan(86_000);
    expect(late.length).toBeLessThan(45);
  });

  test('is evicted like any other as long as it does not tolerate the taint', async () => {
    const { cluster, record, acts, journal, clock } = startDrains();
    await record(spot());
    await clock.advance(1000);
    cluster.addPod('node-1', 'a', { endsAfterSeconds: 0 });
    cluster.addPod('node-1', 'b', { endsAfterSeconds: 0 });
    await clock.advance(5000);
    expect(acts()).toEqual(['evict a 30', 'evict b 30']);
    expect(journal().state).toBe('settled');
  });
});

describe('a budget that refuses', () => {
  test('is respected until it allows, asked no more often than once a second', async () => {
    const started = startDrains();
    const { cluster, record, pods, journal, acts, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(spot());
    await clock.advance(40_000);
    const gaps = pods.evictions.calls.map((call, i, all) => call.at - (all[i - 1]?.at ?? 0));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(1000);
    expect(acts()).toEqual([]);
    cluster.budgets.set('web', 1);
    await clock.advance(14_000);
    expect(acts()).toEqual(['evict web-1-1 30']);
    expect(journal().state).toBe('settled');
  });

  test('is passed when the grace would no longer fit, an eviction tried first', async () => {
    const started = startDrains();
    const { cluster, record, pods, report, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1, { graceSeconds: 30 });
    await record(spot());
    await clock.advance(84_500);
    expect(pods.deletions.count).toBe(0);
    await clock.advance(1000);
    const [deletion] = pods.deletions.calls;
    const lastTried = pods.evictions.calls.at(-1);
    expect(lastTried?.at).toBeGreaterThanOrEqual(at(85));
    expect(deletion?.at).toBeGreaterThan(lastTried!.at);
    expect(deletion?.at).toBeLessThan(at(85.2));
    expect(cluster.acts).toMatchObject([{ act: 'delete', graceSeconds: 29 }]);
    expect(report.told('pod deleted past its budget')).toHaveLength(1);
  });

  test('is not passed before the middle of the window, however long the grace', async () => {
    const started = startDrains();
    const { cluster, record, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1, { graceSeconds: 600 });
    await record(spot());
    await clock.advance(59_900);
    expect(cluster.acts).toEqual([]);
    await clock.advance(300);
    expect(cluster.acts).toMatchObject([{ act: 'delete', graceSeconds: 54 }]);
  });

  test('is never passed where budgets are always respected', async () => {
    const started = startDrains({ rules: { budgets: 'always' } });
    const { cluster, record, pods, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 3);
    await record(spot());
    await clock.advance(125_000);
    expect(pods.evictions.count).toBeGreaterThan(20);
    expect(pods.deletions.count).toBe(0);
  });

  test('is respected for ever where there is no deadline, and told at growing intervals', async () => {
    const started = startDrains();
    const { cluster, record, pods, report, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 2);
    // What the machine has outlived sets no deadline any more.
    await record(capacity(-600, at(-300)));
    await clock.advance(4 * 3_600_000);
    expect(pods.deletions.count).toBe(0);
    expect(cluster.acts).toEqual([]);
    const told = report.lines.filter(({ message }) => message === 'still draining');
    expect(times(told).slice(0, 4)).toEqual([10, 30, 70, 150]);
    expect(told.length).toBeLessThan(15);
    expect(told.at(-1)?.facts).toMatchObject({
      podsLeft: 2,
      pods: ['shop/web-1-1: budget web', 'shop/web-1-2: budget web'],
    });
  });

  test('holds up no other pod', async () => {
    const started = startDrains();
    const { cluster, record, acts, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 5);
    cluster.addPod('node-1', 'other', { owner: { kind: 'ReplicaSet', name: 'api', uid: 'api' } });
    await record(rebalance());
    await clock.advance(1000);
    expect(acts()).toEqual(['evict other 30']);
  });

  test('holds up nobody whose time to respect it is over', async () => {
    const started = startDrains();
    const { cluster, record, pods, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 12);
    pods.deletions.extraMs = 4000;
    await record(spot());
    await clock.advance(86_000);
    expect(pods.deletions.count).toBe(12);
  });

  test('that many nodes wait for is given to the one with the least time', async () => {
    const started = startDrains({ nodes: 3 });
    const { cluster, record, clock } = started;
    cluster.budgets.set('web', 0);
    for (const i of [1, 2, 3]) addPods(started, 1, {}, `node-${i}`);
    await record(rebalance(0, 1), 'node-1');
    await record(capacity(0, at(600), 2), 'node-2');
    await record(spot(0, 3), 'node-3');
    await clock.advance(300_000);
    expect(cluster.acts.map(({ name }) => name)).toEqual(['web-3-1']);
  });
});

describe('an eviction that is refused for another reason', () => {
  test.each(['webhook', 'timeout', 'invalid', 'forbidden'] as const)(
    '(%s) makes this pod wait, and is passed when its time has come',
    async (reason) => {
      const started = startDrains();
      const { cluster, record, pods, clock } = started;
      addPods(started, 2);
      pods.evictions.answerBy(({ name }) =>
        name === 'web-1-1' ? { outcome: 'refused', reason, message: 'no' } : undefined,
      );
      await record(spot());
      await clock.advance(84_000);
      expect(cluster.acts.map(({ name }) => name)).toEqual(['web-1-2']);
      await clock.advance(1500);
      expect(cluster.acts.at(-1)).toMatchObject({ act: 'delete', name: 'web-1-1' });
    },
  );

  test('and whose deletion is refused, too, is not asked for all the time', async () => {
    const started = startDrains();
    const { record, pods, clock } = started;
    addPods(started, 1);
    const refused = { outcome: 'refused', reason: 'webhook', message: 'no' } as const;
    pods.evictions.answerBy(() => refused);
    pods.deletions.answerBy(() => refused);
    await record(spot());
    await clock.advance(120_000);
    expect(pods.deletions.count).toBeGreaterThan(2);
    expect(pods.deletions.count).toBeLessThan(30);
  });

  test('is given up in time when it is not answered, so that the pod is not lost', async () => {
    const started = startDrains();
    const { cluster, record, pods, clock } = started;
    addPods(started, 1);
    pods.evictions.answerBy(() => ({
      outcome: 'unreachable',
      message: 'no answer',
      timedOut: true,
    }));
    await record(spot());
    await clock.advance(86_000);
    expect(cluster.acts).toMatchObject([{ act: 'delete' }]);
    const limits = pods.evictions.calls.map(({ args: [, , timeoutMs] }) => timeoutMs);
    expect(limits[0]).toBe(15_000);
    expect(limits.at(-1)).toBe(3000);
  });
});

describe('a conflict', () => {
  const conflict = { outcome: 'conflict', message: 'the budget has changed' } as const;

  test('over a pod that is still the same is tried again', async () => {
    const started = startDrains();
    const { record, pods, acts, journal, clock } = started;
    addPods(started, 1);
    pods.evictions.answerNext(conflict, conflict, conflict);
    await record(spot());
    await clock.advance(5000);
    expect(pods.reads.count).toBe(3);
    expect(acts()).toEqual(['evict web-1-1 30']);
    expect(journal().state).toBe('settled');
  });

  test('over a pod of another uid finds ours gone, and leaves the other alone', async () => {
    const { cluster, record, pods, acts, journal, clock } = startDrains();
    const old = cluster.addPod('node-1', 'db-0', {
      owner: { kind: 'StatefulSet', name: 'db', uid: 'db' },
    });
    cluster.addNode('node-2');
    const release = pods.evictions.hold();
    await record(spot());
    await clock.advance(100);
    for (const watch of pods.watches) pods.watches.delete(watch);
    cluster.removePod(old.uid);
    cluster.addPod('node-2', 'db-0');
    release();
    await clock.advance(5000);
    expect(acts()).toEqual([]);
    expect(cluster.podsOn('node-2')).toHaveLength(1);
    expect(journal().state).toBe('settled');
  });

  test('that does not end is a refusal: the pod is deleted when its time has come', async () => {
    const started = startDrains();
    const { cluster, record, pods, clock } = started;
    addPods(started, 1);
    pods.evictions.answerBy(() => conflict);
    await record(spot());
    await clock.advance(84_900);
    expect(cluster.acts).toEqual([]);
    await clock.advance(1500);
    expect(cluster.acts).toMatchObject([{ act: 'delete' }]);
  });

  test('is tried again where the pod could not be read', async () => {
    const started = startDrains();
    const { record, pods, acts, report, clock } = started;
    addPods(started, 1);
    pods.evictions.answerNext(conflict);
    pods.reads.answerNext(new Error('timed out'));
    await record(spot());
    await clock.advance(2000);
    expect(report.told('pod not read')).toHaveLength(1);
    expect(acts()).toEqual(['evict web-1-1 30']);
  });
});

describe('an API server that is overloaded', () => {
  test('is asked when it said, and forces nothing', async () => {
    const started = startDrains();
    const { cluster, record, pods, clock } = started;
    addPods(started, 3);
    pods.evictions.answerBy(() => ({ outcome: 'overloaded', retryAfterMs: 5000 }));
    await record(spot());
    await clock.advance(119_000);
    expect(pods.evictions.count).toBeLessThan(3 * 25);
    expect(pods.deletions.count).toBe(0);
    expect(cluster.acts).toEqual([]);
  });

  test('that does not answer is asked again after a second', async () => {
    const started = startDrains();
    const { record, pods, acts, clock } = started;
    addPods(started, 1);
    const unreachable = { outcome: 'unreachable', message: 'refused', timedOut: false } as const;
    pods.evictions.answerNext(unreachable, unreachable);
    await record(spot());
    await clock.advance(3000);
    expect(acts()).toEqual(['evict web-1-1 30']);
  });
});

describe('a deadline that tightens', () => {
  test('lets a long grace end in time, without killing at once', async () => {
    const started = startDrains();
    const { cluster, record, acts, clock } = started;
    addPods(started, 1, { graceSeconds: 3600, ...STUBBORN });
    await record(rebalance());
    await clock.advance(60_000);
    await record(spot(60));
    await clock.advance(1000);
    expect(acts()).toEqual(['evict web-1-1 3600', 'shorten web-1-1 114']);
    await clock.advance(at(173.5) - clock.now());
    expect(cluster.podsOn('node-1')).toHaveLength(1);
    await clock.advance(3000);
    expect(isEmpty(started)).toBe(true);
  });

  test('gives a grace that has run too long its last call 2 s before the end', async () => {
    const started = startDrains();
    const { cluster, record, clock } = started;
    addPods(started, 1, { graceSeconds: 3600, ...STUBBORN });
    await record(rebalance());
    await clock.advance(600_000);
    await record(spot(600));
    await clock.advance(112_000);
    expect(cluster.acts).toHaveLength(1);
    await clock.advance(2000);
    expect(cluster.acts.slice(1)).toMatchObject([{ act: 'shorten', graceSeconds: 1 }]);
    expect(times(cluster.acts)[1]).toBe(713);
    expect(isEmpty(started)).toBe(true);
  });

  test('within its margin asks once, not all the time', async () => {
    const started = startDrains();
    const { record, pods, clock } = started;
    addPods(started, 1, { graceSeconds: 3600, ...STUBBORN });
    await record(rebalance());
    await clock.advance(600_000);
    started.cluster.stopKubelet('node-1');
    await record(capacity(500, at(603)));
    await clock.advance(2900);
    expect(pods.deletions.count).toBe(1);
  });

  test('is kept by a grace that fills the time left, however late its answer', async () => {
    const started = startDrains();
    const { record, pods, acts, clock } = started;
    addPods(started, 1, { graceSeconds: 3600, ...STUBBORN });
    await clock.advance(300);
    pods.evictions.extraMs = 900;
    await record(spot());
    await clock.advance(12);
    // The watch has begun, and tells of it later than the answer.
    expect(pods.watches.size).toBe(1);
    pods.watches.clear();
    await clock.advance(60_000);
    expect(acts()).toEqual(['evict web-1-1 114']);
  });

  test('overtakes what waits in the queue', async () => {
    const started = startDrains({ nodes: 2 });
    const { record, pods, clock } = started;
    addPods(started, 40, {}, 'node-1');
    addPods(started, 40, {}, 'node-2');
    const release = pods.evictions.hold();
    await record(rebalance(0, 1), 'node-1');
    await record(rebalance(0, 2), 'node-2');
    await clock.advance(500);
    await record(spot(0, 2), 'node-2');
    await clock.advance(10);
    release();
    await clock.advance(3000);
    const order = pods.evictions.calls.map(({ args: [{ name }] }) => name.split('-')[1]);
    expect(order.slice(0, 16)).toEqual(Array.from({ length: 16 }, () => '1'));
    expect(order.slice(16, 56)).toEqual(Array.from({ length: 40 }, () => '2'));
    expect(order).toHaveLength(80);
  });

  test('is one drain, whatever comes', async () => {
    const started = startDrains();
    const { record, report, drains, journal, clock } = started;
    addPods(started, 2, { endsAfterSeconds: 20 });
    await record(rebalance());
    await clock.advance(1000);
    await record(spot(1));
    await clock.advance(1000);
    await record(capacity(2, at(90)));
    expect(drains.active).toBe(1);
    await clock.advance(30_000);
    expect(report.told('draining')).toHaveLength(1);
    expect(report.told('drained')).toMatchObject([{ kind: 'capacity-reservation' }]);
    expect(journal().state).toBe('settled');
  });
});

describe('a deadline that has passed', () => {
  test('is told of with the pods that are left, once', async () => {
    const started = startDrains();
    const { record, report, clock } = started;
    addPods(started, 1, { graceSeconds: 600, ...STUBBORN });
    await record(spot());
    started.cluster.stopKubelet('node-1');
    started.cluster.changeNode('node-1', { ready: false });
    await clock.advance(130_000);
    expect(report.told('not all pods left in time')).toMatchObject([{ podsLeft: 1 }]);
  });

  test('is not told of where no pod is left', async () => {
    const { record, report, journal, clock } = startDrains();
    await record(capacity(-2, at(0)));
    await clock.advance(5000);
    expect(report.told('not all pods left in time')).toEqual([]);
    expect(journal().state).toBe('settled');
  });

  test('leaves a second of grace, and force, to what can still be done', async () => {
    const started = startDrains();
    const { cluster, record, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(spot(-130));
    await clock.advance(1000);
    expect(cluster.acts).toMatchObject([{ act: 'delete', graceSeconds: 1 }]);
  });

  test('counts for nothing once the machine has outlived it', async () => {
    const started = startDrains({ rules: { budgets: 'always' } });
    const { cluster, record, pods, report, acts, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1, { graceSeconds: 45 });
    await record(spot());
    await clock.advance(175_000);
    expect(pods.evictions.calls.at(-1)?.args[1]).toBe(1);
    await clock.advance(25_000);
    expect(pods.evictions.calls.at(-1)?.args[1]).toBe(45);
    expect(report.told('machine outlived its deadline')).toHaveLength(1);
    cluster.budgets.set('web', 1);
    await clock.advance(15_000);
    expect(acts()).toEqual(['evict web-1-1 45']);
  });

  test('hurts no machine that has outlived it when a new process takes over', async () => {
    const outside = newOutside();
    const before = startDrains({ outside });
    before.cluster.budgets.set('web', 0);
    addPods(before, 2, { graceSeconds: 45 });
    before.pods.evictions.hold();
    await before.record(spot());
    before.kill();
    await outside.clock.advance(600_000);

    const { pods, cluster, report, acts, clock } = startDrains({ outside });
    await clock.advance(60_000);
    expect(pods.evictions.count).toBeGreaterThan(4);
    expect(pods.deletions.count).toBe(0);
    expect(pods.evictions.calls.every(({ args: [, graceSeconds] }) => graceSeconds === 45)).toBe(
      true,
    );
    expect(report.told('machine outlived its deadline')).toHaveLength(1);
    expect(report.told('not all pods left in time')).toEqual([]);
    cluster.budgets.set('web', 2);
    await clock.advance(20_000);
    expect(acts()).toEqual(['evict web-1-1 45', 'evict web-1-2 45']);
  });

  /** A process that finds a spot notice of ten minutes ago, and a pod still there. */
  async function longAfterDeadline(): Promise<ReturnType<typeof startDrains>> {
    const outside = newOutside();
    const before = startDrains({ outside });
    addPods(before, 1, { graceSeconds: 45 });
    before.pods.evictions.hold();
    await before.record(spot());
    before.kill();
    await outside.clock.advance(600_000);
    return startDrains({ outside });
  }

  test('is not acted on while nobody can say whether the machine has outlived it', async () => {
    const { pods, store, acts, clock } = await longAfterDeadline();
    store.renewals.answerNext({ outcome: 'unknown' }, { outcome: 'unknown' });
    await clock.advance(5000);
    expect(pods.evictions.count).toBe(0);
    await clock.advance(3000);
    expect(acts()).toEqual(['evict web-1-1 45']);
  });

  test('is acted on when nobody can say so for half a minute', async () => {
    const { pods, store, acts, clock } = await longAfterDeadline();
    store.renewals.answerBy(() => ({ outcome: 'unknown' }));
    await clock.advance(29_000);
    expect(pods.evictions.count).toBe(0);
    await clock.advance(5000);
    expect(acts()).toEqual(['evict web-1-1 1']);
  });
});

describe("the operator's brake", () => {
  test('holds up evictions until it is released, and is told of', async () => {
    const started = startDrains();
    const { cluster, record, pods, report, journal, clock } = started;
    addPods(started, 2);
    cluster.changeNode('node-1', { held: true });
    await clock.advance(10);
    await record(spot());
    await clock.advance(30_000);
    expect(pods.evictions.count + pods.deletions.count).toBe(0);
    expect(report.told('held by an operator')).toHaveLength(1);
    cluster.changeNode('node-1', { held: false });
    await clock.advance(3000);
    expect(report.told('released by an operator')).toHaveLength(1);
    expect(journal().state).toBe('settled');
  });

  test('holds up what is in the queue already, and what would be forced', async () => {
    const started = startDrains();
    const { cluster, record, pods, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 30);
    const release = pods.evictions.hold();
    await record(spot());
    await clock.advance(100);
    cluster.changeNode('node-1', { held: true });
    await clock.advance(100);
    release();
    await clock.advance(119_000);
    expect(pods.evictions.count).toBe(16);
    expect(pods.deletions.count).toBe(0);
  });

  test('of one node holds up no other', async () => {
    const started = startDrains({ nodes: 2 });
    const { cluster, record, acts, clock } = started;
    addPods(started, 1, {}, 'node-1');
    addPods(started, 1, {}, 'node-2');
    cluster.changeNode('node-1', { held: true });
    await clock.advance(10);
    await record(spot(0, 1), 'node-1');
    await record(spot(0, 2), 'node-2');
    await clock.advance(1000);
    expect(acts()).toEqual(['evict web-2-1 30']);
  });
});
