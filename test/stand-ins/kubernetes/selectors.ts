import { badRequest } from './api-error.ts';
import type { ApiObject, LabelSelector } from './objects.ts';
import type { Resource } from './resource.ts';

export type Predicate<T> = (value: T) => boolean;
type Labels = Readonly<Record<string, string>>;

const compiled = new WeakMap<LabelSelector, Predicate<Labels>>();

/** Of a selector in a stored object, which never changes: worked out once. */
export function compileLabelSelector(selector: LabelSelector): Predicate<Labels> {
  const known = compiled.get(selector);
  if (known !== undefined) return known;
  const made = compile(selector);
  compiled.set(selector, made);
  return made;
}

function compile(selector: LabelSelector): Predicate<Labels> {
  const tests: Predicate<Labels>[] = [];
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    tests.push((labels) => labels[key] === value);
  }
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    tests.push(requirement(key, operator, values ?? []));
  }
  return (labels) => tests.every((test) => test(labels));
}

export function requirement(
  key: string,
  operator: string,
  values: readonly string[],
): Predicate<Labels> {
  switch (operator) {
    case 'In':
      return (labels) => labels[key] !== undefined && values.includes(labels[key]);
    case 'NotIn':
      return (labels) => labels[key] === undefined || !values.includes(labels[key]);
    case 'Exists':
      return (labels) => labels[key] !== undefined;
    case 'DoesNotExist':
      return (labels) => labels[key] === undefined;
    case 'Gt':
      return (labels) => Number(labels[key]) > Number(values[0]);
    case 'Lt':
      return (labels) => Number(labels[key]) < Number(values[0]);
    default:
      throw badRequest(`"${operator}" is not a valid label selector operator`);
  }
}

const setClause = /^(?<key>[^\s!=,()]+)\s+(?<operator>in|notin)\s*\((?<values>[^()]*)\)$/u;
const comparison = /^(?<key>[^\s!=<>,()]+)\s*(?<operator>==|=|!=|<|>)\s*(?<value>[^\s!=<>,()]*)$/u;
const existence = /^(?<not>!?)\s*(?<key>[^\s!=<>,()]+)$/u;

export function parseLabelSelector(text: string): Predicate<Labels> {
  const tests = splitClauses(text).map((clause) => parseClause(clause, text));
  return (labels) => tests.every((test) => test(labels));
}

function parseClause(clause: string, whole: string): Predicate<Labels> {
  const set = setClause.exec(clause)?.groups;
  if (set !== undefined) {
    const values = (set['values'] ?? '').split(',').map((value) => value.trim());
    return requirement(set['key'] ?? '', set['operator'] === 'in' ? 'In' : 'NotIn', values);
  }
  const compared = comparison.exec(clause)?.groups;
  if (compared !== undefined) {
    const operators: Record<string, string> = { '!=': 'NotIn', '<': 'Lt', '>': 'Gt' };
    const operator = operators[compared['operator'] ?? ''] ?? 'In';
    return requirement(compared['key'] ?? '', operator, [compared['value'] ?? '']);
  }
  const exists = existence.exec(clause)?.groups;
  if (exists !== undefined) {
    return requirement(exists['key'] ?? '', exists['not'] === '' ? 'Exists' : 'DoesNotExist', []);
  }
  throw badRequest(`unable to parse requirement: found '${clause}' in "${whole}"`);
}

/** Commas separate clauses, except within the parentheses of a set. */
function splitClauses(text: string): string[] {
  const clauses: string[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at <= text.length; at += 1) {
    const char = text[at];
    if (char === '(') depth += 1;
    if (char === ')') depth -= 1;
    if (at === text.length || (char === ',' && depth === 0)) {
      const clause = text.slice(start, at).trim();
      if (clause !== '') clauses.push(clause);
      start = at + 1;
    }
  }
  return clauses;
}

export type FieldClause = { field: string; value: string; equal: boolean };

export function parseFieldSelector(resource: Resource, text: string): FieldClause[] {
  return splitClauses(text).map((clause) => {
    const found = /^(?<field>[^=!]+)(?<operator>==|=|!=)(?<value>.*)$/u.exec(clause)?.groups;
    if (found === undefined)
      throw badRequest(`invalid selector: '${text}'; can't understand '${clause}'`);
    const field = found['field'] ?? '';
    if (!field.startsWith('metadata.') && resource.fields[field] === undefined) {
      throw unsupportedField(resource, text, field);
    }
    if (field.startsWith('metadata.') && !metadataFields.has(field)) {
      throw unsupportedField(resource, text, field);
    }
    return { field, value: found['value'] ?? '', equal: found['operator'] !== '!=' };
  });
}

const metadataFields = new Set(['metadata.name', 'metadata.namespace']);

function unsupportedField(resource: Resource, text: string, field: string): Error {
  const kind = `${resource.group}/${resource.version}, Resource=${resource.plural}`;
  return badRequest(
    `Unable to find "${kind}" that match label selector "", field selector "${text}": field label not supported: ${field}`,
  );
}

export function matchesFields(
  resource: Resource,
  clauses: readonly FieldClause[],
): Predicate<ApiObject> {
  const tests = clauses.map(({ field, value, equal }): Predicate<ApiObject> => {
    const valueOf = fieldOf(resource, field);
    return (object) => (valueOf(object) === value) === equal;
  });
  return (object) => tests.every((test) => test(object));
}

function fieldOf(resource: Resource, field: string): (object: ApiObject) => string {
  if (field === 'metadata.name') return (object) => object.metadata.name;
  if (field === 'metadata.namespace') return (object) => object.metadata.namespace ?? '';
  return resource.fields[field] ?? (() => '');
}
