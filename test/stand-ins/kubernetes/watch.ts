import { ApiError, expired, invalid, type StatusBody } from './api-error.ts';
import type { Endpoint } from './endpoint.ts';
import { parseVersion, type Selection } from './lists.ts';
import type { Cluster } from './registry.ts';
import { printBookmark, printObject, type Form } from './representation.ts';
import type { StoreEvent } from './store.ts';
import { forbiddenField } from './validation.ts';

export type WatchOptions = {
  readonly endpoint: Endpoint;
  readonly selection: Selection;
  readonly form: Form;
  /** 0: whatever there is now, as ADDED events first. */
  readonly revision: number;
  readonly bookmarks: boolean;
  readonly initialEvents: boolean;
  readonly timeoutMs: number;
  readonly bookmarkIntervalMs: number;
};

/** Where a watch goes: lines, until one side ends it. */
export type WatchSink = { write(line: string): void; end(): void };

const initialEventsEnd = 'k8s.io/initial-events-end';
/** The server ends watches that set no limit after 30 to 60 minutes. */
const defaultTimeoutSeconds = 1800;

export function parseWatchOptions(
  endpoint: Endpoint,
  selection: Selection,
  form: Form,
  query: URLSearchParams,
  bookmarkIntervalMs: number,
): WatchOptions {
  const sendInitialEvents = query.get('sendInitialEvents');
  const match = query.get('resourceVersionMatch') ?? '';
  const options = { group: 'meta.k8s.io', plural: 'listoptions', kind: 'ListOptions' };
  if (sendInitialEvents !== null && match !== 'NotOlderThan') {
    throw invalid(options, '', [
      forbiddenField(
        'resourceVersionMatch',
        'sendInitialEvents requires setting resourceVersionMatch to NotOlderThan',
      ),
    ]);
  }
  if (sendInitialEvents === null && match !== '') {
    throw invalid(options, '', [
      forbiddenField(
        'resourceVersionMatch',
        'resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided',
      ),
    ]);
  }
  const seconds = Number(query.get('timeoutSeconds') ?? 0);
  return {
    endpoint,
    selection,
    form,
    revision: versionOf(query.get('resourceVersion')),
    bookmarks: isTrue(query.get('allowWatchBookmarks')),
    initialEvents: isTrue(sendInitialEvents),
    timeoutMs: 1000 * (seconds > 0 ? seconds : defaultTimeoutSeconds * (1 + Math.random())),
    bookmarkIntervalMs,
  };
}

/** What is no version is 400 for a list, but 500 for a watch. */
function versionOf(text: string | null): number {
  try {
    return parseVersion(text);
  } catch (error) {
    if (error instanceof ApiError) throw new ApiError(500, undefined, error.message);
    throw error;
  }
}

function isTrue(value: string | null): boolean {
  return value === 'true' || value === '1';
}

/** Sends what is asked for until the time is over or the returned function is called. */
export function startWatch(cluster: Cluster, options: WatchOptions, sink: WatchSink): () => void {
  const { store, mutations } = cluster;
  const { endpoint, selection, form } = options;
  const { resource } = endpoint;
  let sentRevision = 0;

  const send = (type: string, object: string): void => {
    sink.write(`{"type":"${type}","object":${object}}\n`);
  };
  const sendEvent = (event: StoreEvent): void => {
    sentRevision = event.revision;
    const line = visibleChange(event, options);
    if (line !== undefined) send(line.type, line.object);
  };
  const sendBookmark = (annotations?: Record<string, string>): void => {
    sentRevision = Math.max(sentRevision, store.currentRevision);
    send('BOOKMARK', printBookmark(endpoint, sentRevision, form, annotations));
  };

  if (options.revision === 0 || options.initialEvents) {
    for (const object of store.list(resource, selection.namespace)) {
      if (selection.matches(object)) send('ADDED', printObject(endpoint, object, form));
    }
    sentRevision = store.currentRevision;
    if (options.initialEvents && options.bookmarks) sendBookmark({ [initialEventsEnd]: 'true' });
  } else {
    let changes = store.changesSince(resource, options.revision);
    if (changes === undefined && mutations.never410) changes = [];
    if (changes === undefined) {
      send('ERROR', JSON.stringify(tooOld(options.revision, store.oldestRevision(resource))));
      sink.end();
      return () => {};
    }
    // A version of the future is waited for: nothing at or before it is sent.
    sentRevision = options.revision;
    for (const event of changes) sendEvent(event);
  }

  const stopListening = store.listen(resource, (event) => {
    if (event.revision > sentRevision) sendEvent(event);
  });
  const timers: NodeJS.Timeout[] = [];
  const stop = (): void => {
    stopListening();
    for (const timer of timers) clearTimeout(timer);
  };
  const later = (delayMs: number, act: () => void): void => {
    timers.push(setTimeout(act, delayMs).unref());
  };
  later(options.timeoutMs, () => {
    stop();
    sink.end();
  });
  if (options.bookmarks) {
    // One comes shortly before the end, so that the next watch starts from a fresh version.
    if (options.timeoutMs > 2000) later(options.timeoutMs - 2000, sendBookmark);
    timers.push(setInterval(sendBookmark, options.bookmarkIntervalMs).unref());
  }
  return stop;
}

/** A change as seen through the selection: entering it is ADDED, leaving it DELETED. */
function visibleChange(
  event: StoreEvent,
  { endpoint, selection, form }: WatchOptions,
): { type: string; object: string } | undefined {
  const { object, previous } = event;
  const isIn = event.type !== 'DELETED' && selection.matches(object);
  const wasIn = previous !== undefined && selection.matches(previous);
  if (isIn) {
    return { type: wasIn ? 'MODIFIED' : 'ADDED', object: printObject(endpoint, object, form) };
  }
  if (!wasIn) return undefined;
  if (event.type === 'DELETED') {
    return { type: 'DELETED', object: printObject(endpoint, object, form) };
  }
  // What left is shown as it last was inside, at the version of the change that took it out.
  const last = {
    ...previous,
    metadata: { ...previous.metadata, resourceVersion: object.metadata.resourceVersion },
  };
  return { type: 'DELETED', object: printObject(endpoint, last, form) };
}

function tooOld(revision: number, oldest: number): StatusBody {
  return expired(`too old resource version: ${revision} (${oldest})`).status;
}
