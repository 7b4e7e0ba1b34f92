import { setTimeout as delay } from 'node:timers/promises';
import { ApiError, badRequest, expired, invalid } from './api-error.ts';
import type { ApiObject } from './objects.ts';
import type { Cluster } from './registry.ts';
import type { Resource } from './resource.ts';
import {
  matchesFields,
  parseFieldSelector,
  parseLabelSelector,
  type FieldClause,
  type Predicate,
} from './selectors.ts';
import { keyOf } from './store.ts';
import { forbiddenField } from './validation.ts';

export type Selection = {
  readonly namespace: string | undefined;
  readonly fields: readonly FieldClause[];
  readonly matches: Predicate<ApiObject>;
  /** Whether anything but the namespace narrows it down. */
  readonly isPartial: boolean;
};

export function parseSelection(
  resource: Resource,
  namespace: string | undefined,
  name: string | undefined,
  query: URLSearchParams,
): Selection {
  const fields = parseFieldSelector(resource, query.get('fieldSelector') ?? '');
  if (name !== undefined) fields.push({ field: 'metadata.name', value: name, equal: true });
  const byFields = matchesFields(resource, fields);
  const labelText = query.get('labelSelector') ?? '';
  const byLabels = parseLabelSelector(labelText);
  return {
    namespace,
    fields,
    matches: (object) =>
      (namespace === undefined || object.metadata.namespace === namespace) &&
      byFields(object) &&
      byLabels(object.metadata.labels ?? {}),
    isPartial: fields.length > 0 || labelText !== '',
  };
}

export type Page = {
  readonly items: readonly ApiObject[];
  readonly revision: number;
  readonly continueToken?: string;
  readonly remaining?: number;
};

/** How long the real server waits for a version it does not know yet. */
const futureVersionWaitMs = 3000;

/** @throws ApiError 504 if the store does not reach that version within three seconds */
export async function requireReached(cluster: Cluster, version: string | null): Promise<void> {
  const revision = parseVersion(version);
  const deadlineAt = performance.now() + futureVersionWaitMs;
  while (revision > cluster.store.currentRevision) {
    if (performance.now() > deadlineAt) {
      const current = cluster.store.currentRevision;
      throw new ApiError(
        504,
        'Timeout',
        `Too large resource version: ${revision}, current: ${current}`,
        {
          causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
          retryAfterSeconds: 1,
        },
      );
    }
    await delay(25);
  }
}

/** Absent, empty and "0" are 0. */
export function parseVersion(version: string | null): number {
  if (version === null || version === '') return 0;
  if (!/^\d+$/u.test(version)) {
    throw new ApiError(
      400,
      'BadRequest',
      `strconv.ParseUint: parsing "${version}": invalid syntax`,
    );
  }
  return Number(version);
}

export function listPage(
  cluster: Cluster,
  resource: Resource,
  selection: Selection,
  query: URLSearchParams,
): Page {
  const limit = Number(query.get('limit') ?? 0);
  const token = query.get('continue') ?? '';
  const version = query.get('resourceVersion') ?? '';
  const match = query.get('resourceVersionMatch') ?? '';
  requireValidVersionMatch(version, match, token);
  if (token !== '') return continued(cluster, resource, selection, limit, token);
  if (match === 'Exact' && Number(version) < cluster.store.currentRevision) {
    const revision = Number(version);
    const state = stateAt(cluster, resource, selection.namespace, revision);
    if (state === undefined && !cluster.mutations.never410) {
      throw expired('The resourceVersion for the provided list is too old.');
    }
    const then = state ?? cluster.store.list(resource, selection.namespace);
    return cut(then.filter(selection.matches), revision, limit, selection);
  }
  const found = currentState(cluster, resource, selection);
  // The cache answers version 0 as a whole, whatever the limit.
  return cut(
    found,
    cluster.store.currentRevision,
    version === '0' && match === '' ? 0 : limit,
    selection,
  );
}

