import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { chartValues } from '../../scripts/chart/values.ts';
import { parseOptions } from '../../src/options.ts';
import { skipReason } from '../control-plane/binaries.ts';
import {
  componentsFor,
  startControlPlane,
  type ControlPlane,
  type PolicyRule,
} from '../control-plane/control-plane.ts';
import type { KubernetesObject, PodObject } from '../control-plane/objects.ts';
import { alertsFile } from '../harness/alerts.ts';
import { eventually } from '../harness/eventually.ts';
import { goEnvironment, goSkipReason } from '../harness/go.ts';
import { chartFolder, helm, helmOrThrow, queueUrl } from '../harness/helm.ts';
import { BAD_VALUES } from './bad-values.ts';
import { VALUE_SETS } from './value-sets.ts';

const needs =
  skipReason([...componentsFor({}), 'kubectl', 'helm']) ??
  goSkipReason("the definitions of Prometheus' operator");

const run = promisify(execFile);

const namespace = 'chart';
const release = 'interruptions';

type Manifest = KubernetesObject & {
  readonly rules?: readonly PolicyRule[];
  readonly spec?: { readonly template?: { readonly spec: PodObject['spec'] } };
};

describe.skipIf(needs)('the chart', { meta: { needs } }, () => {
  let cluster: ControlPlane;

  beforeAll(async () => {
    cluster = await startControlPlane();
    await cluster.api.create('/api/v1/namespaces', {
      metadata: {
        name: namespace,
        labels: {
          'pod-security.kubernetes.io/enforce': 'restricted',
          'pod-security.kubernetes.io/warn': 'restricted',
        },
      },
    });
  });

  afterAll(async () => {
    await cluster.stop();
  });

  let files = 0;

  async function valuesFile(values: object): Promise<string> {
    files += 1;
    const path = join(cluster.folder, `values-${files}.json`);
    await writeFile(path, JSON.stringify(values));
    return path;
  }

  async function render(values: object): Promise<string> {
    const given = [
      '--set',
      `controller.queueUrl=${queueUrl}`,
      '--values',
      await valuesFile(values),
    ];
    return helmOrThrow(cluster, [
      'template',
      release,
      chartFolder,
      '--namespace',
      namespace,
      ...given,
    ]);
  }

  async function manifests(values: object): Promise<readonly Manifest[]> {
    return manifestsIn(await render(values));
  }

  it('passes `helm lint --strict`, complete or not', async () => {
    for (const args of [[], ['--set', `controller.queueUrl=${queueUrl}`]]) {
      expect(await helm(cluster, ['lint', '--strict', chartFolder, ...args])).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('1 chart(s) linted, 0 chart(s) failed') as unknown,
      });
    }
  });

  it.each(Object.entries(VALUE_SETS))(
    'is taken by the API server, and the controller: %s',
    async (_, values) => {
      const rendered = await render(values);
      const { stdout, stderr } = await cluster.kubectl(
        ['apply', '--dry-run=server', '--filename', '-'],
        { stdin: rendered },
      );
      expect(stdout).toMatch(/^deployment\.apps\/\S+ created \(server dry run\)$/m);
      // Of Pod Security, say.
      expect(stderr).toBe('');
      const environment = environmentOf(manifestsIn(rendered));
      expect(parseOptions([], environment)).toHaveProperty('options');
    },
  );

  it('has pods that the Pod Security Standard "restricted" admits', async () => {
    const [deployment] = (await manifests({})).filter(({ kind }) => kind === 'Deployment');
    const answer = await cluster.api.request(
      'POST',
      `/api/v1/namespaces/${namespace}/pods?dryRun=All`,
      { metadata: { name: 'controller' }, spec: deployment?.spec?.template?.spec },
    );
    expect(answer).toMatchObject({ status: 201 });
  });

  it('names its Lease after the release, and grants this one alone', async () => {
    const rendered = await manifests({});
    const name = `${release}-node-termination-controller`;
    expect(environmentOf(rendered)).toMatchObject({ LEASE_NAME: name });
    const [role] = rendered.filter(
      ({ kind, metadata }) => kind === 'Role' && metadata.namespace === namespace,
    );
    expect(role).toMatchObject({
      rules: expect.arrayContaining([
        expect.objectContaining({
          resourceNames: [name],
          verbs: ['get', 'list', 'watch', 'update'],
        }),
      ]) as unknown,
    });
  });

  it("has monitors and rules that Prometheus' operator's own definitions take", async () => {
    const operator = 'github.com/prometheus-operator/prometheus-operator';
    const { stdout: module } = await run('go', ['mod', 'download', '-json', operator], {
      cwd: import.meta.dirname,
      env: goEnvironment,
    });
    const { Dir: folder } = JSON.parse(module) as { Dir: string };
    const definitions = ['servicemonitors', 'podmonitors', 'prometheusrules'].flatMap((plural) => [
      '--filename',
      join(folder, `example/prometheus-operator-crd/monitoring.coreos.com_${plural}.yaml`),
    ]);
    await cluster.kubectl(['create', ...definitions]);
    const relabelings = [{ action: 'replace', sourceLabels: ['a'], targetLabel: 'b' }];
    const metricRelabelings = [{ action: 'drop', sourceLabels: ['a'], regex: '.*' }];
    const labels = { release: 'prometheus' };
    const monitor = { create: true, labels, interval: '30s', relabelings, metricRelabelings };
    const groups = [{ name: 'nodes', rules: [{ alert: 'Late', expr: 'up == 0', for: '5m' }] }];
    const rendered = await render({
      serviceMonitor: monitor,
      podMonitor: monitor,
      prometheusRule: { alerts: true, groups, labels },
    });
    const apply = (text: string) =>
      cluster.kubectl(['apply', '--dry-run=server', '--validate=strict', '--filename', '-'], {
        stdin: text,
      });
    // It takes a moment until their API is served.
    const { stdout, stderr } = await eventually(async () => apply(rendered));
    expect(stderr).toBe('');
    // Strict indeed.
    const misspelt = rendered.replaceAll('path: /metrics', 'paths: /metrics');
    await expect(apply(misspelt)).rejects.toThrow('unknown field "spec.endpoints[0].paths"');

    const selector = {
      matchLabels: {
        'app.kubernetes.io/name': 'node-termination-controller',
        'app.kubernetes.io/instance': release,
      },
    };
    const port = {
      port: 'http',
      path: '/metrics',
      interval: '30s',
      relabelings,
      metricRelabelings,
    };
    const { groups: ours } = parse(await readFile(alertsFile, 'utf8')) as { groups: typeof groups };
    for (const [kind, spec] of Object.entries({
      ServiceMonitor: { selector, endpoints: [port] },
      PodMonitor: { selector, podMetricsEndpoints: [port] },
      PrometheusRule: { groups: [...ours, ...groups] },
    })) {
      const manifest = manifestsIn(rendered).find((one) => one.kind === kind);
      expect(manifest).toMatchObject({ apiVersion: 'monitoring.coreos.com/v1' });
      expect(manifest?.metadata.labels).toMatchObject(labels);
      expect(manifest?.spec).toEqual(spec);
      expect(stdout).toMatch(
        new RegExp(`^${kind.toLowerCase()}\\.monitoring.* created \\(server dry run\\)$`, 'm'),
      );
    }
  });

  it('takes what is secret of the webhook from its Secret, and the template from where it is said to be', async () => {
    const webhook = { existingSecret: 'chat', headersKey: 'headers', signingKey: 'signing' };
    const of = (key: string) => ({ valueFrom: { secretKeyRef: { name: 'chat', key } } });
    const mapped = variablesOf(
      await manifests({ webhook: { ...webhook, templateConfigMap: 'messages' } }),
    );
    expect(mapped).toEqual(
      expect.arrayContaining([
        { name: 'WEBHOOK_URL', ...of('url') },
        { name: 'WEBHOOK_HEADERS', ...of('headers') },
        { name: 'WEBHOOK_SECRET', ...of('signing') },
        {
          name: 'WEBHOOK_TEMPLATE',
          valueFrom: { configMapKeyRef: { name: 'messages', key: 'template' } },
        },
      ]),
    );
    const made = variablesOf(
      await manifests({
        webhook: { ...webhook, integrationKey: 'routing-key', template: 'pagerduty' },
      }),
    );
    expect(made).toContainEqual({ name: 'WEBHOOK_INTEGRATION_KEY', ...of('routing-key') });
    const file = join(chartFolder, 'files/webhook/pagerduty.liquid');
    expect(made).toContainEqual({
      name: 'WEBHOOK_TEMPLATE',
      value: await readFile(file, 'utf8'),
    });
  });

  it('has every value that the stack tells to set', async () => {
    const template = await readFile(join(chartFolder, '../cloudformation.json'), 'utf8');
    const { HelmInstall } = (JSON.parse(template) as { Outputs: Record<string, object> }).Outputs;
    const set = [...JSON.stringify(HelmInstall).matchAll(/--set '([a-zA-Z.]+)/g)].map(
      ([, path = '']) => path.replace(/\.$/, ''),
    );
    const paths = chartValues().map(({ path }) => path);
    expect(set).toContain('controller.queueUrl');
    for (const path of set) {
      expect(paths.some((one) => path === one || path.startsWith(`${one}.`))).toBe(true);
    }
    expect(JSON.stringify(HelmInstall)).toContain('deploy/chart');
  });

  it.each([
    { values: { waitForVolumes: false }, gone: ['persistentvolumeclaims', 'volumeattachments'] },
    { values: { kubernetesEvents: false }, gone: ['events'] },
    { values: { leaderElection: false }, gone: [`leases in ${namespace}`] },
  ])('asks for no right that is not needed with $values', async ({ values, gone }) => {
    const resources = async (controller: object): Promise<readonly string[]> =>
      (await manifests({ replicaCount: 1, controller })).flatMap(({ metadata, rules = [] }) =>
        rules.flatMap(({ resources: [resource = ''] = [] }) =>
          metadata.namespace === undefined ? resource : `${resource} in ${metadata.namespace}`,
        ),
      );
    const [all, fewer] = [await resources({}), await resources(values)];
    expect(all).toEqual(expect.arrayContaining(gone));
    expect(fewer).toEqual(all.filter((resource) => !gone.includes(resource)));
  });

  it('asks for no right that a rehearsal does not need', async () => {
    const rendered = await manifests({ controller: { dryRun: true } });
    const granted = rendered.flatMap(({ rules = [] }) => rules);
    expect(new Set(granted.flatMap(({ verbs }) => verbs))).toEqual(
      new Set(['get', 'list', 'watch']),
    );
  });

  it.each(BAD_VALUES)('is not installed with $set: $says', async ({ set, says }) => {
    const { code, stderr } = await helm(cluster, [
      'install',
      'refused',
      chartFolder,
      '--namespace',
      namespace,
      ...set.flatMap((one) => ['--set', one]),
    ]);
    expect(code).toBe(1);
    for (const words of says) expect(stderr).toContain(words);
  });

  it.each(BAD_VALUES.filter(({ environment }) => environment !== undefined))(
    'refuses what the controller refuses: $environment',
    ({ environment }) => {
      expect(parseOptions([], { QUEUE_URL: queueUrl, ...environment })).toHaveProperty('faults');
    },
  );
});

