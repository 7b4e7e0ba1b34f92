import type { Clock } from '../clock.ts';
import type { HookAction, HookAnswer, LifecycleHooks } from '../drain/lifecycle-hooks.ts';
import type { CapacityBlockExpiry, Event, LaunchHook } from '../events/event.ts';
import {
  deadlineOf,
  hasOutlived,
  LONGEST_HOOK_MS,
  UNDESCRIBED_HOOK_TIMEOUT_SECONDS,
} from '../plan/deadline.ts';
import { kindOf, newsOf, roleOf, type NodeEvent } from '../plan/interruption.ts';
import type { NodeView } from '../plan/node.ts';
import { REBALANCE_LASTS_MS } from '../plan/over.ts';
import { isLeftToOwner } from '../plan/policy.ts';
import { isEmergency } from '../plan/rows.ts';
import type { Metrics } from '../report/metrics.ts';
import type { ObjectEvents } from '../report/object-events.ts';
import type { Report } from '../report/report.ts';
import { UNWATCHED, watched, type Watchdog } from '../watchdog.ts';
import type { DepartedNodes } from './departed-nodes.ts';
import {
  LaunchHooks,
  LOOK_AGAIN_MS,
  type LaunchPolicy,
  type LaunchVerdict,
} from './launch-hooks.ts';
import type { NodeIndex, NodeStore } from './node-store.ts';
import type { Records } from './records.ts';

type InstanceEvent = Exclude<NodeEvent, { kind: 'capacity-block-expiry' }>;

/** What could not be asked, so that nobody knows: guessing could empty a healthy node. */
type Unknown = Readonly<{ unknown: 'kubelet Lease' | 'hook timeout' }>;

/** What one event of a message comes to. */
export type EventVerdict =
  /** Nothing more to do about it. `outcome` names the rule. */
  | Readonly<{ end: 'over'; outcome: Outcome }>
  | Readonly<{ end: 'no-node'; event: NodeEvent }>
  /** Judged again at that moment, or when its Node changes; the message is its record until then. */
  | Readonly<{ end: 'held'; event: LaunchHook | CapacityBlockExpiry; againAt: number }>
  /** Judged again when the message comes back. */
  | Readonly<{ end: 'later'; seconds: number }>
  | Readonly<{ end: 'unreachable' }>;

/** Why a message may go; the words of the design, also used as metric labels. */
export type Outcome =
  | 'recorded'
  | 'duplicate'
  | 'stale'
  | 'other-account'
  | 'ignored-by-policy'
  | Extract<LaunchVerdict, { end: 'over' }>['outcome']
  | 'not-in-this-cluster'
  | 'nothing-to-do';

const RECHECK_SECONDS = 30;
/** Each wait is half of those before it together: an outage delays a message by little more than its own length. */
const ASK_AGAIN_SECONDS = { first: 3, longest: 300 };
/** Beyond, the oldest are waited for anew. */
const MAX_UNANSWERED = 1000;
const MAX_VISIBILITY_SECONDS = 43_200;
/** Only news older than this can be about a machine that has outlived its deadline. */
const OLD_NEWS_MS = 60_000;

type JudgePorts = Readonly<{
  nodes: NodeIndex;
  departed: DepartedNodes;
  store: Pick<NodeStore, 'kubeletRenewed'>;
  hooks: Pick<LifecycleHooks, 'complete' | 'describe'>;
  clock: Clock;
  objectEvents: ObjectEvents;
  metrics: Metrics;
  watchdog?: Watchdog;
  report: Report;
}>;

/** Decides about single events: locates the Node and records. Never throws. */
export class Judge {
  private readonly ports: JudgePorts;
  private readonly records: Records;
  private readonly policy: LaunchPolicy;
  private readonly launches: LaunchHooks;
  /** Accounts whose events are ours; undefined: any. */
  private readonly accounts: ReadonlySet<string> | undefined;
  /** Events whose age cannot be told, each on its node, and since when that is so (epoch ms). */
  private readonly unanswered = new Map<string, number>();
  private unansweredTold = false;

