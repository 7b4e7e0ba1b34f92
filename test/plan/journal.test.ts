import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { EndedInterruption } from '../../src/plan/interruption.ts';
import {
  isOfMachine,
  MAX_ENDED,
  MAX_JOURNAL_BYTES,
  MAX_LIVE,
  readJournal,
  writeJournal,
  type Journal,
} from '../../src/plan/journal.ts';
import * as arbitrary from './arbitraries.ts';
import { at, interruption, journal, MACHINE } from './samples.ts';

function textOf(value: Journal): string {
  const text = writeJournal(value);
  if (text === undefined) throw new Error('too much for one journal');
  return text;
}

function read(text: string): Journal {
  const result = readJournal(text);
  if (result.outcome !== 'read') throw new Error(`not read: ${JSON.stringify(result)}`);
  return result.journal;
}

function bytesOf(text: string): number {
  return Buffer.byteLength(text, 'utf8');
}

function ended(count: number, changes: Partial<EndedInterruption> = {}): EndedInterruption[] {
  return Array.from({ length: count }, (_, i) => ({
    ...interruption({ id: `over-${i}` }),
    endedAt: at(i),
    ...changes,
  }));
}

/** A journal's JSON, changed at will. */
function altered(change: (json: Record<string, unknown>) => void): string {
  const json = JSON.parse(textOf(journal({ live: [interruption()], ended: ended(1) }))) as Record<
    string,
    unknown
  >;
  change(json);
  return JSON.stringify(json);
}

/** Of every object in it, however deep. */
function keysIn(value: unknown): readonly string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => [
    ...(Array.isArray(value) ? [] : [key]),
    ...keysIn(inner),
  ]);
}

describe('a journal that is made up for these tests', () => {
  test("has no key that Node's JSON.parse may take for another, however deep", () => {
    fc.assert(
      fc.property(arbitrary.journals(4, 4), (value) => {
        expect(keysIn(value).filter((key) => JSON.stringify(key) !== `"${key}"`)).toEqual([]);
      }),
    );
  });
});

describe('a journal that is written', () => {
  test('is read as it was', () => {
    fc.assert(
      fc.property(arbitrary.journals(4, 4), (value) => {
        const text = writeJournal(value);
        fc.pre(text !== undefined);
        const result = read(text);
        // Ended ones that did not fit are gone, oldest first; the rest is what it was.
        const kept = value.ended.slice(value.ended.length - result.ended.length);
        expect(result).toEqual({ ...value, ended: kept });
      }),
    );
  });

  test('is the same text when it is written again', () => {
    fc.assert(
      fc.property(arbitrary.journals(4, 4), (value) => {
        const text = writeJournal(value);
        fc.pre(text !== undefined);
        expect(writeJournal(read(text))).toBe(text);
      }),
    );
  });

  test('keeps within its bounds, whatever is in it', () => {
    const unit = fc.constantFrom('x', 'é', '語');
    const long = fc.array(fc.record({ id: fc.string({ minLength: 1, maxLength: 512, unit }) }), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(long, long, (live, over) => {
        const text = writeJournal(
          journal({
            live: live.map(({ id }) => interruption({ id })),
            ended: over.map(({ id }, i) => ({ ...interruption({ id }), endedAt: at(i) })),
          }),
        );
        const alone = writeJournal(journal({ live: live.map(({ id }) => interruption({ id })) }));
        expect(text === undefined).toBe(alone === undefined);
        if (text === undefined) return;
        expect(live.length).toBeLessThanOrEqual(MAX_LIVE);
        expect(bytesOf(text)).toBeLessThanOrEqual(MAX_JOURNAL_BYTES);
        expect(read(text).live).toHaveLength(live.length);
        expect(read(text).ended.length).toBeLessThanOrEqual(MAX_ENDED);
      }),
    );
  });

  test('holds 32 live interruptions and 16 ended ones, in 16 KiB', () => {
    expect([MAX_LIVE, MAX_ENDED, MAX_JOURNAL_BYTES]).toEqual([32, 16, 16_384]);
    const live = Array.from({ length: 32 }, (_, i) => interruption({ id: `live-${i}` }));
    const result = read(textOf(journal({ live, ended: ended(16) })));
    expect(result.live).toHaveLength(32);
    expect(result.ended).toHaveLength(16);
  });

  test('cannot hold 33 live interruptions', () => {
    const live = Array.from({ length: 33 }, (_, i) => interruption({ id: `live-${i}` }));
    expect(writeJournal(journal({ live }))).toBeUndefined();
  });

  test('loses the oldest ended interruptions first where they are too many', () => {
    const result = read(textOf(journal({ ended: ended(20) })));
    expect(result.ended.map(({ id }) => id)).toEqual(
      Array.from({ length: 16 }, (_, i) => `over-${i + 4}`),
    );
  });

  test('loses ended interruptions before any live one where it would be too long', () => {
    const live = Array.from({ length: 24 }, (_, i) =>
      interruption({ id: `${i}${'é'.repeat(200)}` }),
    );
    const result = read(textOf(journal({ live, ended: ended(16) })));
    expect(result.live).toHaveLength(24);
    expect(result.ended.length).toBeLessThan(16);
    expect(result.ended.at(-1)?.id).toBe('over-15');
  });

  test('counts bytes, not characters', () => {
    const live = Array.from({ length: 20 }, (_, i) =>
      interruption({ id: `${i}${'é'.repeat(500)}` }),
    );
    expect(writeJournal(journal({ live }))).toBeUndefined();
  });

  test('names times as people read them', () => {
    expect(JSON.parse(textOf(journal({ live: [interruption()] })))).toMatchObject({
      version: 1,
      interruptions: [{ time: '2026-03-01T12:00:00.000Z', deadlineAt: '2026-03-01T12:02:00.000Z' }],
    });
  });

  test('holds a moment beyond the last one of a calendar as that one', () => {
    const result = read(
      textOf(journal({ live: [interruption({ deadlineAt: 8.64e15 + 120_000 })] })),
    );
    expect(result.live[0]?.deadlineAt).toBe(8.64e15);
  });
});

