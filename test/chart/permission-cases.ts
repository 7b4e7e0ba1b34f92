import type { AuditEntry } from '../control-plane/audit.ts';
import { getNode } from '../harness/cluster.ts';
import type { Controller } from '../harness/controller.ts';
import { eventually } from '../harness/eventually.ts';
import { interruptionKey, marksOf } from '../harness/marks.ts';
import { launchHook, rebalance, spotNotice, terminateHook } from '../harness/messages.ts';
import { isDeleted, timesReceived } from '../harness/queued.ts';
import {
  budgetStatus,
  createBudget,
  createPod,
  untilRunning,
  type PodSpec,
} from '../harness/workloads.ts';
import type { World } from '../harness/world.ts';
import type { PodBehaviour } from '../stand-ins/kubelet.ts';
import type { Queue } from '../stand-ins/queue.ts';

/** One run of a case, with node, queue and Lease of its own. */
export type Run = Readonly<{
  world: World;
  /** Of this run alone: of its node, its namespace, its group. */
  name: string;
  leaseName: string;
  instance: string;
  queue: Queue;
  start: (env?: Readonly<Record<string, string>>) => Promise<Controller>;
  /** What its controller has asked of the API server so far. */
  requests: () => Promise<readonly AuditEntry[]>;
}>;

/** What a run comes to: exactly one of these is seen in the end. */
type Ends = Readonly<{
  shown: () => boolean | Promise<boolean>;
  missed: () => boolean | Promise<boolean>;
}>;

type PermissionCase = Readonly<{
  /** As in the table of permissions. */
  behaviour: string;
  /** Taken away with and without the permission, since it would hide what this one is for: `VERB RESOURCE`. */
  beside?: string;
  run: (run: Run) => Promise<Ends>;
}>;

const DAY_MS = 86_400_000;

/** Of this run's node, or of none: what the others of the same cluster are about is not its affair. */
const told = ({ name }: Run, controller: Controller, message: string, times = 1): boolean =>
  controller.logged(message).filter(({ node = name }) => node === name).length >= times;

const cannotFollow = (controller: Controller, what: string): boolean =>
  controller.logged('cannot follow').some((line) => line['what'] === what);

async function addNode({ world, name, instance }: Run, ready = true): Promise<void> {
  await world.kubelet.addNode({ name, instanceId: instance, ready, labels: { case: name } });
}

async function addPod(
  run: Run,
  behaviour: PodBehaviour = { exitsAfterSeconds: 0.3 },
  spec: Partial<PodSpec> = {},
): Promise<void> {
  const { name, world } = run;
  const pod = await createPod(world.api, {
    name,
    namespace: name,
    node: name,
    behaviour,
    ...spec,
  });
  await untilRunning(world.kubelet, [pod]);
}

async function isMarked({ world, name }: Run): Promise<boolean> {
  return marksOf(await getNode(world.api, name)).taints.some(({ key }) => key === interruptionKey);
}

async function isSettled({ world, name }: Run): Promise<boolean> {
  return marksOf(await getNode(world.api, name)).journal?.state === 'settled';
}

type EventObject = Readonly<{ reason: string; series?: { count: number } }>;

/** On its Node, or on its Pod. */
async function eventsOn(
  { world, name }: Run,
  namespace = 'default',
): Promise<readonly EventObject[]> {
  const query = `fieldSelector=regarding.name%3D${name}`;
  return world.api.list(`/apis/events.k8s.io/v1/namespaces/${namespace}/events?${query}`);
}

const deletionsSeen = ({ world, name }: Run): number =>
  world.kubelet.records({ namespace: name }).flatMap(({ deletions }) => deletions).length;

const leases = ({ name }: Run): string => `/apis/coordination.k8s.io/v1/namespaces/${name}/leases`;

async function createLease(run: Run, holder: string): Promise<void> {
  const now = new Date().toISOString().replace('Z', '000Z');
  await run.world.api.create(leases(run), {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: run.leaseName },
    spec: { holderIdentity: holder, leaseDurationSeconds: 15, acquireTime: now, renewTime: now },
  });
}

