import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { createEventBus, type OpenEventBus } from './aws/event-bus.ts';
import { createLifecycleHooks } from './aws/lifecycle-hooks.ts';
import { createQueue } from './aws/queue.ts';
import { pause, steadyClock, systemClock as clock } from './clock.ts';
import { startController, type Controller, type Ports } from './controller.ts';
import type { DrainPolicy } from './drain/node-drain.ts';
import { withoutEffect } from './dry-run.ts';
import { Election, type ElectionEnd, type Term } from './election/election.ts';
import { beginFresh } from './election/fresh-term.ts';
import { startHttpServer, type Check } from './http/server.ts';
import { DepartedNodes } from './intake/departed-nodes.ts';
import type { IntakePolicy } from './intake/intake.ts';
import type { NodeIndex } from './intake/node-store.ts';
import { connect, type Connection } from './kubernetes/connection.ts';
import { createEventSink } from './kubernetes/events.ts';
import { createLeaseStore } from './kubernetes/leases.ts';
import { createNodeIndex, createNodeStore, type KeptFacts } from './kubernetes/nodes.ts';
import { createPods } from './kubernetes/pods.ts';
import { createVolumes } from './kubernetes/volumes.ts';
import { measuredPorts } from './measured.ts';
import { regionOfQueue, type Options } from './options.ts';
import { isHookOfOurs } from './plan/hooks.ts';
import { JOURNAL_STATES } from './plan/journal.ts';
import { EventRecorder, recorded } from './report/event-recorder.ts';
import { createLog, type Log } from './report/log.ts';
import { NO_OBJECT_EVENTS } from './report/object-events.ts';
import { asEvents, firstOnly } from './report/outcome.ts';
import { createMetrics, type Readings } from './report/prometheus.ts';
import { createWebhook } from './report/webhook/deliveries.ts';
import { webhookSettings, type WebhookSettings } from './report/webhook/settings.ts';
import { SelfWatch } from './self-watch.ts';

/** Then what is still under way is given up, so that the process ends within 5 s. */
const STOP_WITHIN_MS = 4000;
const CLOSE_QUEUE_WITHIN_MS = 500;
const SEND_NEWS_WITHIN_MS = 1500;
const FLUSH_WITHIN_MS = 400;

/**
 * Runs until `stop` aborts, or until something happens after which it cannot go on. Resolves to the
 * exit code, when the log is written: 0 asked to stop and did, 1 fatal.
 */
export async function run(options: Options, version: string, stop: AbortSignal): Promise<number> {
  const log = createLog({
    level: options.logLevel,
    format: options.logFormat,
    stream: process.stdout,
    clock,
    onBroken(error) {
      // Where that is gone too, nobody is left to be told, and the nodes still are to be emptied.
      process.stderr.on('error', () => undefined);
      process.stderr.write(`The log is lost: ${error.message}\n`);
    },
  });
  process.on('uncaughtException', (error, origin) => {
    // Nothing is sure any more, so no orderly stop: the next process goes on from the journals.
    log.error('fatal error', { origin, error });
    void exitAtOnce(log);
  });

  let exitCode = 0;
  const release = new AsyncDisposableStack();
  try {
    log.info('started', { version, nodeVersion: process.version, ...options });
    const end = await start(options, version, log, stop, release);
    if (end === 'superseded') exitCode = 1;
    else log.info('stopping', { reason: stop.reason as unknown });
  } catch (error) {
    log.error('fatal error', { error });
    exitCode = 1;
  }
  try {
    const released = release.disposeAsync().then(() => true);
    const inTime = await Promise.race([released, pause(clock, STOP_WITHIN_MS)]);
    if (inTime !== true) log.warn('stop takes too long');
  } catch (error) {
    log.error('fatal error', { error });
    exitCode = 1;
  }
  if (exitCode === 0) log.info('stopped');
  await flush(log);
  return exitCode;
}

/**
 * Joins the flow with its edges. Resolves when `stop` has aborted, or another replica has taken over;
 * what has been opened by then is left to `release`, in reverse order. Rejects only for what no
 * waiting mends: an API server that does not answer yet is waited for.
 */
