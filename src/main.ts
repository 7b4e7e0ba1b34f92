// First, so that signals are in hand while the rest of the bundle is evaluated.
import { stopSignal } from './stop-signal.ts';
// Only then what takes a while.
import packageJson from '../package.json' with { type: 'json' };
import { describeOptions, optionsMarkdown, parseOptions } from './options.ts';
import { run } from './run.ts';

const COMMANDS: Readonly<Record<string, Readonly<{ does: string; run: Command }>>> = {
  run: { does: 'consume the queue and empty the nodes that are interrupted', run: runController },
  options: {
    does: 'print all options (--format markdown, which is the default, or json)',
    run: printOptions,
  },
};

/** Resolves to the exit code. */
type Command = (args: readonly string[]) => Promise<number>;

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (args.includes('--help') || name === 'help') return print(usage());
  if (name === '--version') return print(`${packageJson.version}\n`);
  if (name !== undefined && Object.hasOwn(COMMANDS, name)) {
    return (await COMMANDS[name]?.run(rest)) ?? 0;
  }
  const known = Object.keys(COMMANDS).join(', ');
  return refuse([
    name === undefined
      ? `A command is missing: it is one of ${known}.`
      : `There is no command ${JSON.stringify(name)}: it is one of ${known}.`,
  ]);
}

async function runController(args: readonly string[]): Promise<number> {
  const parsed = parseOptions(args, process.env);
  if ('faults' in parsed) return refuse(parsed.faults);
  return run(parsed.options, packageJson.version, stopSignal);
}

function printOptions(args: readonly string[]): Promise<number> {
  const format =
    /^--format[= ](.*)$/.exec(args.join(' '))?.[1] ??
    (args.length === 0 ? 'markdown' : args.join(' '));
  switch (format) {
    case 'markdown':
      return print(optionsMarkdown());
    case 'json':
      return print(`${JSON.stringify(describeOptions(), undefined, 2)}\n`);
    default:
      return refuse([
        `${JSON.stringify(args.join(' '))} is not expected here: options takes --format markdown or --format json.`,
      ]);
  }
}

function usage(): string {
  const commands = Object.entries(COMMANDS).map(
    ([name, { does }]) => `  ${name.padEnd(10)}${does}\n`,
  );
  const options = describeOptions().map(
    ({ flag, required, default: text, defaultMeaning, takes, description }) => {
      const otherwise = required ? 'required' : `default: ${text ?? defaultMeaning}`;
      return `  ${flag} (${otherwise})\n      Takes ${takes}.\n      ${description}\n`;
    },
  );
  return `Usage: node-termination-controller COMMAND [--flag VALUE]...

Commands:
${commands.join('')}
Options of run, each also as an environment variable (QUEUE_URL for --queue-url):
${options.join('')}`;
}

/** Tells all faults at once; nothing has begun. */
async function refuse(faults: readonly string[]): Promise<number> {
  await write(process.stderr, faults.map((fault) => `${fault}\n`).join(''));
  return 2;
}

async function print(text: string): Promise<number> {
  await write(process.stdout, text);
  return 0;
}

/** Resolves when it is written, since an exit would cut it; or when the reader has had enough. */
function write(stream: NodeJS.WriteStream, text: string): Promise<void> {
  return new Promise((resolve) => {
    stream.once('error', () => resolve());
    stream.write(text, () => resolve());
  });
}

process.exit(await main(process.argv.slice(2)));
