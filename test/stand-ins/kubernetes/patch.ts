import { ApiError, badRequest } from './api-error.ts';
import { isJsonObject, sameJson, type JsonObject, type JsonValue } from './json.ts';

/**
 * How a strategic merge treats the lists of a kind, by their path without indexes
 * (`spec.containers.env`): merged by a key, or, with '', as a set of scalars. A list without a rule
 * is atomic: the patch replaces it.
 */
export type MergeRules = Readonly<Record<string, string>>;

export function mergePatch(target: JsonValue, patch: JsonValue): JsonValue {
  if (!isJsonObject(patch)) return patch;
  const merged: JsonObject = isJsonObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(merged[key] ?? null, value);
  }
  return merged;
}

export function strategicMergePatch(
  target: JsonObject,
  patch: JsonObject,
  rules: MergeRules,
  path = '',
): JsonObject {
  const directive = patch['$patch'];
  if (directive === 'replace') return withoutDirectives(patch);
  if (directive === 'delete') return {};
  let merged: JsonObject = { ...target };
  const retained = patch['$retainKeys'];
  if (Array.isArray(retained)) {
    merged = Object.fromEntries(Object.entries(merged).filter(([key]) => retained.includes(key)));
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$deleteFromPrimitiveList/')) {
      const field = key.slice(key.indexOf('/') + 1);
      const list = merged[field];
      if (Array.isArray(list) && Array.isArray(value)) {
        merged[field] = list.filter((item) => !value.includes(item));
      }
    }
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$')) continue;
    const inner = path === '' ? key : `${path}.${key}`;
    const current = merged[key];
    if (value === null) delete merged[key];
    else if (isJsonObject(value)) {
      merged[key] = strategicMergePatch(isJsonObject(current) ? current : {}, value, rules, inner);
    } else if (Array.isArray(value)) {
      merged[key] = mergeLists(Array.isArray(current) ? current : [], value, rules, inner);
    } else merged[key] = value;
  }
  return merged;
}

function mergeLists(
  current: readonly JsonValue[],
  patch: readonly JsonValue[],
  rules: MergeRules,
  path: string,
): JsonValue[] {
  const key = rules[path];
  if (key === undefined)
    return patch.map((item) => (isJsonObject(item) ? withoutDirectives(item) : item));
  if (key === '') {
    return [...current, ...patch.filter((item) => !current.includes(item))];
  }
  const items = patch.filter(isJsonObject);
  if (items.some((item) => item['$patch'] === 'replace')) {
    return items.filter((item) => item['$patch'] !== 'replace').map(withoutDirectives);
  }
  const merged = [...current];
  for (const item of items) {
    const id = item[key];
    if (id === undefined) {
      throw new ApiError(
        500,
        undefined,
        `map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`,
      );
    }
    const at = merged.findIndex((existing) => isJsonObject(existing) && existing[key] === id);
    const existing = at === -1 ? {} : merged[at];
    if (item['$patch'] === 'delete') {
      if (at !== -1) merged.splice(at, 1);
      continue;
    }
    const next = strategicMergePatch(isJsonObject(existing) ? existing : {}, item, rules, path);
    if (at === -1) merged.push(next);
    else merged[at] = next;
  }
  return merged;
}

function withoutDirectives(value: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(value).filter(([key]) => !key.startsWith('$')));
}

/** RFC 6902. What cannot be applied is 422 without an explanation, as the API server answers. */
export function jsonPatch(target: JsonValue, operations: JsonValue): JsonValue {
  if (!Array.isArray(operations))
    throw badRequest(
      'error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp',
    );
  let document = structuredClone(target);
  for (const operation of operations) {
    if (!isJsonObject(operation)) throw badRequest('error decoding patch');
    document = applyOperation(document, operation);
  }
  return document;
}

function applyOperation(document: JsonValue, operation: JsonObject): JsonValue {
  const path = pointer(operation['path']);
  const op: unknown = operation['op'];
  switch (op) {
    case 'add':
      return write(document, path, valueOf(operation), 'insert');
    case 'replace':
      read(document, path);
      return write(document, path, valueOf(operation), 'replace');
    case 'remove':
      read(document, path);
      return drop(document, path);
    case 'test':
      if (!sameJson(read(document, path), valueOf(operation))) {
        throw cannotApply(`testing value ${path.join('/')} failed`);
      }
      return document;
    case 'copy':
      return write(
        document,
        path,
        structuredClone(read(document, pointer(operation['from']))),
        'insert',
      );
    case 'move': {
      const from = pointer(operation['from']);
      const moved = read(document, from);
      return write(drop(document, from), path, moved, 'insert');
    }
    default:
      throw cannotApply(`unexpected kind: ${JSON.stringify(op)}`);
  }
}

function valueOf(operation: JsonObject): JsonValue {
  return operation['value'] ?? null;
}

function pointer(path: JsonValue | undefined): string[] {
  if (typeof path !== 'string' || (path !== '' && !path.startsWith('/'))) {
    throw cannotApply('a path must start with /');
  }
  return path
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function read(document: JsonValue, path: readonly string[]): JsonValue {
  let at = document;
  for (const part of path) {
    const next = Array.isArray(at)
      ? at[index(part, at.length)]
      : isJsonObject(at)
        ? at[part]
        : undefined;
    if (next === undefined) throw cannotApply('the path does not exist');
    at = next;
  }
  return at;
}

/** `document` is this call's own clone and is changed in place. */
function write(
  document: JsonValue,
  path: readonly string[],
  value: JsonValue,
  mode: 'insert' | 'replace',
): JsonValue {
  const last = path.at(-1);
  if (last === undefined) return value;
  const parent = read(document, path.slice(0, -1));
  if (Array.isArray(parent)) {
    if (last === '-') parent.push(value);
    else if (mode === 'insert') parent.splice(index(last, parent.length + 1), 0, value);
    else parent[index(last, parent.length)] = value;
  } else if (isJsonObject(parent)) parent[last] = value;
  else throw cannotApply('the parent holds no members');
  return document;
}

function drop(document: JsonValue, path: readonly string[]): JsonValue {
  const last = path.at(-1);
  if (last === undefined) return null;
  const parent = read(document, path.slice(0, -1));
  if (Array.isArray(parent)) parent.splice(index(last, parent.length), 1);
  else if (isJsonObject(parent)) delete parent[last];
  return document;
}

function index(part: string, length: number): number {
  const at = Number(part);
  if (!/^\d+$/u.test(part) || at >= length) throw cannotApply(`index out of bounds: ${part}`);
  return at;
}

/** `why` is for whoever debugs a test: the real server keeps it to itself. */
function cannotApply(why: string): ApiError {
  const message = 'the server rejected our request due to an error in our request';
  return new ApiError(422, 'Invalid', message, {}, {}, new Error(why));
}
