import { pause, type Clock } from '../clock.ts';
import type { Report } from '../report/report.ts';
import type { Term } from './election.ts';

/** What a term acts on: the index of Nodes. */
export interface View {
  /** Epoch ms. */
  lastHeardAt(): number;
  /** Rejects if it could not be made sure what there is. */
  refresh(signal: AbortSignal): Promise<void>;
}

/** What was heard of so lately is fresh. */
const SILENCE_MS = 2000;
/** Then to act on what is known does less harm than to wait: writes of what has changed are refused. */
const REFRESH_WITHIN_MS = 10_000;
const RETRY_MS = 500;

/**
 * A term that begins when what it acts on is known to be fresh: the watch of a standby, or of a
 * leader that was cut off, may have been silent for long, and the journals of others would be missed.
 */
export function beginFresh(
  { view, clock, report }: Readonly<{ view: View; clock: Clock; report: Report }>,
  begin: () => Term,
): Term {
  if (clock.now() - view.lastHeardAt() <= SILENCE_MS) return begin();
  const ending = new AbortController();
  let term: Term | undefined;
  const begun = refreshed(view, clock, report, ending.signal).then(() => {
    if (!ending.signal.aborted) term = begin();
  });
  return {
    async end() {
      ending.abort();
      await begun;
      await term?.end();
    },
    async cut() {
      ending.abort();
      await begun;
      await term?.cut();
    },
  };
}

/** Never rejects. */
async function refreshed(
  view: View,
  clock: Clock,
  report: Report,
  signal: AbortSignal,
): Promise<void> {
  const startedAt = clock.now();
  report.info('looking at the nodes anew', {
    silentSeconds: Math.round((startedAt - view.lastHeardAt()) / 1000),
  });
  const late = new AbortController();
  const limit = clock.after(REFRESH_WITHIN_MS, () => late.abort());
  const either = AbortSignal.any([signal, late.signal]);
  let reason: unknown;
  let isFresh = false;
  while (!isFresh && !either.aborted) {
    try {
      await view.refresh(either);
      isFresh = true;
    } catch (error) {
      reason = error;
      await pause(clock, RETRY_MS, either);
    }
  }
  limit.cancel();
  if (!isFresh && !signal.aborted) report.warn('nodes perhaps out of date', { reason });
}
