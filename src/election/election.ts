import type { Clock, Timer } from '../clock.ts';
import type { Report } from '../report/report.ts';
import type { Watchdog } from '../watchdog.ts';
import type { Claim, Lease, LeaseAnswer, LeaseStore } from './lease.ts';

/** What a leader does from taking the Lease to losing it. */
export interface Term {
  /** An orderly end: nothing new is begun, and nothing is written once it has resolved. */
  end(): Promise<void>;
  /**
   * Every write that could disturb another leader is aborted at once; messages are given back.
   * Resolves when nothing of the term is left.
   */
  cut(): Promise<void>;
}

export type ElectionPorts = Readonly<{
  leases: LeaseStore;
  clock: Clock;
  watchdog: Watchdog;
  report: Report;
  begin: () => Term;
}>;

/** `superseded`: another holder was seen where we had led. */
export type ElectionEnd = 'stopped' | 'superseded';

/**
 * The Lease is ours for so long after it was last seen renewed; the times are those of Kubernetes'
 * own components. https://kubernetes.io/docs/concepts/architecture/leases/#leader-election
 */
const LEASE_SECONDS = 15;
/** Without a renewal for this long, a leader stops writing: well before another may take the Lease. */
const RENEW_DEADLINE_MS = 10_000;
const RETRY_MS = 2000;
/** Nodes are waiting, and nothing else of ours asks an API server that is only just back. */
const RETRY_WHEN_CUT_OFF_MS = 200;
/** The Lease seems free, but an API server that is only just back did not let us have it. */
const RETRY_TAKING_MS = 500;
/** Of the 5 s in which the process is to end. */
const RELEASE_WITHIN_MS = 500;

/**
 * One leader and its warm standbys, by a Lease. No clock but our own is believed: a Lease is free
 * when its holder is empty, or when it has not changed for its whole duration while we watched.
 *
 * States: *standing by*; *leading* (a term runs, and its writes end by themselves `RENEW_DEADLINE_MS`
 * after the last renewal was sent); *cut off* (no term, but the Lease may still name us: it is renewed
 * again, or another holder is seen).
 */
export class Election {
  private readonly ports: ElectionPorts;
  private readonly identity: string;
  /** As it was last read, written or told. */
  private seen: Lease | undefined;
  private seenAt: number;
  private term: Term | undefined;
  private deadline: Timer | undefined;
  private hasLed = false;
  /** We have asked for the Lease, so it may name us. */
  private isTaking = false;
  private ending: Promise<void> = Promise.resolve();
  private wake: () => void = () => undefined;
  private failureTold = false;

  constructor(ports: ElectionPorts, identity: string) {
    this.ports = ports;
    this.identity = identity;
    this.seenAt = ports.clock.now();
  }

  get isLeading(): boolean {
    return this.term !== undefined;
  }

  /** The leader that this one stands by for; undefined: none is known. */
  get standsBehind(): string | undefined {
    if (this.isLeading || this.seen === undefined || this.isFreeFor(this.seen)) return undefined;
    return this.seen.holder;
  }

  /** Runs until `stop` aborts or another holder is seen. Rejects only by a fault. */
  async run(stop: AbortSignal): Promise<ElectionEnd> {
    const following = new AbortController();
    const followed = this.ports.leases.follow((lease) => this.hear(lease), following.signal);
    const stopped = (): void => this.wake();
    stop.addEventListener('abort', stopped, { once: true });
    const step = this.ports.watchdog.begin('leader election', this.identity);
    try {
      while (!stop.aborted) {
        step.move();
        const end = this.hasLed ? await this.renew(stop) : await this.standBy(stop);
        if (end === 'superseded') return end;
      }
      await this.resign();
      return 'stopped';
    } finally {
      stop.removeEventListener('abort', stopped);
      following.abort();
      this.cutTerm();
      await Promise.all([followed, this.ending]);
      step.end();
    }
  }

  /** A leader takes others' words, which may be old, only as a reason to ask. */
  private hear(lease: Lease | undefined): void {
    if (this.hasLed && lease?.holder === this.identity) return;
    if (!this.hasLed) this.see(lease);
    this.wake();
  }

