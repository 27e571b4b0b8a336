/**
 * Logs that continue one another: when one has grown long it is closed, and a new one, with a name and a key of its own, takes over. Each
 * names the other: the last record of the old one the key of the new, the first record of the new one the last checkpoint of the old.
 * @module
 */
import { CloisterError, isCloisterError } from '../../src/base/errors.ts';
import { parseCheckpoint } from './checkpoint.ts';
import { type LogDirectory, nodeDirectory } from './directory.ts';
import { publishedKey, signedHead } from './epochs.ts';
import { type Head, headOf } from './layout.ts';
import { type AuditLog, type LogOptions, openDirectory } from './log.ts';
import { formatVkey, parseNote } from './note.ts';
import { decodeRecordAt, storedHead } from './read.ts';
import { continuedIn } from './start.ts';
import { TileReader } from './tile-store.ts';
import { type Bad, bad, type LogVerdict } from './verdict.ts';
import { type VerifyOptions, verifyDirectory } from './verify-directory.ts';

/** What {@link verifyLogs} found. */
export type LogsVerdict =
  | { readonly ok: true; readonly logs: readonly (LogVerdict & { readonly ok: true })[] }
  /** `log`: which of the logs does not hold, or does not continue the one before it. */
  | (Bad & { readonly log: number });

/**
 * Closes the log in `dir` for good and opens its continuation in `to`, an empty directory, under a new name and with a new key. Called
 * again after a crash, it completes what was begun.
 *
 * @param options - Options of the new log; `origin` is its name, which must be another.
 * @returns The new log, open; its first record is there.
 * @throws {CloisterError} `INVALID_ARGUMENT` when the name is not a new one, or `to` holds another log; `LOCKED` when one of the two is
 *   open; otherwise as `openLog` and `append`.
 * @example
 * ```ts
 * const old = await openLog('./cloister-data/audit-2026', { origin: 'clinic.example/2026' });
 * const { vkey } = old; // what an auditor keeps: it vouches for the key of the next log
 * await old.close();
 * const log = await continueLog('./cloister-data/audit-2026', './cloister-data/audit-2027', { origin: 'clinic.example/2027' });
 * await log.close();
 * await verifyLogs(['./cloister-data/audit-2026', './cloister-data/audit-2027'], { vkey }); // { ok: true, … }
 * ```
 */
export function continueLog(
  dir: string,
  to: string,
  options: LogOptions & { readonly origin: string },
): Promise<AuditLog> {
  return continueDirectory(nodeDirectory(dir, false), nodeDirectory(to, true), options);
}

/** {@link continueLog} behind the directory seam. */
export async function continueDirectory(
  from: LogDirectory,
  to: LogDirectory,
  options: LogOptions & { readonly origin: string },
): Promise<AuditLog> {
  const old = publishedKey(from);
  if (old.name === options.origin)
    throw new CloisterError('INVALID_ARGUMENT', `the log that continues ${old.name} needs a name of its own`);
  const log = await openDirectory(to, options);
  try {
    await closeFor(from, log.vkey, options);
    const { checkpoint, note } = signedHead(from);
    const vkey = formatVkey(old.name, old.publicKey);
    const predecessor = { vkey, checkpoint: new TextDecoder().decode(note) };
    if (log.head().size === 0) {
      const object = { kind: 'log', id: old.name } as const;
      await log.begin({ actor: 'log', action: 'open', object, decision: { outcome: 'allow' }, predecessor });
      await log.checkpoint();
    } else {
      const flaw = judgeContinuation(to, vkey, headOf(checkpoint.size, checkpoint.root));
      if (flaw !== undefined) throw new CloisterError('INVALID_ARGUMENT', `${to.path} holds another log: ${flaw}`);
    }
    return log;
  } catch (error) {
    await log.close();
    throw error;
  }
}

/**
 * Verifies logs that continue one another, the oldest first: each as `verifyLog` does, under the key that the one before it names; and
 * that each was closed for the next and begins with the other's last checkpoint.
 *
 * @param options - `vkey`, `secondVkey`: keys of the oldest; `anchor`: of the newest. Second keys of later logs are believed as they lie beside them.
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log; otherwise as `verifyLog`.
 */
export function verifyLogs(dirs: readonly string[], options: VerifyOptions = {}): Promise<LogsVerdict> {
  return verifyDirectories(
    dirs.map(dir => nodeDirectory(dir, false)),
    options,
  );
}

/** {@link verifyLogs} behind the directory seam. */
export async function verifyDirectories(
  directories: readonly LogDirectory[],
  { vkey, secondVkey, anchor, ...rest }: VerifyOptions = {},
): Promise<LogsVerdict> {
  if (directories.length === 0) throw new CloisterError('INVALID_ARGUMENT', 'there is no log to verify');
  const logs: (LogVerdict & { readonly ok: true })[] = [];
  let key = vkey;
  for (const [log, directory] of directories.entries()) {
    const last = log === directories.length - 1;
    const given = { vkey: key, secondVkey: log === 0 ? secondVkey : undefined };
    const verdict = await verifyDirectory(directory, { ...rest, ...given, anchor: last ? anchor : undefined });
    if (!verdict.ok) return { ...verdict, log };
    const before = logs.at(-1);
    const flaw = before && judgeContinuation(directory, before.keys[0]!, before);
    if (flaw !== undefined) return { ...bad('forked', 0, 0, flaw), log };
    logs.push(verdict);
    if (last) break;
    key = verdict.signedSize === verdict.size ? continuedIn(leafOf(directory, verdict.size - 1)) : undefined;
    if (key === undefined) {
      const index = Math.max(0, verdict.size - 1);
      return {
        ...bad('malformed', index, index, `the log was not closed for another: record ${index} names no key`),
        log,
      };
    }
  }
  return { ok: true, logs };
}

/** Why a log does not continue the one with key `vkey` and this head; undefined when it does. */
function judgeContinuation(
  directory: LogDirectory,
  vkey: string,
  head: { readonly size: number; readonly root: string },
): string | undefined {
  const { predecessor } = decodeRecordAt(leafOf(directory, 0) ?? new Uint8Array(0), 0);
  if (predecessor?.vkey !== vkey) return 'its first record names another log before it, or none';
  const says = noteHead(predecessor.checkpoint);
  return says?.size === head.size && says.root === head.root
    ? undefined
    : 'its first record has another checkpoint of the log before it than the last';
}

/** Closes the old log for one with key `vkey`, unless that was done before. */
async function closeFor(directory: LogDirectory, vkey: string, { clock }: LogOptions): Promise<void> {
  try {
    const log = await openDirectory(directory, { clock });
    await log.closeFor(vkey);
  } catch (error) {
    if (!isCloisterError(error, 'CLOSED')) throw error;
    const { size } = signedHead(directory).checkpoint;
    if (continuedIn(leafOf(directory, size - 1)) === vkey) return;
    throw new CloisterError('INVALID_ARGUMENT', `${directory.path} was closed for another log`, {}, { cause: error });
  }
}

/** A record under the stored checkpoint; undefined when that does not cover it. */
function leafOf(directory: LogDirectory, index: number): Uint8Array | undefined {
  const { size } = storedHead(directory);
  return index >= 0 && index < size ? new TileReader(directory, size).leaf(index) : undefined;
}

/** The head that a note of a checkpoint speaks of, whoever signed it; undefined when it is none. */
function noteHead(note: string): Head | undefined {
  try {
    const { size, root } = parseCheckpoint(parseNote(note).text);
    return headOf(size, root);
  } catch (error) {
    if (isCloisterError(error, 'AUDIT_INVALID')) return undefined;
    throw error;
  }
}
