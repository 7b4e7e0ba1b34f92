import type { Timer } from '../clock.ts';
import type { Journal } from '../plan/journal.ts';
import { Departures } from './departures.ts';
import { EvictionQueue } from './eviction-queue.ts';
import { NodeDrain, type DrainPolicy, type DrainPorts } from './node-drain.ts';

/** A drain that failed by a fault of ours is begun again after this long. */
const AGAIN_AFTER_MS = 5000;

/** One drain per node, begun, followed and ended by what the journals say. */
export class Drains {
  private readonly drains = new Map<string, NodeDrain>();
  private readonly running = new Set<Promise<void>>();
  private readonly again = new Map<string, Timer>();
  private readonly ports: DrainPorts;
  private readonly policy: DrainPolicy;
  private stopped = false;

  constructor(ports: Omit<DrainPorts, 'queue' | 'departures'>, policy: DrainPolicy) {
    this.ports = {
      ...ports,
      queue: new EvictionQueue(ports.clock),
      departures: new Departures(ports.pods, ports.report),
    };
    this.policy = policy;
  }

  get active(): number {
    return this.drains.size;
  }

  /** A node's journal as it stands now; undefined: the Node is gone, or nothing of ours is on it. */
  follow(nodeName: string, journal: Journal | undefined): void {
    if (this.stopped) return;
    const drain = this.drains.get(nodeName);
    if (journal === undefined || journal.live.length === 0) {
      if (this.ports.nodeOf(nodeName) === undefined) drain?.nodeGone();
      else drain?.stop();
      return;
    }
    if (drain !== undefined) drain.update(journal);
    else if (journal.state === 'draining') this.begin(nodeName, journal);
  }

  /** Something about the Node changed that a drain may wait for. */
  wake(nodeName: string): void {
    this.drains.get(nodeName)?.wake();
  }

  /** Ends at once; what is left to do stands in the journals. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.ports.queue.close();
    for (const timer of this.again.values()) timer.cancel();
    for (const drain of this.drains.values()) drain.stop();
    await Promise.all(this.running);
  }

  private begin(nodeName: string, journal: Journal): void {
    const drain = new NodeDrain(nodeName, journal, this.ports, this.policy);
    this.drains.set(nodeName, drain);
    let againAfterMs: number | undefined;
    const running = drain
      .run()
      .then((end) => {
        if (end === 'node gone') againAfterMs = 0;
      })
      .catch((error: unknown) => {
        this.ports.report.error('drain failed', { node: nodeName, error });
        againAfterMs = AGAIN_AFTER_MS;
      })
      .finally(() => {
        this.running.delete(running);
        this.drains.delete(nodeName);
        if (againAfterMs !== undefined) this.beginAgain(nodeName, againAfterMs);
      });
    this.running.add(running);
  }

  /** If the journal still calls for it: the Node may have come back while its hooks were completed. */
  private beginAgain(nodeName: string, afterMs: number): void {
    if (this.stopped || this.ports.nodeOf(nodeName) === undefined) return;
    const timer = this.ports.clock.after(afterMs, () => {
      this.again.delete(nodeName);
      if (!this.drains.has(nodeName))
        this.follow(nodeName, this.ports.journals.journalOf(nodeName));
    });
    this.again.get(nodeName)?.cancel();
    this.again.set(nodeName, timer);
  }
}
