import { randomUUID } from 'node:crypto';
import {
  alreadyExists,
  ApiError,
  badRequest,
  conflict,
  forbidden,
  invalid,
  notFound,
  preconditionFailed,
  staleVersion,
} from './api-error.ts';
import { sameJson } from './json.ts';
import { events, namespaces } from './kinds.ts';
import { secondsTime, type ApiObject, type Metadata } from './objects.ts';
import type { Resource } from './resource.ts';
import type { Store } from './store.ts';
import { invalidValue, validateMetadata } from './validation.ts';

/** Ways in which the stand-in can be made wrong on purpose, to prove that the contract suite sees it. */
export type Mutations = {
  /** A strategic merge patch of spec.taints merges by key instead of replacing the list. */
  readonly mergeTaintsByKey: boolean;
  /** Deletions and evictions go ahead whatever uid their precondition names. */
  readonly ignoreUidPreconditions: boolean;
  /** Watches and lists from a version that is gone start from now instead of answering 410. */
  readonly never410: boolean;
};

/** What every verb works on. */
export type Cluster = {
  readonly store: Store;
  readonly mutations: Mutations;
};

export type DeleteOptions = {
  gracePeriodSeconds?: number;
  preconditions?: { uid?: string; resourceVersion?: string };
  propagationPolicy?: string;
  orphanDependents?: boolean;
  dryRun?: string[];
};

export function readObject<T extends ApiObject>(
  cluster: Cluster,
  resource: Resource<T>,
  namespace: string | undefined,
  name: string,
): T {
  const object = cluster.store.get(resource, namespace, name);
  if (object === undefined) throw notFound(resource, name);
  return object;
}

/** `object` is the caller's own; it may be changed. */
export function createObject<T extends ApiObject>(
  cluster: Cluster,
  resource: Resource<T>,
  namespace: string | undefined,
  object: T,
  options: { dryRun?: boolean } = {},
): T {
  const metadata = namedMetadata(object.metadata, namespace);
  if (metadata.name === '' && metadata.generateName !== undefined) {
    metadata.name = freeName(cluster, resource, namespace, metadata.generateName);
  }
  requireLivingNamespace(cluster, resource, metadata);
  if (cluster.store.get(resource, namespace, metadata.name) !== undefined) {
    throw alreadyExists(resource, metadata.name);
  }
  const nowMs = Date.now();
  const made: T = {
    ...object,
    apiVersion: resource.group === '' ? resource.version : `${resource.group}/${resource.version}`,
    kind: resource.kind,
    metadata: {
      ...metadata,
      uid: randomUUID(),
      resourceVersion: '',
      creationTimestamp: secondsTime(nowMs),
      ...(resource.counted && { generation: 1 }),
    },
  };
  delete made.metadata.deletionTimestamp;
  delete made.metadata.deletionGracePeriodSeconds;
  resource.prepareCreate(made, nowMs);
  requireValid(resource, made, undefined);
  return options.dryRun === true ? made : cluster.store.put(resource, made);
}

export type UpdateOptions<T> = {
  readonly dryRun?: boolean;
  /** Which part the request may change. */
  readonly part: 'object' | 'status';
  /** For a PUT of a kind that may be created so. */
  readonly createIfAbsent?: () => T;
};

export type Updated<T> = { readonly object: T; readonly created: boolean };

/** @param change gives the wanted object from the current one, which it must leave as it is */
export function updateObject<T extends ApiObject>(
  cluster: Cluster,
  resource: Resource<T>,
  namespace: string | undefined,
  name: string,
  change: (current: T) => T,
  options: UpdateOptions<T>,
): Updated<T> {
  const current = cluster.store.get(resource, namespace, name);
  if (current === undefined) {
    if (options.createIfAbsent === undefined || !resource.createOnUpdate) {
      throw notFound(resource, name);
    }
    const given = options.createIfAbsent();
    const object = { ...given, metadata: { ...given.metadata, resourceVersion: '' } };
    const made = createObject(cluster, resource, namespace, object, options);
    return { object: made, created: true };
  }
  const wanted = change(current);
  requireSameObject(resource, wanted, current);
  const nowMs = Date.now();
  const next: T = { ...wanted, metadata: keptMetadata(wanted.metadata, current.metadata) };
  next.apiVersion = current.apiVersion;
  next.kind = current.kind;
  if (options.part === 'status') {
    next.spec = current.spec;
    if (next.spec === undefined) delete next.spec;
  } else if (resource.subresources.includes('status')) {
    next.status = current.status;
    if (next.status === undefined) delete next.status;
    resource.prepareUpdate(next, current, nowMs);
  } else resource.prepareUpdate(next, current, nowMs);
  if (resource.counted && !sameJson(next.spec, current.spec)) {
    next.metadata.generation = (current.metadata.generation ?? 0) + 1;
  }
  requireValid(resource, next, current);
  // A write that changes nothing is none: the version stays, and no watcher hears of it.
  if (sameJson(next, current)) return { object: current, created: false };
  if (options.dryRun === true) return { object: next, created: false };
  const stored = cluster.store.put(resource, next);
  if (isReleased(stored)) return { object: cluster.store.remove(resource, stored), created: false };
  return { object: stored, created: false };
}

