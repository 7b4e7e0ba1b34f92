import type { ApiClient } from '../control-plane/api-client.ts';

/** How an admission plugin or webhook refuses an eviction. */
export type Refusal = 'forbidden' | 'invalid' | 'unreachable' | 'timeout';

/** A Kubernetes API under test, with the levers that a case may need beside the API itself. */
export type Backend = {
  readonly name: string;
  readonly api: ApiClient;
  /** Controllers stand still until resumed; what they owe is done then. */
  pauseControllers(): void;
  resumeControllers(): void;
  /**
   * Stops the API server for a moment: connections break, data stays, and what it remembers of the
   * past is lost.
   */
  restart(): Promise<void>;
  /** Headers of a user who may do nothing. */
  powerless(): Record<string, string>;
  /** Calls back with the headers of a user for whom the server has no capacity left meanwhile. */
  whileOverloaded(run: (headers: Record<string, string>) => Promise<void>): Promise<void>;
  /** Refuses all evictions in a namespace, from some moment soon. */
  refuseEvictions(namespace: string, refusal: Refusal): Promise<void>;
};
