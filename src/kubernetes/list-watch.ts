import { unlessAborted } from '../abort.ts';
import { pause, type Clock } from '../clock.ts';
import type { Report } from '../report/report.ts';
import { UNWATCHED, type Watchdog, type WatchedStep } from '../watchdog.ts';
import { ApiFailure, bodyAs, messageOf, readOr } from './answers.ts';
import type { Answer, Connection } from './connection.ts';
import { LineSplitter } from './lines.ts';

export type ApiObject = { readonly metadata?: { readonly resourceVersion?: string } };

/** What to follow, and the little that is kept of each object. */
export type Feed<T> = Readonly<{
  /** Names the objects in the log: `nodes`. */
  what: string;
  path: string;
  query?: Readonly<Record<string, string>>;
  /** For lists and for watches; undefined: whole objects. */
  accept?: Readonly<{ list: string; watch: string }>;
  /** Undefined: not an object of this kind. */
  project(raw: ApiObject): T | undefined;
}>;

export type Listed<T> = Readonly<{ items: readonly T[]; resourceVersion: string }>;

/** Called in order, never at the same time. */
export interface Follower<T> {
  /** All there is; what it does not hold is gone. */
  onList(listed: Listed<T>): void;
  onEvent(type: 'ADDED' | 'MODIFIED' | 'DELETED', item: T): void;
}

export type FollowOptions = Readonly<{
  connection: Connection;
  clock: Clock;
  watchdog?: Watchdog;
  report: Report;
}>;

const PAGE_SIZE = 500;
const PAGE_TIMEOUT_MS = 30_000;
/** Random between these, so that not all watches of a cluster end at once. */
const WATCH_SECONDS = { shortest: 300, longest: 600 };
/** Two bookmarks, which come about each minute, have been missed. */
const SILENCE_MS = 150_000;
/** The longest keeps an API server that comes back from being noticed late. */
const BACK_OFF_MS = { first: 100, longest: 500 };
const LONGEST_RETRY_AFTER_MS = 30_000;
/** A watch that ends sooner and brought nothing is a failure, so that it cannot end in a busy loop. */
const BRIEF_MS = 5000;
const WARN_AFTER_FAILURES = 3;
const WARN_AGAIN_AFTER_MS = 60_000;

/** All objects, from pages of one consistent list; rejects if it cannot be had. */
export async function listAll<T>(
  connection: Connection,
  feed: Feed<T>,
  lane: 'bulk' | 'watch',
  signal: AbortSignal,
  onPage: () => void = () => undefined,
): Promise<Listed<T>> {
  const items: T[] = [];
  let next: string | undefined;
  const continuations = new Set<string>();
  // A continuation expires with etcd's compaction (410, some minutes): then from the start, once.
  let restarts = 0;
  for (;;) {
    const answer = await connection.request(
      {
        method: 'GET',
        path: feed.path,
        query: {
          ...feed.query,
          limit: String(PAGE_SIZE),
          ...(next !== undefined && { continue: next }),
        },
        ...(feed.accept && { accept: feed.accept.list }),
        lane,
        timeoutMs: PAGE_TIMEOUT_MS,
      },
      signal,
    );
    if (
      answer.kind === 'failure' &&
      answer.status === 410 &&
      next !== undefined &&
      restarts === 0
    ) {
      restarts++;
      items.length = 0;
      continuations.clear();
      next = undefined;
      continue;
    }
    if (answer.kind !== 'success') throw new ApiFailure(`list ${feed.what}`, answer);
    onPage();
    const page = pageOf(answer.body);
    if (page === undefined) throw new ApiFailure(`list ${feed.what}`, answer);
    const projected = readOr(page.items, (all) => all.map((raw) => feed.project(raw)));
    if (projected === undefined) throw new ApiFailure(`list ${feed.what}`, answer);
    for (const item of projected) if (item !== undefined) items.push(item);
    if (page.next === undefined) return { items, resourceVersion: page.resourceVersion };
    // It would lead here again, and again.
    if (continuations.has(page.next)) throw new ApiFailure(`list ${feed.what}`, answer);
    next = page.next;
    continuations.add(next);
  }
}

function pageOf(body: unknown) {
  const { metadata, items } =
    bodyAs<{
      metadata?: { resourceVersion?: string; continue?: string };
      items?: readonly ApiObject[] | null;
    }>(body) ?? {};
  if (metadata?.resourceVersion === undefined) return undefined;
  return {
    items: items ?? [],
    resourceVersion: metadata.resourceVersion,
    next: metadata.continue === '' ? undefined : metadata.continue,
  };
}

