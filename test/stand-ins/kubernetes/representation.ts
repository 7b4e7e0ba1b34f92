import { ApiError } from './api-error.ts';
import type { Endpoint } from './endpoint.ts';
import type { Page } from './lists.ts';
import type { ApiObject } from './objects.ts';

/** What of an object is sent: all of it, or a PartialObjectMetadata. */
export type Form = 'full' | 'metadata';

const metadataGroupVersion = 'meta.k8s.io/v1';

const accepts = {
  object: 'PartialObjectMetadata',
  list: 'PartialObjectMetadataList',
  watch: 'PartialObjectMetadata',
} as const;

/**
 * The form that the Accept header asks for. Its first clause that is JSON decides, even where its
 * form does not fit the request and a later one would. `none` is for watches only.
 */
export function negotiate(accept: string, request: 'object' | 'list'): Form;
export function negotiate(accept: string, request: 'watch'): Form | 'none';
export function negotiate(accept: string, request: 'object' | 'list' | 'watch'): Form | 'none' {
  if (accept === '') return 'full';
  for (const clause of accept.split(',')) {
    const [type = '', ...parameters] = clause.split(';').map((part) => part.trim());
    if (!['application/json', 'application/*', '*/*'].includes(type)) continue;
    const given = new Map(parameters.map((part) => part.split('=', 2) as [string, string]));
    const as = given.get('as');
    if (as === undefined) return 'full';
    if (given.get('g') !== 'meta.k8s.io' || given.get('v') !== 'v1') continue;
    if (as === accepts[request]) return 'metadata';
    if (as === 'PartialObjectMetadataList' && request === 'watch') return 'none';
    if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList') {
      const is = request === 'list' ? 'a list' : 'not a list';
      throw notAcceptable(`you requested ${as}, but the requested object is ${is}`);
    }
  }
  throw notAcceptable('406: Not Acceptable\n\nAvailable representations: application/json');
}

function notAcceptable(message: string): ApiError {
  return new ApiError(406, 'NotAcceptable', message);
}

// Objects are never changed in place, so what was printed once stays right.
const fullTexts = new WeakMap<ApiObject, Map<Endpoint, string>>();
const metadataTexts = new WeakMap<ApiObject, string>();

/** Without the braces' first key pair: lists show items without kind and apiVersion. */
function bodyOf(endpoint: Endpoint, object: ApiObject): string {
  let texts = fullTexts.get(object);
  if (texts === undefined) {
    texts = new Map();
    fullTexts.set(object, texts);
  }
  let text = texts.get(endpoint);
  if (text === undefined) {
    const shown: Partial<ApiObject> = { ...endpoint.show(object) };
    delete shown.kind;
    delete shown.apiVersion;
    text = JSON.stringify(shown);
    texts.set(endpoint, text);
  }
  return text;
}

export function printObject(endpoint: Endpoint, object: ApiObject, form: Form): string {
  if (form === 'full') {
    return `{"kind":"${endpoint.resource.kind}","apiVersion":"${endpoint.groupVersion}",${bodyOf(endpoint, object).slice(1)}`;
  }
  let text = metadataTexts.get(object);
  if (text === undefined) {
    text = `{"kind":"PartialObjectMetadata","apiVersion":"${metadataGroupVersion}","metadata":${JSON.stringify(object.metadata)}}`;
    metadataTexts.set(object, text);
  }
  return text;
}

export function printList(endpoint: Endpoint, page: Page, form: Form): string {
  const metadata = JSON.stringify({
    resourceVersion: String(page.revision),
    ...(page.continueToken !== undefined && { continue: page.continueToken }),
    ...(page.remaining !== undefined && { remainingItemCount: page.remaining }),
  });
  const items = page.items.map((object) =>
    form === 'full' ? bodyOf(endpoint, object) : printObject(endpoint, object, form),
  );
  const head =
    form === 'full'
      ? `"kind":"${endpoint.resource.kind}List","apiVersion":"${endpoint.groupVersion}"`
      : `"kind":"PartialObjectMetadataList","apiVersion":"${metadataGroupVersion}"`;
  return `{${head},"metadata":${metadata},"items":[${items.join(',')}]}`;
}

export function printBookmark(
  endpoint: Endpoint,
  revision: number,
  form: Form,
  annotations?: Record<string, string>,
): string {
  const metadata = {
    resourceVersion: String(revision),
    ...(annotations !== undefined && { annotations }),
  };
  const kind = form === 'full' ? endpoint.resource.kind : 'PartialObjectMetadata';
  const apiVersion = form === 'full' ? endpoint.groupVersion : metadataGroupVersion;
  return JSON.stringify({ kind, apiVersion, metadata });
}
