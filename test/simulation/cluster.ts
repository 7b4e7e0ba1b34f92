import type { Clock, Timer } from '../../src/clock.ts';
import { HOLD_KEY, INTERRUPTION_KEY, JOURNAL_KEY, UNSCHEDULABLE_KEY } from '../../src/plan/node.ts';
import type { Chance } from '../sandbox/chance.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { ApiServer, isUnfinished, podKey, type RawNode, type RawPod } from './api-server.ts';
import type { Happened } from './record.ts';
import type { Meddling, NodeSpec, Workload } from './storm.ts';

/** An instance, and the kubelet on it. */
export type Machine = {
  readonly name: string;
  readonly instanceId: string;
  isOn: boolean;
  /** For good. */
  isGone: boolean;
  boot: number;
  /** When it was last started, and switched off. */
  onSince: number;
  offSince: number;
  /** Its Node is there, or has been. */
  hasJoined: boolean;
};

type Running = { readonly workload: Workload; readyAt: number; killing: Timer | undefined };

const KUBELET_RENEWS_MS = 10_000;
const NOT_READY_AFTER_MS = 40_000;
const OTHER_TAINT = { key: 'example.com/other', value: 'x', effect: 'NoSchedule' };

/** Nodes, machines and pods: what Kubernetes and kubelets do by themselves. */
export class SimulatedCluster {
  readonly api: ApiServer;
  readonly machines = new Map<string, Machine>();
  private readonly running = new Map<string, Running>();
  private readonly workloads: readonly Workload[];
  private readonly clock: Clock;
  private readonly chance: Chance;
  private readonly record: (happened: Happened) => void;

  constructor(
    workloads: readonly Workload[],
    clock: Clock,
    chance: Chance,
    record: (happened: Happened) => void,
  ) {
    this.workloads = workloads;
    this.clock = clock;
    this.chance = chance;
    this.record = record;
    this.api = new ApiServer({
      now: () => clock.now(),
      refusedBy: (pod) => this.refusedBy(pod),
      podTerminates: (before, after) => this.terminates(before, after),
    });
  }

  addMachines(specs: readonly NodeSpec[]): void {
    for (const [i, { name, joinsAt }] of specs.entries()) {
      const machine: Machine = {
        name,
        instanceId: instanceIdOf(i + 1),
        isOn: false,
        isGone: false,
        boot: 1,
        onSince: this.clock.now(),
        offSince: this.clock.now(),
        hasJoined: false,
      };
      this.machines.set(name, machine);
      if (joinsAt === 0) this.join(machine, true);
      else {
        this.clock.after(joinsAt, () => {
          this.join(machine, false);
          this.clock.after(this.chance.between(2000, 15_000), () => this.setReady(machine, true));
        });
      }
    }
  }

  /** All pods that there are to be, wherever there is room. */
  deploy(): void {
    for (const workload of this.workloads) {
      if (workload.kind === 'DaemonSet') continue;
      for (let i = 0; i < workload.replicas; i += 1) {
        const name = workload.kind === 'StatefulSet' ? `${workload.name}-${i}` : undefined;
        const pod = this.place(workload, name);
        if (pod !== undefined) this.readyNow(pod);
      }
    }
  }

  machineOf(instanceId: string): Machine | undefined {
    return [...this.machines.values()].find((machine) => machine.instanceId === instanceId);
  }

  /** When its kubelet last renewed its Lease; undefined: there is no Lease. */
  kubeletRenewedAt(nodeName: string): number | undefined {
    const machine = this.machines.get(nodeName);
    if (machine === undefined || !this.api.nodes.has(nodeName)) return undefined;
    const now = machine.isOn ? this.clock.now() : machine.offSince;
    return (
      machine.onSince + Math.floor((now - machine.onSince) / KUBELET_RENEWS_MS) * KUBELET_RENEWS_MS
    );
  }

  workloadOf(pod: RawPod): Workload | undefined {
    return this.running.get(pod.metadata.uid)?.workload;
  }

  /** Whether a drain is to make it leave. */
  isToLeave(pod: RawPod): boolean {
    const kind = this.workloadOf(pod)?.kind;
    return isUnfinished(pod) && kind !== 'DaemonSet' && kind !== 'mirror';
  }

  podsOn(nodeName: string): readonly RawPod[] {
    return [...this.api.pods.values()].filter(({ spec }) => spec.nodeName === nodeName);
  }

