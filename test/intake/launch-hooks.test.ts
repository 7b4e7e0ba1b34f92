import { describe, expect, test } from 'vitest';
import * as messages from '../harness/messages.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { Outside } from '../stand-ins/ports/outside.ts';
import { start } from './start.ts';

const notReady = { ready: false };

describe('a launch hook', () => {
  test('is completed at once when its node is Ready, and the node is not marked', async () => {
    const { launch, autoScaling, sqs, store, hooks, isMarked, clock } = start();
    launch();
    await clock.advance(100);
    expect(autoScaling.completedAt('launch-1')).toBeDefined();
    expect(hooks.completions.calls.map(({ args: [action] }) => action)).toMatchObject([
      { group: 'workers', hook: 'join', token: 'launch-1', instanceId: instanceIdOf(1) },
    ]);
    expect(sqs.ids).toEqual([]);
    expect(isMarked()).toBe(false);
    expect(store.writes.count).toBe(0);
  });

  test('waits for its node to register and to be Ready', async () => {
    const { launch, autoScaling, sqs, cluster, clock } = start();
    const id = launch({ number: 2 });
    await clock.advance(70_000);
    cluster.addNode('node-2', notReady);
    await clock.advance(70_000);
    expect(autoScaling.completedAt('launch-2')).toBeUndefined();
    expect(sqs.ids).toEqual([id]);
    cluster.changeNode('node-2', { ready: true });
    await clock.advance(100);
    expect(autoScaling.completedAt('launch-2')).toBeDefined();
    expect(sqs.ids).toEqual([]);
  });

  test('is completed although its node came while its timeout was asked for', async () => {
    const { launch, hooks, autoScaling, cluster, clock } = start();
    hooks.descriptions.extraMs = 2000;
    launch({ number: 2 });
    await clock.advance(1000);
    cluster.addNode('node-2');
    await clock.advance(1500);
    expect(autoScaling.completedAt('launch-2')).toBeDefined();
  });

  test('is hidden for a minute, again at half, and received once', async () => {
    const { launch, sqs, clock } = start();
    const id = launch({ number: 2 });
    await clock.advance(200_000);
    const events = sqs.eventsOf(id);
    expect(events.filter(({ type }) => type === 'received')).toHaveLength(1);
    const hidden = events.flatMap((event) => (event.type === 'hidden' ? [event] : []));
    expect(hidden.length).toBeGreaterThanOrEqual(6);
    expect(hidden.every(({ seconds }) => seconds === 60)).toBe(true);
    const gaps = hidden.slice(1).map(({ at }, i) => at - (hidden[i]?.at ?? 0));
    expect(Math.max(...gaps)).toBeLessThanOrEqual(31_500);
  });

  test('is held like a parked message, not in hand', async () => {
    const { launch, report, clock } = start();
    launch({ number: 2 });
    launch({ number: 3 });
    await clock.advance(1000);
    launch();
    await clock.advance(70_000);
    expect(report.told('messages judged')[0]).toMatchObject({
      'hook-completed': 1,
      parked: 2,
      inHand: 0,
    });
  });

  test('of an instance that never joins is deleted when its timeout has passed', async () => {
    const { launch, autoScaling, sqs, clock } = start({ rules: { completeUnknownHooks: true } });
    const id = launch({ number: 2, timeoutSeconds: 200 });
    await clock.advance(195_000);
    expect(sqs.ids).toEqual([id]);
    await clock.advance(10_000);
    expect(sqs.ids).toEqual([]);
    expect(autoScaling.completedAt('launch-2')).toBeUndefined();
  });

  test('of a node that is not Ready in time is given up, which is told', async () => {
    const { launch, cluster, sqs, report, clock } = start();
    cluster.addNode('node-2', notReady);
    launch({ number: 2, timeoutSeconds: 60 });
    await clock.advance(65_000);
    expect(sqs.ids).toEqual([]);
    expect(report.told('lifecycle hook not completed')).toMatchObject([
      { node: 'node-2', hook: 'join', reason: 'not Ready' },
    ]);
  });

  test('is completed through throttling, ever more slowly, as long as its timeout runs', async () => {
    const { launch, hooks, autoScaling, sqs, clock } = start();
    hooks.completions.answerBy(() => ({ outcome: 'failed', denied: false, message: 'throttled' }));
    const id = launch();
    await clock.advance(120_000);
    expect(hooks.completions.count).toBeGreaterThan(5);
    expect(hooks.completions.count).toBeLessThan(60);
    expect(sqs.ids).toEqual([id]);
    hooks.completions.answerBy(undefined);
    await clock.advance(31_000);
    expect(autoScaling.completedAt('launch-1')).toBeDefined();
    expect(sqs.ids).toEqual([]);
  });

  test('whose completion is never taken is given up at its timeout, which is told', async () => {
    const { launch, hooks, report, sqs, clock } = start();
    hooks.completions.answerBy(() => ({ outcome: 'failed', denied: true, message: 'denied' }));
    launch({ timeoutSeconds: 60 });
    await clock.advance(65_000);
    expect(sqs.ids).toEqual([]);
    expect(report.told('lifecycle hook not completed')).toMatchObject([{ reason: 'denied' }]);
  });

  test('that is over already is deleted', async () => {
    const { sqs, hooks, clock } = start();
    sqs.send(
      messages.launchHook({
        group: 'workers',
        hook: 'join',
        instanceId: instanceIdOf(1),
        time: clock.now() - 3_600_000,
      }),
    );
    await clock.advance(100);
    expect(sqs.ids).toEqual([]);
    expect(hooks.completions.count).toBe(1);
  });

  test('that is not ours is deleted and not completed', async () => {
    const { launch, sqs, hooks, clock } = start();
    launch({ group: 'theirs' });
    await clock.advance(100);
    expect(sqs.ids).toEqual([]);
    expect(hooks.completions.count).toBe(0);
  });

  test.each([
    { name: 'its owner looks after', node: { manager: 'eks' } as const },
    { name: 'NODE_SELECTOR does not choose', node: { selected: false } },
  ])('of a node that $name is left alone', async ({ node }) => {
    const { launch, sqs, cluster, hooks, clock } = start();
    cluster.addNode('node-2', node);
    await clock.advance(100);
    launch({ number: 2 });
    await clock.advance(100);
    expect(sqs.ids).toEqual([]);
    expect(hooks.completions.count).toBe(0);
  });

  test('of an instance that two Nodes claim waits for one of them to go', async () => {
    const { launch, cluster, autoScaling, clock } = start();
    cluster.addNode('node-1-twin', { instanceId: instanceIdOf(1) });
    await clock.advance(100);
    launch();
    await clock.advance(5000);
    expect(autoScaling.completedAt('launch-1')).toBeUndefined();
    cluster.deleteNode('node-1-twin');
    await clock.advance(31_000);
    expect(autoScaling.completedAt('launch-1')).toBeDefined();
  });

  test('is assumed to time out after an hour where that may not be read, which is told once', async () => {
    const { launch, hooks, sqs, report, clock } = start();
    hooks.descriptions.answerBy(() => ({ outcome: 'unknown', denied: true, message: 'denied' }));
    launch({ number: 2 });
    launch({ number: 3 });
    await clock.advance(3_550_000);
    expect(sqs.ids).toHaveLength(2);
    await clock.advance(60_000);
    expect(sqs.ids).toEqual([]);
    expect(report.told('lifecycle hook timeout unknown')).toMatchObject([{ assumedSeconds: 3600 }]);
  });

  test('goes back on stop, and is found by the next process', async () => {
    const outside = new Outside();
    const first = start({ outside });
    const id = first.launch({ number: 2 });
    await first.clock.advance(5000);
    await first.stop();
    expect(first.sqs.visibleAt(id)).toBeLessThanOrEqual(first.clock.now());
    start({ outside, nodes: 0 });
    await first.clock.advance(1000);
    outside.cluster.addNode('node-2');
    await first.clock.advance(100);
    expect(first.autoScaling.completedAt('launch-2')).toBeDefined();
  });
});

describe('a launch hook on the way into a warm pool', () => {
  const toWarmPool = { number: 2, destination: 'WarmPool' } as const;

  test('is completed as soon as there is a Node, Ready or not', async () => {
    const { launch, cluster, autoScaling, sqs, clock } = start();
    launch(toWarmPool);
    await clock.advance(5000);
    expect(autoScaling.completedAt('launch-2')).toBeUndefined();
    cluster.addNode('node-2', notReady);
    await clock.advance(100);
    expect(autoScaling.completedAt('launch-2')).toBeDefined();
    expect(sqs.ids).toEqual([]);
  });

  test('is completed without a Node where the queue gets only ours', async () => {
    const { launch, autoScaling, sqs, clock } = start({ rules: { completeUnknownHooks: true } });
    launch(toWarmPool);
    await clock.advance(100);
    expect(autoScaling.completedAt('launch-2')).toBeDefined();
    expect(sqs.ids).toEqual([]);
  });

  test('is left alone without a Node otherwise', async () => {
    const { launch, hooks, sqs, clock } = start();
    launch(toWarmPool);
    await clock.advance(310_000);
    expect(hooks.completions.count).toBe(0);
    expect(sqs.ids).toEqual([]);
  });
});