describe('a text that is to be a journal', () => {
  test('never makes reading throw', () => {
    const unit = fc.nat({ max: 0xffff }).map((code) => String.fromCharCode(code));
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit }), fc.json()), (text) => {
        expect(['read', 'unreadable']).toContain(readJournal(text).outcome);
      }),
    );
  });

  test('never makes reading throw when one of its values is something else', () => {
    const paths = [
      ['version'],
      ['machine'],
      ['machine', 'instanceId'],
      ['machine', 'systemUUID'],
      ['state'],
      ['cordonedByUs'],
      ['labelBefore'],
      ['interruptions'],
      ['interruptions', '0'],
      ['interruptions', '0', 'id'],
      ['interruptions', '0', 'kind'],
      ['interruptions', '0', 'time'],
      ['interruptions', '0', 'deadlineAt'],
      ['interruptions', '0', 'hook'],
      ['ended'],
      ['ended', '0', 'endedAt'],
    ];
    fc.assert(
      fc.property(fc.constantFrom(...paths), fc.jsonValue(), (path, value) => {
        const text = altered((json) => {
          const parent = path
            .slice(0, -1)
            .reduce<Record<string, unknown>>((object, key) => object[key] as never, json);
          parent[path.at(-1)!] = value;
        });
        const result = readJournal(text);
        expect(['read', 'unreadable']).toContain(result.outcome);
        // What can be read can be written again.
        if (result.outcome !== 'read') return;
        expect(read(textOf(result.journal))).toEqual(result.journal);
      }),
    );
  });

  test('is none where there is none', () => {
    expect(readJournal(undefined)).toEqual({ outcome: 'none' });
  });

  test.each([
    { name: 'nothing', text: '' },
    { name: 'no JSON', text: '{' },
    { name: 'JSON of something else', text: '[]' },
    { name: 'null', text: 'null' },
    { name: 'a newer version', text: altered((json) => (json['version'] = 2)) },
    { name: 'no version', text: altered((json) => delete json['version']) },
    { name: 'a state that is not known', text: altered((json) => (json['state'] = 'paused')) },
    { name: 'no machine', text: altered((json) => delete json['machine']) },
    {
      name: 'a machine without an instance ID',
      text: altered((json) => (json['machine'] = { instanceId: '', systemUUID: '', bootId: '' })),
    },
    {
      name: 'a kind that is not known',
      text: altered(
        (json) => (json['interruptions'] = [{ ...interruptionJson(), kind: 'asteroid' }]),
      ),
    },
    {
      name: 'a time that is none',
      text: altered(
        (json) => (json['interruptions'] = [{ ...interruptionJson(), time: 'tomorrow' }]),
      ),
    },
    {
      name: '33 live interruptions',
      text: altered(
        (json) => (json['interruptions'] = Array.from({ length: 33 }, () => interruptionJson())),
      ),
    },
    { name: 'more than 16 KiB', text: altered((json) => (json['note'] = 'x'.repeat(16_384))) },
    {
      name: 'more than 16 KiB, of two bytes each',
      text: altered((json) => (json['note'] = 'é'.repeat(8192))),
    },
  ])('is unreadable with $name', ({ text }) => {
    expect(readJournal(text)).toEqual({
      outcome: 'unreadable',
      reason: expect.stringMatching(/\S/) as string,
    });
  });

  test.each([20, 1000, 7000])('is unreadable when %d lists lie within each other', (levels) => {
    const text = altered((json) => (json['note'] = 'HERE')).replace(
      '"HERE"',
      `${'['.repeat(levels)}${']'.repeat(levels)}`,
    );
    expect(readJournal(text)).toEqual({ outcome: 'unreadable', reason: 'nested too deep' });
  });

  test('changes no prototype by the names of its fields', () => {
    const hostile = '{"isAdmin":true,"toString":"x"}';
    const text = altered((json) => (json['note'] = 1)).replace(
      '"note":1',
      `"__proto__":${hostile},"constructor":{"prototype":${hostile}},"hasOwnProperty":1`,
    );
    const result = read(text);
    expect(({} as Record<string, unknown>)['isAdmin']).toBeUndefined();
    expect((result as unknown as Record<string, unknown>)['isAdmin']).toBeUndefined();
    expect(Object.getPrototypeOf(result.unknown)).toBe(Object.prototype);
    expect(read(textOf(result)).unknown).toEqual(result.unknown);
    expect(result.unknown['constructor']).toEqual({ prototype: JSON.parse(hostile) });
  });

  test('keeps the fields that a later program of this version wrote, wherever they stand', () => {
    const hook = { group: 'workers', name: 'drain', token: 't', attempts: 3 };
    const text = altered((json) => {
      json['note'] = { by: 'later' };
      (json['machine'] as Record<string, unknown>)['type'] = 'm7g.large';
      json['interruptions'] = [{ ...interruptionJson(), hook, page: '1' }];
      json['ended'] = [{ ...interruptionJson(), endedAt: '2026-03-01T13:00:00Z', why: 'undone' }];
    });
    const again = JSON.parse(textOf(read(text))) as unknown;
    expect(again).toMatchObject({
      note: { by: 'later' },
      machine: { type: 'm7g.large' },
      interruptions: [{ page: '1', hook: { attempts: 3 } }],
      ended: [{ why: 'undone', endedAt: '2026-03-01T13:00:00.000Z' }],
    });
  });

  test('has told of the start that rules, and no other, where it does not say', () => {
    const change = { startAt: '2026-03-04T12:00:00.000Z', updatedAt: '2026-03-01T11:00:00.000Z' };
    const text = altered((json) => (json['interruptions'] = [{ ...interruptionJson(), change }]));
    expect(read(text).live[0]?.change?.told).toEqual([
      { startAt: Date.parse(change.startAt), time: at(0), unknown: {} },
    ]);
  });

  test('can forge no known field by an unknown one', () => {
    const over = { ...interruption({ unknown: { endedAt: 'never' } }), endedAt: at(7) };
    expect(read(textOf(journal({ ended: [over] }))).ended[0]?.endedAt).toBe(at(7));
  });
});

