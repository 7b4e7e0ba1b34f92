import { describe, expect, test } from 'vitest';
import { choicesOfContext } from '../../infra/choices.ts';
import { VISIBILITY_SECONDS } from '../../src/intake/hand.ts';
import { decide, type Policy, type Request } from '../stand-ins/iam.ts';
import { everything } from './settings.ts';
import { propertiesOf, resolvedStack, type Settings } from './stack.ts';
import { ACCOUNT, REGION, type Json, type ResolvedTemplate } from './template.ts';

const plain = resolvedStack();
const full = resolvedStack(everything);

/** The only resource of a type whose logical ID matches. */
function only(template: ResolvedTemplate, type: string, id: RegExp = /./) {
  const found = Object.entries(propertiesOf(template, type)).filter(([name]) => id.test(name));
  expect(found.map(([name]) => name)).toHaveLength(1);
  return { id: found[0]![0], properties: found[0]![1] };
}

const queueOf = (template: ResolvedTemplate) => only(template, 'AWS::SQS::Queue', /Queue/);
const deadLettersOf = (template: ResolvedTemplate) =>
  only(template, 'AWS::SQS::Queue', /DeadLetters/);

function inlinePolicyOf(role: Readonly<Record<string, Json>>): Policy {
  const policies = role['Policies'] as unknown as { PolicyDocument: Policy }[];
  expect(policies).toHaveLength(1);
  return policies[0]!.PolicyDocument;
}

describe('the queue', () => {
  test('keeps messages encrypted for days, and hides them as long as the controller does', () => {
    expect(queueOf(plain).properties).toMatchObject({
      QueueName: 'blue-interruptions',
      SqsManagedSseEnabled: true,
      MessageRetentionPeriod: 4 * 86_400,
      VisibilityTimeout: VISIBILITY_SECONDS,
    });
  });

  test('gives up a message after many receives, to a queue that takes from it alone', () => {
    const { id, properties } = deadLettersOf(plain);
    expect(queueOf(plain).properties['RedrivePolicy']).toEqual({
      deadLetterTargetArn: `«${id}.Arn»`,
      maxReceiveCount: 100,
    });
    expect(properties).toMatchObject({
      SqsManagedSseEnabled: true,
      MessageRetentionPeriod: 14 * 86_400,
      RedriveAllowPolicy: {
        redrivePermission: 'byQueue',
        sourceQueueArns: [`arn:aws:sqs:${REGION}:${ACCOUNT}:blue-interruptions`],
      },
    });
  });

  test('is watched: old messages, and any dead letter', () => {
    const alarms = Object.values(propertiesOf(full, 'AWS::CloudWatch::Alarm'));
    expect(
      alarms.map(({ MetricName, Dimensions, Threshold, AlarmActions }) => ({
        MetricName,
        Dimensions,
        Threshold,
        AlarmActions,
      })),
    ).toEqual([
      {
        MetricName: 'ApproximateAgeOfOldestMessage',
        Dimensions: [{ Name: 'QueueName', Value: `«${queueOf(full).id}.QueueName»` }],
        Threshold: 600,
        AlarmActions: [everything['alarmTopicArn']],
      },
      {
        MetricName: 'ApproximateNumberOfMessagesVisible',
        Dimensions: [{ Name: 'QueueName', Value: `«${deadLettersOf(full).id}.QueueName»` }],
        Threshold: 0,
        AlarmActions: [everything['alarmTopicArn']],
      },
    ]);
  });
});

