import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { NodeEvent } from '../../src/plan/interruption.ts';
import type { Journal } from '../../src/plan/journal.ts';
import { markWrite } from '../../src/plan/marks.ts';
import { fold, type Change } from '../../src/plan/merge.ts';
import type { NodeView } from '../../src/plan/node.ts';
import { nextOverAt, type Sight } from '../../src/plan/over.ts';
import { isRow, ROWS, rowFacts, type Row } from '../../src/plan/rows.ts';
import {
  at,
  capacity,
  capacityBlock,
  eventChange,
  nodeView,
  patched,
  policy,
  rebalance,
  scheduledChange,
  SIGHT,
  spot,
  stateChange,
  terminateHook,
} from './samples.ts';

const DAY = 86_400;
const START = 3 * DAY;
const END = START + 7200;

/** An event of each row, of noon; scheduled changes start three days later and last two hours. */
const EVENTS: Readonly<Record<Row, NodeEvent>> = {
  'spot-terminate': spot(),
  'spot-stop': spot(0, { action: 'stop' }),
  'spot-hibernate': spot(0, { action: 'hibernate' }),
  'capacity-reservation': capacity(),
  'capacity-block': capacityBlock(),
  rebalance: rebalance(),
  retirement: scheduledChange(0, { change: 'retirement' }),
  stop: scheduledChange(0, { change: 'stop' }),
  termination: scheduledChange(0, { change: 'termination' }),
  reboot: scheduledChange(0, { change: 'reboot' }),
  network: scheduledChange(0, { change: 'network' }),
  power: scheduledChange(0, { change: 'power' }),
  'terminate-hook': terminateHook(),
  'warm-pool-hook': terminateHook(0, { destination: 'WarmPool' }),
  stopping: stateChange('stopping'),
  'shutting-down': stateChange('shutting-down'),
};
const ROW_NAMES = Object.keys(ROWS).filter(isRow);
const MENDED: Change = { type: 'mended' };

type Step = Readonly<{ change?: Change; at?: number; sight?: Partial<Sight> }>;

/** The journal after the event of this row, and then these steps. */
function after(row: Row, steps: readonly Step[]): Journal {
  let journal: Journal | undefined;
  for (const step of [{ change: eventChange(EVENTS[row]), at: at(1) }, ...steps]) {
    const { change = MENDED, at: now = at(1), sight } = step;
    journal = fold(journal, change, { ...SIGHT, ...sight }, policy(), now).journal;
  }
  if (journal === undefined) throw new Error('no journal');
  return journal;
}

function isOver(row: Row, ...steps: readonly Step[]): boolean {
  return after(row, steps).live.length === 0;
}

const running = (seconds: number): Step => ({
  change: eventChange(stateChange('running', seconds)),
  at: at(seconds + 1),
});
const boot = (seconds: number): Step => ({ at: at(seconds), sight: { bootId: 'boot-2' } });

/** Rows that something ends, and those that it does not. */
function rowsEndedBy(...steps: readonly Step[]): readonly Row[] {
  return ROW_NAMES.filter((row) => isOver(row, ...steps));
}

