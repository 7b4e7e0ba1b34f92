import type { Clock } from './clock.ts';
import { Drains } from './drain/drains.ts';
import { LifeWatch } from './drain/life-watch.ts';
import type { LifecycleHooks } from './drain/lifecycle-hooks.ts';
import type { DrainPolicy } from './drain/node-drain.ts';
import { Pacer } from './drain/pacer.ts';
import type { Pods, Volumes } from './drain/pods.ts';
import { Breaker } from './intake/breaker.ts';
import type { DepartedNodes } from './intake/departed-nodes.ts';
import { Intake, type IntakePolicy } from './intake/intake.ts';
import { LostNodes } from './intake/lost-nodes.ts';
import type { NodeIndex, NodeStore } from './intake/node-store.ts';
import type { Queue } from './intake/queue.ts';
import { Records } from './intake/records.ts';
import type { JournalState } from './plan/journal.ts';
import type { Metrics } from './report/metrics.ts';
import type { ObjectEvents } from './report/object-events.ts';
import type { Outcomes } from './report/outcome.ts';
import type { Report } from './report/report.ts';
import type { Watchdog } from './watchdog.ts';

/** What lies outside of the flow; the simulation has its own. */
export type Ports = Readonly<{
  queue: Queue;
  nodes: NodeIndex;
  /** Of the same index, from before its first list on. */
  departed: DepartedNodes;
  store: NodeStore;
  pods: Pods;
  volumes: Volumes;
  hooks: LifecycleHooks;
  outcomes: Outcomes;
  objectEvents: ObjectEvents;
  clock: Clock;
  metrics: Metrics;
  watchdog: Watchdog;
  report: Report;
}>;

/** How much there is to do now. */
export type Figures = Readonly<{
  /** Of every node that bears a journal. */
  states: readonly JournalState[];
  inHand: number;
  parked: number;
  evictionLimit: number;
}>;

export type Controller = Readonly<{
  /** Why the queue does not answer; undefined: it does. */
  queueFailure: () => string | undefined;
  figures: () => Figures;
  stop: () => Promise<void>;
}>;

/** So long drains let marks go first; what they lose by it, a spot notice's two minutes can spare. */
const MARKS_FIRST_MS = 5000;

/**
 * The story: intake records interruptions on the Nodes and acknowledges; drains follow the record.
 * The node index is filled when this is called, so that a restart finds every journal.
 */
export function startController(ports: Ports, policy: IntakePolicy & DrainPolicy): Controller {
  const { nodes, departed, store, clock, report, watchdog } = ports;
  const breaker = new Breaker((signal) => store.ping(signal), clock, report, watchdog);
  const records = new Records(ports, breaker, policy);
  const intake = new Intake(ports, policy, records, breaker);

  const nodeOf = nodes.get.bind(nodes);
  const leaseRenewed = async (name: string, signal: AbortSignal) => {
    const renewed = await store.kubeletRenewed(name, signal);
    return renewed.outcome === 'at' ? renewed.at : renewed.outcome;
  };
  const lifeSign = async (name: string, signal: AbortSignal) => {
    if (nodeOf(name)?.ready !== true) return undefined;
    const renewedAt = await leaseRenewed(name, signal);
    return renewedAt === 'never' ? undefined : renewedAt;
  };
  const marksFirst = (signal: AbortSignal) => records.marksWritten(MARKS_FIRST_MS, signal);
  const drains = new Drains({ ...ports, journals: records, nodeOf, lifeSign, marksFirst }, policy);

  const selectedNodes = () => [...nodes.all()].filter(({ selected }) => selected).length;
  const pacer = new Pacer({ ...ports, journals: records, selectedNodes }, policy);
  const lostNodes = new LostNodes({ ...ports, drains }, policy);
  const lifeWatch = new LifeWatch({ ...ports, journals: records, nodeOf, leaseRenewed }, policy);

  records.onChange((name, journal) => {
    drains.follow(name, journal);
    pacer.follow(name, journal);
    lifeWatch.follow(name, journal);
  });
  const unsubscribe = nodes.subscribe((before, after) => {
    if (after !== undefined && before?.held !== after.held) drains.wake(after.name);
  });
  records.start();
  for (const { nodeName, journal } of departed.journals()) drains.finish(nodeName, journal);
  lostNodes.start();
  intake.start();

  return {
    queueFailure: () => intake.queueFailure,
    figures: () => figuresOf(records, intake, drains),
    async stop() {
      unsubscribe();
      breaker.stop();
      pacer.stop();
      lifeWatch.stop();
      lostNodes.stop();
      await Promise.all([intake.stop(), drains.stop()]);
    },
  };
}

function figuresOf(records: Records, intake: Intake, drains: Drains): Figures {
  return {
    states: records.states(),
    inHand: intake.inHand,
    parked: intake.parked,
    evictionLimit: drains.evictionLimit,
  };
}
