import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { buildApp } from 'fauxqs';
import { answerWithFault, createFaults, type Answer, type Faults } from './faults.ts';
import { startHttpService, type HttpService } from './http-service.ts';

export type QueueAction =
  | 'ReceiveMessage'
  | 'DeleteMessage'
  | 'DeleteMessageBatch'
  | 'ChangeMessageVisibility'
  | 'ChangeMessageVisibilityBatch'
  | 'GetQueueAttributes'
  | 'SendMessage'
  | 'SendMessageBatch';

export type QueueOptions = {
  /** As of CreateQueue: `VisibilityTimeout` and so on. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** Makes a second queue, `NAME-dead-letters`, where messages go that were received this often. */
  readonly maxReceiveCount?: number;
};

/** What happened to a message; `at` is epoch ms. */
export type QueueEvent = { readonly at: number; readonly messageId: string } & (
  | { readonly type: 'sent' }
  | {
      readonly type: 'received';
      readonly receiptHandle: string;
      readonly receiveCount: number;
      readonly visibilitySeconds: number;
    }
  /** The client had gone when a receive was answered: the message is visible again. */
  | { readonly type: 'returned'; readonly receiptHandle: string }
  | { readonly type: 'deleted'; readonly receiptHandle: string }
  /** Answered with success, but the handle is of an earlier receive: nothing was deleted. */
  | { readonly type: 'delete-ignored'; readonly receiptHandle: string }
  | {
      readonly type: 'visibility-changed';
      readonly receiptHandle: string;
      readonly visibilitySeconds: number;
    }
);

export type QueueRequest = {
  readonly at: number;
  readonly queue: string;
  readonly action: string;
  /** Messages received or entries of a batch. */
  readonly count: number;
  /** 0: no answer was sent; undefined: not yet, as of a long poll that waits. */
  readonly status: number | undefined;
};

export type QueuedMessage = {
  readonly messageId: string;
  readonly body: string;
  readonly receiveCount: number;
  readonly state: 'visible' | 'in-flight' | 'delayed';
  /** Epoch ms; of messages in flight. */
  readonly visibleAt: number | undefined;
};

export type Queue = {
  readonly name: string;
  readonly arn: string;
  /** On the stand-in itself. */
  readonly url: string;
  /** As AWS would have it; for clients whose endpoint is set by other means. */
  readonly awsUrl: string;
  /** An object is sent as JSON. Returns the message ID. */
  send(body: string | object, options?: { delaySeconds?: number }): Promise<string>;
  sendMany(bodies: readonly (string | object)[]): Promise<string[]>;
  /** All that is in the queue now, whatever its state. */
  messages(): Promise<QueuedMessage[]>;
  /** All three 0: empty. */
  counts(): Promise<{ visible: number; inFlight: number; delayed: number }>;
  deadLetters(): Promise<QueuedMessage[]>;
  /** Oldest first; of one message, if its ID is given. */
  events(messageId?: string): readonly QueueEvent[];
};

export type QueueService = {
  /** For AWS_ENDPOINT_URL_SQS. */
  readonly url: string;
  readonly faults: Faults<QueueAction>;
  /** Entries of batches that fail one by one, while the rest succeeds; undefined: none. */
  failEntries(test: ((messageId: string, action: QueueAction) => boolean) | undefined): void;
  /** Requests of clients in the order of their arrival. */
  requests(action?: QueueAction): readonly QueueRequest[];
  createQueue(name: string, options?: QueueOptions): Promise<Queue>;
  goAway: HttpService['goAway'];
  comeBack: HttpService['comeBack'];
  stop(): Promise<void>;
};

type Service = ReturnType<typeof buildApp>;
type Json = Record<string, unknown>;

type Waiter = {
  readonly receive: Json;
  readonly resolve: (messages: Json[]) => void;
  readonly isGone: () => boolean;
  /** It is being asked for; whoever asks looks at `expired` afterwards. */
  busy: boolean;
  expired: boolean;
};