async function start(
  options: Options,
  version: string,
  log: Log,
  stop: AbortSignal,
  release: AsyncDisposableStack,
): Promise<ElectionEnd> {
  const watchdog = new SelfWatch(steadyClock, log);
  watchdog.start();
  release.defer(() => watchdog.stop());
  const running: Running = {};
  const metrics = createMetrics(readingsOf(running, version));
  const userAgent = `node-termination-controller/${version}`;
  const connectToApiServer = (): Connection =>
    connect({
      kubeconfigPath: options.kubeconfig,
      userAgent,
      clock,
      metrics,
      watchdog,
      report: log,
    });
  const connection = connectToApiServer();
  release.defer(() => connection.close());

  const http = await startHttpServer({
    port: options.httpPort,
    health: () => watchdog.checks(),
    readiness: () => readiness(running, stop),
    metrics,
    report: log,
  });
  release.defer(() => http.close());
  log.info('http listening', { port: http.port });

  const settings = webhookSettings(options, process.env);
  if (settings !== undefined && 'faults' in settings) throw new Error(settings.faults.join(' '));
  const projection = {
    selector: options.nodeSelector,
    reservationLabel: options.capacityReservationLabel,
    keptFacts: keptFacts(settings),
  };
  const nodes = createNodeIndex({
    connection,
    ...projection,
    clock,
    watchdog,
    report: log,
  });
  release.defer(() => nodes.close());
  const departed = new DepartedNodes(nodes, clock);
  const webhook =
    settings &&
    createWebhook(settings, {
      factsOf: (name) => nodes.get(name)?.facts,
      userAgent,
      clock: steadyClock,
      wallNow: () => clock.now(),
      metrics,
      report: log,
    });
  const bus = openEventBus(options, { clock: steadyClock, metrics, watchdog, report: log });
  // After the Lease is given up: nobody waits for the receivers.
  release.defer(async () => {
    await Promise.all([webhook?.close(SEND_NEWS_WITHIN_MS), bus?.close(SEND_NEWS_WITHIN_MS)]);
  });
  // Of all terms: what is told and not sent yet outlives a cut, and is not told again by the next.
  const outcomes = firstOnly(
    ...(bus === undefined ? [] : [asEvents((event) => bus.put(event))]),
    ...(webhook === undefined ? [] : [webhook]),
  );
  await Promise.race([nodes.start(), aborted(stop)]);
  if (stop.aborted) return 'stopped';
  running.nodes = nodes;
  const filledAt = clock.now();
  const view = {
    lastHeardAt: () => Math.max(nodes.lastHeardAt(), filledAt),
    refresh: nodes.refresh.bind(nodes),
  };

  const begin = (): Term => {
    const { controller, term } = beginTerm(
      options,
      { nodes, departed, outcomes, clock, metrics, watchdog, report: log },
      { connection: connectToApiServer(), projection },
    );
    running.controller = controller;
    log.info('ready');
    return term;
  };
  // One that changes nothing needs to agree with nobody, and a Lease would be a change.
  if (options.dryRun || !options.leaderElection) {
    if (options.dryRun) log.warn('dry run');
    const term = begin();
    release.defer(() => term.end());
    await aborted(stop);
    return 'stopped';
  }

  const ownConnection = connectToApiServer();
  release.defer(() => ownConnection.close());
  const leases = createLeaseStore({
    // Renewals wait behind nothing.
    connection: ownConnection,
    namespace: options.podNamespace ?? connection.namespace ?? 'default',
    name: options.leaseName,
    clock,
    watchdog,
    report: log,
  });
  const election = new Election(
    {
      leases,
      clock: steadyClock,
      watchdog,
      report: log,
      begin: () => beginFresh({ view, clock, report: log }, begin),
    },
    options.podName ?? `${hostname()}_${randomUUID()}`,
  );
  running.election = election;
  const electing = election.run(stop);
  // It ends the term in good order.
  release.defer(async () => void (await electing));
  return Promise.race([electing, aborted(stop).then(() => 'stopped' as const)]);
}

/** What is kept of the Nodes. */
type Projection = Readonly<{
  selector: string;
  reservationLabel: string;
  keptFacts: KeptFacts;
}>;

function keptFacts(settings: WebhookSettings | undefined): KeptFacts {
  if (settings === undefined) return 'none';
  return settings.format.usesLabels ? 'machine and labels' : 'machine';
}

type Running = { nodes?: NodeIndex; election?: Election; controller?: Controller };

function openEventBus(
  { awsRegion: region, eventBusName: name }: Options,
  ports: Omit<Parameters<typeof createEventBus>[0], 'name' | 'region'>,
): OpenEventBus | undefined {
  return name === undefined ? undefined : createEventBus({ name, region, ...ports });
}

/**
 * All that writes on Nodes, pods and hooks, on connections of its own: they can be cut as a whole, and
 * nothing else with them.
 */
