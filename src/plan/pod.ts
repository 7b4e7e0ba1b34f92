/** The fields of a Pod that a drain uses. */
export type PodView = Readonly<{
  uid: string;
  namespace: string;
  name: string;
  /** The controller owner reference (`controller: true`), if any. */
  owner: Readonly<{ kind: string; name: string; uid: string }> | undefined;
  /** Static pod: annotation `kubernetes.io/config.mirror`, or owned by the Node itself. */
  mirror: boolean;
  /** `status.phase` Succeeded or Failed. */
  finished: boolean;
  priorityClass: string | undefined;
  /** `spec.terminationGracePeriodSeconds`; 30 where absent. */
  graceSeconds: number;
  /** Present once deletion began. `endsAt` (epoch ms) is the deletionTimestamp: the END of the grace. */
  deletion: Readonly<{ endsAt: number; graceSeconds: number }> | undefined;
  /** Whether `spec.tolerations` tolerates our NoSchedule taint (any of key, or wildcard). */
  toleratesInterruption: boolean;
  /** Names of the PersistentVolumeClaims it mounts. */
  claims: readonly string[];
}>;
