import { pause, type Clock, type Timer } from '../clock.ts';
import { planOf } from '../plan/deadline.ts';
import { LoadBalancerFloor } from '../plan/floor.ts';
import { episodeOf, kindOf, type Interruption } from '../plan/interruption.ts';
import {
  isOfMachine,
  MAX_LIVE,
  readJournal,
  type Journal,
  type JournalState,
} from '../plan/journal.ts';
import { bearsAll, markWrite, sightOf, type MarkFinding, type MarkWrite } from '../plan/marks.ts';
import { fold, type Change, type Verdict } from '../plan/merge.ts';
import { LOAD_BALANCER_KEY, type NodePatch, type NodeView } from '../plan/node.ts';
import { nextOverAt } from '../plan/over.ts';
import { isLeftToOwner, type Policy } from '../plan/policy.ts';
import { isEmergency } from '../plan/rows.ts';
import type { ObjectEvents } from '../report/object-events.ts';
import type { Outcomes } from '../report/outcome.ts';
import type { Report } from '../report/report.ts';
import { UNWATCHED, type Watchdog, type WatchedStep } from '../watchdog.ts';
import type { Breaker } from './breaker.ts';
import { CapacityBlocks } from './capacity-blocks.ts';
import type { DepartedNodes } from './departed-nodes.ts';
import type { NodeIndex, NodeStore, WriteAnswer } from './node-store.ts';

/** What became of one change. */
export type RecordOutcome =
  | Readonly<{ outcome: Verdict; node: NodeView; journal: Journal | undefined }>
  /** The Node is not there any more. */
  | Readonly<{ outcome: 'gone' }>
  /** For good: the change is in memory only, if it is an emergency's. */
  | Readonly<{ outcome: 'refused'; message: string; journal: Journal | undefined }>
  /** The API server does not answer, or we are stopping: nothing is known to be written. */
  | Readonly<{ outcome: 'unreachable' }>;

export type JournalListener = (nodeName: string, journal: Journal | undefined) => void;

type Entry = Readonly<{ change: Change; resolve: (outcome: RecordOutcome) => void }>;

/** One node whose marks we know or are about to write. */
type Book = {
  journal: Journal | undefined;
  /** Text of the annotation that `journal` was read from or written as. */
  text: string | undefined;
  /** What the Node refused to bear, paced interruptions apart: in memory only, and part of every further write. */
  refused: readonly Change[];
  waiting: Entry[];
  writing: boolean;
  /** Someone keeps taking our marks away: each mending waits longer. */
  mendDelayMs: number;
  mendedAt: number;
  mendTimer: Timer | undefined;
  forbiddenSince: number | undefined;
  /** Fires when time alone ends something. */
  overTimer: Timer | undefined;
  /** Its load balancer label waits for more targets. */
  withheld: boolean;
  /** The resourceVersion that our latest write left, where the Node bore all that was asked for. */
  rightAt: string | undefined;
};

const MAX_REFUSED = 4 * MAX_LIVE;
const MAX_UNCONFIRMED = 10_000;
/** How long a 403 may be a restarting API server's before it counts as final. */
const FORBIDDEN_FOR_GOOD_MS = 10_000;
const MAX_MEND_DELAY_MS = 30_000;
/** Nodes come back one by one: those that wait for them are looked at together. */
const ROOM_MS = 1000;
/** Conflicts answered at once; beyond, another writer is as busy as we are. */
const EAGER_ATTEMPTS = 5;
const CALM_AFTER_MS = 60_000;
const OVERLOAD_DELAY_MS = 500;
/** What broke sooner was not a server that hangs. */
const BROKEN_CONNECTION_MS = 1000;
/** A proxy may ask for more than any deadline leaves. */
const LONGEST_RETRY_AFTER_MS = 30_000;

/**
 * The record on the Nodes: the one place that writes to them. Changes to one node are folded into
 * one write at a time; those that come meanwhile go into the next. Every write is computed from the
 * index's copy and carries its resourceVersion.
 */
