import { describe, expect, onTestFinished, test } from 'vitest';
import type { Event } from '../../src/events/event.ts';
import { Breaker } from '../../src/intake/breaker.ts';
import { Judge, type EventVerdict } from '../../src/intake/judge.ts';
import type { LaunchPolicy } from '../../src/intake/launch-hooks.ts';
import { Records } from '../../src/intake/records.ts';
import type { NodeView } from '../../src/plan/node.ts';
import {
  capacity,
  capacityBlock,
  NOON,
  policy,
  rebalance,
  scheduledChange,
  spot,
  stateChange,
  terminateHook,
} from '../plan/samples.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

const instanceId = instanceIdOf(1);
const SPOT = spot(0, { instanceId });
const REBALANCE = rebalance(0, { instanceId });
const HOOK = terminateHook(0, { instanceId, token: 'token-1' });
const THROTTLED = { outcome: 'failed', message: 'Rate exceeded' } as const;

type Options = {
  node?: Partial<NodeView> | 'none';
  rules?: Partial<LaunchPolicy>;
  accounts?: ReadonlySet<string> | undefined;
  /** How long ago noon was. */
  secondsAfterNoon?: number;
};

async function start({ node = {}, rules, accounts, secondsAfterNoon = 1 }: Options = {}) {
  const outside = new Outside();
  if (node !== 'none') outside.cluster.addNode('node-1', node);
  await outside.clock.advance(NOON + secondsAfterNoon * 1000 - outside.clock.now());
  const ports = outside.connect();
  const { clock, store, report } = ports;
  const breaker = new Breaker((signal) => store.ping(signal), clock, report);
  const judging = { ...policy(), completeUnknownHooks: false, ...rules };
  const records = new Records(ports, breaker, judging);
  const judge = new Judge(ports, records, judging, accounts);
  records.start();
  onTestFinished(async () => {
    breaker.stop();
    await clock.resolved(records.stop(1500));
    expect(report.faults()).toEqual([]);
  });
  const signal = new AbortController().signal;
  return {
    ...ports,
    cluster: outside.cluster,
    autoScaling: outside.autoScaling,
    records,
    journalOf: (name: string) => records.journalOf(name),
    judge: (event: Event): Promise<EventVerdict> => clock.resolved(judge.judge(event, signal)),
  };
}

function isMarked(node: NodeView): boolean {
  return node.journal !== undefined;
}

