import { randomBytes } from 'node:crypto';
import { ApiError, badRequest, invalid, noSuchResource, type StatusBody } from './api-error.ts';
import { assertNever } from './assert-never.ts';
import { bind, type Binding } from './binding.ts';
import { coreVersions, findGroup, groupList, resourceList, reviews, version } from './discovery.ts';
import { findEndpoint, type Endpoint } from './endpoint.ts';
import { validateNewEvent } from './event-rules.ts';
import { evict, type Eviction } from './eviction.ts';
import { isJsonObject, type JsonObject, type JsonValue } from './json.ts';
import { events, serviceAccounts } from './kinds.ts';
import { listPage, parseSelection, requireReached } from './lists.ts';
import type { ApiObject } from './objects.ts';
import { jsonPatch, mergePatch, strategicMergePatch, type MergeRules } from './patch.ts';
import {
  completed,
  createObject,
  readObject,
  removeObject,
  updateObject,
  type Cluster,
  type DeleteOptions,
} from './registry.ts';
import { negotiate, printList, printObject } from './representation.ts';
import type { ApiRequest } from './request.ts';
import { invalidValue } from './validation.ts';
import { parseWatchOptions, startWatch, type WatchSink } from './watch.ts';

export type WholeAnswer = {
  readonly kind: 'whole';
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

export type Answer = WholeAnswer | { readonly kind: 'watch'; start(sink: WatchSink): () => void };

export type RouteSettings = {
  readonly bookmarkIntervalMs: number;
  /** Whether a SelfSubjectAccessReview is answered with yes. */
  readonly isAllowed: (attributes: Record<string, string>, request: ApiRequest) => boolean;
};

export const jsonHeaders = { 'content-type': 'application/json' };

export async function route(
  cluster: Cluster,
  settings: RouteSettings,
  request: ApiRequest,
): Promise<Answer> {
  if (request.resource === '') return routeUnnamed(request);
  if (request.groupVersion === reviews.groupVersion && request.resource === reviews.plural) {
    return review(settings, request);
  }
  const endpoint = findEndpoint(request.groupVersion, request.resource);
  if (endpoint === undefined) throw noSuchResource();
  if (request.subresource !== undefined) return routeSubresource(cluster, endpoint, request);
  return routeResource(cluster, settings, endpoint, request);
}

function routeUnnamed({ path }: ApiRequest): Answer {
  if (['/healthz', '/livez', '/readyz'].includes(path)) {
    return {
      kind: 'whole',
      status: 200,
      headers: { 'content-type': 'text/plain; charset=utf-8' },
      body: 'ok',
    };
  }
  if (path === '/version') return json(200, version);
  const trimmed = path.replace(/\/$/u, '');
  if (trimmed === '/api') return json(200, coreVersions());
  if (trimmed === '/apis') return json(200, groupList());
  const [, root, group = '', groupVersion] = trimmed.split('/');
  const found =
    root === 'api'
      ? resourceList(group)
      : groupVersion === undefined
        ? findGroup(group)
        : resourceList(`${group}/${groupVersion}`);
  if (root !== undefined && ['api', 'apis'].includes(root) && found !== undefined)
    return json(200, found);
  return {
    kind: 'whole',
    status: 404,
    headers: { 'content-type': 'text/plain; charset=utf-8' },
    body: '404 page not found\n',
  };
}

async function routeResource(
  cluster: Cluster,
  settings: RouteSettings,
  endpoint: Endpoint,
  request: ApiRequest,
): Promise<Answer> {
  const { resource } = endpoint;
  const { namespace, query } = request;
  switch (request.verb) {
    case 'get': {
      const form = negotiate(accepted(request), 'object');
      await requireReached(cluster, query.get('resourceVersion'));
      const object = readObject(cluster, resource, namespace, nameOf(request));
      return text(200, printObject(endpoint, object, form));
    }
    case 'list': {
      const form = negotiate(accepted(request), 'list');
      const selection = parseSelection(resource, namespace, undefined, query);
      await requireReached(cluster, query.get('resourceVersion'));
      return text(200, printList(endpoint, listPage(cluster, resource, selection, query), form));
    }
    case 'watch': {
      const form = negotiate(accepted(request), 'watch');
      if (form === 'none') return { kind: 'watch', start: endAtOnce };
      const selection = parseSelection(resource, namespace, request.name, query);
      const { bookmarkIntervalMs } = settings;
      const options = parseWatchOptions(endpoint, selection, form, query, bookmarkIntervalMs);
      if (options.initialEvents) await requireReached(cluster, query.get('resourceVersion'));
      return { kind: 'watch', start: (sink) => startWatch(cluster, options, sink) };
    }
    case 'create': {
      if (request.name !== undefined || (resource.namespaced && namespace === undefined)) {
        throw notAllowed();
      }
      const object = endpoint.accept(bodyAsObject(endpoint, request));
      if (endpoint.groupVersion === 'events.k8s.io/v1') {
        const causes = validateNewEvent(object);
        if (causes.length > 0) throw invalid(events, object.metadata.name, causes);
      }
      const made = createObject(cluster, resource, namespace, object, { dryRun: isDryRun(query) });
      return text(201, printObject(endpoint, made, 'full'));
    }
    case 'update':
      return replace(cluster, endpoint, request, 'object');
    case 'patch':
      return patch(cluster, endpoint, request, 'object');
    case 'delete':
      return remove(cluster, endpoint, request);
    case 'deletecollection': {
      const selection = parseSelection(resource, namespace, undefined, query);
      const options = deleteOptions(request);
      const page = listPage(cluster, resource, selection, new URLSearchParams());
      for (const { metadata } of page.items) {
        removeObject(cluster, resource, metadata.namespace, metadata.name, options);
      }
      return text(200, printList(endpoint, page, 'full'));
    }
    case 'other':
      throw notAllowed();
    default:
      return assertNever(request.verb);
  }
}

async function routeSubresource(
  cluster: Cluster,
  endpoint: Endpoint,
  request: ApiRequest,
): Promise<Answer> {
  const { resource } = endpoint;
  const { namespace, verb } = request;
  const name = nameOf(request);
  const subresource = resource.subresources.find((known) => known === request.subresource);
  if (subresource === undefined) throw noSuchResource();
  switch (subresource) {
    case 'status':
      if (verb === 'get') {
        return text(
          200,
          printObject(endpoint, readObject(cluster, resource, namespace, name), 'full'),
        );
      }
      if (verb === 'update') return replace(cluster, endpoint, request, 'status');
      if (verb === 'patch') return patch(cluster, endpoint, request, 'status');
      throw notAllowed();
    case 'eviction': {
      if (verb !== 'create') throw notAllowed();
      const eviction = { ...(parseBody(request) as Eviction) };
      if (isDryRun(request.query)) {
        eviction.deleteOptions = { ...eviction.deleteOptions, dryRun: ['All'] };
      }
      return json(201, await evict(cluster, namespace ?? '', name, eviction));
    }
    case 'binding':
      if (verb !== 'create') throw notAllowed();
      return json(201, bind(cluster, namespace ?? '', name, parseBody(request) as Binding));
    case 'token':
      if (verb !== 'create') throw notAllowed();
      return json(201, token(cluster, namespace, name, parseBody(request)));
    case 'finalize':
      return finalize(cluster, endpoint, request);
    case 'scale':
      return scale(cluster, endpoint, request);
    default:
      return assertNever(subresource);
  }
}

/** The real server takes the form of a list for a watch, and then has nothing to say in it. */
function endAtOnce(sink: WatchSink): () => void {
  sink.end();
  return () => {};
}

function replace(
  cluster: Cluster,
  endpoint: Endpoint,
  request: ApiRequest,
  part: 'object' | 'status',
): Answer {
  const { resource } = endpoint;
  const name = nameOf(request);
  const object = endpoint.accept(bodyAsObject(endpoint, request));
  const given = object.metadata.name;
  if (given !== name) {
    throw badRequest(
      given === ''
        ? `the name of the object (${name} based on URL) was undeterminable: name must be provided`
        : `the name of the object (${given}) does not match the name on the URL (${name})`,
    );
  }
  const updated = updateObject(cluster, resource, request.namespace, name, () => object, {
    part,
    dryRun: isDryRun(request.query),
    createIfAbsent: () => object,
  });
  return text(updated.created ? 201 : 200, printObject(endpoint, updated.object, 'full'));
}

const patchTypes = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
];

