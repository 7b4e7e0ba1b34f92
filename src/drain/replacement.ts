import type { Clock } from '../clock.ts';
import type { NodeView } from '../plan/node.ts';
import type { ObjectEvents } from '../report/object-events.ts';
import type { Report } from '../report/report.ts';
import type { LifecycleHooks } from './lifecycle-hooks.ts';

const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 300_000;
/** How long a denial may be that of a permission just given, which AWS takes a while to spread. */
const DENIED_MS = 60_000;
const PERMISSION = 'autoscaling:TerminateInstanceInAutoScalingGroup';

type ReplacementPorts = Readonly<{
  hooks: Pick<LifecycleHooks, 'replace'>;
  objectEvents: ObjectEvents;
  clock: Clock;
  report: Report;
}>;

/** Has the instance of an emptied node terminated, so that its group starts another. */
export class Replacement {
  /** It was accepted, or is denied for good. */
  private isOver = false;
  private readonly nodeName: string;
  private readonly ports: ReplacementPorts;
  private readonly nodeOf: () => NodeView | undefined;

  constructor(nodeName: string, ports: ReplacementPorts, nodeOf: () => NodeView | undefined) {
    this.nodeName = nodeName;
    this.ports = ports;
    this.nodeOf = nodeOf;
  }

  /**
   * Asks until that is over. `sleepUntil` (epoch ms) may end early, and says whether all is as it was:
   * false ends the asking, and is returned. Rejects only with the signal's reason.
   */
  async done(
    instanceId: string,
    sleepUntil: (at: number) => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { clock, hooks, objectEvents, report } = this.ports;
    const facts = { node: this.nodeName, instance: instanceId };
    let retryMs = FIRST_RETRY_MS;
    let deniedSince: number | undefined;
    while (!this.isOver) {
      const answer = await hooks.replace(instanceId, signal);
      if (answer.outcome !== 'failed') {
        this.isOver = true;
        report.info('instance replaced', { ...facts, answer: answer.outcome });
        objectEvents.onNode(this.nodeOf(), 'InstanceReplaced', { instance: instanceId });
        return true;
      }
      const reason = answer.message;
      deniedSince = answer.denied ? (deniedSince ?? clock.now()) : undefined;
      if (deniedSince !== undefined && clock.now() - deniedSince >= DENIED_MS) {
        this.isOver = true;
        report.warn('instance not replaced', { ...facts, permission: PERMISSION, reason });
        return true;
      }
      if (retryMs === FIRST_RETRY_MS) {
        report.warn('instance not yet replaced', { ...facts, denied: answer.denied, reason });
      }
      if (!(await sleepUntil(clock.now() + retryMs * (0.75 + clock.random() / 2)))) return false;
      retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
    }
    return true;
  }
}