/** Whether the Lease can be had, before there is one or from nobody. */
async function takesLease(run: Run, holder?: string): Promise<Ends> {
  if (holder !== undefined) await createLease(run, holder);
  const controller = await run.start();
  return {
    shown: () => told(run, controller, 'leading'),
    missed: () => told(run, controller, 'lease not reached'),
  };
}

const takesFreeLease = (run: Run): Promise<Ends> => takesLease(run, '');

async function takesEmptiedLease(run: Run): Promise<Ends> {
  await createLease(run, 'somebody');
  const controller = await run.start();
  await controller.waitForLog('standing by');
  // Its first look at the Lease is not to be what tells.
  await eventually(
    async () =>
      (await run.requests()).some(({ verb, resource }) => verb === 'list' && resource === 'leases'),
    { intervalMs: 200 },
  );
  const path = `${leases(run)}/${run.leaseName}`;
  await run.world.api.patch(path, { spec: { holderIdentity: '' } });
  const emptiedAt = performance.now();
  return {
    shown: () => told(run, controller, 'leading'),
    // Without being told it would look when the time of the Lease is over: after 15 s.
    missed: () => cannotFollow(controller, 'the lease') && performance.now() - emptiedAt > 3000,
  };
}

async function drainsVolume(run: Run): Promise<Ends> {
  const { world, name, instance, queue } = run;
  const { api, autoScaling } = world;
  await addNode(run);
  await api.create(`/api/v1/namespaces/${name}/persistentvolumeclaims`, {
    metadata: { name },
    spec: {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '1Gi' } },
      volumeName: `pv-${name}`,
    },
  });
  await api.create('/apis/storage.k8s.io/v1/volumeattachments', {
    metadata: { name: `csi-${name}` },
    spec: {
      attacher: 'ebs.csi.aws.com',
      nodeName: name,
      source: { persistentVolumeName: `pv-${name}` },
    },
  });
  const volumes = [{ name: 'data', persistentVolumeClaim: { claimName: name } }];
  await addPod(run, undefined, { volumes });
  const controller = await run.start();
  autoScaling.addHook({ group: name, hook: 'drain', heartbeatTimeoutSeconds: 300 });
  const action = autoScaling.beginAction({ group: name, hook: 'drain', instanceId: instance });
  await queue.send(terminateHook({ ...action }));
  return {
    shown: () => told(run, controller, 'waiting for volumes') && action.result === undefined,
    missed: () => told(run, controller, 'volumes not waited for') && action.result === 'CONTINUE',
  };
}