export type Removed<T> = { readonly object: T; readonly gone: boolean };

/** Deletion with grace, preconditions and finalizers, as rest.BeforeDelete of the API server has it. */
export function removeObject<T extends ApiObject>(
  cluster: Cluster,
  resource: Resource<T>,
  namespace: string | undefined,
  name: string,
  options: DeleteOptions,
): Removed<T> {
  const object = readObject(cluster, resource, namespace, name);
  requirePreconditions(cluster, resource.kind, object.metadata, options.preconditions);
  const dryRun = options.dryRun?.includes('All') ?? false;
  const plan = deletion(resource, object, options.gracePeriodSeconds);
  if (plan === 'pending') return { object, gone: false };
  let last = object;
  if (plan !== 'now') {
    const metadata = { ...object.metadata, ...plan };
    last = resource.deleting({ ...object, metadata });
    if (!dryRun) last = cluster.store.put(resource, last);
  }
  if (isHeld(last) || (last.metadata.deletionGracePeriodSeconds ?? 0) > 0) {
    return { object: last, gone: false };
  }
  if (dryRun) return { object: last, gone: true };
  return { object: cluster.store.remove(resource, last), gone: true };
}

type DeletionMarks = Pick<
  Metadata,
  'deletionTimestamp' | 'deletionGracePeriodSeconds' | 'generation'
>;

/** 'now': remove it; 'pending': it is going already, and not later than asked; else its new marks. */
function deletion<T extends ApiObject>(
  resource: Resource<T>,
  object: T,
  requestedSeconds: number | undefined,
): 'now' | 'pending' | DeletionMarks {
  const { metadata } = object;
  const nowMs = Date.now();
  const held = isHeld(object);
  const graceSeconds = resource.graceSeconds(object, requestedSeconds);
  if (graceSeconds === undefined) {
    if (!held) return 'now';
    if (metadata.deletionTimestamp !== undefined) return 'pending';
    return { deletionTimestamp: secondsTime(nowMs), deletionGracePeriodSeconds: 0 };
  }
  if (metadata.deletionTimestamp === undefined) {
    return {
      deletionTimestamp: secondsTime(nowMs + graceSeconds * 1000),
      deletionGracePeriodSeconds: graceSeconds,
      ...(metadata.generation !== undefined && { generation: metadata.generation + 1 }),
    };
  }
  const runningSeconds = metadata.deletionGracePeriodSeconds ?? 0;
  if (runningSeconds === 0) return held ? 'pending' : 'now';
  if (requestedSeconds === undefined) return 'pending';
  const wantedSeconds = requestedSeconds < 0 ? 1 : requestedSeconds;
  if (wantedSeconds >= runningSeconds) return 'pending';
  // A shorter grace counts from the first deletion, which is the stored end less the stored grace.
  const endMs = Date.parse(metadata.deletionTimestamp) + (wantedSeconds - runningSeconds) * 1000;
  if (endMs >= nowMs) {
    return { deletionTimestamp: secondsTime(endMs), deletionGracePeriodSeconds: wantedSeconds };
  }
  return {
    deletionTimestamp: secondsTime(nowMs),
    deletionGracePeriodSeconds: wantedSeconds === 0 ? 0 : 1,
  };
}

export function requirePreconditions(
  cluster: Cluster,
  kind: string,
  metadata: Metadata,
  preconditions: DeleteOptions['preconditions'],
): void {
  const { uid, resourceVersion } = preconditions ?? {};
  if (uid !== undefined && uid !== metadata.uid && !cluster.mutations.ignoreUidPreconditions) {
    throw preconditionFailed(
      kind,
      metadata.name,
      `the UID in the precondition (${uid}) does not match the UID in record (${metadata.uid}). The object might have been deleted and then recreated`,
    );
  }
  if (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion) {
    throw preconditionFailed(
      kind,
      metadata.name,
      `the ResourceVersion in the precondition (${resourceVersion}) does not match the ResourceVersion in record (${metadata.resourceVersion}). The object might have been modified`,
    );
  }
}

/** Creation in a namespace that is absent is 404, in one that is going 403. */
export function requireLivingNamespace(
  cluster: Cluster,
  resource: Resource,
  metadata: { name: string; namespace?: string },
): void {
  if (!resource.namespaced) return;
  const name = metadata.namespace ?? '';
  const namespace = readObject(cluster, namespaces, undefined, name);
  if (namespace.metadata.deletionTimestamp === undefined) return;
  throw forbidden(
    resource,
    metadata.name,
    `unable to create new content in namespace ${name} because it is being terminated`,
    [
      {
        reason: 'NamespaceTerminating',
        message: `namespace ${name} is being terminated`,
        field: 'metadata.namespace',
      },
    ],
  );
}