describe('the queue policy', () => {
  const ruleArns = (template: ResolvedTemplate) =>
    Object.keys(propertiesOf(template, 'AWS::Events::Rule')).map((id) => `«${id}.Arn»`);
  const administrator: Policy = {
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }],
  };

  function said(
    template: ResolvedTemplate,
    request: Partial<Request>,
    own: readonly Policy[] = [],
  ): string {
    const { properties } = only(template, 'AWS::SQS::QueuePolicy', /QueuePolicy/);
    const policy = properties['PolicyDocument'] as unknown as Policy;
    return decide([policy, ...own], {
      action: 'sqs:SendMessage',
      resource: `«${queueOf(template).id}.Arn»`,
      ...request,
      context: { 'aws:SecureTransport': 'true', ...request.context },
    });
  }
  const fromRule = (arn: string): Partial<Request> => ({
    service: 'events.amazonaws.com',
    context: { 'aws:SourceArn': arn },
  });
  const fromPrincipal = (arn: string): Partial<Request> => ({
    context: { 'aws:PrincipalArn': arn },
  });

  test('lets each rule of the stack send', () => {
    expect(ruleArns(plain)).toHaveLength(8);
    for (const arn of ruleArns(plain)) expect(said(plain, fromRule(arn))).toBe('allowed');
  });

  test('lets no rule send without TLS', () => {
    const [arn = ''] = ruleArns(plain);
    const context = { 'aws:SourceArn': arn, 'aws:SecureTransport': 'false' };
    expect(said(plain, { ...fromRule(arn), context })).toBe('denied');
  });

  test.each<[string, Partial<Request>]>([
    ['another rule', fromRule(`arn:aws:events:${REGION}:${ACCOUNT}:rule/other`)],
    [
      'another service',
      { service: 's3.amazonaws.com', context: { 'aws:SourceArn': 'arn:aws:s3:::x' } },
    ],
    [
      'a topic',
      { service: 'sns.amazonaws.com', context: { 'aws:SourceArn': everything['senderTopicArn']! } },
    ],
    ['an administrator', fromPrincipal(`arn:aws:iam::${ACCOUNT}:role/administrator`)],
    ['the account itself', fromPrincipal(`arn:aws:iam::${ACCOUNT}:root`)],
    [
      'the role that may drill where it was named',
      fromPrincipal(everything['senderPrincipalArn']!),
    ],
    ['nobody in particular', {}],
  ])('denies %s, even if their own policies allow everything', (_, request) => {
    expect(said(plain, request, [administrator])).toBe('denied');
  });

  test('lets the topic, the principal and the role of the hooks send that were named', () => {
    const { id, properties } = only(full, 'AWS::IAM::Role', /SenderRole/);
    const own = inlinePolicyOf(properties);
    const topic = { 'aws:SourceArn': everything['senderTopicArn']! };
    expect(said(full, { service: 'sns.amazonaws.com', context: topic })).toBe('allowed');
    expect(said(full, fromPrincipal(`«${id}.Arn»`), [own])).toBe('allowed');
    expect(said(full, fromPrincipal(everything['senderPrincipalArn']!), [administrator])).toBe(
      'allowed',
    );
    expect(said(full, fromPrincipal(everything['senderPrincipalArn']!))).toBe('denied');
    expect(said(full, fromPrincipal(`arn:aws:iam::${ACCOUNT}:role/other`), [administrator])).toBe(
      'denied',
    );
  });
});

describe('the rules', () => {
  test('send to the queue, unchanged', () => {
    for (const properties of Object.values(propertiesOf(plain, 'AWS::Events::Rule'))) {
      expect(properties['Targets']).toEqual([{ Id: 'queue', Arn: `«${queueOf(plain).id}.Arn»` }]);
    }
  });

  test('are left out kind by kind', () => {
    const some = resolvedStack({ 'launch-hook': 'false', 'terminate-hook': 'false' });
    const sources = Object.values(propertiesOf(some, 'AWS::Events::Rule'));
    expect(sources).toHaveLength(6);
    expect(JSON.stringify(sources)).not.toContain('aws.autoscaling');
  });
});

