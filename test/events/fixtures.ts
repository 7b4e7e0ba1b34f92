import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(import.meta.dirname, '../fixtures/messages');

/** Names of the files, each the body of one message as the queue hands it out. */
export const fixtureNames: readonly string[] = readdirSync(folder).toSorted();

export function fixture(name: string): string {
  return readFileSync(join(folder, name), 'utf8');
}

/** When the fixtures' messages were put on the queue, two seconds after their events. */
export const SENT_AT = Date.parse('2026-11-20T10:00:02Z');

/** The body as SNS hands it on to a queue with raw delivery off. */
export function inSns(body: string): string {
  return JSON.stringify({
    Type: 'Notification',
    MessageId: 'dc1e94d9-56c5-5e96-808d-cc7f68faa162',
    TopicArn: 'arn:aws:sns:us-east-2:123456789012:node-events',
    Message: body,
    Timestamp: '2026-11-20T10:00:01.137Z',
    SignatureVersion: '1',
  });
}
