export type Verb =
  | 'get'
  | 'list'
  | 'watch'
  | 'create'
  | 'update'
  | 'patch'
  | 'delete'
  | 'deletecollection'
  | 'other';

/** A request as the API server's authorisation sees it. */
export type ApiRequest = {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  readonly verb: Verb;
  /** '' for paths that name no resource. */
  readonly groupVersion: string;
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
};

type RawRequest = Pick<ApiRequest, 'method' | 'headers' | 'body'> & { readonly url: string };

/** Undefined if the path is none. */
export function parseRequest(raw: RawRequest): ApiRequest | undefined {
  const { method, url, headers, body } = raw;
  const parsed = URL.parse(url, 'http://api');
  if (parsed === null || !isDecodable(parsed.pathname)) return undefined;
  const target = parseTarget(parsed.pathname);
  const watch = parsed.searchParams.get('watch');
  const isWatch = watch === 'true' || watch === '1';
  return {
    method,
    path: parsed.pathname,
    query: parsed.searchParams,
    headers,
    body,
    verb: target.resource === '' ? 'other' : verbOf(method, target.name, isWatch),
    ...target,
  };
}

function isDecodable(path: string): boolean {
  return !/%(?![0-9a-f]{2})/iu.test(path);
}

function verbOf(method: string, name: string | undefined, isWatch: boolean): Verb {
  switch (method) {
    case 'GET':
      if (isWatch) return 'watch';
      return name === undefined ? 'list' : 'get';
    case 'POST':
      return 'create';
    case 'PUT':
      return 'update';
    case 'PATCH':
      return 'patch';
    case 'DELETE':
      return name === undefined ? 'deletecollection' : 'delete';
    default:
      return 'other';
  }
}

type Target = Pick<ApiRequest, 'groupVersion' | 'resource' | 'namespace' | 'name' | 'subresource'>;

function parseTarget(path: string): Target {
  const parts = path
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent);
  const nothing = {
    groupVersion: '',
    resource: '',
    namespace: undefined,
    name: undefined,
    subresource: undefined,
  };
  let rest: string[];
  let groupVersion: string;
  if (parts[0] === 'api' && parts.length > 2) {
    groupVersion = parts[1] ?? '';
    rest = parts.slice(2);
  } else if (parts[0] === 'apis' && parts.length > 3) {
    groupVersion = `${parts[1] ?? ''}/${parts[2] ?? ''}`;
    rest = parts.slice(3);
  } else return nothing;
  // namespaces/NS/RESOURCE; but namespaces/NS, with /status or /finalize, is the Namespace itself.
  const own = ['status', 'finalize'].includes(rest[2] ?? '') && rest.length === 3;
  if (rest[0] === 'namespaces' && rest.length > 2 && !own) {
    const [, namespace, resource = '', name, subresource] = rest;
    return { groupVersion, resource, namespace, name, subresource };
  }
  const [resource = '', name, subresource] = rest;
  return { groupVersion, resource, namespace: undefined, name, subresource };
}
