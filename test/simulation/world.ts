import { parse } from '../../src/events/parse.ts';
import { newsOf, roleOf, type NodeEvent } from '../../src/plan/interruption.ts';
import { JOURNAL_KEY } from '../../src/plan/node.ts';
import {
  capacityReservationInterruption,
  launchHook,
  rebalance,
  scheduledChange,
  spotNotice,
  stateChange,
  terminateHook,
  testNotification,
} from '../harness/messages.ts';
import { seededChance, type Chance } from '../sandbox/chance.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { FakeAutoScaling } from '../stand-ins/ports/lifecycle-hooks.ts';
import { FakeSqs } from '../stand-ins/ports/queue.ts';
import { VirtualClock } from '../stand-ins/virtual-clock.ts';
import { SimulatedCluster, type Machine } from './cluster.ts';
import type { Outside } from './connection.ts';
import { Hash, lineOf, type Entry, type Happened } from './record.ts';
import { Replica, type ControllerPolicy, type Mutation, type ReplicaWorld } from './replica.ts';
import { FAULTS_END_MS, type Interruption, type Noise, type Storm } from './storm.ts';
import type { CrashPoint, Mishap, Port } from './way.ts';

/** One true reason to empty a node, as AWS knows it. Times are epoch ms. */
export type Reason = {
  readonly kind: Interruption['kind'];
  readonly machine: Machine;
  /** Of the machine when it was given. */
  readonly id: string;
  readonly isPaced: boolean;
  /** When AWS issued it; of a change, its first news. */
  readonly time: number;
  readonly token: string | undefined;
  /** When the machine goes; undefined: not by itself. */
  deadlineAt: number | undefined;
  windowStartAt: number;
  /** Of a scheduled change: the start that each of its versions names, oldest first. */
  readonly starts: { readonly updatedAt: number; readonly startAt: number }[];
  /** When a process was first handed a message of it. */
  receivedAt: number | undefined;
  /** Since when the machine shows that it is over it; Infinity: it does not. */
  overAt: number;
};

type ReasonOf = (
  facts: Pick<Reason, 'id' | 'deadlineAt'> &
    Partial<Pick<Reason, 'isPaced' | 'token' | 'windowStartAt'>>,
) => Reason;

/** `timers` undefined: nobody leads. */
export type Rest = Readonly<{ timers: number | undefined; journals: string }>;

/** What a message tells of. */
export type Sent = Readonly<{
  id: string;
  reason: Reason | undefined;
  noise: Noise['what'] | undefined;
  instanceId: string | undefined;
  launchToken: string | undefined;
  /** What is to be found in the journal; undefined: nothing is. */
  event: NodeEvent | undefined;
  /** Its interruption's identity there. */
  identity: string | undefined;
}> & { receivedAt: number | undefined; receives: number };

export type HookAction = Readonly<{
  token: string;
  machine: Machine;
  isOurs: boolean;
  isLaunch: boolean;
  beganAt: number;
  timeoutSeconds: number;
}> & { end: 'completed by us' | 'completed by others' | 'expired' | undefined; endedAt: number };

export type WorldOptions = Readonly<{
  mutation?: Mutation;
  hasCrashes?: boolean;
  keepsTimeline?: boolean;
}>;

/** Chance of its own for each part, so that what one of them draws changes nothing for the others. */
const STREAMS = { cluster: 1, latency: 2, faults: 3, process: 100 };

/** Of so many storms, in one: it is a turn each second, for what never happens. */
const SELF_WATCHED = 5;

/** After whatever happens last: machines start, pods end, drains settle. */
const SETTLES_MS = 60_000;

/** How long one fault is felt: the time of its answer, and the back-off that follows. */
const FAULT_FELT_MS = 4000;
const SILENCE_FELT_MS = 18_000;
const LEASE_RUNS_OUT_MS = 22_000;

export const MARGIN_MS = 5000;
export const UNKNOWN_GRACE_SECONDS = 60;
/**
 * Clocks of processes differ by this much at most, and what they are told is so much later than it
 * happens, when nothing is wrong.
 */
export const SKEW_MS = 1600;
export const NEWS_MS = 2500;

