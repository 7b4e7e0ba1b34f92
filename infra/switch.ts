import { Aws, CfnCondition, Fn, type CfnResource, type IResolvable } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';

/** Whether a part is there: decided now, or by a condition when the template is deployed. */
export type Switch = boolean | CfnCondition;

/** Makes resources depend on the switch. They must not be made at all where it is `false`. */
export function guard(on: Switch, ...resources: readonly CfnResource[]): void {
  if (typeof on === 'boolean') return;
  for (const { cfnOptions } of resources) cfnOptions.condition = on;
}

/** The value where the switch is on, else nothing: the entry of a list or object is left out. */
export function onlyIf<Value>(on: CfnCondition | true, value: Value): Value | IResolvable {
  return on === true ? value : Fn.conditionIf(on.logicalId, value, Aws.NO_VALUE);
}

/** On where both are. */
export function bothOf(scope: Construct, id: string, one: Switch, other: Switch): Switch {
  if (one === false || other === false) return false;
  if (one === true) return other;
  if (other === true) return one;
  return new CfnCondition(scope, id, { expression: Fn.conditionAnd(one, other) });
}

/** On where it is off. */
export function notOf(scope: Construct, id: string, on: Switch): Switch {
  if (typeof on === 'boolean') return !on;
  return new CfnCondition(scope, id, { expression: Fn.conditionNot(on) });
}

/** On where at least one is on; a condition is made only where several have to be asked. */
export function anyOf(scope: Construct, id: string, switches: readonly Switch[]): Switch {
  if (switches.includes(true)) return true;
  const conditions = new Set(switches.filter((on) => on instanceof CfnCondition));
  const [first, ...rest] = conditions;
  if (first === undefined) return false;
  if (rest.length === 0) return first;
  return new CfnCondition(scope, id, { expression: Fn.conditionOr(first, ...rest) });
}