describe('an event of a node', () => {
  test('is recorded, and known the second time', async () => {
    const { judge, cluster, report } = await start();
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'recorded' });
    expect(isMarked(cluster.node('node-1'))).toBe(true);
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'duplicate' });
    expect(report.told('interruption received')).toHaveLength(2);
    expect(report.told('marked')).toMatchObject([
      { node: 'node-1', instance: instanceId, secondsLeft: 119 },
    ]);
  });

  test('is stale when its journal says so', async () => {
    const { judge, clock } = await start();
    await judge(spot(3600, { instanceId }));
    await clock.advance(0);
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'stale' });
  });

  test.each([
    { name: 'an account that is not ours', account: '999999999999', outcome: 'other-account' },
    { name: 'our account', account: '123456789012', outcome: 'recorded' },
    { name: 'no account named', account: undefined, outcome: 'recorded' },
  ])('of $name: $outcome', async ({ account, outcome }) => {
    const { judge } = await start({ accounts: new Set(['123456789012']) });
    expect(await judge({ ...SPOT, account })).toEqual({ end: 'over', outcome });
  });

  test('of any account is ours where all are', async () => {
    const { judge } = await start();
    expect(await judge({ ...SPOT, account: '999999999999' })).toMatchObject({
      outcome: 'recorded',
    });
  });

  test('that NODE_SELECTOR does not choose is not ours', async () => {
    const { judge, cluster } = await start({ node: { selected: false } });
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'not-selected' });
    expect(isMarked(cluster.node('node-1'))).toBe(false);
  });

  test.each([
    { kind: 'spot-interruption', event: SPOT },
    { kind: 'capacity-reservation', event: capacity(0, { instanceId }) },
    { kind: 'rebalance', event: REBALANCE },
    { kind: 'terminate-hook', event: HOOK },
  ] as const)('of kind $kind is not ours where its action is ignore', async ({ kind, event }) => {
    const actions = { ...policy().actions, [kind]: 'ignore' } as const;
    const { judge, cluster } = await start({ rules: { actions } });
    expect(await judge(event)).toEqual({ end: 'over', outcome: 'ignored-by-policy' });
    expect(isMarked(cluster.node('node-1'))).toBe(false);
  });

  test('that its owner looks after is left to the owner', async () => {
    const { judge, cluster } = await start({ node: { manager: 'karpenter' } });
    for (const event of [REBALANCE, HOOK]) {
      expect(await judge(event)).toEqual({ end: 'over', outcome: 'left-to-owner' });
    }
    expect(isMarked(cluster.node('node-1'))).toBe(false);
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'recorded' });
  });

  test('of a kind that nothing is done about is over', async () => {
    const { judge, cluster } = await start();
    const event = { ...SPOT, kind: 'state-change', state: 'pending' } as const;
    expect(await judge(event)).toEqual({ end: 'over', outcome: 'nothing-to-do' });
    expect(isMarked(cluster.node('node-1'))).toBe(false);
  });

  test('comes back at once when the API server does not answer', async () => {
    const { judge, store } = await start();
    const comeBack = store.goAway();
    expect(await judge(SPOT)).toEqual({ end: 'unreachable' });
    comeBack();
  });

  test.each([
    { name: 'an emergency stays hidden until its deadline', event: SPOT, seconds: 119 },
    {
      name: 'or half a minute, if that is longer',
      event: capacity(0, { instanceId, terminatesAt: NOON + 5000 }),
      seconds: 30,
    },
    { name: 'a hook for half a minute', event: HOOK, seconds: 30 },
    { name: 'a paced one for half a minute', event: REBALANCE, seconds: 30 },
    {
      name: 'a paced one for half a minute, however far its deadline is',
      event: scheduledChange(0, { instanceId, startAt: NOON + 36_000_000 }),
      seconds: 30,
    },
    {
      name: 'what only ends something for half a minute',
      event: scheduledChange(0, { instanceId, startAt: NOON + 36_000_000, status: 'closed' }),
      seconds: 30,
    },
    {
      name: 'none for longer than SQS allows',
      event: capacity(0, { instanceId, terminatesAt: NOON + 1e9 }),
      seconds: 43_200,
    },
  ])('that no Node takes: $name', async ({ event, seconds }) => {
    const { judge, store } = await start();
    store.writes.answerBy(() => ({ outcome: 'refused', status: 422, message: 'invalid' }));
    expect(await judge(event)).toEqual({ end: 'later', seconds });
  });
});

describe('the end of a capacity block', () => {
  const BLOCK = capacityBlock();
  const inBlock = { capacityReservationId: 'cr-1' };

  test('is recorded on every node of the reservation, with ten minutes from the message on', async () => {
    const { judge, cluster, journalOf, clock } = await start({ node: inBlock });
    cluster.addNode('node-2', inBlock);
    cluster.addNode('node-3', { capacityReservationId: 'cr-2' });
    await clock.advance(1000);
    expect(await judge(BLOCK)).toEqual({ end: 'over', outcome: 'recorded' });
    for (const name of ['node-1', 'node-2']) {
      expect(journalOf(name)?.live).toMatchObject([
        { id: 'capacity-block', kind: 'capacity-reservation', deadlineAt: NOON + 600_000 },
      ]);
    }
    expect(isMarked(cluster.node('node-3'))).toBe(false);
    expect(await judge(BLOCK)).toEqual({ end: 'over', outcome: 'duplicate' });
  });

  test('waits for a node where none is in the reservation', async () => {
    const { judge } = await start();
    expect(await judge(BLOCK)).toEqual({ end: 'no-node', event: BLOCK });
  });

  test('leaves alone what NODE_SELECTOR does not choose, and records the rest', async () => {
    const { judge, cluster, clock } = await start({ node: { ...inBlock, selected: false } });
    cluster.addNode('node-2', inBlock);
    await clock.advance(1000);
    expect(await judge(BLOCK)).toEqual({ end: 'over', outcome: 'recorded' });
    expect(isMarked(cluster.node('node-1'))).toBe(false);
  });

  test('comes back as long as one node could not be judged', async () => {
    const { judge, cluster, clock } = await start({ node: inBlock });
    cluster.addNode('node-2', inBlock);
    cluster.addNode('node-2-twin', { ...inBlock, instanceId: instanceIdOf(2) });
    await clock.advance(1000);
    expect(await judge(BLOCK)).toEqual({ end: 'later', seconds: 30 });
    expect(isMarked(cluster.node('node-1'))).toBe(true);
    expect(isMarked(cluster.node('node-2'))).toBe(false);
  });
});

