import type { InterruptionOutcome, InterruptionReceived } from '../../src/report/outcome.ts';
import type { Facts } from '../../src/report/report.ts';
import type { RawNode, RawPod } from './api-server.ts';

/** What happened in the world, as the world knows it: what invariants are judged by. */
export type Happened =
  | Readonly<{ what: 'message sent' | 'message deleted'; message: string }>
  | Readonly<{ what: 'message received'; message: string; process: string; count: number }>
  | Readonly<{ what: 'message hidden'; message: string; seconds: number }>
  | Readonly<{
      what: 'node written';
      /** A process's name, or who else. */
      by: string;
      isOurs: boolean;
      before: RawNode | undefined;
      after: RawNode;
    }>
  | Readonly<{ what: 'node gone'; node: RawNode }>
  | Readonly<{ what: 'pod bound' | 'pod gone'; pod: RawPod }>
  /** By a process of ours: it took effect. */
  | Readonly<{
      what: 'eviction' | 'deletion';
      process: string;
      before: RawPod;
      after: RawPod;
      graceSeconds: number | undefined;
    }>
  /** An eviction that was not granted: by a budget, say. */
  | Readonly<{ what: 'eviction refused'; process: string; pod: RawPod; why: string }>
  | Readonly<{ what: 'hook begun' | 'hook expired'; token: string }>
  | Readonly<{ what: 'hook completed' | 'hook kept alive'; token: string; process: string }>
  /** To those outside, of one interruption. */
  | Readonly<{ what: 'receipt told'; process: string; news: InterruptionReceived }>
  | Readonly<{ what: 'outcome told'; process: string; told: InterruptionOutcome }>
  | Readonly<{ what: 'machine off' | 'machine on'; node: string }>
  | Readonly<{ what: 'process starts' | 'process dies' | 'process leads'; process: string }>
  | Readonly<{ what: 'process frozen'; process: string; ms: number }>
  | Readonly<{ what: 'crash'; process: string; port: string; point: string }>
  | Readonly<{ what: 'fault'; process: string; port: string; answer: string }>
  | Readonly<{ what: 'faults end' }>
  | Readonly<{ what: 'someone'; did: string; node: string }>
  | Readonly<{ what: 'log'; process: string; level: string; message: string; facts: Facts }>;

export type Entry = Happened & Readonly<{ at: number }>;

/** One line for people: the same happening always gives the same text. */
export function lineOf(entry: Entry, startedAt: number): string {
  const seconds = ((entry.at - startedAt) / 1000).toFixed(3).padStart(8);
  return `${seconds} ${textOf(entry)}`;
}

function textOf(entry: Entry): string {
  switch (entry.what) {
    case 'message sent':
    case 'message deleted':
      return `${entry.what}: ${entry.message}`;
    case 'message received':
      return `${entry.what}: ${entry.message} (${entry.count}) by ${entry.process}`;
    case 'message hidden':
      return `${entry.what}: ${entry.message} for ${entry.seconds} s`;
    case 'node written':
      return `${entry.what}: ${entry.after.metadata.name} by ${entry.by}: ${differenceOf(entry.before, entry.after)}`;
    case 'node gone':
      return `${entry.what}: ${entry.node.metadata.name}`;
    case 'pod bound':
    case 'pod gone':
      return `${entry.what}: ${podText(entry.pod)}`;
    case 'eviction':
    case 'deletion':
      return `${entry.what}: ${podText(entry.before)} grace ${entry.graceSeconds} by ${entry.process}`;
    case 'eviction refused':
      return `${entry.what}: ${podText(entry.pod)}: ${entry.why}`;
    case 'hook begun':
    case 'hook expired':
      return `${entry.what}: ${entry.token}`;
    case 'hook completed':
    case 'hook kept alive':
      return `${entry.what}: ${entry.token} by ${entry.process}`;
    case 'receipt told':
      return `${entry.what}: ${entry.news.interruption.id} of ${entry.news.node} by ${entry.process}`;
    case 'outcome told':
      return `${entry.what}: ${entry.told.interruption.id} of ${entry.told.node} ${entry.told.outcome} by ${entry.process}`;
    case 'machine off':
    case 'machine on':
      return `${entry.what}: ${entry.node}`;
    case 'process starts':
    case 'process dies':
    case 'process leads':
      return `${entry.what}: ${entry.process}`;
    case 'process frozen':
      return `${entry.what}: ${entry.process} for ${entry.ms} ms`;
    case 'crash':
      return `${entry.what}: ${entry.process} at '${entry.port}', ${entry.point}`;
    case 'fault':
      return `${entry.what}: '${entry.port}' of ${entry.process}: ${entry.answer}`;
    case 'faults end':
      return entry.what;
    case 'someone':
      return `someone ${entry.did}: ${entry.node}`;
    case 'log':
      return `    ${entry.process} ${entry.level} ${entry.message} ${JSON.stringify(entry.facts, printable)}`;
    default:
      throw new Error(`unexpected entry: ${JSON.stringify(entry satisfies never)}`);
  }
}

function podText({ metadata, spec }: RawPod): string {
  return `${metadata.name} (${metadata.uid}) on ${spec.nodeName}`;
}

/** An Error's stack names files and lines, which say nothing about the course of things. */
function printable(_key: string, value: unknown): unknown {
  return value instanceof Error ? `${value.name}: ${value.message}` : value;
}

function differenceOf(before: RawNode | undefined, after: RawNode): string {
  if (before === undefined) return 'registered';
  const parts: string[] = [];
  const was = flat(before);
  for (const [key, value] of Object.entries(flat(after))) {
    if (was[key] !== value) parts.push(`${key}=${value}`);
  }
  return parts.join(' ');
}

function flat({ metadata, spec, status }: RawNode): Record<string, string | undefined> {
  return {
    version: metadata.resourceVersion,
    labels: JSON.stringify(metadata.labels),
    annotations: JSON.stringify(metadata.annotations),
    unschedulable: String(spec.unschedulable === true),
    taints: (spec.taints ?? [])
      .map(({ key, value, effect }) => `${key}:${value ?? ''}:${effect}`)
      .join(),
    status: JSON.stringify(status),
  };
}

/** FNV-1a over UTF-16 units, twice with different offsets: 64 bits that tell two courses apart. */
export class Hash {
  private low = 0x811c9dc5;
  private high = 0x01234567;

  add(text: string): void {
    let { low, high } = this;
    for (let i = 0; i < text.length; i += 1) {
      const unit = text.charCodeAt(i);
      low = Math.imul(low ^ unit, 0x01000193);
      high = Math.imul(high ^ unit, 0x01000193) + low;
    }
    this.low = low;
    this.high = high | 0;
  }

  text(): string {
    return [this.high, this.low].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('');
  }
}
