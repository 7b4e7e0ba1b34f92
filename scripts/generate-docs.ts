import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { plainTemplate } from '../infra/plain-template.ts';
import { policyJson, rulesJson } from '../infra/print.ts';
import { referenceMarkdown } from '../infra/reference.ts';
import { optionsMarkdown, parseOptions } from '../src/options.ts';
import {
  BURST,
  EVENTS_PER_SECOND,
  MOST_ATTEMPTS,
  MOST_REMEMBERED,
  MOST_UNDER_WAY,
  MOST_WAITING,
} from '../src/report/event-recorder.ts';
import { MESSAGES } from '../src/report/messages.ts';
import { METRICS, type MetricRow } from '../src/report/metrics.ts';
import { NODE_EVENTS, POD_EVENTS } from '../src/report/object-events.ts';
import { outcomeEventSchema } from '../src/report/outcome.ts';
import { webhookDataSchema } from '../src/report/webhook/message.ts';
import { chartFiles, withPermissions } from './chart/files.ts';
import { howItDecidesMarkdown } from './how-it-decides.ts';

/** Written by hand but for one table. */
const SECURITY = resolve(import.meta.dirname, '../docs/security.md');

/** The documents, and what is deployed as it is, that are made from tables in the code; by path. */
export function generatedDocs(): Readonly<Record<string, string>> {
  return {
    'docs/options.md': optionsMarkdown(),
    'docs/log-messages.md': messagesMarkdown(),
    'docs/metrics.md': metricsMarkdown(),
    'docs/kubernetes-events.md': kubernetesEventsMarkdown(),
    'docs/outcome-event.schema.json': schemaJson(outcomeEventSchema),
    'docs/webhook-message.schema.json': schemaJson(webhookDataSchema),
    'docs/how-it-decides.md': howItDecidesMarkdown(defaultLeadMs()),
    'docs/aws-reference.md': referenceMarkdown(),
    'deploy/cloudformation.json': plainTemplate(),
    'deploy/terraform/rules.json': rulesJson(),
    'deploy/terraform/policy.json': policyJson({}),
    ...chartFiles(),
    'docs/security.md': withPermissions(readFileSync(SECURITY, 'utf8')),
  };
}

function defaultLeadMs(): number {
  const queueUrl = 'https://sqs.eu-central-1.amazonaws.com/123456789012/interruptions';
  const parsed = parseOptions(['--queue-url', queueUrl], {});
  if ('faults' in parsed) throw new Error(parsed.faults.join(' '));
  return parsed.options.scheduledChangeLeadSeconds * 1000;
}

function messagesMarkdown(): string {
  const rows = Object.entries(MESSAGES).map(
    ([text, { level, meaning }]) =>
      `| ${level} | \`${text}\` | ${meaning.replaceAll('|', String.raw`\|`)} |`,
  );
  return `# Log messages

The field \`message\` of a log line is always one of these texts, at this level; what varies is in the fields beside it.

| Level | Message | Meaning |
| --- | --- | --- |
${rows.join('\n')}
`;
}

function kubernetesEventsMarkdown(): string {
  const table = (events: typeof NODE_EVENTS | typeof POD_EVENTS): string =>
    Object.entries(events)
      .map(
        ([reason, { type, action, meaning }]) =>
          `| \`${reason}\` | ${type} | ${action} | ${meaning} |`,
      )
      .join('\n');
  const head = '| Reason | Type | Action | Meaning |\n| --- | --- | --- | --- |';
  return `# Kubernetes events

What becomes of Nodes and Pods, as \`kubectl describe\` shows it: events of \`events.k8s.io/v1\` by \`node-termination-controller\`. Reasons are names, to search by and to alert on; the words of a note may change. Those of a Node are in the namespace \`default\`, those of a Pod in its own:

\`\`\`sh
kubectl describe node NODE
kubectl get events -A --field-selector source=node-termination-controller
\`\`\`

## On Nodes

${head}
${table(NODE_EVENTS)}

## On Pods

${head}
${table(POD_EVENTS)}

## What they cost

They are the last of all requests: at most ${EVENTS_PER_SECOND} a second after a first ${BURST}, ${MOST_UNDER_WAY} at a time, none until a second after the last mark (where marks do not pause for 15 s: between them), and none for a while (5 s, then longer) when the API server pushes back; the chart has a FlowSchema that puts them below all others there. An event is tried ${MOST_ATTEMPTS} times at most. What is told again with the same words is one event with a count, written at its first repetition, then every half an hour, and when it has not been told for six minutes; the latest ${MOST_REMEMBERED} are known for that. Of what waits, repetitions included, ${MOST_WAITING} of Nodes and as many of Pods are kept, those of Nodes go first, and what finds no room is dropped: \`node_termination_kubernetes_events_total\` counts all of them by result. The log has all that happens. KUBERNETES_EVENTS=false switches them off, and the chart then grants no right to write them; DRY_RUN writes none.
`;
}

function schemaJson(schema: z.ZodType): string {
  return `${JSON.stringify(z.toJSONSchema(schema), undefined, 2)}\n`;
}

function metricsMarkdown(): string {
  const rows = Object.entries<MetricRow>(METRICS).map(([name, row]) => {
    const labels = row.labels.map((label) => `\`${label}\``).join(', ');
    const buckets = row.type === 'histogram' ? ` Buckets: ${row.buckets.join(', ')}.` : '';
    return `| \`node_termination_${name}\` | ${row.type} | ${labels} | ${row.help}${buckets} |`;
  });
  return `# Metrics

\`/metrics\` on HTTP_PORT, in the text format of Prometheus. No label names a node, a pod or a message, so the number of series has a bound. Beside these there are the usual ones of a process and of Node.js (\`process_…\`, \`nodejs_…\`).

| Metric | Type | Labels | Meaning |
| --- | --- | --- | --- |
${rows.join('\n')}
`;
}

if (import.meta.main) {
  for (const [path, text] of Object.entries(generatedDocs())) {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    console.log(`wrote ${path}`);
  }
}
