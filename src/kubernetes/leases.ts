import type { Claim, Lease, LeaseAnswer, LeaseStore } from '../election/lease.ts';
import { bodyAs, messageOf } from './answers.ts';
import { pathOf, type Answer, type ApiRequest } from './connection.ts';
import { ListWatch, type ApiObject, type FollowOptions } from './list-watch.ts';
import { microTime } from './micro-time.ts';

/** https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1/ */
type RawLease = ApiObject & {
  readonly metadata?: Readonly<Record<string, unknown>> & { readonly name?: string };
  readonly spec?: {
    readonly holderIdentity?: string | null;
    readonly acquireTime?: string | null;
    readonly leaseTransitions?: number | null;
  };
};

/** Several fit into the time a renewal has. */
const REQUEST_TIMEOUT_MS = 3000;
const API_VERSION = 'coordination.k8s.io/v1';

type LeaseStoreOptions = FollowOptions & Readonly<{ namespace: string; name: string }>;

export function createLeaseStore(options: LeaseStoreOptions): LeaseStore {
  const { connection, namespace, name } = options;
  const collection = pathOf('apis', 'coordination.k8s.io', 'v1', 'namespaces', namespace, 'leases');
  const path = `${collection}${pathOf(name)}`;

  async function ask(
    request: Pick<ApiRequest, 'method' | 'path' | 'body'>,
    signal: AbortSignal,
  ): Promise<LeaseAnswer> {
    const answer = await connection.request(
      { ...request, lane: 'mark', timeoutMs: REQUEST_TIMEOUT_MS },
      signal,
    );
    return meaningOf(answer, request.method);
  }

  return {
    read: (signal) => ask({ method: 'GET', path }, signal),
    create: (claim, signal) =>
      ask({ method: 'POST', path: collection, body: objectOf({ name, namespace }, claim) }, signal),
    update: ({ metadata, resourceVersion }, claim, signal) =>
      ask({ method: 'PUT', path, body: objectOf({ ...metadata, resourceVersion }, claim) }, signal),
    follow(onChange, signal) {
      const listWatch = new ListWatch<Lease>(
        {
          what: 'the lease',
          path: collection,
          query: { fieldSelector: `metadata.name=${name}` },
          project: leaseOf,
        },
        {
          onList: ({ items }) => onChange(items[0]),
          onEvent: (type, lease) => onChange(type === 'DELETED' ? undefined : lease),
        },
        options,
      );
      return listWatch.run(signal);
    },
  };
}

function meaningOf(answer: Answer, method: ApiRequest['method']): LeaseAnswer {
  if (answer.kind === 'success') {
    const lease = leaseOf(bodyAs<RawLease>(answer.body) ?? {});
    return lease === undefined
      ? { outcome: 'failed', message: 'the answer is not a Lease' }
      : { outcome: 'lease', lease };
  }
  if (answer.kind === 'crowded') return { outcome: 'failed', message: 'too many requests wait' };
  if (answer.kind === 'unanswered') return { outcome: 'failed', message: answer.message };
  if (answer.status === 409) return { outcome: 'conflict' };
  // Of a creation: its namespace is not there.
  if (answer.status === 404 && method !== 'POST') return { outcome: 'absent' };
  return { outcome: 'failed', message: messageOf(answer) };
}

function leaseOf({ metadata, spec }: RawLease): Lease | undefined {
  if (typeof metadata?.resourceVersion !== 'string') return undefined;
  const acquiredAt = Date.parse(spec?.acquireTime ?? '');
  return {
    holder: spec?.holderIdentity ?? '',
    resourceVersion: metadata.resourceVersion,
    transitions: spec?.leaseTransitions ?? 0,
    acquiredAt: Number.isNaN(acquiredAt) ? undefined : acquiredAt,
    metadata,
  };
}

function objectOf(metadata: Readonly<Record<string, unknown>>, claim: Claim): object {
  return {
    apiVersion: API_VERSION,
    kind: 'Lease',
    metadata,
    spec: {
      holderIdentity: claim.holder,
      leaseDurationSeconds: claim.durationSeconds,
      acquireTime: microTime(claim.acquiredAt),
      renewTime: microTime(claim.renewedAt),
      leaseTransitions: claim.transitions,
    },
  };
}
