import { PERMISSIONS } from '../../infra/permissions.ts';
import type { AutoScaling } from '../stand-ins/auto-scaling.ts';
import type { EventBridge } from '../stand-ins/event-bridge.ts';
import type { QueueService } from '../stand-ins/queue.ts';

type Services = Readonly<{
  queues: QueueService;
  autoScaling: AutoScaling;
  eventBridge: EventBridge;
}>;

/** The requests that were made of the stand-ins, as IAM names them: a batch is its single action. */
export function awsActions({ queues, autoScaling, eventBridge }: Services): string[] {
  const actions = [
    ...queues.requests().map(({ action }) => `sqs:${action.replace(/Batch$/, '')}`),
    ...autoScaling.calls().map(({ action }) => `autoscaling:${action}`),
    ...eventBridge.calls().map(({ action }) => `events:${action}`),
  ];
  return [...new Set(actions)].toSorted();
}

/** Throws if a request was made that the controller's IAM policy does not allow. */
export function assertPermitted(services: Services): void {
  const permitted = new Set(PERMISSIONS.flatMap(({ actions }) => Object.keys(actions)));
  const refused = awsActions(services).filter((action) => !permitted.has(action));
  if (refused.length > 0) {
    throw new Error(`the controller's IAM policy does not allow ${refused.join(', ')}`);
  }
}
