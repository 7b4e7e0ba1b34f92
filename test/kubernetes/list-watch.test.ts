import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock, type Clock } from '../../src/clock.ts';
import { connect, type Connection } from '../../src/kubernetes/connection.ts';
import { ListWatch, type Feed } from '../../src/kubernetes/list-watch.ts';
import { eventually } from '../harness/eventually.ts';
import { ManualClock } from './manual-clock.ts';
import { recordedReport } from './recorded-report.ts';
import { startScriptedServer, type Call, type ScriptedServer } from './scripted-server.ts';

type Thing = { metadata?: { name?: string; resourceVersion?: string } };

const THINGS: Feed<string> = {
  what: 'things',
  path: '/api/v1/things',
  query: { fieldSelector: 'a!=b' },
  accept: { list: 'application/json;as=List', watch: 'application/json;as=One' },
  project: ({ metadata }: Thing) => metadata?.name,
};

const thing = (name: string, resourceVersion: string): Thing => ({
  metadata: { name, resourceVersion },
});
const event = (type: string, name: string, version: string) => ({
  type,
  object: thing(name, version),
});
const bookmark = (resourceVersion: string) => ({
  type: 'BOOKMARK',
  object: { metadata: { resourceVersion } },
});
const list = (resourceVersion: string, names: readonly string[], next?: string) => ({
  metadata: { resourceVersion, ...(next !== undefined && { continue: next }) },
  items: names.map((name) => thing(name, '1')),
});
const expired = {
  type: 'ERROR',
  object: { kind: 'Status', code: 410, message: 'too old resource version: 5 (9)' },
};

let server: ScriptedServer;
let connection: Connection;
let stop: AbortController;
let running: Promise<void>;
let told: string[];
let report: ReturnType<typeof recordedReport>;

beforeEach(async () => {
  server = await startScriptedServer();
  told = [];
  report = recordedReport();
  stop = new AbortController();
  running = Promise.resolve();
});

afterEach(async () => {
  stop.abort();
  await running;
  await connection.close();
  await server.stop();
});

async function follow(clock: Clock = systemClock, version?: string): Promise<ListWatch<string>> {
  connection = connect({
    kubeconfigPath: await server.kubeconfig(),
    userAgent: 'x',
    clock,
    report,
  });
  const follower = {
    onList: (listed: { items: readonly string[]; resourceVersion: string }) =>
      void told.push(`list ${listed.resourceVersion}: ${listed.items.join(' ')}`),
    onEvent: (type: string, item: string) => {
      if (item === 'poison') throw new Error('cannot take it');
      told.push(`${type} ${item}`);
    },
  };
  const listWatch = new ListWatch(THINGS, follower, { connection, clock, report }, version);
  running = listWatch.run(stop.signal);
  return listWatch;
}

/** The next request, which must be a watch from that version; its head is sent. */
async function watchFrom(version: string): Promise<Call> {
  const call = await server.take();
  expect(call.query.get('watch')).toBe('true');
  expect(call.query.get('resourceVersion')).toBe(version);
  call.open();
  return call;
}

async function takeList(): Promise<Call> {
  const call = await server.take();
  expect(call.query.has('watch')).toBe(false);
  return call;
}

async function untilTold(count: number): Promise<void> {
  await eventually(() => told.length >= count);
}

