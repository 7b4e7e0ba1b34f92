/** How many entries each collection has that these objects hold, directly or through others, by path. */
export function collectionsOf(root: object, name: string): ReadonlyMap<string, number> {
  const sizes = new Map<string, number>();
  const seen = new Set<object>();
  const visit = (value: unknown, path: string): void => {
    if (typeof value !== 'object' || value === null || seen.has(value)) return;
    seen.add(value);
    if (value instanceof Map || value instanceof Set) {
      sizes.set(path, value.size);
      for (const entry of value.values()) visit(entry, `${path}[]`);
      return;
    }
    if (Array.isArray(value)) {
      sizes.set(path, value.length);
      for (const entry of value) visit(entry, `${path}[]`);
      return;
    }
    for (const [field, inner] of Object.entries(value)) {
      // What lies outside, and what a test says.
      if (!OUTSIDE.has(field)) visit(inner, `${path}.${field}`);
    }
  };
  visit(root, name);
  return sizes;
}

const OUTSIDE = new Set([
  'ports',
  'nodes',
  'store',
  'queue',
  'clock',
  'report',
  'policy',
  'pods',
  'breaker',
  'watchdog',
  'metrics',
  'outcomes',
  'objectEvents',
]);
