import { isCalling } from './calls.ts';
import { lastCallAt, opensAt } from './deadline.ts';
import {
  newsOf,
  type ChangeVersion,
  type Interruption,
  type NodeEvent,
  type Telling,
} from './interruption.ts';
import {
  emptyJournal,
  isOfMachine,
  MAX_ENDED,
  MAX_LIVE,
  MAX_TOLD,
  type Journal,
  type JournalState,
  type MachineSigns,
} from './journal.ts';
import { isReturning, withEnded, withoutOver, type Sight } from './over.ts';
import type { Policy } from './policy.ts';
import { isEmergency } from './rows.ts';

/** One thing to write into a node's journal. */
export type Change =
  | Readonly<{ type: 'event'; event: NodeEvent }>
  | Readonly<{ type: 'hook-described'; token: string; timeoutSeconds: number }>
  | Readonly<{ type: 'hook-completed'; token: string }>
  /** The turn of these paced interruptions has come. */
  | Readonly<{ type: 'begun'; ids: readonly string[] }>
  /** The drain has waited for budgets in vain: its paced interruptions wait again, until then at least. */
  | Readonly<{ type: 'postponed'; until: number }>
  /** The drain is over; every interruption recorded until `asOf` (their ids) is dealt with. */
  | Readonly<{ type: 'settled'; asOf: readonly string[] }>
  /** The kubelet renewed its Lease at that moment. */
  | Readonly<{ type: 'alive'; at: number }>
  /** A launch event said that the instance left its warm pool. */
  | Readonly<{ type: 'left-pool'; at: number }>
  /** The machine, known to be off, is off beyond doubt: its pods and volumes may be set free. */
  | Readonly<{ type: 'out-of-service' }>
  /** The journal of a deleted Node whose machine registered anew: a Node that bears no marks yet. */
  | Readonly<{ type: 'restored'; journal: Journal }>
  /** Nothing new: write again what is missing, or take away what is void or over. */
  | Readonly<{ type: 'mended' }>;

/**
 * `recorded`: the journal holds it from now on. `duplicate`: it held it already. `stale`: old news
 * about something that is over.
 */
export type Verdict = 'recorded' | 'duplicate' | 'stale';

export type Folded = Readonly<{ journal: Journal | undefined; verdict: Verdict }>;

/**
 * The journal after one change. `journal` is the one on the Node, readable or not: of another
 * machine it counts for nothing.
 */
export function fold(
  journal: Journal | undefined,
  change: Change,
  sight: Sight,
  policy: Policy,
  now: number,
): Folded {
  const known = journal !== undefined && isOfMachine(journal, sight) ? journal : undefined;
  const own = known && restated(known, withoutOver(known, sight, now), sight, policy);
  const folded = foldChange(own, change, sight, policy, now);
  if (folded.journal === undefined || folded.journal === known) return folded;
  const after = withoutOver(folded.journal, sight, now);
  const isGone = after.live.length < folded.journal.live.length;
  return {
    journal: restated(own, after, sight, policy),
    // What it interrupts was over before it came.
    verdict:
      change.type === 'event' && isGone && !endsSomething(change.event) ? 'stale' : folded.verdict,
  };
}

function endsSomething(event: NodeEvent): boolean {
  return newsOf(event, 0).about === 'machine';
}

function foldChange(
  own: Journal | undefined,
  change: Change,
  sight: Sight,
  policy: Policy,
  now: number,
): Folded {
  switch (change.type) {
    case 'event': {
      const news = newsOf(change.event, now);
      const journal = own ?? emptyJournal(sight);
      if (news.about === 'machine') return foldMachineNews(journal, news.state, news.time, own);
      return foldNews(journal, news.interruption, policy, now);
    }
    case 'hook-described':
      return updateHook(own, change.token, (hook) => ({
        ...hook,
        timeoutSeconds: change.timeoutSeconds,
      }));
    case 'hook-completed':
      return updateHook(own, change.token, (hook) => ({
        ...hook,
        completedAt: hook.completedAt ?? now,
      }));
    case 'begun':
      return foldBegun(own, change.ids, now);
    case 'postponed':
      return foldPostponed(own, change.until, policy, now);
    case 'settled': {
      const settled =
        own?.state === 'draining' &&
        own.live.every((entry) => !isCalling(entry, policy) || change.asOf.includes(entry.id));
      return settled
        ? { journal: { ...own, state: 'settled', settledAt: now }, verdict: 'recorded' }
        : { journal: own, verdict: 'stale' };
    }
    case 'alive':
      return withSigns(own, (signs) =>
        change.at > (signs.aliveAt ?? -Infinity) ? { ...signs, aliveAt: change.at } : signs,
      );
    case 'left-pool':
      return withSigns(own ?? emptyJournal(sight), (signs) =>
        change.at > (signs.leftPoolAt ?? -Infinity) ? { ...signs, leftPoolAt: change.at } : signs,
      );
    case 'out-of-service':
      return withSigns(own, (signs) =>
        signs.stopped !== undefined && !sight.ready ? { ...signs, outOfServiceByUs: true } : signs,
      );
    case 'restored':
      return isOfMachine(change.journal, sight)
        ? foldRestored(own, change.journal, policy, now)
        : { journal: own, verdict: 'stale' };
    case 'mended':
      return { journal: own, verdict: 'duplicate' };
    default:
      throw new Error(`unexpected change: ${JSON.stringify(change satisfies never)}`);
  }
}