describe('the list', () => {
  test('is read in pages and told as one', async () => {
    await follow();
    const first = await takeList();
    expect(first.headers.accept).toBe('application/json;as=List');
    expect(Object.fromEntries(first.query)).toEqual({ fieldSelector: 'a!=b', limit: '500' });
    first.json(200, list('5', ['a', 'b'], 'page 2'));
    const second = await takeList();
    expect(second.query.get('continue')).toBe('page 2');
    expect(told).toEqual([]);
    second.json(200, list('5', ['c'], ''));
    await watchFrom('5');
    expect(told).toEqual(['list 5: a b c']);
  });

  test('may be empty, as Go writes it', async () => {
    await follow();
    (await takeList()).json(200, { metadata: { resourceVersion: '5' }, items: null });
    await watchFrom('5');
    expect(told).toEqual(['list 5: ']);
  });

  test('starts again when its continuation has expired', async () => {
    await follow();
    (await takeList()).json(200, list('5', ['a'], 'next'));
    (await takeList()).json(410, { kind: 'Status', reason: 'Expired' });
    const again = await takeList();
    expect(again.query.has('continue')).toBe(false);
    again.json(200, list('9', ['b']));
    await watchFrom('9');
    expect(told).toEqual(['list 9: b']);
  });

  test('begins anew after pages that lead back to an earlier one', async () => {
    await follow();
    for (const next of ['here', 'there', 'here']) {
      (await takeList()).json(200, list('5', ['a'], next));
    }
    const again = await takeList();
    expect(again.query.has('continue')).toBe(false);
    again.json(200, list('6', ['b']));
    await watchFrom('6');
    expect(told).toEqual(['list 6: b']);
  });

  test.each([
    ['an error', (call: Call) => call.json(503, { message: 'starting' })],
    ['a refusal', (call: Call) => call.json(403, { message: 'not yet' })],
    ['a reset', (call: Call) => call.reset()],
    [
      'half an answer',
      (call: Call) => {
        call.open();
        call.bytes(Buffer.from('{"items":'));
        call.reset();
      },
    ],
    ['a page of somebody else', (call: Call) => call.text(200, '<html>')],
    ['JSON of somebody else', (call: Call) => call.json(200, { hello: 'world' })],
  ])('is tried again after %s', async (_, fail) => {
    await follow();
    fail(await takeList());
    (await takeList()).json(200, list('5', ['a']));
    await watchFrom('5');
    expect(told).toEqual(['list 5: a']);
  });

  test('waits as long as an overloaded server asks', async () => {
    const clock = new ManualClock();
    await follow(clock);
    (await takeList()).text(429, 'Too many requests', { 'retry-after': '20' });
    await eventually(() => report.said.length > 0);
    expect(clock.untilNext()).toBe(22_500);
    clock.advance(22_500);
    (await takeList()).json(200, list('5', ['a']));
    await watchFrom('5');
    expect(told).toEqual(['list 5: a']);
  });

  test('that cannot be had is told to people once, and so is its success', async () => {
    await follow();
    for (let count = 0; count < 6; count++) (await takeList()).json(403, { message: 'no right' });
    (await takeList()).json(200, list('5', []));
    await watchFrom('5');
    const loud = report.said.filter(([level]) => level !== 'debug');
    expect(loud).toEqual([
      ['warn', 'cannot follow', { what: 'things', reason: 'could not list things: 403 no right' }],
      ['info', 'following again', { what: 'things' }],
    ]);
  });
});

