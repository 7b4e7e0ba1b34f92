import { once } from 'node:events';
import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { createLog } from '../../src/report/log.ts';
import type { Level } from '../../src/report/messages.ts';

/** A reader that takes lines only when told to. */
function slowReader() {
  let text = '';
  let open = false;
  const waiting: (() => void)[] = [];
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      text += chunk;
      if (open) done();
      else waiting.push(done);
    },
  });
  return {
    stream,
    lines: () => text.split('\n').slice(0, -1),
    read() {
      open = true;
      for (const done of waiting.splice(0)) done();
    },
  };
}

function logOn(stream: Writable, level: Level = 'debug') {
  const broken: Error[] = [];
  const log = createLog({
    level,
    format: 'json',
    stream,
    clock: { now: () => 0 },
    onBroken: (error) => broken.push(error),
  });
  return { log, broken };
}

test.each([
  { level: 'debug', logged: ['debug', 'info', 'warn', 'error'] },
  { level: 'info', logged: ['info', 'warn', 'error'] },
  { level: 'warn', logged: ['warn', 'error'] },
  { level: 'error', logged: ['error'] },
] as const)('at level $level it logs $logged', async ({ level, logged }) => {
  const reader = slowReader();
  reader.read();
  const { log } = logOn(reader.stream, level);
  log.debug('duplicate');
  log.info('marked');
  log.warn('malformed message');
  log.error('fatal error');
  await log.close();
  expect(reader.lines().map((line) => line.match(/"level":"(\w+)"/)?.[1])).toEqual(logged);
});

test('lines of one turn go out together, and at once with a warning', async () => {
  const writes: number[] = [];
  const stream = new Writable({
    decodeStrings: false,
    write(_chunk, _encoding, done) {
      writes.push(1);
      done();
    },
    writev(chunks, done) {
      writes.push(chunks.length);
      done();
    },
  });
  const { log } = logOn(stream);
  log.info('marked');
  log.info('marked');
  log.debug('duplicate');
  expect(writes).toEqual([]);
  await new Promise((resolve) => {
    process.nextTick(resolve);
  });
  expect(writes).toEqual([3]);
  log.info('marked');
  log.warn('malformed message');
  expect(writes).toEqual([3, 2]);
  log.info('marked');
  await log.close();
  expect(writes.slice(0, 3)).toEqual([3, 2, 1]);
});

test('closing waits until the reader has every line', async () => {
  const reader = slowReader();
  const { log } = logOn(reader.stream);
  for (let i = 0; i < 1000; i++) log.info('marked', { i });
  const events: string[] = [];
  const closed = log.close().then(() => events.push('closed'));
  setImmediate(() => {
    events.push('read');
    reader.read();
  });
  await closed;
  expect(events).toEqual(['read', 'closed']);
  expect(reader.lines()).toHaveLength(1000);
  expect(reader.lines().at(-1)).toContain('"i":999');
});

test('what comes after closing is dropped, and closing twice is closing once', async () => {
  const reader = slowReader();
  reader.read();
  const { log } = logOn(reader.stream);
  log.info('stopped');
  await log.close();
  log.info('marked');
  await log.close();
  expect(reader.lines()).toHaveLength(1);
});

test('a reader that does not read costs lines, not memory, and the log says how many', async () => {
  const reader = slowReader();
  const { log } = logOn(reader.stream);
  const body = 'x'.repeat(10_000);
  for (let i = 0; i < 3000; i++) log.info('marked', { i, body });
  expect(reader.stream.writableLength).toBeLessThan(17 * 1024 * 1024);
  const drained = once(reader.stream, 'drain');
  reader.read();
  await drained;
  log.info('drained');
  await log.close();
  const lines = reader.lines();
  const lost = Number(lines.at(-2)?.match(/"message":"log lines lost","lines":(\d+)/)?.[1]);
  expect(lost).toBeGreaterThan(1000);
  expect(lines.length - 2 + lost).toBe(3000);
  expect(lines.at(-1)).toContain('"message":"drained"');
});

test('a stream that breaks is told once, and closing still ends', async () => {
  const stream = new Writable({
    write: (_chunk, _encoding, done) => done(new Error('write EPIPE')),
  });
  const { log, broken } = logOn(stream);
  const closed = new Promise((resolve) => stream.once('close', resolve));
  log.info('marked');
  await closed;
  log.info('drained');
  await log.close();
  expect(broken.map(({ message }) => message)).toEqual(['write EPIPE']);
});