function patch(
  cluster: Cluster,
  endpoint: Endpoint,
  request: ApiRequest,
  part: 'object' | 'status',
): Answer {
  const type = header(request, 'content-type').split(';')[0]?.trim() ?? '';
  if (!patchTypes.includes(type)) {
    throw new ApiError(415, 'UnsupportedMediaType', '415: Unsupported Media Type', {});
  }
  const { resource } = endpoint;
  const changes = parseBody(request);
  const rules: MergeRules = cluster.mutations.mergeTaintsByKey
    ? { ...resource.mergeRules, 'spec.taints': 'key' }
    : resource.mergeRules;
  const change = (current: ApiObject): ApiObject => {
    const shown = endpoint.show(current) as unknown as JsonObject;
    const patched = applyPatch(type, shown, changes, rules);
    if (!isJsonObject(patched) || !isJsonObject(patched['metadata'])) {
      throw badRequest('the patched object is no object');
    }
    const wanted = endpoint.accept(completed(resource, structuredClone(patched)));
    if (wanted.metadata.uid !== current.metadata.uid) {
      throw invalid(resource, current.metadata.name, [
        invalidValue('metadata.uid', wanted.metadata.uid, 'field is immutable'),
      ]);
    }
    return wanted;
  };
  const updated = updateObject(cluster, resource, request.namespace, nameOf(request), change, {
    part,
    dryRun: isDryRun(request.query),
  });
  return text(200, printObject(endpoint, updated.object, 'full'));
}

