import { seededChance, type Chance } from '../sandbox/chance.ts';
import { CRASH_POINTS, PORTS, type CrashPoint, type Port, type Trouble } from './way.ts';

/** All that befalls one simulated cluster, decided by one number. Times are ms after the beginning. */
export type Storm = Readonly<{
  seed: number;
  /** `elected`: two replicas and a Lease; `single`: one; `overlapping`: two that know nothing of each other, for a while. */
  replicas: 'elected' | 'single' | 'overlapping';
  /** Of the clocks of processes, one after the other. */
  skewsMs: readonly number[];
  /** VOLUNTARY_DRAIN_LIMIT */
  pacedAtOnce: number;
  nodes: readonly NodeSpec[];
  workloads: readonly Workload[];
  interruptions: readonly Interruption[];
  noise: readonly Noise[];
  meddlings: readonly Meddling[];
  faults: readonly Fault[];
  watchFaults: readonly WatchFault[];
  crashes: readonly Crash[];
  freezes: readonly Freeze[];
  /** Orderly restarts. */
  restarts: readonly number[];
}>;

export type NodeSpec = Readonly<{
  name: string;
  /** When it registers; 0: it is there from the beginning. */
  joinsAt: number;
  /** Of a Node that joins: its launch hook's timeout; undefined: it has none. */
  launchHookSeconds?: number;
}>;

export type Workload = Readonly<{
  name: string;
  kind: 'ReplicaSet' | 'StatefulSet' | 'DaemonSet' | 'Job' | 'mirror' | 'bare';
  replicas: number;
  graceSeconds: number;
  /** From SIGTERM until its containers have ended by themselves. */
  endsAfterSeconds: number;
  /** Its budget: so many must be healthy. */
  minAvailable?: number;
  /** Tolerates every taint: comes back to the node it was evicted from. */
  tolerates?: boolean;
  isCritical?: boolean;
  hasVolume?: boolean;
  /** A finalizer keeps its pods though their containers have ended. */
  isStuck?: boolean;
}>;

type Copies = Readonly<{
  /** When copies of its message are sent, after the event itself. */
  copies: readonly number[];
}>;

export type Interruption = Copies &
  Readonly<{ node: string; at: number }> &
  (
    | Readonly<{
        kind: 'spot';
        action: 'terminate' | 'stop';
        /** `lives`: AWS changes its mind, without a word. */
        fate: 'goes' | 'lives' | 'returns';
      }>
    | Readonly<{ kind: 'capacity-reservation'; noticeMs: number }>
    | Readonly<{ kind: 'rebalance'; rebootsAfterMs?: number }>
    | Readonly<{
        kind: 'hook';
        group: 'workers' | 'theirs';
        timeoutSeconds: number;
      }>
    | Readonly<{
        kind: 'reboot';
        startsAfterMs: number;
        /** News of the same event: rescheduled, or closed. */
        news: readonly Readonly<{ at: number; startsAfterMs: number | 'closed' }>[];
      }>
    | Readonly<{ kind: 'stopping'; returnsAfterMs: number }>
    | Readonly<{ kind: 'shutting-down' }>
  );

/** Messages that interrupt nothing here. */
export type Noise = Copies &
  Readonly<{
    at: number;
    what:
      | 'other account'
      | 'unknown detail-type'
      | 'rubbish'
      | 'test notification'
      | 'instance of another cluster'
      | 'hook of another cluster'
      | 'state of another cluster';
  }>;

/** What others do to Nodes. */
export type Meddling = Readonly<{
  at: number;
  node: string;
  what:
    | 'cordons'
    | 'un-cordons'
    | 'adds a taint'
    | 'removes a taint'
    | 'adds a label'
    | 'removes our taint'
    | 'removes our journal'
    | 'holds'
    | 'releases'
    | 'deletes a pod'
    | 'registers anew';
}>;

/** Between two moments, a share of the calls of some ports goes wrong. */
export type Fault = Readonly<{
  fromMs: number;
  toMs: number;
  ports: readonly Port[];
  trouble: Trouble;
  hasEffect: boolean;
  share: number;
}>;

