import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { findComponent, skipReason } from '../control-plane/binaries.ts';
import { eventually } from '../harness/eventually.ts';
import { untilSettled } from '../harness/marks.ts';
import { spotNotice, terminateHook } from '../harness/messages.ts';
import { addNode, addPod, beginHook } from '../harness/nodes.ts';
import { leastRights } from '../harness/rules.ts';
import { runController } from '../harness/running.ts';
import { sharedWorld } from '../harness/shared-world.ts';
import { budgetStatus, createBudget } from '../harness/workloads.ts';
import { worldSkipReason, type WorldOptions } from '../harness/world.ts';

const options: WorldOptions = { ...leastRights, backend: 'real' };
const needs = worldSkipReason(options) ?? skipReason(['kubectl']);

const run = promisify(execFile);

describe.skipIf(needs)('kubectl describe', { meta: { needs } }, () => {
  const world = sharedWorld(options);

  /** What it says under Events: one line each, whatever the spacing. */
  async function eventsOf(kind: 'node' | 'pod', name: string): Promise<readonly string[]> {
    const kubeconfig = ['--kubeconfig', world.cluster.adminKubeconfig];
    const { stdout } = await run(findComponent('kubectl') ?? '', [
      ...kubeconfig,
      'describe',
      kind,
      name,
    ]);
    const [, events = ''] = stdout.split('\nEvents:');
    return events
      .split('\n')
      .map((line) => line.trim().replaceAll(/ {2,}/g, '  '))
      .filter((line) => line.includes('node-termination-controller'));
  }

  async function untilTold(kind: 'node' | 'pod', name: string, ...reasons: readonly string[]) {
    return eventually(async () => {
      const lines = await eventsOf(kind, name);
      return (
        reasons.every((reason) => lines.some((line) => line.split('  ')[1] === reason)) && lines
      );
    });
  }

  it('tells of a node why it is drained, by when, and how it went', async () => {
    const { api } = world;
    const instance = await addNode(world, 'taken');
    await addPod(world, { name: 'web', node: 'taken', behaviour: { exitsAfterSeconds: 1 } });
    const action = beginHook(world, 'group', instance);
    const { queue } = await runController(world);
    const time = Math.floor(Date.now() / 1000) * 1000;
    const deadline = new Date(time + 120_000).toISOString().replace('.000', '');

    await queue.send(spotNotice({ instanceId: instance, time }));
    await untilSettled(api, 'taken');
    await queue.send(terminateHook(action));
    const lines = await untilTold('node', 'taken', 'Drained', 'LifecycleHookCompleted');

    const told = (reason: string) => lines.filter((line) => line.split('  ')[1] === reason);
    expect(told('Interrupted')[0]).toContain(
      `Spot interruption, instance ${instance}, deadline ${deadline}.`,
    );
    expect(told('Draining')[0]).toContain(
      `Evicting 1 pod because of a spot interruption, deadline ${deadline}.`,
    );
    expect(told('Drained')[0]).toMatch(
      /node-termination-controller {2}All pods are gone, \d+ s before the deadline: 1 evicted\.$/,
    );
    expect(told('LifecycleHookCompleted')[0]).toContain(
      'Told Auto Scaling to go on: hook drain of group group.',
    );
  });

  it('tells of a pod why it was evicted, or was not yet, and by when it must be gone', async () => {
    const { api } = world;
    const instance = await addNode(world, 'held-up');
    const behaviour = { neverEnds: true } as const;
    await addPod(world, { name: 'slow', node: 'held-up', graceSeconds: 60, behaviour });
    await addPod(world, {
      name: 'guarded',
      node: 'held-up',
      labels: { app: 'guarded' },
      behaviour,
    });
    await createBudget(api, { name: 'guard', matchLabels: { app: 'guarded' }, minAvailable: 1 });
    await eventually(async () => (await budgetStatus(api, 'guard'))?.currentHealthy === 1);
    const { queue } = await runController(world);
    const time = Math.floor(Date.now() / 1000) * 1000;
    const at = (seconds: number) =>
      new Date(time + seconds * 1000).toISOString().replace('.000', '');

    await queue.send(spotNotice({ instanceId: instance, time }));
    const [slow] = await untilTold('pod', 'slow', 'NodeInterrupted');
    // A second refusal makes it a series.
    const guarded = await eventually(async () =>
      (await eventsOf('pod', 'guarded')).find((line) => / \(x\d+ over /.test(line)),
    );

    const node = `Node held-up: spot interruption, deadline ${at(120)}.`;
    expect(slow).toMatch(/^Normal {2}NodeInterrupted {2}/);
    expect(slow).toContain(`Evicted with 60 s to end. ${node}`);
    expect(guarded).toMatch(/^Warning {2}EvictionRefused {2}/);
    expect(guarded).toContain(
      `Eviction refused (budget guard): tried again, and deleted from ${at(85)} on. ${node}`,
    );
  });
});