function namedMetadata(given: Metadata, namespace: string | undefined): Metadata {
  const metadata: Metadata = { ...given };
  if (namespace !== undefined) {
    if (
      metadata.namespace !== undefined &&
      metadata.namespace !== '' &&
      metadata.namespace !== namespace
    ) {
      throw badRequest(
        'the namespace of the provided object does not match the namespace sent on the request',
      );
    }
    metadata.namespace = namespace;
  } else delete metadata.namespace;
  if (metadata.resourceVersion !== '') {
    throw new ApiError(
      500,
      undefined,
      'resourceVersion should not be set on objects to be created',
      {},
    );
  }
  return metadata;
}

export const emptyMetadata: Metadata = {
  name: '',
  uid: '',
  resourceVersion: '',
  creationTimestamp: '',
};

/** An object as a request gives it, with the parts every object has. */
export function completed(resource: Resource, body: object): ApiObject {
  const given = body as Partial<ApiObject>;
  return {
    ...given,
    apiVersion: given.apiVersion ?? '',
    kind: given.kind ?? '',
    metadata: { ...emptyMetadata, ...given.metadata },
    ...(resource.hasSpec && { spec: given.spec ?? {} }),
    ...(resource.subresources.includes('status') && { status: given.status ?? {} }),
  };
}

function freeName<T extends ApiObject>(
  { store }: Cluster,
  resource: Resource<T>,
  namespace: string | undefined,
  prefix: string,
): string {
  for (;;) {
    const name = `${prefix}${randomSuffix()}`;
    if (store.get(resource, namespace, name) === undefined) return name;
  }
}

/** Letters and digits without those that form words, as generated names of Kubernetes have them. */
function randomSuffix(): string {
  const alphabet = 'bcdfghjklmnpqrstvwxz2456789';
  let suffix = '';
  for (let at = 0; at < 5; at += 1) suffix += alphabet[Math.floor(Math.random() * alphabet.length)];
  return suffix;
}

function keptMetadata(wanted: Metadata, current: Metadata): Metadata {
  const kept: Metadata = {
    ...wanted,
    name: current.name,
    uid: current.uid,
    resourceVersion: current.resourceVersion,
    creationTimestamp: current.creationTimestamp,
  };
  for (const field of ['namespace', 'deletionTimestamp', 'generateName'] as const) {
    if (current[field] === undefined) delete kept[field];
    else kept[field] = current[field];
  }
  for (const field of ['generation', 'deletionGracePeriodSeconds'] as const) {
    if (current[field] === undefined) delete kept[field];
    else kept[field] = current[field];
  }
  for (const field of ['labels', 'annotations'] as const) {
    if (Object.keys(kept[field] ?? {}).length === 0) delete kept[field];
  }
  for (const field of ['finalizers', 'ownerReferences'] as const) {
    if ((kept[field] ?? []).length === 0) delete kept[field];
  }
  return kept;
}

function requireSameObject<T extends ApiObject>(
  resource: Resource<T>,
  wanted: T,
  current: T,
): void {
  const { name } = current.metadata;
  const version = wanted.metadata.resourceVersion;
  if (version === '' || version === '0') {
    if (!resource.unconditionalUpdate) {
      // Here the real server names the plural where it otherwise names the kind.
      throw invalid({ ...resource, kind: resource.plural }, name, [
        invalidValue('metadata.resourceVersion', 0, 'must be specified for an update'),
      ]);
    }
  } else if (version !== current.metadata.resourceVersion) throw staleVersion(resource, name);
  const { uid } = wanted.metadata;
  if (uid !== '' && uid !== current.metadata.uid) {
    throw conflict(
      resource,
      name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${current.metadata.uid}`,
    );
  }
}

function requireValid<T extends ApiObject>(
  resource: Resource<T>,
  object: T,
  current: T | undefined,
): void {
  const causes = validateMetadata(object.metadata);
  // Names of events are made of those of their objects and a time, and are let through as they are.
  const relevant = resource.plural === events.plural ? [] : causes;
  const all = [...relevant, ...resource.validate(object, current)];
  if (all.length > 0) throw invalid(resource, object.metadata.name, all);
}

function isHeld(object: ApiObject): boolean {
  if ((object.metadata.finalizers?.length ?? 0) > 0) return true;
  const spec = object.spec as { finalizers?: string[] } | undefined;
  return object.kind === 'Namespace' && (spec?.finalizers?.length ?? 0) > 0;
}

/** Deleted before, and held only by a finalizer that this write took away. */
function isReleased(object: ApiObject): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds } = object.metadata;
  return (
    deletionTimestamp !== undefined && (deletionGracePeriodSeconds ?? 0) === 0 && !isHeld(object)
  );
}
