import type { Cause } from './api-error.ts';
import type { Metadata } from './objects.ts';

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/u;
const qualifiedName = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/u;
const annotationBytesLimit = 256 * 1024;

export function required(field: string, why = ''): Cause {
  return {
    reason: 'FieldValueRequired',
    message: why === '' ? 'Required value' : `Required value: ${why}`,
    field,
  };
}

export function invalidValue(field: string, value: unknown, why: string): Cause {
  return {
    reason: 'FieldValueInvalid',
    message: `Invalid value: ${JSON.stringify(value)}: ${why}`,
    field,
  };
}

export function forbiddenField(field: string, why: string): Cause {
  return { reason: 'FieldValueForbidden', message: `Forbidden: ${why}`, field };
}

export function validateMetadata(metadata: Metadata): Cause[] {
  const causes: Cause[] = [];
  if (metadata.name.length > 253 || !subdomain.test(metadata.name)) {
    causes.push(
      invalidValue(
        'metadata.name',
        metadata.name,
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
      ),
    );
  }
  for (const [key, value] of Object.entries(metadata.labels ?? {})) {
    if (!isQualifiedName(key)) {
      causes.push(
        invalidValue('metadata.labels', key, 'name part must consist of alphanumeric characters'),
      );
    }
    if (!isLabelValue(value)) {
      causes.push(
        invalidValue(
          'metadata.labels',
          value,
          'a valid label must be an empty string or consist of alphanumeric characters',
        ),
      );
    }
  }
  let bytes = 0;
  for (const [key, value] of Object.entries(metadata.annotations ?? {})) {
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value);
    if (!isQualifiedName(key.toLowerCase())) {
      causes.push(
        invalidValue(
          'metadata.annotations',
          key,
          'name part must consist of alphanumeric characters',
        ),
      );
    }
  }
  if (bytes > annotationBytesLimit) {
    causes.push({
      reason: 'FieldValueTooLong',
      message: `Too long: may not be more than ${annotationBytesLimit} bytes`,
      field: 'metadata.annotations',
    });
  }
  return causes;
}

export function isQualifiedName(key: string): boolean {
  const parts = key.split('/');
  const name = parts.at(-1) ?? '';
  if (parts.length > 2 || name.length > 63 || !qualifiedName.test(name)) return false;
  return parts.length === 1 || subdomain.test(parts[0] ?? '');
}

export function isLabelValue(value: string): boolean {
  return value === '' || (value.length <= 63 && qualifiedName.test(value));
}
