import { spawn } from 'node:child_process';
import { Socket } from 'node:net';

// Nothing can catch the SIGKILL of a test runner, but its pipes close. A shell in a process group of
// its own reads what to clean up from such a pipe and does so at its end. Every process is struck
// off the list when it has been seen to exit, so that a reused pid is never hit.
const script = `
trap '' HUP INT TERM
while IFS= read -r line; do
  case $line in
    +*) set -- "$@" "\${line#+}" ;;
    -*)
      count=$#
      while [ "$count" -gt 0 ]; do
        item=$1
        shift
        [ "$item" = "\${line#-}" ] || set -- "$@" "$item"
        count=$((count - 1))
      done
      ;;
  esac
done
for item in "$@"; do
  case $item in pid:*) kill -9 "\${item#pid:}" 2>/dev/null ;; esac
done
for item in "$@"; do
  case $item in
    folder:*)
      tries=50
      until rm -rf -- "\${item#folder:}" 2>/dev/null || [ "$tries" -eq 0 ]; do
        tries=$((tries - 1))
        sleep 0.1
      done
      ;;
  esac
done
`;

let pipe: Socket | undefined;

function guardian(): Socket {
  if (pipe) return pipe;
  const child = spawn('/bin/sh', ['-c', script], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  // Neither may keep the runner alive: its end is what the guardian waits for.
  child.unref();
  const socket: unknown = child.stdin;
  if (!(socket instanceof Socket)) throw new Error('no pipe to the guardian of the test processes');
  socket.unref();
  socket.on('error', (error) => {
    throw new Error('the guardian of the test processes has died', { cause: error });
  });
  pipe = socket;
  return socket;
}

function guard(item: string): () => void {
  if (item.includes('\n')) throw new Error(`cannot guard ${JSON.stringify(item)}`);
  guardian().write(`+${item}\n`);
  return () => guardian().write(`-${item}\n`);
}

/**
 * Has the process killed (SIGKILL) if this process ends first, however it ends.
 * Call the function returned as soon as the process has exited.
 */
export function guardProcess(pid: number): () => void {
  return guard(`pid:${pid}`);
}

/** Has the folder removed if this process ends first. Call the function returned once it is gone. */
export function guardFolder(path: string): () => void {
  return guard(`folder:${path}`);
}
