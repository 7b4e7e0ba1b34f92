/**
 * What one message says about one instance (or, for a capacity block, about the instances of one
 * reservation). Readonly data: no functions, no flags; can be logged, compared and replayed.
 *
 * Times are epoch milliseconds. `eventId` is the sender's id of the message, for people who trace it.
 */
export type Event =
  | SpotInterruption
  | RebalanceRecommendation
  | InstanceStateChange
  | TerminateHook
  | LaunchHook
  | ScheduledChange
  | CapacityReservationInterruption
  | CapacityBlockExpiry;

export type EventKind = Event['kind'];

type About = Readonly<{
  eventId: string | undefined;
  /** Account that owns the instance; undefined where the message does not say. */
  account: string | undefined;
  /** When AWS issued the event; the message's sending time where the event does not say. */
  time: number;
}>;

/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html */
export type SpotInterruption = About &
  Readonly<{
    kind: 'spot-interruption';
    instanceId: string;
    action: 'terminate' | 'stop' | 'hibernate';
  }>;

/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html */
export type RebalanceRecommendation = About &
  Readonly<{ kind: 'rebalance-recommendation'; instanceId: string }>;

/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html */
export type InstanceStateChange = About &
  Readonly<{
    kind: 'state-change';
    instanceId: string;
    state: 'pending' | 'running' | 'stopping' | 'stopped' | 'shutting-down' | 'terminated';
  }>;

type LifecycleHook = About &
  Readonly<{
    instanceId: string;
    group: string;
    hook: string;
    token: string;
    origin: string | undefined;
    destination: string | undefined;
  }>;

/** https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html */
export type TerminateHook = LifecycleHook & Readonly<{ kind: 'terminate-hook' }>;
export type LaunchHook = LifecycleHook & Readonly<{ kind: 'launch-hook' }>;

/**
 * One instance of an AWS Health event; an event that names several instances becomes several of
 * these. https://docs.aws.amazon.com/health/latest/ug/cloudwatch-events-health.html
 */
export type ScheduledChange = About &
  Readonly<{
    kind: 'scheduled-change';
    instanceId: string;
    eventArn: string;
    code: string;
    change: 'reboot' | 'network' | 'power' | 'retirement' | 'stop' | 'termination';
    startAt: number | undefined;
    endAt: number | undefined;
    /** `closed` also covers cancelled and completed, of the event or of this entity. */
    status: 'open' | 'upcoming' | 'closed';
    /** Orders news about one event; `time` where the event does not say. */
    lastUpdatedAt: number;
  }>;

/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/interruptible-capacity-reservations.html */
export type CapacityReservationInterruption = About &
  Readonly<{
    kind: 'capacity-reservation-interruption';
    instanceId: string;
    /** `instance-termination-time`; undefined where the event does not say. */
    terminatesAt: number | undefined;
  }>;

/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/capacity-blocks-monitor.html */
export type CapacityBlockExpiry = About &
  Readonly<{
    kind: 'capacity-block-expiry';
    reservationId: string;
    endsAt: number | undefined;
  }>;

/** What the text of one message turned out to be. Parsing never throws. */
export type Parsed =
  | Readonly<{
      outcome: 'events';
      /** At least one. */
      events: readonly Event[];
      /** Values that were not understood and got the harshest known meaning; for the log. */
      warnings: readonly string[];
    }>
  | Readonly<{ outcome: 'not-ours'; reason: NotOursByShape; detail: string }>
  | Readonly<{ outcome: 'malformed'; reason: string }>;

/** Reasons to delete a message that can be told from its text alone; also used as metric labels. */
export type NotOursByShape =
  | 'unknown-detail-type'
  | 'test-notification'
  | 'no-instance'
  | 'not-ec2';
