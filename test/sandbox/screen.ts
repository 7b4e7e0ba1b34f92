import { styleText } from 'node:util';

export type Screen = {
  /** A few words on what happens now. */
  say(text: string): void;
  /** A line of the controller's log. */
  log(line: string): void;
  /** As it is. */
  print(text: string): void;
};

type Style = Parameters<typeof styleText>[0];

/** Longer lines are hard to read, however wide the terminal is. */
const widest = 110;

/** Colours only where there is a terminal that wants them. */
export function createScreen(stream: NodeJS.WriteStream): Screen {
  const coloured = stream.isTTY && stream.hasColors();
  const width = Math.min(stream.isTTY ? stream.columns : widest, widest);
  const styled = (style: Style, text: string): string =>
    coloured ? styleText(style, text, { validateStream: false }) : text;
  return {
    say: (text) => {
      const lines = wrapped(text, width - 2).map((line, at) => `${at === 0 ? '> ' : '  '}${line}`);
      stream.write(`\n${lines.map((line) => styled(['bold', 'cyan'], line)).join('\n')}\n`);
    },
    log: (line) => {
      const level = /^\S+ (WARN|ERROR)\b/.exec(line)?.[1];
      const style = level === 'ERROR' ? 'red' : level === 'WARN' ? 'yellow' : 'dim';
      stream.write(`${styled(style, `  ${line}`)}\n`);
    },
    print: (text) => {
      stream.write(`${text}\n`);
    },
  };
}

/** Columns as wide as their widest cell. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, at) => Math.max(...all.map((row) => row[at]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '-'.repeat(width)).join('  ');
  return [line(header), rule, ...rows.map(line)].join('\n');
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