function applyPatch(
  type: string,
  target: JsonObject,
  changes: JsonValue,
  rules: MergeRules,
): JsonValue {
  if (type === 'application/json-patch+json') return jsonPatch(target, changes);
  if (!isJsonObject(changes))
    throw badRequest(
      'error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}',
    );
  if (type === 'application/merge-patch+json') return mergePatch(target, changes);
  return strategicMergePatch(target, changes, rules);
}

function remove(cluster: Cluster, endpoint: Endpoint, request: ApiRequest): Answer {
  const { resource } = endpoint;
  const options = deleteOptions(request);
  const removed = removeObject(cluster, resource, request.namespace, nameOf(request), options);
  const isCascading = options.orphanDependents === false;
  const status = !removed.gone && isCascading ? 202 : 200;
  if (!removed.gone || resource.returnsDeleted) {
    return text(status, printObject(endpoint, removed.object, 'full'));
  }
  const { name, uid } = removed.object.metadata;
  const done: StatusBody = {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: {
      name,
      ...(resource.group !== '' && { group: resource.group }),
      kind: resource.plural,
      uid,
    },
  };
  return json(status, done);
}

function token(
  cluster: Cluster,
  namespace: string | undefined,
  name: string,
  body: JsonValue,
): object {
  readObject(cluster, serviceAccounts, namespace, name);
  const spec = isJsonObject(body) && isJsonObject(body['spec']) ? body['spec'] : {};
  const expirationSeconds = Number(spec['expirationSeconds'] ?? 3600);
  if (expirationSeconds < 600) {
    throw invalid(
      { group: 'authentication.k8s.io', plural: 'tokenrequests', kind: 'TokenRequest' },
      '',
      [
        invalidValue(
          'spec.expirationSeconds',
          expirationSeconds,
          'may not specify a duration less than 10 minutes',
        ),
      ],
    );
  }
  return {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { name, namespace },
    spec: { ...spec, expirationSeconds },
    status: {
      token: randomBytes(32).toString('base64url'),
      expirationTimestamp: `${new Date(Date.now() + expirationSeconds * 1000).toISOString().slice(0, 19)}Z`,
    },
  };
}

function finalize(cluster: Cluster, endpoint: Endpoint, request: ApiRequest): Answer {
  if (request.verb !== 'update') throw notAllowed();
  const wanted = bodyAsObject(endpoint, request);
  const updated = updateObject(
    cluster,
    endpoint.resource,
    undefined,
    nameOf(request),
    (current) => ({ ...current, spec: wanted.spec }),
    { part: 'object' },
  );
  return text(200, printObject(endpoint, updated.object, 'full'));
}

