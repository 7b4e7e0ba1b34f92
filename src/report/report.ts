import type { MessageAt } from './messages.ts';

/**
 * How the flow tells what happens. Static messages from one table, facts as metadata; field names are
 * the same everywhere (`node`, `instance`, `kind`, `pod`, `namespace`, `deadline`, `secondsLeft`, …).
 */
export interface Report {
  debug(message: MessageAt<'debug'>, facts?: Facts): void;
  info(message: MessageAt<'info'>, facts?: Facts): void;
  warn(message: MessageAt<'warn'>, facts?: Facts): void;
  error(message: MessageAt<'error'>, facts?: Facts): void;
}

/** Values are logged as JSON; an Error is written with message, cause and stack. */
export type Facts = Readonly<Record<string, unknown>>;
