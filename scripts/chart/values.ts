import { describeOptions } from '../../src/options.ts';

export type Schema = Readonly<Record<string, unknown>>;

export type ChartValue = Readonly<{
  /** From the root of the values, by dots. */
  path: string;
  default: unknown;
  /** What `helm install` takes. */
  schema: Schema;
  /** A sentence or two, in Markdown. */
  description: string;
}>;

/** Where images are pushed by the release workflow, which refuses to run for another place. */
const IMAGE_REPOSITORY = 'ghcr.io/node-termination-controller/node-termination-controller';

const TEXT = { type: 'string' };
const FLAG = { type: 'boolean' };
const ANY_OBJECT = { type: 'object' };
const TEXTS = { type: 'object', additionalProperties: { type: 'string' } };
const OBJECTS = { type: 'array', items: { type: 'object' } };

/** Empty: not given. */
function textLike(pattern: string): Schema {
  return { type: 'string', pattern: `^(${pattern})?$` };
}

const NAME = textLike('[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?');
const DNS_NAME = textLike('[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?');
/** Of a Secret or ConfigMap. */
const KEY = textLike('[-._A-Za-z0-9]{1,253}');
/** Below files/webhook. */
const WEBHOOK_TEMPLATES = ['slack', 'teams', 'pagerduty'];
/** As Prometheus writes them. */
const DURATION = textLike(
  '([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?',
);

