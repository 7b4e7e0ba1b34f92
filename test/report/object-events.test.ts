import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { startController } from '../../src/controller.ts';
import { withoutEffect } from '../../src/dry-run.ts';
import { NODE_EVENTS, POD_EVENTS, worded, type ToldEvent } from '../../src/report/object-events.ts';
import * as messages from '../harness/messages.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { flowPolicy } from '../stand-ins/ports/flow-policy.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

const OWNER = { kind: 'StatefulSet', name: 'db', uid: 'db' };

/** The whole flow in virtual time, with one node. */
function start({
  policy = {},
  dryRun = false,
}: Readonly<{ policy?: Parameters<typeof flowPolicy>[0]; dryRun?: boolean }> = {}) {
  const outside = new Outside();
  outside.cluster.addNode('node-1');
  const ports = outside.connect();
  const controller = startController(
    dryRun ? withoutEffect(ports) : ports,
    flowPolicy({ waitForVolumes: false, ...policy }),
  );
  onTestFinished(async () => {
    await ports.clock.resolved(controller.stop(), 10_000);
    expect(ports.report.faults()).toEqual([]);
  });
  const { cluster, sqs, autoScaling, clock } = outside;
  const notice = () =>
    sqs.send(messages.spotNotice({ instanceId: instanceIdOf(1), time: clock.now() }));
  /** `REASON: NOTE`, of Nodes or Pods. */
  const told = (kind: 'Node' | 'Pod') =>
    ports.objectEvents.told.flatMap(({ subject, reason, note }) =>
      subject.kind === kind ? [`${reason}: ${note}`] : [],
    );
  return { ...ports, cluster, sqs, autoScaling, clock, notice, told };
}

const deadline = '2026-03-01T12:02:00Z';

describe('a Node is told', () => {
  test('that it is interrupted, drained, and how its pods left', async () => {
    const { cluster, clock, notice, told, objectEvents } = start();
    const owner = { kind: 'DaemonSet', name: 'agent', uid: 'agent' };
    cluster.addPod('node-1', 'agent', { owner });
    cluster.addPod('node-1', 'web-1');
    cluster.addPod('node-1', 'web-2');
    notice();
    await clock.advance(60_000);
    expect(told('Node')).toEqual([
      expect.stringMatching(/^LoadBalancerLabelWithheld: /),
      `Interrupted: Spot interruption, instance ${instanceIdOf(1)}, deadline ${deadline}.`,
      `Draining: Evicting 2 pods because of a spot interruption, deadline ${deadline}; staying with the node: 1.`,
      'Drained: All pods are gone, 117 s before the deadline: 2 evicted.',
    ]);
    expect(objectEvents.told[0]?.subject).toEqual({
      kind: 'Node',
      name: 'node-1',
      uid: cluster.node('node-1').uid,
    });
  });

  test('that it is held, late, and on whom it waits', async () => {
    const { cluster, clock, notice, told } = start();
    cluster.changeNode('node-1', { held: true });
    cluster.addPod('node-1', 'stuck');
    notice();
    await clock.advance(121_000);
    cluster.changeNode('node-1', { held: false });
    await clock.advance(1000);
    const notes = told('Node');
    const annotation = 'node-termination-controller/hold';
    expect(notes).toContain(
      `DrainHeld: Nothing more is evicted while annotation ${annotation} is there.`,
    );
    expect(notes).toContain('DrainWaiting: Waiting for 1 pod: shop/stuck: not yet tried');
    expect(notes).toContain(
      'DrainLate: The deadline came with 1 pod left: shop/stuck: not yet tried',
    );
    expect(notes).toContain(`DrainReleased: Annotation ${annotation} is gone: evictions go on.`);
    expect(told('Pod')[0]).toBe(
      `LeftBehind: Still there at the deadline. Node node-1: spot interruption, deadline ${deadline}.`,
    );
  });

  test('that it waits for its turn, makes room for others, and is over it', async () => {
    const { cluster, clock, sqs, told } = start({
      policy: { voluntaryDrainLimit: { nodes: 1 } },
    });
    for (const number of [2, 3]) cluster.addNode(`node-${number}`);
    cluster.addPod('node-1', 'db-0', { owner: OWNER });
    cluster.budgets.set('db', 0);
    for (const number of [1, 2]) {
      sqs.send(messages.rebalance({ instanceId: instanceIdOf(number), time: clock.now() }));
      await clock.advance(1000);
    }
    await clock.advance(1_000_000);
    const instance = instanceIdOf(2);
    expect(told('Node')).toContain(
      `Interrupted: Rebalance recommendation, instance ${instance}. It waits for its turn to be drained; new pods avoid it.`,
    );
    expect(told('Node')).toContainEqual(
      expect.stringMatching(
        /^DrainPostponed: Held up by disruption budgets alone: other nodes go first until 2026-03-01T12:30:\d\dZ\.$/,
      ),
    );
    await clock.advance(90_000_000);
    expect(told('Node')).toContain('InterruptionOver: The rebalance recommendation is over.');
    expect(told('Node')).toContain(
      `MarksRemoved: Nothing interrupts instance ${instance} any more.`,
    );
  });

  test('that its lifecycle hook was completed', async () => {
    const { cluster, autoScaling, sqs, clock, told } = start();
    cluster.addPod('node-1', 'web-1');
    const hook = { group: 'workers', hook: 'drain', token: 'token-1', instanceId: instanceIdOf(1) };
    autoScaling.begin(hook, 300);
    sqs.send(messages.terminateHook({ ...hook, time: clock.now() }));
    await clock.advance(60_000);
    expect(told('Node')).toContain(
      'LifecycleHookCompleted: Told Auto Scaling to go on: hook drain of group workers.',
    );
  });

  test('that another one claims its instance', async () => {
    const { cluster, clock, notice, objectEvents } = start();
    cluster.addNode('ghost', { instanceId: instanceIdOf(1) });
    notice();
    await clock.advance(1000);
    expect(objectEvents.told.map(({ subject, reason }) => [subject.name, reason])).toEqual([
      ['node-1', 'AmbiguousInstance'],
      ['ghost', 'AmbiguousInstance'],
    ]);
  });
});

