import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { alertsFile, documentedQueries, readAlerts } from '../harness/alerts.ts';
import { eventually } from '../harness/eventually.ts';
import { goEnvironment, goSkipReason } from '../harness/go.ts';
import { untilSettled } from '../harness/marks.ts';
import { rebalance, spotNotice, terminateHook } from '../harness/messages.ts';
import { addNodeWithPod, beginHook } from '../harness/nodes.ts';
import { isDeleted } from '../harness/queued.ts';
import { runController } from '../harness/running.ts';
import { startWorld, type World } from '../harness/world.ts';
import { instanceId } from '../stand-ins/kubelet.ts';
import { ALERT_CASES } from './alert-cases.ts';

const needs = goSkipReason("Prometheus' linter and parser");

const run = promisify(execFile);

/** Of the parts of Prometheus, once. */
const COMPILES_WITHIN_MS = 1_200_000;
const NODES = 20;

describe.skipIf(needs)('Prometheus', { meta: { needs } }, () => {
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'prometheus-'));
    await run('go', ['test', '-c', '-o', join(folder, 'check'), '.'], {
      cwd: import.meta.dirname,
      env: goEnvironment,
    });
  }, COMPILES_WITHIN_MS);

  afterAll(async () => {
    await rm(folder, { recursive: true });
  });

  /** What it has against the file, a line each. */
  async function judge(
    test: 'Metrics' | 'Rules' | 'Queries' | 'Evaluation',
    input: string,
  ): Promise<readonly string[]> {
    const args = [`-test.run=^Test${test}$`, '-test.v'];
    const { stdout } = await run(join(folder, 'check'), args, {
      env: { ...goEnvironment, INPUT: input },
    }).catch((error: unknown) => {
      if (error instanceof Error && 'stdout' in error) return { stdout: String(error.stdout) };
      throw error;
    });
    const lines = stdout.split('\n').map((line) => line.trim());
    if (lines.includes('PASS')) return [];
    return lines.filter((line) => line !== '' && !line.startsWith('==='));
  }

  async function judgeText(test: Parameters<typeof judge>[0], text: string) {
    const path = join(folder, `${test}.txt`);
    await writeFile(path, text);
    return judge(test, path);
  }

  async function storm(world: World): Promise<string> {
    const nodes = await Promise.all(
      Array.from({ length: NODES }, (_, i) => addNodeWithPod(world, `node-${i}`)),
    );
    const { controller, queue } = await runController(world, { EVENT_BUS_NAME: 'outcomes' });
    const { fields } = await controller.waitForLog('http listening');
    await queue.send('rubbish');
    const unknown = await queue.send(spotNotice({ instanceId: instanceId() }));
    await Promise.all(
      nodes.map(({ instance }, i) => {
        if (i % 3 === 0) return queue.send(rebalance({ instanceId: instance }));
        if (i % 3 === 1) return queue.send(spotNotice({ instanceId: instance }));
        return queue.send(terminateHook(beginHook(world, 'group', instance)));
      }),
    );
    for (const { node } of nodes) await untilSettled(world.api, node, { timeoutMs: 90_000 });
    expect(isDeleted(queue, unknown)).toBe(false);
    return eventually(async () => {
      const answer = await fetch(`http://127.0.0.1:${String(fields?.['port'])}/metrics`);
      const text = await answer.text();
      return text.includes('PutEvents') && text;
    });
  }

  it('has nothing against the metrics after a storm', async () => {
    await using world = await startWorld({ backend: 'stand-in' });
    const text = await storm(world);
    expect(text).toContain('node_termination_drains_total{kind="rebalance",outcome="drained"} ');
    expect(await judgeText('Metrics', text)).toEqual([]);
    // It would tell.
    const wrong = `${text}\n# TYPE nodeDrains counter\nnodeDrains 1\n`;
    expect((await judgeText('Metrics', wrong)).join('\n')).toContain('counter metrics should have');
  });

  it('understands every query of the documentation', async () => {
    expect(await judgeText('Queries', JSON.stringify(await documentedQueries()))).toEqual([]);
    expect(await judgeText('Queries', JSON.stringify(['rate(up)']))).not.toEqual([]);
  });

  it('understands every alert', async () => {
    expect(await judge('Rules', alertsFile)).toEqual([]);
    expect(
      await judgeText('Rules', 'groups: [{ name: a, rules: [{ alert: B, expr: "(" }] }]'),
    ).not.toEqual([]);
  });

  it('alerts when it should, and not otherwise', async () => {
    const alerts = await readAlerts();
    const scripts = ALERT_CASES.map(({ alert, series, atMinute, fires }) => {
      const expr = alerts
        .find((one) => one.alert === alert)
        ?.expr.trim()
        .replaceAll(/\s+/g, ' ');
      return [
        'clear',
        'load 1m',
        ...series.map((one) => `  ${one}`),
        '',
        `eval instant at ${atMinute}m count(${expr})`,
        ...(fires === 0 ? [] : [`  {} ${fires}`]),
        '',
      ].join('\n');
    });
    expect(await judgeText('Evaluation', scripts.join('\n'))).toEqual([]);
    // Each with a case in which it fires, and one in which it does not.
    for (const { alert } of alerts) {
      const cases = ALERT_CASES.filter((one) => one.alert === alert);
      expect(new Set(cases.map(({ fires }) => fires > 0)).size).toBe(2);
    }
  });
});
