import { Document, isMap, Scalar, visit } from 'yaml';
import packageJson from '../../package.json' with { type: 'json' };
import { escapeCell } from '../../src/options.ts';
import { KUBERNETES_PERMISSIONS, type KubernetesPermission } from './permissions.ts';
import { chartOptions, chartValues, type ChartValue, type Schema } from './values.ts';

const HOME = 'https://github.com/node-termination-controller/node-termination-controller';

const MADE_BY = 'Made by `npm run docs`: change the tables in scripts/chart and src/options.ts.';

/** The parts of the chart that are made from tables, by path. */
export function chartFiles(): Readonly<Record<string, string>> {
  return {
    'deploy/chart/Chart.yaml': chartYaml(),
    'deploy/chart/values.yaml': valuesYaml(),
    'deploy/chart/values.schema.json': json(schema()),
    'deploy/chart/README.md': readme(),
    'deploy/chart/files/options.json': json(optionRows()),
    'deploy/chart/templates/_rules.tpl': rulesTemplate(),
  };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

function chartYaml(): string {
  const { name, version, description } = packageJson;
  return `# ${MADE_BY}
${new Document({
  apiVersion: 'v2',
  name,
  description,
  type: 'application',
  version,
  appVersion: version,
  // FlowSchemas of v1.
  kubeVersion: '>=1.29.0-0',
  home: HOME,
  sources: [HOME],
  keywords: ['aws', 'ec2', 'spot', 'drain', 'node-termination', 'auto-scaling'],
}).toString({ lineWidth: 0 })}`;
}

type Tree = { [name: string]: Tree | ChartValue };

function isValue(node: Tree | ChartValue): node is ChartValue {
  return typeof node['path'] === 'string';
}

function treeOf(values: readonly ChartValue[]): Tree {
  const root: Tree = {};
  for (const value of values) {
    const names = value.path.split('.');
    const last = names.pop() ?? '';
    let at = root;
    for (const name of names) {
      const next = (at[name] ??= {});
      if (isValue(next)) throw new Error(`${value.path} lies within ${next.path}`);
      at = next;
    }
    at[last] = value;
  }
  return root;
}

function valuesYaml(): string {
  const tree = treeOf(chartValues());
  const plain = (node: Tree | ChartValue): unknown =>
    isValue(node)
      ? node.default
      : Object.fromEntries(Object.entries(node).map(([name, child]) => [name, plain(child)]));
  const document = new Document(plain(tree));
  for (const { path, description } of chartValues()) {
    const names = path.split('.');
    const parent = names.length === 1 ? document.contents : document.getIn(names.slice(0, -1));
    if (!isMap(parent)) throw new Error(`${path} is in no map`);
    const pair = parent.items.find(({ key }) => String(key) === names.at(-1));
    if (pair === undefined) throw new Error(`${path} is not there`);
    const key = new Scalar(names.at(-1));
    key.commentBefore = wrapped(description);
    pair.key = key;
  }
  // Empty ones read better on one line, and texts that might be taken for something else are quoted.
  visit(document, {
    Collection(_, node) {
      if (node.items.length === 0) node.flow = true;
    },
  });
  return `# ${MADE_BY}
# All values with what they take: README.md.

${document.toString({ lineWidth: 0, singleQuote: true }).replaceAll(/\n( *#)/g, '\n$1')}`;
}

const WIDTH = 110;

function wrapped(text: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + word.length > WIDTH) {
      lines.push(line);
      line = '';
    }
    line += ` ${word}`;
  }
  return [...lines, line].join('\n');
}

function schema(): Schema {
  const { properties, ...root } = objectSchema(treeOf(chartValues()));
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: `Values of the chart ${packageJson.name}`,
    ...root,
    properties: {
      ...properties,
      global: { type: 'object', description: 'Of a chart that has this one as a dependency.' },
    },
  };
}

function objectSchema(tree: Tree) {
  const entries = Object.entries(tree).map(([name, node]): [string, Schema] => [
    name,
    isValue(node)
      ? { description: node.description, ...node.schema, default: node.default }
      : objectSchema(node),
  ]);
  return { type: 'object', additionalProperties: false, properties: Object.fromEntries(entries) };
}

function optionRows() {
  return chartOptions().map(
    ({ key, variable, required, takes, pattern, queueUrlPattern, secret, reservedNames = [] }) => ({
      key,
      variable,
      takes,
      required,
      secret: secret === true,
      pattern: pattern ?? '',
      queueUrlPattern: queueUrlPattern ?? '',
      reservedNames,
    }),
  );
}

function readme(): string {
  const rows = chartValues().map(({ path, default: value, schema: takes, description }) => [
    `\`${path}\``,
    `\`${JSON.stringify(value)}\``,
    takesWords(takes),
    description,
  ]);
  const table = [['Value', 'Default', 'Takes', 'Meaning'], Array(4).fill('---'), ...rows];
  return `# Helm chart of ${packageJson.name}

${packageJson.description}

From nothing to a first interruption: [docs/install.md](../../docs/install.md). What it may do in the cluster, and why: [docs/security.md](../../docs/security.md#kubernetes-permissions).

## Values

Whatever the controller would refuse, \`helm install\` refuses: types, choices and limits by \`values.schema.json\`, texts by a sentence that says what the value takes. Those of \`controller\` are the [options](../../docs/options.md), each passed on as its environment variable; an empty one is not passed on.

${table.map((cells) => `| ${cells.map(escapeCell).join(' | ')} |`).join('\n')}

## What uninstalling leaves

Marks on nodes that were interrupted: they are true until the machine is gone. [docs/install.md](../../docs/install.md#uninstall) says how to take them away.
`;
}