/** How one watch ended. */
type WatchEnd =
  /** At the server's or our own wish: go on from where it was. */
  | Readonly<{ kind: 'ended' }>
  /** Events are missing or unreadable: only a list tells what is. */
  | Readonly<{ kind: 'lost'; message: string }>
  | Readonly<{ kind: 'failed'; message: string; retryAfterMs: number | undefined }>;

type Waiter = Readonly<{ resolve: () => void; reject: (error: unknown) => void }>;

/**
 * Follows a collection: a list, then watches, each from where the last one ended; after a gap (410,
 * an unreadable event) a list again. Runs from `run` until its signal aborts, and never gives up.
 */
export class ListWatch<T> {
  private readonly feed: Feed<T>;
  private readonly follower: Follower<T>;
  private readonly connection: Connection;
  private readonly clock: Clock;
  private readonly watchdog: Watchdog;
  private readonly report: Report;
  /** Where the next watch starts; undefined: list first. */
  private version: string | undefined;
  private heardAt = 0;
  private waiters: Waiter[] = [];
  /** Ends the pause or the watch of the moment. */
  private interrupt = new AbortController();
  private ended = false;
  private failures = 0;
  private warnedAt: number | undefined;

  /** `version`: of a list that the follower already has. */
  constructor(feed: Feed<T>, follower: Follower<T>, options: FollowOptions, version?: string) {
    this.feed = feed;
    this.follower = follower;
    this.connection = options.connection;
    this.clock = options.clock;
    this.watchdog = options.watchdog ?? UNWATCHED;
    this.report = options.report;
    this.version = version;
  }

  /** Epoch ms of the last word of the watch, or of the moment a list was asked for; 0 before that. */
  lastHeardAt(): number {
    return this.heardAt;
  }

  /** The version up to which the follower has been told; undefined before the first list. */
  watchedVersion(): string | undefined {
    return this.version;
  }

  /** Lists anew; resolves when the follower has it, rejects if it could not be had or after the end. */
  refresh(signal: AbortSignal): Promise<void> {
    if (this.ended) return Promise.reject(this.endedError());
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.waiters.push({ resolve, reject });
    this.interrupt.abort();
    return unlessAborted(promise, signal);
  }

  /** Resolves when the signal has aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => this.interrupt.abort(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    const mark = this.watchdog.begin('watch', this.feed.what);
    while (!signal.aborted) {
      this.interrupt = new AbortController();
      await this.step(mark, signal);
    }
    mark.end();
    signal.removeEventListener('abort', stop);
    this.ended = true;
    for (const waiter of this.waiters) waiter.reject(this.endedError());
    this.waiters = [];
  }

  private async step(mark: WatchedStep, signal: AbortSignal): Promise<void> {
    mark.move();
    try {
      if (this.version === undefined || this.waiters.length > 0) await this.listOnce(mark, signal);
      else await this.watchOnce(this.version, mark);
    } catch (error) {
      if (signal.aborted) return;
      const message = error instanceof Error ? error.message : String(error);
      await this.backOff(message, error instanceof ApiFailure ? error.retryAfterMs : undefined);
    }
  }

  private endedError(): Error {
    return new Error(`no longer following ${this.feed.what}`);
  }

  private async listOnce(mark: WatchedStep, signal: AbortSignal): Promise<void> {
    const askedAt = this.clock.now();
    // Those who come while the list is under way want a later one.
    const served = this.waiters;
    this.waiters = [];
    try {
      const listed = await listAll(this.connection, this.feed, 'watch', signal, () => mark.move());
      this.version = listed.resourceVersion;
      this.heardAt = askedAt;
      this.tell(() => this.follower.onList(listed));
      for (const waiter of served) waiter.resolve();
      this.works();
    } catch (error) {
      for (const waiter of served) waiter.reject(error);
      throw error;
    }
  }

  private async watchOnce(from: string, mark: WatchedStep): Promise<void> {
    const startedAt = this.clock.now();
    const end = await this.watch(from, mark);
    if (end === undefined) return;
    const lasted = this.version !== from || this.clock.now() - startedAt > BRIEF_MS;
    if (lasted) this.failures = 0;
    if (end.kind === 'ended' && lasted) {
      this.report.debug('watch ended', { what: this.feed.what });
      return;
    }
    if (end.kind === 'lost') {
      this.version = undefined;
      this.report.info('listing again', { what: this.feed.what, reason: end.message });
    }
    const message = end.kind === 'ended' ? 'the watch ended as soon as it began' : end.message;
    await this.backOff(message, end.kind === 'failed' ? end.retryAfterMs : undefined);
  }

  /** Undefined: we ended it. */
  private async watch(from: string, mark: WatchedStep): Promise<WatchEnd | undefined> {
    const { shortest, longest } = WATCH_SECONDS;
    const splitter = new LineSplitter();
    let lost: string | undefined;
    const onData = (chunk: Buffer): boolean => {
      mark.move();
      try {
        for (const line of splitter.push(chunk)) {
          lost = this.take(JSON.parse(line) as unknown);
          if (lost !== undefined) break;
        }
      } catch (error) {
        lost = `unreadable event: ${String(error)}`;
      }
      return lost === undefined;
    };
    const { signal } = this.interrupt;
    let answer: Answer;
    try {
      answer = await this.connection.stream(
        {
          method: 'GET',
          path: this.feed.path,
          query: {
            ...this.feed.query,
            watch: 'true',
            allowWatchBookmarks: 'true',
            resourceVersion: from,
            timeoutSeconds: String(
              Math.round(shortest + this.clock.random() * (longest - shortest)),
            ),
          },
          ...(this.feed.accept && { accept: this.feed.accept.watch }),
          lane: 'watch',
        },
        { idleMs: SILENCE_MS, onData, onOpen: () => this.works() },
        signal,
      );
    } catch (error) {
      if (signal.aborted) return undefined;
      throw error;
    }
    if (lost !== undefined) return { kind: 'lost', message: lost };
    return endOf(answer);
  }

