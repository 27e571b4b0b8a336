/**
 * Starting a log: making one, or checking what is on disk and completing what a crash interrupted.
 * @module
 */
import { equalBytes, toHex } from '../../src/base/bytes.ts';
import { CloisterError, isCloisterError } from '../../src/base/errors.ts';
import { osRandom } from '../../src/base/random.ts';
import type { CheckpointVerdict } from './checkpoint.ts';
import { formatCosigner } from './cosignature.ts';
import { type LogDirectory, type LogFile, TEMPORARY_DIRECTORY } from './directory.ts';
import { announcedIn, type Epochs, firstKey, followKeys, keyFile, SEAL_DIRECTORY, sealFile } from './epochs.ts';
import { createSigner, loadSigner, publish } from './keys.ts';
import { assertLayout, CHECKPOINT_FILE, headOf, UNSIGNED_LIMIT } from './layout.ts';
import { compactRange, EMPTY_ROOT, TreeBuilder } from './merkle.ts';
import { nodeHasher } from './node-crypto.ts';
import { formatVkey, NOTE_LIMIT_BYTES, parseVkey, sameKey } from './note.ts';
import { type AuditEvent, decodeRecord } from './record.ts';
import {
  type EpochKey,
  type EpochSigner,
  loadSecond,
  newSecond,
  publishSecond,
  secondDigest,
  secondKeyFile,
  secondVkeyFile,
  signStored,
  storeSecond,
  verifyStoredCheckpoint,
} from './second-key.ts';
import { readTail } from './tail.ts';
import { partialWidths, TileReader, TileWriter } from './tile-store.ts';
import { TILE_WIDTH, type TileLevel, tilePath, tilesAt } from './tiles.ts';
import { seqOf } from './verdict.ts';
import { verifyDirectory } from './verify-directory.ts';
import {
  closeSegments,
  HEADER_BYTES,
  openSegments,
  segmentHeader,
  segmentName,
  WAL_DIRECTORY,
  type WalSegment,
} from './wal.ts';

/** A log whose files have been checked, all of its records under the stored checkpoint, and an empty segment behind them. */
export interface Started {
  readonly directory: LogDirectory;
  /** Keys of the epochs so far; `signer` has the last. */
  readonly keys: readonly EpochKey[];
  readonly signer: EpochSigner;
  readonly builder: TreeBuilder;
  readonly tiles: TileWriter;
  readonly segment: LogFile;
  readonly cutBytes: number;
  /** What to undo to let go, last first. */
  readonly release: (() => void)[];
}

type Anchor = { readonly size: number; readonly root: Uint8Array };

/**
 * Checks the log in a locked directory, or makes one, and completes what a crash left: see `openLog`.
 *
 * @param release - Gets what is to be undone when the log is let go.
 */
