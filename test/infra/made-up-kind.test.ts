import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { asObject, resolveTemplate, type Json } from './template.ts';

const root = resolve(import.meta.dirname, '../..');

const row = `  {
    kind: 'made-up',
    source: 'aws.ec2',
    detailTypes: ['EC2 Made-up Warning'],
    rulePattern: { colour: ['red'] },
    parser: () => ({ outcome: 'events', events: [], warnings: [] }),
  },
`;
const pattern = {
  source: ['aws.ec2'],
  'detail-type': ['EC2 Made-up Warning'],
  detail: { colour: ['red'] },
};
const event = { source: 'aws.ec2', 'detail-type': 'EC2 Made-up Warning', detail: {} };

describe('a kind that is added to the catalogue, and nowhere else', () => {
  let project: string;

  function run(...args: readonly string[]): string {
    const { status, stdout, stderr } = spawnSync(process.execPath, args, {
      cwd: project,
      encoding: 'utf8',
      env: {
        ...process.env,
        CDK_OUTDIR: 'cdk.out',
        CDK_VALIDATION: 'false',
        CDK_CONTEXT_JSON: '{"clusterName":"blue"}',
      },
    });
    expect(status, stderr).toBe(0);
    return stdout;
  }
  const written = (path: string) => readFileSync(join(project, path), 'utf8');
  const writtenJson = (path: string) => asObject(JSON.parse(written(path)) as Json);
  const rulesOf = (template: Json, parameters: Readonly<Record<string, string>> = {}) =>
    Object.values(resolveTemplate(template, parameters).resources)
      .filter(({ Type: type }) => type === 'AWS::Events::Rule')
      .map(({ Properties: properties }) => properties['EventPattern']);

  beforeAll(() => {
    project = mkdtempSync(join(tmpdir(), 'made-up-kind-'));
    for (const name of ['src', 'infra', 'scripts', 'docs', 'package.json']) {
      cpSync(join(root, name), join(project, name), { recursive: true });
    }
    symlinkSync(join(root, 'node_modules'), join(project, 'node_modules'));
    const catalogue = join(project, 'src/events/catalogue.ts');
    const text = readFileSync(catalogue, 'utf8');
    const end = text.indexOf('\n];\n') + 1;
    if (end === 0) throw new Error('the end of the catalogue is not where it was');
    writeFileSync(catalogue, `${text.slice(0, end)}${row}${text.slice(end)}`);
    run('scripts/generate-docs.ts');
    run('infra/app.ts');
  });

  afterAll(() => rmSync(project, { recursive: true }));

  test('has a rule in the stack', () => {
    expect(rulesOf(writtenJson('cdk.out/NodeTermination.template.json'))).toContainEqual(pattern);
  });

  test('has a rule in the plain template, and a parameter that takes it away', () => {
    const template = writtenJson('deploy/cloudformation.json');
    const parameters = { ClusterName: 'blue' };
    expect(rulesOf(template, parameters)).toContainEqual(pattern);
    expect(rulesOf(template, { ...parameters, MadeUp: 'false' })).not.toContainEqual(pattern);
  });

  test('has a rule for Terraform', () => {
    expect(writtenJson('deploy/terraform/rules.json')['made-up']).toEqual(pattern);
  });

  test('is documented', () => {
    expect(written('docs/aws-reference.md')).toContain(
      '| `made-up` | `aws.ec2` | `EC2 Made-up Warning` | `colour`: `red` |',
    );
  });

  test('is parsed', () => {
    const script = `import { parse } from './src/events/parse.ts';
      console.log(JSON.stringify(parse(${JSON.stringify(JSON.stringify(event))}, { sentAt: 0 })));`;
    // What no row claims is not ours.
    expect(JSON.parse(run('--input-type=module', '--eval', script))).toMatchObject({
      outcome: 'events',
    });
  });
});