/** One storm, from its beginning to its end: all that lies outside of the controller, and the controller's processes. */
export class World implements ReplicaWorld {
  readonly storm: Storm;
  readonly clock: VirtualClock;
  readonly chance: Chance;
  readonly startedAt: number;
  readonly cluster: SimulatedCluster;
  readonly sqs: FakeSqs;
  readonly autoScaling: FakeAutoScaling;
  readonly outside: Outside;
  readonly policy: ControllerPolicy;
  readonly mutation: Mutation;
  readonly isElected: boolean;
  readonly watchesItself: boolean;
  readonly keepsLogs: boolean;
  readonly reasons: Reason[] = [];
  readonly messages = new Map<string, Sent>();
  readonly hooks = new Map<string, HookAction>();
  readonly replicas = new Set<Replica>();
  readonly crashHits = new Map<string, number>();
  /** When something last went wrong, by what was hit: the API server, the queue, Auto Scaling, the process. */
  readonly troubles: {
    at: number;
    until: number;
    of: 'api' | 'queue' | 'auto-scaling' | 'process';
  }[] = [];
  readonly faultsOfOurs: string[] = [];
  faults = 0;
  readonly timeline: Entry[] = [];
  private readonly hash = new Hash();
  private readonly listeners: ((entry: Entry) => void)[] = [];
  private readonly latencies: Chance;
  private readonly faultChance: Chance;
  private readonly calls = new Map<Port, number>();
  private readonly drops = new Set<(how: 'end' | 'reset') => void>();
  private readonly options: WorldOptions;
  private lag = { ms: 0, until: -Infinity };
  private incarnations = 0;
  private quietFrom = 0;
  private isOver = false;

  constructor(storm: Storm, options: WorldOptions = {}) {
    this.storm = storm;
    this.options = options;
    this.clock = new VirtualClock(storm.seed);
    this.startedAt = this.clock.now();
    this.chance = seededChance(storm.seed * 1000 + STREAMS.cluster);
    this.latencies = seededChance(storm.seed * 1000 + STREAMS.latency);
    this.faultChance = seededChance(storm.seed * 1000 + STREAMS.faults);
    this.mutation = options.mutation ?? {};
    this.isElected = storm.replicas === 'elected';
    this.watchesItself = storm.seed % SELF_WATCHED === 0;
    this.keepsLogs = options.keepsTimeline === true;
    this.sqs = new FakeSqs(this.clock);
    this.autoScaling = new FakeAutoScaling(this.clock);
    this.cluster = new SimulatedCluster(storm.workloads, this.clock, this.chance, (happened) =>
      this.record(happened),
    );
    this.policy = policyOf(storm);
    const { cluster } = this;
    this.outside = {
      api: cluster.api,
      watches: {
        lagMs: () => {
          const lagMs = this.clock.now() < this.lag.until ? this.lag.ms : 0;
          return lagMs + 1 + Math.floor(this.latencies.next() ** 3 * 120);
        },
        onDrop: (drop) => {
          this.drops.add(drop);
          return () => this.drops.delete(drop);
        },
      },
      kubeletRenewedAt: (name) => cluster.kubeletRenewedAt(name),
      volumeOf: (claim) => cluster.volumeOf(claim),
      record: (happened) => this.record(happened),
    };
  }

  now(): number {
    return this.clock.now();
  }

  on(listener: (entry: Entry) => void): void {
    this.listeners.push(listener);
  }

  record(happened: Happened): void {
    if (this.isOver) return;
    const entry = { ...happened, at: this.clock.now() };
    this.notice(entry);
    if (this.keepsLogs) {
      this.timeline.push(entry);
      this.hash.add(lineOf(entry, this.startedAt));
    }
    for (const listener of this.listeners) listener(entry);
  }

  /** Of the whole timeline, if it is kept. */
  hashOfTimeline(): string {
    return this.hash.text();
  }