  constructor(
    ports: JudgePorts,
    records: Records,
    policy: LaunchPolicy,
    accounts: ReadonlySet<string> | undefined,
  ) {
    this.ports = askedUnderWatch(ports);
    this.records = records;
    this.policy = policy;
    this.launches = new LaunchHooks(this.ports, policy);
    this.accounts = accounts;
  }

  async judge(event: Event, signal: AbortSignal): Promise<EventVerdict> {
    if (this.accounts && event.account !== undefined && !this.accounts.has(event.account)) {
      return { end: 'over', outcome: 'other-account' };
    }
    if (event.kind === 'launch-hook') {
      const noted = event.origin !== 'WarmPool' || (await this.noteReturn(event));
      return noted ? this.launches.judge(event, signal) : { end: 'unreachable' };
    }
    const role = roleOf(event);
    if (role.event === undefined) return { end: 'over', outcome: 'nothing-to-do' };
    return this.judgeNews(role.event, role.role === 'ends', signal);
  }

  private async judgeNews(
    event: NodeEvent,
    onlyEnds: boolean,
    signal: AbortSignal,
  ): Promise<EventVerdict> {
    // That it was started ends what other kinds began.
    const isStart = event.kind === 'state-change' && event.state === 'running';
    if (this.policy.actions[kindOf(event)] === 'ignore' && !isStart) {
      return { end: 'over', outcome: 'ignored-by-policy' };
    }
    if (event.kind === 'capacity-block-expiry') return this.judgeBlock(event, signal);
    const [node] = this.ports.nodes.byInstance(event.instanceId);
    // Where there is no Node, there is nothing to end: most such messages are other clusters'.
    if (node === undefined && onlyEnds) return { end: 'over', outcome: 'not-in-this-cluster' };
    if (node === undefined) return this.judgeWithoutNode(event, signal);
    return this.judgeOn(node, event, signal);
  }

  /** It was sent to its warm pool, and is back. False: the API server does not answer. */
  private async noteReturn({ instanceId, time }: LaunchHook): Promise<boolean> {
    const [node, other] = this.ports.nodes.byInstance(instanceId);
    if (node === undefined || other !== undefined || !node.selected) return true;
    if (isLeftToOwner('launch-hook', node, this.policy)) return true;
    const result = await this.records.apply(node.name, { type: 'left-pool', at: time });
    return result.outcome !== 'unreachable';
  }

  /** It names no instance: whatever runs in the reservation goes with it. */
  private async judgeBlock(event: CapacityBlockExpiry, signal: AbortSignal): Promise<EventVerdict> {
    const nodes = [...this.ports.nodes.all()].filter(
      ({ capacityReservationId }) => capacityReservationId === event.reservationId,
    );
    if (nodes.length === 0) return { end: 'no-node', event };
    return together(await Promise.all(nodes.map((node) => this.judgeOn(node, event, signal))));
  }

  /** A Node of which the cloud provider has yet to say which instance it is. */
  private judgeUnnamed(event: CapacityBlockExpiry): EventVerdict {
    const now = this.ports.clock.now();
    const deadlineAt = deadlineAtReceipt(event, now) ?? now;
    if (now >= deadlineAt) return { end: 'over', outcome: 'stale' };
    return { end: 'held', event, againAt: Math.min(now + LOOK_AGAIN_MS, deadlineAt) };
  }

