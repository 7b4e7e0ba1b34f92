import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KUBERNETES_PERMISSIONS } from '../../scripts/chart/permissions.ts';
import type { AuditEntry } from '../control-plane/audit.ts';
import { skipReason } from '../control-plane/binaries.ts';
import type { PolicyRule } from '../control-plane/control-plane.ts';
import { createLimiter } from '../control-plane/limiter.ts';
import type { KubernetesObject } from '../control-plane/objects.ts';
import type { Controller } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import {
  chartFolder,
  helmOrThrow,
  installedEnvironment,
  kubeconfigOfAccount,
  queueUrl,
} from '../harness/helm.ts';
import { controllerRequests } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { startWorld, worldSkipReason, type World, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import { PERMISSION_CASES } from './permission-cases.ts';

const options: WorldOptions = { audit: true, backend: 'real' };
const needs = worldSkipReason(options) ?? skipReason(['helm']);

const release = 'node-termination-controller';
const rbac = '/apis/rbac.authorization.k8s.io/v1';

/** Each waits for seconds, and each run has a process of its own. */
const RUNS_AT_A_TIME = 8;

/** `VERB RESOURCE`, with the namespace where that tells two apart. */
const permissions = KUBERNETES_PERMISSIONS.flatMap(({ within, resource, verbs }) =>
  Object.entries(verbs).map(([verb, { behaviour }]) => ({
    permission: `${verb} ${resource}${within === 'kube-node-lease' ? ` in ${within}` : ''}`,
    behaviour,
  })),
);

type RoleObject = KubernetesObject & { readonly rules: readonly PolicyRule[] };
type Outcome = 'shown' | 'missed';
type Rules = Readonly<Record<'cluster' | 'kube-node-lease' | 'own', readonly PolicyRule[]>>;

describe.skipIf(needs)('the permissions of the chart', { meta: { needs } }, () => {
  let world: World;
  /** As the API server holds them after `helm install`. */
  let granted: Rules;
  const running: Controller[] = [];

  beforeAll(async () => {
    world = await startWorld(options);
    await helmOrThrow(world.cluster, [
      'install',
      release,
      chartFolder,
      '--namespace',
      release,
      '--set',
      `controller.queueUrl=${queueUrl}`,
    ]);
    const role = async (path: string) => (await world.api.get<RoleObject>(`${rbac}/${path}`)).rules;
    granted = {
      cluster: await role(`clusterroles/${release}`),
      'kube-node-lease': await role(`namespaces/kube-node-lease/roles/${release}`),
      own: await role(`namespaces/${release}/roles/${release}`),
    };
  });

  afterAll(async () => {
    await Promise.all(running.map((controller) => controller.kill()));
    await world.stop();
  });

  it('are those of the table, each with a case below', () => {
    expect(Object.keys(PERMISSION_CASES).toSorted()).toEqual(
      permissions.map(({ permission }) => permission).toSorted(),
    );
    expect(Object.values(PERMISSION_CASES).map(({ behaviour }) => behaviour)).toEqual(
      expect.arrayContaining(permissions.map(({ behaviour }) => behaviour)),
    );
    const flat = (rules: readonly PolicyRule[]): readonly string[] =>
      rules
        .flatMap(({ apiGroups, resources, verbs }) =>
          verbs.map((verb) => `${verb} ${apiGroups?.join()}/${resources?.join()}`),
        )
        .toSorted();
    const { controllerRules, controllerAccess } = leastRights;
    const { namespaceRules } = controllerAccess;
    expect(flat(granted.cluster)).toEqual(flat(controllerRules));
    expect(flat(granted['kube-node-lease'])).toEqual(flat(namespaceRules['kube-node-lease']));
    expect(flat(granted.own)).toEqual(flat(namespaceRules[release]));
  });

  describe('rule by rule', () => {
    const limiter = createLimiter(RUNS_AT_A_TIME);
    const outcomes = new Map<string, Promise<PromiseSettledResult<Outcome>>>();
    const keyOf = (permission: string, isGranted: boolean): string => `${permission} ${isGranted}`;

    beforeAll(() => {
      const settled = async (outcome: Promise<Outcome>) => (await Promise.allSettled([outcome]))[0];
      // With all permissions granted, cases that do the same are one.
      const whole = new Map<unknown, Promise<PromiseSettledResult<Outcome>>>();
      for (const [permission, { run }] of Object.entries(PERMISSION_CASES)) {
        const granted = whole.get(run) ?? settled(limiter(() => runCase(permission, true)));
        whole.set(run, granted);
        outcomes.set(keyOf(permission, true), granted);
        outcomes.set(keyOf(permission, false), settled(limiter(() => runCase(permission, false))));
      }
    });

    async function outcomeOf(permission: string, isGranted: boolean): Promise<Outcome> {
      const result = await outcomes.get(keyOf(permission, isGranted));
      if (result?.status === 'fulfilled') return result.value;
      throw new Error(`the case of ${permission} failed`, { cause: result?.reason });
    }

    const cases = Object.entries(PERMISSION_CASES);
    it.each(cases.map(([permission, { behaviour }]) => ({ permission, behaviour })))(
      '$permission: $behaviour',
      async ({ permission }) => {
        expect(await outcomeOf(permission, true)).toBe('shown');
        expect(await outcomeOf(permission, false)).toBe('missed');
      },
    );
  });

  async function requestsOf(userName: string) {
    return controllerRequests({ ...world, controllerUserName: userName });
  }

  /** With all that the chart grants but this permission, if it is not granted, and what hides it. */
  async function runCase(permission: string, isGranted: boolean): Promise<Outcome> {
    const one = PERMISSION_CASES[permission];
    if (one === undefined) throw new Error(`there is no case of ${permission}`);
    const name = `${permission.replaceAll(/[^a-z]+/g, '-')}-${isGranted ? 'with' : 'without'}`;
    const absent = [
      ...(isGranted ? [] : [permission]),
      ...(one.beside === undefined ? [] : [one.beside]),
    ];
    const kubeconfig = await createAccount(name, absent);
    const queue = await world.queues.createQueue(name);
    const started: Controller[] = [];
    const start = async (env: Readonly<Record<string, string>> = {}): Promise<Controller> => {
      const controller = await world.startController({
        env: {
          ...(await installedEnvironment(world.api, release, release)),
          QUEUE_URL: queue.url,
          KUBECONFIG: kubeconfig,
          NODE_SELECTOR: `case=${name}`,
          HOOKS: `${name}/*`,
          POD_NAMESPACE: name,
          VOLUNTARY_DRAIN_LIMIT: '1000',
          HTTP_PORT: '0',
          ...env,
        },
      });
      running.push(controller);
      started.push(controller);
      return controller;
    };
    const requests = () => requestsOf(userOf(name));
    /** The permissions for want of which requests were refused. */
    const refusals = async (): Promise<ReadonlySet<string>> => {
      const refused = (await requests()).filter(
        (request) => request.status === 403 && isAbout(name, request),
      );
      return new Set(
        refused.map(({ verb, resource, subresource, namespace }) => {
          const full = subresource === undefined ? resource : `${resource}/${subresource}`;
          return `${verb} ${full}${namespace === 'kube-node-lease' ? ' in kube-node-lease' : ''}`;
        }),
      );
    };
    const run = { world, name, leaseName: release, instance: instanceId(), queue, start, requests };
    try {
      const { shown, missed } = await one.run(run);
      // Slow answers look like refused ones: without a refusal, nothing is missed for want of a right.
      const outcome = await eventually<Outcome | undefined>(
        async () => {
          if (await shown()) return 'shown';
          if (isGranted || !(await missed())) return undefined;
          const refused = await refusals();
          return absent.every((permission) => refused.has(permission)) ? 'missed' : undefined;
        },
        { timeoutMs: 90_000, intervalMs: 100 },
      );
      await Promise.all(started.map((controller) => controller.kill()));
      expect([...(await refusals())].toSorted()).toEqual(absent.toSorted());
      return outcome;
    } catch (error) {
      const log = started
        .flatMap((controller) => controller.log.map(({ text }) => text))
        .slice(-15);
      throw new Error(`${name}: ${String(error)}\n${log.join('\n')}`, { cause: error });
    } finally {
      await Promise.all(started.map((controller) => controller.kill()));
      await world.api.request('DELETE', `/api/v1/nodes/${name}`);
    }
  }

  function userOf(namespace: string): string {
    return `system:serviceaccount:${namespace}:controller`;
  }

  /**
   * An account with the chart's rules, less what is to be absent. They hold for the run's own node and
   * namespace: a controller takes up whatever journal it finds, and is not to do so for other runs.
   */
  async function createAccount(name: string, absent: readonly string[]): Promise<string> {
    const { api, cluster } = world;
    await api.create('/api/v1/namespaces', { metadata: { name } });
    await api.create(`/api/v1/namespaces/${name}/serviceaccounts`, {
      metadata: { name: 'controller' },
    });
    const left = (place: keyof Rules): readonly PolicyRule[] =>
      granted[place].flatMap((rule) =>
        rule.verbs
          .filter((verb) => !absent.includes(permissionOf(place, verb, rule)))
          .map((verb) => ({ ...rule, verbs: [verb] })),
      );
    const everywhere = left('cluster').filter((rule) => !isOfOneNamespace(rule));
    await grant(
      name,
      undefined,
      everywhere.map((rule) => (isOfOneNode(rule) ? { ...rule, resourceNames: [name] } : rule)),
    );
    await grant(name, name, [...left('own'), ...left('cluster').filter(isOfOneNamespace)]);
    await grant(name, 'kube-node-lease', left('kube-node-lease'));
    return kubeconfigOfAccount(cluster, name, 'controller');
  }

  async function grant(
    name: string,
    namespace: string | undefined,
    rules: readonly PolicyRule[],
  ): Promise<void> {
    const { api } = world;
    const [kind, within] =
      namespace === undefined ? ['ClusterRole', rbac] : ['Role', `${rbac}/namespaces/${namespace}`];
    const metadata = { name: `case-${name}` };
    await api.create(`${within}/${kind.toLowerCase()}s`, { metadata, rules });
    await api.create(`${within}/${kind.toLowerCase()}bindings`, {
      metadata,
      subjects: [{ kind: 'ServiceAccount', name: 'controller', namespace: name }],
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, ...metadata },
    });
    await untilGranted(name, namespace, rules);
  }

  /** The authorizer's cache lags by milliseconds. */
  async function untilGranted(
    account: string,
    namespace: string | undefined,
    rules: readonly PolicyRule[],
  ): Promise<void> {
    const [rule] = rules;
    if (rule === undefined) return;
    const review = {
      spec: {
        user: userOf(account),
        resourceAttributes: {
          verb: rule.verbs[0],
          group: rule.apiGroups?.[0],
          resource: rule.resources?.[0],
          name: rule.resourceNames?.[0],
          namespace,
        },
      },
    };
    await eventually(async () => {
      const answer = await world.api.create<typeof review & { status?: { allowed: boolean } }>(
        '/apis/authorization.k8s.io/v1/subjectaccessreviews',
        review,
      );
      return answer.status?.allowed;
    });
  }
});

function permissionOf(place: keyof Rules, verb: string, { resources }: PolicyRule): string {
  return `${verb} ${resources?.[0]}${place === 'kube-node-lease' ? ` in ${place}` : ''}`;
}

const isOfOneNode = ({ resources, verbs }: PolicyRule): boolean =>
  resources?.[0] === 'nodes' && !verbs.includes('list') && !verbs.includes('watch');

const isOfOneNamespace = ({ resources: [resource = ''] = [], verbs }: PolicyRule): boolean =>
  ['pods', 'pods/eviction', 'persistentvolumeclaims'].includes(resource) &&
  !verbs.includes('list') &&
  !verbs.includes('watch');

/** Of its own node and namespace, or of all. */
function isAbout(run: string, { resource, namespace, name }: AuditEntry): boolean {
  // Those of a node are not in the run's namespace.
  if (resource === 'events') return true;
  if (namespace !== undefined && namespace !== 'kube-node-lease') return namespace === run;
  return resource !== 'nodes' || name === undefined || name === run;
}
