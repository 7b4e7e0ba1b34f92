import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import packageJson from '../../package.json' with { type: 'json' };
import { skipReason } from '../control-plane/binaries.ts';
import type { KubernetesObject } from '../control-plane/objects.ts';
import { getLease, getNode, podsOn } from '../harness/cluster.ts';
import type { Controller, ControllerOptions } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { EVERY_KIND } from '../harness/every-kind.ts';
import {
  chartFolder,
  clientWith,
  helmOrThrow,
  installedEnvironment,
  kubectlOrThrow,
  kubeconfigOfAccount,
  queueUrl,
} from '../harness/helm.ts';
import { marksOf, noMarks, untilSettled } from '../harness/marks.ts';
import { rebalance, spotNotice, stateChange } from '../harness/messages.ts';
import { untilDeleted } from '../harness/queued.ts';
import { controllerRequests } from '../harness/requests.ts';
import { createPod, createPods, untilRunning } from '../harness/workloads.ts';
import { startWorld, worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';
import { blocksOf, commandsOf, runAsTyped, sectionOf, substituted } from './documents.ts';

const options: WorldOptions = { audit: true, backend: 'real' };
const needs = worldSkipReason(options) ?? skipReason(['helm', 'kubectl']);

const root = resolve(import.meta.dirname, '../..');
const release = 'node-termination-controller';
const exitsSoon = { exitsAfterSeconds: 0.3 };

describe.skipIf(needs)('a controller that was installed with Helm', { meta: { needs } }, () => {
  let world: World;
  let queue: Queue;
  let kubeconfig: string;
  let running: Controller[] = [];
  let installations = 0;

  beforeAll(async () => {
    world = await startWorld(options);
  });

  afterAll(async () => {
    await Promise.all(running.map((controller) => controller.kill()));
    await world.stop();
  });

  async function helm(...args: string[]): Promise<string> {
    return helmOrThrow(world.cluster, [...args, '--namespace', release]);
  }

  /** Each test has an installation and a queue of its own. */
  async function install(): Promise<void> {
    await helm('install', release, chartFolder, '--set', `controller.queueUrl=${queueUrl}`);
    await prepare();
  }

  /** A queue and a token for what has been installed by whatever way. */
  async function prepare(): Promise<void> {
    kubeconfig = await kubeconfigOfAccount(world.cluster, release, release);
    installations += 1;
    queue = await world.queues.createQueue(`installation-${installations}`);
  }

  async function startInstalled(): Promise<Controller> {
    await prepare();
    const controller = await startPod('installed');
    await controller.waitForLog('ready');
    return controller;
  }

  async function uninstall(): Promise<void> {
    await Promise.all(running.map((controller) => controller.kill()));
    running = [];
    await helm('uninstall', release);
  }

  /** As a pod of the Deployment, as that is now. */
  async function startPod(name: string, { env, ...rest }: ControllerOptions = {}) {
    const controller = await world.startController({
      ...rest,
      env: {
        ...(await installedEnvironment(world.api, release, release)),
        QUEUE_URL: queue.url,
        KUBECONFIG: kubeconfig,
        POD_NAME: name,
        HTTP_PORT: '0',
        ...env,
      },
    });
    running.push(controller);
    return controller;
  }

  async function removeNodes(names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => world.api.delete(`/api/v1/nodes/${name}`)));
  }

  it('does the whole table of events with the token of that ServiceAccount', async () => {
    const { api, kubelet, autoScaling } = world;
    await install();
    const group = 'every-kind';
    autoScaling.addHook({ group, hook: 'drain', heartbeatTimeoutSeconds: 300 });
    const nodes = EVERY_KIND.map((_, i) => ({
      name: `kind-${i}`,
      instanceId: instanceId(),
      labels: { 'karpenter.k8s.aws/capacity-reservation-id': `cr-${i}` },
    }));
    await kubelet.addNodes(nodes);
    for (const { instanceId: instance } of nodes) {
      const token = `token-${instance}`;
      autoScaling.beginAction({ group, hook: 'drain', instanceId: instance, token });
    }
    await untilRunning(
      kubelet,
      await createPods(
        api,
        nodes.map(({ name }) => ({ name: `${name}-pod`, node: name, behaviour: exitsSoon })),
      ),
    );
    const controller = await startPod('table', { env: { VOLUNTARY_DRAIN_LIMIT: '1000' } });
    await controller.waitForLog('ready');
    const time = Date.now();

    const sent = await Promise.all(
      EVERY_KIND.map(async ({ name, message }, i) => {
        const about = { instanceId: nodes[i]?.instanceId ?? '', reservationId: `cr-${i}`, group };
        return { name, id: await queue.send(message({ ...about, time })) };
      }),
    );
    // What cannot be read is left to the queue.
    const read = sent.filter(({ name }) => name !== 'rubbish').map(({ id }) => id);
    await untilDeleted(queue, read, { timeoutMs: 60_000 });
    const drained = nodes.slice(0, 5).map(({ name }) => name);
    for (const name of drained) await untilSettled(api, name, { timeoutMs: 60_000 });
    const left = await Promise.all(drained.map((name) => podsOn(api, name)));
    const requests = async () =>
      controllerRequests({
        ...world,
        controllerUserName: `system:serviceaccount:${release}:${release}`,
      });
    // Events go last: when no mark was written for a second.
    await eventually(async () => (await requests()).some(({ resource }) => resource === 'events'));
    const asked = await requests();
    await uninstall();
    await removeNodes(nodes.map(({ name }) => name));

    expect(left.flat()).toEqual([]);
    expect(asked.filter(({ status }) => status === 403)).toEqual([]);
    expect(asked.map(({ verb, resource }) => `${verb} ${resource}`)).toEqual(
      expect.arrayContaining(['patch nodes', 'create pods', 'update leases', 'create events']),
    );
  });

  it('has its Lease and its marks above the bulk traffic of the API server, and its events below', async () => {
    await install();
    const schemas = await world.api.list('/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas');
    const nameOf = new Map(schemas.map(({ metadata }) => [metadata.uid, metadata.name]));
    const api = await clientWith(kubeconfig);
    const schemaOf = async (method: string, path: string, body?: object) => {
      const { headers } = await api.request(method, path, body);
      return nameOf.get(String(headers['x-kubernetes-pf-flowschema-uid']));
    };
    const events = '/apis/events.k8s.io/v1/namespaces/default/events';
    const lease = `/apis/coordination.k8s.io/v1/namespaces/${release}/leases/${release}`;
    try {
      await eventually(async () => {
        expect(await schemaOf('GET', lease)).toBe(`${release}-lease`);
        expect(await schemaOf('PATCH', '/api/v1/nodes/absent', {})).toBe(`${release}-marks`);
        expect(await schemaOf('GET', '/api/v1/pods')).toBe('service-accounts');
        expect(await schemaOf('POST', events, {})).toBe(`${release}-events`);
        return true;
      });
    } finally {
      await api.close();
    }
    await uninstall();
  });

  /** The bundle as a later version would be. */
  async function laterBundle(): Promise<string> {
    const text = await readFile(join(root, 'dist/main.js'), 'utf8');
    const file = join(world.cluster.folder, 'later.js');
    await writeFile(file, text.replaceAll(`"${packageJson.version}"`, '"99.0.0"'));
    return file;
  }

  it('loses nothing when it is upgraded in the middle of a drain', async () => {
    const { api, kubelet } = world;
    await install();
    const file = await laterBundle();
    const names = Array.from({ length: 6 }, (_, i) => `upgraded-${i}`);
    const nodes = names.map((name) => ({ name, instanceId: instanceId() }));
    await kubelet.addNodes(nodes);
    const pods = names.flatMap((node, i) => [
      { name: `${node}-quick`, node, behaviour: exitsSoon },
      { name: `${node}-slow`, node, behaviour: { exitsAfterSeconds: 2 + 2 * i } },
    ]);
    await untilRunning(kubelet, await createPods(api, pods));
    const [first, second] = [await startPod('old-a'), await startPod('old-b')];
    await eventually(() =>
      [first, second].some((controller) => controller.logged('ready').length > 0),
    );
    const ids = await queue.sendMany(
      nodes.slice(0, 4).map((node) => spotNotice({ instanceId: node.instanceId })),
    );
    await eventually(() => kubelet.record('upgraded-0-quick').deletions.length > 0);

    const values = [`controller.queueUrl=${queueUrl}`, 'controller.logLevel=debug'];
    await helm('upgrade', release, chartFolder, '--set', values.join(','));
    // As the Deployment's controller does it: one more, then one less, and no gap.
    for (const [name, old] of [
      ['new-a', first],
      ['new-b', second],
    ] as const) {
      const next = await startPod(name, { file });
      await next.waitForLog('standing by');
      ids.push(
        ...(await queue.sendMany([
          spotNotice({ instanceId: nodes[name === 'new-a' ? 4 : 5]?.instanceId ?? '' }),
        ])),
      );
      expect(await old.stop()).toEqual({ code: 0, signal: null });
    }
    await untilDeleted(queue, ids, { timeoutMs: 60_000 });
    for (const name of names) await untilSettled(api, name, { timeoutMs: 60_000 });

    const log = running.flatMap((controller) => controller.logged('started'));
    expect(log.map(({ version }) => version)).toEqual([
      packageJson.version,
      packageJson.version,
      '99.0.0',
      '99.0.0',
    ]);
    for (const { name } of pods) expect(kubelet.record(name)).toMatchObject({ end: 'exited' });
    for (const name of names) expect(await podsOn(api, name)).toEqual([]);
    await uninstall();
    await removeNodes(names);
  });

  it('leaves nothing but marks when it is uninstalled, and these go as the docs say', async () => {
    const { api, kubelet, cluster } = world;
    await install();
    const nodes = ['left-waiting', 'left-drained', 'left-cordoned', 'left-alone'].map((name) => ({
      name,
      instanceId: instanceId(),
      unschedulable: name === 'left-cordoned',
    }));
    await kubelet.addNodes(nodes);
    const [waiting, ...interrupted] = nodes.slice(0, 3);
    const controller = await startPod('leaving', {
      env: { REBALANCE_ACTION: 'prefer-no-schedule' },
    });
    await controller.waitForLog('ready');
    const ids = await queue.sendMany([
      rebalance({ instanceId: waiting?.instanceId ?? '' }),
      ...interrupted.map((node) => spotNotice({ instanceId: node.instanceId })),
    ]);
    await untilDeleted(queue, ids);
    const manifests = parseAllDocuments(await helm('get', 'manifest', release)).map(
      (document) => document.toJS() as KubernetesObject & { kind: string },
    );
    await controller.stop();
    await uninstall();

    const kinds = manifests.map(({ kind }) => kind);
    expect(kinds).toEqual(expect.arrayContaining(['Deployment', 'Lease', 'ClusterRole']));
    await eventually(async () => {
      const found = await kubectlOrThrow(cluster, [
        'get',
        [...new Set(kinds)].join(','),
        '--all-namespaces',
        '--output=name',
        `--selector=app.kubernetes.io/instance=${release}`,
      ]);
      return found === '';
    });
    expect(await getLease(api, release, release)).toBeUndefined();
    const marked = await Promise.all(
      nodes.map(async ({ name }) => marksOf(await getNode(api, name))),
    );
    expect(marked.map(({ journal }) => journal !== undefined)).toEqual([true, true, true, false]);

    const [, script = ''] = blocksOf(await sectionOf('## Uninstall'), 'sh');
    await runAsTyped(cluster, script);

    for (const { name, unschedulable } of nodes) {
      expect(marksOf(await getNode(api, name))).toEqual({ ...noMarks, cordoned: unschedulable });
    }
    await removeNodes(nodes.map(({ name }) => name));
  });

  it('is brought to a first interruption by the ten commands of docs/install.md', async () => {
    const { api, kubelet, cluster } = world;
    const [block = ''] = blocksOf(await sectionOf('## From nothing to a first interruption'), 'sh');
    const commands = commandsOf(block);
    const instance = instanceId();
    await kubelet.addNode({ name: 'first', instanceId: instance });
    const pod = { name: 'first-pod', node: 'first', behaviour: exitsSoon };
    await untilRunning(kubelet, [await createPod(api, pod)]);
    const outputs: string[] = [];
    let assignments = '';
    let controller: Controller | undefined;
    for (const command of commands) {
      const typed = substituted(command).replace('i-0123456789abcdef0', instance);
      if (/^\w+=/.test(typed)) {
        assignments += `${typed}\n`;
        continue;
      }
      outputs.push(await runAsTyped(cluster, `${assignments}${typed}`));
      if (typed.startsWith('helm install')) controller = await startInstalled();
      if (command.startsWith('aws ')) {
        const message = stateChange({ instanceId: instance, state: 'shutting-down' });
        await untilDeleted(queue, [await queue.send(message)]);
        await untilSettled(api, 'first');
      }
    }
    const story = ['interruption received', 'marked', 'draining', 'drained'].map(
      (text) => controller?.logged(text).length,
    );
    await uninstall();
    await removeNodes(['first']);

    expect(commands).toHaveLength(10);
    expect(outputs.join('\n')).toMatch(
      /^The next step.*:\nhttps:\S+\/docs\/install\.md#from-nothing-to-a-first-interruption$/m,
    );
    expect(outputs.join('\n')).toMatch(new RegExp(`^first +aws:///.*${instance}$`, 'm'));
    expect(outputs.at(-2)).toMatch(/^first .* state-change$/m);
    expect(story).toEqual([1, 1, 1, 1]);
  });

  it('is installed as docs/install.md says for IRSA, and as plain manifests', async () => {
    const { cluster } = world;
    const [irsa = ''] = blocksOf(await sectionOf('### Credentials'), 'sh');
    await runAsTyped(cluster, substituted(irsa));
    const account = await world.api.get(`/api/v1/namespaces/${release}/serviceaccounts/${release}`);
    await uninstall();
    const [plain = ''] = blocksOf(await sectionOf('## Plain manifests'), 'sh');
    const elsewhere = plain
      .replaceAll('--namespace node-termination-controller', '--namespace plain')
      .replace('create namespace node-termination-controller', 'create namespace plain');
    await runAsTyped(cluster, substituted(elsewhere), cluster.folder);
    const deployment = await world.api.find(
      `/apis/apps/v1/namespaces/plain/deployments/${release}`,
    );
    await runAsTyped(cluster, 'kubectl delete --filename manifests.yaml', cluster.folder);

    expect(account.metadata.annotations).toMatchObject({
      'eks.amazonaws.com/role-arn': 'arn:aws:iam::123456789012:role/node-termination-controller',
    });
    expect(deployment).toBeDefined();
  });

  it.each(['## Argo CD', '## Flux'])('takes the values of the example: %s', async (heading) => {
    const [block = ''] = blocksOf(await sectionOf(heading), 'yaml');
    const documents = parseAllDocuments(block);
    const [spec] = documents.flatMap((document) => {
      const { kind, spec } = document.toJS() as { kind: string; spec: GitOpsSpec };
      return ['Application', 'HelmRelease'].includes(kind) ? [spec] : [];
    });
    const values = spec?.values ?? spec?.source?.helm.valuesObject;
    const file = join(world.cluster.folder, 'gitops.json');
    await writeFile(file, JSON.stringify(values));
    expect(documents.flatMap(({ errors }) => errors)).toEqual([]);
    expect(values).toHaveProperty('controller.queueUrl');
    expect(await helm('template', release, chartFolder, '--values', file)).toContain('kind: Lease');
    const version = spec?.source?.targetRevision ?? /tag: (\S+)/.exec(block)?.[1];
    expect(version).toBe(packageJson.version);
  });
});

type GitOpsSpec = {
  readonly values?: object;
  readonly source?: {
    readonly targetRevision: string;
    readonly helm: { readonly valuesObject: object };
  };
};