function scale(cluster: Cluster, endpoint: Endpoint, request: ApiRequest): Answer {
  const { resource } = endpoint;
  const { namespace } = request;
  const name = nameOf(request);
  const asScale = (object: ApiObject): JsonObject => {
    const spec = object.spec as {
      replicas?: number;
      selector?: { matchLabels?: Record<string, string> };
    };
    const status = (object.status ?? {}) as { replicas?: number };
    const { uid, resourceVersion, creationTimestamp } = object.metadata;
    return {
      kind: 'Scale',
      apiVersion: 'autoscaling/v1',
      metadata: { name, namespace: namespace ?? '', uid, resourceVersion, creationTimestamp },
      spec: { replicas: spec.replicas ?? 1 },
      status: {
        replicas: status.replicas ?? 0,
        selector: Object.entries(spec.selector?.matchLabels ?? {})
          .map(([k, v]) => `${k}=${v}`)
          .join(','),
      },
    };
  };
  if (request.verb === 'get')
    return json(200, asScale(readObject(cluster, resource, namespace, name)));
  if (request.verb !== 'update' && request.verb !== 'patch') throw notAllowed();
  const body = parseBody(request);
  const updated = updateObject(
    cluster,
    resource,
    namespace,
    name,
    (current) => {
      const wanted = request.verb === 'update' ? body : mergePatch(asScale(current), body);
      const spec = isJsonObject(wanted) && isJsonObject(wanted['spec']) ? wanted['spec'] : {};
      return {
        ...current,
        spec: { ...(current.spec as object), replicas: Number(spec['replicas']) },
      };
    },
    { part: 'object' },
  );
  return json(200, asScale(updated.object));
}

function review(settings: RouteSettings, request: ApiRequest): Answer {
  if (request.verb !== 'create') throw notAllowed();
  const body = parseBody(request);
  const spec = isJsonObject(body) && isJsonObject(body['spec']) ? body['spec'] : {};
  const attributes = spec['resourceAttributes'] ?? spec['nonResourceAttributes'] ?? {};
  const allowed = settings.isAllowed(attributes as Record<string, string>, request);
  return json(201, {
    kind: reviews.kind,
    apiVersion: reviews.groupVersion,
    metadata: {},
    spec,
    status: allowed ? { allowed, reason: 'every request is allowed' } : { allowed },
  });
}

function bodyAsObject(endpoint: Endpoint, request: ApiRequest): ApiObject {
  const body = parseBody(request);
  const { resource, groupVersion } = endpoint;
  if (!isJsonObject(body))
    throw badRequest(`couldn't get version/kind; json parse error: no object`);
  const object = body as unknown as Partial<ApiObject>;
  if ((object.apiVersion ?? groupVersion) !== groupVersion) {
    throw badRequest(
      `the API version in the data (${object.apiVersion ?? ''}) does not match the expected API version (${groupVersion})`,
    );
  }
  if ((object.kind ?? resource.kind) !== resource.kind) {
    throw badRequest(
      `${object.kind ?? ''} in version "${endpoint.version}" cannot be handled as a ${resource.kind}`,
    );
  }
  return completed(resource, body);
}

/** DeleteOptions come in the body, some of them in the query as well; the body has precedence. */
function deleteOptions(request: ApiRequest): DeleteOptions {
  const body = request.body.length === 0 ? {} : parseBody(request);
  const { query } = request;
  const grace = query.get('gracePeriodSeconds');
  return {
    ...(grace !== null && { gracePeriodSeconds: Number(grace) }),
    ...(isDryRun(query) && { dryRun: ['All'] }),
    ...(isJsonObject(body) && body),
  };
}

function parseBody(request: ApiRequest): JsonValue {
  try {
    return JSON.parse(request.body.toString()) as JsonValue;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw badRequest(`couldn't get version/kind; json parse error: ${error.message}`);
  }
}

function nameOf(request: ApiRequest): string {
  if (request.name === undefined) throw notAllowed();
  return request.name;
}

function notAllowed(): ApiError {
  return new ApiError(
    405,
    'MethodNotAllowed',
    'the server does not allow this method on the requested resource',
    {},
  );
}

function isDryRun(query: URLSearchParams): boolean {
  return query.getAll('dryRun').includes('All');
}

function accepted(request: ApiRequest): string {
  return header(request, 'accept');
}

function header(request: ApiRequest, name: string): string {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(',') : (value ?? '');
}

function text(status: number, body: string): WholeAnswer {
  return { kind: 'whole', status, headers: jsonHeaders, body };
}

export function json(status: number, body: object): WholeAnswer {
  return text(status, JSON.stringify(body));
}