describe('what ends an interruption', () => {
  test('a start after its event ends what a start ends, and nothing else', () => {
    expect(rowsEndedBy(running(60)).toSorted()).toEqual(
      ['retirement', 'stop', 'stopping', 'warm-pool-hook'].toSorted(),
    );
  });

  test('a start that is not later than its event ends nothing', () => {
    expect(rowsEndedBy(running(0))).toEqual([]);
    expect(rowsEndedBy(running(-60))).toEqual([]);
  });

  test('a spot instance that is stopped was started again only if that was after its deadline', () => {
    expect(isOver('spot-stop', running(119))).toBe(false);
    expect(isOver('spot-stop', running(121))).toBe(true);
    expect(isOver('spot-terminate', running(121))).toBe(false);
  });

  test('hibernation ends when the machine was started and its kubelet has renewed its Lease since', () => {
    const alive = (seconds: number): Step => ({ change: { type: 'alive', at: at(seconds) } });
    expect(isOver('spot-hibernate', running(600))).toBe(false);
    expect(isOver('spot-hibernate', running(600), alive(599))).toBe(false);
    expect(isOver('spot-hibernate', running(600), alive(610))).toBe(true);
    expect(isOver('spot-hibernate', alive(610))).toBe(false);
  });

  test('until then what runs on it is not evicted', () => {
    expect(after('spot-hibernate', []).state).toBe('draining');
    expect(after('spot-hibernate', [running(600)]).state).toBe('settled');
  });

  test('a machine seen to be started anew is not drained while it is not yet Ready', () => {
    const begun = (row: Row): Step => ({
      change: { type: 'begun', ids: after(row, []).live.map(({ id }) => id) },
    });
    const starts = (seconds: number): Step => ({
      at: at(seconds + 1),
      sight: { bootId: 'boot-2', bootSeenAt: at(seconds), ready: false, readySince: undefined },
    });
    expect(after('rebalance', [begun('rebalance')]).state).toBe('draining');
    expect(after('rebalance', [begun('rebalance'), starts(600)]).state).toBe('settled');
    expect(after('reboot', [begun('reboot'), starts(START + 60)]).state).toBe('settled');
    // A boot before the start leaves it to do, and what never comes back is drained on.
    expect(after('reboot', [begun('reboot'), starts(START - 60)]).state).toBe('draining');
    expect(after('spot-terminate', [starts(60)]).state).toBe('draining');
    const twice = [begun('rebalance'), { change: eventChange(spot()) }, starts(60)];
    expect(after('rebalance', twice).state).toBe('draining');
  });

  test('another boot after the start ends a reboot and a stop', () => {
    expect(rowsEndedBy(boot(START + 60)).toSorted()).toEqual(
      ['reboot', 'stop', 'stopping', 'spot-stop', 'rebalance'].toSorted(),
    );
  });

  test('an earlier boot ends no more than a rebalance recommendation, and is noted', () => {
    expect(rowsEndedBy(boot(20))).toEqual(['rebalance']);
    expect(after('reboot', [boot(20)]).machine.bootId).toBe('boot-2');
    // The same boot, seen after the start, is not another one.
    expect(isOver('reboot', boot(20), boot(START + 60))).toBe(false);
  });

  test('a boot before the start ends no more although it is seen after it', () => {
    const seen = (readySince: number): Step => ({
      at: at(START + 600),
      sight: { bootId: 'boot-2', readySince: at(readySince) },
    });
    expect(isOver('reboot', seen(START - 60))).toBe(false);
    expect(isOver('stop', seen(START - 60))).toBe(false);
    expect(isOver('reboot', seen(START + 60))).toBe(true);
    expect(isOver('stop', seen(START + 60))).toBe(true);
    // It is noted, so that being Ready anew later does not make it another.
    const flapped: Step = {
      at: at(START + 900),
      sight: { bootId: 'boot-2', readySince: at(START + 800) },
    };
    expect(isOver('reboot', seen(START - 60), flapped)).toBe(false);
  });

  test('a boot that was seen to come after the start ends them although Ready has never gone', () => {
    const seen = (bootSeenAt: number): Step => ({
      at: at(START + 600),
      sight: { bootId: 'boot-2', bootSeenAt: at(bootSeenAt), readySince: at(-600) },
    });
    expect(rowsEndedBy(seen(START + 60))).toEqual(rowsEndedBy(boot(START + 60)));
    expect(isOver('reboot', seen(START - 60))).toBe(false);
  });

  test('a boot counts when the node is Ready in it, and is not lost before', () => {
    const early: Step = { at: at(START + 60), sight: { bootId: 'boot-2', ready: false } };
    const ready: Step = {
      at: at(START + 90),
      sight: { bootId: 'boot-2', readySince: at(START + 80) },
    };
    expect(rowsEndedBy(early)).toEqual(['rebalance']);
    expect(after('reboot', [early]).machine.bootId).toBe('boot-1');
    expect(rowsEndedBy(early, ready)).toEqual(rowsEndedBy(boot(START + 60)));
  });

  test('what is first told of after the machine came back from it is old news', () => {
    const told = (now: number, readySince: number, bootSeenAt?: number) =>
      fold(
        undefined,
        eventChange(EVENTS.reboot),
        {
          ...SIGHT,
          bootId: 'boot-2',
          readySince: at(readySince),
          bootSeenAt: bootSeenAt === undefined ? undefined : at(bootSeenAt),
        },
        policy(),
        at(now),
      );
    expect(told(START + 600, START + 60).verdict).toBe('stale');
    expect(told(START + 600, -600, START + 60).verdict).toBe('stale');
    // Not yet: it was last started before.
    expect(told(START + 600, START - 60).verdict).toBe('recorded');
    // Told of in time, another boot must follow.
    expect(told(START - 600, START - 900).verdict).toBe('recorded');
  });

  test('of what is told of too late, being Ready anew much later says nothing', () => {
    const told: Step = { change: eventChange(EVENTS.reboot), at: at(START + 60) };
    const anew = (seconds: number): Step => ({
      at: at(START + 3600),
      sight: { readySince: at(seconds) },
    });
    const liveAfter = (...steps: readonly Step[]) =>
      steps.reduce<Journal | undefined>(
        (journal, { change = MENDED, at: now = 0, sight }) =>
          fold(journal, change, { ...SIGHT, readySince: at(-600), ...sight }, policy(), now)
            .journal,
        undefined,
      )?.live.length;
    expect(liveAfter(told)).toBe(1);
    expect(liveAfter(told, anew(START + 90))).toBe(0);
    expect(liveAfter(told, anew(START + 1800))).toBe(1);
  });

  test('where boot IDs are empty, Ready anew after the start says the same', () => {
    const anew = (seconds: number): Step => ({
      at: at(START + 600),
      sight: { bootId: '', ready: true, readySince: at(seconds) },
    });
    const first = { change: eventChange(EVENTS.reboot), at: at(1), sight: { bootId: '' } };
    const folded = [first, anew(START - 60)].reduce<Journal | undefined>(
      (journal, { change, at: now, sight }: Step) =>
        fold(journal, change ?? MENDED, { ...SIGHT, ...sight }, policy(), now ?? 0).journal,
      undefined,
    );
    expect(folded?.live).toHaveLength(1);
    const { at: now = 0, sight } = anew(START + 60);
    expect(fold(folded, MENDED, { ...SIGHT, ...sight }, policy(), now).journal?.live).toEqual([]);
  });

  test('its end ends network and power maintenance, when the node is Ready', () => {
    const ended = (seconds: number, ready: boolean): Step => ({
      at: at(seconds),
      sight: { ready },
    });
    expect(rowsEndedBy(ended(END, true)).toSorted()).toEqual(['network', 'power', 'rebalance']);
    expect(rowsEndedBy(ended(END, false))).toEqual(['rebalance']);
    expect(rowsEndedBy(ended(DAY - 1, true))).toEqual([]);
  });

  test('a day without another ends a rebalance recommendation', () => {
    const again: Step = { change: eventChange(rebalance(600)), at: at(601) };
    expect(isOver('rebalance', { at: at(DAY - 1) })).toBe(false);
    expect(isOver('rebalance', { at: at(DAY) })).toBe(true);
    expect(isOver('rebalance', again, { at: at(DAY) })).toBe(false);
    expect(isOver('rebalance', again, { at: at(DAY + 600) })).toBe(true);
  });

  test('a launch out of the warm pool ends the hook that sent the machine there', () => {
    const left = (seconds: number): Step => ({ change: { type: 'left-pool', at: at(seconds) } });
    expect(rowsEndedBy(left(60))).toEqual(['warm-pool-hook']);
    expect(rowsEndedBy(left(-60))).toEqual([]);
  });

  test('news that it is closed ends any scheduled change', () => {
    const changes = ROW_NAMES.filter((row) => ROWS[row].kind === 'scheduled-change');
    for (const row of changes) {
      const event = EVENTS[row];
      if (event.kind !== 'scheduled-change') throw new Error(row);
      const closed = eventChange({ ...event, status: 'closed', lastUpdatedAt: at(60) });
      expect(isOver(row, { change: closed, at: at(61) })).toBe(true);
    }
  });

  test('never by themselves: termination, capacity and hooks', () => {
    const all = [
      running(600),
      boot(30 * DAY),
      { change: { type: 'alive', at: at(30 * DAY) } } as Step,
    ];
    const left = ROW_NAMES.filter((row) => !isOver(row, ...all));
    expect(left.toSorted()).toEqual(
      [
        'capacity-block',
        'capacity-reservation',
        'shutting-down',
        'spot-terminate',
        'terminate-hook',
        'termination',
      ].toSorted(),
    );
    expect(left.every((row) => rowFacts(row).returns.length === 0)).toBe(true);
  });

  test('that time alone will, is known beforehand', () => {
    const times = ROW_NAMES.map((row) => [row, nextOverAt(after(row, []), at(1))] as const);
    const finite = times.filter(([, time]) => time !== Infinity);
    expect(Object.fromEntries(finite)).toEqual({
      rebalance: at(DAY),
      network: at(END),
      power: at(END),
    });
  });

  test('leaves a tombstone', () => {
    const journal = after('reboot', [boot(START + 60)]);
    expect(journal.state).toBe('undone');
    expect(journal.ended).toMatchObject([{ row: 'reboot', endedAt: at(START + 60) }]);
  });
});

