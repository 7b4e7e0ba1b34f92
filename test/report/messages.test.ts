import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MESSAGES } from '../../src/report/messages.ts';

test('every message of the table is logged somewhere', async () => {
  const files = (await readdir('src', { recursive: true })).filter(
    (file) => file.endsWith('.ts') && file !== join('report', 'messages.ts'),
  );
  const texts = await Promise.all(files.map((file) => readFile(join('src', file), 'utf8')));
  const source = texts.join('\n');
  expect(Object.keys(MESSAGES).filter((text) => !source.includes(`'${text}'`))).toEqual([]);
});
