import { dirname, relative, resolve, sep } from 'node:path';
import type { RuleTester } from 'oxlint/plugins-dev';

type Rule = Parameters<RuleTester['run']>[1];
type Visitor = ReturnType<Extract<Rule, { create: unknown }>['create']>;
type ImportNode = Parameters<NonNullable<Visitor['ImportDeclaration']>>[0];
type Node = ImportNode['parent'];

const root = resolve(import.meta.dirname, '..');

/** What the files of one place below `src/`, or of `infra/`, may import. */
type Layer = {
  /** Layers, or single files (`plan/node.ts`), it may import from; itself is always among them. */
  readonly imports: readonly string[];
  /** Layers or files it may import types from, but nothing that runs. */
  readonly types: readonly string[];
  /** Packages and `node:` modules; a trailing `*` stands for any rest. */
  readonly packages: readonly string[];
};

const core = ['events', 'plan'];
const stages = ['intake', 'drain', 'election'];
const edges = ['aws', 'kubernetes', 'report', 'http'];
const roots = ['options', 'clock', 'abort', 'watchdog', 'self-watch', ...core, ...stages, ...edges];
const commands = ['doctor', 'preview', 'drill'];

// The ports through which all of them tell what happens, and count it.
const report = [
  'report/report.ts',
  'report/metrics.ts',
  'report/outcome.ts',
  'report/object-events.ts',
];
// What its options make together is found out before anything starts.
const webhookOptions = ['settings', 'message', 'signature']
  .map((name) => `report/webhook/${name}.ts`)
  .concat('report/concealed.ts');
const stagePackages = ['node:crypto', 'node:util'];

/**
 * The walls: a place is a folder or a file directly below `src/`; one that is not named here may not
 * exist. The core is pure. A stage reaches the outside through ports declared beside it; an edge
 * implements them, decides nothing, and so takes types from the core (and the names we put on a
 * Node). Only the controller and the commands join stages with edges.
 */
const layers: Readonly<Record<string, Layer>> = {
  events: { imports: [], types: [], packages: ['zod'] },
  plan: { imports: ['events'], types: [], packages: ['zod'] },
  intake: {
    imports: [...core, 'clock', 'watchdog'],
    types: [...report, 'drain/lifecycle-hooks.ts'],
    packages: stagePackages,
  },
  drain: {
    imports: [...core, 'clock', 'watchdog'],
    types: report,
    packages: [...stagePackages, 'tinyqueue'],
  },
  election: { imports: ['clock', 'watchdog'], types: report, packages: stagePackages },
  aws: {
    imports: ['abort', 'clock', 'watchdog'],
    types: [...report, ...stages, ...core],
    packages: ['@aws-sdk/*', '@smithy/*', 'node:*', 'zod'],
  },
  kubernetes: {
    imports: ['abort', 'clock', 'watchdog', 'plan/node.ts'],
    types: [...report, 'report/event-recorder.ts', ...stages, ...core],
    packages: ['@kubernetes/client-node', '@kubernetes/client-node/*', 'node:*', 'undici', 'zod'],
  },
  report: {
    imports: ['abort', ...core, 'clock'],
    types: stages,
    packages: ['cloudevents', 'liquidjs', 'node:*', 'prom-client', 'undici', 'winston', 'zod'],
  },
  http: { imports: [...core, 'clock'], types: [...report, ...stages], packages: ['node:*', 'zod'] },
  abort: { imports: [], types: ['clock'], packages: [] },
  clock: { imports: [], types: [], packages: [] },
  'stop-signal': { imports: [], types: [], packages: [] },
  watchdog: { imports: [], types: [], packages: [] },
  'self-watch': {
    imports: ['watchdog'],
    types: ['clock', 'http/server.ts', ...report],
    packages: [],
  },
  options: {
    imports: [...core, 'kubernetes/selector.ts', ...webhookOptions],
    types: [],
    packages: ['node:*', 'zod'],
  },
  controller: { imports: roots, types: [], packages: ['node:*'] },
  doctor: { imports: roots, types: [], packages: ['*'] },
  preview: { imports: roots, types: [], packages: ['*'] },
  drill: { imports: roots, types: [], packages: ['*'] },
  'dry-run': {
    imports: ['plan/node.ts', 'report/outcome.ts', 'report/object-events.ts'],
    types: ['controller', 'clock', ...report, ...stages, ...core],
    packages: [],
  },
  measured: {
    imports: [],
    types: ['controller', ...report, ...stages],
    packages: [],
  },
  run: {
    imports: ['controller', 'dry-run', 'measured', ...roots],
    types: [],
    packages: ['node:*'],
  },
  // Rules are made from the same table that parsers are found in.
  infra: { imports: ['events'], types: [], packages: ['aws-cdk-lib/*', 'constructs', 'node:*'] },
  main: {
    imports: ['stop-signal', 'run', 'controller', ...commands, ...roots],
    types: [],
    packages: ['node:*'],
  },
};

/** The layer of a file, given its path from the root of the repository; undefined outside `src/` and `infra/`. */
function layerOf(path: string): string | undefined {
  const [top, place] = path.split(sep);
  if (top === 'infra') return top;
  return top === 'src' ? place?.replace(/\.ts$/, '') : undefined;
}

