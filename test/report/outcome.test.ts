import { describe, expect, onTestFinished, test } from 'vitest';
import { startController } from '../../src/controller.ts';
import {
  asEvents,
  firstOnly,
  MOST_REMEMBERED,
  outcomeEventSchema,
  type OutcomeEvent,
} from '../../src/report/outcome.ts';
import * as messages from '../harness/messages.ts';
import { policy } from '../plan/samples.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { flowPolicy } from '../stand-ins/ports/flow-policy.ts';
import { FakeOutcomes } from '../stand-ins/ports/outcomes.ts';
import { Outside } from '../stand-ins/ports/outside.ts';
import { end } from './webhook/told.ts';

/** The whole flow over one node with two pods, one of them behind a budget. */
function start(rules: Parameters<typeof flowPolicy>[0] = {}) {
  const outside = new Outside();
  const { cluster, sqs, autoScaling } = outside;
  cluster.addNode('node-1');
  cluster.addPod('node-1', 'web-1');
  cluster.addPod('node-1', 'db-0', { owner: { kind: 'StatefulSet', name: 'db', uid: 'db' } });
  const ports = outside.connect();
  const events: OutcomeEvent[] = [];
  const receipts = new FakeOutcomes();
  const outcomes = firstOnly(
    asEvents((event) => events.push(outcomeEventSchema.parse(event))),
    receipts,
  );
  const controller = startController(
    { ...ports, outcomes },
    flowPolicy({ waitForVolumes: false, ...rules }),
  );
  onTestFinished(async () => {
    await ports.clock.resolved(controller.stop(), 10_000);
    expect(ports.report.faults()).toEqual([]);
  });
  return { ...ports, cluster, sqs, autoScaling, events, receipts };
}

/** Two replicas over one node with a pod, of which the first leads. */
function startTwo(rules: Parameters<typeof flowPolicy>[0] = {}) {
  const outside = new Outside();
  const { cluster, sqs, autoScaling, clock } = outside;
  cluster.addNode('node-1');
  cluster.addPod('node-1', 'web-1');
  const [first, second] = [outside.connect(), outside.connect()];
  const lead = (ports: typeof first): (() => Promise<void>) => {
    const controller = startController(ports, flowPolicy(rules));
    let isOver = false;
    const stop = async (): Promise<void> => {
      if (isOver) return;
      isOver = true;
      await clock.resolved(controller.stop(), 10_000);
    };
    onTestFinished(stop);
    return stop;
  };
  const firstStops = lead(first);
  const secondLeads = (): void => void lead(second);
  return { first, second, cluster, sqs, autoScaling, clock, firstStops, secondLeads };
}

const instanceId = instanceIdOf(1);
const kind = 'spot-interruption';

