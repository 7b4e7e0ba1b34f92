import { createHash } from 'node:crypto';

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
type JsonObject = { [key: string]: Json };

export type Resource = { Type: string; Properties: JsonObject; DependsOn: string[] };

/** A template as CloudFormation would carry it out: no functions, parameters or conditions are left. */
export type ResolvedTemplate = {
  readonly resources: Readonly<Record<string, Resource>>;
  readonly outputs: Readonly<Record<string, string>>;
};

export const REGION = 'eu-central-1';
export const ACCOUNT = '123456789012';

const PSEUDO: Readonly<Record<string, string>> = {
  'AWS::Partition': 'aws',
  'AWS::Region': REGION,
  'AWS::AccountId': ACCOUNT,
  'AWS::URLSuffix': 'amazonaws.com',
};

const NOTHING = Symbol('AWS::NoValue');
type Value = Json | typeof NOTHING;

/**
 * Carries out a template's functions. What only a deployment knows stands as `«ID»` (Ref) and
 * `«ID.Attribute»` (Fn::GetAtt). Throws on whatever it does not know, and on a reference to what a
 * condition leaves out.
 */
export function resolveTemplate(
  template: Json,
  parameters: Readonly<Record<string, string>> = {},
): ResolvedTemplate {
  const sections = asObject(template);
  const section = (name: string) => Object.entries(asObject(sections[name] ?? {}));
  const conditions = asObject(sections['Conditions'] ?? {});
  const values = new Map<string, Json>();
  for (const [name, declared] of section('Parameters')) {
    const { Type, Default } = asObject(declared);
    // Made by the CDK for its own stacks; nothing refers to it.
    if (name === 'BootstrapVersion') continue;
    const value = parameters[name] ?? Default;
    if (value === undefined) throw new Error(`parameter ${name} is missing`);
    values.set(name, Type === 'Number' ? Number(value) : value);
  }

  const holds = (name: string): boolean => {
    const expression = conditions[name];
    if (expression === undefined) throw new Error(`there is no condition ${name}`);
    return isTrue(expression);
  };
  const isTrue = (expression: Json): boolean => {
    const [[name, argument] = ['', null], ...others] = Object.entries(asObject(expression));
    if (others.length > 0) throw new Error(`no condition: ${JSON.stringify(expression)}`);
    switch (name) {
      case 'Condition':
        return holds(asText(argument));
      case 'Fn::Not':
        return !isTrue(asList(argument)[0] ?? null);
      case 'Fn::And':
        return asList(argument).every(isTrue);
      case 'Fn::Or':
        return asList(argument).some(isTrue);
      case 'Fn::Equals': {
        const [one, other] = asList(argument).map((side) => resolve(side));
        return JSON.stringify(one) === JSON.stringify(other);
      }
      default:
        throw new Error(`unknown condition ${name}`);
    }
  };

  const ids = new Set<string>();
  const referTo = (id: string, what: string): string => {
    if (!ids.has(id)) throw new Error(`${what} refers to ${id}, which is not there`);
    return `«${what}»`;
  };
  const ref = (name: string): Value => {
    if (name === 'AWS::NoValue') return NOTHING;
    return PSEUDO[name] ?? values.get(name) ?? referTo(name, name);
  };
  const functions: Readonly<Record<string, (argument: Json) => Value>> = {
    Ref: (argument) => ref(asText(argument)),
    'Fn::GetAtt'(argument) {
      const [id = '', attribute] = asList(argument).map(asText);
      return referTo(id, `${id}.${attribute}`);
    },
    'Fn::If'(argument) {
      const [name, whenTrue = null, whenFalse = null] = asList(argument);
      return resolve(holds(asText(name ?? '')) ? whenTrue : whenFalse);
    },
    'Fn::Join'(argument) {
      const [delimiter, list = null] = asList(argument);
      return asList(resolveKept(list))
        .map(asText)
        .join(asText(delimiter ?? ''));
    },
    'Fn::Split'(argument) {
      const [delimiter, text = null] = asList(argument);
      return asText(resolveKept(text)).split(asText(delimiter ?? ''));
    },
    'Fn::Select'(argument) {
      const [at, list = null] = asList(argument);
      const entry = asList(resolveKept(list))[Number(at)];
      if (entry === undefined) throw new Error(`no entry ${asText(at ?? '')} to select`);
      return entry;
    },
    'Fn::Sub'(argument) {
      const [text = '', variables = {}] = Array.isArray(argument) ? argument : [argument];
      const given = asObject(variables);
      return asText(text).replace(/\$\{([^}]+)\}/g, (_, name: string) => {
        const value = given[name] === undefined ? ref(name) : resolveKept(given[name]);
        return asText(value as Json);
      });
    },
  };

  const resolve = (value: Json): Value => {
    if (Array.isArray(value)) return value.map(resolve).filter((entry) => entry !== NOTHING);
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value);
    const [[name, argument] = ['', null]] = entries;
    const carryOut = entries.length === 1 ? functions[name] : undefined;
    if (carryOut !== undefined) return carryOut(argument);
    if (name.startsWith('Fn::')) throw new Error(`unknown function ${name}`);
    const resolved = entries.map(([key, entry]) => [key, resolve(entry)] as const);
    return Object.fromEntries(
      resolved.filter((entry): entry is [string, Json] => entry[1] !== NOTHING),
    );
  };
  const resolveKept = (value: Json): Json => {
    const resolved = resolve(value);
    if (resolved === NOTHING) throw new Error('AWS::NoValue where a value is needed');
    return resolved;
  };

  const declared = section('Resources').filter(([, resource]) => {
    const { Condition: condition } = asObject(resource);
    return condition === undefined || holds(asText(condition));
  });
  for (const [id] of declared) ids.add(id);
  return {
    resources: Object.fromEntries(
      declared.map(([id, resource]) => {
        const { Type, Properties = {}, DependsOn = [] } = asObject(resource);
        const properties = asObject(resolveKept(Properties));
        const trust = properties['AssumeRolePolicyDocument'];
        // CloudFormation takes a document as text, too.
        if (typeof trust === 'string') {
          properties['AssumeRolePolicyDocument'] = JSON.parse(trust) as Json;
        }
        const dependencies = [DependsOn].flat().map(asText);
        return [id, { Type: asText(Type ?? ''), Properties: properties, DependsOn: dependencies }];
      }),
    ),
    outputs: Object.fromEntries(
      section('Outputs').map(([id, output]) => [
        id,
        asText(resolveKept(asObject(output)['Value'] ?? null)),
      ]),
    ),
  };
}