describe('an event of an instance without a node', () => {
  test.each([SPOT, REBALANCE, HOOK])('waits for it, and costs no request: $kind', async (event) => {
    const { judge, store, hooks } = await start({ node: 'none' });
    expect(await judge(event)).toEqual({ end: 'no-node', event });
    const requests = store.writes.count + store.reads.count + store.renewals.count;
    expect(requests + hooks.completions.count + hooks.descriptions.count).toBe(0);
  });

  test('waits for it when the Node goes while it is recorded', async () => {
    const { judge, nodes, cluster } = await start();
    nodes.silence();
    cluster.deleteNode('node-1');
    expect(await judge(SPOT)).toEqual({ end: 'no-node', event: SPOT });
  });
});

describe('a terminate hook whose Node has just gone', () => {
  async function startAfterNode(options: Options = {}) {
    const started = await start(options);
    started.autoScaling.begin({ ...HOOK, token: 'token-1' }, 300);
    started.cluster.deleteNode('node-1');
    await started.clock.advance(100);
    return started;
  }

  test('is completed at once, with its token and its instance', async () => {
    const { judge, hooks, report } = await startAfterNode();
    expect(await judge(HOOK)).toEqual({ end: 'over', outcome: 'hook-completed' });
    expect(hooks.completions.calls).toMatchObject([
      { args: [{ group: 'workers', hook: 'drain', token: 'token-1', instanceId }] },
    ]);
    expect(report.told('lifecycle hook completed')).toMatchObject([{ answer: 'accepted' }]);
  });

  test('is over when its action is', async () => {
    const { judge, clock } = await startAfterNode();
    await clock.advance(301_000);
    expect(await judge(HOOK)).toEqual({ end: 'over', outcome: 'hook-completed' });
  });

  test('is tried again when Auto Scaling does not take it', async () => {
    const { judge, hooks, report } = await startAfterNode();
    hooks.completions.answerNext({ outcome: 'failed', denied: false, message: 'throttled' });
    expect(await judge(HOOK)).toEqual({ end: 'later', seconds: 30 });
    expect(report.told('lifecycle hook not yet completed')).toHaveLength(1);
    expect(await judge(HOOK)).toEqual({ end: 'over', outcome: 'hook-completed' });
  });

  test('is left to its owner when it is not ours', async () => {
    const { judge, hooks } = await startAfterNode();
    const theirs = { ...HOOK, group: 'theirs' };
    expect(await judge(theirs)).toEqual({ end: 'no-node', event: theirs });
    expect(hooks.completions.count).toBe(0);
  });

  test('is left to the owner of the Node, as it would have been before', async () => {
    const { judge, hooks } = await startAfterNode({ node: { manager: 'eks' } });
    expect(await judge(HOOK)).toEqual({ end: 'over', outcome: 'left-to-owner' });
    expect(hooks.completions.count).toBe(0);
  });

  test('is left alone an hour later', async () => {
    const { judge, clock, hooks } = await startAfterNode();
    await clock.advance(3_600_000);
    expect(await judge(HOOK)).toMatchObject({ end: 'no-node' });
    expect(hooks.completions.count).toBe(0);
  });

  test('does not carry other events with it', async () => {
    const { judge } = await startAfterNode();
    expect(await judge(SPOT)).toEqual({ end: 'no-node', event: SPOT });
  });

  test('is completed when the Node goes while the hook is recorded', async () => {
    const { judge, cluster, clock, store, hooks } = await start();
    store.writes.extraMs = 1000;
    clock.after(100, () => cluster.deleteNode('node-1'));
    expect(await judge(HOOK)).toEqual({ end: 'over', outcome: 'hook-completed' });
    expect(hooks.completions.count).toBe(1);
  });
});

