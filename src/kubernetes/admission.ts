import { abortReason } from '../abort.ts';
import type { Clock, Timer } from '../clock.ts';

/** In the order in which they go; watches and their lists stand outside. */
export type Lane = 'mark' | 'bulk' | 'event';

export type AdmissionLimits = Readonly<{
  /** Marks in flight at most. */
  marks: number;
  /** Bulk requests in flight at most while no mark is about. */
  bulk: number;
  /** Bulk requests in flight at most while a mark is in flight or waits. */
  bulkBesideMarks: number;
  /** Events in flight at most, and only while no bulk waits and no mark is in flight or waits. */
  events: number;
  /** An event waits until no mark has been about for so long. */
  eventsAfterMarksMs: number;
  /** Or until marks have come for so long without that pause: then it goes between them. */
  eventsBetweenMarksAfterMs: number;
  /** Requests waiting in each lane at most, and each for so long. */
  waiting: number;
  longestWaitMs: Readonly<Record<Lane, number>>;
}>;

/** Gives one place back; a second call does nothing. */
export type Release = () => void;

export interface Admission {
  /** Resolves when the request may go; undefined: too many wait already, or it has waited too long. Rejects with the signal's reason. */
  admit(lane: Lane, signal: AbortSignal): Release | undefined | Promise<Release | undefined>;
}

/**
 * Strict priority in front of the connections: a mark never waits for a place that bulk holds, and
 * bulk trickles while marks are about, so that it neither starves nor takes the server's time. An
 * event is as dear to the server as a mark: the gaps within a storm are too short for it.
 */
export function createAdmission(limits: AdmissionLimits, clock: Clock): Admission {
  const inFlight: Record<Lane, number> = { mark: 0, bulk: 0, event: 0 };
  // A Set keeps the order of arrival and forgets an aborted waiter at once.
  const waiting: Record<Lane, Set<() => void>> = {
    mark: new Set(),
    bulk: new Set(),
    event: new Set(),
  };
  let lastMarkAt = -Infinity;
  /** Since when marks have come without a pause. */
  let busySince = -Infinity;
  /** Only while events wait. */
  let quiet: Timer | undefined;

  function mayStart(lane: Lane): boolean {
    switch (lane) {
      case 'mark':
        return inFlight.mark < limits.marks;
      case 'bulk':
        return inFlight.bulk < (marksAbout() ? limits.bulkBesideMarks : limits.bulk);
      case 'event':
        return mayWriteEvents() && waiting.bulk.size === 0 && inFlight.event < limits.events;
      default:
        throw new Error(`unexpected lane: ${String(lane satisfies never)}`);
    }
  }

  function marksAbout(): boolean {
    return inFlight.mark > 0 || waiting.mark.size > 0;
  }

  function noteMark(): void {
    const now = clock.now();
    if (!marksAbout() && now - lastMarkAt >= limits.eventsAfterMarksMs) busySince = now;
  }

  function mayWriteEvents(): boolean {
    return !marksAbout() && eventsInMs() === 0;
  }

  /** Unless a mark comes. */
  function eventsInMs(): number {
    const now = clock.now();
    // A clock may be set back.
    lastMarkAt = Math.min(lastMarkAt, now);
    busySince = Math.min(busySince, now);
    const quietAt = lastMarkAt + limits.eventsAfterMarksMs;
    return Math.max(0, Math.min(quietAt, busySince + limits.eventsBetweenMarksAfterMs) - now);
  }

  /** No release tells of the end of that time. */
  function awaitQuiet(): void {
    if (waiting.event.size === 0) {
      quiet?.cancel();
      quiet = undefined;
    } else if (!marksAbout() && eventsInMs() > 0) {
      quiet ??= clock.after(eventsInMs(), () => {
        quiet = undefined;
        startAllWaiting();
      });
    }
  }

  function take(lane: Lane): Release {
    inFlight[lane]++;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      inFlight[lane]--;
      if (lane === 'mark') lastMarkAt = clock.now();
      startAllWaiting();
    };
  }

  function startAllWaiting(): void {
    startWaiting('mark');
    startWaiting('bulk');
    startWaiting('event');
    awaitQuiet();
  }

  function startWaiting(lane: Lane): void {
    for (const start of waiting[lane]) {
      if (!mayStart(lane)) return;
      start();
    }
  }

  return {
    admit(lane, signal) {
      if (lane === 'mark') noteMark();
      if (waiting[lane].size === 0 && mayStart(lane)) return take(lane);
      if (waiting[lane].size >= limits.waiting) return undefined;
      return new Promise((resolve, reject) => {
        const leave = (): void => {
          waiting[lane].delete(start);
          if (lane === 'mark') lastMarkAt = clock.now();
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
        const limit = clock.after(limits.longestWaitMs[lane], () => {
          leave();
          startAllWaiting();
          resolve(undefined);
        });
        waiting[lane].add(start);
        signal.addEventListener('abort', abort, { once: true });
        awaitQuiet();
      });
    },
  };
}
