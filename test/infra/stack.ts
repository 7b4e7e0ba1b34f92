import { Template } from 'aws-cdk-lib/assertions';
import { App, Stack, type AppProps } from 'aws-cdk-lib/core';
import { choicesOfContext } from '../../infra/choices.ts';
import { addNodeTermination } from '../../infra/node-termination.ts';
import { resolveTemplate, type ResolvedTemplate } from './template.ts';

export type Settings = Readonly<Record<string, string>>;

// It takes seconds, and has a test of its own.
const NOT_VALIDATED: AppProps = { builtinCloudFormationValidation: false };

/** The stack of the app in `infra/`, as settings given by context make it. */
export function stackOf(settings: Settings = {}, props: AppProps = NOT_VALIDATED): Stack {
  const read = choicesOfContext({ clusterName: 'blue', ...settings });
  if ('faults' in read) throw new Error(read.faults.join('\n'));
  const stack = new Stack(new App({ analyticsReporting: false, ...props }), 'Stack');
  addNodeTermination(stack, read.choices);
  return stack;
}

export function resolvedStack(settings: Settings = {}): ResolvedTemplate {
  return resolveTemplate(Template.fromStack(stackOf(settings)).toJSON());
}

/** Properties of the resources of a type, by logical ID. */
export function propertiesOf(template: ResolvedTemplate, type: string) {
  return Object.fromEntries(
    Object.entries(template.resources)
      .filter(([, { Type }]) => Type === type)
      .map(([id, { Properties }]) => [id, Properties]),
  );
}