describe('the outcome of an interruption', () => {
  test('whose pods all left within their budgets: drained', async () => {
    const { sqs, clock, events } = start();
    const time = clock.now();
    sqs.send(messages.spotNotice({ instanceId, time }));
    await clock.advance(60_000);
    expect(events).toMatchObject([
      {
        version: 1,
        node: 'node-1',
        instanceId,
        kind,
        outcome: 'drained',
        time: new Date(Math.floor(time / 1000) * 1000).toISOString(),
        pods: { evicted: 2, deletedPastBudget: 0, leftByThemselves: 0, stayed: 0 },
      },
    ]);
    expect(events[0]?.secondsToSpare).toBeGreaterThan(60);
  });

  test('for which a budget had to be passed: forced', async () => {
    const { cluster, sqs, clock, events } = start();
    cluster.budgets.set('db', 0);
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(150_000);
    expect(events).toMatchObject([{ outcome: 'forced', pods: { deletedPastBudget: 1 } }]);
  });

  test('with pods left at the deadline: late, whatever comes after', async () => {
    const { cluster, sqs, clock, events } = start();
    cluster.changeNode('node-1', { held: true });
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(130_000);
    expect(events).toMatchObject([{ outcome: 'late', pods: { stayed: 2 } }]);
    cluster.deleteNode('node-1');
    await clock.advance(60_000);
    expect(events).toHaveLength(1);
  });

  test('of several with pods left at a deadline: late at its own, and no sooner', async () => {
    const { cluster, sqs, autoScaling, clock, events } = start();
    cluster.changeNode('node-1', { held: true });
    const startedAt = Math.floor(clock.now() / 1000) * 1000;
    sqs.send(messages.spotNotice({ instanceId, time: startedAt }));
    sqs.send(messages.rebalance({ instanceId, time: startedAt }));
    const hook = { group: 'workers', hook: 'drain', token: 'token-1', instanceId };
    autoScaling.begin(hook, 150);
    sqs.send(messages.terminateHook({ ...hook, time: startedAt }));
    const told = () => events.map((event) => [event.kind, event.outcome]);
    await clock.advance(140_000);
    expect(told()).toEqual([[kind, 'late']]);
    const dueInSeconds = ({ deadline = '' }: OutcomeEvent) =>
      (Date.parse(deadline) - startedAt) / 1000;
    await clock.advance(8000);
    expect(told()).toHaveLength(1);
    await clock.advance(12_000);
    expect(told().slice(1)).toEqual([['terminate-hook', 'late']]);
    expect(Date.parse(events[1]?.endedAt ?? '') - startedAt).toBeLessThan(152_000);
    expect(events.map(dueInSeconds)).toEqual([120, 150]);
    for (const { secondsToSpare = NaN } of events) {
      expect(Math.abs(secondsToSpare)).toBeLessThanOrEqual(2);
    }
    cluster.deleteNode('node-1');
    await clock.advance(60_000);
    expect(told().slice(2)).toEqual([['rebalance', 'not-possible']]);
    expect(events[2]?.deadline).toBeUndefined();
  });

  test('whose hook is kept alive for another deadline: late at that one, which it tells', async () => {
    const { cluster, sqs, autoScaling, clock, events } = start();
    cluster.changeNode('node-1', { held: true });
    const startedAt = Math.floor(clock.now() / 1000) * 1000;
    const hook = { group: 'workers', hook: 'drain', token: 'token-1', instanceId };
    autoScaling.begin(hook, 100);
    sqs.send(messages.terminateHook({ ...hook, time: startedAt }));
    sqs.send(messages.spotNotice({ instanceId, time: startedAt }));
    await clock.advance(115_000);
    expect(events).toEqual([]);
    await clock.advance(10_000);
    const deadline = new Date(startedAt + 120_000).toISOString();
    expect(events.map((event) => [event.kind, event.outcome, event.deadline])).toEqual([
      ['terminate-hook', 'late', deadline],
      [kind, 'late', deadline],
    ]);
  });

  test('with pods left at the deadline of a second notice too: late for each of the two', async () => {
    const { cluster, sqs, clock, events } = start();
    cluster.changeNode('node-1', { held: true });
    const startedAt = Math.floor(clock.now() / 1000) * 1000;
    sqs.send(messages.spotNotice({ instanceId, time: startedAt }));
    await clock.advance(125_000);
    sqs.send(messages.spotNotice({ instanceId, time: startedAt + 125_000 }));
    await clock.advance(119_000);
    expect(events).toHaveLength(1);
    await clock.advance(6000);
    cluster.changeNode('node-1', { held: false });
    await clock.advance(60_000);
    const noticedAt = [0, 125_000].map((ms) => new Date(startedAt + ms).toISOString());
    expect(events).toMatchObject(noticedAt.map((time) => ({ kind, outcome: 'late', time })));
    expect(events).toHaveLength(2);
  });

  test('that is over before the node is empty: cancelled', async () => {
    const { cluster, sqs, clock, events } = start();
    cluster.changeNode('node-1', { held: true });
    const time = clock.now();
    sqs.send(messages.stateChange({ instanceId, state: 'stopping', time }));
    await clock.advance(5000);
    sqs.send(messages.stateChange({ instanceId, state: 'running', time: clock.now() }));
    await clock.advance(10_000);
    expect(events).toMatchObject([{ kind: 'state-change', outcome: 'cancelled' }]);
    expect(events[0]?.pods).toBeUndefined();
  });

  test('whose machine is started anew before the node is empty: cancelled', async () => {
    const { cluster, sqs, clock, events } = start();
    cluster.changeNode('node-1', { held: true });
    sqs.send(messages.rebalance({ instanceId, time: clock.now() }));
    await clock.advance(5000);
    cluster.changeNode('node-1', { bootId: 'boot-2', ready: false, readySince: undefined });
    await clock.advance(5000);
    expect(events).toEqual([]);
    cluster.changeNode('node-1', { ready: true, readySince: clock.now() });
    await clock.advance(5000);
    expect(events).toMatchObject([{ kind: 'rebalance', outcome: 'cancelled' }]);
  });

  test('whose Node goes before its pods: not possible', async () => {
    const { cluster, sqs, clock, events } = start();
    cluster.changeNode('node-1', { held: true });
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(5000);
    cluster.deleteNode('node-1');
    await clock.advance(60_000);
    expect(events).toMatchObject([{ outcome: 'not-possible', pods: { stayed: 2 } }]);
  });

  test('for which a pod was deleted past its budget, though the answer was lost: forced', async () => {
    const { cluster, pods, sqs, clock, events } = start();
    cluster.budgets.set('db', 0);
    pods.deletions.answerBy((pod, graceSeconds) => {
      cluster.delete(pod, graceSeconds);
      return { outcome: 'unreachable', message: 'connection reset', timedOut: false };
    });
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(150_000);
    expect(events).toMatchObject([
      { outcome: 'forced', pods: { deletedPastBudget: 1, leftByThemselves: 0 } },
    ]);
  });

  test('for which a pod was deleted past its budget, and gone before the answer came: forced', async () => {
    const { cluster, pods, sqs, clock, events } = start();
    cluster.budgets.set('db', 0);
    pods.deletions.extraMs = 60_000;
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(150_000);
    expect(events).toMatchObject([{ outcome: 'forced', pods: { deletedPastBudget: 1 } }]);
  });

  test('of a pod whose eviction took effect without an answer: evicted', async () => {
    const { cluster, pods, sqs, clock, events } = start();
    pods.evictions.answerBy((pod, graceSeconds) => {
      cluster.evict(pod, graceSeconds);
      return { outcome: 'refused', reason: 'timeout', message: '504' };
    });
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(60_000);
    expect(events).toMatchObject([
      { outcome: 'drained', pods: { evicted: 2, leftByThemselves: 0 } },
    ]);
  });

  test('that came, and ended with its machine, while the end before was written: like that one', async () => {
    const { cluster, store, sqs, clock, events } = start();
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(1000);
    // One write is on its way, so that all that follows is the next one.
    const release = store.writes.hold();
    sqs.send(messages.rebalance({ instanceId, time: clock.now() }));
    await clock.advance(60_000);
    expect(events).toMatchObject([{ kind, outcome: 'drained' }]);
    cluster.stopKubelet('node-1');
    await clock.advance(11_000);
    const time = clock.now();
    sqs.send(messages.stateChange({ instanceId, state: 'shutting-down', time }));
    await clock.advance(100);
    sqs.send(messages.stateChange({ instanceId, state: 'terminated', time }));
    await clock.advance(100);
    release();
    await clock.advance(10_000);
    expect(events.map((event) => [event.kind, event.outcome])).toEqual([
      [kind, 'drained'],
      ['rebalance', 'drained'],
      ['state-change', 'drained'],
    ]);
  });

  test('of several of one node: each once, however often it drains', async () => {
    const { sqs, autoScaling, clock, events } = start();
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(60_000);
    const hook = { group: 'workers', hook: 'drain', token: 'token-1', instanceId };
    autoScaling.begin(hook, 300);
    sqs.send(messages.terminateHook({ ...hook, time: clock.now() }));
    await clock.advance(60_000);
    expect(events.map((event) => [event.kind, event.outcome])).toEqual([
      [kind, 'drained'],
      ['terminate-hook', 'drained'],
    ]);
  });

  test('is not told where policy asked for marks alone', async () => {
    const outside = new Outside();
    outside.cluster.addNode('node-1');
    const { clock, outcomes, ...ports } = outside.connect();
    const controller = startController(
      { clock, outcomes, ...ports },
      flowPolicy({ actions: { ...policy().actions, [kind]: 'cordon' } }),
    );
    onTestFinished(() => clock.resolved(controller.stop(), 10_000));
    outside.sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(60_000);
    expect(ports.report.told('not drained by policy')).toHaveLength(1);
    expect(outcomes.receipts).toHaveLength(1);
    expect(outcomes.told).toEqual([]);
  });

  test('is not told of one that is closed where policy asked for marks alone', async () => {
    const actions = { ...policy().actions, 'scheduled-change': 'cordon' } as const;
    const { sqs, clock, events, report } = start({ actions });
    const change = {
      instanceIds: [instanceId],
      startTime: clock.now() + 14 * 86_400_000,
      eventTypeCode: 'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
      eventArn: 'arn:aws:health:eu-central-1::event/EC2/REBOOT/1',
    };
    sqs.send(messages.scheduledChange({ ...change, time: clock.now() }));
    await clock.advance(10_000);
    sqs.send(messages.scheduledChange({ ...change, time: clock.now(), statusCode: 'closed' }));
    await clock.advance(10_000);
    expect(report.told('interruption over')).toHaveLength(1);
    expect(events).toEqual([]);
  });

  test('is not told of a Node that goes where policy asked for marks alone', async () => {
    const outside = new Outside();
    const { cluster, sqs, autoScaling } = outside;
    cluster.addNode('node-1');
    const { clock, outcomes, ...ports } = outside.connect();
    const actions = { ...policy().actions, 'terminate-hook': 'cordon' } as const;
    const controller = startController({ clock, outcomes, ...ports }, flowPolicy({ actions }));
    onTestFinished(() => clock.resolved(controller.stop(), 10_000));
    ports.hooks.completions.answerBy(() => ({
      outcome: 'failed',
      denied: false,
      message: 'throttled',
    }));
    const hook = { group: 'workers', hook: 'drain', token: 'token-1', instanceId };
    autoScaling.begin(hook, 300);
    sqs.send(messages.terminateHook({ ...hook, time: clock.now() }));
    await clock.advance(10_000);
    cluster.deleteNode('node-1');
    await clock.advance(10_000);
    ports.hooks.completions.answerBy(undefined);
    await clock.advance(300_000);
    expect(ports.report.told('node gone')).toHaveLength(1);
    expect(outcomes.told).toEqual([]);
  });

  test('told by two processes has one ID, by which it is known; by two terms of one it is told once', async () => {
    const outside = new Outside();
    const { cluster, sqs } = outside;
    cluster.addNode('node-1');
    cluster.addPod('node-1', 'web-1');
    const startProcess = () => {
      const events: OutcomeEvent[] = [];
      let cut = (): void => undefined;
      const outcomes = firstOnly(
        asEvents((event) => {
          events.push(outcomeEventSchema.parse(event));
          // It is cut before it has recorded that its drain has ended.
          cut();
        }),
      );
      const lead = async (forMs: number): Promise<void> => {
        const ports = outside.connect();
        const { line } = ports;
        cut = () => line.cut();
        startController(
          { ...ports, clock: line.clock, outcomes },
          flowPolicy({ waitForVolumes: false }),
        );
        await outside.clock.advance(forMs);
        line.cut();
      };
      return { events, lead };
    };
    sqs.send(messages.spotNotice({ instanceId, time: outside.clock.now() }));
    const [one, other] = [startProcess(), startProcess()];
    await one.lead(60_000);
    await other.lead(20_000);
    await one.lead(20_000);
    expect(one.events).toMatchObject([{ outcome: 'drained' }]);
    expect(other.events).toMatchObject([{ outcome: 'drained', eventId: one.events[0]?.eventId }]);
  });

  test('that is told again and again is told once, however many others come between', () => {
    const receiver = new FakeOutcomes();
    const outcomes = firstOnly(receiver);
    const tell = (number: number): void => outcomes.tell(end({ instanceId: `i-${number}` }));
    for (let number = 0; number < MOST_REMEMBERED; number += 1) tell(number);
    tell(0);
    // It takes the place of the one that was not told for the longest.
    tell(MOST_REMEMBERED);
    tell(0);
    expect(receiver.told).toHaveLength(MOST_REMEMBERED + 1);
    tell(1);
    expect(receiver.told.at(-1)).toMatchObject({ instanceId: 'i-1' });
    expect(receiver.told).toHaveLength(MOST_REMEMBERED + 2);
  });

  describe('that waits for its turn', () => {
    const startsInWeeks = (time: number) =>
      messages.scheduledChange({
        instanceIds: [instanceId],
        time,
        startTime: time + 14 * 86_400_000,
        eventTypeCode: 'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
      });

    test('when its Node is deleted for good: not possible, once', async () => {
      const { cluster, sqs, clock, events, receipts, report } = start();
      sqs.send(startsInWeeks(clock.now()));
      await clock.advance(60_000);
      expect(receipts.receipts).toHaveLength(1);
      const wentAt = clock.now();
      cluster.deleteNode('node-1');
      await clock.advance(59_000);
      expect(events).toEqual([]);
      await clock.advance(2000);
      expect(events).toMatchObject([
        { kind: 'scheduled-change', outcome: 'not-possible', node: 'node-1' },
      ]);
      expect(Date.parse(events[0]?.endedAt ?? '') - wentAt).toBeLessThan(1000);
      expect(events[0]?.pods).toBeUndefined();
      expect(report.told('node gone undrained')).toHaveLength(1);
      await clock.advance(7_200_000);
      expect(events).toHaveLength(1);
    });

    test('when its machine registers anew: nothing yet', async () => {
      const { cluster, sqs, clock, events, report } = start();
      sqs.send(startsInWeeks(clock.now()));
      await clock.advance(60_000);
      cluster.deleteNode('node-1');
      await clock.advance(30_000);
      cluster.addNode('node-1');
      await clock.advance(7_200_000);
      expect(report.told('journal restored')).toHaveLength(1);
      expect(events).toEqual([]);
      cluster.deleteNode('node-1');
      await clock.advance(61_000);
      expect(events).toMatchObject([{ outcome: 'not-possible' }]);
    });

    test('when policy asks for marks alone: nothing at all', async () => {
      const actions = { ...policy().actions, 'scheduled-change': 'cordon' } as const;
      const { cluster, sqs, clock, events } = start({ actions });
      sqs.send(startsInWeeks(clock.now()));
      await clock.advance(60_000);
      cluster.deleteNode('node-1');
      await clock.advance(7_200_000);
      expect(events).toEqual([]);
    });

    test('when its Node goes after its drain has begun: what the drain says, once', async () => {
      const { cluster, sqs, clock, events } = start();
      sqs.send(messages.rebalance({ instanceId, time: clock.now() }));
      await clock.advance(60_000);
      expect(events).toMatchObject([{ kind: 'rebalance', outcome: 'drained' }]);
      cluster.deleteNode('node-1');
      await clock.advance(7_200_000);
      expect(events).toHaveLength(1);
    });

    test('when its Node is deleted just before another replica leads: told by that one', async () => {
      const { first, second, cluster, sqs, clock, firstStops, secondLeads } = startTwo();
      sqs.send(startsInWeeks(clock.now()));
      await clock.advance(60_000);
      cluster.deleteNode('node-1');
      await clock.advance(20_000);
      await firstStops();
      secondLeads();
      await clock.advance(120_000);
      expect(first.outcomes.told).toEqual([]);
      expect(second.outcomes.told).toMatchObject([{ outcome: 'not-possible' }]);
    });

    test('when its Node is deleted for good, and the grace is the longest: not possible', async () => {
      const { cluster, sqs, clock, events } = start({ unknownInstanceGraceSeconds: 3600 });
      sqs.send(startsInWeeks(clock.now()));
      await clock.advance(60_000);
      cluster.deleteNode('node-1');
      await clock.advance(3_599_000);
      expect(events).toEqual([]);
      await clock.advance(2000);
      expect(events).toMatchObject([{ outcome: 'not-possible' }]);
    });

    test('when the clock is set forward before the grace is over: not possible', async () => {
      const { cluster, sqs, clock, events } = start();
      sqs.send(startsInWeeks(clock.now()));
      await clock.advance(60_000);
      cluster.deleteNode('node-1');
      await clock.advance(10_000);
      clock.setBack(-7_200_000);
      await clock.advance(51_000);
      expect(events).toMatchObject([{ outcome: 'not-possible' }]);
    });

    test('when the clock is set back and another leads: not possible, no later than the grace', async () => {
      const { second, cluster, sqs, clock, firstStops, secondLeads } = startTwo();
      sqs.send(startsInWeeks(clock.now()));
      await clock.advance(60_000);
      cluster.deleteNode('node-1');
      await firstStops();
      await clock.advance(1000);
      clock.setBack(1_800_000);
      secondLeads();
      await clock.advance(61_000);
      expect(second.outcomes.told).toMatchObject([{ outcome: 'not-possible' }]);
    });

    test.each([0, 10])(
      'when its Node goes while nobody leads, for longer than a grace of %i s: not possible',
      async (unknownInstanceGraceSeconds) => {
        const { second, cluster, sqs, clock, firstStops, secondLeads } = startTwo({
          unknownInstanceGraceSeconds,
        });
        sqs.send(startsInWeeks(clock.now()));
        await clock.advance(60_000);
        await firstStops();
        const wentAt = clock.now();
        cluster.deleteNode('node-1');
        await clock.advance(16_000);
        secondLeads();
        await clock.advance(1000);
        expect(second.outcomes.told).toMatchObject([{ outcome: 'not-possible' }]);
        expect((second.outcomes.told[0]?.endedAt ?? NaN) - wentAt).toBeLessThan(1000);
      },
    );

    test('when its Node went long before another leads: nothing, for somebody has led meanwhile', async () => {
      const { second, cluster, sqs, clock, firstStops, secondLeads } = startTwo();
      sqs.send(startsInWeeks(clock.now()));
      await clock.advance(60_000);
      await firstStops();
      cluster.deleteNode('node-1');
      await clock.advance(600_000);
      secondLeads();
      await clock.advance(600_000);
      expect(second.outcomes.told).toEqual([]);
    });

    test('when its machine is off before its Node goes: not possible', async () => {
      const { cluster, sqs, clock, events } = start();
      sqs.send(startsInWeeks(clock.now()));
      await clock.advance(60_000);
      cluster.stopKubelet('node-1');
      sqs.send(messages.stateChange({ instanceId, state: 'terminated', time: clock.now() }));
      await clock.advance(5000);
      expect(cluster.node('node-1').journal).toContain('"state":"stopped"');
      cluster.deleteNode('node-1');
      await clock.advance(61_000);
      expect(events).toMatchObject([{ kind: 'scheduled-change', outcome: 'not-possible' }]);
    });

    test('beside one whose drain is under way when its Node goes: told by the drain, once', async () => {
      const { first, cluster, sqs, clock } = startTwo();
      cluster.changeNode('node-1', { held: true });
      sqs.send(startsInWeeks(clock.now()));
      sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
      await clock.advance(10_000);
      cluster.deleteNode('node-1');
      await clock.advance(7_200_000);
      expect(first.outcomes.told).toHaveLength(2);
      expect(first.report.told('node gone undrained')).toEqual([]);
    });

    test('beside one whose drain is under way when its Node goes while nobody leads: both not possible', async () => {
      const { second, cluster, sqs, clock, firstStops, secondLeads } = startTwo();
      cluster.changeNode('node-1', { held: true });
      sqs.send(startsInWeeks(clock.now()));
      const time = Math.floor(clock.now() / 1000) * 1000;
      sqs.send(messages.spotNotice({ instanceId, time }));
      await clock.advance(10_000);
      await firstStops();
      cluster.deleteNode('node-1');
      await clock.advance(16_000);
      secondLeads();
      await clock.advance(43_000);
      expect(second.outcomes.told).toEqual([]);
      await clock.advance(2000);
      expect(second.outcomes.told).toMatchObject([
        { interruption: { kind: 'scheduled-change' }, outcome: 'not-possible' },
        { interruption: { kind }, outcome: 'not-possible', deadlineAt: time + 120_000 },
      ]);
    });

    test('beside one with a hook of ours, when its Node goes while nobody leads: told as the hook is completed, once', async () => {
      const { second, cluster, sqs, autoScaling, clock, firstStops, secondLeads } = startTwo();
      cluster.changeNode('node-1', { held: true });
      sqs.send(startsInWeeks(clock.now()));
      const hook = { group: 'workers', hook: 'drain', token: 'token-1', instanceId };
      autoScaling.begin(hook, 300);
      sqs.send(messages.terminateHook({ ...hook, time: clock.now() }));
      await clock.advance(10_000);
      await firstStops();
      cluster.deleteNode('node-1');
      secondLeads();
      await clock.advance(10_000);
      expect(second.outcomes.told).toHaveLength(2);
      await clock.advance(7_200_000);
      expect(second.outcomes.told).toHaveLength(2);
      expect(second.report.told('node gone undrained')).toEqual([]);
    });

    test('is all that is waited for when Nodes go: none that bore nothing, and none that is drained', async () => {
      const graceMs = 1_234_000;
      const { cluster, sqs, clock } = start({ unknownInstanceGraceSeconds: graceMs / 1000 });
      cluster.addNode('node-2');
      cluster.addNode('node-3');
      sqs.send(messages.spotNotice({ instanceId: instanceIdOf(2), time: clock.now() }));
      sqs.send(startsInWeeks(clock.now()));
      await clock.advance(60_000);
      const waitedFor = async (name: string): Promise<readonly number[]> => {
        cluster.deleteNode(name);
        await clock.advance(1000);
        return clock.pending().filter((ms) => ms > graceMs - 2000 && ms <= graceMs);
      };
      expect(await waitedFor('node-2')).toEqual([]);
      expect(await waitedFor('node-3')).toEqual([]);
      expect(await waitedFor('node-1')).toHaveLength(1);
    });
  });

  test('whose Node goes before anybody knows its pods: not possible', async () => {
    const { cluster, pods, sqs, clock, events } = start();
    pods.lists.answerBy(() => {
      throw new Error('no answer');
    });
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(5000);
    cluster.deleteNode('node-1');
    await clock.advance(60_000);
    expect(events).toMatchObject([{ outcome: 'not-possible' }]);
    expect(events[0]?.pods).toBeUndefined();
  });
});

