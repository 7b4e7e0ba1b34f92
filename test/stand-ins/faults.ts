import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * What goes wrong with a request. `error`: answered so, without effect. `lose-request`: the
 * connection is cut before the effect; `lose-answer`: after it. `hang`: no effect, no answer;
 * `withhold-answer`: the effect, but no answer. `delay`: all as usual, but later.
 */
export type Fault =
  | {
      readonly kind: 'error';
      readonly status: number;
      readonly code: string;
      readonly message?: string;
    }
  | { readonly kind: 'lose-request' | 'lose-answer' | 'hang' | 'withhold-answer' }
  | { readonly kind: 'delay'; readonly delayMs: number };

export type FaultRule<Action extends string> = {
  /** Any unless given. */
  readonly action?: Action;
  /** How often; until removed unless given. */
  readonly times?: number;
  /** Asked of each request that matches; all are hit unless given. */
  readonly hits?: () => boolean;
  readonly fault: Fault;
};

export type Faults<Action extends string> = {
  /** The first rule that matches holds. Returns how to remove it. */
  add(rule: FaultRule<Action>): () => void;
  clear(): void;
  /** The fault for a request of this action, counted. */
  next(action: string): Fault | undefined;
};

export function createFaults<Action extends string>(): Faults<Action> {
  let rules: { readonly rule: FaultRule<Action>; left: number }[] = [];
  return {
    add(rule) {
      const entry = { rule, left: rule.times ?? Infinity };
      rules.push(entry);
      return () => {
        rules = rules.filter((other) => other !== entry);
      };
    },
    clear() {
      rules = [];
    },
    next(action) {
      const entry = rules.find(
        ({ rule, left }) =>
          left > 0 &&
          (rule.action === undefined || rule.action === action) &&
          (rule.hits?.() ?? true),
      );
      if (!entry) return undefined;
      entry.left -= 1;
      return entry.rule.fault;
    },
  };
}

export type Answer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

/** Carries a fault out around the effect of a request. Returns the status sent; 0 for no answer. */
export async function answerWithFault(
  response: ServerResponse,
  fault: Fault | undefined,
  effect: () => Promise<Answer>,
  errorAnswer: (error: Extract<Fault, { kind: 'error' }>) => Answer,
): Promise<number> {
  if (fault?.kind === 'error') return send(response, errorAnswer(fault));
  if (fault?.kind === 'hang') return 0;
  if (fault?.kind === 'lose-request') {
    response.destroy();
    return 0;
  }
  if (fault?.kind === 'delay') await delay(fault.delayMs);
  const answer = await effect();
  if (fault?.kind === 'withhold-answer') return 0;
  if (fault?.kind === 'lose-answer') response.destroy();
  return send(response, answer);
}

function send(response: ServerResponse, answer: Answer): number {
  if (response.destroyed) return 0;
  response.writeHead(answer.status, {
    ...answer.headers,
    'content-length': Buffer.byteLength(answer.body),
  });
  response.end(answer.body);
  return answer.status;
}
