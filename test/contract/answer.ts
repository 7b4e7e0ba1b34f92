import type { ApiResponse } from '../control-plane/api-client.ts';
import type { KubernetesObject, Taint } from '../control-plane/objects.ts';

export type Answer = ApiResponse & {
  /** The body as a Status; its fields are undefined if it is something else. */
  readonly failure: {
    readonly message?: string;
    readonly reason?: string;
    readonly details?: {
      readonly name?: string;
      readonly kind?: string;
      readonly retryAfterSeconds?: number;
      readonly causes?: readonly { reason?: string; message?: string; field?: string }[];
    };
    readonly status?: string;
    readonly code?: number;
    readonly kind?: string;
    readonly metadata?: { readonly continue?: string };
  };
  readonly object: LooseObject;
};

/** An object of any kind, with the parts that cases look at. */
export type LooseObject = Omit<KubernetesObject, 'metadata'> & {
  readonly metadata: KubernetesObject['metadata'] & {
    readonly uid: string;
    readonly resourceVersion: string;
    readonly generation?: number;
    readonly continue?: string;
    readonly remainingItemCount?: number;
  };
  readonly items?: readonly LooseObject[];
  readonly spec?: {
    readonly nodeName?: string;
    readonly taints?: readonly Taint[];
    readonly unschedulable?: boolean;
    readonly holderIdentity?: string;
    readonly finalizers?: readonly string[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly token?: string;
    readonly allowed?: boolean;
    readonly reason?: string;
    readonly observedGeneration?: number;
    readonly disruptionsAllowed?: number;
    readonly currentHealthy?: number;
    readonly desiredHealthy?: number;
    readonly expectedPods?: number;
  };
};
