/** Whether labels satisfy a label selector. */
export type Selector = (labels: Readonly<Record<string, string>>) => boolean;

type Requirement = Readonly<{ key: string; accepts: (value: string | undefined) => boolean }>;

const KEY =
  /^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?$/;
const VALUE = /^(?:[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?)?$/;

/**
 * Equality- and set-based selectors as kubectl takes them, joined by commas; the empty one selects
 * everything. Throws an Error that names the faulty requirement.
 * https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
 */
export function parseSelector(text: string): Selector {
  if (text.trim() === '') return () => true;
  const requirements = splitOutsideParentheses(text).map(parseRequirement);
  return (labels) => requirements.every(({ key, accepts }) => accepts(labels[key]));
}

function splitOutsideParentheses(text: string): string[] {
  return text.split(/,(?![^(]*\))/).map((part) => part.trim());
}

function parseRequirement(text: string): Requirement {
  const set = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(text);
  if (set !== null) {
    const [, key = '', operator, list = ''] = set;
    const values = new Set(list.split(',').map((value) => checkedValue(value.trim(), text)));
    return {
      key: checkedKey(key, text),
      accepts:
        operator === 'in'
          ? (value) => value !== undefined && values.has(value)
          : (value) => value === undefined || !values.has(value),
    };
  }
  const equality = /^([^=!\s]+)\s*(==|=|!=)\s*([^=!]*)$/.exec(text);
  if (equality !== null) {
    const [, key = '', operator, wanted = ''] = equality;
    const expected = checkedValue(wanted, text);
    return {
      key: checkedKey(key, text),
      accepts: operator === '!=' ? (value) => value !== expected : (value) => value === expected,
    };
  }
  if (text.startsWith('!')) {
    return { key: checkedKey(text.slice(1).trim(), text), accepts: (value) => value === undefined };
  }
  return { key: checkedKey(text, text), accepts: (value) => value !== undefined };
}

function checkedKey(key: string, requirement: string): string {
  if (KEY.test(key)) return key;
  throw new Error(
    requirement === ''
      ? 'the label selector has an empty requirement (a comma too many?)'
      : `'${requirement}' is no requirement of a label selector: expected key, !key, key=value, key!=value, key in (a, b) or key notin (a, b)`,
  );
}

function checkedValue(value: string, requirement: string): string {
  if (VALUE.test(value)) return value;
  throw new Error(`'${value}' in '${requirement}' cannot be the value of a label`);
}
