import type { NodeView } from './node.ts';

/** What a Node counts for among the targets of load balancers. */
type Share = Readonly<{ zone: string; isTarget: boolean }>;

/**
 * How many Ready nodes load balancers may still send to. A withheld label is better than a load
 * balancer without targets: a paced drain leaves half of its zone's Ready nodes, an emergency one of
 * the cluster's. Holds one small entry a Ready node.
 */
export class LoadBalancerFloor {
  private readonly shares = new Map<string, Share>();
  private readonly readyInZone = new Map<string, number>();
  private readonly targetsInZone = new Map<string, number>();
  private targets = 0;
  /** Nodes whose label is on its way. */
  private readonly leaving = new Set<string>();

  /** A Node as it is now; undefined: it is gone. Returns whether there is more room than before. */
  learn(name: string, node: NodeView | undefined): boolean {
    const before = this.targets;
    const known = this.shares.get(name);
    if (known !== undefined) this.count(known, -1);
    this.shares.delete(name);
    if (node?.ready === true) {
      const isTarget = node.excludeFromLoadBalancers !== 'true' && !this.leaving.has(name);
      const share = { zone: node.zone ?? '', isTarget };
      this.shares.set(name, share);
      this.count(share, 1);
    }
    return this.targets > before;
  }

  /** Whether the label may be set on this node now. */
  allows(name: string, emergency: boolean): boolean {
    const share = this.shares.get(name);
    // What is not among the targets is not missed.
    if (share === undefined || !share.isTarget) return true;
    const left = (this.targetsInZone.get(share.zone) ?? 0) - 1;
    const ready = this.readyInZone.get(share.zone) ?? 0;
    return emergency ? this.targets > 1 : left * 2 >= ready;
  }

  /** The label is on its way: the node counts as having it, until `end`. */
  begin(name: string): void {
    const share = this.shares.get(name);
    this.leaving.add(name);
    if (share?.isTarget !== true) return;
    this.count(share, -1);
    const leaving = { ...share, isTarget: false };
    this.shares.set(name, leaving);
    this.count(leaving, 1);
  }

  /** The write has ended, one way or the other: the Node says what it has come to. */
  end(name: string, node: NodeView | undefined): void {
    if (this.leaving.delete(name)) this.learn(name, node);
  }

  private count({ zone, isTarget }: Share, by: 1 | -1): void {
    add(this.readyInZone, zone, by);
    if (!isTarget) return;
    this.targets += by;
    add(this.targetsInZone, zone, by);
  }
}

/** A zone without nodes is forgotten: kubelets choose the names. */
function add(counts: Map<string, number>, zone: string, by: 1 | -1): void {
  const count = (counts.get(zone) ?? 0) + by;
  if (count === 0) counts.delete(zone);
  else counts.set(zone, count);
}
