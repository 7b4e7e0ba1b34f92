/**
 * HOOKS: which lifecycle hooks are ours to complete and to keep alive. A pattern is matched against
 * `group/hook` as one text; `*` stands for any characters, `/` included (both names may hold
 * slashes), `?` for exactly one.
 */
export type HookPatterns = readonly string[];

/** The patterns, or a sentence that says what is wrong with them. */
export function parseHookPatterns(text: string): HookPatterns | Readonly<{ fault: string }> {
  const patterns = text.split(',').map((pattern) => pattern.trim());
  for (const pattern of patterns) {
    if (pattern === '') return { fault: 'has an empty pattern in it' };
    if (pattern !== '*' && !pattern.includes('/')) {
      return { fault: `has "${pattern}" without a group (write "*/${pattern}" for any)` };
    }
  }
  return patterns;
}

export function isHookOfOurs(patterns: HookPatterns, group: string, hook: string): boolean {
  return patterns.some((pattern) => matchesGlob(pattern, `${group}/${hook}`));
}

/**
 * On a mismatch only the latest `*` is widened: an earlier one could reach nothing that this one
 * does not, so the time is at most the product of the lengths, whatever the pattern.
 */
function matchesGlob(pattern: string, text: string): boolean {
  let at = 0;
  let next = 0;
  let star = -1;
  let starText = 0;
  while (at < text.length) {
    if (pattern[next] === '*') {
      star = next++;
      starText = at;
    } else if (next < pattern.length && (pattern[next] === '?' || pattern[next] === text[at])) {
      at++;
      next++;
    } else if (star >= 0) {
      next = star + 1;
      at = ++starText;
    } else {
      return false;
    }
  }
  while (pattern[next] === '*') next++;
  return next === pattern.length;
}
