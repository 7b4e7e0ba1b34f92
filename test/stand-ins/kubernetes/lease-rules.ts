import { badRequest, type Cause } from './api-error.ts';
import type { Lease } from './objects.ts';
import type { Resource } from './resource.ts';
import { invalidValue } from './validation.ts';

const microTime = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}(Z|[+-]\d{2}:\d{2})$/u;

/** Exactly six fractional digits are taken, and nothing else. */
export function requireMicroTime(kind: string, value: string | null | undefined): void {
  if (value === undefined || value === null || microTime.test(value)) return;
  throw badRequest(
    `${kind} in version "v1" cannot be handled as a ${kind}: parsing time "${value}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "${value}" as ".000000"`,
  );
}

export const leaseRules = {
  prepareCreate(lease) {
    normalise(lease);
  },

  prepareUpdate(lease) {
    normalise(lease);
  },

  validate(lease) {
    const causes: Cause[] = [];
    const { leaseDurationSeconds, leaseTransitions } = lease.spec;
    if (leaseDurationSeconds !== undefined && leaseDurationSeconds <= 0) {
      causes.push(
        invalidValue('spec.leaseDurationSeconds', leaseDurationSeconds, 'must be greater than 0'),
      );
    }
    if (leaseTransitions !== undefined && leaseTransitions < 0) {
      causes.push(
        invalidValue(
          'spec.leaseTransitions',
          leaseTransitions,
          'must be greater than or equal to 0',
        ),
      );
    }
    return causes;
  },
} satisfies Partial<Resource<Lease>>;

function normalise(lease: Lease): void {
  const { spec } = lease;
  requireMicroTime('Lease', spec.renewTime);
  requireMicroTime('Lease', spec.acquireTime);
  for (const field of ['holderIdentity', 'renewTime', 'acquireTime'] as const) {
    if (spec[field] === null) delete spec[field];
  }
}