export const PERMISSION_CASES: Readonly<Record<string, PermissionCase>> = {
  'list nodes': {
    behaviour: 'the controller becomes ready and takes messages',
    async run(run) {
      await addNode(run);
      const id = await run.queue.send(rebalance({ instanceId: run.instance }));
      const controller = await run.start();
      return {
        shown: () => told(run, controller, 'ready') && isDeleted(run.queue, id),
        missed: () => cannotFollow(controller, 'nodes') && timesReceived(run.queue, id) === 0,
      };
    },
  },
  'watch nodes': {
    behaviour: 'a launch hook is completed once its node is Ready',
    async run(run) {
      const { world, name, instance, queue } = run;
      const { autoScaling, kubelet } = world;
      await addNode(run, false);
      const controller = await run.start();
      await controller.waitForLog('ready');
      autoScaling.addHook({
        group: name,
        hook: 'join',
        transition: 'autoscaling:EC2_INSTANCE_LAUNCHING',
        heartbeatTimeoutSeconds: 20,
      });
      const action = autoScaling.beginAction({ group: name, hook: 'join', instanceId: instance });
      const { group, hook, token } = action;
      const id = await queue.send(launchHook({ group, hook, token, instanceId: instance }));
      await eventually(() => timesReceived(queue, id) > 0);
      await kubelet.setReady(name, true);
      return {
        shown: () => action.result === 'CONTINUE',
        missed: () => told(run, controller, 'lifecycle hook not completed'),
      };
    },
  },
  'get nodes': {
    behaviour: 'a node is marked although its first write met with a conflict',
    // What somebody else changes is not heard of, so the write is computed from an old Node.
    beside: 'watch nodes',
    async run(run) {
      await addNode(run);
      const controller = await run.start();
      await controller.waitForLog('ready');
      await run.world.api.patch(`/api/v1/nodes/${run.name}`, {
        metadata: { labels: { news: '' } },
      });
      await run.queue.send(spotNotice({ instanceId: run.instance }));
      return {
        shown: () => isMarked(run),
        missed: () => told(run, controller, 'recording refused'),
      };
    },
  },
  'patch nodes': {
    behaviour: 'an interrupted node is marked',
    async run(run) {
      await addNode(run);
      const controller = await run.start();
      await run.queue.send(spotNotice({ instanceId: run.instance }));
      return {
        shown: () => isMarked(run),
        missed: async () => told(run, controller, 'recording refused') && !(await isMarked(run)),
      };
    },
  },
  'list pods': {
    behaviour: 'the pods of an interrupted node are evicted',
    async run(run) {
      await addNode(run);
      await addPod(run);
      const controller = await run.start();
      await run.queue.send(rebalance({ instanceId: run.instance }));
      return {
        shown: () => deletionsSeen(run) > 0,
        missed: () => told(run, controller, 'pods not listed', 3) && deletionsSeen(run) === 0,
      };
    },
  },
  'watch pods': {
    behaviour: 'a drain ends as soon as the last pod is gone',
    async run(run) {
      await addNode(run);
      // Gone after the second list, and long before it should be.
      await addPod(run, { exitsAfterSeconds: 15 }, { graceSeconds: 600 });
      const controller = await run.start();
      await run.queue.send(rebalance({ instanceId: run.instance }));
      const goneAt = (): number =>
        run.world.kubelet.records({ namespace: run.name })[0]?.goneAt ?? Infinity;
      return {
        shown: () => isSettled(run),
        missed: async () =>
          cannotFollow(controller, 'pods') &&
          Date.now() - goneAt() > 5000 &&
          !(await isSettled(run)),
      };
    },
  },
  'get pods': {
    behaviour: 'a pod that was replaced by another of its name is taken for gone',
    // By which it would be told so.
    beside: 'watch pods',
    async run(run) {
      const { world, name } = run;
      const { api } = world;
      const node = `/api/v1/nodes/${name}`;
      const hold = (value: string | null) =>
        api.patch(node, {
          metadata: { annotations: { 'node-termination-controller/hold': value } },
        });
      await addNode(run);
      await addPod(run, undefined, { graceSeconds: 1 });
      await hold('');
      const controller = await run.start();
      await run.queue.send(rebalance({ instanceId: run.instance }));
      await eventually(() => told(run, controller, 'held by an operator'));
      // After its second list, so that only the API server's answer to the eviction tells.
      const lists = async () =>
        (await run.requests()).filter(({ path }) => path.includes(`spec.nodeName%3D${name}&`));
      await eventually(async () => (await lists()).length >= 2, { intervalMs: 500 });
      await api.delete(`/api/v1/namespaces/${name}/pods/${name}`, { gracePeriodSeconds: 0 });
      await createPod(api, { name, namespace: name });
      await hold(null);
      return {
        shown: () => isSettled(run),
        missed: () => told(run, controller, 'pod not read', 2),
      };
    },
  },
  'delete pods': {
    behaviour: 'a pod that its budget holds is deleted before the deadline',
    async run(run) {
      const { world, name, instance, queue } = run;
      await addNode(run);
      await addPod(run, undefined, { labels: { app: name }, graceSeconds: 1 });
      const matchLabels = { app: name };
      await createBudget(world.api, { name, namespace: name, matchLabels, minAvailable: 1 });
      await eventually(
        async () => (await budgetStatus(world.api, name, name))?.currentHealthy === 1,
      );
      const controller = await run.start();
      await controller.waitForLog('ready');
      // 20 s are left of its two minutes.
      await queue.send(spotNotice({ instanceId: instance, time: Date.now() - 100_000 }));
      return {
        shown: () => told(run, controller, 'pod deleted past its budget'),
        missed: () => told(run, controller, 'not all pods left in time'),
      };
    },
  },
  'create pods/eviction': {
    behaviour: 'a pod is evicted, not deleted, while there is time',
    async run(run) {
      await addNode(run);
      await addPod(run, undefined, { graceSeconds: 1 });
      const controller = await run.start();
      await controller.waitForLog('ready');
      await run.queue.send(spotNotice({ instanceId: run.instance, time: Date.now() - 100_000 }));
      return {
        // A deletion is seen before it is told.
        shown: () =>
          told(run, controller, 'drained') && !told(run, controller, 'pod deleted past its budget'),
        missed: () => told(run, controller, 'pod deleted past its budget'),
      };
    },
  },
  'create events': {
    behaviour: 'an interrupted node says so among its events',
    async run(run) {
      await addNode(run);
      const controller = await run.start();
      await run.queue.send(rebalance({ instanceId: run.instance }));
      return {
        shown: async () => (await eventsOn(run)).some(({ reason }) => reason === 'Interrupted'),
        missed: () => told(run, controller, 'Kubernetes events not written'),
      };
    },
  },
  'patch events': {
    behaviour: 'what is told again and again is one event with a count',
    async run(run) {
      const { world, name } = run;
      await addNode(run);
      await addPod(run, undefined, { labels: { app: name } });
      const matchLabels = { app: name };
      await createBudget(world.api, { name, namespace: name, matchLabels, minAvailable: 1 });
      await eventually(
        async () => (await budgetStatus(world.api, name, name))?.currentHealthy === 1,
      );
      const controller = await run.start();
      await run.queue.send(rebalance({ instanceId: run.instance }));
      return {
        shown: async () =>
          (await eventsOn(run, name)).some(
            ({ reason, series }) => reason === 'EvictionRefused' && (series?.count ?? 0) > 1,
          ),
        missed: () => told(run, controller, 'Kubernetes events not written'),
      };
    },
  },
  'get persistentvolumeclaims': {
    behaviour: "a hook is not completed before the evicted pods' volumes are detached",
    run: drainsVolume,
  },
  'list volumeattachments': {
    behaviour: 'a hook is not completed while a volume is attached',
    run: drainsVolume,
  },
  'get leases in kube-node-lease': {
    behaviour: 'old news leaves a living node alone',
    async run(run) {
      await addNode(run);
      await run.world.kubelet.renewLease(run.name);
      const id = await run.queue.send(
        spotNotice({ instanceId: run.instance, time: Date.now() - DAY_MS }),
      );
      await run.start();
      return {
        shown: async () => isDeleted(run.queue, id) && !(await isMarked(run)),
        // It cannot be told from news, and is given back again and again.
        missed: () => timesReceived(run.queue, id) > 2 && !isDeleted(run.queue, id),
      };
    },
  },
  'get leases': {
    behaviour: 'a replica takes a Lease that is free',
    run: takesFreeLease,
  },
  'update leases': {
    behaviour: 'a leader keeps its Lease',
    run: takesFreeLease,
  },
  'create leases': {
    behaviour: 'a Lease that is missing is made',
    run: (run) => takesLease(run),
  },
  'list leases': {
    behaviour: 'a standby takes an emptied Lease at once',
    run: takesEmptiedLease,
  },
  'watch leases': {
    behaviour: 'a standby takes an emptied Lease at once, however long it has stood by',
    run: takesEmptiedLease,
  },
};
