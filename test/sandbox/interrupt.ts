import { parseArgs } from 'node:util';
import { interruptionKinds } from './door.ts';

const usage = `Usage: npm run sandbox:interrupt -- --port PORT [--kind ${interruptionKinds.join('|')}] NODE

Interrupts a node of the sandbox that said this port. The kind is spot unless given.
`;

/** Resolves to the exit code. */
async function main(args: readonly string[]): Promise<number> {
  let parsed;
  try {
    parsed = parseArgs({
      args: [...args],
      options: {
        port: { type: 'string' },
        kind: { type: 'string', default: 'spot' },
        help: { type: 'boolean', short: 'h' },
      },
      allowPositionals: true,
    });
  } catch (error) {
    return refuse(String(error instanceof Error ? error.message : error));
  }
  const { values, positionals } = parsed;
  if (values.help === true) {
    process.stdout.write(usage);
    return 0;
  }
  const [node, ...rest] = positionals;
  if (node === undefined || rest.length > 0) return refuse('It takes the name of one node.');
  if (!/^\d{1,5}$/.test(values.port ?? ''))
    return refuse('It takes the --port that the sandbox said.');
  const url = `http://127.0.0.1:${values.port}/nodes/${encodeURIComponent(node)}/${encodeURIComponent(values.kind)}`;
  let response: Response;
  try {
    response = await fetch(url, { method: 'POST', signal: AbortSignal.timeout(10_000) });
  } catch (error) {
    process.stderr.write(
      `No sandbox answers at port ${values.port} (${String(error instanceof Error ? (error.cause ?? error) : error)}).\n`,
    );
    return 1;
  }
  const text = await response.text();
  (response.ok ? process.stdout : process.stderr).write(text);
  return response.ok ? 0 : 1;
}

function refuse(fault: string): number {
  process.stderr.write(`${fault}\n\n${usage}`);
  return 2;
}

process.exitCode = await main(process.argv.slice(2));
