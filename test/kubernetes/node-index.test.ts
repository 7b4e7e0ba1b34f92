import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { connect, type Connection } from '../../src/kubernetes/connection.ts';
import { createNodeIndex, projectNode, type StartedNodeIndex } from '../../src/kubernetes/nodes.ts';
import type { NodeView } from '../../src/plan/node.ts';
import { eventually } from '../harness/eventually.ts';
import { recordedReport } from './recorded-report.ts';
import { startScriptedServer, type Call, type ScriptedServer } from './scripted-server.ts';

type NodeFields = {
  name: string;
  version: number;
  uid?: string;
  instance?: string;
  pool?: string;
  boot?: string;
};

let server: ScriptedServer;
let connection: Connection;
let index: StartedNodeIndex;
let changes: string[];
let report: ReturnType<typeof recordedReport>;

beforeEach(async () => {
  server = await startScriptedServer();
  report = recordedReport();
  connection = connect({
    kubeconfigPath: await server.kubeconfig(),
    userAgent: 'x',
    clock: systemClock,
    report,
  });
  index = createNodeIndex({
    connection,
    selector: 'pool=spot',
    reservationLabel: 'reservation',
    clock: systemClock,
    report,
  });
  changes = [];
  index.subscribe((before, after) => changes.push(`${brief(before)} → ${brief(after)}`));
});

afterEach(async () => {
  await index.close();
  await connection.close();
  await server.stop();
});

function brief(node: NodeView | undefined): string {
  return node === undefined ? 'none' : `${node.name}/${node.uid}@${node.resourceVersion}`;
}

function object({
  name,
  version,
  uid = `uid-${name}`,
  instance = `i-${'0'.repeat(16)}a`,
  pool,
  boot,
}: NodeFields) {
  return {
    metadata: {
      name,
      uid,
      resourceVersion: String(version),
      ...(pool !== undefined && { labels: { pool } }),
    },
    spec: { providerID: `aws:///eu-central-1a/${instance}` },
    ...(boot !== undefined && { status: { nodeInfo: { bootID: boot } } }),
  };
}

const view = (fields: NodeFields): NodeView => {
  const node = projectNode(object(fields), () => false, 'reservation');
  if (!node) throw new Error('no node');
  return node;
};

async function answerList(version: number, ...nodes: readonly NodeFields[]): Promise<void> {
  const call = await server.take();
  expect(call.query.has('watch')).toBe(false);
  call.json(200, { metadata: { resourceVersion: String(version) }, items: nodes.map(object) });
}

/** Index with these nodes as of that version, and its watch. */
async function filled(version: number, ...nodes: readonly NodeFields[]): Promise<Call> {
  const started = index.start();
  await answerList(version, ...nodes);
  await started;
  const watch = await server.take();
  watch.open();
  changes.length = 0;
  return watch;
}

function tell(watch: Call, type: string, fields: NodeFields): void {
  watch.events({ type, object: object(fields) });
}

/** Everything sent before has been taken when this one has. */
async function settle(watch: Call, version: number): Promise<void> {
  tell(watch, 'ADDED', { name: 'last', version, instance: 'i-ff' });
  await eventually(() => index.get('last') !== undefined);
  changes = changes.filter((change) => !change.includes('last/'));
}

