import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { pascalCase } from '../../infra/event-patterns.ts';
import { LARGEST_TEMPLATE_BYTES, plainTemplate } from '../../infra/plain-template.ts';
import { SETTINGS, settingOf, type Setting } from '../../infra/settings.ts';
import { everything } from './settings.ts';
import { resolvedStack, type Settings } from './stack.ts';
import { asObject, resolveTemplate, withoutIds, type Json } from './template.ts';

const text = plainTemplate();
const template = JSON.parse(text) as Json;

function resolvedPlain(settings: Settings) {
  const parameters = Object.entries(settings).map(([name, value]) => [pascalCase(name), value]);
  return resolveTemplate(template, Object.fromEntries(parameters));
}

const clusterName = 'blue';

test.each<[string, Settings]>([
  ['nothing but the name of a cluster', { clusterName }],
  ['everything there is', everything],
  ['some kinds', { clusterName, 'launch-hook': 'false', 'state-change': 'false' }],
  ['hooks by EventBridge', { clusterName, hookGroups: 'one' }],
  ['hooks straight to the queue', { clusterName, hookGroups: 'b,a', hooksStraightToQueue: 'true' }],
  ['hooks straight to the queue, but none', { clusterName, hooksStraightToQueue: 'true' }],
])('makes what the stack makes: %s', (_, settings) => {
  expect(withoutIds(resolvedPlain(settings))).toEqual(withoutIds(resolvedStack(settings)));
});

test('makes what the stack makes, whatever is chosen', () => {
  const optional = (value: fc.Arbitrary<string>) => fc.option(value, { nil: undefined });
  const valueOf = (setting: Setting): fc.Arbitrary<string | undefined> => {
    if (setting.type === 'flag') return optional(fc.constantFrom('true', 'false'));
    const sample = everything[setting.name] ?? '';
    if (setting.type !== 'list') return optional(fc.constant(sample));
    return optional(fc.shuffledSubarray(sample.split(',')).map((some) => some.join(',')));
  };
  const arbitrary = fc
    .record(Object.fromEntries(SETTINGS.map(({ name }) => [name, valueOf(settingOf(name))])))
    .map((all) => Object.entries(all).filter((entry): entry is [string, string] => !!entry[1]))
    .map((entries): Settings => ({
      ...Object.fromEntries(entries),
      clusterName,
      'state-change': 'true',
    }));
  fc.assert(
    fc.property(arbitrary, (settings) => {
      expect(withoutIds(resolvedPlain(settings))).toEqual(withoutIds(resolvedStack(settings)));
    }),
    { numRuns: 25 },
  );
});

test('has a parameter for each setting, and no other', () => {
  const parameters = Object.keys(asObject(asObject(template)['Parameters'] ?? {}));
  expect(parameters).toEqual(SETTINGS.map(({ name }) => pascalCase(name)));
});

test('can be handed to CloudFormation as it is, without a bucket', () => {
  expect(Buffer.byteLength(text)).toBeLessThan(LARGEST_TEMPLATE_BYTES);
  expect(text).not.toMatch(/bootstrap|cdk/i);
});
