import { describe, expect, onTestFinished, test } from 'vitest';
import { Breaker } from '../../src/intake/breaker.ts';
import type { WriteAnswer } from '../../src/intake/node-store.ts';
import { Records, type RecordOutcome } from '../../src/intake/records.ts';
import { readJournal, type Journal } from '../../src/plan/journal.ts';
import type { Change } from '../../src/plan/merge.ts';
import type { NodeView } from '../../src/plan/node.ts';
import {
  at,
  capacityBlock,
  eventChange,
  policy,
  rebalance,
  spot,
  terminateHook,
} from '../plan/samples.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

const INSTANCE = instanceIdOf(1);
const SPOT = eventChange(spot(0, { instanceId: INSTANCE }));
const REBALANCE = eventChange(rebalance(0, { instanceId: INSTANCE }));
const OF_CORDON = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' };
const GPU = { key: 'nvidia.com/gpu', value: 'true', effect: 'NoSchedule' };

function hook(token: string): Change {
  return eventChange(terminateHook(0, { instanceId: INSTANCE, token }));
}

/** One process's record, of a cluster with `node-1` unless it is given. */
function start(outside = withNode()) {
  const ports = outside.connect();
  const { clock, store, report, line } = ports;
  const breaker = new Breaker((signal) => store.ping(signal), clock, report);
  const records = new Records(ports, breaker, policy());
  const told: { node: string; journal: Journal | undefined }[] = [];
  records.onChange((node, journal) => told.push({ node, journal }));
  records.start();
  const apply = (change: Change, node = 'node-1'): Promise<RecordOutcome> =>
    clock.resolved(records.apply(node, change), 3_600_000);
  onTestFinished(async () => {
    breaker.stop();
    await clock.resolved(records.stop(1500));
    await clock.advance(100);
    expect(clock.pending()).toEqual([]);
    expect(report.faults()).toEqual([]);
  });
  return { ...ports, line, outside, cluster: outside.cluster, breaker, records, told, apply };
}

function withNode(changes: Partial<NodeView> = {}): Outside {
  const outside = new Outside();
  outside.cluster.addNode('node-1', changes);
  return outside;
}

/** A cluster whose `node-1` another process has marked before it ended. */
function marked(...changes: readonly Change[]): Promise<Outside> {
  return markedBy(withNode(), ...changes);
}

async function markedBy(outside: Outside, ...changes: readonly Change[]): Promise<Outside> {
  const ports = outside.connect();
  const breaker = new Breaker(() => Promise.resolve(true), ports.clock, ports.report);
  const records = new Records(ports, breaker, policy());
  for (const change of changes) await ports.clock.resolved(records.apply('node-1', change));
  await ports.clock.resolved(records.stop(1500));
  await ports.clock.advance(100);
  return outside;
}

function idsOn(node: NodeView): readonly string[] {
  const read = readJournal(node.journal);
  return read.outcome === 'read' ? read.journal.live.map(({ id }) => id) : [];
}

const answers = {
  refused: { outcome: 'refused', status: 422, message: 'invalid' },
  tooLarge: { outcome: 'refused', status: 413, message: 'too large' },
  forbidden: { outcome: 'forbidden', message: 'not yet' },
  overloaded: { outcome: 'overloaded', retryAfterMs: undefined },
  conflict: { outcome: 'conflict' },
  unreachable: { outcome: 'unreachable', message: 'connection refused' },
} as const satisfies Record<string, WriteAnswer>;

