import type { Clock, Timer } from '../clock.ts';
import { isWaiting } from '../plan/calls.ts';
import type { Journal } from '../plan/journal.ts';
import { limitOf, turnsOf } from '../plan/pace.ts';
import type { Policy } from '../plan/policy.ts';
import { isEmergency } from '../plan/rows.ts';
import type { Report } from '../report/report.ts';
import type { Journals } from './journals.ts';

type Ports = Readonly<{
  journals: Journals;
  /** How many nodes NODE_SELECTOR chooses. */
  selectedNodes: () => number;
  clock: Clock;
  report: Report;
}>;

/** News come in bursts: they are looked at together, and less often where there are many nodes. */
const GATHER_MS = 100;
const GATHER_MS_PER_NODE = 0.1;
/** After a turn that could not be recorded. */
const RETRY_MS = { unreachable: 5000, refused: 60_000 } as const;

/**
 * Gives paced interruptions their turn, by the record alone: what is recorded as begun begins. Holds
 * the journals of the nodes with paced interruptions.
 */
export class Pacer {
  private readonly paced = new Map<string, Journal>();
  /** Turns on their way into the record, by node, with the ids that begin. */
  private readonly giving = new Map<string, readonly string[]>();
  /** Nodes whose turn could not be recorded, and until when they are passed over. */
  private readonly passedOver = new Map<string, number>();
  private timer: Timer | undefined;
  private timerAt = Infinity;
  private stopped = false;
  private readonly ports: Ports;
  private readonly policy: Policy;

  constructor(ports: Ports, policy: Policy) {
    this.ports = ports;
    this.policy = policy;
  }

  /** A node's journal as it stands now; undefined: the Node is gone, or nothing of ours is on it. */
  follow(nodeName: string, journal: Journal | undefined): void {
    const isPaced = journal?.live.some(({ kind }) => !isEmergency(kind)) ?? false;
    if (!isPaced && !this.paced.has(nodeName)) return;
    if (journal !== undefined && isPaced) this.paced.set(nodeName, journal);
    else {
      this.paced.delete(nodeName);
      this.passedOver.delete(nodeName);
    }
    this.lookSoon();
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  private lookSoon(): void {
    const gatherMs = Math.max(GATHER_MS, this.paced.size * GATHER_MS_PER_NODE);
    this.lookAt(this.ports.clock.now() + gatherMs);
  }

  private lookAt(at: number): void {
    if (this.stopped || at >= this.timerAt || at === Infinity) return;
    this.timer?.cancel();
    this.timerAt = at;
    this.timer = this.ports.clock.after(Math.max(0, at - this.ports.clock.now()), () => {
      this.timerAt = Infinity;
      this.look();
    });
  }

  private look(): void {
    const now = this.ports.clock.now();
    if (![...this.paced.values()].some(({ live }) => live.some(isWaiting))) return;
    const nodes = new Map<string, Journal>();
    const passedOver = new Set<string>();
    for (const [name, journal] of this.paced) {
      const until = this.passedOver.get(name);
      if (until !== undefined && until > now) {
        this.lookAt(until);
        passedOver.add(name);
      }
      nodes.set(name, this.withTurnOnItsWay(name, journal, now));
    }
    const limit = limitOf(this.policy.voluntaryDrainLimit, this.ports.selectedNodes());
    const { begin, nextAt } = turnsOf(nodes, limit, this.policy, now, passedOver);
    for (const { name, ids } of begin) void this.give(name, ids);
    this.lookAt(nextAt);
  }

  /** It holds a slot from now on. */
  private withTurnOnItsWay(name: string, journal: Journal, now: number): Journal {
    const ids = this.giving.get(name);
    if (ids === undefined) return journal;
    const live = journal.live.map((entry) =>
      ids.includes(entry.id) ? { ...entry, begunAt: entry.begunAt ?? now } : entry,
    );
    return { ...journal, live, state: 'draining' };
  }

  private async give(name: string, ids: readonly string[]): Promise<void> {
    const { journals, clock, report } = this.ports;
    if (this.giving.has(name)) return;
    this.giving.set(name, ids);
    const { outcome } = await journals.apply(name, { type: 'begun', ids });
    this.giving.delete(name);
    if ((outcome === 'unreachable' || outcome === 'refused') && this.paced.has(name)) {
      this.passedOver.set(name, clock.now() + RETRY_MS[outcome]);
    } else {
      this.passedOver.delete(name);
      if (outcome === 'recorded') report.info('turn has come', { node: name, interruptions: ids });
    }
    this.lookSoon();
  }
}
