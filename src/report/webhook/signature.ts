import { createHmac } from 'node:crypto';

/** `whsec_` and 24 to 64 bytes in base64, give or take the last. */
export const SECRET_PATTERN =
  'whsec_([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?';

/**
 * The value of `webhook-signature`: one for each secret, so that one can take another's place.
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export function signature(
  secrets: readonly string[],
  { id, timestampSeconds, body }: Readonly<{ id: string; timestampSeconds: number; body: string }>,
): string {
  return secrets
    .map((secret) => {
      const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
      const hmac = createHmac('sha256', key).update(`${id}.${timestampSeconds}.${body}`);
      return `v1,${hmac.digest('base64')}`;
    })
    .join(' ');
}
