import { EventBridgeClient, PutEventsCommand } from '@aws-sdk/client-eventbridge';
import { bounded } from '../abort.ts';
import type { Clock } from '../clock.ts';
import type { Metrics } from '../report/metrics.ts';
import type { OutcomeEvent } from '../report/outcome.ts';
import type { Report } from '../report/report.ts';
import type { Watchdog } from '../watchdog.ts';
import { Batches, type Verdicts } from './batches.ts';
import { entryFailureOf, failureOf, type Failure } from './errors.ts';
import { clientDefaults, measured } from './requests.ts';

export interface OpenEventBus {
  /** Holds up nobody, and never throws. */
  put(event: OutcomeEvent): void;
  /** Sends what waits; gives up what has no answer within the limit. */
  close(limitMs: number): Promise<void>;
}

type EventBusOptions = Readonly<{
  /** Name or ARN. */
  name: string;
  region: string;
  clock: Clock;
  metrics?: Metrics;
  watchdog?: Watchdog;
  report: Report;
}>;

const SOURCE = 'node-termination-controller';
const DETAIL_TYPE = 'Node Interruption Outcome';
const REQUEST_LIMIT_MS = 5000;
/** An outage of EventBridge is outlived for so long; a drain never waits for it. */
const TRY_FOR_MS = 300_000;
const MOST_WAITING = 10_000;

// Of an entry: asking again will not help.
// https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
const REFUSED = new Set(['InvalidArgument', 'MalformedDetail', 'NotAuthorizedForSource']);

/**
 * Outcomes as events on an EventBridge bus: ten to a request, each repeated by itself while it fails
 * for a passing reason. Best effort: what the process had not sent when it died is not sent again.
 * https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
 */
export function createEventBus(options: EventBusOptions): OpenEventBus {
  const { name, region, clock, metrics, watchdog, report } = options;
  const client = new EventBridgeClient(clientDefaults(region));
  const closing = new AbortController();

  async function send(events: readonly OutcomeEvent[], signal: AbortSignal): Promise<Verdicts> {
    const command = new PutEventsCommand({
      Entries: events.map((event) => ({
        EventBusName: name,
        Source: SOURCE,
        DetailType: DETAIL_TYPE,
        Resources: [event.instanceId],
        Time: new Date(event.endedAt),
        Detail: JSON.stringify(event),
      })),
    });
    try {
      const { Entries = [] } = await measured(metrics, 'events', 'PutEvents', () =>
        bounded(clock, REQUEST_LIMIT_MS, [closing.signal, signal], (abortSignal) =>
          client.send(command, { abortSignal }),
        ),
      );
      return Entries.map(({ EventId, ErrorCode, ErrorMessage }) =>
        EventId === undefined
          ? entryFailureOf(ErrorCode, REFUSED.has(ErrorCode ?? ''), ErrorMessage)
          : true,
      );
    } catch (error) {
      return Array<Failure>(events.length).fill(failureOf(error));
    }
  }

  const batches = new Batches('put on the event bus', send, clock, {
    ...(watchdog && { watchdog }),
    mostWaiting: MOST_WAITING,
    tryForMs: TRY_FOR_MS,
  });
  return {
    put(event) {
      const told = { outcome: event.outcome };
      batches.add(event).then(
        () => metrics?.count('outcomes_total', { ...told, result: 'sent' }),
        (error: unknown) => {
          metrics?.count('outcomes_total', { ...told, result: 'dropped' });
          report.warn('outcome not sent', { node: event.node, ...told, error });
        },
      );
    },
    async close(limitMs) {
      await batches.close(limitMs);
      closing.abort(new Error('the event bus is closed'));
      client.destroy();
    },
  };
}