function beginTerm(
  options: Options,
  lasting: Pick<
    Ports,
    'nodes' | 'departed' | 'outcomes' | 'clock' | 'metrics' | 'watchdog' | 'report'
  >,
  { connection, projection }: Readonly<{ connection: Connection; projection: Projection }>,
): { controller: Controller; term: Term } {
  const { metrics, watchdog, report } = lasting;
  const queue = createQueue({
    queueUrl: options.queueUrl,
    region: regionOfQueue(options.queueUrl) ?? options.awsRegion,
    clock,
    metrics,
    watchdog,
  });
  const hooks = createLifecycleHooks({ region: options.awsRegion, clock, metrics, watchdog });
  const recorder = options.kubernetesEvents
    ? new EventRecorder({
        sink: createEventSink({ connection, instance: options.podName ?? hostname() }),
        clock,
        metrics,
        report,
      })
    : undefined;
  const ports = measuredPorts({
    ...lasting,
    queue,
    store: createNodeStore({
      connection,
      ...projection,
    }),
    pods: createPods({ connection, clock, watchdog, report }),
    volumes: createVolumes({ connection, clock }),
    hooks,
    objectEvents: recorder ? recorded(recorder) : NO_OBJECT_EVENTS,
  });
  const controller = startController(
    options.dryRun ? withoutEffect(ports) : ports,
    policyOf(options),
  );
  const term: Term = {
    async end() {
      await controller.stop();
      recorder?.close();
      hooks.close();
      await queue.close(CLOSE_QUEUE_WITHIN_MS);
      await connection.close();
    },
    async cut() {
      recorder?.close();
      hooks.close();
      // What is in hand goes back to the queue, for whoever leads next.
      await Promise.all([connection.close(), controller.stop()]);
      await queue.close(CLOSE_QUEUE_WITHIN_MS);
    },
  };
  return { controller, term };
}

function readiness({ nodes, election, controller }: Running, stop: AbortSignal): readonly Check[] {
  const standsBy = election !== undefined && !election.isLeading;
  const failure = standsBy ? undefined : controller?.queueFailure();
  return [
    { name: 'not stopping', ok: !stop.aborted },
    { name: 'node index', ok: nodes !== undefined },
    ...(election === undefined ? [] : [leaseCheck(election)]),
    {
      name: 'queue',
      ok: standsBy || (controller !== undefined && failure === undefined),
      ...(standsBy && { detail: 'not received from by a standby' }),
      ...(failure !== undefined && { detail: failure }),
    },
  ];
}

function readingsOf(running: Running, version: string): Readings {
  const isLeading = (): boolean => running.election?.isLeading ?? running.controller !== undefined;
  const figures = () => (isLeading() ? running.controller?.figures() : undefined);
  const single = (value: number | undefined) =>
    value === undefined ? [] : [{ labels: {}, value }];
  return {
    messages_in_hand: () => single(figures()?.inHand),
    messages_parked: () => single(figures()?.parked),
    eviction_concurrency_limit: () => single(figures()?.evictionLimit),
    nodes() {
      const states = figures()?.states;
      if (states === undefined) return [];
      return JOURNAL_STATES.map((state) => ({
        labels: { state },
        value: states.filter((found) => found === state).length,
      }));
    },
    leader: () => single(isLeading() ? 1 : 0),
    build_info: () => [{ labels: { version, node_version: process.version }, value: 1 }],
  };
}

function leaseCheck({ isLeading, standsBehind }: Election): Check {
  if (isLeading) return { name: 'lease', ok: true, detail: 'leading' };
  return standsBehind === undefined
    ? { name: 'lease', ok: false, detail: 'neither leading nor standing by' }
    : { name: 'lease', ok: true, detail: `standing by for ${standsBehind}` };
}

function policyOf(options: Options): IntakePolicy & DrainPolicy {
  const { eventAccounts, hooks, podNamespace: namespace, podName: name } = options;
  return {
    actions: {
      'spot-interruption': options.spotInterruptionAction,
      'capacity-reservation': options.capacityReservationAction,
      rebalance: options.rebalanceAction,
      'scheduled-change': options.scheduledChangeAction,
      'terminate-hook': options.terminateHookAction,
      'state-change': options.stateChangeAction,
    },
    managedNodes: options.managedNodes,
    marginMs: options.deadlineMarginSeconds * 1000,
    budgets: options.disruptionBudgets,
    podGraceSeconds: options.podGraceSeconds,
    terminateHookDrainSeconds: options.terminateHookDrainSeconds,
    afterVoluntaryDrain: options.afterVoluntaryDrain,
    voluntaryDrainLimit: options.voluntaryDrainLimit,
    scheduledChangeLeadMs: options.scheduledChangeLeadSeconds * 1000,
    outOfServiceTaint: options.outOfServiceTaint,
    excludeFromLoadBalancers: options.excludeFromLoadBalancers,
    everyHookIsOurs: hooks.includes('*'),
    isOurHook: (group, hook) => isHookOfOurs(hooks, group, hook),
    accounts: eventAccounts === '*' ? undefined : new Set(eventAccounts),
    unknownInstanceGraceSeconds: options.unknownInstanceGraceSeconds,
    completeUnknownHooks: options.completeUnknownHooks,
    waitForVolumes: options.waitForVolumes,
    loadBalancerDrainSeconds: options.loadBalancerDrainSeconds,
    self: namespace !== undefined && name !== undefined ? { namespace, name } : undefined,
  };
}

async function exitAtOnce(log: Log): Promise<never> {
  await flush(log);
  process.exit(1);
}

/** A reader that has stopped reading does not hold up the end. */
async function flush(log: Log): Promise<void> {
  await Promise.race([log.close(), pause(clock, FLUSH_WITHIN_MS)]);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
