/**
 * Verification of a whole log in its directory: is every record the one that was written, and if not, which is the first that
 * is not, and what was done to it.
 * @module
 */
import { setImmediate as turn } from 'node:timers/promises';
import { decodeUtf8, equalBytes } from '../../src/base/bytes.ts';
import { CloisterError, isCloisterError } from '../../src/base/errors.ts';
import { verifyCheckpoint } from './checkpoint.ts';
import { type LogDirectory, type LogFile, nodeDirectory } from './directory.ts';
import { KEY_LIMIT_BYTES, VKEY_FILE } from './keys.ts';
import { CHECKPOINT_FILE, type Head, headOf, parseHead, RECORDS_FILE, TREE_FILE, UNSIGNED_LIMIT } from './layout.ts';
import { EMPTY_ROOT, TreeBuilder } from './merkle.ts';
import { nodeEd25519, nodeHasher } from './node-crypto.ts';
import { NOTE_LIMIT_BYTES, type NoteVerifier, parseNote, parseVkey } from './note.ts';
import { RECORD_LIMIT_BYTES } from './record.ts';
import { FRAME_BYTES, FrameReader, findFrame, HEADER_BYTES, isTornTail, segmentHeader } from './segment.ts';
import { readNode, TreeReader, treeBytes } from './tree-file.ts';

/**
 * What was done to a log.
 *
 * - `changed`: the bytes at a record are damaged (its checksum fails).
 * - `resealed`: something else, with a valid checksum, stands where the record was; or the checkpoint is of another key.
 * - `missing`: the record was taken out. `inserted`: a record was put in before it. `swapped`: it stands elsewhere.
 * - `truncated`: the file ends before the record, though a checkpoint or anchor covers it.
 * - `rolled-back`: the whole log is an earlier state than the anchor, or its checkpoint an earlier one than its records.
 * - `forked`: the log has another history than the anchor.
 * - `malformed`: a file is not what it should be; no record can be blamed, or the records are intact and the tree file is not.
 */
export type TamperKind =
  | 'changed'
  | 'resealed'
  | 'missing'
  | 'inserted'
  | 'swapped'
  | 'truncated'
  | 'rolled-back'
  | 'forked'
  | 'malformed';

/** What {@link verifyLog} found. */
export type LogVerdict =
  | {
      readonly ok: true;
      /** Whole records in the log. */
      readonly size: number;
      /** Root hash over them, base64. */
      readonly root: string;
      /** Records that the stored checkpoint covers. The rest is vouched for by the anchor and by receipts alone. */
      readonly signedSize: number;
      /** Bytes of an interrupted write at the end, which the next start cuts off; nobody was told that they are durable. */
      readonly tornBytes: number;
    }
  | {
      readonly ok: false;
      /** The first bad record, or the first that may be bad when the files tell no more. */
      readonly index: number;
      /** The last that may be the first bad one; equal to `index` when it is known. */
      readonly through: number;
      readonly kind: TamperKind;
      readonly message: string;
    };

