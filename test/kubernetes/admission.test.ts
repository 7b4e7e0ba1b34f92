import { beforeEach, describe, expect, test } from 'vitest';
import { createAdmission, type Admission, type Lane } from '../../src/kubernetes/admission.ts';
import { ManualClock } from './manual-clock.ts';

const LIMITS = {
  marks: 3,
  bulk: 4,
  bulkBesideMarks: 1,
  events: 2,
  eventsAfterMarksMs: 500,
  eventsBetweenMarksAfterMs: 2000,
  waiting: 5,
  longestWaitMs: { mark: 1000, bulk: 1000, event: 5000 },
};
let clock: ManualClock;
const { signal } = new AbortController();

/** Releases of those that were let in, in order. */
function enter(admission: Admission, lane: Lane, count: number) {
  const releases: (() => void)[] = [];
  for (let index = 0; index < count; index++) {
    const admitted = admission.admit(lane, signal);
    if (admitted instanceof Promise) {
      void admitted.then((release) => release && releases.push(release));
    } else if (admitted !== undefined) releases.push(admitted);
  }
  return releases;
}

async function settled(): Promise<void> {
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
}

beforeEach(() => {
  clock = new ManualClock();
});

describe('admission', () => {
  test('bulk goes up to its limit, the rest in order as places come free', async () => {
    const admission = createAdmission(LIMITS, clock);
    const inside = enter(admission, 'bulk', 6);
    await settled();
    expect(inside).toHaveLength(4);
    inside[0]?.();
    await settled();
    expect(inside).toHaveLength(5);
  });

  test('a mark never waits for bulk', async () => {
    const admission = createAdmission(LIMITS, clock);
    enter(admission, 'bulk', 9);
    expect(enter(admission, 'mark', 3)).toHaveLength(3);
  });

  test('while a mark is in flight, bulk only trickles', async () => {
    const admission = createAdmission(LIMITS, clock);
    const [markDone] = enter(admission, 'mark', 1);
    const bulk = enter(admission, 'bulk', 4);
    await settled();
    expect(bulk).toHaveLength(1);
    bulk[0]?.();
    await settled();
    expect(bulk).toHaveLength(2);
    markDone?.();
    await settled();
    expect(bulk).toHaveLength(4);
  });

  test('bulk that was in flight before a mark counts towards the trickle', async () => {
    const admission = createAdmission(LIMITS, clock);
    const bulk = enter(admission, 'bulk', 2);
    enter(admission, 'mark', 1);
    const later = enter(admission, 'bulk', 1);
    bulk[0]?.();
    await settled();
    expect(later).toHaveLength(0);
    bulk[1]?.();
    await settled();
    expect(later).toHaveLength(1);
  });

  test('places that come free go to waiting marks before waiting bulk', async () => {
    const admission = createAdmission(LIMITS, clock);
    const marks = enter(admission, 'mark', 5);
    const bulk = enter(admission, 'bulk', 2);
    await settled();
    expect([marks.length, bulk.length]).toEqual([3, 1]);
    marks[0]?.();
    marks[1]?.();
    await settled();
    expect([marks.length, bulk.length]).toEqual([5, 1]);
  });

  test('whoever gives up waiting takes no place', async () => {
    const admission = createAdmission({ ...LIMITS, bulk: 1 }, clock);
    const [done] = enter(admission, 'bulk', 1);
    const giveUp = new AbortController();
    const given = admission.admit('bulk', giveUp.signal);
    const next = enter(admission, 'bulk', 1);
    giveUp.abort(new Error('enough'));
    await expect(given).rejects.toThrow('enough');
    done?.();
    await settled();
    expect(next).toHaveLength(1);
  });

  test('bulk goes on when the last waiting mark gives up', async () => {
    const admission = createAdmission({ ...LIMITS, marks: 0 }, clock);
    const giveUp = new AbortController();
    const mark = admission.admit('mark', giveUp.signal);
    const bulk = enter(admission, 'bulk', 3);
    await settled();
    expect(bulk).toHaveLength(1);
    giveUp.abort(new Error('enough'));
    await expect(mark).rejects.toThrow('enough');
    await settled();
    expect(bulk).toHaveLength(3);
  });

  test('events go when no mark is about and nothing waits, and hold up nobody', async () => {
    const admission = createAdmission(LIMITS, clock);
    const events = enter(admission, 'event', 3);
    expect(events).toHaveLength(2);
    const bulk = enter(admission, 'bulk', 5);
    const marks = enter(admission, 'mark', 4);
    expect([bulk.length, marks.length]).toEqual([4, 3]);
    events[0]?.();
    await settled();
    // The third waits for the marks, and for the bulk that waits.
    expect(events).toHaveLength(2);
    for (const done of marks) done();
    await settled();
    for (const done of marks.slice(3)) done();
    await settled();
    expect([marks.length, bulk.length, events.length]).toEqual([4, 4, 2]);
    clock.advance(LIMITS.eventsAfterMarksMs);
    await settled();
    expect(events).toHaveLength(2);
    bulk[0]?.();
    await settled();
    expect([bulk.length, events.length]).toEqual([5, 3]);
    expect(clock.pending()).toBe(0);
  });

  test('events wait until no mark has been about for a while', async () => {
    const admission = createAdmission(LIMITS, clock);
    const [first] = enter(admission, 'mark', 1);
    first?.();
    const events = enter(admission, 'event', 1);
    clock.advance(LIMITS.eventsAfterMarksMs - 1);
    const [second] = enter(admission, 'mark', 1);
    clock.advance(LIMITS.eventsAfterMarksMs);
    second?.();
    clock.advance(LIMITS.eventsAfterMarksMs - 1);
    await settled();
    expect(events).toHaveLength(0);
    clock.advance(1);
    await settled();
    expect(events).toHaveLength(1);
    expect(enter(admission, 'event', 1)).toHaveLength(1);
    expect(clock.pending()).toBe(0);
  });

  test('events go between marks that come without a pause for long', async () => {
    const admission = createAdmission(LIMITS, clock);
    const events: (() => void)[] = [];
    const inside: number[] = [];
    for (let passed = 0; passed <= 2400; passed += 400) {
      const marks = enter(admission, 'mark', 1);
      if (passed === 0) events.push(...enter(admission, 'event', 2));
      clock.advance(10);
      for (const done of marks) done();
      await settled();
      clock.advance(390);
      await settled();
      inside.push(clock.pending());
    }
    // Of two that wait each has a limit, and both one timer until marks pause.
    expect(inside).toEqual([3, 3, 3, 3, 0, 0, 0]);
    // A pause, and it all begins anew.
    clock.advance(LIMITS.eventsAfterMarksMs);
    enter(admission, 'mark', 1)[0]?.();
    expect(enter(admission, 'event', 1)).toEqual([]);
  });

  test('events wait no longer for a clock that was set back', async () => {
    const admission = createAdmission(LIMITS, clock);
    enter(admission, 'mark', 1)[0]?.();
    clock.setBack(3_600_000);
    const events = enter(admission, 'event', 1);
    clock.advance(LIMITS.eventsAfterMarksMs);
    await settled();
    expect(events).toHaveLength(1);
  });

  test('an event that gives up leaves no timer', async () => {
    const admission = createAdmission(LIMITS, clock);
    enter(admission, 'mark', 1)[0]?.();
    const giveUp = new AbortController();
    const event = admission.admit('event', giveUp.signal);
    giveUp.abort(new Error('enough'));
    await expect(event).rejects.toThrow('enough');
    expect(clock.pending()).toBe(0);
  });

  test('an event goes on when the last mark that waits gives up', async () => {
    const admission = createAdmission({ ...LIMITS, marks: 0 }, clock);
    const giveUp = new AbortController();
    const mark = admission.admit('mark', giveUp.signal);
    const events = enter(admission, 'event', 1);
    expect(events).toHaveLength(0);
    giveUp.abort(new Error('enough'));
    await expect(mark).rejects.toThrow('enough');
    clock.advance(LIMITS.eventsAfterMarksMs);
    await settled();
    expect(events).toHaveLength(1);
  });

  test('those beyond the bound are turned away', () => {
    const admission = createAdmission(LIMITS, clock);
    enter(admission, 'bulk', LIMITS.bulk + LIMITS.waiting);
    expect(admission.admit('bulk', signal)).toBeUndefined();
    expect(admission.admit('mark', signal)).toBeTypeOf('function');
  });

  test('nobody waits for a place longer than the limit', async () => {
    const admission = createAdmission({ ...LIMITS, bulk: 1 }, clock);
    const [done] = enter(admission, 'bulk', 1);
    const late = admission.admit('bulk', signal);
    clock.advance(LIMITS.longestWaitMs.bulk - 1);
    const next = enter(admission, 'bulk', 1);
    clock.advance(1);
    expect(await late).toBeUndefined();
    done?.();
    await settled();
    expect(next).toHaveLength(1);
    expect(clock.pending()).toBe(0);
  });

  test('a place given back twice is one place', async () => {
    const admission = createAdmission({ ...LIMITS, bulk: 1 }, clock);
    const inside = enter(admission, 'bulk', 3);
    inside[0]?.();
    inside[0]?.();
    await settled();
    expect(inside).toHaveLength(2);
  });
});
