import { readFile } from 'node:fs/promises';

/** One request as the API server logged it. */
export type AuditEntry = {
  readonly auditId: string;
  /** Long requests (watches) have an entry at their start and one at their end. */
  readonly stage: 'ResponseStarted' | 'ResponseComplete' | 'Panic';
  /** As RBAC names it: get, list, watch, create, update, patch, delete, deletecollection. */
  readonly verb: string;
  readonly path: string;
  readonly resource: string | undefined;
  readonly subresource: string | undefined;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly userName: string;
  readonly userAgent: string;
  readonly status: number;
  /** Epoch ms, with fractions. */
  readonly receivedAt: number;
  readonly answeredAt: number;
  /** What was sent; only with the option `audit: 'with-bodies'`. */
  readonly body: unknown;
};

export type AuditFilter = {
  readonly userName?: string;
  /** A part of it. */
  readonly userAgent?: string;
  readonly verb?: string;
  readonly resource?: string;
  /** `null`: the resource itself only. */
  readonly subresource?: string | null;
  readonly namespace?: string;
  readonly name?: string;
  /** Entries of the other stages are left out; `ResponseComplete` unless given. */
  readonly stage?: AuditEntry['stage'];
};

type RawEntry = {
  auditID: string;
  stage: AuditEntry['stage'];
  verb: string;
  requestURI: string;
  userAgent?: string;
  user: { username: string };
  objectRef?: { resource?: string; subresource?: string; namespace?: string; name?: string };
  responseStatus?: { code?: number };
  requestObject?: unknown;
  requestReceivedTimestamp: string;
  stageTimestamp: string;
};

/** Oldest first, by the time of arrival at the server. */
export async function readAuditLog(path: string, filter: AuditFilter = {}): Promise<AuditEntry[]> {
  const lines = (await readFile(path, 'utf8')).split('\n');
  // What follows the last newline is a line still being written.
  lines.pop();
  return lines
    .map((line) => parse(JSON.parse(line) as RawEntry))
    .filter((entry) => matches(entry, filter))
    .toSorted((a, b) => a.receivedAt - b.receivedAt);
}

function parse(raw: RawEntry): AuditEntry {
  return {
    auditId: raw.auditID,
    stage: raw.stage,
    verb: raw.verb,
    path: raw.requestURI,
    resource: raw.objectRef?.resource,
    subresource: raw.objectRef?.subresource,
    namespace: raw.objectRef?.namespace,
    name: raw.objectRef?.name,
    userName: raw.user.username,
    userAgent: raw.userAgent ?? '',
    status: raw.responseStatus?.code ?? 0,
    receivedAt: epochMs(raw.requestReceivedTimestamp),
    answeredAt: epochMs(raw.stageTimestamp),
    body: raw.requestObject,
  };
}

// Date drops what is below a millisecond, and two requests can fall into one.
function epochMs(timestamp: string): number {
  const micros = /\.\d{3}(\d{3})Z$/.exec(timestamp)?.[1] ?? '0';
  return Date.parse(timestamp) + Number(micros) / 1000;
}

function matches(entry: AuditEntry, filter: AuditFilter): boolean {
  const same = (wanted: string | undefined, is: string | undefined) =>
    wanted === undefined || wanted === is;
  return (
    entry.stage === (filter.stage ?? 'ResponseComplete') &&
    same(filter.userName, entry.userName) &&
    same(filter.verb, entry.verb) &&
    same(filter.resource, entry.resource) &&
    (filter.subresource === null
      ? entry.subresource === undefined
      : same(filter.subresource, entry.subresource)) &&
    same(filter.namespace, entry.namespace) &&
    same(filter.name, entry.name) &&
    entry.userAgent.includes(filter.userAgent ?? '')
  );
}
