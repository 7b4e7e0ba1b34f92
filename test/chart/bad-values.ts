type BadValue = Readonly<{
  /** As after `--set`. */
  set: readonly string[];
  /** What Helm says names the value, and how it must be. */
  says: readonly string[];
  /** What the controller would be told; it refuses it, too. Absent: the chart's own affair. */
  environment?: Readonly<Record<string, string>>;
}>;

const QUEUE = 'controller.queueUrl=https://sqs.eu-central-1.amazonaws.com/123456789012/q';

/** Headers beside a webhook that is sound. */
function headers(value: string, ...says: string[]): BadValue {
  const url = 'https://hooks.example.com/services/X';
  const own = `controller.webhookHeaders=${value.replaceAll(/[{},]/g, String.raw`\$&`)}`;
  return {
    set: [QUEUE, `controller.webhookUrl=${url}`, own],
    says,
    environment: { WEBHOOK_URL: url, WEBHOOK_HEADERS: value },
  };
}

/** An option, the value, and what is to be found in the refusal. */
function option(key: string, variable: string, value: string, ...says: string[]): BadValue {
  const own = `controller.${key}=${value.replaceAll(',', String.raw`\,`)}`;
  return {
    set: key === 'queueUrl' ? [own] : [QUEUE, own],
    says: says.length > 0 ? says : [`controller.${key} is ${JSON.stringify(value)}: it takes`],
    environment: { [variable]: value },
  };
}

