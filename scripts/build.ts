import { mkdir, rename, writeFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { dirname, resolve } from 'node:path';
import { build, formatMessages, type Plugin } from 'esbuild';

// CommonJS dependencies in an ES module bundle call require() for Node's own modules.
const banner = `#!/usr/bin/env node
import { createRequire as createBundleRequire } from 'node:module';
if (Number.parseInt(process.versions.node) < 24) {
  console.error('node-termination-controller needs Node 24 or later; this is ' + process.version);
  process.exit(1);
}
const require = createBundleRequire(import.meta.url);`;

/**
 * Node's own modules by `require`: an import gives each of their exports a value at once, and that of
 * `WebSocket` in `node:http` loads a client that is not ours, which was a tenth of the start.
 */
const builtinsAtCall: Plugin = {
  name: 'builtins-at-call',
  setup(builder) {
    builder.onResolve({ filter: /^[a-z0-9_:/]+$/ }, ({ path, kind }) =>
      kind === 'import-statement' && isBuiltin(path) ? { path, namespace: 'builtin' } : undefined,
    );
    builder.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)});`,
    }));
  },
};

/**
 * Its modules only define things, which its package.json does not tell: most are models that nobody
 * uses. All but one, that is, which gives old Nodes a `File`.
 */
const usedOfKubernetesClient: Plugin = {
  name: 'used-of-kubernetes-client',
  setup(builder) {
    builder.onResolve({ filter: /^\.\.?\// }, ({ path, importer, resolveDir }) =>
      importer.replaceAll('\\', '/').includes('/node_modules/@kubernetes/client-node/')
        ? { path: resolve(resolveDir, path), sideEffects: false }
        : undefined,
    );
  },
};

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
    plugins: [builtinsAtCall, usedOfKubernetesClient],
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
