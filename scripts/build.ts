import { mkdir, rename, writeFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { dirname } from 'node:path';
import { build, formatMessages } from 'esbuild';

// CommonJS dependencies in an ES module bundle call require() for Node's own modules.
const banner = `#!/usr/bin/env node
import { createRequire as createBundleRequire } from 'node:module';
if (Number.parseInt(process.versions.node) < 24) {
  console.error('node-termination-controller needs Node 24 or later; this is ' + process.version);
  process.exit(1);
}
const require = createBundleRequire(import.meta.url);`;

// Loaded by ws and debug if they happen to be there, and done without otherwise.
const optional = new Set(['bufferutil', 'utf-8-validate', 'supports-color']);

/** Bundles the entry file and all it needs into one executable file for Node 24. */
export async function bundle(entry: string, outfile: string): Promise<void> {
  const { warnings, metafile, outputFiles } = await build({
    entryPoints: [entry],
    outfile,
    write: false,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    mainFields: ['module', 'main'],
    minifyWhitespace: true,
    minifySyntax: true,
    // Stack traces in somebody's log: names as written (keepNames would name each closure again
    // whenever one is made), and no source line of a megabyte.
    lineLimit: 160,
    legalComments: 'none',
    banner: { js: banner },
    metafile: true,
    logLevel: 'silent',
  });
  if (warnings.length > 0) {
    throw new Error((await formatMessages(warnings, { kind: 'warning' })).join('\n'));
  }
  const missing = Object.values(metafile.outputs)
    .flatMap((output) => output.imports.map(({ path }) => path))
    .filter((path) => !isBuiltin(path) && !optional.has(path));
  if (missing.length > 0) throw new Error(`the bundle would still need ${missing.join(', ')}`);
  await mkdir(dirname(outfile), { recursive: true });
  // In one step, so that nobody ever starts half a bundle.
  const partial = `${outfile}.${process.pid}`;
  await writeFile(partial, outputFiles[0]?.contents ?? '', { mode: 0o755 });
  await rename(partial, outfile);
}

if (import.meta.main) await bundle('src/main.ts', 'dist/main.js');
