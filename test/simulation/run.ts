import { Invariants, type InvariantName, type Violation } from './invariants.ts';
import { lineOf } from './record.ts';
import { FAULTS_END_MS, type Storm } from './storm.ts';
import { World, type WorldOptions } from './world.ts';

export type Outcome = Readonly<{
  violations: readonly Violation[];
  checked: ReadonlyMap<InvariantName, number>;
  crashHits: ReadonlyMap<string, number>;
  nodes: number;
  messages: number;
  faults: number;
  /** Of all that happened; empty unless the timeline is kept. */
  hash: string;
  timeline: readonly string[];
}>;

/** Hooks, hour-long windows and old copies apart, everything is over by then. */
const LONGEST_MS = 560_000;
const LOOK_EVERY_MS = 10_000;
/** Of so many storms, one goes on with a process that only knows the journals. */
const RESTARTED = 8;
/** What it does at first is done by then. */
const SETTLED_AFTER_MS = 80_000;

/** One storm from its beginning until all is quiet, judged. The same storm always takes the same course. */
export async function run(storm: Storm, options: WorldOptions = {}): Promise<Outcome> {
  const world = new World(storm, options);
  const invariants = new Invariants(world);
  world.begin();
  await world.clock.advance(FAULTS_END_MS);
  for (
    let at = FAULTS_END_MS;
    at < LONGEST_MS && invariants.violations.length === 0;
    at += LOOK_EVERY_MS
  ) {
    await world.clock.advance(LOOK_EVERY_MS);
    if (world.isQuiet()) break;
  }
  if (invariants.violations.length === 0) invariants.judgeEnd();
  const goesOn = storm.seed % RESTARTED === 0 && options.hasCrashes !== false;
  if (goesOn && invariants.violations.length === 0) {
    await world.clock.advance(SETTLED_AFTER_MS);
    const rest = world.restOfLeader();
    await world.beginAnew();
    await world.clock.advance(SETTLED_AFTER_MS);
    invariants.judgeTimers(rest, world.restOfLeader());
  }
  const { messages, crashHits, faults, startedAt } = world;
  await world.end();
  return {
    violations: invariants.violations,
    checked: invariants.checked,
    crashHits,
    nodes: storm.nodes.length,
    messages: messages.size,
    faults: faults + [...crashHits.values()].reduce((sum, hits) => sum + hits, 0),
    hash: options.keepsTimeline === true ? world.hashOfTimeline() : '',
    timeline: world.timeline.map((entry) => lineOf(entry, startedAt)),
  };
}
