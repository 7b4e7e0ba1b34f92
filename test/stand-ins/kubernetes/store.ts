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

/** Objects by key; their order is worked out when it is asked for, and kept while no key comes or goes. */
class Group {
  readonly objects = new Map<string, ApiObject>();
  private sortedKeys: string[] | undefined;

  set(key: string, object: ApiObject): void {
    if (!this.objects.has(key)) this.sortedKeys = undefined;
    this.objects.set(key, object);
  }

  delete(key: string): void {
    if (this.objects.delete(key)) this.sortedKeys = undefined;
  }

  sorted(): ApiObject[] {
    this.sortedKeys ??= [...this.objects.keys()].toSorted(byCodePoint);
    const found: ApiObject[] = [];
    for (const key of this.sortedKeys) {
      const object = this.objects.get(key);
      if (object !== undefined) found.push(object);
    }
    return found;
  }
}

type Collection = {
  readonly resource: Resource;
  readonly all: Group;
  readonly byNamespace: Map<string, Group>;
  readonly byIndex: Map<string, Group>;
  history: StoreEvent[];
  /** Watches can start at this revision or later. */
  oldestRevision: number;
  readonly listeners: Set<Listener>;
};

const empty = new Map<string, ApiObject>();

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
    return this.collection(resource).all.objects.get(keyOf(namespace, name)) as T | undefined;
  }

  /** In the order of their keys, as etcd returns them. */
  list<T extends ApiObject>(resource: Resource<T>, namespace?: string): T[] {
    const { all, byNamespace } = this.collection(resource);
    const group = namespace === undefined ? all : byNamespace.get(namespace);
    return (group?.sorted() ?? []) as T[];
  }

  /** In no order, for those who look at each. */
  values<T extends ApiObject>(resource: Resource<T>, namespace?: string): Iterable<T> {
    const { all, byNamespace } = this.collection(resource);
    const group = namespace === undefined ? all : byNamespace.get(namespace);
    return (group?.objects ?? empty).values() as Iterable<T>;
  }

  count(resource: Resource): number {
    return this.collection(resource).all.objects.size;
  }

  /** Objects whose index value (of the resource's own index functions) is this one, in order. */
  indexed<T extends ApiObject>(resource: Resource<T>, index: string, value: string): T[] {
    const group = this.collection(resource).byIndex.get(`${index}=${value}`);
    return (group?.sorted() ?? []) as T[];
  }

  /** Writes a new or changed object and returns it with its new resourceVersion. */
  put<T extends ApiObject>(resource: Resource<T>, object: T): T {
    const collection = this.collection(resource);
    const { namespace, name } = object.metadata;
    const key = keyOf(namespace, name);
    const previous = collection.all.objects.get(key) as T | undefined;
    this.revision += 1;
    const stored = {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(this.revision) },
    };
    collection.all.set(key, stored);
    index(collection, key, stored, previous);
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
    collection.all.delete(key);
    index(collection, key, undefined, object);
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
      all: new Group(),
      byNamespace: new Map(),
      byIndex: new Map(),
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
}

/** Moves an object to where it is found by now; an undefined one is gone, or was not there before. */
function index(
  { resource, byNamespace, byIndex }: Collection,
  key: string,
  now: ApiObject | undefined,
  before: ApiObject | undefined,
): void {
  move(byNamespace, now?.metadata.namespace, before?.metadata.namespace, key, now);
  for (const [name, valueOf] of Object.entries(resource.indexes)) {
    const at = (object: ApiObject | undefined): string | undefined => {
      const value = object === undefined ? undefined : valueOf(object);
      return value === undefined ? undefined : `${name}=${value}`;
    };
    move(byIndex, at(now), at(before), key, now);
  }
}

function move(
  groups: Map<string, Group>,
  to: string | undefined,
  from: string | undefined,
  key: string,
  object: ApiObject | undefined,
): void {
  if (from !== undefined && from !== to) {
    const left = groups.get(from);
    left?.delete(key);
    if (left?.objects.size === 0) groups.delete(from);
  }
  if (to === undefined || object === undefined) return;
  let group = groups.get(to);
  if (group === undefined) {
    group = new Group();
    groups.set(to, group);
  }
  group.set(key, object);
}

function byCodePoint(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
