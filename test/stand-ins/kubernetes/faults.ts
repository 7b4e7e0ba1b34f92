import { ApiError, type StatusBody } from './api-error.ts';
import { reviews } from './discovery.ts';
import type { ApiRequest, Verb } from './request.ts';

/** All that is given must hold. */
export type Match = {
  readonly verb?: Verb | readonly Verb[];
  /** Plural. */
  readonly resource?: string;
  /** 'eviction', 'status' …; '' for requests to the object itself. */
  readonly subresource?: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly where?: (request: ApiRequest) => boolean;
};

export type Effect =
  /** Answers as usual, later. */
  | { readonly kind: 'delay'; readonly delayMs: number }
  /** 429 of priority and fairness: text/plain. */
  | { readonly kind: 'overloaded'; readonly retryAfterSeconds?: number }
  | { readonly kind: 'unavailable' }
  /** 403 of RBAC. The same attributes are refused in access reviews. */
  | { readonly kind: 'forbidden'; readonly userName?: string }
  /** Any other answer, such as an admission webhook's. */
  | { readonly kind: 'status'; readonly status: StatusBody }
  /** The connection is reset: before anything is done, or after it is done but before the answer. */
  | { readonly kind: 'reset'; readonly when: 'before' | 'after' }
  /** The answer never comes. */
  | { readonly kind: 'hang' };

export type Fault = {
  readonly match?: Match;
  readonly effect: Effect;
  /** How often; for ever unless given. */
  readonly times?: number;
  /** Of the matching requests, between 0 and 1; all unless given. */
  readonly share?: number;
};

export type InjectedFault = {
  /** Requests that it has hit so far. */
  hits(): number;
  remove(): void;
};

export type FaultTable = {
  inject(fault: Fault): InjectedFault;
  clear(): void;
  /** The effects for one request, each counted as a hit. */
  take(request: ApiRequest): readonly Effect[];
  /** For an access review: whether a request with these attributes, else like the review, would be refused. */
  isForbidden(attributes: Record<string, string>, review: ApiRequest): boolean;
};

type Entry = { readonly fault: Fault; hits: number };

/** @param random draws for faults with a share, between 0 and 1 */
export function createFaultTable(random: () => number): FaultTable {
  const entries = new Set<Entry>();
  return {
    inject(fault) {
      const entry = { fault, hits: 0 };
      entries.add(entry);
      return { hits: () => entry.hits, remove: () => entries.delete(entry) };
    },
    clear: () => entries.clear(),
    take(request) {
      const effects: Effect[] = [];
      for (const entry of entries) {
        const { times = Infinity, share = 1, match = {}, effect } = entry.fault;
        // Whoever may do nothing may still ask what he may do.
        if (effect.kind === 'forbidden' && request.resource === reviews.plural) continue;
        if (entry.hits >= times || !matches(match, request)) continue;
        if (share < 1 && random() >= share) continue;
        entry.hits += 1;
        effects.push(effect);
      }
      return effects;
    },
    isForbidden(attributes, review) {
      return [...entries].some(({ fault: { match = {}, effect } }) => {
        if (effect.kind !== 'forbidden') return false;
        if (match.where !== undefined && !match.where(review)) return false;
        return matchesAttributes(match, {
          verb: attributes['verb'] ?? '',
          resource: attributes['resource'] ?? '',
          subresource: attributes['subresource'] ?? '',
          namespace: attributes['namespace'] ?? '',
          name: attributes['name'] ?? '',
        });
      });
    },
  };
}

function matches(match: Match, request: ApiRequest): boolean {
  const { verb, resource, subresource = '', namespace = '', name = '' } = request;
  if (!matchesAttributes(match, { verb, resource, subresource, namespace, name })) return false;
  return match.where === undefined || match.where(request);
}

type Attributes = Readonly<
  Record<'verb' | 'resource' | 'subresource' | 'namespace' | 'name', string>
>;

function matchesAttributes(match: Match, attributes: Attributes): boolean {
  const verbs: readonly string[] | undefined =
    typeof match.verb === 'string' ? [match.verb] : match.verb;
  if (verbs !== undefined && !verbs.includes(attributes.verb)) return false;
  return (['resource', 'subresource', 'namespace', 'name'] as const).every(
    (field) => match[field] === undefined || match[field] === attributes[field],
  );
}

export function unavailable(): ApiError {
  return new ApiError(
    503,
    'ServiceUnavailable',
    'the server is currently unable to handle the request',
    {},
  );
}

export function refusedByRole(request: ApiRequest, userName: string): ApiError {
  const [group = ''] = request.groupVersion.includes('/') ? request.groupVersion.split('/') : [];
  const { resource, subresource, verb, namespace, name } = request;
  const target = subresource === undefined ? resource : `${resource}/${subresource}`;
  const qualified = group === '' ? resource : `${resource}.${group}`;
  const scope =
    namespace === undefined ? 'at the cluster scope' : `in the namespace "${namespace}"`;
  const subject = name === undefined ? qualified : `${qualified} "${name}"`;
  return new ApiError(
    403,
    'Forbidden',
    `${subject} is forbidden: User "${userName}" cannot ${verb} resource "${target}" in API group "${group}" ${scope}`,
    {
      ...(name !== undefined && { name }),
      ...(group !== '' && { group }),
      kind: resource,
    },
  );
}
