import * as z from 'zod';

/** What stands in a field whose value is not understood. */
export type Unrecognised = Readonly<{ unrecognised: unknown }>;

/** What a field turned out to hold; undefined where it is missing. */
export type Read<T> = T | Unrecognised | undefined;

/** Takes note of a value that was not understood. */
export type Warn = (warning: string) => void;

const anything = z.unknown().transform((value): Unrecognised => ({ unrecognised: value }));

/**
 * A field that may hold anything: what `schema` understands, else `Unrecognised`. A schema made of
 * these refuses no object, so that one odd value never costs the message.
 */
export function lenient<S extends z.ZodType>(schema: S) {
  return schema.or(anything).optional();
}

/** A text that `recognise` makes something of; it answers undefined where it cannot. */
export function recognisedField<T extends string | number>(
  recognise: (text: string) => T | undefined,
) {
  return lenient(
    z.string().transform((text, context) => {
      const value = recognise(text);
      if (value !== undefined) return value;
      context.addIssue({ code: 'custom', message: 'not recognised' });
      return z.NEVER;
    }),
  );
}

export const instanceField = recognisedField(instanceIdIn);
export const accountField = recognisedField((text) => (/^\d{12}$/.test(text) ? text : undefined));
export const timeField = recognisedField(timeIn);

// What XML, and so the Auto Scaling API, can carry: no control characters, no lone surrogates.
const CARRIABLE = /^[\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]+$/u;

/**
 * A text of 1 to `maxLength` UTF-16 units that can be logged, stored and sent back to AWS. A longer
 * one is not understood: what was cut off a name would name something else.
 */
export function textField(maxLength: number) {
  return recognisedField((text) =>
    text.length <= maxLength && CARRIABLE.test(text) ? text : undefined,
  );
}

/** The value; undefined where it is missing or empty, and, with a warning, where it is not understood. */
export function valueOf<T extends string | number>(
  name: string,
  read: Read<T>,
  warn: Warn,
): T | undefined {
  if (typeof read !== 'object') return read;
  if (!isEmpty(read)) warn(`${name} ${described(read.unrecognised)} is not understood: ignored`);
  return undefined;
}

/** The value, or `fallback` with a warning where it is missing or not understood. */
export function valueOr<T extends string | number>(
  name: string,
  read: Read<T>,
  fallback: T,
  warn: Warn,
  fallbackInWords: string = String(fallback),
): T {
  if (read !== undefined && typeof read !== 'object') return read;
  const found =
    read === undefined || isEmpty(read)
      ? 'is missing'
      : `${described(read.unrecognised)} is not understood`;
  warn(`${name} ${found}: taken as ${fallbackInWords}`);
  return fallback;
}

function isEmpty({ unrecognised }: Unrecognised): boolean {
  return unrecognised === '' || unrecognised === null;
}

/** The value, of whatever form, in few and harmless characters. */
export function described(value: unknown): string {
  if (typeof value === 'string') {
    const start = value.length > 100 ? `${value.slice(0, 100)}…` : value;
    return `'${JSON.stringify(start).slice(1, -1)}'`;
  }
  // Never the contents of an object: they may be nested deeper than a recursion can follow.
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? '[…]' : '{…}';
  return String(value);
}

// A spot notice's ARN has a zone for a region and no account:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
const INSTANCE =
  /^(?:arn:aws[a-z0-9-]*:ec2:[a-z0-9:-]*:instance\/)?(i-(?:[0-9a-f]{17}|[0-9a-f]{8}))$/;

// What is found keeps the whole of a long text alive.
export const LONGEST_ARN = 256;

/** The instance ID that the text is, or that it names as an ARN of any partition. */
export function instanceIdIn(value: string): string | undefined {
  return value.length > LONGEST_ARN ? undefined : INSTANCE.exec(value)?.[1];
}

const RFC_3339 =
  /^(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(?:[Zz]|([+-])(\d{2}):?(\d{2}))?$/;
// The day of the week is not compared: AWS's own examples have wrong ones.
const RFC_1123 =
  /^(?:[A-Za-z]{3}, )?(\d{1,2}) ([A-Za-z]{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) (?:GMT|UTC|Z|[+-]0000)$/;
const MONTHS = 'jan feb mar apr may jun jul aug sep oct nov dec'.split(' ');

/**
 * Epoch milliseconds of an RFC 3339 or RFC 1123 time; UTC where no offset stands. Undefined for
 * anything else and for days that do not exist. (`Date.parse` would take 31 February, and read a
 * time without an offset in the zone of whatever machine this is.)
 */
export function timeIn(value: string): number | undefined {
  const iso = RFC_3339.exec(value);
  if (iso) {
    const [, year, month, day, hour, minute, second, fraction, sign, offsetHour, offsetMinute] =
      iso;
    const at = utc(year, Number(month) - 1, day, hour, minute, second ?? '0');
    if (at === undefined) return undefined;
    const milliseconds = Number((fraction ?? '').slice(0, 3).padEnd(3, '0'));
    if (sign === undefined) return at + milliseconds;
    const offsetMinutes = Number(offsetHour) * 60 + Number(offsetMinute);
    if (Number(offsetHour) > 23 || Number(offsetMinute) > 59) return undefined;
    return at + milliseconds - (sign === '-' ? -1 : 1) * offsetMinutes * 60_000;
  }
  const http = RFC_1123.exec(value);
  if (!http) return undefined;
  const [, day, month, year, hour, minute, second] = http;
  return utc(year, MONTHS.indexOf(month?.toLowerCase() ?? ''), day, hour, minute, second);
}

/** Takes decimal digits, and the month counted from 0. Before 1970 nothing is a time of an event. */
function utc(
  year: string | undefined,
  monthIndex: number,
  day: string | undefined,
  hour: string | undefined,
  minute: string | undefined,
  second: string | undefined,
): number | undefined {
  const midnight = new Date(Date.UTC(Number(year), monthIndex, Number(day)));
  const exists = midnight.getUTCMonth() === monthIndex && midnight.getUTCDate() === Number(day);
  // 60 is the leap second, which UTC time stamps count as the next minute's first.
  if (Number(year) < 1970 || !exists) return undefined;
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 60) return undefined;
  return midnight.getTime() + ((Number(hour) * 60 + Number(minute)) * 60 + Number(second)) * 1000;
}
