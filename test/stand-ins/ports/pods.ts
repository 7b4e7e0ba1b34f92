import type { Denied, PodKey, Pods, PodWatchListener, Volumes } from '../../../src/drain/pods.ts';
import type { PodView } from '../../../src/plan/pod.ts';
import type { ClusterPod, FakeCluster, PodEvent } from './cluster.ts';
import { Gate } from './gate.ts';
import type { Line } from './line.ts';

type Answer<Name extends keyof Pods> = Awaited<ReturnType<Pods[Name]>>;
type Removal = [pod: PodKey, graceSeconds: number, timeoutMs: number];
type Watching = Readonly<{
  listener: PodWatchListener;
  fail: (error: Error) => void;
  from: string;
}>;

/** One process's requests for Pods, and its watch of them. */
export class FakePods implements Pods {
  readonly lists: Gate<[nodeName: string], Answer<'onNode'>>;
  readonly reads: Gate<[namespace: string, name: string], Answer<'read'>>;
  readonly evictions: Gate<Removal, Answer<'evict'>>;
  readonly deletions: Gate<Removal, Answer<'delete'>>;
  /** Those that run now. */
  readonly watches = new Set<Watching>();
  private readonly line: Line;
  private readonly cluster: FakeCluster;

  constructor(line: Line, cluster: FakeCluster) {
    this.line = line;
    this.cluster = cluster;
    this.lists = new Gate(line);
    this.reads = new Gate(line);
    this.evictions = new Gate(line);
    this.deletions = new Gate(line);
  }

  onNode(...[nodeName, signal]: Parameters<Pods['onNode']>) {
    return this.lists.pass(
      [nodeName],
      () => ({
        pods: this.cluster.podsOn(nodeName).map(viewOf),
        resourceVersion: this.cluster.resourceVersion,
      }),
      signal,
    );
  }

  read(...[namespace, name, signal]: Parameters<Pods['read']>) {
    return this.reads.pass(
      [namespace, name],
      () => {
        const pod = this.cluster.findPod(namespace, name);
        return pod && viewOf(pod);
      },
      signal,
    );
  }

  evict(...[pod, graceSeconds, timeoutMs, signal]: Parameters<Pods['evict']>) {
    return this.evictions.pass(
      [pod, graceSeconds, timeoutMs],
      () => this.cluster.evict(pod, graceSeconds),
      signal,
    );
  }

  delete(...[pod, graceSeconds, timeoutMs, signal]: Parameters<Pods['delete']>) {
    return this.deletions.pass(
      [pod, graceSeconds, timeoutMs],
      () => this.cluster.delete(pod, graceSeconds),
      signal,
    );
  }

  watch(...[from, listener, signal]: Parameters<Pods['watch']>): Promise<void> {
    return new Promise((resolve, reject) => {
      const tell = (event: PodEvent): void =>
        this.line.hear(() => {
          if (this.watches.has(watching)) told(event, listener);
        });
      const unsubscribe = this.cluster.onPodEvent(tell);
      const end = (): void => {
        unsubscribe();
        this.watches.delete(watching);
      };
      const watching: Watching = {
        listener,
        from,
        fail(error) {
          end();
          reject(error);
        },
      };
      this.watches.add(watching);
      for (const event of this.cluster.podEventsSince(from)) tell(event);
      signal.addEventListener(
        'abort',
        () => {
          end();
          resolve();
        },
        { once: true },
      );
    });
  }

  /** The watch has lost its place, and tells what there is. */
  snapshot(): void {
    const uids = new Set(
      this.cluster
        .allPods()
        .filter(({ finished }) => !finished)
        .map(({ uid }) => uid),
    );
    for (const { listener } of this.watches) listener.onSnapshot(uids);
  }
}

function told({ type, pod }: PodEvent, listener: PodWatchListener): void {
  const key = { namespace: pod.namespace, name: pod.name, uid: pod.uid };
  if (type === 'departed') listener.onDeparted(key);
  else if (pod.deletion !== undefined) listener.onTerminating(key, pod.deletion);
}

function viewOf({ nodeName: _, endsAfterSeconds: __, ...pod }: ClusterPod): PodView {
  return pod;
}

/** One process's requests for volumes. */
export class FakeVolumes implements Volumes {
  readonly attachments: Gate<[nodeName: string], readonly string[] | Denied>;
  readonly claims: Gate<[namespace: string, claim: string], string | undefined | Denied>;
  private readonly cluster: FakeCluster;

  constructor(line: Line, cluster: FakeCluster) {
    this.attachments = new Gate(line);
    this.claims = new Gate(line);
    this.cluster = cluster;
  }

  attachedTo(...[nodeName, signal]: Parameters<Volumes['attachedTo']>) {
    return this.attachments.pass(
      [nodeName],
      () => [...(this.cluster.attached.get(nodeName) ?? [])],
      signal,
    );
  }

  volumeOf(...[namespace, claim, signal]: Parameters<Volumes['volumeOf']>) {
    return this.claims.pass(
      [namespace, claim],
      () => this.cluster.volumeOfClaim.get(`${namespace}/${claim}`),
      signal,
    );
  }
}
