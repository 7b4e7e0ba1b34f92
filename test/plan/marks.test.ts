import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readJournal, writeJournal, type Journal } from '../../src/plan/journal.ts';
import { markWrite, withoutMarks, type MarkWrite } from '../../src/plan/marks.ts';
import type { Change } from '../../src/plan/merge.ts';
import type { NodeView, Taint } from '../../src/plan/node.ts';
import type { Policy } from '../../src/plan/policy.ts';
import * as arbitrary from './arbitraries.ts';
import {
  at,
  capacity,
  eventChange,
  interruption,
  journal,
  journalOf,
  nodeView,
  patched,
  policy,
  rebalance,
  spot,
  terminateHook,
} from './samples.ts';

const KEY = 'node-termination-controller/interruption';
const JOURNAL = 'node-termination-controller/journal';
const UNREADABLE = 'node-termination-controller/journal-unreadable';
const LOAD_BALANCER = 'node.kubernetes.io/exclude-from-external-load-balancers';

const SPOT_TAINT: Taint = { key: KEY, value: 'spot-interruption', effect: 'NoSchedule' };
const CORDON_TAINT: Taint = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' };
const MENDED: Change = { type: 'mended' };

type Options = { remembered?: Journal; rules?: Partial<Policy>; now?: number };

function write(
  node: NodeView,
  changes: readonly Change[],
  { remembered, rules, now = at(1) }: Options = {},
): MarkWrite {
  const result = markWrite(node, remembered, changes, policy(rules), now, () => true);
  if (result === 'unrecordable') throw new Error('unrecordable');
  return result;
}

/** The Node once the changes have been written. */
function marked(node: NodeView, changes: readonly Change[], options?: Options): NodeView {
  return patched(node, write(node, changes, options).patch);
}

/** The Node after another machine has taken over its name, and the void marks were undone. */
function undone(node: NodeView): NodeView {
  return marked({ ...node, systemUUID: 'of another machine' }, [MENDED]);
}

function journalOn(node: NodeView): Journal {
  const read = readJournal(node.journal);
  if (read.outcome !== 'read') throw new Error(`not read: ${JSON.stringify(read)}`);
  return read.journal;
}

function withoutCordonTaint(taints: readonly Taint[]): readonly Taint[] {
  const { key, effect } = CORDON_TAINT;
  return taints.filter((taint) => taint.key !== key || taint.effect !== effect);
}

describe('marking a node', () => {
  test('cordons, taints, labels and records in one patch', () => {
    const { patch, verdicts } = write(nodeView(), [eventChange(spot(0))]);
    expect(verdicts).toEqual(['recorded']);
    expect(patch).toEqual({
      unschedulable: true,
      taints: [SPOT_TAINT, CORDON_TAINT],
      labels: { [KEY]: 'spot-interruption', [LOAD_BALANCER]: 'true' },
      annotations: { [JOURNAL]: expect.any(String) as string },
    });
  });

  test.each([
    { events: [capacity(0)], kind: 'capacity-reservation' },
    { events: [terminateHook(0)], kind: 'terminate-hook' },
    { events: [rebalance(0), spot(5)], kind: 'spot-interruption' },
    { events: [spot(0), rebalance(5)], kind: 'spot-interruption' },
  ])('names the interruption that rules: $kind', ({ events, kind }) => {
    const node = marked(nodeView(), events.map(eventChange));
    expect(node.interruptionLabel).toBe(kind);
    expect(node.taints).toEqual([{ key: KEY, value: kind, effect: 'NoSchedule' }, CORDON_TAINT]);
  });

  test('leaves the taint of a cordon to the control plane where a person has cordoned it', () => {
    expect(marked(nodeView({ unschedulable: true }), [eventChange(spot(0))]).taints).toEqual([
      SPOT_TAINT,
    ]);
  });

  test('judges each change of one write by itself', () => {
    const { verdicts } = write(
      nodeView(),
      [spot(0), spot(0), spot(60), rebalance(0)].map(eventChange),
    );
    expect(verdicts).toEqual(['recorded', 'duplicate', 'duplicate', 'recorded']);
  });

  test('asks for nothing where the Node is as it should be', () => {
    const node = marked(nodeView(), [eventChange(spot(0))]);
    expect(write(node, [eventChange(spot(0))]).patch).toBeUndefined();
    expect(write(node, [MENDED]).patch).toBeUndefined();
  });

  test('leaves load balancers alone when told so', () => {
    const rules = { excludeFromLoadBalancers: false };
    const node = marked(nodeView({ excludeFromLoadBalancers: 'false' }), [eventChange(spot(0))], {
      rules,
    });
    expect(node.excludeFromLoadBalancers).toBe('false');
    expect(journalOn(node).labelledByUs).toBeUndefined();
  });

  test('touches nothing on a node without an instance', () => {
    const node = nodeView({ instanceId: undefined, journal: 'anything' });
    expect(write(node, [eventChange(spot(0))])).toMatchObject({
      patch: undefined,
      verdicts: ['stale'],
    });
  });

  test('refuses what no journal can hold', () => {
    const hooks = Array.from({ length: 33 }, (_, i) =>
      eventChange(terminateHook(0, { token: `${i}` })),
    );
    expect(markWrite(nodeView(), undefined, hooks, policy(), at(1), () => true)).toBe(
      'unrecordable',
    );
  });

  test('gives the journal that the Node then bears', () => {
    const result = write(nodeView(), [eventChange(spot(0)), eventChange(terminateHook(0))]);
    expect(journalOn(patched(nodeView(), result.patch))).toEqual(result.journal);
  });
});

