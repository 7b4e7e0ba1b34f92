import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import { dirname, resolve } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node/dist/config.js';
import { ApiClient, ApiError, type ApiConnection } from '../control-plane/api-client.ts';
import { eventually } from '../harness/eventually.ts';
import { startKubernetesStandIn } from '../stand-ins/kubernetes/stand-in.ts';

/** The cluster that the story is told in, and what in it is the sandbox's. */
export type SandboxCluster = {
  readonly api: ApiClient;
  /** Path of the file that the controller gets. */
  readonly kubeconfig: string;
  /** For people. */
  readonly description: string;
  readonly namespace: string;
  readonly nodePrefix: string;
  /** On every object of the sandbox. */
  readonly label: { readonly key: string; readonly value: string };
  stop(): Promise<void>;
};

const labelKey = 'node-termination-controller-sandbox';

export async function startSandboxCluster(kubeconfig: string | undefined): Promise<SandboxCluster> {
  return kubeconfig === undefined ? startStandIn() : join(resolve(kubeconfig));
}

async function startStandIn(): Promise<SandboxCluster> {
  const standIn = await startKubernetesStandIn();
  const { api, kubeconfig } = standIn;
  return {
    api,
    kubeconfig,
    description: 'a stand-in for the Kubernetes API server',
    namespace: 'default',
    nodePrefix: 'node',
    label: { key: labelKey, value: 'stand-in' },
    stop: () => standIn.stop(),
  };
}

/** A guest in somebody's cluster: under names of its own, and gone without a trace. */
async function join(path: string): Promise<SandboxCluster> {
  const run = randomBytes(3).toString('hex');
  const connection = await connectionOf(path);
  const api = new ApiClient(connection, { userAgent: 'node-termination-controller-sandbox' });
  const namespace = `sandbox-${run}`;
  const label = { key: labelKey, value: run };
  try {
    await api.create('/api/v1/namespaces', {
      metadata: { name: namespace, labels: { [label.key]: label.value } },
    });
  } catch (error) {
    await api.close();
    throw new Error(`The cluster of ${path} (${connection.url}) cannot be used.`, { cause: error });
  }
  return {
    api,
    kubeconfig: path,
    description: `the API server at ${connection.url}`,
    namespace,
    nodePrefix: `sandbox-${run}`,
    label,
    async stop() {
      try {
        await leave(api, namespace, label);
      } finally {
        await api.close();
      }
    },
  };
}

async function leave(
  api: ApiClient,
  namespace: string,
  label: SandboxCluster['label'],
): Promise<void> {
  await api.delete(`/api/v1/namespaces/${namespace}`);
  const nodes = await api.list(`/api/v1/nodes?labelSelector=${label.key}=${label.value}`);
  await eventually(
    async () => {
      // Nobody is left to end their processes.
      await api.delete(`/api/v1/namespaces/${namespace}/pods`, { gracePeriodSeconds: 0 });
      return (await api.list(`/api/v1/namespaces/${namespace}/pods`)).length === 0;
    },
    { intervalMs: 500, timeoutMs: 60_000 },
  );
  for (const { metadata } of nodes) {
    await removeIfThere(api, `/api/v1/nodes/${metadata.name}`);
    await removeIfThere(
      api,
      `/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/${metadata.name}`,
    );
  }
}

async function removeIfThere(api: ApiClient, path: string): Promise<void> {
  const response = await api.request('DELETE', path);
  if (response.status >= 400 && response.status !== 404) {
    throw new ApiError('DELETE', path, response);
  }
}

async function connectionOf(path: string): Promise<ApiConnection> {
  const config = new KubeConfig();
  try {
    config.loadFromString(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new Error(`The kubeconfig ${path} cannot be read.`, { cause });
  }
  config.makePathsAbsolute(dirname(path));
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) throw new Error(`The kubeconfig ${path} names no current cluster.`);
  const options: RequestOptions = {};
  await config.applyToHTTPSOptions(options);
  const { headers, ca, cert, key, rejectUnauthorized = true } = options;
  const authorization = new Headers(headers as Record<string, string>).get('authorization');
  return {
    url: server.replace(/\/$/, ''),
    ca: pemOf(ca),
    cert: pemOf(cert),
    key: pemOf(key),
    token: authorization?.replace(/^Bearer\s+/i, ''),
    verifiesServer: rejectUnauthorized,
  };
}

function pemOf(material: unknown): string | undefined {
  return typeof material === 'string' || Buffer.isBuffer(material)
    ? material.toString()
    : undefined;
}
