import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { createEventBus } from '../../src/aws/event-bus.ts';
import { systemClock } from '../../src/clock.ts';
import type { OutcomeEvent } from '../../src/report/outcome.ts';
import { eventually } from '../harness/eventually.ts';
import { startEventBridge } from '../stand-ins/event-bridge.ts';
import { FakeMetrics } from '../stand-ins/ports/metrics.ts';
import { FakeReport } from '../stand-ins/ports/report.ts';

async function start() {
  const service = await startEventBridge();
  service.addBus('outcomes');
  vi.stubEnv('AWS_ENDPOINT_URL_EVENTBRIDGE', service.url);
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'test');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'test');
  const report = new FakeReport(() => systemClock.now());
  const metrics = new FakeMetrics();
  const bus = createEventBus({
    name: 'outcomes',
    region: 'eu-central-1',
    clock: systemClock,
    metrics,
    report,
  });
  onTestFinished(async () => {
    await bus.close(100);
    await service.stop();
  });
  const sent = () => metrics.counted('outcomes_total', { outcome: 'drained', result: 'sent' });
  const dropped = () =>
    metrics.counted('outcomes_total', { outcome: 'drained', result: 'dropped' });
  return { service, bus, report, sent, dropped, events: () => service.events('outcomes') };
}

function eventOf(number: number): OutcomeEvent {
  return {
    version: 1,
    eventId: '0123456789abcdef0123456789abcdef',
    node: `node-${number}`,
    instanceId: `i-${number}`,
    kind: 'spot-interruption',
    interruption: `spot/i-${number}`,
    outcome: 'drained',
    time: '2026-11-01T00:00:00.000Z',
    recordedAt: '2026-11-01T00:00:00.100Z',
    endedAt: '2026-11-01T00:00:30.000Z',
  };
}

function putAll(bus: Awaited<ReturnType<typeof start>>['bus'], count: number): void {
  for (let number = 0; number < count; number += 1) bus.put(eventOf(number));
}

describe('outcomes on EventBridge', () => {
  test('are put ten at a time, under our source and detail-type', async () => {
    const { service, bus, events, sent } = await start();
    putAll(bus, 25);
    await eventually(() => sent() === 25);
    // They are under way at the same time, and arrive in any order.
    const sizes = service.calls().map(({ entries }) => entries);
    expect(sizes.toSorted((one, two) => two - one)).toEqual([10, 10, 5]);
    expect(new Set(events().map(({ detail }) => detail['node']))).toEqual(
      new Set(Array.from({ length: 25 }, (_, number) => `node-${number}`)),
    );
    expect(events()).toHaveLength(25);
    expect(events().find(({ detail }) => detail['node'] === 'node-0')).toMatchObject({
      source: 'node-termination-controller',
      'detail-type': 'Node Interruption Outcome',
      time: '2026-11-01T00:00:30Z',
      resources: ['i-0'],
    });
  });

  test('that a rule takes come to its target', async () => {
    const { service, bus, sent } = await start();
    const taken: string[] = [];
    service.addRule(
      'outcomes',
      { source: ['node-termination-controller'], detail: { node: ['node-1'] } },
      ({ resources }) => taken.push(...resources),
    );
    putAll(bus, 3);
    await eventually(() => sent() === 3);
    expect(taken).toEqual(['i-1']);
  });

  test.each(['ThrottlingException', 'InternalFailure'])(
    'that fail with %s within a request are repeated, and only they',
    async (code) => {
      const { service, bus, events, sent } = await start();
      service.refuseEntries(4, code);
      putAll(bus, 10);
      await eventually(() => sent() === 10);
      expect(new Set(events().map(({ detail }) => detail['node'])).size).toBe(10);
      expect(events()).toHaveLength(10);
      expect(service.calls().map(({ entries }) => entries)).toEqual([10, 4]);
    },
  );

  test('outlive an outage of EventBridge', async () => {
    const { service, bus, events, sent } = await start();
    await service.goAway('refuse');
    putAll(bus, 3);
    await service.comeBack();
    await eventually(() => sent() === 3);
    expect(events()).toHaveLength(3);
  });

  test('that are refused for good are dropped, and told', async () => {
    const { service, bus, report, events, dropped } = await start();
    service.refuseEntries(1, 'MalformedDetail');
    bus.put(eventOf(1));
    await eventually(() => dropped() === 1);
    expect(events()).toEqual([]);
    expect(report.told('outcome not sent')).toMatchObject([
      { node: 'node-1', error: { message: expect.stringContaining('MalformedDetail') } },
    ]);
  });

  test('that are not permitted are dropped, and told', async () => {
    const { service, bus, report, dropped } = await start();
    service.faults.add({ fault: { kind: 'error', status: 400, code: 'AccessDeniedException' } });
    bus.put(eventOf(1));
    await eventually(() => dropped() === 1);
    expect(report.told('outcome not sent')).toHaveLength(1);
  });

  test('beyond ten thousand that wait are dropped', async () => {
    const { service, bus, dropped } = await start();
    await service.goAway('hang');
    putAll(bus, 10_003);
    await eventually(() => dropped() > 0);
    expect(dropped()).toBe(3);
  });

  test('are sent before the end, for as long as that may take', async () => {
    const { service, bus, sent, dropped } = await start();
    putAll(bus, 12);
    await bus.close(5000);
    expect(sent()).toBe(12);
    expect(service.events('outcomes')).toHaveLength(12);
    bus.put(eventOf(99));
    await eventually(() => dropped() === 1);
  });
});