export const BAD_VALUES: readonly BadValue[] = [
  {
    set: [],
    says: ['controller.queueUrl is missing: it takes the URL of'],
    environment: { QUEUE_URL: '' },
  },
  option('queueUrl', 'QUEUE_URL', 'prod-interruptions'),
  option('queueUrl', 'QUEUE_URL', 'https://sqs.eu-central-1.amazonaws.com/123456789012/q.fifo'),
  option('queueUrl', 'QUEUE_URL', 'arn:aws:sqs:eu-central-1:123456789012:q'),
  {
    set: ['controller.queueUrl=http://localhost:4566/queue/interruptions'],
    says: [
      'controller.awsRegion is missing, and controller.queueUrl does not tell it: it takes the name of an AWS region',
      'controller.eventAccounts is missing, and controller.queueUrl does not tell it',
    ],
    environment: { QUEUE_URL: 'http://localhost:4566/queue/interruptions' },
  },
  option('awsRegion', 'AWS_REGION', 'Frankfurt'),
  option('nodeSelector', 'NODE_SELECTOR', 'pool in (spot'),
  option('nodeSelector', 'NODE_SELECTOR', 'pool=spot,'),
  option(
    'managedNodes',
    'MANAGED_NODES',
    'help',
    '/controller/managedNodes',
    "'assist', 'handle', 'ignore'",
  ),
  option('hooks', 'HOOKS', 'drain'),
  option('eventAccounts', 'EVENT_ACCOUNTS', '12345'),
  option('eventAccounts', 'EVENT_ACCOUNTS', '123456789012,*'),
  option(
    'spotInterruptionAction',
    'SPOT_INTERRUPTION_ACTION',
    'evict',
    '/controller/spotInterruptionAction',
    "'drain', 'cordon'",
  ),
  option('capacityReservationLabel', 'CAPACITY_RESERVATION_LABEL', '-label'),
  option(
    'deadlineMarginSeconds',
    'DEADLINE_MARGIN_SECONDS',
    '61',
    '/controller/deadlineMarginSeconds',
    'got 61, want 60',
  ),
  option(
    'deadlineMarginSeconds',
    'DEADLINE_MARGIN_SECONDS',
    'five',
    '/controller/deadlineMarginSeconds',
    'got string, want integer',
  ),
  option(
    'disruptionBudgets',
    'DISRUPTION_BUDGETS',
    'never',
    '/controller/disruptionBudgets',
    "'until-deadline', 'always'",
  ),
  option(
    'podGraceSeconds',
    'POD_GRACE_SECONDS',
    '0',
    '/controller/podGraceSeconds',
    'got 0, want 1',
  ),
  option('voluntaryDrainLimit', 'VOLUNTARY_DRAIN_LIMIT', '0'),
  option('voluntaryDrainLimit', 'VOLUNTARY_DRAIN_LIMIT', '101%'),
  option(
    'scheduledChangeLeadSeconds',
    'SCHEDULED_CHANGE_LEAD_SECONDS',
    '0',
    '/controller/scheduledChangeLeadSeconds',
    'got 0, want 1',
  ),
  option(
    'terminateHookDrainSeconds',
    'TERMINATE_HOOK_DRAIN_SECONDS',
    '10',
    '/controller/terminateHookDrainSeconds',
    'got 10, want 30',
  ),
  option(
    'afterVoluntaryDrain',
    'AFTER_VOLUNTARY_DRAIN',
    'terminate',
    '/controller/afterVoluntaryDrain',
    "'keep', 'replace'",
  ),
  option('dryRun', 'DRY_RUN', 'maybe', '/controller/dryRun', 'got string, want boolean'),
  option(
    'loadBalancerDrainSeconds',
    'LOAD_BALANCER_DRAIN_SECONDS',
    '3601',
    '/controller/loadBalancerDrainSeconds',
    'got 3,601, want 3,600',
  ),
  option('eventBusName', 'EVENT_BUS_NAME', 'a bus'),
  option(
    'webhookUrl',
    'WEBHOOK_URL',
    'hooks.example.com/SECRET',
    'controller.webhookUrl is given a value that is not shown here: it takes an http or https URL',
  ),
  option(
    'webhookStages',
    'WEBHOOK_STAGES',
    'received,done',
    'controller.webhookStages is "received,done": it takes some of',
  ),
  headers(
    '{"X-Team": "a", "Content-Length": "1", "HOST": "b"}',
    'controller.webhookHeaders has Content-Length in it, which is not for it to set.',
    'controller.webhookHeaders has HOST in it, which is not for it to set.',
  ),
  headers('{"webhook-id": "1"}', 'controller.webhookHeaders has webhook-id in it'),
  headers(
    '{"Content-Type": "text/plain"}',
    'controller.webhookHeaders has Content-Type in it, but without a template',
  ),
  {
    set: [QUEUE, 'webhook.template=slack'],
    says: [
      'webhook.template is given, but neither controller.webhookUrl nor webhook.existingSecret is',
    ],
  },
  {
    set: [QUEUE, 'webhook.existingSecret=chat', 'controller.webhookUrl=https://example.com'],
    says: ['controller.webhookUrl and webhook.existingSecret are both given'],
  },
  {
    set: [
      QUEUE,
      'webhook.existingSecret=chat',
      'webhook.template=teams',
      'webhook.templateConfigMap=x',
    ],
    says: ['webhook.template and webhook.templateConfigMap are given: one template is enough'],
  },
  {
    set: [QUEUE, 'webhook.existingSecret=pager', 'webhook.template=pagerduty'],
    says: [
      'webhook.template is "pagerduty", which has the receiver\'s key in it, but neither controller.webhookIntegrationKey nor webhook.integrationKey is given',
    ],
  },
  {
    set: [
      QUEUE,
      'webhook.existingSecret=chat',
      'webhook.integrationKey=key',
      'webhook.template=slack',
    ],
    says: ['controller.webhookIntegrationKey is given, but the template slack does not use it'],
  },
  {
    set: [QUEUE, 'webhook.existingSecret=chat', 'webhook.integrationKey=key'],
    says: ['controller.webhookIntegrationKey is given, but no template that uses it'],
  },
  { set: [QUEUE, 'webhook.template=irc'], says: ['/webhook/template', "'slack', 'teams'"] },
  {
    set: [QUEUE, 'webhook.signingKey=key'],
    says: [
      'controller.webhookSecret is given, but neither controller.webhookUrl nor webhook.existingSecret is',
    ],
  },
  option('leaseName', 'LEASE_NAME', 'Upper_Case'),
  option('httpPort', 'HTTP_PORT', '65536', '/controller/httpPort', 'got 65,536, want 65,535'),
  option(
    'logLevel',
    'LOG_LEVEL',
    'trace',
    '/controller/logLevel',
    "'debug', 'info', 'warn', 'error'",
  ),
  { set: [QUEUE, 'controller.queueURL=x'], says: ['/controller', "'queueURL' not allowed"] },
  {
    set: [QUEUE, 'controller.leaderElection=false'],
    says: ['replicaCount is 2, but controller.leaderElection is false'],
  },
  {
    set: [QUEUE, 'serviceMonitor.create=true', 'service.create=false'],
    says: ['serviceMonitor.create is true, but service.create is false'],
  },
  { set: [QUEUE, 'image.digest=latest'], says: ['/image/digest', 'sha256:'] },
];
