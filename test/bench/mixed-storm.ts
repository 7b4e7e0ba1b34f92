import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import type { NodeObject, PodObject } from '../control-plane/objects.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOf } from '../harness/marks.ts';
import * as messages from '../harness/messages.ts';
import { createPods } from '../harness/workloads.ts';
import { startWorld, worldSkipReason, type World } from '../harness/world.ts';
import type { LifecycleAction } from '../stand-ins/auto-scaling.ts';
import { instanceId } from '../stand-ins/kubelet.ts';

// All kinds at once through the built bundle: 300 nodes, with duplicates, rubbish and messages of
// other clusters among them. Prints the outcome by kind; exits with 1 where one is not the table's.

type Outcome = 'drained' | 'waiting' | 'left alone';

type Member = Readonly<{ name: string; instanceId: string; hooks: readonly LifecycleAction[] }>;

type Kind = Readonly<{
  kind: string;
  outcome: Outcome;
  /** Lifecycle hooks that the instance waits at, by transition; all are ours. */
  hooks?: readonly ('TERMINATING' | 'LAUNCHING')[];
  messages: (member: Member) => readonly object[];
}>;

const DAY_MS = 86_400_000;
const PODS_PER_NODE = 3;
const GROUP = 'workers';
const RESERVATION = 'cr-0123456789abcdef0';
const RESERVATION_LABEL = 'karpenter.k8s.aws/capacity-reservation-id';
const BLOCK = 'the end of a capacity block';

function maintenance(code: string, startsInMs: number) {
  return ({ instanceId: id }: Member) => [
    messages.scheduledChange({
      instanceIds: [id],
      eventTypeCode: `AWS_EC2_${code}_SCHEDULED`,
      startTime: Date.now() + startsInMs,
      endTime: Date.now() + startsInMs + 3_600_000,
    }),
  ];
}

/** Known, and cancelled a moment later. */
function cancelled({ instanceId: id }: Member): object[] {
  const known = {
    instanceIds: [id],
    eventTypeCode: 'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
    eventArn: `arn:aws:health:eu-central-1::event/EC2/REBOOT/${randomUUID()}`,
    startTime: Date.now() + DAY_MS,
  };
  const later = Date.now() + 2000;
  return [
    messages.scheduledChange({ ...known, lastUpdatedTime: later, statusCode: 'closed' }),
    messages.scheduledChange(known),
  ];
}

const KINDS: readonly Kind[] = [
  {
    kind: 'spot interruption',
    outcome: 'drained',
    messages: (node) => [messages.spotNotice(node)],
  },
  {
    kind: 'spot interruption (stop)',
    outcome: 'drained',
    messages: (node) => [messages.spotNotice({ instanceId: node.instanceId, action: 'stop' })],
  },
  {
    kind: 'spot interruption through a topic',
    outcome: 'drained',
    messages: (node) => [messages.viaTopic(messages.spotNotice(node))],
  },
  {
    kind: 'rebalance, then spot interruption',
    outcome: 'drained',
    messages: (node) => [messages.rebalance(node), messages.spotNotice(node)],
  },
  {
    kind: 'rebalance recommendation',
    outcome: 'drained',
    messages: (node) => [messages.rebalance(node)],
  },
  {
    kind: 'capacity reservation',
    outcome: 'drained',
    messages: (node) => [messages.capacityReservationInterruption(node)],
  },
  { kind: BLOCK, outcome: 'drained', messages: () => [] },
  {
    kind: 'terminate hook',
    outcome: 'drained',
    hooks: ['TERMINATING'],
    messages: ({ hooks }) => hooks.map((hook) => messages.terminateHook({ ...hook })),
  },
  {
    kind: 'two hooks and a spot interruption',
    outcome: 'drained',
    hooks: ['TERMINATING', 'TERMINATING'],
    messages: (node) => [
      ...node.hooks.map((hook) => messages.directHook(namesOf(hook))),
      messages.spotNotice(node),
    ],
  },
  {
    kind: 'launch hook',
    outcome: 'left alone',
    hooks: ['LAUNCHING'],
    messages: ({ hooks }) => hooks.map((hook) => messages.launchHook({ ...hook })),
  },
  {
    kind: 'retirement',
    outcome: 'drained',
    messages: maintenance('PERSISTENT_INSTANCE_RETIREMENT', 10 * DAY_MS),
  },
  {
    kind: 'reboot within its lead',
    outcome: 'drained',
    messages: maintenance('INSTANCE_REBOOT_MAINTENANCE', 1_800_000),
  },
  {
    kind: 'reboot in four weeks',
    outcome: 'waiting',
    messages: maintenance('INSTANCE_REBOOT_MAINTENANCE', 28 * DAY_MS),
  },
  { kind: 'reboot that is cancelled', outcome: 'left alone', messages: cancelled },
  {
    kind: 'stopping',
    outcome: 'drained',
    messages: (node) => [messages.stateChange({ instanceId: node.instanceId, state: 'stopping' })],
  },
  {
    kind: 'pending',
    outcome: 'left alone',
    messages: (node) => [messages.stateChange({ instanceId: node.instanceId, state: 'pending' })],
  },
];

const { values } = parseArgs({ options: { nodes: { type: 'string', default: '300' } } });
const reason = worldSkipReason();
if (reason !== undefined) throw new Error(reason);

const world = await startWorld({ queue: { maxReceiveCount: 2 } });
try {
  process.exitCode = (await storm(world, Number(values.nodes))) ? 0 : 1;
} finally {
  await world.stop();
}

