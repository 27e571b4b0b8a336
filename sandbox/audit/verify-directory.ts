/**
 * Verification of a whole log in its directory: is every record the one that was written, and if not, which is the first that
 * is not, and what was done to it.
 * @module
 */
import { setImmediate as turn } from 'node:timers/promises';
import { equalBytes } from '../../src/base/bytes.ts';
import { CloisterError, isCloisterError } from '../../src/base/errors.ts';
import { BundleCheck } from './bundle-check.ts';
import { type Checkpoint, parseCheckpoint } from './checkpoint.ts';
import { parseCosigner } from './cosignature.ts';
import { type LogDirectory, nodeDirectory } from './directory.ts';
import { announcedIn, type Epochs, firstKey, followKeys, readSeals, vkeysOf } from './epochs.ts';
import { assertLayout, CHECKPOINT_FILE, type Head, headOf, parseHead, UNSIGNED_LIMIT } from './layout.ts';
import { EMPTY_ROOT, TreeBuilder } from './merkle.ts';
import { nodeHasher } from './node-crypto.ts';
import { NOTE_LIMIT_BYTES, type NoteVerifier, parseNote, parseVkey, sameKey } from './note.ts';
import { type EpochKey, verifyStoredCheckpoint } from './second-key.ts';
import { readTail, type TailRead } from './tail.ts';
import { TILE_WIDTH } from './tiles.ts';
import { type Bad, bad, type LogVerdict, seqOf } from './verdict.ts';
import { closeSegments, openSegments, type WalSegment } from './wal.ts';

