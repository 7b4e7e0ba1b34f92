import { capacityBlockExpiry } from './capacity-block-expiry.ts';
import { capacityReservationInterruption } from './capacity-reservation-interruption.ts';
import type { EventKind } from './event.ts';
import { launchHook, terminateHook } from './lifecycle-hook.ts';
import type { Parser } from './message.ts';
import { rebalanceRecommendation } from './rebalance-recommendation.ts';
import { scheduledChange } from './scheduled-change.ts';
import { spotInterruption } from './spot-interruption.ts';
import { stateChange } from './state-change.ts';

export type CatalogueRow = Readonly<{
  kind: EventKind;
  /** `source` and `detail-type` of the EventBridge envelope; a kind may come under several names. */
  source: string;
  detailTypes: readonly string[];
  /** Values of `detail` that an EventBridge rule asks for beyond these, so that the rest costs nothing. */
  rulePattern?: Readonly<Record<string, readonly string[]>>;
  /** `LifecycleTransition` of a notification that Auto Scaling sends without EventBridge. */
  transition?: string;
  parser: Parser;
}>;

/** Every kind of event, in one place: what is received, what rules are made for, what parses it. */
export const CATALOGUE: readonly CatalogueRow[] = [
  {
    kind: 'spot-interruption',
    source: 'aws.ec2',
    detailTypes: ['EC2 Spot Instance Interruption Warning'],
    parser: spotInterruption,
  },
  {
    kind: 'rebalance-recommendation',
    source: 'aws.ec2',
    detailTypes: ['EC2 Instance Rebalance Recommendation'],
    parser: rebalanceRecommendation,
  },
  {
    kind: 'state-change',
    source: 'aws.ec2',
    detailTypes: ['EC2 Instance State-change Notification'],
    // All but `pending`, which asks for nothing.
    rulePattern: { state: ['running', 'stopping', 'stopped', 'shutting-down', 'terminated'] },
    parser: stateChange,
  },
  {
    kind: 'terminate-hook',
    source: 'aws.autoscaling',
    detailTypes: ['EC2 Instance-terminate Lifecycle Action'],
    transition: 'autoscaling:EC2_INSTANCE_TERMINATING',
    parser: terminateHook,
  },
  {
    kind: 'launch-hook',
    source: 'aws.autoscaling',
    detailTypes: ['EC2 Instance-launch Lifecycle Action'],
    transition: 'autoscaling:EC2_INSTANCE_LAUNCHING',
    parser: launchHook,
  },
  {
    kind: 'scheduled-change',
    source: 'aws.health',
    detailTypes: ['AWS Health Event'],
    rulePattern: { service: ['EC2'], eventTypeCategory: ['scheduledChange'] },
    parser: scheduledChange,
  },
  {
    kind: 'capacity-reservation-interruption',
    source: 'aws.ec2',
    // The second is how AWS's documentation had it first.
    detailTypes: [
      'EC2 Capacity Reservation Instance Interruption Warning',
      'EC2 Interruptible Capacity Reservation Instance Interruption Warning',
    ],
    parser: capacityReservationInterruption,
  },
  {
    kind: 'capacity-block-expiry',
    source: 'aws.ec2',
    detailTypes: ['Capacity Block Reservation Expiration Warning'],
    parser: capacityBlockExpiry,
  },
];

const BY_DETAIL_TYPE: ReadonlyMap<string, CatalogueRow> = new Map(
  CATALOGUE.flatMap((row) => row.detailTypes.map((detailType) => [detailType, row] as const)),
);
const BY_TRANSITION: ReadonlyMap<string, CatalogueRow> = new Map(
  CATALOGUE.flatMap((row) => (row.transition === undefined ? [] : [[row.transition, row]])),
);

/** An envelope that names no source is taken at its detail-type's word; another source's event is not ours. */
export function rowOf(source: string | undefined, detailType: string): CatalogueRow | undefined {
  const row = BY_DETAIL_TYPE.get(detailType);
  return source === undefined || source === row?.source ? row : undefined;
}

export function rowOfTransition(transition: string): CatalogueRow | undefined {
  return BY_TRANSITION.get(transition);
}