describe('a machine that is off', () => {
  const stopped: Step = { change: eventChange(stateChange('stopped', 60)), at: at(61) };
  const terminated: Step = { change: eventChange(stateChange('terminated', 60)), at: at(61) };

  test.each(['spot-terminate', 'terminate-hook', 'stopping', 'rebalance'] as const)(
    'ends what is done for %s, and the journal stays',
    (row) => {
      const journal = after(row, [stopped]);
      expect(journal.state).toBe('stopped');
      expect(journal.live).toHaveLength(1);
    },
  );

  test('is on again when it was started', () => {
    const journal = after('spot-terminate', [stopped, running(120)]);
    expect(journal.signs.stopped).toBeUndefined();
    expect(journal.state).toBe('draining');
  });

  test('is not on again by a start that was before', () => {
    expect(after('spot-terminate', [stopped, running(30)]).state).toBe('stopped');
    expect(after('spot-terminate', [running(90), stopped]).state).toBe('draining');
  });

  test('that is terminated is not started again', () => {
    expect(after('spot-terminate', [terminated, running(120)]).state).toBe('stopped');
    expect(after('spot-terminate', [terminated, stopped]).state).toBe('stopped');
  });

  test.each<[string, Step]>([
    ['a Lease renewed since', { change: { type: 'alive', at: at(70) } }],
    ['another boot', boot(90)],
    ['Ready anew', { at: at(90), sight: { ready: true, readySince: at(80) } }],
  ])('is not off by %s, and the same news once more are stale', (_, sign) => {
    for (const off of [stopped, terminated]) {
      const journal = after('spot-terminate', [off, sign]);
      expect(journal.signs.stopped).toBeUndefined();
      const sight = { ...SIGHT, ...sign.sight };
      expect(fold(journal, off.change ?? MENDED, sight, policy(), at(99)).verdict).toBe('stale');
    }
  });

  test('may be taken out of service while it is not Ready, and is put back when it is', () => {
    const off: Step = { change: { type: 'out-of-service' }, sight: { ready: false } };
    const wrong: Step = { change: { type: 'out-of-service' } };
    expect(after('rebalance', [stopped, wrong]).signs.outOfServiceByUs).toBe(false);
    expect(after('rebalance', [off]).signs.outOfServiceByUs).toBe(false);
    expect(after('rebalance', [stopped, off]).signs.outOfServiceByUs).toBe(true);
    expect(after('rebalance', [stopped, off, {}]).signs.outOfServiceByUs).toBe(false);
  });
});