describe('an instance that two Nodes claim', () => {
  async function startTwice(options: Options = {}) {
    const started = await start(options);
    started.cluster.addNode('node-2', { instanceId });
    await started.clock.advance(100);
    return started;
  }

  test('is left alone, and its events are hidden half a minute', async () => {
    const { judge, cluster, report } = await startTwice();
    expect(await judge(SPOT)).toEqual({ end: 'later', seconds: 30 });
    expect(cluster.allNodes().some(isMarked)).toBe(false);
    expect(report.told('ambiguous instance')).toMatchObject([{ nodes: ['node-1', 'node-2'] }]);
  });

  test('is given up at the deadline', async () => {
    const { judge, cluster, report } = await startTwice({ secondsAfterNoon: 121 });
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'stale' });
    expect(cluster.allNodes().some(isMarked)).toBe(false);
    expect(report.told('ambiguous instance given up')).toHaveLength(1);
  });

  test("is given up at a hook's deadline, too, once its timeout is known", async () => {
    const { judge, autoScaling, hooks } = await startTwice({ secondsAfterNoon: 301 });
    autoScaling.timeouts.set('workers/drain', 300);
    hooks.descriptions.answerNext(THROTTLED);
    expect(await judge(HOOK)).toEqual({ end: 'later', seconds: 30 });
    expect(await judge(HOOK)).toEqual({ end: 'over', outcome: 'stale' });
  });

  test('is not given up for what has no deadline', async () => {
    const { judge } = await startTwice({ secondsAfterNoon: 9999 });
    expect(await judge(REBALANCE)).toEqual({ end: 'later', seconds: 30 });
  });

  test('is judged as ever when one of them is gone', async () => {
    const { judge, cluster, clock } = await startTwice();
    await judge(SPOT);
    cluster.deleteNode('node-1');
    await clock.advance(100);
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'recorded' });
    expect(isMarked(cluster.node('node-2'))).toBe(true);
  });
});

