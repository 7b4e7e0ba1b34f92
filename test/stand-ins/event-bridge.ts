import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { matchesPattern } from './event-pattern.ts';
import { answerWithFault, createFaults, type Answer, type Faults } from './faults.ts';
import { startHttpService, type HttpService } from './http-service.ts';

type Pattern = Parameters<typeof matchesPattern>[0];

const eventSchema = z.object({
  version: z.literal('0'),
  id: z.string(),
  'detail-type': z.string(),
  source: z.string(),
  account: z.string(),
  time: z.string(),
  region: z.string(),
  resources: z.array(z.string()),
  detail: z.record(z.string(), z.json()),
});

/** An event as its targets get it. */
export type BusEvent = z.output<typeof eventSchema>;

export type EventBridgeCall = Readonly<{
  /** Epoch ms of its arrival. */
  at: number;
  action: string;
  entries: number;
  /** 0: no answer was sent. */
  status: number;
}>;

export type EventBridge = {
  /** For AWS_ENDPOINT_URL_EVENTBRIDGE. */
  readonly url: string;
  readonly faults: Faults<'PutEvents'>;
  addBus(name: string): void;
  /** What the pattern takes goes to the target, in the order of its arrival. */
  addRule(bus: string, pattern: Pattern, target: (event: BusEvent) => void): void;
  /** Of the entries still to come, so many are refused one by one, with this code. */
  refuseEntries(count: number, code: string): void;
  /** All events put on the bus, oldest first. */
  events(bus: string): readonly BusEvent[];
  calls(): readonly EventBridgeCall[];
  goAway: HttpService['goAway'];
  comeBack: HttpService['comeBack'];
  stop(): Promise<void>;
};

const requestSchema = z.object({
  Entries: z
    .array(
      z.object({
        EventBusName: z.string(),
        Source: z.string(),
        DetailType: z.string(),
        Detail: z.string(),
        Resources: z.array(z.string()).default([]),
        Time: z.number(),
      }),
    )
    .min(1)
    .max(10),
});

type Entry = z.output<typeof requestSchema>['Entries'][number];
type Bus = { readonly events: BusEvent[]; readonly rules: { pattern: Pattern; target: Target }[] };
type Target = (event: BusEvent) => void;

const longestJournal = 100_000;

/**
 * EventBridge as far as PutEvents and rules go, in its JSON protocol.
 * https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
 */
export async function startEventBridge(): Promise<EventBridge> {
  const buses = new Map<string, Bus>();
  const calls: EventBridgeCall[] = [];
  const faults = createFaults<'PutEvents'>();
  const refusals: string[] = [];

  const busOf = (name: string): Bus | undefined => buses.get(name.split('/').at(-1) ?? name);
  const put = (entry: Entry): object => {
    const code = refusals.shift();
    if (code !== undefined) return { ErrorCode: code, ErrorMessage: 'refused by the test' };
    const bus = busOf(entry.EventBusName);
    const id = randomUUID();
    // An event for a bus that is not there is taken, and goes nowhere.
    if (bus === undefined) return { EventId: id };
    const event = eventSchema.parse({
      version: '0',
      id,
      'detail-type': entry.DetailType,
      source: entry.Source,
      account: '123456789012',
      time: new Date(entry.Time * 1000).toISOString().replace(/\.\d+Z$/, 'Z'),
      region: 'eu-central-1',
      resources: entry.Resources,
      detail: JSON.parse(entry.Detail),
    });
    bus.events.push(event);
    for (const { pattern, target } of bus.rules) if (matchesPattern(pattern, event)) target(event);
    return { EventId: id };
  };

  const service = await startHttpService(async (request, body, response) => {
    const at = Date.now();
    const action = String(request.headers['x-amz-target']).replace(/^AWSEvents\./, '');
    let entries = 0;
    const status = await answerWithFault(
      response,
      faults.next(action),
      async () => {
        const parsed = requestSchema.safeParse(JSON.parse(body));
        if (action !== 'PutEvents') return errorAnswer(400, 'UnknownOperationException', action);
        if (!parsed.success) return errorAnswer(400, 'ValidationException', parsed.error.message);
        entries = parsed.data.Entries.length;
        const results = parsed.data.Entries.map(put);
        const failed = results.filter((result) => 'ErrorCode' in result).length;
        return jsonAnswer(200, { FailedEntryCount: failed, Entries: results });
      },
      ({ status: code, code: type, message }) => errorAnswer(code, type, message ?? type),
    );
    if (calls.length >= longestJournal) throw new Error(`over ${longestJournal} calls`);
    calls.push({ at, action, entries, status });
  });

  return {
    url: service.url,
    faults,
    addBus(name) {
      buses.set(name, { events: [], rules: [] });
    },
    addRule(name, pattern, target) {
      const bus = busOf(name);
      if (bus === undefined) throw new Error(`there is no bus ${name}`);
      bus.rules.push({ pattern, target });
    },
    refuseEntries(count, code) {
      refusals.push(...Array<string>(count).fill(code));
    },
    events: (name) => busOf(name)?.events ?? [],
    calls: () => calls,
    goAway: service.goAway,
    comeBack: service.comeBack,
    stop: async () => service.stop(),
  };
}

function jsonAnswer(status: number, body: object): Answer {
  return {
    status,
    headers: { 'content-type': 'application/x-amz-json-1.1' },
    body: JSON.stringify(body),
  };
}

function errorAnswer(status: number, code: string, message: string): Answer {
  return jsonAnswer(status, { __type: code, message });
}