/** The state follows from what is live: news that call for draining begin it anew, nothing else does. */
function restated(
  before: Journal | undefined,
  after: Journal,
  sight: Sight,
  policy: Policy,
): Journal {
  const state = stateAfter(before, after, sight, policy);
  if (state === after.state) return after;
  return { ...after, state, settledAt: state === 'settled' ? after.settledAt : undefined };
}

function stateAfter(
  before: Journal | undefined,
  after: Journal,
  sight: Sight,
  policy: Policy,
): JournalState {
  if (after.signs.stopped !== undefined) return 'stopped';
  if (after.live.length === 0) return 'undone';
  const calling = callersOf(after, policy);
  if (calling.length === 0) return 'waiting';
  if (after.live.every((entry) => isReturning(entry, after, sight) || !isCalling(entry, policy))) {
    return 'settled';
  }
  const known = new Set(before === undefined ? [] : callersOf(before, policy));
  const isSettled = after.state === 'settled' && calling.every((id) => known.has(id));
  return isSettled ? 'settled' : 'draining';
}

function callersOf({ live }: Journal, policy: Policy): readonly string[] {
  return live.filter((entry) => isCalling(entry, policy)).map(({ id }) => id);
}

/** At the bound, the oldest hook that is done with makes room: nothing is left to do about it. */
function withRoom(journal: Journal, news: Interruption, now: number): Journal {
  const done =
    journal.live.length < MAX_LIVE
      ? undefined
      : journal.live.find(({ hook }) => hook?.completedAt !== undefined);
  const roomy = done === undefined ? journal : withEnded(journal, [{ ...done, endedAt: now }]);
  return { ...roomy, live: [...roomy.live, news] };
}

function foldNews(journal: Journal, news: Interruption, policy: Policy, now: number): Folded {
  return isChanging(news)
    ? foldVersion(journal, news, policy, now)
    : foldInterruption(journal, news, now);
}

/** Of everything but scheduled changes: one episode at a time, told apart by its time. */
function foldInterruption(journal: Journal, news: Interruption, now: number): Folded {
  const known = journal.live.find(({ id }) => id === news.id);
  const over = journal.ended.findLast(({ id }) => id === news.id);
  if (known === undefined) {
    if (over !== undefined && !isNewsAfter(over, news, over.endedAt)) {
      return { journal, verdict: 'stale' };
    }
    return { journal: withRoom(journal, news, now), verdict: 'recorded' };
  }
  if (known.deadlineAt === undefined && news.hook === undefined) {
    // The same advice again: it only lasts longer.
    if (news.time <= known.time) return { journal, verdict: 'duplicate' };
    return {
      journal: replaced(journal, known, { ...known, time: news.time }),
      verdict: 'recorded',
    };
  }
  if (isNewsAfter(known, news, known.time)) {
    const ended = [...journal.ended, { ...known, endedAt: now }].slice(-MAX_ENDED);
    return {
      journal: { ...replaced(journal, known, news), ended, state: 'draining' },
      verdict: 'recorded',
    };
  }
  if (news.deadlineAt !== undefined && news.deadlineAt < known.time) {
    return { journal, verdict: 'stale' };
  }
  if (!isTighter(news, known)) return { journal, verdict: 'duplicate' };
  const tightened: Interruption = { ...known, time: news.time, deadlineAt: news.deadlineAt };
  return { journal: replaced(journal, known, tightened), verdict: 'recorded' };
}

function replaced(journal: Journal, known: Interruption, news: Interruption): Journal {
  return { ...journal, live: journal.live.map((entry) => (entry === known ? news : entry)) };
}

/**
 * One episode told twice: whichever order the two arrive in, the earliest deadline stands, with the
 * earliest window. A hook's deadline follows from its time.
 */