  private async standBy(stop: AbortSignal): Promise<void> {
    const waitMs = this.freeAt() - this.ports.clock.now();
    if (waitMs > 0) {
      await this.sleep(waitMs, stop);
      return;
    }
    if (!(await this.take(stop))) await this.sleep(RETRY_TAKING_MS, stop, 0.2);
  }

  /** Epoch ms. */
  private freeAt(): number {
    if (this.seen === undefined || this.isFreeFor(this.seen)) return -Infinity;
    return this.seenAt + LEASE_SECONDS * 1000;
  }

  /** A Lease that names us is that of an earlier process in this very pod. */
  private isFreeFor({ holder }: Lease): boolean {
    return holder === '' || holder === this.identity;
  }

  /** What the watch says may be old: read, and written only if it is still what was read. */
  private async take(stop: AbortSignal): Promise<boolean> {
    const { leases, clock } = this.ports;
    const read = await this.ask((signal) => leases.read(signal), stop);
    if (read?.outcome === 'lease') this.see(read.lease);
    else if (read?.outcome === 'absent') this.see(undefined);
    else return false;
    if (clock.now() < this.freeAt()) return true;
    const startedAt = clock.now();
    this.isTaking = true;
    return this.hold(await this.write(startedAt, stop), startedAt);
  }

  private write(now: number, stop: AbortSignal): Promise<LeaseAnswer | undefined> {
    const { leases } = this.ports;
    const { seen } = this;
    const claim = this.claim(now);
    return this.ask(
      (signal) =>
        seen === undefined ? leases.create(claim, signal) : leases.update(seen, claim, signal),
      stop,
    );
  }

  private claim(now: number): Claim {
    const { seen, identity } = this;
    const isOurs = seen?.holder === identity;
    return {
      holder: identity,
      durationSeconds: LEASE_SECONDS,
      acquiredAt: isOurs ? (seen.acquiredAt ?? now) : now,
      renewedAt: now,
      transitions: (seen?.transitions ?? 0) + (seen === undefined || isOurs ? 0 : 1),
    };
  }

  /** The Lease is ours from the moment at which that was asked for. */
  private hold(answer: LeaseAnswer | undefined, askedAt: number): boolean {
    const { clock, report } = this.ports;
    if (answer?.outcome !== 'lease') return false;
    this.see(answer.lease);
    const leftMs = askedAt + RENEW_DEADLINE_MS - clock.now();
    if (leftMs <= 0) return false;
    this.deadline?.cancel();
    this.deadline = clock.after(leftMs, () => this.cutOff());
    if (this.term === undefined) {
      report.info(this.hasLed ? 'leading again' : 'leading', {
        identity: this.identity,
        transitions: answer.lease.transitions,
      });
      this.hasLed = true;
      this.term = this.ports.begin();
    }
    return true;
  }

  /** One renewal, and the pause before the next. */
  private async renew(stop: AbortSignal): Promise<ElectionEnd | undefined> {
    const { clock, leases } = this.ports;
    // What was cut off must be gone before a new term may begin.
    if (this.term === undefined) await this.ending;
    const { term } = this;
    const startedAt = clock.now();
    const answer = await this.write(startedAt, stop);
    if (this.term !== term) {
      // Cut off while it waited: the next round renews afresh, once nothing of the term is left.
      if (answer?.outcome === 'lease') this.see(answer.lease);
      return undefined;
    }
    if (this.hold(answer, startedAt)) {
      await this.sleep(RETRY_MS, stop);
      return undefined;
    }
    if (answer?.outcome === 'conflict' || answer?.outcome === 'absent') {
      const read = await this.ask((signal) => leases.read(signal), stop);
      if (read?.outcome === 'lease') {
        this.see(read.lease);
        if (!this.isFreeFor(read.lease)) return this.giveWay(read.lease);
        return undefined;
      }
      if (read?.outcome === 'absent') {
        this.see(undefined);
        return undefined;
      }
    }
    await this.sleep(this.isLeading ? RETRY_MS : RETRY_WHEN_CUT_OFF_MS, stop);
    return undefined;
  }

