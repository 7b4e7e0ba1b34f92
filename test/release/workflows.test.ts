import { spawnSync } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { goEnvironment, goSkipReason } from '../harness/go.ts';

const root = resolve(import.meta.dirname, '../..');
const workflows = join(root, '.github/workflows');

const needs = goSkipReason('actionlint');

describe.skipIf(needs)('actionlint', { meta: { needs } }, () => {
  it('has nothing against the workflows', async () => {
    const files = (await readdir(workflows)).map((name) => join(workflows, name));
    // What else is on this machine is not asked: shellcheck, pyflakes.
    const args = ['tool', 'actionlint', '-no-color', '-shellcheck=', '-pyflakes=', ...files];
    const go = (...goArgs: readonly string[]) =>
      spawnSync('go', goArgs, {
        cwd: import.meta.dirname,
        env: goEnvironment,
        encoding: 'utf8',
      });
    // What Go says of its downloads would be among what the tool says.
    expect(go('mod', 'download')).toMatchObject({ status: 0 });
    const { status, stdout, stderr } = go(...args);
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(files).not.toEqual([]);
  });
});

describe('a release', () => {
  it('has its version from package.json alone', async () => {
    const { version } = packageJson;
    const chart = await readFile(join(root, 'deploy/chart/Chart.yaml'), 'utf8');
    expect(chart).toContain(`\nversion: ${version}\nappVersion: ${version}\n`);
  });

  it('publishes where the chart and the documents look for it', async () => {
    const values = await readFile(join(root, 'deploy/chart/values.yaml'), 'utf8');
    const [, repository = ''] = /^ {2}repository: ghcr\.io\/(\S+)$/m.exec(values) ?? [];
    const [owner = '', name = ''] = repository.split('/');
    const release = await readFile(join(workflows, 'release.yaml'), 'utf8');
    expect(release).toContain('IMAGE: ghcr.io/${{ github.repository }}\n');
    expect(release).toContain('CHARTS: ghcr.io/${{ github.repository_owner }}/charts\n');
    const install = await readFile(join(root, 'docs/install.md'), 'utf8');
    expect(install).toContain(`oci://ghcr.io/${owner}/charts/${name} `);
    expect(install).toContain(`https://github.com/${owner}/${name}.git`);
    const chart = await readFile(join(root, 'deploy/chart/Chart.yaml'), 'utf8');
    expect(chart).toContain(`\nhome: https://github.com/${owner}/${name}\n`);
  });

  it('uses the Helm that the tests use', async () => {
    const release = await readFile(join(workflows, 'release.yaml'), 'utf8');
    const modules = await readFile(join(root, 'test/control-plane/go.mod'), 'utf8');
    const [, version = ''] = /helm\.sh\/helm\/v4 (v\S+)/.exec(modules) ?? [];
    expect(release).toContain(`version: ${version}\n`);
  });

  it('is told of in the changelog, newest first', async () => {
    const changelog = await readFile(join(root, 'CHANGELOG.md'), 'utf8');
    const headings = [...changelog.matchAll(/^## (.*)$/gm)].map(([, heading = '']) => heading);
    expect(headings[0]).toMatch(/^\[(Unreleased|\d+\.\d+\.\d+)\]/);
    for (const heading of headings.slice(1)) {
      expect(heading).toMatch(/^\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d$/);
    }
  });
});