function isTighter(news: Interruption, known: Interruption): boolean {
  if (news.deadlineAt === undefined || known.deadlineAt === undefined) {
    return news.hook !== undefined && news.time < known.time;
  }
  return (
    news.deadlineAt < known.deadlineAt ||
    (news.deadlineAt === known.deadlineAt && news.time < known.time)
  );
}

/** Whether `news` speaks of another episode than the recorded one: not later is old. */
function isNewsAfter(recorded: Interruption, news: Interruption, otherwiseAfter: number): boolean {
  return recorded.hook === undefined && news.time > (recorded.deadlineAt ?? otherwiseAfter);
}

type Changing = Interruption & Readonly<{ change: ChangeVersion }>;

function isChanging(interruption: Interruption): interruption is Changing {
  return interruption.change !== undefined;
}

/**
 * News of a scheduled change replaces what is older, also later or closed, so that any order of
 * arrival ends in the same plan. What the machine has been through, only a later start reopens.
 */
function foldVersion(journal: Journal, news: Changing, policy: Policy, now: number): Folded {
  const live = journal.live.filter(isChanging).find(({ id }) => id === news.id);
  const past: readonly Interruption[] = journal.ended;
  const known = live ?? past.filter(isChanging).findLast(({ id }) => id === news.id);
  if (known === undefined) {
    return news.change.closed
      ? { journal: withEnded(journal, [{ ...news, endedAt: now }]), verdict: 'recorded' }
      : { journal: withRoom(journal, news, now), verdict: 'recorded' };
  }
  const order = compareVersions(news.change, known.change);
  const told = news.change.told.reduce(withTelling, known.change.told);
  if (order <= 0) {
    return {
      journal: retold(journal, known, told),
      verdict: order === 0 ? 'duplicate' : 'stale',
    };
  }
  const { doneUntil } = known.change;
  const sameStart = news.change.startAt === known.change.startAt;
  const merged: Changing = {
    ...news,
    time: firstToldAt(told, news.change.startAt) ?? news.time,
    recordedAt: live?.recordedAt ?? now,
    // Seen before its start once, it keeps its deadline when told again after it.
    deadlineAt: sameStart ? known.deadlineAt : news.deadlineAt,
    change: { ...news.change, doneUntil, told, unknown: known.change.unknown },
    unknown: known.unknown,
  };
  const isDone = doneUntil !== undefined && (news.change.startAt ?? -Infinity) <= doneUntil;
  if (news.change.closed || isDone) {
    return {
      journal: withEnded(journal, [{ ...merged, endedAt: now }]),
      verdict: live === undefined && !news.change.closed ? 'stale' : 'recorded',
    };
  }
  // Many that start together begin before their lead: told again of the same start, they stay begun.
  const staysBegun = sameStart || opensAt(merged, policy) <= now;
  const reopened: Changing = { ...merged, begunAt: staysBegun ? live?.begunAt : undefined };
  if (live !== undefined)
    return { journal: replaced(journal, live, reopened), verdict: 'recorded' };
  const ended = journal.ended.filter(({ id }) => id !== news.id);
  return { journal: withRoom({ ...journal, ended }, reopened, now), verdict: 'recorded' };
}

/** What is told of an older version, live or over, says since when the ruling one's start was known. */
function retold(journal: Journal, known: Changing, told: readonly Telling[]): Journal {
  if (told === known.change.told) return journal;
  const retell = <Entry extends Interruption>(entry: Entry): Entry => {
    if (entry !== known) return entry;
    const time = firstToldAt(told, known.change.startAt) ?? known.time;
    return { ...entry, time, change: { ...known.change, told } };
  };
  return { ...journal, live: journal.live.map(retell), ended: journal.ended.map(retell) };
}

/** The same list where the news add nothing: a start that late was known by then. */
function withTelling(told: readonly Telling[], news: Telling): readonly Telling[] {
  if (told.some((known) => outdoes(known, news))) return told;
  return [...told.filter((known) => !outdoes(news, known)), news]
    .toSorted((a, b) => a.time - b.time)
    .slice(-MAX_TOLD);
}

function outdoes(a: Telling, b: Telling): boolean {
  return a.time <= b.time && (a.startAt ?? -Infinity) >= (b.startAt ?? -Infinity);
}

/**
 * When a start so late was first spoken of: a machine that was started after that is past it. As
 * the whole of what was told decides, in whatever order it came, so does this.
 */
function firstToldAt(told: readonly Telling[], startAt: number | undefined): number | undefined {
  return told.find((known) => (known.startAt ?? -Infinity) >= (startAt ?? -Infinity))?.time;
}

