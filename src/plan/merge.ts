import { interruptionOf, type InterruptingEvent, type Interruption } from './interruption.ts';
import {
  emptyJournal,
  isOfMachine,
  MAX_ENDED,
  MAX_LIVE,
  recordedMachine,
  type Journal,
  type Machine,
} from './journal.ts';

/** One thing to write into a node's journal. */
export type Change =
  | Readonly<{ type: 'event'; event: InterruptingEvent }>
  | Readonly<{ type: 'hook-described'; token: string; timeoutSeconds: number }>
  | Readonly<{ type: 'hook-completed'; token: string }>
  /** The drain is over; every interruption recorded until `asOf` (their ids) is dealt with. */
  | Readonly<{ type: 'settled'; asOf: readonly string[] }>
  /** The journal of a deleted Node whose machine registered anew: a Node that bears no marks yet. */
  | Readonly<{ type: 'restored'; journal: Journal }>
  /** Nothing new: write again what is missing, or take away what is void. */
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
  machine: Machine,
  now: number,
): Folded {
  const own = journal !== undefined && isOfMachine(journal, machine) ? journal : undefined;
  switch (change.type) {
    case 'event':
      return foldEvent(
        own ?? emptyJournal(machine),
        interruptionOf(change.event, now),
        machine,
        now,
      );
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
    case 'settled': {
      const settled =
        own?.state === 'draining' && own.live.every(({ id }) => change.asOf.includes(id));
      return settled
        ? { journal: { ...own, state: 'settled' }, verdict: 'recorded' }
        : { journal: own, verdict: 'stale' };
    }
    case 'restored':
      return isOfMachine(change.journal, machine)
        ? foldRestored(own, change.journal)
        : { journal: own, verdict: 'stale' };
    case 'mended':
      return { journal: own, verdict: 'duplicate' };
    default:
      throw new Error(`unexpected change: ${JSON.stringify(change satisfies never)}`);
  }
}

/** At the bound, the oldest hook that is done with makes room: nothing is left to do about it. */
function withRoom(journal: Journal, news: Interruption, now: number): Journal {
  const done =
    journal.live.length < MAX_LIVE
      ? undefined
      : journal.live.find(({ hook }) => hook?.completedAt !== undefined);
  if (done === undefined) return { ...journal, live: [...journal.live, news] };
  return {
    ...journal,
    live: [...journal.live.filter((entry) => entry !== done), news],
    ended: [...journal.ended, { ...done, endedAt: now }].slice(-MAX_ENDED),
  };
}

function foldEvent(journal: Journal, news: Interruption, machine: Machine, now: number): Folded {
  const known = journal.live.find(({ id }) => id === news.id);
  const over = journal.ended.findLast(({ id }) => id === news.id);
  const { bootId } = machine;
  const begun = {
    ...journal,
    machine: { ...recordedMachine(journal, machine), ...(bootId !== '' && { bootId }) },
    state: 'draining',
  } as const;
  if (known === undefined) {
    if (over !== undefined && !isNewsAfter(over, news, over.endedAt)) {
      return { journal, verdict: 'stale' };
    }
    return { journal: withRoom(begun, news, now), verdict: 'recorded' };
  }
  if (isNewsAfter(known, news, known.time)) {
    const ended = known.deadlineAt === undefined ? [] : [{ ...known, endedAt: now }];
    return {
      journal: {
        ...begun,
        live: journal.live.map((entry) => (entry === known ? news : entry)),
        ended: [...journal.ended, ...ended].slice(-MAX_ENDED),
      },
      verdict: 'recorded',
    };
  }
  if (news.deadlineAt !== undefined && news.deadlineAt < known.time) {
    return { journal, verdict: 'stale' };
  }
  if (!isTighter(news, known)) return { journal, verdict: 'duplicate' };
  const tightened: Interruption = { ...known, time: news.time, deadlineAt: news.deadlineAt };
  return {
    journal: {
      ...journal,
      live: journal.live.map((entry) => (entry === known ? tightened : entry)),
    },
    verdict: 'recorded',
  };
}

/**
 * One episode told twice: whichever order the two arrive in, the earliest deadline stands, with the
 * earliest window. A hook's deadline follows from its time; a rebalance recommendation has no window.
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

/**
 * Messages may have been recorded on the new Node already: what they say goes before. Pods may have
 * come to it before it was marked, so what was settled on the old one is not.
 */
function foldRestored(own: Journal | undefined, restored: Journal): Folded {
  if (own === undefined) {
    return {
      journal: {
        ...restored,
        state: restored.state === 'settled' ? 'draining' : restored.state,
        cordonedByUs: undefined,
        labelledByUs: undefined,
        labelBefore: undefined,
      },
      verdict: 'recorded',
    };
  }
  const missing = restored.live.filter(({ id }) => own.live.every((entry) => entry.id !== id));
  if (missing.length === 0) return { journal: own, verdict: 'duplicate' };
  return {
    journal: {
      ...own,
      state: 'draining',
      live: [...missing, ...own.live],
      ended: [...restored.ended, ...own.ended].slice(-MAX_ENDED),
    },
    verdict: 'recorded',
  };
}

/** Whether `news` speaks of another episode than the recorded one: not later is old. */
function isNewsAfter(recorded: Interruption, news: Interruption, otherwiseAfter: number): boolean {
  return recorded.hook === undefined && news.time > (recorded.deadlineAt ?? otherwiseAfter);
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
