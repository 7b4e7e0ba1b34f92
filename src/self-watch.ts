import type { Clock, Timer } from './clock.ts';
import type { Check } from './http/server.ts';
import type { Report } from './report/report.ts';
import { STAGES, type Watchdog, type Stage, type WatchedStep } from './watchdog.ts';

const TICK_MS = 1000;
/** A process that was paused, or starved of the processor, could do nothing in that time. */
const LONGEST_TICK_MS = 2 * TICK_MS;
/** Beyond what a full collection of garbage takes. */
const BLOCKED_MS = 5000;

type OpenStep = Readonly<{ stage: Stage; what: string }> & {
  movedAt: number;
  dueAt: number;
};

/**
 * Whether this process works: the stages' progress marks against their limits. Time is counted in
 * turns of the event loop, so that what a process could not do is not held against it. Holds one
 * small entry for each thing under way.
 */
export class SelfWatch implements Watchdog {
  private readonly steps = new Set<OpenStep>();
  /** Told and not moved since. */
  private readonly stuck = new Set<OpenStep>();
  /** In which the event loop turned. */
  private timeMs = 0;
  private tickedAt: number;
  private timer: Timer | undefined;
  private readonly clock: Clock;
  private readonly report: Report;

  /** `clock`: a steady one. */
  constructor(clock: Clock, report: Report) {
    this.clock = clock;
    this.report = report;
    this.tickedAt = clock.now();
  }

  start(): void {
    this.tickedAt = this.clock.now();
    this.timer = this.clock.after(TICK_MS, () => this.tick());
  }

  stop(): void {
    this.timer?.cancel();
  }

  begin(stage: Stage, what: string): WatchedStep {
    const { limitMs } = STAGES[stage];
    const now = this.timeMs;
    const step: OpenStep = { stage, what, movedAt: now, dueAt: now + limitMs };
    this.steps.add(step);
    return {
      move: (sleepMs = 0) => {
        step.movedAt = this.timeMs;
        step.dueAt = this.timeMs + sleepMs + limitMs;
      },
      end: () => void this.steps.delete(step),
    };
  }

  /** One of each stage. */
  checks(): readonly Check[] {
    const firstOf = new Map<Stage, OpenStep>();
    for (const step of this.stuck) if (!firstOf.has(step.stage)) firstOf.set(step.stage, step);
    return stageNames().map((stage) => {
      const step = firstOf.get(stage);
      if (step === undefined) return { name: stage, ok: true };
      const seconds = Math.round((this.timeMs - step.movedAt) / 1000);
      return { name: stage, ok: false, detail: `${step.what} has not moved for ${seconds} s` };
    });
  }

  private tick(): void {
    const now = this.clock.now();
    const elapsedMs = now - this.tickedAt;
    this.tickedAt = now;
    this.timeMs += Math.min(elapsedMs, LONGEST_TICK_MS);
    if (elapsedMs > BLOCKED_MS) {
      this.report.warn('event loop blocked', { seconds: Math.round(elapsedMs / 100) / 10 });
    }
    for (const step of this.stuck) {
      if (this.steps.has(step) && step.dueAt <= this.timeMs) continue;
      this.stuck.delete(step);
      this.report.info('stage goes on', { stage: step.stage, what: step.what });
    }
    for (const step of this.steps) {
      if (step.dueAt > this.timeMs || this.stuck.has(step)) continue;
      this.stuck.add(step);
      this.report.error('stage stuck', {
        stage: step.stage,
        what: step.what,
        seconds: Math.round((this.timeMs - step.movedAt) / 1000),
      });
    }
    this.timer = this.clock.after(TICK_MS, () => this.tick());
  }
}

function stageNames(): readonly Stage[] {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the keys of a constant
  return Object.keys(STAGES) as Stage[];
}
