import { describe, expect, test } from 'vitest';
import { at, NOON, policy } from '../plan/samples.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import {
  addPods,
  beginHook,
  capacity,
  rebalance,
  spot,
  startDrains,
  type Started,
  soon,
} from './start.ts';

/** Seconds after noon at which a hook was completed, to the tenth. */
function completedAfter({ autoScaling }: Started, token = 'token-1'): number | undefined {
  const completedAt = autoScaling.completedAt(token);
  return completedAt === undefined ? undefined : Math.round((completedAt - NOON) / 100) / 10;
}

describe('volumes of the pods that left', () => {
  function withVolume(started: Started): void {
    started.cluster.volumeOfClaim.set('shop/data', 'pv-1');
    started.cluster.attached.set('node-1', new Set(['pv-1']));
    started.cluster.addPod('node-1', 'db-0', { claims: ['data'] });
  }

  function detach({ cluster }: Started): void {
    cluster.attached.delete('node-1');
  }

  test('are waited for, before hooks are completed and the node is settled', async () => {
    const started = startDrains();
    const { record, journal, report, clock } = started;
    withVolume(started);
    await record(beginHook(started));
    await clock.advance(30_000);
    expect(completedAfter(started)).toBeUndefined();
    expect(journal().state).toBe('draining');
    expect(report.told('waiting for volumes')).toMatchObject([{ volumes: ['pv-1'] }]);
    detach(started);
    await clock.advance(2500);
    expect(completedAfter(started)).toBeDefined();
    expect(journal().state).toBe('settled');
    expect(report.told('volumes still attached')).toEqual([]);
  });

  test('are not waited for where that is turned off', async () => {
    const started = startDrains({ rules: { waitForVolumes: false } });
    withVolume(started);
    await started.record(spot());
    await started.clock.advance(5000);
    expect(started.journal().state).toBe('settled');
    expect(started.volumes.attachments.count).toBe(0);
  });

  test('of pods left alone are not waited for', async () => {
    const started = startDrains();
    const { cluster, record, journal, clock } = started;
    withVolume(started);
    cluster.volumeOfClaim.set('shop/logs', 'pv-2');
    cluster.attached.get('node-1')?.add('pv-2');
    cluster.addPod('node-1', 'agent', {
      owner: { kind: 'DaemonSet', name: 'agent', uid: 'agent' },
      claims: ['logs'],
    });
    await record(spot());
    await clock.advance(5000);
    cluster.attached.get('node-1')?.delete('pv-1');
    await clock.advance(2500);
    expect(journal().state).toBe('settled');
  });

  test('are waited for until the hook has to be completed, in time, and then told', async () => {
    const started = startDrains();
    const { record, report, clock } = started;
    withVolume(started);
    await record(beginHook(started, { timeoutSeconds: 60 }));
    await clock.advance(54_900);
    expect(started.hooks.completions.count).toBe(0);
    await clock.advance(200);
    expect(started.hooks.completions.count).toBe(1);
    expect(completedAfter(started)).toBeDefined();
    expect(report.told('volumes still attached')).toMatchObject([{ volumes: ['pv-1'] }]);
  });

  test('are waited for no longer than a deadline that comes meanwhile', async () => {
    const started = startDrains();
    const { record, journal, clock } = started;
    withVolume(started);
    await record(rebalance());
    await clock.advance(10_000);
    await record(spot(10));
    await clock.advance(at(129) - clock.now());
    expect(journal().state).toBe('draining');
    await clock.advance(2000);
    expect(journal().state).toBe('settled');
  });

  test('are waited for six minutes where there is no deadline', async () => {
    const started = startDrains();
    const { record, journal, clock } = started;
    withVolume(started);
    await record(rebalance());
    await clock.advance(355_000);
    expect(journal().state).toBe('draining');
    await clock.advance(15_000);
    expect(journal().state).toBe('settled');
  });

  test('are waited for although the API server cannot always be asked', async () => {
    const started = startDrains();
    const { record, volumes, journal, report, clock } = started;
    withVolume(started);
    volumes.attachments.answerNext(new Error('timed out'));
    await record(spot());
    await clock.advance(8000);
    expect(report.told('volumes not listed')).toHaveLength(1);
    expect(journal().state).toBe('draining');
    detach(started);
    await clock.advance(2500);
    expect(journal().state).toBe('settled');
  });

  test('are not waited for where the right to see them is missing, which is told once', async () => {
    const started = startDrains();
    const { record, volumes, journal, report, clock } = started;
    withVolume(started);
    volumes.attachments.answerBy(() => ({ denied: '403' }));
    await record(rebalance());
    await clock.advance(8000);
    expect(journal().state).toBe('draining');
    await clock.advance(20_000);
    expect(journal().state).toBe('settled');
    expect(report.told('volumes not waited for')).toHaveLength(1);
    expect(report.told('volumes not listed')).toEqual([]);
  });

  test('are waited for through the brief denials of an API server that restarts', async () => {
    const started = startDrains();
    const { record, volumes, journal, clock } = started;
    withVolume(started);
    volumes.attachments.answerNext({ denied: '403' }, { denied: '403' });
    await record(rebalance());
    await clock.advance(30_000);
    expect(journal().state).toBe('draining');
    detach(started);
    await clock.advance(2500);
    expect(journal().state).toBe('settled');
  });

  test('cost one question each for what the claims are bound to', async () => {
    const started = startDrains();
    withVolume(started);
    await started.record(spot());
    await started.clock.advance(60_000);
    expect(started.volumes.claims.count).toBe(1);
    expect(started.volumes.attachments.count).toBeGreaterThan(20);
  });
});

