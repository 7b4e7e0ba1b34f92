import { afterEach, describe, expect, it } from 'vitest';
import { podsOn } from '../harness/cluster.ts';
import type { Controller } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { askOverHttp } from '../harness/http.ts';
import { untilSettled } from '../harness/marks.ts';
import { spotNotice } from '../harness/messages.ts';
import { untilDeleted } from '../harness/queued.ts';
import { controllerRequests } from '../harness/requests.ts';
import { leastRights } from '../harness/rules.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import {
  budgetStatus,
  createBudget,
  createPod,
  createPods,
  untilRunning,
} from '../harness/workloads.ts';
import { controllerNamespace, worldSkipReason, type WorldOptions } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';

const options: WorldOptions = { audit: true, ...leastRights };
const needs = worldSkipReason(options);

const exitsSoon = { exitsAfterSeconds: 0.3 };

type LeaseObject = {
  readonly metadata: { readonly name: string; resourceVersion: string };
  readonly spec: {
    readonly holderIdentity: string;
    readonly leaseDurationSeconds: number;
    readonly leaseTransitions: number;
  };
};

describe.skipIf(needs)('two replicas', { meta: { needs } }, () => {
  const world = sharedWorld(options);
  let queue: Queue;
  let count = 0;
  let running: Controller[] = [];

  afterEach(async () => {
    await Promise.all(running.map((controller) => controller.kill()));
    running = [];
  });

  /** Each test has a queue and a Lease of its own. */
  async function start(): Promise<{ leader: Controller; standby: Controller; lease: string }> {
    count += 1;
    const lease = `lease-${count}`;
    queue = await world.queues.createQueue(lease);
    const leader = await replica('a', lease);
    await leader.waitForLog('ready');
    const standby = await replica('b', lease);
    await standby.waitForLog('standing by');
    return { leader, standby, lease };
  }

  async function replica(name: string, lease: string): Promise<Controller> {
    const controller = await world.startController({
      env: { QUEUE_URL: queue.url, LEASE_NAME: lease, POD_NAME: name },
    });
    running.push(controller);
    return controller;
  }

  const pathOf = (lease: string): string =>
    `/apis/coordination.k8s.io/v1/namespaces/${controllerNamespace}/leases/${lease}`;
  const read = (lease: string) => world.api.get<LeaseObject>(pathOf(lease));

  async function interrupt(node: string): Promise<void> {
    const instance = instanceId();
    await world.kubelet.addNode({ name: node, instanceId: instance });
    await createPod(world.api, { name: `${node}-pod`, node, behaviour: exitsSoon });
    await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instance }))]);
    await untilSettled(world.api, node);
  }

  async function readiness(controller: Controller): Promise<{ status: number; body: unknown }> {
    const response = await askOverHttp(controller, '/readyz');
    return { status: response.status, body: await response.json() };
  }

  it('agree on one that works; both are ready', async () => {
    const { leader, standby, lease } = await start();
    await interrupt('agreed');
    expect((await read(lease)).spec).toMatchObject({
      holderIdentity: 'a',
      leaseDurationSeconds: 15,
      leaseTransitions: 0,
    });
    expect(await readiness(leader)).toMatchObject({ status: 200 });
    expect(await readiness(standby)).toMatchObject({
      status: 200,
      body: {
        checks: expect.arrayContaining([
          { name: 'lease', ok: true, detail: 'standing by for a' },
        ]) as unknown,
      },
    });
    expect(standby.logged('interruption received')).toEqual([]);
  });

  it('keep their leader through a storm of evictions, with its Lease renewed all the while', async () => {
    const { leader, lease } = await start();
    const nodes = Array.from({ length: 30 }, (_, i) => ({
      name: `stormy-${i}`,
      instanceId: instanceId(),
    }));
    await world.kubelet.addNodes(nodes);
    const labels = { app: 'stormy' };
    const pods = nodes.flatMap(({ name }) =>
      Array.from({ length: 8 }, (_, i) => ({
        name: `${name}-${i}`,
        node: name,
        labels,
        graceSeconds: 1,
        behaviour: exitsSoon,
      })),
    );
    await untilRunning(world.kubelet, await createPods(world.api, pods));
    // Each is refused, and asked for again and again, until its time has come.
    await createBudget(world.api, { name: 'stormy', matchLabels: labels, maxUnavailable: 0 });
    await eventually(async () => (await budgetStatus(world.api, 'stormy')) !== undefined);
    const time = Date.now() - 90_000;

    await queue.sendMany(nodes.map((node) => spotNotice({ instanceId: node.instanceId, time })));
    for (const { name } of nodes) await untilSettled(world.api, name, { timeoutMs: 120_000 });

    const evictions = await controllerRequests(world, { subresource: 'eviction' });
    const refused = evictions.filter(
      ({ status, name }) => status === 429 && name?.startsWith('stormy-'),
    );
    const [begun = 0, ended = 0] = [refused[0]?.receivedAt, refused.at(-1)?.receivedAt];
    const renewals = await controllerRequests(world, {
      resource: 'leases',
      name: lease,
      verb: 'update',
    });
    const renewedAt = renewals.filter(({ status }) => status === 200).map((one) => one.answeredAt);
    const during = renewedAt.filter((at) => at >= begun && at <= ended);
    const gaps = during.slice(1).map((at, i) => at - (during[i] ?? 0));
    expect(refused.length).toBeGreaterThan(pods.length);
    expect(during.length).toBeGreaterThanOrEqual(3);
    // The time after which a leader stops writing.
    expect(Math.max(...gaps)).toBeLessThan(10_000);
    expect((await read(lease)).spec).toMatchObject({ holderIdentity: 'a', leaseTransitions: 0 });
    expect(leader.logged('leadership not renewed')).toEqual([]);
  });

  it('hand over when the leader is asked to stop', async () => {
    const { leader, standby, lease } = await start();
    expect(await leader.stop()).toEqual({ code: 0, signal: null });
    await standby.waitForLog('ready', { timeoutMs: 20_000 });
    expect(leader.logged('lease released')).toHaveLength(1);
    expect((await read(lease)).spec.holderIdentity).toBe('b');
    await interrupt('handed-over');
  });

  it('lose no drain to the death of the leader', async () => {
    const { leader, standby } = await start();
    const instance = instanceId();
    await world.kubelet.addNode({ name: 'orphaned', instanceId: instance });
    await createPods(world.api, [
      { name: 'orphaned-quick', node: 'orphaned', behaviour: exitsSoon },
      { name: 'orphaned-slow', node: 'orphaned', behaviour: { exitsAfterSeconds: 8 } },
    ]);
    await untilDeleted(queue, [await queue.send(spotNotice({ instanceId: instance }))]);
    await leader.kill();
    await standby.waitForLog('ready', { timeoutMs: 60_000 });
    expect(standby.logged('resumed')).toHaveLength(1);
    await untilSettled(world.api, 'orphaned');
    expect(await podsOn(world.api, 'orphaned')).toEqual([]);
  });

  it('give way to whoever the Lease names, and end with 1', async () => {
    const { leader, standby, lease } = await start();
    const seen = await read(lease);
    await world.api.patch(pathOf(lease), { spec: { holderIdentity: 'somebody' } });
    expect(await leader.exited).toEqual({ code: 1, signal: null });
    expect(leader.logged('superseded')).toMatchObject([{ holder: 'somebody' }]);
    expect(seen.spec.holderIdentity).toBe('a');
    // Which nobody renews.
    await standby.waitForLog('ready', { timeoutMs: 60_000 });
    await interrupt('taken-from-nobody');
  });

  it('stop writing while the API server is away, and go on when it is back', async () => {
    const { leader, lease } = await start();
    await world.cluster.apiServer.stop();
    try {
      const { fields } = await leader.waitForLog('leadership not renewed', { timeoutMs: 60_000 });
      expect(fields).toMatchObject({ identity: 'a' });
    } finally {
      await world.cluster.apiServer.start();
    }
    await eventually(async () => ['a', 'b'].includes((await read(lease)).spec.holderIdentity), {
      timeoutMs: 60_000,
    });
    await interrupt('after-the-outage');
  });
});