describe("the controller's role", () => {
  const trustOf = (template: ResolvedTemplate) =>
    only(template, 'AWS::IAM::Role', /Access/).properties['AssumeRolePolicyDocument'];
  const policyOf = (template: ResolvedTemplate) =>
    inlinePolicyOf(only(template, 'AWS::IAM::Role', /Access/).properties);

  test('is taken by EKS Pod Identity, for this service account of this cluster alone', () => {
    expect(trustOf(plain)).toEqual({
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Allow',
          Principal: { Service: 'pods.eks.amazonaws.com' },
          Action: ['sts:AssumeRole', 'sts:TagSession'],
          Condition: {
            StringEquals: {
              'aws:RequestTag/eks-cluster-name': 'blue',
              'aws:RequestTag/kubernetes-namespace': 'node-termination-controller',
              'aws:RequestTag/kubernetes-service-account': 'node-termination-controller',
            },
          },
        },
      ],
    });
    expect(only(plain, 'AWS::EKS::PodIdentityAssociation').properties).toEqual({
      ClusterName: 'blue',
      Namespace: 'node-termination-controller',
      ServiceAccount: 'node-termination-controller',
      RoleArn: `«${only(plain, 'AWS::IAM::Role').id}.Arn»`,
    });
  });

  test('is taken by IRSA where there is an OIDC provider, for this service account alone', () => {
    const issuer = 'oidc.eks.eu-central-1.amazonaws.com/id/5A5A';
    expect(trustOf(full)).toEqual({
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Allow',
          Principal: { Federated: everything['oidcProviderArn'] },
          Action: 'sts:AssumeRoleWithWebIdentity',
          Condition: {
            StringEquals: {
              [`${issuer}:aud`]: 'sts.amazonaws.com',
              [`${issuer}:sub`]: 'system:serviceaccount:infra:ntc',
            },
          },
        },
      ],
    });
    expect(propertiesOf(full, 'AWS::EKS::PodIdentityAssociation')).toEqual({});
  });

  const groupArn = (name: string) =>
    `arn:aws:autoscaling:${REGION}:${ACCOUNT}:autoScalingGroup:5a0f:autoScalingGroupName/${name}`;

  test.each([
    ['autoscaling:CompleteLifecycleAction', groupArn('green-1'), 'allowed', 'allowed'],
    ['autoscaling:CompleteLifecycleAction', groupArn('blue-1'), 'allowed', 'denied'],
    ['autoscaling:DescribeLifecycleHooks', '*', 'allowed', 'allowed'],
    ['autoscaling:TerminateInstanceInAutoScalingGroup', groupArn('green-1'), 'denied', 'allowed'],
    ['autoscaling:SetDesiredCapacity', groupArn('green-1'), 'denied', 'denied'],
    ['sqs:SendMessage', `«QUEUE.Arn»`, 'denied', 'denied'],
    ['sqs:ReceiveMessage', `«QUEUE.Arn»`, 'allowed', 'allowed'],
    ['sqs:ReceiveMessage', 'arn:aws:sqs:eu-central-1:123456789012:other', 'denied', 'denied'],
    ['ec2:TerminateInstances', '*', 'denied', 'denied'],
    ['events:PutEvents', '«Outcomes.Arn»', 'denied', 'allowed'],
    [
      'events:PutEvents',
      'arn:aws:events:eu-central-1:123456789012:event-bus/default',
      'denied',
      'denied',
    ],
  ])('%s on %s: %s by default, %s with all options', (action, resource, byDefault, withAll) => {
    const on = (template: ResolvedTemplate) =>
      decide([policyOf(template)], {
        action,
        resource: resource.replace('QUEUE', queueOf(template).id),
      });
    expect([on(plain), on(full)]).toEqual([byDefault, withAll]);
  });
});

describe('terminate hooks', () => {
  test('hold the instances of the named groups, and let them go at the end of their time', () => {
    const hooks = propertiesOf(
      resolvedStack({ hookGroups: 'one,two' }),
      'AWS::AutoScaling::LifecycleHook',
    );
    expect(Object.values(hooks)).toEqual(
      ['one', 'two'].map((name) => ({
        AutoScalingGroupName: name,
        LifecycleHookName: 'node-termination-controller',
        LifecycleTransition: 'autoscaling:EC2_INSTANCE_TERMINATING',
        HeartbeatTimeout: 300,
        DefaultResult: 'CONTINUE',
      })),
    );
  });

  test('notify the queue themselves where they are told to, once its policy stands', () => {
    const { id: roleId } = only(full, 'AWS::IAM::Role', /SenderRole/);
    const { id: policyId } = only(full, 'AWS::SQS::QueuePolicy', /QueuePolicy/);
    const hooks = Object.values(full.resources).filter(({ Type }) =>
      Type.endsWith('LifecycleHook'),
    );
    expect(hooks).toHaveLength(10);
    for (const { Properties, DependsOn } of hooks) {
      expect(Properties).toMatchObject({
        HeartbeatTimeout: 900,
        NotificationTargetARN: `«${queueOf(full).id}.Arn»`,
        RoleARN: `«${roleId}.Arn»`,
      });
      expect(DependsOn).toEqual([policyId]);
    }
  });

  test('are none where no group is named', () => {
    expect(propertiesOf(plain, 'AWS::AutoScaling::LifecycleHook')).toEqual({});
    expect(Object.keys(propertiesOf(plain, 'AWS::IAM::Role'))).toHaveLength(1);
  });
});