  /** One line of the watch; what it returns is why the place is lost. */
  private take(event: unknown): string | undefined {
    const { type, object } = bodyAs<{ type?: string; object?: ApiObject }>(event) ?? {};
    if (type === 'ERROR') {
      const answer = { kind: 'failure', status: 410, body: object, retryAfter: undefined } as const;
      return `error event: ${messageOf(answer)}`;
    }
    const version = object?.metadata?.resourceVersion;
    if (object === undefined || version === undefined) return `an event without an object: ${type}`;
    if (type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED') {
      const item = this.feed.project(object);
      if (item !== undefined) this.tell(() => this.follower.onEvent(type, item));
    } else if (type !== 'BOOKMARK') {
      return `an event of unknown type: ${type}`;
    }
    this.version = version;
    this.heardAt = this.clock.now();
    return undefined;
  }

  /** A fault in what is told must not cost the others their place. */
  private tell(news: () => void): void {
    try {
      news();
    } catch (error) {
      this.report.error('listener failed', { what: this.feed.what, error });
    }
  }

  private works(): void {
    if (this.warnedAt === undefined) return;
    this.warnedAt = undefined;
    this.report.info('following again', { what: this.feed.what });
  }

  private async backOff(message: string, retryAfter: number | undefined): Promise<void> {
    this.failures++;
    const now = this.clock.now();
    const due = this.warnedAt === undefined || now - this.warnedAt >= WARN_AGAIN_AFTER_MS;
    if (this.failures >= WARN_AFTER_FAILURES && due) {
      this.warnedAt = now;
      this.report.warn('cannot follow', { what: this.feed.what, reason: message });
    } else {
      this.report.debug('watch ended', { what: this.feed.what, reason: message });
    }
    const grown = Math.min(BACK_OFF_MS.first * 2 ** (this.failures - 1), BACK_OFF_MS.longest);
    const delayMs =
      retryAfter === undefined
        ? grown * (0.5 + this.clock.random() / 2)
        : Math.min(retryAfter, LONGEST_RETRY_AFTER_MS) * (1 + this.clock.random() / 4);
    await pause(this.clock, delayMs, this.interrupt.signal);
  }
}

function endOf(answer: Answer): WatchEnd {
  if (answer.kind === 'success') return { kind: 'ended' };
  const { message, retryAfterMs } = new ApiFailure('watch', answer);
  if (answer.kind === 'failure' && answer.status === 410) return { kind: 'lost', message };
  return { kind: 'failed', message, retryAfterMs };
}
