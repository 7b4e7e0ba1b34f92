import { readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { delimiter, dirname } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node/dist/config.js';
import type { Clock } from '../clock.ts';
import type { Report } from '../report/report.ts';

/** What a request needs to be believed, and to believe the server. The same object as long as nothing changed. */
export type Credentials = Readonly<{ headers: Readonly<Record<string, string>>; tls: TlsMaterial }>;

export type TlsMaterial = Readonly<{
  ca?: string | Buffer;
  cert?: string | Buffer;
  key?: string | Buffer;
  servername?: string;
  rejectUnauthorized?: boolean;
}>;

export interface Authenticator {
  readonly server: URL;
  readonly proxyUrl: string | undefined;
  /** Of the current context; within a cluster, of this pod. */
  readonly namespace: string | undefined;
  /** Files are looked at again after 10 s, plugins when their credential has expired. Rejects if there never was one. */
  current(): Credentials | Promise<Credentials>;
  /** After a 401: reads everything anew unless somebody just did. Rejects like `current`. */
  renew(refused: Credentials): Promise<Credentials>;
}

const REREAD_AFTER_MS = 10_000;
const RENEW_AGAIN_AFTER_MS = 1000;
/** An exec plugin may ask a person or a far service. */
const PLUGIN_TIMEOUT_MS = 30_000;

/** Throws when there is no configuration or an unusable one. */
export function createAuthenticator(
  kubeconfigPath: string | undefined,
  clock: Clock,
  report: Report,
): Authenticator {
  let config = load(kubeconfigPath);
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw new Error(`The kubeconfig ${kubeconfigPath} has no cluster for its current context.`);
  }
  let held: Credentials | undefined;
  let readAt = 0;
  let renewedAt = 0;
  let reading: Promise<Credentials> | undefined;

  async function read(): Promise<Credentials> {
    try {
      const next = await withTimeLimit(readCredentials(config), clock);
      if (held === undefined || !same(held, next)) held = next;
    } catch (error) {
      if (held === undefined) throw error;
      // The old one may still be good; if not, its 401 brings us back here.
      report.warn('credentials not renewed', { error });
    }
    readAt = clock.now();
    return held;
  }

  function shared(): Promise<Credentials> {
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return reading;
  }

  return {
    server: new URL(cluster.server),
    proxyUrl: cluster.proxyUrl,
    namespace: config.getContextObject(config.getCurrentContext())?.namespace,
    current() {
      return held !== undefined && clock.now() - readAt < REREAD_AFTER_MS ? held : shared();
    },
    async renew(refused) {
      if (held !== refused && held !== undefined) return held;
      if (clock.now() - renewedAt < RENEW_AGAIN_AFTER_MS) return shared();
      renewedAt = clock.now();
      // A new KubeConfig forgets the cached token. One with OIDC is kept: only it knows the latest refresh token.
      if (!usesOidc(config)) config = load(kubeconfigPath);
      return shared();
    },
  };
}

/** Several files (as in kubectl's KUBECONFIG) are merged: what comes first wins. */
function load(kubeconfigPath: string | undefined): KubeConfig {
  const config = new KubeConfig();
  if (kubeconfigPath === undefined) {
    if (process.env['KUBERNETES_SERVICE_HOST'] === undefined) {
      throw new Error(
        'Not inside a cluster (KUBERNETES_SERVICE_HOST is not set), and no kubeconfig is given.',
      );
    }
    config.loadFromCluster();
    return config;
  }
  for (const file of kubeconfigPath.split(delimiter).filter((name) => name !== '')) {
    const next = new KubeConfig();
    try {
      next.loadFromString(readFileSync(file, 'utf8'));
      next.makePathsAbsolute(dirname(file));
      // The client library refuses plain HTTP without it, where there is no TLS to verify.
      next.clusters = next.clusters.map((cluster) =>
        cluster.server.startsWith('http:') ? { ...cluster, skipTLSVerify: true } : cluster,
      );
    } catch (cause) {
      throw new Error(`The kubeconfig ${file} cannot be read: ${String(cause)}`, { cause });
    }
    config.clusters = firstOfEachName([...config.clusters, ...next.clusters]);
    config.users = firstOfEachName([...config.users, ...next.users]);
    config.contexts = firstOfEachName([...config.contexts, ...next.contexts]);
    config.currentContext ||= next.currentContext;
  }
  return config;
}

function firstOfEachName<T extends { readonly name: string }>(entries: readonly T[]): T[] {
  const byName = new Map<string, T>();
  for (const entry of entries) if (!byName.has(entry.name)) byName.set(entry.name, entry);
  return [...byName.values()];
}

function usesOidc(config: KubeConfig): boolean {
  const provider: unknown = config.getCurrentUser()?.authProvider;
  return (
    typeof provider === 'object' &&
    provider !== null &&
    'name' in provider &&
    provider.name === 'oidc'
  );
}

async function readCredentials(config: KubeConfig): Promise<Credentials> {
  const options: RequestOptions = {};
  await config.applyToHTTPSOptions(options);
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(options.headers ?? {})) {
    // A token file may end in a line feed, which no header may hold.
    headers[name.toLowerCase()] = String(value).trim();
  }
  if (typeof options.auth === 'string') {
    headers['authorization'] ??= `Basic ${Buffer.from(options.auth).toString('base64')}`;
  }
  return { headers, tls: tlsOf(options) };
}

function tlsOf(options: RequestOptions): TlsMaterial {
  return {
    ...material('ca', options.ca),
    ...material('cert', options.cert),
    ...material('key', options.key),
    ...(options.servername !== undefined && { servername: options.servername }),
    ...(options.rejectUnauthorized !== undefined && {
      rejectUnauthorized: options.rejectUnauthorized,
    }),
  };
}

function material(name: 'ca' | 'cert' | 'key', value: unknown): TlsMaterial {
  return typeof value === 'string' || Buffer.isBuffer(value) ? { [name]: value } : {};
}

function same(left: Credentials, right: Credentials): boolean {
  return fingerprint(left.headers) === fingerprint(right.headers) && sameTls(left.tls, right.tls);
}

export function sameTls(left: TlsMaterial, right: TlsMaterial): boolean {
  return left === right || fingerprint(left) === fingerprint(right);
}

function fingerprint(fields: Readonly<Record<string, string | Buffer | boolean>>): string {
  return JSON.stringify(Object.entries(fields).map(([name, value]) => [name, String(value)]));
}

async function withTimeLimit<T>(work: Promise<T>, clock: Clock): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = clock.after(PLUGIN_TIMEOUT_MS, () => {
    late.reject(new Error(`No credentials after ${PLUGIN_TIMEOUT_MS / 1000} s.`));
  });
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    timer.cancel();
  }
}