  private async judgeOn(
    node: NodeView,
    event: NodeEvent,
    signal: AbortSignal,
  ): Promise<EventVerdict> {
    if (event.kind === 'capacity-block-expiry' && node.instanceId === undefined) {
      return this.judgeUnnamed(event);
    }
    const claimants =
      node.instanceId === undefined ? [] : this.ports.nodes.byInstance(node.instanceId);
    if (claimants.length > 1) return this.judgeAmbiguous(event, claimants, signal);
    if (!node.selected) return { end: 'over', outcome: 'not-selected' };
    if (isLeftToOwner(kindOf(event), node, this.policy)) {
      return { end: 'over', outcome: 'left-to-owner' };
    }
    const isOldNews = await this.isOldNews(event, node, signal);
    if (typeof isOldNews !== 'boolean') return this.askAgain(event, node, isOldNews.unknown);
    this.unanswered.delete(questionOf(event, node));
    if (isOldNews) {
      this.ports.report.info('stale', { ...factsOf(event), node: node.name });
      return { end: 'over', outcome: 'stale' };
    }
    return this.record(event, node, signal);
  }

  /** The message comes back: soon, then ever more slowly. */
  private askAgain(event: NodeEvent, node: NodeView, unknown: Unknown['unknown']): EventVerdict {
    const { clock, report } = this.ports;
    const now = clock.now();
    const question = questionOf(event, node);
    const since = this.unanswered.get(question) ?? now;
    const [oldest] = this.unanswered.keys();
    if (this.unanswered.size >= MAX_UNANSWERED && oldest !== undefined) {
      this.unanswered.delete(oldest);
    }
    this.unanswered.set(question, since);
    if (!this.unansweredTold) {
      this.unansweredTold = true;
      report.warn('age of news unknown', { ...factsOf(event), node: node.name, unknown });
    }
    const { first, longest } = ASK_AGAIN_SECONDS;
    const seconds = Math.ceil((now - since) / 2000);
    return { end: 'later', seconds: Math.min(Math.max(seconds, first), longest) };
  }

  /** CONTINUE for a hook that no node is behind. */
  async completeWithoutNode(action: HookAction, signal: AbortSignal): Promise<HookAnswer> {
    const answer = await this.ports.hooks.complete(action, signal);
    const facts = { instance: action.instanceId, group: action.group, hook: action.hook };
    if (answer.outcome === 'failed') {
      this.ports.report.warn('lifecycle hook not yet completed', {
        ...facts,
        reason: answer.message,
      });
    } else {
      this.ports.report.info('lifecycle hook completed', { ...facts, answer: answer.outcome });
    }
    return answer;
  }

  private async judgeWithoutNode(event: InstanceEvent, signal: AbortSignal): Promise<EventVerdict> {
    const ours = event.kind === 'terminate-hook' && this.policy.isOurHook(event.group, event.hook);
    const departed = this.ports.departed.find(event.instanceId);
    if (!ours || departed === undefined) return { end: 'no-node', event };
    if (isLeftToOwner('terminate-hook', departed, this.policy)) {
      return { end: 'over', outcome: 'left-to-owner' };
    }
    // Its Node has just gone: nothing is left to drain, and the group waits.
    const answer = await this.completeWithoutNode(event, signal);
    return answer.outcome === 'failed'
      ? { end: 'later', seconds: RECHECK_SECONDS }
      : { end: 'over', outcome: 'hook-completed' };
  }

  private async judgeAmbiguous(
    event: NodeEvent,
    nodes: readonly NodeView[],
    signal: AbortSignal,
  ): Promise<EventVerdict> {
    const { report, objectEvents, clock } = this.ports;
    const deadlineAt = await this.deadlineOf(event, signal);
    if (typeof deadlineAt === 'number' && deadlineAt < clock.now()) {
      report.error('ambiguous instance given up', {
        ...factsOf(event),
        nodes: nodes.map(({ name }) => name),
      });
      return { end: 'over', outcome: 'stale' };
    }
    const names = nodes.map(({ name }) => name);
    report.error('ambiguous instance', { ...factsOf(event), nodes: names });
    for (const node of nodes) {
      const instance = node.instanceId ?? subjectOf(event);
      objectEvents.onNode(node, 'AmbiguousInstance', { instance, nodes: names });
    }
    return { end: 'later', seconds: RECHECK_SECONDS };
  }

