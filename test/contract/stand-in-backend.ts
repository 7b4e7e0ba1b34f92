import { ApiClient } from '../control-plane/api-client.ts';
import type { StatusBody } from '../stand-ins/kubernetes/api-error.ts';
import type { Mutations } from '../stand-ins/kubernetes/registry.ts';
import { startKubernetesStandIn } from '../stand-ins/kubernetes/stand-in.ts';
import type { Backend, Refusal } from './backend.ts';

export type StartedBackend = { readonly backend: Backend; stop(): Promise<void> };

export async function startStandInBackend(
  mutations: Partial<Mutations> = {},
): Promise<StartedBackend> {
  const standIn = await startKubernetesStandIn({ mutations });
  const { faults } = standIn;
  const api = new ApiClient({ url: standIn.url });
  const asUser = (name: string) => ({ 'impersonate-user': name });
  const powerless = asUser('powerless');
  faults.inject({
    match: { where: ({ headers }) => headers['impersonate-user'] === 'powerless' },
    effect: { kind: 'forbidden', userName: 'powerless' },
  });
  faults.inject({
    match: { where: ({ headers }) => headers['impersonate-user'] === 'overloaded' },
    effect: { kind: 'overloaded' },
  });
  return {
    backend: {
      name: 'stand-in',
      api,
      pauseControllers: () => {
        standIn.pause();
      },
      resumeControllers: () => {
        standIn.resume();
      },
      async restart() {
        await faults.startOutage();
        faults.expireHistory();
        await faults.endOutage();
      },
      powerless: () => powerless,
      whileOverloaded: (run) => run(asUser('overloaded')),
      async refuseEvictions(namespace, refusal) {
        faults.inject({
          match: { verb: 'create', resource: 'pods', subresource: 'eviction', namespace },
          effect: { kind: 'status', status: refusals[refusal] },
        });
      },
    },
    async stop() {
      await api.close();
      await standIn.stop();
    },
  };
}

const failed = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure' } as const;

const refusals: Readonly<Record<Refusal, StatusBody>> = {
  forbidden: {
    ...failed,
    message: 'pods "any" is forbidden: ValidatingAdmissionPolicy denied request: no',
    reason: 'Forbidden',
    details: {},
    code: 403,
  },
  invalid: {
    ...failed,
    message: 'pods "any" is forbidden: ValidatingAdmissionPolicy denied request: no',
    reason: 'Invalid',
    details: {},
    code: 422,
  },
  unreachable: {
    ...failed,
    message: 'Internal error occurred: failed calling webhook',
    reason: 'InternalError',
    details: {},
    code: 500,
  },
  timeout: {
    ...failed,
    message: 'Internal error occurred: failed calling webhook: context deadline exceeded',
    reason: 'InternalError',
    details: {},
    code: 500,
  },
};
