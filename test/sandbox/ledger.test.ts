import { describe, expect, it } from 'vitest';
import { successorsAmong, type PodLife } from './ledger.ts';

function life(name: string, bornAtStep: number, leftAtStep?: number): PodLife {
  return {
    uid: name,
    name,
    app: name.slice(0, name.indexOf('-')),
    bornAtStep,
    node: undefined,
    ready: true,
    ...(leftAtStep === undefined ? {} : { leftAtStep }),
  };
}

describe('the place of a pod that left', () => {
  it('is taken by the first of its app that came after it', () => {
    const lives = [
      life('web-a', 1, 10),
      life('web-b', 2, 12),
      life('db-a', 3),
      life('db-b', 11),
      life('web-c', 14),
      life('web-d', 13),
    ];
    const successors = successorsAmong(lives);
    expect([...successors].map(([uid, { name }]) => [uid, name])).toEqual([
      ['web-a', 'web-d'],
      ['web-b', 'web-c'],
    ]);
  });

  it('is free as long as nobody came', () => {
    expect(successorsAmong([life('web-a', 1, 10), life('web-b', 2)])).toEqual(new Map());
  });

  it('can be left again', () => {
    const successors = successorsAmong([
      life('web-a', 1, 5),
      life('web-b', 6, 8),
      life('web-c', 9),
    ]);
    expect(successors.get('web-a')?.name).toBe('web-b');
    expect(successors.get('web-b')?.name).toBe('web-c');
  });
});
