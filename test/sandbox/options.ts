import { accessSync, constants } from 'node:fs';
import { parseArgs } from 'node:util';

export type SandboxOptions = {
  /** Ends by itself when the story is over. */
  readonly once: boolean;
  readonly nodes: number;
  /** Same seed, same story. */
  readonly seed: number;
  /** Of a real API server; the stand-in unless given. */
  readonly kubeconfig: string | undefined;
};

export const fewestNodes = 6;
export const mostNodes = 1000;
const defaults = { nodes: 9, seed: 1 };

export const sandboxHelp = `Usage: npm run sandbox -- [--once] [--nodes N] [--seed S] [--kubeconfig FILE]

Shows the built controller at work. SQS and Auto Scaling are stand-ins on this machine, and so is the
Kubernetes cluster with its nodes and pods. Nothing outside of this machine is asked for.

  --once             end when the story is over: with 0 if every node was emptied, every hook
                     completed and the queue is empty, else with 1 and the reasons.
                     Without it the cluster stays, and you interrupt nodes yourself
  --nodes N          how many nodes, from ${fewestNodes} to ${mostNodes} (default: ${defaults.nodes}); from 20 on, a tenth of them lose
                     their spot capacity all at once
  --seed S           a whole number (default: ${defaults.seed}): which nodes are struck, how long pods take to end
  --kubeconfig FILE  made-up nodes in the cluster of this file, which needs a scheduler and a
                     controller manager; its own nodes are left alone, and all is removed at the end
  --help             this text
`;

/** Faults are whole sentences, all of them at once. */
export function parseSandboxOptions(
  args: readonly string[],
): SandboxOptions | { readonly help: true } | { readonly faults: readonly string[] } {
  const { tokens } = parseArgs({
    args: [...args],
    options: {
      once: { type: 'boolean' },
      nodes: { type: 'string' },
      seed: { type: 'string' },
      kubeconfig: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
    strict: false,
    tokens: true,
  });
  const faults: string[] = [];
  const given = new Map<string, string | undefined>();
  for (const token of tokens) {
    if (token.kind === 'positional') faults.push(`${quoted(token.value)} is not expected here.`);
    if (token.kind !== 'option') continue;
    const { name, rawName, value } = token;
    if (name === 'once' || name === 'help') {
      if (value !== undefined) faults.push(`${rawName} takes no value, but got ${quoted(value)}.`);
    } else if (name === 'nodes' || name === 'seed' || name === 'kubeconfig') {
      if (value === undefined || value === '') faults.push(`${rawName} needs a value.`);
    } else {
      faults.push(`There is no option ${rawName}.`);
      continue;
    }
    given.set(name, value);
  }
  const wholeNumber = (name: 'nodes' | 'seed', least: number, most: number): number => {
    const text = given.get(name);
    if (text === undefined || text === '') return defaults[name];
    const number = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (number >= least && number <= most) return number;
    faults.push(`--${name} is ${quoted(text)}: it takes a whole number from ${least} to ${most}.`);
    return defaults[name];
  };
  const kubeconfig = given.get('kubeconfig');
  if (kubeconfig !== undefined && kubeconfig !== '' && !isReadable(kubeconfig)) {
    faults.push(`--kubeconfig is ${quoted(kubeconfig)}: that is no file that can be read.`);
  }
  const options = {
    once: given.has('once'),
    nodes: wholeNumber('nodes', fewestNodes, mostNodes),
    seed: wholeNumber('seed', 0, 2 ** 32 - 1),
    kubeconfig,
  };
  if (faults.length > 0) return { faults };
  return given.has('help') ? { help: true } : options;
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
