import type { CapacityBlockExpiry } from '../events/event.ts';
import type { Interruption } from '../plan/interruption.ts';
import type { Journal } from '../plan/journal.ts';

const MAX_KNOWN = 1000;

type Block = Interruption & Readonly<{ deadlineAt: number }>;

/**
 * The capacity blocks whose end was told, by reservation, as the journals of their nodes have it: an
 * event names no instance, and a node that joins after it is interrupted by the same.
 */
export class CapacityBlocks {
  private readonly known = new Map<string, Block>();

  /** True: this journal says so of a block of which it was not known. */
  learn(reservationId: string, journal: Journal, now: number): boolean {
    const told = journal.live.find(isBlock);
    if (told === undefined || now >= told.deadlineAt) return false;
    const known = this.known.get(reservationId);
    if (known !== undefined && known.deadlineAt >= told.deadlineAt) return false;
    for (const [id, { deadlineAt }] of this.known) {
      if (now >= deadlineAt || this.known.size >= MAX_KNOWN) this.known.delete(id);
    }
    this.known.set(reservationId, told);
    return true;
  }

  /** The news for a node of the reservation whose journal does not tell of it yet. */
  newsFor(
    reservationId: string,
    journal: Journal | undefined,
    now: number,
  ): CapacityBlockExpiry | undefined {
    const block = this.known.get(reservationId);
    if (block === undefined || now >= block.deadlineAt) return undefined;
    const entries = journal === undefined ? [] : [...journal.live, ...journal.ended];
    if (entries.some(({ id, time }) => id === block.id && time >= block.time)) return undefined;
    return {
      kind: 'capacity-block-expiry',
      eventId: undefined,
      account: undefined,
      time: block.time,
      reservationId,
      endsAt: undefined,
    };
  }
}

function isBlock(entry: Interruption): entry is Block {
  return entry.row === 'capacity-block' && entry.deadlineAt !== undefined;
}