/**
 * The same, with each logical ID replaced by a digest of what it stands for, so that templates that
 * make the same resources under other IDs become equal.
 */
export function withoutIds({ resources, outputs }: ResolvedTemplate) {
  let names = new Map(Object.keys(resources).map((id) => [id, '']));
  const renamed = (value: unknown) =>
    JSON.stringify(value).replace(
      /«(\w+)/g,
      (_, id: string) => `«${names.get(id) ?? `unknown ${id}`}`,
    );
  const described = (id: string) => {
    const { Type, Properties, DependsOn } = resources[id]!;
    return `${Type} ${renamed(sorted(Properties))} ${renamed(DependsOn.map((one) => `«${one}`).toSorted())}`;
  };
  // References are no deeper than this: rule → queue → dead letter queue, and hook → policy → role.
  for (let round = 0; round < 4; round++) {
    names = new Map(
      [...names.keys()].map((id) => [
        id,
        createHash('sha256').update(described(id)).digest('hex').slice(0, 12),
      ]),
    );
  }
  return {
    resources: [...names.keys()].map(described).toSorted(),
    outputs: JSON.parse(renamed(outputs)) as Json,
  };
}

function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([key, entry]) => [key, sorted(entry)]));
}

export function asObject(value: Json): JsonObject {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new Error(`not an object: ${JSON.stringify(value)}`);
}

function asList(value: Json): Json[] {
  if (Array.isArray(value)) return value;
  throw new Error(`not a list: ${JSON.stringify(value)}`);
}

export function asText(value: Json): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value);
  throw new Error(`not a text: ${JSON.stringify(value)}`);
}
