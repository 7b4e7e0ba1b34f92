import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ApiClient } from '../control-plane/api-client.ts';
import { findComponent } from '../control-plane/binaries.ts';
import type { WorldCluster } from './world.ts';

export const chartFolder = resolve(import.meta.dirname, '../../deploy/chart');

/** With it every value set is complete. */
export const queueUrl = 'https://sqs.eu-central-1.amazonaws.com/123456789012/prod-interruptions';

type Cluster = Pick<WorldCluster, 'folder' | 'adminKubeconfig'>;

type ToolOutput = Readonly<{ code: number; stdout: string; stderr: string }>;

/** Runs it as admin, with nothing of the machine's own settings. */
async function run(
  tool: 'helm' | 'kubectl',
  { folder, adminKubeconfig }: Cluster,
  args: readonly string[],
): Promise<ToolOutput> {
  const binary = findComponent(tool);
  if (binary === undefined) throw new Error(`${tool} is missing`);
  const home = join(folder, 'helm');
  const env = {
    PATH: process.env['PATH'],
    HOME: folder,
    KUBECONFIG: adminKubeconfig,
    HELM_CACHE_HOME: home,
    HELM_CONFIG_HOME: home,
    HELM_DATA_HOME: home,
  };
  const limits = { timeout: 120_000, maxBuffer: 64 * 1024 * 1024 };
  return new Promise((done) => {
    execFile(binary, args, { ...limits, env }, (error, stdout, stderr) =>
      done({ code: error ? Number(error.code ?? 1) : 0, stdout, stderr }),
    );
  });
}

export async function helm(cluster: Cluster, args: readonly string[]): Promise<ToolOutput> {
  return run('helm', cluster, args);
}

/** What it says; throws that if it fails. */
export async function helmOrThrow(cluster: Cluster, args: readonly string[]): Promise<string> {
  return successOf('helm', args, await run('helm', cluster, args));
}

/** The same for kubectl. */
export async function kubectlOrThrow(cluster: Cluster, args: readonly string[]): Promise<string> {
  return successOf('kubectl', args, await run('kubectl', cluster, args));
}

function successOf(tool: string, args: readonly string[], output: ToolOutput): string {
  const { code, stdout, stderr } = output;
  if (code !== 0) throw new Error(`${tool} ${args.join(' ')}: ${stderr}${stdout}`);
  return stdout;
}

/** A kubeconfig with a token of a ServiceAccount that is there; that of its pods, but for the time it lasts. */
export async function kubeconfigOfAccount(
  { api, adminKubeconfig, folder }: Pick<WorldCluster, 'api' | 'adminKubeconfig' | 'folder'>,
  namespace: string,
  account: string,
): Promise<string> {
  const request = { spec: { expirationSeconds: 24 * 3600 } };
  const { status } = await api.create<typeof request & { status?: { token: string } }>(
    `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`,
    request,
  );
  if (status === undefined) throw new Error(`no token for ${namespace}/${account}`);
  const config = JSON.parse(await readFile(adminKubeconfig, 'utf8')) as {
    users: { user: { token: string } }[];
  };
  for (const { user } of config.users) user.token = status.token;
  const path = join(folder, `${namespace}-${account}.kubeconfig`);
  await writeFile(path, JSON.stringify(config), { mode: 0o600 });
  return path;
}

/** What an installed Deployment gives its container, but for what depends on the pod. */
export async function installedEnvironment(
  api: ApiClient,
  namespace: string,
  deployment: string,
): Promise<Readonly<Record<string, string>>> {
  const { spec } = await api.get<{
    spec: { template: { spec: { containers: { env: { name: string; value?: string }[] }[] } } };
  }>(`/apis/apps/v1/namespaces/${namespace}/deployments/${deployment}`);
  const [container] = spec.template.spec.containers;
  return {
    ...Object.fromEntries(
      (container?.env ?? []).flatMap(({ name, value }) =>
        value === undefined ? [] : [[name, value]],
      ),
    ),
    POD_NAMESPACE: namespace,
  };
}

/** A client with what a kubeconfig of these tests says. */
export async function clientWith(kubeconfig: string): Promise<ApiClient> {
  const { clusters, users } = JSON.parse(await readFile(kubeconfig, 'utf8')) as {
    clusters: { cluster: { server: string; 'certificate-authority-data': string } }[];
    users: { user: { token: string } }[];
  };
  const [{ cluster } = { cluster: undefined }] = clusters;
  if (cluster === undefined) throw new Error(`${kubeconfig} names no cluster`);
  return new ApiClient({
    url: cluster.server,
    ca: Buffer.from(cluster['certificate-authority-data'], 'base64').toString(),
    token: users[0]?.user.token,
  });
}
