import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { jsonLine, textLine } from '../../src/report/line.ts';

const at = Date.parse('2026-11-22T03:12:45.120Z');

function json(facts: Record<string, unknown>): unknown {
  return JSON.parse(jsonLine({ at, level: 'info', message: 'marked', facts }));
}

function text(facts: Record<string, unknown>, level: 'info' | 'error' = 'info') {
  return textLine({ at, level, message: 'marked', facts });
}

describe('a line of JSON', () => {
  test('begins with time, level and message, then come the facts in their order', () => {
    const facts = { node: 'ip-10-0-0-1', secondsLeft: 115, pods: ['a/b'], nothing: undefined };
    expect(jsonLine({ at, level: 'warn', message: 'marked', facts })).toBe(
      '{"time":"2026-11-22T03:12:45.120Z","level":"warn","message":"marked","node":"ip-10-0-0-1","secondsLeft":115,"pods":["a/b"]}',
    );
  });

  test('facts cannot take the place of time, level or message', () => {
    expect(json({ time: 1, level: 2, message: 3, message_: 4, timestamp: 5 })).toEqual({
      time: '2026-11-22T03:12:45.120Z',
      level: 'info',
      message: 'marked',
      time_: 1,
      level_: 2,
      message_: 3,
      message__: 4,
      timestamp: 5,
    });
  });

  test('an error is told with name, code, stack and the chain of its causes', () => {
    const refused = Object.assign(new TypeError('refused'), { code: 'ECONNREFUSED' });
    const error = new Error('marking failed', { cause: new AggregateError([refused], 'all') });
    expect(json({ error, facts: { nested: [refused] } })).toMatchObject({
      error: {
        message: 'marking failed',
        stack: expect.stringContaining('line.test.ts') as unknown,
        cause: {
          name: 'AggregateError',
          message: 'all',
          errors: [{ name: 'TypeError', message: 'refused', code: 'ECONNREFUSED' }],
        },
      },
      facts: { nested: [{ message: 'refused' }] },
    });
  });

  test('what JSON does not know is told in words', () => {
    const circular: Record<string, unknown> = { name: 'a' };
    circular['self'] = circular;
    const throws = {
      get secret(): string {
        throw new Error('no');
      },
    };
    expect(
      json({
        big: 12n ** 20n,
        nan: Number.NaN,
        symbol: Symbol('s'),
        date: new Date(0),
        invalid: new Date(Number.NaN),
        url: new URL('http://a/b'),
        map: new Map([['k', new Set([1])]]),
        bytes: Buffer.from('abc'),
        run: function run() {},
        circular,
        throws,
      }),
    ).toMatchObject({
      big: '3833759992447475122176',
      nan: 'NaN',
      symbol: 'Symbol(s)',
      date: '1970-01-01T00:00:00.000Z',
      invalid: null,
      url: 'http://a/b',
      map: [['k', [1]]],
      bytes: '[3 bytes]',
      run: '[function run]',
      circular: { name: 'a', self: '[circular]' },
      throws: '[unreadable: Error: no]',
    });
  });

  test('the same object twice, side by side, is no circle', () => {
    const shared = { a: 1 };
    expect(json({ x: shared, y: [shared, shared] })).toMatchObject({
      x: { a: 1 },
      y: [{ a: 1 }, { a: 1 }],
    });
  });

  test('its length has a bound, and says what was left out', () => {
    let deep: unknown = 'end';
    for (let i = 0; i < 10_000; i++) deep = { deep };
    const wide = Array.from({ length: 100_000 }, () => ({ a: 1 }));
    const bush = Array.from({ length: 150 }, () => Array.from({ length: 150 }, () => [1, 2]));
    const line = jsonLine({
      at,
      level: 'info',
      message: 'marked',
      facts: { body: 'x'.repeat(1_000_000), wide, deep, bush },
    });
    expect(line.length).toBeLessThan(100_000);
    expect(line).toContain('… (983616 more characters)');
    expect(line).toContain('… 99800 more');
  });
});

describe('a line for people', () => {
  test('is aligned: time of day, level, message, facts', () => {
    const facts = { node: 'ip-10-0-0-1', pods: ['shop/web-1', 'shop/web-2'], nested: { a: [1] } };
    expect(text(facts)).toBe(
      '03:12:45.120 INFO  marked                   node=ip-10-0-0-1 pods=shop/web-1,shop/web-2 nested={"a":[1]}',
    );
    expect(text({})).toBe('03:12:45.120 INFO  marked');
  });

  test('quotes what could be mistaken for something else', () => {
    expect(text({ reason: 'two words', empty: '', none: null, tricky: 'a node=b', list: [] })).toBe(
      '03:12:45.120 INFO  marked                   reason="two words" empty="" none=null tricky="a node=b" list=[]',
    );
  });

  test('tells an error as the chain of its messages, and its stack only at level error', () => {
    const error = new Error('marking failed', { cause: new Error('refused') });
    expect(text({ error })).toMatch(/ error="marking failed: refused"$/);
    const [first, ...stack] = text({ error }, 'error').split('\n');
    expect(first).toMatch(/ERROR marked .* error="marking failed: refused"$/);
    expect(stack.length).toBeGreaterThan(0);
    expect(stack.every((line) => line.startsWith('    at '))).toBe(true);
  });
});

// Written as codes: they would not be seen here either.
const UNSEEN = [
  0x00, 0x08, 0x0a, 0x0b, 0x0d, 0x1b, 0x7f, 0x85, 0x9b, 0xad, 0x200b, 0x200f, 0x2028, 0x2029,
  0x202e, 0x2066, 0xfeff,
].map((code) => String.fromCharCode(code));

describe('nothing that comes from outside forges a line or acts on a terminal', () => {
  const facts = fc.dictionary(
    fc.string({ unit: fc.oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom(...UNSEEN)) }),
    fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withTypedArray: true,
      withNullPrototype: true,
      withObjectString: true,
      withSparseArray: true,
    }),
  );

  test.each(['json', 'text'] as const)('%s: whatever the facts, it is one line', (form) => {
    const toLine = form === 'json' ? jsonLine : textLine;
    fc.assert(
      fc.property(facts, (given) => {
        const line = toLine({ at, level: 'info', message: 'marked', facts: given });
        expect(UNSEEN.filter((character) => line.includes(character))).toEqual([]);
      }),
    );
  });

  test('whatever the facts, the line parses as JSON and keeps its first three fields', () => {
    fc.assert(
      fc.property(facts, (given) => {
        expect(json(given)).toMatchObject({
          time: '2026-11-22T03:12:45.120Z',
          level: 'info',
          message: 'marked',
        });
      }),
    );
  });

  test.each(UNSEEN.map((character) => [character.charCodeAt(0).toString(16), character]))(
    'U+%s in a value and in an error',
    (_, character) => {
      const value = `a${character}03:12:45.120 INFO  drained`;
      for (const given of [{ value }, { [value]: 1 }, { error: new Error(value) }]) {
        expect(text(given)).not.toContain(character);
        expect(jsonLine({ at, level: 'error', message: 'marked', facts: given })).not.toContain(
          character,
        );
      }
      expect(json({ value })).toMatchObject({ value });
    },
  );
});
