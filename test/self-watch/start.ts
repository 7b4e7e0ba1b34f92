import { onTestFinished } from 'vitest';
import { startController } from '../../src/controller.ts';
import * as messages from '../harness/messages.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { flowPolicy } from '../stand-ins/ports/flow-policy.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

/** The whole flow over one node, in virtual time, and the watch over it. */
export function startWatched(nodes = 1) {
  const outside = new Outside();
  for (let i = 1; i <= nodes; i += 1) outside.cluster.addNode(`node-${i}`);
  const ports = outside.connect();
  const { clock, watchdog, report } = ports;
  const controller = startController(ports, flowPolicy());
  watchdog.start();
  onTestFinished(async () => {
    watchdog.stop();
    await clock.resolved(controller.stop(), 10_000);
  });
  const { sqs, autoScaling, cluster } = outside;
  return {
    ...ports,
    cluster,
    sqs,
    /** A notice for a node. */
    notice: (number = 1): string =>
      sqs.send(messages.spotNotice({ instanceId: instanceIdOf(number), time: clock.now() })),
    rebalance: (number = 1): string =>
      sqs.send(messages.rebalance({ instanceId: instanceIdOf(number), time: clock.now() })),
    hook: (number = 1, timeoutSeconds = 300): string => {
      const instanceId = instanceIdOf(number);
      const action = { group: 'workers', hook: 'drain', token: `token-${number}`, instanceId };
      autoScaling.begin(action, timeoutSeconds);
      return sqs.send(messages.terminateHook({ ...action, time: clock.now() }));
    },
    /** The stages that /healthz finds stuck. */
    stuck: (): readonly string[] => watchdog.checks().flatMap(({ name, ok }) => (ok ? [] : [name])),
    /** Lets so many hours pass; what was found stuck in them. */
    async alarmsIn(hours: number): Promise<readonly unknown[]> {
      await clock.advance(hours * 3_600_000);
      return [...report.told('stage stuck'), ...watchdog.checks().filter(({ ok }) => !ok)];
    },
  };
}
