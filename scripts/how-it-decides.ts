import { lastCallAt, opensAt } from '../src/plan/deadline.ts';
import type { Interruption } from '../src/plan/interruption.ts';
import { TURN_MS } from '../src/plan/pace.ts';
import { isEmergency, isRow, rowFacts, ROWS, type Return, type Row } from '../src/plan/rows.ts';

type Words = Readonly<{ title: string; window: string; why: string }>;

/** What the code cannot say of its rows; that there is one for each is the compiler's business. */
const WORDS = {
  'spot-terminate': {
    title: 'spot interruption: terminate',
    window: "two minutes from the event's time",
    why: 'AWS takes the instance two minutes after the notice, however late the notice comes.',
  },
  'spot-stop': {
    title: 'spot interruption: stop',
    window: "two minutes from the event's time",
    why: 'The same machine may be started again: then it is given back.',
  },
  'spot-hibernate': {
    title: 'spot interruption: hibernate',
    window: 'none is left',
    why: 'Hibernation begins with the notice. A resumed machine keeps its boot ID, so only a start and a renewed Lease show that it is back.',
  },
  'capacity-reservation': {
    title: 'capacity reservation interruption',
    window: 'until `instance-termination-time`, else two minutes',
    why: 'The event names the moment.',
  },
  'capacity-block': {
    title: 'capacity block expiry',
    window: "ten minutes from the event's time",
    why: 'AWS begins to terminate half an hour before the end of the block. The event names no instance: nodes are found by CAPACITY_RESERVATION_LABEL, those that join it later included.',
  },
  rebalance: {
    title: 'rebalance recommendation',
    window: 'none: budgets rule',
    why: 'Advice: an interruption may follow or not. What does not follow within a day was not meant for this machine.',
  },
  retirement: {
    title: 'scheduled change: retirement',
    window: 'from receipt until `startTime`',
    why: 'The hardware is failing: early is better. A stop and start moves the instance to other hardware.',
  },
  stop: {
    title: 'scheduled change: stop',
    window: 'from receipt until `startTime`',
    why: 'As retirement.',
  },
  termination: {
    title: 'scheduled change: termination',
    window: 'from receipt until `startTime`',
    why: 'As retirement, but nothing comes back.',
  },
  reboot: {
    title: 'scheduled change: reboot',
    window: 'from the lead until `startTime`',
    why: 'The machine is sound and comes back: drained weeks before, it would stand idle for weeks.',
  },
  network: {
    title: 'scheduled change: network maintenance',
    window: 'from the lead until `startTime`',
    why: 'As a reboot, but nothing on the machine shows that it is over.',
  },
  power: {
    title: 'scheduled change: power maintenance',
    window: 'from the lead until `startTime`',
    why: 'As network maintenance.',
  },
  'terminate-hook': {
    title: 'terminate hook',
    window: "the hook's timeout, or TERMINATE_HOOK_DRAIN_SECONDS if longer",
    why: 'Auto Scaling waits for the completion; heartbeats keep the hook alive while the window lasts.',
  },
  'warm-pool-hook': {
    title: 'terminate hook with Destination WarmPool',
    window: 'as any terminate hook',
    why: 'The instance is kept and may come back.',
  },
  stopping: {
    title: 'instance state stopping',
    window: "half a minute from the event's time",
    why: 'The operating system is going down already: what leaves now is told to, what does not dies with it.',
  },
  'shutting-down': {
    title: 'instance state shutting-down',
    window: "half a minute from the event's time",
    why: 'As stopping, but nothing comes back.',
  },
} as const satisfies Readonly<Record<Row, Words>>;

const RETURNS: Readonly<Record<Return, string>> = {
  start: 'state running, later than the event',
  'start-after-deadline': 'state running, later than the deadline',
  'start-and-lease': 'state running and a kubelet Lease newer than it',
  'boot-after-deadline':
    'another boot ID, seen to come or Ready only after the deadline (where there is none, or the event itself came only after that: Ready anew after it)',
  boot: 'another boot ID, and Ready',
  'end-time': '`endTime` past and the node Ready',
  day: 'a day without another event',
  'left-warm-pool': 'a launch event with Origin WarmPool',
};

function endsOf(row: Row): string {
  const ends = rowFacts(row).returns.map((sign) => RETURNS[sign]);
  if (rowFacts(row).kind === 'scheduled-change') ends.unshift('closed or cancelled');
  return ends.length === 0 ? 'never by itself' : ends.join('; ');
}

/** `CAPACITY_RESERVATION_ACTION` of `capacity-reservation`. */
function actionOf(kind: string): string {
  return `${kind.replaceAll('-', '_').toUpperCase()}_ACTION`;
}

/** A reboot of long after 1970, for what the code does about its times. */
const SAMPLE: Interruption = {
  id: 'sample',
  row: 'reboot',
  kind: 'scheduled-change',
  time: 0,
  recordedAt: 0,
  deadlineAt: 1e12,
  change: undefined,
  begunAt: undefined,
  hook: undefined,
  unknown: {},
};

