import { execFile } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { ApiClient } from './api-client.ts';
import { readAuditLog, type AuditEntry, type AuditFilter } from './audit.ts';
import { findComponent, missingComponents, type Component } from './binaries.ts';
import { startGuardedProcess, tailOf, type GuardedProcess } from './guarded-process.ts';
import { guardFolder } from './guardian.ts';
import { freePort } from './ports.ts';

/** What most tests need. Controllers of DaemonSets and StatefulSets would fight pods made by hand. */
export const defaultControllers: readonly string[] = [
  'deployment',
  'disruption',
  'endpoints',
  'endpointslice',
  'garbage-collector',
  'namespace',
  'node-lifecycle',
  'pod-garbage-collector',
  'replicaset',
  'root-ca-certificate-publisher',
  'serviceaccount',
  'taint-eviction',
].map((name) => `${name}-controller`);

export type ControlPlaneOptions = {
  /** Whether there is a kube-controller-manager; a list names its controllers. */
  readonly controllerManager?: boolean | readonly string[];
  readonly scheduler?: boolean;
  /** Log every request (`auditEntries`); `with-bodies` adds what was sent. */
  readonly audit?: boolean | 'with-bodies';
  readonly apiServerFlags?: readonly string[];
};

export type PolicyRule = {
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly nonResourceURLs?: readonly string[];
  readonly verbs: readonly string[];
};

export type Access = {
  /** Path of the file. */
  readonly kubeconfig: string;
  readonly token: string;
  /** As RBAC and the audit log name it: `system:serviceaccount:NAMESPACE:NAME`. */
  readonly userName: string;
};

export type AccessOptions = {
  /** Of the ServiceAccount; made if absent. */
  readonly namespace?: string;
  /** Rules that hold in one namespace only, by its name; it must exist. */
  readonly namespaceRules?: Readonly<Record<string, readonly PolicyRule[]>>;
};

export type CommandOutput = { readonly stdout: string; readonly stderr: string };

/** One process of the control plane, for outages: it keeps data and port from stop to start. */
export type ComponentControl = {
  /** Of the running process; throws while it is stopped. */
  readonly pid: () => number;
  /** SIGKILL; returns when it is gone. */
  readonly stop: () => Promise<void>;
  /** Returns when it is ready. */
  readonly start: () => Promise<void>;
  /** SIGSTOP: connections stay open and nothing is answered. */
  readonly pause: () => void;
  readonly resume: () => void;
  readonly log: () => Promise<string>;
};

export type ControlPlane = {
  readonly url: string;
  /** PEM text. */
  readonly ca: string;
  /** As `system:masters`. */
  readonly api: ApiClient;
  readonly adminKubeconfig: string;
  /** Holds data, logs and kubeconfigs; removed by `stop`. */
  readonly folder: string;
  readonly etcd: ComponentControl;
  readonly apiServer: ComponentControl;
  /** Undefined unless asked for. */
  readonly controllerManager: ComponentControl | undefined;
  readonly scheduler: ComponentControl | undefined;
  /**
   * A kubeconfig for a new ServiceAccount that may do what the rules say, and nothing else. Returns
   * once the API server grants it.
   */
  kubeconfigFor(
    account: string,
    rules: readonly PolicyRule[],
    options?: AccessOptions,
  ): Promise<Access>;
  /** As admin, unless the arguments name another kubeconfig. Rejects if the exit code is not 0. */
  kubectl(args: readonly string[], options?: { stdin?: string }): Promise<CommandOutput>;
  /**
   * Requests answered so far, oldest first. The line of a request can be written a moment after its
   * answer: poll for what must come.
   */
  auditEntries(filter?: AuditFilter): Promise<AuditEntry[]>;
  /** Kills all processes and removes the folder. */
  readonly stop: () => Promise<void>;
};

type Users = Readonly<Record<'admin' | 'controllerManager' | 'scheduler', string>>;

