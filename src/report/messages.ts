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
    meaning: 'The node index is filled, journals are followed, and messages are being received.',
  },
  'dry run': {
    level: 'warn',
    meaning:
      'DRY_RUN is on: nothing is done, every line of what would be says dryRun. Messages stay in the queue and their receive counts rise: it wants a queue of its own.',
  },
  'would change a node': {
    level: 'info',
    meaning: 'Dry run: this is what would be written on the Node.',
  },
  'would evict a pod': { level: 'info', meaning: 'Dry run: the pod is left as it is.' },
  'would delete a pod': {
    level: 'info',
    meaning: 'Dry run: past its budget, or to shorten a grace that runs. The pod is left as it is.',
  },
  'would complete a lifecycle hook': {
    level: 'info',
    meaning: 'Dry run: the hook is left to its timeout.',
  },
  'would keep a lifecycle hook alive': {
    level: 'info',
    meaning: 'Dry run: no heartbeat is sent.',
  },
  'would replace an instance': {
    level: 'info',
    meaning: 'Dry run: the instance is not terminated.',
  },
  'stage stuck': {
    level: 'error',
    meaning:
      'This part of the process stands still for longer than anything outside of it can bring about: a fault of this program. /healthz fails until it goes on; a restart mends it, and goes on from the journals.',
  },
  'stage goes on': {
    level: 'info',
    meaning: 'What was told to be stuck has moved, or has ended.',
  },
  'event loop blocked': {
    level: 'warn',
    meaning:
      'For so long the process could do nothing else than one thing, or was paused, or got no processor. While it lasts /healthz does not answer.',
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
  'standing by': {
    level: 'info',
    meaning:
      'Another replica holds the Lease. This one keeps its node index warm and takes over when the Lease is free.',
  },
  leading: {
    level: 'info',
    meaning: 'The Lease is ours: this replica receives messages and empties nodes.',
  },
  'looking at the nodes anew': {
    level: 'info',
    meaning:
      'The watch of the Nodes has been silent for a while, so they are listed before anything is done with them.',
  },
  'nodes perhaps out of date': {
    level: 'warn',
    meaning:
      'A new leader could not list the Nodes within 10 s: it begins with those it knows, and learns the rest from the watch.',
  },
  'leading again': {
    level: 'info',
    meaning: 'The Lease could be renewed after all, and nobody had taken it: going on.',
  },
  'leadership not renewed': {
    level: 'error',
    meaning:
      'The Lease could not be renewed for 10 s: all writes are aborted before another replica may take it. Tried again; journals and queue hold all that is open.',
  },
  superseded: {
    level: 'error',
    meaning: 'Another replica has taken the Lease: this process ends with exit code 1.',
  },
  'lease not reached': {
    level: 'warn',
    meaning:
      'The Lease could not be read or written; tried every 2 s. If it is forbidden, the Role for leases is missing.',
  },
  'lease released': {
    level: 'info',
    meaning: 'The Lease was emptied: a standby takes over at once.',
  },
  'lease not released': {
    level: 'warn',
    meaning: 'The Lease could not be emptied: a standby takes it when it has expired, after 15 s.',
  },
  'http server failed': {
    level: 'warn',
    meaning: 'A connection could not be taken; the controller goes on without it.',
  },
  'http listening': { level: 'info', meaning: 'Health answers are served on this port.' },
  'log lines lost': {
    level: 'warn',
    meaning: 'Whoever reads the log was too slow; this many lines were dropped to spare memory.',
  },

  // Receiving
  'event received': { level: 'debug', meaning: 'A message was read; each event in it is told.' },
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
  'age of news unknown': {
    level: 'warn',
    meaning:
      'Whether the machine has outlived what a message tells of could not be asked: its message comes back ever more slowly, every 5 minutes at last. If that lasts, a right is missing: to get leases in kube-node-lease. Told once until it can be asked again.',
  },
  'not ours': {
    level: 'debug',
    meaning: 'The message does not concern this controller, for the reason given; it is deleted.',
  },
  parked: {
    level: 'debug',
    meaning: 'No node claims the instance yet; the message waits, hidden, for it to register.',
  },
  'not in this cluster': {
    level: 'debug',
    meaning:
      'No node claimed the instance within UNKNOWN_INSTANCE_GRACE_SECONDS; the message is deleted.',
  },
  'malformed message': {
    level: 'warn',
    meaning:
      'The message cannot be read, for the reason given; it is left to the redrive policy, or deleted after five receives.',
  },
  'malformed message deleted': {
    level: 'error',
    meaning:
      'The message could not be read at five receives, and the queue has no redrive policy; its body is told here for the last time.',
  },
  'unknown value': {
    level: 'warn',
    meaning:
      'A field of a message holds a value that is not known; it got the harshest known meaning.',
  },
  'event not judged': {
    level: 'error',
    meaning: 'A fault of this program; the message comes back and is judged again.',
  },
  'messages judged': {
    level: 'info',
    meaning: 'How many messages ended in which way since the last such line, and how many wait.',
  },
  'message not settled': {
    level: 'warn',
    meaning:
      'The queue could not be told what became of a message; it comes back and is judged again.',
  },
  'queue unreachable': {
    level: 'error',
    meaning: 'Messages cannot be received, for the reason given; it is tried again all the time.',
  },
  'queue answers again': { level: 'info', meaning: 'Messages are being received again.' },
  'redrive policy not read': {
    level: 'warn',
    meaning: 'Whether the queue has a dead letter queue is not known yet; it is asked again.',
  },
  'nodes not listed': {
    level: 'warn',
    meaning:
      'Whether the nodes of parked messages are in this cluster could not be made sure; it is tried again.',
  },
  'ambiguous instance given up': {
    level: 'error',
    meaning:
      'Several nodes claimed one instance until its deadline had passed; the message is deleted, nothing was done.',
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
  'journal missing': {
    level: 'warn',
    meaning: 'Somebody removed the journal of a live interruption; it is written again.',
  },
  'journal restored': {
    level: 'info',
    meaning: 'A machine whose Node was deleted has registered anew; its journal is back.',
  },
  'node not written': {
    level: 'error',
    meaning: 'A fault of this program while a node was marked; its messages come back.',
  },
  resumed: {
    level: 'info',
    meaning: 'Journals on this many nodes tell of interruptions; unfinished drains go on.',
  },
  'API server unreachable': {
    level: 'error',
    meaning:
      'The API server does not answer; receiving stops and messages go back to the queue until it does.',
  },
  'API server answers again': { level: 'info', meaning: 'Receiving goes on.' },

  'capacity block joined': {
    level: 'info',
    meaning:
      "The end of this node's capacity block was told before the node joined it: the journals of the others have it.",
  },

  // Draining
  draining: { level: 'info', meaning: "The node's pods are being evicted." },
  'pod evicted': {
    level: 'debug',
    meaning: 'The API server accepted the eviction; the pod is terminating.',
  },
  'still draining': {
    level: 'info',
    meaning:
      'What the node waits for, pod by pod: a budget that refuses, or a grace that runs. Told at growing intervals.',
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
  'pods not listed': {
    level: 'warn',
    meaning: "The node's pods could not be listed; it is tried again each second.",
  },
  'pod not read': {
    level: 'warn',
    meaning: 'Whether a pod is still there could not be asked; its eviction is tried again.',
  },
  'pod watch ended': {
    level: 'error',
    meaning: 'A fault of this program: departures are found by lists until the next drain begins.',
  },
  'pod comes back to the node': {
    level: 'warn',
    meaning:
      'A pod that tolerates our taint was bound to the node again; its like was evicted once, and it is not waited for.',
  },
  'pods keep coming to the node': {
    level: 'warn',
    meaning:
      'Pods of this owner are bound to the marked node again and again, by spec.nodeName most likely, which no taint keeps away: they are evicted ever more slowly, every 5 minutes at last, and in time for a deadline. Told once an owner.',
  },
  'eviction failed': {
    level: 'error',
    meaning: 'A fault of this program while a pod was evicted; it is tried again.',
  },
  'drain failed': {
    level: 'error',
    meaning: 'A fault of this program; a restart goes on from the journal.',
  },
  'held by an operator': {
    level: 'warn',
    meaning:
      'Annotation node-termination-controller/hold stands on the node: nothing more is evicted there.',
  },
  'released by an operator': {
    level: 'warn',
    meaning: 'The annotation is gone: evictions go on.',
  },
  'machine outlived its deadline': {
    level: 'warn',
    meaning: 'The node is alive long after its deadline: the drain goes on without one.',
  },
  'node gone': {
    level: 'info',
    meaning: 'The Node was deleted while it was drained; nothing is left to do there.',
  },
  'node gone undrained': {
    level: 'info',
    meaning:
      'The Node was deleted while an interruption waited for its turn there, or while nobody led who would have drained it, and has not registered anew.',
  },
  drained: { level: 'info', meaning: 'All pods that had to go are gone.' },
  'end recorded': {
    level: 'info',
    meaning:
      'News that only end something (a change closed, an instance started or off) stand in the journal of the Node.',
  },
  'interruption over': {
    level: 'info',
    meaning:
      'This interruption calls for nothing any more: it was closed, or its machine is back. The Node falls back to what the others need.',
  },
  'marks undone': {
    level: 'info',
    meaning: 'No interruption is left: all that this program had put on the Node is gone again.',
  },
  'turn has come': {
    level: 'info',
    meaning:
      'Paced interruptions (rebalance recommendations, scheduled changes) of this Node wait no longer: its drain begins.',
  },
  'drain postponed': {
    level: 'info',
    meaning:
      'A paced drain has waited for disruption budgets alone, for 15 minutes: it makes room for others and waits again.',
  },
  'load balancer label withheld': {
    level: 'warn',
    meaning:
      'Load balancers would be left with too few targets: the Node stays among them until others are Ready.',
  },
  'machine off': {
    level: 'info',
    meaning: 'The instance is stopped or terminated: evictions end, and its hooks are completed.',
  },
  'machine out of service': {
    level: 'warn',
    meaning:
      'The machine is off beyond doubt: the out-of-service taint frees its pods and volumes (OUT_OF_SERVICE_TAINT).',
  },
  'machine alive after its deadline': {
    level: 'warn',
    meaning:
      'Ten minutes after AWS should have taken the machine it still works. Its marks stay: nothing but a person ends this interruption.',
  },
  'not drained by policy': {
    level: 'info',
    meaning:
      'The actions chosen for its interruptions (SPOT_INTERRUPTION_ACTION and its like) ask for marks alone; what waits for the end of the drain goes on.',
  },
  'not all pods left in time': {
    level: 'error',
    meaning: 'The deadline came while these pods were still there.',
  },

  // Settling
  'lifecycle hook completed': {
    level: 'info',
    meaning: 'Auto Scaling accepted CONTINUE for the lifecycle action.',
  },
  'lifecycle hook not yet completed': {
    level: 'warn',
    meaning: 'Auto Scaling did not accept the completion, for the reason given; it is tried again.',
  },
  'lifecycle hook kept alive': {
    level: 'info',
    meaning: 'A heartbeat: the drain needs longer than the timeout of the hook.',
  },
  'lifecycle hook not kept alive': {
    level: 'warn',
    meaning: 'A heartbeat was not accepted, for the reason given; it is tried again.',
  },
  'lifecycle hook over': {
    level: 'warn',
    meaning: 'The action of the hook had ended before the node was drained.',
  },
  'lifecycle hook timeout unknown': {
    level: 'warn',
    meaning:
      'The timeout of the hook could not be read (permission autoscaling:DescribeLifecycleHooks, or no such hook); the one stated is assumed. Told once for the permission, else once a hook.',
  },
  'several terminate hooks in a group': {
    level: 'warn',
    meaning:
      "Under HOOKS=* all of them are completed, also those that may be another program's: name yours in HOOKS. Told once a group.",
  },
  'waiting for volumes': {
    level: 'info',
    meaning: 'The pods are gone; their volumes are not yet detached.',
  },
  'volumes not listed': {
    level: 'warn',
    meaning:
      'Whether volumes are still attached could not be asked; it is tried again. Told once a node.',
  },
  'volumes not waited for': {
    level: 'warn',
    meaning:
      'The right to list volumeattachments, or to get persistentvolumeclaims, is missing: hooks are completed without waiting for volumes.',
  },
  'volumes still attached': {
    level: 'warn',
    meaning: 'The time was over before these volumes were detached.',
  },
  'lifecycle hook not completed': {
    level: 'error',
    meaning:
      'Auto Scaling did not accept the completion, or the node of a launch hook was not Ready, before the time of the hook was over.',
  },

  'instance replaced': {
    level: 'info',
    meaning:
      'AFTER_VOLUNTARY_DRAIN=replace: the drained instance is being terminated, and its group launches another. Answer over: it is in no group, or on its way out already.',
  },
  'instance not yet replaced': {
    level: 'warn',
    meaning:
      'Auto Scaling did not terminate the instance, for the reason given; it is tried again.',
  },
  'instance not replaced': {
    level: 'warn',
    meaning:
      'AFTER_VOLUNTARY_DRAIN=replace, but the permission named is missing: the drained node stays as it is, and gives up its place among the voluntary drains after 15 minutes.',
  },

  'outcome not sent': {
    level: 'warn',
    meaning:
      'What became of an interruption could not be put on the event bus (EVENT_BUS_NAME), for the reason given; nothing else waits for that.',
  },
  'Kubernetes events not written': {
    level: 'warn',
    meaning:
      'Events on Nodes and Pods could not be written, for the reason given; nothing else waits for that. It is tried again ever more slowly, and what finds no room meanwhile is dropped and counted. If it is forbidden, the right to create and patch events of events.k8s.io is missing. Told once until one is written again.',
  },
  'Kubernetes event refused': {
    level: 'debug',
    meaning:
      'The API server does not take this one, for the reason given: its namespace goes, say.',
  },
  'would write a Kubernetes event': { level: 'debug', meaning: 'Dry run: no event is written.' },
  'webhook message not sent': {
    level: 'warn',
    meaning:
      'The receiver of WEBHOOK_URL did not take this message, for the reason given, and it is not tried again; nothing else waits for that.',
  },
  'webhook message failed': {
    level: 'debug',
    meaning: 'An attempt that failed for a passing reason; it is tried again.',
  },
  'webhook message sent': { level: 'debug', meaning: 'The receiver of WEBHOOK_URL took it.' },
  'webhook answer cut short': {
    level: 'debug',
    meaning: 'The rest of an answer, which says nothing to us, did not come or was too long.',
  },
  'would send an outcome': {
    level: 'info',
    meaning: 'Dry run: nothing is put on the event bus, and the webhook is not called.',
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
