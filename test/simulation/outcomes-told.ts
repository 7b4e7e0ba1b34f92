import { episodeOf } from '../../src/plan/interruption.ts';
import type { Journal } from '../../src/plan/journal.ts';
import type { InterruptionOutcome } from '../../src/report/outcome.ts';
import type { RawPod } from './api-server.ts';
import type { Entry } from './record.ts';
import { MARGIN_MS, NEWS_MS, SKEW_MS, UNKNOWN_GRACE_SECONDS, type World } from './world.ts';

type Judge = Readonly<{
  count: () => void;
  broken: (says: string) => void;
  /** As it stands on the Node. */
  journalOf: (nodeName: string) => Journal | undefined;
  isForgotten: (nodeName: string) => boolean;
  registeredAt: (nodeName: string) => number;
  /** Pods that a drain waits for, and must have heard of by then. */
  waitedFor: (nodeName: string, at: number) => readonly RawPod[];
}>;

/** One that has stood in a Node's journal. */
type Recorded = {
  readonly nodeName: string;
  readonly recordedAt: number;
  /** Of its first journal, and of its latest, with since when that is so. */
  readonly firstState: Journal['state'] | undefined;
  state: Journal['state'] | undefined;
  stateSince: number;
  isReceiptTold: boolean;
  isTold: boolean;
  /** When it was there last, or the Node was; Infinity: it is. */
  endedAt: number;
  /** The Node itself went. */
  isLost: boolean;
};

/** A drain's course ends within so much of its last write, told or not. */
const END_FELT_MS = 5000;
/** Whoever leads then tells what was lost with its Node. */
const TELLS_LOST_WITHIN_MS = UNKNOWN_GRACE_SECONDS * 1000 + 30_000;

/** What is told to the outside is true; and of each interruption its receipt is told, and its end. */
export class OutcomesTold {
  private readonly world: World;
  private readonly judge: Judge;
  /** Of which it was told that they were received. */
  private readonly receipts = new Set<string>();
  /** By instance and episode. */
  private readonly recorded = new Map<string, Recorded>();
  /** By node: when a pod last left. */
  private readonly departedAt = new Map<string, number>();
  /** By node: when its machine last went off, or itself. */
  private readonly lostAt = new Map<string, number>();
  /** By process: when its term began. */
  private readonly leadsSince = new Map<string, number>();
  /** By process and node: when it last deleted a pod, and one that nobody had told to go before. */
  private readonly deletedAt = new Map<string, number>();
  private readonly forcedAt = new Map<string, number>();

  constructor(world: World, judge: Judge) {
    this.world = world;
    this.judge = judge;
  }

  see(entry: Entry): void {
    const { at, what } = entry;
    if (what === 'node written') this.noteJournal(entry.after.metadata.name, at);
    else if (what === 'node gone') this.noteLoss(entry.node.metadata.name, at);
    else if (what === 'pod gone') this.departedAt.set(entry.pod.spec.nodeName, at);
    else if (what === 'machine off') this.lostAt.set(entry.node, at);
    else if (what === 'process leads') this.leadsSince.set(entry.process, at);
    else if (what === 'deletion') {
      const { process, before } = entry;
      const key = `${process} ${before.spec.nodeName}`;
      this.deletedAt.set(key, at);
      if (before.metadata.deletionTimestamp === undefined) this.forcedAt.set(key, at);
    } else if (what === 'receipt told') {
      const { instanceId, interruption } = entry.news;
      const key = `${instanceId} ${episodeOf(interruption)}`;
      this.receipts.add(key);
      const one = this.recorded.get(key);
      if (one !== undefined) one.isReceiptTold = true;
    } else if (what === 'outcome told') this.judgeTold(entry.told, entry.process, at);
  }

  private noteJournal(nodeName: string, at: number): void {
    const journal = this.judge.journalOf(nodeName);
    const live = new Set<string>();
    for (const interruption of journal?.live ?? []) {
      const key = `${journal?.machine.instanceId} ${episodeOf(interruption)}`;
      live.add(key);
      // With its Node it may have gone, and have been restored.
      const known = this.recorded.get(key);
      const state = journal?.state;
      this.recorded.set(key, {
        nodeName,
        recordedAt: known?.recordedAt ?? at,
        firstState: known === undefined ? state : known.firstState,
        isReceiptTold: known?.isReceiptTold ?? this.receipts.has(key),
        isTold: known?.isTold ?? false,
        state,
        stateSince: known?.state === state ? (known?.stateSince ?? at) : at,
        endedAt: Infinity,
        isLost: false,
      });
    }
    for (const [key, one] of this.recorded) {
      if (one.nodeName === nodeName && one.endedAt === Infinity && !live.has(key)) one.endedAt = at;
    }
  }

  private noteLoss(nodeName: string, at: number): void {
    this.lostAt.set(nodeName, at);
    for (const one of this.recorded.values()) {
      if (one.nodeName !== nodeName || one.endedAt !== Infinity) continue;
      one.endedAt = at;
      one.isLost = true;
    }
  }

