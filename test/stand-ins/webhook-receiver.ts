import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import { startHttpService, type HttpService, type TlsIdentity } from './http-service.ts';

/**
 * `hang`: no answer, ever. `cut`: the connection is closed before an answer. `cut-in-the-middle`: it is
 * closed within the body of a 200; `endless`: such a body does not end. Else the answer's status.
 */
export type ReceiverAnswer =
  | 'hang'
  | 'cut'
  | 'cut-in-the-middle'
  | 'endless'
  | Readonly<{ status: number; headers?: Readonly<Record<string, string>> }>;

export type Delivery = Readonly<{
  /** Epoch milliseconds. */
  at: number;
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}>;

export type WebhookReceiver = Pick<HttpService, 'goAway' | 'comeBack' | 'stop'> & {
  /** With a path as secret as those of chats are. */
  readonly url: string;
  /** Every request, answered or not, oldest first. */
  deliveries(): readonly Delivery[];
  /** Those that are CloudEvents about the node. */
  deliveriesAbout(node: string): readonly Delivery[];
  /** What they say. */
  about(node: string): readonly Readonly<Record<string, unknown>>[];
  /** The next requests, in order; then 204 again. */
  answerNext(...answers: readonly ReceiverAnswer[]): void;
  /** Until told otherwise; undefined: 204. */
  answerAll(answer: ReceiverAnswer | undefined): void;
};

type ReceiverOptions = {
  readonly onDelivery?: (delivery: Delivery) => void;
  /** Of an https receiver. */
  readonly tls?: TlsIdentity;
};

const longestJournal = 100_000;

/** Whoever takes webhook messages: a chat, an alerting service. */
export async function startWebhookReceiver({
  onDelivery,
  tls,
}: ReceiverOptions = {}): Promise<WebhookReceiver> {
  const deliveries: Delivery[] = [];
  const next: ReceiverAnswer[] = [];
  let always: ReceiverAnswer | undefined;
  const service = await startHttpService(async (request, body, response) => {
    if (deliveries.length >= longestJournal) throw new Error(`over ${longestJournal} requests`);
    const { url: path = '', headers } = request;
    const delivery = { at: Date.now(), path, headers, body };
    deliveries.push(delivery);
    onDelivery?.(delivery);
    answer(response, next.shift() ?? always ?? { status: 204 });
  }, tls);
  return {
    url: `${service.url}/services/T0SECRET/B0SECRET?token=secret`,
    deliveries: () => deliveries,
    deliveriesAbout: (node) => deliveries.filter(({ body }) => dataOf(body)['node'] === node),
    about: (node) =>
      deliveries.map(({ body }) => dataOf(body)).filter((data) => data['node'] === node),
    answerNext: (...answers) => void next.push(...answers),
    answerAll: (answer) => {
      always = answer;
    },
    goAway: service.goAway,
    comeBack: service.comeBack,
    stop: () => service.stop(),
  };
}

function dataOf(body: string): Readonly<Record<string, unknown>> {
  const { data = {} } = JSON.parse(body) as { data?: Readonly<Record<string, unknown>> };
  return data;
}

function answer(response: ServerResponse, how: ReceiverAnswer): void {
  switch (how) {
    case 'hang':
      return;
    case 'cut':
      response.destroy();
      return;
    case 'cut-in-the-middle':
      response.writeHead(200, { 'content-length': '1000' });
      response.write('the beginning', () => response.destroy());
      return;
    case 'endless':
      response.writeHead(200);
      response.write('the beginning');
      return;
    default:
      response.writeHead(how.status, how.headers);
      response.end();
  }
}