/** What we know beyond the emulator. */
type QueueState = {
  readonly name: string;
  readonly emulatorUrl: string;
  readonly events: QueueEvent[];
  readonly sent: Set<string>;
  /** Of every receive: its message. */
  readonly handles: Map<string, string>;
  /** Of every message: the handle of its latest receive. */
  readonly newest: Map<string, string>;
  readonly deleted: Set<string>;
  /** A dead-letter queue: the emulator sends to it. */
  readonly isFedByRedrive: boolean;
  readonly waiters: Set<Waiter>;
  /** What holds where a receive does not say otherwise. */
  readonly visibilitySeconds: number;
  readonly waitSeconds: number;
  pumping: boolean;
};

// The journals end here, so that a test that loops cannot eat the machine's memory.
const longestJournal = 1_000_000;
const pollMs = 20;

/**
 * SQS by fauxqs, with what it does otherwise than AWS put right in front of it: long polls are waited
 * for here (an aborted one would take a message with it), a handle that is not the latest deletes
 * nothing, the latest one deletes even after its visibility timeout, garbage handles are refused.
 */
export async function startQueueService(
  options: { region?: string; account?: string } = {},
): Promise<QueueService> {
  const { region = 'eu-central-1', account = '123456789012' } = options;
  const emulator = buildApp({ logger: false, defaultRegion: region });
  await emulator.ready();
  const queues = new Map<string, QueueState>();
  const requests: QueueRequest[] = [];
  const faults = createFaults<QueueAction>();
  let entryFails: ((messageId: string, action: QueueAction) => boolean) | undefined;

  const handle = async (
    action: string,
    input: Json,
    queue: QueueState,
    response: ServerResponse,
  ): Promise<{ answer: Answer; count: number }> => {
    const call = async (body: Json) =>
      callEmulator(emulator, action, { ...body, QueueUrl: queue.emulatorUrl });
    switch (action) {
      case 'ReceiveMessage': {
        const received = await receive(emulator, queue, input, () => response.destroyed);
        if ('status' in received) return { answer: received, count: 0 };
        const answer = jsonAnswer(200, received.length > 0 ? { Messages: received } : {});
        return { answer, count: received.length };
      }
      case 'DeleteMessage':
      case 'ChangeMessageVisibility': {
        const receiptHandle = String(input['ReceiptHandle']);
        const refusal = refuse(queue, action, receiptHandle);
        if (refusal) return { answer: errorAnswer(400, refusal.code, refusal.message), count: 1 };
        const answer = await call(input);
        if (answer.status === 200) {
          noteHandleUsed(queue, action, receiptHandle, Number(input['VisibilityTimeout'] ?? 0));
        }
        return { answer, count: 1 };
      }
      case 'DeleteMessageBatch':
      case 'ChangeMessageVisibilityBatch': {
        const answer = await callBatch(queue, action, input, call, entryFails);
        return { answer, count: asList(input['Entries']).length };
      }
      case 'SendMessage': {
        const at = Date.now();
        const answer = await call(input);
        if (answer.status === 200) noteSent(queue, String(parse(answer.body)['MessageId']), at);
        return { answer, count: 1 };
      }
      case 'SendMessageBatch': {
        const at = Date.now();
        const answer = await call(input);
        if (answer.status === 200) {
          const sent = asList(parse(answer.body)['Successful']);
          for (const entry of sent) noteSent(queue, String(asJson(entry)['MessageId']), at);
        }
        return { answer, count: asList(input['Entries']).length };
      }
      default:
        return { answer: await call(input), count: 0 };
    }
  };

  const service = await startHttpService(async (request, text, response) => {
    const at = Date.now();
    const action = String(request.headers['x-amz-target']).replace('AmazonSQS.', '');
    const input = parse(text);
    const name = String(input['QueueUrl'] ?? input['QueueName'])
      .split('/')
      .at(-1);
    const queue = queues.get(name ?? '');
    const entry = {
      at,
      queue: name ?? '',
      action,
      count: 0,
      status: undefined as number | undefined,
    };
    append(requests, entry);
    entry.status = await answerWithFault(
      response,
      faults.next(action),
      async () => {
        if (!queue) {
          return errorAnswer(
            400,
            'QueueDoesNotExist',
            'The specified queue does not exist.',
            'AWS.SimpleQueueService.NonExistentQueue',
          );
        }
        const result = await handle(action, input, queue, response);
        entry.count = result.count;
        // Something may have become visible by it.
        void pump(emulator, queue);
        return result.answer;
      },
      (fault) => errorAnswer(fault.status, fault.code, fault.message ?? fault.code),
    );
  });

  const createOne = async (
    name: string,
    attributes: Record<string, string>,
    isFedByRedrive = false,
  ): Promise<QueueState> => {
    const answer = await callEmulator(emulator, 'CreateQueue', {
      QueueName: name,
      Attributes: attributes,
    });
    if (answer.status !== 200) throw new Error(`cannot create queue ${name}: ${answer.body}`);
    const queue: QueueState = {
      name,
      emulatorUrl: String(parse(answer.body)['QueueUrl']),
      events: [],
      sent: new Set(),
      handles: new Map(),
      newest: new Map(),
      deleted: new Set(),
      isFedByRedrive,
      waiters: new Set(),
      visibilitySeconds: Number(attributes['VisibilityTimeout'] ?? 30),
      waitSeconds: Number(attributes['ReceiveMessageWaitTimeSeconds'] ?? 0),
      pumping: false,
    };
    queues.set(name, queue);
    return queue;
  };

  const sendOne = async (
    queue: QueueState,
    body: string | object,
    delaySeconds = 0,
  ): Promise<string> => {
    const at = Date.now();
    const answer = await callEmulator(emulator, 'SendMessage', {
      QueueUrl: queue.emulatorUrl,
      MessageBody: typeof body === 'string' ? body : JSON.stringify(body),
      DelaySeconds: delaySeconds,
    });
    if (answer.status !== 200) throw new Error(`cannot send to ${queue.name}: ${answer.body}`);
    const messageId = String(parse(answer.body)['MessageId']);
    noteSent(queue, messageId, at);
    void pump(emulator, queue);
    return messageId;
  };

  const poll = setInterval(() => {
    for (const queue of queues.values()) {
      if (queue.waiters.size > 0 && mayHoldMessages(queue)) void pump(emulator, queue);
    }
  }, pollMs);

  return {
    url: service.url,
    faults,
    failEntries(test) {
      entryFails = test;
    },
    requests: (action) =>
      action === undefined ? requests : requests.filter((request) => request.action === action),
    async createQueue(name, { attributes = {}, maxReceiveCount } = {}) {
      const deadLetterName = `${name}-dead-letters`;
      const all: Record<string, string> = { ...attributes };
      if (maxReceiveCount !== undefined) {
        await createOne(deadLetterName, {}, true);
        const deadLetterTargetArn = `arn:aws:sqs:${region}:000000000000:${deadLetterName}`;
        all['RedrivePolicy'] = JSON.stringify({ deadLetterTargetArn, maxReceiveCount });
      }
      const queue = await createOne(name, all);
      return {
        name,
        arn: `arn:aws:sqs:${region}:${account}:${name}`,
        url: `${service.url}/${account}/${name}`,
        awsUrl: `https://sqs.${region}.amazonaws.com/${account}/${name}`,
        send: async (body, { delaySeconds } = {}) => sendOne(queue, body, delaySeconds),
        sendMany: async (bodies) => Promise.all(bodies.map(async (body) => sendOne(queue, body))),
        messages: async () => inspect(emulator, queue),
        async counts() {
          const messages = await inspect(emulator, queue);
          const count = (state: QueuedMessage['state']) =>
            messages.filter((message) => message.state === state).length;
          return {
            visible: count('visible'),
            inFlight: count('in-flight'),
            delayed: count('delayed'),
          };
        },
        async deadLetters() {
          const letters = queues.get(deadLetterName);
          if (!letters) throw new Error(`${name} was created without maxReceiveCount`);
          return inspect(emulator, letters);
        },
        events: (messageId) =>
          messageId === undefined
            ? queue.events
            : queue.events.filter((event) => event.messageId === messageId),
      };
    },
    goAway: service.goAway,
    comeBack: service.comeBack,
    async stop() {
      clearInterval(poll);
      await service.stop();
      await emulator.close();
    },
  };
}

