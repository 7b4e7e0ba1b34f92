import { endpoints, type Endpoint } from './endpoint.ts';
import type { Subresource } from './resource.ts';

const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];

export const version = {
  major: '1',
  minor: '36',
  gitVersion: 'v1.36.3',
  gitCommit: 'unknown',
  gitTreeState: 'clean',
  buildDate: '1970-01-01T00:00:00Z',
  goVersion: 'none',
  compiler: 'none',
  platform: 'none',
};

/** Reviews are answered but not stored, so they are no endpoints. */
export const reviews = {
  group: 'authorization.k8s.io',
  groupVersion: 'authorization.k8s.io/v1',
  plural: 'selfsubjectaccessreviews',
  kind: 'SelfSubjectAccessReview',
} as const;

export function coreVersions(): object {
  return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
}

export function groupList(): object {
  return { kind: 'APIGroupList', apiVersion: 'v1', groups: groupNames().map(groupOf) };
}

export function findGroup(group: string): object | undefined {
  if (!groupNames().includes(group)) return undefined;
  return { kind: 'APIGroup', apiVersion: 'v1', ...groupOf(group) };
}

export function resourceList(groupVersion: string): object | undefined {
  const served = endpoints.filter((endpoint) => endpoint.groupVersion === groupVersion);
  const entries: object[] = served.flatMap(entriesOf);
  if (groupVersion === reviews.groupVersion) {
    entries.push({
      name: reviews.plural,
      singularName: 'selfsubjectaccessreview',
      namespaced: false,
      kind: reviews.kind,
      verbs: ['create'],
    });
  }
  if (entries.length === 0) return undefined;
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources: entries };
}

function groupNames(): string[] {
  const names = new Set(
    endpoints.map((endpoint) => endpoint.group).filter((group) => group !== ''),
  );
  return [...names, reviews.group];
}

function groupOf(name: string): object {
  const entry = { groupVersion: `${name}/v1`, version: 'v1' };
  return { name, versions: [entry], preferredVersion: entry };
}

function entriesOf({ resource }: Endpoint): object[] {
  const { plural, singular, namespaced, kind, shortNames, subresources } = resource;
  const main = { name: plural, singularName: singular, namespaced, kind, verbs, shortNames };
  return [main, ...subresources.map((name) => subresourceEntry(main, name))];
}

/** kubectl looks here for whether, and in which version, pods can be evicted. */
const subresourceKinds: Readonly<Record<Exclude<Subresource, 'status' | 'finalize'>, object>> = {
  binding: { kind: 'Binding', verbs: ['create'] },
  eviction: { group: 'policy', version: 'v1', kind: 'Eviction', verbs: ['create'] },
  scale: { group: 'autoscaling', version: 'v1', kind: 'Scale', verbs: ['get', 'patch', 'update'] },
  token: {
    group: 'authentication.k8s.io',
    version: 'v1',
    kind: 'TokenRequest',
    verbs: ['create'],
  },
};

function subresourceEntry(
  parent: { name: string; namespaced: boolean; kind: string },
  name: Subresource,
): object {
  const base = { name: `${parent.name}/${name}`, singularName: '', namespaced: parent.namespaced };
  if (name === 'status') return { ...base, kind: parent.kind, verbs: ['get', 'patch', 'update'] };
  if (name === 'finalize') return { ...base, kind: parent.kind, verbs: ['update'] };
  return { ...base, ...subresourceKinds[name] };
}