describe('writing the same again', () => {
  const changes: fc.Arbitrary<readonly Change[]> = fc.array(
    fc.oneof(
      fc.integer({ min: 0, max: 500 }).map((seconds) => eventChange(spot(seconds))),
      fc.integer({ min: 0, max: 500 }).map((seconds) => eventChange(rebalance(seconds))),
      fc.constantFrom('a', 'b').map((token) => eventChange(terminateHook(0, { token }))),
      fc.constantFrom<Change>(
        { type: 'hook-described', token: 'a', timeoutSeconds: 300 },
        { type: 'hook-completed', token: 'b' },
        { type: 'settled', asOf: ['spot-interruption', 'rebalance', 'hook/a', 'hook/b'] },
        MENDED,
      ),
    ),
    { maxLength: 8 },
  );
  const nodes = fc
    .record({
      taints: arbitrary.foreignTaints,
      unschedulable: fc.boolean(),
      excludeFromLoadBalancers: fc.constantFrom(undefined, 'true', 'false', 'else'),
      journal: fc.option(
        fc.oneof(
          fc.string(),
          arbitrary
            .journals(2, 2)
            .map((value) => writeJournal({ ...value, machine: journal().machine })),
          fc.constant(JSON.stringify({ version: 2 })),
        ),
        { nil: undefined },
      ),
      systemUUID: fc.constantFrom(nodeView().systemUUID, '', 'another'),
    })
    .map((fields) => nodeView(fields));

  test('needs no second patch, whatever the Node looked like', () => {
    fc.assert(
      fc.property(nodes, changes, (node, news) => {
        const first = markWrite(node, undefined, news, policy(), at(600), () => true);
        fc.pre(first !== 'unrecordable');
        const after = patched(node, first.patch);
        const second = write(after, [MENDED], { now: at(600) });
        expect(second.patch).toBeUndefined();
        expect(second.journal).toEqual(first.journal);
      }),
      { numRuns: 200 },
    );
  });

  test('keeps the taints of others in their order, with exactly one of ours while one is live', () => {
    fc.assert(
      fc.property(nodes, changes, (node, news) => {
        const first = markWrite(node, undefined, news, policy(), at(600), () => true);
        fc.pre(first !== 'unrecordable');
        const { taints } = patched(node, first.patch);
        const others = taints.filter(({ key }) => key !== KEY);
        expect(withoutCordonTaint(others)).toEqual(withoutCordonTaint(node.taints));
        const isLive = (first.journal?.live.length ?? 0) > 0;
        expect(taints.filter(({ key }) => key === KEY)).toHaveLength(isLive ? 1 : 0);
      }),
      { numRuns: 200 },
    );
  });

  test('is pure: the same input gives the same patch', () => {
    fc.assert(
      fc.property(nodes, changes, (node, news) => {
        expect(markWrite(node, undefined, news, policy(), at(600), () => true)).toEqual(
          markWrite(node, undefined, news, policy(), at(600), () => true),
        );
      }),
    );
  });
});

