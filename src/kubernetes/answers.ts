import type { EvictionAnswer } from '../drain/pods.ts';
import type { WriteAnswer } from '../intake/node-store.ts';
import type { Answer } from './connection.ts';

/** What the API server's answers mean. https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/ */

/** https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/ */
type Status = {
  message?: string;
  reason?: string;
  details?: {
    name?: string;
    kind?: string;
    causes?: readonly { reason?: string; message?: string }[];
    retryAfterSeconds?: number;
  };
};

type Answered = Extract<Answer, { kind: 'answer' }>;
type WriteFailure = Exclude<WriteAnswer, { outcome: 'written' }>;

export function succeeded<T extends Answer>(answer: T): answer is T & Answered {
  return answer.kind === 'answer' && answer.status >= 200 && answer.status < 300;
}

/** For an answer that has not succeeded (of a write or a read of one object). */
export function writeFailure(answer: Answer): WriteFailure {
  if (answer.kind === 'crowded') return { outcome: 'overloaded', retryAfterMs: undefined };
  if (answer.kind === 'none') return { outcome: 'unreachable', message: answer.message };
  const { status } = answer;
  const message = messageOf(answer);
  if (status === 404) return { outcome: 'gone' };
  if (status === 409) return { outcome: 'conflict' };
  // A webhook that cannot be called (500) may come back, as a right may after a restart of the server.
  if (status === 401 || status === 403 || (status === 500 && /webhook/.test(message))) {
    return { outcome: 'forbidden', message };
  }
  // 500, 502, 504: etcd or a load balancer in trouble, not this write.
  if (status === 429 || status >= 500)
    return { outcome: 'overloaded', retryAfterMs: retryAfterMs(answer) };
  return { outcome: 'refused', status, message };
}

/** Of an eviction, and of a deletion. */
export function evictionAnswer(answer: Answer): EvictionAnswer {
  if (answer.kind === 'crowded') return { outcome: 'overloaded', retryAfterMs: undefined };
  if (answer.kind === 'none') {
    return { outcome: 'unreachable', message: answer.message, timedOut: answer.timedOut };
  }
  if (succeeded(answer)) return { outcome: 'accepted' };
  const { status } = answer;
  const message = messageOf(answer);
  if (status === 404) return { outcome: 'gone' };
  if (status === 409) return { outcome: 'conflict', message };
  if (refusedByBudget(answer, message)) {
    return {
      outcome: 'budget',
      budget: budgetOf(answer),
      message,
      retryAfterMs: retryAfterMs(answer),
    };
  }
  if (status === 429 || status === 503) {
    return { outcome: 'overloaded', retryAfterMs: retryAfterMs(answer) };
  }
  return { outcome: 'refused', reason: refusalReason(answer, message), message };
}

function refusedByBudget(answer: Answered, message: string): boolean {
  switch (answer.status) {
    case 429:
      return hasCause(answer, 'DisruptionBudget');
    case 403:
      // https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/registry/core/pod/storage/eviction.go
      return /DisruptedPods map too big|disruptions allowed is negative/.test(message);
    case 500:
      return message.includes('more than one PodDisruptionBudget');
    default:
      return false;
  }
}

function refusalReason(
  answer: Answered,
  message: string,
): Extract<EvictionAnswer, { outcome: 'refused' }>['reason'] {
  if (hasCause(answer, 'NamespaceTerminating')) return 'namespace-terminating';
  if (/admission webhook|calling webhook/.test(message)) return 'webhook';
  if (answer.status === 502 || answer.status === 504) return 'timeout';
  if (answer.status === 401 || answer.status === 403) return 'forbidden';
  return 'invalid';
}

/** The message names it ("The disruption budget guard needs …"), or the details of a 403 do. */
function budgetOf(answer: Answered): string | undefined {
  const details = statusOf(answer)?.details;
  if (details?.kind?.startsWith('poddisruptionbudget') === true) return details.name;
  for (const { reason, message } of details?.causes ?? []) {
    if (reason !== 'DisruptionBudget') continue;
    const name = /^The disruption budget (\S+) /.exec(message ?? '')?.[1];
    if (name !== undefined) return name;
  }
  return undefined;
}

function hasCause(answer: Answered, reason: string): boolean {
  return statusOf(answer)?.details?.causes?.some((cause) => cause.reason === reason) === true;
}

/** Header or Status; 0 is no hint. */
export function retryAfterMs(answer: Answered): number | undefined {
  const seconds = Number(answer.retryAfter ?? statusOf(answer)?.details?.retryAfterSeconds ?? 0);
  return seconds > 0 ? seconds * 1000 : undefined;
}

/** What the server says, for people: at most 500 characters. */
export function messageOf(answer: Answered): string {
  const status = statusOf(answer);
  const causes = (status?.details?.causes ?? [])
    .map((cause) => cause.message ?? '')
    .filter(Boolean);
  const said = typeof answer.body === 'string' ? answer.body.trim() : status?.message;
  const text = [said ?? '', ...causes].filter((part) => part !== '').join(' ');
  return (text === '' ? `HTTP status ${answer.status}` : text).slice(0, 500);
}

function statusOf(answer: Answered): Status | undefined {
  return bodyAs<Status>(answer.body);
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

/** For callers that can only pass a failure on. */
export function failureOf(what: string, answer: Answer): Error {
  return new Error(`could not ${what}: ${failureText(answer)}`);
}

function failureText(answer: Answer): string {
  if (answer.kind === 'answer') return `${answer.status} ${messageOf(answer)}`;
  return answer.kind === 'none' ? answer.message : 'too many requests wait already';
}
