type Request = Readonly<{
  method: keyof typeof VERBS;
  path: string;
  query?: Readonly<Record<string, string>>;
}>;

const VERBS = { GET: 'get', POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };

/** What a request does, as RBAC would say it, without any name: `patch nodes`, `create pods/eviction`. */
export function operationOf({ method, path, query }: Request): string {
  const [root, ...rest] = path.split('/').slice(1);
  // /api/VERSION/…, /apis/GROUP/VERSION/…, or a path that is not a resource's.
  const inGroup = root === 'apis' ? rest.slice(2) : rest.slice(1);
  const inNamespace =
    inGroup[0] === 'namespaces' && inGroup.length > 2 ? inGroup.slice(2) : inGroup;
  const [resource = root ?? '', name, subresource] = inNamespace;
  const what = subresource === undefined ? resource : `${resource}/${subresource}`;
  if (query?.['watch'] === 'true') return `watch ${what}`;
  const isList = method === 'GET' && name === undefined && inNamespace.length > 0;
  return `${isList ? 'list' : VERBS[method]} ${what}`;
}
