/** Values as one would give them, all of which the API server must take. */
export const VALUE_SETS: Readonly<Record<string, object>> = {
  'nothing but the queue': {},
  'IAM roles for service accounts': {
    serviceAccount: {
      annotations: { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::123456789012:role/ntc' },
    },
  },
  'a ServiceAccount and roles that are there': {
    serviceAccount: { create: false, name: 'of-the-platform' },
    rbac: { create: false },
  },
  'a private image by digest': {
    image: {
      repository: '123456789012.dkr.ecr.eu-central-1.amazonaws.com/ntc',
      digest: `sha256:${'0123456789abcdef'.repeat(4)}`,
      pullPolicy: 'Always',
    },
    imagePullSecrets: [{ name: 'registry' }],
  },
  'one replica without a Lease': {
    replicaCount: 1,
    controller: { leaderElection: false },
    podDisruptionBudget: { create: false },
  },
  'a rehearsal that changes nothing': { controller: { dryRun: true, logLevel: 'debug' } },
  'every option of the controller': {
    controller: {
      awsRegion: 'eu-west-1',
      nodeSelector: 'pool in (spot, burst),!legacy',
      managedNodes: 'handle',
      hooks: 'workers-*/drain, */terminate',
      eventAccounts: 210987654321,
      spotInterruptionAction: 'cordon',
      rebalanceAction: 'prefer-no-schedule',
      stateChangeAction: 'ignore',
      capacityReservationLabel: 'example.com/reservation',
      deadlineMarginSeconds: 10,
      disruptionBudgets: 'always',
      podGraceSeconds: 86_400,
      voluntaryDrainLimit: 100_000,
      scheduledChangeLeadSeconds: 2_592_000,
      terminateHookDrainSeconds: 3600,
      afterVoluntaryDrain: 'replace',
      excludeFromLoadBalancers: false,
      outOfServiceTaint: true,
      loadBalancerDrainSeconds: 30,
      waitForVolumes: false,
      unknownInstanceGraceSeconds: 0,
      completeUnknownHooks: true,
      leaseName: 'one-for-all',
      httpPort: 9000,
      kubernetesEvents: false,
      eventBusName: 'prod-node-termination',
      webhookUrl: 'https://hooks.example.com/services/T000/B000/XXXX?a=b',
      webhookTemplate: '{"text": "{{ description }}", "key": "{{ integrationKey }}"}',
      webhookIntegrationKey: 'R0123456789',
      webhookHeaders: '{"Authorization": "Bearer abc"}',
      webhookSecret: `whsec_${'abcd'.repeat(10)}`,
      webhookStages: 'drained, failed',
      logFormat: 'text',
    },
  },
  'a webhook whose secrets are in a Secret, with a ready-made template': {
    webhook: {
      existingSecret: 'chat',
      headersKey: 'headers',
      signingKey: 'signing',
      template: 'slack',
    },
  },
  'a webhook whose receiver wants a key in the body': {
    webhook: { existingSecret: 'pager', integrationKey: 'routing-key', template: 'pagerduty' },
    controller: { webhookStages: 'failed' },
  },
  'a webhook with a template from a ConfigMap': {
    webhook: { existingSecret: 'chat', urlKey: 'webhookurl', templateConfigMap: 'messages' },
    controller: { webhookStages: 'failed' },
  },
  'names, labels and places of its own': {
    nameOverride: 'ntc',
    fullnameOverride: 'interruptions',
    commonLabels: { 'example.com/team': 'platform' },
    podLabels: { 'example.com/cost': 'shared' },
    podAnnotations: { 'example.com/note': 'yes' },
    priorityClassName: '',
    nodeSelector: { 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': 'arm64' },
    tolerations: [{ key: 'CriticalAddonsOnly', operator: 'Exists' }],
    affinity: {
      podAntiAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: [
          {
            topologyKey: 'kubernetes.io/hostname',
            labelSelector: { matchLabels: { 'app.kubernetes.io/name': 'ntc' } },
          },
        ],
      },
    },
    topologySpreadConstraints: [
      {
        topologyKey: 'topology.kubernetes.io/zone',
        maxSkew: 1,
        whenUnsatisfiable: 'DoNotSchedule',
        labelSelector: { matchLabels: { app: 'other' } },
      },
    ],
    podDisruptionBudget: { maxUnavailable: '50%' },
    resources: { requests: { cpu: 1 } },
    service: { port: 80, annotations: { 'prometheus.io/scrape': 'true' } },
  },
  'a closed network, files and Secrets': {
    networkPolicy: {
      from: [
        {
          namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } },
        },
      ],
      egress: [
        { ports: [{ port: 53, protocol: 'UDP' }] },
        { to: [{ ipBlock: { cidr: '0.0.0.0/0' } }], ports: [{ port: 443 }] },
      ],
    },
    controller: { kubeconfig: '/etc/kubeconfig/config' },
    extraEnv: [
      { name: 'AWS_ENDPOINT_URL_SQS', value: 'https://vpce-1.sqs.eu-central-1.vpce.amazonaws.com' },
      {
        name: 'HTTPS_PROXY',
        valueFrom: { secretKeyRef: { name: 'proxy', key: 'url' } },
      },
    ],
    extraEnvFrom: [{ configMapRef: { name: 'more', optional: true } }],
    extraVolumes: [{ name: 'kubeconfig', secret: { secretName: 'kubeconfig' } }],
    extraVolumeMounts: [{ name: 'kubeconfig', mountPath: '/etc/kubeconfig', readOnly: true }],
  },
  'dashboards, and no more than must be': {
    grafanaDashboards: { dashboards: { 'nodes.json': '{"title":"nodes"}' } },
    flowSchemas: { create: false },
    networkPolicy: { create: false },
    service: { create: false },
    podDisruptionBudget: { create: false },
    livenessProbe: { initialDelaySeconds: 5 },
    terminationGracePeriodSeconds: 10,
  },
};
