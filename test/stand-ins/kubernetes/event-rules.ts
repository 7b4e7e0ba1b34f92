import type { Cause } from './api-error.ts';
import { sameJson } from './json.ts';
import { requireMicroTime } from './lease-rules.ts';
import type { ApiObject, RecordedEvent } from './objects.ts';
import type { Resource } from './resource.ts';
import { invalidValue, required } from './validation.ts';

const clusterNamespaces = new Set(['default', 'kube-system']);
const noteLimit = 1024;
const shortLimit = 128;

export const eventRules = {
  createOnUpdate: true,
  fields: {
    reason: (event) => event.reason ?? '',
    type: (event) => event.type ?? '',
    reportingController: (event) => event.reportingController ?? '',
    ...regardingFields('regarding'),
    // The names core/v1 has for them.
    reportingComponent: (event) => event.reportingController ?? '',
    source: (event) => event.deprecatedSource?.['component'] ?? event.reportingController ?? '',
    ...regardingFields('involvedObject'),
  },

  validate(event, current) {
    requireMicroTime('Event', event.eventTime);
    if (current !== undefined)
      return fixedFields.flatMap((field) => changed(field, event, current));
    // Those without eventTime are of the old recorder, of which less is asked.
    if (event.eventTime === undefined || event.eventTime === null) return [];
    const causes: Cause[] = [];
    const regarded = event.regarding?.['namespace'] ?? '';
    if (regarded === '' && !clusterNamespaces.has(event.metadata.namespace ?? '')) {
      causes.push(
        invalidValue('involvedObject.namespace', regarded, 'does not match event.namespace'),
      );
    }
    for (const field of ['reportingController', 'reportingInstance', 'action', 'reason'] as const) {
      const value = event[field] ?? '';
      if (value === '') causes.push(required(field));
      if (value.length > shortLimit && field !== 'reportingController') {
        causes.push(invalidValue(field, '', `can have at most ${shortLimit} characters`));
      }
    }
    if ((event.note ?? '').length > noteLimit) {
      causes.push(invalidValue('message', '', `can have at most ${noteLimit} characters`));
    }
    if (event.type !== 'Normal' && event.type !== 'Warning') {
      causes.push(invalidValue('type', '', `has invalid value: ${event.type ?? ''}`));
    }
    return causes;
  },
} satisfies Partial<Resource<RecordedEvent>>;

/** A series may be added; all else stays as it was told first. */
const fixedFields = [
  'regarding',
  'related',
  'reason',
  'note',
  'type',
  'action',
  'eventTime',
] as const;

function changed(
  field: (typeof fixedFields)[number],
  event: RecordedEvent,
  current: RecordedEvent,
): Cause[] {
  if (sameJson(event[field], current[field])) return [];
  return [invalidValue(field === 'note' ? 'message' : field, event[field], 'field is immutable')];
}

/** Creation through events.k8s.io/v1 asks for eventTime; core/v1 does not. */
export function validateNewEvent(event: ApiObject): Cause[] {
  const { eventTime } = event as RecordedEvent;
  return eventTime === undefined || eventTime === null ? [required('eventTime')] : [];
}

function regardingFields(prefix: string): Record<string, (event: RecordedEvent) => string> {
  const names = ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'];
  return Object.fromEntries(
    names.map((name) => [
      `${prefix}.${name}`,
      (event: RecordedEvent) => event.regarding?.[name] ?? '',
    ]),
  );
}

const coreNames: readonly (readonly [string, string])[] = [
  ['involvedObject', 'regarding'],
  ['message', 'note'],
  ['source', 'deprecatedSource'],
  ['firstTimestamp', 'deprecatedFirstTimestamp'],
  ['lastTimestamp', 'deprecatedLastTimestamp'],
  ['count', 'deprecatedCount'],
  ['reportingComponent', 'reportingController'],
];

export function eventAsCore(event: ApiObject): ApiObject {
  return renamed(
    { ...event, apiVersion: 'v1' },
    coreNames.map(([core, stored]) => [stored, core]),
  );
}

export function eventFromCore(event: ApiObject): ApiObject {
  return renamed({ ...event, apiVersion: 'events.k8s.io/v1' }, coreNames);
}

function renamed(object: ApiObject, names: readonly (readonly [string, string])[]): ApiObject {
  const result: Record<string, unknown> = { ...object };
  for (const [from, to] of names) {
    if (result[from] !== undefined) {
      result[to] = result[from];
      delete result[from];
    }
  }
  return result as ApiObject;
}