async function receive(
  emulator: Service,
  queue: QueueState,
  input: Json,
  isGone: () => boolean,
): Promise<Json[] | Answer> {
  const waitSeconds = Number(input['WaitTimeSeconds'] ?? queue.waitSeconds);
  // Checked by the emulator, which must not wait itself.
  if (waitSeconds > 20) {
    return callEmulator(emulator, 'ReceiveMessage', { ...input, QueueUrl: queue.emulatorUrl });
  }
  const receiveInput: Json = { ...input, QueueUrl: queue.emulatorUrl, WaitTimeSeconds: 0 };
  const first = await receiveNow(emulator, queue, receiveInput);
  if ('status' in first) return first;
  if (first.length > 0 || waitSeconds === 0) return keepIfThere(emulator, queue, first, isGone);
  const { promise, resolve } = Promise.withResolvers<Json[]>();
  const waiter: Waiter = {
    receive: receiveInput,
    resolve,
    isGone,
    busy: false,
    expired: false,
  };
  queue.waiters.add(waiter);
  const timer = setTimeout(() => {
    waiter.expired = true;
    if (!waiter.busy) dismiss(queue, waiter, []);
  }, waitSeconds * 1000);
  const messages = await promise;
  clearTimeout(timer);
  return keepIfThere(emulator, queue, messages, isGone);
}