const SURROUNDINGS: readonly ChartValue[] = [
  {
    path: 'replicaCount',
    default: 2,
    schema: { type: 'integer', minimum: 0, maximum: 10 },
    description:
      'One works, the others stand by and take over at once. 0 stops the controller; without `controller.leaderElection` it may be 1 at most.',
  },
  {
    path: 'image.repository',
    default: IMAGE_REPOSITORY,
    schema: { type: 'string', minLength: 1 },
    description: 'Registry and name of the image.',
  },
  {
    path: 'image.tag',
    default: '',
    schema: textLike('[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}'),
    description: "Its tag; empty: the chart's appVersion.",
  },
  {
    path: 'image.digest',
    default: '',
    schema: textLike('sha256:[0-9a-f]{64}'),
    description: 'Its digest, `sha256:…`. Where it is given, the tag is of no consequence.',
  },
  {
    path: 'image.pullPolicy',
    default: 'IfNotPresent',
    schema: { enum: ['Always', 'IfNotPresent', 'Never'] },
    description: 'When the kubelet pulls it.',
  },
  {
    path: 'imagePullSecrets',
    default: [],
    schema: OBJECTS,
    description: 'Secrets for a private registry: `[{name: …}]`.',
  },
  {
    path: 'nameOverride',
    default: '',
    schema: NAME,
    description: "Takes the place of the chart's name in names and labels.",
  },
  {
    path: 'fullnameOverride',
    default: '',
    schema: NAME,
    description: 'The name of everything that is made; empty: made from release and chart.',
  },
  {
    path: 'commonLabels',
    default: {},
    schema: TEXTS,
    description: 'Labels on everything that is made.',
  },
  {
    path: 'serviceAccount.create',
    default: true,
    schema: FLAG,
    description: 'Whether the ServiceAccount is made, or is there.',
  },
  {
    path: 'serviceAccount.name',
    default: '',
    schema: DNS_NAME,
    description:
      'Its name; empty: that of the release, or `default` where none is made. EKS Pod Identity knows it by namespace and name.',
  },
  {
    path: 'serviceAccount.annotations',
    default: {},
    schema: TEXTS,
    description: 'For IRSA: `eks.amazonaws.com/role-arn: ARN`. Pod Identity needs none.',
  },
  {
    path: 'rbac.create',
    default: true,
    schema: FLAG,
    description:
      'Whether roles and bindings are made. The rules follow the values: what an option does not need is not granted.',
  },
  {
    path: 'flowSchemas.create',
    default: true,
    schema: FLAG,
    description:
      "Whether FlowSchemas are made that put the controller's Lease and marks above bulk traffic in a busy API server.",
  },
  {
    path: 'priorityClassName',
    default: 'system-cluster-critical',
    schema: TEXT,
    description: 'Its pods are to be there when nodes are short. Empty: none.',
  },
  {
    path: 'podLabels',
    default: {},
    schema: TEXTS,
    description: 'Further labels of the pods.',
  },
  {
    path: 'podAnnotations',
    default: {},
    schema: TEXTS,
    description: 'Annotations of the pods.',
  },
  {
    path: 'podSecurityContext',
    default: {
      runAsNonRoot: true,
      runAsUser: 65_532,
      runAsGroup: 65_532,
      fsGroup: 65_532,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    schema: ANY_OBJECT,
    description: 'Of the pods; with the next one it meets the Pod Security Standard "restricted".',
  },
  {
    path: 'securityContext',
    default: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    schema: ANY_OBJECT,
    description: 'Of the container, which writes no file.',
  },
  {
    path: 'resources',
    default: {
      requests: { cpu: '50m', memory: '160Mi' },
      limits: { memory: '512Mi' },
    },
    schema: ANY_OBJECT,
    description:
      'As measured: docs/install.md says how. No CPU limit: it would slow down the minutes that count.',
  },
  {
    path: 'livenessProbe',
    default: { periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 },
    schema: ANY_OBJECT,
    description: 'Times of the probe of `/healthz`.',
  },
  {
    path: 'readinessProbe',
    default: { periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 3 },
    schema: ANY_OBJECT,
    description: 'Times of the probe of `/readyz`.',
  },
  {
    path: 'terminationGracePeriodSeconds',
    default: 30,
    schema: { type: 'integer', minimum: 5 },
    description: 'It ends within 5 seconds; what is under way is taken up by the next one.',
  },
  {
    path: 'nodeSelector',
    default: { 'kubernetes.io/os': 'linux' },
    schema: TEXTS,
    description: 'Of the pods. Nodes to look after: `controller.nodeSelector`.',
  },
  {
    path: 'tolerations',
    default: [],
    schema: OBJECTS,
    description: 'Of the pods. None of our own taint: it is to leave a node that it empties.',
  },
  {
    path: 'affinity',
    default: {
      nodeAffinity: {
        preferredDuringSchedulingIgnoredDuringExecution: [
          {
            weight: 100,
            preference: {
              matchExpressions: [
                {
                  key: 'node-termination-controller/interruption',
                  operator: 'DoesNotExist',
                },
              ],
            },
          },
        ],
      },
    },
    schema: ANY_OBJECT,
    description: 'Of the pods: away from nodes that are interrupted.',
  },
  {
    path: 'topologySpreadConstraints',
    default: [
      {
        topologyKey: 'kubernetes.io/hostname',
        maxSkew: 1,
        whenUnsatisfiable: 'ScheduleAnyway',
        matchLabelKeys: ['pod-template-hash'],
      },
      {
        topologyKey: 'topology.kubernetes.io/zone',
        maxSkew: 1,
        whenUnsatisfiable: 'ScheduleAnyway',
        matchLabelKeys: ['pod-template-hash'],
      },
    ],
    schema: OBJECTS,
    description: "Over hosts and zones. The pods' `labelSelector` is added to each that has none.",
  },
  {
    path: 'podDisruptionBudget.create',
    default: true,
    schema: FLAG,
    description: 'Whether one of the replicas is kept while nodes are emptied.',
  },
  {
    path: 'podDisruptionBudget.maxUnavailable',
    default: 1,
    schema: { type: ['integer', 'string'], minimum: 1 },
    description: 'How many may be away at once: a number or a percentage.',
  },
  {
    path: 'service.create',
    default: true,
    schema: FLAG,
    description: 'Whether a Service is made for the HTTP port.',
  },
  {
    path: 'service.port',
    default: 8080,
    schema: { type: 'integer', minimum: 1, maximum: 65_535 },
    description: 'Its port.',
  },
  {
    path: 'service.annotations',
    default: {},
    schema: TEXTS,
    description: 'Its annotations.',
  },
  {
    path: 'networkPolicy.create',
    default: true,
    schema: FLAG,
    description:
      'Whether a NetworkPolicy is made: in, the HTTP port alone; out, whatever `networkPolicy.egress` says.',
  },
  {
    path: 'networkPolicy.from',
    default: [],
    schema: OBJECTS,
    description:
      "Who may connect to the HTTP port, as a NetworkPolicy's `from`; empty: everybody. The kubelet's probes always may.",
  },
  {
    path: 'networkPolicy.egress',
    default: [],
    schema: OBJECTS,
    description:
      "Rules of a NetworkPolicy's `egress`; empty: everything. It needs DNS, the API server, SQS, Auto Scaling, where its credentials come from, and the receiver of the webhook.",
  },
  {
    path: 'serviceMonitor.create',
    default: false,
    schema: FLAG,
    description: "Whether a ServiceMonitor of Prometheus' operator is made, for `/metrics`.",
  },
  {
    path: 'serviceMonitor.labels',
    default: {},
    schema: TEXTS,
    description: 'Its labels, by which a Prometheus selects it.',
  },
  {
    path: 'serviceMonitor.interval',
    default: '',
    schema: DURATION,
    description: "How often it is scraped; empty: as Prometheus' own settings say.",
  },
  {
    path: 'serviceMonitor.relabelings',
    default: [],
    schema: OBJECTS,
    description: 'Of its targets.',
  },
  {
    path: 'serviceMonitor.metricRelabelings',
    default: [],
    schema: OBJECTS,
    description: 'Of its metrics.',
  },
  {
    path: 'podMonitor.create',
    default: false,
    schema: FLAG,
    description: 'Whether a PodMonitor is made: instead of the ServiceMonitor, not beside it.',
  },
  {
    path: 'podMonitor.labels',
    default: {},
    schema: TEXTS,
    description: 'Its labels, by which a Prometheus selects it.',
  },
  {
    path: 'podMonitor.interval',
    default: '',
    schema: DURATION,
    description: "How often it is scraped; empty: as Prometheus' own settings say.",
  },
  {
    path: 'podMonitor.relabelings',
    default: [],
    schema: OBJECTS,
    description: 'Of its targets.',
  },
  {
    path: 'podMonitor.metricRelabelings',
    default: [],
    schema: OBJECTS,
    description: 'Of its metrics.',
  },
  {
    path: 'prometheusRule.alerts',
    default: false,
    schema: FLAG,
    description:
      "Whether a PrometheusRule of Prometheus' operator is made with our own alerts (files/alerts.yaml): docs/observability.md says what each means.",
  },
  {
    path: 'prometheusRule.groups',
    default: [],
    schema: OBJECTS,
    description:
      'Further groups of alerting and recording rules; a PrometheusRule is made where there are any.',
  },
  {
    path: 'prometheusRule.labels',
    default: {},
    schema: TEXTS,
    description: 'Its labels.',
  },
  {
    path: 'grafanaDashboards.dashboards',
    default: {},
    schema: TEXTS,
    description: 'Dashboards as JSON, by file name; a ConfigMap is made where there are any.',
  },
  {
    path: 'grafanaDashboards.labels',
    default: { grafana_dashboard: '1' },
    schema: TEXTS,
    description: "Its labels, by which Grafana's sidecar finds it.",
  },
  {
    path: 'webhook.existingSecret',
    default: '',
    schema: DNS_NAME,
    description:
      'A Secret that holds the URL of the webhook, in the place of `controller.webhookUrl`, and more where the next values name it: [docs/webhook.md](../../docs/webhook.md).',
  },
  {
    path: 'webhook.urlKey',
    default: 'url',
    schema: { ...KEY, minLength: 1 },
    description: 'The key of that Secret under which the URL lies.',
  },
  {
    path: 'webhook.headersKey',
    default: '',
    schema: KEY,
    description: 'That of `controller.webhookHeaders`; empty: not in the Secret.',
  },
  {
    path: 'webhook.signingKey',
    default: '',
    schema: KEY,
    description: 'That of `controller.webhookSecret`; empty: not in the Secret.',
  },
  {
    path: 'webhook.integrationKey',
    default: '',
    schema: KEY,
    description: 'That of `controller.webhookIntegrationKey`; empty: not in the Secret.',
  },
  {
    path: 'webhook.template',
    default: '',
    schema: { enum: ['', ...WEBHOOK_TEMPLATES] },
    description:
      "A ready-made template of the chart's own, in the place of `controller.webhookTemplate`.",
  },
  {
    path: 'webhook.templateConfigMap',
    default: '',
    schema: DNS_NAME,
    description: 'A ConfigMap that holds a template of yours, in its place.',
  },
  {
    path: 'webhook.templateKey',
    default: 'template',
    schema: { ...KEY, minLength: 1 },
    description: 'The key of that ConfigMap under which it lies.',
  },
  {
    path: 'extraEnv',
    default: [],
    schema: OBJECTS,
    description:
      'Environment variables beside those of `controller`: `AWS_ENDPOINT_URL_SQS`, say, or one from a Secret.',
  },
  {
    path: 'extraEnvFrom',
    default: [],
    schema: OBJECTS,
    description: 'ConfigMaps and Secrets, all of whose keys become environment variables.',
  },
  {
    path: 'extraVolumes',
    default: [],
    schema: OBJECTS,
    description: 'Further volumes of the pods: the file of `controller.kubeconfig`, say.',
  },
  {
    path: 'extraVolumeMounts',
    default: [],
    schema: OBJECTS,
    description: 'Where the container has them.',
  },
];

type DescribedOption = ReturnType<typeof describeOptions>[number];

/** Of the pod itself: the downward API tells them. */
const FROM_THE_POD = ['podName', 'podNamespace'];

/** The options that a user of the chart chooses. */
export function chartOptions(): readonly DescribedOption[] {
  return describeOptions().filter(({ key }) => !FROM_THE_POD.includes(key));
}

const OWN_DEFAULTS: Readonly<Record<string, string>> = {
  leaseName: 'the name of everything that is made for the release',
};

function optionValue(option: DescribedOption): ChartValue {
  const { key, variable, description, takes } = option;
  const meaning = OWN_DEFAULTS[key] ?? option.defaultMeaning;
  const otherwise =
    option.required || meaning === null || (option.default !== null && !(key in OWN_DEFAULTS))
      ? ''
      : ` Not given: ${meaning}.`;
  return {
    path: `controller.${key}`,
    default: defaultOf(option),
    schema: { ...schemaOf(option), description: `${variable}: ${takes}` },
    description: `${option.required ? '**Required.** ' : ''}${description}${otherwise}`,
  };
}

function defaultOf({ key, type, default: text }: DescribedOption): unknown {
  if (text === null || key in OWN_DEFAULTS) return type === 'integer' ? null : '';
  switch (type) {
    case 'integer':
      return Number(text);
    case 'boolean':
      return text === 'true';
    case 'string':
      return text;
    default:
      return assertNever(type);
  }
}

function schemaOf({ key, type, limits, default: text, pattern = '' }: DescribedOption): Schema {
  if (limits !== undefined && 'choices' in limits) return { enum: limits.choices };
  if (limits !== undefined) {
    // A container's port must be known.
    const minimum = key === 'httpPort' ? 1 : limits.minimum;
    return { type: text === null ? [type, 'null'] : type, ...limits, minimum };
  }
  if (type === 'boolean') return { type };
  // What looks like a number is one to YAML, and to --set.
  const mayBeNumber = ['1', '123456789012'].some((number) => new RegExp(pattern).test(number));
  const mayBeName = new RegExp(pattern).test('name');
  return { type: mayBeNumber && !mayBeName ? ['string', 'integer'] : 'string' };
}

/** All values of the chart, in the order of values.yaml. */
export function chartValues(): readonly ChartValue[] {
  return [...chartOptions().map(optionValue), ...SURROUNDINGS];
}

function assertNever(value: never): never {
  throw new Error(`unexpected: ${String(value)}`);
}