export type WatchFault =
  | Readonly<{ at: number; what: 'end' | 'reset' | 'compaction' }>
  | Readonly<{ at: number; what: 'lag'; lagMs: number; forMs: number }>;

/** The process that makes the `call`th call of this port dies at this point of it. */
export type Crash = Readonly<{ port: Port; call: number; point: CrashPoint; downMs: number }>;

export type Freeze = Readonly<{ at: number; ms: number }>;

/** From then on nothing goes wrong any more. */
export const FAULTS_END_MS = 200_000;

const AWS_PORTS = PORTS.filter((port) => /^(queue|hook)/.test(port));
const API_PORTS = PORTS.filter((port) => !AWS_PORTS.includes(port));
/** Those that matter most are met most often. */
const CRASH_PORTS: readonly Port[] = [
  ...PORTS.filter((port) => !port.includes('watch')),
  'node write',
  'evict',
  'pod delete',
  'hook complete',
  'queue delete',
  'queue delete',
];

export function stormOf(seed: number): Storm {
  const chance = seededChance(seed);
  const nodes = nodesOf(chance);
  const interruptions = interruptionsOf(chance, nodes);
  const replicas = chance.pick(['single', 'single', 'single', 'elected', 'overlapping'] as const);
  return {
    seed,
    replicas,
    skewsMs: times(8, () => Math.round(chance.between(-1500, 1500))),
    pacedAtOnce: whole(chance, 1, 2),
    nodes,
    workloads: workloadsOf(chance),
    interruptions,
    noise: times(whole(chance, 4, 8), () => ({
      at: whole(chance, 500, 150_000),
      what: chance.pick([
        'other account',
        'unknown detail-type',
        'rubbish',
        'test notification',
        'instance of another cluster',
        'instance of another cluster',
        'hook of another cluster',
        'state of another cluster',
      ]),
      copies: copiesOf(chance),
    })),
    meddlings: meddlingsOf(chance, nodes, interruptions),
    ...troublesOf(chance, replicas),
  };
}

function nodesOf(chance: Chance): readonly NodeSpec[] {
  const present = whole(chance, 5, 8);
  const joining = whole(chance, 0, 2);
  return times(present + joining, (i) => {
    const name = `node-${i + 1}`;
    if (i < present) return { name, joinsAt: 0 };
    const joinsAt = whole(chance, 10_000, 100_000);
    return chance.next() < 0.5
      ? { name, joinsAt, launchHookSeconds: whole(chance, 60, 300) }
      : { name, joinsAt };
  });
}

function workloadsOf(chance: Chance): readonly Workload[] {
  const count = whole(chance, 3, 6);
  const ordinary = times(count, (i): Workload => {
    const kind = chance.pick([
      'ReplicaSet',
      'ReplicaSet',
      'ReplicaSet',
      'StatefulSet',
      'StatefulSet',
      'bare',
    ] as const);
    const replicas = kind === 'bare' ? 1 : whole(chance, 2, 6);
    const graceSeconds = chance.pick([1, 5, 10, 30, 30, 60, 100]);
    return {
      name: `${kind === 'StatefulSet' ? 'db' : 'web'}-${i + 1}`,
      kind,
      replicas,
      graceSeconds,
      endsAfterSeconds: chance.next() < 0.2 ? 1000 : whole(chance, 0, graceSeconds),
      ...(kind !== 'bare' &&
        chance.next() < 0.6 && { minAvailable: replicas - (chance.next() < 0.3 ? 0 : 1) }),
      ...(chance.next() < 0.12 && { tolerates: true }),
      ...(chance.next() < 0.12 && { isCritical: true }),
      ...(chance.next() < 0.2 && { hasVolume: true }),
      ...(chance.next() < 0.06 && { isStuck: true }),
    };
  });
  return [
    ...ordinary,
    { name: 'agent', kind: 'DaemonSet', replicas: 0, graceSeconds: 30, endsAfterSeconds: 1 },
    { name: 'proxy', kind: 'mirror', replicas: 2, graceSeconds: 30, endsAfterSeconds: 1 },
    { name: 'report', kind: 'Job', replicas: 2, graceSeconds: 30, endsAfterSeconds: 1 },
  ];
}

