import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import { abortReason } from '../abort.ts';
import type { Clock, Timer } from '../clock.ts';

/** Far above any object or page of a list; below what would endanger the process. */
const LARGEST_BODY_BYTES = 128 * 1024 * 1024;

export type ExchangeOptions = Readonly<{
  clock: Clock;
  /** Until the whole answer is here; of a stream: its head. */
  timeoutMs: number;
  /** Makes it a stream: takes the body of a 2xx answer as it comes; false ends it. */
  onData?: (chunk: Buffer) => boolean;
  /** Of a stream: its head is here, with status 2xx. */
  onOpen?: () => void;
  /** Of a stream: the longest silence. */
  idleMs?: number;
  /** Called once, when the connection is free again, which may be after the promise has settled. */
  onReleased?: () => void;
}>;

export type Exchanged =
  | Readonly<{ kind: 'answer'; status: number; headers: IncomingHttpHeaders; body: string }>
  /** `sent`: the request had a connection, so the server may have acted on it. */
  | Readonly<{ kind: 'none'; message: string; timedOut: boolean; sent: boolean }>;

/**
 * One request and its answer on undici's dispatcher interface: half the cost of its promise
 * interface with an AbortSignal. Rejects only with the signal's reason.
 */
export function exchange(
  dispatcher: Dispatcher,
  request: Dispatcher.DispatchOptions,
  options: ExchangeOptions,
  signal: AbortSignal,
): Promise<Exchanged> {
  return new Promise((resolve, reject) => {
    const { clock, onData } = options;
    let controller: Dispatcher.DispatchController | undefined;
    let status = 0;
    let headers: IncomingHttpHeaders = {};
    let bytes = 0;
    let lastDataAt = 0;
    let settled = false;
    let released = false;
    let timer: Timer | undefined;
    const chunks: Buffer[] = [];

    function settle(): boolean {
      if (settled) return false;
      settled = true;
      timer?.cancel();
      signal.removeEventListener('abort', abort);
      return true;
    }
    function answered(): void {
      if (!settle()) return;
      resolve({ kind: 'answer', status, headers, body: Buffer.concat(chunks).toString('utf8') });
    }
    function unanswered(message: string, timedOut: boolean): void {
      if (!settle()) return;
      resolve({ kind: 'none', message, timedOut, sent: controller !== undefined });
    }
    function cut(message: string, timedOut: boolean): void {
      unanswered(message, timedOut);
      controller?.abort(new Error(message));
    }
    function abort(): void {
      if (!settle()) return;
      const reason = abortReason(signal);
      reject(reason);
      controller?.abort(reason);
    }
    function release(): void {
      if (released) return;
      released = true;
      options.onReleased?.();
    }
    function watchSilence(): void {
      const idleMs = options.idleMs ?? options.timeoutMs;
      timer = clock.after(Math.max(lastDataAt + idleMs - clock.now(), 1), () => {
        if (clock.now() - lastDataAt < idleMs) watchSilence();
        else cut(`silent for ${idleMs / 1000} s`, true);
      });
    }

    if (signal.aborted) {
      release();
      reject(abortReason(signal));
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    timer = clock.after(options.timeoutMs, () => {
      cut(`no answer within ${options.timeoutMs / 1000} s`, true);
    });

    const handler: Dispatcher.DispatchHandler = {
      onRequestStart(started) {
        // Given up while it waited for a connection: undici offers no earlier way to withdraw it.
        if (settled) started.abort(new Error('withdrawn'));
        else controller = started;
      },
      onResponseStart(_, statusCode, responseHeaders) {
        status = statusCode;
        headers = responseHeaders;
        if (onData === undefined || settled) return;
        timer?.cancel();
        lastDataAt = clock.now();
        watchSilence();
        if (status >= 200 && status < 300) options.onOpen?.();
      },
      onResponseData(_, chunk) {
        if (settled) return;
        if (onData !== undefined && status >= 200 && status < 300) {
          lastDataAt = clock.now();
          if (onData(chunk)) return;
          answered();
          controller?.abort(new Error('stopped'));
          return;
        }
        bytes += chunk.length;
        if (bytes > LARGEST_BODY_BYTES) cut('the answer is too large', false);
        else chunks.push(chunk);
      },
      onResponseEnd() {
        answered();
        release();
      },
      onResponseError(_, error) {
        unanswered(describe(error), false);
        release();
      },
    };
    try {
      dispatcher.dispatch(request, handler);
    } catch (error) {
      release();
      if (settle()) reject(new Error(`request ${request.path} is invalid`, { cause: error }));
    }
  });
}

function describe(error: Error): string {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  if (error.message === '') return code ?? error.name;
  return code === undefined || error.message.includes(code)
    ? error.message
    : `${code}: ${error.message}`;
}
