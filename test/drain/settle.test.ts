import { expect, test } from 'vitest';
import { Drains } from '../../src/drain/drains.ts';
import type { Journal } from '../../src/plan/journal.ts';
import { fold, type Change } from '../../src/plan/merge.ts';
import { NO_OBJECT_EVENTS } from '../../src/report/object-events.ts';
import { UNWATCHED } from '../../src/watchdog.ts';
import {
  at,
  capacity,
  eventChange,
  journalOf,
  nodeView,
  policy,
  SIGHT,
  spot,
} from '../plan/samples.ts';
import { FakeMetrics } from '../stand-ins/ports/metrics.ts';
import { UNTOLD } from '../stand-ins/ports/outcomes.ts';
import { VirtualClock } from '../stand-ins/virtual-clock.ts';

const nothing = (): undefined => undefined;
const unused = (): never => {
  throw new Error('nothing here calls for this');
};

test('a drain goes on when news is folded into the very write that settles it', async () => {
  const node = nodeView();
  const clock = new VirtualClock(1, at(10));
  let journal: Journal | undefined = journalOf([eventChange(capacity(0))]);
  const settledFor: (readonly string[])[] = [];
  const drains = new Drains(
    {
      pods: {
        onNode: async () => ({ pods: [], resourceVersion: '1' }),
        watch: async () => undefined,
        read: unused,
        evict: unused,
        delete: unused,
      },
      volumes: { attachedTo: unused, volumeOf: unused },
      hooks: { complete: unused, heartbeat: unused, describe: unused, replace: unused },
      journals: {
        journalOf: () => journal,
        // As the record does it: what waits for a write in flight goes into the next one, together.
        async apply(name, change) {
          const isFirst = settledFor.length === 0;
          if (change.type === 'settled') settledFor.push(change.asOf);
          const changes: Change[] = [change, ...(isFirst ? [eventChange(spot(9))] : [])];
          const verdicts = changes.map((each) => {
            const folded = fold(journal, each, SIGHT, policy(), at(10));
            journal = folded.journal;
            return folded.verdict;
          });
          drains.follow(name, journal);
          return { outcome: verdicts[0] ?? 'stale' };
        },
      },
      objectEvents: NO_OBJECT_EVENTS,
      nodeOf: () => node,
      lifeSign: unused,
      marksFirst: async () => undefined,
      clock,
      outcomes: UNTOLD,
      metrics: new FakeMetrics(),
      watchdog: UNWATCHED,
      report: { debug: nothing, info: nothing, warn: nothing, error: nothing },
    },
    {
      ...policy(),
      waitForVolumes: true,
      loadBalancerDrainSeconds: 0,
      self: undefined,
    },
  );

  drains.follow(node.name, journal);

  await clock.advance(10_000);
  expect(drains.active).toBe(0);
  expect(settledFor).toEqual([
    ['capacity-reservation'],
    ['capacity-reservation', 'spot-interruption'],
  ]);
  expect(journal.state).toBe('settled');
});
