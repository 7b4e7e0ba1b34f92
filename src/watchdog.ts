/**
 * The parts of the flow that are watched for standing still, and for how long each may. The limits
 * are above all that an outside can bring about, be it slow, away or throttling: every request ends
 * by itself before. So what exceeds one is a fault of this process, and a restart mends it.
 */
export const STAGES = {
  /** From one turn of a receive to the next; the longest poll is given up after 25 s. */
  receive: { limitMs: 60_000 },
  /** One question that a message's judgement depends on; the record has a mark of its own. */
  judge: { limitMs: 900_000 },
  /** Deletions and changes of visibility: while some wait, a batch of them ends. */
  acknowledge: { limitMs: 60_000 },
  /** One attempt to write a Node: its turn, the request, a read after a conflict, the pause. */
  record: { limitMs: 900_000 },
  /** While the API server is looked for: from one look to the next. */
  'API server probe': { limitMs: 60_000 },
  /** One request of a drain. While it sleeps: until the moment it is to look again, and this longer. */
  drain: { limitMs: 900_000 },
  /** One eviction, and while some wait: from the end of one to the next. */
  evict: { limitMs: 900_000 },
  /** While requests wait or are under way: from the end of one to the next. */
  'API server requests': { limitMs: 60_000 },
  'Auto Scaling requests': { limitMs: 60_000 },
  /** From one page of a list, or word of a watch, to the next; a silent watch is given up before. */
  watch: { limitMs: 300_000 },
  /** From one look at the Lease to the next. */
  'leader election': { limitMs: 60_000 },
} as const satisfies Readonly<Record<string, Readonly<{ limitMs: number }>>>;

export type Stage = keyof typeof STAGES;

/** Something under way in a stage: it has to move, or end, within the stage's limit. */
export interface WatchedStep {
  /** The limit counts anew. `sleepMs`: that much later, for it is to wait so long. */
  move(sleepMs?: number): void;
  /** Nothing is expected of it any more. */
  end(): void;
}

/** Where stages leave their progress marks. */
export interface Watchdog {
  /** `what` tells it from others of its stage in the log: a node, say. */
  begin(stage: Stage, what: string): WatchedStep;
}

/** For whoever is not watched: commands that end by themselves. */
export const UNWATCHED: Watchdog = {
  begin: () => ({ move: () => undefined, end: () => undefined }),
};

/** Work that is one step. */
export async function watched<T>(
  watchdog: Watchdog,
  stage: Stage,
  what: string,
  work: () => Promise<T>,
): Promise<T> {
  const step = watchdog.begin(stage, what);
  try {
    return await work();
  } finally {
    step.end();
  }
}

/**
 * For what waits for each other's turn: while anything is inside, something has to leave within the
 * limit. `enter` returns what leaves.
 */
export class Turns {
  private inside = 0;
  private step: WatchedStep | undefined;
  private readonly begin: () => WatchedStep;

  constructor(watchdog: Watchdog, stage: Stage, what: string) {
    this.begin = () => watchdog.begin(stage, what);
  }

  /** What is inside has come on, though nothing has left. */
  move(): void {
    this.step?.move();
  }

  enter(): () => void {
    this.inside += 1;
    this.step ??= this.begin();
    let isInside = true;
    return () => {
      if (!isInside) return;
      isInside = false;
      this.inside -= 1;
      if (this.inside > 0) {
        this.step?.move();
        return;
      }
      this.step?.end();
      this.step = undefined;
    };
  }
}
