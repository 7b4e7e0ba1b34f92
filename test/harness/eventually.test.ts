import { describe, expect, it } from 'vitest';
import { always, eventually } from './eventually.ts';

describe('eventually', () => {
  it('tries until there is a result, and returns it', async () => {
    let calls = 0;
    const attempt = () => {
      calls += 1;
      if (calls === 1) throw new Error('not yet');
      if (calls === 2) return undefined;
      return calls === 3 ? false : calls;
    };
    expect(await eventually(attempt, { intervalMs: 1 })).toBe(4);
  });

  it('takes 0, null and the empty string for results', async () => {
    expect(await eventually(() => 0)).toBe(0);
    expect(await eventually(() => null)).toBeNull();
    expect(await eventually(() => '')).toBe('');
  });

  it('says what was wrong last', async () => {
    const failing = eventually(() => expect(1).toBe(2), { timeoutMs: 20, intervalMs: 1 });
    await expect(failing).rejects.toThrow(/not within 20 ms: expected 1 to be 2/);
    await expect(eventually(() => false, { timeoutMs: 0 })).rejects.toThrow('it returned false');
  });

  it('tries once even without any time', async () => {
    expect(await eventually(() => 'at once', { timeoutMs: 0 })).toBe('at once');
  });
});

describe('always', () => {
  it('holds only if every check does, the last one included', async () => {
    let checks = 0;
    const failsLate = () => {
      checks += 1;
      if (checks > 2) throw new Error('broken');
    };
    await expect(always(failsLate, { watchMs: 10_000, intervalMs: 1 })).rejects.toThrow('broken');
    await always(() => undefined, { watchMs: 5, intervalMs: 1 });
    await expect(always(() => Promise.reject(new Error('broken')), { watchMs: 0 })).rejects.toThrow(
      'broken',
    );
  });
});
