import { outcomeEventSchema } from '../../src/report/outcome.ts';
import { podsLeftOn, type Case, type InterruptionKind } from './cases.ts';
import type { PodLife } from './ledger.ts';
import type { Sandbox } from './sandbox.ts';
import { table } from './screen.ts';

const names: Readonly<Record<InterruptionKind, string>> = {
  spot: 'spot notice',
  rebalance: 'rebalance',
  hook: 'terminate hook',
};
/** Nodes named in a cell; the rest is counted. */
const mostPlaces = 3;

/** Why this was no success; empty if it was. */
export async function faultsOf(sandbox: Sandbox): Promise<string[]> {
  const { cases, ledger, queue, controller } = sandbox;
  const faults: string[] = [];
  const exit = controller.exit();
  if (exit) faults.push(`The controller has ended with ${exit.signal ?? exit.code}.`);
  for (const { machine, interruptions, end } of cases.all()) {
    const left = podsLeftOn(machine, ledger).map(({ name }) => name);
    if (left.length > 0) faults.push(`${machine.name} was not emptied: ${left.join(', ')}.`);
    else if (end === undefined) faults.push(`${machine.name} is empty, but not settled.`);
    for (const { action } of interruptions) {
      if (action === undefined || action.result === 'CONTINUE') continue;
      faults.push(`The hook ${action.hook} of ${machine.name} was not completed.`);
    }
    if (outcomesOf(sandbox, machine.name).length < interruptions.length) {
      faults.push(`The event bus was not told the outcome of ${machine.name}.`);
    }
    const toldEnd = sandbox.chat().filter((text) => text.startsWith(`Node ${machine.name} is`));
    if (toldEnd.length < interruptions.length) {
      faults.push(`The chat was not told the outcome of ${machine.name}.`);
    }
  }
  const { visible, inFlight, delayed } = await queue.counts();
  const messages = visible + inFlight + delayed;
  if (messages > 0) faults.push(`Messages left in the queue: ${messages}.`);
  return faults;
}

/** What happened to each node that was interrupted. */
export function outcomeTable(sandbox: Sandbox): string {
  const successors = sandbox.ledger.successors();
  return table(
    ['NODE', 'EVENTS', 'PODS MOVED', 'TO SPARE', 'HOOK', 'ON THE EVENT BUS'],
    sandbox.cases
      .all()
      .map((one) => [
        one.machine.name,
        one.interruptions.map(({ kind }) => names[kind]).join(', '),
        movedCell(one, successors),
        toSpare(one),
        hookCell(one),
        outcomesOf(sandbox, one.machine.name).join(', '),
      ]),
  );
}

function outcomesOf({ outcomes }: Sandbox, node: string): readonly string[] {
  return outcomes()
    .map(({ detail }) => outcomeEventSchema.parse(detail))
    .filter((event) => event.node === node)
    .map(({ outcome }) => outcome);
}

/** In a sentence, for the one who waits. */
export function tellEnd(one: Case, successors: ReadonlyMap<string, PodLife>): string {
  const spare = one.end?.secondsToSpare;
  return [
    `${one.machine.name} is empty. Pods moved: ${movedCell(one, successors)}`,
    ...(spare === undefined ? [] : [`${Math.floor(spare)} s to spare`]),
    ...(one.interruptions.some(({ action }) => action) ? [`hook ${hookCell(one)}`] : []),
  ].join('; ');
}

function movedCell({ end }: Case, successors: ReadonlyMap<string, PodLife>): string {
  if (end === undefined) return 'not emptied';
  if (end.moved.length === 0) return 'none';
  const places = Map.groupBy(end.moved, ({ uid }) => successors.get(uid)?.node ?? 'not yet placed');
  const counted = [...places].map(([node, pods]) =>
    pods.length === 1 ? node : `${node} (${pods.length})`,
  );
  const named = counted.toSorted().slice(0, mostPlaces);
  const more = counted.length - named.length;
  return `${end.moved.length} to ${[...named, ...(more > 0 ? [`${more} more`] : [])].join(', ')}`;
}

function toSpare({ end }: Case): string {
  if (end === undefined) return '';
  return end.secondsToSpare === undefined ? 'no deadline' : `${Math.floor(end.secondsToSpare)} s`;
}

function hookCell({ interruptions }: Case): string {
  const actions = interruptions.flatMap(({ action }) => action ?? []);
  if (actions.length === 0) return '';
  return actions
    .map(({ result }) => (result === undefined ? 'not completed' : `completed (${result})`))
    .join(', ');
}
