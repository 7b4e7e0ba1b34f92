import { describe, expect, test } from 'vitest';
import type { Parsed, ScheduledChange } from '../../src/events/event.ts';
import { parse } from '../../src/events/parse.ts';
import { fixture, fixtureNames, SENT_AT } from './fixtures.ts';

const INSTANCE = 'i-0b662ef9931388ba0';
const SEVERAL = ['i-0aaaaaaaaaaaaaaa1', 'i-0aaaaaaaaaaaaaaa2', 'i-0aaaaaaaaaaaaaaa3'];
const START = Date.parse('2026-12-04T15:00:00Z');
const HOUR = 3_600_000;

type Read = Readonly<{ changes: readonly ScheduledChange[]; warnings: readonly string[] }>;

function read(body: string, sentAt = SENT_AT): Read {
  const parsed: Parsed = parse(body, { sentAt });
  if (parsed.outcome !== 'events') throw new Error(`not events: ${JSON.stringify(parsed)}`);
  const changes = parsed.events.filter((event) => event.kind === 'scheduled-change');
  if (changes.length !== parsed.events.length) throw new Error('of another kind');
  return { changes, warnings: parsed.warnings };
}

function readOne(body: string): ScheduledChange {
  const { changes } = read(body);
  const [change] = changes;
  if (change === undefined || changes.length > 1) throw new Error(`${changes.length} changes`);
  return change;
}

/** The message of the fixture with other values in its `detail`; undefined takes a field away. */
function changed(name: string, detail: Readonly<Record<string, unknown>>): string {
  const message: unknown = JSON.parse(fixture(name), (key, value: unknown) =>
    key === 'detail' && typeof value === 'object' ? { ...value, ...detail } : value,
  );
  return JSON.stringify(message);
}

test('a scheduled change is read in full', () => {
  expect(read(fixture('scheduled-change-reboot.json'))).toEqual({
    changes: [
      {
        kind: 'scheduled-change',
        eventId: 'c0b8b90d-eafd-46fd-8203-568c3c2fdc79',
        account: '123456789012',
        time: Date.parse('2026-11-20T10:00:00Z'),
        instanceId: INSTANCE,
        eventArn:
          'arn:aws:health:us-east-2::event/EC2/AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED/AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED_4e63a1f4-b043-4543-88fa-53f30aeb295b',
        code: 'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
        change: 'reboot',
        startAt: START,
        endAt: START + 2 * HOUR,
        status: 'upcoming',
        lastUpdatedAt: Date.parse('2026-11-20T09:59:40Z'),
      },
    ],
    warnings: [],
  });
});

describe('what the code says will happen', () => {
  test.each([
    ['reboot', 'reboot'],
    ['reboot-of-host', 'reboot'],
    ['reboot-flexible', 'reboot'],
    ['retirement', 'retirement'],
    ['retirement-of-instance-store', 'retirement'],
    ['stop', 'stop'],
    ['termination', 'termination'],
    ['network', 'network'],
    ['power', 'power'],
    ['host-and-instance', 'retirement'],
  ])('scheduled-change-%s.json is a %s, without a warning about it', (name, change) => {
    const { changes, warnings } = read(fixture(`scheduled-change-${name}.json`));
    expect(changes.map((found) => found.change)).toEqual([change]);
    expect(warnings.filter((warning) => warning.startsWith('eventTypeCode'))).toEqual([]);
  });

  test('a code that is not known is taken as retirement, with a warning', () => {
    const { changes, warnings } = read(fixture('scheduled-change-unknown-code.json'));
    expect(changes).toMatchObject([
      { change: 'retirement', code: 'AWS_EC2_INSTANCE_RELOCATION_SCHEDULED' },
    ]);
    expect(warnings).toEqual([
      "eventTypeCode 'AWS_EC2_INSTANCE_RELOCATION_SCHEDULED' is not known: taken as retirement",
    ]);
  });

  test.each([['__proto__'], ['constructor'], ['toString']])('%s is no known code', (code) => {
    const body = changed('scheduled-change-stop.json', { eventTypeCode: code });
    expect(readOne(body)).toMatchObject({ change: 'retirement', code });
  });
});

