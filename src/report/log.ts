import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { createLogger, format, transports } from 'winston';
import type { Clock } from '../clock.ts';
import { jsonLine, textLine } from './line.ts';
import type { Level, MessageText } from './messages.ts';
import type { Facts, Report } from './report.ts';

export interface Log extends Report {
  /** Resolves when every line is with the operating system. What is logged after it is dropped. */
  close(): Promise<void>;
}

type LogOptions = Readonly<{
  level: Level;
  format: 'json' | 'text';
  stream: Writable;
  clock: Pick<Clock, 'now'>;
  /** Told once, when the stream takes no more lines: whoever drains nodes goes on without a log. */
  onBroken: (error: Error) => void;
}>;

/** As many bytes may wait for a slow reader; what comes on top is dropped and counted. */
const MOST_WAITING_BYTES = 16 * 1024 * 1024;

/** The log: an entry a line, on a stream. */
export function createLog(options: LogOptions): Log {
  const { stream, clock, onBroken } = options;
  const toLine = options.format === 'json' ? jsonLine : textLine;
  const logger = createLogger({
    level: options.level,
    levels: { error: 0, warn: 1, info: 2, debug: 3 },
    // Lines come ready made: winston would mix facts named `message` or `level` into its own.
    format: format.printf(({ message }) => String(message)),
    transports: [new transports.Stream({ stream, eol: '\n' })],
  });
  let state: 'open' | 'broken' | 'closed' = 'open';
  let lost = 0;
  let isHeld = false;

  stream.on('error', (error: Error) => {
    if (state !== 'open') return;
    state = 'broken';
    onBroken(error);
  });

  /**
   * The lines of one turn go out together: a system call a line is most of what a storm's log costs.
   * What may be the last that is heard of a process, a warning or an error, takes them out at once.
   */
  function holdForThisTurn(): void {
    if (isHeld) return;
    isHeld = true;
    stream.cork();
    process.nextTick(letGo);
  }

  function letGo(): void {
    if (!isHeld) return;
    isHeld = false;
    stream.uncork();
  }

  function write(level: Level, message: MessageText, facts: Facts): void {
    holdForThisTurn();
    logger.log(level, toLine({ at: clock.now(), level, message, facts }));
    if (level === 'warn' || level === 'error') letGo();
  }

  function tellLost(): void {
    if (lost > 0) write('warn', 'log lines lost', { lines: lost });
    lost = 0;
  }

  function log(level: Level, message: MessageText, facts: Facts = {}): void {
    if (state !== 'open' || !logger.isLevelEnabled(level)) return;
    if (stream.writableLength > MOST_WAITING_BYTES) {
      lost++;
      return;
    }
    tellLost();
    write(level, message, facts);
  }

  return {
    debug: (message, facts) => log('debug', message, facts),
    info: (message, facts) => log('info', message, facts),
    warn: (message, facts) => log('warn', message, facts),
    error: (message, facts) => log('error', message, facts),
    async close() {
      if (state === 'closed') return;
      tellLost();
      state = 'closed';
      const finished = once(logger, 'finish');
      logger.end();
      await finished;
      // The transport has handed all to the stream; an empty write is called back when that is out.
      await new Promise<void>((resolve) => {
        stream.write('', () => resolve());
      });
    },
  };
}
