import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { skipReason } from '../control-plane/binaries.ts';
import {
  componentsFor,
  defaultControllers,
  startControlPlane,
  type ControlPlaneOptions,
} from '../control-plane/control-plane.ts';
import { startGuardedProcess, type GuardedProcess } from '../control-plane/guarded-process.ts';
import { eventually } from '../harness/eventually.ts';

type Played = GuardedProcess & { readonly lines: readonly string[]; text(): string };

/** A command of the sandbox, as npm starts it. */
async function play(file: string, ...args: readonly string[]): Promise<Played> {
  const lines: string[] = [];
  const started = await startGuardedProcess({
    command: process.execPath,
    args: [join(import.meta.dirname, file), ...args],
    env: { PATH: process.env['PATH'] },
    onLine: (line) => lines.push(line),
  });
  onTestFinished(async () => {
    await started.kill();
  });
  return { ...started, lines, text: () => lines.join('\n') };
}

const ended = { code: 0, signal: null };
const patience = { timeoutMs: 120_000 };

describe('the sandbox', () => {
  it('empties what is interrupted, says so in a table, and leaves nothing behind', async () => {
    const sandbox = await play('main.ts', '--once', '--nodes', '6', '--seed', '3');

    expect(await sandbox.exited, sandbox.text()).toEqual(ended);
    const text = sandbox.text();
    const rows = sandbox.lines.slice(sandbox.lines.findIndex((line) => line.startsWith('NODE ')));
    expect(rows).toHaveLength(8);
    expect(rows[2]).toMatch(/^node-[abc]\d +spot notice +\d to node-.* \d+ s +drained$/);
    expect(rows[3]).toMatch(
      /^node-[abc]\d +terminate hook +\d to node-.* completed \(CONTINUE\) +drained$/,
    );
    expect(rows[4]).toMatch(
      /^node-[abc]\d +rebalance, spot notice +\d to node-.* \d+ s +drained, drained$/,
    );
    expect(rows[6]).toContain('Every node was emptied in time');
    // What the story promises shows in what the controller tells.
    expect(text).toMatch(
      /EvictionRefused of pod checkout-\S+ says: Eviction refused\s+\(budget\s+checkout\)/,
    );
    expect(text).toMatch(/pod grace shortened .*pod=encoder/);
    expect(text).toMatch(/In the chat: Recorded on node node-.*: spot interruption/);
    expect(text).toMatch(/In the chat: Node node-.* is empty, for spot interruption/);
    expect(text).toMatch(/ {2}\S+ INFO {2}stopped$/m);
    expect(text).not.toContain('\u001B');
    await expectNobodyListens(text);
  });

  it('stays, takes interruptions from another terminal, and ends on Ctrl-C', async () => {
    const sandbox = await play('main.ts', '--nodes', '6');
    const invitation = await eventually(
      () => /interrupt -- --port (\d+) (\S+)$/m.exec(sandbox.text()) ?? undefined,
      patience,
    );
    const [, port = '', node = ''] = invitation;

    const asked = await play('interrupt.ts', '--port', port, '--kind', 'hook', node);
    expect(await asked.exited, asked.text()).toEqual(ended);
    expect(asked.text()).toContain('EC2 Instance-terminate Lifecycle Action');
    await eventually(() => sandbox.text().includes(`> ${node} is empty.`), patience);

    const unknown = await play('interrupt.ts', '--port', port, 'nowhere');
    expect(await unknown.exited).toEqual({ code: 1, signal: null });
    expect(unknown.text()).toMatch(/^There is no node "nowhere"\. The nodes are .*node-/);

    sandbox.signal('SIGINT');
    expect(await sandbox.exited, sandbox.text()).toEqual(ended);
    expect(sandbox.text()).toMatch(/ INFO {2}stopped$/m);
    await expectNobodyListens(sandbox.text());
  });

  it('ends while it starts, too', async () => {
    const sandbox = await play('main.ts', '--once');
    await eventually(() => sandbox.text().includes('made-up nodes'));
    sandbox.signal('SIGTERM');
    expect(await sandbox.exited).toEqual({ code: 130, signal: null });
  });

  it.each([
    { file: 'main.ts', args: ['--nodes', 'many'], says: '--nodes is "many"' },
    { file: 'interrupt.ts', args: ['node-a1'], says: '--port' },
    { file: 'interrupt.ts', args: ['--port', '1', 'a', 'b'], says: 'one node' },
  ])('refuses $args', async ({ file, args, says }) => {
    const refused = await play(file, ...args);
    expect(await refused.exited).toEqual({ code: 2, signal: null });
    expect(refused.text()).toContain(says);
  });
});

const options: ControlPlaneOptions = {
  scheduler: true,
  controllerManager: [...defaultControllers, 'daemonset-controller', 'statefulset-controller'],
};
const needs = skipReason(componentsFor(options));

describe.skipIf(needs)('the sandbox on a real API server', { meta: { needs } }, () => {
  it('is a guest who leaves without a trace', async () => {
    await using cluster = await disposable(options);
    const { api, adminKubeconfig } = cluster;

    const sandbox = await play('main.ts', '--once', '--kubeconfig', adminKubeconfig);

    expect(await sandbox.exited, sandbox.text()).toEqual(ended);
    expect(sandbox.text()).toContain('Every node was emptied in time');
    expect(await api.list('/api/v1/nodes')).toEqual([]);
    expect(await api.list('/api/v1/pods')).toEqual([]);
    await eventually(async () => {
      const namespaces = await api.list('/api/v1/namespaces');
      return namespaces.every(({ metadata }) => !metadata.name.startsWith('sandbox'));
    }, patience);
  });
});

async function disposable(wanted: ControlPlaneOptions) {
  const cluster = await startControlPlane(wanted);
  return { ...cluster, [Symbol.asyncDispose]: cluster.stop };
}

/** At the ports that were told: those of the queue, the controller, and the door. */
async function expectNobodyListens(text: string): Promise<void> {
  const ports = [...text.matchAll(/127\.0\.0\.1:(\d+)|port[= ](\d+)/g)].map(
    ([, ofUrl, told]) => ofUrl ?? told,
  );
  expect(ports.length).toBeGreaterThan(1);
  for (const port of new Set(ports)) {
    await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow('fetch failed');
  }
}