describe('which instances it concerns', () => {
  test.each([
    ['reboot', [INSTANCE]],
    ['several-instances', SEVERAL],
    ['page-2-of-3', ['i-0bbbbbbbbbbbbbbb1', 'i-0bbbbbbbbbbbbbbb2']],
    ['entities-as-arns', ['i-0cccccccccccccc01']],
    ['entity-twice', ['i-0aaaaaaaaaaaaaaa1']],
    ['host-and-instance', [INSTANCE]],
    ['without-status', [INSTANCE]],
    ['of-resources-only', ['i-0aaaaaaaaaaaaaaa1', 'i-0aaaaaaaaaaaaaaa2']],
  ])('scheduled-change-%s.json: %j', (name, instances) => {
    const { changes } = read(fixture(`scheduled-change-${name}.json`));
    expect(changes.map(({ instanceId }) => instanceId)).toEqual(instances);
  });

  test('an entity that is no instance is named in a warning', () => {
    expect(read(fixture('scheduled-change-host-and-instance.json')).warnings).toEqual([
      "affectedEntities[].entityValue 'h-0c6ab6f38bdcb24f6' is not understood: ignored",
    ]);
  });

  test.each([[null], ['i-0b662ef9931388ba0'], [{}], [[null, 7, 'x', [], {}]], [undefined]])(
    'where affectedEntities is %j, the resources tell',
    (affectedEntities) => {
      const body = changed('scheduled-change-stop.json', { affectedEntities });
      expect(readOne(body)).toMatchObject({ instanceId: INSTANCE, status: 'upcoming' });
    },
  );

  test('of more instances than a message can hold, the first 10,000 are heeded, with a warning', () => {
    const affectedEntities = Array.from({ length: 10_500 }, (_, index) => ({
      entityValue: `i-${index.toString(16).padStart(17, '0')}`,
    }));
    const { changes, warnings } = read(changed('scheduled-change-stop.json', { affectedEntities }));
    expect(changes).toHaveLength(10_000);
    expect(changes.at(-1)?.instanceId).toBe('i-0000000000000270f');
    expect(warnings).toEqual(['10500 instances: only the first 10000 are heeded']);
  });
});

describe('whether it still stands', () => {
  test.each([
    ['upcoming', 'upcoming'],
    ['open', 'open'],
    ['closed', 'closed'],
    ['Closed', 'closed'],
    ['cancelled', 'closed'],
    ['completed', 'closed'],
    [undefined, 'open'],
    [null, 'open'],
    ['', 'open'],
    ['paused', 'open'],
    [{ closed: true }, 'open'],
  ])('statusCode %j: %s', (statusCode, status) => {
    expect(readOne(changed('scheduled-change-stop.json', { statusCode })).status).toBe(status);
  });

  test('an unknown status is named in a warning', () => {
    expect(read(changed('scheduled-change-stop.json', { statusCode: 'paused' })).warnings).toEqual([
      "statusCode 'paused' is not known: taken as open",
    ]);
  });

  test('each entity may be over by itself', () => {
    const { changes, warnings } = read(fixture('scheduled-change-partly-resolved.json'));
    expect(changes.map(({ instanceId, status }) => [instanceId, status])).toEqual([
      [SEVERAL[0], 'closed'],
      [SEVERAL[1], 'upcoming'],
      [SEVERAL[2], 'closed'],
    ]);
    expect(warnings).toEqual([]);
  });

  test('of several entries for one instance, the one that is not over counts', () => {
    expect(readOne(fixture('scheduled-change-entity-twice.json')).status).toBe('upcoming');
  });

  test.each([
    ['PENDING', 'upcoming', 0],
    ['IMPAIRED', 'upcoming', 0],
    ['UNIMPAIRED', 'upcoming', 0],
    ['UNKNOWN', 'upcoming', 0],
    ['UPCOMING', 'upcoming', 0],
    ['RESOLVED', 'closed', 0],
    ['CLOSED', 'closed', 0],
    ['SOMEHOW', 'upcoming', 1],
    [7, 'upcoming', 1],
  ])('an entity of status %j under an upcoming event: %s', (status, expected, warned) => {
    const affectedEntities = [{ entityValue: INSTANCE, status }];
    const { changes, warnings } = read(changed('scheduled-change-stop.json', { affectedEntities }));
    expect(changes.map((change) => change.status)).toEqual([expected]);
    expect(warnings).toHaveLength(warned);
  });

  test('a closed event is over for entities that do not say so', () => {
    const body = changed('scheduled-change-stop.json', { statusCode: 'closed' });
    expect(readOne(body).status).toBe('closed');
  });

  test('rescheduled, it is the same event with another start and a later update', () => {
    const before = readOne(fixture('scheduled-change-reboot.json'));
    const after = readOne(fixture('scheduled-change-rescheduled.json'));
    expect(after).toMatchObject({
      eventArn: before.eventArn,
      account: before.account,
      instanceId: before.instanceId,
      startAt: START + 7 * 24 * HOUR,
    });
    expect(after.lastUpdatedAt).toBeGreaterThan(before.lastUpdatedAt);
  });
});

