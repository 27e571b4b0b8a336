/**
 * Records from a file: what `--records FILE` accepts.
 * @module
 */
import type { FileHandle } from 'node:fs/promises';
import { CloisterError } from '../base/index.ts';
import { openRegularFile } from '../service/files.ts';
import type { ReleaseRecord } from '../service/index.ts';
import { startProgress } from './output.ts';

/** Bytes of one line, at most; a longer one is no record. */
const LINE_LIMIT_BYTES = 67_108_864;
const CHUNK_BYTES = 1_048_576;
const NEWLINE = 0x0a;

/** A file of records that can be read, and was not read yet. */
export interface RecordFile extends AsyncDisposable {
  /** Its records, one JSON value to a line. A line that is none contributes nothing: saying so would be a release. */
  records(): AsyncGenerator<ReleaseRecord>;
}

/**
 * Opens a file of records, so that a wrong name is found out before anything is charged.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when it is no regular file that can be read.
 */
export async function openRecords(path: string): Promise<RecordFile> {
  const handle = await openRegularFile(path);
  return {
    async *records() {
      const progress = startProgress('records');
      let count = 0;
      try {
        for await (const line of lines(handle, path)) {
          progress.update(++count);
          let record: ReleaseRecord;
          try {
            record = JSON.parse(line.toString('utf8')) as ReleaseRecord;
          } catch {
            continue;
          }
          yield record;
        }
      } finally {
        progress.end();
      }
    },
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

async function* lines(handle: FileHandle, path: string): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  const take = (part: Buffer): void => {
    length += part.length;
    if (length <= LINE_LIMIT_BYTES) parts.push(part);
    else parts = []; // too long: read on to its end, and keep nothing of it
  };
  const finish = (): Buffer => {
    const line = Buffer.concat(parts);
    parts = [];
    length = 0;
    return line;
  };
  for (;;) {
    const chunk = await read(handle, path);
    if (chunk.length === 0) break;
    let from = 0;
    for (let to = chunk.indexOf(NEWLINE); to >= 0; to = chunk.indexOf(NEWLINE, from)) {
      take(chunk.subarray(from, to));
      from = to + 1;
      yield finish();
    }
    take(chunk.subarray(from));
  }
  if (length > 0) yield finish();
}

async function read(handle: FileHandle, path: string): Promise<Buffer> {
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(CHUNK_BYTES));
    return buffer.subarray(0, bytesRead);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new CloisterError('INVALID_ARGUMENT', `--records: ${code}: ${path}`, { path }, { cause });
  }
}
