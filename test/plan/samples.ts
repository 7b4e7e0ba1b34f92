import type { Event } from '../../src/events/event.ts';
import type { Plan } from '../../src/plan/deadline.ts';
import type { Interruption, NodeEvent } from '../../src/plan/interruption.ts';
import { emptyJournal, type Journal, type Machine } from '../../src/plan/journal.ts';
import { fold, type Change } from '../../src/plan/merge.ts';
import type { NodePatch, NodeView } from '../../src/plan/node.ts';
import type { Sight } from '../../src/plan/over.ts';
import type { PodView } from '../../src/plan/pod.ts';
import type { Policy } from '../../src/plan/policy.ts';

/** Noon, when everything here begins. */
export const NOON = Date.parse('2026-03-01T12:00:00Z');

/** Epoch milliseconds, so many seconds after noon. */
export function at(seconds: number): number {
  return NOON + seconds * 1000;
}

export const INSTANCE = 'i-0123456789abcdef0';
export const MACHINE: Machine = {
  instanceId: INSTANCE,
  systemUUID: 'ec2a4f5e-0000-1111-2222-333344445555',
  bootId: 'boot-1',
};

/** What the Node of that machine shows of it. */
export const SIGHT: Sight = {
  ...MACHINE,
  bootSeenAt: undefined,
  ready: true,
  readySince: undefined,
};

export function policy(changes: Partial<Policy> = {}): Policy {
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
    marginMs: 5000,
    budgets: 'until-deadline',
    podGraceSeconds: undefined,
    voluntaryDrainLimit: { nodes: 100 },
    scheduledChangeLeadMs: 3_600_000,
    outOfServiceTaint: false,
    terminateHookDrainSeconds: undefined,
    afterVoluntaryDrain: 'keep',
    excludeFromLoadBalancers: true,
    everyHookIsOurs: false,
    isOurHook: (group) => group !== 'theirs',
    ...changes,
  };
}

export function nodeView(changes: Partial<NodeView> = {}): NodeView {
  return {
    name: 'node-1',
    uid: 'node-uid-1',
    resourceVersion: '1',
    instanceId: INSTANCE,
    manager: undefined,
    capacityReservationId: undefined,
    zone: 'eu-west-1a',
    systemUUID: MACHINE.systemUUID,
    bootId: MACHINE.bootId,
    bootSeenAt: undefined,
    ready: true,
    readySince: undefined,
    unschedulable: false,
    taints: [],
    selected: true,
    interruptionLabel: undefined,
    excludeFromLoadBalancers: undefined,
    journal: undefined,
    held: false,
    deleting: false,
    ...changes,
  };
}

export function podView(changes: Partial<PodView> = {}): PodView {
  return {
    uid: 'pod-uid-1',
    namespace: 'shop',
    name: 'web-1',
    owner: { kind: 'ReplicaSet', name: 'web', uid: 'web-uid' },
    mirror: false,
    finished: false,
    priorityClass: undefined,
    graceSeconds: 30,
    deletion: undefined,
    toleratesInterruption: false,
    claims: [],
    ...changes,
  };
}

/** A spot notice of noon: the window runs for two minutes. */
export function planOfSpot(changes: Partial<Plan> = {}): Plan {
  return {
    kind: 'spot-interruption',
    emergency: true,
    action: 'drain',
    windowStartAt: at(0),
    deadlineAt: at(120),
    pastBudgets: false,
    ...changes,
  };
}

const about = { eventId: 'event-1', account: '123456789012', instanceId: INSTANCE };

type Of<Kind extends Event['kind']> = Extract<Event, { kind: Kind }>;

export function spot(
  seconds = 0,
  changes: Partial<Of<'spot-interruption'>> = {},
): Of<'spot-interruption'> {
  return {
    kind: 'spot-interruption',
    ...about,
    time: at(seconds),
    action: 'terminate',
    ...changes,
  };
}

export function rebalance(
  seconds = 0,
  changes: Partial<Of<'rebalance-recommendation'>> = {},
): Of<'rebalance-recommendation'> {
  return { kind: 'rebalance-recommendation', ...about, time: at(seconds), ...changes };
}

