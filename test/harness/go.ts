import { spawnSync } from 'node:child_process';

/** Flags that share what the control plane's build has compiled. */
export const goEnvironment = {
  ...process.env,
  CGO_ENABLED: '0',
  GOFLAGS: '-trimpath -buildvcs=false',
};

/** Why a test that needs Go for this is skipped, or undefined; with NTC_REQUIRE_ALL=1 its absence throws. */
export function goSkipReason(purpose: string): string | undefined {
  if (spawnSync('go', ['version']).status === 0) return undefined;
  const reason = `needs Go, for ${purpose}`;
  if (process.env['NTC_REQUIRE_ALL'] === '1') {
    throw new Error(`NTC_REQUIRE_ALL=1 allows no skipped test, but this one ${reason}`);
  }
  return reason;
}