/** False: whoever waits need not be looked after until something is sent. */
function mayHoldMessages({ sent, deleted, isFedByRedrive }: QueueState): boolean {
  return isFedByRedrive || sent.size > deleted.size;
}

/** Gives what is there to those who wait, the longest waiting first. */
async function pump(emulator: Service, queue: QueueState): Promise<void> {
  if (queue.pumping) return;
  queue.pumping = true;
  try {
    for (const waiter of queue.waiters) {
      if (waiter.isGone()) {
        dismiss(queue, waiter, []);
        continue;
      }
      waiter.busy = true;
      const messages = await receiveNow(emulator, queue, waiter.receive);
      waiter.busy = false;
      const nothing = 'status' in messages || messages.length === 0;
      if (!nothing) dismiss(queue, waiter, messages);
      else if (waiter.expired) dismiss(queue, waiter, []);
      if (nothing) return;
    }
  } finally {
    queue.pumping = false;
  }
}

function dismiss(queue: QueueState, waiter: Waiter, messages: Json[]): void {
  queue.waiters.delete(waiter);
  waiter.resolve(messages);
}

/** Without waiting; what was deleted after its visibility timeout is left out, and gone with it. */
async function receiveNow(
  emulator: Service,
  queue: QueueState,
  input: Json,
): Promise<Json[] | Answer> {
  const names = [
    ...asList(input['AttributeNames']),
    ...asList(input['MessageSystemAttributeNames']),
  ];
  const wantsCount = names.some((name) => name === 'All' || name === countName);
  for (;;) {
    const at = Date.now();
    const answer = await callEmulator(emulator, 'ReceiveMessage', {
      ...input,
      MessageSystemAttributeNames: [...names, countName],
    });
    if (answer.status !== 200) return answer;
    const messages = asList(parse(answer.body)['Messages']).map(asJson);
    const kept: Json[] = [];
    for (const message of messages) {
      const messageId = String(message['MessageId']);
      const receiptHandle = String(message['ReceiptHandle']);
      if (queue.deleted.has(messageId)) {
        await callEmulator(emulator, 'DeleteMessage', {
          QueueUrl: queue.emulatorUrl,
          ReceiptHandle: receiptHandle,
        });
        continue;
      }
      queue.handles.set(receiptHandle, messageId);
      queue.newest.set(messageId, receiptHandle);
      noteSent(queue, messageId, at);
      append(queue.events, {
        at,
        messageId,
        type: 'received',
        receiptHandle,
        receiveCount: takeCount(message, wantsCount),
        visibilitySeconds: Number(input['VisibilityTimeout'] ?? queue.visibilitySeconds),
      });
      kept.push(message);
    }
    if (kept.length > 0 || messages.length === 0) return kept;
  }
}

