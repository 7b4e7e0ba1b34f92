import type { ApiObject } from './objects.ts';
import type { Resource } from './resource.ts';

export type StoreEvent<T extends ApiObject = ApiObject> = {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly revision: number;
  /** The object after the change; for DELETED its last state, carrying the revision of the deletion. */
  readonly object: T;
  readonly previous?: T;
};

export type Listener = (event: StoreEvent, resource: Resource) => void;

export function keyOf(namespace: string | undefined, name: string): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

type Collection = {
  readonly resource: Resource;
  readonly objects: Map<string, ApiObject>;
  readonly byNamespace: Map<string, Map<string, ApiObject>>;
  readonly byIndex: Map<string, Map<string, ApiObject>>;
  sortedKeys: string[] | undefined;
  history: StoreEvent[];
  /** Watches can start at this revision or later. */
  oldestRevision: number;
  readonly listeners: Set<Listener>;
};

/**
 * All objects, with one revision counter for all of them, as in etcd. Every call is synchronous, so
 * whoever reads and writes within one tick needs no lock.
 */
export class Store {
  private readonly collections = new Map<Resource, Collection>();
  private readonly everyListener = new Set<Listener>();
  private readonly historyLimit: number;
  private revision = 1;

  /** @param historyLimit change events kept for each resource; watches from before them get 410 */
  constructor(historyLimit: number) {
    this.historyLimit = historyLimit;
  }

  get currentRevision(): number {
    return this.revision;
  }

  get<T extends ApiObject>(
    resource: Resource<T>,
    namespace: string | undefined,
    name: string,
  ): T | undefined {
    return this.collection(resource).objects.get(keyOf(namespace, name)) as T | undefined;
  }

  /** In the order of their keys, as etcd returns them. */
  list<T extends ApiObject>(resource: Resource<T>, namespace?: string): T[] {
    const collection = this.collection(resource);
    if (namespace !== undefined) {
      const group = collection.byNamespace.get(namespace);
      return group === undefined ? [] : (sortedValues(group) as T[]);
    }
    collection.sortedKeys ??= [...collection.objects.keys()].toSorted(byCodePoint);
    const found: T[] = [];
    for (const key of collection.sortedKeys) {
      const object = collection.objects.get(key);
      if (object !== undefined) found.push(object as T);
    }
    return found;
  }

  count(resource: Resource): number {
    return this.collection(resource).objects.size;
  }

  /** Objects whose index value (of the resource's own index functions) is this one. */
  indexed<T extends ApiObject>(resource: Resource<T>, index: string, value: string): T[] {
    const group = this.collection(resource).byIndex.get(`${index}=${value}`);
    return group === undefined ? [] : (sortedValues(group) as T[]);
  }

  indexedCount(resource: Resource, index: string, value: string): number {
    return this.collection(resource).byIndex.get(`${index}=${value}`)?.size ?? 0;
  }

