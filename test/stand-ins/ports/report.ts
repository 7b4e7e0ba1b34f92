import { MESSAGES, type Level, type MessageText } from '../../../src/report/messages.ts';
import type { Facts, Report } from '../../../src/report/report.ts';

type Line = Readonly<{ at: number; level: Level; message: MessageText; facts: Facts }>;

/** Keeps all that is told. */
export class FakeReport implements Report {
  readonly lines: Line[] = [];
  private readonly now: () => number;

  constructor(now: () => number) {
    this.now = now;
  }

  /** The facts of each line of this text, oldest first. */
  told(message: MessageText): readonly Facts[] {
    return this.lines.filter((line) => line.message === message).map(({ facts }) => facts);
  }

  /** Every text told, in order. */
  texts(): readonly MessageText[] {
    return this.lines.map(({ message }) => message);
  }

  /** Lines that no outside, however bad, may bring about. */
  faults(): readonly Line[] {
    return this.lines.filter(({ message }) =>
      MESSAGES[message].meaning.includes('fault of this program'),
    );
  }

  debug(message: MessageText, facts?: Facts): void {
    this.tell('debug', message, facts);
  }

  info(message: MessageText, facts?: Facts): void {
    this.tell('info', message, facts);
  }

  warn(message: MessageText, facts?: Facts): void {
    this.tell('warn', message, facts);
  }

  error(message: MessageText, facts?: Facts): void {
    this.tell('error', message, facts);
  }

  private tell(level: Level, message: MessageText, facts: Facts = {}): void {
    this.lines.push({ at: this.now(), level, message, facts });
  }
}
