import type { Clock, Timer } from '../clock.ts';
import type { Journal } from '../plan/journal.ts';
import {
  mayBeTakenOut,
  nextLook,
  overdueFrom,
  unansweredWaitMs,
  type LookReason,
} from '../plan/life.ts';
import { OUT_OF_SERVICE_KEY, type NodeView } from '../plan/node.ts';
import type { Policy } from '../plan/policy.ts';
import type { ObjectEvents } from '../report/object-events.ts';
import type { Report } from '../report/report.ts';
import type { Journals } from './journals.ts';

type Ports = Readonly<{
  journals: Journals;
  nodeOf: (nodeName: string) => NodeView | undefined;
  /** When the node's kubelet last renewed its Lease, Ready or not; `unknown`: no answer came. */
  leaseRenewed: (nodeName: string, signal: AbortSignal) => Promise<number | 'never' | 'unknown'>;
  objectEvents: ObjectEvents;
  clock: Clock;
  report: Report;
}>;

type Watched = {
  journal: Journal;
  timer: Timer | undefined;
  reported: Set<string>;
  /** Looks in a row that got no answer, and until when (epoch ms) none follows them. */
  unanswered: number;
  quietUntil: number;
};

/**
 * Asks for kubelets' Leases where the journal waits for a sign of life, or for the lack of one: a
 * machine that comes back from hibernation, one that is off for good, one that should be gone.
 */
export class LifeWatch {
  private readonly watched = new Map<string, Watched>();
  private readonly stopping = new AbortController();
  private readonly ports: Ports;
  private readonly policy: Policy;

  constructor(ports: Ports, policy: Policy) {
    this.ports = ports;
    this.policy = policy;
  }

  /** A node's journal as it stands now; undefined: the Node is gone, or nothing of ours is on it. */
  follow(nodeName: string, journal: Journal | undefined): void {
    const known = this.watched.get(nodeName);
    known?.timer?.cancel();
    const node = this.ports.nodeOf(nodeName);
    if (journal === undefined || node === undefined || this.stopping.signal.aborted) {
      this.watched.delete(nodeName);
      return;
    }
    const live = new Set(journal.live.map(({ id }) => id));
    const reported = new Set([...(known?.reported ?? [])].filter((id) => live.has(id)));
    const { unanswered = 0, quietUntil = -Infinity } = known ?? {};
    const watched: Watched = { journal, timer: undefined, reported, unanswered, quietUntil };
    if (this.arm(nodeName, node, watched)) this.watched.set(nodeName, watched);
    else this.watched.delete(nodeName);
  }

  stop(): void {
    this.stopping.abort();
    for (const { timer } of this.watched.values()) timer?.cancel();
    this.watched.clear();
  }

  private arm(nodeName: string, node: NodeView, watched: Watched): boolean {
    const { clock } = this.ports;
    const now = clock.now();
    const look = nextLook(watched.journal, node, this.policy, watched.reported, now);
    if (look === undefined) return false;
    watched.timer = clock.after(Math.max(look.at, watched.quietUntil) - now, () => {
      void this.look(nodeName, watched, look.why);
    });
    return true;
  }

  private async look(nodeName: string, watched: Watched, why: LookReason): Promise<void> {
    const { signal } = this.stopping;
    let renewedAt: number | 'never' | 'unknown';
    try {
      renewedAt = await this.ports.leaseRenewed(nodeName, signal);
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    const node = this.ports.nodeOf(nodeName);
    // What has changed meanwhile is looked at by itself.
    if (this.watched.get(nodeName) !== watched || node === undefined) return;
    if (renewedAt === 'unknown') {
      // Nothing is concluded, so what was due is due still.
      watched.unanswered += 1;
      watched.quietUntil = this.ports.clock.now() + unansweredWaitMs(watched.unanswered);
    } else {
      watched.unanswered = 0;
      await this.conclude(nodeName, node, watched, why, renewedAt);
    }
    if (this.watched.get(nodeName) !== watched || signal.aborted) return;
    if (!this.arm(nodeName, node, watched)) this.watched.delete(nodeName);
  }

  private async conclude(
    nodeName: string,
    node: NodeView,
    watched: Watched,
    why: LookReason,
    renewedAt: number | 'never',
  ): Promise<void> {
    const { journals, objectEvents, report, clock } = this.ports;
    const { journal } = watched;
    const { stopped, runningAt = Infinity } = journal.signs;
    const aliveSince = why === 'off' ? (stopped?.at ?? Infinity) : runningAt;
    switch (why) {
      case 'return':
      case 'off':
        // That there is no Lease proves neither life nor death.
        if (renewedAt === 'never') return;
        if (renewedAt > aliveSince) {
          await journals.apply(nodeName, { type: 'alive', at: renewedAt });
        } else if (why === 'off' && !node.ready && mayBeTakenOut(journal, node, this.policy)) {
          const { outcome } = await journals.apply(nodeName, { type: 'out-of-service' });
          if (outcome !== 'recorded') return;
          report.warn('machine out of service', { node: nodeName });
          objectEvents.onNode(node, 'OutOfService', { taint: OUT_OF_SERVICE_KEY });
        }
        return;
      case 'overdue':
        for (const entry of journal.live) {
          if (overdueFrom(entry, this.policy) > clock.now() || watched.reported.has(entry.id))
            continue;
          watched.reported.add(entry.id);
          if (!node.ready || renewedAt === 'never' || renewedAt < clock.now() - RECENT_MS) continue;
          report.warn('machine alive after its deadline', {
            node: nodeName,
            instance: journal.machine.instanceId,
            kind: entry.kind,
            interruption: entry.id,
          });
          const { kind } = entry;
          objectEvents.onNode(node, 'DeadlineOutlived', { kind, isDraining: false });
        }
        return;
      default:
        throw new Error(`unexpected reason: ${String(why satisfies never)}`);
    }
  }
}

/** A kubelet renews every 10 s. */
const RECENT_MS = 60_000;
