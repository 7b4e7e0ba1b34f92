import type { Cause } from './api-error.ts';
import type { Node, Taint } from './objects.ts';
import type { Resource } from './resource.ts';
import {
  forbiddenField,
  invalidValue,
  isLabelValue,
  isQualifiedName,
  required,
} from './validation.ts';

const effects = ['NoSchedule', 'PreferNoSchedule', 'NoExecute'];

export const nodeRules = {
  fields: { 'spec.unschedulable': (node) => String(node.spec.unschedulable ?? false) },

  prepareCreate(node) {
    tidy(node);
  },

  prepareUpdate(node, current) {
    node.status = current.status;
    tidy(node);
  },

  validate(node, current) {
    const causes = validateTaints(node.spec.taints ?? []);
    const providerId = current?.spec.providerID ?? '';
    if (providerId !== '' && (node.spec.providerID ?? '') !== providerId) {
      causes.push(
        forbiddenField(
          'spec.providerID',
          'node updates may not change providerID except from "" to valid',
        ),
      );
    }
    return causes;
  },
} satisfies Partial<Resource<Node>>;

/** What the API server leaves out when it prints: empty lists and false. */
function tidy(node: Node): void {
  if (node.spec.taints?.length === 0) delete node.spec.taints;
  if (node.spec.unschedulable === false) delete node.spec.unschedulable;
}

function validateTaints(taints: readonly Taint[]): Cause[] {
  const causes: Cause[] = [];
  const seen = new Set<string>();
  for (const [at, taint] of taints.entries()) {
    // The real server says metadata here.
    const field = `metadata.taints[${at}]`;
    if (typeof taint.key !== 'string' || taint.key === '') causes.push(required(`${field}.key`));
    else if (!isQualifiedName(taint.key)) {
      causes.push(
        invalidValue(
          `${field}.key`,
          taint.key,
          'name part must consist of alphanumeric characters',
        ),
      );
    }
    if (!isLabelValue(taint.value ?? '')) {
      causes.push(
        invalidValue(
          `${field}.value`,
          taint.value,
          'a valid label must be an empty string or consist of alphanumeric characters',
        ),
      );
    }
    if (typeof taint.effect !== 'string' || taint.effect === '')
      causes.push(required(`${field}.effect`));
    else if (!effects.includes(taint.effect)) {
      causes.push({
        reason: 'FieldValueNotSupported',
        message: `Unsupported value: "${taint.effect}": supported values: ${effects.map((e) => `"${e}"`).join(', ')}`,
        field: `${field}.effect`,
      });
    }
    const identity = `${taint.key}:${taint.effect}`;
    if (seen.has(identity)) {
      causes.push({
        reason: 'FieldValueDuplicate',
        message: `Duplicate value: ${JSON.stringify(taint)}: taints must be unique by key and effect pair`,
        field,
      });
    }
    seen.add(identity);
  }
  return causes;
}
