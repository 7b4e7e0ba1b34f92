import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Webhook } from 'standardwebhooks';
import { describe, expect, it, onTestFinished } from 'vitest';
import { podNamesOn } from '../harness/cluster.ts';
import type { Controller } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { metricsOf } from '../harness/http.ts';
import { untilSettled } from '../harness/marks.ts';
import { spotNotice, terminateHook } from '../harness/messages.ts';
import { addNode, addNodeWithPod, beginHook } from '../harness/nodes.ts';
import { leastRights } from '../harness/rules.ts';
import { runController, runControllerOn } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { startForwardProxy } from '../stand-ins/forward-proxy.ts';
import {
  startWebhookReceiver,
  type ReceiverAnswer,
  type WebhookReceiver,
} from '../stand-ins/webhook-receiver.ts';
import { stopsWithinMs } from './stop-stages.ts';

const options: WorldOptions = { ...leastRights };
const needs = worldSkipReason(options);

const fixtures = resolve(import.meta.dirname, '../kubernetes/fixtures');
const secret = `whsec_${Buffer.from('0123456789abcdef0123456789abcdef').toString('base64')}`;

/** Of one test. */
async function startReceiver(): Promise<WebhookReceiver> {
  const receiver = await startWebhookReceiver();
  onTestFinished(() => receiver.stop());
  return receiver;
}