describe('load balancers', () => {
  const rules = { loadBalancerDrainSeconds: 40 };

  test('get their time between the last pod and the hooks', async () => {
    const started = startDrains({ rules });
    addPods(started, 1, { endsAfterSeconds: 10 });
    await started.record(beginHook(started));
    await started.clock.advance(49_000);
    expect(completedAfter(started)).toBeUndefined();
    await started.clock.advance(2000);
    expect(completedAfter(started)).toBeCloseTo(50.1, 0);
  });

  test('get no more than the deadline leaves', async () => {
    const started = startDrains({ rules });
    addPods(started, 1, { endsAfterSeconds: 10 });
    await started.record(beginHook(started, { timeoutSeconds: 30 }));
    await started.clock.advance(60_000);
    expect(started.hooks.completions.calls[0]?.at).toBe(at(25));
    expect(completedAfter(started)).toBeDefined();
  });

  test('get no more than a deadline leaves that comes meanwhile', async () => {
    const started = startDrains({ rules: { loadBalancerDrainSeconds: 600 } });
    await started.record(rebalance());
    await started.clock.advance(60_000);
    await started.record(spot(60));
    await started.clock.advance(121_000);
    expect(started.journal().state).toBe('settled');
  });

  test('get their time although something was heard while the last list was on its way', async () => {
    const started = startDrains({ rules });
    const { record, pods, journal, clock } = started;
    await record(rebalance());
    await clock.advance(2900);
    pods.lists.extraMs = 500;
    await clock.advance(200);
    // Between the question and the answer of the list that finds the node empty.
    await record(spot(3));
    await clock.advance(30_000);
    expect(journal().state).toBe('draining');
    await clock.advance(20_000);
    expect(journal().state).toBe('settled');
  });
});