describe('whose it is', () => {
  test('the copy in the backup region has the identity of the original', () => {
    const original = readOne(fixture('scheduled-change-stop.json'));
    const copy = readOne(fixture('scheduled-change-in-backup-region.json'));
    expect(copy).toEqual({ ...original, eventId: 'f3ebec30-1d20-7910-b536-89bf6f520fac' });
  });

  test("in an organisation's view the affected account counts, not the one that was told", () => {
    const change = readOne(fixture('scheduled-change-in-organisation.json'));
    expect(change.account).toBe('111122223333');
  });

  test.each([[undefined], [''], ['all of them'], [111122223333]])(
    'where affectedAccount is %j, the envelope tells',
    (affectedAccount) => {
      const body = changed('scheduled-change-in-organisation.json', { affectedAccount });
      expect(readOne(body).account).toBe('999988887777');
    },
  );

  test.each([[undefined], [''], ['a'.repeat(401)], [{}], ['\0']])(
    'without an ARN (%j) the code stands in, the same through every rescheduling',
    (eventArn) => {
      expect(readOne(changed('scheduled-change-reboot.json', { eventArn })).eventArn).toBe(
        readOne(changed('scheduled-change-rescheduled.json', { eventArn })).eventArn,
      );
      expect(readOne(changed('scheduled-change-reboot.json', { eventArn })).eventArn).toBe(
        'AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED',
      );
    },
  );
});

describe('when it happens', () => {
  test('the older shape has no status and no update, and the start for its time', () => {
    const { changes, warnings } = read(fixture('scheduled-change-without-status.json'));
    expect(changes).toMatchObject([
      {
        status: 'open',
        startAt: Date.parse('2026-12-01T22:00:00Z'),
        time: SENT_AT,
        lastUpdatedAt: SENT_AT,
      },
    ]);
    expect(warnings).toEqual(['time is later than the sending: taken as that']);
  });

  test('an empty end is no end, and no cause for a warning', () => {
    const { changes, warnings } = read(fixture('scheduled-change-without-end.json'));
    expect(changes.map(({ endAt }) => endAt)).toEqual([undefined]);
    expect(warnings).toEqual([]);
  });

  test.each([
    ['2026-12-04T15:00:00Z'],
    ['2026-12-04T16:00:00+01:00'],
    ['Fri, 4 Dec 2026 15:00:00 GMT'],
  ])('a start may be written %s', (startTime) => {
    expect(readOne(changed('scheduled-change-stop.json', { startTime })).startAt).toBe(START);
  });

  test.each([['Fri, 31 Feb 2026 15:00:00 GMT'], ['soon'], [1796396400], [{}]])(
    'a start of %j is unknown, with a warning',
    (startTime) => {
      const { changes, warnings } = read(changed('scheduled-change-stop.json', { startTime }));
      expect(changes.map(({ startAt }) => startAt)).toEqual([undefined]);
      expect(warnings).toHaveLength(1);
    },
  );

  test('an update from the future counts as one from the time of sending', () => {
    const lastUpdatedTime = 'Fri, 20 Nov 2099 10:00:00 GMT';
    const body = changed('scheduled-change-stop.json', { lastUpdatedTime });
    expect(readOne(body).lastUpdatedAt).toBe(SENT_AT);
  });
});

test.each([['service'], ['eventTypeCategory']])(
  'without %s it is taken for what its type and its instance say, with a warning',
  (field) => {
    const { changes, warnings } = read(
      changed('scheduled-change-stop.json', { [field]: undefined }),
    );
    expect(changes).toHaveLength(1);
    expect(warnings).toEqual([expect.stringContaining(`${field} is missing: taken as`)]);
  },
);

test.each(
  fixtureNames.filter(
    (name) => name.startsWith('scheduled-change-') && name !== 'scheduled-change-host-alone.json',
  ),
)('%s is of this kind, and each of its changes is of another instance', (name) => {
  const instances = read(fixture(name)).changes.map(({ instanceId }) => instanceId);
  expect(instances).not.toEqual([]);
  expect(new Set(instances).size).toBe(instances.length);
});
