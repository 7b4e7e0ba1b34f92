import { rowOf, rowOfTransition } from './catalogue.ts';
import type { Parsed } from './event.ts';
import { described, type Warn } from './field.ts';
import { unwrap } from './wrapper.ts';

/** Distinct warnings that are kept of one message: the first ones tell enough. */
const MAX_WARNINGS = 10;

/**
 * What the text of one message says. `sentAt`, in epoch milliseconds, is when it was put on the
 * queue. Never throws, whatever the text; the same text and time give the same result.
 */
export function parse(body: string, context: Readonly<{ sentAt: number }>): Parsed {
  const warnings = new Set<string>();
  const warn: Warn = (warning) => {
    if (warnings.size < MAX_WARNINGS) warnings.add(warning);
  };
  const unwrapped = unwrap(body, context.sentAt, warn);
  if (unwrapped.wrapper === 'none') return { outcome: 'malformed', reason: unwrapped.reason };
  if (unwrapped.wrapper === 'test-notification') {
    return { outcome: 'not-ours', reason: 'test-notification', detail: 'of a lifecycle hook' };
  }
  const { row, name } =
    unwrapped.wrapper === 'eventbridge'
      ? {
          row: rowOf(unwrapped.source, unwrapped.detailType),
          name: `${described(unwrapped.detailType)} of ${described(unwrapped.source)}`,
        }
      : { row: rowOfTransition(unwrapped.transition), name: described(unwrapped.transition) };
  if (row === undefined)
    return { outcome: 'not-ours', reason: 'unknown-detail-type', detail: name };
  const parsed = row.parser(unwrapped.message, warn);
  return parsed.outcome === 'events' ? { ...parsed, warnings: [...warnings] } : parsed;
}
