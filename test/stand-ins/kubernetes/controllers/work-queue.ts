/** A controller: what a change calls for, and how one key of it is brought in order. */
export type Controller = {
  readonly name: string;
  /** Called for what exists at the start, and told of every change; enqueues keys. */
  start(enqueue: (key: string, afterMs?: number) => void): void;
  /** Brings one key in order. It must bear to be called when there is nothing to do. */
  sync(key: string): void;
};

/**
 * Runs a controller: each key at most once at a time, a moment after the change that called for it,
 * as controllers that hear of changes by a watch are always a moment late.
 */
export class WorkQueue {
  private readonly controller: Controller;
  private readonly delayMs: number;
  private readonly due = new Set<string>();
  private readonly timers = new Map<string, NodeJS.Timeout>();
  private running: NodeJS.Timeout | undefined;
  private isPaused = false;
  private isStopped = false;

  constructor(controller: Controller, delayMs: number) {
    this.controller = controller;
    this.delayMs = delayMs;
    controller.start((key, afterMs) => {
      this.enqueue(key, afterMs);
    });
  }

  pause(): void {
    this.isPaused = true;
  }

  /** What was called for meanwhile is done now. */
  resume(): void {
    this.isPaused = false;
    this.schedule();
  }

  stop(): void {
    this.isStopped = true;
    clearTimeout(this.running);
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }

  private enqueue(key: string, afterMs = 0): void {
    if (this.isStopped) return;
    if (afterMs > 0) {
      clearTimeout(this.timers.get(key));
      const timer = setTimeout(() => {
        this.timers.delete(key);
        this.enqueue(key);
      }, afterMs);
      this.timers.set(key, timer.unref());
      return;
    }
    this.due.add(key);
    this.schedule();
  }

  private schedule(): void {
    if (this.isPaused || this.isStopped || this.due.size === 0 || this.running !== undefined)
      return;
    this.running = setTimeout(() => {
      this.running = undefined;
      this.drain();
    }, this.delayMs).unref();
  }

  private drain(): void {
    if (this.isPaused || this.isStopped) return;
    const keys = [...this.due];
    this.due.clear();
    for (const key of keys) this.controller.sync(key);
  }
}
