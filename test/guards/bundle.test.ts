import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { bundle } from '../../scripts/build.ts';
import { ProjectCopy } from './project-copy.ts';

let project: ProjectCopy;
let elsewhere: string;

beforeEach(() => {
  project = new ProjectCopy({
    'src/main.ts': `
      import { KubeConfig } from '@kubernetes/client-node';
      import { SQSClient } from '@aws-sdk/client-sqs';
      import winston from 'winston';
      import { z } from 'zod';
      const made = [new KubeConfig(), new SQSClient({ region: 'eu-west-1' }), winston.createLogger(), z.string()];
      console.log(made.length, process.argv.slice(2).join());
    `,
    'src/broken.ts': "import { x } from 'no-such-package';\nconsole.log(x);\n",
  });
  elsewhere = mkdtempSync(join(tmpdir(), 'bundle-'));
});

afterEach(() => {
  project.remove();
  rmSync(elsewhere, { recursive: true });
});

test('one file runs by itself, away from the project and its node_modules', async () => {
  const outfile = join(elsewhere, 'main.js');
  await bundle(join(project.folder, 'src/main.ts'), outfile);
  const { stdout, stderr, status } = spawnSync(process.execPath, [outfile, 'run', '--x'], {
    cwd: elsewhere,
    encoding: 'utf8',
  });
  expect({ stdout, stderr, status }).toEqual({ stdout: '4 run,--x\n', stderr: '', status: 0 });
});

test('the file is executable as it is', async () => {
  const outfile = join(elsewhere, 'main.js');
  await bundle(join(project.folder, 'src/main.ts'), outfile);
  expect(spawnSync(outfile, { encoding: 'utf8' })).toMatchObject({ stdout: '4 \n', status: 0 });
});

test('a package that is not there fails the build', async () => {
  const built = bundle(join(project.folder, 'src/broken.ts'), join(elsewhere, 'main.js'));
  await expect(built).rejects.toThrow('no-such-package');
});
