import type { Clock, Timer } from '../clock.ts';
import { isCalling } from '../plan/calls.ts';
import { deadlineOf } from '../plan/deadline.ts';
import type { Interruption } from '../plan/interruption.ts';
import type { Journal } from '../plan/journal.ts';
import type { Policy } from '../plan/policy.ts';
import type { Outcomes } from '../report/outcome.ts';
import type { Report } from '../report/report.ts';
import type { DepartedNodes } from './departed-nodes.ts';
import type { NodeIndex } from './node-store.ts';

type LostNodesPorts = Readonly<{
  nodes: Pick<NodeIndex, 'byInstance' | 'subscribe'>;
  departed: DepartedNodes;
  /** Whether a drain of this instance is under way: it tells its own end. */
  drains: Readonly<{ isDraining: (instanceId: string) => boolean }>;
  outcomes: Outcomes;
  clock: Clock;
  report: Report;
}>;

type LostNodesPolicy = Policy & Readonly<{ unknownInstanceGraceSeconds: number }>;

type Lost = Readonly<{ at: number; nodeName: string; journal: Journal }>;

/** As many as are remembered with what they bore; the oldest go first. */
const MOST_MISSING = 20_000;
/** So long after the grace nobody may have led, a change of leaders included: told again is harmless. */
const UNLED_MS = 300_000;

/**
 * Tells the end of what nobody drained when its Node went: it waited for its turn, or nobody led. Not
 * before the grace in which any instance may register its Node; whoever leads then tells it.
 */
export class LostNodes {
  /** By instance. */
  private readonly missing = new Map<string, Timer>();
  private unsubscribe: (() => void) | undefined;
  private readonly graceMs: number;
  private readonly ports: LostNodesPorts;
  private readonly policy: LostNodesPolicy;

  constructor(ports: LostNodesPorts, policy: LostNodesPolicy) {
    this.graceMs = policy.unknownInstanceGraceSeconds * 1000;
    this.ports = ports;
    this.policy = policy;
  }

  /** After drains have taken up what is theirs, and heard of each change before. */
  start(): void {
    const { nodes, departed, clock } = this.ports;
    for (const lost of departed.journals()) {
      if (clock.now() - lost.at <= this.graceMs + UNLED_MS) this.miss(lost);
    }
    this.unsubscribe = nodes.subscribe((before, after) => {
      if (after !== undefined || before?.instanceId === undefined) return;
      const { at, nodeName, journal } = departed.find(before.instanceId) ?? {};
      if (at === undefined || nodeName === undefined || journal === undefined) return;
      this.miss({ at, nodeName, journal });
    });
  }

  stop(): void {
    this.unsubscribe?.();
    for (const timer of this.missing.values()) timer.cancel();
    this.missing.clear();
  }

  private miss(lost: Lost): void {
    const { clock, nodes } = this.ports;
    const { instanceId } = lost.journal.machine;
    this.missing.get(instanceId)?.cancel();
    this.missing.delete(instanceId);
    const undrained = this.undrained(lost.journal);
    if (undrained.length === 0) return;
    // Clocks are set.
    const leftMs = Math.min(lost.at + this.graceMs - clock.now(), this.graceMs);
    const timer = clock.after(Math.max(0, leftMs), () => {
      this.missing.delete(instanceId);
      if (nodes.byInstance(instanceId).length === 0) this.tell(lost, undrained);
    });
    this.missing.set(instanceId, timer);
    const [oldest] = this.missing;
    if (this.missing.size <= MOST_MISSING || oldest === undefined) return;
    oldest[1].cancel();
    this.missing.delete(oldest[0]);
  }

  /** Where policy asks for marks alone, there was nothing to bring about. */
  private undrained({ state, machine, live }: Journal): readonly Interruption[] {
    const hasBegun = live.some((interruption) => isCalling(interruption, this.policy));
    const isToldOf = state !== 'draining' || this.ports.drains.isDraining(machine.instanceId);
    if (hasBegun && isToldOf) return [];
    return live.filter(({ kind }) => this.policy.actions[kind] === 'drain');
  }

  private tell({ at, nodeName, journal }: Lost, undrained: readonly Interruption[]): void {
    const { outcomes, report } = this.ports;
    const { instanceId } = journal.machine;
    for (const interruption of undrained) {
      const { id, kind } = interruption;
      const facts = { node: nodeName, instance: instanceId, kind, interruption: id };
      report.info('node gone undrained', facts);
      outcomes.tell({
        node: nodeName,
        instanceId,
        interruption,
        outcome: 'not-possible',
        deadlineAt: deadlineOf(interruption, this.policy),
        endedAt: at,
        pods: undefined,
        podNames: { left: [], stayed: [] },
      });
    }
  }
}
