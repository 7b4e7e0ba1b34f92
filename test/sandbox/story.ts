import { setTimeout as delay } from 'node:timers/promises';
import { deletePod, getNode } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { marksOf } from '../harness/marks.ts';
import { budgetStatus } from '../harness/workloads.ts';
import type { Chance } from './chance.ts';
import type { Machine } from './machines.ts';
import { unknownInstanceGraceSeconds, type Sandbox } from './sandbox.ts';
import type { Screen } from './screen.ts';
import type { App } from './workloads.ts';

/** How long a new pod of `checkout` takes until it serves, during which its budget lets no other go. */
const checkoutWarmsUpSeconds = 4;
/** Between one thing and the next: time to read what is told of it. */
const pauseSeconds = 0.8;
/** From so many nodes on, part of them goes at once. */
const stormFromNodes = 20;

/** What happens to the cluster. Resolves when the last message is sent; rejects when aborted. */
export async function tellStory(
  sandbox: Sandbox,
  chance: Chance,
  screen: Screen,
  signal: AbortSignal,
): Promise<void> {
  const { interrupt } = sandbox;
  const pause = async () => delay(pauseSeconds * 1000, undefined, { signal });
  const cast = chooseCast(sandbox, chance);

  screen.say(
    `A pod of checkout, on another node than ${cast.spot.name}, is replaced. For the ${checkoutWarmsUpSeconds} s until the new one serves, the budget of checkout lets no other pod go.`,
  );
  await exhaustBudget(sandbox, cast.spot);
  signal.throwIfAborted();

  screen.say(
    `Spot notice: EC2 takes ${cast.spot.name} in 120 s. On it is a pod of checkout, which its budget holds at first.`,
  );
  await interrupt('spot', cast.spot);
  await untilMarked(sandbox, cast.spot);
  await pause();

  screen.say(
    `Auto Scaling scales in: ${cast.hook.name} is to go, but its lifecycle hook waits for somebody to say CONTINUE.`,
  );
  await interrupt('hook', cast.hook);
  await untilMarked(sandbox, cast.hook);
  await pause();

  screen.say(
    `Rebalance recommendation for ${cast.rebalance.name}: EC2 may take it some time. The pod of encoder there has a grace of 600 s, and no deadline says that it may not use them.`,
  );
  await interrupt('rebalance', cast.rebalance);
  await untilMarked(sandbox, cast.rebalance);
  await pause();

  screen.say(
    `Now a spot notice for ${cast.rebalance.name} as well: the drain that runs gets a deadline, encoder a shorter grace.`,
  );
  await interrupt('spot', cast.rebalance);
  await pause();

  const foreign = await sandbox.sendForeignNotice();
  screen.say(
    `A spot notice for ${foreign}, which is in another cluster. It waits, hidden, in case a node of that instance registers, and is deleted after ${unknownInstanceGraceSeconds} s (a minute by default).`,
  );

  if (cast.storm.length > 0) {
    await pause();
    screen.say(`Spot capacity runs out: notices for ${cast.storm.length} more nodes at once.`);
    await Promise.all(cast.storm.map(async (machine) => interrupt('spot', machine)));
  }
}

type Cast = Readonly<Record<'spot' | 'rebalance' | 'hook', Machine>> & {
  readonly storm: readonly Machine[];
};

function chooseCast(sandbox: Sandbox, chance: Chance): Cast {
  const all = sandbox.machines();
  const free = new Set(all);
  const zonesStruck = new Set<string>();
  const choose = (app: App): Machine => {
    const having = [...free].filter(({ name }) => hasPodOf(sandbox, app, name));
    // Two in one zone might leave its load balancers with too few targets: another story.
    const elsewhere = having.filter(({ zone }) => !zonesStruck.has(zone));
    // A scheduler of its own mind may have put them all on one node.
    const wanted = [elsewhere, having, [...free]].find(({ length }) => length > 0) ?? [];
    const chosen = chance.pick(wanted);
    free.delete(chosen);
    zonesStruck.add(chosen.zone);
    return chosen;
  };
  const encoding = choose('encoder');
  const spot = choose('checkout');
  const hook = choose('ledger');
  const storm = all.length < stormFromNodes ? 0 : Math.floor(all.length / 10);
  return {
    rebalance: encoding,
    spot,
    hook,
    storm: Array.from({ length: storm }, () => {
      const chosen = chance.pick([...free]);
      free.delete(chosen);
      return chosen;
    }),
  };
}

function hasPodOf({ ledger }: Sandbox, app: App, node: string): boolean {
  return ledger
    .lives()
    .some((life) => life.app === app && life.node === node && life.goneAt === undefined);
}

/** Replaces a pod of `checkout` elsewhere; returns when the budget allows no further disruption. */
async function exhaustBudget(sandbox: Sandbox, sparing: Machine): Promise<void> {
  const { api, cluster, ledger } = sandbox;
  const { namespace } = cluster;
  sandbox.behave('checkout', {
    exitsAfterSeconds: 0.5,
    readyAfterSeconds: checkoutWarmsUpSeconds,
  });
  const victim = ledger.lives().find(({ app, node, leftAtStep }) => {
    return app === 'checkout' && node !== sparing.name && leftAtStep === undefined;
  });
  if (victim === undefined) throw new Error('all pods of checkout are on one node');
  await deletePod(api, victim.name, { namespace });
  await eventually(
    async () => (await budgetStatus(api, 'checkout', namespace))?.disruptionsAllowed === 0,
  );
}

async function untilMarked({ api }: Sandbox, { name }: Machine): Promise<void> {
  await eventually(async () => marksOf(await getNode(api, name)).journal !== undefined);
}
