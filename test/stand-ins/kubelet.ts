import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { ApiError, type ApiClient } from '../control-plane/api-client.ts';
import { createLimiter, mapLimited, type Limiter } from '../control-plane/limiter.ts';
import type {
  LeaseObject,
  NodeObject,
  PodObject,
  PodPhase,
  Taint,
} from '../control-plane/objects.ts';
import { secondsTime } from './kubernetes/objects.ts';

/** A pod's annotation with its `PodBehaviour` as JSON. */
export const behaviourAnnotation = 'test-kubelet/behaviour';

export type NodeSpec = {
  readonly name: string;
  /** A random one unless given; `null` for a node that is no EC2 instance. */
  readonly instanceId?: string | null;
  readonly zone?: string;
  /** Instead of the one made of zone and instance ID. */
  readonly providerID?: string;
  readonly systemUUID?: string;
  readonly bootID?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly taints?: readonly Taint[];
  readonly unschedulable?: boolean;
  readonly ready?: boolean;
};

/** What the processes of a pod do; all times run from the moment the kubelet could act. */
export type PodBehaviour = {
  /** From being bound until Running. */
  readonly startsAfterSeconds?: number;
  /** From Running until Ready; `never` is possible. */
  readonly readyAfterSeconds?: number | 'never';
  /** From Running until Succeeded. */
  readonly completesAfterSeconds?: number;
  /** From SIGTERM until it has exited by itself; without it SIGKILL ends it when its grace is over. */
  readonly exitsAfterSeconds?: number;
  /** Not even SIGKILL ends it: the object stays until somebody forces it away. */
  readonly neverEnds?: boolean;
};

/** A deletion, or a shortened grace, as the kubelet saw it. Times are epoch ms. */
export type SeenDeletion = {
  readonly seenAt: number;
  readonly graceSeconds: number;
  /** When SIGKILL is due: counted from `seenAt`, as the kubelet does, not from the server's clock. */
  readonly killAt: number;
  /** As in the object: the end of the grace as the server counts it. */
  readonly deletionTimestamp: string;
};

/** What happened to one pod. Times are epoch ms. */
export type PodRecord = {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly node: string;
  runningAt?: number;
  readyAt?: number;
  readonly deletions: SeenDeletion[];
  /** When its processes had ended. */
  endedAt?: number;
  /**
   * `exited`: by itself within its grace. `killed`: SIGKILL. `completed`: before any deletion.
   * `abandoned`: the object vanished while the processes ran (grace 0, or the node was deleted).
   * `lost`: the machine went down under it.
   */
  end?: 'exited' | 'killed' | 'completed' | 'abandoned' | 'lost';
  /** When the object was seen to be gone. */
  goneAt?: number;
};

export type PodFilter = {
  readonly node?: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly uid?: string;
};

export type KubeletOptions = {
  readonly api: ApiClient;
  /** Asked once for each pod; the annotation goes before it. */
  readonly behaviourOf?: (pod: PodObject) => PodBehaviour | undefined;
  /** Renew the Lease of each node in `kube-node-lease` this often. Never unless given. */
  readonly leaseRenewSeconds?: number;
  /**
   * Report the last phase of a pod (Succeeded, Failed) before its object is deleted, as the real one
   * does; costs a request for each pod.
   */
  readonly reportsLastPhase?: boolean;
  /** Failures that are retried (an outage, say). */
  readonly onError?: (error: unknown) => void;
};

/** The fields used; whole pods would cost ten times the memory. */
type PodView = {
  readonly phase: PodPhase;
  readonly containers: readonly string[];
  readonly deletionTimestamp: string | undefined;
  readonly deletionGraceSeconds: number;
};

type Pod = {
  readonly record: PodRecord;
  readonly behaviour: PodBehaviour;
  readonly path: string;
  view: PodView;
  /** A pod that is deleted before its processes run goes straight to `ended`; `lost` ones run again. */
  state: 'bound' | 'starting' | 'running' | 'ending' | 'ended' | 'lost';
  timer: NodeJS.Timeout | undefined;
};

