import { CfnQueue } from 'aws-cdk-lib/aws-sqs';
import { App, Stack, Validations, type AppProps } from 'aws-cdk-lib/core';
import { AwsSolutionsChecks } from 'cdk-nag';
import { expect, test } from 'vitest';
import { plainApp } from '../../infra/plain-template.ts';
import { everything } from './settings.ts';
import { stackOf, type Settings } from './stack.ts';

const strict: AppProps = {
  context: {
    '@aws-cdk/core:validateAgainstDefaultRules': true,
    '@aws-cdk/core:strictCfnValidateErrors': true,
  },
};

/** Throws, with what was found, if anything is found that is not acknowledged. */
function synthesize(app: App): string[] {
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
  return app.synth().stacks.map(({ id }) => id);
}

test.each<[string, Settings]>([
  ['as it is by default', {}],
  ['with all that can be chosen', everything],
  ['with hooks by EventBridge, and EKS Pod Identity', { hookGroups: 'one,two' }],
])('cdk-nag and cloudformation-validate find nothing in the stack %s', (_, settings) => {
  expect(synthesize(appOf(stackOf(settings, strict)))).toEqual(['Stack']);
});

test('cloudformation-validate finds nothing in the plain template', () => {
  expect(plainApp(strict).synth().stacks).toHaveLength(1);
});

test.each([
  ['cdk-nag', 'a queue without a dead letter queue', {}, 'AwsSolutions-SQS3'],
  ['cloudformation-validate', 'an impossible delay', { delaySeconds: 5000 }, 'DelaySeconds'],
])('%s would find %s', (_tool, _fault, properties, finding) => {
  const app = new App({ analyticsReporting: false, ...strict });
  new CfnQueue(new Stack(app, 'Stack'), 'Faulty', properties);
  expect(() => synthesize(app)).toThrow(finding);
});

function appOf(stack: Stack): App {
  const { root } = stack.node;
  if (!(root instanceof App)) throw new Error('a stack without an app');
  return root;
}
