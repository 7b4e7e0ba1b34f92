import type { ApiClient } from '../control-plane/api-client.ts';
import type { KubernetesObject } from '../control-plane/objects.ts';

type PodEvent = KubernetesObject & {
  readonly reason?: string;
  readonly note?: string;
  readonly regarding?: { readonly kind?: string; readonly name?: string };
};

export type Refusals = { stop(): Promise<void> };

/** Follows what `kubectl describe pod` would show: `onRefused` hears once of a pod whose eviction is refused. */
export function startRefusals(
  api: ApiClient,
  namespace: string,
  onRefused: (pod: string, note: string) => void,
): Refusals {
  const told = new Set<string>();
  const stopping = new AbortController();
  const see = ({ reason, note = '', regarding: { kind, name = '' } = {} }: PodEvent): void => {
    if (kind !== 'Pod' || reason !== 'EvictionRefused' || told.has(name)) return;
    told.add(name);
    onRefused(name, note);
  };
  const watching = api.listAndWatch<PodEvent>({
    path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
    signal: stopping.signal,
    onList: (events) => {
      for (const event of events) see(event);
    },
    onEvent: ({ object }) => see(object),
  });
  return {
    async stop() {
      stopping.abort();
      await watching;
    },
  };
}
