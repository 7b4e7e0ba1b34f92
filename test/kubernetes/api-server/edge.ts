import { readFile, writeFile } from 'node:fs/promises';
import { systemClock } from '../../../src/clock.ts';
import type { Pods, Volumes } from '../../../src/drain/pods.ts';
import type { NodeStore } from '../../../src/intake/node-store.ts';
import { connect, type Connection } from '../../../src/kubernetes/connection.ts';
import {
  createNodeIndex,
  createNodeStore,
  type StartedNodeIndex,
} from '../../../src/kubernetes/nodes.ts';
import { createPods } from '../../../src/kubernetes/pods.ts';
import { createVolumes } from '../../../src/kubernetes/volumes.ts';
import type { PolicyRule } from '../../control-plane/control-plane.ts';
import { recordedReport } from '../recorded-report.ts';

export type Edge = {
  readonly connection: Connection;
  readonly nodes: StartedNodeIndex;
  readonly store: NodeStore;
  readonly pods: Pods;
  readonly volumes: Volumes;
  readonly report: ReturnType<typeof recordedReport>;
  close(): Promise<void>;
};

/** The whole Kubernetes edge; its index is not started. */
export function openEdge(kubeconfigPath: string): Edge {
  const report = recordedReport();
  const clock = systemClock;
  const connection = connect({ kubeconfigPath, userAgent: 'edge-test/0', clock, report });
  const nodes = createNodeIndex({
    connection,
    selector: '',
    reservationLabel: 'reservation',
    clock,
    report,
  });
  return {
    connection,
    nodes,
    store: createNodeStore({ connection, selector: '', reservationLabel: 'reservation' }),
    pods: createPods({ connection, clock, report }),
    volumes: createVolumes({ connection, clock }),
    report,
    async close() {
      await nodes.close();
      await connection.close();
    },
  };
}

/** What the edge needs, and no more. */
export const RIGHTS: readonly PolicyRule[] = [
  { apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch', 'patch'] },
  { apiGroups: [''], resources: ['pods'], verbs: ['get', 'list', 'watch', 'delete'] },
  { apiGroups: [''], resources: ['pods/eviction'], verbs: ['create'] },
  { apiGroups: [''], resources: ['persistentvolumeclaims'], verbs: ['get'] },
  { apiGroups: ['storage.k8s.io'], resources: ['volumeattachments'], verbs: ['list'] },
  { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get'] },
];

/** A copy of a kubeconfig with another server address or user. */
export async function variantOf(
  kubeconfigPath: string,
  name: string,
  changes: { readonly server?: string; readonly user?: object },
): Promise<string> {
  const config = JSON.parse(await readFile(kubeconfigPath, 'utf8')) as {
    clusters: { cluster: { server: string } }[];
    users: { user: object }[];
  };
  for (const { cluster } of config.clusters) cluster.server = changes.server ?? cluster.server;
  for (const entry of config.users) entry.user = changes.user ?? entry.user;
  const path = `${kubeconfigPath}.${name}`;
  await writeFile(path, JSON.stringify(config));
  return path;
}
