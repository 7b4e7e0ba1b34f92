import { CfnCondition, CfnParameter, CfnRule, Fn, type Stack } from 'aws-cdk-lib/core';
import { pascalCase, RULES } from './event-patterns.ts';
import {
  isTaken,
  patternOf,
  SETTINGS,
  settingOf,
  takenBy,
  type Setting,
  type SettingName,
} from './settings.ts';
import type { Switch } from './switch.ts';

/** What the settings say: now, by context, or when the template is deployed, by parameters. */
export interface Choices {
  text(name: SettingName): string;
  number(name: SettingName): number;
  flag(name: SettingName): Switch;
  /** Whether a text is not empty. */
  given(name: SettingName): Switch;
  /** `id` tells the entries apart. */
  list(
    name: SettingName,
  ): readonly Readonly<{ id: string; name: string; on: Exclude<Switch, false> }>[];
}

/** Of the CDK itself, such as `@aws-cdk/core:…`, and of its command line. */
const FOREIGN_KEY = /[:/@]|^cli-/;

/** All faults are found, each told in a sentence. */
export function choicesOfContext(
  context: unknown,
): Readonly<{ choices: Choices }> | Readonly<{ faults: readonly string[] }> {
  const faults: string[] = [];
  const all = new Map<string, unknown>(Object.entries(context ?? {}));
  const values = new Map<SettingName, string>();
  for (const { name } of SETTINGS) {
    const setting = settingOf(name);
    const given = all.get(name) ?? setting.otherwise;
    if (given === undefined) {
      faults.push(`${name} is missing: it takes ${takenBy(setting)}.`);
      continue;
    }
    const value = textOf(given);
    values.set(name, value);
    if (!isTaken(setting, value)) {
      faults.push(`${name} is ${JSON.stringify(given)}: it takes ${takenBy(setting)}.`);
    }
  }
  const names = new Set<string>(SETTINGS.map(({ name }) => name));
  for (const key of all.keys()) {
    if (!names.has(key) && !FOREIGN_KEY.test(key)) faults.push(`There is no setting ${key}.`);
  }
  if (RULES.every(({ kind }) => values.get(kind) === 'false')) faults.push(NO_KIND);
  return faults.length > 0 ? { faults } : { choices: choicesOf(values) };
}

/** On the command line all are texts; in `cdk.json` they may be lists, numbers and booleans. */
function textOf(given: unknown): string {
  if (Array.isArray(given)) return given.map(textOf).join(',');
  return typeof given === 'string' ? given : JSON.stringify(given);
}

function choicesOf(values: ReadonlyMap<SettingName, string>): Choices {
  const text = (name: SettingName): string => values.get(name) ?? '';
  return {
    text,
    number: (name) => Number(text(name)),
    flag: (name) => text(name) === 'true',
    given: (name) => text(name) !== '',
    list: (name) =>
      text(name) === ''
        ? []
        : text(name)
            .split(',')
            .map((one) => ({ id: one, name: one, on: true })),
  };
}

const NO_KIND = 'All kinds of events are switched off.';

/** Makes a parameter for each setting, and conditions as they are asked for. */
export function choicesOfParameters(stack: Stack): Choices {
  const parameters = new Map<SettingName, CfnParameter>(
    SETTINGS.map(({ name }) => {
      const id = pascalCase(name);
      return [name, new CfnParameter(stack, id, parameterOf(settingOf(name)))] as const;
    }),
  );
  const text = (name: SettingName): string => {
    const parameter = parameters.get(name);
    if (parameter === undefined) throw new Error(`there is no parameter for ${name}`);
    return parameter.valueAsString;
  };
  const conditions = new Map<string, CfnCondition>();
  const condition = (id: string, expression: () => ReturnType<typeof Fn.conditionEquals>) => {
    const made = conditions.get(id) ?? new CfnCondition(stack, id, { expression: expression() });
    conditions.set(id, made);
    return made;
  };
  const isNot = (value: string, other: string) => Fn.conditionNot(Fn.conditionEquals(value, other));
  const isTrue = (name: SettingName) => Fn.conditionEquals(text(name), 'true');

  new CfnRule(stack, 'SomeKind', {
    assertions: [
      {
        assert: Fn.conditionOr(...RULES.map(({ kind }) => isTrue(kind))),
        assertDescription: NO_KIND,
      },
    ],
  });
  return {
    text,
    number(name) {
      const parameter = parameters.get(name);
      if (parameter === undefined) throw new Error(`there is no parameter for ${name}`);
      return parameter.valueAsNumber;
    },
    flag: (name) => condition(`Is${pascalCase(name)}`, () => isTrue(name)),
    given: (name) => condition(`Has${pascalCase(name)}`, () => isNot(text(name), '')),
    list(name) {
      const { maximum } = listOf(name);
      // CloudFormation cannot count: with enough commas there is always an entry, maybe empty.
      const entries = Fn.split(',', `${text(name)}${','.repeat(maximum - 1)}`, maximum);
      return entries.map((entry, at) => ({
        id: `${at + 1}`,
        name: entry,
        on: condition(`Has${pascalCase(name)}${at + 1}`, () => isNot(entry, '')),
      }));
    },
  };
}

function listOf(name: SettingName) {
  const setting = settingOf(name);
  if (setting.type !== 'list') throw new Error(`${name} is not a list`);
  return setting;
}

function parameterOf(setting: Setting) {
  const common = {
    description: setting.description,
    ...(setting.otherwise === undefined ? {} : { default: setting.otherwise }),
  };
  switch (setting.type) {
    case 'flag':
      return { ...common, type: 'String', allowedValues: ['true', 'false'] };
    case 'number':
      return {
        ...common,
        type: 'Number',
        minValue: setting.minimum,
        maxValue: setting.maximum,
        constraintDescription: takenBy(setting),
      };
    case 'text':
    case 'list':
      return {
        ...common,
        type: 'String',
        allowedPattern: patternOf(setting).source,
        constraintDescription: takenBy(setting),
      };
    default:
      return assertNever(setting);
  }
}

function assertNever(value: never): never {
  throw new Error(`unexpected: ${JSON.stringify(value)}`);
}
