import type {
  Answer,
  ApiRequest,
  Connection,
  StreamOptions,
} from '../../src/kubernetes/connection.ts';
import type { ApiServer, Kind, RawLease, Refusal, Result, WatchEvent } from './api-server.ts';
import { isUnfinished } from './api-server.ts';
import type { Happened } from './record.ts';
import { reasonOf, type Mishap, type Port, type Way } from './way.ts';

const DEFAULT_TIMEOUT_MS = 10_000;
const BOOKMARK_MS = 60_000;
const NODE_LEASES = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/';
const LEASES = '/apis/coordination.k8s.io/v1/namespaces/default/leases';

/** What befalls watches; the storm decides. */
export interface WatchWeather {
  /** How late word of a change is, beyond the ordinary. */
  lagMs(): number;
  /** Calls `drop` when all watches are to end: cleanly, or by a reset. */
  onDrop(drop: (how: 'end' | 'reset') => void): () => void;
}

export type Outside = Readonly<{
  api: ApiServer;
  watches: WatchWeather;
  kubeletRenewedAt: (nodeName: string) => number | undefined;
  volumeOf: (claim: string) => string | undefined;
  record: (happened: Happened) => void;
}>;

/** One process's connection to the API server: requests and watches in virtual time. */
export class SimulatedConnection implements Connection {
  readonly namespace = 'default';
  private isClosed = false;
  /** Of what is under way: it is unanswered when the connection is closed. */
  private readonly closers = new Set<() => void>();
  private readonly way: Way;
  private readonly outside: Outside;
  /** Streams that are open now. */
  readonly streams = new Set<Kind>();

  constructor(way: Way, outside: Outside) {
    this.way = way;
    this.outside = outside;
  }

  async request(request: ApiRequest, signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted();
    if (this.isClosed) return closed;
    return this.way.pass(portOf(request), () => this.answer(request), failed, {
      signal,
      closers: this.closers,
      timeoutMs: request.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    });
  }

  async stream(request: ApiRequest, options: StreamOptions, signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted();
    if (this.isClosed) return closed;
    const { api } = this.outside;
    const from = Number(request.query?.['resourceVersion'] ?? api.version);
    const refusal = await this.way.pass(
      portOf(request),
      () => (from < api.compactedAt ? gone : undefined),
      failed,
      { signal, closers: this.closers, timeoutMs: DEFAULT_TIMEOUT_MS },
    );
    if (refusal !== undefined) return refusal;
    signal.throwIfAborted();
    const seconds = Number(request.query?.['timeoutSeconds'] ?? 300);
    return this.follow(kindOf(request.path), from, seconds * 1000, options, signal);
  }

  /** A watch that the server has accepted, until its end. */
  private follow(
    kind: Kind,
    from: number,
    limitMs: number,
    options: StreamOptions,
    signal: AbortSignal,
  ): Promise<Answer> {
    const { way, closers } = this;
    const { api, watches } = this.outside;
    return new Promise((resolve, reject) => {
      let open = true;
      let heardAt = way.clock.now();
      const close = (): void => {
        open = false;
        this.streams.delete(kind);
        unsubscribe();
        undrop();
        limit.cancel();
        bookmark.cancel();
        closers.delete(cut);
        signal.removeEventListener('abort', abort);
      };
      const end = (answer: Answer): void => {
        if (!open) return;
        close();
        resolve(answer);
      };
      const cut = (): void => end(closed);
      const abort = (): void => {
        close();
        reject(reasonOf(signal));
      };
      const send = (line: () => Buffer): void => {
        // In order, however late.
        heardAt = Math.max(heardAt, way.clock.now() + watches.lagMs());
        way.hear(heardAt - way.clock.now(), () => {
          if (open && !options.onData(line())) end(ended);
        });
      };
      const tell = (event: WatchEvent): void => {
        if (event.kind === kind && event.selected) send(() => lineOf(event));
      };
      const sendBookmark = (): void => {
        const metadata = { resourceVersion: String(api.version) };
        send(() => Buffer.from(`${JSON.stringify({ type: 'BOOKMARK', object: { metadata } })}\n`));
        bookmark = way.clock.deliver(BOOKMARK_MS, sendBookmark);
      };
      this.streams.add(kind);
      const unsubscribe = api.onChange(tell);
      const undrop = watches.onDrop((how) => way.hear(1, () => end(how === 'end' ? ended : reset)));
      const limit = way.clock.deliver(limitMs, () => end(ended));
      let bookmark = way.clock.deliver(BOOKMARK_MS, sendBookmark);
      closers.add(cut);
      signal.addEventListener('abort', abort, { once: true });
      options.onOpen();
      for (const event of api.since(kind, from)) tell(event);
    });
  }

