import type { Timer } from '../clock.ts';
import type { Journal, JournalState } from '../plan/journal.ts';
import { Departures } from './departures.ts';
import { EvictionQueue } from './eviction-queue.ts';
import { HookAdvice } from './hook-advice.ts';
import { NodeDrain, type DrainPolicy, type DrainPorts } from './node-drain.ts';

/** How long after its end a drain is begun again, where the journal still calls for it. */
const AGAIN_AFTER_MS = {
  /** By a fault of ours. */
  failed: 5000,
  /** The API server had no such Node, of whose end the watch has yet to tell. */
  settled: 1000,
  /** Something else has come in its place, or all that called for it had gone for a moment. */
  'node gone': 0,
  stopped: 0,
} as const;

/** One drain per node, begun, followed and ended by what the journals say. */
export class Drains {
  /** Of the Nodes that there are. */
  private readonly drains = new Map<string, NodeDrain>();
  /** Those whose Node is gone as well. */
  private readonly open = new Set<NodeDrain>();
  private readonly running = new Set<Promise<void>>();
  private readonly again = new Map<string, Timer>();
  private readonly ports: DrainPorts;
  private readonly policy: DrainPolicy;
  private stopped = false;

  constructor(ports: Omit<DrainPorts, 'advice' | 'queue' | 'departures'>, policy: DrainPolicy) {
    this.ports = {
      ...ports,
      advice: new HookAdvice(policy, ports.report),
      queue: new EvictionQueue(ports.clock),
      departures: new Departures(ports.pods, ports.report),
    };
    this.policy = policy;
  }

  get active(): number {
    return this.open.size;
  }

  /** A node's journal as it stands now; undefined: the Node is gone, or nothing of ours is on it. */
  follow(nodeName: string, journal: Journal | undefined): void {
    if (this.stopped) return;
    const drain = this.drains.get(nodeName);
    if (journal === undefined || !isDraining(journal.state)) {
      if (this.ports.nodeOf(nodeName) === undefined) {
        // What may come under this name is another drain's: this one only completes its hooks.
        drain?.nodeGone();
        this.drains.delete(nodeName);
      } else drain?.stop();
      return;
    }
    if (drain !== undefined) drain.update(journal);
    else if (callsForDrain(journal)) this.begin(nodeName, journal);
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
    for (const drain of this.open) drain.stop();
    await Promise.all(this.running);
  }

  private begin(nodeName: string, journal: Journal): void {
    const drain = new NodeDrain(nodeName, journal, this.ports, this.policy);
    this.drains.set(nodeName, drain);
    this.open.add(drain);
    const running = drain
      .run()
      .catch((error: unknown) => {
        this.ports.report.error('drain failed', { node: nodeName, error });
        return 'failed' as const;
      })
      .then((end) => {
        this.running.delete(running);
        this.open.delete(drain);
        if (this.drains.get(nodeName) === drain) this.drains.delete(nodeName);
        this.beginAgain(nodeName, AGAIN_AFTER_MS[end]);
      });
    this.running.add(running);
  }

  /** If the journal still calls for it: the Node may have come back while its hooks were completed. */
  private beginAgain(nodeName: string, afterMs: number): void {
    if (this.stopped || this.ports.nodeOf(nodeName) === undefined) return;
    const journal = this.ports.journals.journalOf(nodeName);
    if (journal === undefined || !callsForDrain(journal)) return;
    const timer = this.ports.clock.after(afterMs, () => {
      this.again.delete(nodeName);
      if (!this.drains.has(nodeName))
        this.follow(nodeName, this.ports.journals.journalOf(nodeName));
    });
    this.again.get(nodeName)?.cancel();
    this.again.set(nodeName, timer);
  }
}

/** Whether a drain that is under way goes on. */
function isDraining(state: JournalState): boolean {
  switch (state) {
    case 'draining':
    case 'settled':
    case 'stopped':
      return true;
    case 'waiting':
    case 'undone':
      return false;
    default:
      throw new Error(`unexpected state: ${String(state satisfies never)}`);
  }
}

/** Of a machine that is off, only the hooks are left to complete. */
function callsForDrain({ state, live }: Journal): boolean {
  const hasHooks = live.some(({ hook }) => hook !== undefined && hook.completedAt === undefined);
  return state === 'draining' || (state === 'stopped' && hasHooks);
}
