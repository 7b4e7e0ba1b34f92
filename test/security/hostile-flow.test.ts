import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { startController } from '../../src/controller.ts';
import { writeJournal, type Journal } from '../../src/plan/journal.ts';
import type { NodeView } from '../../src/plan/node.ts';
import { anyBody } from '../events/arbitraries.ts';
import { anyText } from '../events/text.ts';
import * as messages from '../harness/messages.ts';
import { journals } from '../plan/arbitraries.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { flowPolicy } from '../stand-ins/ports/flow-policy.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

const account = '123456789012';

/** The flow over a few nodes; whoever writes to a Node or to the queue is the test. */
async function run(
  { nodes = {}, seed = 1 }: { nodes?: Record<string, Partial<NodeView>>; seed?: number },
  act: (flow: ReturnType<typeof connect>) => Promise<void>,
): Promise<void> {
  const flow = connect(nodes, seed);
  await act(flow);
  await flow.clock.resolved(flow.controller.stop(), 10_000);
  expect(flow.report.faults()).toEqual([]);
  // Nothing of what was said has become a property of every object.
  expect(Object.keys(Object.getPrototypeOf({}) as object)).toEqual([]);
}

function connect(nodes: Record<string, Partial<NodeView>>, seed: number) {
  const outside = new Outside(seed);
  for (const [name, changes] of Object.entries(nodes)) {
    outside.cluster.addNode(name, changes);
    outside.cluster.addPod(name, `web-${name}`);
  }
  const ports = outside.connect();
  const controller = startController(ports, flowPolicy({ accounts: new Set([account]) }));
  const { cluster, sqs, autoScaling } = outside;
  return { ...ports, controller, cluster, sqs, autoScaling };
}

describe('whatever is in the queue', () => {
  test('the flow stands, touches no node that is not named, and hears a notice after it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyBody, { minLength: 20, maxLength: 40 }), async (bodies) => {
        // The instances that the messages speak of, and one that they cannot know.
        const nodes = {
          'node-1': { instanceId: 'i-0b662ef9931388ba0' },
          'node-2': { instanceId: 'i-0a1b2c3d' },
          'node-3': { instanceId: 'i-00000000deadbeef0' },
          'node-4': { instanceId: 'i-00000000deadbeef1' },
        };
        await run({ nodes }, async ({ clock, sqs, cluster }) => {
          for (const body of bodies) sqs.send(body);
          await clock.advance(30_000);
          const notice = sqs.send(
            messages.spotNotice({ instanceId: 'i-00000000deadbeef1', time: clock.now() }),
          );
          await clock.advance(5000);
          expect(sqs.ids).not.toContain(notice);
          expect(cluster.node('node-3').journal).toBeUndefined();
          expect(cluster.podsOn('node-3')).toHaveLength(1);
          expect(cluster.node('node-4').journal).toBeDefined();
        });
      }),
      { numRuns: 60 },
    );
  });
});

/** Of the very machine, as often as not. */
const journal = fc
  .tuple(journals(8, 8), fc.boolean())
  .map(([any, isOwn]) =>
    isOwn
      ? { ...any, machine: { ...any.machine, instanceId: instanceIdOf(1), systemUUID: 'uuid-1' } }
      : any,
  );

/** As a kubelet may write it on its own Node. */
const anyAnnotation = fc.oneof(
  anyText,
  fc.json(),
  journal.map((any) => writeJournal(any) ?? ''),
  fc.tuple(journal, fc.nat(), anyText).map(([any, at, text]) => {
    const whole = writeJournal(any) ?? '';
    const start = at % (whole.length + 1);
    return whole.slice(0, start) + text + whole.slice(start + text.length);
  }),
  fc.constantFrom(
    '{"__proto__":{"version":1,"state":"draining"}}',
    `{"version":1,"machine":${'{"a":'.repeat(5000)}`,
    '['.repeat(100_000),
    'x'.repeat(250_000),
  ),
);

