import { expect, test } from 'vitest';
import { operationOf } from '../../src/kubernetes/operation.ts';

const watch = { watch: 'true' };

test.each([
  ['list nodes', { method: 'GET', path: '/api/v1/nodes' }],
  ['watch nodes', { method: 'GET', path: '/api/v1/nodes', query: watch }],
  ['patch nodes', { method: 'PATCH', path: '/api/v1/nodes/ip-10-0-0-1' }],
  ['list pods', { method: 'GET', path: '/api/v1/pods', query: { limit: '500' } }],
  ['get pods', { method: 'GET', path: '/api/v1/namespaces/shop/pods/web-1' }],
  ['create pods/eviction', { method: 'POST', path: '/api/v1/namespaces/shop/pods/w/eviction' }],
  ['delete pods', { method: 'DELETE', path: '/api/v1/namespaces/shop/pods/web-1' }],
  ['list volumeattachments', { method: 'GET', path: '/apis/storage.k8s.io/v1/volumeattachments' }],
  [
    'update leases',
    { method: 'PUT', path: '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/name' },
  ],
  [
    'watch leases',
    { method: 'GET', path: '/apis/coordination.k8s.io/v1/namespaces/a/leases', query: watch },
  ],
  ['get version', { method: 'GET', path: '/version' }],
] as const)('%s', (operation, request) => {
  expect(operationOf(request)).toBe(operation);
});
