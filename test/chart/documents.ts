import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { findComponent } from '../control-plane/binaries.ts';
import { chartFolder } from '../harness/helm.ts';
import type { WorldCluster } from '../harness/world.ts';

const root = resolve(import.meta.dirname, '../..');

const CHART = 'oci://ghcr.io/node-termination-controller/charts/node-termination-controller';

/** What of docs/install.md cannot be done here, and what is done instead; all else is, word for word. */
const SUBSTITUTIONS: readonly Readonly<{ text: string; by: string; because: string }>[] = [
  {
    text: 'git clone https://github.com/node-termination-controller/node-termination-controller.git && cd node-termination-controller',
    by: 'test -f package.json',
    because: 'this is a clone',
  },
  { text: 'npm ci', by: 'npm ls --depth=0', because: 'it has been done: these tests run' },
  {
    text: 'npx cdk deploy',
    by: 'npx cdk synth --quiet --output "$HOME/cdk.out"',
    because: 'there is no AWS',
  },
  { text: CHART, by: chartFolder, because: 'this version is not published yet' },
  { text: 'rollout status', by: 'get', because: 'nothing runs pods' },
  {
    text: 'aws autoscaling terminate-instance-in-auto-scaling-group',
    by: 'echo',
    because: 'there is no AWS: the test sends the message that would come of it',
  },
  {
    text: 'logs --selector app.kubernetes.io/name=node-termination-controller --tail -1',
    by: 'get pods --selector app.kubernetes.io/name=node-termination-controller',
    because: 'nothing runs pods: the test reads the log of the process that stands for one',
  },
];

/** The text of a section of docs/install.md, by its heading. */
export async function sectionOf(heading: string): Promise<string> {
  const document = await readFile(join(root, 'docs/install.md'), 'utf8');
  const [, after] = document.split(`\n${heading}\n`);
  if (after === undefined) throw new Error(`docs/install.md has no ${heading}`);
  return after.split(/^#{1,3} /m)[0] ?? '';
}

export function blocksOf(section: string, language: 'sh' | 'yaml'): readonly string[] {
  return [...section.matchAll(new RegExp(`^\`\`\`${language}\\n([^\`]*)^\`\`\``, 'gm'))].map(
    ([, block = '']) => block,
  );
}

/** One for each line, with those that a backslash continues. */
export function commandsOf(block: string): readonly string[] {
  return block
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line !== '');
}

export function substituted(command: string): string {
  return SUBSTITUTIONS.reduce((text, one) => text.replaceAll(one.text, one.by), command);
}

/** As a person would type it, at the root of the project or in `cwd`; rejects if it fails. */
export async function runAsTyped(
  { folder, adminKubeconfig }: Pick<WorldCluster, 'folder' | 'adminKubeconfig'>,
  script: string,
  cwd = root,
): Promise<string> {
  const bin = join(folder, 'bin');
  await mkdir(bin, { recursive: true });
  for (const tool of ['kubectl', 'helm'] as const) {
    const path = join(bin, tool);
    if (!existsSync(path)) await symlink(findComponent(tool) ?? '', path);
  }
  return new Promise((done, reject) => {
    const env = {
      PATH: [bin, join(root, 'node_modules/.bin'), process.env['PATH']].join(':'),
      HOME: folder,
      KUBECONFIG: adminKubeconfig,
      AWS_EC2_METADATA_DISABLED: 'true',
    };
    const args = ['--norc', '-euo', 'pipefail', '-c', script];
    execFile('bash', args, { cwd, env, timeout: 120_000 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${script}:\n${stderr}`, { cause: error }));
      else done(stdout);
    });
  });
}
