import { Webhook } from 'standardwebhooks';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { cloudEvents } from '../../../src/report/webhook/body.ts';
import { createWebhook } from '../../../src/report/webhook/deliveries.ts';
import { STAGES } from '../../../src/report/webhook/message.ts';
import type { WebhookSettings } from '../../../src/report/webhook/settings.ts';
import { eventually } from '../../harness/eventually.ts';
import { startForwardProxy } from '../../stand-ins/forward-proxy.ts';
import { FakeMetrics } from '../../stand-ins/ports/metrics.ts';
import { FakeReport } from '../../stand-ins/ports/report.ts';
import { VirtualClock } from '../../stand-ins/virtual-clock.ts';
import { startWebhookReceiver, type ReceiverAnswer } from '../../stand-ins/webhook-receiver.ts';
import { end, receipt } from './told.ts';

/** Real requests; pauses and time limits are virtual. */
async function start(changes: Partial<WebhookSettings> = {}) {
  const receiver = await startWebhookReceiver();
  const clock = new VirtualClock();
  /** How far the host's clock has been set. */
  const wall = { setByMs: 0 };
  const wallNow = () => clock.now() + wall.setByMs;
  const metrics = new FakeMetrics();
  const report = new FakeReport(() => clock.now());
  const webhook = createWebhook(
    {
      url: new URL(receiver.url),
      headers: {},
      secrets: [],
      stages: STAGES,
      format: cloudEvents,
      ...changes,
    },
    { factsOf: () => undefined, userAgent: 'test/1', clock, wallNow, metrics, report },
  );
  onTestFinished(async () => {
    const closed = webhook.close(0);
    await clock.advance(1);
    await closed;
    await receiver.stop();
  });
  const counted = (result: 'sent' | 'dropped'): number =>
    STAGES.map((stage) => metrics.counted('webhook_messages_total', { stage, result })).reduce(
      (sum, count) => sum + count,
      0,
    );
  const ended = (count: number) => eventually(() => counted('sent') + counted('dropped') === count);
  const tried = (count: number) => eventually(() => receiver.deliveries().length === count);
  /** Until the answer to the latest attempt is known, which it is when a pause has begun. */
  const failed = (count: number) =>
    eventually(() => report.told('webhook message failed').length === count);
  return { receiver, clock, wall, metrics, report, webhook, counted, ended, tried, failed };
}

const nodes = (count: number) => Array.from({ length: count }, (_, number) => `node-${number}`);

// A limit for what has hung: these are real requests.
vi.setConfig({ testTimeout: 90_000 });

