import { describe, expect, it } from 'vitest';
import { parseSandboxOptions } from './options.ts';

describe('the options of the sandbox', () => {
  it('need not be given', () => {
    expect(parseSandboxOptions([])).toEqual({
      once: false,
      nodes: 9,
      seed: 1,
      kubeconfig: undefined,
    });
  });

  it('are taken in both forms', () => {
    expect(parseSandboxOptions(['--once', '--nodes', '200', '--seed=7'])).toMatchObject({
      once: true,
      nodes: 200,
      seed: 7,
    });
    expect(parseSandboxOptions(['--kubeconfig', import.meta.filename])).toMatchObject({
      kubeconfig: import.meta.filename,
    });
  });

  it('are explained on request', () => {
    expect(parseSandboxOptions(['--help'])).toEqual({ help: true });
    expect(parseSandboxOptions(['-h'])).toEqual({ help: true });
  });

  it('that are wrong are named all at once', () => {
    const args = ['--nodes', '5', '--seed=x', '--once=no', '--twice', 'here', '--kubeconfig=/nope'];
    expect(parseSandboxOptions(args)).toEqual({
      faults: [
        '--once takes no value, but got "no".',
        'There is no option --twice.',
        '"here" is not expected here.',
        '--kubeconfig is "/nope": that is no file that can be read.',
        '--nodes is "5": it takes a whole number from 6 to 1000.',
        '--seed is "x": it takes a whole number from 0 to 4294967295.',
      ],
    });
  });

  it.each(['--nodes', '--seed', '--kubeconfig'])('that take a value want one (%s)', (option) => {
    expect(parseSandboxOptions([option])).toEqual({ faults: [`${option} needs a value.`] });
  });
});
