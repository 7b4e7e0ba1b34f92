// An app of your own: two groups of workers, of which only the spot one gets a hook.
import { App, CfnOutput, Stack } from 'aws-cdk-lib';
import { ControllerAccess } from 'node-termination-constructs/controller-access';
import { InterruptionQueue } from 'node-termination-constructs/interruption-queue';
import { TerminateHooks } from 'node-termination-constructs/terminate-hooks';

const stack = new Stack(new App(), 'Cluster');

const queue = new InterruptionQueue(stack, 'Interruptions', {
  queueName: 'shop-interruptions',
  // Nothing waits for its launch here.
  kinds: { 'launch-hook': false },
});

new TerminateHooks(stack, 'Hooks', {
  queue,
  groups: [{ name: 'shop-spot-workers' }],
  timeoutSeconds: 600,
});

const access = new ControllerAccess(stack, 'Access', {
  queue,
  identity: { type: 'pod-identity', clusterName: 'shop' },
  serviceAccount: { namespace: 'kube-system', name: 'node-termination-controller' },
  groupNames: ['shop-*'],
});

new CfnOutput(stack, 'QueueUrl', { value: queue.queue.queueUrl });
new CfnOutput(stack, 'RoleArn', { value: access.roleArn });
