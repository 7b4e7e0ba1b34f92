import { describe, expect, test } from 'vitest';
import { STAGES, type Stage } from '../../src/watchdog.ts';
import { startWatched } from './start.ts';

type Flow = ReturnType<typeof startWatched>;

/** Ways to wedge a stage: something that always ends within its time never does. Returns what frees it. */
const wedges: readonly {
  stage: Stage;
  what: RegExp;
  wedge: (flow: Flow) => Promise<() => void> | (() => void);
}[] = [
  { stage: 'receive', what: /^the long poll$/, wedge: ({ queue }) => queue.receives.hold() },
  {
    stage: 'record',
    what: /^node node-1$/,
    wedge: (flow) => {
      const free = flow.store.writes.hold();
      flow.notice();
      return free;
    },
  },
  {
    stage: 'judge',
    what: /^the Lease of node node-1$/,
    wedge: async (flow) => {
      const free = flow.store.renewals.hold();
      flow.notice();
      // Old news is asked about before it is acted on.
      flow.sqs.send({
        'detail-type': 'EC2 Instance State-change Notification',
        source: 'aws.ec2',
        account: '123456789012',
        time: new Date(flow.clock.now()).toISOString(),
        detail: { 'instance-id': flow.nodes.get('node-1')?.instanceId, state: 'stopped' },
      });
      await flow.clock.advance(1000);
      return free;
    },
  },
  {
    stage: 'API server probe',
    what: /^the circuit breaker$/,
    wedge: async (flow) => {
      flow.store.writes.answerBy(() => ({ outcome: 'unreachable', message: 'refused' }));
      const free = flow.store.pings.hold();
      flow.notice();
      await flow.clock.advance(1000);
      return () => {
        flow.store.writes.answerBy(undefined);
        free();
      };
    },
  },
  {
    stage: 'drain',
    what: /^node node-1$/,
    wedge: (flow) => {
      const free = flow.pods.lists.hold();
      flow.notice();
      return free;
    },
  },
  {
    stage: 'drain',
    what: /^hooks of node node-1$/,
    wedge: (flow) => {
      const free = flow.hooks.completions.hold();
      flow.hook();
      return free;
    },
  },
  {
    stage: 'evict',
    what: /./,
    wedge: (flow) => {
      flow.cluster.addPod('node-1', 'web-1');
      const free = flow.pods.evictions.hold();
      flow.rebalance();
      return free;
    },
  },
];

describe('the watch over the stages', () => {
  test.each(wedges)('finds $stage stuck ($what), says so, and sees it go on', async (of) => {
    const { stage, what, wedge } = of;
    const flow = startWatched();
    await flow.clock.advance(30_000);
    const free = await wedge(flow);
    const { limitMs } = STAGES[stage];
    await flow.clock.advance(limitMs - 30_000);
    expect(flow.stuck()).not.toContain(stage);
    await flow.clock.advance(70_000);
    expect(flow.stuck()).toContain(stage);
    expect(flow.report.told('stage stuck')).toContainEqual({
      stage,
      what: expect.stringMatching(what) as unknown,
      seconds: expect.closeTo(limitMs / 1000, -1) as unknown,
    });
    const check = flow.watchdog.checks().find(({ name }) => name === stage);
    expect(check?.detail).toMatch(/has not moved for \d+ s$/);
    free();
    await flow.clock.advance(30_000);
    expect(flow.stuck()).toEqual([]);
    expect(flow.report.told('stage goes on')).not.toEqual([]);
  });

  test('says of one thing only once that it is stuck', async () => {
    const flow = startWatched();
    flow.queue.receives.hold();
    await flow.clock.advance(600_000);
    expect(flow.report.told('stage stuck')).toHaveLength(1);
  });
});

describe('no alarm comes of', () => {
  test('a day without a message', async () => {
    expect(await startWatched().alarmsIn(24)).toEqual([]);
  });

  test('a drain that waits for a budget for hours', async () => {
    const flow = startWatched();
    flow.cluster.addPod('node-1', 'web-1', {
      owner: { kind: 'ReplicaSet', name: 'web', uid: 'web' },
    });
    flow.cluster.budgets.set('web', 0);
    flow.rebalance();
    expect(await flow.alarmsIn(6)).toEqual([]);
    expect(flow.cluster.podsOn('node-1')).toHaveLength(1);
  });

  test('a pod whose grace is hours long', async () => {
    const flow = startWatched();
    flow.cluster.addPod('node-1', 'web-1', {
      graceSeconds: 6 * 3600,
      endsAfterSeconds: Infinity,
    });
    flow.rebalance();
    expect(await flow.alarmsIn(5)).toEqual([]);
    expect(flow.cluster.podsOn('node-1')).toHaveLength(1);
  });

  test('a drain that an operator holds', async () => {
    const flow = startWatched();
    flow.cluster.addPod('node-1', 'web-1');
    flow.cluster.changeNode('node-1', { held: true });
    flow.rebalance();
    expect(await flow.alarmsIn(6)).toEqual([]);
    expect(flow.cluster.podsOn('node-1')).toHaveLength(1);
  });

  test('an API server that is away for hours, with drains and notices under way', async () => {
    const flow = startWatched(2);
    flow.cluster.addPod('node-1', 'web-1', { graceSeconds: 60 });
    flow.notice(1);
    await flow.clock.advance(5000);
    const comeBack = flow.store.goAway();
    flow.pods.lists.answerBy(() => {
      throw new Error('connection refused');
    });
    flow.pods.evictions.answerBy(() => ({
      outcome: 'unreachable',
      message: 'connection refused',
      timedOut: false,
    }));
    flow.notice(2);
    expect(await flow.alarmsIn(6)).toEqual([]);
    comeBack();
    flow.pods.lists.answerBy(undefined);
    flow.pods.evictions.answerBy(undefined);
    expect(await flow.alarmsIn(1)).toEqual([]);
  });

  test('an API server that refuses every write for overload, for hours', async () => {
    const flow = startWatched(2);
    flow.notice(1);
    await flow.clock.advance(500);
    flow.store.writes.answerBy(() => ({ outcome: 'overloaded', retryAfterMs: undefined }));
    flow.notice(2);
    expect(await flow.alarmsIn(6)).toEqual([]);
    expect(flow.store.writes.count).toBeGreaterThan(1000);
  });

  test('a queue that is away for hours', async () => {
    const flow = startWatched();
    flow.queue.receives.answerBy(() => {
      throw new Error('cannot receive from the queue: ECONNREFUSED');
    });
    expect(await flow.alarmsIn(6)).toEqual([]);
    expect(flow.report.told('queue unreachable')).toHaveLength(1);
  });

  test('an Auto Scaling that throttles every request, for hours', async () => {
    const flow = startWatched();
    flow.hooks.completions.answerBy(() => ({
      outcome: 'failed',
      denied: false,
      message: 'Throttling',
    }));
    flow.hook(1, 6 * 3600);
    expect(await flow.alarmsIn(5)).toEqual([]);
    expect(flow.hooks.completions.count).toBeGreaterThan(100);
  });
});
