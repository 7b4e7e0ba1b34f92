import type { InterruptionOutcome, Outcomes } from '../../../src/report/outcome.ts';

/** Keeps all that is told. */
export class FakeOutcomes implements Outcomes {
  readonly told: InterruptionOutcome[] = [];

  tell(outcome: InterruptionOutcome): void {
    this.told.push(outcome);
  }
}