describe('old news', () => {
  test('of a machine that has outlived its deadline is stale', async () => {
    const { judge, cluster, report } = await start({ secondsAfterNoon: 200 });
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'stale' });
    expect(isMarked(cluster.node('node-1'))).toBe(false);
    expect(report.told('stale')).toHaveLength(1);
  });

  test.each([
    { name: 'the deadline is less than a minute ago', seconds: 180 },
    { name: 'the deadline is yet to come', seconds: 100 },
  ])('is news while $name', async ({ seconds }) => {
    const { judge } = await start({ secondsAfterNoon: seconds });
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'recorded' });
  });

  test('is news of a node that is not Ready', async () => {
    const { judge, store } = await start({ secondsAfterNoon: 200, node: { ready: false } });
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'recorded' });
    expect(store.renewals.count).toBe(0);
  });

  test('is news of a node whose kubelet has given no sign of life since', async () => {
    const { judge, store } = await start({ secondsAfterNoon: 200 });
    store.renewals.answerNext({ outcome: 'at', at: NOON + 180_000 });
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'recorded' });
  });

  test('is news of a node whose kubelet has no Lease', async () => {
    const { judge, store } = await start({ secondsAfterNoon: 200 });
    store.renewals.answerNext({ outcome: 'never' });
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'recorded' });
  });

  test('is judged again when the kubelet could not be asked about', async () => {
    const { judge, cluster, store } = await start({ secondsAfterNoon: 200 });
    store.renewals.answerNext({ outcome: 'unknown' });
    expect(await judge(SPOT)).toEqual({ end: 'later', seconds: 3 });
    expect(isMarked(cluster.node('node-1'))).toBe(false);
  });

  test('comes back ever more slowly while nobody can say, and that is told once', async () => {
    const { judge, store, report, clock } = await start({ secondsAfterNoon: 200 });
    store.renewals.answerBy(() => ({ outcome: 'unknown' }));
    const delays: number[] = [];
    for (let i = 0; i < 20; i += 1) {
      const verdict = await judge(SPOT);
      if (verdict.end !== 'later') throw new Error(JSON.stringify(verdict));
      delays.push(verdict.seconds);
      await clock.advance(verdict.seconds * 1000);
    }
    expect(delays.slice(0, 2)).toEqual([3, 3]);
    expect(delays).toEqual(delays.toSorted((a, b) => a - b));
    expect(delays.at(-1)).toBe(300);
    expect(report.told('age of news unknown')).toMatchObject([
      { node: 'node-1', instance: instanceId, unknown: 'kubelet Lease' },
    ]);
    store.renewals.answerBy(undefined);
    expect(await judge(SPOT)).toEqual({ end: 'over', outcome: 'stale' });
    // Another time, it begins anew.
    store.renewals.answerBy(() => ({ outcome: 'unknown' }));
    expect(await judge(SPOT)).toEqual({ end: 'later', seconds: 3 });
    expect(report.told('age of news unknown')).toHaveLength(2);
  });

  test('is not asked about while an event is fresh', async () => {
    const { judge, store, hooks } = await start();
    await judge(SPOT);
    await judge(HOOK);
    expect(store.renewals.count + hooks.descriptions.count).toBe(0);
  });

  test.each([
    { name: 'within a day is news', seconds: 24 * 3600 - 1, outcome: 'recorded' },
    { name: 'of a day ago is stale', seconds: 24 * 3600, outcome: 'stale' },
  ])('a rebalance recommendation $name', async ({ seconds, outcome }) => {
    const { judge } = await start({ secondsAfterNoon: seconds });
    expect(await judge(REBALANCE)).toEqual({ end: 'over', outcome });
  });

  test.each([
    { name: 'past its timeout', timeoutSeconds: 300, rules: {}, outcome: 'stale' },
    { name: 'within its timeout', timeoutSeconds: 3600, rules: {}, outcome: 'recorded' },
    {
      name: 'within the time for draining that hooks have',
      timeoutSeconds: 300,
      rules: { terminateHookDrainSeconds: 1800 },
      outcome: 'recorded',
    },
    {
      name: 'past the timeout that is assumed where there is no such hook any more',
      timeoutSeconds: undefined,
      rules: {},
      outcome: 'stale',
    },
    {
      name: 'within the time for draining that hooks have, where there is no such hook any more',
      timeoutSeconds: undefined,
      rules: { terminateHookDrainSeconds: 1800 },
      outcome: 'recorded',
    },
  ])('a hook $name: $outcome', async ({ timeoutSeconds, rules, outcome }) => {
    const { judge, autoScaling } = await start({ secondsAfterNoon: 900, rules });
    if (timeoutSeconds !== undefined) autoScaling.timeouts.set('workers/drain', timeoutSeconds);
    expect(await judge(HOOK)).toEqual({ end: 'over', outcome });
  });

  test('of a hook is judged again while its timeout could not be asked for', async () => {
    const { judge, cluster, autoScaling, hooks } = await start({ secondsAfterNoon: 3600 });
    autoScaling.timeouts.set('workers/drain', 300);
    hooks.descriptions.answerNext(THROTTLED);
    expect(await judge(HOOK)).toEqual({ end: 'later', seconds: 3 });
    expect(await judge(HOOK)).toEqual({ end: 'over', outcome: 'stale' });
    expect(isMarked(cluster.node('node-1'))).toBe(false);
  });

  test.each([
    { name: 'an hour ago, may live still', hours: 1, outcome: 'recorded' },
    {
      name: 'a minute short of 48 hours ago, may live still',
      hours: 48 - 1 / 60,
      outcome: 'recorded',
    },
    { name: 'longer ago than any lives, is over', hours: 49, outcome: 'stale' },
  ])('a hook whose timeout may not be read, begun $name', async ({ hours, outcome }) => {
    const { judge, hooks } = await start({ secondsAfterNoon: hours * 3600 });
    hooks.descriptions.answerBy(() => ({ outcome: 'unknown', denied: true, message: 'denied' }));
    expect(await judge(HOOK)).toEqual({ end: 'over', outcome });
  });

  test('of a hook is recorded, whatever its timeout, of a node that is not Ready', async () => {
    const { judge, hooks } = await start({ secondsAfterNoon: 3600, node: { ready: false } });
    hooks.descriptions.answerBy(() => THROTTLED);
    expect(await judge(HOOK)).toEqual({ end: 'over', outcome: 'recorded' });
  });
});