/** Options of {@link verifyLog}. */
export interface VerifyOptions {
  /** The log's public key. Without it the file `vkey` is believed, so that whoever replaced all files goes unseen. */
  readonly vkey?: string | undefined;
  /** The log's second key (`AuditLog.secondVkey`), whose line is demanded too. Without it that beside the log is believed, if there is one. */
  readonly secondVkey?: string | undefined;
  /** A head kept elsewhere. Without it a log that was rolled back as a whole goes unseen. */
  readonly anchor?: Head | undefined;
  /** Called about every 4,096 records, and at the end. `total` are those under the checkpoint, and at the end all. */
  readonly onProgress?: ((progress: { readonly records: number; readonly total: number }) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Verifies the log in `dir`, reading it once with a few megabytes of memory. Takes no lock: a log may be verified while it is
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
  // What the caller gave is refused whatever lies in the directory.
  if (options.vkey !== undefined) parseVkey(options.vkey);
  if (options.secondVkey !== undefined) parseCosigner(options.secondVkey);
  let segments: readonly WalSegment[] = [];
  try {
    // Segments first: what leaves them before the checkpoint is read is under it.
    segments = openSegments(directory);
    return await examine(directory, anchor, options, readTree, segments);
  } catch (error) {
    if (isCloisterError(error, 'AUDIT_INVALID')) return bad('malformed', 0, 0, error.message);
    throw error;
  } finally {
    closeSegments(segments);
  }
}

async function examine(
  directory: LogDirectory,
  anchor: { size: number; root: Uint8Array } | undefined,
  options: VerifyOptions,
  readTree: boolean,
  segments: readonly WalSegment[],
): Promise<LogVerdict> {
  assertLayout(directory);
  if (directory.read(CHECKPOINT_FILE, 1) === undefined) {
    const empty = segments.length === 0 && directory.list('tile').length === 0;
    if (empty && anchor !== undefined && anchor.size > 0) {
      return bad('rolled-back', 0, 0, `there is no log in ${directory.path}, the anchor covers ${anchor.size} records`);
    }
    return bad('malformed', 0, 0, `there is no checkpoint in ${directory.path}`);
  }
  const first = firstKey(directory, options.vkey, options.secondVkey);
  const { note, keys } = stableHead(directory, first);
  const signature = judgeSignature(note, keys);
  if (signature.flaw !== undefined && keys.flaw === undefined) return signature.flaw;
  const { size: signed, root: signedRoot } = signature.checkpoint ?? parseCheckpoint(parseNote(note).text);
  const vouched = Math.max(signed, anchor?.size ?? 0);
  const seals = keys.seals.map(seal => seal.checkpoint);

  const builder = new TreeBuilder(nodeHasher);
  const bundles = new BundleCheck(directory, signed, readTree);
  const announced: Announced[] = [];
  let holds = signed === 0 && equalBytes(signedRoot, EMPTY_ROOT); // the first `signed` records have the signed root
  let rootAtAnchor = EMPTY_ROOT;
  let sealFlaw: number | undefined; // epoch whose records do not have the root under its seal
  const grow = (leafHash: Uint8Array): Uint8Array[] => {
    const completed = builder.append(leafHash);
    const { size } = builder;
    if (size === signed) holds = same(builder.root(), signedRoot);
    if (size === anchor?.size) rootAtAnchor = builder.root();
    const epoch = seals.findIndex(seal => seal.size === size);
    if (epoch >= 0 && !same(builder.root(), seals[epoch]!.root)) sealFlaw ??= epoch;
    return completed;
  };
  const report = (records: number, total: number): void => options.onProgress?.({ records, total });

  for (let bundle = 0; bundle * TILE_WIDTH < signed; bundle++) {
    const from = bundle * TILE_WIDTH;
    if (bundle % 16 === 0) {
      report(from, signed);
      if (options.signal?.aborted) throw new CloisterError('ABORTED', `verification was cancelled at record ${from}`);
      await turn();
    }
    const read = bundles.read(bundle);
    if (read.flaw !== undefined) return read.flaw;
    let completed: Uint8Array[] = [];
    read.records.forEach((record, i) => {
      const key = announcedIn(record, first.name);
      if (key !== undefined) announced.push({ index: from + i, key });
      completed = grow(read.hashes[i]!);
    });
    bundles.compareNodes(bundle, completed);
  }

  if (!holds) return bundles.judge();
  const sealed = keys.flaw ?? judgeSeals(keys, announced, signed, sealFlaw);
  if (sealed !== undefined) return sealed;
  if (signature.flaw !== undefined) return signature.flaw;
  const tileFlaw = bundles.tileFlaw();
  if (tileFlaw !== undefined) return tileFlaw;

  let tornBytes = 0;
  let place = -1;
  for (const read of readTail(directory, segments, signed, first.name)) {
    const { index } = read;
    if (read.kind === 'record') {
      const leafHash = nodeHasher.leaf(read.record);
      if (index < signed && readTree && !same(leafHash, bundles.hashAt(index)))
        return bad('changed', index, index, `record ${index} in its segment is not the one under the checkpoint`);
      if (read.place !== 0 && read.place !== place + 1)
        return bad('changed', index, index, `the frame of record ${index} is at place ${read.place} after ${place}`);
      place = read.place;
      if (index < signed) continue;
      // No hash to compare with: only the form speaks, and numbers without gaps.
      const seq = seqOf(read.record);
      if (seq === undefined) return bad('malformed', index, index, `record ${index} is not a record`);
      if (seq !== index)
        return bad(seq > index ? 'missing' : 'inserted', index, index, `record ${index} is numbered ${seq}`);
      if (announced.at(-1)?.index === index - 1 && seals.at(-1)?.size !== index) return unsealed(seals, index - 1);
      const key = announcedIn(read.record, first.name);
      if (key !== undefined) announced.push({ index, key });
      grow(leafHash);
    } else if (read.kind === 'damaged') {
      if (!read.torn || index < vouched) return judgeStop(read, vouched);
      tornBytes = read.bytes;
    } else if (read.kind === 'gap') {
      return bad('missing', index, index, `record ${index} is in no segment, later ones are`);
    } else {
      return bad('malformed', index, index, `${read.name} has not the header of a segment of ${first.name}`);
    }
  }
  const size = builder.size;
  report(size, size);
  if (signature.stale && size > signed)
    return bad('resealed', signed, signed, `the checkpoint is of the epoch that ended with record ${signed - 1}`);
  if (size - signed > UNSIGNED_LIMIT) {
    return bad(
      'rolled-back',
      signed,
      signed,
      `the checkpoint covers ${signed} of ${size} records, more than a writer leaves unsigned`,
    );
  }
  if ((seals.at(-1)?.size ?? 0) > signed)
    return bad('rolled-back', signed, signed, `the checkpoint covers ${signed} records, a seal beside it more`);
  if (anchor !== undefined) {
    if (size < anchor.size)
      return bad('rolled-back', size, size, `the log has ${size} records, its anchor ${anchor.size}`);
    if (!equalBytes(rootAtAnchor, anchor.root)) {
      return bad('forked', 0, anchor.size - 1, `the first ${anchor.size} records are not those of the anchor`);
    }
  }
  const { root } = headOf(size, builder.root());
  return { ok: true, size, root, signedSize: signed, tornBytes, keys: vkeysOf(keys.keys) };
}

/** Checkpoint and keys as they are together at one moment, while a writer may change the key. */
function stableHead(directory: LogDirectory, first: EpochKey) {
  for (;;) {
    const keys = attemptKeys(directory, first);
    const note = directory.read(CHECKPOINT_FILE, NOTE_LIMIT_BYTES + 1) ?? new Uint8Array(0);
    if (keys.flaw !== undefined || readSeals(directory).length === keys.seals.length) return { note, keys };
  }
}

/** The keys of the epochs, as far as the seals hold, and what is wrong with the first that does not. */
function attemptKeys(directory: LogDirectory, first: EpochKey): Epochs & { readonly flaw?: Bad } {
  try {
    return followKeys(directory, first, false);
  } catch (error) {
    if (!isCloisterError(error, 'AUDIT_INVALID')) throw error;
    const { index = 0, through = index } = error.detail as { index?: number; through?: number };
    return { keys: [first], seals: [], flaw: bad('resealed', index, through, error.message) };
  }
}

interface Signature {
  readonly checkpoint?: Checkpoint;
  /** It is of the epoch before, over exactly the records under its seal: a crash while the key was changed leaves it so. */
  readonly stale: boolean;
  readonly flaw?: Bad;
}

function judgeSignature(note: Uint8Array, { keys, seals }: Epochs): Signature {
  const key = keys.at(-1)!;
  const head = verifyStoredCheckpoint(note, key);
  if (head.ok) return { checkpoint: head.checkpoint, stale: false };
  for (const [epoch, seal] of seals.entries()) {
    const old = verifyStoredCheckpoint(note, seal.key);
    if (!old.ok) continue;
    const { size, root } = seal.checkpoint;
    const { checkpoint } = old;
    const last = epoch === seals.length - 1;
    if (last && checkpoint.size === size && equalBytes(checkpoint.root, root)) return { checkpoint, stale: true };
    const why = `the checkpoint covers ${checkpoint.size} records and is of epoch ${epoch}, which ended with ${size}`;
    return { stale: false, flaw: bad('rolled-back', checkpoint.size, checkpoint.size, why) };
  }
  const foreign = !parseNote(note).signatures.some(({ name, id }) => name === key.name && id === key.id);
  const why = `the checkpoint does not verify: ${head.reason}`;
  return { stale: false, flaw: bad(foreign ? 'resealed' : 'malformed', 0, 0, why) };
}

/** A record that announces a key. */
interface Announced {
  readonly index: number;
  readonly key: NoteVerifier;
}

/** Whether each epoch ended where a record announces the next key, and nowhere else. */
function judgeSeals(
  { keys, seals: ended }: Epochs,
  announced: readonly Announced[],
  signed: number,
  sealFlaw: number | undefined,
): Bad | undefined {
  const seals = ended.map(seal => seal.checkpoint);
  if (sealFlaw !== undefined) {
    const from = seals[sealFlaw - 1]?.size ?? 0;
    const through = seals[sealFlaw]!.size - 1;
    const what = `a record from ${from} to ${through} is not the one under the seal of its epoch`;
    return bad('resealed', from, through, what);
  }
  for (const { index, key } of announced) {
    const epoch = seals.findIndex(({ size }) => size === index + 1);
    // The last record may announce a key whose epoch has not begun.
    const holds = epoch < 0 ? index + 1 === signed : sameKey(key, keys[epoch + 1]!);
    if (!holds) return unsealed(seals, index);
  }
  return undefined;
}

function unsealed(seals: readonly Checkpoint[], index: number): Bad {
  const from = seals.findLast(({ size }) => size <= index)?.size ?? 0;
  return bad(
    'resealed',
    from,
    index,
    `record ${index} announces a key, and there is no seal of the epoch that it ends`,
  );
}

/** A segment is damaged at a record that a checkpoint or anchor covers, or in a way that no crash leaves. */
function judgeStop({ index, short }: TailRead & { kind: 'damaged' }, vouched: number): Bad {
  return short
    ? bad('truncated', index, index, `a segment ends within record ${index}, ${vouched} are vouched for`)
    : bad('changed', index, index, `the bytes of record ${index} are damaged: its checksum fails`);
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