function takesWords({ description, type, enum: choices, minimum, maximum, items }: Schema): string {
  if (typeof description === 'string' && description.includes(': ')) {
    const words = description.slice(description.indexOf(': ') + 2);
    return `${words.slice(0, 1).toUpperCase()}${words.slice(1)}.`;
  }
  if (Array.isArray(choices)) return `One of ${choices.join(', ')}.`;
  if (items !== undefined) return 'A list.';
  const types = [type].flat().filter((one) => typeof one === 'string' && one !== 'null');
  const range =
    typeof minimum !== 'number'
      ? ''
      : typeof maximum === 'number'
        ? ` from ${minimum} to ${maximum}`
        : ` of ${minimum} or more`;
  return `${types.map((one) => TYPE_WORDS[String(one)] ?? String(one)).join(' or ')}${range}.`.replace(
    /^./,
    (letter) => letter.toUpperCase(),
  );
}

const TYPE_WORDS: Readonly<Record<string, string>> = {
  string: 'a text',
  boolean: 'true or false',
  integer: 'a whole number',
  object: 'an object',
};

function rulesTemplate(): string {
  const within = (place: KubernetesPermission['within']): string =>
    KUBERNETES_PERMISSIONS.filter((permission) => permission.within === place)
      .map(ruleTemplate)
      .join('\n');
  const define = (name: string, place: KubernetesPermission['within']): string =>
    `{{- define "node-termination-controller.${name}" -}}\n${within(place)}\n{{- end -}}\n`;
  return [
    `{{/* ${MADE_BY} */}}\n`,
    define('clusterRules', 'cluster'),
    define('nodeLeaseRules', 'kube-node-lease'),
    define('ownRules', 'own namespace'),
  ].join('\n');
}

function ruleTemplate(permission: KubernetesPermission): string {
  const { apiGroup, resource, object, onlyWith = {}, verbs } = permission;
  const conditions = Object.entries(onlyWith).map(([key, wanted]) =>
    wanted ? `.Values.controller.${key}` : `(not .Values.controller.${key})`,
  );
  const rule = [
    ...Object.entries(verbs).map(([verb, { call }]) => `# ${verb}: ${call}`),
    `- apiGroups: [${apiGroup === '' ? '""' : apiGroup}]`,
    `  resources: [${resource}]`,
    ...(object === 'lease'
      ? ['  resourceNames: [{{ include "node-termination-controller.leaseName" . }}]']
      : []),
    `  verbs: [${Object.keys(verbs).join(', ')}]`,
  ].join('\n');
  return conditions.length === 0
    ? rule
    : `{{- if and ${conditions.join(' ')} }}\n${rule}\n{{- end }}`;
}

const BEGIN = '<!-- Made by `npm run docs` from scripts/chart/permissions.ts: begin -->';
const END = '<!-- end -->';

/** The document with its table of permissions made anew, between the lines that enclose it. */
export function withPermissions(document: string): string {
  const from = document.indexOf(BEGIN);
  const to = document.indexOf(END, from);
  if (from < 0 || to < 0) throw new Error(`the document has no lines "${BEGIN}" and "${END}"`);
  return `${document.slice(0, from)}${BEGIN}\n\n${permissionTable()}\n\n${document.slice(to)}`;
}

function permissionTable(): string {
  const rows = KUBERNETES_PERMISSIONS.flatMap(
    ({ within, apiGroup, resource, object, onlyWith, verbs }) =>
      Object.entries(verbs).map(([verb, { call, behaviour }]) => {
        const group = apiGroup === '' ? '' : ` (${apiGroup})`;
        const which = object === undefined ? '' : ', the one named by LEASE_NAME';
        return [
          `\`${verb}\` ${resource}${group}${which}`,
          within === 'cluster' ? 'the cluster' : within,
          conditionWords(onlyWith),
          call,
          behaviour,
        ];
      }),
  );
  const table = [
    ['Permission', 'Within', 'Granted', 'The call that needs it', 'The test that fails without it'],
    Array(5).fill('---'),
    ...rows,
  ];
  return table.map((cells) => `| ${cells.map(escapeCell).join(' | ')} |`).join('\n');
}

function conditionWords(onlyWith: KubernetesPermission['onlyWith'] = {}): string {
  const conditions = Object.entries(onlyWith).map(
    ([key, wanted]) => `${wanted ? 'with' : 'without'} ${variableOf(key)}`,
  );
  return conditions.length === 0 ? 'always' : conditions.join(', ');
}

function variableOf(key: string): string {
  const option = chartOptions().find((one) => one.key === key);
  if (option === undefined) throw new Error(`there is no option ${key}`);
  return option.variable;
}
