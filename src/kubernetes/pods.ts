import type { PodKey, Pods, PodWatchListener } from '../drain/pods.ts';
import { INTERRUPTION_KEY } from '../plan/node.ts';
import type { PodView } from '../plan/pod.ts';
import { bodyAs, evictionAnswer, ApiFailure, readOr } from './answers.ts';
import { pathOf } from './connection.ts';
import { listAll, ListWatch, type ApiObject, type Feed, type FollowOptions } from './list-watch.ts';

type RawMetadata = {
  name?: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  annotations?: Readonly<Record<string, string>>;
  ownerReferences?: readonly { kind: string; name: string; uid: string; controller?: boolean }[];
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
};

type RawPod = {
  metadata?: RawMetadata;
  spec?: {
    priorityClassName?: string;
    terminationGracePeriodSeconds?: number;
    tolerations?: readonly { key?: string; operator?: string; effect?: string }[];
    volumes?: readonly {
      name: string;
      persistentVolumeClaim?: { claimName: string };
      ephemeral?: object;
    }[];
  };
  status?: { phase?: string };
};

/** https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-config-mirror */
const MIRROR_KEY = 'kubernetes.io/config.mirror';
const DEFAULT_GRACE_SECONDS = 30;

/** The pod's fields that a drain uses; undefined for anything that is not a Pod as the API server gives it. */
export function projectPod(raw: RawPod): PodView | undefined {
  const { metadata, spec, status } = raw;
  const key = keyOf(metadata);
  if (key === undefined || metadata === undefined) return undefined;
  const owners = metadata.ownerReferences ?? [];
  const owner = owners.find(({ controller }) => controller === true);
  return {
    ...key,
    owner: owner && { kind: owner.kind, name: owner.name, uid: owner.uid },
    mirror:
      metadata.annotations?.[MIRROR_KEY] !== undefined ||
      owners.some(({ kind }) => kind === 'Node'),
    finished: status?.phase === 'Succeeded' || status?.phase === 'Failed',
    priorityClass: spec?.priorityClassName,
    graceSeconds: spec?.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS,
    deletion: deletionOf(metadata),
    toleratesInterruption: toleratesInterruption(spec?.tolerations ?? []),
    claims: claimsOf(key.name, spec?.volumes ?? []),
  };
}

function keyOf(metadata: RawMetadata | undefined): PodKey | undefined {
  const { name, namespace, uid } = metadata ?? {};
  if (name === undefined || namespace === undefined || uid === undefined) return undefined;
  return { namespace, name, uid };
}

function deletionOf(metadata: RawMetadata): PodView['deletion'] {
  const { deletionTimestamp, deletionGracePeriodSeconds } = metadata;
  if (deletionTimestamp === undefined) return undefined;
  return { endsAt: Date.parse(deletionTimestamp), graceSeconds: deletionGracePeriodSeconds ?? 0 };
}

function toleratesInterruption(
  tolerations: NonNullable<NonNullable<RawPod['spec']>['tolerations']>,
): boolean {
  return tolerations.some(({ key = '', operator, effect = '' }) => {
    if (effect !== '' && effect !== 'NoSchedule') return false;
    return key === INTERRUPTION_KEY || (key === '' && operator === 'Exists');
  });
}

/** A generic ephemeral volume's claim is named after pod and volume. */
function claimsOf(
  podName: string,
  volumes: NonNullable<NonNullable<RawPod['spec']>['volumes']>,
): string[] {
  return volumes.flatMap(({ name, persistentVolumeClaim, ephemeral }) => {
    if (persistentVolumeClaim !== undefined) return [persistentVolumeClaim.claimName];
    return ephemeral === undefined ? [] : [`${podName}-${name}`];
  });
}

type WatchedPod = Readonly<{ key: PodKey; deletion: PodView['deletion'] }>;

const METADATA_ONLY = {
  list: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
  watch: 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1',
};

const UNFINISHED_PODS: Feed<WatchedPod> = {
  what: 'pods',
  path: '/api/v1/pods',
  query: { fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed' },
  accept: METADATA_ONLY,
  project({ metadata }: ApiObject & { metadata?: RawMetadata }) {
    const key = keyOf(metadata);
    return key && metadata && { key, deletion: deletionOf(metadata) };
  },
};

export function createPods(options: FollowOptions): Pods {
  const { connection } = options;
  function podPath(namespace: string, name: string): string {
    return pathOf('api', 'v1', 'namespaces', namespace, 'pods', name);
  }

  return {
    async onNode(nodeName, signal) {
      const { items, resourceVersion } = await listAll(
        connection,
        {
          what: `pods of node ${nodeName}`,
          path: '/api/v1/pods',
          query: { fieldSelector: `spec.nodeName=${nodeName}` },
          project: projectPod,
        },
        'bulk',
        signal,
      );
      return { pods: items, resourceVersion };
    },

    async read(namespace, name, signal) {
      const answer = await connection.request(
        { method: 'GET', path: podPath(namespace, name), lane: 'bulk' },
        signal,
      );
      if (answer.kind === 'failure' && answer.status === 404) return undefined;
      const raw = answer.kind === 'success' ? bodyAs<RawPod>(answer.body) : undefined;
      const pod = raw && readOr(raw, projectPod);
      if (pod === undefined) throw new ApiFailure(`read pod ${namespace}/${name}`, answer);
      return pod;
    },

    async evict({ namespace, name, uid }, graceSeconds, timeoutMs, signal) {
      const answer = await connection.request(
        {
          method: 'POST',
          path: `${podPath(namespace, name)}/eviction`,
          body: {
            apiVersion: 'policy/v1',
            kind: 'Eviction',
            metadata: { name, namespace },
            deleteOptions: { gracePeriodSeconds: graceSeconds, preconditions: { uid } },
          },
          lane: 'bulk',
          timeoutMs,
        },
        signal,
      );
      return evictionAnswer(answer);
    },

    async delete({ namespace, name, uid }, graceSeconds, timeoutMs, signal) {
      const answer = await connection.request(
        {
          method: 'DELETE',
          path: podPath(namespace, name),
          body: {
            apiVersion: 'v1',
            kind: 'DeleteOptions',
            gracePeriodSeconds: graceSeconds,
            preconditions: { uid },
          },
          lane: 'bulk',
          timeoutMs,
        },
        signal,
      );
      return evictionAnswer(answer);
    },

    watch(resourceVersion, listener, signal) {
      const follower = {
        onList: ({ items }: { items: readonly WatchedPod[] }) => {
          for (const pod of items) tellTerminating(listener, pod);
          listener.onSnapshot(new Set(items.map(({ key }) => key.uid)));
        },
        onEvent: (type: 'ADDED' | 'MODIFIED' | 'DELETED', pod: WatchedPod) => {
          if (type === 'DELETED') listener.onDeparted(pod.key);
          else tellTerminating(listener, pod);
        },
      };
      return new ListWatch(UNFINISHED_PODS, follower, options, resourceVersion).run(signal);
    },
  };
}

function tellTerminating(listener: PodWatchListener, { key, deletion }: WatchedPod): void {
  if (deletion !== undefined) listener.onTerminating(key, deletion);
}
