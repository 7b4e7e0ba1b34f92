import { expect, onTestFinished } from 'vitest';
import { Breaker } from '../../src/intake/breaker.ts';
import { Intake, type IntakePolicy } from '../../src/intake/intake.ts';
import { Records } from '../../src/intake/records.ts';
import * as messages from '../harness/messages.ts';
import { policy } from '../plan/samples.ts';
import { instanceIdOf } from '../stand-ins/ports/cluster.ts';
import { Outside } from '../stand-ins/ports/outside.ts';

const ACCOUNT = '123456789012';

type Options = { nodes?: number; rules?: Partial<IntakePolicy>; outside?: Outside };

type LaunchOptions = { number?: number; timeoutSeconds?: number } & Partial<
  Pick<Parameters<typeof messages.launchHook>[0], 'group' | 'origin' | 'destination'>
>;

/** One process's intake, with `node-1` to `node-N`. */
export function start({ nodes = 1, rules, outside = new Outside() }: Options = {}) {
  for (let i = 1; i <= nodes; i += 1) outside.cluster.addNode(`node-${i}`);
  const ports = outside.connect();
  const { clock, store, report } = ports;
  const intakePolicy: IntakePolicy = {
    ...policy(),
    accounts: new Set([ACCOUNT]),
    unknownInstanceGraceSeconds: 60,
    completeUnknownHooks: false,
    ...rules,
  };
  const breaker = new Breaker((signal) => store.ping(signal), clock, report);
  const records = new Records(ports, breaker, intakePolicy);
  const intake = new Intake(ports, intakePolicy, records, breaker);
  records.start();
  intake.start();
  const stop = async (): Promise<void> => {
    breaker.stop();
    await clock.resolved(intake.stop(), 5000);
  };
  onTestFinished(async () => {
    await stop();
    await clock.advance(100);
    expect(clock.pending()).toEqual([]);
    expect(report.faults()).toEqual([]);
  });
  const { cluster, sqs, autoScaling } = outside;
  const notice = (number = 1, fields: object = {}): string =>
    sqs.send(
      messages.spotNotice({ instanceId: instanceIdOf(number), time: clock.now(), ...fields }),
    );
  const hook = (number = 1, fields: object = {}): string => {
    const instanceId = instanceIdOf(number);
    const action = { group: 'workers', hook: 'drain', token: `token-${number}`, instanceId };
    autoScaling.begin({ ...action, ...fields }, 300);
    return sqs.send(messages.terminateHook({ ...action, time: clock.now(), ...fields }));
  };
  /** A launch hook's action begins, and its event is sent. */
  const launch = ({ timeoutSeconds = 300, ...options }: LaunchOptions = {}): string => {
    const { number = 1, group = 'workers', ...fields } = options;
    const instanceId = instanceIdOf(number);
    const action = { group, hook: 'join', token: `launch-${number}`, instanceId };
    autoScaling.begin(action, timeoutSeconds);
    return sqs.send(messages.launchHook({ ...action, time: clock.now(), ...fields }));
  };
  const isMarked = (number = 1): boolean => cluster.node(`node-${number}`).journal !== undefined;
  return {
    ...ports,
    cluster,
    sqs,
    autoScaling,
    breaker,
    records,
    intake,
    stop,
    notice,
    hook,
    launch,
    isMarked,
  };
}
