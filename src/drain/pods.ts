import type { PodView } from '../plan/pod.ts';

/** What the API server said to an eviction or deletion. */
export type EvictionAnswer =
  /** Accepted: the pod is terminating, or already gone. */
  | Readonly<{ outcome: 'accepted' }>
  | Readonly<{ outcome: 'gone' }>
  /** 409 says nothing by itself: read the pod. */
  | Readonly<{ outcome: 'conflict'; message: string }>
  /** A budget refuses (429 with the cause, 403 or 500 of the budget's own). */
  | Readonly<{
      outcome: 'budget';
      budget: string | undefined;
      message: string;
      retryAfterMs: number | undefined;
    }>
  /** This pod alone: admission webhook, 504, 422, terminating namespace. */
  | Readonly<{
      outcome: 'refused';
      reason: 'namespace-terminating' | 'webhook' | 'timeout' | 'invalid' | 'forbidden';
      message: string;
    }>
  /** 429 without the budget cause, 503: everything slows down. */
  | Readonly<{ outcome: 'overloaded'; retryAfterMs: number | undefined }>
  | Readonly<{ outcome: 'unreachable'; message: string; timedOut: boolean }>;

export type PodKey = Readonly<{ namespace: string; name: string; uid: string }>;

/** Pods as a drain uses them. Evictions and deletions never reject but for the signal. */
export interface Pods {
  /** All pods bound to the node, from a consistent list. Rejects if the API server does not answer. */
  onNode(
    nodeName: string,
    signal: AbortSignal,
  ): Promise<Readonly<{ pods: readonly PodView[]; resourceVersion: string }>>;
  /** The pod of that name now, whatever its uid; undefined: none. Rejects if the API server does not answer. */
  read(namespace: string, name: string, signal: AbortSignal): Promise<PodView | undefined>;
  /** Eviction with uid precondition. `timeoutMs` bounds the wait for the answer. */
  evict(
    pod: PodKey,
    graceSeconds: number,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<EvictionAnswer>;
  /** DELETE with grace and uid precondition: past budgets. */
  delete(
    pod: PodKey,
    graceSeconds: number,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<EvictionAnswer>;
  /**
   * Watches unfinished pods of the whole cluster (metadata only) from a list's resourceVersion until
   * the signal aborts; survives resets and 410 by itself, in which case `onSnapshot` tells all that exist.
   */
  watch(resourceVersion: string, listener: PodWatchListener, signal: AbortSignal): Promise<void>;
}

export interface PodWatchListener {
  /** Deletion began or changed. */
  onTerminating(pod: PodKey, deletion: NonNullable<PodView['deletion']>): void;
  /** Gone, or finished. */
  onDeparted(pod: PodKey): void;
  /** After a gap: the uids of all unfinished pods there are; whoever is missing has departed. */
  onSnapshot(uids: ReadonlySet<string>): void;
}

/** What the API server said of a right that is missing. */
export type Denied = Readonly<{ denied: string }>;

/**
 * Rejects if the API server does not answer.
 * https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume-attachment-v1/
 */
export interface Volumes {
  /** PersistentVolumes that are attached to the node. */
  attachedTo(nodeName: string, signal: AbortSignal): Promise<readonly string[] | Denied>;
  /** The PersistentVolume a claim is bound to; undefined: none. */
  volumeOf(
    namespace: string,
    claim: string,
    signal: AbortSignal,
  ): Promise<string | undefined | Denied>;
}