  /** Whether the machine has shown life long after the event said it would be gone. */
  private async isOldNews(
    event: NodeEvent,
    node: NodeView,
    signal: AbortSignal,
  ): Promise<boolean | Unknown> {
    const now = this.ports.clock.now();
    const news = newsOf(event, now);
    if (news.about === 'machine') {
      if (news.state === 'running') return false;
      const renewed = await this.ports.store.kubeletRenewed(node.name, signal);
      if (renewed.outcome === 'unknown') return { unknown: 'kubelet Lease' };
      this.unansweredTold = false;
      return renewed.outcome === 'at' && renewed.at > news.time;
    }
    // Versions and times of what is paced are compared with the journal's.
    if (now - event.time <= OLD_NEWS_MS || event.kind === 'scheduled-change') return false;
    if (event.kind === 'rebalance-recommendation') return now - event.time >= REBALANCE_LASTS_MS;
    if (!node.ready) return false;
    const deadlineAt = await this.deadlineOf(event, signal);
    if (deadlineAt === 'unknown') return { unknown: 'hook timeout' };
    if (deadlineAt === undefined || now - deadlineAt <= OLD_NEWS_MS) return false;
    const renewed = await this.ports.store.kubeletRenewed(node.name, signal);
    if (renewed.outcome === 'unknown') return { unknown: 'kubelet Lease' };
    this.unansweredTold = false;
    return renewed.outcome === 'at' && hasOutlived(deadlineAt, renewed.at);
  }

  /**
   * `unknown`: a hook's timeout could not be asked for. Where it may not be read, the hook lives as
   * long as any can: a machine that it was to end, and that is Ready, most likely waits for it still.
   */
  private async deadlineOf(
    event: NodeEvent,
    signal: AbortSignal,
  ): Promise<number | 'unknown' | undefined> {
    const news = newsOf(event, this.ports.clock.now());
    if (news.about === 'machine') return undefined;
    const { interruption } = news;
    const { hook } = interruption;
    if (hook === undefined) return deadlineOf(interruption, this.policy);
    const described = await this.ports.hooks.describe(hook.group, hook.name, signal);
    if (described.outcome === 'failed') return 'unknown';
    if (described.outcome === 'unknown' && described.denied) {
      return interruption.time + LONGEST_HOOK_MS;
    }
    const timeoutSeconds =
      described.outcome === 'found' ? described.timeoutSeconds : UNDESCRIBED_HOOK_TIMEOUT_SECONDS;
    return deadlineOf({ ...interruption, hook: { ...hook, timeoutSeconds } }, this.policy);
  }