  private giveWay({ holder }: Lease): ElectionEnd {
    this.ports.report.error('superseded', { identity: this.identity, holder });
    this.cutTerm();
    return 'superseded';
  }

  private cutOff(): void {
    this.ports.report.error('leadership not renewed', { identity: this.identity });
    this.cutTerm();
  }

  private cutTerm(): void {
    this.deadline?.cancel();
    const { term } = this;
    this.term = undefined;
    if (term !== undefined) this.ending = term.cut();
  }

  /** The term ends in good order; then the Lease is emptied, so that a standby takes it at once. */
  private async resign(): Promise<void> {
    const { clock, report } = this.ports;
    const { term } = this;
    if (term !== undefined) {
      await term.end();
      // Cut off meanwhile: whoever leads now is not to be disturbed.
      if (this.term !== term) return;
    } else if (!this.isTaking) return;
    this.deadline?.cancel();
    this.term = undefined;
    const limit = new AbortController();
    const timer = clock.after(RELEASE_WITHIN_MS, () => limit.abort());
    const answer = await this.release(limit.signal);
    timer.cancel();
    if (answer?.outcome === 'lease') report.info('lease released');
    else if (term !== undefined) report.warn('lease not released', { reason: reasonOf(answer) });
  }

  private async release(signal: AbortSignal): Promise<LeaseAnswer | undefined> {
    const { leases, clock } = this.ports;
    const { seen } = this;
    const claim = { ...this.claim(clock.now()), holder: '', durationSeconds: 1 };
    if (seen?.holder === this.identity) {
      const answer = await this.ask((aborted) => leases.update(seen, claim, aborted), signal);
      if (answer?.outcome !== 'conflict') return answer;
    }
    // A write that was cut short may have been made.
    const read = await this.ask((aborted) => leases.read(aborted), signal);
    if (read?.outcome !== 'lease' || read.lease.holder !== this.identity) return undefined;
    return this.ask((aborted) => leases.update(read.lease, claim, aborted), signal);
  }

  /** Undefined: the signal aborted. */
  private async ask(
    request: (signal: AbortSignal) => Promise<LeaseAnswer>,
    signal: AbortSignal,
  ): Promise<LeaseAnswer | undefined> {
    let answer: LeaseAnswer;
    try {
      answer = await request(signal);
    } catch (error) {
      if (signal.aborted) return undefined;
      throw error;
    }
    if (answer.outcome !== 'failed') this.failureTold = false;
    else if (!this.failureTold) {
      this.failureTold = true;
      this.ports.report.warn('lease not reached', { reason: answer.message });
    }
    return answer;
  }

  /** Only a change counts as a sign of its holder's life. */
  private see(lease: Lease | undefined): void {
    const { clock, report } = this.ports;
    if (lease?.resourceVersion === this.seen?.resourceVersion && lease !== undefined) return;
    if (lease !== undefined && lease.holder !== this.seen?.holder && lease.holder !== '') {
      if (lease.holder !== this.identity) report.info('standing by', { holder: lease.holder });
    }
    this.seen = lease;
    this.seenAt = clock.now();
  }

  /** Until then, or until the Lease changes or we are to stop; `spread`: up to that share longer. */
  private async sleep(ms: number, stop: AbortSignal, spread = 0): Promise<void> {
    if (stop.aborted) return;
    const { clock } = this.ports;
    const longerMs = ms * spread * clock.random();
    await new Promise<void>((resolve) => {
      const end = (): void => {
        timer.cancel();
        this.wake = () => undefined;
        resolve();
      };
      const timer = clock.after(ms + longerMs, end);
      this.wake = end;
    });
  }
}

function reasonOf(answer: LeaseAnswer | undefined): string {
  if (answer === undefined) return 'no answer in time';
  return answer.outcome === 'failed' ? answer.message : answer.outcome;
}