describe('the node index', () => {
  test('holds nothing until the list is complete, then all of it', async () => {
    const started = index.start();
    const first = await server.take();
    first.json(200, {
      metadata: { resourceVersion: '10', continue: 'more' },
      items: [object({ name: 'a', version: 1 })],
    });
    const second = await server.take();
    expect([...index.all()]).toEqual([]);
    expect(index.lastHeardAt()).toBe(0);
    second.json(200, {
      metadata: { resourceVersion: '10' },
      items: [object({ name: 'b', version: 2, pool: 'spot' })],
    });
    await started;
    expect([...index.all()].map(({ name, selected }) => [name, selected])).toEqual([
      ['a', false],
      ['b', true],
    ]);
    expect(index.lastHeardAt()).toBeGreaterThan(0);
  });

  test('follows additions, changes and deletions, and tells each with before and after', async () => {
    const watch = await filled(10, { name: 'a', version: 5 });
    tell(watch, 'MODIFIED', { name: 'a', version: 11 });
    tell(watch, 'ADDED', { name: 'b', version: 12 });
    tell(watch, 'DELETED', { name: 'a', version: 13 });
    await settle(watch, 14);
    expect(changes).toEqual(['a/uid-a@5 → a/uid-a@11', 'none → b/uid-b@12', 'a/uid-a@11 → none']);
    expect(index.get('a')).toBeUndefined();
  });

  test('finds nodes by instance: none, one, several', async () => {
    const watch = await filled(
      10,
      { name: 'a', version: 1, instance: 'i-1' },
      { name: 'b', version: 2, instance: 'i-2' },
    );
    expect(index.byInstance('i-1').map(({ name }) => name)).toEqual(['a']);
    expect(index.byInstance('i-3')).toEqual([]);
    tell(watch, 'ADDED', { name: 'c', version: 11, instance: 'i-1' });
    await settle(watch, 12);
    expect(index.byInstance('i-1').map(({ name }) => name)).toEqual(['a', 'c']);
    tell(watch, 'DELETED', { name: 'a', version: 13, instance: 'i-1' });
    tell(watch, 'MODIFIED', { name: 'b', version: 14, instance: 'i-4' });
    await eventually(() => index.byInstance('i-4').length === 1);
    expect(index.byInstance('i-1').map(({ name }) => name)).toEqual(['c']);
    expect(index.byInstance('i-2')).toEqual([]);
  });

  test('after a gap tells what has gone before what has come, so that no instance seems to be two', async () => {
    const watch = await filled(
      10,
      { name: 'a', version: 1, instance: 'i-1' },
      { name: 'b', version: 2, instance: 'i-2' },
    );
    const claims: number[] = [];
    index.subscribe(() => claims.push(index.byInstance('i-1').length));
    watch.events({ type: 'ERROR', object: { code: 410 } });
    await answerList(
      20,
      { name: 'c', version: 15, instance: 'i-1' },
      { name: 'b', version: 2, instance: 'i-2' },
    );
    await server.take();
    expect(changes).toEqual(['a/uid-a@1 → none', 'none → c/uid-c@15']);
    expect(claims).toEqual([0, 1]);
  });

  test('knows when another boot came, but not of one that a list has found', async () => {
    const startedAt = Date.now();
    const watch = await filled(10, { name: 'a', version: 1, boot: 'first' });
    expect(index.get('a')?.bootSeenAt).toBeUndefined();
    tell(watch, 'MODIFIED', { name: 'a', version: 11, boot: 'second' });
    tell(watch, 'MODIFIED', { name: 'a', version: 12, boot: 'second', pool: 'spot' });
    await settle(watch, 13);
    const { bootSeenAt } = index.get('a') ?? {};
    expect(bootSeenAt).toBeGreaterThanOrEqual(startedAt);
    expect(bootSeenAt).toBeLessThanOrEqual(Date.now());
    watch.events({ type: 'ERROR', object: { code: 410 } });
    await answerList(20, { name: 'a', version: 15, boot: 'third' });
    await server.take();
    expect(index.get('a')).toMatchObject({ bootId: 'third', bootSeenAt: undefined });
  });

  test('takes a node of the same name with another uid for another node', async () => {
    const watch = await filled(10, { name: 'a', version: 1, uid: 'old' });
    watch.events({ type: 'ERROR', object: { code: 410 } });
    await answerList(20, { name: 'a', version: 15, uid: 'new' });
    const next = await server.take();
    next.open();
    tell(next, 'DELETED', { name: 'a', version: 21, uid: 'old' });
    await settle(next, 22);
    expect(changes).toEqual(['a/old@1 → none', 'none → a/new@15']);
    expect(index.get('a')?.uid).toBe('new');
  });

  test('a listener that throws does not keep the change from the others', async () => {
    index.subscribe(() => {
      throw new Error('broken');
    });
    const seen: string[] = [];
    index.subscribe((_, after) => seen.push(brief(after)));
    const watch = await filled(10);
    tell(watch, 'ADDED', { name: 'a', version: 11 });
    await settle(watch, 12);
    expect(seen).toEqual(['a/uid-a@11', 'last/uid-last@12']);
    expect(report.said).toContainEqual([
      'error',
      'listener failed',
      { node: 'a', error: new Error('broken') },
    ]);
  });

  test('an unsubscribed listener hears nothing more', async () => {
    const seen: string[] = [];
    const unsubscribe = index.subscribe((_, after) => seen.push(brief(after)));
    const watch = await filled(10);
    unsubscribe();
    tell(watch, 'ADDED', { name: 'a', version: 11 });
    await settle(watch, 12);
    expect(seen).toEqual([]);
  });

  test('closed before its first list, it ends waiting', async () => {
    const started = index.start();
    await server.take();
    await index.close();
    await started;
    expect([...index.all()]).toEqual([]);
  });
});

