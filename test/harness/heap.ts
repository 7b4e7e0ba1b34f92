import type { Controller } from './controller.ts';
import { eventually } from './eventually.ts';

/** For a controller's Node: says its heap when asked by SIGUSR2. */
export const heapOnDemand: readonly string[] = [
  '--expose-gc',
  '--import',
  `data:text/javascript,${encodeURIComponent(`
    process.on('SIGUSR2', () => {
      gc();
      const { heapUsed, external } = process.memoryUsage();
      console.log(JSON.stringify({ message: 'heap', bytes: heapUsed + external }));
    });
    console.log(JSON.stringify({ message: 'heap on demand' }));`)}`,
];

/** What is reachable now, in MiB: after a collection of all garbage. */
export async function heapOf(controller: Controller): Promise<number> {
  // Before that the signal would end it.
  await controller.waitForLog('heap on demand');
  const before = controller.logged('heap').length;
  controller.signal('SIGUSR2');
  const measured = await eventually(() => controller.logged('heap')[before]);
  return Number(measured['bytes']) / 1024 / 1024;
}
