import { randomBytes } from 'node:crypto';
import type { PolicyRule } from '../../control-plane/control-plane.ts';
import { reviews } from './discovery.ts';
import { refusedByRole } from './faults.ts';
import type { ApiRequest } from './request.ts';

export type User = {
  /** As RBAC and logs name it. */
  readonly name: string;
  /** All that it may do, in any namespace; everything unless given. */
  readonly rules?: readonly PolicyRule[];
  /** What it may do beside, by namespace. */
  readonly namespaceRules?: Readonly<Record<string, readonly PolicyRule[]>>;
};

/** What a rule is held against, as in an access review. */
export type Attributes = {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly subresource: string;
  readonly namespace: string;
  readonly name: string;
};

export type UserTable = {
  /** Returns the token that the user is known by. */
  add(user: User): string;
  nameOf(request: ApiRequest): string;
  /** Throws 403 if the request's user may not do this. Whoever is not known may do everything. */
  authorise(request: ApiRequest): void;
  mayDo(request: ApiRequest, attributes: Attributes): boolean;
};

export function createUserTable(): UserTable {
  const byToken = new Map<string, User>();
  const userOf = ({ headers }: ApiRequest): User | undefined => {
    const { authorization = '' } = headers;
    return typeof authorization === 'string'
      ? byToken.get(authorization.replace(/^Bearer /u, ''))
      : undefined;
  };
  return {
    add(user) {
      const token = randomBytes(16).toString('hex');
      byToken.set(token, user);
      return token;
    },
    nameOf: (request) => userOf(request)?.name ?? 'anonymous',
    authorise(request) {
      const user = userOf(request);
      // Paths that name no resource, and what one may do, are open to everybody.
      if (user === undefined || request.verb === 'other' || request.resource === reviews.plural) {
        return;
      }
      if (!isAllowed(user, attributesOf(request))) throw refusedByRole(request, user.name);
    },
    mayDo(request, attributes) {
      const user = userOf(request);
      return user === undefined || isAllowed(user, attributes);
    },
  };
}

function attributesOf(request: ApiRequest): Attributes {
  const { groupVersion, verb, resource, subresource = '', namespace = '', name = '' } = request;
  const [group = ''] = groupVersion.includes('/') ? groupVersion.split('/') : [];
  return { verb, group, resource, subresource, namespace, name };
}

function isAllowed(user: User, attributes: Attributes): boolean {
  const { rules, namespaceRules = {} } = user;
  if (rules === undefined) return true;
  if (rules.some((rule) => grants(rule, attributes))) return true;
  const beside = namespaceRules[attributes.namespace] ?? [];
  return beside.some((rule) => grants(rule, attributes));
}

function grants(rule: PolicyRule, attributes: Attributes): boolean {
  const { group, name, resource, subresource, verb } = attributes;
  const target = subresource === '' ? resource : `${resource}/${subresource}`;
  const has = (list: readonly string[] | undefined, value: string): boolean =>
    list?.some((item) => item === '*' || item === value) ?? false;
  return (
    has(rule.verbs, verb) &&
    has(rule.apiGroups, group) &&
    has(rule.resources, target) &&
    ((rule.resourceNames ?? []).length === 0 || has(rule.resourceNames, name))
  );
}