  /** Sets everything going; what happens then takes time. */
  begin(): void {
    const { storm, cluster } = this;
    cluster.addMachines(storm.nodes);
    cluster.deploy();
    for (const interruption of storm.interruptions)
      this.at(interruption.at, () => this.interrupt(interruption));
    for (const { joinsAt, launchHookSeconds, name } of storm.nodes) {
      if (launchHookSeconds !== undefined)
        this.at(Math.max(0, joinsAt - 20_000), () => this.launch(name, launchHookSeconds));
    }
    for (const [i, noise] of storm.noise.entries())
      this.at(noise.at, () => this.makeNoise(noise, i));
    for (const meddling of storm.meddlings) this.at(meddling.at, () => cluster.meddle(meddling));
    for (const fault of storm.watchFaults) this.at(fault.at, () => this.disturbWatches(fault));
    for (const { at, ms } of storm.freezes) this.at(at, () => this.freeze(ms));
    for (const at of storm.restarts) this.at(at, () => this.restart());
    this.at(FAULTS_END_MS, () => this.record({ what: 'faults end' }));
    this.startReplica('a');
    if (this.isElected) this.at(300, () => this.startReplica('b'));
    if (storm.replicas === 'overlapping') {
      this.at(30_000, () => this.startReplica('b'));
      this.at(90_000, () => {
        for (const replica of this.replicas)
          if (replica.slot === 'a') this.stopReplica(replica, false);
      });
    }
  }

  /** Whether nothing more will happen by itself for long: all is sent, and received, and no grace runs. */
  isQuiet(): boolean {
    const now = this.clock.now();
    if (now < this.quietFrom || this.leader() === undefined) return false;
    if (this.sqs.ids.some((id) => this.messages.get(id)?.noise !== 'rubbish')) return false;
    if ([...this.hooks.values()].some(({ isOurs, end }) => isOurs && end === undefined))
      return false;
    const troubledUntil = Math.max(...this.troubles.map(({ until }) => until), 0);
    return now >= troubledUntil + 40_000;
  }

  /** What a process at rest does, and what it knows. */
  restOfLeader(): Rest {
    const nodes = [...this.cluster.api.nodes.values()];
    return {
      timers: this.leader()?.way.clock.timers,
      journals: nodes.map(({ metadata }) => metadata.annotations[JOURNAL_KEY] ?? '').join('\n'),
    };
  }

  /** Every process ends in good order; then another begins, which knows nothing but what is written. */
  async beginAnew(): Promise<void> {
    await this.stopAll();
    this.startReplica('a');
  }

  private async stopAll(): Promise<void> {
    const stopping = [...this.replicas].map((replica) => replica.stop());
    await this.clock.resolved(Promise.all(stopping), 60_000);
  }

  /** Ends every process, in good order. */
  async end(): Promise<void> {
    await this.stopAll();
    this.isOver = true;
  }

  /** Whether anything was wrong with these between the two moments. */
  wasTroubled(from: number, to: number, of: readonly World['troubles'][number]['of'][]): boolean {
    return this.troubles.some(
      (trouble) => of.includes(trouble.of) && trouble.at <= to && trouble.until >= from,
    );
  }

  /** Whether a process has led all the time between the two moments. */
  leader(): Replica | undefined {
    return [...this.replicas].find(({ isLeading }) => isLeading);
  }

  // ── weather ─────────────────────────────────────────────────────────────────────────────────

  latencyMs(port: Port): number {
    return 1 + Math.floor(this.latencies.next() ** 4 * (port.startsWith('hook') ? 400 : 60));
  }

  nextCall(port: Port): number {
    const call = (this.calls.get(port) ?? 0) + 1;
    this.calls.set(port, call);
    return call;
  }

  crashes(_process: string, port: Port, call: number, point: CrashPoint): boolean {
    if (this.options.hasCrashes === false || !this.isStormy()) return false;
    const hit = this.storm.crashes.some(
      (crash) => crash.port === port && crash.call === call && crash.point === point,
    );
    if (hit)
      this.crashHits.set(`${port}: ${point}`, (this.crashHits.get(`${port}: ${point}`) ?? 0) + 1);
    return hit;
  }

  mishap(_process: string, port: Port): Mishap | undefined {
    if (!this.isStormy()) return undefined;
    const now = this.clock.now() - this.startedAt;
    for (const { fromMs, toMs, ports, trouble, hasEffect, share } of this.storm.faults) {
      if (now < fromMs || now >= toMs || !ports.includes(port)) continue;
      if (this.faultChance.next() < share)
        return { trouble, hasEffect: hasEffect && trouble !== 'overload' };
    }
    return undefined;
  }