describe('the watch', () => {
  async function watching(clock?: Clock): Promise<{ listWatch: ListWatch<string>; call: Call }> {
    const listWatch = await follow(clock);
    (await takeList()).json(200, list('5', []));
    const call = await watchFrom('5');
    await untilTold(1);
    expect(told).toEqual(['list 5: ']);
    told.length = 0;
    return { listWatch, call };
  }

  test('asks for bookmarks and for an end in five to ten minutes', async () => {
    await follow(systemClock, '5');
    const call = await server.take();
    expect(Object.fromEntries(call.query)).toEqual({
      fieldSelector: 'a!=b',
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: '5',
      timeoutSeconds: expect.stringMatching(/^[3-5]\d\d|600$/),
    });
    expect(call.headers.accept).toBe('application/json;as=One');
    call.open();
  });

  test('tells events in order', async () => {
    const { call } = await watching();
    call.events(event('ADDED', 'a', '6'), event('MODIFIED', 'a', '7'));
    call.events(event('DELETED', 'a', '8'));
    await untilTold(3);
    expect(told).toEqual(['ADDED a', 'MODIFIED a', 'DELETED a']);
  });

  test('goes on from the last event when it ends', async () => {
    const { call } = await watching();
    call.events(event('ADDED', 'a', '6'));
    call.end();
    const next = await watchFrom('6');
    next.events(event('ADDED', 'b', '7'));
    await untilTold(2);
    expect(told).toEqual(['ADDED a', 'ADDED b']);
  });

  test('goes on from the last bookmark', async () => {
    const { call } = await watching();
    call.events(bookmark('77'));
    call.end();
    await watchFrom('77');
    expect(told).toEqual([]);
  });

  test('goes on when it is reset in the midst of a line, and tells that line once', async () => {
    const { call } = await watching();
    const line = Buffer.from(`${JSON.stringify(event('ADDED', 'b', '7'))}\n`);
    call.events(event('ADDED', 'a', '6'));
    call.bytes(line.subarray(0, 20));
    await untilTold(1);
    expect(told).toEqual(['ADDED a']);
    call.reset();
    const next = await watchFrom('6');
    next.bytes(line);
    await untilTold(2);
    expect(told).toEqual(['ADDED a', 'ADDED b']);
  });

  test('that ends properly in the midst of a line goes on before it', async () => {
    const { call } = await watching();
    call.events(event('ADDED', 'a', '6'));
    call.bytes(Buffer.from('{"type":"ADDED","obj'));
    call.end();
    await watchFrom('6');
    expect(told).toEqual(['ADDED a']);
  });

  test('joins lines that arrive byte by byte, also within a character', async () => {
    const { call } = await watching();
    const line = Buffer.from(
      `${JSON.stringify(event('ADDED', 'größe-€-🙂', '6'))}\n${JSON.stringify(event('ADDED', 'b', '7'))}\n`,
    );
    for (const byte of line) {
      call.bytes(Buffer.of(byte));
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    }
    await untilTold(2);
    expect(told).toEqual(['ADDED größe-€-🙂', 'ADDED b']);
  });

  test('takes a line of three megabytes', async () => {
    const { call } = await watching();
    const object = { ...thing('big', '6'), padding: 'ä'.repeat(1_500_000) };
    call.events({ type: 'ADDED', object }, event('ADDED', 'b', '7'));
    await untilTold(2);
    expect(told).toEqual(['ADDED big', 'ADDED b']);
  });

  test('takes empty lines for nothing', async () => {
    const { call } = await watching();
    call.bytes(Buffer.from('\n\n'));
    call.events(event('ADDED', 'a', '6'));
    await untilTold(1);
    expect(told).toEqual(['ADDED a']);
  });

  test.each([
    [
      '410 as an event',
      (call: Call) => {
        call.open();
        call.events(expired);
      },
    ],
    [
      '410 as an event, and end',
      (call: Call) => {
        call.open();
        call.events(expired);
        call.end();
      },
    ],
    ['410 as a status', (call: Call) => call.json(410, { message: 'gone' })],
    [
      'another error event',
      (call: Call) => {
        call.open();
        call.events({ type: 'ERROR', object: { code: 500, message: 'x' } });
      },
    ],
    [
      'what is not JSON',
      (call: Call) => {
        call.open();
        call.bytes(Buffer.from('{"type": nonsense}\n'));
      },
    ],
    [
      'an event of unknown type',
      (call: Call) => {
        call.open();
        call.events(event('EXPLODED', 'a', '6'));
      },
    ],
    [
      'an event without an object',
      (call: Call) => {
        call.open();
        call.events({ type: 'ADDED' });
      },
    ],
    [
      'a line that is null',
      (call: Call) => {
        call.open();
        call.bytes(Buffer.from('null\n'));
      },
    ],
  ])('lists again after %s', async (_, lose) => {
    await follow(systemClock, '5');
    lose(await server.take());
    (await takeList()).json(200, list('9', ['b']));
    await watchFrom('9');
    expect(told).toEqual(['list 9: b']);
  });

  test('lists again after a line without end', async () => {
    const { call } = await watching();
    const chunk = Buffer.alloc(8 * 1024 * 1024, 'x');
    for (let count = 0; count < 5; count++) call.bytes(chunk);
    (await takeList()).json(200, list('9', ['a']));
    await watchFrom('9');
    expect(told).toEqual(['list 9: a']);
  });

  test('keeps its place when it cannot start: refused, overloaded, reset', async () => {
    const { call } = await watching();
    call.events(event('ADDED', 'a', '6'));
    await untilTold(1);
    expect(told).toEqual(['ADDED a']);
    call.reset();
    (await server.take()).json(403, { message: 'starting' });
    (await server.take()).text(429, 'Too many requests', { 'retry-after': '0' });
    (await server.take()).reset();
    await watchFrom('6');
    expect(told).toEqual(['ADDED a']);
  });

  /** Does what ends the watch, and returns how long it then waits; the clock is moved on by that. */
  async function waitAfter(clock: ManualClock, end: () => void): Promise<number> {
    // The pause begins in the same turn as one of these is said.
    const pauses = () =>
      report.said.filter(
        ([, message, facts]) =>
          message === 'cannot follow' || (message === 'watch ended' && facts?.['reason']),
      ).length;
    const before = pauses();
    end();
    await eventually(() => pauses() > before);
    const waitMs = clock.untilNext();
    clock.advance(waitMs);
    return waitMs;
  }

  test('waits as long as an overloaded server asks', async () => {
    const clock = new ManualClock();
    const { call } = await watching(clock);
    await waitAfter(clock, call.reset);
    const refused = await server.take();
    const waitMs = await waitAfter(clock, () =>
      refused.text(429, 'Too many requests', { 'retry-after': '20' }),
    );
    expect(waitMs).toBe(22_500);
    await watchFrom('5');
  });

  test('that ends at once, time and again, is not tried in a busy loop', async () => {
    const clock = new ManualClock();
    let { call } = await watching(clock);
    const waits: number[] = [];
    for (let count = 0; count < 6; count++) {
      waits.push(await waitAfter(clock, call.end));
      call = await watchFrom('5');
    }
    expect(waits).toEqual([75, 150, 300, 375, 375, 375]);
  });

  test('forgets earlier failures once it has lasted', async () => {
    const clock = new ManualClock();
    let { call } = await watching(clock);
    for (let count = 0; count < 4; count++) {
      await waitAfter(clock, call.end);
      call = await watchFrom('5');
    }
    clock.advance(6000);
    expect(await waitAfter(clock, call.reset)).toBe(75);
    await watchFrom('5');
  });

  test('that has been silent for too long is made anew', async () => {
    const clock = new ManualClock();
    const { call } = await watching(clock);
    call.events(event('ADDED', 'a', '6'));
    await untilTold(1);
    expect(told).toEqual(['ADDED a']);
    clock.advance(149_000);
    call.events(event('ADDED', 'b', '7'));
    await untilTold(2);
    expect(told).toEqual(['ADDED a', 'ADDED b']);
    clock.advance(149_000);
    call.events(event('ADDED', 'c', '8'));
    await untilTold(3);
    await waitAfter(clock, () => clock.advance(150_000));
    await watchFrom('8');
    expect(told).toEqual(['ADDED a', 'ADDED b', 'ADDED c']);
    await eventually(() => call.socket.destroyed);
  });

  test('whose head does not come is tried anew after ten seconds', async () => {
    const clock = new ManualClock();
    await follow(clock, '5');
    await server.take();
    await waitAfter(clock, () => clock.advance(10_000));
    const next = await watchFrom('5');
    next.events(event('ADDED', 'a', '6'));
    await untilTold(1);
    expect(told).toEqual(['ADDED a']);
  });

  test('survives a follower that throws, and says so', async () => {
    const { call } = await watching();
    call.events(event('ADDED', 'poison', '6'), event('ADDED', 'b', '7'));
    await untilTold(1);
    expect(told).toEqual(['ADDED b']);
    expect(report.said).toContainEqual([
      'error',
      'listener failed',
      { what: 'things', error: new Error('cannot take it') },
    ]);
  });

  test('ends when it is asked to, and tells nothing more', async () => {
    const { call } = await watching();
    stop.abort();
    await running;
    await eventually(() => call.socket.destroyed);
    expect(told).toEqual([]);
  });

  test('knows when it was last spoken to, and a list counts from when it was asked for', async () => {
    const clock = new ManualClock();
    const listWatch = await follow(clock);
    expect(listWatch.lastHeardAt()).toBe(0);
    const asked = clock.now();
    const listCall = await takeList();
    clock.advance(700);
    listCall.json(200, list('5', []));
    const call = await watchFrom('5');
    expect(listWatch.lastHeardAt()).toBe(asked);
    clock.advance(1000);
    call.events(bookmark('6'));
    await eventually(() => listWatch.lastHeardAt() === asked + 1700);
    clock.advance(1000);
    await waitAfter(clock, () => call.events(expired));
    await takeList();
    expect(listWatch.lastHeardAt()).toBe(asked + 1700);
  });
});