describe('the receipt of an interruption', () => {
  test('is told once, with the deadline, before the node is empty', async () => {
    const { cluster, sqs, clock, events, receipts } = start();
    cluster.changeNode('node-1', { held: true });
    const time = Math.floor(clock.now() / 1000) * 1000;
    sqs.send(messages.spotNotice({ instanceId, time }));
    sqs.send(messages.spotNotice({ instanceId, time }));
    await clock.advance(5000);
    expect(receipts.receipts).toMatchObject([
      { node: 'node-1', instanceId, interruption: { kind }, deadlineAt: time + 120_000 },
    ]);
    expect(events).toEqual([]);
  });

  test('is told of each of several, and of nothing that only ends something', async () => {
    const { cluster, sqs, clock, receipts } = start();
    cluster.changeNode('node-1', { held: true });
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    sqs.send(messages.rebalance({ instanceId, time: clock.now() }));
    await clock.advance(5000);
    sqs.send(messages.stateChange({ instanceId, state: 'terminated', time: clock.now() }));
    await clock.advance(5000);
    expect(receipts.receipts.map(({ interruption }) => interruption.kind).toSorted()).toEqual([
      'rebalance',
      kind,
    ]);
  });

  test('is told even if the Node cannot bear the record', async () => {
    const { store, sqs, clock, receipts, report } = start();
    store.writes.answerBy(() => ({ outcome: 'refused', status: 413, message: 'too large' }));
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(5000);
    expect(receipts.receipts).toHaveLength(1);
    expect(report.told('recording refused')).not.toEqual([]);
  });

  test('is told though the answer to its record was lost, and the message came again', async () => {
    const { cluster, store, sqs, clock, receipts, report } = start();
    store.writes.answerBy((...write) => {
      if (store.writes.count === 2) cluster.patchNode(...write);
      return { outcome: 'unreachable', message: 'connection reset' };
    });
    sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
    await clock.advance(10_000);
    store.writes.answerBy(undefined);
    await clock.advance(50_000);
    expect(report.told('drained')).toHaveLength(1);
    expect(receipts.receipts).toHaveLength(1);
  });

  test('is not told again by the process that takes over', async () => {
    const outside = new Outside();
    const { cluster, sqs } = outside;
    cluster.addNode('node-1');
    cluster.addPod('node-1', 'web-1');
    cluster.changeNode('node-1', { held: true });
    const first = outside.connect();
    const before = startController(first, flowPolicy({}));
    sqs.send(messages.spotNotice({ instanceId, time: first.clock.now() }));
    await first.clock.advance(5000);
    await first.clock.resolved(before.stop(), 10_000);

    const second = outside.connect();
    const after = startController(second, flowPolicy({}));
    onTestFinished(() => second.clock.resolved(after.stop(), 10_000));
    await second.clock.advance(5000);
    expect(first.outcomes.receipts).toHaveLength(1);
    expect(second.report.told('resumed')).toHaveLength(1);
    expect(second.outcomes.receipts).toEqual([]);
  });
});