export async function startLog(
  directory: LogDirectory,
  {
    origin,
    secondSignature,
  }: { readonly origin?: string | undefined; readonly secondSignature?: 'ml-dsa-44' | undefined },
  anchor: Anchor | undefined,
  release: (() => void)[],
): Promise<Started> {
  assertLayout(directory);
  if (directory.read(CHECKPOINT_FILE, 1) === undefined)
    await make(directory, origin, secondSignature !== undefined, anchor);
  const first = firstKey(directory);
  if (origin !== undefined && origin !== first.name) {
    throw new CloisterError('INVALID_ARGUMENT', `the log in ${directory.path} is ${first.name}, not ${origin}`);
  }
  if (secondSignature !== undefined && first.second === undefined) {
    const message = `the log in ${directory.path} was made without a second key; continueLog can give one to the log after it`;
    throw new CloisterError('INVALID_ARGUMENT', message);
  }
  const vkey = formatVkey(first.name, first.publicKey);
  // Only a whole reading can tell what is wrong, so whenever something is, that decides.
  const explain = async (fallback: string): Promise<CloisterError> => {
    const verdict = await verifyDirectory(directory, { vkey, anchor: anchor && headOf(anchor.size, anchor.root) });
    return verdict.ok
      ? invalid(directory, 'malformed', 0, fallback)
      : invalid(directory, verdict.kind, verdict.index, verdict.message);
  };
  const segments = openSegments(directory);
  try {
    const epochs = attempt(() => followKeys(directory, first));
    if (epochs === undefined) throw await explain('its seals do not hold');
    const signed = verifyStored(directory, epochs);
    if (!signed.ok) throw await explain('its files do not fit together');
    const { size: signedSize, root } = signed.checkpoint;
    let resumed = resume(directory, signedSize, root);
    if (resumed === undefined) {
      if (!(await verifyDirectory(directory, { vkey }, false)).ok)
        throw await explain('its records do not lead to the signed root');
      await rebuildTiles(directory, signedSize); // the records hold, so the hash tiles do not
      resumed = resume(directory, signedSize, root);
      if (resumed === undefined) throw await explain('its tiles cannot be rebuilt');
    }
    const { builder, tiles } = resumed;
    const tail = grow(directory, segments, signedSize, first.name, resumed, anchor);
    if (tail.problem !== undefined) throw await explain(tail.problem);
    const epoch = epochs.keys.length - 1;
    const signer = loadSigner(directory, keyFile(epoch));
    if (signer === undefined || signer.vkey !== formatVkey(first.name, epochs.keys[epoch]!.publicKey)) {
      const why = `its signing key (${keyFile(epoch)}) is ${signer === undefined ? 'gone' : 'another one'}`;
      throw invalid(directory, 'malformed', 0, `${why}. Put the file back, or start a log elsewhere`);
    }
    const second = loadSecond(directory, epoch);
    const { second: wanted } = epochs.keys[epoch]!;
    if (second?.vkey !== (wanted && formatCosigner(wanted.name, wanted.type, wanted.publicKey))) {
      const why = `its second signing key (${secondKeyFile(epoch)}) and the published one (${secondVkeyFile(epoch)}) do not fit together`;
      throw invalid(directory, 'malformed', 0, `${why}. Put the files back, or start a log elsewhere`);
    }
    const now: EpochSigner = { ...signer, second };
    const said = tail.last && announcedIn(tail.last, first.name);
    const announced = said && sameKey(said, epochs.keys[epoch]!) ? undefined : said; // of an epoch that has begun
    // One that was not announced may be half erased.
    const nextSigner = announced && loadSigner(directory, keyFile(epoch + 1));
    if (announced !== undefined && nextSigner?.vkey !== formatVkey(announced.name, announced.publicKey)) {
      const why = `the key that its last record announces (${keyFile(epoch + 1)}) is not there`;
      throw invalid(directory, 'malformed', builder.size - 1, `${why}. Put the file back, or start a log elsewhere`);
    }

    const nextSecond = announced && wanted && loadSecond(directory, epoch + 1);
    if (announced !== undefined && (nextSecond && secondDigest(nextSecond.vkey)) !== announced.secondDigest) {
      const why = `the second key that its last record announces (${secondKeyFile(epoch + 1)}) is not there`;
      throw invalid(directory, 'malformed', builder.size - 1, `${why}. Put the file back, or start a log elsewhere`);
    }

    // Everything has been checked; from here on the disk is written to.
    if (epoch > 0) erasePrivate(directory, epoch - 1); // left by a crash while the key was changed
    if (announced === undefined) erasePrivate(directory, epoch + 1); // left by a crash before it was announced
    const { size } = builder;
    if (size > signedSize || signed.stale) {
      await directory.writeAll(tiles.files());
      const note = signStored(size, builder.root(), now);
      await directory.replace(CHECKPOINT_FILE, Buffer.from(note), 0o644);
      tiles.settle();
    }
    const next = nextSigner && { ...nextSigner, second: nextSecond };
    if (announced !== undefined && next !== undefined) {
      const seal = signStored(size, builder.root(), now);
      await changeKey(directory, epoch, seal, next, size, builder.root());
    }
    directory.remove(leftovers(directory, signedSize, size));
    const after = continuedIn(tail.last);
    if (after !== undefined) {
      const message = `the audit log in ${directory.path} was closed for good; ${after.split('+')[0]} continues it`;
      throw new CloisterError('CLOSED', message);
    }
    const segment = await freshSegment(directory, segments, first.name, size);
    return {
      directory,
      keys: announced === undefined ? epochs.keys : [...epochs.keys, announced],
      signer: next ?? now,
      builder,
      tiles,
      segment,
      cutBytes: tail.cutBytes,
      release,
    };
  } finally {
    closeSegments(segments);
  }
}

/**
 * Ends an epoch whose last record announces the next key and is under the stored checkpoint. After each step a start can tell what is
 * left to do.
 *
 * @param seal - Checkpoint over those records by the old key.
 */
export async function changeKey(
  directory: LogDirectory,
  epoch: number,
  seal: string,
  next: EpochSigner,
  size: number,
  root: Uint8Array,
): Promise<void> {
  await directory.replace(sealFile(epoch), Buffer.from(seal), 0o644);
  erasePrivate(directory, epoch);
  await directory.replace(CHECKPOINT_FILE, Buffer.from(signStored(size, root, next)), 0o644);
}

function erasePrivate(directory: LogDirectory, epoch: number): void {
  directory.erase(keyFile(epoch));
  directory.erase(secondKeyFile(epoch));
}

/** The event that ends a log for good, for another one with key `vkey`. */
export function continuation(vkey: string): AuditEvent {
  return { actor: 'log', action: 'close', object: { kind: 'log', id: vkey }, decision: { outcome: 'allow' } };
}