type Machine = { readonly name: string; on: boolean };

// kuberuntime_manager.go, minimumGracePeriodInSeconds: no container gets less between the signals.
const minimumGraceSeconds = 2;
const notReady = 'node.kubernetes.io/not-ready';

/**
 * The kubelets of any number of nodes: registers them, runs the pods bound to them, and ends those
 * that are deleted as the real one would. Nodes that were not added here are none of its business.
 */
export async function startKubelet(options: KubeletOptions): Promise<Kubelet> {
  const kubelet = new Kubelet(options);
  await kubelet.watching;
  return kubelet;
}

export class Kubelet {
  /** Resolves when the pods are known for the first time. */
  readonly watching: Promise<void>;
  private readonly api: ApiClient;
  private readonly options: KubeletOptions;
  private readonly machines = new Map<string, Machine>();
  /** By uid; only pods whose object exists. */
  private readonly pods = new Map<string, Pod>();
  /** One for each pod ever seen; tests end before this matters. */
  private readonly history: PodRecord[] = [];
  private readonly stopped = new AbortController();
  private readonly limit: Limiter = createLimiter(24);
  private readonly watch: Promise<void>;
  private readonly leaseTimer: NodeJS.Timeout | undefined;
  private lastAddress = 0;

  constructor(options: KubeletOptions) {
    this.options = options;
    this.api = options.api;
    const first = Promise.withResolvers<void>();
    this.watching = first.promise;
    this.watch = this.api.listAndWatch<PodObject>({
      path: '/api/v1/pods?fieldSelector=spec.nodeName!=',
      signal: this.stopped.signal,
      onList: (pods) => {
        this.seeAll(pods);
        first.resolve();
      },
      onEvent: ({ type, object }) => (type === 'DELETED' ? this.seeGone(object) : this.see(object)),
      onError: (error) => options.onError?.(error),
    });
    this.leaseTimer =
      options.leaseRenewSeconds === undefined
        ? undefined
        : setInterval(() => this.renewLeases(), options.leaseRenewSeconds * 1000);
  }

  /** Registers a node, Ready; returns when the control plane has let go of its `not-ready` taint. */
  async addNode(spec: NodeSpec): Promise<NodeObject> {
    const [node] = await this.addNodes([spec]);
    if (!node) throw new Error(`node ${spec.name} is gone again`);
    return node;
  }

  async addNodes(specs: readonly NodeSpec[]): Promise<NodeObject[]> {
    for (const { name } of specs) this.machines.set(name, { name, on: true });
    const created = await mapLimited(specs, 24, async (spec) =>
      this.api.create('/api/v1/nodes', nodeObject(spec)),
    );
    if (this.options.leaseRenewSeconds !== undefined) {
      await mapLimited(specs, 24, async ({ name }) => this.renewLease(name));
    }
    const tainted = created.filter(
      (node, index) => hasNotReadyTaint(node) && specs[index]?.ready !== false,
    );
    if (tainted.length === 0) return created;
    return this.untilTaintsSettle(specs.map(({ name }) => name));
  }

  /** Deletes the Node object, as the cloud provider does after the machine has gone, and turns it off. */
  async removeNode(name: string): Promise<void> {
    this.powerOff(name);
    await this.api.delete(`/api/v1/nodes/${name}`);
  }

  /** The machine goes down at once, and all processes with it: nothing starts, ends or is renewed. */
  powerOff(name: string): void {
    this.machine(name).on = false;
    for (const pod of this.podsOf(name)) {
      clearTimeout(pod.timer);
      if (pod.state === 'ended') continue;
      if (pod.state === 'running' || pod.state === 'ending') {
        pod.record.end = 'lost';
        pod.record.endedAt = Date.now();
      }
      pod.state = 'lost';
    }
  }