describe('a refresh', () => {
  const { signal } = new AbortController();

  test('lists at once, resolves when that is told, and goes on watching from there', async () => {
    const listWatch = await follow(systemClock, '5');
    const call = await watchFrom('5');
    const refreshed = listWatch.refresh(signal);
    (await takeList()).json(200, list('9', ['a']));
    await refreshed;
    expect(told).toEqual(['list 9: a']);
    await watchFrom('9');
    await eventually(() => call.socket.destroyed);
  });

  test('that is asked for during a list waits for a later one', async () => {
    const listWatch = await follow();
    const first = await takeList();
    const refreshed = listWatch.refresh(signal);
    first.json(200, list('5', []));
    (await takeList()).json(200, list('6', []));
    await refreshed;
    expect(told).toEqual(['list 5: ', 'list 6: ']);
  });

  test('rejects when the list cannot be had, and the watch goes on where it was', async () => {
    const listWatch = await follow(systemClock, '5');
    await watchFrom('5');
    const refreshed = listWatch.refresh(signal);
    (await takeList()).json(503, { message: 'not now' });
    await expect(refreshed).rejects.toThrow('could not list things: 503 not now');
    await watchFrom('5');
  });

  test('rejects when it is aborted', async () => {
    const listWatch = await follow(systemClock, '5');
    await watchFrom('5');
    const giveUp = new AbortController();
    const refreshed = listWatch.refresh(giveUp.signal);
    giveUp.abort(new Error('enough'));
    await expect(refreshed).rejects.toThrow('enough');
  });

  test('rejects after the end', async () => {
    const listWatch = await follow(systemClock, '5');
    const call = await watchFrom('5');
    const before = listWatch.refresh(signal);
    stop.abort();
    await expect(before).rejects.toThrow(/aborted|no longer following things/);
    await running;
    await expect(listWatch.refresh(signal)).rejects.toThrow('no longer following things');
    await eventually(() => call.socket.destroyed);
  });
});
