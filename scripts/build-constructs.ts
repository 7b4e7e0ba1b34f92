import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { z } from 'zod';

const root = resolve(import.meta.dirname, '..');
const modules = ['interruption-queue', 'controller-access', 'terminate-hooks'];
const packageJson = z.object({
  version: z.string(),
  license: z.string(),
  devDependencies: z.object({ 'aws-cdk-lib': z.string(), constructs: z.string() }),
});

/** Makes the package of constructs for other CDK apps: JavaScript and declarations. */
export async function buildConstructs(folder: string): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  await build({
    entryPoints: modules.map((name) => join(root, `infra/${name}.ts`)),
    outdir: folder,
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    external: ['aws-cdk-lib', 'constructs'],
    logLevel: 'error',
  });
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const project = join(root, 'scripts/constructs.tsconfig.json');
  const types = join(folder, 'types');
  execFileSync(process.execPath, [tsc, '--project', project, '--outDir', types], {
    stdio: 'inherit',
  });
  const { version, license, devDependencies } = packageJson.parse(
    JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')),
  );
  const exported = modules.map((name) => [
    `./${name}`,
    { types: `./types/infra/${name}.d.ts`, default: `./${name}.js` },
  ]);
  const description = {
    name: 'node-termination-constructs',
    version,
    license,
    description: 'Queue, rules and permissions of node-termination-controller, for CDK apps',
    type: 'module',
    exports: Object.fromEntries(exported) as unknown,
    peerDependencies: {
      'aws-cdk-lib': `^${devDependencies['aws-cdk-lib']}`,
      constructs: `^${devDependencies.constructs}`,
    },
  };
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(description, null, 2)}\n`);
}

if (import.meta.main) await buildConstructs(join(root, 'dist/constructs'));