  /** It boots, with another boot ID; pods that were not deleted meanwhile run again. */
  async powerOn(
    name: string,
    nodeInfo: { bootID?: string; systemUUID?: string } = {},
  ): Promise<void> {
    const machine = this.machine(name);
    await this.setNodeInfo(name, { bootID: randomUUID(), ...nodeInfo });
    machine.on = true;
    for (const pod of this.podsOf(name).filter(({ state }) => state === 'lost')) {
      pod.state = 'bound';
      this.advance(pod);
    }
    if (this.options.leaseRenewSeconds !== undefined) await this.renewLease(name);
  }

  async setNodeInfo(
    name: string,
    nodeInfo: { bootID?: string; systemUUID?: string },
  ): Promise<void> {
    await this.api.patch(`/api/v1/nodes/${name}/status`, { status: { nodeInfo } });
  }

  /** `since`: epoch ms. */
  async setReady(name: string, ready: boolean, since = Date.now()): Promise<void> {
    const conditions = [readyCondition(ready, since)];
    await this.api.patch(`/api/v1/nodes/${name}/status`, { status: { conditions } }, 'strategic');
  }

  /** `renewTime` of the kubelet's Lease, in epoch ms; made if absent. */
  async renewLease(name: string, renewAt: number = Date.now()): Promise<void> {
    const leases = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases';
    // Exactly six digits after the point, or the API server answers 400.
    const renewTime = new Date(renewAt).toISOString().replace('Z', '000Z');
    const response = await this.api.request(
      'PATCH',
      `${leases}/${name}`,
      { spec: { renewTime } },
      { headers: { 'content-type': 'application/merge-patch+json' } },
    );
    if (response.status === 404) {
      await this.api.create<LeaseObject>(leases, {
        metadata: { name, namespace: 'kube-node-lease' },
        spec: { holderIdentity: name, leaseDurationSeconds: 40, renewTime },
      });
    } else if (response.status >= 400) {
      throw new ApiError('PATCH', `${leases}/${name}`, response);
    }
  }

  /** All pods it has seen that match, in the order in which they were first seen. */
  records(filter: PodFilter = {}): readonly PodRecord[] {
    return this.history.filter(
      (record) =>
        (filter.node ?? record.node) === record.node &&
        (filter.namespace ?? record.namespace) === record.namespace &&
        (filter.name ?? record.name) === record.name &&
        (filter.uid ?? record.uid) === record.uid,
    );
  }

  /** The newest pod of that name; throws if none was seen. */
  record(name: string, namespace = 'default'): PodRecord {
    const record = this.records({ name, namespace }).at(-1);
    if (!record) throw new Error(`the kubelet has seen no pod ${namespace}/${name}`);
    return record;
  }

  async stop(): Promise<void> {
    clearInterval(this.leaseTimer);
    this.stopped.abort();
    for (const pod of this.pods.values()) clearTimeout(pod.timer);
    await this.watch;
  }

  private machine(name: string): Machine {
    const machine = this.machines.get(name);
    if (!machine) throw new Error(`node ${name} was not added to this kubelet`);
    return machine;
  }

  private podsOf(node: string): Pod[] {
    return [...this.pods.values()].filter(({ record }) => record.node === node);
  }

  private seeAll(objects: readonly PodObject[]): void {
    const present = new Set(objects.map(({ metadata }) => metadata.uid));
    for (const object of objects) this.see(object);
    for (const [uid, pod] of this.pods) if (!present.has(uid)) this.forget(pod);
  }

  private see(object: PodObject): void {
    const { uid } = object.metadata;
    if (uid === undefined) return;
    const known = this.pods.get(uid);
    if (known) {
      known.view = viewOf(object);
      this.advance(known);
      return;
    }
    const pod = this.newPod(uid, object);
    this.pods.set(uid, pod);
    this.history.push(pod.record);
    this.advance(pod);
  }

  private seeGone(object: PodObject): void {
    const pod = this.pods.get(object.metadata.uid ?? '');
    if (pod) this.forget(pod);
  }

