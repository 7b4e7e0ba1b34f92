import type { Outcome } from './run.ts';
import { CRASH_POINTS, PORTS } from './way.ts';

/** What a series of storms came to. */
export class Figures {
  private readonly startedAt = process.cpuUsage();
  private readonly nodes: number[] = [];
  private readonly messages: number[] = [];
  private readonly faults: number[] = [];
  private readonly checked = new Map<string, number>();
  private readonly crashHits = new Map<string, number>();

  add({ nodes, messages, faults, checked, crashHits }: Outcome): void {
    this.nodes.push(nodes);
    this.messages.push(messages);
    this.faults.push(faults);
    addAll(this.checked, checked);
    addAll(this.crashHits, crashHits);
  }

  get storms(): number {
    return this.nodes.length;
  }

  get medians(): Readonly<{ nodes: number; messages: number; faults: number }> {
    return {
      nodes: median(this.nodes),
      messages: median(this.messages),
      faults: median(this.faults),
    };
  }

  /** How often a process died at this point of a call of this port. */
  hits(port: string, point: string): number {
    return this.crashHits.get(`${port}: ${point}`) ?? 0;
  }

  /** CPU time of this process since the beginning. */
  get cpuMsPerStorm(): number {
    const { user, system } = process.cpuUsage(this.startedAt);
    return (user + system) / 1000 / Math.max(1, this.nodes.length);
  }

  text(): string {
    const { nodes, messages, faults } = this.medians;
    const perStorm = this.cpuMsPerStorm;
    return [
      `${this.nodes.length} storms, no invariant broken; of ${nodes} nodes, ${messages} messages and ${faults} faults (medians)`,
      `${perStorm.toFixed(1)} ms of CPU a storm: ${Math.round(60_000 / perStorm)} storms a minute on one core`,
      `judged without an excuse: ${[...this.checked]
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, times]) => `${name} ${times}`)
        .join(', ')}`,
      'crashes, by port: before the call, after its effect but before its answer, after its answer',
      ...PORTS.map(
        (port) =>
          `  ${port.padEnd(18)}${CRASH_POINTS.map((point) => String(this.hits(port, point)).padStart(6)).join('')}`,
      ),
    ].join('\n');
  }
}

function addAll(into: Map<string, number>, from: ReadonlyMap<string, number>): void {
  for (const [name, times] of from) into.set(name, (into.get(name) ?? 0) + times);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
