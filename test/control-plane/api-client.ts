/* oxlint-disable typescript/no-unnecessary-type-parameters --
   The caller states the type of what the API server returns; checking it here would test Kubernetes. */
import { setTimeout as delay } from 'node:timers/promises';
import { Pool } from 'undici';
import type { KubernetesObject } from './objects.ts';

export type ApiConnection = {
  /** Without a trailing slash. */
  readonly url: string;
  /** PEM text, of certificates and key. */
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly token?: string | undefined;
  /** True unless given. */
  readonly verifiesServer?: boolean;
};

export type ApiResponse = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** The parsed body if it is JSON, else its text. */
  readonly body: unknown;
};

export type RequestOptions = {
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** For the whole exchange; 30 s unless given. */
  readonly timeoutMs?: number;
};

export type PatchType = 'merge' | 'strategic' | 'json';

export type WatchEvent<T> = {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: T;
};

export type ListAndWatchOptions<T> = {
  /** With or without query; `watch`, `resourceVersion` and bookmarks are added. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The whole state, at the start and again whenever the watch could not be continued. */
  readonly onList: (items: readonly T[]) => void;
  readonly onEvent: (event: WatchEvent<T>) => void;
  /** Each failure on the way. The loop itself goes on. */
  readonly onError?: (error: unknown) => void;
  readonly signal: AbortSignal;
};

/** An answer of 400 or above from a method that expects success. */
export class ApiError extends Error {
  readonly response: ApiResponse;

  constructor(method: string, path: string, response: ApiResponse) {
    const text =
      typeof response.body === 'string' ? response.body : messageOf(response.body) || 'no message';
    super(`${method} ${path}: ${response.status} ${text}`);
    this.response = response;
  }

  get status(): number {
    return this.response.status;
  }
}

/** A connection to a Kubernetes API over a bounded number of kept connections. */
export class ApiClient {
  readonly connection: ApiConnection;
  private readonly pool: Pool;
  private readonly watchPool: Pool;
  private readonly defaultHeaders: Readonly<Record<string, string>>;

  constructor(
    connection: ApiConnection,
    options: { userAgent?: string; connections?: number } = {},
  ) {
    this.connection = connection;
    const { userAgent = 'test-admin', connections = 32 } = options;
    const tls = {
      allowH2: false,
      ...(connection.ca ? { ca: connection.ca } : {}),
      ...(connection.cert ? { cert: connection.cert } : {}),
      ...(connection.key ? { key: connection.key } : {}),
      ...(connection.verifiesServer === false ? { rejectUnauthorized: false } : {}),
    };
    this.pool = new Pool(connection.url, { connections, connect: tls });
    // Watches have connections of their own: they would hold up requests. The server ends them.
    this.watchPool = new Pool(connection.url, { connect: tls, bodyTimeout: 0, headersTimeout: 0 });
    this.defaultHeaders = {
      accept: 'application/json',
      'user-agent': userAgent,
      ...(connection.token ? { authorization: `Bearer ${connection.token}` } : {}),
    };
  }

  /** Any answer, errors included, is returned; only a failed exchange throws. */
  async request(
    method: string,
    path: string,
    body?: unknown,
    options: RequestOptions = {},
  ): Promise<ApiResponse> {
    const response = await this.pool.request({
      method,
      path,
      headers: {
        ...this.defaultHeaders,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...options.headers,
      },
      body: body === undefined ? null : JSON.stringify(body),
      // Without this undici ends the connection after each DELETE that has a body.
      reset: false,
      signal: limited(options),
    });
    const text = await response.body.text();
    const isJson = String(response.headers['content-type']).startsWith('application/json');
    return {
      status: response.statusCode,
      headers: response.headers,
      body: isJson ? (JSON.parse(text) as unknown) : text,
    };
  }

  async get<T = KubernetesObject>(path: string, options?: RequestOptions): Promise<T> {
    return this.expect<T>('GET', path, undefined, options);
  }

  /** Undefined for 404. */
  async find<T = KubernetesObject>(path: string, options?: RequestOptions): Promise<T | undefined> {
    const response = await this.request('GET', path, undefined, options);
    if (response.status === 404) return undefined;
    if (response.status >= 400) throw new ApiError('GET', path, response);
    return response.body as T;
  }

  async create<T extends object>(path: string, object: T, options?: RequestOptions): Promise<T> {
    return this.expect<T>('POST', path, object, options);
  }

  async replace<T extends object>(path: string, object: T, options?: RequestOptions): Promise<T> {
    return this.expect<T>('PUT', path, object, options);
  }

