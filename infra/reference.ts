import { pascalCase, RULES } from './event-patterns.ts';
import { PERMISSIONS } from './permissions.ts';
import { SETTINGS, settingOf, takenBy } from './settings.ts';

/** Settings, rules and permissions as a Markdown document. */
export function referenceMarkdown(): string {
  const settings = SETTINGS.map(({ name }) => {
    const setting = settingOf(name);
    const { otherwise, description } = setting;
    return [
      code(name),
      code(pascalCase(name)),
      otherwise === undefined ? '**required**' : otherwise === '' ? 'empty' : code(otherwise),
      sentence(takenBy(setting)),
      description,
    ];
  });
  const rules = RULES.map(({ kind, pattern }) => [
    code(kind),
    pattern.source.map(code).join(', '),
    pattern['detail-type'].map(code).join(', '),
    Object.entries(pattern.detail ?? {})
      .map(([field, values]) => `${code(field)}: ${values.map(code).join(', ')}`)
      .join('; ') || 'any',
  ]);
  const permissions = PERMISSIONS.flatMap(({ sid, option, on, actions }) =>
    Object.entries(actions).map(([action, call]) => [
      code(sid),
      code(action),
      ON[on],
      option === undefined ? 'always' : `with ${option}`,
      call,
    ]),
  );
  return `# AWS: settings, rules, permissions

What these are for, and how to deploy them: [aws.md](aws.md).

## Settings

A setting is context of the CDK app, \`-c name=value\`, and a parameter of the CloudFormation template.

${table(['Context', 'Parameter', 'Default', 'Takes', 'Meaning'], settings)}

## Rules

One EventBridge rule for each kind of event; an event is sent to the queue if it has the source, the detail-type, and in its \`detail\` the values named here.

${table(['Kind', 'Source', 'Detail-type', 'Values'], rules)}

## Permissions

What the controller may do at AWS, and which of its calls needs it.

${table(['Statement', 'Action', 'On', 'When', 'For'], permissions)}
`;
}

const ON = {
  queue: 'the queue',
  groups: 'the Auto Scaling groups of `groupNames`',
  bus: 'the bus for outcomes',
  everything: 'everything',
} as const;

function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;
}

function code(text: string): string {
  return `\`${text}\``;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');
}
