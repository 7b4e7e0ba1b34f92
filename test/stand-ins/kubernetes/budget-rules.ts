import type { Cause } from './api-error.ts';
import type { Budget } from './objects.ts';
import type { Resource } from './resource.ts';
import { invalidValue } from './validation.ts';

export const budgetRules = {
  unconditionalUpdate: false,

  prepareCreate(budget) {
    budget.status = {
      disruptionsAllowed: 0,
      currentHealthy: 0,
      desiredHealthy: 0,
      expectedPods: 0,
    };
  },

  prepareUpdate(budget, current) {
    budget.status = current.status;
  },

  validate(budget) {
    const causes: Cause[] = [];
    const { minAvailable, maxUnavailable, unhealthyPodEvictionPolicy } = budget.spec;
    if (minAvailable !== undefined && maxUnavailable !== undefined) {
      causes.push(invalidValue('spec', '', 'minAvailable and maxUnavailable cannot be both set'));
    }
    for (const [field, value] of Object.entries({ minAvailable, maxUnavailable })) {
      if (value !== undefined && !isCountOrPercentage(value)) {
        causes.push(
          invalidValue(
            `spec.${field}`,
            value,
            'must be a non-negative number or a percentage of at most 100%',
          ),
        );
      }
    }
    if (
      unhealthyPodEvictionPolicy !== undefined &&
      !['IfHealthyBudget', 'AlwaysAllow'].includes(unhealthyPodEvictionPolicy)
    ) {
      causes.push({
        reason: 'FieldValueNotSupported',
        message: `Unsupported value: "${unhealthyPodEvictionPolicy}": supported values: "AlwaysAllow", "IfHealthyBudget"`,
        field: 'spec.unhealthyPodEvictionPolicy',
      });
    }
    return causes;
  },
} satisfies Partial<Resource<Budget>>;

function isCountOrPercentage(value: number | string): boolean {
  if (typeof value === 'number') return Number.isInteger(value) && value >= 0;
  return /^\d+%$/u.test(value) && Number.parseInt(value, 10) <= 100;
}
