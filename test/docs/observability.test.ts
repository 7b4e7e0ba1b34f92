import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { METRICS, type MetricRow } from '../../src/report/metrics.ts';
import { documentedQueries, readAlerts } from '../harness/alerts.ts';

/** Of whoever scrapes us, and of histograms. */
const OTHER_LABELS = ['namespace', 'job', 'le'];

const rows = new Map(Object.entries<MetricRow>(METRICS));

/** Of ours, with the suffix of a histogram's series taken away. */
function metricsIn(query: string): readonly string[] {
  return [...query.matchAll(/node_termination_(\w+)/g)].map(([, name = '']) => {
    const base = name.replace(/_(bucket|sum|count)$/, '');
    return rows.get(base)?.type === 'histogram' ? base : name;
  });
}

function labelsIn(query: string): readonly string[] {
  const grouped = [...query.matchAll(/\bby \(([^)]+)\)/g)].flatMap(([, list = '']) =>
    list.split(',').map((label) => label.trim()),
  );
  const matched = [...query.matchAll(/(\w+)(?:=~|!~|!=|=)"/g)].map(([, label = '']) => label);
  return [...grouped, ...matched];
}

describe.each([
  { where: 'docs/observability.md', read: documentedQueries },
  {
    where: 'the alerts',
    read: async () => (await readAlerts()).map(({ expr }) => expr),
  },
])('$where', ({ read }) => {
  test('asks for metrics and labels that there are', async () => {
    const queries = await read();
    expect(queries.length).toBeGreaterThanOrEqual(5);
    for (const query of queries) {
      const metrics = metricsIn(query);
      expect(metrics).not.toEqual([]);
      expect(metrics.filter((name) => !rows.has(name))).toEqual([]);
      const known = [...OTHER_LABELS, ...metrics.flatMap((name) => rows.get(name)?.labels ?? [])];
      expect(labelsIn(query).filter((label) => !known.includes(label))).toEqual([]);
    }
  });
});

test('every alert whose counter may rise once only has it at 0 from the start', async () => {
  const increases = (await readAlerts()).flatMap(({ expr }) =>
    [...expr.matchAll(/increase\(node_termination_(\w+)\{([^}]+)\}/g)].map(
      ([, name = '', matchers = '']) => ({ name, matchers }),
    ),
  );
  expect(increases).not.toEqual([]);
  for (const { name, matchers } of increases) {
    const row = rows.get(name);
    const zeros = row?.type === 'counter' ? row.zeros : undefined;
    const [, label = '', value = ''] = /^(\w+)="([^"]+)"$/.exec(matchers) ?? [];
    expect(zeros?.[label]).toContain(value);
  }
});

test('every alert is explained, and says how bad it is', async () => {
  const text = await readFile('docs/observability.md', 'utf8');
  for (const { alert, labels, annotations } of await readAlerts()) {
    expect(text).toContain(`| \`${alert}\` `);
    expect(['critical', 'warning']).toContain(labels['severity']);
    expect(Object.keys(annotations)).toEqual(['summary', 'description']);
  }
});

test('what it says of the log is in the log', async () => {
  const { MESSAGES } = await import('../../src/report/messages.ts');
  const quoted = (await readAlerts()).flatMap(({ annotations }) =>
    [...(annotations['description'] ?? '').matchAll(/"([^"]+)"/g)].map(([, text = '']) => text),
  );
  expect(quoted.length).toBeGreaterThan(4);
  expect(quoted.filter((text) => !(text in MESSAGES))).toEqual([]);
});
