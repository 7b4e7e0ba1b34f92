import type { Clock, Timer } from '../../src/clock.ts';
import { seededChance, type Chance } from '../sandbox/chance.ts';
import { MortalClock } from '../stand-ins/ports/mortal-clock.ts';
import type { Happened } from './record.ts';

/** Every way out of a process. */
export const PORTS = [
  'node write',
  'node read',
  'node list',
  'node watch',
  'kubelet lease',
  'ping',
  'pod list',
  'pod read',
  'pod watch',
  'evict',
  'pod delete',
  'volumes',
  'lease read',
  'lease write',
  'lease watch',
  'queue receive',
  'queue delete',
  'queue visibility',
  'queue attributes',
  'hook complete',
  'hook heartbeat',
  'hook describe',
] as const;
export type Port = (typeof PORTS)[number];

export const CRASH_POINTS = [
  'before the call',
  'after its effect, before its answer',
  'after its answer',
] as const;
export type CrashPoint = (typeof CRASH_POINTS)[number];

/** What is wrong with an answer. */
export type Trouble =
  /** Too much is asked: 429 of the server's own, or throttling. */
  | 'overload'
  /** 500 or 503. */
  | 'error'
  /** The connection breaks at once. */
  | 'reset'
  /** No answer comes. */
  | 'silence';

/** What befalls one call. `hasEffect`: only the answer is lost. */
export type Mishap = Readonly<{ trouble: Trouble; hasEffect: boolean }>;

/** What a process's calls pass through; the storm decides what becomes of them. */
export interface Weather {
  readonly clock: Clock;
  readonly chance: Chance;
  record(happened: Happened): void;
  /** Whether the process dies at this point of this call. */
  crashes(process: string, port: Port, call: number, point: CrashPoint): boolean;
  mishap(process: string, port: Port): Mishap | undefined;
  /** One way, in ms. */
  latencyMs(port: Port): number;
  /** Numbers the calls of each port. */
  nextCall(port: Port): number;
}

/** The clock as one process sees it: seconds apart from others, dead with the process, still while it is frozen. */
export class ProcessClock extends MortalClock {
  private frozenUntil = -Infinity;
  private armedCount = 0;
  private readonly world: Clock;
  private readonly skewMs: number;
  private readonly chance: Chance;

  constructor(world: Clock, skewMs: number, seed: number) {
    super(world);
    this.world = world;
    this.skewMs = skewMs;
    this.chance = seededChance(seed);
  }

  /** Whole milliseconds, as a system's clock tells. */
  override now(): number {
    return Math.floor(super.now() + this.skewMs);
  }

  override random(): number {
    return this.chance.next();
  }

  override after(delayMs: number, callback: () => void): Timer {
    let isArmed = true;
    this.armedCount += 1;
    const disarm = (): void => {
      if (isArmed) this.armedCount -= 1;
      isArmed = false;
    };
    const timer = this.deliver(delayMs, () => {
      disarm();
      callback();
    });
    return {
      cancel: () => {
        disarm();
        timer.cancel();
      },
    };
  }

  /** What comes from outside: no timer of the process's own. */
  deliver(delayMs: number, callback: () => void): Timer {
    let timer = super.after(delayMs, () => {
      const leftMs = this.frozenUntil - this.world.now();
      if (leftMs > 0) timer = super.after(leftMs, callback);
      else callback();
    });
    return { cancel: () => timer.cancel() };
  }

  /** How many timers of its own are armed now. */
  get timers(): number {
    return this.armedCount;
  }

  /** Nothing of the process runs for so long; then everything that was due does. */
  freeze(ms: number): void {
    this.frozenUntil = this.world.now() + ms;
  }
}

/** The way of one process to everything outside. */
export class Way {
  isDead = false;
  /** Calls under way, and streams. */
  open = 0;
  private dyingAt: string | undefined;
  readonly process: string;
  readonly clock: ProcessClock;
  private readonly weather: Weather;
  private readonly onDeath: () => void;

  constructor(process: string, clock: ProcessClock, weather: Weather, onDeath: () => void) {
    this.process = process;
    this.clock = clock;
    this.weather = weather;
    this.onDeath = onDeath;
  }

