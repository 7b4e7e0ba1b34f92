import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { resolvedStack } from './stack.ts';
import { resolveTemplate, withoutIds, type Json } from './template.ts';

const root = resolve(import.meta.dirname, '../..');
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'synth-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

/** As a person would, on a machine without a network and without anything of AWS. */
function synth(...args: readonly string[]) {
  const nowhere = 'http://127.0.0.1:9';
  const cdk = join(root, 'node_modules/aws-cdk/bin/cdk');
  return spawnSync(process.execPath, [cdk, 'synth', '--quiet', '--output', folder, ...args], {
    cwd: root,
    encoding: 'utf8',
    env: {
      PATH: `${join(root, 'node_modules/.bin')}:${process.env['PATH']}`,
      HOME: folder,
      HTTP_PROXY: nowhere,
      HTTPS_PROXY: nowhere,
      AWS_EC2_METADATA_DISABLED: 'true',
    },
  });
}

test('npx cdk synth makes the stack offline', () => {
  const settings = { clusterName: 'green', 'launch-hook': 'false' };
  const context = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const { status, stderr } = synth(...context);
  expect(status, stderr).toBe(0);
  const template = readFileSync(join(folder, 'NodeTermination.template.json'), 'utf8');
  expect(withoutIds(resolveTemplate(JSON.parse(template) as Json))).toEqual(
    withoutIds(resolvedStack(settings)),
  );
});

test('npx cdk synth tells what is wrong with the settings', () => {
  const { status, stderr } = synth('-c', 'outcomeBus=yes', '-c', 'hookGroup=one');
  expect(stderr).toContain('outcomeBus is "yes": it takes true or false.\n');
  expect(stderr).toContain('There is no setting hookGroup.\n');
  expect(status).not.toBe(0);
});