describe('a record', () => {
  test('is one write, known to the index and told before anybody else tells it', async () => {
    const { apply, cluster, nodes, store, told } = start();
    expect(await apply(SPOT)).toMatchObject({ outcome: 'recorded', node: { name: 'node-1' } });
    expect(store.writes.count).toBe(1);
    expect(idsOn(cluster.node('node-1'))).toEqual(['spot-interruption']);
    expect(nodes.get('node-1')).toEqual(cluster.node('node-1'));
    expect(told).toMatchObject([{ node: 'node-1', journal: { state: 'draining' } }]);
  });

  test('is waited for by whatever comes after it, until it has ended', async () => {
    const { records, clock, store } = start();
    store.writes.extraMs = 2000;
    await clock.resolved(records.marksWritten(5000, new AbortController().signal), 0);
    void records.apply('node-1', SPOT);
    const waited = records.marksWritten(5000, new AbortController().signal);
    const startedAt = clock.now();
    await clock.resolved(waited);
    expect(records.marksPending).toBe(0);
    expect(clock.now() - startedAt).toBeGreaterThanOrEqual(2000);
    expect(clock.now() - startedAt).toBeLessThan(3000);
  });

  test('that takes too long is waited for no longer, nor by one who has been told to stop', async () => {
    const { records, clock, store } = start();
    store.writes.extraMs = 9000;
    void records.apply('node-1', SPOT);
    const stop = new AbortController();
    const startedAt = clock.now();
    const stopped = records.marksWritten(5000, stop.signal);
    stop.abort();
    await clock.resolved(stopped, 0);
    await clock.resolved(records.marksWritten(5000, new AbortController().signal));
    expect(clock.now() - startedAt).toBe(5000);
    expect(records.marksPending).toBe(1);
    await clock.advance(10_000);
  });

  test("of a drain's own progress is nothing to wait for", async () => {
    const { records, apply, clock } = start();
    await apply(SPOT);
    void records.apply('node-1', { type: 'settled', asOf: ['spot-interruption'] });
    expect(records.marksPending).toBe(0);
    await clock.advance(1000);
  });

  test('is not written again when the watch tells of it', async () => {
    const { apply, clock, store, told } = start();
    await apply(SPOT);
    await clock.advance(60_000);
    expect(store.writes.count).toBe(1);
    expect(told).toHaveLength(1);
    expect(clock.pending()).toEqual([]);
  });

  test('of what is known already is no write', async () => {
    const { apply, store } = start();
    await apply(SPOT);
    expect(await apply(SPOT)).toMatchObject({ outcome: 'duplicate' });
    expect(store.writes.count).toBe(1);
  });

  test('is written one at a time; what comes meanwhile goes into the next, together', async () => {
    const { records, clock, store, cluster } = start();
    const changes = [SPOT, REBALANCE, hook('a'), hook('b'), SPOT];
    const outcomes = Promise.all(changes.map((change) => records.apply('node-1', change)));
    await clock.advance(6);
    expect(store.writes.count).toBe(1);
    expect(records.marksPending).toBe(5);
    expect((await clock.resolved(outcomes)).map(({ outcome }) => outcome)).toEqual([
      'recorded',
      'recorded',
      'recorded',
      'recorded',
      'duplicate',
    ]);
    expect(store.writes.count).toBe(2);
    expect(records.marksPending).toBe(0);
    expect(idsOn(cluster.node('node-1'))).toEqual([
      'spot-interruption',
      'rebalance',
      'hook/a',
      'hook/b',
    ]);
  });

  test('of one node does not wait for that of another', async () => {
    const outside = withNode();
    outside.cluster.addNode('node-2');
    const { records, clock, store, cluster } = start(outside);
    store.writes.answerBy((name) => (name === 'node-1' ? answers.overloaded : undefined));
    void records.apply('node-1', SPOT);
    await clock.resolved(records.apply('node-2', REBALANCE), 20);
    expect(idsOn(cluster.node('node-2'))).toEqual(['rebalance']);
    store.writes.answerBy(undefined);
    await clock.advance(10_000);
  });

  test('of a node that the index does not know finds it gone', async () => {
    const { apply, store } = start();
    expect(await apply(SPOT, 'node-9')).toEqual({ outcome: 'gone' });
    expect(store.writes.count).toBe(0);
  });

  test('of a node that the API server does not know any more finds it gone', async () => {
    const { apply, cluster, nodes } = start();
    nodes.silence();
    cluster.deleteNode('node-1');
    expect(await apply(SPOT)).toEqual({ outcome: 'gone' });
  });

  test('of a node that is deleted while the answer is on its way finds it gone', async () => {
    const { records, cluster, clock, store, told } = start();
    store.writes.extraMs = 1000;
    const result = records.apply('node-1', SPOT);
    await clock.advance(100);
    cluster.deleteNode('node-1');
    expect(await clock.resolved(result)).toEqual({ outcome: 'gone' });
    expect(records.journalOf('node-1')).toBeUndefined();
    expect(told.at(-1)?.journal).toBeUndefined();
    // What was written is not lost on the machine, should it register anew.
    cluster.addNode('node-1');
    await clock.advance(100);
    expect(idsOn(cluster.node('node-1'))).toEqual(['spot-interruption']);
  });
});

describe('a node that somebody else has written', () => {
  test('is read and written anew, with what the other wrote', async () => {
    const { apply, cluster, nodes, store } = start();
    const speak = nodes.silence();
    cluster.changeNode('node-1', { taints: [GPU], unschedulable: true });
    expect(await apply(SPOT)).toMatchObject({ outcome: 'recorded' });
    expect(store.writes.count).toBe(2);
    expect(store.reads.count).toBe(1);
    expect(cluster.node('node-1').taints).toEqual([
      GPU,
      {
        key: 'node-termination-controller/interruption',
        value: 'spot-interruption',
        effect: 'NoSchedule',
      },
    ]);
    expect(readJournal(cluster.node('node-1').journal)).toMatchObject({
      journal: { cordonedByUs: false },
    });
    speak();
  });

  test('over and over is tried ten times a second at most', async () => {
    const { records, clock, store } = start();
    store.writes.answerBy(() => answers.conflict);
    const result = records.apply('node-1', SPOT);
    await clock.advance(10_000);
    expect(store.writes.count).toBeLessThan(5 + 100);
    store.writes.answerBy(undefined);
    expect(await clock.resolved(result)).toMatchObject({ outcome: 'recorded' });
  });

  test('and that is deleted meanwhile is gone', async () => {
    const { apply, cluster, nodes } = start();
    nodes.silence();
    cluster.changeNode('node-1', { taints: [GPU] });
    const result = apply(SPOT);
    cluster.deleteNode('node-1');
    expect(await result).toEqual({ outcome: 'gone' });
  });
});

