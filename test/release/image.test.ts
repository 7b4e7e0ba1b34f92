import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { Copy, DockerfileParser, type Instruction } from 'dockerfile-ast';
import { validate } from 'dockerfile-utils';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { controllerEnvironment } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { startWorld } from '../harness/world.ts';

const root = resolve(import.meta.dirname, '../..');

/** Of the image's user. Only root can become it; others run the image's command as themselves. */
const user = process.getuid?.() === 0 ? { uid: 65_532, gid: 65_532 } : {};

type Stage = {
  readonly folder: string;
  workingDirectory: string;
  readonly settings: Map<string, string>;
};

/** What a container engine would make of the Dockerfile, stage by stage, without its base images. */
async function follow(dockerfile: string, folder: string): Promise<readonly Stage[]> {
  const stages: Stage[] = [];
  const names: string[] = [];
  for (const instruction of DockerfileParser.parse(dockerfile).getInstructions()) {
    const stage = stages.at(-1);
    const keyword = instruction.getKeyword();
    if (keyword === 'FROM') {
      names.push(instruction.getArguments().at(-1)?.getValue() ?? '');
      const path = join(folder, `stage-${stages.length}`);
      await mkdir(path);
      stages.push({ folder: path, workingDirectory: '/', settings: new Map() });
    } else if (stage !== undefined) {
      await carryOut(instruction, stage, (name) => stages[names.indexOf(name)]);
    }
  }
  return stages;
}

async function carryOut(
  instruction: Instruction,
  stage: Stage,
  stageOf: (name: string) => Stage | undefined,
): Promise<void> {
  const text = instruction.getArgumentsContent() ?? '';
  const here = join(stage.folder, stage.workingDirectory);
  switch (instruction.getKeyword()) {
    case 'WORKDIR':
      stage.workingDirectory = text;
      await mkdir(join(stage.folder, text), { recursive: true });
      return;
    case 'COPY': {
      const words = text.split(/\s+/);
      const from = instruction instanceof Copy ? instruction.getFromFlag()?.getValue() : undefined;
      const target = join(here, words.pop() ?? '');
      for (const source of words) {
        const origin =
          typeof from !== 'string'
            ? await contextPath(source)
            : join(stageOf(from)?.folder ?? '', source);
        const intoFolder = words.length > 1 || text.endsWith('/');
        await cp(origin, intoFolder ? join(target, basename(source)) : target, { recursive: true });
      }
      return;
    }
    case 'RUN': {
      const env = {
        ...process.env,
        PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter),
        npm_config_prefer_offline: 'true',
      };
      await promisify(execFile)('sh', ['-c', text], {
        cwd: here,
        env,
        maxBuffer: 64 * 1024 * 1024,
      });
      return;
    }
    default:
      stage.settings.set(instruction.getKeyword(), text);
  }
}

/** A path of the build's context: what .dockerignore leaves of the project. */
async function contextPath(source: string): Promise<string> {
  const ignored = await readFile(join(root, '.dockerignore'), 'utf8');
  const kept = ignored.split('\n').flatMap((line) => (line.startsWith('!') ? [line.slice(1)] : []));
  if (!ignored.split('\n').includes('*'))
    throw new Error('.dockerignore does not begin with nothing');
  if (!kept.some((one) => source === one || source.startsWith(`${one}/`))) {
    throw new Error(`${source} is not in the context: .dockerignore leaves it out`);
  }
  return join(root, source);
}

describe('the image', () => {
  let folder: string;
  let dockerfile: string;
  let stages: readonly Stage[];

  beforeAll(async () => {
    dockerfile = await readFile(join(root, 'Dockerfile'), 'utf8');
    folder = await mkdtemp(join(tmpdir(), 'image-'));
    await chmod(folder, 0o755);
    stages = await follow(dockerfile, folder);
    // It installs all dependencies, beside whatever else runs.
  }, 600_000);

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  const final = (): Stage => {
    const stage = stages.at(-1);
    if (stage === undefined) throw new Error('the Dockerfile has no stage');
    return stage;
  };

  it('is described by a Dockerfile that the linter has nothing against', () => {
    expect(validate(dockerfile)).toEqual([]);
  });

  it('holds the one bundle and the licence, and nothing else', async () => {
    const files = await readdir(final().folder, { recursive: true });
    expect(files.toSorted()).toEqual(['app', 'app/LICENSE', 'app/main.mjs']);
    const bundle = await readFile(join(final().folder, 'app/main.mjs'), 'utf8');
    expect(bundle).toBe(await readFile(join(root, 'dist/main.js'), 'utf8'));
  });

  it('runs it as nobody in particular, with the arguments that the chart gives', async () => {
    expect(final().settings.get('USER')).toBe('65532:65532');
    const chart = await readFile(join(root, 'deploy/chart/values.yaml'), 'utf8');
    expect(chart).toContain('runAsUser: 65532');
    expect(JSON.parse(final().settings.get('ENTRYPOINT') ?? '')).toEqual([
      '/nodejs/bin/node',
      '/app/main.mjs',
    ]);
    expect(JSON.parse(final().settings.get('CMD') ?? '')).toEqual(['run']);
  });

  it('becomes ready from a read-only folder, and ends when it is told to', async () => {
    const app = join(final().folder, 'app');
    for (const name of await readdir(app)) await chmod(join(app, name), 0o444);
    await chmod(app, 0o555);
    // Where any user may run it.
    const node = join(folder, 'node');
    await copyFile(process.execPath, node);
    await chmod(node, 0o755);
    const world = await startWorld({ backend: 'stand-in' });
    try {
      const kubeconfig = join(folder, 'kubeconfig');
      await writeFile(kubeconfig, await readFile(world.environment['KUBECONFIG'] ?? ''), {
        mode: 0o644,
      });
      const child = spawn(node, ['main.mjs', 'run'], {
        ...user,
        cwd: app,
        env: { ...controllerEnvironment(), ...world.environment, KUBECONFIG: kubeconfig },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const exited = once(child, 'exit');
      let log = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => (log += text));
      child.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
      try {
        await eventually(
          () => {
            expect(log).toContain('"message":"ready"');
            return true;
          },
          { timeoutMs: 60_000 },
        );
        child.kill('SIGTERM');
        expect(await exited).toEqual([0, null]);
      } finally {
        child.kill('SIGKILL');
        await exited;
      }
    } finally {
      await world.stop();
      await chmod(app, 0o755);
    }
  });
});
