import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');
const configuration = [
  'lint',
  'test/setup',
  'vitest.config.ts',
  'scripts/build.ts',
  'scripts/check.ts',
  'tsconfig.json',
  '.oxlintrc.json',
  '.oxfmtrc.jsonc',
  'knip.jsonc',
];

/** A project with this one's guards and other files. */
export class ProjectCopy {
  readonly folder = mkdtempSync(join(tmpdir(), 'guards-'));

  constructor(files: Readonly<Record<string, string>>) {
    for (const name of configuration)
      cpSync(join(root, name), join(this.folder, name), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(this.folder, 'node_modules'));
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(this.folder, path)), { recursive: true });
      writeFileSync(join(this.folder, path), text);
    }
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}