describe('a message', () => {
  test('is a CloudEvent with the data of its stage', async () => {
    const { receiver, webhook, counted, ended } = await start();
    webhook.received(receipt());
    webhook.tell(end());
    await ended(2);
    expect(counted('sent')).toBe(2);
    const [first, second] = receiver.deliveries();
    expect(first?.headers).toMatchObject({
      'content-type': expect.stringMatching(/^application\/cloudevents\+json/) as unknown,
      'user-agent': 'test/1',
    });
    expect(JSON.parse(first?.body ?? '')).toMatchObject({
      specversion: '1.0',
      source: 'node-termination-controller',
      type: 'node-termination-controller.interruption.received',
      subject: 'node-1',
      time: '2026-03-01T12:00:01.000Z',
      datacontenttype: 'application/json',
      data: { version: 1, stage: 'received', outcome: null, node: 'node-1', pods: [] },
    });
    expect(JSON.parse(second?.body ?? '')).toMatchObject({
      type: 'node-termination-controller.interruption.drained',
      data: { stage: 'drained', outcome: 'drained', secondsToSpare: 90, pods: { length: 2 } },
    });
  });

  test('bears an ID that is its own in each stage, and the same whenever it is sent', async () => {
    const ids = async (): Promise<unknown[]> => {
      const { receiver, webhook, ended } = await start();
      webhook.received(receipt());
      webhook.tell(end());
      webhook.received(receipt({ instanceId: 'i-0fedcba9876543210' }));
      await ended(3);
      for (const { headers, body } of receiver.deliveries()) {
        expect(headers['webhook-id']).toBe((JSON.parse(body) as { id: string }).id);
      }
      return receiver.deliveries().map(({ headers }) => headers['webhook-id']);
    };
    const first = await ids();
    expect(new Set(first).size).toBe(3);
    expect(await ids()).toEqual(first);
  });

  test('is signed so that the library of Standard Webhooks takes it, with each of two secrets', async () => {
    const secrets = ['a', 'b'].map(
      (letter) => `whsec_${Buffer.from(letter.repeat(32)).toString('base64')}`,
    );
    const { receiver, clock, webhook, ended } = await start({ secrets });
    await clock.advance(Date.now() - clock.now());
    webhook.tell(end());
    await ended(1);
    const [delivery] = receiver.deliveries();
    const headers = Object.fromEntries(
      Object.entries(delivery?.headers ?? {}).map(([name, value]) => [name, String(value)]),
    );
    for (const secret of secrets) {
      expect(new Webhook(secret).verify(delivery?.body ?? '', headers)).toMatchObject({
        id: headers['webhook-id'],
      });
      expect(() => new Webhook(secret).verify(`${delivery?.body} `, headers)).toThrow('signature');
    }
    const other = `whsec_${Buffer.from('c'.repeat(32)).toString('base64')}`;
    expect(() => new Webhook(other).verify(delivery?.body ?? '', headers)).toThrow('signature');
  });

  test('has the headers that were asked for, and no signature without a secret', async () => {
    const { receiver, webhook, ended } = await start({ headers: { authorization: 'Bearer x' } });
    webhook.received(receipt());
    await ended(1);
    const [delivery] = receiver.deliveries();
    expect(delivery).toMatchObject({
      path: '/services/T0SECRET/B0SECRET?token=secret',
      headers: { authorization: 'Bearer x' },
    });
    expect(delivery?.headers).not.toHaveProperty('webhook-signature');
  });

  test('is of the stages that are wanted, and of no other', async () => {
    const { receiver, webhook, ended } = await start({ stages: ['failed'] });
    webhook.received(receipt());
    webhook.tell(end());
    webhook.tell(end({ outcome: 'cancelled' }));
    webhook.tell(end({ outcome: 'late' }));
    await ended(1);
    expect(receiver.about('node-1')).toMatchObject([{ stage: 'failed', outcome: 'late' }]);
  });
});

