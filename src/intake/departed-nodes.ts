import type { Clock } from '../clock.ts';
import { isOfMachine, readJournal, type Journal } from '../plan/journal.ts';
import { sightOf } from '../plan/marks.ts';
import type { NodeView } from '../plan/node.ts';
import type { NodeIndex } from './node-store.ts';

export type Departed = Readonly<{
  /** When it went (epoch ms). */
  at: number;
  nodeName: string;
  manager: NodeView['manager'];
  /** What it bore; undefined: nothing of ours, or it is on a Node again. */
  journal: Journal | undefined;
}>;

const REMEMBERED_MS = 3_600_000;
const MAX_REMEMBERED = 20_000;

/**
 * Nodes deleted within the last hour, by instance: what is left to do for their machines. It lives
 * as long as the index, for Nodes go while nobody leads, too.
 */
export class DepartedNodes {
  /** Oldest first. */
  private readonly byInstance = new Map<string, Departed>();
  private readonly nodes: Pick<NodeIndex, 'byInstance' | 'subscribe'>;
  private readonly clock: Clock;

  constructor(nodes: Pick<NodeIndex, 'byInstance' | 'subscribe'>, clock: Clock) {
    this.nodes = nodes;
    this.clock = clock;
    nodes.subscribe((before, after) => {
      if (before !== undefined && after === undefined) this.note(before, journalOn(before));
    });
  }

  /** The latest word of a Node that has gone; `journal` may be known better than from the Node. */
  note(node: NodeView, journal: Journal | undefined): void {
    const { name: nodeName, instanceId, manager } = node;
    if (instanceId === undefined) return;
    // While it stood, news of it was not ours; now that it is gone, its hooks are not either.
    if (!node.selected && journal === undefined) return;
    const at = this.clock.now();
    // It may have registered anew, and gone again before its journal was back on it.
    const kept = journal ?? this.find(instanceId)?.journal;
    this.byInstance.delete(instanceId);
    this.byInstance.set(instanceId, { at, nodeName, manager, journal: kept });
    for (const [oldest, departed] of this.byInstance) {
      if (this.isRecent(departed) && this.byInstance.size <= MAX_REMEMBERED) break;
      this.byInstance.delete(oldest);
    }
  }

  /** The Node that this instance had within the last hour. */
  find(instanceId: string): Departed | undefined {
    const departed = this.byInstance.get(instanceId);
    return departed !== undefined && this.isRecent(departed) ? departed : undefined;
  }

  /** Its journal is on a Node again. */
  restored(instanceId: string): void {
    const departed = this.byInstance.get(instanceId);
    if (departed !== undefined) {
      this.byInstance.set(instanceId, { ...departed, journal: undefined });
    }
  }

  /** Those whose instances have no Node now, and what they bore. */
  journals(): readonly Readonly<{ at: number; nodeName: string; journal: Journal }>[] {
    return [...this.byInstance].flatMap(([instanceId, departed]) => {
      const { at, nodeName, journal } = departed;
      if (journal === undefined || !this.isRecent(departed)) return [];
      return this.nodes.byInstance(instanceId).length > 0 ? [] : [{ at, nodeName, journal }];
    });
  }

  private isRecent({ at }: Departed): boolean {
    return this.clock.now() - at < REMEMBERED_MS;
  }
}

function journalOn(node: NodeView): Journal | undefined {
  const sight = sightOf(node);
  const read = readJournal(node.journal);
  if (read.outcome !== 'read' || sight === undefined) return undefined;
  return isOfMachine(read.journal, sight) ? read.journal : undefined;
}