/** Options of {@link verifyLog}. */
export interface VerifyOptions {
  /** The log's public key. Without it the file `vkey` is believed, so that whoever replaced all files goes unseen. */
  readonly vkey?: string | undefined;
  /** A head kept elsewhere. Without it a log that was rolled back as a whole goes unseen. */
  readonly anchor?: Head | undefined;
  /** Called about every 4,096 records, and at the end. */
  readonly onProgress?:
    | ((progress: { readonly records: number; readonly bytes: number; readonly totalBytes: number }) => void)
    | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Verifies the log in `dir`, reading it once with two megabytes of memory. Takes no lock: a log may be verified while it is
 * written. Hostile bytes give a verdict, never an exception.
 *
 * @param dir - Directory of the log.
 * @returns Whether it holds, and if not, the first bad record and the kind of damage.
 * @throws {CloisterError} `STORE_FAILED` when a file cannot be read; `INVALID_ARGUMENT` on a malformed `vkey` or `anchor`;
 *   `ABORTED`.
 * @example
 * ```ts
 * const log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * await log.append({ actor: 'ward-3', action: 'load', object, decision: { outcome: 'allow' } });
 * await log.close();
 * await verifyLog('./cloister-data/audit', { vkey: log.vkey }); // { ok: true, size: 1, … }
 * ```
 */
export function verifyLog(dir: string, options: VerifyOptions = {}): Promise<LogVerdict> {
  return verifyDirectory(nodeDirectory(dir, false), options);
}

/** {@link verifyLog} behind the directory seam; with `readTree` false it looks at the records and the checkpoint alone. */
export async function verifyDirectory(
  directory: LogDirectory,
  options: VerifyOptions = {},
  readTree = true,
): Promise<LogVerdict> {
  const anchor = options.anchor === undefined ? undefined : parseHead(options.anchor);
  const given = options.vkey === undefined ? undefined : parseVkey(options.vkey);
  const open: LogFile[] = [];
  try {
    return await examine(directory, given, anchor, options, readTree, open);
  } catch (error) {
    if (isCloisterError(error, 'AUDIT_INVALID')) return bad('malformed', 0, 0, error.message);
    throw error;
  } finally {
    for (const file of open) file.close();
  }
}

async function examine(
  directory: LogDirectory,
  given: NoteVerifier | undefined,
  anchor: { size: number; root: Uint8Array } | undefined,
  options: VerifyOptions,
  readTree: boolean,
  open: LogFile[],
): Promise<LogVerdict> {
  const segment = opened(directory.open(RECORDS_FILE), open);
  const note = directory.read(CHECKPOINT_FILE, NOTE_LIMIT_BYTES + 1);
  if (note === undefined) {
    if (segment === undefined && anchor !== undefined && anchor.size > 0) {
      return bad('rolled-back', 0, 0, `there is no log in ${directory.path}, the anchor covers ${anchor.size} records`);
    }
    return bad('malformed', 0, 0, `there is no checkpoint in ${directory.path}`);
  }
  const key = given ?? publishedKey(directory);
  const head = verifyCheckpoint(note, key, nodeEd25519);
  if (!head.ok) {
    const foreign = !parseNote(note).signatures.some(({ name, id }) => name === key.name && id === key.id);
    return bad(foreign ? 'resealed' : 'malformed', 0, 0, `the checkpoint does not verify: ${head.reason}`);
  }
  const { size: signed, root: signedRoot } = head.checkpoint;
  const vouched = Math.max(signed, anchor?.size ?? 0);
  if (segment === undefined) return bad('truncated', 0, 0, `the records are gone, ${vouched} are vouched for`);
  const header = new Uint8Array(HEADER_BYTES);
  const headerRead = segment.readAt(header, 0);
  if (headerRead < HEADER_BYTES) return bad('truncated', 0, 0, `the segment ends within its header`);
  if (!equalBytes(header, segmentHeader(key.name)))
    return bad('malformed', 0, 0, `the segment's header is not that of ${key.name}`);

  const tree = readTree ? opened(directory.open(TREE_FILE), open) : undefined;
  const entries = tree === undefined ? undefined : new TreeReader(tree);
  const reader = new FrameReader(segment, HEADER_BYTES);
  const builder = new TreeBuilder(nodeHasher);
  const totalBytes = segment.size();
  let suspect: Suspect | undefined; // the first record that is not the one in the tree file
  let nodeMismatch: { from: number; through: number } | undefined; // the first subtree that is not
  let treeFlaw: number | undefined; // first record whose entry in the tree file is short or has another offset
  let holds = signed === 0 && equalBytes(signedRoot, EMPTY_ROOT); // the first `signed` records have the signed root
  let rootAtAnchor = EMPTY_ROOT;
  let place = -1;
  let frame = reader.next();
  for (; frame.kind === 'frame'; frame = reader.next()) {
    const index = builder.size;
    if (index % 4096 === 0) {
      options.onProgress?.({ records: index, bytes: frame.start, totalBytes });
      if (options.signal?.aborted) throw new CloisterError('ABORTED', `verification was cancelled at record ${index}`);
      await turn();
    }
    const leafHash = nodeHasher.leaf(frame.record);
    const entry = index < signed ? entries?.next() : undefined;
    if (index < signed && tree !== undefined && entry === undefined) treeFlaw ??= index;
    if (suspect !== undefined) {
      suspect.displaced ||= equalBytes(leafHash, suspect.expected);
    } else if (entry !== undefined && !same(entry.leafHash, leafHash)) {
      suspect = {
        index,
        expected: entry.leafHash.slice(),
        found: leafHash,
        foundSeq: seqOf(frame.record),
        displaced: false,
      };
    } else if (entry !== undefined && entry.frameEnd !== BigInt(frame.end)) {
      treeFlaw ??= index;
    }
    const completed = builder.append(leafHash);
    if (entry !== undefined && suspect === undefined && nodeMismatch === undefined) {
      const level = completed.findIndex((hash, i) => !same(hash, entry.nodes.subarray(32 * i, 32 * i + 32)));
      if (level >= 0) nodeMismatch = { from: index + 1 - 2 ** (level + 1), through: index };
    }
    if (entry === undefined && suspect === undefined && (index < signed || holds)) {
      // Without a hash to compare with only the form speaks: numbers without gaps.
      const seq = seqOf(frame.record);
      if (seq === undefined) return bad('malformed', index, index, `record ${index} is not a record`);
      if (seq !== index)
        return bad(seq > index ? 'missing' : 'inserted', index, index, `record ${index} is numbered ${seq}`);
    }
    if (suspect === undefined && frame.place !== 0 && frame.place !== place + 1) {
      return bad(
        'resealed',
        index,
        index,
        `the frame of record ${index} was written anew: place ${frame.place} follows ${place}`,
      );
    }
    place = frame.place;
    if (builder.size === signed) holds = equalBytes(builder.root(), signedRoot);
    if (builder.size === anchor?.size) rootAtAnchor = builder.root();
  }
  const size = builder.size;
  options.onProgress?.({ records: size, bytes: frame.start, totalBytes });

  if (!holds) {
    if (suspect !== undefined) return judge(suspect, signed, tree!);
    if (size < signed) return judgeStop(frame, size, signed, segment, tree);
    const { from, through } = nodeMismatch ?? { from: 0, through: Math.max(0, signed - 1) };
    return bad(
      'resealed',
      from,
      through,
      `a record from ${from} to ${through} and its hash were replaced: the root is not the signed one`,
    );
  }
  const flaw = suspect?.index ?? nodeMismatch?.from ?? treeFlaw;
  if (flaw !== undefined) {
    return bad(
      'malformed',
      flaw,
      flaw,
      `the tree file is damaged at record ${flaw}; the records are intact. Delete it, the next start rebuilds it`,
    );
  }
  if (frame.kind === 'bad' && (size < vouched || !isTornTail(segment, frame.start)))
    return judgeStop(frame, size, vouched, segment, undefined);
  if (size - signed > UNSIGNED_LIMIT) {
    return bad(
      'rolled-back',
      signed,
      signed,
      `the checkpoint covers ${signed} of ${size} records, more than a writer leaves unsigned`,
    );
  }
  if (anchor !== undefined) {
    if (size < anchor.size)
      return bad('rolled-back', size, size, `the log has ${size} records, its anchor ${anchor.size}`);
    if (!equalBytes(rootAtAnchor, anchor.root)) {
      return bad('forked', 0, anchor.size - 1, `the first ${anchor.size} records are not those of the anchor`);
    }
  }
  const { root } = headOf(size, builder.root());
  return { ok: true, size, root, signedSize: signed, tornBytes: frame.kind === 'bad' ? totalBytes - frame.start : 0 };
}

interface Suspect {
  readonly index: number;
  readonly expected: Uint8Array;
  readonly found: Uint8Array;
  readonly foundSeq: number | undefined;
  displaced: boolean; // the expected record was seen further on
}

/** The record at `suspect.index` has a valid checksum and is not the one that was written there. */
function judge(suspect: Suspect, signed: number, tree: LogFile): LogVerdict {
  const { index, foundSeq, displaced } = suspect;
  const later =
    foundSeq !== undefined &&
    foundSeq > index &&
    foundSeq < signed &&
    tree.size() >= treeBytes(foundSeq + 1) &&
    equalBytes(readNode(tree, 0, foundSeq), suspect.found);
  if (later && displaced)
    return bad('swapped', index, index, `record ${foundSeq} stands in the place of record ${index}`);
  if (later) return bad('missing', index, index, `record ${index} was taken out: record ${foundSeq} follows`);
  if (displaced) return bad('inserted', index, index, `a record was put in before record ${index}`);
  return bad(
    'resealed',
    index,
    index,
    `record ${index} was replaced: its checksum holds, its hash is not the one in the tree`,
  );
}

/** The segment ends, or is damaged, at record `index`, which a checkpoint or anchor covers. */
function judgeStop(
  stop: ReturnType<FrameReader['next']>,
  index: number,
  vouched: number,
  segment: LogFile,
  tree: LogFile | undefined,
): LogVerdict {
  const damaged = bad('changed', index, index, `the bytes of record ${index} are damaged: its checksum fails`);
  const cut = bad(
    'truncated',
    index,
    index,
    `the records end within or before record ${index}, ${vouched} are vouched for`,
  );
  if (stop.kind !== 'bad') return cut;
  if (findFrame(segment, stop.start, 2 * (RECORD_LIMIT_BYTES + FRAME_BYTES)) !== undefined) return damaged;
  // The last frame: a damaged length looks like a cut, but then the record itself is still there.
  const rest = new Uint8Array(Math.max(0, Math.min(RECORD_LIMIT_BYTES, segment.size() - stop.start - FRAME_BYTES)));
  segment.readAt(rest, stop.start + FRAME_BYTES);
  if (
    tree !== undefined &&
    tree.size() >= treeBytes(index + 1) &&
    equalBytes(nodeHasher.leaf(rest), readNode(tree, 0, index))
  )
    return damaged;
  return stop.short ? cut : damaged;
}

/** The number in a record; undefined when it is not JSON with one. */
export function seqOf(record: Uint8Array): number | undefined {
  try {
    const value: unknown = JSON.parse(decodeBuffer(record));
    const seq = (value as { seq?: unknown } | null)?.seq;
    return typeof seq === 'number' && Number.isSafeInteger(seq) && seq >= 0 ? seq : undefined;
  } catch {
    return undefined;
  }
}

/** The key that is published beside a log. */
export function publishedKey(directory: LogDirectory): NoteVerifier {
  const bytes = directory.read(VKEY_FILE, KEY_LIMIT_BYTES);
  if (bytes === undefined) throw new CloisterError('AUDIT_INVALID', `there is no vkey in ${directory.path}`);
  try {
    return parseVkey(decodeUtf8(bytes).replace(/\n$/, ''));
  } catch (cause) {
    throw new CloisterError(
      'AUDIT_INVALID',
      `${directory.path}/${VKEY_FILE} is not a vkey: ${(cause as Error).message}`,
      {},
      { cause },
    );
  }
}

function bad(kind: TamperKind, index: number, through: number, message: string): LogVerdict {
  return { ok: false, index, through, kind, message };
}

function opened(file: LogFile | undefined, open: LogFile[]): LogFile | undefined {
  if (file !== undefined) open.push(file);
  return file;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function decodeBuffer(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8');
}