  private isStormy(): boolean {
    return this.clock.now() < this.startedAt + FAULTS_END_MS;
  }

  private disturbWatches(fault: Storm['watchFaults'][number]): void {
    const now = this.clock.now();
    if (fault.what === 'lag') {
      this.lag = { ms: fault.lagMs, until: now + fault.forMs };
      this.troubles.push({ at: now, until: now + fault.forMs + fault.lagMs, of: 'api' });
      return;
    }
    this.faults += 1;
    this.troubles.push({ at: now, until: now + 3000, of: 'api' });
    if (fault.what === 'compaction') this.cluster.api.compact();
    for (const drop of this.drops) drop(fault.what === 'end' ? 'end' : 'reset');
  }

  // ── processes ───────────────────────────────────────────────────────────────────────────────

  onDeath(replica: Replica): void {
    this.replicas.delete(replica);
  }

  onFault(process: string, message: string): void {
    this.faultsOfOurs.push(`${process}: ${message}`);
  }

  private startReplica(slot: string): void {
    if (this.isOver || [...this.replicas].some((replica) => replica.slot === slot)) return;
    const number = (this.incarnations += 1);
    const skewMs = this.storm.skewsMs[number % this.storm.skewsMs.length] ?? 0;
    const seed = this.storm.seed * 1000 + STREAMS.process + number;
    const replica = new Replica(slot, number, skewMs, seed, this);
    this.replicas.add(replica);
    replica.start();
  }

  private stopReplica(replica: Replica, hasSuccessor: boolean): void {
    this.troubles.push({ at: this.clock.now(), until: this.clock.now() + 5000, of: 'process' });
    void replica.stop().then(() => {
      if (hasSuccessor) this.clock.after(500, () => this.startReplica(replica.slot));
    });
  }

  private restart(): void {
    const [replica] = this.replicas;
    if (replica !== undefined) this.stopReplica(replica, true);
  }

  private freeze(ms: number): void {
    const leader = this.leader();
    if (leader === undefined) return;
    this.record({ what: 'process frozen', process: leader.way.process, ms });
    const now = this.clock.now();
    this.troubles.push({ at: now, until: now + ms + 3000, of: 'process' });
    leader.way.clock.freeze(ms);
  }

  private notice(entry: Entry): void {
    const { at, what } = entry;
    if (what === 'crash') this.bringBack(entry);
    else if (what === 'hook completed') this.endHook(entry.token, 'completed by us');
    else if (what === 'fault') {
      this.faults += 1;
      const lastsMs = entry.answer.startsWith('silence') ? SILENCE_FELT_MS : FAULT_FELT_MS;
      this.troubles.push({ at, until: at + lastsMs, of: partOf(entry.port) });
    } else if (what === 'message received') {
      const sent = this.messages.get(entry.message);
      if (sent === undefined) return;
      sent.receivedAt ??= at;
      sent.receives += 1;
      if (sent.reason !== undefined) sent.reason.receivedAt ??= at;
    }
  }

  /** A successor, or the same container anew. */
  private bringBack({ at, process, port, point }: Extract<Entry, { what: 'crash' }>): void {
    const crash = this.storm.crashes.find(
      (planned) => planned.port === port && planned.point === point,
    );
    const replica = [...this.replicas].find(({ way }) => way.process === process);
    if (crash === undefined || replica === undefined) return;
    const { slot } = replica;
    // A standby waits for the Lease to run out.
    const until = at + (this.isElected ? LEASE_RUNS_OUT_MS : crash.downMs + 3000);
    this.troubles.push({ at, until, of: 'process' });
    this.clock.after(crash.downMs, () => {
      const isRetired =
        this.storm.replicas === 'overlapping' &&
        slot === 'a' &&
        this.clock.now() > this.startedAt + 90_000;
      if (!isRetired) this.startReplica(slot);
    });
  }

  // ── what AWS does ───────────────────────────────────────────────────────────────────────────