export function capacity(
  seconds = 0,
  changes: Partial<Of<'capacity-reservation-interruption'>> = {},
): Of<'capacity-reservation-interruption'> {
  return {
    kind: 'capacity-reservation-interruption',
    ...about,
    time: at(seconds),
    terminatesAt: undefined,
    ...changes,
  };
}

export function capacityBlock(
  seconds = 0,
  changes: Partial<Of<'capacity-block-expiry'>> = {},
): Of<'capacity-block-expiry'> {
  return {
    kind: 'capacity-block-expiry',
    eventId: 'event-1',
    account: '123456789012',
    time: at(seconds),
    reservationId: 'cr-1',
    endsAt: undefined,
    ...changes,
  };
}

/** A reboot on the third day after noon, known since noon, unless told otherwise. */
export function scheduledChange(
  seconds = 0,
  changes: Partial<Of<'scheduled-change'>> = {},
): Of<'scheduled-change'> {
  return {
    kind: 'scheduled-change',
    ...about,
    time: at(seconds),
    eventArn: 'arn:aws:health:eu-west-1::event/EC2/AWS_EC2_INSTANCE_REBOOT/1',
    code: 'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
    change: 'reboot',
    startAt: at(3 * 86_400),
    endAt: at(3 * 86_400 + 7200),
    status: 'upcoming',
    lastUpdatedAt: at(seconds),
    ...changes,
  };
}

type Told = Extract<NodeEvent, { kind: 'state-change' }>;

export function stateChange(state: Told['state'], seconds = 0, changes: Partial<Told> = {}): Told {
  return { kind: 'state-change', ...about, time: at(seconds), state, ...changes };
}

export function terminateHook(
  seconds = 0,
  changes: Partial<Of<'terminate-hook'>> = {},
): Of<'terminate-hook'> {
  return {
    kind: 'terminate-hook',
    ...about,
    time: at(seconds),
    group: 'workers',
    hook: 'drain',
    token: 'token-1',
    origin: undefined,
    destination: undefined,
    ...changes,
  };
}

export function interruption(changes: Partial<Interruption> = {}): Interruption {
  return {
    id: 'spot-interruption',
    row: 'spot-terminate',
    kind: 'spot-interruption',
    time: at(0),
    recordedAt: at(1),
    deadlineAt: at(120),
    change: undefined,
    begunAt: undefined,
    hook: undefined,
    unknown: {},
    ...changes,
  };
}

export function journal(changes: Partial<Journal> = {}): Journal {
  return { ...emptyJournal(MACHINE), state: 'draining', ...changes };
}

/** The journal that these changes, in this order, make of none. */
export function journalOf(changes: readonly Change[], now = at(1)): Journal {
  const folded = changes.reduce<Journal | undefined>(
    (before, change) => fold(before, change, SIGHT, policy(), now).journal,
    undefined,
  );
  if (folded === undefined) throw new Error('these changes make no journal');
  return folded;
}

export function eventChange(event: Extract<Change, { type: 'event' }>['event']): Change {
  return { type: 'event', event };
}

/** The Node after the API server has taken the patch. */
export function patched(node: NodeView, patch: NodePatch | undefined): NodeView {
  if (patch === undefined) return node;
  const label = (key: string, before: string | undefined): string | undefined => {
    const value = patch.labels?.[key];
    return value === undefined ? before : (value ?? undefined);
  };
  const journalText = patch.annotations?.['node-termination-controller/journal'];
  return {
    ...node,
    resourceVersion: String(Number(node.resourceVersion) + 1),
    interruptionLabel: label('node-termination-controller/interruption', node.interruptionLabel),
    excludeFromLoadBalancers: label(
      'node.kubernetes.io/exclude-from-external-load-balancers',
      node.excludeFromLoadBalancers,
    ),
    journal: journalText === undefined ? node.journal : (journalText ?? undefined),
    unschedulable: patch.unschedulable ?? node.unschedulable,
    taints: patch.taints ?? node.taints,
  };
}