function folderOf(layer: string): string {
  return layer === 'infra' ? layer : `src/${layer}`;
}

function matches(name: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern,
  );
}

/** The reason why `specifier` may not be imported by the file, or undefined if it may. */
function refusal(file: string, specifier: string, typesOnly: boolean): string | undefined {
  const from = layerOf(relative(root, file));
  const layer = from === undefined ? undefined : layers[from];
  if (from === undefined || layer === undefined) return undefined;
  if (!specifier.startsWith('.')) {
    if (matches(specifier, layer.packages)) return undefined;
    return `${folderOf(from)} may not import the package '${specifier}'.`;
  }
  const target = relative(root, resolve(dirname(file), specifier));
  const to = layerOf(target);
  // The version is written in one place.
  if (from === 'main' && target === 'package.json') return undefined;
  if (to === undefined) return `${folderOf(from)} may not import '${target}': it lies outside src.`;
  if (!target.endsWith('.ts')) return `'${specifier}': name the file, with its .ts extension.`;
  const places = [to, target.split(sep).slice(1).join('/')];
  if (to === from || places.some((place) => layer.imports.includes(place))) return undefined;
  if (!places.some((place) => layer.types.includes(place))) {
    return `${folderOf(from)} may not import ${target}.`;
  }
  return typesOnly ? undefined : `${folderOf(from)} may import only types from ${target}.`;
}

const importWalls: Rule = {
  create(context) {
    const from = layerOf(relative(root, context.filename));

    function check(node: Node, source: Node | null, typesOnly: boolean) {
      if (source === null || from === undefined) return;
      const message =
        source.type === 'Literal' && typeof source.value === 'string'
          ? refusal(context.filename, source.value, typesOnly)
          : 'import() takes a literal: the walls cannot be checked otherwise.';
      if (message !== undefined) context.report({ node, message });
    }

    return {
      Program(node) {
        if (from === undefined || layers[from] !== undefined) return;
        const message = `src/${from} has no layer: name it, and what it may import, in lint/architecture.ts.`;
        context.report({ node, message });
      },
      ImportDeclaration: (node) => check(node, node.source, node.importKind === 'type'),
      ExportNamedDeclaration: (node) => check(node, node.source, node.exportKind === 'type'),
      ExportAllDeclaration: (node) => check(node, node.source, node.exportKind === 'type'),
      ImportExpression: (node) => check(node, node.source, false),
      TSImportType: (node) => check(node, node.source, true),
    };
  },
};

// Everything that answers the same at any time, on any machine. What is missing here (clocks,
// chance, timers, promises, the process, the network) reaches pure code as an argument or not at all.
const pureGlobals = new Set(
  `undefined NaN Infinity Object Array String Number Boolean BigInt Symbol Map Set WeakMap WeakSet
  RegExp JSON Error TypeError RangeError SyntaxError parseInt parseFloat isNaN isFinite
  encodeURIComponent decodeURIComponent structuredClone URL URLSearchParams TextEncoder TextDecoder
  Buffer Uint8Array`.split(/\s+/),
);

const impureTypes = new Set(['Promise', 'PromiseLike', 'AsyncIterable', 'AsyncGenerator']);

/** Of `Date` only what computes from its arguments, of `Math` all but chance. */
function isPureUse(name: string, use: Node | null): boolean {
  if (use?.type === 'MemberExpression' && !use.computed && use.property.type === 'Identifier') {
    if (name === 'Date') return ['UTC', 'parse'].includes(use.property.name);
    return name === 'Math' && use.property.name !== 'random';
  }
  if (name !== 'Date') return false;
  if (use?.type === 'NewExpression') return use.arguments.length > 0;
  return use?.type === 'BinaryExpression' && use.operator === 'instanceof';
}

const pure: Rule = {
  create(context) {
    function refuse(node: Node, what: string) {
      context.report({
        node,
        message: `${what}: events/ and plan/ read no clock, do no I/O and hold no promise.`,
      });
    }
    return {
      'Program:exit'() {
        const { globalScope } = context.sourceCode.scopeManager;
        // Globals that the configuration declares are variables without a definition; others lead out of scope.
        const declared = globalScope?.variables.filter(({ defs }) => defs.length === 0) ?? [];
        const references = declared.flatMap((variable) => variable.references);
        for (const { identifier } of [...references, ...(globalScope?.through ?? [])]) {
          const use = identifier.parent;
          const inType = use.type.startsWith('TS') && !use.type.endsWith('Expression');
          const { name } = identifier;
          if (inType ? !impureTypes.has(name) : pureGlobals.has(name)) continue;
          if (!inType && isPureUse(name, use)) continue;
          refuse(identifier, name);
        }
      },
      ':function[async=true]'(node: Node) {
        refuse(node, 'async function');
      },
      AwaitExpression: (node) => refuse(node, 'await'),
      ForOfStatement: (node) => node.await && refuse(node, 'for await'),
      ImportExpression: (node) => refuse(node, 'import()'),
      MetaProperty: (node) => refuse(node, 'import.meta'),
    };
  },
};

export default {
  meta: { name: 'architecture' },
  rules: { 'import-walls': importWalls, pure },
};