function interruptionsOf(chance: Chance, nodes: readonly NodeSpec[]): readonly Interruption[] {
  return nodes.flatMap(({ name, joinsAt }): readonly Interruption[] => {
    const at = Math.max(joinsAt - 20_000, 0) + whole(chance, 1000, 75_000);
    const base = { node: name, copies: copiesOf(chance) };
    const draw = chance.next();
    if (draw < 0.08) return [];
    const first = interruptionOf(chance, { ...base, at });
    // Often the same instance is told of twice: advice first, or the group's hook beside the notice.
    const second = chance.next();
    if (second < 0.15 && first.kind !== 'rebalance') {
      return [
        { ...base, copies: copiesOf(chance), at: Math.max(500, at - 30_000), kind: 'rebalance' },
        first,
      ];
    }
    if (second < 0.4 && first.kind === 'spot' && first.fate === 'goes') {
      return [first, { ...base, ...hookOf(chance), at: at + whole(chance, 0, 20_000) }];
    }
    return [first];
  });
}

function interruptionOf(
  chance: Chance,
  base: Readonly<{ node: string; at: number; copies: readonly number[] }>,
): Interruption {
  const draw = chance.next();
  if (draw < 0.3) {
    const action = chance.next() < 0.7 ? 'terminate' : 'stop';
    const fate = action === 'stop' ? 'returns' : chance.next() < 0.25 ? 'lives' : 'goes';
    return { ...base, kind: 'spot', action, fate };
  }
  if (draw < 0.38)
    return { ...base, kind: 'capacity-reservation', noticeMs: whole(chance, 60_000, 200_000) };
  if (draw < 0.55) {
    return {
      ...base,
      kind: 'rebalance',
      ...(chance.next() < 0.3 && { rebootsAfterMs: whole(chance, 30_000, 150_000) }),
    };
  }
  if (draw < 0.78) return { ...base, ...hookOf(chance) };
  if (draw < 0.88) {
    const news = chance.next();
    const later = whole(chance, 5000, 60_000);
    return {
      ...base,
      kind: 'reboot',
      startsAfterMs: whole(chance, 100_000, 220_000),
      news:
        news < 0.25
          ? [{ at: later, startsAfterMs: 'closed' }]
          : news < 0.5
            ? [{ at: later, startsAfterMs: whole(chance, 120_000, 260_000) }]
            : [],
    };
  }
  if (draw < 0.94)
    return { ...base, kind: 'stopping', returnsAfterMs: whole(chance, 60_000, 120_000) };
  return { ...base, kind: 'shutting-down' };
}

function hookOf(chance: Chance) {
  return {
    kind: 'hook',
    group: chance.next() < 0.9 ? 'workers' : 'theirs',
    timeoutSeconds: chance.pick([60, 90, 120, 300]),
  } as const;
}

/** The first says how late the message itself is; the rest are duplicates, some of them much later. */
function copiesOf(chance: Chance): readonly number[] {
  const draw = chance.next();
  const first =
    draw < 0.84
      ? whole(chance, 100, 3000)
      : draw < 0.975
        ? whole(chance, 3000, 60_000)
        : whole(chance, 190_000, 230_000);
  const copies = [first];
  if (first >= 190_000) return copies;
  if (chance.next() < 0.3) copies.push(first + whole(chance, 0, 5000));
  if (chance.next() < 0.15) copies.push(first + whole(chance, 10_000, 100_000));
  if (chance.next() < 0.04) copies.push(first + whole(chance, 180_000, 230_000));
  return copies;
}

