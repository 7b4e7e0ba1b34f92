import { afterEach, expect } from 'vitest';

declare module 'vitest' {
  interface TaskMeta {
    /** How many `expect` a test came through. */
    assertions?: number;
    /** What a skipped test or suite would need, and how to provide it. */
    needs?: string | undefined;
  }
}

afterEach((context) => {
  let assertions = expect.getState().assertionCalls;
  // Vitest makes the context's own `expect` when it is first asked for; asking here would make it.
  if (Reflect.get(context, '_local') === true) {
    assertions += context.expect.getState().assertionCalls;
  }
  context.task.meta.assertions = assertions;
});
