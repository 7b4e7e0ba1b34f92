import { expect, onTestFinished } from 'vitest';
import { Drains } from '../../src/drain/drains.ts';
import { LifeWatch } from '../../src/drain/life-watch.ts';
import type { DrainPolicy } from '../../src/drain/node-drain.ts';
import { Pacer } from '../../src/drain/pacer.ts';
import { Breaker } from '../../src/intake/breaker.ts';
import { Records, type RecordOutcome } from '../../src/intake/records.ts';
import type { NodeEvent } from '../../src/plan/interruption.ts';
import { readJournal, type Journal } from '../../src/plan/journal.ts';
import * as samples from '../plan/samples.ts';
import { instanceIdOf, type ClusterPod } from '../stand-ins/ports/cluster.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

export const SELF = { namespace: 'kube-system', name: 'controller-1' };

export type StartOptions = {
  /** Of an earlier process; `node-1` to `node-N`, empty, unless it is given. */
  outside?: Outside;
  /** Of an earlier term of the same process. */
  ports?: ReturnType<Outside['connect']>;
  nodes?: number;
  rules?: Partial<DrainPolicy>;
};

export function newOutside(nodes = 1): Outside {
  const outside = new Outside();
  for (let i = 1; i <= nodes; i += 1) outside.cluster.addNode(`node-${i}`);
  return outside;
}

/** One process's record and drains, joined as the controller joins them; what intake does, tests do. */
export function startDrains({
  nodes = 1,
  outside = newOutside(nodes),
  ports: connected = outside.connect(),
  rules,
}: StartOptions = {}) {
  const { clock, store, report, line } = connected;
  const ports = { ...connected, clock: line.clock };
  const policy: DrainPolicy = {
    ...samples.policy(),
    waitForVolumes: true,
    loadBalancerDrainSeconds: 0,
    self: SELF,
    ...rules,
  };
  const breaker = new Breaker((signal) => store.ping(signal), line.clock, report);
  const records = new Records(ports, breaker, policy);
  const nodeOf = (name: string) => ports.nodes.get(name);
  const drains = new Drains(
    {
      ...ports,
      journals: records,
      nodeOf,
      async lifeSign(name, signal) {
        if (nodeOf(name)?.ready !== true) return undefined;
        const renewed = await store.kubeletRenewed(name, signal);
        if (renewed.outcome === 'unknown') return 'unknown';
        return renewed.outcome === 'at' ? renewed.at : undefined;
      },
      marksFirst: (signal) => records.marksWritten(5000, signal),
    },
    policy,
  );
  const selectedNodes = () => [...ports.nodes.all()].filter(({ selected }) => selected).length;
  const pacer = new Pacer({ ...ports, journals: records, selectedNodes }, policy);
  const lifeWatch = new LifeWatch(
    {
      ...ports,
      journals: records,
      nodeOf,
      async leaseRenewed(name, signal) {
        const renewed = await store.kubeletRenewed(name, signal);
        return renewed.outcome === 'at' ? renewed.at : renewed.outcome;
      },
    },
    policy,
  );
  records.onChange((name, journal) => {
    drains.follow(name, journal);
    pacer.follow(name, journal);
    lifeWatch.follow(name, journal);
  });
  const unsubscribe = ports.nodes.subscribe((before, after) => {
    if (after !== undefined && before?.held !== after.held) drains.wake(after.name);
  });
  records.start();
  for (const { nodeName, journal } of ports.departed.journals()) drains.finish(nodeName, journal);

  let isKilled = false;
  const stop = async (): Promise<void> => {
    unsubscribe();
    breaker.stop();
    pacer.stop();
    lifeWatch.stop();
    await clock.resolved(Promise.all([records.stop(1500), drains.stop()]), 5000);
  };
  onTestFinished(async () => {
    if (isKilled) return;
    await stop();
    await clock.advance(100);
    expect(report.faults()).toEqual([]);
  });

  const { cluster, autoScaling } = outside;
  return {
    ...connected,
    outside,
    ports: connected,
    cluster,
    autoScaling,
    records,
    drains,
    stop,
    /** Dies without a word. */
    kill: (): void => {
      isKilled = true;
      line.cut();
    },
    record: (event: NodeEvent, node = 'node-1'): Promise<RecordOutcome> =>
      clock.resolved(records.apply(node, { type: 'event', event })),
    journal: (node = 'node-1'): Journal => {
      const read = readJournal(cluster.node(node).journal);
      if (read.outcome !== 'read') throw new Error(`no journal on ${node}`);
      return read.journal;
    },
    /** What was done to the pods, in order: `evict web-1 30`. */
    acts: (): readonly string[] =>
      cluster.acts.map(({ act, name, graceSeconds }) => `${act} ${name} ${graceSeconds}`),
    /** Seconds since noon, to the tenth. */
    seconds: (): number => Math.round((clock.now() - samples.NOON) / 100) / 10,
  };
}

export type Started = ReturnType<typeof startDrains>;

/** Adds pods `web-1` to `web-N` to a node. */
export function addPods(
  { cluster }: Pick<Started, 'cluster'>,
  count: number,
  changes: Partial<ClusterPod> = {},
  node = 'node-1',
): readonly ClusterPod[] {
  return Array.from({ length: count }, (_, i) =>
    cluster.addPod(node, `web-${node.replace('node-', '')}-${i + 1}`, changes),
  );
}

export function spot(seconds = 0, number = 1) {
  return samples.spot(seconds, { instanceId: instanceIdOf(number) });
}

export function rebalance(seconds = 0, number = 1) {
  return samples.rebalance(seconds, { instanceId: instanceIdOf(number) });
}

export function capacity(seconds: number, terminatesAt: number, number = 1) {
  return samples.capacity(seconds, { instanceId: instanceIdOf(number), terminatesAt });
}

/** A hook's event, whose action has begun at Auto Scaling. */
export function beginHook(
  { autoScaling, clock }: Pick<Started, 'autoScaling' | 'clock'>,
  options: { token?: string; group?: string; timeoutSeconds?: number; number?: number } = {},
) {
  const { token = 'token-1', group = 'workers', timeoutSeconds = 300, number = 1 } = options;
  const action = { group, hook: `drain-${token}`, token, instanceId: instanceIdOf(number) };
  autoScaling.begin(action, timeoutSeconds);
  return samples.terminateHook(0, { ...action, time: clock.now() });
}

/** Timers of the next minutes, in milliseconds; those that journals call for are later. */
export function soon(clock: Pick<Started['clock'], 'pending'>): readonly number[] {
  return clock.pending().filter((ms) => ms < 300_000);
}
