export type Cause = { reason?: string; message: string; field?: string };

export type StatusDetails = {
  name?: string;
  group?: string;
  kind?: string;
  uid?: string;
  causes?: Cause[];
  retryAfterSeconds?: number;
};

export type StatusBody = {
  kind: 'Status';
  apiVersion: 'v1';
  metadata: { continue?: string };
  status: 'Success' | 'Failure';
  message?: string;
  reason?: string;
  details?: StatusDetails;
  code?: number;
};

type Named = { group: string; plural: string; kind: string };

/** An answer other than success, in the API server's own shape. */
export class ApiError extends Error {
  readonly status: StatusBody;

  constructor(
    code: number,
    reason: string | undefined,
    message: string,
    details?: StatusDetails,
    metadata: StatusBody['metadata'] = {},
    cause?: Error,
  ) {
    super(message, { cause });
    this.name = 'ApiError';
    this.status = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata,
      status: 'Failure',
      message,
      ...(reason !== undefined && { reason }),
      ...(details !== undefined && { details }),
      code,
    };
  }

  get code(): number {
    return this.status.code ?? 500;
  }

  get headers(): Record<string, string> {
    const seconds = this.status.details?.retryAfterSeconds;
    return seconds === undefined ? {} : { 'retry-after': String(seconds) };
  }
}

function qualified(resource: { group: string; plural: string }): string {
  return resource.group === '' ? resource.plural : `${resource.plural}.${resource.group}`;
}

function detailsOf(resource: Named, name: string): StatusDetails {
  return {
    name,
    ...(resource.group !== '' && { group: resource.group }),
    kind: resource.plural,
  };
}

export function notFound(resource: Named, name: string): ApiError {
  const message = `${qualified(resource)} "${name}" not found`;
  return new ApiError(404, 'NotFound', message, detailsOf(resource, name));
}

export function noSuchResource(): ApiError {
  return new ApiError(404, 'NotFound', 'the server could not find the requested resource', {});
}

export function alreadyExists(resource: Named, name: string): ApiError {
  const message = `${qualified(resource)} "${name}" already exists`;
  return new ApiError(409, 'AlreadyExists', message, detailsOf(resource, name));
}

export function conflict(resource: Named, name: string, why: string): ApiError {
  const message = `Operation cannot be fulfilled on ${qualified(resource)} "${name}": ${why}`;
  return new ApiError(409, 'Conflict', message, detailsOf(resource, name));
}

export function staleVersion(resource: Named, name: string): ApiError {
  return conflict(
    resource,
    name,
    'the object has been modified; please apply your changes to the latest version and try again',
  );
}

/** Precondition failures of deletions name the kind where others name the plural. */
export function preconditionFailed(kind: string, name: string, why: string): ApiError {
  const message = `Operation cannot be fulfilled on ${kind} "${name}": ${why}`;
  return new ApiError(409, 'Conflict', message, { name, kind });
}

export function invalid(resource: Named, name: string, causes: readonly Cause[]): ApiError {
  const kind = resource.group === '' ? resource.kind : `${resource.kind}.${resource.group}`;
  const texts = causes.map((c) => `${c.field ?? ''}: ${c.message}`);
  const list = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  return new ApiError(422, 'Invalid', `${kind} "${name}" is invalid: ${list}`, {
    name,
    ...(resource.group !== '' && { group: resource.group }),
    kind: resource.kind,
    causes: [...causes],
  });
}

export function forbidden(
  resource: Named,
  name: string,
  why: string,
  causes?: readonly Cause[],
): ApiError {
  const message = `${qualified(resource)} "${name}" is forbidden: ${why}`;
  return new ApiError(403, 'Forbidden', message, {
    ...detailsOf(resource, name),
    ...(causes !== undefined && { causes: [...causes] }),
  });
}

export function badRequest(message: string): ApiError {
  return new ApiError(400, 'BadRequest', message);
}

export function budgetRefuses(why: string, retryAfterSeconds?: number): ApiError {
  return new ApiError(
    429,
    'TooManyRequests',
    "Cannot evict pod as it would violate the pod's disruption budget.",
    {
      causes: [{ reason: 'DisruptionBudget', message: why }],
      ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    },
  );
}

export function expired(message: string, continueToken?: string): ApiError {
  return new ApiError(
    410,
    'Expired',
    message,
    undefined,
    continueToken === undefined ? {} : { continue: continueToken },
  );
}
