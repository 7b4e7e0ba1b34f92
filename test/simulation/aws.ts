import type { HookAction, HookAnswer, LifecycleHooks } from '../../src/drain/lifecycle-hooks.ts';
import type { Message, Queue } from '../../src/intake/queue.ts';
import type { FakeAutoScaling } from '../stand-ins/ports/lifecycle-hooks.ts';
import type { FakeSqs } from '../stand-ins/ports/queue.ts';
import type { Happened } from './record.ts';
import { reasonOf, type Mishap, type Way } from './way.ts';

const REQUEST_LIMIT_MS = 5000;

/** One process's way to the queue. */
export class SimulatedQueue implements Queue {
  private readonly way: Way;
  private readonly sqs: FakeSqs;
  private readonly record: (happened: Happened) => void;

  constructor(way: Way, sqs: FakeSqs, record: (happened: Happened) => void) {
    this.way = way;
    this.sqs = sqs;
    this.record = record;
  }

  async receive(
    { max, waitSeconds, visibilitySeconds }: Parameters<Queue['receive']>[0],
    signal: AbortSignal,
  ): Promise<readonly Message[]> {
    const { way, sqs } = this;
    const until = way.clock.now() + waitSeconds * 1000;
    for (;;) {
      // A long poll: nothing is asked anew while it waits.
      if (way.mayNotCall()) return new Promise<never>(() => undefined);
      signal.throwIfAborted();
      const leftMs = until - way.clock.now();
      if (leftMs <= 0 || sqs.nextVisibleAt() <= sqs.now()) {
        const options = { signal, timeoutMs: REQUEST_LIMIT_MS };
        return way.pass(
          'queue receive',
          () => {
            const messages = sqs.take(max, visibilitySeconds);
            for (const { id, receiveCount } of messages) {
              this.record({
                what: 'message received',
                message: id,
                process: way.process,
                count: receiveCount,
              });
            }
            return messages;
          },
          throwFailure,
          options,
        );
      }
      await sqs.news(Math.min(leftMs, sqs.nextVisibleAt() - sqs.now()), signal);
      if (signal.aborted) throw reasonOf(signal);
    }
  }

  delete(message: Message): Promise<boolean> {
    return this.way.pass(
      'queue delete',
      () => {
        // Before it is gone, for the invariants to look at.
        const isHeld = this.sqs.isHeldBy(message);
        if (isHeld) this.record({ what: 'message deleted', message: message.id });
        return this.sqs.delete(message);
      },
      throwFailure,
      { timeoutMs: REQUEST_LIMIT_MS },
    );
  }

  setVisibility(message: Message, seconds: number): Promise<boolean> {
    return this.way.pass(
      'queue visibility',
      () => {
        const isDone = this.sqs.setVisibility(message, seconds);
        if (isDone) this.record({ what: 'message hidden', message: message.id, seconds });
        return isDone;
      },
      throwFailure,
      { timeoutMs: REQUEST_LIMIT_MS },
    );
  }

  maxReceiveCount(signal: AbortSignal): Promise<number | undefined> {
    return this.way.pass('queue attributes', () => this.sqs.maxReceiveCount, throwFailure, {
      signal,
      timeoutMs: REQUEST_LIMIT_MS,
    });
  }
}

function throwFailure({ trouble }: Mishap): never {
  throw new Error(`the queue could not be asked: ${trouble}`);
}

type Description = Awaited<ReturnType<LifecycleHooks['describe']>>;

/** One process's way to Auto Scaling. */
export class SimulatedLifecycleHooks implements LifecycleHooks {
  private readonly way: Way;
  private readonly autoScaling: FakeAutoScaling;
  private readonly record: (happened: Happened) => void;
  /** As the edge does: asked once. */
  private readonly described = new Map<string, Description>();

  constructor(way: Way, autoScaling: FakeAutoScaling, record: (happened: Happened) => void) {
    this.way = way;
    this.autoScaling = autoScaling;
    this.record = record;
  }

  complete(action: HookAction, signal: AbortSignal): Promise<HookAnswer> {
    return this.way.pass(
      'hook complete',
      () => {
        const answer = this.autoScaling.complete(action);
        if (answer.outcome === 'accepted') {
          this.record({ what: 'hook completed', token: action.token, process: this.way.process });
        }
        return answer;
      },
      failure,
      { signal, timeoutMs: REQUEST_LIMIT_MS },
    );
  }

  heartbeat(action: HookAction, signal: AbortSignal): Promise<HookAnswer> {
    return this.way.pass(
      'hook heartbeat',
      () => {
        const answer = this.autoScaling.heartbeat(action);
        if (answer.outcome === 'accepted') {
          this.record({ what: 'hook kept alive', token: action.token, process: this.way.process });
        }
        return answer;
      },
      failure,
      { signal, timeoutMs: REQUEST_LIMIT_MS },
    );
  }

  replace(): Promise<HookAnswer> {
    return Promise.reject(new Error('nothing is to be replaced: AFTER_VOLUNTARY_DRAIN is keep'));
  }

  async describe(group: string, hook: string, signal: AbortSignal): Promise<Description> {
    const key = `${group}/${hook}`;
    const known = this.described.get(key);
    if (known !== undefined) return known;
    const answer = await this.way.pass<Description>(
      'hook describe',
      () => {
        const timeoutSeconds = this.autoScaling.timeouts.get(key);
        return timeoutSeconds === undefined
          ? { outcome: 'unknown', denied: false, message: 'no such hook' }
          : { outcome: 'found', timeoutSeconds, terminateHooksInGroup: [hook] };
      },
      ({ trouble }) => ({ outcome: 'failed', message: trouble }),
      { signal, timeoutMs: REQUEST_LIMIT_MS },
    );
    if (answer.outcome !== 'failed') this.described.set(key, answer);
    return answer;
  }
}

function failure({ trouble }: Mishap): HookAnswer {
  return { outcome: 'failed', denied: false, message: trouble };
}