describe('news that only end something', () => {
  const told = { instanceId };
  const ends = [
    stateChange('running', 0, told),
    stateChange('stopped', 0, told),
    stateChange('terminated', 0, told),
    scheduledChange(0, { ...told, status: 'closed' }),
  ];

  test.each(ends)('($kind) of an instance without a node wait for none', async (event) => {
    const { judge, store } = await start({ node: 'none' });
    expect(await judge(event)).toEqual({ end: 'over', outcome: 'not-in-this-cluster' });
    expect(store.writes.count).toBe(0);
  });

  test.each(ends)('($kind) of an unmarked node leave a tombstone, and no marks', async (event) => {
    const { judge, cluster } = await start();
    cluster.stopKubelet('node-1');
    expect(await judge({ ...event, time: NOON + 2000 })).toEqual({
      end: 'over',
      outcome: 'recorded',
    });
    const { journal, ...node } = cluster.node('node-1');
    expect(JSON.parse(journal ?? '{}')).toMatchObject({ interruptions: [] });
    expect(node).toMatchObject({
      unschedulable: false,
      taints: [],
      interruptionLabel: undefined,
      excludeFromLoadBalancers: undefined,
    });
  });

  test.each(['stopped', 'terminated'] as const)(
    'that it is %s are stale when its kubelet has renewed its Lease since, and open while nobody can say',
    async (state) => {
      const { judge, store, cluster } = await start();
      const event = stateChange(state, 0, told);
      store.renewals.answerBy(() => ({ outcome: 'unknown' }));
      expect(await judge(event)).toEqual({ end: 'later', seconds: 3 });
      store.renewals.answerBy(undefined);
      expect(await judge(event)).toEqual({ end: 'over', outcome: 'stale' });
      expect(isMarked(cluster.node('node-1'))).toBe(false);
    },
  );

  test('that it was started are heeded though state changes are ignored: other kinds end by it', async () => {
    const actions = { ...policy().actions, 'state-change': 'ignore' } as const;
    const { judge, cluster } = await start({ rules: { actions }, secondsAfterNoon: 180 });
    cluster.stopKubelet('node-1');
    await judge(spot(0, { instanceId, action: 'stop' }));
    expect(cluster.node('node-1').unschedulable).toBe(true);
    expect(await judge(stateChange('stopping', 0, told))).toMatchObject({
      outcome: 'ignored-by-policy',
    });
    expect(await judge(stateChange('running', 170, told))).toMatchObject({ outcome: 'recorded' });
    expect(cluster.node('node-1').unschedulable).toBe(false);
  });

  test('a launch out of the warm pool gives the node back that a hook had sent there', async () => {
    const { judge, cluster, autoScaling } = await start();
    const toPool = { ...HOOK, destination: 'WarmPool' };
    autoScaling.begin(toPool, 300);
    await judge(toPool);
    expect(cluster.node('node-1').unschedulable).toBe(true);
    const launch = {
      ...HOOK,
      kind: 'launch-hook',
      token: 'token-2',
      hook: 'launch',
      time: NOON + 600_000,
      origin: 'WarmPool',
    } as const;
    autoScaling.begin(launch, 300);
    await judge(launch);
    expect(cluster.node('node-1')).toMatchObject({ unschedulable: false, taints: [] });
    expect(autoScaling.completedAt('token-2')).toBeDefined();
  });
});
