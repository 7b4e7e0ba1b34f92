import type { EvictionAnswer } from '../drain/pods.ts';
import type { WriteAnswer } from '../intake/node-store.ts';
import type { EventAnswer } from '../report/event-recorder.ts';
import type { Answer, Failure } from './connection.ts';

/** What the API server's answers mean. https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/ */

/** https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/ */
type Status = Readonly<{
  message: string | undefined;
  reason: string | undefined;
  /** Of the object it is about. */
  name: string | undefined;
  kind: string | undefined;
  causes: readonly Readonly<{ reason: string | undefined; message: string | undefined }>[];
  retryAfterSeconds: number | undefined;
}>;

type Unsuccessful = Exclude<Answer, { kind: 'success' }>;
type WriteFailure = Exclude<WriteAnswer, { outcome: 'written' }>;

/** Of a write, or a read, of one object. */
export function writeFailure(answer: Unsuccessful): WriteFailure {
  if (answer.kind === 'crowded') return { outcome: 'overloaded', retryAfterMs: undefined };
  if (answer.kind === 'unanswered') return { outcome: 'unreachable', message: answer.message };
  const { status } = answer;
  const message = messageOf(answer);
  // Right after a restart the server knows no rights yet; a webhook may be restarting, too.
  if (status === 401 || status === 403 || isOfWebhook(message)) {
    return { outcome: 'forbidden', message };
  }
  if (status === 404) return { outcome: 'gone' };
  if (status === 409) return { outcome: 'conflict' };
  // 500, 502, 504: etcd or a load balancer in trouble, not this write.
  if (status === 429 || status >= 500) {
    return { outcome: 'overloaded', retryAfterMs: retryAfterMs(answer) };
  }
  return { outcome: 'refused', status, message };
}

/** Of an eviction, and of a deletion. */
export function evictionAnswer(answer: Answer): EvictionAnswer {
  if (answer.kind === 'success') return { outcome: 'accepted' };
  if (answer.kind === 'crowded') return { outcome: 'overloaded', retryAfterMs: undefined };
  if (answer.kind === 'unanswered') {
    return { outcome: 'unreachable', message: answer.message, timedOut: answer.timedOut };
  }
  const { status } = answer;
  const message = messageOf(answer);
  // Before the status, which the webhook may choose at will.
  if (isOfWebhook(message)) return { outcome: 'refused', reason: 'webhook', message };
  if (status === 404 && !isAboutBudget(answer)) return { outcome: 'gone' };
  // 404: the budget was deleted while the server retried on it.
  if (status === 409 || status === 404) return { outcome: 'conflict', message };
  if (refusedByBudget(answer, message)) {
    return {
      outcome: 'budget',
      budget: budgetOf(answer),
      message,
      retryAfterMs: retryAfterMs(answer),
    };
  }
  if (status === 429 || status === 503 || statusOf(answer).reason === 'ServerTimeout') {
    return { outcome: 'overloaded', retryAfterMs: retryAfterMs(answer) };
  }
  return { outcome: 'refused', reason: refusalReason(answer), message };
}

/** Of the creation, or the repetition, of an event. */
export function eventAnswer(answer: Answer, method: 'POST' | 'PATCH'): EventAnswer {
  if (answer.kind === 'success') return { outcome: 'written' };
  if (answer.kind === 'crowded') return { outcome: 'not sent' };
  if (answer.kind === 'unanswered') {
    return { outcome: 'pushed back', message: answer.message, retryAfterMs: undefined };
  }
  const { status } = answer;
  const message = messageOf(answer);
  // Its name is ours alone: an attempt that got no answer had succeeded.
  if (status === 409 && method === 'POST') return { outcome: 'written' };
  if (status === 404 && method === 'PATCH') return { outcome: 'gone' };
  const isOver = hasCause(answer, 'NamespaceTerminating');
  const mayPass = status === 401 || status === 403 || status === 429 || status >= 500;
  const isAlone = isOver || isOfWebhook(message) || isOfAdmission(message);
  if (isAlone || !mayPass) return { outcome: 'refused', message };
  return { outcome: 'pushed back', message, retryAfterMs: retryAfterMs(answer) };
}

/** https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/registry/core/pod/storage/eviction.go */
function refusedByBudget(answer: Failure, message: string): boolean {
  switch (answer.status) {
    case 429:
      return hasCause(answer, 'DisruptionBudget');
    case 403:
      return /DisruptedPods map too big|disruptions allowed is negative/.test(message);
    case 500:
      return message.includes('more than one PodDisruptionBudget');
    case 504:
      return CONTENDED.test(message);
    default:
      return false;
  }
}

/** The server's own retries have ended: too many evictions at once charge one budget. */
const CONTENDED = /couldn't update PodDisruptionBudget "([^"]+)" due to conflicts/;