export class Records {
  private readonly books = new Map<string, Book>();
  /** Receipts to be told when they are seen on their Node; bounded, for what is never borne is never seen. */
  private readonly unconfirmed = new Set<string>();
  private readonly listeners = new Set<JournalListener>();
  private readonly stopping = new AbortController();
  private isStopping = false;
  private unsubscribe: (() => void) | undefined;
  private readonly floor = new LoadBalancerFloor();
  private readonly blocks = new CapacityBlocks();
  /** Set while nodes whose label was withheld wait to be looked at again. */
  private roomTimer: Timer | undefined;
  private writes = 0;
  private marks = 0;
  /** Present while someone waits for the marks. */
  private marksDone: PromiseWithResolvers<void> | undefined;
  /** Of one write, answer included; what the bound of messages in hand is computed from. */
  private latencyMs = 20;
  private readonly nodes: NodeIndex;
  private readonly departed: DepartedNodes;
  private readonly store: NodeStore;
  private readonly breaker: Breaker;
  private readonly policy: Policy;
  private readonly clock: Clock;
  private readonly watchdog: Watchdog;
  private readonly outcomes: Outcomes;
  private readonly objectEvents: ObjectEvents;
  private readonly report: Report;

  constructor(
    ports: Readonly<{
      nodes: NodeIndex;
      departed: DepartedNodes;
      store: NodeStore;
      outcomes: Outcomes;
      objectEvents: ObjectEvents;
      clock: Clock;
      watchdog?: Watchdog;
      report: Report;
    }>,
    breaker: Breaker,
    policy: Policy,
  ) {
    this.nodes = ports.nodes;
    this.departed = ports.departed;
    this.store = ports.store;
    this.clock = ports.clock;
    this.watchdog = ports.watchdog ?? UNWATCHED;
    this.outcomes = ports.outcomes;
    this.objectEvents = ports.objectEvents;
    this.report = ports.report;
    this.breaker = breaker;
    this.policy = policy;
  }

  /** Adopts the journals that stand on the Nodes, and from then on every change of them. */
  start(): void {
    this.unsubscribe = this.nodes.subscribe((before, after) => this.observe(before, after));
    this.breaker.onChange((open) => {
      if (!open) this.lookAtAll();
    });
    for (const node of this.nodes.all()) this.floor.learn(node.name, node);
    let resumed = 0;
    for (const node of this.nodes.all()) {
      // It may have come back while nobody led.
      if (node.journal === undefined) this.restore(node);
      else this.observe(undefined, node);
      if ((this.books.get(node.name)?.journal?.live.length ?? 0) > 0) resumed += 1;
    }
    if (resumed > 0) this.report.info('resumed', { nodes: resumed });
  }

  /** Lets writes in flight finish, for at most `limitMs`; everything else is left to the next process. */
  async stop(limitMs: number): Promise<void> {
    this.unsubscribe?.();
    const limit = this.clock.after(limitMs, () => this.stopping.abort());
    this.isStopping = true;
    this.roomTimer?.cancel();
    for (const book of this.books.values()) {
      book.mendTimer?.cancel();
      book.overTimer?.cancel();
    }
    while (this.writes > 0 && !this.stopping.signal.aborted) await pause(this.clock, 5);
    limit.cancel();
    this.stopping.abort();
  }

  onChange(listener: JournalListener): void {
    this.listeners.add(listener);
  }

  /** Of all nodes that bear a journal. */
  states(): readonly JournalState[] {
    return [...this.books.values()].flatMap(({ journal }) => (journal ? [journal.state] : []));
  }

  journalOf(nodeName: string): Journal | undefined {
    return this.books.get(nodeName)?.journal;
  }

  /** Writes a second that the API server takes now, when asked for `parallel` at a time. */
  rate(parallel: number): number {
    return (parallel * 1000) / this.latencyMs;
  }

  /** Marks asked for and neither written nor given up. */
  get marksPending(): number {
    return this.marks;
  }