describe('the outputs', () => {
  test('name the queue, the role and the next step', () => {
    const queue = `«${queueOf(plain).id}»`;
    expect(plain.outputs).toEqual({
      QueueUrl: queue,
      RoleArn: `«${only(plain, 'AWS::IAM::Role').id}.Arn»`,
      HelmInstall:
        'helm install node-termination-controller deploy/chart --namespace node-termination-controller --create-namespace' +
        ` --set 'serviceAccount.name=node-termination-controller' --set 'controller.queueUrl=${queue}'`,
    });
  });

  test('hand the chart what else was chosen', () => {
    const role = `«${only(full, 'AWS::IAM::Role', /Access/).id}.Arn»`;
    expect(full.outputs['HelmInstall']).toContain(
      ' --namespace infra --create-namespace' +
        ` --set 'serviceAccount.name=ntc' --set 'controller.queueUrl=«${queueOf(full).id}»'` +
        String.raw` --set 'serviceAccount.annotations.eks\.amazonaws\.com/role-arn=${role}'` +
        " --set 'controller.afterVoluntaryDrain=replace'" +
        " --set 'controller.eventBusName=green_1-node-termination'",
    );
  });
});

describe('settings by context', () => {
  function faultsOf(context: Readonly<Record<string, Json>>): readonly string[] {
    const read = choicesOfContext(context);
    return 'faults' in read ? read.faults : [];
  }

  test('are taken from the command line and from cdk.json', () => {
    const context = { clusterName: 'blue', hookTimeoutSeconds: 60, outcomeBus: true };
    expect(faultsOf({ ...context, hookGroups: ['one', 'two'], '@aws-cdk/core:x': true })).toEqual(
      [],
    );
  });

  test('are refused together, each with what it takes', () => {
    expect(
      faultsOf({
        namespace: 'Not A Name',
        'launch-hook': 'yes',
        hookTimeoutSeconds: 10,
        hookGroups: 'a,,b',
        oidcProviderArn: 'oidc.eks',
        spotInterruption: 'false',
      }),
    ).toEqual([
      'clusterName is missing: it takes the name of a cluster: at most 53 letters, digits, - and _.',
      'namespace is "Not A Name": it takes the name of a Kubernetes object.',
      'oidcProviderArn is "oidc.eks": it takes the ARN of IAM\'s OIDC provider of the cluster.',
      'launch-hook is "yes": it takes true or false.',
      'hookGroups is "a,,b": it takes at most 10 names of Auto Scaling groups, separated by commas without blanks.',
      'hookTimeoutSeconds is 10: it takes a whole number from 30 to 7200.',
      'There is no setting spotInterruption.',
    ]);
  });

  test('leave at least one kind of event on', () => {
    const kinds = Object.keys(propertiesOf(plain, 'AWS::Events::Rule')).length;
    const off: Settings = Object.fromEntries(
      [
        'spot-interruption',
        'rebalance-recommendation',
        'state-change',
        'terminate-hook',
        'launch-hook',
        'scheduled-change',
        'capacity-reservation-interruption',
        'capacity-block-expiry',
      ].map((kind) => [kind, 'false']),
    );
    expect(Object.keys(off)).toHaveLength(kinds);
    expect(faultsOf({ clusterName: 'blue', ...off })).toEqual([
      'All kinds of events are switched off.',
    ]);
  });
});