  private judgeTold(told: InterruptionOutcome, process: string, at: number): void {
    const { world, judge } = this;
    const { node: name, instanceId, interruption, outcome } = told;
    const one = this.recorded.get(`${instanceId} ${episodeOf(interruption)}`);
    if (one === undefined) {
      judge.broken(`${outcome} was told of ${interruption.id} on ${name}, which nobody recorded`);
      return;
    }
    one.isTold = true;
    judge.count();
    const falsehood = one.isReceiptTold
      ? this.falsehoodOf(told, one.stateSince, process, at)
      : this.whyNoReceipt(one);
    // Of two leaders, none knows what the other did.
    if (falsehood === undefined || world.storm.replicas === 'overlapping') return;
    if (world.wasTroubled(at - 15_000, at, ['api', 'process'])) return;
    judge.broken(`${process} told ${outcome} of ${interruption.id}, and ${falsehood} (${name})`);
  }

  /** What speaks against it. */
  private falsehoodOf(
    { node: name, outcome, interruption, deadlineAt }: InterruptionOutcome,
    stateSince: number,
    process: string,
    at: number,
  ): string | undefined {
    const { world, judge } = this;
    const machine = world.cluster.machines.get(name);
    const isThere =
      world.cluster.api.nodes.has(name) &&
      machine?.isOn === true &&
      !machine.isGone &&
      at - judge.registeredAt(name) >= NEWS_MS;
    const key = `${process} ${name}`;
    const forcedAt = this.forcedAt.get(key);
    switch (outcome) {
      case 'drained':
      case 'forced': {
        const left = isThere ? judge.waitedFor(name, at) : [];
        if (left.length > 0)
          return `${left.map(({ metadata }) => metadata.name).join()} was still there`;
        // A drain that begins anew does not know of those before.
        const drainedSince = Math.max(
          interruption.recordedAt - SKEW_MS,
          stateSince,
          this.leadsSince.get(process) ?? 0,
          judge.registeredAt(name),
        );
        const wasForced = forcedAt !== undefined && forcedAt >= drainedSince;
        if (outcome === 'drained' && wasForced) return 'a pod had been deleted past its budget';
        if (outcome === 'forced' && !this.deletedAt.has(key)) return 'no pod was deleted';
        return undefined;
      }
      case 'late': {
        // What a hook would expire with is over the margin before.
        if (deadlineAt === undefined || at < deadlineAt - MARGIN_MS - 2 * SKEW_MS)
          return 'there was time left';
        const wasEmptied = at - (this.departedAt.get(name) ?? 0) > NEWS_MS;
        const isEmpty = isThere && wasEmptied && world.cluster.podsOn(name).length === 0;
        return isEmpty ? 'the node was empty' : undefined;
      }
      case 'not-possible': {
        const lostAt = this.lostAt.get(name) ?? -Infinity;
        return isThere && at - lostAt > TELLS_LOST_WITHIN_MS
          ? 'its machine had run all the time'
          : undefined;
      }
      case 'cancelled':
        return judge.journalOf(name)?.live.some(({ id }) => id === interruption.id) === true
          ? 'it was not over'
          : undefined;
      default:
        throw new Error(`unexpected outcome: ${String(outcome satisfies never)}`);
    }
  }

  /** All is quiet, long after the last fault. */
  judgeEnd(): void {
    const { judge } = this;
    for (const [key, one] of this.recorded) {
      if (this.isAhead(one) || (!one.isTold && this.isExcused(one))) continue;
      judge.count();
      if (!one.isTold) judge.broken(`nobody told what became of ${key} on ${one.nodeName}`);
      else if (!one.isReceiptTold && this.whyNoReceipt(one) !== undefined)
        judge.broken(`nobody told that ${key} was received`);
    }
  }

  /** Undefined: who wrote the record had no answer to it, died before it could, or led no longer. */
  private whyNoReceipt({ recordedAt }: Recorded): string | undefined {
    return this.wasTroubledSoonAfter(recordedAt) ? undefined : 'its receipt was not told before';
  }

  private wasTroubledSoonAfter(at: number): boolean {
    return this.world.wasTroubled(at - 1000, at + END_FELT_MS, ['api', 'process']);
  }

  /** Its end is still to come. */
  private isAhead({ nodeName, firstState, endedAt, isLost }: Recorded): boolean {
    if (endedAt === Infinity) {
      const state = this.judge.journalOf(nodeName)?.state;
      // A machine that is off may be started again, and have its turn.
      if (state === 'stopped') return firstState === 'waiting';
      return state === 'waiting' || state === 'draining';
    }
    return isLost && this.world.now() - endedAt < TELLS_LOST_WITHIN_MS;
  }

  private cameToOff(name: string): boolean {
    return [...this.recorded.values()].some(
      ({ nodeName, firstState }) => nodeName === name && firstState === 'stopped',
    );
  }

  /**
   * It came to a node that was empty already, or to a machine that was off, or waited beside one that
   * did; or who knew of it died after the record and before it could tell, or nobody lived who had seen it.
   */
  private isExcused(one: Recorded): boolean {
    const { judge, world } = this;
    const { nodeName, recordedAt, firstState, stateSince, endedAt, isLost } = one;
    if (this.wasTroubledSoonAfter(recordedAt)) return true;
    if (firstState === 'settled' || this.cameToOff(nodeName)) return true;
    if (judge.isForgotten(nodeName)) return true;
    const feltUntil = (endedAt === Infinity ? stateSince : endedAt) + END_FELT_MS;
    const untilAt = isLost ? endedAt + TELLS_LOST_WITHIN_MS : feltUntil;
    return world.wasTroubled(stateSince - 1000, untilAt, ['process']);
  }
}