describe('our taint among those of others', () => {
  const gpu: Taint = { key: 'nvidia.com/gpu', value: 'true', effect: 'NoSchedule' };
  const notReady: Taint = {
    key: 'node.kubernetes.io/not-ready',
    effect: 'NoExecute',
    timeAdded: '2026-03-01T11:00:00Z',
  };

  test('comes last, and leaves them as they are', () => {
    const node = marked(nodeView({ taints: [gpu, notReady] }), [eventChange(spot(0))]);
    expect(node.taints).toEqual([gpu, notReady, SPOT_TAINT, CORDON_TAINT]);
  });

  test.each([
    { effect: 'NoSchedule', event: spot(0) },
    { effect: 'PreferNoSchedule', event: rebalance(0) },
  ])('stays in its place while it is right: $effect', ({ effect, event }) => {
    const rules: Partial<Policy> = {
      actions: { ...policy().actions, rebalance: 'prefer-no-schedule' },
    };
    const node = marked(nodeView(), [eventChange(event)], { rules });
    expect(node.taints[0]).toMatchObject({ key: KEY, effect });
    const joined = { ...node, taints: [...node.taints, gpu] };
    expect(write(joined, [MENDED], { rules }).patch).toBeUndefined();
  });

  test("leaves another's taint of the cordon's key and another effect", () => {
    const theirs: Taint = { ...CORDON_TAINT, effect: 'NoExecute' };
    const node = marked(nodeView({ taints: [theirs] }), [eventChange(spot(0))]);
    expect(node.taints).toEqual([theirs, SPOT_TAINT, CORDON_TAINT]);
    expect(undone(node).taints).toEqual([theirs]);
  });

  test.each([
    { name: 'another value', taints: [{ ...SPOT_TAINT, value: 'rebalance' }] },
    { name: 'another effect', taints: [{ ...SPOT_TAINT, effect: 'PreferNoSchedule' }] },
    { name: 'it twice', taints: [SPOT_TAINT, { ...SPOT_TAINT, effect: 'NoExecute' }] },
    { name: 'none of it', taints: [] },
  ])('is put right where there is $name', ({ taints }) => {
    const node = marked(nodeView({ taints: [gpu] }), [eventChange(spot(0))]);
    expect(write({ ...node, taints: [...taints, gpu] }, [MENDED]).patch).toEqual({
      taints: [gpu, SPOT_TAINT],
    });
  });
});

describe('what somebody takes away from a node that is live', () => {
  const live = marked(nodeView(), [eventChange(spot(0))]);
  const remembered = journalOn(live);

  test('the journal is written again from memory', () => {
    const { patch, found } = write({ ...live, journal: undefined }, [MENDED], { remembered });
    expect(patch).toEqual({ annotations: { [JOURNAL]: live.journal } });
    expect(found).toEqual([{ type: 'journal-missing' }]);
  });

  test('the label is written again', () => {
    expect(write({ ...live, interruptionLabel: undefined }, [MENDED]).patch).toEqual({
      labels: { [KEY]: 'spot-interruption' },
    });
  });

  test('the load balancer label is written again', () => {
    expect(write({ ...live, excludeFromLoadBalancers: undefined }, [MENDED]).patch).toEqual({
      labels: { [LOAD_BALANCER]: 'true' },
    });
  });

  test('a cordon that a person removed is not', () => {
    const { patch } = write({ ...live, unschedulable: false }, [MENDED]);
    // No more than the note that it is nobody's now.
    expect(Object.keys(patch ?? {})).toEqual(['annotations']);
    const later = marked({ ...live, unschedulable: false }, [eventChange(rebalance(5))]);
    expect(later.unschedulable).toBe(false);
  });
});

