import { writeFile } from 'node:fs/promises';
import { expect, onTestFinished, test } from 'vitest';
import { startController } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { spotNotice } from '../harness/messages.ts';
import { startKubernetesStandIn } from '../stand-ins/kubernetes/stand-in.ts';
import { startQueueService } from '../stand-ins/queue.ts';
import { kubeconfigFor } from './kubeconfig.ts';

async function startAll() {
  const kubernetes = await startKubernetesStandIn({ controllers: [] });
  onTestFinished(() => kubernetes.stop());
  await writeFile(kubernetes.kubeconfig, kubeconfigFor(kubernetes.url));
  const queues = await startQueueService();
  onTestFinished(() => queues.stop());
  const queue = await queues.createQueue('interruptions');
  const controller = await startController({
    env: { QUEUE_URL: queue.url, KUBECONFIG: kubernetes.kubeconfig, LOG_LEVEL: 'debug' },
  });
  onTestFinished(async () => {
    await controller.kill();
  });
  const { fields } = await controller.waitForLog('http listening');
  return { queues, queue, controller, url: `http://127.0.0.1:${String(fields?.['port'])}` };
}

test('ready when the index is filled and the queue answers, not when the queue fails', async () => {
  const { queues, controller, url } = await startAll();
  await controller.waitForLog('ready');
  await eventually(async () => (await fetch(`${url}/readyz`)).status === 200);
  await queues.goAway('refuse');
  const checks = await eventually(async () => {
    const response = await fetch(`${url}/readyz`);
    return response.status === 503 && ((await response.json()) as { checks: unknown }).checks;
  });
  expect(checks).toMatchObject([
    { name: 'not stopping', ok: true },
    { name: 'node index', ok: true },
    { name: 'lease', ok: true, detail: 'leading' },
    { name: 'queue', ok: false, detail: expect.stringMatching(/ECONNRE(SET|FUSED)/) as unknown },
  ]);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

test('a queue that hangs does not hold up the end: exit code 0, and the message is not lost', async () => {
  const { queues, queue, controller } = await startAll();
  await controller.waitForLog('ready');
  for (const action of ['ChangeMessageVisibilityBatch', 'DeleteMessageBatch'] as const) {
    queues.faults.add({ action, fault: { kind: 'hang' } });
  }
  await queue.send(spotNotice({ instanceId: 'i-0123456789abcdef0' }));
  await controller.waitForLog('parked');
  expect(await controller.stop({ limitMs: 12_000 })).toMatchObject({ code: 0 });
  expect(controller.log.at(-1)?.fields?.['message']).toBe('stopped');
  // Neither deleted nor lost: hidden until its visibility timeout ends.
  expect(await queue.counts()).toEqual({ visible: 0, inFlight: 1, delayed: 0 });
});