describe('what a write has taught', () => {
  test('is known at once, and the watch’s word of it is no news', async () => {
    const watch = await filled(10, { name: 'a', version: 5 });
    index.learn(view({ name: 'a', version: 11 }));
    expect(changes).toEqual(['a/uid-a@5 → a/uid-a@11']);
    tell(watch, 'MODIFIED', { name: 'a', version: 11 });
    await settle(watch, 12);
    expect(changes).toEqual(['a/uid-a@5 → a/uid-a@11']);
  });

  test('is not undone by older words of the watch', async () => {
    const watch = await filled(10, { name: 'a', version: 5 });
    index.learn(view({ name: 'a', version: 12 }));
    tell(watch, 'MODIFIED', { name: 'a', version: 11 });
    await settle(watch, 13);
    expect(index.get('a')?.resourceVersion).toBe('12');
  });

  test('is nothing if the watch is further already', async () => {
    await filled(10, { name: 'a', version: 8 });
    index.learn(view({ name: 'a', version: 7 }));
    expect(changes).toEqual([]);
    expect(index.get('a')?.resourceVersion).toBe('8');
  });

  test('does not bring back a node that was deleted since', async () => {
    const watch = await filled(10, { name: 'a', version: 5 });
    tell(watch, 'DELETED', { name: 'a', version: 12 });
    await eventually(() => index.get('a') === undefined);
    index.learn(view({ name: 'a', version: 11 }));
    expect(index.get('a')).toBeUndefined();
  });

  test('of a node that the watch has not shown yet is kept until it shows its end', async () => {
    const watch = await filled(10);
    index.learn(view({ name: 'a', version: 12 }));
    tell(watch, 'ADDED', { name: 'a', version: 11 });
    tell(watch, 'DELETED', { name: 'a', version: 13 });
    await settle(watch, 14);
    expect(changes).toEqual(['none → a/uid-a@12', 'a/uid-a@12 → none']);
  });

  test('survives a list that was made before it', async () => {
    const watch = await filled(10, { name: 'a', version: 5 });
    watch.events({ type: 'ERROR', object: { code: 410 } });
    const list = await server.take();
    index.learn(view({ name: 'a', version: 25 }));
    list.json(200, {
      metadata: { resourceVersion: '20' },
      items: [object({ name: 'a', version: 15 })],
    });
    await server.take();
    expect(changes).toEqual(['a/uid-a@5 → a/uid-a@25']);
  });

  test('of a node made after the list stays', async () => {
    const watch = await filled(10, { name: 'a', version: 5, uid: 'old' });
    watch.events({ type: 'ERROR', object: { code: 410 } });
    const list = await server.take();
    index.learn(view({ name: 'a', version: 25, uid: 'new' }));
    list.json(200, { metadata: { resourceVersion: '20' }, items: [] });
    await server.take();
    expect(changes).toEqual(['a/old@5 → none', 'none → a/new@25']);
  });

  test('about a new node of an old name ends the old one first', async () => {
    const watch = await filled(10, { name: 'a', version: 5, uid: 'old' });
    index.learn(view({ name: 'a', version: 20, uid: 'new' }));
    tell(watch, 'DELETED', { name: 'a', version: 18, uid: 'old' });
    tell(watch, 'ADDED', { name: 'a', version: 19, uid: 'new' });
    await settle(watch, 21);
    expect(changes).toEqual(['a/old@5 → none', 'none → a/new@20']);
  });

  test('is left to the watch where versions are no numbers', async () => {
    await filled(10, { name: 'a', version: 5 });
    index.learn({ ...view({ name: 'a', version: 11 }), resourceVersion: 'opaque' });
    expect(changes).toEqual([]);
  });
});

describe('a refresh', () => {
  test('resolves when the index holds what is', async () => {
    await filled(10, { name: 'a', version: 5 });
    const before = index.lastHeardAt();
    const refreshed = index.refresh(new AbortController().signal);
    await answerList(30, { name: 'b', version: 29 });
    await refreshed;
    expect(changes).toEqual(['a/uid-a@5 → none', 'none → b/uid-b@29']);
    expect(index.lastHeardAt()).toBeGreaterThanOrEqual(before);
  });
});
