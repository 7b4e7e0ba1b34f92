import type { Interruption } from '../../../src/plan/interruption.ts';
import type { InterruptionOutcome, InterruptionReceived } from '../../../src/report/outcome.ts';

const AT = Date.parse('2026-03-01T12:00:00Z');

export function receipt(changes: Partial<InterruptionReceived> = {}): InterruptionReceived {
  return {
    node: 'node-1',
    instanceId: 'i-0123456789abcdef0',
    interruption: interruption(),
    deadlineAt: AT + 120_000,
    ...changes,
  };
}

export function end(changes: Partial<InterruptionOutcome> = {}): InterruptionOutcome {
  return {
    ...receipt(),
    outcome: 'drained',
    endedAt: AT + 30_000,
    pods: { evicted: 2, deletedPastBudget: 0, leftByThemselves: 0, stayed: 0 },
    podNames: { left: ['shop/web-0', 'shop/web-1'], stayed: [] },
    ...changes,
  };
}

export function interruption(changes: Partial<Interruption> = {}): Interruption {
  return {
    id: 'spot-interruption',
    row: 'spot-terminate',
    kind: 'spot-interruption',
    time: AT,
    recordedAt: AT + 500,
    deadlineAt: AT + 120_000,
    change: undefined,
    begunAt: undefined,
    hook: undefined,
    unknown: {},
    ...changes,
  };
}
