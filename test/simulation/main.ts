import { parseArgs } from 'node:util';
import { Figures } from './figures.ts';
import { run } from './run.ts';
import { shrink, tell } from './shrink.ts';
import { stormOf } from './storm.ts';

const USAGE = `npm run simulate -- [--seed N] [--storms M] [--timeline]

Runs M storms (100), of the seeds N (1), N + 1, …: the whole controller in virtual time against a
simulated cluster and AWS that go wrong in every way. The first storm that breaks an invariant is made
smaller as long as it still does, told from its beginning to its end, and ends the run (exit code 1).

  --timeline  tells what happens in storm N, broken or not`;

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    storms: { type: 'string', default: '100' },
    timeline: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const first = Number(values.seed);
const count = Number(values.storms);
if (values.help) console.log(USAGE);
else if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count) || count < 1) {
  console.error(USAGE);
  process.exitCode = 2;
} else if (values.timeline) await showOne(first);
else process.exitCode = (await simulate()) ? 0 : 1;

async function showOne(seed: number): Promise<void> {
  const outcome = await run(stormOf(seed), { keepsTimeline: true });
  console.log([...outcome.timeline, '', `hash of all that: ${outcome.hash}`].join('\n'));
  for (const { invariant, says } of outcome.violations) console.log(`${invariant}: ${says}`);
  if (outcome.violations.length > 0) process.exitCode = 1;
}

/** Whether nothing broke. */
async function simulate(): Promise<boolean> {
  const figures = new Figures();
  for (let seed = first; seed < first + count; seed += 1) {
    const storm = stormOf(seed);
    const outcome = await run(storm);
    figures.add(outcome);
    const [violation] = outcome.violations;
    if (violation === undefined) continue;
    console.log(
      `seed ${seed} breaks ${violation.invariant}: ${violation.says}\nmaking it smaller…`,
    );
    const smaller = await shrink(storm, violation.invariant, {});
    const again = await run(smaller, { keepsTimeline: true });
    console.log(tell(smaller, again, `npm run simulate -- --seed ${seed} --storms 1`));
    return false;
  }
  console.log(figures.text());
  return true;
}