async function storm({ api, kubelet, autoScaling, queue, ...rest }: World, count: number) {
  for (const [hook, transition] of [
    ['drain', 'TERMINATING'],
    ['backup', 'TERMINATING'],
    ['join', 'LAUNCHING'],
  ] as const) {
    autoScaling.addHook({
      group: GROUP,
      hook,
      transition: `autoscaling:EC2_INSTANCE_${transition}`,
      heartbeatTimeoutSeconds: 300,
    });
  }
  const nodes = Array.from({ length: count }, (_, i) => {
    const kind = KINDS[i % KINDS.length];
    if (kind === undefined) throw new Error('no kind');
    return { kind, name: `node-${i}`, instanceId: instanceId() };
  });
  await kubelet.addNodes(
    nodes.map(({ kind, ...node }) => ({
      ...node,
      ...(kind.kind === BLOCK && { labels: { [RESERVATION_LABEL]: RESERVATION } }),
    })),
  );
  await createPods(
    api,
    nodes.flatMap(({ name }) =>
      Array.from({ length: PODS_PER_NODE }, (_, i) => ({
        name: `${name}-${i}`,
        node: name,
        behaviour: { exitsAfterSeconds: 0.5 },
      })),
    ),
  );
  await eventually(
    () =>
      kubelet.records().filter(({ runningAt }) => runningAt !== undefined).length ===
      count * PODS_PER_NODE,
    { timeoutMs: 300_000, intervalMs: 500 },
  );
  const controller = await rest.startController({
    env: { VOLUNTARY_DRAIN_LIMIT: '100%', UNKNOWN_INSTANCE_GRACE_SECONDS: '10' },
  });
  await controller.waitForLog('ready', { timeoutMs: 60_000 });

  const members = nodes.map(({ kind, ...node }) => {
    const hooks = (kind.hooks ?? []).map((transition, i) => {
      const hook = transition === 'LAUNCHING' ? 'join' : (['drain', 'backup'][i] ?? 'drain');
      return autoScaling.beginAction({ group: GROUP, hook, instanceId: node.instanceId });
    });
    return { kind, ...node, hooks };
  });
  const ours: (object | string)[] = [
    ...members.flatMap((member) => member.kind.messages(member)),
    messages.capacityBlockExpiry({ reservationId: RESERVATION, endTime: Date.now() + 2_400_000 }),
  ];
  const duplicates = ours.filter((_, i) => i % 20 === 0);
  const rubbish = Array.from({ length: Math.ceil(ours.length / 20) }, (_, i) => `rubbish ${i} {`);
  const others = Array.from({ length: Math.ceil(ours.length / 4) }, () =>
    messages.spotNotice({ instanceId: instanceId() }),
  );
  const all = shuffled([...ours, ...duplicates, ...rubbish, ...others]);
  const startedAt = performance.now();
  await queue.sendMany(all);

  const outcomes = async (): Promise<Map<string, string>> => {
    const pods = await api.list<PodObject>('/api/v1/pods');
    const left = Map.groupBy(pods, ({ spec }) => spec.nodeName ?? '');
    const found = await api.list<NodeObject>('/api/v1/nodes');
    return new Map(
      found.map((node) => [
        node.metadata.name,
        outcomeOf(node, left.get(node.metadata.name)?.length ?? 0),
      ]),
    );
  };
  const isDone = async (): Promise<boolean> => {
    const now = await outcomes();
    const { visible, inFlight } = await queue.counts();
    return (
      visible + inFlight === 0 &&
      members.every(
        ({ kind, name, hooks }) =>
          now.get(name) === kind.outcome && hooks.every(({ result }) => result === 'CONTINUE'),
      )
    );
  };
  const done = await eventually(isDone, { timeoutMs: 300_000, intervalMs: 1000 }).catch(
    () => false,
  );
  const seconds = (performance.now() - startedAt) / 1000;

  const now = await outcomes();
  console.table(
    KINDS.map(({ kind, outcome }) => {
      const of = members.filter((member) => member.kind.kind === kind);
      const right = of.filter(({ name }) => now.get(name) === outcome).length;
      const hooks = of.flatMap((member) => member.hooks);
      const wrong = of.map(({ name }) => now.get(name)).filter((one) => one !== outcome);
      return {
        kind,
        nodes: of.length,
        'should be': outcome,
        are: right,
        'hooks completed': `${hooks.filter(({ result }) => result === 'CONTINUE').length}/${hooks.length}`,
        else: [...new Set(wrong)].join(', '),
      };
    }),
  );
  console.log({
    messages: all.length,
    duplicates: duplicates.length,
    rubbish: rubbish.length,
    ofOtherClusters: others.length,
    queue: await queue.counts(),
    seconds: Math.round(seconds * 10) / 10,
    asTheTableSays: done,
  });
  await controller.stop();
  return done;
}

function outcomeOf(node: NodeObject, pods: number): string {
  const { journal, cordoned, taints } = marksOf(node);
  const effects = taints.map(({ effect }) => effect).join();
  if (effects === '' && !cordoned && pods === PODS_PER_NODE) return 'left alone';
  if (journal?.state === 'waiting' && effects === 'PreferNoSchedule') return 'waiting';
  if (journal?.state === 'settled' && cordoned && pods === 0) return 'drained';
  return `${journal?.state ?? 'without a journal'}, ${pods} pods`;
}

function namesOf({ group, hook, token, instanceId: id }: LifecycleAction) {
  return { group, hook, token, instanceId: id };
}

function shuffled<Item>(items: readonly Item[]): Item[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item);
}
