import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { runVariable } from '../setup/test-run.ts';

// Below the range from which systems take the ports of outgoing connections (Linux: 32768 to 60999),
// so that a port stays ours between this check and its use, and while an API server is down.
const lowest = 20_000;
const highest = 32_000;
const given = new Set<number>();

// A server may take seconds from being told its port to listening there. So the workers of a test run
// take theirs from ranges of their own, and different runs from different ones as a rule.
const ranges = 40;
const rangeSize = (highest - lowest) / ranges;
const worker = Number(process.env['VITEST_POOL_ID'] ?? randomInt(ranges));
const run = Number.parseInt(process.env[runVariable]?.slice(0, 4) ?? '0', 16);
const first = lowest + ((run + worker) % ranges) * rangeSize;

/** A TCP port that is free on 127.0.0.1 and has not been given before in this process. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = first + randomInt(rangeSize);
    if (!given.has(port) && (await isFree(port))) {
      given.add(port);
      return port;
    }
  }
  throw new Error(`no free port found between ${first} and ${first + rangeSize}`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
