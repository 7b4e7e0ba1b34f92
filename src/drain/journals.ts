import type { Change } from '../plan/merge.ts';

/** The record, as a drain uses it. */
export interface Journals {
  /** Never rejects. `unreachable`: nothing is known to be written, try again. */
  apply(
    nodeName: string,
    change: Change,
  ): Promise<
    Readonly<{ outcome: 'recorded' | 'duplicate' | 'stale' | 'gone' | 'refused' | 'unreachable' }>
  >;
}
