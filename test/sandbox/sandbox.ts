import { resolve } from 'node:path';
import { z } from 'zod';
import type { ApiClient } from '../control-plane/api-client.ts';
import { startGuardedProcess, type GuardedProcess } from '../control-plane/guarded-process.ts';
import { controllerEnvironment } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { rebalance, spotNotice, terminateHook } from '../harness/messages.ts';
import { startAutoScaling, type LifecycleAction } from '../stand-ins/auto-scaling.ts';
import { startEventBridge, type BusEvent } from '../stand-ins/event-bridge.ts';
import { startKubelet, type PodBehaviour } from '../stand-ins/kubelet.ts';
import { startQueueService, type Queue } from '../stand-ins/queue.ts';
import { startWebhookReceiver } from '../stand-ins/webhook-receiver.ts';
import { startCases, type Case, type Cases, type InterruptionKind } from './cases.ts';
import type { Chance } from './chance.ts';
import { startSandboxCluster, type SandboxCluster } from './cluster.ts';
import { startLedger, type Ledger } from './ledger.ts';
import { createFoundry, madeUpInstanceId, nodeSpecOf, type Machine } from './machines.ts';
import type { SandboxOptions } from './options.ts';
import { startRefusals } from './refusals.ts';
import type { Screen } from './screen.ts';
import {
  createCheckoutBudget,
  createWorkload,
  workloadsFor,
  type App,
  type Workload,
} from './workloads.ts';

/** A cluster with its machines and pods, the built controller, and what it talks to. */
export type Sandbox = {
  readonly api: ApiClient;
  readonly cluster: SandboxCluster;
  readonly queue: Queue;
  readonly ledger: Ledger;
  readonly cases: Cases;
  /** What the controller told the event bus, oldest first. */
  readonly outcomes: () => readonly BusEvent[];
  /** What it wrote to the chat, oldest first. */
  readonly chat: () => readonly string[];
  /** Those that EC2 has not taken. */
  readonly machines: () => readonly Machine[];
  readonly controller: GuardedProcess;
  /** What pods of the app do that are made from now on. */
  behave(app: App, behaviour: PodBehaviour): void;
  /** Sends what AWS would send; returns the message. */
  readonly interrupt: (kind: InterruptionKind, machine: Machine) => Promise<object>;
  /** About an instance that is no node here; returns its ID. */
  sendForeignNotice(): Promise<string>;
  stop(): Promise<void>;
};

const projectRoot = resolve(import.meta.dirname, '../..');
const bundlePath = resolve(projectRoot, 'dist/main.js');

const autoScalingGroup = 'workers';
const hook = 'drain-before-terminate';
const hookTimeoutSeconds = 300;
const eventBus = 'outcomes';
const chatMessageSchema = z.object({ text: z.string() });
const spotNoticeMs = 120_000;
/** How long messages about unknown instances are kept. The default of a minute would be long to watch. */
export const unknownInstanceGraceSeconds = 3;
const startLimitMs = 120_000;

export type Surroundings = {
  readonly chance: Chance;
  readonly screen: Screen;
  readonly signal: AbortSignal;
  /** What to say of a case that has ended. */
  readonly tellEnd: (ended: Case, successors: ReturnType<Ledger['successors']>) => string;
};

/** Resolves when all pods serve and the controller is ready. */
export async function startSandbox(
  options: SandboxOptions,
  surroundings: Surroundings,
): Promise<Sandbox> {
  const release = new AsyncDisposableStack();
  try {
    return await assemble(options, surroundings, release);
  } catch (error) {
    await release.disposeAsync();
    throw error;
  }
}

