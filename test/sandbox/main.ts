import { setTimeout as delay } from 'node:timers/promises';
import { spotNotice } from '../harness/messages.ts';
import { seededChance } from './chance.ts';
import { startDoor } from './door.ts';
import type { Machine } from './machines.ts';
import { parseSandboxOptions, sandboxHelp, type SandboxOptions } from './options.ts';
import { faultsOf, outcomeTable, tellEnd } from './outcome.ts';
import { startSandbox, type Sandbox } from './sandbox.ts';
import { createScreen, type Screen } from './screen.ts';
import { tellStory } from './story.ts';

/** Longer than the two minutes of a spot notice: what is not over by then went wrong. */
const storyLimitMs = 150_000;

/** Resolves to the exit code. */
async function main(args: readonly string[]): Promise<number> {
  const options = parseSandboxOptions(args);
  if ('faults' in options) {
    process.stderr.write(
      `${options.faults.join('\n')}\nWhat it takes: npm run sandbox -- --help\n`,
    );
    return 2;
  }
  if ('help' in options) {
    process.stdout.write(sandboxHelp);
    return 0;
  }
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      // Who asks twice does not want to wait; what is left of ours ends with this process.
      if (stop.signal.aborted) process.exit(130);
      stop.abort();
    });
  }
  const screen = createScreen(process.stdout);
  try {
    return await play(options, screen, stop.signal);
  } catch (error) {
    // Asked to end: without --once that is the only way to.
    if (stop.signal.aborted) return options.once ? 130 : 0;
    process.stderr.write(`\nThe sandbox has failed. ${chainOf(error)}\n`);
    return 1;
  }
}

async function play(options: SandboxOptions, screen: Screen, signal: AbortSignal): Promise<number> {
  const beganAt = performance.now();
  const chance = seededChance(options.seed);
  const sandbox = await startSandbox(options, { chance, screen, signal, tellEnd });
  let faults: readonly string[];
  let outcome: string;
  try {
    await tellStory(sandbox, chance, screen, signal);
    await untilOver(sandbox, signal);
    faults = await faultsOf(sandbox);
    const seconds = Math.round((performance.now() - beganAt) / 1000);
    outcome = `\n${outcomeTable(sandbox)}\n\n${verdict(faults, seconds)}\n`;
    if (!options.once) {
      screen.print(outcome);
      await stay(sandbox, screen, signal);
    }
  } finally {
    await sandbox.stop();
  }
  if (options.once) screen.print(outcome);
  return faults.length === 0 || !options.once ? 0 : 1;
}

/** Resolves when all that was sent has had its effect, or when that is no longer to be expected. */
async function untilOver(sandbox: Sandbox, signal: AbortSignal): Promise<void> {
  const limitAt = performance.now() + storyLimitMs;
  while (performance.now() < limitAt && sandbox.controller.exit() === undefined) {
    if ((await faultsOf(sandbox)).length === 0) return;
    await delay(200, undefined, { signal });
  }
}

function verdict(faults: readonly string[], seconds: number): string {
  if (faults.length > 0) {
    return ['It did not end well:', ...faults.map((fault) => `  - ${fault}`)].join('\n');
  }
  return `Every node was emptied in time, every hook completed, and the queue is empty. It took ${seconds} s.`;
}

/** Until it is asked to end, or the controller does. */
async function stay(sandbox: Sandbox, screen: Screen, signal: AbortSignal): Promise<void> {
  const door = await startDoor(sandbox);
  try {
    const struck = new Set(sandbox.cases.all().map(({ machine }) => machine.name));
    const machine = sandbox.machines().find(({ name }) => !struck.has(name));
    if (machine) screen.print(invitation(sandbox, new URL(door.url).port, machine));
    const { promise: asked, resolve: ask } = Promise.withResolvers<undefined>();
    signal.addEventListener('abort', () => ask(undefined), { once: true });
    const exit = await Promise.race([asked, sandbox.controller.exited]);
    if (exit) throw new Error(`The controller has ended with ${exit.signal ?? exit.code}.`);
    screen.print('');
  } finally {
    await door.stop();
  }
}

function invitation({ queue }: Sandbox, port: string, machine: Machine): string {
  const message = { ...spotNotice(machine), time: 'NOW' };
  const request = JSON.stringify({ QueueUrl: queue.url, MessageBody: JSON.stringify(message) })
    // An old notice is of no consequence to a machine that is still there.
    .replace('NOW', `'"$(date -u +%FT%TZ)"'`);
  return `The cluster stays until you press Ctrl-C. To interrupt a node, in another terminal:

  npm run sandbox:interrupt -- --port ${port} ${machine.name}

With --kind rebalance or --kind hook it is not a spot notice. Or send the queue what AWS would send:

  curl -s ${new URL(queue.url).origin} -H 'content-type: application/x-amz-json-1.0' -H 'x-amz-target: AmazonSQS.SendMessage' -d '${request}'
`;
}

function chainOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message} ${chainOf(error.cause)}`;
}

process.exit(await main(process.argv.slice(2)));