  private async record(
    event: NodeEvent,
    node: NodeView,
    signal: AbortSignal,
  ): Promise<EventVerdict> {
    const { clock, metrics, objectEvents, report } = this.ports;
    const startedAt = clock.now();
    const kind = kindOf(event);
    const facts = { node: node.name, ...factsOf(event), kind };
    const onlyEnds = roleOf(event).role === 'ends';
    metrics.observe('receipt_delay_seconds', { kind }, (startedAt - event.time) / 1000);
    if (!onlyEnds) {
      report.info('interruption received', {
        ...facts,
        millisecondsSinceEvent: startedAt - event.time,
      });
    }
    const result = await this.records.apply(node.name, { type: 'event', event });
    switch (result.outcome) {
      case 'recorded': {
        if (onlyEnds) {
          report.info('end recorded', { ...facts, state: result.journal?.state });
          return { end: 'over', outcome: 'recorded' };
        }
        const deadlineAt = deadlineAtReceipt(event, startedAt);
        const markedAt = clock.now();
        metrics.observe('mark_delay_seconds', { kind }, (markedAt - startedAt) / 1000);
        report.info('marked', {
          node: node.name,
          kind,
          instance: node.instanceId,
          ...(deadlineAt !== undefined && {
            deadline: new Date(deadlineAt),
            secondsLeft: Math.round((deadlineAt - markedAt) / 100) / 10,
          }),
          state: result.journal?.state,
          millisecondsToMark: markedAt - startedAt,
        });
        objectEvents.onNode(node, 'Interrupted', {
          kind,
          instance: node.instanceId ?? subjectOf(event),
          deadlineAt,
          waits: result.journal?.state === 'waiting',
        });
        return { end: 'over', outcome: 'recorded' };
      }
      case 'duplicate':
        report.debug('duplicate', facts);
        return { end: 'over', outcome: 'duplicate' };
      case 'stale':
        report.info('stale', facts);
        return { end: 'over', outcome: 'stale' };
      case 'gone':
        return event.kind === 'capacity-block-expiry' || onlyEnds
          ? { end: 'over', outcome: 'stale' }
          : this.judgeWithoutNode(event, signal);
      case 'refused': {
        // What is not in memory either is tried again.
        if (!isEmergency(kind)) return { end: 'later', seconds: RECHECK_SECONDS };
        // Acted on from memory; the message is the only record, and comes back if this process dies.
        const deadlineAt = deadlineAtReceipt(event, startedAt) ?? startedAt;
        const seconds = Math.ceil((deadlineAt - startedAt) / 1000);
        return {
          end: 'later',
          seconds: Math.min(Math.max(seconds, RECHECK_SECONDS), MAX_VISIBILITY_SECONDS),
        };
      }
      case 'unreachable':
        return { end: 'unreachable' };
      default:
        throw new Error(`unexpected outcome: ${JSON.stringify(result satisfies never)}`);
    }
  }
}

/** Questions without an answer would keep their messages in hand, hidden from everybody. */
function askedUnderWatch(ports: JudgePorts): JudgePorts {
  const { store, hooks, watchdog = UNWATCHED } = ports;
  return {
    ...ports,
    store: {
      kubeletRenewed: (name, signal) =>
        watched(watchdog, 'judge', `the Lease of node ${name}`, () =>
          store.kubeletRenewed(name, signal),
        ),
    },
    hooks: {
      complete: (action, signal) =>
        watched(watchdog, 'judge', `hook ${action.hook} of ${action.instanceId}`, () =>
          hooks.complete(action, signal),
        ),
      describe: (group, hook, signal) =>
        watched(watchdog, 'judge', `hook ${hook} of ${group}`, () =>
          hooks.describe(group, hook, signal),
        ),
    },
  };
}

function questionOf(event: NodeEvent, { name }: NodeView): string {
  return `${event.eventId ?? event.time}/${name}`;
}

function deadlineAtReceipt(event: NodeEvent, now: number): number | undefined {
  const news = newsOf(event, now);
  return news.about === 'machine' ? undefined : news.interruption.deadlineAt;
}

/** Of one event on several nodes: over when it is on each, recorded when it is on any. */
function together(verdicts: readonly EventVerdict[]): EventVerdict {
  const open =
    verdicts.find(({ end }) => end === 'unreachable') ?? verdicts.find(({ end }) => end !== 'over');
  const recorded = verdicts.find(
    (verdict) => verdict.end === 'over' && verdict.outcome === 'recorded',
  );
  const verdict = open ?? recorded ?? verdicts[0];
  if (verdict === undefined) throw new Error('an event without a verdict');
  return verdict;
}

/** Whose Node a message waits for: its instance's, or one that runs in the reservation. */
export function subjectOf(event: NodeEvent | LaunchHook): string {
  return event.kind === 'capacity-block-expiry' ? event.reservationId : event.instanceId;
}

export function factsOf(event: Event): Record<string, unknown> {
  return {
    kind: event.kind,
    ...('state' in event && { instanceState: event.state }),
    ...('change' in event && { change: event.change, status: event.status }),
    ...('instanceId' in event && { instance: event.instanceId }),
    ...('reservationId' in event && { reservation: event.reservationId }),
    ...('hook' in event && { group: event.group, hook: event.hook }),
    event: event.eventId,
    eventTime: new Date(event.time),
  };
}
