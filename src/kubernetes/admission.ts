import { abortReason } from '../abort.ts';
import type { Clock } from '../clock.ts';

/** In the order in which they go; watches and their lists stand outside. */
export type Lane = 'mark' | 'bulk' | 'event';

export type AdmissionLimits = Readonly<{
  /** Marks in flight at most. */
  marks: number;
  /** Bulk requests in flight at most while no mark is about. */
  bulk: number;
  /** Bulk requests in flight at most while a mark is in flight or waits. */
  bulkBesideMarks: number;
  /** Events in flight at most, and only while nothing else waits and no mark is about. */
  events: number;
  /** Requests waiting in each lane at most, and each for so long. */
  waiting: number;
  longestWaitMs: number;
}>;

/** Gives one place back; a second call does nothing. */
export type Release = () => void;

export interface Admission {
  /** Resolves when the request may go; undefined: too many wait already, or it has waited too long. Rejects with the signal's reason. */
  admit(lane: Lane, signal: AbortSignal): Release | undefined | Promise<Release | undefined>;
}

/**
 * Strict priority in front of the connections: a mark never waits for a place that bulk holds, and
 * bulk trickles while marks are about, so that it neither starves nor takes the server's time.
 */
export function createAdmission(limits: AdmissionLimits, clock: Clock): Admission {
  const inFlight: Record<Lane, number> = { mark: 0, bulk: 0, event: 0 };
  // A Set keeps the order of arrival and forgets an aborted waiter at once.
  const waiting: Record<Lane, Set<() => void>> = {
    mark: new Set(),
    bulk: new Set(),
    event: new Set(),
  };

  function mayStart(lane: Lane): boolean {
    if (lane === 'mark') return inFlight.mark < limits.marks;
    const marksAbout = inFlight.mark > 0 || waiting.mark.size > 0;
    if (lane === 'event') {
      return !marksAbout && waiting.bulk.size === 0 && inFlight.event < limits.events;
    }
    return inFlight.bulk < (marksAbout ? limits.bulkBesideMarks : limits.bulk);
  }

  function take(lane: Lane): Release {
    inFlight[lane]++;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      inFlight[lane]--;
      startAllWaiting();
    };
  }

  function startAllWaiting(): void {
    startWaiting('mark');
    startWaiting('bulk');
    startWaiting('event');
  }

  function startWaiting(lane: Lane): void {
    for (const start of waiting[lane]) {
      if (!mayStart(lane)) return;
      start();
    }
  }

  return {
    admit(lane, signal) {
      if (waiting[lane].size === 0 && mayStart(lane)) return take(lane);
      if (waiting[lane].size >= limits.waiting) return undefined;
      return new Promise((resolve, reject) => {
        const leave = (): void => {
          waiting[lane].delete(start);
          signal.removeEventListener('abort', abort);
          limit.cancel();
        };
        const start = (): void => {
          leave();
          resolve(take(lane));
        };
        const abort = (): void => {
          leave();
          // Others may have waited only for this one.
          startAllWaiting();
          reject(abortReason(signal));
        };
        const limit = clock.after(limits.longestWaitMs, () => {
          leave();
          startAllWaiting();
          resolve(undefined);
        });
        waiting[lane].add(start);
        signal.addEventListener('abort', abort, { once: true });
      });
    },
  };
}