  /**
   * Resolves when every mark asked for is written or has failed, when the signal aborts, and after
   * `limitMs` in any case. What drains note of their own progress is no mark.
   */
  async marksWritten(limitMs: number, signal: AbortSignal): Promise<void> {
    if (this.marks === 0 || signal.aborted) return;
    this.marksDone ??= Promise.withResolvers();
    const { promise } = this.marksDone;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        limit.cancel();
        signal.removeEventListener('abort', end);
        resolve();
      };
      const limit = this.clock.after(limitMs, end);
      signal.addEventListener('abort', end, { once: true });
      void promise.then(end);
    });
  }

  /** Resolves when the change is on the Node, or known to be void, or cannot be written now. */
  apply(nodeName: string, change: Change): Promise<RecordOutcome> {
    return new Promise((resolve) => {
      if (this.isStopping) {
        resolve({ outcome: 'unreachable' });
        return;
      }
      const book = this.bookOf(nodeName);
      const isMark = !isBookkeeping(change);
      if (isMark) this.marks += 1;
      book.waiting.push({
        change,
        resolve: (outcome) => {
          if (isMark) this.markEnded();
          resolve(outcome);
        },
      });
      if (!book.writing) void this.writeAll(nodeName, book);
    });
  }

  private markEnded(): void {
    this.marks -= 1;
    if (this.marks > 0) return;
    this.marksDone?.resolve();
    this.marksDone = undefined;
  }

  private bookOf(nodeName: string): Book {
    let book = this.books.get(nodeName);
    if (book === undefined) {
      book = {
        journal: undefined,
        text: undefined,
        refused: [],
        waiting: [],
        writing: false,
        mendDelayMs: 0,
        mendedAt: -Infinity,
        mendTimer: undefined,
        forbiddenSince: undefined,
        overTimer: undefined,
        withheld: false,
        rightAt: undefined,
      };
      this.books.set(nodeName, book);
    }
    return book;
  }

  private async writeAll(nodeName: string, book: Book): Promise<void> {
    book.writing = true;
    this.writes += 1;
    const step = this.watchdog.begin('record', `node ${nodeName}`);
    try {
      while (book.waiting.length > 0) {
        const entries = book.waiting.splice(0);
        const outcomes = await this.writeOnce(nodeName, book, entries, step).catch(
          (error: unknown): readonly RecordOutcome[] => {
            if (!this.stopping.signal.aborted) {
              this.report.error('node not written', { node: nodeName, error });
            }
            return [];
          },
        );
        entries.forEach(({ resolve }, i) => {
          resolve(outcomes[i] ?? { outcome: 'unreachable' });
        });
      }
    } finally {
      step.end();
      book.writing = false;
      this.writes -= 1;
      // What the watch told during the write was not looked at.
      const node = this.nodes.get(nodeName);
      if (node !== undefined) this.look(node);
      if (book.journal === undefined && book.waiting.length === 0 && !book.mendTimer) {
        this.books.delete(nodeName);
      }
    }
  }

  /** One write with all its repetitions. Never rejects. */
  private async writeOnce(
    nodeName: string,
    book: Book,
    entries: readonly Entry[],
    step: WatchedStep,
  ): Promise<readonly RecordOutcome[]> {
    const all = (outcome: RecordOutcome): RecordOutcome[] => entries.map(() => outcome);
    const changes = entries.map(({ change }) => change);
    const { refused } = book;
    const { signal } = this.stopping;
    book.rightAt = undefined;
    for (let attempt = 0; ; attempt += 1) {
      step.move();
      const node = this.nodes.get(nodeName);
      if (node === undefined) return all({ outcome: 'gone' });
      const now = this.clock.now();
      const write = this.compute(node, book, [...refused, ...changes]);
      if (write === 'unrecordable') {
        return all(this.keepInMemory(node, book, changes, 'the journal would exceed its bounds'));
      }
      if (write.patch === undefined) {
        this.tellFindings(node, write.found);
        book.refused = [];
        this.remember(nodeName, book, node.journal, write.journal);
        return outcomesOf(write, refused.length, node);
      }
      this.noteSent(nodeName, write.journal, now);
      const answer = await this.send(node, write.patch, changes.every(isBookkeeping));
      this.learnLatency(this.clock.now() - now);
      // A conflict says nothing of the read that must follow it.
      if (answer.outcome !== 'forbidden' && answer.outcome !== 'conflict')
        book.forbiddenSince = undefined;
      switch (answer.outcome) {
        case 'written':
          this.tellFindings(node, write.found);
          book.refused = [];
          // Before the index tells its listeners, so that our own write is not news to us.
          this.remember(nodeName, book, answer.node.journal, write.journal);
          this.nodes.learn(answer.node);
          if (bearsAll(answer.node, write.target)) book.rightAt = answer.node.resourceVersion;
          // Deleted while the answer was on its way: nobody would tell us again.
          if (this.nodes.get(nodeName)?.uid !== answer.node.uid) {
            this.forget(answer.node);
            return all({ outcome: 'gone' });
          }
          return outcomesOf(write, refused.length, answer.node);
        case 'conflict': {
          const read = await this.store.read(nodeName, signal);
          if (read.outcome === 'found') {
            book.forbiddenSince = undefined;
            this.nodes.learn(read.node);
            if (attempt >= EAGER_ATTEMPTS) await pause(this.clock, 100, signal);
            if (signal.aborted) return all({ outcome: 'unreachable' });
            continue;
          }
          if (read.outcome === 'gone') return all({ outcome: 'gone' });
          if (!(await this.mayRetry(read, attempt, now, book)))
            return all(this.giveUp(read, node, book, changes));
          continue;
        }
        case 'gone':
          return all({ outcome: 'gone' });
        case 'overloaded':
        case 'forbidden':
        case 'refused':
        case 'unreachable':
          if (!(await this.mayRetry(answer, attempt, now, book)))
            return all(this.giveUp(answer, node, book, changes));
          break;
        default:
          throw new Error(`unexpected answer: ${JSON.stringify(answer satisfies never)}`);
      }
    }
  }

  private compute(node: NodeView, book: Book, changes: readonly Change[]) {
    return markWrite(node, book.journal, changes, this.policy, this.clock.now(), (emergency) =>
      this.floor.allows(node.name, emergency),
    );
  }

  private async send(node: NodeView, patch: NodePatch, isBulk: boolean): Promise<WriteAnswer> {
    const { name, resourceVersion } = node;
    // Counted before the answer: others are computed meanwhile.
    if (patch.labels?.[LOAD_BALANCER_KEY] === 'true') this.floor.begin(name);
    try {
      const lane = isBulk ? 'bulk' : 'mark';
      const { signal } = this.stopping;
      const answer = await this.store.write(name, resourceVersion, patch, signal, lane);
      this.floor.end(name, answer.outcome === 'written' ? answer.node : this.nodes.get(name));
      return answer;
    } catch (error) {
      this.floor.end(name, this.nodes.get(name));
      throw error;
    }
  }

  /** Waits before a repetition; false when there is none. */
  private async mayRetry(
    answer: Exclude<WriteAnswer, { outcome: 'written' | 'conflict' | 'gone' }>,
    attempt: number,
    startedAt: number,
    book: Book,
  ): Promise<boolean> {
    const now = this.clock.now();
    let delayMs: number;
    switch (answer.outcome) {
      case 'overloaded':
        delayMs = Math.min(
          answer.retryAfterMs ?? Math.min(OVERLOAD_DELAY_MS * 2 ** attempt, 5000),
          LONGEST_RETRY_AFTER_MS,
        );
        this.learnLatency(delayMs);
        // Whoever was told the same is not to come back at the same moment.
        delayMs *= 1 + this.clock.random() / 4;
        break;
      case 'forbidden':
        book.forbiddenSince ??= now;
        if (now - book.forbiddenSince >= FORBIDDEN_FOR_GOOD_MS) return false;
        delayMs = 1000;
        break;
      case 'unreachable':
        // One connection that broke says nothing yet of the server, and a write with its
        // resourceVersion can be repeated.
        if (attempt > 0 || now - startedAt > BROKEN_CONNECTION_MS) return false;
        delayMs = 0;
        break;
      case 'refused':
        return false;
      default:
        throw new Error(`unexpected answer: ${JSON.stringify(answer satisfies never)}`);
    }
    if (this.isStopping) return false;
    await pause(this.clock, delayMs, this.stopping.signal);
    return !this.isStopping;
  }

  private giveUp(
    answer: Exclude<WriteAnswer, { outcome: 'written' | 'conflict' | 'gone' }>,
    node: NodeView,
    book: Book,
    changes: readonly Change[],
  ): RecordOutcome {
    if (answer.outcome === 'unreachable') {
      this.breaker.trip(answer.message);
      return { outcome: 'unreachable' };
    }
    if (answer.outcome === 'overloaded' || this.isStopping) return { outcome: 'unreachable' };
    return this.keepInMemory(node, book, changes, answer.message);
  }

  /** Recording is refused for good: emergencies are acted on from memory all the same. */
  private keepInMemory(
    node: NodeView,
    book: Book,
    changes: readonly Change[],
    message: string,
  ): RecordOutcome {
    if (changes.some(({ type }) => type !== 'mended')) {
      this.report.error('recording refused', {
        node: node.name,
        instance: node.instanceId,
        reason: message,
      });
      this.objectEvents.onNode(node, 'RecordingRefused', { why: message });
    }
    const sight = sightOf(node);
    if (sight === undefined) return { outcome: 'gone' };
    const now = this.clock.now();
    let { journal } = book;
    for (const change of changes) {
      if (change.type === 'event' && !isEmergency(kindOf(change.event))) continue;
      if (change.type === 'begun') continue;
      const isFull = book.refused.length >= MAX_REFUSED;
      if (change.type === 'event' && isFull) continue;
      const folded = fold(journal, change, sight, this.policy, now);
      ({ journal } = folded);
      if (folded.verdict === 'recorded' && !isFull) book.refused = [...book.refused, change];
    }
    this.noteSent(node.name, journal, now);
    this.remember(node.name, book, book.text, journal);
    return { outcome: 'refused', message, journal };
  }

  private remember(
    nodeName: string,
    book: Book,
    text: string | undefined,
    journal: Journal | undefined,
  ): void {
    const before = book.journal;
    book.text = text;
    book.journal = journal;
    if (before === journal) return;
    this.tellReceived(nodeName, journal);
    this.tellEnds(nodeName, before, journal);
    this.armOver(nodeName, book);
    for (const listener of this.listeners) listener(nodeName, journal);
    const reservationId = this.nodes.get(nodeName)?.capacityReservationId;
    if (reservationId === undefined || journal === undefined) return;
    if (!this.blocks.learn(reservationId, journal, this.clock.now())) return;
    for (const node of this.nodes.all()) {
      if (node.capacityReservationId === reservationId) this.joinBlock(node);
    }
  }

  /** What was told of the capacity block that the node runs in holds for it, whenever it came. */
  private joinBlock(node: NodeView): void {
    const { name, instanceId, capacityReservationId: reservationId } = node;
    if (reservationId === undefined || instanceId === undefined || !node.selected) return;
    const journal = this.books.get(name)?.journal;
    const event = this.blocks.newsFor(reservationId, journal, this.clock.now());
    if (event === undefined) return;
    const kind = kindOf(event);
    if (this.policy.actions[kind] === 'ignore' || isLeftToOwner(kind, node, this.policy)) return;
    // Of two that claim the instance, one will go.
    if (this.nodes.byInstance(instanceId).length > 1) return;
    void this.apply(name, { type: 'event', event }).then(({ outcome }) => {
      if (outcome !== 'recorded') return;
      this.report.info('capacity block joined', {
        node: name,
        instance: instanceId,
        reservation: reservationId,
      });
    });
  }

  private armOver(nodeName: string, book: Book): void {
    book.overTimer?.cancel();
    book.overTimer = undefined;
    const now = this.clock.now();
    const at = book.journal === undefined ? Infinity : nextOverAt(book.journal, now);
    if (at === Infinity || this.isStopping) return;
    book.overTimer = this.clock.after(Math.max(0, at - now), () => {
      book.overTimer = undefined;
      void this.apply(nodeName, { type: 'mended' });
    });
  }

  /** What our next word to the Node is the first to record; it may be borne though no answer comes. */
  private noteSent(nodeName: string, journal: Journal | undefined, recordedFrom: number): void {
    for (const interruption of journal?.live ?? []) {
      if (interruption.recordedAt < recordedFrom) continue;
      this.unconfirmed.add(receiptKey(nodeName, interruption));
      const [oldest] = this.unconfirmed;
      if (this.unconfirmed.size > MAX_UNCONFIRMED && oldest !== undefined)
        this.unconfirmed.delete(oldest);
    }
  }

  /** Of what we sent ourselves, whoever tells that it stands there; who takes a journal up has nothing to tell. */
  private tellReceived(nodeName: string, journal: Journal | undefined): void {
    if (journal === undefined || this.unconfirmed.size === 0) return;
    for (const interruption of journal.live) {
      if (!this.unconfirmed.delete(receiptKey(nodeName, interruption))) continue;
      this.outcomes.received({
        node: nodeName,
        instanceId: journal.machine.instanceId,
        interruption,
        deadlineAt: planOf(journal, this.policy, undefined)?.deadlineAt,
      });
    }
  }

  private tellEnds(
    nodeName: string,
    before: Journal | undefined,
    after: Journal | undefined,
  ): void {
    if (before === undefined || after === undefined) return;
    const live = new Set(after.live.map(({ id }) => id));
    const node = this.nodes.get(nodeName);
    for (const interruption of before.live) {
      const { id, kind } = interruption;
      if (live.has(id)) continue;
      const instance = after.machine.instanceId;
      this.report.info('interruption over', { node: nodeName, instance, kind, interruption: id });
      this.objectEvents.onNode(node, 'InterruptionOver', { kind });
      // Told by its drain, or there was nothing to bring about.
      if (before.settledAt !== undefined || this.policy.actions[kind] !== 'drain') continue;
      this.outcomes.tell({
        node: nodeName,
        instanceId: instance,
        interruption,
        outcome: 'cancelled',
        deadlineAt: undefined,
        endedAt: this.clock.now(),
        pods: undefined,
        podNames: { left: [], stayed: [] },
      });
    }
    if (after.state === 'undone' && before.live.length > 0) {
      const instance = after.machine.instanceId;
      this.report.info('marks undone', { node: nodeName, instance });
      this.objectEvents.onNode(node, 'MarksRemoved', { instance });
    }
  }

  private observe(before: NodeView | undefined, after: NodeView | undefined): void {
    const name = (after ?? before)?.name;
    if (name !== undefined && this.floor.learn(name, after)) this.offerRoom();
    if (after === undefined) {
      if (before !== undefined) this.forget(before);
      return;
    }
    // A Node may register before the cloud provider says which instance it is.
    if (before?.instanceId !== after.instanceId) this.restore(after);
    this.look(after);
    this.joinBlock(after);
  }

  /** Load balancers have more targets: labels that were withheld may follow. */
  private offerRoom(): void {
    if (this.roomTimer !== undefined || this.isStopping) return;
    if (![...this.books.values()].some(({ withheld }) => withheld)) return;
    this.roomTimer = this.clock.after(ROOM_MS, () => {
      this.roomTimer = undefined;
      for (const [name, { withheld }] of this.books) {
        const node = withheld ? this.nodes.get(name) : undefined;
        if (node !== undefined) this.look(node);
      }
    });
  }

  /** The API server is back: what could not be written while it was away. */
  private lookAtAll(): void {
    for (const node of this.nodes.all()) {
      const book = this.books.get(node.name);
      if (book !== undefined) {
        book.mendTimer?.cancel();
        book.mendTimer = undefined;
        book.mendedAt = -Infinity;
      }
      this.restore(node);
      this.look(node);
      this.joinBlock(node);
    }
  }

  /** Takes up what the Node bears, and mends what is amiss. */
  private look(node: NodeView): void {
    const book = this.books.get(node.name);
    if (node.instanceId === undefined || (book === undefined && node.journal === undefined)) return;
    // Looked at again when the write has ended.
    if (book?.writing === true) return;
    if (node.journal !== undefined && node.journal !== book?.text) this.adopt(node);
    this.noteCordon(node);
    this.mendIfAmiss(node);
  }

  /** A cordon of ours that is gone is remembered as such: another may stand before that is written. */
  private noteCordon(node: NodeView): void {
    const book = this.books.get(node.name);
    if (book?.journal?.cordonedByUs !== true || node.unschedulable) return;
    this.remember(node.name, book, book.text, { ...book.journal, cordonedByUs: false });
  }

  private mendIfAmiss(node: NodeView): void {
    const book = this.books.get(node.name);
    if (book === undefined) return;
    // What time ends, and what room allows, is looked for by timers of their own.
    if (node.resourceVersion === book.rightAt && !book.withheld) return;
    const write = this.compute(node, book, [...book.refused, { type: 'mended' }]);
    if (write !== 'unrecordable' && write.patch !== undefined) this.mend(node.name);
  }

  /** A journal that this process did not write: another leader's, or a person's work. */
  private adopt(node: NodeView): void {
    const read = readJournal(node.journal);
    const sight = sightOf(node);
    const book = this.bookOf(node.name);
    if (read.outcome === 'read' && sight !== undefined) {
      if (isOfMachine(read.journal, sight)) {
        const journal = book.refused.reduce<Journal | undefined>(
          (known, change) => fold(known, change, sight, this.policy, this.clock.now()).journal,
          read.journal,
        );
        this.remember(node.name, book, node.journal, journal);
      } else if (book.journal === undefined || !isOfMachine(book.journal, sight)) {
        this.remember(node.name, book, node.journal, undefined);
        this.mend(node.name);
      }
      return;
    }
    book.text = node.journal;
    if (read.outcome === 'unreadable' && (book.journal?.live.length ?? 0) === 0) {
      this.report.error('journal unreadable', {
        node: node.name,
        instance: node.instanceId,
        reason: read.reason,
      });
    }
  }

  /** A Node that registers anew gets its machine's journal back. */
  private restore(node: NodeView): void {
    const { instanceId } = node;
    if (instanceId === undefined || node.journal !== undefined || !node.selected) return;
    const journal = this.departed.find(instanceId)?.journal;
    if (journal === undefined) return;
    void this.apply(node.name, { type: 'restored', journal }).then((result) => {
      if (result.outcome === 'recorded' || result.outcome === 'duplicate') {
        this.departed.restored(instanceId);
      }
      if (result.outcome === 'recorded') {
        this.report.info('journal restored', { node: node.name, instance: instanceId });
      }
    });
  }

  private forget(node: NodeView): void {
    const book = this.books.get(node.name);
    if (book === undefined) return;
    this.departed.note(node, book.journal);
    book.mendTimer?.cancel();
    book.mendTimer = undefined;
    book.overTimer?.cancel();
    book.overTimer = undefined;
    book.refused = [];
    this.remember(node.name, book, undefined, undefined);
    if (!book.writing) this.books.delete(node.name);
  }

  /** Writes again what is missing: at once, and ever more slowly against someone who keeps removing it. */
  private mend(nodeName: string): void {
    const book = this.books.get(nodeName);
    if (book === undefined || book.mendTimer !== undefined || this.isStopping) return;
    // Looked at again when it closes.
    if (this.breaker.isOpen) return;
    const now = this.clock.now();
    const delayMs = now - book.mendedAt > CALM_AFTER_MS ? 0 : book.mendDelayMs;
    book.mendDelayMs = Math.min(Math.max(1000, delayMs * 2), MAX_MEND_DELAY_MS);
    book.mendedAt = now + delayMs;
    book.mendTimer = this.clock.after(delayMs, () => {
      book.mendTimer = undefined;
      void this.apply(nodeName, { type: 'mended' });
    });
  }

  private tellFindings(node: NodeView, found: readonly MarkFinding[]): void {
    const book = this.books.get(node.name);
    const wasWithheld = book?.withheld === true;
    if (book !== undefined) book.withheld = found.some(({ type }) => type === 'label-withheld');
    for (const finding of found) {
      const facts = { node: node.name, instance: node.instanceId };
      switch (finding.type) {
        case 'journal-void':
          this.report.warn('journal void', { ...facts, recordedMachine: finding.journal.machine });
          break;
        case 'journal-unreadable':
          this.report.error('journal unreadable', { ...facts, reason: finding.reason });
          break;
        case 'journal-missing':
          this.report.warn('journal missing', facts);
          break;
        case 'label-withheld':
          if (wasWithheld) break;
          this.report.warn('load balancer label withheld', { ...facts, zone: node.zone });
          this.objectEvents.onNode(node, 'LoadBalancerLabelWithheld', { label: LOAD_BALANCER_KEY });
          break;
        default:
          throw new Error(`unexpected finding: ${JSON.stringify(finding satisfies never)}`);
      }
    }
  }

  private learnLatency(ms: number): void {
    this.latencyMs += (Math.max(ms, 1) - this.latencyMs) / 16;
  }
}

/** Of the changes asked for, which come after so many that had been refused before. */
function outcomesOf(write: MarkWrite, before: number, node: NodeView): readonly RecordOutcome[] {
  const verdicts = write.verdicts.slice(before);
  return verdicts.map((outcome) => ({ outcome, node, journal: write.journal }));
}

function receiptKey(nodeName: string, interruption: Interruption): string {
  return `${nodeName} ${episodeOf(interruption)}`;
}

/** What a drain notes of its own progress, or may wait its turn, holds up no urgent marks. */
function isBookkeeping({ type }: Change): boolean {
  switch (type) {
    case 'settled':
    case 'hook-completed':
    case 'hook-described':
    case 'begun':
    case 'postponed':
    case 'alive':
    case 'left-pool':
      return true;
    case 'event':
    case 'restored':
    case 'mended':
    case 'out-of-service':
      return false;
    default:
      throw new Error(`unexpected change: ${String(type satisfies never)}`);
  }
}
