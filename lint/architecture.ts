import { dirname, relative, resolve, sep } from 'node:path';
import type { RuleTester } from 'oxlint/plugins-dev';

type Rule = Parameters<RuleTester['run']>[1];
type Visitor = ReturnType<Extract<Rule, { create: unknown }>['create']>;
type ImportNode = Parameters<NonNullable<Visitor['ImportDeclaration']>>[0];
type Node = ImportNode['parent'];

const root = resolve(import.meta.dirname, '..');

/** What the files of one place below `src/` may import. */
type Layer = {
  /** Layers, or single files (`plan/node.ts`), it may import from; itself is always among them. */
  readonly imports: readonly string[];
  /** Layers it may import types from, but nothing that runs. */
  readonly types?: readonly string[];
  /** Packages and `node:` modules; a trailing `*` stands for any rest. */
  readonly packages: readonly string[];
};

const core = ['events', 'plan'];
const stages = ['intake', 'drain'];
const edges = ['aws', 'kubernetes', 'report', 'http'];
const roots = ['options', 'clock', ...core, ...stages, ...edges];
const commands = ['doctor', 'preview', 'drill'];

const stage: Layer = {
  imports: [...core, 'clock'],
  types: ['report'],
  packages: ['node:crypto', 'node:util'],
};

/**
 * The walls: a place is a folder or a file directly below `src/`; one that is not named here may not
 * exist. The core is pure. A stage reaches the outside through ports declared beside it; an edge
 * implements them, decides nothing, and so takes types from the core (and the names we put on a
 * Node). Only the controller and the commands join stages with edges.
 */
const layers: Readonly<Record<string, Layer>> = {
  events: { imports: [], packages: ['zod'] },
  plan: { imports: ['events'], packages: ['zod'] },
  intake: stage,
  drain: stage,
  aws: {
    imports: ['clock'],
    types: [...stages, ...core],
    packages: ['@aws-sdk/*', '@smithy/*', 'node:*', 'zod'],
  },
  kubernetes: {
    imports: ['clock', 'plan/node.ts'],
    types: [...stages, ...core],
    packages: ['@kubernetes/client-node', '@kubernetes/client-node/*', 'node:*', 'undici', 'zod'],
  },
  report: {
    imports: [...core, 'clock'],
    types: stages,
    packages: ['node:*', 'undici', 'winston', 'zod'],
  },
  http: { imports: [...core, 'clock'], types: [...stages, 'report'], packages: ['node:*', 'zod'] },
  clock: { imports: [], packages: [] },
  options: { imports: core, packages: ['node:*', 'zod'] },
  controller: { imports: roots, packages: ['node:*'] },
  doctor: { imports: roots, packages: ['*'] },
  preview: { imports: roots, packages: ['*'] },
  drill: { imports: roots, packages: ['*'] },
  main: { imports: ['controller', ...commands, ...roots], packages: ['node:*'] },
};

/** The layer of a file, given its path from the root of the repository; undefined outside `src/`. */
function layerOf(path: string): string | undefined {
  const [top, place] = path.split(sep);
  return top === 'src' ? place?.replace(/\.ts$/, '') : undefined;
}

function matches(name: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern,
  );
}

/** The reason why `specifier` may not be imported by the file, or undefined if it may. */
function refusal(file: string, specifier: string, typesOnly: boolean) {
  const from = layerOf(relative(root, file));
  if (from === undefined) return undefined;
  const layer = layers[from];
  if (layer === undefined) {
    return `src/${from} has no layer: name it, and what it may import, in lint/architecture.ts.`;
  }
  if (!specifier.startsWith('.')) {
    if (matches(specifier, layer.packages)) return undefined;
    return `src/${from} may not import the package '${specifier}'.`;
  }
  const target = relative(root, resolve(dirname(file), specifier));
  const to = layerOf(target);
  if (to === undefined) return `src may not import '${target}': it lies outside src.`;
  if (!target.endsWith('.ts')) return `'${specifier}': name the file, with its .ts extension.`;
  const inside = target.split(sep).slice(1).join('/');
  if (to === from || layer.imports.includes(to) || layer.imports.includes(inside)) return undefined;
  if (layer.types?.includes(to) !== true) return `src/${from} may not import src/${to}.`;
  return typesOnly ? undefined : `src/${from} may import only types from src/${to}.`;
}

const importWalls: Rule = {
  create(context) {
    function check(node: Node, source: Node | null, typesOnly: boolean) {
      if (source === null) return;
      const specifier = source.type === 'Literal' ? source.value : undefined;
      const message =
        typeof specifier === 'string'
          ? refusal(context.filename, specifier, typesOnly)
          : layerOf(relative(root, context.filename)) &&
            'import() takes a literal: the walls cannot be checked otherwise.';
      if (message !== undefined && message !== '') context.report({ node, message });
    }
    return {
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
    function report(node: Node, what: string) {
      context.report({
        node,
        message: `${what}: events/ and plan/ read no clock, do no I/O and hold no promise.`,
      });
    }
    return {
      'Program:exit'() {
        for (const { identifier } of context.sourceCode.scopeManager.globalScope?.through ?? []) {
          const use = identifier.parent;
          const inType = use.type.startsWith('TS') && !use.type.endsWith('Expression');
          const { name } = identifier;
          if (inType ? !impureTypes.has(name) : pureGlobals.has(name)) continue;
          if (!inType && isPureUse(name, use)) continue;
          report(identifier, name);
        }
      },
      ':function[async=true]'(node: Node) {
        report(node, 'async function');
      },
      AwaitExpression: (node) => report(node, 'await'),
      ForOfStatement: (node) => node.await && report(node, 'for await'),
      ImportExpression: (node) => report(node, 'import()'),
      MetaProperty: (node) => report(node, 'import.meta'),
    };
  },
};

export default {
  meta: { name: 'architecture' },
  rules: { 'import-walls': importWalls, pure },
};
