import { describe, expect, test } from 'vitest';
import { compareVersions, projectNode } from '../../src/kubernetes/nodes.ts';
import { projectPod } from '../../src/kubernetes/pods.ts';
import { parseSelector } from '../../src/kubernetes/selector.ts';
import { readJournal } from '../../src/plan/journal.ts';

const all = parseSelector('');
const identity = { name: 'a', uid: 'u', resourceVersion: '7' };

describe('a node', () => {
  test('is reduced to what decisions use', () => {
    const raw = {
      metadata: {
        ...identity,
        labels: {
          'topology.kubernetes.io/zone': 'eu-central-1a',
          'node-termination-controller/interruption': 'rebalance',
          'node.kubernetes.io/exclude-from-external-load-balancers': 'false',
          reservation: 'cr-1',
          other: 'x',
        },
        annotations: {
          'node-termination-controller/journal': '{}',
          'node-termination-controller/hold': '',
          other: 'y',
        },
        deletionTimestamp: '2026-11-22T19:00:00Z',
        managedFields: [{ manager: 'kubelet' }],
      },
      spec: {
        providerID: 'aws:///eu-central-1a/i-0123456789abcdef0',
        unschedulable: true,
        taints: [
          { key: 'gpu', value: 'yes', effect: 'NoExecute', timeAdded: '2026-11-22T19:00:00Z' },
          { key: 'plain', effect: 'NoSchedule' },
        ],
      },
      status: {
        conditions: [
          { type: 'MemoryPressure', status: 'False' },
          { type: 'Ready', status: 'True', lastTransitionTime: '2026-03-01T12:00:00Z' },
        ],
        nodeInfo: { systemUUID: 'ec2-uuid', bootID: 'boot', kubeletVersion: 'v1.36.3' },
        images: [{ names: ['x'], sizeBytes: 1 }],
      },
    };
    expect(projectNode(raw, parseSelector('other=x'), 'reservation')).toStrictEqual({
      ...identity,
      instanceId: 'i-0123456789abcdef0',
      manager: undefined,
      capacityReservationId: 'cr-1',
      zone: 'eu-central-1a',
      systemUUID: 'ec2-uuid',
      bootId: 'boot',
      bootSeenAt: undefined,
      ready: true,
      readySince: Date.parse('2026-03-01T12:00:00Z'),
      unschedulable: true,
      taints: [
        { key: 'gpu', value: 'yes', effect: 'NoExecute', timeAdded: '2026-11-22T19:00:00Z' },
        { key: 'plain', effect: 'NoSchedule' },
      ],
      selected: true,
      interruptionLabel: 'rebalance',
      excludeFromLoadBalancers: 'false',
      journal: '{}',
      held: true,
      deleting: true,
    });
  });

  test('has facts for people only where they are asked for, and its labels only then', () => {
    const labels = {
      'topology.kubernetes.io/zone': 'eu-central-1a',
      'node.kubernetes.io/instance-type': 'm7g.large',
    };
    const raw = { metadata: { ...identity, labels }, spec: { providerID: 'aws:///z/i-0' } };
    const facts = { providerId: 'aws:///z/i-0', instanceType: 'm7g.large', zone: 'eu-central-1a' };
    expect(projectNode(raw, all, 'reservation')).not.toHaveProperty('facts');
    expect(projectNode(raw, all, 'reservation', 'machine')).toMatchObject({
      facts: { ...facts, labels: {} },
    });
    expect(projectNode(raw, all, 'reservation', 'machine and labels')).toMatchObject({
      facts: { ...facts, labels },
    });
  });

  test('has 200 of its labels at most', () => {
    const labels = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`label-${i}`, 'x']));
    const raw = { metadata: { ...identity, labels } };
    const node = projectNode(raw, all, 'reservation', 'machine and labels');
    expect(Object.keys(node?.facts?.labels ?? {})).toHaveLength(200);
  });

  test('keeps no more of a journal than could be read', () => {
    const annotations = { 'node-termination-controller/journal': 'x'.repeat(250_000) };
    const node = projectNode({ metadata: { ...identity, annotations } }, all, 'reservation');
    expect(node?.journal).toHaveLength(17 * 1024);
    expect(readJournal(node?.journal)).toEqual({ outcome: 'unreadable', reason: 'too long' });
  });

  test('may have nothing but a name', () => {
    expect(projectNode({ metadata: identity }, parseSelector('pool'), 'reservation')).toStrictEqual(
      {
        ...identity,
        instanceId: undefined,
        manager: undefined,
        capacityReservationId: undefined,
        zone: undefined,
        systemUUID: '',
        bootId: '',
        bootSeenAt: undefined,
        ready: false,
        readySince: undefined,
        unschedulable: false,
        taints: [],
        selected: false,
        interruptionLabel: undefined,
        excludeFromLoadBalancers: undefined,
        journal: undefined,
        held: false,
        deleting: false,
      },
    );
  });

  test.each([
    ['aws:///us-east-1a/i-0abc', 'i-0abc'],
    ['aws://us-east-1a/i-0abc', 'i-0abc'],
    ['aws:///us-west-2b/1a2b3c/fargate-ip-10-0-0-1.us-west-2.compute.internal', undefined],
    ['eks-hybrid:///us-west-2/cluster/mi-0abc', undefined],
    ['gce://project/zone/i-0abc', undefined],
    ['kind://docker/kind/worker', undefined],
    ['aws:///us-east-1a/i-0abc/', undefined],
    ['', undefined],
  ])('with providerID %s is instance %s', (providerID, instanceId) => {
    expect(
      projectNode({ metadata: identity, spec: { providerID } }, all, 'reservation')?.instanceId,
    ).toBe(instanceId);
  });

  test.each(['False', 'Unknown'])('whose Ready is %s is not ready', (is) => {
    const raw = { metadata: identity, status: { conditions: [{ type: 'Ready', status: is }] } };
    expect(projectNode(raw, all, 'reservation')?.ready).toBe(false);
  });

  test.each([
    [{ 'karpenter.sh/nodepool': 'default' }, 'karpenter'],
    [{ 'eks.amazonaws.com/nodegroup': 'workers' }, 'eks'],
    [{ 'karpenter.sh/capacity-type': 'spot' }, undefined],
  ] as const)('with labels %o is managed by %s', (labels, manager) => {
    const raw = { metadata: { ...identity, labels } };
    expect(projectNode(raw, all, 'reservation')?.manager).toBe(manager);
  });

  test('is nothing without name, uid and resourceVersion', () => {
    expect(projectNode({}, all, 'reservation')).toBeUndefined();
    expect(projectNode({ metadata: { name: 'a', uid: 'u' } }, all, 'reservation')).toBeUndefined();
  });
});