  volumeOf(claim: string): string | undefined {
    return `volume-of-${claim}`;
  }

  // ── machines ────────────────────────────────────────────────────────────────────────────────

  switchOff(machine: Machine): void {
    if (!machine.isOn) return;
    machine.isOn = false;
    machine.offSince = this.clock.now();
    this.record({ what: 'machine off', node: machine.name });
    for (const pod of this.podsOn(machine.name))
      this.running.get(pod.metadata.uid)?.killing?.cancel();
    const { boot } = machine;
    this.clock.after(NOT_READY_AFTER_MS, () => {
      if (!machine.isOn && machine.boot === boot) this.setReady(machine, false);
    });
  }

  /** Its Node is taken away soon after, and its pods with it. */
  terminate(machine: Machine): void {
    if (machine.isGone) return;
    this.switchOff(machine);
    machine.isGone = true;
    this.clock.after(this.chance.between(2000, 50_000), () => this.removeNode(machine.name));
  }

  /** Started anew: another boot, the same disk. */
  switchOn(machine: Machine): void {
    if (machine.isOn || machine.isGone) return;
    machine.isOn = true;
    machine.boot += 1;
    machine.onSince = this.clock.now();
    this.record({ what: 'machine on', node: machine.name });
    const node = this.api.nodes.get(machine.name);
    if (node === undefined) this.join(machine, false);
    else {
      const status = {
        ...node.status,
        nodeInfo: { ...node.status.nodeInfo, bootID: bootIdOf(machine) },
      };
      this.write('kubelet', node, { ...node, status });
    }
    this.clock.after(this.chance.between(500, 4000), () => this.setReady(machine, true));
    for (const pod of this.podsOn(machine.name)) {
      if (pod.metadata.deletionTimestamp !== undefined) this.kill(pod, 1000);
    }
  }

  private join(machine: Machine, isReady: boolean): void {
    if (machine.isGone || this.api.nodes.has(machine.name)) return;
    if (!machine.isOn) machine.onSince = this.clock.now();
    machine.isOn = true;
    machine.hasJoined = true;
    const node = this.api.putNode({
      metadata: {
        name: machine.name,
        uid: this.api.newUid(machine.name),
        resourceVersion: '',
        labels: { 'topology.kubernetes.io/zone': 'eu-central-1a' },
        annotations: {},
      },
      spec: { providerID: `aws:///eu-central-1a/${machine.instanceId}` },
      status: {
        conditions: [this.readyCondition(isReady)],
        nodeInfo: { systemUUID: `uuid-of-${machine.instanceId}`, bootID: bootIdOf(machine) },
      },
    });
    this.record({
      what: 'node written',
      by: 'kubelet',
      isOurs: false,
      before: undefined,
      after: node,
    });
    for (const workload of this.workloads) {
      if (workload.kind === 'DaemonSet') this.bind(workload, machine.name, undefined);
    }
  }

  private setReady(machine: Machine, isReady: boolean): void {
    const node = this.api.nodes.get(machine.name);
    if (node === undefined || machine.isOn !== isReady) return;
    const status = { ...node.status, conditions: [this.readyCondition(isReady)] };
    this.write('kubelet', node, { ...node, status });
  }

  private readyCondition(isReady: boolean) {
    return {
      type: 'Ready',
      status: isReady ? 'True' : 'Unknown',
      lastTransitionTime: new Date(this.clock.now()).toISOString(),
    };
  }

  private removeNode(name: string): void {
    const node = this.api.removeNode(name);
    if (node === undefined) return;
    this.record({ what: 'node gone', node });
    this.clock.after(1000, () => {
      if (this.api.nodes.has(name)) return;
      for (const pod of this.podsOn(name)) this.remove(pod);
    });
  }

  // ── other writers ───────────────────────────────────────────────────────────────────────────

