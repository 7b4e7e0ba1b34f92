import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import {
  defaultControllers,
  startControlPlane,
  type ControlPlane,
} from '../control-plane/control-plane.ts';
import type { KubernetesObject } from '../control-plane/objects.ts';
import type { Backend, Refusal } from './backend.ts';
import type { StartedBackend } from './stand-in-backend.ts';

export const realOptions = {
  controllerManager: [...defaultControllers, 'daemonset-controller', 'statefulset-controller'],
  scheduler: true,
} as const;

export async function startRealBackend(): Promise<StartedBackend> {
  const controlPlane = await startControlPlane(realOptions);
  const releases: (() => Promise<void>)[] = [() => controlPlane.stop()];
  const { api, controllerManager, scheduler } = controlPlane;
  const webhooks = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';

  const backend: Backend = {
    name: 'real',
    api,
    pauseControllers() {
      controllerManager?.pause();
      scheduler?.pause();
    },
    resumeControllers() {
      controllerManager?.resume();
      scheduler?.resume();
    },
    async restart() {
      await compact(controlPlane);
      await controlPlane.apiServer.stop();
      await controlPlane.apiServer.start();
    },
    powerless: () => ({ 'impersonate-user': 'powerless' }),
    whileOverloaded: (run) => whileOverloaded(controlPlane, run),
    async refuseEvictions(namespace, refusal) {
      if (refusal === 'forbidden' || refusal === 'invalid') {
        await denyByPolicy(controlPlane, namespace, refusal);
        return;
      }
      const url = await webhookUrl(refusal, releases);
      await api.create(webhooks, {
        metadata: { name: `${namespace}-${refusal}` },
        webhooks: [
          {
            name: 'refuse.example.com',
            admissionReviewVersions: ['v1'],
            sideEffects: 'None',
            failurePolicy: 'Fail',
            timeoutSeconds: 1,
            clientConfig: { url },
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
            rules: [
              {
                apiGroups: [''],
                apiVersions: ['v1'],
                operations: ['CREATE'],
                resources: ['pods/eviction'],
              },
            ],
          },
        ],
      });
    },
  };
  return {
    backend,
    async stop() {
      for (const release of releases.toReversed()) await release();
    },
  };
}

/**
 * A priority level without any seat: it takes one request at a time, and refuses the others. The one
 * that holds it asks for a version of the future, for which the server waits three seconds.
 */
async function whileOverloaded(
  { api }: ControlPlane,
  run: (headers: Record<string, string>) => Promise<void>,
): Promise<void> {
  const flowControl = '/apis/flowcontrol.apiserver.k8s.io/v1';
  const metadata = { name: 'contract-overloaded' };
  const user = { kind: 'User', name: 'overloaded', apiGroup: 'rbac.authorization.k8s.io' };
  await api.create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    metadata,
    subjects: [user],
    roleRef: { kind: 'ClusterRole', name: 'cluster-admin', apiGroup: 'rbac.authorization.k8s.io' },
  });
  await api.create(`${flowControl}/prioritylevelconfigurations`, {
    metadata,
    spec: {
      type: 'Limited',
      limited: {
        nominalConcurrencyShares: 0,
        lendablePercent: 0,
        borrowingLimitPercent: 0,
        limitResponse: { type: 'Reject' },
      },
    },
  });
  const schema: KubernetesObject = await api.create(`${flowControl}/flowschemas`, {
    metadata,
    spec: {
      matchingPrecedence: 2,
      priorityLevelConfiguration: { name: metadata.name },
      rules: [
        {
          subjects: [{ kind: 'User', user: { name: 'overloaded' } }],
          resourceRules: [
            {
              verbs: ['*'],
              apiGroups: ['*'],
              resources: ['*'],
              namespaces: ['*'],
              clusterScope: true,
            },
          ],
        },
      ],
    },
  });
  const headers = { 'impersonate-user': 'overloaded' };
  const path = '/api/v1/namespaces/default/pods';
  const deadline = performance.now() + 60_000;
  for (;;) {
    const answer = await api.request('GET', path, undefined, { headers });
    const isSentThere = answer.headers['x-kubernetes-pf-flowschema-uid'] === schema.metadata.uid;
    if (isSentThere && answer.status === 200) break;
    if (performance.now() > deadline) throw new Error('the flow schema did not take effect');
    await delay(20);
  }
  const over = new AbortController();
  const { signal } = over;
  const holder = (async () => {
    for (;;) {
      await api.request('GET', `${path}?resourceVersion=999999999`, undefined, { headers, signal });
    }
  })().catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
  try {
    await run(headers);
  } finally {
    over.abort();
    await holder;
  }
}

async function denyByPolicy(
  { api }: ControlPlane,
  namespace: string,
  refusal: 'forbidden' | 'invalid',
): Promise<void> {
  const admission = '/apis/admissionregistration.k8s.io/v1';
  const metadata = { name: `${namespace}-${refusal}` };
  const matching = {
    namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
    resourceRules: [
      {
        apiGroups: [''],
        apiVersions: ['v1'],
        operations: ['CREATE'],
        resources: ['pods/eviction'],
      },
    ],
  };
  await api.create(`${admission}/validatingadmissionpolicies`, {
    metadata,
    spec: {
      failurePolicy: 'Fail',
      matchConstraints: matching,
      validations: [
        {
          expression: 'false',
          message: 'no',
          reason: refusal === 'forbidden' ? 'Forbidden' : 'Invalid',
        },
      ],
    },
  });
  await api.create(`${admission}/validatingadmissionpolicybindings`, {
    metadata,
    spec: { policyName: metadata.name, validationActions: ['Deny'], matchResources: matching },
  });
}

/** A port where nobody listens, or where somebody does and never says a word. */
async function webhookUrl(
  refusal: Extract<Refusal, 'unreachable' | 'timeout'>,
  releases: (() => Promise<void>)[],
): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    releases.push(async () => {
      socket.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
  if (refusal === 'unreachable') await close();
  else releases.unshift(close);
  return `https://127.0.0.1:${port}/`;
}

/** Drops all of etcd's history, through the JSON gateway that it has beside gRPC. */
async function compact({ etcd }: ControlPlane): Promise<void> {
  const commandLine = await readFile(`/proc/${etcd.pid()}/cmdline`, 'utf8');
  const flag = '--listen-client-urls=';
  const url = commandLine
    .split('\0')
    .find((argument) => argument.startsWith(flag))
    ?.slice(flag.length);
  if (url === undefined) throw new Error('etcd was not started with --listen-client-urls');
  const call = async (path: string, body: object): Promise<{ header?: { revision?: string } }> => {
    const response = await fetch(`${url}/v3/kv/${path}`, {
      method: 'POST',
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
    if (!response.ok) throw new Error(`etcd ${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as { header?: { revision?: string } };
  };
  // The API server compacts under this key, and by it knows what its own caches must forget.
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const { header } = await call('range', { key: base64('/') });
  const revision = header?.revision ?? '0';
  await call('put', { key: base64('compact_rev_key'), value: base64(revision) });
  await call('compaction', { revision, physical: true });
}
