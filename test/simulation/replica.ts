import { startController, type Controller, type Ports } from '../../src/controller.ts';
import type { DrainPolicy } from '../../src/drain/node-drain.ts';
import { Election, type Term } from '../../src/election/election.ts';
import { beginFresh } from '../../src/election/fresh-term.ts';
import { DepartedNodes } from '../../src/intake/departed-nodes.ts';
import type { IntakePolicy } from '../../src/intake/intake.ts';
import type { Connection } from '../../src/kubernetes/connection.ts';
import { createLeaseStore } from '../../src/kubernetes/leases.ts';
import {
  createNodeIndex,
  createNodeStore,
  type StartedNodeIndex,
} from '../../src/kubernetes/nodes.ts';
import { createPods } from '../../src/kubernetes/pods.ts';
import { createVolumes } from '../../src/kubernetes/volumes.ts';
import { MESSAGES, type Level, type MessageText } from '../../src/report/messages.ts';
import type { Metrics } from '../../src/report/metrics.ts';
import { NO_OBJECT_EVENTS } from '../../src/report/object-events.ts';
import { firstOnly, type Outcomes } from '../../src/report/outcome.ts';
import type { Facts, Report } from '../../src/report/report.ts';
import { SelfWatch } from '../../src/self-watch.ts';
import type { FakeAutoScaling } from '../stand-ins/ports/lifecycle-hooks.ts';
import type { FakeSqs } from '../stand-ins/ports/queue.ts';
import { SimulatedLifecycleHooks, SimulatedQueue } from './aws.ts';
import { SimulatedConnection, type Outside } from './connection.ts';
import { ProcessClock, Way, type Weather } from './way.ts';

export type ControllerPolicy = IntakePolicy & DrainPolicy;

/** A controller that is wrong in one way: what the simulation is tested by. */
export type Mutation = Readonly<{
  connection?: (connection: Connection, way: Way) => Connection;
  ports?: (ports: Ports, way: Way) => Ports;
  policy?: (policy: ControllerPolicy) => ControllerPolicy;
}>;

export type ReplicaWorld = Weather &
  Readonly<{
    outside: Outside;
    sqs: FakeSqs;
    autoScaling: FakeAutoScaling;
    policy: ControllerPolicy;
    mutation: Mutation;
    isElected: boolean;
    /** Whether stages that stand still are looked for: a turn each second. */
    watchesItself: boolean;
    keepsLogs: boolean;
    onDeath: (replica: Replica) => void;
    /** What no outside, however bad, may bring about. */
    onFault: (process: string, message: string) => void;
  }>;

/** What is counted is no part of the flow. */
const NO_METRICS: Metrics = { count: () => undefined, observe: () => undefined };

/** The selector chooses every node. */
const SELECTION = { selector: '', reservationLabel: 'example.com/reservation' };

/** One process of the controller: all of it but its edges to the network, as `run.ts` joins it. */
export class Replica {
  readonly way: Way;
  readonly slot: string;
  isLeading = false;
  /** Its index of Nodes is filled. */
  hasIndex = false;
  private readonly world: ReplicaWorld;
  private readonly stopping = new AbortController();
  private readonly connections: SimulatedConnection[] = [];
  private readonly report: Report;
  private readonly watchdog: SelfWatch;
  /** Of all its terms, as the process has it. */
  private readonly outcomes: Outcomes;
  private ended: Promise<unknown> = Promise.resolve();
  private nodes: StartedNodeIndex | undefined;
  private departed: DepartedNodes | undefined;

  constructor(
    slot: string,
    incarnation: number,
    skewMs: number,
    seed: number,
    world: ReplicaWorld,
  ) {
    this.slot = slot;
    this.world = world;
    const name = `${slot}${incarnation}`;
    const clock = new ProcessClock(world.clock, skewMs, seed);
    this.way = new Way(name, clock, world, () => {
      this.isLeading = false;
      world.onDeath(this);
    });
    this.report = this.createReport();
    this.outcomes = firstOnly({
      received: (news) => {
        if (!this.way.isDead) world.record({ what: 'receipt told', process: name, news });
      },
      tell: (told) => {
        if (!this.way.isDead) world.record({ what: 'outcome told', process: name, told });
      },
    });
    this.watchdog = new SelfWatch(clock, this.report);
  }

  start(): void {
    this.world.record({ what: 'process starts', process: this.way.process });
    this.ended = this.run().catch((error: unknown) => {
      if (!this.way.isDead) this.world.onFault(this.way.process, String(error));
    });
  }

