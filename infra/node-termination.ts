import { CfnEventBus } from 'aws-cdk-lib/aws-events';
import { CfnOutput, Fn, type Stack } from 'aws-cdk-lib/core';
import type { Choices } from './choices.ts';
import { ControllerAccess, type ControllerIdentity } from './controller-access.ts';
import { RULES } from './event-patterns.ts';
import { InterruptionQueue } from './interruption-queue.ts';
import { bothOf, guard, notOf, type Switch } from './switch.ts';
import { TerminateHooks } from './terminate-hooks.ts';

/** All that one cluster's controller needs on the side of AWS, as chosen. */
export function addNodeTermination(stack: Stack, choices: Choices): void {
  const clusterName = choices.text('clusterName');
  const queue = new InterruptionQueue(stack, 'Interruptions', {
    queueName: `${clusterName}-interruptions`,
    kinds: Object.fromEntries(RULES.map(({ kind }) => [kind, choices.flag(kind)])),
    alarmTopic: { arn: choices.text('alarmTopicArn'), on: choices.given('alarmTopicArn') },
  });
  queue.allowTopic(choices.text('senderTopicArn'), choices.given('senderTopicArn'));
  queue.allowPrincipal(choices.text('senderPrincipalArn'), choices.given('senderPrincipalArn'));

  const groups = choices.list('hookGroups');
  const [anyGroup] = groups;
  new TerminateHooks(stack, 'TerminateHooks', {
    queue,
    groups,
    timeoutSeconds: choices.number('hookTimeoutSeconds'),
    straightToQueue: bothOf(
      stack,
      'SomeHookStraightToQueue',
      choices.flag('hooksStraightToQueue'),
      anyGroup?.on ?? false,
    ),
  });

  const outcomeBus = addOutcomeBus(stack, clusterName, choices.flag('outcomeBus'));
  const access = (id: string, identity: ControllerIdentity, on: Switch): string | undefined => {
    if (on === false) return undefined;
    const made = new ControllerAccess(stack, id, {
      queue,
      identity,
      on,
      serviceAccount: {
        namespace: choices.text('namespace'),
        name: choices.text('serviceAccountName'),
      },
      groupNames: [choices.text('groupNames')],
      replaceInstances: choices.flag('replaceInstances'),
      ...(outcomeBus === undefined ? {} : { outcomeBus }),
    });
    return made.roleArn;
  };
  const irsa = choices.given('oidcProviderArn');
  const irsaRoleArn = access(
    'IrsaAccess',
    { type: 'irsa', oidcProviderArn: choices.text('oidcProviderArn') },
    irsa,
  );
  const podIdentityRoleArn = access(
    'PodIdentityAccess',
    { type: 'pod-identity', clusterName },
    notOf(stack, 'IsPodIdentity', irsa),
  );

  const output = (id: string, description: string, value: string) =>
    new CfnOutput(stack, id, { description, value });
  output('QueueUrl', 'For QUEUE_URL', queue.queue.queueUrl);
  output('RoleArn', 'Of the controller', either(irsa, irsaRoleArn, podIdentityRoleArn));
  output(
    'HelmInstall',
    'Installs the controller from a clone of its repository',
    helmInstall(choices, queue.queue.queueUrl, { irsa, irsaRoleArn, outcomeBus }),
  );
}

function addOutcomeBus(stack: Stack, clusterName: string, on: Switch) {
  if (on === false) return undefined;
  const name = `${clusterName}-node-termination`;
  const bus = new CfnEventBus(stack, 'Outcomes', { name });
  guard(on, bus);
  return { name, arn: bus.attrArn, on };
}

type Extras = Readonly<{
  irsa: Switch;
  irsaRoleArn: string | undefined;
  outcomeBus: Readonly<{ name: string; on: Switch }> | undefined;
}>;

function helmInstall(
  choices: Choices,
  queueUrl: string,
  { irsa, irsaRoleArn, outcomeBus }: Extras,
): string {
  const set = (key: string, value: string) => ` --set '${key}=${value}'`;
  return [
    'helm install node-termination-controller deploy/chart',
    ` --namespace ${choices.text('namespace')} --create-namespace`,
    set('serviceAccount.name', choices.text('serviceAccountName')),
    set('controller.queueUrl', queueUrl),
    textIf(
      irsa,
      set(String.raw`serviceAccount.annotations.eks\.amazonaws\.com/role-arn`, irsaRoleArn ?? ''),
    ),
    textIf(choices.flag('replaceInstances'), set('controller.afterVoluntaryDrain', 'replace')),
    textIf(outcomeBus?.on ?? false, set('controller.eventBusName', outcomeBus?.name ?? '')),
  ].join('');
}

function textIf(on: Switch, text: string): string {
  return typeof on === 'boolean'
    ? on
      ? text
      : ''
    : Fn.conditionIf(on.logicalId, text, '').toString();
}

function either(on: Switch, one: string | undefined, other: string | undefined): string {
  if (typeof on !== 'boolean' && one !== undefined && other !== undefined) {
    return Fn.conditionIf(on.logicalId, one, other).toString();
  }
  const value = on === false ? other : one;
  if (value === undefined) throw new Error('the controller has no role');
  return value;
}
