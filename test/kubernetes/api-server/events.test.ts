import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../../src/clock.ts';
import { connect, type Connection } from '../../../src/kubernetes/connection.ts';
import { createEventSink } from '../../../src/kubernetes/events.ts';
import type { ObjectEvent } from '../../../src/report/event-recorder.ts';
import { skipReason } from '../../control-plane/binaries.ts';
import {
  componentsFor,
  startControlPlane,
  type ControlPlane,
} from '../../control-plane/control-plane.ts';
import { eventually } from '../../harness/eventually.ts';
import { createNamespace } from '../../harness/workloads.ts';
import { recordedReport } from '../recorded-report.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const reason = skipReason(componentsFor({}));
const { signal } = new AbortController();

function eventIn(namespace: string): ObjectEvent {
  return {
    subject: { kind: 'Pod', namespace, name: 'web-1', uid: 'uid-1' },
    reason: 'NodeInterrupted',
    type: 'Normal',
    action: 'Evict',
    note: 'Evicted.',
    name: 'web-1.abc1',
    at: Date.parse('2026-03-01T12:00:00Z'),
    series: undefined,
  };
}

describe.skipIf(reason)(`events of a real API server ${reason ?? ''}`, () => {
  let plane: ControlPlane;
  const connections: Connection[] = [];

  beforeAll(async () => {
    plane = await startControlPlane();
    for (const name of ['free', 'quiet']) await createNamespace(plane.api, name);
    const policies = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic';
    const namespaceSelector = { matchLabels: { 'kubernetes.io/metadata.name': 'quiet' } };
    await plane.api.create(`${policies}ies`, {
      metadata: { name: 'quiet' },
      spec: {
        matchConstraints: {
          resourceRules: [
            {
              apiGroups: ['events.k8s.io'],
              apiVersions: ['*'],
              operations: ['CREATE'],
              resources: ['events'],
            },
          ],
        },
        validations: [{ expression: 'false', message: 'no events here', reason: 'Forbidden' }],
      },
    });
    await plane.api.create(`${policies}ybindings`, {
      metadata: { name: 'quiet' },
      spec: {
        policyName: 'quiet',
        validationActions: ['Deny'],
        matchResources: { namespaceSelector },
      },
    });
  });

  afterAll(async () => {
    await Promise.all(connections.map((connection) => connection.close()));
    await plane.stop();
  });

  async function sinkOf(user: string, verbs: readonly string[]) {
    const rule = { apiGroups: ['events.k8s.io'], resources: ['events'], verbs };
    const { kubeconfig: kubeconfigPath } = await plane.kubeconfigFor(user, [rule]);
    const connection = connect({
      kubeconfigPath,
      userAgent: 'events-test/0',
      clock: systemClock,
      report: recordedReport(),
    });
    connections.push(connection);
    return createEventSink({ connection, instance: 'test' });
  }

  test('are refused alone where a policy wants none in their namespace', async () => {
    const sink = await sinkOf('writer', ['create', 'patch']);
    // The API server takes up a policy some time after it was made.
    let tries = 0;
    await eventually(async () => {
      const event = { ...eventIn('quiet'), name: `web-1.${(tries += 1)}` };
      return (await sink.create(event, signal)).outcome !== 'written';
    });
    expect(await sink.create(eventIn('quiet'), signal)).toMatchObject({
      outcome: 'refused',
      message: expect.stringContaining('no events here') as unknown,
    });
    expect(await sink.create(eventIn('free'), signal)).toEqual({ outcome: 'written' });
  });

  test('are all put off where the right to write them is missing', async () => {
    const sink = await sinkOf('quota', ['patch']);
    expect(await sink.create(eventIn('free'), signal)).toMatchObject({ outcome: 'pushed back' });
  });
});
