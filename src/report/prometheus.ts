import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { METRICS, type MetricOf, type MetricRow, type Metrics, type Reading } from './metrics.ts';

/** What is not counted but is so at the moment of a scrape. */
export type Readings = {
  readonly [Name in MetricOf<'gauge'>]: () => readonly Reading<Name>[];
};

interface PrometheusMetrics extends Metrics {
  readonly contentType: string;
  /** All metrics, in the text format. */
  text(): Promise<string>;
}

const PREFIX = 'node_termination_';
/** Gauges with the suffix of a counter, which Prometheus' linter is against: the same by type remain. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

/** The metrics of this process in Prometheus' format; its memory does not grow with what is counted. */
export function createMetrics(readings: Readings): PrometheusMetrics {
  const registry = new Registry();
  const counters = new Map<string, Counter>();
  const histograms = new Map<string, Histogram>();
  const reads = new Map<string, Readings[keyof Readings]>(Object.entries(readings));
  for (const [name, row] of Object.entries<MetricRow>(METRICS)) {
    const labelNames = [...row.labels];
    const common = { name: PREFIX + name, help: row.help, labelNames, registers: [registry] };
    switch (row.type) {
      case 'counter':
        counters.set(name, zeroed(new Counter(common), row.zeros));
        break;
      case 'histogram':
        histograms.set(name, new Histogram({ ...common, buckets: [...row.buckets] }));
        break;
      case 'gauge':
        registry.registerMetric(gauge({ ...common, registers: [] }, reads.get(name)));
        break;
      default:
        throw new Error(`unexpected metric: ${JSON.stringify(row satisfies never)}`);
    }
  }
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    count: (name, labels, by = 1) => counters.get(name)?.inc(labels, by),
    observe: (name, labels, value) => histograms.get(name)?.observe(labels, value),
  };
}

/** With every combination of these labels' values there at once. */
function zeroed(
  counter: Counter,
  zeros: Readonly<Record<string, readonly string[]>> = {},
): Counter {
  const combinations = Object.entries(zeros).reduce<readonly Record<string, string>[]>(
    (found, [label, values]) =>
      found.flatMap((labels) => values.map((value) => ({ ...labels, [label]: value }))),
    [{}],
  );
  for (const labels of combinations) {
    if (Object.keys(labels).length > 0) counter.inc(labels, 0);
  }
  return counter;
}

function gauge(
  common: ConstructorParameters<typeof Gauge>[0],
  read: Readings[keyof Readings] | undefined,
): Gauge {
  return new Gauge({
    ...common,
    collect() {
      this.reset();
      for (const { labels, value } of read?.() ?? []) this.set(labels, value);
    },
  });
}
