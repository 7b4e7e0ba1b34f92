import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isHookOfOurs, parseHookPatterns } from '../../src/plan/hooks.ts';

function patterns(text: string) {
  const parsed = parseHookPatterns(text);
  if ('fault' in parsed) throw new Error(parsed.fault);
  return parsed;
}

describe('which lifecycle hooks are ours', () => {
  test.each([
    { hooks: '*', group: 'workers', hook: 'drain', ours: true },
    { hooks: '*', group: 'a/b', hook: 'c/d', ours: true },
    { hooks: 'workers/drain', group: 'workers', hook: 'drain', ours: true },
    { hooks: 'workers/drain', group: 'workers', hook: 'drain-2', ours: false },
    { hooks: 'workers/drain', group: 'my-workers', hook: 'drain', ours: false },
    { hooks: '*/drain', group: 'workers', hook: 'drain', ours: true },
    { hooks: '*/drain', group: 'workers', hook: 'ship-logs', ours: false },
    { hooks: 'prod-*/*', group: 'prod-a', hook: 'anything', ours: true },
    { hooks: 'prod-*/*', group: 'test-a', hook: 'anything', ours: false },
    { hooks: 'pool-?/drain', group: 'pool-1', hook: 'drain', ours: true },
    { hooks: 'pool-?/drain', group: 'pool-12', hook: 'drain', ours: false },
    { hooks: 'a/x, b/y', group: 'b', hook: 'y', ours: true },
    { hooks: 'a/x, b/y', group: 'a', hook: 'y', ours: false },
    { hooks: '*a*b/*c*', group: 'xaxaxb', hook: 'ccx', ours: true },
    { hooks: 'a.c/(x)', group: 'abc', hook: 'x', ours: false },
    { hooks: 'a.c/(x)', group: 'a.c', hook: '(x)', ours: true },
    { hooks: 'Workers/drain', group: 'workers', hook: 'drain', ours: false },
  ])('HOOKS=$hooks: $group, $hook: $ours', ({ hooks, group, hook, ours }) => {
    expect(isHookOfOurs(patterns(hooks), group, hook)).toBe(ours);
  });

  test('a pattern without a group is refused with the pattern that was meant', () => {
    expect(parseHookPatterns('a/b,drain')).toEqual({
      fault: 'has "drain" without a group (write "*/drain" for any)',
    });
  });

  test.each(['', 'a/b,', ',a/b', 'a/b,,c/d', ' '])('an empty pattern is refused: "%s"', (text) => {
    expect(parseHookPatterns(text)).toEqual({ fault: 'has an empty pattern in it' });
  });

  test('it agrees with a regular expression of the same meaning', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', '-'), maxLength: 10 });
    const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*', '?'), maxLength: 8 });
    fc.assert(
      fc.property(pattern, text, text, (glob, group, hook) => {
        const source = glob.replaceAll('*', '[^]*').replaceAll('?', '[^]');
        const expected = new RegExp(`^${source}$`).test(`${group}/${hook}`);
        expect(isHookOfOurs([glob], group, hook)).toBe(expected);
      }),
    );
  });

  test('a hostile pattern costs no more than its length times the text', () => {
    const pattern = `${'*a'.repeat(2_000)}/b`;
    expect(isHookOfOurs([pattern], 'a'.repeat(4_000), 'c')).toBe(false);
  });
});