function isOfWebhook(message: string): boolean {
  return /admission webhook "|failed calling webhook/.test(message);
}

/**
 * Admission refuses this object: a policy, a quota, each most often of one namespace. That is a 403 like
 * that of missing rights, which names the user, and like that of a server whose admission has just been
 * started, which passes.
 * https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
 */
function isOfAdmission(message: string): boolean {
  return / is forbidden: (?!User "|not yet ready|status unknown for quota)/.test(message);
}

function isAboutBudget(answer: Failure): boolean {
  return statusOf(answer).kind?.startsWith('poddisruptionbudget') === true;
}

function refusalReason(answer: Failure): Extract<EvictionAnswer, { outcome: 'refused' }>['reason'] {
  if (hasCause(answer, 'NamespaceTerminating')) return 'namespace-terminating';
  if (answer.status === 502 || answer.status === 504) return 'timeout';
  if (answer.status === 401 || answer.status === 403) return 'forbidden';
  return 'invalid';
}

/** The message names it ("The disruption budget guard needs …"), or the details of a 403 do. */
function budgetOf(answer: Failure): string | undefined {
  const status = statusOf(answer);
  if (isAboutBudget(answer)) return status.name;
  for (const { reason, message } of status.causes) {
    if (reason !== 'DisruptionBudget') continue;
    const name = /^The disruption budget (\S+) /.exec(message ?? '')?.[1];
    if (name !== undefined) return name;
  }
  return CONTENDED.exec(status.message ?? '')?.[1];
}

function hasCause(answer: Failure, reason: string): boolean {
  return statusOf(answer).causes.some((cause) => cause.reason === reason);
}

/** Header or Status; 0 is no hint. */
function retryAfterMs(answer: Failure): number | undefined {
  const seconds = Number(answer.retryAfter ?? statusOf(answer).retryAfterSeconds ?? 0);
  return seconds > 0 ? seconds * 1000 : undefined;
}

/** What the server says, for people: at most 500 characters. */
export function messageOf(answer: Failure): string {
  const status = statusOf(answer);
  const causes = status.causes.map((cause) => cause.message ?? '').filter(Boolean);
  const said = typeof answer.body === 'string' ? answer.body.trim() : status.message;
  const text = [said ?? '', ...causes].filter((part) => part !== '').join(' ');
  return (text === '' ? `HTTP status ${answer.status}` : text).slice(0, 500);
}

/** Each field checked: a proxy in between, or an aggregated API, may have written it. */
function statusOf({ body }: Failure): Status {
  const { message, reason, details } = fieldsOf(body);
  const { name, kind, causes, retryAfterSeconds } = fieldsOf(details);
  return {
    message: textOf(message),
    reason: textOf(reason),
    name: textOf(name),
    kind: textOf(kind),
    causes: (Array.isArray(causes) ? causes : []).map((cause: unknown) => ({
      reason: textOf(fieldsOf(cause)['reason']),
      message: textOf(fieldsOf(cause)['message']),
    })),
    retryAfterSeconds: typeof retryAfterSeconds === 'number' ? retryAfterSeconds : undefined,
  };
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return bodyAs<Record<string, unknown>>(value) ?? {};
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/**
 * A JSON object of the API server as the shape that its schema promises, unchecked: the fields of T
 * are optional, so that whoever reads it meets what is missing.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- names what the caller expects
export function bodyAs<T extends object>(body: unknown): T | undefined {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- checking each field costs more than parsing
  return typeof body === 'object' && body !== null ? (body as T) : undefined;
}

/** What is read from an object; undefined where that is not of the shape that the API's schema promises. */
export function readOr<Raw, T>(raw: Raw, project: (raw: Raw) => T | undefined): T | undefined {
  try {
    return project(raw);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** A request without the result it was for. */
export class ApiFailure extends Error {
  /** Undefined where there was no answer. */
  readonly status: number | undefined;
  /** As the server asked; undefined if it named none. */
  readonly retryAfterMs: number | undefined;

  constructor(what: string, answer: Answer) {
    super(`could not ${what}: ${failureText(answer)}`);
    this.name = 'ApiFailure';
    this.status = answer.kind === 'failure' ? answer.status : undefined;
    this.retryAfterMs = answer.kind === 'failure' ? retryAfterMs(answer) : undefined;
  }
}

function failureText(answer: Answer): string {
  switch (answer.kind) {
    case 'success':
      return 'the answer is not what was asked for; is this the API server?';
    case 'failure':
      return `${answer.status} ${messageOf(answer)}`;
    case 'unanswered':
      return answer.message;
    case 'crowded':
      return 'too many requests wait already';
    default:
      return answer satisfies never;
  }
}
