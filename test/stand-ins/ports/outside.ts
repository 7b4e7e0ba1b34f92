import type { Ports } from '../../../src/controller.ts';
import { DepartedNodes } from '../../../src/intake/departed-nodes.ts';
import { SelfWatch } from '../../../src/self-watch.ts';
import { VirtualClock } from '../virtual-clock.ts';
import { FakeCluster } from './cluster.ts';
import { FakeAutoScaling, FakeLifecycleHooks } from './lifecycle-hooks.ts';
import { Line } from './line.ts';
import { FakeMetrics } from './metrics.ts';
import { FakeNodeIndex, FakeNodeStore } from './nodes.ts';
import { FakeObjectEvents } from './object-events.ts';
import { FakeOutcomes } from './outcomes.ts';
import { FakePods, FakeVolumes } from './pods.ts';
import { FakeQueue, FakeSqs } from './queue.ts';
import { FakeReport } from './report.ts';

/** All that lies outside of the flow, in virtual time: it outlives any process that uses it. */
export class Outside {
  readonly clock: VirtualClock;
  readonly cluster: FakeCluster;
  readonly sqs: FakeSqs;
  readonly autoScaling: FakeAutoScaling;

  constructor(seed = 1) {
    this.clock = new VirtualClock(seed);
    this.cluster = new FakeCluster(this.clock);
    this.sqs = new FakeSqs(this.clock);
    this.autoScaling = new FakeAutoScaling(this.clock);
  }

  /** The ports of one process. Its node index is filled. */
  connect() {
    const { clock, cluster } = this;
    const line = new Line(clock);
    const report = new FakeReport(() => clock.now());
    const nodes = new FakeNodeIndex(line, cluster);
    // Started by tests of it alone: it would be a timer that never rests.
    const selfWatch = new SelfWatch(clock, report);
    return {
      line,
      clock,
      queue: new FakeQueue(line, this.sqs),
      nodes,
      departed: new DepartedNodes(nodes, clock),
      store: new FakeNodeStore(line, cluster),
      pods: new FakePods(line, cluster),
      volumes: new FakeVolumes(line, cluster),
      hooks: new FakeLifecycleHooks(line, this.autoScaling),
      outcomes: new FakeOutcomes(),
      objectEvents: new FakeObjectEvents(),
      metrics: new FakeMetrics(),
      watchdog: selfWatch,
      report,
    } satisfies Ports & { line: Line };
  }
}