/** The key of the log that continues one whose last record is `leaf`; undefined when none does. */
export function continuedIn(leaf: Uint8Array | undefined): string | undefined {
  if (leaf === undefined) return undefined;
  try {
    const { action, object } = decodeRecord(leaf);
    return action === 'close' && object.kind === 'log' ? formatKey(object.id) : undefined;
  } catch (error) {
    if (isCloisterError(error)) return undefined;
    throw error;
  }
}

function formatKey(text: string): string {
  const { name, publicKey } = parseVkey(text);
  return formatVkey(name, publicKey);
}

/** Makes the segment that begins with record `first`, empty, and opens it. */
export async function createSegment(directory: LogDirectory, origin: string, first: number): Promise<LogFile> {
  await directory.writeAll([{ name: segmentName(first), bytes: segmentHeader(origin, first) }]);
  const segment = directory.openAppend(segmentName(first));
  if (segment === undefined) throw new CloisterError('STORE_FAILED', `${segmentName(first)} is gone`);
  return segment;
}

/**
 * The stored checkpoint. A crash while the key was changed leaves that of the old key, over exactly the records under its seal: such a
 * one is `stale`.
 */
function verifyStored(directory: LogDirectory, { keys, seals }: Epochs): CheckpointVerdict & { stale: boolean } {
  const note = directory.read(CHECKPOINT_FILE, NOTE_LIMIT_BYTES + 1) ?? new Uint8Array(0);
  const now = verifyStoredCheckpoint(note, keys.at(-1)!);
  const seal = seals.at(-1);
  if (now.ok || seal === undefined) return { ...now, stale: false };
  const old = verifyStoredCheckpoint(note, seal.key);
  const same =
    old.ok && old.checkpoint.size === seal.checkpoint.size && equalBytes(old.checkpoint.root, seal.checkpoint.root);
  return same ? { ...old, stale: true } : { ...now, stale: false };
}

/** The tree and the tiles at the signed size; undefined when the tiles do not lead to the signed root. */
function resume(
  directory: LogDirectory,
  size: number,
  root: Uint8Array,
): { readonly builder: TreeBuilder; readonly tiles: TileWriter; readonly reader: TileReader } | undefined {
  return attempt(() => {
    const reader = new TileReader(directory, size);
    const range = compactRange(size).map(({ level, index }) => reader.node(level, index));
    const builder = new TreeBuilder(nodeHasher, size, range);
    if (!equalBytes(builder.root(), root)) return undefined;
    const tiles = new TileWriter(reader);
    // The records of the last bundle are written again when it grows.
    const last = Math.floor((size - 1) / TILE_WIDTH);
    const records = size === 0 ? [] : reader.records(last);
    const hold = records.every((record, i) =>
      equalBytes(nodeHasher.leaf(record), reader.node(0, last * TILE_WIDTH + i)),
    );
    return hold ? { builder, tiles, reader } : undefined;
  });
}

/** Writes the hash tiles anew from the bundles, whose records have been verified. */
async function rebuildTiles(directory: LogDirectory, size: number): Promise<void> {
  const reader = new TileReader(directory, size);
  const writer = new TileWriter(new TileReader(directory, 0));
  const builder = new TreeBuilder(nodeHasher);
  while (builder.size < size) {
    for (const record of reader.records(Math.floor(builder.size / TILE_WIDTH))) {
      const leafHash = nodeHasher.leaf(record);
      writer.add(record, leafHash, builder.append(leafHash));
    }
    if (writer.waiting < REBUILT_RECORDS && builder.size < size) continue;
    await directory.writeAll(writer.files().filter(({ name }) => !name.startsWith('tile/entries/')));
    directory.remove(writer.settle().filter(name => !name.startsWith('tile/entries/')));
  }
}

