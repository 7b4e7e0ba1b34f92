import { describe, expect, expectTypeOf, test } from 'vitest';
import { describeOptions, parseOptions, regionOfQueue, type Options } from '../../src/options.ts';
import { exampleMessages } from '../../src/report/webhook/message.ts';
import { webhookSettings } from '../../src/report/webhook/settings.ts';

const QUEUE_URL = 'https://sqs.eu-central-1.amazonaws.com/123456789012/interruptions';

const SIGNING_SECRET = `whsec_${Buffer.from('0123456789abcdef0123456789abcdef').toString('base64')}`;

function options(flags: readonly string[], environment: Record<string, string> = { QUEUE_URL }) {
  const parsed = parseOptions(flags, environment);
  if ('faults' in parsed) throw new Error(parsed.faults.join('\n'));
  return parsed.options;
}

function faults(flags: readonly string[], environment: Record<string, string> = { QUEUE_URL }) {
  const parsed = parseOptions(flags, environment);
  return 'faults' in parsed ? parsed.faults : [];
}

describe('the options', () => {
  test('the URL of the queue is all that must be given', () => {
    expect(options([])).toStrictEqual({
      queueUrl: QUEUE_URL,
      awsRegion: 'eu-central-1',
      kubeconfig: undefined,
      nodeSelector: '',
      managedNodes: 'assist',
      hooks: ['*'],
      eventAccounts: ['123456789012'],
      spotInterruptionAction: 'drain',
      capacityReservationAction: 'drain',
      rebalanceAction: 'drain',
      scheduledChangeAction: 'drain',
      stateChangeAction: 'drain',
      terminateHookAction: 'drain',
      dryRun: false,
      afterVoluntaryDrain: 'keep',
      capacityReservationLabel: 'karpenter.k8s.aws/capacity-reservation-id',
      deadlineMarginSeconds: 5,
      disruptionBudgets: 'until-deadline',
      podGraceSeconds: undefined,
      voluntaryDrainLimit: { percent: 10 },
      scheduledChangeLeadSeconds: 3600,
      outOfServiceTaint: false,
      terminateHookDrainSeconds: undefined,
      excludeFromLoadBalancers: true,
      loadBalancerDrainSeconds: 0,
      waitForVolumes: true,
      unknownInstanceGraceSeconds: 60,
      completeUnknownHooks: false,
      leaderElection: true,
      leaseName: 'node-termination-controller',
      httpPort: 8080,
      podNamespace: undefined,
      podName: undefined,
      kubernetesEvents: true,
      eventBusName: undefined,
      webhookUrl: undefined,
      webhookTemplate: undefined,
      webhookTemplateFile: undefined,
      webhookHeaders: undefined,
      webhookIntegrationKey: undefined,
      webhookSecret: undefined,
      webhookStages: ['received', 'drained', 'failed', 'cancelled'],
      logLevel: 'info',
      logFormat: 'json',
    });
  });

  test('their types follow from the table', () => {
    expectTypeOf<Options['queueUrl']>().toEqualTypeOf<string>();
    expectTypeOf<Options['httpPort']>().toEqualTypeOf<number>();
    expectTypeOf<Options['podGraceSeconds']>().toEqualTypeOf<number | undefined>();
    expectTypeOf<Options['waitForVolumes']>().toEqualTypeOf<boolean>();
    expectTypeOf<Options['disruptionBudgets']>().toEqualTypeOf<'until-deadline' | 'always'>();
    expectTypeOf<Options['hooks']>().toEqualTypeOf<readonly string[]>();
    expectTypeOf<Options['kubeconfig']>().toEqualTypeOf<string | undefined>();
    expectTypeOf<Options['logLevel']>().toEqualTypeOf<'debug' | 'info' | 'warn' | 'error'>();
    expectTypeOf<Options['eventAccounts']>().toEqualTypeOf<readonly string[] | '*'>();
    expect(Object.keys(options([]))).toHaveLength(describeOptions().length);
  });

  test.each([
    { flags: ['--rebalance-action', 'cordon'], key: 'rebalanceAction', value: 'cordon' },
    { flags: ['--http-port', '9000'], key: 'httpPort', value: 9000 },
    { flags: ['--http-port=0'], key: 'httpPort', value: 0 },
    { flags: ['--wait-for-volumes=false'], key: 'waitForVolumes', value: false },
    { flags: ['--complete-unknown-hooks'], key: 'completeUnknownHooks', value: true },
    { flags: ['--complete-unknown-hooks', '--http-port=1'], key: 'httpPort', value: 1 },
    { flags: ['--event-accounts', '*'], key: 'eventAccounts', value: '*' },
    {
      flags: ['--event-accounts=111111111111, 222222222222'],
      key: 'eventAccounts',
      value: ['111111111111', '222222222222'],
    },
    { flags: ['--hooks', 'a/b,c/*'], key: 'hooks', value: ['a/b', 'c/*'] },
    { flags: ['--disruption-budgets=always'], key: 'disruptionBudgets', value: 'always' },
    { flags: ['--log-format', 'text'], key: 'logFormat', value: 'text' },
    { flags: ['--kubeconfig', '/etc/a=b'], key: 'kubeconfig', value: '/etc/a=b' },
    { flags: ['--kubeconfig=/etc/a=b'], key: 'kubeconfig', value: '/etc/a=b' },
  ])('$flags', ({ flags, key, value }) => {
    expect(options(flags)).toHaveProperty(key, value);
  });

  test('a flag wins over its variable, even where that one is impossible', () => {
    const environment = { QUEUE_URL, HTTP_PORT: 'none' };
    expect(options(['--http-port', '9000'], environment).httpPort).toBe(9000);
  });

  test('an empty variable counts as not set', () => {
    expect(options([], { QUEUE_URL, HTTP_PORT: '', POD_GRACE_SECONDS: '' })).toMatchObject({
      httpPort: 8080,
      podGraceSeconds: undefined,
    });
  });
});