  close(): Promise<void> {
    this.isClosed = true;
    for (const close of this.closers) close();
    return Promise.resolve();
  }

  private answer(request: ApiRequest): Answer {
    const { api, record } = this.outside;
    const { process } = this.way;
    const { method, path, query, body } = request;
    if (path === '/version') return success({});
    if (path.startsWith(NODE_LEASES)) {
      const renewedAt = this.outside.kubeletRenewedAt(path.slice(NODE_LEASES.length));
      if (renewedAt === undefined)
        return refused({ status: 404, reason: 'NotFound', message: 'not found' });
      return success({ spec: { renewTime: new Date(renewedAt).toISOString() } });
    }
    if (path.startsWith(LEASES)) return this.answerLease(request);
    if (path === '/api/v1/nodes') return listOf([...api.nodes.values()], api.version);
    if (path.startsWith('/api/v1/nodes/')) {
      const name = path.slice('/api/v1/nodes/'.length);
      const before = api.nodes.get(name);
      if (method === 'GET') {
        return before === undefined
          ? refused({ status: 404, reason: 'NotFound', message: 'not found' })
          : success(before);
      }
      const result = api.patchNode(name, body as Parameters<ApiServer['patchNode']>[1]);
      if ('object' in result) {
        record({ what: 'node written', by: process, isOurs: true, before, after: result.object });
      }
      return answerOf(result);
    }
    if (path === '/api/v1/pods') {
      const selector = query?.['fieldSelector'] ?? '';
      const nodeName = /^spec\.nodeName=(.*)$/.exec(selector)?.[1];
      const found = [...api.pods.values()].filter((pod) =>
        nodeName === undefined ? isUnfinished(pod) : pod.spec.nodeName === nodeName,
      );
      return listOf(found, api.version);
    }
    if (path === '/apis/storage.k8s.io/v1/volumeattachments') {
      const items = [...api.attached].flatMap(([nodeName, volumes]) =>
        [...volumes].map((volume) => ({
          spec: { nodeName, source: { persistentVolumeName: volume } },
        })),
      );
      return listOf(items, api.version);
    }
    const [, namespace, collection, name, subresource] =
      /^\/api\/v1\/namespaces\/([^/]+)\/([^/]+)\/([^/]+)(?:\/(\w+))?$/.exec(path) ?? [];
    if (collection === 'persistentvolumeclaims') {
      const volumeName = this.outside.volumeOf(`${namespace}/${name}`);
      return success({ spec: { volumeName } });
    }
    if (collection !== 'pods') throw new Error(`the simulation has no ${method} ${path}`);
    const key = `${namespace}/${name}`;
    if (method === 'GET') {
      const pod = api.pods.get(key);
      return pod === undefined
        ? refused({ status: 404, reason: 'NotFound', message: 'not found' })
        : success(pod);
    }
    if (method === 'POST' && subresource === 'eviction') {
      const { deleteOptions = {} } = body as {
        deleteOptions?: Parameters<ApiServer['deletePod']>[1];
      };
      const result = api.evict(key, deleteOptions, (pod, budget) =>
        record({ what: 'eviction refused', process, pod, why: `budget ${budget}` }),
      );
      if ('object' in result) {
        record({
          what: 'eviction',
          process,
          ...result.object,
          graceSeconds: deleteOptions.gracePeriodSeconds,
        });
      }
      return answerOf(result);
    }
    const options = body as Parameters<ApiServer['deletePod']>[1];
    const result = api.deletePod(key, options);
    if ('object' in result) {
      record({
        what: 'deletion',
        process,
        ...result.object,
        graceSeconds: options.gracePeriodSeconds,
      });
    }
    return answerOf(result);
  }

