import { unlessAborted } from '../abort.ts';
import type { Clock } from '../clock.ts';
import type { Denied, Volumes } from '../drain/pods.ts';
import { bodyAs, ApiFailure } from './answers.ts';
import { pathOf, type Connection } from './connection.ts';
import { listAll, type ApiObject, type Feed } from './list-watch.ts';

type Attachment = Readonly<{ node: string; volume: string }>;

const ATTACHMENTS: Feed<Attachment> = {
  what: 'volume attachments',
  path: '/apis/storage.k8s.io/v1/volumeattachments',
  project({
    spec,
  }: ApiObject & { spec?: { nodeName?: string; source?: { persistentVolumeName?: string } } }) {
    const volume = spec?.source?.persistentVolumeName;
    return spec?.nodeName !== undefined && volume !== undefined
      ? { node: spec.nodeName, volume }
      : undefined;
  },
};

/** Attachments cannot be selected by node: one list serves all drains that ask within this time. */
const SHARED_FOR_MS = 1000;

type VolumesOptions = Readonly<{ connection: Connection; clock: Clock }>;

export function createVolumes({ connection, clock }: VolumesOptions): Volumes {
  let shared:
    | Readonly<{ askedAt: number; byNode: Promise<ReadonlyMap<string, readonly string[]>> }>
    | undefined;

  async function listByNode(): Promise<ReadonlyMap<string, readonly string[]>> {
    // Not the caller's signal: others wait for the same list. Its requests have their own limit.
    const { items } = await listAll(connection, ATTACHMENTS, 'bulk', new AbortController().signal);
    const byNode = new Map<string, string[]>();
    for (const { node, volume } of items) {
      const volumes = byNode.get(node);
      if (volumes === undefined) byNode.set(node, [volume]);
      else volumes.push(volume);
    }
    return byNode;
  }

  return {
    async attachedTo(nodeName, signal) {
      signal.throwIfAborted();
      const now = clock.now();
      if (shared === undefined || now - shared.askedAt >= SHARED_FOR_MS) {
        shared = { askedAt: now, byNode: listByNode() };
      }
      try {
        const byNode = await unlessAborted(shared.byNode, signal);
        return byNode.get(nodeName) ?? [];
      } catch (error) {
        return deniedOr(error);
      }
    },

    async volumeOf(namespace, claim, signal) {
      const path = pathOf('api', 'v1', 'namespaces', namespace, 'persistentvolumeclaims', claim);
      const answer = await connection.request({ method: 'GET', path, lane: 'bulk' }, signal);
      if (answer.kind === 'failure' && answer.status === 404) return undefined;
      if (answer.kind !== 'success') {
        return deniedOr(new ApiFailure(`read claim ${namespace}/${claim}`, answer));
      }
      const volume = bodyAs<{ spec?: { volumeName?: string } | null }>(answer.body)?.spec
        ?.volumeName;
      return volume === '' ? undefined : volume;
    },
  };
}

/** Throws what is not a word on our rights. */
function deniedOr(error: unknown): Denied {
  const isDenied = error instanceof ApiFailure && (error.status === 401 || error.status === 403);
  if (isDenied) return { denied: error.message };
  throw error;
}