  private interrupt(spec: Interruption): void {
    const machine = this.cluster.machines.get(spec.node);
    if (machine === undefined || machine.isGone || !machine.isOn) return;
    const now = this.clock.now();
    const time = Math.floor(now / 1000) * 1000;
    const { instanceId } = machine;
    const reasonOf: ReasonOf = (facts) => this.reasonFor(machine, spec.kind, { time, ...facts });
    const fields = { instanceId, time, id: `event-${this.messages.size}` };
    switch (spec.kind) {
      case 'spot': {
        const id = spec.action === 'stop' ? 'spot-stop' : 'spot-interruption';
        const reason = reasonOf({ id, deadlineAt: time + 120_000 });
        this.send(spotNotice({ ...fields, action: spec.action }), spec.copies, { reason });
        if (spec.fate === 'goes') this.atTime(time + 120_000, () => this.terminate(machine));
        if (spec.fate === 'returns')
          this.atTime(time + 120_000, () => this.stopAndStart(machine, reason, 75_000));
        return;
      }
      case 'capacity-reservation': {
        const at = time + Math.floor(spec.noticeMs / 1000) * 1000;
        const reason = reasonOf({ id: 'capacity-reservation', deadlineAt: at });
        this.send(
          capacityReservationInterruption({ ...fields, terminationTime: at }),
          spec.copies,
          { reason },
        );
        this.atTime(at, () => this.terminate(machine));
        return;
      }
      case 'rebalance': {
        const reason = reasonOf({ id: 'rebalance', deadlineAt: undefined, isPaced: true });
        this.send(rebalance(fields), spec.copies, { reason });
        if (spec.rebootsAfterMs !== undefined)
          this.at(this.sinceStart() + spec.rebootsAfterMs, () => this.reboot(machine, [reason]));
        return;
      }
      case 'hook':
        this.beginHook(machine, spec, time, reasonOf);
        return;
      case 'reboot':
        this.schedule(machine, spec, time, reasonOf);
        return;
      case 'stopping': {
        const reason = reasonOf({ id: 'stopping', deadlineAt: time + 30_000 });
        this.send(stateChange({ ...fields, state: 'stopping' }), spec.copies, { reason });
        this.atTime(time + 30_000, () => this.stopAndStart(machine, reason, spec.returnsAfterMs));
        return;
      }
      case 'shutting-down': {
        const reason = reasonOf({ id: 'shutting-down', deadlineAt: time + 30_000 });
        this.send(stateChange({ ...fields, state: 'shutting-down' }), spec.copies, { reason });
        this.atTime(time + 30_000, () => this.terminate(machine, false));
        return;
      }
      default:
        throw new Error(`unexpected kind: ${JSON.stringify(spec satisfies never)}`);
    }
  }

  private reasonFor(
    machine: Machine,
    kind: Reason['kind'],
    facts: Parameters<ReasonOf>[0] & Pick<Reason, 'time'>,
  ): Reason {
    const reason: Reason = {
      kind,
      machine,
      isPaced: false,
      token: undefined,
      windowStartAt: facts.time,
      starts: [],
      receivedAt: undefined,
      overAt: Infinity,
      ...facts,
    };
    this.reasons.push(reason);
    return reason;
  }

  private beginHook(
    machine: Machine,
    { group, timeoutSeconds, copies }: Extract<Interruption, { kind: 'hook' }>,
    time: number,
    reasonOf: ReasonOf,
  ): void {
    const token = `token-${this.hooks.size + 1}`;
    const hook = `drain-${timeoutSeconds}`;
    const { instanceId } = machine;
    this.beginAction({ token, machine, group, hook, timeoutSeconds, isLaunch: false });
    const reason = reasonOf({
      id: `hook/${token}`,
      deadlineAt: time + timeoutSeconds * 1000,
      token,
    });
    this.send(
      terminateHook({ instanceId, group, hook, token, time, id: `event-${token}` }),
      copies,
      { reason },
    );
    if (group === 'theirs') {
      this.later(40_000, () => {
        if (this.autoScaling.complete({ group, hook, token, instanceId }).outcome === 'accepted') {
          this.endHook(token, 'completed by others');
        }
      });
    }
  }