  /** Writes a new or changed object and returns it with its new resourceVersion. */
  put<T extends ApiObject>(resource: Resource<T>, object: T): T {
    const collection = this.collection(resource);
    const { namespace, name } = object.metadata;
    const key = keyOf(namespace, name);
    const previous = collection.objects.get(key) as T | undefined;
    this.revision += 1;
    const stored = {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(this.revision) },
    };
    collection.objects.set(key, stored);
    if (previous === undefined) collection.sortedKeys = undefined;
    else this.unindex(collection, key, previous);
    this.index(collection, key, stored);
    const type = previous === undefined ? 'ADDED' : 'MODIFIED';
    const event = { type, revision: this.revision, object: stored } as const;
    this.publish(collection, previous === undefined ? event : { ...event, previous });
    return stored;
  }

  /** Takes an object away and returns its last state, as watchers see it. */
  remove<T extends ApiObject>(resource: Resource<T>, object: T): T {
    const collection = this.collection(resource);
    const key = keyOf(object.metadata.namespace, object.metadata.name);
    this.revision += 1;
    collection.objects.delete(key);
    collection.sortedKeys = undefined;
    this.unindex(collection, key, object);
    const last = {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(this.revision) },
    };
    this.publish(collection, {
      type: 'DELETED',
      revision: this.revision,
      object: last,
      previous: object,
    });
    return last;
  }

  /** The changes after a revision, or undefined where they are no longer known. */
  changesSince(resource: Resource, revision: number): readonly StoreEvent[] | undefined {
    const collection = this.collection(resource);
    if (revision < collection.oldestRevision) return undefined;
    let low = 0;
    let high = collection.history.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((collection.history[middle]?.revision ?? 0) <= revision) low = middle + 1;
      else high = middle;
    }
    return collection.history.slice(low);
  }

  oldestRevision(resource: Resource): number {
    return this.collection(resource).oldestRevision;
  }

  /** Forgets all changes, as etcd does when it is compacted and the API server restarted. */
  forgetHistory(): void {
    for (const collection of this.collections.values()) {
      collection.history = [];
      collection.oldestRevision = this.revision;
    }
  }

  /** Hears of every change of one resource, within the call that made it; returns how to stop. */
  listen(resource: Resource, listener: Listener): () => void {
    const { listeners } = this.collection(resource);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  listenToAll(listener: Listener): () => void {
    this.everyListener.add(listener);
    return () => this.everyListener.delete(listener);
  }

  private collection(resource: Resource): Collection {
    const known = this.collections.get(resource);
    if (known !== undefined) return known;
    const made: Collection = {
      resource,
      objects: new Map(),
      byNamespace: new Map(),
      byIndex: new Map(),
      sortedKeys: undefined,
      history: [],
      oldestRevision: this.revision,
      listeners: new Set(),
    };
    this.collections.set(resource, made);
    return made;
  }

  private publish(collection: Collection, event: StoreEvent): void {
    collection.history.push(event);
    // Trimmed in blocks: shifting one by one would cost the whole array each time.
    if (collection.history.length > this.historyLimit * 1.25) {
      const dropped = collection.history.splice(0, collection.history.length - this.historyLimit);
      collection.oldestRevision = dropped.at(-1)?.revision ?? collection.oldestRevision;
    }
    for (const listener of collection.listeners) listener(event, collection.resource);
    for (const listener of this.everyListener) listener(event, collection.resource);
  }

  private index(collection: Collection, key: string, object: ApiObject): void {
    const { namespace } = object.metadata;
    if (namespace !== undefined) member(collection.byNamespace, namespace).set(key, object);
    for (const [name, valueOf] of Object.entries(collection.resource.indexes)) {
      const value = valueOf(object);
      if (value !== undefined) member(collection.byIndex, `${name}=${value}`).set(key, object);
    }
  }

  private unindex(collection: Collection, key: string, object: ApiObject): void {
    const { namespace } = object.metadata;
    if (namespace !== undefined) dropMember(collection.byNamespace, namespace, key);
    for (const [name, valueOf] of Object.entries(collection.resource.indexes)) {
      const value = valueOf(object);
      if (value !== undefined) dropMember(collection.byIndex, `${name}=${value}`, key);
    }
  }
}

function member<V>(groups: Map<string, Map<string, V>>, name: string): Map<string, V> {
  const known = groups.get(name);
  if (known !== undefined) return known;
  const made = new Map<string, V>();
  groups.set(name, made);
  return made;
}

function dropMember<V>(groups: Map<string, Map<string, V>>, name: string, key: string): void {
  const group = groups.get(name);
  group?.delete(key);
  if (group?.size === 0) groups.delete(name);
}

function sortedValues(group: Map<string, ApiObject>): ApiObject[] {
  return [...group].toSorted(([a], [b]) => byCodePoint(a, b)).map(([, object]) => object);
}

function byCodePoint(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
