import type { Line } from './line.ts';

type Call<Args> = Readonly<{ at: number; args: Args }>;

/**
 * One port's one method: notes each call, lets a test answer in the place of the outside, and is
 * otherwise what the outside does, half of the way's time after the call and before the answer.
 */
export class Gate<Args extends readonly unknown[], Answer> {
  /** Oldest first. */
  readonly calls: Call<Args>[] = [];
  /** How much longer than others its answers are on their way. */
  extraMs = 0;
  private readonly scripted: (() => Answer)[] = [];
  private rule: ((...args: Args) => Answer | undefined) | undefined;
  private held: PromiseWithResolvers<void> | undefined;
  private readonly line: Line;

  constructor(line: Line) {
    this.line = line;
  }

  get count(): number {
    return this.calls.length;
  }

  /** The next calls, in order, are answered so and have no effect. An Error is thrown. */
  answerNext(...answers: readonly (Answer | Error)[]): void {
    for (const answer of answers) {
      this.scripted.push(() => {
        if (answer instanceof Error) throw answer;
        return answer;
      });
    }
  }

  /** Calls are answered by the rule wherever it gives an answer, until there is another. */
  answerBy(rule: ((...args: Args) => Answer | undefined) | undefined): void {
    this.rule = rule;
  }

  /** Holds calls back, before they have any effect, until the returned function is called. */
  hold(): () => void {
    const held = Promise.withResolvers<void>();
    this.held = held;
    return () => {
      if (this.held === held) this.held = undefined;
      held.resolve();
    };
  }

  async pass(args: Args, effect: () => Answer, signal?: AbortSignal): Promise<Answer> {
    this.calls.push({ at: this.line.now(), args });
    await this.line.travel(signal);
    if (this.held !== undefined) await unlessAborted(this.held.promise, signal);
    const script = this.scripted.shift();
    const answer = script === undefined ? (this.rule?.(...args) ?? effect()) : script();
    await this.line.travel(signal, this.line.latencyMs + this.extraMs);
    return answer;
  }
}

async function unlessAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return work;
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(new Error('aborted', { cause: signal.reason }));
  signal.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
