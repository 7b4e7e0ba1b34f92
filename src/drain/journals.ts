import type { Journal } from '../plan/journal.ts';
import type { Change } from '../plan/merge.ts';

/** The record, as a drain uses it. */
export interface Journals {
  /** As it stands on the node, or in memory where it cannot be written. */
  journalOf(nodeName: string): Journal | undefined;
  /** Never rejects. `unreachable`: nothing is known to be written, try again. */
  apply(
    nodeName: string,
    change: Change,
  ): Promise<
    Readonly<{ outcome: 'recorded' | 'duplicate' | 'stale' | 'gone' | 'refused' | 'unreachable' }>
  >;
}
