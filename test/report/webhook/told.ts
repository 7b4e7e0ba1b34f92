import type { InterruptionOutcome, InterruptionReceived } from '../../../src/report/outcome.ts';
import { at, INSTANCE, interruption } from '../../plan/samples.ts';

export function receipt(changes: Partial<InterruptionReceived> = {}): InterruptionReceived {
  return {
    node: 'node-1',
    instanceId: INSTANCE,
    interruption: interruption(),
    deadlineAt: at(120),
    ...changes,
  };
}

export function end(changes: Partial<InterruptionOutcome> = {}): InterruptionOutcome {
  return {
    ...receipt(),
    outcome: 'drained',
    endedAt: at(30),
    pods: { evicted: 2, deletedPastBudget: 0, leftByThemselves: 0, stayed: 0 },
    podNames: { left: ['shop/web-0', 'shop/web-1'], stayed: [] },
    ...changes,
  };
}