/** Throws if a binary that is needed is missing: ask `skipReason` before. */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  const missing = missingComponents(componentsFor(options));
  if (missing.length > 0)
    throw new Error(`cannot start a control plane without ${missing.join(', ')}`);

  const folder = await mkdtemp(join(tmpdir(), 'control-plane-'));
  const unguardFolder = guardFolder(folder);
  const releases: (() => Promise<void>)[] = [
    async () => {
      await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
      unguardFolder();
    },
  ];
  const stop = async () => {
    for (let release = releases.pop(); release; release = releases.pop()) await release();
  };
  try {
    return await assemble(folder, options, releases, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The binaries that `startControlPlane` needs for these options. */
export function componentsFor(options: ControlPlaneOptions): Component[] {
  return [
    'etcd',
    'kube-apiserver',
    ...(options.controllerManager ? (['kube-controller-manager'] as const) : []),
    ...(options.scheduler ? (['kube-scheduler'] as const) : []),
  ];
}

async function assemble(
  folder: string,
  options: ControlPlaneOptions,
  releases: (() => Promise<void>)[],
  stop: () => Promise<void>,
): Promise<ControlPlane> {
  const users: Users = {
    admin: randomBytes(16).toString('hex'),
    controllerManager: randomBytes(16).toString('hex'),
    scheduler: randomBytes(16).toString('hex'),
  };
  const auditLog = join(folder, 'audit.log');
  await writeCredentials(folder, users);
  if (options.audit) await writeAuditPolicy(folder, options.audit === 'with-bodies');

  const etcdUrl = `http://127.0.0.1:${await freePort()}`;
  const etcd = supervise(folder, 'etcd', await etcdArgs(folder, etcdUrl), async (process) =>
    untilAnswers(process, `${etcdUrl}/health`),
  );
  releases.push(etcd.stop);
  await etcd.start();

  const url = `https://127.0.0.1:${await freePort()}`;
  const certificate = join(folder, 'apiserver.crt');
  const apiServer = supervise(
    folder,
    'kube-apiserver',
    apiServerArgs(folder, url, etcdUrl, options, auditLog),
    async (process) => untilAnswers(process, `${url}/readyz`, certificate),
  );
  releases.push(apiServer.stop);
  await apiServer.start();

  const ca = await readFile(certificate, 'utf8');
  const api = new ApiClient({ url, ca, token: users.admin });
  releases.push(() => api.close());
  const writeKubeconfig = async (name: string, token: string): Promise<string> => {
    const path = join(folder, `${name}.kubeconfig`);
    await writeFile(path, kubeconfig(url, ca, token), { mode: 0o600 });
    return path;
  };
  const adminKubeconfig = await writeKubeconfig('admin', users.admin);
  await untilNamespacesExist(api);

  const startBeside = async (
    name: 'kube-controller-manager' | 'kube-scheduler',
    token: string,
    flags: readonly string[],
    healthSays?: string,
  ): Promise<ComponentControl> => {
    const port = await freePort();
    const args = [
      `--kubeconfig=${await writeKubeconfig(name, token)}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${port}`,
      `--cert-dir=${join(folder, name)}`,
      '--leader-elect=false',
      ...flags,
    ];
    const component = supervise(folder, name, args, async (process) =>
      untilAnswers(process, `https://127.0.0.1:${port}/healthz?verbose`, null, healthSays),
    );
    releases.push(component.stop);
    await component.start();
    return component;
  };
  const [controllerManager, scheduler] = await Promise.all([
    options.controllerManager
      ? startBeside(
          'kube-controller-manager',
          users.controllerManager,
          controllerManagerFlags(folder, certificate, controllersOf(options.controllerManager)),
          // It is healthy before its controllers exist, and an outage in between would end it.
          `]${controllersOf(options.controllerManager)[0] ?? ''}`,
        )
      : undefined,
    options.scheduler
      ? startBeside('kube-scheduler', users.scheduler, [
          '--kube-api-qps=200',
          '--kube-api-burst=400',
        ])
      : undefined,
  ]);

  return {
    url,
    ca,
    api,
    adminKubeconfig,
    folder,
    etcd,
    apiServer,
    controllerManager,
    scheduler,
    async kubeconfigFor(account, rules, accessOptions = {}) {
      const { token, userName } = await grantAccess(api, account, rules, accessOptions);
      return { kubeconfig: await writeKubeconfig(account, token), token, userName };
    },
    async kubectl(args, { stdin } = {}) {
      const binary = findComponent('kubectl');
      if (binary === undefined) throw new Error('kubectl is missing');
      return runKubectl(binary, adminKubeconfig, args, stdin);
    },
    async auditEntries(filter) {
      if (!options.audit) throw new Error('start the control plane with the option audit');
      return readAuditLog(auditLog, filter);
    },
    stop,
  };
}

function supervise(
  folder: string,
  component: Component,
  args: readonly string[],
  untilReady: (process: GuardedProcess) => Promise<void>,
): ComponentControl {
  const logFile = join(folder, `${component}.log`);
  let process: GuardedProcess | undefined;
  const running = (): GuardedProcess => {
    if (!process) throw new Error(`${component} is stopped`);
    const exit = process.exit();
    if (exit) throw new Error(`${component} exited with ${exit.signal ?? exit.code}`);
    return process;
  };
  return {
    pid: () => running().pid,
    async start() {
      if (process) throw new Error(`${component} is running`);
      const command = findComponent(component);
      if (command === undefined) throw new Error(`${component} is missing`);
      process = await startGuardedProcess({ command, args, logFile });
      try {
        await untilReady(process);
      } catch (error) {
        throw new Error(`${component} did not become ready:\n${await tailOf(logFile)}`, {
          cause: error,
        });
      }
    },
    async stop() {
      await process?.kill();
      process = undefined;
    },
    pause: () => running().signal('SIGSTOP'),
    resume: () => running().signal('SIGCONT'),
    log: () => readFile(logFile, 'utf8'),
  };
}

async function etcdArgs(folder: string, clientUrl: string): Promise<string[]> {
  const peerUrl = `http://127.0.0.1:${await freePort()}`;
  return [
    `--data-dir=${join(folder, 'etcd')}`,
    '--unsafe-no-fsync',
    `--listen-client-urls=${clientUrl}`,
    `--advertise-client-urls=${clientUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
    '--log-level=warn',
  ];
}

function apiServerArgs(
  folder: string,
  url: string,
  etcdUrl: string,
  options: ControlPlaneOptions,
  auditLog: string,
): string[] {
  return [
    `--etcd-servers=${etcdUrl}`,
    '--bind-address=127.0.0.1',
    '--advertise-address=127.0.0.1',
    `--secure-port=${new URL(url).port}`,
    // The API server makes its own certificate here, once, and finds it again after a restart.
    `--cert-dir=${folder}`,
    '--authorization-mode=RBAC',
    `--token-auth-file=${join(folder, 'tokens.csv')}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${join(folder, 'service-account.pub')}`,
    `--service-account-signing-key-file=${join(folder, 'service-account.key')}`,
    '--service-cluster-ip-range=10.0.0.0/24',
    // TaintNodesByCondition puts not-ready on each new node, and the controller manager, if there is
    // one, takes it away later. Nodes that are not Ready get the taint from that all the same.
    '--disable-admission-plugins=ServiceAccount,TaintNodesByCondition',
    '--endpoint-reconciler-type=none',
    ...(options.audit
      ? [
          `--audit-policy-file=${join(folder, 'audit-policy.json')}`,
          `--audit-log-path=${auditLog}`,
          '--audit-log-mode=blocking',
        ]
      : []),
    ...(options.apiServerFlags ?? []),
  ];
}

function controllersOf(asked: true | readonly string[]): readonly string[] {
  return asked === true ? defaultControllers : asked;
}

function controllerManagerFlags(
  folder: string,
  certificate: string,
  controllers: readonly string[],
): string[] {
  return [
    `--controllers=${controllers.join(',')}`,
    '--use-service-account-credentials=true',
    `--service-account-private-key-file=${join(folder, 'service-account.key')}`,
    `--root-ca-file=${certificate}`,
    // Fake nodes renew no Lease unless told to; by default they would be unreachable after 50 s.
    '--node-monitor-grace-period=24h',
    '--node-startup-grace-period=24h',
    '--node-monitor-period=1s',
    '--kube-api-qps=200',
    '--kube-api-burst=400',
  ];
}

async function writeCredentials(folder: string, users: Users): Promise<void> {
  const keys = generateKeyPairSync('ec', {
    namedCurve: 'prime256v1',
    privateKeyEncoding: { type: 'sec1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const tokens = [
    `${users.admin},admin,admin,"system:masters"`,
    `${users.controllerManager},system:kube-controller-manager,kube-controller-manager`,
    `${users.scheduler},system:kube-scheduler,kube-scheduler`,
  ];
  await Promise.all([
    writeFile(join(folder, 'service-account.key'), keys.privateKey, { mode: 0o600 }),
    writeFile(join(folder, 'service-account.pub'), keys.publicKey),
    writeFile(join(folder, 'tokens.csv'), `${tokens.join('\n')}\n`, { mode: 0o600 }),
    mkdir(join(folder, 'etcd'), { mode: 0o700 }),
  ]);
}

async function writeAuditPolicy(folder: string, withBodies: boolean): Promise<void> {
  const policy = {
    apiVersion: 'audit.k8s.io/v1',
    kind: 'Policy',
    omitStages: ['RequestReceived'],
    rules: [
      { level: 'None', nonResourceURLs: ['/readyz*', '/healthz*', '/livez*'] },
      { level: withBodies ? 'Request' : 'Metadata' },
    ],
  };
  await writeFile(join(folder, 'audit-policy.json'), JSON.stringify(policy));
}

function kubeconfig(url: string, ca: string, token: string): string {
  // JSON is YAML, and every reader of kubeconfigs takes it.
  return JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'test',
      clusters: [
        {
          name: 'test',
          cluster: {
            server: url,
            'certificate-authority-data': Buffer.from(ca).toString('base64'),
          },
        },
      ],
      users: [{ name: 'test', user: { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
    },
    null,
    2,
  );
}

const readyLimitMs = 120_000;

/**
 * Until the answer is 200 and holds `says`. `certificate`: path of the file to trust, absent while
 * the server is making it; null trusts any.
 */
async function untilAnswers(
  process: GuardedProcess,
  url: string,
  certificate?: string | null,
  says = '',
): Promise<void> {
  const deadline = performance.now() + readyLimitMs;
  let last: unknown;
  while (performance.now() < deadline) {
    const exit = process.exit();
    if (exit) throw new Error(`exited with ${exit.signal ?? exit.code}`, { cause: last });
    try {
      const { status, body } = await answerOf(url, certificate);
      if (status === 200 && body.includes(says)) return;
      last = new Error(`${url} answered ${status}: ${body}`);
    } catch (error) {
      // Refused, reset, no certificate yet: all are normal on the way up.
      last = error;
    }
    await delay(25);
  }
  throw new Error(`not ready within ${readyLimitMs} ms`, { cause: last });
}

async function answerOf(
  url: string,
  certificate: string | null | undefined,
): Promise<{ status: number; body: string }> {
  if (certificate === undefined) {
    const response = await fetch(url, { signal: AbortSignal.timeout(2000) });
    return { status: response.status, body: await response.text() };
  }
  const trust =
    certificate === null ? { rejectUnauthorized: false } : { ca: await readFile(certificate) };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    httpsRequest(url, { ...trust, agent: false, signal: AbortSignal.timeout(2000) }, resolve)
      .once('error', reject)
      .end();
  });
  return { status: response.statusCode ?? 0, body: await text(response) };
}

// The API server makes these a moment after it has become ready.
async function untilNamespacesExist(api: ApiClient): Promise<void> {
  const deadline = performance.now() + readyLimitMs;
  for (const namespace of ['default', 'kube-system', 'kube-node-lease']) {
    while (!(await api.find(`/api/v1/namespaces/${namespace}`))) {
      if (performance.now() > deadline) throw new Error(`namespace ${namespace} was not made`);
      await delay(10);
    }
  }
}

async function grantAccess(
  api: ApiClient,
  account: string,
  rules: readonly PolicyRule[],
  options: AccessOptions,
): Promise<{ token: string; userName: string }> {
  const { namespace = 'default', namespaceRules = {} } = options;
  const core = `/api/v1/namespaces/${namespace}`;
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  const metadata = { name: `test-${namespace}-${account}` };
  const subjects = [{ kind: 'ServiceAccount', name: account, namespace }];
  const roleRef = (kind: string) => ({ apiGroup: 'rbac.authorization.k8s.io', kind, ...metadata });

  if (!(await api.find(core))) {
    await api.create('/api/v1/namespaces', { metadata: { name: namespace } });
  }
  await api.create(`${core}/serviceaccounts`, { metadata: { name: account } });
  if (rules.length > 0) {
    await api.create(`${rbac}/clusterroles`, { metadata, rules });
    await api.create(`${rbac}/clusterrolebindings`, {
      metadata,
      subjects,
      roleRef: roleRef('ClusterRole'),
    });
  }
  for (const [within, narrowRules] of Object.entries(namespaceRules)) {
    await api.create(`${rbac}/namespaces/${within}/roles`, { metadata, rules: narrowRules });
    await api.create(`${rbac}/namespaces/${within}/rolebindings`, {
      metadata,
      subjects,
      roleRef: roleRef('Role'),
    });
  }
  const request = { spec: { expirationSeconds: 24 * 3600 } };
  const answer = await api.create<typeof request & { status?: { token: string } }>(
    `${core}/serviceaccounts/${account}/token`,
    request,
  );
  const token = answer.status?.token;
  if (token === undefined) throw new Error(`no token for ${account}`);
  const userName = `system:serviceaccount:${namespace}:${account}`;
  await untilGranted(api, userName, rules);
  for (const [within, narrowRules] of Object.entries(namespaceRules)) {
    await untilGranted(api, userName, narrowRules, within);
  }
  return { token, userName };
}

// The authorizer reads roles from a cache that lags by milliseconds.
async function untilGranted(
  api: ApiClient,
  user: string,
  rules: readonly PolicyRule[],
  namespace?: string,
): Promise<void> {
  const rule = rules.findLast(({ resources }) => resources !== undefined);
  const [verb] = rule?.verbs ?? [];
  const [group = ''] = rule?.apiGroups ?? [];
  const [resource, subresource] = rule?.resources?.[0]?.split('/') ?? [];
  const [name] = rule?.resourceNames ?? [];
  if (verb === undefined || resource === undefined) return;
  const review = {
    spec: {
      user,
      resourceAttributes: { verb, group, resource, subresource, name, namespace },
    },
  };
  const deadline = performance.now() + readyLimitMs;
  for (;;) {
    const answer = await api.create<typeof review & { status?: { allowed: boolean } }>(
      '/apis/authorization.k8s.io/v1/subjectaccessreviews',
      review,
    );
    if (answer.status?.allowed) return;
    if (performance.now() > deadline)
      throw new Error(`${user} was not granted ${verb} ${resource}`);
    await delay(10);
  }
}

function runKubectl(
  binary: string,
  adminKubeconfig: string,
  args: readonly string[],
  stdin: string | undefined,
): Promise<CommandOutput> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      binary,
      args,
      {
        timeout: 120_000,
        maxBuffer: 64 * 1024 * 1024,
        env: { ...process.env, KUBECONFIG: adminKubeconfig },
      },
      (error, stdout, stderr) => {
        if (!error) resolve({ stdout, stderr });
        else
          reject(
            new Error(`kubectl ${args.join(' ')}: ${stderr || error.message}`, { cause: error }),
          );
      },
    );
    child.stdin?.end(stdin ?? '');
  });
}