describe('a message that is not taken', () => {
  test.each<{ answer: ReceiverAnswer; reason: unknown }>([
    { answer: { status: 400 }, reason: 'status 400' },
    { answer: { status: 404 }, reason: 'status 404' },
    { answer: { status: 410 }, reason: 'status 410' },
    {
      answer: { status: 307, headers: { location: 'http://127.0.0.1:1/elsewhere' } },
      reason: 'status 307, a redirect',
    },
  ])('is given up at once after $reason', async ({ answer, reason }) => {
    const { receiver, report, webhook, counted, ended, tried } = await start();
    receiver.answerNext(answer);
    webhook.received(receipt());
    webhook.tell(end());
    await ended(2);
    expect(counted('dropped')).toBe(1);
    // That one alone.
    await tried(2);
    expect(report.told('webhook message not sent')).toMatchObject([
      { node: 'node-1', stage: 'received', reason, attempts: 1 },
    ]);
  });

  test.each<{ answer: ReceiverAnswer }>([
    { answer: { status: 500 } },
    { answer: { status: 502 } },
    { answer: { status: 408 } },
    { answer: { status: 429 } },
    { answer: 'cut' },
  ])('is sent again after $answer, ever more slowly', async ({ answer }) => {
    const { receiver, clock, webhook, counted, ended, tried, failed } = await start();
    receiver.answerNext(answer, answer, answer);
    webhook.received(receipt());
    for (const [at, longestMs] of [1000, 2000, 4000].entries()) {
      await failed(at + 1);
      await clock.advance(longestMs / 2 - 1);
      expect(receiver.deliveries()).toHaveLength(at + 1);
      await clock.advance(longestMs / 2 + 1);
      await tried(at + 2);
    }
    await ended(1);
    expect(counted('sent')).toBe(1);
    expect(new Set(receiver.deliveries().map(({ body }) => body)).size).toBe(1);
  });

  test('is given up after a quarter of an hour', async () => {
    const { receiver, clock, report, webhook, counted, failed } = await start();
    receiver.answerAll({ status: 500 });
    webhook.received(receipt());
    const startedAt = clock.now();
    await failed(1);
    await eventually(
      async () => {
        await clock.advance(2000);
        return counted('dropped') === 1;
      },
      { intervalMs: 5, timeoutMs: 60_000 },
    );
    expect(clock.now() - startedAt).toBeGreaterThanOrEqual(900_000);
    expect(report.told('webhook message not sent')).toMatchObject([
      { receiver: new URL(receiver.url).origin },
    ]);
    // 1, 2, 4 … 60 seconds.
    expect(receiver.deliveries().length).toBeLessThan(30);
  });

  test.each([{ status: 429 }, { status: 503 }])(
    'waits for as long as $status with Retry-After asks for, and so do those of other nodes',
    async ({ status }) => {
      const { receiver, clock, webhook, ended, failed } = await start();
      receiver.answerNext({ status, headers: { 'retry-after': '120' } });
      webhook.received(receipt());
      await failed(1);
      webhook.received(receipt({ node: 'node-2', instanceId: 'i-2' }));
      await clock.advance(119_000);
      expect(receiver.deliveries()).toHaveLength(1);
      await clock.advance(2000);
      await ended(2);
      expect(receiver.deliveries()).toHaveLength(3);
    },
  );

  test('waits until the date in Retry-After, but no longer than five minutes', async () => {
    const { receiver, clock, webhook, ended, failed } = await start();
    const inADay = new Date(clock.now() + 86_400_000).toUTCString();
    receiver.answerNext({ status: 429, headers: { 'retry-after': inADay } });
    webhook.received(receipt());
    await failed(1);
    await clock.advance(299_000);
    expect(receiver.deliveries()).toHaveLength(1);
    await clock.advance(2000);
    await ended(1);
  });

  test.each([
    { name: 'back', setByMs: -86_400_000 },
    { name: 'forward', setByMs: 86_400_000 },
  ])('waits as long as was asked for when the clock is set $name', async ({ setByMs }) => {
    const { receiver, clock, wall, webhook, ended, failed } = await start();
    receiver.answerNext({ status: 429, headers: { 'retry-after': '120' } });
    webhook.received(receipt());
    await failed(1);
    wall.setByMs = setByMs;
    await clock.advance(119_000);
    expect(receiver.deliveries()).toHaveLength(1);
    await clock.advance(2000);
    await ended(1);
    expect(receiver.deliveries()).toHaveLength(2);
  });

  test('is not given up because the clock is set forward, and is signed at its time', async () => {
    const { receiver, clock, wall, webhook, counted, ended, failed } = await start();
    receiver.answerNext({ status: 500 });
    const startedAt = clock.now();
    webhook.received(receipt());
    wall.setByMs = 3_600_000;
    await failed(1);
    await clock.advance(1000);
    await ended(1);
    expect(counted('sent')).toBe(1);
    const seconds = Number(receiver.deliveries().at(-1)?.headers['webhook-timestamp']);
    expect(seconds * 1000).toBeGreaterThanOrEqual(startedAt + 3_600_000);
  });

  test('does not hold up those of other nodes, only the next of its own', async () => {
    const { receiver, clock, webhook, counted, ended, failed } = await start();
    receiver.answerNext({ status: 500 });
    webhook.received(receipt());
    await failed(1);
    webhook.tell(end());
    webhook.received(receipt({ node: 'node-2', instanceId: 'i-2' }));
    await eventually(() => counted('sent') === 1);
    expect(receiver.about('node-2')).toHaveLength(1);
    expect(receiver.about('node-1')).toMatchObject([{ stage: 'received' }]);
    await clock.advance(1000);
    await ended(3);
    expect(receiver.about('node-1').map(({ stage }) => stage)).toEqual([
      'received',
      'received',
      'drained',
    ]);
  });

  test('is given ten seconds where the receiver hangs, and eight are under way at most', async () => {
    const { receiver, clock, webhook, report, tried, failed } = await start();
    receiver.answerAll('hang');
    for (const node of nodes(20)) webhook.received(receipt({ node, instanceId: node }));
    await tried(8);
    await clock.advance(9999);
    expect(receiver.deliveries()).toHaveLength(8);
    await clock.advance(1);
    await tried(16);
    await failed(8);
    expect(report.told('webhook message failed')[0]).toMatchObject({
      reason: 'no answer within 10 s',
    });
  });

  test.each<{ answer: ReceiverAnswer }>([{ answer: 'cut-in-the-middle' }, { answer: 'endless' }])(
    'is another than one whose answer is $answer: the status says that it was taken',
    async ({ answer }) => {
      const { receiver, clock, webhook, counted, tried } = await start();
      receiver.answerNext(answer);
      webhook.received(receipt());
      await tried(1);
      await eventually(async () => {
        await clock.advance(1000);
        return counted('sent') === 1;
      });
      webhook.tell(end());
      await eventually(() => counted('sent') === 2);
      expect(receiver.deliveries()).toHaveLength(2);
    },
  );

  test('tells nobody the path of the URL, whatever the receiver does', async () => {
    const { receiver, clock, report, webhook, ended, failed } = await start();
    receiver.answerNext({ status: 404 }, 'cut', { status: 301, headers: { location: '/x' } });
    for (const node of nodes(3)) {
      webhook.received(receipt({ node, instanceId: node }));
    }
    await ended(2);
    await failed(1);
    await receiver.goAway('refuse');
    await clock.advance(1000);
    await failed(2);
    await webhook.close(100);
    await ended(3);
    expect(report.lines.length).toBeGreaterThan(3);
    expect(JSON.stringify(report.lines)).not.toMatch(/secret|services/i);
  });
});

