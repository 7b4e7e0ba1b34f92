import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';

const script = join(import.meta.dirname, 'build');
const names = [
  'etcd',
  'helm',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubectl',
];

// Compiling takes minutes, so a shell script stands for Go here: it notes how it was called.
const fakeGo = `#!/bin/sh
case $1 in
  version) echo "go version \${FAKE_GO_VERSION:-go1.26.0} test/test" ;;
  build)
    echo "$CGO_ENABLED $*" >>"$FAKE_GO_CALLS"
    while [ "$1" != -o ]; do shift; done
    for name in server helm kube-apiserver kube-controller-manager kube-scheduler kubectl; do
      printf '#!/bin/sh\\n' >"$2$name"
      chmod 755 "$2$name"
      [ -z "$FAKE_GO_HANGS" ] || exec sleep 60
    done
    ;;
esac
`;

describe('the build of the control plane', () => {
  let folder: string;
  let env: NodeJS.ProcessEnv;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'build-test-'));
    await writeFile(join(folder, 'go'), fakeGo);
    await chmod(join(folder, 'go'), 0o755);
    env = {
      PATH: [folder, process.env['PATH']].join(delimiter),
      HOME: folder,
      FAKE_GO_CALLS: join(folder, 'calls'),
    };
  });

  afterEach(async () => {
    await rm(folder, { recursive: true });
  });

  async function build(args: string[] = [], extra: NodeJS.ProcessEnv = {}) {
    return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      execFile(script, args, { env: { ...env, ...extra } }, (error, stdout, stderr) => {
        resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
      });
    });
  }

  async function compilations(): Promise<string[]> {
    const text = await readFile(join(folder, 'calls'), 'utf8').catch(() => '');
    return text.split('\n').slice(0, -1);
  }

  const cache = () => join(folder, '.cache/node-termination-controller/control-plane');

  it('prints the folder of the binaries, and nothing else, on stdout', async () => {
    const { code, stdout } = await build();
    expect(code).toBe(0);
    expect(stdout.trimEnd().split('\n')).toHaveLength(1);
    expect((await readdir(stdout.trimEnd())).toSorted()).toEqual(names);
    expect(await compilations()).toEqual([
      expect.stringMatching(
        /^0 build -trimpath -ldflags -s -w -X k8s\.io\/component-base\/version\.gitVersion=v1\.\d+\.\d+ -X helm\.sh\/helm\/v4\/internal\/version\.version=v4\.\d+\.\d+ -o .* tool$/,
      ),
    ]);
  });

  it('compiles once, and again for another version of Go', async () => {
    const first = await build();
    const second = await build();
    expect(second.stdout).toBe(first.stdout);
    expect(await compilations()).toHaveLength(1);
    const other = await build([], { FAKE_GO_VERSION: 'go1.27.0' });
    expect(other.stdout).not.toBe(first.stdout);
    expect(await compilations()).toHaveLength(2);
  });

  it('caches where XDG_CACHE_HOME says', async () => {
    const { stdout } = await build([], { XDG_CACHE_HOME: join(folder, 'xdg') });
    expect(stdout).toContain(join(folder, 'xdg/node-termination-controller/control-plane/'));
  });

  it('leaves nothing that looks built when it is interrupted', async () => {
    const interrupted = spawn(script, [], {
      env: { ...env, FAKE_GO_HANGS: '1' },
      stdio: 'ignore',
      detached: true,
    });
    await eventually(async () => {
      const [partial] = await readdir(cache());
      return partial !== undefined && access(join(cache(), partial, 'server')).then(() => true);
    });
    // As Ctrl-C does: to the script and to what it runs.
    if (interrupted.pid !== undefined) process.kill(-interrupted.pid, 'SIGTERM');
    await once(interrupted, 'exit');
    expect(await readdir(cache())).toEqual([]);
    expect(await build(['--existing'])).toMatchObject({ code: 1, stdout: '' });
    expect((await build()).code).toBe(0);
    expect(await compilations()).toHaveLength(2);
  });

  it('says what is missing where it has not been run, and compiles nothing', async () => {
    const result = await build(['--existing']);
    expect(result).toMatchObject({ code: 1, stdout: '' });
    expect(result.stderr).toContain('not built yet');
    expect(await compilations()).toEqual([]);
  });

  it('fails, and says so, if a binary did not come out of it', async () => {
    await writeFile(join(folder, 'go'), fakeGo.replace('kube-scheduler', ''));
    const result = await build();
    expect(result.code).toBe(1);
    expect(result.stderr).toContain('kube-scheduler was not built');
    expect(await readdir(cache())).toEqual([]);
  });

  it.each([
    [{ NTC_REQUIRE_ALL: '' }, 'needs etcd, kubectl: run test/control-plane/build'],
    [{ NTC_REQUIRE_ALL: '1' }, 'NTC_REQUIRE_ALL=1 allows no skipped test'],
  ])('tests without it learn what is missing by name: %o', async (extra, words) => {
    const program = `
      import { skipReason } from ${JSON.stringify(join(import.meta.dirname, 'binaries.ts'))};
      try { console.log(skipReason(['etcd', 'kubectl'])); } catch (error) { console.log(error.message); }`;
    const output = await new Promise<string>((resolve, reject) => {
      const args = ['--input-type=module', '-e', program];
      execFile(process.execPath, args, { env: { ...env, ...extra } }, (error, stdout) => {
        if (error) reject(new Error('node failed', { cause: error }));
        else resolve(stdout);
      });
    });
    expect(output).toContain(words);
  });
});