function interruptionJson(): Record<string, unknown> {
  const [json] = (
    JSON.parse(textOf(journal({ live: [interruption()] }))) as {
      interruptions: Record<string, unknown>[];
    }
  ).interruptions;
  return { ...json };
}

describe('the machine that a journal tells of', () => {
  const { systemUUID } = MACHINE;
  test.each([
    { name: 'the same machine', changes: {}, same: true },
    { name: 'after another boot', changes: { bootId: 'boot-2' }, same: true },
    { name: 'before its first report', changes: { systemUUID: '', bootId: '' }, same: true },
    {
      name: 'with its UUID in capitals',
      changes: { systemUUID: systemUUID.toUpperCase() },
      same: true,
    },
    { name: 'another systemUUID', changes: { systemUUID: 'ec2b' }, same: false },
    { name: 'another instance', changes: { instanceId: 'i-0fedcba9876543210' }, same: false },
    {
      name: 'another instance before its first report',
      changes: { instanceId: 'i-0fedcba9876543210', systemUUID: '' },
      same: false,
    },
  ])('$name: $same', ({ changes, same }) => {
    expect(isOfMachine(journal(), { ...MACHINE, ...changes })).toBe(same);
  });

  test('is not told apart while the journal itself has no systemUUID yet', () => {
    const early = journal({ machine: { ...MACHINE, systemUUID: '', unknown: {} } });
    expect(isOfMachine(early, MACHINE)).toBe(true);
  });
});
