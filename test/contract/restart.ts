import { setTimeout as delay } from 'node:timers/promises';
import type { LooseObject } from './answer.ts';
import type { Backend } from './backend.ts';
import { openWatch } from './watch-reader.ts';

/** What was known before the API server was restarted. */
export type Restart = {
  /** Of a namespace with the pods a to e, of which c is gone and e came after the list. */
  readonly pods: string;
  readonly survivor: LooseObject;
  /** How a watch ended that was open meanwhile. */
  readonly watchEnd: string;
  /** Of a list before the restart; there were changes after it. */
  readonly version: string;
  /** To continue that list after a and b. */
  readonly continueToken: string;
};

const restarts = new WeakMap<Backend, Promise<Restart>>();

/** A restart takes seconds, so that all cases about it look at the same one. */
export function restartOnce(backend: Backend): Promise<Restart> {
  const known = restarts.get(backend);
  if (known !== undefined) return known;
  const made = restart(backend);
  restarts.set(backend, made);
  return made;
}

async function restart(backend: Backend): Promise<Restart> {
  const { api } = backend;
  const namespace = 'before-restart';
  const pods = `/api/v1/namespaces/${namespace}/pods`;
  const makePod = (name: string) =>
    api.create(pods, {
      metadata: { name },
      spec: { schedulerName: 'nobody', containers: [{ name: 'main', image: 'none' }] },
    });
  await api.create('/api/v1/namespaces', { metadata: { name: namespace } });
  for (const name of ['a', 'b', 'c', 'd']) await makePod(name);
  const page = await api.get<LooseObject>(`${pods}?limit=2`);
  const survivor = await api.get<LooseObject>(`${pods}/a`);
  await makePod('e');
  await api.delete(`${pods}/c`);
  const { resourceVersion } = await api.get<LooseObject>(pods).then(({ metadata }) => metadata);
  const watch = await openWatch(backend, `${pods}?watch=1&resourceVersion=${resourceVersion}`);
  try {
    await backend.restart();
    const watchEnd = await watch.next();
    await untilAnswered(backend);
    return {
      pods,
      survivor,
      watchEnd: typeof watchEnd === 'string' ? watchEnd : watchEnd.type,
      version: page.metadata.resourceVersion,
      continueToken: page.metadata.continue ?? '',
    };
  } finally {
    await watch.close();
  }
}

async function untilAnswered({ api }: Backend): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const answer = await api.request('GET', '/readyz').catch((error: unknown) => {
      // The connections of before are still in the pool, and fail when they are used.
      if (!(error instanceof Error)) throw error;
    });
    if (answer?.status === 200) return;
    if (performance.now() > deadline) throw new Error('the server did not come back');
    await delay(20);
  }
}