function currentState(cluster: Cluster, resource: Resource, selection: Selection): ApiObject[] {
  const { store } = cluster;
  const indexed = selection.fields.find(
    ({ field, equal }) => equal && resource.indexes[field] !== undefined,
  );
  if (indexed !== undefined) {
    return store.indexed(resource, indexed.field, indexed.value).filter(selection.matches);
  }
  const named = selection.fields.find(({ field, equal }) => equal && field === 'metadata.name');
  if (named !== undefined && (selection.namespace !== undefined || !resource.namespaced)) {
    const object = store.get(resource, selection.namespace, named.value);
    return object !== undefined && selection.matches(object) ? [object] : [];
  }
  return store.list(resource, selection.namespace).filter(selection.matches);
}

/** The objects as they were, by undoing what came after; undefined where that is no longer known. */
function stateAt(
  cluster: Cluster,
  resource: Resource,
  namespace: string | undefined,
  revision: number,
): ApiObject[] | undefined {
  const changes = cluster.store.changesSince(resource, revision);
  if (changes === undefined) return undefined;
  const now = cluster.store.list(resource, namespace);
  if (changes.length === 0) return now;
  const objects = new Map(now.map((object) => [storedKey(object), object]));
  for (const { object, previous } of changes.toReversed()) {
    if (namespace !== undefined && object.metadata.namespace !== namespace) continue;
    if (previous === undefined) objects.delete(storedKey(object));
    else objects.set(storedKey(object), previous);
  }
  return [...objects].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
}

function storedKey(object: ApiObject): string {
  return keyOf(object.metadata.namespace, object.metadata.name);
}

type Token = { v: 'meta.k8s.io/v1'; rv: number; start: string };
/** In a token: go on with whatever there is now. */
const anyRevision = -1;

function continued(
  cluster: Cluster,
  resource: Resource,
  selection: Selection,
  limit: number,
  text: string,
): Page {
  const token = decodeToken(text);
  const { store } = cluster;
  const consistent =
    token.rv === anyRevision
      ? undefined
      : stateAt(cluster, resource, selection.namespace, token.rv);
  if (consistent === undefined && token.rv !== anyRevision && !cluster.mutations.never410) {
    throw expired(
      'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.',
      encodeToken({ ...token, rv: anyRevision }),
    );
  }
  const state = consistent ?? store.list(resource, selection.namespace);
  const rest = state.filter(
    (object) => storedKey(object) > token.start && selection.matches(object),
  );
  return cut(rest, consistent === undefined ? store.currentRevision : token.rv, limit, selection);
}

function cut(
  found: readonly ApiObject[],
  revision: number,
  limit: number,
  selection: Selection,
): Page {
  if (limit <= 0 || found.length <= limit) return { items: found, revision };
  const items = found.slice(0, limit);
  const last = items.at(-1);
  const start = last === undefined ? '' : storedKey(last);
  return {
    items,
    revision,
    continueToken: encodeToken({ v: 'meta.k8s.io/v1', rv: revision, start }),
    // Not told where a selector would have to be applied to the rest first.
    ...(!selection.isPartial && { remaining: found.length - limit }),
  };
}

function encodeToken(token: Token): string {
  return Buffer.from(JSON.stringify(token)).toString('base64url');
}

function decodeToken(text: string): Token {
  try {
    const token = JSON.parse(Buffer.from(text, 'base64url').toString()) as Token;
    if (typeof token.rv === 'number' && typeof token.start === 'string') return token;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw badRequest('continue key is not valid: illegal base64 data or JSON');
}

function requireValidVersionMatch(version: string, match: string, token: string): void {
  const options = { group: 'meta.k8s.io', plural: 'listoptions', kind: 'ListOptions' };
  if (match !== '' && version === '') {
    throw invalid(options, '', [
      forbiddenField(
        'resourceVersionMatch',
        'resourceVersionMatch is forbidden unless resourceVersion is provided',
      ),
    ]);
  }
  if (match === 'Exact' && version === '0') {
    throw invalid(options, '', [
      forbiddenField(
        'resourceVersionMatch',
        'resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
      ),
    ]);
  }
  if (token !== '' && version !== '' && version !== '0') {
    throw badRequest('specifying resource version is not allowed when using continue');
  }
}