describe('an API server that is overloaded', () => {
  test('is asked again when it said, and the message waits', async () => {
    const { apply, clock, store } = start();
    store.writes.answerNext({ outcome: 'overloaded', retryAfterMs: 4000 });
    const startedAt = clock.now();
    expect(await apply(SPOT)).toMatchObject({ outcome: 'recorded' });
    const waitedMs = clock.now() - startedAt;
    expect(waitedMs).toBeGreaterThanOrEqual(4000);
    expect(waitedMs).toBeLessThan(5100);
  });

  test('is asked ever more slowly where it did not say, every 5 to 6 s at last', async () => {
    const { records, clock, store } = start();
    store.writes.answerBy(() => answers.overloaded);
    const result = records.apply('node-1', SPOT);
    await clock.advance(60_000);
    const gaps = store.writes.calls.map(({ at }, i, all) => at - (all[i - 1]?.at ?? at)).slice(1);
    expect(gaps[0]).toBeGreaterThanOrEqual(500);
    expect(gaps[0]).toBeLessThan(700);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(6300);
    expect(gaps.at(-1)).toBeGreaterThanOrEqual(5000);
    store.writes.answerBy(undefined);
    expect(await clock.resolved(result)).toMatchObject({ outcome: 'recorded' });
  });

  test('is not waited for as long as no deadline would', async () => {
    const { apply, clock, store } = start();
    store.writes.answerNext({ outcome: 'overloaded', retryAfterMs: 3_600_000 });
    const startedAt = clock.now();
    await apply(SPOT);
    expect(clock.now() - startedAt).toBeLessThan(40_000);
  });

  test('lowers the rate at which it is held to take writes', async () => {
    const { apply, records, store } = start();
    const before = records.rate(64);
    store.writes.answerNext({ outcome: 'overloaded', retryAfterMs: 4000 });
    await apply(SPOT);
    expect(records.rate(64)).toBeLessThan(before / 5);
  });
});

describe('a 403', () => {
  test('that passes within 10 s is a restarting API server', async () => {
    const { apply, store, report } = start();
    store.writes.answerNext(...Array.from({ length: 9 }, () => answers.forbidden));
    expect(await apply(SPOT)).toMatchObject({ outcome: 'recorded' });
    expect(report.told('recording refused')).toEqual([]);
  });

  test('that lasts is final: an emergency is acted on from memory', async () => {
    const { apply, clock, store, report, told } = start();
    store.writes.answerBy(() => answers.forbidden);
    const startedAt = clock.now();
    expect(await apply(SPOT)).toMatchObject({
      outcome: 'refused',
      journal: { live: [{ id: 'spot-interruption' }] },
    });
    const seconds = (clock.now() - startedAt) / 1000;
    expect(seconds).toBeGreaterThanOrEqual(10);
    expect(seconds).toBeLessThan(12);
    expect(told).toMatchObject([{ journal: { state: 'draining' } }]);
    expect(report.told('recording refused')).toHaveLength(1);
  });

  test('that lasts is final for the read after a conflict, too', async () => {
    const { apply, store, report } = start();
    store.writes.answerBy(() => answers.conflict);
    store.reads.answerBy(() => answers.forbidden);
    expect(await apply(SPOT)).toMatchObject({ outcome: 'refused' });
    expect(report.told('recording refused')).toHaveLength(1);
  });

  test('that has lasted is not waited for by the next change', async () => {
    const { apply, clock, store } = start();
    store.writes.answerBy(() => answers.forbidden);
    await apply(SPOT);
    const startedAt = clock.now();
    expect(await apply(hook('a'))).toMatchObject({ outcome: 'refused' });
    expect(clock.now() - startedAt).toBeLessThan(1000);
  });

  test('counts anew after a write that was taken', async () => {
    const { apply, store } = start();
    store.writes.answerNext(...Array.from({ length: 9 }, () => answers.forbidden));
    await apply(SPOT);
    store.writes.answerNext(...Array.from({ length: 9 }, () => answers.forbidden));
    expect(await apply(hook('a'))).toMatchObject({ outcome: 'recorded' });
  });
});

