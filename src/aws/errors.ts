/** What the failure of an AWS request means for whoever made it. */
export type Failure = Readonly<{
  kind: /** Too many requests: later, and fewer. */
    | 'throttled'
    /** No answer, or one that speaks of AWS's own trouble: later. */
    | 'unavailable'
    /** Permissions or credentials: a person must act, though some such failures pass by themselves. */
    | 'denied'
    /** AWS understood, and says no: asking again will not help. */
    | 'refused';
  /** As AWS names it (`ValidationError`), or as Node does (`ECONNREFUSED`). */
  code: string;
  message: string;
}>;

// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
// https://docs.aws.amazon.com/autoscaling/ec2/APIReference/CommonErrors.html
const DENIED = new Set([
  'AccessDenied',
  'AccessDeniedException',
  'AuthFailure',
  'CredentialsProviderError',
  'ExpiredToken',
  'ExpiredTokenException',
  'IncompleteSignature',
  'InvalidAccessKeyId',
  'InvalidClientTokenId',
  'InvalidSecurity',
  'KmsAccessDenied',
  'MissingAuthenticationToken',
  'NotAuthorized',
  'OptInRequired',
  'RequestExpired',
  'SignatureDoesNotMatch',
  'TokenProviderError',
  'UnauthorizedOperation',
  'UnrecognizedClientException',
]);

export function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) {
    return { kind: 'unavailable', code: 'Unknown', message: String(error) };
  }
  const code = shortCode(codeOf(error));
  const status = statusOf(error);
  return { kind: kindOf(code, status), code, message: error.message || code };
}

/** Of an entry of a batch, which fails by itself. */
export function entryFailureOf(
  code: string | undefined,
  senderFault: boolean | undefined,
  message: string | undefined,
): Failure {
  const short = shortCode(code ?? 'Unknown');
  const status = senderFault === true ? 400 : 500;
  return { kind: kindOf(short, status), code: short, message: message ?? short };
}

function kindOf(code: string, status: number | undefined): Failure['kind'] {
  if (/throttl|RequestLimitExceeded|TooManyRequests|SlowDown/i.test(code) || status === 429) {
    return 'throttled';
  }
  if (DENIED.has(code)) return 'denied';
  if (status === undefined || status >= 500 || status === 408) return 'unavailable';
  // An answer that no AWS service gives, of a proxy for instance, is no word of AWS.
  return code === 'SyntaxError' || status < 400 ? 'unavailable' : 'refused';
}

/** SQS names some errors `AWS.SimpleQueueService.X` in one protocol and `X` in the other. */
function shortCode(code: string): string {
  return code.split('.').at(-1) ?? code;
}

/** What Node names a connection's failure by; the SDK calls half of them TimeoutError. */
function codeOf(error: Error): string {
  const code = 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^E[A-Z_]+$/.test(code) ? code : error.name;
}

function statusOf(error: Error): number | undefined {
  if (!('$metadata' in error)) return undefined;
  const metadata = error.$metadata;
  if (typeof metadata !== 'object' || metadata === null || !('httpStatusCode' in metadata)) {
    return undefined;
  }
  return typeof metadata.httpStatusCode === 'number' ? metadata.httpStatusCode : undefined;
}
