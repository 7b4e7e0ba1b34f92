import type { METRICS, MetricOf, LabelsOf, Metrics } from '../../../src/report/metrics.ts';

/** Keeps all that is counted and observed. */
export class FakeMetrics implements Metrics {
  private readonly counts = new Map<string, number>();
  private readonly observed = new Map<string, number[]>();

  /** How often this was counted, with exactly these labels. */
  counted<Name extends MetricOf<'counter'>>(name: Name, labels: LabelsOf<Name>): number {
    return this.counts.get(keyOf(name, labels)) ?? 0;
  }

  /** What was observed, oldest first, with exactly these labels. */
  values<Name extends MetricOf<'histogram'>>(
    name: Name,
    labels: LabelsOf<Name>,
  ): readonly number[] {
    return this.observed.get(keyOf(name, labels)) ?? [];
  }

  count<Name extends MetricOf<'counter'>>(name: Name, labels: LabelsOf<Name>, by = 1): void {
    const key = keyOf(name, labels);
    this.counts.set(key, (this.counts.get(key) ?? 0) + by);
  }

  observe<Name extends MetricOf<'histogram'>>(
    name: Name,
    labels: LabelsOf<Name>,
    value: number,
  ): void {
    const key = keyOf(name, labels);
    this.observed.set(key, [...(this.observed.get(key) ?? []), value]);
  }
}

function keyOf(name: keyof typeof METRICS, labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).toSorted(([a], [b]) => a.localeCompare(b));
  return JSON.stringify([name, pairs]);
}
