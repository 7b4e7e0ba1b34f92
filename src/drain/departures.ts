import type { Report } from '../report/report.ts';
import type { PodKey, PodWatchListener, Pods } from './pods.ts';

export type PodListener = Readonly<{
  onTerminating: (deletion: Parameters<PodWatchListener['onTerminating']>[1]) => void;
  onDeparted: () => void;
}>;

/** Departures told before a drain had registered its pods: between its list and this. */
const MAX_RECENT = 50_000;

/**
 * One watch of the cluster's pods while any drain is active, from the first drain's list on: it
 * tells each drain of its own pods. What it may miss, the drains' own lists find.
 */
export class Departures {
  private readonly listeners = new Map<string, PodListener>();
  private readonly recent = new Set<string>();
  private watching: AbortController | undefined;
  private users = 0;
  private readonly pods: Pick<Pods, 'watch'>;
  private readonly report: Report;

  constructor(pods: Pick<Pods, 'watch'>, report: Report) {
    this.pods = pods;
    this.report = report;
  }

  /** A drain begins, with the resourceVersion of its first list; the returned function ends its use. */
  use(resourceVersion: string): () => void {
    this.users += 1;
    if (this.watching === undefined) this.watch(resourceVersion);
    return () => {
      this.users -= 1;
      if (this.users > 0) return;
      this.watching?.abort();
      this.watching = undefined;
      this.recent.clear();
    };
  }

  register(uid: string, listener: PodListener): void {
    this.listeners.set(uid, listener);
    if (this.recent.has(uid)) this.depart(uid);
  }

  unregister(uid: string): void {
    this.listeners.delete(uid);
  }

  private watch(resourceVersion: string): void {
    const watching = new AbortController();
    this.watching = watching;
    const listener: PodWatchListener = {
      onTerminating: (pod, deletion) => this.listeners.get(pod.uid)?.onTerminating(deletion),
      onDeparted: (pod: PodKey) => {
        if (!this.depart(pod.uid)) this.rememberRecent(pod.uid);
      },
      onSnapshot: (uids) => {
        for (const uid of this.listeners.keys()) if (!uids.has(uid)) this.depart(uid);
      },
    };
    this.pods.watch(resourceVersion, listener, watching.signal).catch((error: unknown) => {
      if (watching.signal.aborted) return;
      this.report.error('pod watch ended', { error });
      if (this.watching === watching) this.watching = undefined;
    });
  }

  private depart(uid: string): boolean {
    const listener = this.listeners.get(uid);
    this.listeners.delete(uid);
    listener?.onDeparted();
    return listener !== undefined;
  }

  private rememberRecent(uid: string): void {
    this.recent.add(uid);
    const [oldest] = this.recent;
    if (this.recent.size > MAX_RECENT && oldest !== undefined) this.recent.delete(oldest);
  }
}