function meddlingsOf(
  chance: Chance,
  nodes: readonly NodeSpec[],
  interruptions: readonly Interruption[],
): readonly Meddling[] {
  const all = times(whole(chance, 3, 8), (): readonly Meddling[] => {
    const struck =
      chance.next() < 0.6 ? interruptions[whole(chance, 0, interruptions.length - 1)] : undefined;
    const node = struck?.node ?? chance.pick(nodes).name;
    // Where two write at once, they are most likely to undo each other's work.
    const at =
      struck === undefined
        ? whole(chance, 1000, 180_000)
        : struck.at + (struck.copies[0] ?? 0) + whole(chance, -20, 150);
    const what = chance.pick([
      'cordons',
      'cordons',
      'un-cordons',
      'adds a taint',
      'adds a taint',
      'adds a label',
      'adds a label',
      'removes our taint',
      'removes our journal',
      'holds',
      'deletes a pod',
      'deletes a pod',
      'registers anew',
    ] as const);
    const later = at + whole(chance, 5000, 40_000);
    if (what === 'cordons' && chance.next() < 0.3)
      return [
        { at, node, what },
        { at: later, node, what: 'un-cordons' },
      ];
    if (what === 'holds')
      return [
        { at, node, what },
        { at: later, node, what: 'releases' },
      ];
    if (what === 'adds a taint' && chance.next() < 0.5) {
      return [
        { at, node, what },
        { at: later, node, what: 'removes a taint' },
      ];
    }
    return [{ at, node, what }];
  });
  return all.flat();
}

function troublesOf(chance: Chance, replicas: Storm['replicas']) {
  const faults: Fault[] = [];
  // Now and then, on all ways.
  faults.push({
    fromMs: 0,
    toMs: FAULTS_END_MS,
    ports: chance.next() < 0.5 ? PORTS : chance.next() < 0.5 ? API_PORTS : AWS_PORTS,
    trouble: troubleOf(chance),
    hasEffect: chance.next() < 0.4,
    share: chance.between(0.002, 0.03),
  });
  // In bursts.
  for (let i = whole(chance, 2, 6); i > 0; i -= 1) {
    const fromMs = whole(chance, 1000, 170_000);
    const draw = chance.next();
    const ports =
      draw < 0.25
        ? API_PORTS
        : draw < 0.4
          ? PORTS.filter((port) => port.startsWith('queue'))
          : draw < 0.6
            ? PORTS.filter((port) => port.startsWith('hook'))
            : [chance.pick(PORTS), chance.pick(PORTS)];
    faults.push({
      fromMs,
      toMs: Math.min(FAULTS_END_MS, fromMs + whole(chance, 500, 20_000)),
      ports,
      trouble: troubleOf(chance),
      hasEffect: chance.next() < 0.4,
      share: chance.pick([0.3, 0.7, 1]),
    });
  }
  const watchFaults = times(whole(chance, 1, 4), (): WatchFault => {
    const at = whole(chance, 1000, 190_000);
    const draw = chance.next();
    if (draw < 0.5) return { at, what: chance.pick(['end', 'reset', 'compaction'] as const) };
    return { at, what: 'lag', lagMs: whole(chance, 500, 6000), forMs: whole(chance, 2000, 15_000) };
  });
  const crashes = times(whole(chance, 1, 4), (): Crash => {
    const port = chance.pick(CRASH_PORTS);
    return {
      port,
      call: 1 + Math.floor(chance.next() ** 2 * 12),
      point: chance.pick(CRASH_POINTS),
      downMs: whole(chance, 200, 15_000),
    };
  });
  return {
    faults,
    watchFaults,
    crashes,
    freezes:
      replicas === 'elected' && chance.next() < 0.4
        ? [{ at: whole(chance, 5000, 150_000), ms: whole(chance, 5000, 30_000) }]
        : [],
    restarts: chance.next() < 0.3 ? [whole(chance, 5000, 190_000)] : [],
  };
}

function troubleOf(chance: Chance): Trouble {
  return chance.pick(['overload', 'overload', 'error', 'reset', 'reset', 'silence'] as const);
}

function whole(chance: Chance, least: number, most: number): number {
  return Math.floor(chance.between(least, most + 1));
}

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i));
}
