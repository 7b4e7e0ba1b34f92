import type { Level } from './messages.ts';
import type { Facts } from './report.ts';

export type Entry = Readonly<{ at: number; level: Level; message: string; facts: Facts }>;

/** One JSON object: `time` (RFC 3339, milliseconds), `level`, `message`, then the facts. */
export function jsonLine({ at, level, message, facts }: Entry): string {
  const line = new Map<string, Plain>([
    ['time', new Date(at).toISOString()],
    ['level', level],
    ['message', message],
  ]);
  // A fact of one of those names is told under another, not in its place.
  for (const [name, value] of plainFacts(facts))
    line.set(line.has(name) ? `${name}_` : name, value);
  return escapeUnseen(JSON.stringify(Object.fromEntries(line)));
}

/**
 * For people: `03:12:45.120 INFO  drained                  node=… secondsToSpare=87`, in UTC like all
 * that AWS shows. Only the stack of an error takes further lines, which are indented.
 */
export function textLine({ at, level, message, facts }: Entry): string {
  const time = new Date(at).toISOString().slice(11, 23);
  const cells = plainFacts(facts).map(([name, value]) => ` ${bare(name)}=${textOf(value)}`);
  const line = `${time} ${level.toUpperCase().padEnd(5)} ${message.padEnd(24)}${cells.join('')}`;
  const stacks = level === 'error' ? Object.values(facts).flatMap(framesOf) : [];
  return [line.trimEnd(), ...stacks.map((frame) => `    ${frame}`)].map(escapeUnseen).join('\n');
}

/** What survives JSON and has a bound, whatever was given. */
type Plain =
  | null
  | boolean
  | number
  | string
  | readonly Plain[]
  | { readonly [name: string]: Plain };

const LONGEST_TEXT = 16_384;
const LONGEST_LIST = 200;
const DEEPEST = 8;
const MOST_VALUES = 2_000;

function plainFacts(facts: Facts): (readonly [string, Plain])[] {
  const room = { values: MOST_VALUES, inside: new Set<object>() };
  return Object.entries(facts)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name, plain(value, room)]);
}

type Room = { values: number; readonly inside: Set<object> };

function plain(value: unknown, room: Room): Plain {
  switch (typeof value) {
    case 'string':
      return cut(value);
    case 'boolean':
      return value;
    case 'number':
      return Number.isFinite(value) ? value : String(value);
    case 'bigint':
    case 'symbol':
    case 'undefined':
      return String(value);
    case 'function':
      return `[function ${value.name}]`;
    case 'object':
      return value === null ? null : plainObject(value, room);
    default:
      throw new TypeError('typeof has no other result');
  }
}

function plainObject(value: object, room: Room): Plain {
  if (room.inside.has(value)) return '[circular]';
  if (room.inside.size >= DEEPEST || room.values <= 0) return '[…]';
  room.inside.add(value);
  try {
    if (value instanceof Error) return plainError(value, room);
    if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
    if ('toJSON' in value && typeof value.toJSON === 'function') {
      return plain(Reflect.apply(value.toJSON, value, []), room);
    }
    if (value instanceof Map) return plainList([...value], room);
    if (Array.isArray(value) || value instanceof Set) return plainList([...value], room);
    return plainFields(Object.entries(value), room);
  } catch (error) {
    // A getter, a proxy or a toJSON that throws must not cost the line it stands in.
    return `[unreadable: ${String(error)}]`;
  } finally {
    room.inside.delete(value);
  }
}

function plainList(items: readonly unknown[], room: Room): Plain {
  const list = items.slice(0, LONGEST_LIST).map((item) => {
    room.values--;
    return plain(item, room);
  });
  const more = items.length - list.length;
  return more === 0 ? list : [...list, `… ${more} more`];
}

function plainFields(fields: readonly (readonly [string, unknown])[], room: Room): Plain {
  const defined = fields.filter(([, value]) => value !== undefined);
  const kept = defined.slice(0, LONGEST_LIST).map(([name, value]) => {
    room.values--;
    return [cut(name), plain(value, room)] as const;
  });
  const more = defined.length - kept.length;
  return Object.fromEntries(more === 0 ? kept : [...kept, ['…', `${more} more`] as const]);
}

function plainError(error: Error, room: Room): Plain {
  const { name, message, stack, cause } = error;
  return plainFields(
    [
      ['name', name === 'Error' ? undefined : name],
      ['message', message],
      ['code', 'code' in error ? error.code : undefined],
      ['cause', cause],
      ['errors', error instanceof AggregateError ? error.errors : undefined],
      ['stack', stack],
    ],
    room,
  );
}

function cut(text: string): string {
  const more = text.length - LONGEST_TEXT;
  return more <= 0 ? text : `${text.slice(0, LONGEST_TEXT)}… (${more} more characters)`;
}

function textOf(value: Plain): string {
  if (typeof value === 'string') return bare(value);
  if (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string')) {
    return value.map(bare).join(',');
  }
  if (isErrorLike(value)) return JSON.stringify(chainOf(value).join(': '));
  return JSON.stringify(value);
}

/** As it is where it cannot be mistaken, else quoted. */
function bare(text: string): string {
  return /^[\w.:/@%+*-]+$/.test(text) ? text : JSON.stringify(text);
}

type ErrorLike = { readonly message: string; readonly stack: string; readonly cause?: Plain };

function isErrorLike(value: Plain | undefined): value is ErrorLike {
  return (
    typeof value === 'object' &&
    value !== null &&
    'message' in value &&
    typeof value['message'] === 'string' &&
    'stack' in value
  );
}

function chainOf({ message, cause }: ErrorLike): string[] {
  if (isErrorLike(cause)) return [message, ...chainOf(cause)];
  return cause === undefined ? [message] : [message, textOf(cause)];
}

function framesOf(value: unknown): string[] {
  if (!(value instanceof Error)) return [];
  const frames = value.stack?.split('\n').filter((line) => /^\s+at /.test(line)) ?? [];
  return frames.map((frame) => cut(frame.trim()));
}

/**
 * Controls, line separators and marks that reorder or hide text, as \uXXXX: in a JSON string that is
 * the same character, and on a terminal it cannot act.
 */
function escapeUnseen(line: string): string {
  return line.replaceAll(
    // oxlint-disable-next-line no-control-regex -- these are what must not get through
    /[\u0000-\u001F\u007F-\u009F\u00AD\u061C\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF\uFFF9-\uFFFB]/g,
    (character) => String.raw`\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
