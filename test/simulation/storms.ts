import { afterAll, describe, expect, test } from 'vitest';
import { Figures } from './figures.ts';
import { run } from './run.ts';
import { shrink, tell } from './shrink.ts';
import { stormOf } from './storm.ts';
import { CRASH_POINTS, PORTS, type Port } from './way.ts';

/** Enough for every port to be left at each point. */
const ALL_STORMS = 10_000;
const STORMS = Number(process.env['NTC_STORMS'] ?? 500);
const STORMS_A_TEST = 125;
const LIMIT_MS = 900_000;

/** Ports at which processes die too seldom, or (watches) not at all, for each point to be met for sure. */
const SELDOM: ReadonlySet<Port> = new Set([
  'node watch',
  'pod watch',
  'lease watch',
  'pod read',
  'hook heartbeat',
]);

/** Every `parts`th lot of storms: the lots are shared out among files, which run at the same time. */
export function stormsTest(part: number, parts: number): void {
  const figures = new Figures();
  const lots = Array.from({ length: STORMS / STORMS_A_TEST }, (_, i) => i * STORMS_A_TEST + 1);

  describe('no invariant is broken', { timeout: LIMIT_MS }, () => {
    const ours = lots.filter((_, i) => i % parts === part);
    test.each(ours)('by the storms from %i on', async (first) => {
      for (let seed = first; seed < first + STORMS_A_TEST; seed += 1) {
        const storm = stormOf(seed);
        const outcome = await run(storm);
        figures.add(outcome);
        const [violation] = outcome.violations;
        if (violation === undefined) continue;
        const smaller = await shrink(storm, violation.invariant, {});
        const again = await run(smaller, { keepsTimeline: true });
        expect.fail(tell(smaller, again, `npm run simulate -- --seed ${seed} --storms 1`));
      }
      expect(figures.storms).toBeGreaterThan(0);
    });
  });

  afterAll(() => {
    if (figures.storms < STORMS / parts) return;
    console.log(figures.text());
    const { nodes, messages, faults } = figures.medians;
    expect(nodes).toBeGreaterThanOrEqual(5);
    expect(messages).toBeGreaterThanOrEqual(20);
    expect(faults).toBeGreaterThanOrEqual(5);
    if (STORMS < ALL_STORMS) return;
    const unhit = PORTS.filter((port) => !SELDOM.has(port)).flatMap((port) =>
      CRASH_POINTS.filter((point) => figures.hits(port, point) === 0).map(
        (point) => `${port}: ${point}`,
      ),
    );
    expect(unhit).toEqual([]);
  });
}