  private newPod(uid: string, object: PodObject): Pod {
    const { namespace = 'default', name } = object.metadata;
    const view = viewOf(object);
    const record: PodRecord = {
      namespace,
      name,
      uid,
      node: object.spec.nodeName ?? '',
      deletions: [],
    };
    return {
      record,
      view,
      behaviour: annotatedBehaviour(object) ?? this.options.behaviourOf?.(object) ?? {},
      path: `/api/v1/namespaces/${namespace}/pods/${name}`,
      state: view.phase === 'Pending' ? 'bound' : view.phase === 'Running' ? 'running' : 'ended',
      timer: undefined,
    };
  }

  private forget(pod: Pod): void {
    clearTimeout(pod.timer);
    this.pods.delete(pod.record.uid);
    pod.record.goneAt = Date.now();
    if (pod.state === 'running' || pod.state === 'ending') {
      pod.record.end = 'abandoned';
      pod.record.endedAt = pod.record.goneAt;
    }
    pod.state = 'ended';
  }

  /** Does what the pod's object calls for, if its machine runs. */
  private advance(pod: Pod): void {
    if (this.machines.get(pod.record.node)?.on !== true) return;
    if (pod.view.deletionTimestamp !== undefined) this.terminate(pod, pod.view.deletionTimestamp);
    else if (pod.state === 'bound') this.start(pod);
  }

  private start(pod: Pod): void {
    pod.state = 'starting';
    this.after(pod, pod.behaviour.startsAfterSeconds ?? 0, async () => {
      const { readyAfterSeconds = 0 } = pod.behaviour;
      await this.writeStatus(pod, readyAfterSeconds === 0);
      // A deletion may have been seen while the answer was on its way.
      if (!isStarting(pod)) return;
      pod.state = 'running';
      delete pod.record.end;
      delete pod.record.endedAt;
      pod.record.runningAt = Date.now();
      if (readyAfterSeconds === 0) pod.record.readyAt = pod.record.runningAt;
      this.run(pod, readyAfterSeconds);
    });
  }

  private run(pod: Pod, readyAfterSeconds: number | 'never', ranSeconds = 0): void {
    const { completesAfterSeconds } = pod.behaviour;
    if (readyAfterSeconds !== 'never' && readyAfterSeconds > 0) {
      this.after(pod, readyAfterSeconds, async () => {
        await this.writeStatus(pod, true);
        pod.record.readyAt = Date.now();
        this.run(pod, 0, readyAfterSeconds);
      });
    } else if (completesAfterSeconds !== undefined) {
      this.after(pod, Math.max(completesAfterSeconds - ranSeconds, 0), async () => {
        await this.writeLastPhase(pod, 'Succeeded');
        pod.state = 'ended';
        pod.record.end = 'completed';
        pod.record.endedAt = Date.now();
      });
    }
  }

  // A shortened grace begins anew at the moment the kubelet sees it (pod_workers.go,
  // calculateEffectiveGracePeriod: the running kill is cancelled and another one started), so SIGKILL
  // can even come later than it would have. A longer grace is ignored.
  private terminate(pod: Pod, deletionTimestamp: string): void {
    if (pod.state === 'ended') return;
    const graceSeconds = Math.max(pod.view.deletionGraceSeconds, 1);
    const last = pod.record.deletions.at(-1);
    if (last && graceSeconds >= last.graceSeconds && pod.state === 'ending') return;
    const seenAt = Date.now();
    const killAt = seenAt + Math.max(graceSeconds, minimumGraceSeconds) * 1000;
    pod.record.deletions.push({ seenAt, graceSeconds, killAt, deletionTimestamp });
    const ran = pod.state === 'running' || pod.state === 'ending';
    pod.state = 'ending';
    clearTimeout(pod.timer);
    if (!ran) {
      this.end(pod, 'exited');
      return;
    }
    if (pod.behaviour.neverEnds) return;
    const { exitsAfterSeconds = Infinity } = pod.behaviour;
    const exitAt = (pod.record.deletions[0]?.seenAt ?? seenAt) + exitsAfterSeconds * 1000;
    const end = exitAt <= killAt ? 'exited' : 'killed';
    pod.timer = setTimeout(() => this.end(pod, end), Math.min(exitAt, killAt) - seenAt);
  }

