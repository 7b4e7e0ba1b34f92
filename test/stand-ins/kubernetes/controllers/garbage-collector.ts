import { namespaces, nodes, pods, resources, serviceAccounts } from '../kinds.ts';
import { isReady, type ApiObject, type Node } from '../objects.ts';
import {
  createObject,
  emptyMetadata,
  removeObject,
  updateObject,
  type Cluster,
} from '../registry.ts';
import type { Resource } from '../resource.ts';
import type { Controller } from './work-queue.ts';

/** Removes what a deleted object controlled. */
export function garbageCollector(cluster: Cluster): Controller {
  const { store } = cluster;
  const owned = resources.filter((resource) => resource.indexes['controller'] !== undefined);
  return {
    name: 'garbage-collector',
    start(enqueue) {
      store.listenToAll(({ type, object }) => {
        if (type === 'DELETED') enqueue(object.metadata.uid);
      });
    },
    sync(uid) {
      for (const resource of owned) {
        for (const { metadata } of store.indexed(resource, 'controller', uid)) {
          if (metadata.deletionTimestamp !== undefined) continue;
          removeObject(cluster, resource, metadata.namespace, metadata.name, {});
        }
      }
    },
  };
}

const outOfServiceTaint = 'node.kubernetes.io/out-of-service';

/** Removes the pods of nodes that are gone, and of those that are certainly off. */
export function podGarbageCollector(cluster: Cluster, afterNodeMs: number): Controller {
  const { store } = cluster;
  /** By name, those that are gone: when their pods go, in ms of the monotonic clock. */
  const due = new Map<string, number>();
  return {
    name: 'pod-garbage-collector',
    start(enqueue) {
      store.listen(nodes, ({ type, object: { metadata } }) => {
        if (type === 'DELETED') {
          due.set(metadata.name, performance.now() + afterNodeMs);
          enqueue(metadata.name, afterNodeMs);
        } else enqueue(metadata.name);
      });
    },
    sync(nodeName) {
      const node = store.get(nodes, undefined, nodeName);
      if (node !== undefined) due.delete(nodeName);
      const isOver = node === undefined && performance.now() >= (due.get(nodeName) ?? Infinity);
      if (!isOver && !isOff(node)) return;
      due.delete(nodeName);
      for (const { metadata } of store.indexed(pods, 'spec.nodeName', nodeName)) {
        removeObject(cluster, pods, metadata.namespace, metadata.name, { gracePeriodSeconds: 0 });
      }
    },
  };
}

function isOff(node: Node | undefined): boolean {
  if (node === undefined || isReady(node)) return false;
  return node.spec.taints?.some((taint) => taint.key === outOfServiceTaint) ?? false;
}

/** Gives each namespace its default ServiceAccount, and empties those that are deleted. */
export function namespaceController(cluster: Cluster, emptyAfterMs: number): Controller {
  const { store } = cluster;
  const namespaced = resources.filter((resource) => resource.namespaced);
  const contents = (namespace: string): { resource: Resource; object: ApiObject }[] =>
    namespaced.flatMap((resource) =>
      store.list(resource, namespace).map((object) => ({ resource, object })),
    );
  return {
    name: 'namespace',
    start(enqueue) {
      store.listen(namespaces, ({ object, type }) => {
        const { name, deletionTimestamp } = object.metadata;
        if (type !== 'DELETED') enqueue(name, deletionTimestamp === undefined ? 0 : emptyAfterMs);
      });
      // The last object to leave lets its namespace go.
      store.listenToAll(({ type, object: { metadata } }, resource) => {
        if (type !== 'DELETED' || !resource.namespaced || metadata.namespace === undefined) return;
        const namespace = store.get(namespaces, undefined, metadata.namespace);
        if (namespace?.metadata.deletionTimestamp === undefined) return;
        if (isOver(namespace.metadata.deletionTimestamp)) enqueue(metadata.namespace);
      });
    },
    sync(name) {
      const namespace = store.get(namespaces, undefined, name);
      if (namespace === undefined) return;
      const { deletionTimestamp } = namespace.metadata;
      if (deletionTimestamp === undefined) {
        if (store.get(serviceAccounts, name, 'default') === undefined) {
          createObject(cluster, serviceAccounts, name, {
            apiVersion: 'v1',
            kind: 'ServiceAccount',
            metadata: { ...emptyMetadata, name: 'default' },
          });
        }
        return;
      }
      if (!isOver(deletionTimestamp)) return;
      for (const { resource, object } of contents(name)) {
        if (object.metadata.deletionTimestamp !== undefined) continue;
        removeObject(cluster, resource, name, object.metadata.name, {});
      }
      if (contents(name).length > 0) return;
      const released = (current: typeof namespace): typeof namespace => ({
        ...current,
        spec: { ...current.spec, finalizers: [] },
      });
      updateObject(cluster, namespaces, undefined, name, released, { part: 'object' });
    },
  };

  function isOver(deletionTimestamp: string): boolean {
    return Date.now() >= Date.parse(deletionTimestamp) + emptyAfterMs;
  }
}