  meddle({ what, node: name }: Meddling): void {
    const node = this.api.nodes.get(name);
    if (node === undefined) return;
    const { metadata, spec } = node;
    const { labels, annotations } = metadata;
    const taints = spec.taints ?? [];
    const unheld = without(annotations, HOLD_KEY);
    const forgotten = without(annotations, JOURNAL_KEY);
    this.record({ what: 'someone', did: what, node: name });
    switch (what) {
      case 'cordons':
        if (spec.unschedulable !== true)
          this.write('someone', node, { ...node, spec: { ...spec, unschedulable: true } });
        return;
      case 'un-cordons':
        if (spec.unschedulable === true) {
          // The control plane's part of it.
          const left = taints.filter(({ key }) => key !== UNSCHEDULABLE_KEY);
          const changed = { ...spec, unschedulable: false, taints: left };
          this.write('someone', node, { ...node, spec: changed });
        }
        return;
      case 'adds a taint':
        this.write('someone', node, {
          ...node,
          spec: { ...spec, taints: [...taints, OTHER_TAINT] },
        });
        return;
      case 'removes a taint':
        this.write('someone', node, {
          ...node,
          spec: { ...spec, taints: taints.filter(({ key }) => key !== OTHER_TAINT.key) },
        });
        return;
      case 'adds a label':
        this.write('someone', node, {
          ...node,
          metadata: {
            ...metadata,
            labels: { ...labels, 'example.com/other': String(this.clock.now()) },
          },
        });
        return;
      case 'removes our taint':
        this.write('someone', node, {
          ...node,
          spec: { ...spec, taints: taints.filter(({ key }) => key !== INTERRUPTION_KEY) },
        });
        return;
      case 'removes our journal':
        this.write('someone', node, { ...node, metadata: { ...metadata, annotations: forgotten } });
        return;
      case 'holds':
        this.write('someone', node, {
          ...node,
          metadata: { ...metadata, annotations: { ...annotations, [HOLD_KEY]: '' } },
        });
        return;
      case 'releases':
        this.write('someone', node, { ...node, metadata: { ...metadata, annotations: unheld } });
        return;
      case 'deletes a pod': {
        const pods = this.podsOn(name).filter((pod) => this.isToLeave(pod));
        const named = pods.filter((pod) => this.workloadOf(pod)?.kind === 'StatefulSet');
        if (named.length > 0)
          this.api.deletePod(podKey(this.chance.pick(named)), { gracePeriodSeconds: 1 });
        else if (pods.length > 0)
          this.api.deletePod(podKey(this.chance.pick(pods)), { gracePeriodSeconds: 1 });
        return;
      }
      case 'registers anew': {
        const machine = this.machines.get(name);
        if (machine?.isOn !== true) return;
        this.removeNode(name);
        this.clock.after(this.chance.between(100, 800), () => {
          if (machine.isOn) this.join(machine, true);
        });
        return;
      }
      default:
        throw new Error(`unexpected meddling: ${String(what satisfies never)}`);
    }
  }

  private write(by: string, before: RawNode, after: RawNode): void {
    const stored = this.api.putNode(after);
    this.record({ what: 'node written', by, isOurs: false, before, after: stored });
  }

  // ── pods ────────────────────────────────────────────────────────────────────────────────────

  private refusedBy(pod: RawPod): string | undefined {
    const workload = this.workloadOf(pod);
    if (workload?.minAvailable === undefined) return undefined;
    const now = this.clock.now();
    let healthy = 0;
    for (const other of this.api.pods.values()) {
      const running = this.running.get(other.metadata.uid);
      if (running?.workload !== workload || other.metadata.deletionTimestamp !== undefined)
        continue;
      if (running.readyAt <= now && this.machines.get(other.spec.nodeName)?.isOn === true)
        healthy += 1;
    }
    return healthy - 1 < workload.minAvailable ? workload.name : undefined;
  }

  /** Somewhere it may run; tried again later where there is no such place. */
  private place(workload: Workload, name: string | undefined): RawPod | undefined {
    const places = [...this.api.nodes.values()].filter((node) => this.mayRun(workload, node));
    if (places.length === 0) {
      this.clock.after(5000, () => this.place(workload, name));
      return undefined;
    }
    return this.bind(workload, this.chance.pick(places).metadata.name, name);
  }

  private mayRun(workload: Workload, { spec, status }: RawNode): boolean {
    if (status.conditions[0]?.status !== 'True') return false;
    if (workload.tolerates === true) return true;
    if (spec.unschedulable === true) return false;
    return (spec.taints ?? []).every(({ effect }) => effect === 'PreferNoSchedule');
  }

