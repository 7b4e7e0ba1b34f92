import { afterAll, beforeAll, describe, it } from 'vitest';
import type { Backend } from './backend.ts';
import { runCase } from './case.ts';
import { contractCases } from './kubernetes.contract.ts';
import type { StartedBackend } from './stand-in-backend.ts';

/** Declares a test for each case, against one server for all of them. */
export function declareContract(start: () => Promise<StartedBackend>): void {
  let started: StartedBackend | undefined;
  const backend = (): Backend => {
    if (started === undefined) throw new Error('the server was not started');
    return started.backend;
  };
  beforeAll(async () => {
    started = await start();
  });
  afterAll(async () => {
    await started?.stop();
  });

  const quick = contractCases.filter(({ mode }) => mode !== 'slow');
  const slow = contractCases.filter(({ mode }) => mode === 'slow');

  // oxlint-disable vitest/expect-expect -- the assertions are in the cases
  describe('what follows at once', () => {
    it.for(quick)('$name', async (contractCase, { expect }) => {
      await runCase(backend(), expect, contractCase);
    });
  });
  // These wait for the server, and need not wait for each other.
  describe.concurrent('what takes its time', () => {
    it.for(slow)('$name', async (contractCase, { expect }) => {
      await runCase(backend(), expect, contractCase);
    });
  });
  // oxlint-enable vitest/expect-expect
}
