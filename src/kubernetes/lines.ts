/** An object is at most a few MiB; a line above this is no event. */
const LONGEST_LINE_BYTES = 32 * 1024 * 1024;
const LINE_FEED = 0x0a;

/** Cuts a stream of bytes into lines. Bytes are joined before they are decoded: a chunk may end within a character. */
export class LineSplitter {
  private pending: Buffer[] = [];
  private pendingBytes = 0;

  /** The lines that this chunk completes. Throws a RangeError at a line without end. */
  *push(chunk: Buffer): Generator<string, void, void> {
    let start = 0;
    for (let end = chunk.indexOf(LINE_FEED); end !== -1; end = chunk.indexOf(LINE_FEED, start)) {
      const line = this.complete(chunk.subarray(start, end));
      start = end + 1;
      if (line !== '') yield line;
    }
    if (start === chunk.length) return;
    this.pending.push(chunk.subarray(start));
    this.pendingBytes += chunk.length - start;
    if (this.pendingBytes > LONGEST_LINE_BYTES) {
      throw new RangeError(`line longer than ${LONGEST_LINE_BYTES} bytes`);
    }
  }

  private complete(last: Buffer): string {
    if (this.pending.length === 0) return last.toString('utf8');
    const line = Buffer.concat([...this.pending, last]).toString('utf8');
    this.pending = [];
    this.pendingBytes = 0;
    return line;
  }
}