  private answerLease({ method, path, body }: ApiRequest): Answer {
    const { api } = this.outside;
    const name = path.slice(LEASES.length + 1);
    if (method === 'GET' && name === '') return listOf([...api.leases.values()], api.version);
    const present = api.leases.get(name);
    if (method === 'GET') {
      return present === undefined
        ? refused({ status: 404, reason: 'NotFound', message: 'not found' })
        : success(present);
    }
    const claim = body as RawLease;
    if (method === 'POST') {
      if (api.leases.has(claim.metadata.name)) {
        return refused({ status: 409, reason: 'AlreadyExists', message: 'already exists' });
      }
      return success(api.putLease(claim.metadata.name, claim.metadata, claim.spec));
    }
    if (present === undefined)
      return refused({ status: 404, reason: 'NotFound', message: 'not found' });
    if (present.metadata.resourceVersion !== claim.metadata.resourceVersion) {
      return refused({ status: 409, reason: 'Conflict', message: 'the object has been modified' });
    }
    return success(api.putLease(name, claim.metadata, claim.spec));
  }
}

const closed: Answer = { kind: 'unanswered', message: 'connection closed', timedOut: false };
const reset: Answer = { kind: 'unanswered', message: 'connection reset', timedOut: false };
const ended: Answer = { kind: 'success', body: undefined };
const gone: Answer = refused({
  status: 410,
  reason: 'Expired',
  message: 'too old resource version',
});

function failed({ trouble }: Mishap): Answer {
  switch (trouble) {
    case 'overload':
      return refused({
        status: 429,
        reason: 'TooManyRequests',
        message: 'too many requests',
        retryAfterSeconds: 1,
      });
    case 'error':
      return refused({ status: 503, reason: 'ServiceUnavailable', message: 'etcd has no leader' });
    case 'reset':
      return reset;
    case 'silence':
      return { kind: 'unanswered', message: 'no answer in time', timedOut: true };
    default:
      throw new Error(`unexpected trouble: ${String(trouble satisfies never)}`);
  }
}

function success(body: unknown): Answer {
  return { kind: 'success', body };
}

function listOf(items: readonly unknown[], version: number): Answer {
  return success({ metadata: { resourceVersion: String(version) }, items });
}

function answerOf(result: Result<object>): Answer {
  return 'object' in result ? success(result.object) : refused(result.refusal);
}

function refused({ status, reason, message, causes, retryAfterSeconds }: Refusal): Answer {
  const body = {
    kind: 'Status',
    message,
    reason,
    code: status,
    ...(causes !== undefined && { details: { causes } }),
  };
  const retryAfter = retryAfterSeconds === undefined ? undefined : String(retryAfterSeconds);
  return { kind: 'failure', status, body, retryAfter };
}

/** Of what is on its way to several watches. */
const lines = new WeakMap<WatchEvent, Buffer>();

function lineOf(event: WatchEvent): Buffer {
  const { kind, type, object } = event;
  // Pods are watched by their metadata alone.
  const shown = kind === 'pods' ? { metadata: object.metadata } : object;
  const line = lines.get(event) ?? Buffer.from(`${JSON.stringify({ type, object: shown })}\n`);
  lines.set(event, line);
  return line;
}

function kindOf(path: string): Kind {
  if (path === '/api/v1/nodes') return 'nodes';
  return path === '/api/v1/pods' ? 'pods' : 'leases';
}

function portOf({ method, path, query }: ApiRequest): Port {
  const isWatch = query?.['watch'] === 'true';
  if (path === '/version') return 'ping';
  if (path.startsWith(NODE_LEASES)) return 'kubelet lease';
  if (path.startsWith(LEASES)) {
    if (isWatch) return 'lease watch';
    return method === 'GET' ? 'lease read' : 'lease write';
  }
  if (path === '/api/v1/nodes') return isWatch ? 'node watch' : 'node list';
  if (path.startsWith('/api/v1/nodes/')) return method === 'PATCH' ? 'node write' : 'node read';
  if (path === '/api/v1/pods') return isWatch ? 'pod watch' : 'pod list';
  if (path.includes('/pods/')) {
    if (method === 'POST') return 'evict';
    return method === 'DELETE' ? 'pod delete' : 'pod read';
  }
  return 'volumes';
}
