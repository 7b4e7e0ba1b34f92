import type { ApiClient } from '../control-plane/api-client.ts';
import { skipReason } from '../control-plane/binaries.ts';
import {
  componentsFor,
  startControlPlane,
  type AccessOptions,
  type ComponentControl,
  type ControlPlane,
  type ControlPlaneOptions,
  type PolicyRule,
} from '../control-plane/control-plane.ts';
import { startAutoScaling, type AutoScaling } from '../stand-ins/auto-scaling.ts';
import { startEventBridge, type EventBridge } from '../stand-ins/event-bridge.ts';
import { startKubelet, type Kubelet, type KubeletOptions } from '../stand-ins/kubelet.ts';
import { startStandInControlPlane } from '../stand-ins/kubernetes/control-plane.ts';
import {
  startQueueService,
  type Queue,
  type QueueOptions,
  type QueueService,
} from '../stand-ins/queue.ts';
import { assertPermitted } from './aws-actions.ts';
import { startController, type Controller, type ControllerOptions } from './controller.ts';

/** The real components as processes, or what stands in for them within this one. */
export type Backend = 'real' | 'stand-in';

export type WorldOptions = Pick<
  ControlPlaneOptions,
  'controllerManager' | 'scheduler' | 'audit'
> & {
  /** What NTC_TEST_BACKEND says unless given, and real if that is not set. */
  readonly backend?: Backend;
  readonly kubelet?: Omit<KubeletOptions, 'api'>;
  /** Of the queue `interruptions`. */
  readonly queue?: QueueOptions;
  /** What the controller may do; everything (`admin.kubeconfig`) unless given. */
  readonly controllerRules?: readonly PolicyRule[];
  readonly controllerAccess?: AccessOptions;
};

/** What either backend offers. */
export type WorldCluster = Pick<
  ControlPlane,
  'url' | 'ca' | 'api' | 'adminKubeconfig' | 'folder' | 'kubeconfigFor' | 'auditEntries' | 'stop'
> & { readonly apiServer: Pick<ComponentControl, 'start' | 'stop' | 'pause' | 'resume'> };

export type World = {
  readonly cluster: WorldCluster;
  /** As admin; the same as `cluster.api`. */
  readonly api: ApiClient;
  readonly kubelet: Kubelet;
  readonly queues: QueueService;
  /** The queue that controllers of this world receive from. */
  readonly queue: Queue;
  readonly autoScaling: AutoScaling;
  /** With the bus `outcomes`. */
  readonly eventBridge: EventBridge;
  /** Of the controllers: RBAC and audit log name them by it. */
  readonly controllerUserName: string;
  /** What a controller needs to find its way in this world. */
  readonly environment: Readonly<Record<string, string>>;
  /** Starts the built controller in this world; killed with it, if it still runs then. */
  startController(options?: ControllerOptions): Promise<Controller>;
  /**
   * Ends everything, the latest first. Rejects if AWS was asked for what the controller's IAM policy
   * does not allow.
   */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** Why a world of these options cannot be had here, for `skipIf`; see `skipReason`. */
export function worldSkipReason(options: WorldOptions = {}): string | undefined {
  return backendOf(options) === 'real'
    ? skipReason(componentsFor(withDefaults(options)))
    : undefined;
}

/**
 * A cluster, nodes' kubelets, a queue and Auto Scaling, all empty. The controller manager is there
 * unless it is turned off.
 */
export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const releases: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (let release = releases.pop(); release; release = releases.pop()) await release();
  };
  const keep = <T extends { stop(): Promise<unknown> }>(part: T): T => {
    releases.push(async () => part.stop());
    return part;
  };
  try {
    const cluster = keep(await startCluster(options));
    const { api } = cluster;
    const kubelet = keep(await startKubelet({ ...options.kubelet, api }));
    const queues = keep(await startQueueService());
    const queue = await queues.createQueue('interruptions', options.queue);
    const autoScaling = keep(await startAutoScaling());
    const eventBridge = keep(await startEventBridge());
    eventBridge.addBus('outcomes');
    // Last of all, whatever the tests were about.
    releases.unshift(async () => assertPermitted({ queues, autoScaling, eventBridge }));
    await api.create('/api/v1/namespaces', { metadata: { name: controllerNamespace } });
    const access = options.controllerRules
      ? await cluster.kubeconfigFor('controller', options.controllerRules, {
          namespace: controllerNamespace,
          ...options.controllerAccess,
        })
      : { kubeconfig: cluster.adminKubeconfig, userName: 'admin' };
    const environment = {
      QUEUE_URL: queue.url,
      AWS_ENDPOINT_URL_SQS: queues.url,
      AWS_ENDPOINT_URL_AUTO_SCALING: autoScaling.url,
      AWS_ENDPOINT_URL_EVENTBRIDGE: eventBridge.url,
      KUBECONFIG: access.kubeconfig,
      POD_NAMESPACE: controllerNamespace,
      POD_NAME: 'controller-0',
    };
    return {
      cluster,
      api,
      kubelet,
      queues,
      queue,
      autoScaling,
      eventBridge,
      controllerUserName: access.userName,
      environment,
      async startController(controllerOptions = {}) {
        const controller = await startController({
          ...controllerOptions,
          env: { ...environment, ...controllerOptions.env },
        });
        releases.push(async () => controller.kill());
        return controller;
      },
      stop,
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Of the controller's own pods, and of their Lease. */
export const controllerNamespace = 'node-termination-controller';

async function startCluster(options: WorldOptions): Promise<WorldCluster> {
  const all = withDefaults(options);
  return backendOf(options) === 'real' ? startControlPlane(all) : startStandInControlPlane(all);
}

function backendOf(options: WorldOptions): Backend {
  const backend = options.backend ?? process.env['NTC_TEST_BACKEND'] ?? 'real';
  if (backend === 'real' || backend === 'stand-in') return backend;
  throw new Error(`NTC_TEST_BACKEND is ${backend}, which is neither real nor stand-in`);
}

function withDefaults(options: WorldOptions): WorldOptions {
  return { ...options, controllerManager: options.controllerManager ?? true };
}
