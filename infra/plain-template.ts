import {
  App,
  LegacyStackSynthesizer,
  Stack,
  Validations,
  type AppProps,
  type IStackSynthesizer,
} from 'aws-cdk-lib/core';
import { choicesOfParameters } from './choices.ts';
import { addNodeTermination } from './node-termination.ts';

/** CloudFormation takes no longer template text without a bucket to put it in. */
export const LARGEST_TEMPLATE_BYTES = 51_200;

/** The app of one stack whose choices are parameters; it needs no bootstrapped account. */
export function plainApp(props: AppProps = {}): App {
  const app = new App({ analyticsReporting: false, ...props });
  const stack = new Stack(app, 'NodeTermination', {
    description: 'Queue, rules and permissions of node-termination-controller, for one cluster',
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Its declaration is not exact about optional properties.
    synthesizer: new LegacyStackSynthesizer() as IStackSynthesizer,
  });
  addNodeTermination(stack, choicesOfParameters(stack));
  Validations.of(stack).acknowledge(
    {
      id: 'CloudFormation-Validate::W1001',
      reason: 'Outputs that name a conditional role do so under its own condition, by Fn::If.',
    },
    {
      id: 'CloudFormation-Validate::W1030',
      reason: 'What takes a parameter that may be empty stands under the condition that it is not.',
    },
    {
      id: 'CloudFormation-Validate::W1035',
      reason: 'A hook of an empty entry of the list stands under the condition that it is not.',
    },
    {
      id: 'CloudFormation-Validate::W9052',
      reason:
        'The conditions have too many combinations to try all. The tests compare this template with stacks without any, which are validated.',
    },
  );
  return app;
}

/** The template that needs neither CDK nor Node: what `deploy/cloudformation.json` holds. */
export function plainTemplate(): string {
  // Ten seconds' work, done by the tests.
  const assembly = plainApp({ builtinCloudFormationValidation: false }).synth();
  const template: unknown = assembly.getStackByName('NodeTermination').template;
  return `${print(template, '')}\n`;
}

/** JSON with what is short on one line. */
function print(value: unknown, indent: string): string {
  const line = JSON.stringify(value, null, 1).replace(/\n\s*/g, ' ');
  if (typeof value !== 'object' || value === null || line.length + indent.length <= 100)
    return line;
  const inner = `${indent} `;
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  const entries = Array.isArray(value)
    ? value.map((entry) => print(entry, inner))
    : Object.entries(value).map(([key, entry]) => `${JSON.stringify(key)}: ${print(entry, inner)}`);
  return `${open}\n${entries.map((entry) => inner + entry).join(',\n')}\n${indent}${close}`;
}
