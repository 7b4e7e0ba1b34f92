import { parseArgs } from 'node:util';
import { RULES } from './event-patterns.ts';
import { policyOf, type Feature } from './permissions.ts';
import { plainTemplate } from './plain-template.ts';

const USAGE = `Prints what is deployed at AWS, as JSON:
  rules     the pattern of each EventBridge rule, by kind of event
  policy    the controller's IAM policy
              --queue-arn ARN       of the queue; \${queue_arn} unless given
              --group-arn ARN       of Auto Scaling groups, may be repeated; \${group_arn} unless given
              --replace-instances   for AFTER_VOLUNTARY_DRAIN=replace
              --outcome-bus-arn ARN for EVENT_BUS_NAME
  template  the CloudFormation template`;

/** `spot-interruption` → its pattern, and so on. */
export function rulesJson(): string {
  return json(Object.fromEntries(RULES.map(({ kind, pattern }) => [kind, pattern])));
}

/** Placeholders are as Terraform's `templatefile` takes them. */
export function policyJson(given: {
  readonly 'queue-arn'?: string;
  readonly 'group-arn'?: readonly string[];
  readonly 'replace-instances'?: boolean;
  readonly 'outcome-bus-arn'?: string;
}): string {
  const bus = given['outcome-bus-arn'];
  const features = new Set<Feature>();
  if (given['replace-instances'] === true) features.add('replace-instances');
  if (bus !== undefined) features.add('outcome-bus');
  const resources = {
    queue: given['queue-arn'] ?? '${queue_arn}',
    groups: given['group-arn'] ?? ['${group_arn}'],
    ...(bus === undefined ? {} : { bus }),
  };
  return json(policyOf(resources, features));
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function print(args: readonly string[]): string | undefined {
  const [what = '', ...flags] = args;
  if (what === 'policy') {
    const options = {
      'queue-arn': { type: 'string' },
      'group-arn': { type: 'string', multiple: true },
      'replace-instances': { type: 'boolean' },
      'outcome-bus-arn': { type: 'string' },
    } as const;
    return policyJson(parseArgs({ args: flags, options }).values);
  }
  if (flags.length > 0) return undefined;
  if (what === 'rules') return rulesJson();
  return what === 'template' ? plainTemplate() : undefined;
}

if (import.meta.main) {
  const text = print(process.argv.slice(2));
  if (text === undefined) {
    console.error(USAGE);
    process.exitCode = 2;
  } else {
    process.stdout.write(text);
  }
}
