/**
 * Every text the log can hold, with its level and what it means to whoever reads it at night.
 * docs/log-messages.md is generated from here. A text is a name: searches and alerts depend on it,
 * and what varies is in the facts beside it.
 */
export const MESSAGES = {
  // The process
  started: {
    level: 'info',
    meaning: 'The process runs with these options; nothing is connected yet.',
  },
  ready: {
    level: 'info',
    meaning: 'The node index is filled and the queue answers: messages are being received.',
  },
  stopping: {
    level: 'info',
    meaning: 'Asked to stop: no more is received, what is in hand goes back to the queue.',
  },
  stopped: {
    level: 'info',
    meaning:
      'The last line of an orderly stop; unfinished drains go on from their journals in the next process.',
  },
  'stop takes too long': {
    level: 'warn',
    meaning:
      'The orderly stop did not end in time and was cut short. Nothing is lost: journals and queue hold all of it.',
  },
  'fatal error': { level: 'error', meaning: 'The process cannot go on and ends with exit code 1.' },
  'http listening': { level: 'info', meaning: 'Health answers are served on this port.' },
  'http server failed': {
    level: 'error',
    meaning: 'The HTTP port cannot be served; the process ends with exit code 1.',
  },
  'log lines lost': {
    level: 'warn',
    meaning: 'Whoever reads the log was too slow; this many lines were dropped to spare memory.',
  },

  // Receiving
  'message received': { level: 'debug', meaning: 'The queue handed out a message.' },
  'interruption received': {
    level: 'info',
    meaning: 'AWS says that an instance will be interrupted; its node is known.',
  },
  duplicate: {
    level: 'debug',
    meaning: 'The journal holds this interruption already; the message is deleted.',
  },
  stale: {
    level: 'info',
    meaning:
      'Old news about a machine that has moved on since; the message is deleted, nothing is done.',
  },
  'not ours': {
    level: 'info',
    meaning: 'The message does not concern this controller, for the reason given; it is deleted.',
  },
  parked: {
    level: 'debug',
    meaning: 'No node claims the instance yet; the message waits, hidden, for it to register.',
  },
  'not in this cluster': {
    level: 'info',
    meaning:
      'No node claimed the instance within UNKNOWN_INSTANCE_GRACE_SECONDS; the message is deleted.',
  },
  'malformed message': {
    level: 'warn',
    meaning:
      'The message cannot be read, for the reason given; it is left to the redrive policy, or deleted after five receives.',
  },
  'ambiguous instance': {
    level: 'error',
    meaning:
      'Several nodes claim one instance; none is touched until only one is left. Delete the Node that is not the machine.',
  },

  // Recording
  marked: {
    level: 'info',
    meaning:
      'Taint, label, cordon and journal were written on the node; from here on a restart loses nothing.',
  },
  'recording refused': {
    level: 'error',
    meaning:
      'The API server refuses for good to write the journal; an emergency is drained from memory.',
  },
  'journal void': {
    level: 'warn',
    meaning: "The journal on the node is another machine's; its marks are undone.",
  },
  'journal unreadable': {
    level: 'error',
    meaning:
      'The journal on the node cannot be read; it is kept aside and written anew from what is known.',
  },
  resumed: {
    level: 'info',
    meaning: 'The journal on the node tells of an unfinished drain; it goes on.',
  },
  'API server unreachable': {
    level: 'error',
    meaning:
      'The API server does not answer; receiving stops and messages go back to the queue until it does.',
  },
  'API server answers again': { level: 'info', meaning: 'Receiving goes on.' },

  // Draining
  draining: { level: 'info', meaning: "The node's pods are being evicted." },
  'pod evicted': {
    level: 'debug',
    meaning: 'The API server accepted the eviction; the pod is terminating.',
  },
  'waiting for budgets': {
    level: 'warn',
    meaning: 'Disruption budgets refuse the eviction of these pods; it is tried again.',
  },
  'pod deleted past its budget': {
    level: 'warn',
    meaning:
      'The deadline left no time to wait for the budget any longer (DISRUPTION_BUDGETS=until-deadline).',
  },
  'pod grace shortened': {
    level: 'info',
    meaning: 'The deadline has tightened; a terminating pod would have outlasted it.',
  },
  drained: { level: 'info', meaning: 'All pods that had to go are gone.' },
  'not all pods left in time': {
    level: 'error',
    meaning: 'The deadline came while these pods were still there.',
  },

  // Settling
  'lifecycle hook completed': {
    level: 'info',
    meaning: 'Auto Scaling accepted CONTINUE for the lifecycle action.',
  },
  'lifecycle hook not completed': {
    level: 'error',
    meaning:
      'Auto Scaling did not accept the completion; the instance waits for the timeout of its hook.',
  },

  // The API server
  'credentials not renewed': {
    level: 'warn',
    meaning:
      'Token, certificate or plugin for the API server could not be read again; the old credentials stay in use.',
  },
  'watch ended': {
    level: 'debug',
    meaning: 'The API server ended a watch, as it does every few minutes; the next one goes on.',
  },
  'listing again': {
    level: 'info',
    meaning: 'A watch has lost its place, so that all objects are listed; nothing is missed.',
  },
  'cannot follow': {
    level: 'warn',
    meaning:
      'Objects of this kind can be neither listed nor watched, for the reason given; it is tried each second.',
  },
  'following again': { level: 'info', meaning: 'Objects of this kind are watched again.' },
  'listener failed': {
    level: 'error',
    meaning: 'A change of these objects was not taken up everywhere: a fault of this program.',
  },
} as const satisfies Readonly<Record<string, Readonly<{ level: Level; meaning: string }>>>;

export type Level = 'debug' | 'info' | 'warn' | 'error';

export type MessageText = keyof typeof MESSAGES;

/** The texts of one level: a text is always logged at the level its row states. */
export type MessageAt<Wanted extends Level> = {
  [Text in MessageText]: (typeof MESSAGES)[Text]['level'] extends Wanted ? Text : never;
}[MessageText];
