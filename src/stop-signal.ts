const stopping = new AbortController();

for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => {
    // Who asks twice does not want to wait for what an orderly stop saves.
    if (stopping.signal.aborted) process.exit(0);
    stopping.abort(name);
  });
}

/** Aborts when the process is asked to end; its reason is the signal's name. */
export const stopSignal = stopping.signal;