  private bind(workload: Workload, nodeName: string, podName: string | undefined): RawPod {
    const name = podName ?? `${workload.name}-${this.api.newUid('p').slice(2)}`;
    const { kind } = workload;
    const owner =
      kind === 'mirror'
        ? { kind: 'Node', name: nodeName, uid: nodeName, controller: true }
        : { kind, name: workload.name, uid: `owner-of-${workload.name}`, controller: true };
    const pod = this.api.putPod({
      metadata: {
        name,
        namespace: 'shop',
        uid: this.api.newUid(name),
        resourceVersion: '',
        ...(kind === 'mirror' && { annotations: { 'kubernetes.io/config.mirror': 'x' } }),
        ...(kind !== 'bare' && { ownerReferences: [owner] }),
      },
      spec: {
        nodeName,
        terminationGracePeriodSeconds: workload.graceSeconds,
        ...(workload.isCritical === true && { priorityClassName: 'system-cluster-critical' }),
        ...((workload.tolerates === true || kind === 'DaemonSet') && {
          tolerations: [{ operator: 'Exists' }],
        }),
        ...(workload.hasVolume === true && {
          volumes: [{ name: 'data', persistentVolumeClaim: { claimName: `claim-${name}` } }],
        }),
      },
      status: { phase: kind === 'Job' ? 'Succeeded' : 'Running' },
    });
    const readyAt = this.clock.now() + this.chance.between(500, 8000);
    this.running.set(pod.metadata.uid, { workload, readyAt, killing: undefined });
    if (workload.hasVolume === true) {
      const volumes = this.api.attached.get(nodeName) ?? new Set();
      this.api.attached.set(nodeName, volumes.add(volumeOfPod(pod)));
    }
    this.record({ what: 'pod bound', pod });
    return pod;
  }

  private readyNow(pod: RawPod): void {
    const running = this.running.get(pod.metadata.uid);
    if (running !== undefined) running.readyAt = this.clock.now();
  }

  /** The kubelet counts a shortened grace from when it sees it. */
  private terminates(before: RawPod, after: RawPod): void {
    const running = this.running.get(after.metadata.uid);
    if (running === undefined) return;
    const { workload } = running;
    const isFirst = before.metadata.deletionTimestamp === undefined;
    if (isFirst && workload.kind === 'ReplicaSet') {
      this.clock.after(this.chance.between(100, 1500), () => this.place(workload, undefined));
    }
    const graceMs = (after.metadata.deletionGracePeriodSeconds ?? 0) * 1000;
    this.kill(after, isFirst ? Math.min(graceMs, workload.endsAfterSeconds * 1000) : graceMs);
  }

  private kill(pod: RawPod, afterMs: number): void {
    const running = this.running.get(pod.metadata.uid);
    const machine = this.machines.get(pod.spec.nodeName);
    if (running === undefined) return;
    running.killing?.cancel();
    if (machine?.isOn !== true || running.workload.isStuck === true) return;
    running.killing = this.clock.after(afterMs + this.chance.between(20, 400), () =>
      this.remove(pod),
    );
  }

  private remove(pod: RawPod): void {
    const { uid } = pod.metadata;
    const running = this.running.get(uid);
    running?.killing?.cancel();
    const present = this.api.pods.get(podKey(pod));
    if (present?.metadata.uid !== uid) return;
    this.api.removePod(pod);
    this.record({ what: 'pod gone', pod: present });
    this.running.delete(uid);
    if (running === undefined) return;
    const { workload } = running;
    if (workload.hasVolume === true) {
      this.clock.after(this.chance.between(200, 4000), () => {
        this.api.attached.get(pod.spec.nodeName)?.delete(volumeOfPod(pod));
      });
    }
    if (workload.kind === 'StatefulSet') {
      this.clock.after(this.chance.between(20, 800), () => this.place(workload, pod.metadata.name));
    }
    // Else its replacement is there already.
    const wasTerminating = present.metadata.deletionTimestamp !== undefined;
    if (workload.kind === 'ReplicaSet' && !wasTerminating) {
      this.clock.after(this.chance.between(100, 1500), () => this.place(workload, undefined));
    }
  }
}

function without(labels: Readonly<Record<string, string>>, key: string): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => name !== key));
}

function bootIdOf({ name, boot }: Machine): string {
  return `boot-${boot}-of-${name}`;
}

function volumeOfPod({ metadata }: RawPod): string {
  return `volume-of-${metadata.namespace}/claim-${metadata.name}`;
}
