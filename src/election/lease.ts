/** A Lease as it was read or written. https://kubernetes.io/docs/concepts/architecture/leases/ */
export type Lease = Readonly<{
  /** Empty: nobody holds it. */
  holder: string;
  /** Another at every renewal. */
  resourceVersion: string;
  /** How often it has changed hands. */
  transitions: number;
  /** Since when its holder holds it; epoch ms, by the holder's clock. */
  acquiredAt: number | undefined;
  /** What others put on the object, for it to survive our writes. */
  metadata: Readonly<Record<string, unknown>>;
}>;

/** What a write makes of the Lease. */
export type Claim = Readonly<{
  holder: string;
  durationSeconds: number;
  /** Epoch ms; for people, and for whoever trusts clocks. */
  acquiredAt: number;
  renewedAt: number;
  transitions: number;
}>;

export type LeaseAnswer =
  | Readonly<{ outcome: 'lease'; lease: Lease }>
  | Readonly<{ outcome: 'absent' }>
  /** Of a write: the Lease is no longer the one that was read. */
  | Readonly<{ outcome: 'conflict' }>
  /** It may have been written all the same. */
  | Readonly<{ outcome: 'failed'; message: string }>;

/** The one Lease that is about us. Rejects only with the signal's reason. */
export interface LeaseStore {
  read(signal: AbortSignal): Promise<LeaseAnswer>;
  create(claim: Claim, signal: AbortSignal): Promise<LeaseAnswer>;
  /** Only if it is still the one given. */
  update(lease: Lease, claim: Claim, signal: AbortSignal): Promise<LeaseAnswer>;
  /** Tells of each change, until the signal aborts. A help only: news may be late, or never come. */
  follow(onChange: (lease: Lease | undefined) => void, signal: AbortSignal): Promise<void>;
}