describe('undoing', () => {
  const before = fc.record({
    unschedulable: fc.boolean(),
    excludeFromLoadBalancers: fc.constantFrom(undefined, 'true', 'false', 'else'),
    taints: arbitrary.foreignTaints,
  });

  test('restores a node to what it was before we came', () => {
    fc.assert(
      fc.property(before, (fields) => {
        const node = nodeView(fields);
        const live = marked(node, [eventChange(spot(0)), eventChange(rebalance(0))]);
        expect(withoutMarks(live, journalOn(live))).toEqual({
          ...node,
          // It mirrors a cordon, and without one would go by itself.
          taints: node.unschedulable ? node.taints : withoutCordonTaint(node.taints),
          resourceVersion: live.resourceVersion,
        });
      }),
    );
  });

  test('takes the taint of a cordon with it, which may have become that of the control plane', () => {
    const live = marked(nodeView(), [eventChange(spot(0))]);
    const theirs = { ...CORDON_TAINT, timeAdded: '2026-03-01T11:00:00Z' };
    expect(undone({ ...live, taints: [SPOT_TAINT, theirs] }).taints).toEqual([]);
  });

  test('leaves a cordon of others that was there before ours', () => {
    const live = marked(nodeView({ unschedulable: true }), [eventChange(spot(0))]);
    expect(journalOn(live).cordonedByUs).toBe(false);
    expect(undone(live).unschedulable).toBe(true);
  });

  test.each([
    { before: 'true', ours: false },
    { before: 'false', ours: true },
    { before: 'else', ours: true },
    { before: undefined, ours: true },
  ])('puts the load balancer label back to $before', ({ before: value, ours }) => {
    const live = marked(nodeView({ excludeFromLoadBalancers: value }), [eventChange(spot(0))]);
    expect(live.excludeFromLoadBalancers).toBe('true');
    expect(journalOn(live).labelledByUs).toBe(ours);
    expect(undone(live).excludeFromLoadBalancers).toBe(value);
  });

  test('takes away what came with a journal that is not ours to keep, and nothing else', () => {
    const gpu: Taint = { key: 'nvidia.com/gpu', value: 'true', effect: 'NoSchedule' };
    const live = marked(nodeView({ taints: [gpu] }), [eventChange(spot(0))]);
    expect(undone(live)).toEqual({
      ...nodeView({ taints: [gpu] }),
      systemUUID: 'of another machine',
      resourceVersion: '3',
    });
  });
});

describe('a journal of another machine', () => {
  const live = marked(nodeView(), [eventChange(spot(0))]);

  test.each([
    { name: 'another systemUUID', changes: { systemUUID: 'ec2b' } },
    { name: 'another instance ID', changes: { instanceId: 'i-0fedcba9876543210' } },
  ])('$name makes it void: its marks are undone', ({ changes }) => {
    const { patch, journal: after, found } = write({ ...live, ...changes }, [MENDED]);
    expect(patch).toEqual({
      unschedulable: false,
      taints: [],
      labels: { [KEY]: null, [LOAD_BALANCER]: null },
      annotations: { [JOURNAL]: null },
    });
    expect(after).toBeUndefined();
    expect(found).toMatchObject([{ type: 'journal-void' }]);
  });

  test('another boot alone does not, and is noted', () => {
    const { patch, journal: after } = write({ ...live, bootId: 'boot-2' }, [MENDED]);
    expect(Object.keys(patch ?? {})).toEqual(['annotations']);
    expect(after?.machine.bootId).toBe('boot-2');
    expect(after?.live).toHaveLength(1);
  });

  test.each([
    { name: 'another Node uid', changes: { uid: 'node-uid-2' } },
    { name: 'a systemUUID that is not reported yet', changes: { systemUUID: '' } },
  ])('$name alone does not', ({ changes }) => {
    const { patch, journal: after } = write({ ...live, ...changes }, [MENDED]);
    expect(patch).toBeUndefined();
    expect(after?.live).toHaveLength(1);
  });

  test('does not keep the present machine from being marked in the same write', () => {
    const taken = { ...live, systemUUID: 'ec2b' };
    const node = marked(taken, [eventChange(rebalance(5))]);
    expect(journalOn(node)).toMatchObject({
      machine: { systemUUID: 'ec2b' },
      cordonedByUs: undefined,
      live: [{ id: 'rebalance' }],
    });
    expect(node.taints).toEqual([{ key: KEY, value: 'rebalance', effect: 'PreferNoSchedule' }]);
  });

  test('does not outlive what is remembered of the present machine', () => {
    const mine = { ...nodeView(), systemUUID: 'ec2b' };
    const remembered = journalOn(marked(mine, [eventChange(rebalance(5))]));
    const { journal: after } = write({ ...live, systemUUID: 'ec2b' }, [MENDED], { remembered });
    expect(after?.live.map(({ id }) => id)).toEqual(['rebalance']);
  });

  test('in memory is not written onto the machine of the moment', () => {
    const remembered = journalOn(live);
    const { patch, journal: after } = write(nodeView({ systemUUID: 'ec2b' }), [MENDED], {
      remembered,
    });
    expect(patch).toBeUndefined();
    expect(after).toBeUndefined();
  });

  test('is recognised after its Node was first seen without a systemUUID', () => {
    const early = marked(nodeView({ systemUUID: '', bootId: '' }), [eventChange(spot(0))]);
    expect(journalOn(early).machine.systemUUID).toBe('');
    const reported = marked({ ...early, systemUUID: 'ec2a', bootId: 'boot-1' }, [MENDED]);
    expect(journalOn(reported).machine).toMatchObject({ systemUUID: 'ec2a', bootId: 'boot-1' });
    expect(undone(reported).unschedulable).toBe(false);
  });
});