describe('an answer that no repetition mends', () => {
  test.each([answers.refused, answers.tooLarge])('$status is final at once', async (answer) => {
    const { apply, store, told } = start();
    store.writes.answerNext(answer);
    expect(await apply(SPOT)).toMatchObject({ outcome: 'refused', message: answer.message });
    expect(store.writes.count).toBe(1);
    expect(told).toMatchObject([{ journal: { live: [{ id: 'spot-interruption' }] } }]);
  });

  test('leaves what is paced to its message', async () => {
    const { apply, store, told } = start();
    store.writes.answerBy(() => answers.refused);
    expect(await apply(REBALANCE)).toMatchObject({ outcome: 'refused', journal: undefined });
    await apply(SPOT);
    await apply(REBALANCE);
    expect(told.at(-1)?.journal?.live.map(({ id }) => id)).toEqual(['spot-interruption']);
  });

  test('does not keep a drain from memory from what it has to say', async () => {
    const { apply, store, records } = start();
    store.writes.answerBy(() => answers.refused);
    await apply(hook('a'));
    await apply({ type: 'hook-described', token: 'a', timeoutSeconds: 300 });
    await apply({ type: 'hook-completed', token: 'a' });
    await apply({ type: 'settled', asOf: ['hook/a'] });
    expect(records.journalOf('node-1')).toMatchObject({
      state: 'settled',
      live: [{ hook: { timeoutSeconds: 300, completedAt: expect.any(Number) as number } }],
    });
  });

  test('is put right as soon as the API server takes the write', async () => {
    const { apply, clock, cluster, store, report } = start();
    store.writes.answerBy(() => answers.refused);
    await apply(SPOT);
    await clock.advance(20_000);
    expect(report.told('recording refused')).toHaveLength(1);
    store.writes.answerBy(undefined);
    await clock.advance(31_000);
    expect(idsOn(cluster.node('node-1'))).toEqual(['spot-interruption']);
    expect(cluster.node('node-1').unschedulable).toBe(true);
  });

  test('does not lose the emergency where the Node bears an older journal', async () => {
    const { apply, clock, cluster, store, records, told } = start();
    await apply(REBALANCE);
    store.writes.answerNext(answers.refused);
    await apply(SPOT);
    // Whoever writes the Node meanwhile, and whatever the drain has to say.
    cluster.changeNode('node-1', { taints: [GPU] });
    store.writes.answerBy(() => answers.refused);
    await apply({ type: 'settled', asOf: ['rebalance'] });
    await clock.advance(2000);
    expect(records.journalOf('node-1')?.live.map(({ id }) => id)).toEqual([
      'rebalance',
      'spot-interruption',
    ]);
    expect(told.slice(1).every(({ journal }) => journal?.live.length === 2)).toBe(true);
    store.writes.answerBy(undefined);
    await clock.advance(31_000);
    expect(idsOn(cluster.node('node-1'))).toEqual(['rebalance', 'spot-interruption']);
  });

  test('does not leave a node draining on paper that is settled', async () => {
    const { apply, clock, store, cluster } = start();
    await apply(SPOT);
    store.writes.answerNext(answers.refused);
    expect(await apply({ type: 'settled', asOf: ['spot-interruption'] })).toMatchObject({
      outcome: 'refused',
      journal: { state: 'settled' },
    });
    await clock.advance(1000);
    expect(readJournal(cluster.node('node-1').journal)).toMatchObject({
      journal: { state: 'settled' },
    });
    expect(clock.pending()).toEqual([]);
  });

  test('keeps it when another process writes the journal', async () => {
    const { apply, clock, cluster, store, records } = start();
    await apply(REBALANCE);
    store.writes.answerBy(() => answers.refused);
    await apply(SPOT);
    const { journal } = cluster.node('node-1');
    cluster.changeNode('node-1', { journal: journal?.replace('"draining"', '"settled"') ?? '' });
    await clock.advance(100);
    expect(records.journalOf('node-1')).toMatchObject({
      state: 'draining',
      live: [{ id: 'rebalance' }, { id: 'spot-interruption' }],
    });
  });

  test('keeps some of what no journal could hold, and no more', async () => {
    const { apply, records, clock } = start();
    for (let i = 0; i < 500; i += 1) void records.apply('node-1', hook(`${i}`));
    await clock.advance(1000);
    expect(await apply(hook('one more'))).toMatchObject({ outcome: 'refused' });
    expect(records.journalOf('node-1')?.live.length).toBeLessThanOrEqual(32 + 128);
  });
});