describe('lifecycle hooks', () => {
  test('are completed after the last pod is gone, never before', async () => {
    const started = startDrains();
    const { cluster, record, clock } = started;
    addPods(started, 3, { graceSeconds: 60, endsAfterSeconds: 25 });
    cluster.addPod('node-1', 'dns', {
      priorityClass: 'system-cluster-critical',
      endsAfterSeconds: 10,
    });
    await record(beginHook(started));
    await clock.until(() => completedAfter(started) !== undefined, 120_000);
    expect(cluster.podsOn('node-1')).toEqual([]);
    expect(completedAfter(started)).toBeCloseTo(35.2, 0);
  });

  test('of ours are completed each with its own token; of others never', async () => {
    const started = startDrains();
    const { record, hooks, journal, clock } = started;
    addPods(started, 1);
    await record(beginHook(started, { token: 'a' }));
    await record(beginHook(started, { token: 'b', timeoutSeconds: 900 }));
    await record(beginHook(started, { token: 'c', group: 'theirs', timeoutSeconds: 900 }));
    await clock.advance(10_000);
    expect(completedAfter(started, 'a')).toBeDefined();
    expect(completedAfter(started, 'b')).toBeDefined();
    expect(completedAfter(started, 'c')).toBeUndefined();
    expect(hooks.completions.count).toBe(2);
    expect(journal().state).toBe('settled');
    expect(journal().live.map(({ hook }) => hook?.completedAt !== undefined)).toEqual([
      true,
      true,
      false,
    ]);
  });

  test('of others set a deadline all the same', async () => {
    const started = startDrains();
    const { cluster, record, hooks, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(beginHook(started, { group: 'theirs', timeoutSeconds: 100 }));
    await clock.advance(120_000);
    expect(cluster.acts).toMatchObject([{ act: 'delete' }]);
    expect(hooks.completions.count + hooks.heartbeats.count).toBe(0);
  });

  test('are kept alive while the window outlasts them, and completed in the end', async () => {
    const started = startDrains({ rules: { terminateHookDrainSeconds: 900 } });
    const { cluster, record, hooks, journal, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(beginHook(started, { timeoutSeconds: 100 }));
    await clock.advance(500_000);
    expect(hooks.heartbeats.count).toBeGreaterThanOrEqual(9);
    cluster.budgets.set('web', 1);
    await clock.advance(20_000);
    expect(completedAfter(started)).toBeDefined();
    expect(journal().state).toBe('settled');
    const beats = hooks.heartbeats.count;
    await clock.advance(600_000);
    expect(hooks.heartbeats.count).toBe(beats);
    expect(soon(clock)).toEqual([]);
  });

  test('are completed before they expire, though pods are left', async () => {
    const started = startDrains({ rules: { budgets: 'always' } });
    const { cluster, record, report, hooks, journal, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(beginHook(started, { timeoutSeconds: 100 }));
    await clock.advance(94_900);
    expect(hooks.completions.count).toBe(0);
    await clock.advance(200);
    expect(hooks.completions.calls[0]?.at).toBe(at(95));
    expect(completedAfter(started)).toBeDefined();
    expect(report.told('not all pods left in time')).toHaveLength(1);
    await clock.advance(10_000);
    expect(report.told('not all pods left in time')).toHaveLength(1);
    expect(journal().state).toBe('draining');
    // The machine lives on: so does the drain.
    cluster.budgets.set('web', 1);
    await clock.advance(20_000);
    expect(journal().state).toBe('settled');
    expect(hooks.completions.count).toBe(1);
  });

  test('that outlive the window are completed at its end, not before', async () => {
    const started = startDrains({ rules: { budgets: 'always' } });
    const { cluster, record, hooks, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    await record(spot());
    await record(beginHook(started, { timeoutSeconds: 3600 }));
    await clock.advance(at(119.9) - clock.now());
    expect(hooks.completions.count).toBe(0);
    await clock.advance(200);
    expect(hooks.completions.calls[0]?.at).toBe(at(120));
  });

  test('wait, too, while nobody can say whether the machine has outlived its deadline', async () => {
    const started = startDrains({ rules: { budgets: 'always' } });
    const { cluster, record, hooks, store, clock } = started;
    cluster.budgets.set('web', 0);
    addPods(started, 1);
    const event = { ...beginHook(started, { timeoutSeconds: 100 }), time: at(-300) };
    store.renewals.answerNext(
      ...Array.from({ length: 3 }, () => ({ outcome: 'unknown' }) as const),
    );
    await record(event);
    await clock.advance(6000);
    expect(hooks.completions.count).toBe(0);
    cluster.stopKubelet('node-1');
    store.renewals.answerNext({ outcome: 'never' });
    await clock.advance(6000);
    expect(hooks.completions.count).toBe(1);
  });

  test('that come when the node is settled are completed, too', async () => {
    const started = startDrains();
    const { record, journal, clock } = started;
    addPods(started, 1);
    await record(spot());
    await clock.advance(10_000);
    expect(journal().state).toBe('settled');
    await record(beginHook(started));
    await clock.advance(5000);
    expect(completedAfter(started)).toBeDefined();
    expect(journal().state).toBe('settled');
  });

  test('that come while others are completed are completed, too', async () => {
    const started = startDrains();
    const { record, hooks, clock } = started;
    hooks.completions.extraMs = 3000;
    await record(beginHook(started, { token: 'a' }));
    await clock.advance(4000);
    await record(beginHook(started, { token: 'b' }));
    await clock.advance(20_000);
    expect(completedAfter(started, 'a')).toBeDefined();
    expect(completedAfter(started, 'b')).toBeDefined();
  });

  test('rebalance, then notice, then hook are one drain, and the hook waits for its end', async () => {
    const started = startDrains();
    const { record, report, journal, clock } = started;
    addPods(started, 2, { graceSeconds: 600, endsAfterSeconds: 40 });
    await record(rebalance());
    await clock.advance(10_000);
    await record(spot(10));
    await record(beginHook(started, { timeoutSeconds: 60 }));
    await clock.advance(29_000);
    expect(completedAfter(started)).toBeUndefined();
    await clock.advance(3000);
    expect(completedAfter(started)).toBeCloseTo(40.2, 0);
    expect(report.told('draining')).toHaveLength(1);
    expect(report.told('drained')).toMatchObject([{ kind: 'spot-interruption' }]);
    expect(journal().state).toBe('settled');
  });
});

describe('settling', () => {
  test('is written as soon as the API server takes it', async () => {
    const started = startDrains();
    const { record, store, journal, clock } = started;
    await record(spot());
    const comeBack = store.goAway();
    await clock.advance(20_000);
    expect(journal().state).toBe('draining');
    comeBack();
    await clock.advance(3000);
    expect(journal().state).toBe('settled');
  });

  test('is not written before a list shows no pod, though hooks were completed with pods left', async () => {
    const started = startDrains();
    const { cluster, record, hooks, journal, acts, clock } = started;
    addPods(started, 1);
    cluster.stopKubelet('node-1');
    await record(rebalance());
    await record(beginHook(started, { timeoutSeconds: 100 }));
    await clock.advance(90_000);
    // Bound by name, past the taint, when no list was due.
    cluster.addPod('node-1', 'late');
    hooks.completions.extraMs = 1000;
    await clock.advance(5500);
    expect(hooks.completions.count).toBe(1);
    const [pod] = cluster.podsOn('node-1');
    cluster.removePod(pod?.uid ?? '');
    await clock.advance(4000);
    expect(acts().at(-1)).toMatch(/^evict late /);
    expect(journal().state).toBe('draining');
  });

  test('gives way to what came meanwhile', async () => {
    const started = startDrains();
    const { records, record, store, journal, acts, clock } = started;
    await record(rebalance());
    await clock.advance(2900);
    const release = store.writes.hold();
    await clock.advance(500);
    // Recorded behind the word that the node is settled, with a pod that only now is there.
    addPods(started, 1);
    void records.apply('node-1', { type: 'event', event: capacity(3, at(600)) });
    release();
    await clock.advance(10_000);
    expect(acts()).toEqual(['evict web-1-1 30']);
    expect(journal().state).toBe('settled');
  });
});

describe('an action weaker than drain', () => {
  const cordonForHooks = {
    actions: { ...policy().actions, 'terminate-hook': 'cordon', rebalance: 'cordon' },
  } as const;

  test('evicts nothing, completes the hook and settles', async () => {
    const started = startDrains({ rules: cordonForHooks });
    const { record, journal, acts, cluster, pods, report, clock } = started;
    addPods(started, 2);
    await record(beginHook(started));
    await clock.advance(1000);
    expect(acts()).toEqual([]);
    expect(pods.lists.count).toBe(0);
    expect(cluster.node('node-1').unschedulable).toBe(true);
    expect(completedAfter(started)).toBeLessThan(1);
    expect(journal().state).toBe('settled');
    expect(report.told('not drained by policy')).toMatchObject([{ action: 'cordon' }]);
    expect(report.told('drained')).toEqual([]);
  });

  test('gives load balancers their time where it takes the node out of them', async () => {
    const started = startDrains({ rules: { ...cordonForHooks, loadBalancerDrainSeconds: 20 } });
    await started.record(beginHook(started));
    await started.clock.advance(30_000);
    expect(completedAfter(started)).toBeCloseTo(20, 0);
  });

  test('gives load balancers none where it does not', async () => {
    const actions = { ...policy().actions, 'terminate-hook': 'prefer-no-schedule' } as const;
    const started = startDrains({ rules: { actions, loadBalancerDrainSeconds: 20 } });
    await started.record(beginHook(started));
    await started.clock.advance(1000);
    expect(completedAfter(started)).toBeLessThan(1);
    expect(started.cluster.node('node-1').unschedulable).toBe(false);
  });

  test('is lifted by a stronger one, and its hook waits for the drain', async () => {
    const started = startDrains({ rules: { ...cordonForHooks, loadBalancerDrainSeconds: 20 } });
    const { record, acts, journal, clock } = started;
    addPods(started, 1, { endsAfterSeconds: 10 });
    await record(beginHook(started));
    await clock.advance(5000);
    await record(spot(5));
    await clock.advance(9000);
    expect(acts()).toEqual(['evict web-1-1 30']);
    expect(completedAfter(started)).toBeUndefined();
    await clock.advance(40_000);
    expect(completedAfter(started)).toBeGreaterThanOrEqual(15);
    expect(journal().state).toBe('settled');
  });

  test('that has settled is lifted, too', async () => {
    const started = startDrains({ rules: cordonForHooks });
    const { record, acts, journal, clock } = started;
    addPods(started, 1);
    await record(rebalance());
    await clock.advance(1000);
    expect(journal().state).toBe('settled');
    await record(spot(1));
    await clock.advance(5000);
    expect(acts()).toEqual(['evict web-1-1 30']);
    expect(journal().state).toBe('settled');
  });
});

describe('a drained instance', () => {
  const replace = { afterVoluntaryDrain: 'replace' } as const;

  test('is replaced after a rebalance recommendation, when its node is empty', async () => {
    const started = startDrains({ rules: replace });
    const { record, hooks, journal, clock } = started;
    addPods(started, 1, { endsAfterSeconds: 20 });
    await record(rebalance());
    await clock.advance(10_000);
    expect(hooks.replacements.count).toBe(0);
    await clock.advance(30_000);
    expect(hooks.replacements.calls.map(({ args }) => args)).toEqual([[instanceIdOf(1)]]);
    expect(journal().state).toBe('settled');
  });

  test('is kept unless that is asked for', async () => {
    const started = startDrains();
    await started.record(rebalance());
    await started.clock.advance(10_000);
    expect(started.journal().state).toBe('settled');
    expect(started.hooks.replacements.count).toBe(0);
  });

  test('is not replaced in an emergency: it goes by itself', async () => {
    const started = startDrains({ rules: replace });
    await started.record(rebalance());
    await started.record(spot());
    await started.clock.advance(10_000);
    expect(started.journal().state).toBe('settled');
    expect(started.hooks.replacements.count).toBe(0);
  });

  test('is not replaced where it was only cordoned', async () => {
    const actions = { ...policy().actions, rebalance: 'cordon' } as const;
    const started = startDrains({ rules: { ...replace, actions } });
    await started.record(rebalance());
    await started.clock.advance(10_000);
    expect(started.journal().state).toBe('settled');
    expect(started.hooks.replacements.count).toBe(0);
  });

  test('is replaced through throttling, and settled only then', async () => {
    const started = startDrains({ rules: replace });
    const { record, hooks, journal, report, clock } = started;
    const throttled = { outcome: 'failed', denied: false, message: 'throttled' } as const;
    hooks.replacements.answerNext(throttled, throttled);
    await record(rebalance());
    await clock.advance(3500);
    expect(journal().state).toBe('draining');
    await clock.advance(10_000);
    expect(hooks.replacements.count).toBe(3);
    expect(journal().state).toBe('settled');
    expect(report.told('instance not yet replaced')).toHaveLength(1);
  });

  test('that may not be replaced is settled all the same, and the missing permission named', async () => {
    const started = startDrains({ rules: replace });
    const { record, hooks, journal, report, clock } = started;
    hooks.replacements.answerBy(() => ({ outcome: 'failed', denied: true, message: '403' }));
    await record(rebalance());
    await clock.advance(50_000);
    expect(journal().state).toBe('draining');
    await clock.advance(50_000);
    expect(journal().state).toBe('settled');
    expect(report.told('instance not replaced')).toEqual([
      {
        node: 'node-1',
        instance: instanceIdOf(1),
        permission: 'autoscaling:TerminateInstanceInAutoScalingGroup',
        reason: '403',
      },
    ]);
    const asked = hooks.replacements.count;
    await clock.advance(3_600_000);
    expect(hooks.replacements.count).toBe(asked);
  });

  test('that is denied for a moment only is replaced', async () => {
    const started = startDrains({ rules: replace });
    const { record, hooks, report, clock } = started;
    const denied = { outcome: 'failed', denied: true, message: '403' } as const;
    hooks.replacements.answerNext(denied, denied, denied);
    await record(rebalance());
    await clock.advance(30_000);
    expect(report.told('instance replaced')).toHaveLength(1);
    expect(report.told('instance not replaced')).toEqual([]);
  });

  test('that cannot be replaced holds up no emergency', async () => {
    const started = startDrains({ rules: replace });
    const { record, hooks, journal, clock } = started;
    hooks.replacements.answerBy(() => ({ outcome: 'failed', denied: false, message: 'away' }));
    await record(rebalance());
    await clock.advance(100_000);
    expect(journal().state).toBe('draining');
    const asked = hooks.replacements.count;
    await record(beginHook(started));
    await clock.advance(1000);
    expect(completedAfter(started)).toBeDefined();
    expect(journal().state).toBe('settled');
    expect(hooks.replacements.count).toBe(asked);
  });
});
