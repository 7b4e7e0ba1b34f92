import { pause, type Clock } from '../clock.ts';
import type { Report } from '../report/report.ts';
import type { Claim } from './drain-pods.ts';
import type { Denied, Volumes } from './pods.ts';

const POLL_MS = 2000;
/** How long a denial may be a restarting API server's before it counts as final. */
const DENIED_MS = 10_000;
/** Without a deadline: the control plane itself force-detaches after 6 minutes. */
const LONGEST_MS = 360_000;

/** How long is waited, and what is told meanwhile. */
type Wait = Readonly<{
  /** Epoch ms; may come, or tighten, meanwhile. */
  dueAt: () => number;
  hasEnded: () => boolean;
  /** Called at every look. */
  moved: () => void;
  signal: AbortSignal;
}>;

/**
 * Waits until the volumes of these claims are detached from the node, for until then the pods that
 * left cannot start elsewhere. Returns in any case; what is still attached is logged.
 */
export async function detachment(
  node: string,
  claims: readonly Claim[],
  ports: Readonly<{ volumes: Volumes; clock: Clock; report: Report }>,
  wait: Wait,
): Promise<void> {
  const { clock, report, volumes } = ports;
  const latestAt = clock.now() + LONGEST_MS;
  const leftMs = (): number => Math.min(wait.dueAt(), latestAt) - clock.now();
  const bound = new Map<string, string | undefined>();
  let attached: readonly string[] = [];
  const told = { waiting: false, failure: false };
  let deniedSince: number | undefined;
  while (!wait.hasEnded() && leftMs() > 0) {
    wait.moved();
    try {
      const found = await attachedOf(node, claims, volumes, bound, wait.signal);
      if ('denied' in found) {
        deniedSince ??= clock.now();
        if (clock.now() - deniedSince >= DENIED_MS) {
          report.warn('volumes not waited for', { node, reason: found.denied });
          return;
        }
      } else {
        deniedSince = undefined;
        attached = found.volumes;
        if (attached.length === 0) return;
        if (!told.waiting) report.info('waiting for volumes', { node, volumes: attached });
        told.waiting = true;
      }
    } catch (error) {
      if (!wait.hasEnded() && !told.failure) report.warn('volumes not listed', { node, error });
      told.failure = true;
    }
    await pause(clock, Math.min(POLL_MS, Math.max(0, leftMs())), wait.signal);
  }
  if (!wait.hasEnded() && attached.length > 0) {
    report.warn('volumes still attached', { node, volumes: attached });
  }
}

/** Which volumes of these claims are attached; `known` keeps what each claim is bound to. */
async function attachedOf(
  node: string,
  claims: readonly Claim[],
  volumes: Volumes,
  known: Map<string, string | undefined>,
  signal: AbortSignal,
): Promise<Readonly<{ volumes: readonly string[] }> | Denied> {
  const attached = await volumes.attachedTo(node, signal);
  if ('denied' in attached) return attached;
  if (attached.length === 0) return { volumes: [] };
  const unknown = claims.filter(({ namespace, claim }) => !known.has(`${namespace}/${claim}`));
  const bound = await Promise.all(
    unknown.map(async ({ namespace, claim }) => ({
      key: `${namespace}/${claim}`,
      volume: await volumes.volumeOf(namespace, claim, signal),
    })),
  );
  for (const { key, volume } of bound) {
    if (typeof volume === 'object') return volume;
    known.set(key, volume);
  }
  const ours = new Set(known.values());
  return { volumes: attached.filter((volume) => ours.has(volume)) };
}