describe.skipIf(needs)('the webhook', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  const stagesOf = (receiver: WebhookReceiver, node: string) =>
    receiver.about(node).map(({ stage }) => stage);

  it('tells of an interruption when it is recorded, and when its node is empty', async () => {
    const { instance, pod } = await addNodeWithPod(world, 'told', {
      pod: { behaviour: { exitsAfterSeconds: 5 } },
    });
    const receiver = await startReceiver();
    const { controller, queue } = await runController(world, {
      WEBHOOK_URL: receiver.url,
      WEBHOOK_SECRET: secret,
      WEBHOOK_HEADERS: '{"Authorization":"Bearer token"}',
    });

    await queue.send(spotNotice({ instanceId: instance }));
    await eventually(() => receiver.about('told').length === 1);
    const standing = await podNamesOn(world.api, 'told');
    await untilSettled(world.api, 'told');
    await eventually(() => receiver.about('told').length === 2);

    expect(standing).toEqual([pod]);
    const about = { node: 'told', instanceId: instance, kind: 'spot-interruption' };
    expect(receiver.about('told')).toMatchObject([
      { ...about, stage: 'received', outcome: null, pods: [] },
      {
        ...about,
        stage: 'drained',
        outcome: 'drained',
        providerId: expect.stringContaining(instance) as unknown,
        pods: [`default/${pod}`],
        podsLeft: [],
        podCounts: { evicted: 1, deletedPastBudget: 0, leftByThemselves: 0, stayed: 0 },
      },
    ]);
    for (const { headers, body } of receiver.deliveriesAbout('told')) {
      expect(headers).toMatchObject({ authorization: 'Bearer token' });
      const given = Object.entries(headers).map(([name, value]) => [name, String(value)]);
      new Webhook(secret).verify(body, Object.fromEntries(given) as Record<string, string>);
    }
    expect(await metricOf(controller, 'drained', 'sent')).toBeGreaterThan(0);
    expect(await controller.stop()).toMatchObject({ code: 0 });
    const log = controller.log.map(({ text }) => text).join('\n');
    expect(log).toContain(`${new URL(receiver.url).origin}/…`);
    expect(log).not.toMatch(/T0SECRET|token=secret|Bearer token|whsec_/);
  });

  it('writes what its template says', async () => {
    const { instance } = await addNodeWithPod(world, 'templated', {
      node: { labels: { pool: 'spot' } },
    });
    const receiver = await startReceiver();
    const { queue } = await runController(world, {
      WEBHOOK_URL: receiver.url,
      WEBHOOK_TEMPLATE: '{"text":"{{ stage }} {{ node }} {{ nodeLabels.pool }}"}',
      WEBHOOK_STAGES: 'drained',
    });

    await queue.send(spotNotice({ instanceId: instance }));
    const about = () => receiver.deliveries().filter(({ body }) => body.includes('templated'));
    await eventually(() => about().length === 1);
    await untilSettled(world.api, 'templated');

    expect(about()).toMatchObject([
      {
        body: '{"text":"drained templated spot"}',
        headers: { 'content-type': 'application/json' },
      },
    ]);
  });

  it.each<{
    name: string;
    answer: ReceiverAnswer;
    stages: readonly string[];
    dropped: number;
    pauseMs?: number;
  }>([
    {
      name: 'answers-500',
      answer: { status: 500 },
      stages: ['received', 'received', 'drained'],
      dropped: 0,
    },
    {
      name: 'answers-429',
      answer: { status: 429, headers: { 'retry-after': '3' } },
      stages: ['received', 'received', 'drained'],
      dropped: 0,
      pauseMs: 3000,
    },
    { name: 'closes', answer: 'cut', stages: ['received', 'received', 'drained'], dropped: 0 },
    {
      name: 'closes-in-the-middle',
      answer: 'cut-in-the-middle',
      stages: ['received', 'drained'],
      dropped: 0,
    },
    { name: 'answers-410', answer: { status: 410 }, stages: ['received', 'drained'], dropped: 1 },
    { name: 'answers-400', answer: { status: 400 }, stages: ['received', 'drained'], dropped: 1 },
  ])(
    'holds up no drain where the receiver $name: $stages arrive, in order',
    async ({ name, answer, stages, dropped, pauseMs = 0 }) => {
      const { instance } = await addNodeWithPod(world, name);
      const receiver = await startReceiver();
      receiver.answerNext(answer);
      const { controller, queue } = await runController(world, { WEBHOOK_URL: receiver.url });
      const action = beginHook(world, name, instance);

      await queue.send(terminateHook({ ...action }));
      await untilSettled(world.api, name);
      await eventually(() => stagesOf(receiver, name).includes('drained'), { timeoutMs: 60_000 });

      expect(action.result).toBe('CONTINUE');
      expect(stagesOf(receiver, name)).toEqual(stages);
      expect(notSent(controller, [name])).toHaveLength(dropped);
      const [first, second] = receiver.deliveriesAbout(name);
      expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(pauseMs);
      // A message bears one ID, however often it is sent.
      const ids = receiver.deliveriesAbout(name).map(({ headers }) => headers['webhook-id']);
      expect(new Set(ids).size).toBe(2);
    },
  );

  it('goes through a tunnel of the proxy, with a certificate of an authority of its own', async () => {
    const { instance } = await addNodeWithPod(world, 'tunnelled');
    const [cert, key] = await Promise.all(
      ['server.crt', 'server.key'].map((name) => readFile(`${fixtures}/${name}`, 'utf8')),
    );
    const receiver = await startWebhookReceiver({ tls: { cert: cert ?? '', key: key ?? '' } });
    onTestFinished(() => receiver.stop());
    const proxy = await startForwardProxy();
    onTestFinished(() => proxy.stop());
    const { queue } = await runController(world, {
      WEBHOOK_URL: receiver.url,
      HTTPS_PROXY: proxy.url,
      NODE_EXTRA_CA_CERTS: `${fixtures}/ca.crt`,
    });

    await queue.send(spotNotice({ instanceId: instance }));
    await eventually(() => receiver.about('tunnelled').length === 2);

    expect(receiver.url).toMatch(/^https:/);
    expect(new Set(proxy.targets)).toEqual(new Set([new URL(receiver.url).host]));
  });

  it('follows no redirect', async () => {
    const { instance } = await addNodeWithPod(world, 'redirected');
    const [receiver, elsewhere] = [await startReceiver(), await startReceiver()];
    receiver.answerAll({ status: 307, headers: { location: elsewhere.url } });
    const { controller, queue } = await runController(world, { WEBHOOK_URL: receiver.url });

    await queue.send(spotNotice({ instanceId: instance }));
    await untilSettled(world.api, 'redirected');
    await eventually(() => notSent(controller, ['redirected']).length === 2);

    expect(notSent(controller, ['redirected'])[0]).toMatchObject({
      node: 'redirected',
      stage: 'received',
      reason: 'status 307, a redirect',
      receiver: new URL(receiver.url).origin,
    });
    expect(elsewhere.deliveries()).toEqual([]);
  });

  it.each(['hang', 'refuse'] as const)(
    'delays neither drains nor the end of the process where receivers %s',
    async (how) => {
      const names = Array.from({ length: 12 }, (_, i) => `${how}-${i}`);
      const nodes = await Promise.all(names.map((name) => addNodeWithPod(world, name)));
      const receiver = await startReceiver();
      await receiver.goAway(how);
      const { controller, queue } = await runController(world, { WEBHOOK_URL: receiver.url });
      const actions = nodes.map(({ node, instance }) => beginHook(world, node, instance));

      await queue.sendMany(actions.map((action) => terminateHook({ ...action })));
      for (const name of names) await untilSettled(world.api, name);
      const sent = await metricOf(controller, 'received', 'sent');

      expect(actions.map(({ result }) => result)).toEqual(names.map(() => 'CONTINUE'));
      expect(sent).toBe(0);
      expect(await controller.stop({ limitMs: stopsWithinMs })).toMatchObject({ code: 0 });
      expect(notSent(controller, names)).toHaveLength(2 * names.length);
      expect(controller.logged('stop takes too long')).toEqual([]);
    },
  );

  it('sends what waits before the process ends', async () => {
    const { instance } = await addNodeWithPod(world, 'before-the-end');
    const receiver = await startReceiver();
    receiver.answerNext({ status: 500 });
    const { controller, queue } = await runController(world, { WEBHOOK_URL: receiver.url });

    await queue.send(spotNotice({ instanceId: instance }));
    await eventually(() => receiver.about('before-the-end').length > 0);
    await controller.stop({ limitMs: stopsWithinMs });

    expect(stagesOf(receiver, 'before-the-end').slice(0, 2)).toEqual(['received', 'received']);
    expect(controller.logged('webhook message not sent')).toEqual([]);
    await runControllerOn(world, queue);
    await untilSettled(world.api, 'before-the-end');
  });

  it('is told the end by a process that takes over, and what was recorded not again', async () => {
    const { instance } = await addNodeWithPod(world, 'taken-over', {
      pod: { behaviour: { exitsAfterSeconds: 8 } },
    });
    const receiver = await startReceiver();
    const environment = { WEBHOOK_URL: receiver.url };
    const { controller, queue } = await runController(world, environment);

    await queue.send(spotNotice({ instanceId: instance }));
    await eventually(() => receiver.about('taken-over').length === 1);
    await controller.kill();
    await runControllerOn(world, queue, environment);
    await untilSettled(world.api, 'taken-over', { timeoutMs: 60_000 });
    await eventually(() => receiver.about('taken-over').length === 2);

    const [received, drained] = receiver.about('taken-over');
    expect(received).toMatchObject({ stage: 'received' });
    expect(drained).toMatchObject({ stage: 'drained', eventId: received?.['eventId'] });
  });

  it('is not called by a dry run', async () => {
    const instance = await addNode(world, 'rehearsed');
    const receiver = await startReceiver();
    const { controller, queue } = await runController(world, {
      WEBHOOK_URL: receiver.url,
      DRY_RUN: 'true',
    });

    await queue.send(spotNotice({ instanceId: instance }));
    await controller.waitForLog('would send an outcome');

    expect(receiver.deliveries()).toEqual([]);
  });
});

/** About these nodes: who starts takes up what the world's other tests have left, too. */
function notSent(controller: Controller, nodes: readonly string[]) {
  const all = controller.logged('webhook message not sent');
  return all.filter(({ node }) => nodes.includes(String(node)));
}

async function metricOf(controller: Controller, stage: string, result: string): Promise<number> {
  const name = `node_termination_webhook_messages_total{stage="${stage}",result="${result}"} `;
  const line = (await metricsOf(controller)).split('\n').find((one) => one.startsWith(name));
  return Number(line?.slice(name.length) ?? 0);
}