async function assemble(
  options: SandboxOptions,
  { chance, screen, signal, tellEnd }: Surroundings,
  release: AsyncDisposableStack,
): Promise<Sandbox> {
  const keep = <T extends { stop(): Promise<void> }>(part: T): T => {
    release.defer(() => part.stop());
    return part;
  };
  const cluster = keep(await startSandboxCluster(options.kubeconfig));
  screen.say(
    `${options.nodes} made-up nodes in three zones join ${cluster.description}, and get pods (seed ${options.seed}).`,
  );
  const { api } = cluster;
  const workloads = workloadsFor(options.nodes, chance);
  const behaviours = new Map(workloads.map(({ app, behaviour }) => [app as string, behaviour]));
  const kubelet = keep(
    await startKubelet({
      api,
      behaviourOf: ({ metadata }) => behaviours.get(metadata.labels?.['app'] ?? ''),
      // Well within the 40 s after which a node counts as lost.
      leaseRenewSeconds: 10,
    }),
  );
  const foundry = createFoundry(cluster, chance);
  const machines = new Map<string, Machine>();
  const launch = async (count: number): Promise<Machine[]> => {
    const made = Array.from({ length: count }, foundry);
    // One by one: a scheduler looks at them in the order in which they came, and so a seed decides where
    // pods are.
    for (const machine of made) {
      await kubelet.addNode(nodeSpecOf(cluster, machine));
      machines.set(machine.name, machine);
    }
    return made;
  };
  await launch(options.nodes);
  signal.throwIfAborted();
  const ledger = keep(await startLedger(api, cluster.namespace));
  for (const workload of workloads) {
    await createWorkload(cluster, workload);
    await untilReady(cluster, ledger, workload, signal);
  }
  await createCheckoutBudget(cluster);

  const queues = keep(await startQueueService());
  const queue = await queues.createQueue('interruptions');
  const autoScaling = keep(await startAutoScaling());
  autoScaling.addHook({
    group: autoScalingGroup,
    hook,
    heartbeatTimeoutSeconds: hookTimeoutSeconds,
  });
  const eventBridge = keep(await startEventBridge());
  eventBridge.addBus(eventBus);
  const chat: string[] = [];
  const receiver = keep(
    await startWebhookReceiver({
      onDelivery({ body }) {
        const { text } = chatMessageSchema.parse(JSON.parse(body));
        chat.push(text);
        screen.say(`In the chat: ${text}`);
      },
    }),
  );
  keep(
    startRefusals(api, cluster.namespace, (pod, note) => {
      screen.say(`The event EvictionRefused of pod ${pod} says: ${note}`);
    }),
  );
  signal.throwIfAborted();
  screen.say(
    `${ledger.lives().length} pods serve. The controller starts: dist/main.js, as a process of its own. Indented lines are its log, in UTC.`,
  );
  const { label } = cluster;
  const controller = await startControllerProcess(screen, {
    QUEUE_URL: queue.url,
    AWS_ENDPOINT_URL_SQS: queues.url,
    AWS_ENDPOINT_URL_AUTO_SCALING: autoScaling.url,
    AWS_ENDPOINT_URL_EVENTBRIDGE: eventBridge.url,
    EVENT_BUS_NAME: eventBus,
    WEBHOOK_URL: receiver.url,
    WEBHOOK_TEMPLATE: '{"text":"{{ description }}"}',
    KUBECONFIG: cluster.kubeconfig,
    NODE_SELECTOR: `${label.key}=${label.value}`,
    UNKNOWN_INSTANCE_GRACE_SECONDS: String(unknownInstanceGraceSeconds),
    LOG_FORMAT: 'text',
  });
  release.defer(() => endController(controller));

  const timers = new Set<NodeJS.Timeout>();
  release.defer(() => {
    for (const timer of timers) clearTimeout(timer);
  });
  const reclaimLater = (machine: Machine, afterMs: number, taker: string): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      void reclaim(machine, taker).catch((error: unknown) => screen.say(String(error)));
    }, afterMs);
    timers.add(timer);
  };
  const reclaim = async (machine: Machine, taker: string): Promise<void> => {
    if (!machines.delete(machine.name)) return;
    await kubelet.removeNode(machine.name);
    const [successor] = await launch(1);
    screen.say(`${taker} takes ${machine.name}; ${successor?.name} comes in its place.`);
  };

  const cases = keep(
    startCases(api, queue, ledger, (ended) => {
      screen.say(tellEnd(ended, ledger.successors()));
      const completed = ended.interruptions.some(({ action }) => action?.completedAt);
      if (completed) reclaimLater(ended.machine, 1000, 'Auto Scaling');
    }),
  );
  const interrupt = async (kind: InterruptionKind, machine: Machine): Promise<object> => {
    const opened: Case = cases.open(machine);
    const { instanceId } = machine;
    let action: LifecycleAction | undefined;
    if (kind === 'hook') {
      action = autoScaling.beginAction({ group: autoScalingGroup, hook, instanceId });
    }
    const message = action
      ? terminateHook(action)
      : kind === 'spot'
        ? spotNotice(machine)
        : rebalance(machine);
    opened.interruptions.push({ kind, messageId: await queue.send(message), action });
    if (kind === 'spot') reclaimLater(machine, spotNoticeMs, 'EC2');
    return message;
  };

  return {
    api,
    cluster,
    queue,
    ledger,
    cases,
    outcomes: () => eventBridge.events(eventBus),
    chat: () => chat,
    machines: () => [...machines.values()],
    controller,
    behave: (app, behaviour) => behaviours.set(app, behaviour),
    interrupt,
    async sendForeignNotice() {
      const instanceId = madeUpInstanceId(chance);
      await queue.send(spotNotice({ instanceId }));
      return instanceId;
    },
    stop: () => release.disposeAsync(),
  };
}

async function untilReady(
  { description }: SandboxCluster,
  ledger: Ledger,
  { app, replicas }: Workload,
  signal: AbortSignal,
): Promise<void> {
  await eventually(
    () => {
      if (signal.aborted) return true;
      const ready = ledger.lives().filter((life) => life.app === app && life.ready).length;
      if (ready < replicas) {
        throw new Error(
          `${ready} of ${replicas} pods of ${app} are ready; without a scheduler and a controller manager for ${description} that stays so`,
        );
      }
      return true;
    },
    { timeoutMs: startLimitMs },
  );
  signal.throwIfAborted();
}

async function startControllerProcess(
  screen: Screen,
  environment: Readonly<Record<string, string>>,
): Promise<GuardedProcess> {
  const ready = Promise.withResolvers<void>();
  const started = await startGuardedProcess({
    command: process.execPath,
    args: [bundlePath, 'run'],
    env: { ...controllerEnvironment(), ...environment },
    onLine(line) {
      screen.log(line);
      if (/^\S+ INFO {2}ready\b/.test(line)) ready.resolve();
    },
  });
  await Promise.race([
    ready.promise,
    started.exited.then(({ code, signal }) => {
      throw new Error(`The controller ended with ${signal ?? code} before it was ready.`);
    }),
  ]);
  return started;
}

/** In order, as Kubernetes would ask it to; by force if that takes too long. */
async function endController(controller: GuardedProcess): Promise<void> {
  controller.signal('SIGTERM');
  const timer = setTimeout(() => controller.signal('SIGKILL'), 10_000);
  await controller.exited;
  clearTimeout(timer);
}
