import type { NodePatch, NodeView } from '../plan/node.ts';

/** What became of one write to a Node. */
export type WriteAnswer =
  | Readonly<{ outcome: 'written'; node: NodeView }>
  /** The resourceVersion has moved: read, fold again, write again. */
  | Readonly<{ outcome: 'conflict' }>
  | Readonly<{ outcome: 'gone' }>
  /** 429 or 503: keep, and try again after the delay the server asked for (undefined: it named none). */
  | Readonly<{ outcome: 'overloaded'; retryAfterMs: number | undefined }>
  /** 403: may pass, a restarting API server gives brief ones. */
  | Readonly<{ outcome: 'forbidden'; message: string }>
  /** 413, 422 and every other answer that repeating cannot mend. */
  | Readonly<{ outcome: 'refused'; status: number; message: string }>
  /** No answer: connection refused, reset, timed out. */
  | Readonly<{ outcome: 'unreachable'; message: string }>;

/** Reads and writes of single Nodes. Never rejects but for the signal. */
export interface NodeStore {
  /** One PATCH that carries the resourceVersion. Marks go before everything else; what may wait is `bulk`. */
  write(
    name: string,
    resourceVersion: string,
    patch: NodePatch,
    signal: AbortSignal,
    lane: 'mark' | 'bulk',
  ): Promise<WriteAnswer>;
  /** The Node as it is now (a consistent read). */
  read(
    name: string,
    signal: AbortSignal,
  ): Promise<
    | Readonly<{ outcome: 'found'; node: NodeView }>
    | Exclude<WriteAnswer, { outcome: 'written' | 'conflict' }>
  >;
  /**
   * When the kubelet last renewed its Lease in kube-node-lease: epoch ms in whole seconds, as EventBridge
   * tells times. A renewal in the second in which the machine went off is taken to be before that.
   * `unknown`: no answer came.
   */
  kubeletRenewed(
    name: string,
    signal: AbortSignal,
  ): Promise<Readonly<{ outcome: 'at'; at: number }> | Readonly<{ outcome: 'never' | 'unknown' }>>;
  /** Whether the API server answers at all. */
  ping(signal: AbortSignal): Promise<boolean>;
}

/** All Nodes, kept by a list and a watch. */
export interface NodeIndex {
  get(name: string): NodeView | undefined;
  /** Every Node that claims the instance: none, one, or (ambiguous) several. */
  byInstance(instanceId: string): readonly NodeView[];
  all(): Iterable<NodeView>;
  /** A write's answer, so that decisions do not wait for the watch. Older versions than the index's are ignored. */
  learn(node: NodeView): void;
  /** When the watch last said anything, bookmarks included (epoch ms); 0 before the first list. */
  lastHeardAt(): number;
  /** A consistent list, now; resolves when the index holds it, rejects if the API server does not answer. */
  refresh(signal: AbortSignal): Promise<void>;
  /**
   * Each change, after the index holds it; `after` undefined: deleted. A Node that replaces another of
   * its name comes as a deletion and a new one. Returns the unsubscribe.
   */
  subscribe(
    listener: (before: NodeView | undefined, after: NodeView | undefined) => void,
  ): () => void;
}