  private end(pod: Pod, end: 'exited' | 'killed'): void {
    pod.state = 'ended';
    // What the machine took down with it had ended then.
    if (pod.record.end !== 'lost') {
      pod.record.end = end;
      pod.record.endedAt = Date.now();
    }
    this.remove(pod);
  }

  private remove(pod: Pod): void {
    void this.untilDone(async () => {
      if (this.options.reportsLastPhase && pod.view.phase === 'Running') {
        await this.writeLastPhase(pod, pod.record.end === 'killed' ? 'Failed' : 'Succeeded');
      }
      const { uid } = pod.record;
      await this.api.delete(pod.path, { gracePeriodSeconds: 0, preconditions: { uid } });
    });
  }

  private after(pod: Pod, seconds: number, task: () => Promise<void>): void {
    if (seconds === 0) void this.untilDone(task);
    else pod.timer = setTimeout(() => void this.untilDone(task), seconds * 1000);
  }

  /** Tries until it succeeds or the pod turns out to be gone. */
  private async untilDone(task: () => Promise<void>): Promise<void> {
    while (!this.isStopped()) {
      try {
        await this.limit(task);
        return;
      } catch (error) {
        // 404: gone; 409: its name belongs to another pod by now.
        if (error instanceof ApiError && (error.status === 404 || error.status === 409)) return;
        if (this.isStopped()) return;
        this.options.onError?.(error);
        await delay(250, undefined, { signal: this.stopped.signal }).catch(() => undefined);
      }
    }
  }

  private isStopped(): boolean {
    return this.stopped.signal.aborted;
  }

  private async writeStatus(pod: Pod, ready: boolean): Promise<void> {
    const now = secondsTime(Date.now());
    const condition = (type: string, status: boolean) => ({
      type,
      status: status ? 'True' : 'False',
      lastTransitionTime: now,
    });
    this.lastAddress += 1;
    const podIP = `10.${(this.lastAddress >> 16) & 255}.${(this.lastAddress >> 8) & 255}.${this.lastAddress & 255}`;
    await this.api.patch(`${pod.path}/status`, {
      metadata: { uid: pod.record.uid },
      status: {
        phase: 'Running',
        startTime: now,
        podIP,
        podIPs: [{ ip: podIP }],
        conditions: [
          condition('PodScheduled', true),
          condition('Initialized', true),
          condition('ContainersReady', ready),
          condition('Ready', ready),
        ],
        containerStatuses: pod.view.containers.map((name) => ({
          name,
          image: 'none',
          imageID: '',
          restartCount: 0,
          ready,
          started: true,
          state: { running: { startedAt: now } },
        })),
      },
    });
  }

  private async writeLastPhase(pod: Pod, phase: 'Succeeded' | 'Failed'): Promise<void> {
    await this.api.patch(`${pod.path}/status`, {
      metadata: { uid: pod.record.uid },
      status: { phase, containerStatuses: null },
    });
  }

  private renewLeases(): void {
    for (const { name, on } of this.machines.values()) {
      if (on) void this.untilDone(async () => this.renewLease(name));
    }
  }

  /** Where admission puts `not-ready` on new nodes, the controller manager takes it away. */
  private async untilTaintsSettle(names: readonly string[]): Promise<NodeObject[]> {
    const deadline = performance.now() + 60_000;
    for (;;) {
      const begun = performance.now();
      const nodes = await this.api.list<NodeObject>('/api/v1/nodes');
      const byName = new Map(nodes.map((node) => [node.metadata.name, node]));
      const ours = names.map((name) => byName.get(name)).filter((node) => node !== undefined);
      const tainted = ours.filter(
        (node) =>
          hasNotReadyTaint(node) &&
          node.status?.conditions?.some(
            ({ type, status }) => type === 'Ready' && status === 'True',
          ),
      );
      if (tainted.length === 0) return ours;
      if (performance.now() > deadline) {
        throw new Error(
          `${tainted.length} nodes are still not-ready, ${tainted[0]?.metadata.name} first`,
        );
      }
      // A list of many nodes is dear: at most a tenth of the server's time goes into asking.
      await delay(50 + 10 * (performance.now() - begun), undefined, {
        signal: this.stopped.signal,
      });
    }
  }
}