  private beginAction(
    action: Readonly<{
      token: string;
      machine: Machine;
      group: string;
      hook: string;
      timeoutSeconds: number;
      isLaunch: boolean;
    }>,
  ): void {
    const { token, machine, group, hook, timeoutSeconds, isLaunch } = action;
    this.autoScaling.begin({ group, hook, token, instanceId: machine.instanceId }, timeoutSeconds);
    this.hooks.set(token, {
      token,
      machine,
      isOurs: group !== 'theirs',
      isLaunch,
      beganAt: this.clock.now(),
      timeoutSeconds,
      end: undefined,
      endedAt: Infinity,
    });
    this.record({ what: 'hook begun', token });
    this.watchExpiry(token);
  }

  private watchExpiry(token: string): void {
    const expiresAt = this.autoScaling.expiresAt(token);
    if (expiresAt === undefined) return;
    const leftMs = expiresAt - this.clock.now();
    if (leftMs > 0) {
      this.clock.after(leftMs, () => this.watchExpiry(token));
      return;
    }
    if (this.hooks.get(token)?.end !== undefined) return;
    this.record({ what: 'hook expired', token });
    this.endHook(token, 'expired');
  }

  /** The group waits for every hook of the instance. */
  private endHook(token: string, end: NonNullable<HookAction['end']>): void {
    const action = this.hooks.get(token);
    if (action === undefined || action.end !== undefined) return;
    action.end = end;
    action.endedAt = this.clock.now();
    if (action.isLaunch) return;
    const { machine } = action;
    const open = [...this.hooks.values()].some(
      (other) => other.machine === machine && !other.isLaunch && other.end === undefined,
    );
    if (!open) this.later(this.chance.between(1000, 6000), () => this.terminate(machine));
  }

  private schedule(
    machine: Machine,
    spec: Extract<Interruption, { kind: 'reboot' }>,
    time: number,
    reasonOf: ReasonOf,
  ): void {
    const { instanceId } = machine;
    const eventArn = `arn:aws:health:eu-central-1::event/EC2/REBOOT/${this.messages.size}`;
    const wholeSecond = (ms: number): number => Math.floor(ms / 1000) * 1000;
    let startAt = wholeSecond(time + spec.startsAfterMs);
    const reason = reasonOf({
      id: `change/123456789012/${eventArn}`,
      deadlineAt: startAt,
      isPaced: true,
      windowStartAt: startAt - this.policy.scheduledChangeLeadMs,
    });
    let isClosed = false;
    const tell = (at: number, copies: readonly number[]): void => {
      reason.starts.push({ updatedAt: at, startAt });
      const body = scheduledChange({
        instanceIds: [instanceId],
        startTime: startAt,
        endTime: startAt + 3_600_000,
        time: at,
        lastUpdatedTime: at,
        eventArn,
        eventTypeCode: 'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
        statusCode: isClosed ? 'closed' : 'upcoming',
        id: `event-${this.messages.size}`,
      });
      this.send(body, copies, { reason });
    };
    tell(time, spec.copies);
    const rebootAt = (at: number): void => {
      this.atTime(at, () => {
        if (isClosed || startAt !== at) return;
        this.reboot(machine, [reason]);
        // It is said to be over some time after it is.
        this.later(40_000, () => {
          if (machine.isGone) return;
          isClosed = true;
          tell(wholeSecond(this.clock.now()), [Math.floor(this.chance.between(500, 20_000))]);
        });
      });
    };
    rebootAt(startAt);
    for (const news of spec.news) {
      this.atTime(time + news.at, () => {
        const at = wholeSecond(this.clock.now());
        if (machine.isGone || at >= startAt) return;
        if (news.startsAfterMs === 'closed') {
          isClosed = true;
          // From the moment it is told: what was recorded before may go on until then.
          reason.overAt = this.clock.now();
        } else {
          startAt = wholeSecond(time + news.startsAfterMs);
          reason.deadlineAt = startAt;
          reason.windowStartAt = startAt - this.policy.scheduledChangeLeadMs;
          rebootAt(startAt);
        }
        tell(at, [200, 700]);
      });
    }
  }