describe('whatever journal stands on a Node', () => {
  test('the flow stands, touches no other node, and hears a notice', async () => {
    await fc.assert(
      fc.asyncProperty(anyAnnotation, fc.boolean(), async (text, isEarly) => {
        const nodes = { 'node-1': isEarly ? { journal: text } : {}, 'node-2': {} };
        await run({ nodes }, async ({ clock, sqs, cluster }) => {
          await clock.advance(1000);
          if (!isEarly) cluster.changeNode('node-1', { journal: text });
          await clock.advance(1000);
          const id = sqs.send(
            messages.spotNotice({ instanceId: instanceIdOf(1), time: clock.now() }),
          );
          await clock.advance(10_000);
          expect(sqs.eventsOf(id).length).toBeGreaterThan(0);
          expect(cluster.node('node-2').journal).toBeUndefined();
          expect(cluster.podsOn('node-2')).toHaveLength(1);
        });
      }),
      { numRuns: 150 },
    );
  });

  const of = (instanceId: string, systemUUID: string): Journal['machine'] => ({
    instanceId,
    systemUUID,
    bootId: 'boot-1',
    unknown: {},
  });

  test.each([
    { whose: 'of another instance', machine: of(instanceIdOf(2), 'uuid-2') },
    { whose: 'of another machine', machine: of(instanceIdOf(1), 'uuid-9') },
  ])('one $whose empties nothing and completes nothing', async ({ machine }) => {
    const token = 'token-2';
    const action = { group: 'workers', hook: 'drain', token, instanceId: instanceIdOf(2) };
    await run({ nodes: { 'node-1': {}, 'node-2': {} } }, async (flow) => {
      const { clock, cluster, autoScaling, hooks } = flow;
      autoScaling.begin(action, 300);
      cluster.changeNode('node-1', { journal: forged({ machine, token }) });
      await clock.advance(60_000);
      expect(cluster.acts).toEqual([]);
      expect(hooks.completions.count).toBe(0);
      expect(autoScaling.completedAt(token)).toBeUndefined();
    });
  });

  test("one of its own machine empties that, and completes no other machine's hook", async () => {
    const token = 'token-2';
    const action = { group: 'workers', hook: 'drain', token, instanceId: instanceIdOf(2) };
    await run({ nodes: { 'node-1': {}, 'node-2': {} } }, async (flow) => {
      const { clock, cluster, autoScaling, hooks } = flow;
      autoScaling.begin(action, 300);
      const machine = of(instanceIdOf(1), 'uuid-1');
      cluster.changeNode('node-1', { journal: forged({ machine, token }) });
      await clock.advance(60_000);
      expect(new Set(cluster.acts.map(({ name }) => name))).toEqual(new Set(['web-node-1']));
      const asked = hooks.completions.calls.map(({ args: [{ instanceId }] }) => instanceId);
      expect(new Set(asked)).toEqual(new Set([instanceIdOf(1)]));
      expect(autoScaling.completedAt(token)).toBeUndefined();
    });
  });
});

/** A terminate hook that is to be drained for at once. */
function forged({ machine, token }: { machine: Journal['machine']; token: string }): string {
  const time = '2026-03-01T12:00:00.000Z';
  const hook = { group: 'workers', name: 'drain', token, timeoutSeconds: 300 };
  return JSON.stringify({
    version: 1,
    machine,
    state: 'draining',
    interruptions: [
      {
        id: `hook/${token}`,
        row: 'terminate-hook',
        kind: 'terminate-hook',
        time,
        recordedAt: time,
        hook,
      },
    ],
    ended: [],
  });
}

describe('forged messages', () => {
  test.each([
    { what: "of a hook whose token is another's", token: 'token-2' },
    { what: 'of a hook that there is not', token: 'made up' },
  ])('$what complete nothing that is not of their instance', async ({ token }) => {
    const action = { group: 'workers', hook: 'drain', token: 'token-2' };
    await run({ nodes: { 'node-1': {}, 'node-2': {} } }, async (flow) => {
      const { clock, sqs, cluster, autoScaling } = flow;
      autoScaling.begin({ ...action, instanceId: instanceIdOf(2) }, 300);
      sqs.send(
        messages.terminateHook({
          ...action,
          token,
          instanceId: instanceIdOf(1),
          time: clock.now(),
        }),
      );
      await clock.advance(60_000);
      expect(autoScaling.completedAt('token-2')).toBeUndefined();
      expect(cluster.podsOn('node-2')).toHaveLength(1);
      // Its own instance's word is taken: who may write to the queue may empty nodes.
      expect(cluster.podsOn('node-1')).toEqual([]);
    });
  });

  test('that name another account are not heard', async () => {
    await run({ nodes: { 'node-1': {} } }, async ({ clock, sqs, cluster }) => {
      const instanceId = instanceIdOf(1);
      sqs.send(messages.spotNotice({ instanceId, account: '210987654321', time: clock.now() }));
      await clock.advance(5000);
      expect(sqs.ids).toEqual([]);
      expect(cluster.node('node-1').journal).toBeUndefined();
    });
  });

  test('from the future count from when they were sent', async () => {
    await run({ nodes: { 'node-1': {} } }, async ({ clock, sqs, cluster }) => {
      const instanceId = instanceIdOf(1);
      const time = clock.now() + 365 * 86_400_000;
      sqs.send(messages.spotNotice({ instanceId, time }));
      await clock.advance(5000);
      const journal = JSON.parse(cluster.node('node-1').journal ?? '{}') as {
        interruptions: { deadlineAt: string }[];
      };
      const deadlineAt = Date.parse(journal.interruptions[0]?.deadlineAt ?? '');
      expect(deadlineAt).toBeLessThanOrEqual(clock.now() + 120_000);
    });
  });
});

describe('a Node that claims', () => {
  test("another's instance keeps both from being touched, and is told of", async () => {
    const instanceId = instanceIdOf(1);
    const nodes = { 'node-1': {}, 'node-9': { instanceId } };
    await run({ nodes }, async ({ clock, sqs, cluster, report }) => {
      sqs.send(messages.spotNotice({ instanceId, time: clock.now() }));
      await clock.advance(10_000);
      expect(cluster.acts).toEqual([]);
      expect(report.told('ambiguous instance')).toMatchObject([{ nodes: ['node-1', 'node-9'] }]);
    });
  });
});
