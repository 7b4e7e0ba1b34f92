import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildConstructs } from '../../scripts/build-constructs.ts';
import { asObject, resolveTemplate, type Json } from './template.ts';

const root = resolve(import.meta.dirname, '../..');

describe('the documented app, with the package of constructs installed', () => {
  let project: string;

  function run(...args: readonly string[]) {
    return spawnSync(process.execPath, args, {
      cwd: project,
      encoding: 'utf8',
      env: { ...process.env, CDK_OUTDIR: 'cdk.out', CDK_VALIDATION: 'false' },
    });
  }

  beforeAll(async () => {
    project = mkdtempSync(join(tmpdir(), 'constructs-'));
    mkdirSync(join(project, 'node_modules'));
    for (const name of ['aws-cdk-lib', 'constructs']) {
      symlinkSync(join(root, 'node_modules', name), join(project, 'node_modules', name));
    }
    await buildConstructs(join(project, 'node_modules/node-termination-constructs'));
    cpSync(join(root, 'docs/examples/cdk-app.ts'), join(project, 'app.ts'));
    writeFileSync(join(project, 'package.json'), '{ "type": "module" }\n');
  });

  afterAll(() => rmSync(project, { recursive: true }));

  function compile(file: string) {
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const options = '--noEmit --strict --module nodenext --target es2022 --types --skipLibCheck';
    return run(tsc, ...options.split(' '), file);
  }

  test('compiles', () => {
    const { status, stdout } = compile('app.ts');
    expect(stdout).toBe('');
    expect(status).toBe(0);
  });

  test('is refused by the compiler with a kind that there is not, or another queue', () => {
    const app = readFileSync(join(project, 'app.ts'), 'utf8');
    const wrong = app.replace('launch-hook', 'lunch-hook').replace('queue,', 'queue: stack,');
    writeFileSync(join(project, 'wrong.ts'), wrong);
    expect(compile('wrong.ts').stdout.match(/error TS\d+/g)).toHaveLength(2);
  });

  test('makes what it says', () => {
    const { status, stderr } = run('app.ts');
    expect(status, stderr).toBe(0);
    const template = readFileSync(join(project, 'cdk.out/Cluster.template.json'), 'utf8');
    const { resources } = resolveTemplate(asObject(JSON.parse(template) as Json));
    const types = Object.groupBy(Object.values(resources), ({ Type: type }) => type);
    expect(types['AWS::SQS::Queue']?.map(({ Properties: { QueueName: name } }) => name)).toEqual([
      'shop-interruptions-dead-letters',
      'shop-interruptions',
    ]);
    expect(types['AWS::Events::Rule']).toHaveLength(7);
    expect(types['AWS::AutoScaling::LifecycleHook']).toMatchObject([
      { Properties: { AutoScalingGroupName: 'shop-spot-workers', HeartbeatTimeout: 600 } },
    ]);
    expect(types['AWS::IAM::Role']).toHaveLength(1);
    expect(types['AWS::EKS::PodIdentityAssociation']).toMatchObject([
      { Properties: { ClusterName: 'shop', Namespace: 'kube-system' } },
    ]);
  });
});