describe('a connection that breaks', () => {
  test('once is not an API server that is away: the write is repeated at once', async () => {
    const { apply, breaker, clock, store } = start();
    store.writes.answerNext(answers.unreachable);
    const startedAt = clock.now();
    expect(await apply(SPOT)).toMatchObject({ outcome: 'recorded' });
    expect(clock.now() - startedAt).toBeLessThan(100);
    expect(breaker.isOpen).toBe(false);
  });

  test('twice is', async () => {
    const { apply, breaker, store } = start();
    store.writes.answerNext(answers.unreachable, answers.unreachable);
    expect(await apply(SPOT)).toEqual({ outcome: 'unreachable' });
    expect(breaker.isOpen).toBe(true);
  });

  test('only after a while is a server that hangs: nothing is repeated', async () => {
    const { apply, breaker, store } = start();
    store.writes.extraMs = 10_000;
    store.writes.answerNext(answers.unreachable);
    expect(await apply(SPOT)).toEqual({ outcome: 'unreachable' });
    expect(store.writes.count).toBe(1);
    expect(breaker.isOpen).toBe(true);
  });
});

describe('an API server that does not answer', () => {
  test('opens the breaker and leaves the change to its message', async () => {
    const { apply, breaker, store, told } = start();
    const comeBack = store.goAway();
    expect(await apply(SPOT)).toEqual({ outcome: 'unreachable' });
    expect(breaker.isOpen).toBe(true);
    expect(told).toEqual([]);
    comeBack();
  });

  test('is written what is missing as soon as it is back', async () => {
    const { apply, clock, cluster, store } = start();
    await apply(SPOT);
    const comeBack = store.goAway();
    cluster.changeNode('node-1', { journal: undefined, taints: [] });
    await clock.advance(120_000);
    expect(cluster.node('node-1').taints).toEqual([]);
    expect(store.writes.count).toBeLessThan(10);
    comeBack();
    await clock.advance(1200);
    expect(idsOn(cluster.node('node-1'))).toEqual(['spot-interruption']);
    expect(cluster.node('node-1').taints).toHaveLength(1);
  });
});

describe('journals that stand on the nodes at the start', () => {
  test('are taken up', async () => {
    const { told, report, store } = start(await marked(SPOT, hook('a')));
    expect(told).toMatchObject([
      { node: 'node-1', journal: { live: [{ id: 'spot-interruption' }, { id: 'hook/a' }] } },
    ]);
    expect(report.told('resumed')).toEqual([{ nodes: 1 }]);
    expect(store.writes.count).toBe(0);
  });

  test('are void when another machine bears them: its marks are undone', async () => {
    const outside = await marked(SPOT);
    outside.cluster.changeNode('node-1', { systemUUID: 'another' });
    const { clock, cluster, told, report } = start(outside);
    await clock.advance(100);
    expect(cluster.node('node-1')).toMatchObject({
      journal: undefined,
      taints: [],
      unschedulable: false,
      interruptionLabel: undefined,
    });
    expect(told.filter(({ journal }) => journal !== undefined)).toEqual([]);
    expect(report.told('journal void')).toHaveLength(1);
    expect(clock.pending()).toEqual([]);
  });

  test('are left alone, and told of once, when they cannot be read', async () => {
    const outside = await marked(SPOT);
    outside.cluster.changeNode('node-1', { journal: '{"version":2}' });
    const { clock, cluster, report, store } = start(outside);
    for (let i = 0; i < 5; i += 1) {
      cluster.changeNode('node-1', { ready: i % 2 === 0 });
      await clock.advance(1000);
    }
    expect(store.writes.count).toBe(0);
    expect(report.told('journal unreadable')).toHaveLength(1);
    expect(clock.pending()).toEqual([]);
  });

  test('are written anew by the next message, and kept aside, when they cannot be read', async () => {
    const { apply, cluster } = start(withNode({ journal: '{"version":2}' }));
    expect(await apply(SPOT)).toMatchObject({ outcome: 'recorded' });
    expect(idsOn(cluster.node('node-1'))).toEqual(['spot-interruption']);
    expect(cluster.keptAside.get('node-1')).toBe('{"version":2}');
  });
});