/** Positive: `a` is the later news. Of the same moment, what is closed, and what starts earlier, counts. */
function compareVersions(a: ChangeVersion, b: ChangeVersion): number {
  return (
    a.updatedAt - b.updatedAt ||
    Number(a.closed) - Number(b.closed) ||
    (b.startAt ?? 0) - (a.startAt ?? 0) ||
    (a.endAt ?? 0) - (b.endAt ?? 0)
  );
}

function foldMachineNews(
  journal: Journal,
  state: 'stopped' | 'terminated' | 'running',
  time: number,
  own: Journal | undefined,
): Folded {
  const { runningAt = -Infinity, aliveAt = -Infinity, stopped } = journal.signs;
  if (state === 'running') {
    if (time === runningAt) return { journal: own, verdict: 'duplicate' };
    if (time < runningAt) return { journal: own, verdict: 'stale' };
    return withSigns(journal, (signs) => ({ ...signs, runningAt: time }));
  }
  if (time <= aliveAt || (state === 'stopped' && time <= runningAt)) {
    return { journal: own, verdict: 'stale' };
  }
  const isKnown =
    stopped !== undefined && (stopped.state === 'terminated' || stopped.state === state);
  if (isKnown && time <= stopped.at) return { journal: own, verdict: 'duplicate' };
  // Nothing comes after termination.
  const latest = stopped?.state === 'terminated' ? stopped.state : state;
  return withSigns(journal, (signs) => ({ ...signs, stopped: { state: latest, at: time } }));
}

function withSigns(
  journal: Journal | undefined,
  update: (signs: MachineSigns) => MachineSigns,
): Folded {
  const signs = journal && update(journal.signs);
  if (journal === undefined || signs === undefined || signs === journal.signs) {
    return { journal, verdict: 'stale' };
  }
  return { journal: { ...journal, signs }, verdict: 'recorded' };
}

function foldBegun(journal: Journal | undefined, ids: readonly string[], now: number): Folded {
  const begins = ({ id, kind, begunAt }: Interruption): boolean =>
    ids.includes(id) && !isEmergency(kind) && begunAt === undefined;
  if (!journal?.live.some(begins)) return { journal, verdict: 'stale' };
  const live = journal.live.map((entry) => (begins(entry) ? { ...entry, begunAt: now } : entry));
  return { journal: { ...journal, live, notBeforeAt: undefined }, verdict: 'recorded' };
}

/** Not from its last call on, and not under an emergency, which waits for nothing. */
function foldPostponed(
  journal: Journal | undefined,
  until: number,
  policy: Policy,
  now: number,
): Folded {
  const begun = journal?.live.filter((entry) => isCalling(entry, policy)) ?? [];
  const mayWait = begun.every(
    (entry) => !isEmergency(entry.kind) && now < lastCallAt(entry, policy),
  );
  if (journal?.state !== 'draining' || !mayWait) return { journal, verdict: 'stale' };
  const live = journal.live.map((entry) => ({ ...entry, begunAt: undefined }));
  return { journal: { ...journal, live, notBeforeAt: until }, verdict: 'recorded' };
}

/**
 * Messages may have been recorded on the new Node already: the two are merged as if those had come
 * after. Pods may have come to it before it was marked, so what was settled on the old one is not.
 */
function foldRestored(
  own: Journal | undefined,
  restored: Journal,
  policy: Policy,
  now: number,
): Folded {
  if (own === undefined) {
    return {
      journal: {
        ...restored,
        state: restored.state === 'settled' ? 'draining' : restored.state,
        cordonedByUs: undefined,
        labelledByUs: undefined,
        labelBefore: undefined,
        signs: { ...restored.signs, outOfServiceByUs: false },
      },
      verdict: 'recorded',
    };
  }
  const merged = restored.live.reduce(
    (journal, entry) => foldNews(journal, entry, policy, now).journal ?? journal,
    own,
  );
  if (merged === own) return { journal: own, verdict: 'duplicate' };
  return {
    journal: {
      ...merged,
      state: 'draining',
      ended: [...restored.ended, ...merged.ended].slice(-MAX_ENDED),
    },
    verdict: 'recorded',
  };
}

function updateHook(
  journal: Journal | undefined,
  token: string,
  update: (hook: NonNullable<Interruption['hook']>) => NonNullable<Interruption['hook']>,
): Folded {
  if (!journal?.live.some(({ hook }) => hook?.token === token)) {
    return { journal, verdict: 'stale' };
  }
  return {
    journal: {
      ...journal,
      live: journal.live.map((entry) =>
        entry.hook?.token === token ? { ...entry, hook: update(entry.hook) } : entry,
      ),
    },
    verdict: 'recorded',
  };
}
