import { CfnPodIdentityAssociation } from 'aws-cdk-lib/aws-eks';
import { CfnRole, Role, type IRole } from 'aws-cdk-lib/aws-iam';
import { Fn, Stack, Tokenization, Validations } from 'aws-cdk-lib/core';
import { Construct } from 'constructs';
import type { InterruptionQueue } from './interruption-queue.ts';
import { PERMISSIONS, statementOf, type Feature } from './permissions.ts';
import { guard, onlyIf, type Switch } from './switch.ts';

/** How the controller's pod comes by the role. */
export type ControllerIdentity =
  /** By EKS Pod Identity: the add-on `eks-pod-identity-agent` runs in the cluster. */
  | Readonly<{ type: 'pod-identity'; clusterName: string }>
  /** IAM roles for service accounts: the cluster's OIDC provider is known to IAM. */
  | Readonly<{ type: 'irsa'; oidcProviderArn: string }>;

export interface ControllerAccessProps {
  readonly queue: InterruptionQueue;
  readonly identity: ControllerIdentity;
  readonly serviceAccount: Readonly<{ namespace: string; name: string }>;
  /** Names of the Auto Scaling groups whose hooks are completed, `*` and `?` allowed. All unless given. */
  readonly groupNames?: readonly string[];
  /** For AFTER_VOLUNTARY_DRAIN=replace. Off unless given. */
  readonly replaceInstances?: Switch;
  /** For EVENT_BUS_NAME; none unless given. */
  readonly outcomeBus?: Readonly<{ arn: string; on?: Switch }>;
  /** Whether any of this is there. */
  readonly on?: Exclude<Switch, false>;
}

/** The IAM role of the controller, which only its service account can take, and which can do no more than it does. */
export class ControllerAccess extends Construct {
  readonly roleArn: string;
  /** To let the controller do more, in an app of your own. */
  readonly role: IRole;

  constructor(scope: Construct, id: string, props: ControllerAccessProps) {
    super(scope, id);
    const { identity, serviceAccount, groupNames = ['*'], on = true } = props;
    // The * in the middle is a UUID that nobody knows beforehand.
    const groupArns = groupNames.map((name) =>
      Stack.of(this).formatArn({
        service: 'autoscaling',
        resource: `autoScalingGroup:*:autoScalingGroupName/${name}`,
      }),
    );
    const role = new CfnRole(this, 'Role', {
      description: 'node-termination-controller: reads interruptions, completes lifecycle hooks',
      assumeRolePolicyDocument: trustOf(identity, serviceAccount),
      policies: [
        {
          policyName: 'node-termination-controller',
          policyDocument: { Version: '2012-10-17', Statement: statements(props, groupArns) },
        },
      ],
    });
    guard(on, role);
    acknowledgeWildcards(role, groupArns);
    if (identity.type === 'pod-identity') {
      const association = new CfnPodIdentityAssociation(this, 'Association', {
        clusterName: identity.clusterName,
        namespace: serviceAccount.namespace,
        serviceAccount: serviceAccount.name,
        roleArn: role.attrArn,
      });
      guard(on, association);
    }
    this.roleArn = role.attrArn;
    this.role = Role.fromRoleArn(this, 'Imported', role.attrArn);
  }
}

function statements(props: ControllerAccessProps, groups: readonly string[]) {
  const { queue, replaceInstances = false, outcomeBus } = props;
  const features: Readonly<Record<Feature, Switch>> = {
    'replace-instances': replaceInstances,
    'outcome-bus': outcomeBus === undefined ? false : (outcomeBus.on ?? true),
  };
  const resources = {
    queue: queue.queue.queueArn,
    groups,
    ...(outcomeBus === undefined ? {} : { bus: outcomeBus.arn }),
  };
  return PERMISSIONS.flatMap((permission) => {
    const on = permission.feature === undefined ? true : features[permission.feature];
    return on === false ? [] : [onlyIf(on, statementOf(permission, resources))];
  });
}

/** For cdk-nag, which wants each of them by the words of its own finding. */
function acknowledgeWildcards(role: CfnRole, groupArns: readonly string[]): void {
  const acknowledge = (resource: string, reason: string): void =>
    Validations.of(role).acknowledge({ id: `AwsSolutions-IAM5[Resource::${resource}]`, reason });
  acknowledge('*', 'DescribeLifecycleHooks knows no narrower resource.');
  for (const arn of groupArns) {
    acknowledge(
      withNamedTokens(Stack.of(role), arn),
      "A group's ARN has a UUID in it that is not known beforehand; whoever deploys may narrow the names.",
    );
  }
}

/** As cdk-nag writes it: `arn:<AWS::Partition>:…`. */
function withNamedTokens(stack: Stack, text: string): string {
  const named: unknown = Tokenization.reverseString(text)
    .mapTokens({ mapToken: (token) => `<${refOf(stack.resolve(token))}>` })
    .join({ join: (left: unknown, right: unknown) => `${String(left)}${String(right)}` });
  return String(named);
}

function refOf(resolved: unknown): string {
  return typeof resolved === 'object' && resolved !== null && 'Ref' in resolved
    ? String(resolved.Ref)
    : '';
}

function trustOf(
  identity: ControllerIdentity,
  { namespace, name }: Readonly<{ namespace: string; name: string }>,
): unknown {
  if (identity.type === 'pod-identity') {
    return {
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Allow',
          Principal: { Service: 'pods.eks.amazonaws.com' },
          Action: ['sts:AssumeRole', 'sts:TagSession'],
          // Whoever may make associations in this account could hand the role to any pod otherwise.
          Condition: {
            StringEquals: {
              'aws:RequestTag/eks-cluster-name': identity.clusterName,
              'aws:RequestTag/kubernetes-namespace': namespace,
              'aws:RequestTag/kubernetes-service-account': name,
            },
          },
        },
      ],
    };
  }
  const issuer = Fn.select(1, Fn.split(':oidc-provider/', identity.oidcProviderArn));
  // As text: the issuer is part of keys, and CloudFormation has no functions in keys.
  return Fn.sub(
    JSON.stringify({
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Allow',
          Principal: { Federated: '${Provider}' },
          Action: 'sts:AssumeRoleWithWebIdentity',
          Condition: {
            StringEquals: {
              '${Issuer}:aud': 'sts.amazonaws.com',
              '${Issuer}:sub': 'system:serviceaccount:${Namespace}:${ServiceAccount}',
            },
          },
        },
      ],
    }),
    {
      Provider: identity.oidcProviderArn,
      Issuer: issuer,
      Namespace: namespace,
      ServiceAccount: name,
    },
  );
}
