import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

export type Component =
  | 'etcd'
  | 'kube-apiserver'
  | 'kube-controller-manager'
  | 'kube-scheduler'
  | 'kubectl'
  | 'helm';

const buildScript = join(import.meta.dirname, 'build');
let buildFolder: string | undefined | null = null;

/**
 * Where a component's binary is: in KUBEBUILDER_ASSETS, else in the folder of `test/control-plane/build`
 * if that has been run. Undefined if it is in neither.
 */
export function findComponent(component: Component): string | undefined {
  return [process.env['KUBEBUILDER_ASSETS'], builtFolder()]
    .filter((folder) => folder !== undefined)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, component))
    .find(isExecutable);
}

/** Those of the components that are on this machine in neither place. */
export function missingComponents(components: readonly Component[]): Component[] {
  return components.filter((component) => findComponent(component) === undefined);
}

/**
 * Why a test that needs these components is skipped, or undefined if it can run:
 * `describe.skipIf(reason)(\`… ${reason ?? ''}\`, …)`. With NTC_REQUIRE_ALL=1 nothing is skipped: the
 * absence throws.
 */
export function skipReason(components: readonly Component[]): string | undefined {
  const missing = missingComponents(components);
  if (missing.length === 0) return undefined;
  const reason = `needs ${missing.join(', ')}: run test/control-plane/build (Go, 6 minutes once) or set KUBEBUILDER_ASSETS`;
  if (process.env['NTC_REQUIRE_ALL'] === '1') {
    throw new Error(`NTC_REQUIRE_ALL=1 allows no skipped test, but this one ${reason}`);
  }
  return reason;
}

function builtFolder(): string | undefined {
  if (buildFolder !== null) return buildFolder;
  try {
    buildFolder = execFileSync(buildScript, ['--existing'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 30_000,
    })
      .trimEnd()
      .split('\n')
      .at(-1);
  } catch (error) {
    // 1 is the script's word for "not built" or "no Go", 127 means no bash; all else is a fault in it.
    const status = error instanceof Error && 'status' in error ? error.status : undefined;
    if (status !== 1 && status !== 127) throw error;
    buildFolder = undefined;
  }
  return buildFolder;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
