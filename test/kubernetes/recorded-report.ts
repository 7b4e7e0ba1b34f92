import type { Facts, Report } from '../../src/report/report.ts';

export type Said = readonly [level: string, message: string, facts: Facts | undefined];

/** A log that can be asked what was said. */
export function recordedReport(): Report & { readonly said: Said[] } {
  const said: Said[] = [];
  const at = (level: string) => (message: string, facts?: Facts) =>
    void said.push([level, message, facts]);
  return { said, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