describe('faults', () => {
  test('all are told at once, each with its option, its value and what is allowed', () => {
    const environment = { HTTP_PORT: '99999', LOG_LEVEL: 'verbose', WAIT_FOR_VOLUMES: 'yes' };
    const flags = ['--queue-ulr', QUEUE_URL, '--pod-grace-seconds=0', '--hooks=drain', 'run'];
    expect(faults(flags, environment)).toEqual([
      'There is no flag "--queue-ulr": did you mean --queue-url?',
      '"run" is not expected here: options are given as --flag VALUE, --flag=VALUE or --flag.',
      '--hooks is "drain", which has "drain" without a group (write "*/drain" for any): it takes patterns GROUP/HOOK, separated by commas, in which * and ? are wildcards.',
      '--pod-grace-seconds is "0": it takes a whole number from 1 to 86400.',
      'WAIT_FOR_VOLUMES is "yes": it takes true or false.',
      'HTTP_PORT is "99999": it takes a whole number from 0 to 65535.',
      'LOG_LEVEL is "verbose": it takes one of debug, info, warn, error.',
      'QUEUE_URL is missing: --queue-url or QUEUE_URL takes the URL of a standard SQS queue, such as https://sqs.eu-central-1.amazonaws.com/123456789012/NAME.',
    ]);
  });

  test.each([
    { flag: '--queue-ulr', meant: '--queue-url' },
    { flag: '--QUEUE_URL', meant: '--queue-url' },
    { flag: '--port', meant: undefined },
    { flag: '--hppt-port', meant: '--http-port' },
    { flag: '--wait-for-volume', meant: '--wait-for-volumes' },
    { flag: '--x', meant: undefined },
    { flag: `--${'x'.repeat(10_000)}`, meant: undefined },
  ])('an unknown flag $flag: did you mean $meant', ({ flag, meant }) => {
    const [fault, ...others] = faults([flag, 'value']);
    expect(others).toEqual([]);
    expect(fault).toMatch(/^There is no flag "--/);
    expect(fault?.match(/did you mean (\S+)\?$/)?.[1]).toBe(meant);
  });

  test.each([
    [['--queue-url']],
    [['--queue-url=']],
    [['--queue-url', '--http-port=1']],
    [['--queue-url', QUEUE_URL, '--queue-url', QUEUE_URL]],
    [['--wait-for-volumes=']],
    [['--wait-for-volumes', 'false']],
    [['--wait-for-volumes=TRUE']],
  ])('%j is one fault', (flags) => {
    expect(faults(flags)).toHaveLength(1);
  });

  test.each(['-1', '1.5', '1e3', ' 5', '0x10', '61', '', '9'.repeat(400), 'NaN', '٣'])(
    'a number is decimal digits within its range, not "%s"',
    (value) => {
      const told = faults([`--deadline-margin-seconds=${value}`]);
      expect(told).toHaveLength(1);
      expect(told[0]).toContain('--deadline-margin-seconds');
      expect(told[0]).toContain('a whole number from 0 to 60');
    },
  );

  test.each([
    ['not a url', 'is not a URL'],
    ['ftp://sqs.eu-central-1.amazonaws.com/123456789012/q', 'is neither http nor https'],
    ['https://sqs.eu-central-1.amazonaws.com/123456789012/q.fifo', 'is a FIFO queue'],
    ['https://sqs.eu-central-1.amazonaws.com/', 'does not end in the name of a queue'],
    ['https://sqs.eu-central-1.amazonaws.com/1/a b', 'does not end in the name of a queue'],
  ])('QUEUE_URL=%s %s', (url, fault) => {
    expect(faults([], { QUEUE_URL: url })).toEqual([expect.stringContaining(`which ${fault}: it`)]);
  });

  test.each(['pool=', 'team in (a, b),!gpu,zone notin (c)', 'kubernetes.io/os=linux'])(
    'NODE_SELECTOR=%s is taken as it is',
    (selector) => {
      expect(options([], { QUEUE_URL, NODE_SELECTOR: selector }).nodeSelector).toBe(selector);
    },
  );

  test.each(['pool=spot,', '!', 'a=b=c', 'team in a'])('NODE_SELECTOR=%s is none', (selector) => {
    expect(faults([], { QUEUE_URL, NODE_SELECTOR: selector })).toEqual([
      expect.stringMatching(
        /^NODE_SELECTOR is ".*", which is none: .*: it takes a label selector, /,
      ),
    ]);
  });

  test.each(['12345678901', '123456789012,', '*,123456789012', 'abc'])(
    'EVENT_ACCOUNTS=%s is refused',
    (accounts) => {
      expect(faults([], { QUEUE_URL, EVENT_ACCOUNTS: accounts })).toEqual([
        expect.stringMatching(/^EVENT_ACCOUNTS is .*12 digits, separated by commas, or \*/),
      ]);
    },
  );

  test('a value is quoted and cut: no newline and no flood reaches the report', () => {
    const [fault] = faults([`--log-level=a\nb\u001b[31m${'x'.repeat(100_000)}`]);
    expect(fault).toMatch(/^--log-level is "a\\nb\\u001b\[31mx+…": it takes one of/);
    expect(fault?.length).toBeLessThan(400);
  });

  test('where the URL of the queue does not tell region or account, both are asked for', () => {
    expect(faults([], { QUEUE_URL: 'http://localhost:4566/queue/interruptions' })).toEqual([
      'AWS_REGION is missing, and QUEUE_URL does not tell it: --aws-region or AWS_REGION takes the name of an AWS region, such as eu-central-1.',
      'EVENT_ACCOUNTS is missing, and QUEUE_URL does not tell it: --event-accounts or EVENT_ACCOUNTS takes account IDs of 12 digits, separated by commas, or * for any account.',
    ]);
  });

  test('a wrong URL of the queue is one fault, not three', () => {
    expect(faults([], { QUEUE_URL: 'nonsense' })).toHaveLength(1);
  });
});

test.each([
  ['https://sqs.us-east-1.amazonaws.com/1/q', 'us-east-1'],
  ['https://sqs.cn-north-1.amazonaws.com.cn/1/q', 'cn-north-1'],
  ['https://sqs.us-gov-west-1.amazonaws.com/1/q', 'us-gov-west-1'],
  ['https://sqs-fips.us-east-2.amazonaws.com/1/q', 'us-east-2'],
  ['https://sqs.eu-west-3.api.aws/1/q', 'eu-west-3'],
  ['https://vpce-0a1b2c-d4e5f6.sqs.eu-north-1.vpce.amazonaws.com/1/q', 'eu-north-1'],
  ['https://sqs.us-iso-east-1.c2s.ic.gov/1/q', 'us-iso-east-1'],
  ['https://sqs.eusc-de-east-1.amazonaws.eu/1/q', 'eusc-de-east-1'],
  ['https://ap-southeast-2.queue.amazonaws.com/1/q', 'ap-southeast-2'],
  ['https://queue.amazonaws.com/1/q', 'us-east-1'],
  ['http://sqs.us-east-1.localhost:4566/000000000000/q', 'us-east-1'],
  ['http://localhost:9324/000000000000/q', undefined],
  ['http://127.0.0.1:9324/000000000000/q', undefined],
  ['http://sqs:9324/000000000000/q', undefined],
])('the region of %s is %s', (url, region) => {
  expect(regionOfQueue(url)).toBe(region);
});

describe('the patterns for whoever checks beforehand', () => {
  const patterns = describeOptions().flatMap(({ variable, pattern }) =>
    pattern === undefined ? [] : [{ variable, pattern }],
  );

  const queue = 'https://sqs.eu-central-1.amazonaws.com/123456789012';
  const texts: readonly string[] = [
    [
      '',
      ' ',
      'a',
      'A',
      '-a',
      'a-',
      'a_b',
      'a.b',
      'a/b',
      'a//b',
      '/a',
      'a/',
      'Upper',
      'x'.repeat(300),
    ],
    ['0', '1', '007', '100', '100%', '101%', '0%', '10 %', '100000', '100001', '1.5', '-1'],
    ['123456789012', '123456789012, 210987654321', '123456789012,', '*', ' * ', '12345678901'],
    ['eu-central-1', 'eu-central', 'us-gov-west-1', 'EU-central-1', 'eu-central-1 '],
    ['*/drain', 'g/*,h/*', 'g/*,,h/*', 'g/*, drain', 'a b/c d', '*,g/h', '?/?', 'g/h/i'],
    [
      'a=b',
      'a==b',
      'a!=b',
      '!a',
      '! a',
      'a in (b, c)',
      'a notin (b)',
      'a in (b',
      'a in ()',
      'a,',
      'a,b=c',
    ],
    ['x.io/a=b', 'x/y/z', 'a = b', 'a=b c', 'a=-b', 'a in (b),!c', `${'a'.repeat(64)}=b`, 'a>1'],
    [
      `${queue}/q`,
      `${queue}/q.fifo`,
      `${queue}/`,
      queue,
      'ftp://a/b',
      'https:///q',
      'https://[::1]:4566/1/q',
    ],
    [
      'http://localhost:4566/queue/q',
      'https://a b/q',
      `${queue}/q?x=y`,
      `${queue}/q q`,
      'http://:80/q',
      'q',
    ],
    ['received', 'drained, failed', 'received,', 'Received', 'drained failed'],
    [SIGNING_SECRET, `${SIGNING_SECRET},${SIGNING_SECRET}`, 'whsec_c2hvcnQ=', `${SIGNING_SECRET}=`],
    [
      '{}',
      '{"X-Routing-Key": "a b"}',
      '{"a":"b","c":"\\"d\\""}',
      '{"a":"b",}',
      '{"a":1}',
      '{"a b":"c"}',
      '{"a":"ä"}',
      '[]',
    ],
    [
      'https://example.com',
      'https://example.com/a/b?c=d',
      'http://[::1]:4566/x',
      'https://u:p@example.com/',
      'https://example.com/a b',
      'https://example.com:99999/',
    ],
  ].flat();

  test.each(patterns)('of $variable match nothing that is refused', ({ variable, pattern }) => {
    const matched = texts.filter((text) => text !== '' && new RegExp(pattern).test(text));
    const refused = matched.filter(
      (text) =>
        'faults' in
        parseOptions([], {
          QUEUE_URL,
          [variable]: text,
          AWS_REGION: 'eu-west-1',
          EVENT_ACCOUNTS: '*',
          ...(variable !== 'WEBHOOK_URL' && { WEBHOOK_URL: 'https://example.com/' }),
          ...(variable === 'WEBHOOK_INTEGRATION_KEY' && {
            WEBHOOK_TEMPLATE: '"{{ integrationKey }}"',
          }),
          ...(variable === 'AWS_REGION' && { AWS_REGION: text }),
          ...(variable === 'EVENT_ACCOUNTS' && { EVENT_ACCOUNTS: text }),
        }),
    );
    expect(matched).not.toEqual([]);
    expect(refused).toEqual([]);
  });

  test.each([
    ['NODE_SELECTOR', 'pool=spot,team in (a, b),!legacy'],
    ['HOOKS', 'workers-*/drain, */terminate'],
    ['EVENT_ACCOUNTS', '123456789012, 210987654321'],
    ['VOLUNTARY_DRAIN_LIMIT', '33%'],
    ['WEBHOOK_URL', 'https://hooks.example.com/services/T000/B000/XXXX?a=b'],
    ['WEBHOOK_URL', 'http://receiver.chat.svc:30080/hook'],
    ['WEBHOOK_HEADERS', '{"Authorization": "Bearer abc", "X-Routing-Key":"0123"}'],
    ['WEBHOOK_SECRET', SIGNING_SECRET],
    ['WEBHOOK_STAGES', 'drained, failed'],
    ['CAPACITY_RESERVATION_LABEL', 'karpenter.k8s.aws/capacity-reservation-id'],
    ['QUEUE_URL', 'https://sqs.us-gov-west-1.amazonaws.com/123456789012/A_queue-1'],
  ])('of %s match %s', (variable, text) => {
    const { pattern = '' } = patterns.find((one) => one.variable === variable) ?? {};
    expect(text).toMatch(new RegExp(pattern));
  });

  test.each([
    `${queue}/q`,
    'https://vpce-0a1b.sqs.eu-west-3.vpce.amazonaws.com/123456789012/q',
    'https://sqs-fips.us-east-2.amazonaws.com/123456789012/q',
    'https://eu-west-1.queue.amazonaws.com/123456789012/q',
    'https://queue.amazonaws.com/123456789012/q',
    'http://localhost:4566/123456789012/q',
    'http://localhost:4566/queue/q',
    'https://sqs.example.com/12345/q',
    'https://sqs.eu-central-1.amazonaws.com.cn/123456789012/deeper/q',
  ])('say of %s what it tells', (url) => {
    const parsed = parseOptions([], { QUEUE_URL: url });
    const missing = 'faults' in parsed ? parsed.faults.map((fault) => fault.split(' ')[0]) : [];
    const untold = describeOptions().flatMap(({ variable, queueUrlPattern }) =>
      queueUrlPattern === undefined || new RegExp(queueUrlPattern).test(url) ? [] : [variable],
    );
    expect(untold).toEqual(missing);
  });
});

describe('the options of the webhook', () => {
  const url = 'https://hooks.example.com/services/T0SECRET/B0SECRET?token=secret';
  const all = {
    QUEUE_URL,
    WEBHOOK_URL: url,
    WEBHOOK_TEMPLATE: '{"text":"{{ description }}","key":"secret"}',
    WEBHOOK_HEADERS: '{"Authorization":"Bearer secret","X-Team":"\\"a\\""}',
    WEBHOOK_SECRET: `${SIGNING_SECRET}, ${SIGNING_SECRET}`,
    WEBHOOK_STAGES: 'failed,received',
  };

  test('are read', () => {
    const given = options([], all);
    expect(given.webhookUrl?.reveal().href).toBe(url);
    expect(given.webhookTemplate?.reveal()).toBe(all.WEBHOOK_TEMPLATE);
    expect(given.webhookHeaders?.reveal()).toEqual({
      Authorization: 'Bearer secret',
      'X-Team': '"a"',
    });
    expect(given.webhookSecret?.reveal()).toEqual([SIGNING_SECRET, SIGNING_SECRET]);
    expect(given.webhookStages).toEqual(['failed', 'received']);
  });

  test('tell no secret to whoever makes them into text', () => {
    const text = JSON.stringify(options([], all));
    expect(text).not.toMatch(/secret(?!")|whsec/i);
    expect(JSON.parse(text)).toMatchObject({
      webhookUrl: 'https://hooks.example.com/…',
      webhookTemplate: '43 characters',
      webhookHeaders: 'Authorization, X-Team',
      webhookSecret: '2 given',
    });
  });

  const keyed = {
    ...all,
    WEBHOOK_TEMPLATE: '{"routing_key":"{{ integrationKey }}"}',
    WEBHOOK_INTEGRATION_KEY: 'R0-"S3CRET"',
  };

  test('put a key into the body that stands neither in the template nor in the log', () => {
    const given = options([], keyed);
    const settings = webhookSettings(given, {});
    if (settings === undefined || 'faults' in settings) throw new Error('no settings');
    const [message] = exampleMessages();
    if (message === undefined) throw new Error('no example');
    expect(JSON.parse(settings.format.write(message).text)).toEqual({
      routing_key: 'R0-"S3CRET"',
    });
    expect(JSON.stringify(given)).not.toContain('S3CRET');
    expect(JSON.parse(JSON.stringify(given))).toMatchObject({ webhookIntegrationKey: 'given' });
  });

  test.each([
    [
      { WEBHOOK_INTEGRATION_KEY: '' },
      'WEBHOOK_TEMPLATE uses integrationKey, but WEBHOOK_INTEGRATION_KEY is not given.',
    ],
    [
      { WEBHOOK_TEMPLATE: all.WEBHOOK_TEMPLATE },
      'WEBHOOK_TEMPLATE does not use integrationKey, but WEBHOOK_INTEGRATION_KEY is given.',
    ],
    [{ WEBHOOK_TEMPLATE: '' }, 'WEBHOOK_INTEGRATION_KEY is given, but no template that uses it.'],
    [
      {
        WEBHOOK_TEMPLATE: '{"routing_key": {{ integrationKey }}}',
        WEBHOOK_INTEGRATION_KEY: 'S3CRET',
      },
      `WEBHOOK_TEMPLATE makes no JSON of the stage received: Unexpected token 'k', "…" is not valid JSON.`,
    ],
    [
      { WEBHOOK_TEMPLATE: '{"routing_key":"{{ integrationKey | raw }}"}' },
      'WEBHOOK_TEMPLATE cannot be filled in with WEBHOOK_INTEGRATION_KEY.',
    ],
    [
      {
        WEBHOOK_TEMPLATE:
          '{% if integrationKey contains "S3" %}{% include integrationKey %}{% endif %}{}',
      },
      'WEBHOOK_TEMPLATE cannot be filled in with WEBHOOK_INTEGRATION_KEY.',
    ],
  ])('%j beside a key is refused: %s', (given, fault) => {
    expect(faults([], { ...keyed, ...given })).toEqual([fault]);
  });

  test('say what is wrong of a template in the same words whatever the key', () => {
    const told = ['S3CRET', '{', '"', '1e', 'tru', '\\'].map((key) =>
      faults([], {
        ...keyed,
        WEBHOOK_TEMPLATE: '{"routing_key": {{ integrationKey }}}',
        WEBHOOK_INTEGRATION_KEY: key,
      }),
    );
    expect(told[0]).toHaveLength(1);
    expect(new Set(told.map((one) => one.join())).size).toBe(1);
  });

  test.each([
    ['WEBHOOK_URL', 'ftp://secret.example.com/', 'which is neither http nor https: it takes'],
    ['WEBHOOK_URL', 'https://secret:secret@example.com/', 'which has a user or a password in it'],
    ['WEBHOOK_INTEGRATION_KEY', 'a secret', 'it takes up to 256 visible characters'],
    ['WEBHOOK_SECRET', 'secret', 'it takes whsec_ and 24 bytes or more in base64'],
    ['WEBHOOK_HEADERS', '{"Authorization":"secret}', 'it takes a JSON object of header names'],
  ])('%s=%s is refused without being shown', (name, value, says) => {
    const told = faults([], { ...all, [name]: value });
    expect(told).toHaveLength(1);
    expect(told[0]).toContain(`${name} is given a value that is not shown here`);
    expect(told[0]).toContain(says);
    expect(told[0]).not.toContain('secret');
  });

  test.each<[Record<string, string>, string]>([
    [
      { WEBHOOK_STAGES: 'received,done' },
      'WEBHOOK_STAGES is "received,done", which has "done" in it: it takes some of received, drained, failed, cancelled, separated by commas.',
    ],
    [
      { WEBHOOK_TEMPLATE: '{"a":"{{ nodeName }}"}' },
      'WEBHOOK_TEMPLATE uses nodeName, which is no field of a message.',
    ],
    [
      { WEBHOOK_TEMPLATE_FILE: '/no/such/file' },
      'WEBHOOK_TEMPLATE and WEBHOOK_TEMPLATE_FILE are both given: one is enough.',
    ],
    [
      { WEBHOOK_TEMPLATE: '', WEBHOOK_TEMPLATE_FILE: '/no/such/file' },
      "WEBHOOK_TEMPLATE_FILE cannot be read: ENOENT: no such file or directory, open '/no/such/file'.",
    ],
    [
      { WEBHOOK_HEADERS: '{"webhook-id":"1"}' },
      'WEBHOOK_HEADERS has webhook-id in it, which is not for it to set.',
    ],
    [
      { WEBHOOK_TEMPLATE: '', WEBHOOK_HEADERS: '{"Content-Type":"text/plain"}' },
      'WEBHOOK_HEADERS has content-type in it, but without WEBHOOK_TEMPLATE a message is a CloudEvent, which says itself what it is.',
    ],
    [{ WEBHOOK_TEMPLATE: ' '.repeat(65_537) }, 'WEBHOOK_TEMPLATE is longer than 65536 characters.'],
    ...['proxy', 'proxy.example.com:3128', 'user:pass@proxy:3128', 'http://user:50%@proxy'].map(
      (HTTPS_PROXY): [Record<string, string>, string] => [
        { HTTPS_PROXY },
        'HTTPS_PROXY is no URL of a proxy (http://HOST:PORT), and the webhook would go by it.',
      ],
    ),
    ...['Expect', 'Proxy-Authorization', 'Upgrade'].map(
      (name): [Record<string, string>, string] => [
        { WEBHOOK_HEADERS: JSON.stringify({ [name]: 'x' }) },
        `WEBHOOK_HEADERS has ${name.toLowerCase()} in it, which is not for it to set.`,
      ],
    ),
    [
      { WEBHOOK_TEMPLATE: '{"key": S3CRET, "node": "{{ node }}"}' },
      `WEBHOOK_TEMPLATE makes no JSON of the stage received: Unexpected token 'S', "…" is not valid JSON.`,
    ],
    [
      { WEBHOOK_TEMPLATE: '{"node": "{{ node ", "key": "S3CRET"}' },
      'WEBHOOK_TEMPLATE cannot be filled in: output "…" not closed, line:1, col:11.',
    ],
  ])('%j is refused: %s', (given, fault) => {
    expect(faults([], { ...all, ...given })).toEqual([fault]);
  });

  test('but for the stages ask for a URL', () => {
    expect(faults([], { ...all, WEBHOOK_URL: '' })).toEqual([
      'WEBHOOK_TEMPLATE is given, but WEBHOOK_URL is not.',
      'WEBHOOK_HEADERS is given, but WEBHOOK_URL is not.',
      'WEBHOOK_SECRET is given, but WEBHOOK_URL is not.',
    ]);
    expect(faults([], { QUEUE_URL, WEBHOOK_STAGES: 'failed' })).toEqual([]);
  });

  test('are checked together with all others, in one report', () => {
    const told = faults([], { ...all, QUEUE_URL: '', LOG_LEVEL: 'loud', WEBHOOK_TEMPLATE: '{' });
    expect(told).toHaveLength(3);
    expect(told.join('\n')).toMatch(/LOG_LEVEL[^]*QUEUE_URL[^]*WEBHOOK_TEMPLATE makes no JSON/);
  });
});
