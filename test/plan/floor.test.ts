import { describe, expect, test } from 'vitest';
import { LoadBalancerFloor } from '../../src/plan/floor.ts';
import type { NodeView } from '../../src/plan/node.ts';
import { nodeView } from './samples.ts';

function floorOf(...nodes: readonly (Partial<NodeView> & { name: string })[]): LoadBalancerFloor {
  const floor = new LoadBalancerFloor();
  for (const node of nodes) floor.learn(node.name, nodeView(node));
  return floor;
}

const out = { excludeFromLoadBalancers: 'true' };

describe('the load balancer label', () => {
  test('of a paced drain leaves half of the Ready nodes of its zone', () => {
    const floor = floorOf({ name: 'a' }, { name: 'b' }, { name: 'c' }, { name: 'd' });
    expect(floor.allows('a', false)).toBe(true);
    floor.begin('a');
    floor.begin('b');
    expect(floor.allows('c', false)).toBe(false);
    expect(floor.allows('c', true)).toBe(true);
  });

  test('counts nodes that are not Ready for nothing', () => {
    const floor = floorOf(
      { name: 'a' },
      { name: 'b' },
      { name: 'c', ready: false },
      { name: 'd', ready: false },
    );
    floor.begin('a');
    expect(floor.allows('b', false)).toBe(false);
    expect(floor.allows('c', false)).toBe(true);
  });

  test('counts zone by zone for paced drains', () => {
    const floor = floorOf(
      { name: 'a', zone: 'x' },
      { name: 'b', zone: 'y' },
      { name: 'c', zone: 'y' },
    );
    expect(floor.allows('a', false)).toBe(false);
    expect(floor.allows('b', false)).toBe(true);
  });

  test('of an emergency leaves one of the cluster', () => {
    const floor = floorOf({ name: 'a', zone: 'x' }, { name: 'b', zone: 'y' });
    expect(floor.allows('a', true)).toBe(true);
    floor.begin('a');
    expect(floor.allows('b', true)).toBe(false);
  });

  test('of others counts as well', () => {
    const floor = floorOf({ name: 'a' }, { name: 'b', ...out }, { name: 'c', ...out });
    expect(floor.allows('a', true)).toBe(false);
  });

  test('that could not be written gives its place back', () => {
    const floor = floorOf({ name: 'a' }, { name: 'b' });
    floor.begin('a');
    expect(floor.allows('b', true)).toBe(false);
    floor.end('a', nodeView({ name: 'a' }));
    expect(floor.allows('b', true)).toBe(true);
  });

  test('tells of room when a node comes, or comes back', () => {
    const floor = floorOf({ name: 'a' }, { name: 'b', ...out });
    expect(floor.learn('b', nodeView({ name: 'b', ...out }))).toBe(false);
    expect(floor.learn('b', nodeView({ name: 'b' }))).toBe(true);
    expect(floor.learn('b', nodeView({ name: 'b' }))).toBe(false);
    expect(floor.learn('b', undefined)).toBe(false);
    expect(floor.learn('c', nodeView({ name: 'c' }))).toBe(true);
  });
});
