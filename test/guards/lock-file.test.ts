import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const lockFile = readFileSync(join(root, 'package-lock.json'), 'utf8');

describe('package-lock.json', () => {
  test('names no registry, so that it works with any', () => {
    expect(lockFile).not.toContain('"resolved"');
  });

  test('holds the esbuild of other platforms too', () => {
    expect(lockFile).toContain('"node_modules/@esbuild/darwin-arm64"');
    expect(lockFile).toContain('"node_modules/@esbuild/linux-arm64"');
  });
});
