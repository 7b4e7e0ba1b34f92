import type { Clock, Timer } from '../clock.ts';
import { isWaiting } from '../plan/calls.ts';
import type { Policy } from '../plan/policy.ts';
import type { Outcomes } from '../report/outcome.ts';
import type { Report } from '../report/report.ts';
import type { DepartedNodes } from './departed-nodes.ts';
import type { NodeIndex } from './node-store.ts';

type LostNodesPorts = Readonly<{
  nodes: Pick<NodeIndex, 'byInstance' | 'subscribe'>;
  departed: DepartedNodes;
  outcomes: Outcomes;
  clock: Clock;
  report: Report;
}>;

type LostNodesPolicy = Pick<Policy, 'actions'> & Readonly<{ unknownInstanceGraceSeconds: number }>;

/** As many as are remembered with what they bore; the oldest go first. */
const MOST_MISSING = 20_000;

/**
 * Tells the end of what was still waiting for its turn when its Node went: there is no drain that would.
 * Not before the grace in which any instance may register its Node; whoever leads then tells it.
 */
export class LostNodes {
  /** By instance: of the Nodes that went within the grace. */
  private readonly missing = new Map<string, Timer>();
  private unsubscribe: (() => void) | undefined;
  private readonly ports: LostNodesPorts;
  private readonly policy: LostNodesPolicy;

  constructor(ports: LostNodesPorts, policy: LostNodesPolicy) {
    this.ports = ports;
    this.policy = policy;
  }

  start(): void {
    const { nodes, departed } = this.ports;
    for (const { at, journal } of departed.journals()) this.miss(journal.machine.instanceId, at);
    this.unsubscribe = nodes.subscribe((before, after) => {
      if (after !== undefined || before?.instanceId === undefined) return;
      this.miss(before.instanceId, this.ports.clock.now());
    });
  }

  stop(): void {
    this.unsubscribe?.();
    for (const timer of this.missing.values()) timer.cancel();
    this.missing.clear();
  }

  /** `at`: when its Node went. What is over by now was told by whoever led. */
  private miss(instanceId: string, at: number): void {
    const { clock } = this.ports;
    const leftMs = at + this.policy.unknownInstanceGraceSeconds * 1000 - clock.now();
    this.missing.get(instanceId)?.cancel();
    this.missing.delete(instanceId);
    if (leftMs < 0) return;
    const timer = clock.after(leftMs, () => {
      this.missing.delete(instanceId);
      this.tell(instanceId);
    });
    this.missing.set(instanceId, timer);
    const [oldest] = this.missing;
    if (this.missing.size <= MOST_MISSING || oldest === undefined) return;
    oldest[1].cancel();
    this.missing.delete(oldest[0]);
  }

  private tell(instanceId: string): void {
    const { nodes, departed, outcomes, report } = this.ports;
    const { at, nodeName, journal } = departed.find(instanceId) ?? {};
    if (at === undefined || nodeName === undefined || journal?.state !== 'waiting') return;
    if (nodes.byInstance(instanceId).length > 0) return;
    for (const interruption of journal.live) {
      const { id, kind } = interruption;
      // Where policy asks for marks alone, there was nothing to bring about.
      if (!isWaiting(interruption) || this.policy.actions[kind] !== 'drain') continue;
      const facts = { node: nodeName, instance: instanceId, kind, interruption: id };
      report.info('node gone before its turn', facts);
      outcomes.tell({
        node: nodeName,
        instanceId,
        interruption,
        outcome: 'not-possible',
        deadlineAt: interruption.deadlineAt,
        endedAt: at,
        pods: undefined,
        podNames: { left: [], stayed: [] },
      });
    }
  }
}
