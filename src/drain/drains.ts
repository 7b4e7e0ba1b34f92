import type { Timer } from '../clock.ts';
import type { Journal, JournalState } from '../plan/journal.ts';
import { hasOpenHook } from '../plan/policy.ts';
import { Departures } from './departures.ts';
import { EvictionQueue } from './eviction-queue.ts';
import { HookAdvice } from './hook-advice.ts';
import { NodeDrain, type DrainPolicy, type DrainPorts } from './node-drain.ts';

/** How long after its end a drain is first begun again, where the journal still calls for it. */
const AGAIN_AFTER_MS = {
  /** By a fault of ours. */
  failed: 5000,
  /** The API server had no such Node, of whose end the watch has yet to tell; or a hook was given up. */
  settled: 1000,
  /** Something else has come in its place, or all that called for it had gone for a moment. */
  'node gone': 0,
  stopped: 0,
} as const;
/** A drain that came to its end changes little by beginning again: twice as long each time, until the journal changes. */
const MAX_AGAIN_AFTER_MS = 300_000;

/** One drain per node, begun, followed and ended by what the journals say. */
export class Drains {
  /** Of the Nodes that there are. */
  private readonly drains = new Map<string, NodeDrain>();
  /** Those whose Node is gone as well. */
  private readonly open = new OpenDrains();
  private readonly running = new Set<Promise<void>>();
  private readonly again = new Map<string, Timer>();
  /** Of the Nodes whose journal has called for a drain since its last one ended: the latest pause. */
  private readonly pausesMs = new Map<string, number>();
  private readonly ports: DrainPorts;
  private readonly policy: DrainPolicy;
  private stopped = false;

  constructor(ports: Omit<DrainPorts, 'advice' | 'queue' | 'departures'>, policy: DrainPolicy) {
    this.ports = {
      ...ports,
      advice: new HookAdvice(policy, ports.report),
      queue: new EvictionQueue(ports.clock, ports.watchdog),
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
    this.pausesMs.delete(nodeName);
    const drain = this.drains.get(nodeName);
    if (journal === undefined || !isDraining(journal.state)) {
      if (this.ports.nodeOf(nodeName) === undefined) {
        // What may come under this name is another drain's: this one only completes its hooks.
        drain?.nodeGone();
        this.drains.delete(nodeName);
      } else drain?.stop();
      return;
    }
    if (drain !== undefined) this.open.update(drain, journal);
    else if (callsForDrain(journal, this.policy)) this.begin(nodeName, journal);
  }

  /** Of a Node that went while nobody led: nothing is left of its drain but hooks of ours. */
  finish(nodeName: string, journal: Journal): void {
    if (!journal.live.some((entry) => hasOpenHook(entry, this.policy))) return;
    const drain = new NodeDrain(nodeName, journal, this.ports, this.policy);
    drain.nodeGone();
    this.run(nodeName, drain);
  }

  /** Whether a drain of this instance has not come to its end; its Node may be gone. */
  isDraining(instanceId: string): boolean {
    return this.open.ofInstance(instanceId).length > 0;
  }

  /** How many evictions may be under way now, of all drains together. */
  get evictionLimit(): number {
    return this.ports.queue.concurrencyLimit;
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
    for (const drain of this.open.all()) drain.stop();
    await Promise.all(this.running);
  }

  private begin(nodeName: string, journal: Journal): void {
    this.again.get(nodeName)?.cancel();
    this.again.delete(nodeName);
    const drain = new NodeDrain(nodeName, journal, this.ports, this.policy);
    // Of a machine that has registered anew: its hooks wait for this drain's end now.
    for (const other of this.open.ofInstance(drain.instanceId)) other.stop();
    this.drains.set(nodeName, drain);
    this.run(nodeName, drain);
  }

  private run(nodeName: string, drain: NodeDrain): void {
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
        this.beginAgain(nodeName, end);
      });
    this.running.add(running);
  }

  /** If the journal still calls for it: the Node may have come back while its hooks were completed. */
  private beginAgain(nodeName: string, end: keyof typeof AGAIN_AFTER_MS): void {
    const lastMs = this.pausesMs.get(nodeName);
    this.pausesMs.delete(nodeName);
    if (this.stopped || !this.isCalledFor(nodeName)) return;
    const afterMs =
      end === 'settled' && lastMs !== undefined
        ? Math.min(Math.max(AGAIN_AFTER_MS.settled, 2 * lastMs), MAX_AGAIN_AFTER_MS)
        : AGAIN_AFTER_MS[end];
    this.pausesMs.set(nodeName, afterMs);
    const timer = this.ports.clock.after(afterMs, () => {
      this.again.delete(nodeName);
      const journal = this.ports.journals.journalOf(nodeName);
      if (journal === undefined || this.drains.has(nodeName)) return;
      if (this.isCalledFor(nodeName)) this.begin(nodeName, journal);
    });
    this.again.get(nodeName)?.cancel();
    this.again.set(nodeName, timer);
  }

  private isCalledFor(nodeName: string): boolean {
    const journal = this.ports.journals.journalOf(nodeName);
    return (
      journal !== undefined &&
      this.ports.nodeOf(nodeName) !== undefined &&
      callsForDrain(journal, this.policy)
    );
  }
}

/** The drains that have not come to their end, by the instance that each is about now. */
class OpenDrains {
  private readonly byInstance = new Map<string, Set<NodeDrain>>();
  private count = 0;

  get size(): number {
    return this.count;
  }

  all(): readonly NodeDrain[] {
    return [...this.byInstance.values()].flatMap((drains) => [...drains]);
  }

  ofInstance(instanceId: string): readonly NodeDrain[] {
    return [...(this.byInstance.get(instanceId) ?? [])];
  }

  add(drain: NodeDrain): void {
    const drains = this.byInstance.get(drain.instanceId) ?? new Set();
    this.byInstance.set(drain.instanceId, drains.add(drain));
    this.count += 1;
  }

  delete(drain: NodeDrain): void {
    const drains = this.byInstance.get(drain.instanceId);
    if (drains?.delete(drain) !== true) return;
    this.count -= 1;
    if (drains.size === 0) this.byInstance.delete(drain.instanceId);
  }

  /** Another machine may have come under the Node's name. */
  update(drain: NodeDrain, journal: Journal): void {
    this.delete(drain);
    drain.update(journal);
    this.add(drain);
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

/** Of a machine that is off, only the hooks of ours are left to complete. */
function callsForDrain({ state, live }: Journal, policy: DrainPolicy): boolean {
  if (state === 'stopped') return live.some((entry) => hasOpenHook(entry, policy));
  return state === 'draining';
}
