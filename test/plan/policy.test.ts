import { describe, expect, test } from 'vitest';
import { planOf } from '../../src/plan/deadline.ts';
import { markWrite } from '../../src/plan/marks.ts';
import { isLeftToOwner, strongestAction, type Action, type Policy } from '../../src/plan/policy.ts';
import { INTERRUPTION_KINDS } from '../../src/plan/rows.ts';
import {
  at,
  eventChange,
  interruption,
  journal,
  nodeView,
  patched,
  policy,
  rebalance,
  spot,
} from './samples.ts';

const DEFAULTS = policy().actions;

function actions(changes: Partial<Policy['actions']>): Pick<Policy, 'actions'> {
  return { actions: { ...DEFAULTS, ...changes } };
}

describe('the strongest action', () => {
  test.each<[readonly Action[], Action]>([
    [['drain', 'cordon', 'prefer-no-schedule', 'ignore'], 'drain'],
    [['ignore', 'prefer-no-schedule', 'cordon'], 'cordon'],
    [['ignore', 'prefer-no-schedule'], 'prefer-no-schedule'],
    [['ignore'], 'ignore'],
    [[], 'ignore'],
  ])('of %j is %s', (given, strongest) => {
    expect(strongestAction(given)).toBe(strongest);
  });

  test.each(INTERRUPTION_KINDS)('is what the plan of a live %s asks for', (kind) => {
    const live = [interruption({ id: kind, kind, begunAt: at(1) })];
    for (const action of ['drain', 'cordon', 'prefer-no-schedule'] as const) {
      const rules = policy(actions({ [kind]: action }));
      expect(planOf(journal({ live }), rules, undefined)?.action).toBe(action);
    }
    const ignoring = policy(actions({ [kind]: 'ignore' }));
    expect(planOf(journal({ live }), ignoring, undefined)).toBeUndefined();
  });

  /** A rebalance recommendation, and a spot notice after it. */
  const both = journal({
    live: [
      interruption({
        id: 'rebalance',
        row: 'rebalance',
        kind: 'rebalance',
        begunAt: at(1),
        deadlineAt: undefined,
      }),
      interruption({ deadlineAt: at(120) }),
    ],
  });

  test('of the live interruptions wins, whichever rules', () => {
    const rules = policy(actions({ 'spot-interruption': 'cordon', rebalance: 'drain' }));
    expect(planOf(both, rules, undefined)).toMatchObject({
      kind: 'spot-interruption',
      action: 'drain',
      deadlineAt: at(120),
    });
  });

  test('of an interruption that is ignored counts for nothing, and neither does its deadline', () => {
    const rules = policy(actions({ 'spot-interruption': 'ignore', rebalance: 'cordon' }));
    expect(planOf(both, rules, undefined)).toMatchObject({
      kind: 'rebalance',
      action: 'cordon',
      deadlineAt: undefined,
    });
  });
});

describe('the marks of an action', () => {
  function marked(node = nodeView(), rules: Partial<Policy>, event = eventChange(rebalance())) {
    const begun = { type: 'begun', ids: ['rebalance'] } as const;
    const write = markWrite(node, undefined, [event, begun], policy(rules), at(1), () => true);
    if (write === 'unrecordable') throw new Error('unrecordable');
    return patched(node, write.patch);
  }

  const ofCordon = 'node.kubernetes.io/unschedulable:NoSchedule';

  test.each<[Action, string[], boolean, string | undefined, string | undefined]>([
    ['drain', ['rebalance:NoSchedule', ofCordon], true, 'rebalance', 'true'],
    ['cordon', ['rebalance:NoSchedule', ofCordon], true, 'rebalance', 'true'],
    ['prefer-no-schedule', ['rebalance:PreferNoSchedule'], false, undefined, undefined],
  ])('%s', (action, taints, cordoned, label, excluded) => {
    const node = marked(nodeView(), actions({ rebalance: action }));
    expect(node.taints.map(({ key, value, effect }) => `${value ?? key}:${effect}`)).toEqual(
      taints,
    );
    expect(node.unschedulable).toBe(cordoned);
    expect(node.interruptionLabel).toBe(label);
    expect(node.excludeFromLoadBalancers).toBe(excluded);
    expect(node.journal).toContain('"kind":"rebalance"');
  });

  test('are raised by a stronger one, which finds what was not ours', () => {
    const rules = actions({ rebalance: 'prefer-no-schedule' });
    const before = { ...marked(nodeView(), rules), unschedulable: true };
    const node = marked(before, rules, eventChange(spot(10)));
    expect(node.taints).toEqual([
      {
        key: 'node-termination-controller/interruption',
        value: 'spot-interruption',
        effect: 'NoSchedule',
      },
    ]);
    expect(node.interruptionLabel).toBe('spot-interruption');
    expect(node.journal).toContain('"cordonedByUs":false');
  });
});

describe('a node that others manage', () => {
  const kinds = [...INTERRUPTION_KINDS, 'launch-hook'] as const;
  const owners = { rebalance: true, 'terminate-hook': true, 'launch-hook': true };

  test.each(['karpenter', 'eks'] as const)(
    '(%s) is ours as far as MANAGED_NODES says',
    (manager) => {
      const leftOf = (managedNodes: Policy['managedNodes']) =>
        kinds.filter((kind) => isLeftToOwner(kind, { manager }, policy({ managedNodes })));
      expect(leftOf('assist')).toEqual(kinds.filter((kind) => kind in owners));
      expect(leftOf('handle')).toEqual([]);
      expect(leftOf('ignore')).toEqual(kinds);
    },
  );

  test('is no node without such a label', () => {
    const rules = policy({ managedNodes: 'ignore' });
    for (const kind of kinds)
      expect(isLeftToOwner(kind, { manager: undefined }, rules)).toBe(false);
  });
});