const countName = 'ApproximateReceiveCount';

/** We always ask for the count; a client that did not ask must not get it. */
function takeCount(message: Json, wanted: boolean): number {
  const attributes = asJson(message['Attributes']);
  const count = Number(attributes[countName]);
  if (!wanted) delete attributes[countName];
  if (Object.keys(attributes).length === 0) delete message['Attributes'];
  return count;
}

async function keepIfThere(
  emulator: Service,
  queue: QueueState,
  messages: Json[],
  isGone: () => boolean,
): Promise<Json[]> {
  // A client that left a moment ago, a process killed just before the message was sent, say, is known
  // to have left only after the event loop has looked at its socket.
  for (let turn = 0; turn < 5 && messages.length > 0; turn++) await nextTurn();
  if (!isGone()) return messages;
  for (const message of messages) {
    const receiptHandle = String(message['ReceiptHandle']);
    await callEmulator(emulator, 'ChangeMessageVisibility', {
      QueueUrl: queue.emulatorUrl,
      ReceiptHandle: receiptHandle,
      VisibilityTimeout: 0,
    });
    const messageId = String(message['MessageId']);
    append(queue.events, { at: Date.now(), messageId, type: 'returned', receiptHandle });
  }
  return [];
}

type EntryFailure = { readonly code: string; readonly message: string };

/** What AWS says to a handle; undefined if it accepts it, with or without an effect. */
function refuse(
  queue: QueueState,
  action: QueueAction,
  receiptHandle: string,
): EntryFailure | undefined {
  const messageId = queue.handles.get(receiptHandle);
  if (messageId === undefined) {
    return {
      code: 'ReceiptHandleIsInvalid',
      message: `The input receipt handle "${receiptHandle}" is not a valid receipt handle.`,
    };
  }
  if (action.startsWith('ChangeMessageVisibility') && queue.deleted.has(messageId)) {
    return {
      code: 'InvalidParameterValue',
      message: `Value ${receiptHandle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change.`,
    };
  }
  return undefined;
}

function noteHandleUsed(
  queue: QueueState,
  action: QueueAction,
  receiptHandle: string,
  visibilitySeconds: number,
): void {
  const messageId = queue.handles.get(receiptHandle);
  if (messageId === undefined) return;
  const isNewest = queue.newest.get(messageId) === receiptHandle;
  const event = { at: Date.now(), messageId, receiptHandle };
  if (action.startsWith('ChangeMessageVisibility')) {
    if (isNewest) append(queue.events, { ...event, type: 'visibility-changed', visibilitySeconds });
    return;
  }
  const deletes = isNewest && !queue.deleted.has(messageId);
  if (deletes) queue.deleted.add(messageId);
  append(queue.events, { ...event, type: deletes ? 'deleted' : 'delete-ignored' });
}

async function callBatch(
  queue: QueueState,
  action: QueueAction,
  input: Json,
  call: (input: Json) => Promise<Answer>,
  entryFails: ((messageId: string, action: QueueAction) => boolean) | undefined,
): Promise<Answer> {
  const entries = asList(input['Entries']).map(asJson);
  const failed: Json[] = [];
  const passed = entries.filter((entry) => {
    const receiptHandle = String(entry['ReceiptHandle']);
    const injected = entryFails?.(queue.handles.get(receiptHandle) ?? '', action) === true;
    const refusal = refuse(queue, action, receiptHandle);
    if (!injected && !refusal) return true;
    failed.push({
      Id: entry['Id'],
      SenderFault: !injected,
      Code: injected || !refusal ? 'InternalError' : refusal.code,
      Message: injected || !refusal ? 'An internal error occurred.' : refusal.message,
    });
    return false;
  });
  // An empty batch goes on, too: the emulator has the answer to it.
  if (passed.length === 0 && entries.length > 0) {
    return jsonAnswer(200, { Successful: [], Failed: failed });
  }
  const answer = await call({ ...input, Entries: passed });
  if (answer.status !== 200) return answer;
  const body = parse(answer.body);
  const succeeded = new Set(asList(body['Successful']).map((entry) => asJson(entry)['Id']));
  for (const entry of passed.filter(({ Id }) => succeeded.has(Id))) {
    noteHandleUsed(
      queue,
      action,
      String(entry['ReceiptHandle']),
      Number(entry['VisibilityTimeout'] ?? 0),
    );
  }
  return jsonAnswer(200, { ...body, Failed: [...asList(body['Failed']), ...failed] });
}

