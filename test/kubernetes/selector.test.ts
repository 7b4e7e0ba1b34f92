import { describe, expect, test } from 'vitest';
import { parseSelector } from '../../src/kubernetes/selector.ts';

const labels = { pool: 'spot', 'kubernetes.io/os': 'linux', empty: '' };

describe('a label selector', () => {
  test.each([
    '',
    '  ',
    'pool',
    'pool=spot',
    'pool==spot',
    'pool = spot',
    'pool!=on-demand',
    'missing!=spot',
    '!missing',
    '! missing',
    'pool in (spot)',
    'pool in (spot, on-demand)',
    'pool in(spot)',
    'pool notin (on-demand,other)',
    'missing notin (spot)',
    'empty=',
    'empty',
    'empty in ()',
    'kubernetes.io/os=linux',
    'pool=spot,kubernetes.io/os in (linux, windows),!missing',
    ' pool=spot , empty ',
  ])('"%s" chooses the labels', (text) => {
    expect(parseSelector(text)(labels)).toBe(true);
  });

  test.each([
    'missing',
    '!pool',
    'pool=on-demand',
    'pool!=spot',
    'pool in (on-demand)',
    'pool notin (spot)',
    'missing in (spot)',
    'missing=',
    'pool=',
    'pool=spot,missing',
    'pool=spot,pool notin (a,spot)',
  ])('"%s" does not choose the labels', (text) => {
    expect(parseSelector(text)(labels)).toBe(false);
  });

  test.each([
    ['pool=spot,', 'a comma too many'],
    [',', 'a comma too many'],
    ['pool in spot', "'pool in spot' is no requirement"],
    ['pool in (spot', "'pool in (spot' is no requirement"],
    ['pool within (spot)', "'pool within (spot)' is no requirement"],
    ['pool>5', "'pool>5' is no requirement"],
    ['=spot', "'=spot' is no requirement"],
    ['a b=c', "'a b=c' is no requirement"],
    ['!', "'!' is no requirement"],
    ['-pool=spot', "'-pool=spot' is no requirement"],
    ['Upper.io/x/y=1', "'Upper.io/x/y=1' is no requirement"],
    ['pool=spot instances', "'spot instances' in 'pool=spot instances'"],
    ['pool in (a b)', "'a b' in 'pool in (a b)'"],
    [`pool=${'x'.repeat(64)}`, 'cannot be the value of a label'],
    [`${'x'.repeat(64)}=y`, 'is no requirement'],
  ])('"%s" is refused and the fault named', (text, fault) => {
    expect(() => parseSelector(text)).toThrow(fault);
  });
});