describe('a Pod is told', () => {
  test('why it is evicted, with which grace, and by when its node is taken', async () => {
    const { cluster, clock, notice, told, objectEvents } = start();
    const { uid } = cluster.addPod('node-1', 'web-1', { graceSeconds: 45 });
    notice();
    await clock.advance(5000);
    expect(told('Pod')).toEqual([
      `NodeInterrupted: Evicted with 45 s to end. Node node-1: spot interruption, deadline ${deadline}.`,
    ]);
    const { subject } = objectEvents.told.find(({ reason }) => reason === 'NodeInterrupted') ?? {};
    expect(subject).toEqual({ kind: 'Pod', namespace: 'shop', name: 'web-1', uid });
  });

  test('that a budget refuses, always in the same words, and that it was deleted past it', async () => {
    const { cluster, clock, notice, told } = start();
    cluster.addPod('node-1', 'db-0', { owner: OWNER });
    cluster.budgets.set('db', 0);
    notice();
    await clock.advance(150_000);
    const refused = told('Pod').filter((text) => text.startsWith('EvictionRefused'));
    expect(refused.length).toBeGreaterThan(5);
    // The last one comes when its time is up.
    expect(new Set(refused.slice(0, -1))).toEqual(
      new Set([
        `EvictionRefused: Eviction refused (budget db): tried again, and deleted from 2026-03-01T12:01:25Z on. Node node-1: spot interruption, deadline ${deadline}.`,
      ]),
    );
    expect(told('Pod').at(-1)).toMatch(
      /^DeletedPastBudget: Deleted with \d+ s to end; its eviction was refused \(budget db\) for as long as there was time\. /,
    );
  });
});

test('in a dry run nobody is told, but the log', async () => {
  const { cluster, clock, notice, objectEvents, report } = start({ dryRun: true });
  cluster.addPod('node-1', 'web-1');
  notice();
  await clock.advance(60_000);
  expect(objectEvents.told).toEqual([]);
  const told = report.told('would write a Kubernetes event').map(({ reason }) => reason);
  expect(told).toEqual(expect.arrayContaining(['Interrupted', 'Draining', 'Drained']));
});

test('a note is cut where the API server would not take it', () => {
  const told: ToldEvent[] = [];
  const events = worded((event) => told.push(event));
  const pods = Array.from({ length: 20 }, (_, i) => `namespace-${i}/${'x'.repeat(200)}: not yet`);
  events.onNode({ name: 'node-1', uid: '1' }, 'DrainWaiting', { pods, podsLeft: 20 });
  expect(Buffer.byteLength(told[0]?.note ?? '')).toBe(1024);
  expect(told[0]?.note).toMatch(/^Waiting for 20 pods: .*…$/);
});

test('reasons are in UpperCamelCase, and each is told somewhere', async () => {
  const files = (await readdir('src', { recursive: true })).filter(
    (file) => file.endsWith('.ts') && file !== join('report', 'object-events.ts'),
  );
  const texts = await Promise.all(files.map((file) => readFile(join('src', file), 'utf8')));
  const source = texts.join('\n');
  const reasons = [...Object.keys(NODE_EVENTS), ...Object.keys(POD_EVENTS)];
  expect(reasons.filter((reason) => !source.includes(`'${reason}'`))).toEqual([]);
  expect(reasons.filter((reason) => !/^([A-Z][a-z]+)+$/.test(reason))).toEqual([]);
});