/** Also called at a receive: a waiting client can have the message before its sender has the answer. */
function noteSent(queue: QueueState, messageId: string, at: number): void {
  if (queue.sent.has(messageId)) return;
  queue.sent.add(messageId);
  append(queue.events, { at, messageId, type: 'sent' });
}

async function inspect(emulator: Service, queue: QueueState): Promise<QueuedMessage[]> {
  const answer = await emulator.inject({ method: 'GET', url: `/_fauxqs/queues/${queue.name}` });
  const now = Date.now();
  const { messages } = answer.json<{
    messages: {
      ready: EmulatorMessage[];
      delayed: EmulatorMessage[];
      inflight: { message: EmulatorMessage; visibilityDeadline: number }[];
    };
  }>();
  const view = (
    message: EmulatorMessage,
    state: QueuedMessage['state'],
    visibleAt?: number,
  ): QueuedMessage => ({
    messageId: message.messageId,
    body: message.body,
    receiveCount: message.approximateReceiveCount,
    state,
    visibleAt,
  });
  // The emulator looks at its clock only when somebody receives.
  return [
    ...messages.ready.map((message) => view(message, 'visible')),
    ...messages.delayed.map((message) =>
      view(message, (message.delayUntil ?? 0) > now ? 'delayed' : 'visible'),
    ),
    ...messages.inflight.map(({ message, visibilityDeadline }) =>
      visibilityDeadline > now
        ? view(message, 'in-flight', visibilityDeadline)
        : view(message, 'visible'),
    ),
  ].filter(({ messageId }) => !queue.deleted.has(messageId));
}

type EmulatorMessage = {
  messageId: string;
  body: string;
  approximateReceiveCount: number;
  delayUntil?: number;
};

/** Within this process: the emulator listens on no port. */
async function callEmulator(emulator: Service, action: string, input: Json): Promise<Answer> {
  const response = await emulator.inject({
    method: 'POST',
    url: '/',
    headers: { 'content-type': contentType, 'x-amz-target': `AmazonSQS.${action}` },
    payload: JSON.stringify(input),
  });
  const error = response.headers['x-amzn-query-error'];
  return {
    status: response.statusCode,
    headers: {
      'content-type': contentType,
      'x-amzn-requestid': randomUUID(),
      ...(error === undefined ? {} : { 'x-amzn-query-error': String(error) }),
    },
    body: response.body,
  };
}

const contentType = 'application/x-amz-json-1.0';

function jsonAnswer(status: number, body: Json): Answer {
  return {
    status,
    headers: { 'content-type': contentType, 'x-amzn-requestid': randomUUID() },
    body: JSON.stringify(body),
  };
}

function errorAnswer(status: number, code: string, message: string, queryCode = code): Answer {
  const answer = jsonAnswer(status, { __type: `com.amazonaws.sqs#${code}`, message });
  const fault = status < 500 ? 'Sender' : 'Receiver';
  return {
    ...answer,
    headers: { ...answer.headers, 'x-amzn-query-error': `${queryCode};${fault}` },
  };
}

function append<T>(journal: T[], entry: T): void {
  if (journal.length >= longestJournal)
    throw new Error(`over ${longestJournal} entries in a journal`);
  journal.push(entry);
}

function parse(text: string): Json {
  return asJson(JSON.parse(text));
}

function asJson(value: unknown): Json {
  return (value ?? {}) as Json;
}

function asList(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
