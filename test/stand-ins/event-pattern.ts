type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/**
 * Whether an EventBridge rule with this pattern takes the event: every field that the pattern names
 * is in the event with one of the listed values; of a list in the event, one entry must do. Fields
 * that the pattern does not name do not matter. Throws on patterns with comparisons (`prefix`,
 * `exists` and so on): ours have none.
 * https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
 */
export function matchesPattern(pattern: Json, event: Json): boolean {
  const fields = Object.entries(asPattern(pattern));
  if (fields.length === 0) throw new Error('EventBridge refuses an empty pattern');
  return fields.every(([name, wanted]) => {
    if (!Array.isArray(wanted)) {
      const nested = valueOf(event, name);
      return nested === undefined ? false : matchesPattern(wanted, nested);
    }
    if (wanted.length === 0) throw new Error(`EventBridge refuses an empty list, for ${name}`);
    const values = [valueOf(event, name)].flat();
    return wanted.some((value) => {
      if (typeof value === 'object' && value !== null) {
        throw new Error(`a comparison, for ${name}: ${JSON.stringify(value)}`);
      }
      return values.includes(value);
    });
  });
}

function valueOf(event: Json, name: string): Json | undefined {
  return typeof event === 'object' && event !== null && !Array.isArray(event)
    ? event[name]
    : undefined;
}

function asPattern(value: Json): { [key: string]: Json } {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new Error(`EventBridge refuses a pattern like ${JSON.stringify(value)}`);
}
