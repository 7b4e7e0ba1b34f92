import type { Clock } from './clock.ts';

/** Why the signal aborted, as an Error. */
export function abortReason(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new Error('aborted', { cause: reason });
}

/** The work's result, unless the signal aborts before; the work itself goes on. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(abortReason(signal));
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** Why a request was given up. */
class NoAnswerError extends Error {
  constructor(limitMs: number) {
    super(`no answer within ${limitMs / 1000} s`);
    this.name = 'TimeoutError';
  }
}

/**
 * What `send` resolves to. When the limit passes or a signal aborts it is told to stop and not waited
 * for: an SDK that looks for credentials listens to no signal.
 */
export async function bounded<T>(
  clock: Clock,
  limitMs: number,
  signals: readonly AbortSignal[],
  send: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stopping = new AbortController();
  const stop = (reason: unknown): void => stopping.abort(reason);
  const limit = clock.after(limitMs, () => stop(new NoAnswerError(limitMs)));
  const listening = signals.map((signal) => {
    const listener = (): void => stop(signal.reason);
    signal.addEventListener('abort', listener);
    if (signal.aborted) listener();
    return { signal, listener };
  });
  try {
    return await unlessAborted(send(stopping.signal), stopping.signal);
  } finally {
    limit.cancel();
    for (const { signal, listener } of listening) signal.removeEventListener('abort', listener);
  }
}