/** Adds the records behind the checkpoint to the tree. `problem` says in short why the log cannot be started. */
function grow(
  directory: LogDirectory,
  segments: readonly WalSegment[],
  signedSize: number,
  origin: string,
  { builder, tiles, reader }: NonNullable<ReturnType<typeof resume>>,
  anchor: Anchor | undefined,
): { readonly problem?: string; readonly cutBytes: number; readonly last?: Uint8Array | undefined } {
  let last: Uint8Array | undefined;
  let cutBytes = 0;
  const hasAnchor = (): boolean => anchor === undefined || equalBytes(builder.root(), anchor.root);
  let anchored = anchor === undefined || anchor.size < signedSize;
  if (anchor?.size === signedSize) anchored = hasAnchor();
  else if (anchor !== undefined && anchored) anchored = hasRootAt(reader, anchor);
  for (const read of readTail(directory, segments, signedSize, origin)) {
    const { index } = read;
    if (read.kind === 'damaged' && read.torn) {
      cutBytes = read.bytes;
    } else if (read.kind !== 'record') {
      return { problem: `record ${index} is damaged`, cutBytes };
    } else if (index < signedSize) {
      if (!equalBytes(nodeHasher.leaf(read.record), reader.node(0, index)))
        return { problem: `record ${index} differs`, cutBytes };
    } else {
      if (index !== builder.size || seqOf(read.record) !== index)
        return { problem: `record ${builder.size} has another number`, cutBytes };
      last = read.record.slice();
      const leafHash = nodeHasher.leaf(last);
      tiles.add(last, leafHash, builder.append(leafHash));
      if (builder.size === anchor?.size) anchored = hasAnchor();
    }
  }
  if (builder.size - signedSize > UNSIGNED_LIMIT)
    return { problem: 'its checkpoint is older than a writer leaves it', cutBytes };
  if (!anchored) return { problem: 'it does not extend the anchor', cutBytes };
  if (last === undefined && signedSize > 0) last = reader.leaf(signedSize - 1);
  return { cutBytes, last };
}

function hasRootAt(reader: TileReader, { size, root }: Anchor): boolean {
  const range = compactRange(size).map(({ level, index }) => reader.node(level, index));
  return equalBytes(new TreeBuilder(nodeHasher, size, range).root(), root);
}

/** Makes a log, or finishes one that a crash interrupted in the making: no record was accepted before its first checkpoint. */
async function make(
  directory: LogDirectory,
  origin: string | undefined,
  wanted: boolean,
  anchor: Anchor | undefined,
): Promise<void> {
  if (anchor !== undefined && anchor.size > 0) {
    throw invalid(
      directory,
      'rolled-back',
      0,
      `there is no log, and its anchor covers ${anchor.size} records. Put the log back`,
    );
  }
  if (['tile', WAL_DIRECTORY, SEAL_DIRECTORY].some(name => directory.list(name).length > 0))
    throw invalid(directory, 'malformed', 0, 'there are records and no checkpoint. Put the checkpoint back');
  const random = new Uint8Array(8);
  osRandom.fill(random);
  const stored = loadSigner(directory, keyFile(0));
  const name = stored?.name ?? origin ?? `cloister/${toHex(random)}`;
  let second = loadSecond(directory, 0);
  const made = wanted && second === undefined ? newSecond(name) : undefined; // before anything is stored: it may refuse the name
  const signer = stored ?? createSigner(directory, keyFile(0), name);
  if (made !== undefined) second = await storeSecond(directory, 0, made);
  else if (second !== undefined) await publishSecond(directory, 0, second);
  publish(directory, signer);
  await directory.replace(CHECKPOINT_FILE, Buffer.from(signStored(0, EMPTY_ROOT, { ...signer, second })), 0o644);
}

/** The empty segment behind `size` records, the only one from now on. */
async function freshSegment(
  directory: LogDirectory,
  segments: readonly WalSegment[],
  origin: string,
  size: number,
): Promise<LogFile> {
  const name = segmentName(size);
  const there = segments.find(segment => segment.name === name);
  const usable = there?.file.size() === HEADER_BYTES ? directory.openAppend(name) : undefined;
  const segment = usable ?? (await createSegment(directory, origin, size));
  directory.remove(segments.map(old => old.name).filter(old => old !== name));
  return segment;
}

/** Files that a crash left: partial tiles of a checkpoint that was not written, or that one has replaced, and what never got a name. */
function leftovers(directory: LogDirectory, signedSize: number, size: number): string[] {
  const names = directory.list(TEMPORARY_DIRECTORY).map(name => `${TEMPORARY_DIRECTORY}/${name}`);
  const levels: TileLevel[] = ['entries'];
  for (let level = 0; TILE_WIDTH ** level <= size; level++) levels.push(level);
  for (const level of levels) {
    const { full, partial } = tilesAt(level, size);
    for (let index = tilesAt(level, signedSize).full; index <= full; index++) {
      const kept = index === full ? partial : 0;
      for (const width of partialWidths(directory, level, index)) {
        if (width !== kept) names.push(tilePath(level, index, width));
      }
    }
  }
  return names;
}

/** What `body` returns; undefined where a file is not what it should be. */
function attempt<T>(body: () => T): T | undefined {
  try {
    return body();
  } catch (error) {
    if (isCloisterError(error, 'AUDIT_INVALID')) return undefined;
    throw error;
  }
}

function invalid(directory: LogDirectory, kind: string, index: number, why: string): CloisterError {
  return new CloisterError('AUDIT_INVALID', `the audit log in ${directory.path} does not verify (${kind}): ${why}`, {
    kind,
    index,
  });
}

const REBUILT_RECORDS = 16_384;
