import type { NodeIndex, NodeStore } from '../../../src/intake/node-store.ts';
import { withBootSeen, type NodeView } from '../../../src/plan/node.ts';
import type { FakeCluster } from './cluster.ts';
import { Gate } from './gate.ts';
import type { Line } from './line.ts';

type Listener = Parameters<NodeIndex['subscribe']>[0];
type Answer<Name extends keyof NodeStore> = Awaited<ReturnType<NodeStore[Name]>>;

/** One process's copy of all Nodes: as late as its watch. */
export class FakeNodeIndex implements NodeIndex {
  readonly refreshes: Gate<[], readonly NodeView[]>;
  private readonly byName = new Map<string, NodeView>();
  private readonly listeners = new Set<Listener>();
  private heardAt: number;
  private isSilent = false;
  private readonly untold: (() => void)[] = [];
  private readonly line: Line;
  private readonly cluster: FakeCluster;

  /** Filled at once, as it is when the flow begins. */
  constructor(line: Line, cluster: FakeCluster) {
    this.line = line;
    this.cluster = cluster;
    this.refreshes = new Gate(line);
    this.heardAt = line.now();
    for (const node of cluster.allNodes()) this.byName.set(node.name, node);
    cluster.onNodeChange((before, after) => {
      const tell = (): void => this.line.hear(() => this.take(before, after));
      if (this.isSilent) this.untold.push(tell);
      else tell();
    });
  }

  get(name: string): NodeView | undefined {
    return this.byName.get(name);
  }

  byInstance(instanceId: string): readonly NodeView[] {
    return [...this.byName.values()].filter((node) => node.instanceId === instanceId);
  }

  all(): Iterable<NodeView> {
    return this.byName.values();
  }

  learn(node: NodeView): void {
    const held = this.byName.get(node.name);
    if (held === undefined || Number(node.resourceVersion) <= Number(held.resourceVersion)) return;
    this.put(node, this.line.now());
  }

  lastHeardAt(): number {
    return this.heardAt;
  }

  async refresh(signal: AbortSignal): Promise<void> {
    const startedAt = this.line.now();
    const nodes = await this.refreshes.pass([], () => this.cluster.allNodes(), signal);
    this.heardAt = startedAt;
    for (const held of this.byName.values()) {
      if (nodes.every(({ name }) => name !== held.name)) this.remove(held);
    }
    for (const node of nodes) this.put(node, undefined);
  }

  subscribe(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** The watch says that nothing has happened. */
  bookmark(): void {
    this.heardAt = this.line.now();
  }

  /** The watch falls silent, until the returned function is called: then it tells all it has missed. */
  silence(): () => void {
    this.isSilent = true;
    return () => {
      this.isSilent = false;
      for (const tell of this.untold.splice(0)) tell();
    };
  }

  private take(before: NodeView | undefined, after: NodeView | undefined): void {
    this.heardAt = this.line.now();
    if (after !== undefined) this.put(after, this.heardAt);
    else if (before !== undefined) this.remove(before);
  }

  private put(node: NodeView, changedAt: number | undefined): void {
    let before = this.byName.get(node.name);
    if (before !== undefined && Number(node.resourceVersion) <= Number(before.resourceVersion))
      return;
    // Another object of the same name: the one before has gone.
    if (before !== undefined && before.uid !== node.uid) {
      this.remove(before);
      before = undefined;
    }
    const after = withBootSeen(before, node, changedAt);
    this.byName.set(node.name, after);
    for (const listener of this.listeners) listener(before, after);
  }

  private remove(node: NodeView): void {
    if (this.byName.get(node.name)?.uid !== node.uid) return;
    const before = this.byName.get(node.name);
    this.byName.delete(node.name);
    for (const listener of this.listeners) listener(before, undefined);
  }
}

/** One process's requests for single Nodes. */
export class FakeNodeStore implements NodeStore {
  readonly writes: Gate<
    [name: string, version: string, patch: Parameters<NodeStore['write']>[2]],
    Answer<'write'>
  >;
  readonly reads: Gate<[name: string], Answer<'read'>>;
  readonly renewals: Gate<[name: string], Answer<'kubeletRenewed'>>;
  readonly pings: Gate<[], boolean>;
  private readonly cluster: FakeCluster;

  constructor(line: Line, cluster: FakeCluster) {
    this.writes = new Gate(line);
    this.reads = new Gate(line);
    this.renewals = new Gate(line);
    this.pings = new Gate(line);
    this.cluster = cluster;
  }

  write(...[name, version, patch, signal]: Parameters<NodeStore['write']>) {
    return this.writes.pass(
      [name, version, patch],
      () => this.cluster.patchNode(name, version, patch),
      signal,
    );
  }

  read(...[name, signal]: Parameters<NodeStore['read']>) {
    return this.reads.pass(
      [name],
      () => {
        const node = this.cluster.findNode(name);
        return node === undefined ? { outcome: 'gone' } : { outcome: 'found', node };
      },
      signal,
    );
  }

  kubeletRenewed(...[name, signal]: Parameters<NodeStore['kubeletRenewed']>) {
    return this.renewals.pass(
      [name],
      () => {
        const at = this.cluster.leaseRenewedAt(name);
        return at === undefined
          ? { outcome: 'never' }
          : { outcome: 'at', at: Math.floor(at / 1000) * 1000 };
      },
      signal,
    );
  }

  ping(...[signal]: Parameters<NodeStore['ping']>) {
    return this.pings.pass([], () => true, signal);
  }

  /** The API server answers nobody, until the returned function is called. */
  goAway(): () => void {
    const unreachable = { outcome: 'unreachable', message: 'connection refused' } as const;
    this.writes.answerBy(() => unreachable);
    this.reads.answerBy(() => unreachable);
    this.renewals.answerBy(() => ({ outcome: 'unknown' }));
    this.pings.answerBy(() => false);
    return () => {
      this.writes.answerBy(undefined);
      this.reads.answerBy(undefined);
      this.renewals.answerBy(undefined);
      this.pings.answerBy(undefined);
    };
  }
}
