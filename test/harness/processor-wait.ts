import { readFile } from 'node:fs/promises';

/**
 * For how long the main threads of these processes were ready to run and got no processor, all
 * together and from their start on (ms): what a busy machine adds to whatever they do. 0 where the
 * system does not tell, as only Linux does. https://docs.kernel.org/scheduler/sched-stats.html
 */
export async function processorWaitMs(...pids: readonly number[]): Promise<number> {
  if (process.platform !== 'linux') return 0;
  const texts = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/schedstat`, 'utf8')));
  const nanoseconds = texts.map((text) => Number(text.split(' ')[1]));
  return nanoseconds.reduce((sum, one) => sum + one, 0) / 1e6;
}