describe('messages that wait', () => {
  test('are ten thousand at most; what comes then is dropped', async () => {
    const { receiver, clock, report, webhook, counted } = await start();
    receiver.answerAll('hang');
    for (const node of nodes(10_050)) webhook.received(receipt({ node, instanceId: node }));
    expect(counted('dropped')).toBe(50);
    expect(report.told('webhook message not sent')[0]).toMatchObject({
      node: 'node-10000',
      reason: 'too many messages wait',
      attempts: 0,
    });
    const closed = webhook.close(10);
    await clock.advance(20);
    await closed;
    expect(counted('dropped')).toBe(10_050);
  });

  test('have 16 MiB at most, and 256 KiB each', async () => {
    const format = (size: number): WebhookSettings['format'] => ({
      write: () => ({ text: 'x'.repeat(size), contentType: 'text/plain' }),
      usesLabels: false,
    });
    const large = await start({ format: format(256 * 1024) });
    large.receiver.answerAll('hang');
    for (const node of nodes(70)) large.webhook.received(receipt({ node, instanceId: node }));
    expect(large.counted('dropped')).toBe(70 - 64);

    const tooLarge = await start({ format: format(256 * 1024 + 1) });
    tooLarge.webhook.received(receipt());
    expect(tooLarge.counted('dropped')).toBe(1);
  });

  test('that cannot be written are dropped, and hurt nobody', async () => {
    const { report, webhook, counted } = await start({
      format: {
        usesLabels: false,
        write({ data }) {
          if (data.node === 'odd') throw new Error('memory alloc limit exceeded');
          return { text: '{}', contentType: 'application/json' };
        },
      },
    });
    webhook.received(receipt({ node: 'odd' }));
    expect(counted('dropped')).toBe(1);
    expect(report.told('webhook message not sent')).toMatchObject([
      { reason: 'memory alloc limit exceeded' },
    ]);
  });

  test('are sent before the end, without pauses, once each', async () => {
    const { receiver, webhook, counted, failed } = await start();
    receiver.answerNext({ status: 500 });
    webhook.received(receipt());
    await failed(1);
    for (const node of nodes(20)) webhook.tell(end({ node, instanceId: node }));
    await webhook.close(1000);
    expect(counted('sent')).toBe(21);
    webhook.received(receipt({ node: 'late' }));
    expect(counted('dropped')).toBe(1);
  });

  test('are sent before the end although the receiver had asked for a pause', async () => {
    const { receiver, webhook, counted, failed } = await start();
    receiver.answerNext({ status: 429, headers: { 'retry-after': '120' } });
    webhook.received(receipt());
    await failed(1);
    for (const node of nodes(20)) webhook.tell(end({ node, instanceId: node }));
    expect(receiver.deliveries()).toHaveLength(1);
    // The limit would be a wait for ever: time stands still.
    await webhook.close(1500);
    expect(counted('sent')).toBe(21);
  });

  test('are given up at once where the receiver then asks for another pause', async () => {
    const { receiver, report, webhook, counted, failed } = await start();
    receiver.answerAll({ status: 503, headers: { 'retry-after': '120' } });
    webhook.received(receipt());
    await failed(1);
    for (const node of nodes(50)) webhook.tell(end({ node, instanceId: node }));
    await webhook.close(1500);
    expect(counted('dropped')).toBe(51);
    expect(receiver.deliveries().length).toBeLessThanOrEqual(9);
    expect(report.told('webhook message not sent')).toHaveLength(51);
    expect(report.told('webhook message not sent').map(({ reason }) => reason)).toContain(
      'stopping, and the receiver asks for a pause',
    );
  });

  test('do not hold up the end for longer than its limit', async () => {
    const { receiver, clock, report, webhook, counted, tried } = await start();
    receiver.answerAll('hang');
    for (const node of nodes(20)) {
      webhook.received(receipt({ node, instanceId: node }));
      webhook.tell(end({ node, instanceId: node }));
    }
    await tried(8);
    const closed = webhook.close(1000);
    await clock.advance(1100);
    await closed;
    expect(counted('dropped')).toBe(40);
    expect(
      report.told('webhook message not sent').every(({ reason }) => reason === 'stopping'),
    ).toBe(true);
  });

  test('tell of a Node that is gone what was known of it', async () => {
    const receiver = await startWebhookReceiver();
    const clock = new VirtualClock();
    const facts = {
      providerId: 'aws:///eu-central-1a/i-1',
      instanceType: 'm7g.large',
      zone: 'eu-central-1a',
      labels: {},
    };
    let isThere = true;
    const webhook = createWebhook(
      { url: new URL(receiver.url), headers: {}, secrets: [], stages: STAGES, format: cloudEvents },
      {
        factsOf: () => (isThere ? facts : undefined),
        userAgent: 'test/1',
        clock,
        wallNow: () => clock.now(),
        report: new FakeReport(() => clock.now()),
      },
    );
    onTestFinished(async () => receiver.stop());
    webhook.received(receipt());
    isThere = false;
    webhook.tell(end({ outcome: 'not-possible' }));
    webhook.tell(end({ node: 'another' }));
    await webhook.close(1000);
    const { providerId, instanceType, zone } = facts;
    const said = { providerId, instanceType, zone };
    expect(receiver.about('node-1')).toMatchObject([said, said]);
    expect(receiver.about('another')).toMatchObject([{ providerId: null, zone: null }]);
  });
});

describe('the proxy', () => {
  test('that the environment names is used, but not for hosts it excepts', async () => {
    const proxy = await startForwardProxy();
    onTestFinished(() => proxy.stop());
    vi.stubEnv('HTTP_PROXY', proxy.url);
    const by = await start();
    by.webhook.received(receipt());
    await by.ended(1);
    expect(by.counted('sent')).toBe(1);
    expect(proxy.targets).toEqual([new URL(by.receiver.url).host]);

    vi.stubEnv('NO_PROXY', '127.0.0.1');
    const past = await start();
    past.webhook.received(receipt());
    await past.ended(1);
    expect(past.counted('sent')).toBe(1);
    expect(proxy.targets).toHaveLength(1);
  });
});
