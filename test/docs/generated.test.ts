import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { generatedDocs } from '../../scripts/generate-docs.ts';

test.each(Object.entries(generatedDocs()))(
  '%s is what `npm run docs` writes',
  async (path, text) => {
    expect(await readFile(path, 'utf8')).toBe(text);
  },
);
