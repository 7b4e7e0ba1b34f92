import type { Settings } from './stack.ts';

/** Every setting, otherwise than by default. */
export const everything: Settings = {
  clusterName: 'green_1',
  namespace: 'infra',
  serviceAccountName: 'ntc',
  oidcProviderArn:
    'arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/5A5A',
  groupNames: 'green-*',
  hookGroups: 'one,two,three,four,five,six,seven,eight,nine,ten',
  hookTimeoutSeconds: '900',
  hooksStraightToQueue: 'true',
  replaceInstances: 'true',
  outcomeBus: 'true',
  alarmTopicArn: 'arn:aws:sns:eu-central-1:123456789012:alarms',
  senderTopicArn: 'arn:aws:sns:eu-central-1:123456789012:fan-out',
  senderPrincipalArn: 'arn:aws:iam::123456789012:role/drill',
};