describe('a journal that cannot be read', () => {
  const newer = JSON.stringify({ version: 2, cordoned: true });

  test.each([newer, 'not JSON', ''])('is never undone from: %s', (text) => {
    const node = nodeView({
      journal: text,
      unschedulable: true,
      taints: [SPOT_TAINT],
      interruptionLabel: 'spot-interruption',
      excludeFromLoadBalancers: 'true',
    });
    const { patch, found } = write(node, [MENDED]);
    expect(patch).toBeUndefined();
    expect(found).toMatchObject([{ type: 'journal-unreadable' }]);
  });

  test('is written anew by the next message, and kept aside', () => {
    const { patch, journal: after } = write(nodeView({ journal: newer }), [eventChange(spot(0))]);
    expect(patch?.annotations?.[UNREADABLE]).toBe(newer);
    expect(after?.live).toHaveLength(1);
  });

  test('is written anew from memory', () => {
    const remembered = journalOf([eventChange(spot(0))]);
    const { patch, journal: after } = write(nodeView({ journal: newer }), [MENDED], { remembered });
    expect(patch?.annotations?.[UNREADABLE]).toBe(newer);
    expect(after?.live).toEqual(remembered.live);
  });

  test('is kept up to its first KiB, in whole characters', () => {
    const text = `x${'é'.repeat(2000)}`;
    const { patch } = write(nodeView({ journal: text }), [eventChange(spot(0))]);
    expect(patch?.annotations?.[UNREADABLE]).toBe(`x${'é'.repeat(511)}`);
  });

  test('does not make a cordon that stands there ours', () => {
    const node = nodeView({
      journal: newer,
      unschedulable: true,
      excludeFromLoadBalancers: 'true',
    });
    expect(write(node, [eventChange(spot(0))]).journal).toMatchObject({
      cordonedByUs: false,
      labelledByUs: false,
    });
  });
});

describe('a machine that registered anew', () => {
  const old = journalOn(marked(nodeView(), [eventChange(spot(0))]));

  test('gets its journal and all of its marks back', () => {
    const fresh = nodeView({ uid: 'node-uid-2', excludeFromLoadBalancers: 'false' });
    const node = marked(fresh, [{ type: 'restored', journal: old }]);
    expect(node).toMatchObject({
      unschedulable: true,
      taints: [SPOT_TAINT, CORDON_TAINT],
      interruptionLabel: 'spot-interruption',
      excludeFromLoadBalancers: 'true',
    });
    expect(journalOn(node)).toMatchObject({
      live: [interruption()],
      cordonedByUs: true,
      labelledByUs: true,
      labelBefore: 'false',
    });
  });

  test('keeps a cordon that others gave the new Node', () => {
    const node = marked(nodeView({ unschedulable: true }), [{ type: 'restored', journal: old }]);
    expect(journalOn(node).cordonedByUs).toBe(false);
  });
});