const podIdentity = { name: 'web-0', namespace: 'shop', uid: 'u' };

describe('a pod', () => {
  test('is reduced to what a drain uses', () => {
    const raw = {
      metadata: {
        ...podIdentity,
        ownerReferences: [
          { kind: 'Other', name: 'o', uid: '1' },
          { kind: 'StatefulSet', name: 'web', uid: '2', controller: true, apiVersion: 'apps/v1' },
        ],
        deletionTimestamp: '2026-11-22T19:00:30Z',
        deletionGracePeriodSeconds: 30,
      },
      spec: {
        priorityClassName: 'system-cluster-critical',
        terminationGracePeriodSeconds: 90,
        tolerations: [{ key: 'other', operator: 'Exists' }],
        volumes: [
          { name: 'data', persistentVolumeClaim: { claimName: 'data-web-0' } },
          { name: 'scratch', ephemeral: { volumeClaimTemplate: {} } },
          { name: 'config' },
        ],
        nodeName: 'a',
      },
      status: { phase: 'Running' },
    };
    expect(projectPod(raw)).toStrictEqual({
      ...podIdentity,
      owner: { kind: 'StatefulSet', name: 'web', uid: '2' },
      mirror: false,
      finished: false,
      priorityClass: 'system-cluster-critical',
      graceSeconds: 90,
      deletion: { endsAt: Date.parse('2026-11-22T19:00:30Z'), graceSeconds: 30 },
      toleratesInterruption: false,
      claims: ['data-web-0', 'web-0-scratch'],
    });
  });

  test('has a grace of 30 s unless it says otherwise', () => {
    expect(projectPod({ metadata: podIdentity })?.graceSeconds).toBe(30);
    const spec = { terminationGracePeriodSeconds: 0 };
    expect(projectPod({ metadata: podIdentity, spec })?.graceSeconds).toBe(0);
  });

  test.each(['Succeeded', 'Failed'])('in phase %s has finished', (phase) => {
    expect(projectPod({ metadata: podIdentity, status: { phase } })?.finished).toBe(true);
  });

  test.each([
    [{ annotations: { 'kubernetes.io/config.mirror': 'hash' } }],
    [{ ownerReferences: [{ kind: 'Node', name: 'a', uid: '1' }] }],
  ])('of the kubelet itself is a mirror (%j)', (more) => {
    expect(projectPod({ metadata: { ...podIdentity, ...more } })?.mirror).toBe(true);
  });

  const key = 'node-termination-controller/interruption';
  test.each([
    [{ operator: 'Exists' }, true],
    [{ operator: 'Exists', effect: 'NoSchedule' }, true],
    [{ operator: 'Exists', effect: 'NoExecute' }, false],
    [{ key, operator: 'Exists' }, true],
    [{ key, operator: 'Equal', value: 'rebalance', effect: 'NoSchedule' }, true],
    [{ key, value: 'rebalance' }, true],
    [{ key, operator: 'Exists', effect: 'PreferNoSchedule' }, false],
    [{ key: 'other', operator: 'Exists' }, false],
  ])('with toleration %j tolerates our taint: %s', (toleration, tolerates) => {
    const spec = { tolerations: [toleration] };
    expect(projectPod({ metadata: podIdentity, spec })?.toleratesInterruption).toBe(tolerates);
  });
});

describe('resource versions', () => {
  test.each([
    ['9', '10', 'earlier'],
    ['10', '9', 'later'],
    ['10', '10', 'equal'],
    ['18446744073709551615', '18446744073709551614', 'later'],
    ['abc', 'abc', 'equal'],
    ['abc', '10', 'unknown'],
    ['10', '', 'unknown'],
    ['010', '9', 'unknown'],
  ])('%s is compared with %s: %s', (left, right, expected) => {
    const order = compareVersions(left, right);
    const found =
      order === undefined ? 'unknown' : order === 0 ? 'equal' : order < 0 ? 'earlier' : 'later';
    expect(found).toBe(expected);
  });
});
