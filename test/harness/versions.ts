import type { ApiClient } from '../control-plane/api-client.ts';
import type { KubernetesObject } from '../control-plane/objects.ts';

/** One state of one object. */
export type Version<T> = {
  readonly name: string;
  /** Of all objects of the cluster, in the order in which they were written. */
  readonly revision: number;
  readonly deleted: boolean;
  /** As it was last, if it was deleted. */
  readonly object: T;
};

export type VersionWatch<T> = {
  /** So far, oldest first; begins with what was there. */
  readonly versions: readonly Version<T>[];
  of(name: string): readonly Version<T>[];
  stop(): Promise<void>;
};

/** Keeps every version of the objects from now on. */
export async function watchVersions<T extends KubernetesObject>(
  api: ApiClient,
  path: string,
): Promise<VersionWatch<T>> {
  const versions: Version<T>[] = [];
  const known = new Set<string>();
  const stopping = new AbortController();
  const started = Promise.withResolvers<void>();
  const see = (object: T, deleted: boolean) => {
    const { name, uid, resourceVersion } = object.metadata;
    const key = `${uid} ${resourceVersion}`;
    if (known.has(key)) return;
    known.add(key);
    versions.push({ name, revision: Number(resourceVersion), deleted, object });
  };
  const watching = api.listAndWatch<T>({
    path,
    signal: stopping.signal,
    onList(objects) {
      for (const object of objects) see(object, false);
      started.resolve();
    },
    onEvent: ({ type, object }) => see(object, type === 'DELETED'),
  });
  await started.promise;
  return {
    versions,
    of: (wanted) => versions.filter(({ name }) => name === wanted),
    async stop() {
      stopping.abort();
      await watching;
    },
  };
}