function manifestsIn(rendered: string): readonly Manifest[] {
  return parseAllDocuments(rendered).flatMap((document) => {
    const manifest = document.toJS() as Manifest | null;
    return manifest === null ? [] : [manifest];
  });
}

function variablesOf(manifests: readonly Manifest[]): readonly Variable[] {
  const deployment = manifests.find(({ kind }) => kind === 'Deployment');
  const [container] = deployment?.spec?.template?.spec.containers ?? [];
  return (container as unknown as { env: readonly Variable[] }).env;
}

/** What the Deployment gives its container, but for what depends on the pod. */
function environmentOf(
  manifests: readonly Manifest[],
): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(
    variablesOf(manifests).map(({ name, value, valueFrom }) => {
      const key = valueFrom?.secretKeyRef?.key ?? valueFrom?.configMapKeyRef?.key;
      return [name, value ?? HELD[key ?? '']];
    }),
  );
}

type Variable = Readonly<{
  name: string;
  value?: string;
  valueFrom?: Readonly<
    Partial<Record<'secretKeyRef' | 'configMapKeyRef', Readonly<{ name: string; key: string }>>>
  >;
}>;

/** By Secrets and ConfigMaps that the chart only names. */
const HELD: Readonly<Record<string, string>> = {
  url: 'https://hooks.example.com/x',
  webhookurl: 'https://hooks.example.com/x',
  headers: '{"Authorization":"Bearer abc"}',
  signing: `whsec_${'abcd'.repeat(10)}`,
  'routing-key': 'R0123456789',
  template: '{"text":"{{ .Description }}"}',
};
