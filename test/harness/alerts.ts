import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parse } from 'yaml';

const root = resolve(import.meta.dirname, '../..');

/** What the chart installs with `prometheusRule.alerts`. */
export const alertsFile = resolve(root, 'deploy/chart/files/alerts.yaml');

type Alert = Readonly<{
  alert: string;
  expr: string;
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
}>;

export async function readAlerts(): Promise<readonly Alert[]> {
  const { groups } = parse(await readFile(alertsFile, 'utf8')) as {
    groups: readonly { rules: readonly Alert[] }[];
  };
  return groups.flatMap(({ rules }) => rules);
}

/** Each query of docs/observability.md. */
export async function documentedQueries(): Promise<readonly string[]> {
  const text = await readFile(resolve(root, 'docs/observability.md'), 'utf8');
  return [...text.matchAll(/^```promql\n([^`]+)^```$/gm)].flatMap(([, queries = '']) =>
    queries.split('\n').filter((query) => query !== ''),
  );
}