  private reboot(machine: Machine, reasons: readonly Reason[]): void {
    if (machine.isGone || !machine.isOn) return;
    this.cluster.switchOff(machine);
    this.later(this.chance.between(8000, 25_000), () => {
      if (machine.isGone) return;
      this.cluster.switchOn(machine);
      const now = this.clock.now();
      for (const reason of reasons) reason.overAt = Math.min(reason.overAt, now);
      // Advice is about what the machine was before any boot.
      this.endAdvice(machine, now);
    });
  }

  private endAdvice(machine: Machine, now: number): void {
    for (const reason of this.reasons) {
      if (reason.machine === machine && reason.kind === 'rebalance')
        reason.overAt = Math.min(reason.overAt, now);
    }
  }

  private stopAndStart(machine: Machine, reason: Reason, offMs: number): void {
    if (machine.isGone || !machine.isOn) return;
    const { instanceId } = machine;
    this.cluster.switchOff(machine);
    const tell = (state: 'stopped' | 'running'): void => {
      const time = Math.floor(this.clock.now() / 1000) * 1000;
      const body = stateChange({ instanceId, time, id: `event-${this.messages.size}`, state });
      this.send(body, [Math.floor(this.chance.between(200, 2000))], { instanceId });
    };
    this.later(2000, () => {
      if (!machine.isOn && !machine.isGone) tell('stopped');
    });
    this.later(offMs, () => {
      if (machine.isOn || machine.isGone) return;
      this.cluster.switchOn(machine);
      const now = this.clock.now();
      reason.overAt = Math.min(reason.overAt, now);
      this.endAdvice(machine, now);
      for (const other of this.reasons) {
        const isEnded =
          other.machine === machine &&
          (other.kind === 'stopping' || other.id === 'spot-stop' || other.kind === 'reboot');
        if (isEnded && (other.deadlineAt ?? 0) <= now) other.overAt = Math.min(other.overAt, now);
      }
      tell('running');
    });
  }

  private terminate(machine: Machine, tells = true): void {
    if (machine.isGone) return;
    this.cluster.terminate(machine);
    const { instanceId } = machine;
    const time = Math.floor(this.clock.now() / 1000) * 1000;
    if (tells) {
      // It says so itself, of a machine that is going down already.
      const reason = this.reasonFor(machine, 'shutting-down', {
        id: 'shutting-down',
        time,
        deadlineAt: time + 30_000,
      });
      const body = stateChange({
        instanceId,
        time,
        id: `event-${this.messages.size}`,
        state: 'shutting-down',
      });
      this.send(body, [Math.floor(this.chance.between(200, 3000))], { reason });
    }
    const body = stateChange({
      instanceId,
      time,
      id: `event-${this.messages.size}`,
      state: 'terminated',
    });
    this.send(body, [Math.floor(this.chance.between(200, 3000))], { instanceId });
    for (const action of this.hooks.values()) {
      // Auto Scaling goes on waiting for them although the machine is gone.
      if (action.machine === machine && action.isLaunch) action.end ??= 'expired';
    }
  }

  private launch(name: string, timeoutSeconds: number): void {
    const machine = this.cluster.machines.get(name);
    if (machine === undefined) return;
    const { instanceId } = machine;
    const token = `launch-${this.hooks.size + 1}`;
    const action = { group: 'workers', hook: `launch-${timeoutSeconds}`, token };
    this.beginAction({ ...action, machine, timeoutSeconds, isLaunch: true });
    const time = Math.floor(this.clock.now() / 1000) * 1000;
    const body = launchHook({ ...action, instanceId, time, id: `event-${token}` });
    this.send(body, [500], { instanceId, launchToken: token });
  }