describe('the marks of a node', () => {
  function write(node: NodeView, changes: readonly Change[], now = at(1)): NodeView {
    const result = markWrite(node, undefined, changes, policy(), now, () => true);
    if (result === 'unrecordable') throw new Error('unrecordable');
    return patched(node, result.patch);
  }
  const begun = (node: NodeView, now = at(2)): NodeView =>
    write(node, [{ type: 'begun', ids: idsOf(node) }], now);
  const idsOf = (node: NodeView): readonly string[] =>
    (
      JSON.parse(node.journal ?? '{"interruptions":[]}') as { interruptions: { id: string }[] }
    ).interruptions.map(({ id }) => id);
  const marksOf = ({
    taints,
    unschedulable,
    interruptionLabel,
    excludeFromLoadBalancers,
  }: NodeView) => ({
    taints: taints.map(({ key, value, effect }) => `${value ?? key}:${effect}`),
    unschedulable,
    interruptionLabel,
    excludeFromLoadBalancers,
  });
  const none = {
    taints: [],
    unschedulable: false,
    interruptionLabel: undefined,
    excludeFromLoadBalancers: undefined,
  };
  const waiting = { ...none, taints: ['scheduled-change:PreferNoSchedule'] };
  const drained = {
    taints: ['scheduled-change:NoSchedule', 'node.kubernetes.io/unschedulable:NoSchedule'],
    unschedulable: true,
    interruptionLabel: 'scheduled-change',
    excludeFromLoadBalancers: 'true',
  };

  test('that waits are a PreferNoSchedule taint and a journal only', () => {
    expect(marksOf(write(nodeView(), [eventChange(scheduledChange())]))).toEqual(waiting);
  });

  test('come when its turn does, and go when it is over', () => {
    const marked = begun(write(nodeView(), [eventChange(scheduledChange())]));
    expect(marksOf(marked)).toEqual(drained);
    const rebooted = write({ ...marked, bootId: 'boot-2' }, [], at(START + 60));
    expect(marksOf(rebooted)).toEqual(none);
  });

  test('fall back to what the others need', () => {
    const both = write(nodeView(), [scheduledChange(), rebalance()].map(eventChange));
    const draining = write(both, [{ type: 'begun', ids: ['rebalance'] }], at(2));
    expect(marksOf(draining)).toEqual({
      ...drained,
      taints: ['rebalance:NoSchedule', 'node.kubernetes.io/unschedulable:NoSchedule'],
      interruptionLabel: 'rebalance',
    });
    expect(marksOf(write(draining, [], at(DAY)))).toEqual(waiting);
  });

  test('wait again when the change is put off beyond its lead', () => {
    const marked = begun(write(nodeView(), [eventChange(scheduledChange())]), at(START - 1800));
    const later = scheduledChange(60, { startAt: at(START + DAY), lastUpdatedAt: at(60) });
    expect(marksOf(write(marked, [eventChange(later)], at(START - 1700)))).toEqual(waiting);
  });

  test('stay while the change is put off within its lead', () => {
    const marked = begun(write(nodeView(), [eventChange(scheduledChange())]), at(START - 1800));
    const later = scheduledChange(60, { startAt: at(START + 600), lastUpdatedAt: at(60) });
    expect(marksOf(write(marked, [eventChange(later)], at(START - 1700)))).toEqual(drained);
  });

  test("leave a person's cordon, also one that came after the person had taken ours away", () => {
    const cordoned = nodeView({ unschedulable: true });
    const marked = begun(write(cordoned, [eventChange(scheduledChange())]));
    expect(write({ ...marked, bootId: 'boot-2' }, [], at(START + 60)).unschedulable).toBe(true);

    const ours = begun(write(nodeView(), [eventChange(scheduledChange())]));
    const uncordoned = write({ ...ours, unschedulable: false }, []);
    const theirs = { ...uncordoned, unschedulable: true, bootId: 'boot-2' };
    expect(write(theirs, [], at(START + 60)).unschedulable).toBe(true);
  });

  test('are what they were before, whatever came and went', () => {
    const news = fc.array(
      fc.constantFrom<NodeEvent>(
        scheduledChange(),
        scheduledChange(5, { eventArn: 'another', change: 'retirement' }),
        rebalance(3),
        spot(4, { action: 'stop' }),
        stateChange('stopping', 6),
        stateChange('stopped', 7),
      ),
      { maxLength: 8 },
    );
    const fields = fc.record({
      unschedulable: fc.boolean(),
      excludeFromLoadBalancers: fc.constantFrom(undefined, 'true', 'false'),
      taints: fc.constantFrom([], [{ key: 'gpu', effect: 'NoSchedule' }]),
    });
    fc.assert(
      fc.property(fields, news, fc.array(fc.boolean()), (before, events, turns) => {
        let node = nodeView(before);
        events.forEach((event, i) => {
          node = write(node, [eventChange(event)], at(10 + i));
          if (turns[i] === true) node = begun(node, at(20 + i));
        });
        const closed = scheduledChange(50, { status: 'closed', lastUpdatedAt: at(50) });
        const started = { ...node, bootId: 'boot-2' };
        const done = write(
          started,
          [stateChange('running', 600), closed].map(eventChange),
          at(START + 60),
        );
        expect({ ...marksOf(done), taints: done.taints }).toEqual({
          unschedulable: before.unschedulable,
          interruptionLabel: undefined,
          excludeFromLoadBalancers: before.excludeFromLoadBalancers,
          taints: before.taints,
        });
      }),
    );
  });
});
