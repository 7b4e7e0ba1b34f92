import { readFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import type { ApiClient } from '../control-plane/api-client.ts';

const fixtures = resolve(import.meta.dirname, '../kubernetes/fixtures');

export type Refusal = Readonly<{ code: number; message: string }>;

/**
 * An admission webhook, of its own process as far as the API server can tell, that refuses evictions
 * in one namespace for as long as `refusal` says so.
 */
export async function refuseEvictions(api: ApiClient, namespace: string, refusal: Refusal) {
  const state: { refusal: Refusal | undefined; asked: number } = { refusal, asked: 0 };
  const server = createServer(
    {
      key: await readFile(resolve(fixtures, 'server.key')),
      cert: await readFile(resolve(fixtures, 'server.crt')),
    },
    (request, response) => {
      void text(request).then((body) => {
        state.asked += 1;
        const { request: review } = JSON.parse(body) as { request: { uid: string } };
        const answer =
          state.refusal === undefined
            ? { allowed: true }
            : { allowed: false, status: { ...state.refusal } };
        response.setHeader('content-type', 'application/json');
        response.end(
          JSON.stringify({
            apiVersion: 'admission.k8s.io/v1',
            kind: 'AdmissionReview',
            response: { uid: review.uid, ...answer },
          }),
        );
      });
    },
  );
  const { promise: listening, resolve: listens } = Promise.withResolvers<undefined>();
  server.listen(0, '127.0.0.1', () => listens(undefined));
  await listening;
  const { port } = server.address() as AddressInfo;
  const name = `refuses-evictions-${namespace}`;
  const path = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';
  const close = (): void => {
    server.closeAllConnections();
    server.close();
  };
  const configuration = {
    metadata: { name },
    webhooks: [
      {
        name: 'evictions.example.com',
        clientConfig: {
          url: `https://127.0.0.1:${port}/`,
          caBundle: (await readFile(resolve(fixtures, 'ca.crt'))).toString('base64'),
        },
        rules: [
          {
            apiGroups: [''],
            apiVersions: ['v1'],
            operations: ['CREATE'],
            resources: ['pods/eviction'],
          },
        ],
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
        failurePolicy: 'Fail',
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
      },
    ],
  };
  await api.create(path, configuration).catch((error: unknown) => {
    close();
    throw error;
  });
  return {
    /** How often it was asked. */
    asked: () => state.asked,
    /** From now on it refuses nothing. */
    relent(): void {
      state.refusal = undefined;
    },
    async stop(): Promise<void> {
      await api.delete(`${path}/${name}`);
      close();
    },
  };
}
