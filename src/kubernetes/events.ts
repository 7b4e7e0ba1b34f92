import type { EventAnswer, EventSink, ObjectEvent } from '../report/event-recorder.ts';
import { eventAnswer } from './answers.ts';
import { pathOf, type ApiRequest, type Connection } from './connection.ts';
import { microTime } from './micro-time.ts';

const CONTROLLER = 'node-termination-controller';
/** Of `reportingInstance`. */
const LONGEST_INSTANCE = 128;
const REQUEST_TIMEOUT_MS = 5000;
/** Where those of objects without a namespace are kept, and looked for. */
const CLUSTER_NAMESPACE = 'default';

type EventSinkOptions = Readonly<{
  connection: Connection;
  /** Name of this process among the replicas. */
  instance: string;
}>;

/** https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/ */
export function createEventSink({ connection, instance }: EventSinkOptions): EventSink {
  const reportingInstance = instance.slice(0, LONGEST_INSTANCE);
  type Written = Pick<ApiRequest, 'path' | 'body' | 'contentType'> &
    Readonly<{ method: 'POST' | 'PATCH' }>;

  async function ask(request: Written, signal: AbortSignal): Promise<EventAnswer> {
    const answer = await connection.request(
      { ...request, lane: 'event', timeoutMs: REQUEST_TIMEOUT_MS },
      signal,
    );
    return eventAnswer(answer, request.method);
  }

  return {
    create: (event, signal) =>
      ask(
        {
          method: 'POST',
          path: collectionOf(event),
          body: {
            apiVersion: 'events.k8s.io/v1',
            kind: 'Event',
            metadata: { name: event.name, namespace: namespaceOf(event) },
            eventTime: microTime(event.at),
            reportingController: CONTROLLER,
            reportingInstance,
            regarding: { apiVersion: 'v1', ...event.subject },
            reason: event.reason,
            action: event.action,
            type: event.type,
            note: event.note,
            ...(event.series && { series: seriesOf(event.series) }),
          },
        },
        signal,
      ),
    update: (event, signal) =>
      ask(
        {
          method: 'PATCH',
          path: `${collectionOf(event)}${pathOf(event.name)}`,
          contentType: 'application/merge-patch+json',
          body: { series: event.series && seriesOf(event.series) },
        },
        signal,
      ),
  };
}

function seriesOf({ count, lastAt }: NonNullable<ObjectEvent['series']>): object {
  return { count, lastObservedTime: microTime(lastAt) };
}

function collectionOf(event: ObjectEvent): string {
  return pathOf('apis', 'events.k8s.io', 'v1', 'namespaces', namespaceOf(event), 'events');
}

function namespaceOf({ subject }: ObjectEvent): string {
  return subject.kind === 'Pod' ? subject.namespace : CLUSTER_NAMESPACE;
}