describe('what others do to a marked node', () => {
  const undo: readonly Readonly<{ name: string; changes: Partial<NodeView> }>[] = [
    { name: 'the journal', changes: { journal: undefined } },
    { name: 'the taint', changes: { taints: [OF_CORDON] } },
    { name: 'the label', changes: { interruptionLabel: undefined } },
    { name: 'the load balancer label', changes: { excludeFromLoadBalancers: undefined } },
    {
      name: 'all of it',
      changes: { journal: undefined, taints: [OF_CORDON], interruptionLabel: undefined },
    },
  ];

  test.each(undo)('$name comes back at once when somebody removes it', async ({ changes }) => {
    const { apply, clock, cluster } = start();
    await apply(SPOT);
    const before = cluster.node('node-1');
    await clock.advance(100);
    cluster.changeNode('node-1', changes);
    await clock.advance(100);
    const { resourceVersion, taints, ...after } = cluster.node('node-1');
    expect({ ...before, ...after }).toEqual(before);
    expect(taints).toHaveLength(before.taints.length);
    expect(taints).toEqual(expect.arrayContaining([...before.taints]));
    expect(resourceVersion).not.toBe(before.resourceVersion);
    expect(clock.pending()).toEqual([]);
  });

  test('a cordon that a person removed does not come back', async () => {
    const { apply, clock, cluster, store } = start();
    await apply(SPOT);
    cluster.changeNode('node-1', { unschedulable: false });
    await clock.advance(120_000);
    expect(cluster.node('node-1').unschedulable).toBe(false);
    // The second notes that the next cordon is not ours.
    expect(store.writes.count).toBe(2);
  });

  test('a cordon of theirs in the place of ours is theirs, though ours was gone for a moment only', async () => {
    const { apply, cluster, clock } = start();
    await apply(SPOT);
    await clock.advance(100);
    cluster.changeNode('node-1', { unschedulable: false });
    // Told of it, and before it can be written down.
    await clock.advance(7);
    cluster.changeNode('node-1', { unschedulable: true });
    await clock.advance(5000);
    expect(readJournal(cluster.node('node-1').journal)).toMatchObject({
      journal: { cordonedByUs: false },
    });
  });

  test('is mended ever more slowly against someone who does it all the time', async () => {
    const { apply, clock, cluster, store } = start();
    await apply(SPOT);
    cluster.onNodeChange((_, after) => {
      if (after !== undefined && after.taints.length > 0) {
        clock.after(50, () => cluster.changeNode('node-1', { taints: [] }));
      }
    });
    cluster.changeNode('node-1', { taints: [] });
    await clock.advance(300_000);
    expect(store.writes.count).toBeGreaterThan(8);
    expect(store.writes.count).toBeLessThan(20);
    expect(clock.pending()[0]).toBeLessThanOrEqual(30_000);
  });

  test('is mended though it was the write itself that somebody changed', async () => {
    const outside = withNode();
    // So many that its load balancer label is not withheld, which is looked at again all the time.
    for (let i = 2; i <= 20; i += 1) outside.cluster.addNode(`node-${i}`);
    const { apply, clock, cluster, store } = start(outside);
    const write = store.write.bind(store);
    store.write = (name, version, { taints, ...rest }, ...how) => {
      store.write = write;
      expect(taints).toHaveLength(2);
      return write(name, version, rest, ...how);
    };
    await apply(SPOT);
    expect(cluster.node('node-1').taints).toEqual([]);
    await clock.advance(100);
    expect(cluster.node('node-1').taints).toHaveLength(1);
  });

  test('is mended at once again after a minute of calm', async () => {
    const { apply, clock, cluster } = start();
    await apply(SPOT);
    for (let i = 0; i < 4; i += 1) {
      cluster.changeNode('node-1', { taints: [] });
      await clock.advance(61_000);
      expect(cluster.node('node-1').taints).toHaveLength(1);
    }
    cluster.changeNode('node-1', { taints: [] });
    await clock.advance(100);
    expect(cluster.node('node-1').taints).toHaveLength(1);
  });

  test('is seen although it happens during a write of ours', async () => {
    const { apply, records, clock, cluster, store } = start();
    await apply(SPOT);
    const release = store.writes.hold();
    void records.apply('node-1', REBALANCE);
    await clock.advance(10);
    cluster.changeNode('node-1', { interruptionLabel: undefined });
    await clock.advance(10);
    release();
    await clock.advance(1000);
    expect(cluster.node('node-1').interruptionLabel).toBe('spot-interruption');
    expect(idsOn(cluster.node('node-1'))).toEqual(['spot-interruption', 'rebalance']);
  });

  test('is taken up when another process writes the journal', async () => {
    const { apply, clock, cluster, told } = start();
    await apply(SPOT);
    const { journal } = cluster.node('node-1');
    cluster.changeNode('node-1', { journal: journal?.replace('"draining"', '"settled"') ?? '' });
    await clock.advance(100);
    expect(told.at(-1)).toMatchObject({ journal: { state: 'settled' } });
  });
});

