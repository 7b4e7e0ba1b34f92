import { CATALOGUE } from '../src/events/catalogue.ts';
import type { EventKind } from '../src/events/event.ts';

/** As EventBridge takes it: an event matches if each field named here has one of the values. */
export type EventPattern = Readonly<{
  source: readonly string[];
  'detail-type': readonly string[];
  detail?: Readonly<Record<string, readonly string[]>>;
}>;

type Rule = Readonly<{ kind: EventKind; pattern: EventPattern }>;

/** What a rule lets through, for every kind of the catalogue. */
export const RULES: readonly Rule[] = CATALOGUE.map(
  ({ kind, source, detailTypes, rulePattern }) => ({
    kind,
    pattern: {
      source: [source],
      'detail-type': detailTypes,
      ...(rulePattern === undefined ? {} : { detail: rulePattern }),
    },
  }),
);

/** `spot-interruption` → `SpotInterruption`, as logical IDs and parameters are written. */
export function pascalCase(name: string): string {
  return name.replace(/(?:^|-)(.)/g, (_, letter: string) => letter.toUpperCase());
}
