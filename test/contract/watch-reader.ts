import { Agent } from 'undici';
import type { LooseObject } from './answer.ts';
import type { Backend } from './backend.ts';

export type WatchLine = {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: LooseObject;
};

export type WatchReader = {
  readonly status: number;
  /** The next line, or how the stream ended. Throws if neither comes within 30 s. */
  next(): Promise<WatchLine | 'ended' | 'broken'>;
  /** The next line that is no bookmark, as its type and name: `ADDED pod-1`. */
  nextChange(): Promise<string>;
  /** All that comes until the stream ends. */
  rest(): Promise<WatchLine[]>;
  close(): Promise<void>;
};

const limitMs = 30_000;

/** Opens a watch on a connection of its own. */
export async function openWatch(
  backend: Backend,
  path: string,
  headers: Record<string, string> = {},
): Promise<WatchReader> {
  const { url, ca, token } = backend.api.connection;
  const agent = new Agent({ bodyTimeout: 0, connect: ca === undefined ? {} : { ca } });
  const response = await agent.request({
    origin: url,
    path,
    method: 'GET',
    headers: {
      accept: 'application/json',
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...headers,
    },
    signal: AbortSignal.timeout(limitMs * 4),
  });
  const lines = readLines(response.body);

  const next = async (): Promise<WatchLine | 'ended' | 'broken'> => {
    const read = await within(lines.next());
    return read.value;
  };
  return {
    status: response.statusCode,
    next,
    async nextChange() {
      for (;;) {
        const line = await next();
        if (typeof line === 'string') return line;
        if (line.type === 'BOOKMARK') continue;
        return `${line.type} ${line.object.metadata.name}`;
      }
    },
    async rest() {
      const found: WatchLine[] = [];
      for (let line = await next(); typeof line !== 'string'; line = await next()) found.push(line);
      return found;
    },
    close: () => agent.destroy(),
  };
}

async function* readLines(
  body: AsyncIterable<Buffer>,
): AsyncGenerator<WatchLine, 'ended' | 'broken'> {
  let rest = '';
  const decoder = new TextDecoder();
  try {
    for await (const chunk of body) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line !== '') yield JSON.parse(line) as WatchLine;
    }
  } catch (error) {
    if (error instanceof SyntaxError) throw error;
    return 'broken';
  }
  return 'ended';
}

function within<T>(promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`the watch said nothing for ${limitMs / 1000} s`));
    }, limitMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