describe('a node that joins a capacity block after its end was told', () => {
  const BLOCK = eventChange(capacityBlock());
  const inBlock = { capacityReservationId: 'cr-1' };

  test('is interrupted like the others, until the same moment', async () => {
    const { apply, cluster, clock, records, report } = start(withNode(inBlock));
    await apply(BLOCK);
    await clock.advance(300_000);
    cluster.addNode('node-2', inBlock);
    cluster.addNode('node-3', { capacityReservationId: 'cr-2' });
    await clock.advance(100);
    expect(idsOn(cluster.node('node-2'))).toEqual(['capacity-block']);
    expect(records.journalOf('node-2')?.live[0]?.deadlineAt).toBe(at(600));
    expect(cluster.node('node-3').journal).toBeUndefined();
    expect(report.told('capacity block joined')).toMatchObject([
      { node: 'node-2', instance: instanceIdOf(2), reservation: 'cr-1' },
    ]);
  });

  test('is, when it is named and labelled after it has registered, and by the next process', async () => {
    const { cluster, clock } = start(await markedBy(withNode(inBlock), BLOCK));
    cluster.addNode('node-2', { instanceId: undefined });
    await clock.advance(1000);
    cluster.changeNode('node-2', inBlock);
    await clock.advance(1000);
    expect(cluster.node('node-2').journal).toBeUndefined();
    cluster.changeNode('node-2', { instanceId: instanceIdOf(2) });
    await clock.advance(100);
    expect(idsOn(cluster.node('node-2'))).toEqual(['capacity-block']);
  });

  test('is, though it joined while no process ran or the API server was away', async () => {
    const outside = await markedBy(withNode(inBlock), BLOCK);
    outside.cluster.addNode('node-2', inBlock);
    const { cluster, clock, store } = start(outside);
    await clock.advance(100);
    expect(idsOn(cluster.node('node-2'))).toEqual(['capacity-block']);
    const comeBack = store.goAway();
    cluster.addNode('node-3', inBlock);
    await clock.advance(10_000);
    comeBack();
    await clock.advance(5000);
    expect(idsOn(cluster.node('node-3'))).toEqual(['capacity-block']);
  });

  test.each([
    { name: 'after its instances have begun to go', seconds: 600, changes: {} },
    { name: 'where NODE_SELECTOR does not choose it', seconds: 1, changes: { selected: false } },
  ])('is not $name', async ({ seconds, changes }) => {
    const { apply, cluster, clock } = start(withNode(inBlock));
    await apply(BLOCK);
    await clock.advance(seconds * 1000);
    cluster.addNode('node-2', { ...inBlock, ...changes });
    await clock.advance(100);
    expect(cluster.node('node-2').journal).toBeUndefined();
  });
});