  /** Dies without a word: nothing it asked for is ever answered. */
  die(): void {
    if (this.isDead) return;
    this.isDead = true;
    this.clock.die();
    this.weather.record({ what: 'process dies', process: this.process });
    this.onDeath();
  }

  /**
   * One call. `effect` is what the outside does; `failed` what the caller is told of a mishap.
   * Rejects with the signal's reason; never settles for a process that is dead.
   */
  pass<Answer>(
    port: Port,
    effect: () => Answer,
    failed: (mishap: Mishap) => Answer,
    options: Readonly<{
      signal?: AbortSignal;
      /** Called, each ends its call as a connection that breaks does. */
      closers?: Set<() => void>;
      timeoutMs: number;
    }>,
  ): Promise<Answer> {
    const { weather, process } = this;
    const { signal, closers, timeoutMs } = options;
    return new Promise((resolve, reject) => {
      if (this.mayNotCall()) return;
      const call = weather.nextCall(port);
      if (this.crashAt(port, call, 'before the call')) return;
      if (signal?.aborted === true) {
        reject(reasonOf(signal));
        return;
      }
      let answerTimer: Timer | undefined;
      let over = false;
      const end = (): boolean => {
        if (over) return false;
        over = true;
        signal?.removeEventListener('abort', abort);
        closers?.delete(close);
        answerTimer?.cancel();
        return true;
      };
      const close = (): void => {
        if (end()) resolve(failed({ trouble: 'reset', hasEffect: true }));
      };
      closers?.add(close);
      const abort = (): void => {
        if (end()) reject(reasonOf(signal));
      };
      signal?.addEventListener('abort', abort, { once: true });
      const answerAfter = (delayMs: number, give: () => void): void => {
        if (over || this.isDead) return;
        answerTimer = this.clock.deliver(delayMs, () => {
          if (!end()) return;
          give();
          if (weather.crashes(process, port, call, 'after its answer')) this.dieSoon(port);
        });
      };
      const mishap = weather.mishap(process, port);
      if (mishap !== undefined) {
        weather.record({
          what: 'fault',
          process,
          port,
          answer: `${mishap.trouble}${mishap.hasEffect ? ', after its effect' : ''}`,
        });
      }
      // Under way, it does not die with the process.
      weather.clock.after(weather.latencyMs(port), () => {
        let answer: Answer | undefined;
        let error: Error | undefined;
        let hasAnswer = false;
        if (mishap === undefined || mishap.hasEffect) {
          try {
            answer = effect();
            hasAnswer = true;
          } catch (thrown) {
            error = asError(thrown);
          }
        }
        if (!this.isDead && this.crashAt(port, call, 'after its effect, before its answer')) return;
        const backMs = weather.latencyMs(port);
        if (mishap !== undefined) {
          const isSilent = mishap.trouble === 'silence';
          answerAfter(isSilent ? timeoutMs : backMs, () => {
            try {
              resolve(failed(mishap));
            } catch (thrown) {
              reject(asError(thrown));
            }
          });
        } else if (hasAnswer) answerAfter(backMs, () => resolve(answer as Answer));
        else answerAfter(backMs, () => reject(error ?? new Error('no answer')));
      });
    });
  }

  /** Word from outside, in its order. */
  hear(delayMs: number, listener: () => void): void {
    if (!this.isDead) this.clock.deliver(delayMs, listener);
  }

  /** A call that is dead before it begins: of a process that is, too. */
  mayNotCall(): boolean {
    if (this.dyingAt !== undefined) this.die();
    return this.isDead;
  }

  crashAt(port: Port, call: number, point: CrashPoint): boolean {
    if (!this.weather.crashes(this.process, port, call, point)) return false;
    this.weather.record({ what: 'crash', process: this.process, port, point });
    this.die();
    return true;
  }

  nextCall(port: Port): number {
    return this.weather.nextCall(port);
  }

  /** What follows from the answer within this process still happens, up to its next call. */
  private dieSoon(port: Port): void {
    this.weather.record({ what: 'crash', process: this.process, port, point: 'after its answer' });
    this.dyingAt = port;
    this.weather.clock.after(0, () => this.die());
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
}

export function reasonOf(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new Error('aborted', { cause: reason });
}