function hasNotReadyTaint(node: NodeObject): boolean {
  return node.spec.taints?.some(({ key }) => key === notReady) ?? false;
}

/** An instance ID of the right shape: the number in its last digits, or random. */
export function instanceId(number?: number): string {
  const digits =
    number === undefined ? randomBytes(9).toString('hex') : number.toString(16).padStart(18, '0');
  return `i-${digits.slice(1)}`;
}

function nodeObject(spec: NodeSpec): NodeObject {
  const { name, zone = 'eu-central-1a', ready = true } = spec;
  const instance = spec.instanceId === undefined ? instanceId() : spec.instanceId;
  const providerID =
    spec.providerID ?? (instance === null ? undefined : `aws:///${zone}/${instance}`);
  const resources = { cpu: '64', memory: '256Gi', pods: '1000', 'ephemeral-storage': '1Ti' };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      labels: {
        'kubernetes.io/hostname': name,
        'kubernetes.io/os': 'linux',
        'kubernetes.io/arch': 'amd64',
        // Without these the controller manager adds them, and so writes to each new node.
        'beta.kubernetes.io/os': 'linux',
        'beta.kubernetes.io/arch': 'amd64',
        'topology.kubernetes.io/zone': zone,
        'topology.kubernetes.io/region': zone.slice(0, -1),
        ...spec.labels,
      },
      ...(spec.annotations ? { annotations: { ...spec.annotations } } : {}),
    },
    spec: {
      ...(providerID === undefined ? {} : { providerID }),
      ...(spec.taints ? { taints: [...spec.taints] } : {}),
      ...(spec.unschedulable === undefined ? {} : { unschedulable: spec.unschedulable }),
    },
    // A kubelet registers with its status, too.
    status: {
      capacity: resources,
      allocatable: resources,
      conditions: [readyCondition(ready)],
      addresses: [{ type: 'Hostname', address: name }],
      nodeInfo: {
        machineID: randomBytes(16).toString('hex'),
        systemUUID: spec.systemUUID ?? `ec2${randomUUID().slice(3)}`,
        bootID: spec.bootID ?? randomUUID(),
        kernelVersion: '6.12.0',
        osImage: 'Amazon Linux 2023',
        containerRuntimeVersion: 'containerd://2.1.0',
        kubeletVersion: 'v1.36.3',
        kubeProxyVersion: '',
        operatingSystem: 'linux',
        architecture: 'amd64',
      },
    },
  };
}

function readyCondition(ready: boolean, since = Date.now()) {
  return {
    type: 'Ready',
    status: ready ? ('True' as const) : ('False' as const),
    reason: ready ? 'KubeletReady' : 'KubeletNotReady',
    lastHeartbeatTime: secondsTime(Date.now()),
    lastTransitionTime: secondsTime(since),
  };
}

// The compiler takes what was assigned before an await for what is there after it.
function isStarting(pod: Pod): boolean {
  return pod.state === 'starting';
}

function viewOf(object: PodObject): PodView {
  const { metadata, spec, status } = object;
  return {
    phase: status?.phase ?? 'Pending',
    containers: spec.containers.map(({ name }) => name),
    deletionTimestamp: metadata.deletionTimestamp,
    deletionGraceSeconds: metadata.deletionGracePeriodSeconds ?? 0,
  };
}

function annotatedBehaviour(object: PodObject): PodBehaviour | undefined {
  const text = object.metadata.annotations?.[behaviourAnnotation];
  return text === undefined ? undefined : (JSON.parse(text) as PodBehaviour);
}