  async patch<T = KubernetesObject>(
    path: string,
    patch: object,
    type: PatchType = 'merge',
    options: RequestOptions = {},
  ): Promise<T> {
    const contentType =
      type === 'strategic'
        ? 'application/strategic-merge-patch+json'
        : `application/${type}-patch+json`;
    return this.expect<T>('PATCH', path, patch, {
      ...options,
      headers: { ...options.headers, 'content-type': contentType },
    });
  }

  /** `body` takes DeleteOptions. */
  async delete(path: string, body?: object, options?: RequestOptions): Promise<void> {
    await this.expect('DELETE', path, body, options);
  }

  async list<T = KubernetesObject>(path: string, options?: RequestOptions): Promise<T[]> {
    return (await this.listPage<T>(path, options)).items;
  }

  /**
   * Lists, then watches, until the signal is aborted, then resolves. Whatever ends a watch (a time
   * limit, a slow reader, an outage) is followed by the next one from the last known version, or by
   * another list where that version is gone.
   */
  async listAndWatch<T extends KubernetesObject>(options: ListAndWatchOptions<T>): Promise<void> {
    const { signal } = options;
    let resourceVersion: string | undefined;
    let failures = 0;
    while (!signal.aborted) {
      try {
        if (resourceVersion === undefined) {
          const page = await this.listPage<T>(options.path, { ...options, timeoutMs: 60_000 });
          resourceVersion = page.resourceVersion;
          options.onList(page.items);
        }
        for await (const event of this.watch<T>(options, resourceVersion)) {
          failures = 0;
          if (event.type === 'ERROR') {
            resourceVersion = undefined;
            break;
          }
          resourceVersion = event.object.metadata.resourceVersion ?? resourceVersion;
          if (event.type !== 'BOOKMARK')
            options.onEvent({ type: event.type, object: event.object });
        }
      } catch (error) {
        // Aborted by us: the cause is the signal's own.
        if (isAborted(signal)) return;
        if (error instanceof ApiError && error.status === 410) resourceVersion = undefined;
        options.onError?.(error);
        failures += 1;
        await delay(Math.min(50 * 2 ** failures, 1000), undefined, { signal }).catch(ignoreAbort);
      }
    }
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    await Promise.all([this.pool.destroy(), this.watchPool.destroy()]);
  }

  private async expect<T>(
    method: string,
    path: string,
    body: unknown,
    options?: RequestOptions,
  ): Promise<T> {
    const response = await this.request(method, path, body, options);
    if (response.status >= 400) throw new ApiError(method, path, response);
    return response.body as T;
  }

  private async listPage<T>(
    path: string,
    options?: RequestOptions,
  ): Promise<{ items: T[]; resourceVersion: string }> {
    const list = await this.get<{ items: T[]; metadata: { resourceVersion: string } }>(
      path,
      options,
    );
    return { items: list.items, resourceVersion: list.metadata.resourceVersion };
  }

  private async *watch<T>(
    options: ListAndWatchOptions<T>,
    resourceVersion: string,
  ): AsyncGenerator<RawWatchEvent<T>> {
    const separator = options.path.includes('?') ? '&' : '?';
    const path = `${options.path}${separator}watch=true&allowWatchBookmarks=true&resourceVersion=${resourceVersion}`;
    const response = await this.watchPool.request({
      method: 'GET',
      path,
      headers: { ...this.defaultHeaders, ...options.headers },
      signal: options.signal,
    });
    if (response.statusCode >= 400) {
      const body = await response.body.text();
      throw new ApiError('GET', path, {
        status: response.statusCode,
        headers: response.headers,
        body,
      });
    }
    response.body.setEncoding('utf8');
    let rest = '';
    for await (const chunk of response.body as AsyncIterable<string>) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) yield JSON.parse(line) as RawWatchEvent<T>;
    }
  }
}

type RawWatchEvent<T> =
  | {
      readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
      readonly object: T & KubernetesObject;
    }
  | { readonly type: 'ERROR'; readonly object: unknown };

function limited(options: RequestOptions): AbortSignal {
  const limit = AbortSignal.timeout(options.timeoutMs ?? 30_000);
  return options.signal ? AbortSignal.any([options.signal, limit]) : limit;
}

function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function ignoreAbort(error: unknown): void {
  if (!(error instanceof Error && error.name === 'AbortError')) throw error;
}

function messageOf(body: unknown): string {
  return typeof body === 'object' && body !== null && 'message' in body ? String(body.message) : '';
}
