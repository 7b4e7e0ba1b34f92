import { randomUUID } from 'node:crypto';
import type { AuditEntry, AuditFilter } from '../control-plane/audit.ts';
import { eventually } from './eventually.ts';
import type { World } from './world.ts';

/**
 * What controllers have asked of the API server so far, oldest first: all that was answered before
 * this was called, for which the log is read up to a request of our own.
 */
export async function controllerRequests(
  { api, cluster, controllerUserName }: World,
  filter: Omit<AuditFilter, 'userName'> = {},
): Promise<AuditEntry[]> {
  const marker = `marker-${randomUUID()}`;
  await api.find(`/api/v1/namespaces/default/configmaps/${marker}`);
  await eventually(async () => (await cluster.auditEntries({ name: marker })).length > 0);
  return cluster.auditEntries({ ...filter, userName: controllerUserName });
}

/** Those that changed or tried to change something, whatever the answer. */
export function writesAmong(requests: readonly AuditEntry[]): AuditEntry[] {
  return requests.filter(({ verb }) => !['get', 'list', 'watch'].includes(verb));
}

/** Evictions and deletions of one pod. */
export async function removalsOf(
  world: World,
  pod: { readonly name: string; readonly namespace?: string },
): Promise<Removal[]> {
  const { name, namespace = 'default' } = pod;
  const requests = await controllerRequests(world, { resource: 'pods', namespace, name });
  return writesAmong(requests).map(removalOf);
}

export type Removal = {
  readonly by: 'eviction' | 'deletion';
  readonly pod: string;
  readonly status: number;
  /** Epoch ms, with fractions. */
  readonly receivedAt: number;
  readonly answeredAt: number;
  readonly uid: string | undefined;
  readonly graceSeconds: number | undefined;
};

type DeleteOptions = { gracePeriodSeconds?: number; preconditions?: { uid?: string } };

export function removalOf(entry: AuditEntry): Removal {
  const { verb, subresource, name = '', status, receivedAt, answeredAt } = entry;
  const by =
    verb === 'create' && subresource === 'eviction'
      ? 'eviction'
      : verb === 'delete' && subresource === undefined
        ? 'deletion'
        : undefined;
  if (by === undefined) throw new Error(`${verb} ${entry.path} neither evicts nor deletes`);
  const body = entry.body as DeleteOptions & { deleteOptions?: DeleteOptions };
  const options = by === 'eviction' ? body.deleteOptions : body;
  return {
    by,
    pod: name,
    status,
    receivedAt,
    answeredAt,
    uid: options?.preconditions?.uid,
    graceSeconds: options?.gracePeriodSeconds,
  };
}
