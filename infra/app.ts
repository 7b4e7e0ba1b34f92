import { App, Stack } from 'aws-cdk-lib/core';
import { choicesOfContext } from './choices.ts';
import { addNodeTermination } from './node-termination.ts';

/** The app of `cdk.json`: one stack for one cluster. Settings are context: `-c clusterName=prod`. */
const app = new App();
const context: unknown = app.node.getAllContext();
const read = choicesOfContext(context);
if ('faults' in read) {
  for (const fault of read.faults) console.error(fault);
  process.exit(2);
}
const clusterName = read.choices.text('clusterName');
const stack = new Stack(app, 'NodeTermination', {
  stackName: `node-termination-${clusterName.replaceAll('_', '-')}`,
  description: 'Queue, rules and permissions of node-termination-controller',
});
addNodeTermination(stack, read.choices);