describe('a Node that is deleted', () => {
  /** Marked, deleted, and registered anew while the API server does not answer. */
  async function backDuringAnOutage() {
    const { apply, clock, cluster, store } = start();
    await apply(SPOT);
    cluster.deleteNode('node-1');
    await clock.advance(5000);
    const comeBack = store.goAway();
    cluster.addNode('node-1');
    return { clock, cluster, comeBack };
  }

  test('is told of, and remembered for an hour', async () => {
    const { apply, clock, cluster, departed, told } = start();
    await apply(SPOT);
    cluster.deleteNode('node-1');
    await clock.advance(100);
    expect(told.at(-1)).toEqual({ node: 'node-1', journal: undefined });
    expect(departed.find(INSTANCE)).toBeDefined();
    await clock.advance(3_599_000);
    expect(departed.find(INSTANCE)).toBeDefined();
    await clock.advance(1000);
    expect(departed.find(INSTANCE)).toBeUndefined();
    expect(clock.pending()).toEqual([]);
  });

  test('is remembered without a journal, too', async () => {
    const { clock, cluster, departed } = start();
    cluster.deleteNode('node-1');
    await clock.advance(100);
    expect(departed.find(INSTANCE)).toBeDefined();
    expect(departed.find(instanceIdOf(2))).toBeUndefined();
  });

  test('is one of 20,000 that are remembered, the latest', async () => {
    const { clock, cluster, departed } = start();
    cluster.deleteNode('node-1');
    for (let i = 2; i <= 20_001; i += 1) {
      cluster.addNode(`node-${i}`);
      cluster.deleteNode(`node-${i}`);
    }
    await clock.advance(100);
    expect(departed.find(INSTANCE)).toBeUndefined();
    expect(departed.find(instanceIdOf(2))).toBeDefined();
    expect(departed.find(instanceIdOf(20_001))).toBeDefined();
  });

  test.each([
    { name: 'under its old name', node: 'node-1', changes: {} },
    {
      name: 'under another name',
      node: 'node-2',
      changes: { instanceId: INSTANCE, systemUUID: 'uuid-1' },
    },
    { name: 'before its systemUUID is reported', node: 'node-1', changes: { systemUUID: '' } },
  ])('gets its journal back when its machine registers anew $name', async ({ node, changes }) => {
    const { apply, clock, cluster, report, told } = start();
    // Of two, load balancers can spare one.
    cluster.addNode('other');
    await apply(SPOT);
    cluster.deleteNode('node-1');
    await clock.advance(5000);
    cluster.addNode(node, changes);
    await clock.advance(100);
    expect(cluster.node(node)).toMatchObject({
      unschedulable: true,
      interruptionLabel: 'spot-interruption',
      excludeFromLoadBalancers: 'true',
    });
    expect(idsOn(cluster.node(node))).toEqual(['spot-interruption']);
    expect(told.at(-1)).toMatchObject({ node, journal: { state: 'draining' } });
    expect(report.told('journal restored')).toHaveLength(1);
    expect(clock.pending()).toEqual([]);
  });

  test('gets it back once the cloud provider says which instance it is', async () => {
    const { apply, clock, cluster } = start();
    await apply(SPOT);
    cluster.deleteNode('node-1');
    await clock.advance(5000);
    cluster.addNode('node-1', { instanceId: undefined });
    await clock.advance(2000);
    expect(cluster.node('node-1').journal).toBeUndefined();
    cluster.changeNode('node-1', { instanceId: INSTANCE });
    await clock.advance(100);
    expect(idsOn(cluster.node('node-1'))).toEqual(['spot-interruption']);
  });

  test('gets it back although the API server did not answer at the time', async () => {
    const { clock, cluster, comeBack } = await backDuringAnOutage();
    await clock.advance(5000);
    comeBack();
    await clock.advance(1200);
    expect(idsOn(cluster.node('node-1'))).toEqual(['spot-interruption']);
  });

  test('gets it back although it had gone once more before it could be written', async () => {
    const { clock, cluster, comeBack } = await backDuringAnOutage();
    await clock.advance(1000);
    cluster.deleteNode('node-1');
    await clock.advance(1000);
    comeBack();
    await clock.advance(1200);
    cluster.addNode('node-1');
    await clock.advance(100);
    expect(idsOn(cluster.node('node-1'))).toEqual(['spot-interruption']);
  });

  test('does not get it back where NODE_SELECTOR does not choose it any more', async () => {
    const { apply, clock, cluster } = start();
    await apply(SPOT);
    cluster.deleteNode('node-1');
    await clock.advance(5000);
    cluster.addNode('node-1', { selected: false });
    await clock.advance(1000);
    expect(cluster.node('node-1').journal).toBeUndefined();
  });

  test('is not remembered where NODE_SELECTOR did not choose it', async () => {
    const { clock, cluster, departed } = start(withNode({ selected: false }));
    cluster.deleteNode('node-1');
    await clock.advance(100);
    expect(departed.find(INSTANCE)).toBeUndefined();
  });

  test('gets it back although a message was quicker', async () => {
    const { apply, records, clock, cluster, nodes } = start();
    await apply(SPOT);
    cluster.deleteNode('node-1');
    await clock.advance(5000);
    nodes.subscribe((before, after) => {
      if (before === undefined && after !== undefined) void records.apply('node-1', REBALANCE);
    });
    cluster.addNode('node-1');
    await clock.advance(200);
    expect(idsOn(cluster.node('node-1')).toSorted()).toEqual(['rebalance', 'spot-interruption']);
  });

  test.each([
    {
      name: 'another instance',
      afterMs: 5000,
      changes: { instanceId: instanceIdOf(7), systemUUID: 'uuid-7' },
    },
    { name: 'another machine', afterMs: 5000, changes: { systemUUID: 'uuid-7' } },
    { name: 'the machine after an hour', afterMs: 3_600_000, changes: {} },
  ])('leaves nothing to $name', async ({ afterMs, changes }) => {
    const { apply, clock, cluster } = start();
    await apply(SPOT);
    cluster.deleteNode('node-1');
    await clock.advance(afterMs + 100);
    const fresh = cluster.addNode('node-1', changes);
    await clock.advance(1000);
    expect(cluster.node('node-1')).toEqual(fresh);
  });
});

describe('stopping', () => {
  test('lets a write in flight finish', async () => {
    const { records, clock, cluster, line } = start();
    line.latencyMs = 300;
    const result = records.apply('node-1', SPOT);
    await clock.advance(100);
    await clock.resolved(records.stop(1500));
    expect(await result).toMatchObject({ outcome: 'recorded' });
    expect(idsOn(cluster.node('node-1'))).toEqual(['spot-interruption']);
  });

  test('waits no longer than it is given', async () => {
    const { records, clock, store } = start();
    store.writes.hold();
    const result = records.apply('node-1', SPOT);
    await clock.advance(100);
    await clock.resolved(records.stop(1500), 1600);
    expect(await clock.resolved(result, 10)).toEqual({ outcome: 'unreachable' });
  });

  test.each([
    { name: 'a 429', answer: { outcome: 'overloaded', retryAfterMs: 20_000 } },
    { name: 'a 403', answer: answers.forbidden },
  ] as const)('does not wait for what $name asks for', async ({ answer }) => {
    const { records, clock, store } = start();
    store.writes.answerBy(() => answer);
    const result = records.apply('node-1', SPOT);
    await clock.advance(100);
    await clock.resolved(records.stop(1500), 1600);
    expect(await result).toEqual({ outcome: 'unreachable' });
  });

  test('begins nothing new', async () => {
    const { records, apply, clock, cluster, store } = start();
    await apply(SPOT);
    await clock.resolved(records.stop(1500));
    cluster.changeNode('node-1', { taints: [] });
    expect(await apply(REBALANCE)).toEqual({ outcome: 'unreachable' });
    await clock.advance(60_000);
    expect(store.writes.count).toBe(1);
  });
});