  private makeNoise({ what, copies }: Noise, number: number): void {
    const time = Math.floor(this.clock.now() / 1000) * 1000;
    const elsewhere = instanceIdOf(1_000_000 + number);
    const fields = { instanceId: elsewhere, time, id: `noise-${number}` };
    const about = { noise: what };
    switch (what) {
      case 'other account': {
        const [machine] = this.cluster.machines.values();
        const instanceId = machine?.instanceId ?? elsewhere;
        this.send(spotNotice({ ...fields, instanceId, account: '999999999999' }), copies, about);
        return;
      }
      case 'unknown detail-type':
        this.send({ ...spotNotice(fields), 'detail-type': 'EC2 Fleet Something' }, copies, about);
        return;
      case 'rubbish':
        this.send('not { even JSON', copies.slice(0, 1), about);
        return;
      case 'test notification':
        this.send(
          { ...testNotification('workers'), Time: new Date(time).toISOString() },
          copies,
          about,
        );
        return;
      case 'instance of another cluster':
        this.send(spotNotice(fields), copies, about);
        return;
      case 'hook of another cluster':
        this.send(
          terminateHook({ ...fields, group: 'elsewhere', hook: 'drain', token: `noise-${number}` }),
          copies,
          about,
        );
        return;
      case 'state of another cluster':
        this.send(stateChange({ ...fields, state: 'terminated' }), copies, about);
        return;
      default:
        throw new Error(`unexpected noise: ${String(what satisfies never)}`);
    }
  }

  /** Each copy is a message of its own; some are handed out twice at once. */
  private send(
    body: unknown,
    copies: readonly number[],
    about: Partial<Pick<Sent, 'reason' | 'noise' | 'instanceId' | 'launchToken'>>,
  ): void {
    const event = eventOf(body);
    const news = event && newsOf(event, this.clock.now());
    const identity = news?.about === 'interruption' ? news.interruption.id : undefined;
    for (const delayMs of copies) {
      this.atTime(this.clock.now() + delayMs, () => {
        const id = this.sqs.send(body);
        const { reason, noise, launchToken } = about;
        this.messages.set(id, {
          id,
          reason,
          noise,
          launchToken,
          instanceId: about.instanceId ?? reason?.machine.instanceId,
          event,
          identity,
          receivedAt: undefined,
          receives: 0,
        });
        this.record({ what: 'message sent', message: this.nameOf(id) });
        if (this.chance.next() < 0.15) {
          this.later(this.chance.between(5, 4000), () => this.sqs.deliverAgain(id));
        }
      });
    }
  }

  /** For people: `message-7`, and what it is about. */
  nameOf(id: string): string {
    return id;
  }

  private sinceStart(): number {
    return this.clock.now() - this.startedAt;
  }

  private at(ms: number, act: () => void): void {
    this.atTime(this.startedAt + ms, act);
  }

  private later(ms: number, act: () => void): void {
    this.atTime(this.clock.now() + ms, act);
  }

  /** Until long after it, all is not quiet. */
  private atTime(at: number, act: () => void): void {
    this.quietFrom = Math.max(this.quietFrom, at + SETTLES_MS);
    this.clock.after(Math.max(0, at - this.clock.now()), act);
  }
}

/** The one event of a message that is news of a node. */
function eventOf(body: unknown): NodeEvent | undefined {
  const parsed = parse(typeof body === 'string' ? body : JSON.stringify(body), { sentAt: 0 });
  const [event] = parsed.outcome === 'events' ? parsed.events : [];
  return event === undefined || event.kind === 'launch-hook' ? undefined : roleOf(event).event;
}

function partOf(port: string): World['troubles'][number]['of'] {
  if (port.startsWith('queue')) return 'queue';
  return port.startsWith('hook') ? 'auto-scaling' : 'api';
}

function policyOf({ pacedAtOnce }: Storm): ControllerPolicy {
  return {
    actions: {
      'spot-interruption': 'drain',
      'capacity-reservation': 'drain',
      rebalance: 'drain',
      'scheduled-change': 'drain',
      'terminate-hook': 'drain',
      'state-change': 'drain',
    },
    managedNodes: 'assist',
    marginMs: MARGIN_MS,
    budgets: 'until-deadline',
    podGraceSeconds: undefined,
    voluntaryDrainLimit: { nodes: pacedAtOnce },
    scheduledChangeLeadMs: 120_000,
    outOfServiceTaint: false,
    terminateHookDrainSeconds: undefined,
    afterVoluntaryDrain: 'keep',
    excludeFromLoadBalancers: true,
    everyHookIsOurs: false,
    isOurHook: (group) => group !== 'theirs',
    accounts: new Set(['123456789012']),
    unknownInstanceGraceSeconds: UNKNOWN_GRACE_SECONDS,
    completeUnknownHooks: false,
    waitForVolumes: true,
    loadBalancerDrainSeconds: 0,
    self: undefined,
  };
}