  /** In good order, as on SIGTERM. */
  async stop(): Promise<void> {
    this.stopping.abort(new Error('asked to stop'));
    await this.ended;
    this.watchdog.stop();
    this.way.die();
  }

  get watches(): readonly string[] {
    return this.connections.flatMap(({ streams }) => [...streams]).toSorted();
  }

  private async run(): Promise<void> {
    const { way, report, world } = this;
    const { clock } = way;
    const { signal } = this.stopping;
    const connection = this.mutated(this.connect());
    const { watchdog } = this;
    if (world.watchesItself) watchdog.start();
    const nodes = createNodeIndex({ connection, ...SELECTION, clock, watchdog, report });
    this.nodes = nodes;
    this.departed = new DepartedNodes(nodes, clock);
    const stopped = new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([nodes.start(), stopped]);
    if (signal.aborted) {
      await nodes.close();
      return;
    }
    this.hasIndex = true;
    const filledAt = clock.now();
    const view = {
      lastHeardAt: () => Math.max(nodes.lastHeardAt(), filledAt),
      refresh: nodes.refresh.bind(nodes),
    };
    if (!world.isElected) {
      const term = this.begin();
      await stopped;
      await term.end();
      await nodes.close();
      return;
    }
    const leases = createLeaseStore({
      connection: this.connect(),
      namespace: 'default',
      name: 'controller',
      clock,
      watchdog,
      report,
    });
    const election = new Election(
      {
        leases,
        clock,
        watchdog,
        report,
        begin: () => beginFresh({ view, clock, report }, () => this.begin()),
      },
      this.slot,
    );
    const end = await election.run(signal);
    await nodes.close();
    // As the process does: exit 1, and started again.
    if (end === 'superseded') way.die();
  }

  private begin(): Term {
    const { way, world, report, watchdog } = this;
    const { clock } = way;
    const { nodes, departed } = this;
    if (nodes === undefined || departed === undefined) throw new Error('no index');
    world.record({ what: 'process leads', process: way.process });
    this.isLeading = true;
    const own = this.connect();
    const connection = this.mutated(own);
    const ports: Ports = {
      queue: new SimulatedQueue(way, world.sqs, (happened) => world.record(happened)),
      nodes,
      departed,
      store: createNodeStore({ connection, ...SELECTION }),
      pods: createPods({ connection, clock, watchdog, report }),
      volumes: createVolumes({ connection, clock }),
      hooks: new SimulatedLifecycleHooks(way, world.autoScaling, (happened) =>
        world.record(happened),
      ),
      clock,
      metrics: NO_METRICS,
      outcomes: this.outcomes,
      objectEvents: NO_OBJECT_EVENTS,
      watchdog,
      report,
    };
    const controller = startController(
      world.mutation.ports?.(ports, way) ?? ports,
      world.mutation.policy?.(world.policy) ?? world.policy,
    );
    return this.termOf(controller, own);
  }

  private termOf(controller: Controller, own: SimulatedConnection): Term {
    const end = async (): Promise<void> => {
      this.isLeading = false;
      await controller.stop();
      await this.close(own);
    };
    const cut = async (): Promise<void> => {
      this.isLeading = false;
      await Promise.all([this.close(own), controller.stop()]);
    };
    return { end, cut };
  }

  private mutated(connection: Connection): Connection {
    return this.world.mutation.connection?.(connection, this.way) ?? connection;
  }

  private connect(): SimulatedConnection {
    const connection = new SimulatedConnection(this.way, this.world.outside);
    this.connections.push(connection);
    return connection;
  }

  private async close(connection: SimulatedConnection): Promise<void> {
    await connection.close();
    this.connections.splice(this.connections.indexOf(connection), 1);
  }

  private createReport(): Report {
    const { world, way } = this;
    const tell = (level: Level, message: MessageText, facts: Facts = {}): void => {
      if (way.isDead) return;
      if (world.keepsLogs) {
        world.record({ what: 'log', process: way.process, level, message, facts });
      }
      const isFault = MESSAGES[message].meaning.includes('fault of this program');
      if (isFault || message === 'stage stuck') {
        const { error } = facts;
        world.onFault(
          way.process,
          `${message}: ${error instanceof Error ? error.stack : JSON.stringify(facts)}`,
        );
      }
    };
    return {
      debug: (message, facts) => tell('debug', message, facts),
      info: (message, facts) => tell('info', message, facts),
      warn: (message, facts) => tell('warn', message, facts),
      error: (message, facts) => tell('error', message, facts),
    };
  }
}
