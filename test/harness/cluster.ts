import type { ApiClient } from '../control-plane/api-client.ts';
import type { LeaseObject, NodeObject, PodObject } from '../control-plane/objects.ts';

// What tests ask the API server about.

export async function getNode(api: ApiClient, name: string): Promise<NodeObject> {
  return api.get<NodeObject>(`/api/v1/nodes/${name}`);
}

export async function getPod(
  api: ApiClient,
  name: string,
  namespace = 'default',
): Promise<PodObject> {
  return api.get<PodObject>(`/api/v1/namespaces/${namespace}/pods/${name}`);
}

export async function findPod(
  api: ApiClient,
  name: string,
  namespace = 'default',
): Promise<PodObject | undefined> {
  return api.find<PodObject>(`/api/v1/namespaces/${namespace}/pods/${name}`);
}

/** Of all namespaces, terminating ones included. */
export async function podsOn(api: ApiClient, node: string): Promise<PodObject[]> {
  return api.list<PodObject>(`/api/v1/pods?fieldSelector=spec.nodeName=${node}`);
}

/** Names of the pods on a node, sorted. */
export async function podNamesOn(api: ApiClient, node: string): Promise<string[]> {
  return (await podsOn(api, node)).map(({ metadata }) => metadata.name).toSorted();
}

export function isReady(pod: PodObject): boolean {
  return (
    pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ??
    false
  );
}

export async function getLease(
  api: ApiClient,
  name: string,
  namespace: string,
): Promise<LeaseObject | undefined> {
  return api.find<LeaseObject>(
    `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/${name}`,
  );
}

/** Evicts as any client may; returns the status of the answer. */
export async function evict(
  api: ApiClient,
  name: string,
  options: { readonly namespace?: string; readonly graceSeconds?: number } = {},
): Promise<number> {
  const { namespace = 'default', graceSeconds } = options;
  const response = await api.request(
    'POST',
    `/api/v1/namespaces/${namespace}/pods/${name}/eviction`,
    {
      apiVersion: 'policy/v1',
      kind: 'Eviction',
      metadata: { name, namespace },
      ...(graceSeconds === undefined
        ? {}
        : { deleteOptions: { gracePeriodSeconds: graceSeconds } }),
    },
  );
  return response.status;
}

/** Without regard to budgets. */
export async function deletePod(
  api: ApiClient,
  name: string,
  options: { readonly namespace?: string; readonly graceSeconds?: number } = {},
): Promise<void> {
  const { namespace = 'default', graceSeconds } = options;
  await api.delete(
    `/api/v1/namespaces/${namespace}/pods/${name}`,
    graceSeconds === undefined ? {} : { gracePeriodSeconds: graceSeconds },
  );
}
