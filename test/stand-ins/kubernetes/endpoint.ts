import { eventAsCore, eventFromCore } from './event-rules.ts';
import { events, resources } from './kinds.ts';
import type { ApiObject } from './objects.ts';
import type { Resource } from './resource.ts';

/** One group and version under which a resource is served, and its form there. */
export type Endpoint = {
  readonly resource: Resource;
  readonly group: string;
  readonly version: string;
  readonly groupVersion: string;
  show(object: ApiObject): ApiObject;
  accept(object: ApiObject): ApiObject;
};

function endpoint(resource: Resource, overrides: Partial<Endpoint> = {}): Endpoint {
  const { group, version } = { ...resource, ...overrides };
  return {
    resource,
    group,
    version,
    groupVersion: group === '' ? version : `${group}/${version}`,
    show: (object) => object,
    accept: (object) => object,
    ...overrides,
  };
}

const coreEvents = endpoint(events, {
  group: '',
  version: 'v1',
  show: eventAsCore,
  accept: eventFromCore,
});

export const endpoints: readonly Endpoint[] = [...resources.map((r) => endpoint(r)), coreEvents];

const byPath = new Map(endpoints.map((e) => [`${e.groupVersion}/${e.resource.plural}`, e]));

export function findEndpoint(groupVersion: string, plural: string): Endpoint | undefined {
  return byPath.get(`${groupVersion}/${plural}`);
}
