import { startHttpService, type HttpService } from '../stand-ins/http-service.ts';
import type { InterruptionKind } from './cases.ts';
import type { Sandbox } from './sandbox.ts';

export const interruptionKinds: readonly InterruptionKind[] = ['spot', 'rebalance', 'hook'];

/** Where another process asks for interruptions: `POST /nodes/NAME/KIND`. Loopback only. */
export async function startDoor(sandbox: Sandbox): Promise<HttpService> {
  return startHttpService(async (request, _body, response) => {
    const answer = (status: number, text: string): void => {
      response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
      response.end(`${text}\n`);
    };
    const [, top, name = '', kind = ''] = (request.url ?? '').split('/').map(decodeURIComponent);
    const machines = sandbox.machines();
    if (request.method !== 'POST' || top !== 'nodes') {
      answer(404, 'There is only POST /nodes/NAME/KIND.');
      return;
    }
    const machine = machines.find((one) => one.name === name);
    const known = interruptionKinds.find((one) => one === kind);
    if (machine === undefined) {
      const all = machines.map((one) => one.name).join(', ');
      answer(404, `There is no node ${JSON.stringify(name)}. The nodes are ${all}.`);
    } else if (known === undefined) {
      answer(
        404,
        `There is no kind ${JSON.stringify(kind)}: it is one of ${interruptionKinds.join(', ')}.`,
      );
    } else {
      answer(202, `Sent to the queue:\n${JSON.stringify(await sandbox.interrupt(known, machine))}`);
    }
  });
}
