import type {
  InterruptionOutcome,
  InterruptionReceived,
  Outcomes,
} from '../../../src/report/outcome.ts';

/** Keeps all that is told. */
export class FakeOutcomes implements Outcomes {
  readonly receipts: InterruptionReceived[] = [];
  readonly told: InterruptionOutcome[] = [];

  received(news: InterruptionReceived): void {
    this.receipts.push(news);
  }

  tell(outcome: InterruptionOutcome): void {
    this.told.push(outcome);
  }
}

/** Where nobody is to be told. */
export const UNTOLD: Outcomes = { received: () => undefined, tell: () => undefined };
