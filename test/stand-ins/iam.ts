type OneOrMany<T> = T | readonly T[];

export type Statement = Readonly<{
  Sid?: string;
  Effect: 'Allow' | 'Deny';
  /** Of policies of resources only. */
  Principal?: '*' | Readonly<{ AWS?: OneOrMany<string>; Service?: OneOrMany<string> }>;
  Action: OneOrMany<string>;
  Resource: OneOrMany<string>;
  Condition?: Readonly<Record<string, Readonly<Record<string, OneOrMany<string>>>>>;
}>;

export type Policy = Readonly<{ Version: '2012-10-17'; Statement: readonly Statement[] }>;

export type Request = Readonly<{
  /** `sqs:SendMessage` and so on. */
  action: string;
  /** An ARN. */
  resource: string;
  /** Of a service's own request. */
  service?: string;
  /** Condition keys, such as `aws:SourceArn`; of a role or user, `aws:PrincipalArn` is one. */
  context?: Readonly<Record<string, string>>;
}>;

/**
 * What IAM says to a request within one account: denied if any statement denies it, else allowed if
 * any allows it. Knows the operators that our policies use, and throws on others.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
 */
export function decide(policies: readonly Policy[], request: Request): 'allowed' | 'denied' {
  const matching = policies
    .flatMap(({ Statement: statements }) => statements)
    .filter((statement) => appliesTo(statement, request));
  if (matching.some(({ Effect }) => Effect === 'Deny')) return 'denied';
  return matching.length > 0 ? 'allowed' : 'denied';
}

function appliesTo(statement: Statement, request: Request): boolean {
  const { Principal: principal, Condition: conditions = {} } = statement;
  return (
    listOf(statement.Action).some((action) => isLike(request.action, action)) &&
    listOf(statement.Resource).some((resource) => isLike(request.resource, resource)) &&
    (principal === undefined || isFor(principal, request)) &&
    Object.entries(conditions).every(([operator, keys]) =>
      Object.entries(keys).every(([key, values]) =>
        compare(operator, request.context?.[key], listOf(values)),
      ),
    )
  );
}

function isFor(principal: NonNullable<Statement['Principal']>, { service, context }: Request) {
  if (principal === '*') return true;
  const arns = principal.AWS === undefined ? [] : listOf(principal.AWS);
  if (arns.includes('*')) return true;
  const services = principal.Service === undefined ? [] : listOf(principal.Service);
  if (service !== undefined) return services.includes(service);
  return arns.includes(context?.['aws:PrincipalArn'] ?? '');
}

/** A key that is not in the request equals nothing. */
function compare(operator: string, value: string | undefined, wanted: readonly string[]): boolean {
  const isOneOf = (matches: (one: string) => boolean) =>
    value !== undefined && wanted.some(matches);
  switch (operator) {
    case 'Bool':
    case 'StringEquals':
      return isOneOf((one) => one === value);
    case 'ArnEquals':
      return isOneOf((one) => isLike(value ?? '', one));
    case 'ArnNotEquals':
      return !isOneOf((one) => isLike(value ?? '', one));
    default:
      throw new Error(`unknown operator ${operator}`);
  }
}

function isLike(text: string, pattern: string): boolean {
  const escaped = pattern.replace(/[\\^$.|+()[\]{}]/g, String.raw`\$&`);
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`).test(text);
}

function listOf<T extends string>(value: OneOrMany<T>): readonly T[] {
  return typeof value === 'string' ? [value] : value;
}
