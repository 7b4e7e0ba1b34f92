export type Chance = {
  /** From 0 up to, but without, 1. */
  readonly next: () => number;
  readonly pick: <T>(items: readonly T[]) => T;
  readonly between: (least: number, most: number) => number;
};

/** The same draws for the same seed (mulberry32). */
export function seededChance(seed: number): Chance {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    pick(items) {
      const item = items[Math.floor(next() * items.length)];
      if (item === undefined) throw new Error('nothing to pick from');
      return item;
    },
    between: (least, most) => least + next() * (most - least),
  };
}