function minutesBeforeDeadline(at: number): number {
  return Math.round((1e12 - at) / 60_000);
}

/** docs/how-it-decides.md, with the default of SCHEDULED_CHANGE_LEAD_SECONDS. */
export function howItDecidesMarkdown(scheduledChangeLeadMs: number): string {
  const policy = { scheduledChangeLeadMs };
  const rows = Object.keys(ROWS).filter(isRow);
  const table = rows.map((row) => {
    const { kind, pastBudgets } = rowFacts(row);
    const pace = isEmergency(kind) ? 'at once' : 'paced';
    const budgets = pastBudgets ? ', past budgets after a first refusal' : '';
    const words = WORDS[row];
    return `| ${words.title} | \`${actionOf(kind)}\` | ${pace}${budgets} | ${words.window} | ${endsOf(row)} |`;
  });
  const whys = rows.map((row) => `- **${WORDS[row].title}**: ${WORDS[row].why}`);
  const lead = minutesBeforeDeadline(opensAt(SAMPLE, policy));
  const lastCall = minutesBeforeDeadline(lastCallAt(SAMPLE, policy));
  const turn = TURN_MS / 60_000;
  return `# How it decides

What each kind of event calls for, until when, and what ends it. The table is made from the code's own (\`src/plan/rows.ts\`).

| Event | Action | Drained | Window | Over |
| --- | --- | --- | --- | --- |
${table.join('\n')}

Three kinds of news begin nothing. **Instance state running** ends what a start ends, as the table says. **Instance state stopped or terminated** ends the evictions and completes the hooks, unless the kubelet has renewed its Lease since; the marks stay. **Launch hooks** are completed when the node is Ready and never mark it.

## Why

${whys.join('\n')}

## Several at once

Marks are at any moment what the interruptions not yet over call for, the strongest action winning, the earliest deadline ruling. When one ends, the Node falls back to what the others need; when none is left, all that this controller has set goes, and only that: cordons, taints and labels of others stay, and a cordon of ours that a person took away stays away.

News of one scheduled change are ordered by \`lastUpdatedTime\`, so that it does not matter in which order they arrive. A change that the machine has been through is reopened only by a later \`startTime\`. A change that is put off beyond its lead while its node is drained goes back to waiting.

## What is stale

Whatever is over leaves a tombstone in the journal: news that are not later than it are old. So are events whose deadline passed a minute ago on a node that is Ready and whose kubelet renewed its Lease a minute after it: the machine has outlived them. A hook's deadline follows from its timeout; where that may not be read (autoscaling:DescribeLifecycleHooks), only a hook of more than 48 hours ago is old, for none lives longer: to forget a live one would cost its pods their time, while a machine that its hook has let go does not stay Ready, unless from a warm pool, and then its start says so.

## Hooks that wait

A hook of ours is completed when its node is empty, its volumes are detached and load balancers have had their time. What never ends of that does not hold it up for ever: it is completed at the end of the window, and where it expires with the window, DEADLINE_MARGIN_SECONDS before that, so that the completion is in time. Of a Node that is gone, at once.

## Pace

At most VOLUNTARY_DRAIN_LIMIT nodes are drained at once for what is paced, the oldest first. Those that wait bear a journal and a PreferNoSchedule taint, nothing else: they go on working.

- With a lead (reboot, network, power) nothing is due before ${lead} minutes (SCHEDULED_CHANGE_LEAD_SECONDS) before the start. Nodes with a common start begin earlier, by ${turn} minutes for each group that the limit makes of them: else the last of them would have no time left.
- A drained node keeps its slot until it is gone or given back, but for ${turn} minutes at most where it has a deadline or was to be replaced (AFTER_VOLUNTARY_DRAIN): a machine that waits for its retirement, or cannot be replaced, does not hold up the others.
- A drain that has waited for disruption budgets alone for ${turn} minutes goes back to waiting, marks too, and does not come back for ${turn} minutes: others may have more luck.
- From its last call on, ${lastCall} minutes before its deadline (or the lead, if that is shorter), a node is drained whatever the limit, and does not go back.
- An emergency on the same node lifts it out of all this.

## Load balancers

The label that takes a node out of load balancers is withheld, with a warning, while it would leave fewer than half of the zone's Ready nodes (paced) or none of the cluster's (emergency): a load balancer without targets is worse than one with a doomed target. It follows when others are Ready.

## Out of service

With OUT_OF_SERVICE_TAINT, a node whose instance is stopped or terminated gets the taint \`node.kubernetes.io/out-of-service\` only when it is not Ready **and** its kubelet's Lease is older than the event; a Lease that does not exist proves nothing. On a live machine the taint corrupts data, so any sign of life within the ten minutes of watching ends it, and Ready takes it away again.
`;
}
