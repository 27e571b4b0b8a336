/**
 * The log itself: appending, receipts, checkpoints, and starting again after a crash.
 * @module
 */
import { equalBytes, toHex } from '../../src/base/bytes.ts';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { CloisterError, isCloisterError } from '../../src/base/errors.ts';
import { osRandom } from '../../src/base/random.ts';
import * as z from '../../src/base/zod.ts';
import { signCheckpoint, verifyCheckpoint } from './checkpoint.ts';
import { type LogDirectory, type LogFile, nodeDirectory } from './directory.ts';
import { createLogKey, type LogSigner, loadLogKey } from './keys.ts';
import {
  CHECKPOINT_FILE,
  type Head,
  headOf,
  LOCK_FILE,
  parseHead,
  RECORDS_FILE,
  TREE_FILE,
  UNSIGNED_LIMIT,
} from './layout.ts';
import {
  compactRange,
  consistencyProof,
  EMPTY_ROOT,
  inclusionProof,
  type NodeReader,
  rootAt,
  TreeBuilder,
} from './merkle.ts';
import { nodeEd25519, nodeHasher } from './node-crypto.ts';
import { NOTE_LIMIT_BYTES, parseVkey } from './note.ts';
import { type RecordQuery, readDirectory } from './read.ts';
import { type AuditEvent, type AuditRecord, encodeRecord } from './record.ts';
import {
  FRAME_BYTES,
  FrameReader,
  GROUP_LIMIT_BYTES,
  GROUP_LIMIT_RECORDS,
  HEADER_BYTES,
  isTornTail,
  segmentHeader,
  writeFrame,
} from './segment.ts';
import { nodePosition, readFrameEnd, readNode, treeBytes, treeEntry } from './tree-file.ts';
import type { Receipt } from './verify.ts';
import { seqOf, verifyDirectory } from './verify-directory.ts';

/** Options of {@link openLog}. */
export interface LogOptions {
  /**
   * Name of the log and of its key, a URL without scheme as a rule (`example.com/audit`). A new log without one gets a random
   * name; for an existing log it must be the name that it has.
   */
  readonly origin?: string | undefined;
  /** The head that the log must extend, kept elsewhere: see {@link Head}. */
  readonly anchor?: Head | undefined;
  /** Where record times come from. */
  readonly clock?: Clock | undefined;
  /** Write a checkpoint after this many records, 1 to 2,048; 256 by default. */
  readonly checkpointEvery?: number | undefined;
  /** Write a checkpoint this many milliseconds after the first record without one; 1,000 by default. */
  readonly checkpointMs?: number | undefined;
}

const optionsSchema = z.strictObject({
  origin: z.string().optional(),
  anchor: z.strictObject({ size: z.number(), root: z.string() }).optional(),
  clock: z
    .custom<Clock>(value => typeof (value as Clock | undefined)?.now === 'function', 'expected a clock')
    .default(systemClock),
  checkpointEvery: z.number().int().min(1).max(2048).default(256),
  checkpointMs: z.number().int().min(1).max(3_600_000).default(1000),
});

/**
 * Opens the log in `dir`, or makes one with a new key, and takes it for this process alone.
 *
 * Starting is quick: it checks the signed checkpoint, the tree up to it, and every record after it. It does not read the older
 * records; `verifyLog` does. A write that a crash interrupted is cut off the end, when nobody can have been told that it was
 * durable; anything else that is wrong stops the start, and nothing is changed on disk.
 *
 * @param dir - Its directory; made (mode 0700) when it does not exist.
 * @throws {CloisterError} `LOCKED` when it is open already; `AUDIT_INVALID` when it does not verify or does not extend the
 *   anchor, with `detail.kind` and `detail.index` as in `LogVerdict`; `STORE_FAILED`; `INVALID_ARGUMENT` on bad options.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit', { origin: 'clinic.example/audit' });
 * const receipt = await log.append({
 *   actor: 'ward-3',
 *   action: 'run',
 *   object: { kind: 'session', id: 'triage' },
 *   decision: { outcome: 'allow' },
 * });
 * verifyReceipt(receipt, log.vkey); // { ok: true, … }
 * ```
 */
export async function openLog(dir: string, options: LogOptions = {}): Promise<AuditLog> {
  return openDirectory(nodeDirectory(dir, true), options);
}

/** {@link openLog} behind the directory seam. */
export async function openDirectory(directory: LogDirectory, options: LogOptions = {}): Promise<AuditLog> {
  const checked = optionsSchema.safeParse(options);
  if (!checked.success) throw new CloisterError('INVALID_ARGUMENT', `log options: ${z.prettifyError(checked.error)}`);
  const { anchor, ...settings } = checked.data;
  const anchored = anchor === undefined ? undefined : parseHead(anchor);
  const release = [directory.lock(LOCK_FILE)];
  try {
    return new AuditLog(await start(directory, settings, anchored, release));
  } catch (error) {
    for (const undo of release.reverse()) undo();
    throw error;
  }
}

interface Settings {
  readonly origin?: string | undefined;
  readonly clock: Clock;
  readonly checkpointEvery: number;
  readonly checkpointMs: number;
}

/** A log whose files have been checked. */
interface Started {
  readonly directory: LogDirectory;
  readonly settings: Settings;
  readonly signer: LogSigner;
  readonly segment: LogFile;
  readonly tree: LogFile;
  readonly builder: TreeBuilder;
  readonly signedSize: number;
  /** Entries of the tree file after `signedSize`. */
  readonly pending: Uint8Array[];
  /** Nodes that are not in the tree file yet, by their place there. */
  readonly nodes: Map<number, Uint8Array>;
  readonly end: number;
  readonly cutBytes: number;
  /** What to undo to let go, last first. */
  readonly release: (() => void)[];
}

interface Waiting {
  readonly record: AuditRecord;
  readonly leaf: Uint8Array;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: unknown) => void;
}

/** A wish for a checkpoint that covers the first `size` records. */
interface Asked {
  readonly size: number;
  readonly resolve: (note: string) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * An open log. Records go to disk in groups: those that are appended while a group is being written form the next one, and
 * share its write and its fdatasync.
 *
 * The first failure of the medium closes the log to further records (`STORE_FAILED`): what is on disk is then unknown, and
 * opening it anew finds out. So when `append` throws, act as if nothing may be released.
 */
export class AuditLog {
  /** Name of the log. */
  readonly origin: string;
  /** Public key, for those who verify. */
  readonly vkey: string;
  /** Bytes of an interrupted write that the start cut off; 0 after a clean end. */
  readonly cutBytes: number;
  readonly #started: Started;
  readonly #builder: TreeBuilder;
  readonly #waiting: Waiting[] = [];
  readonly #asked: Asked[] = [];
  #pending: Uint8Array[];
  #nodes: Map<number, Uint8Array>;
  #nextSeq: number;
  #end: number;
  #signedSize: number;
  #size: number; // durable records
  #head: Head;
  #note: string;
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failure: CloisterError | undefined;
  #closing: Promise<void> | undefined;

  /** @internal Call {@link openLog}. */
  constructor(started: Started) {
    const root = started.builder.root();
    this.#started = started;
    this.#builder = started.builder;
    this.origin = started.signer.name;
    this.vkey = started.signer.vkey;
    this.cutBytes = started.cutBytes;
    this.#pending = started.pending;
    this.#nodes = started.nodes;
    this.#size = started.builder.size;
    this.#nextSeq = this.#size;
    this.#end = started.end;
    this.#signedSize = started.signedSize;
    this.#head = headOf(this.#size, root);
    this.#note = signCheckpoint(this.#size, root, started.signer);
  }

  /** The head over all durable records: what to store as an anchor, in the transaction of the next charge. */
  head(): Head {
    return this.#head;
  }

  /**
   * Appends a record. When the promise resolves the record is durable, and the receipt proves its place under a signed tree
   * head. Order is the order of calls.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when the event does not fit its schema or is too large (the log goes on);
   *   `STORE_FAILED` when it could not be made durable (the log stops); `CLOSED`.
   */
  async append(event: AuditEvent): Promise<Receipt> {
    this.assertOpen();
    const record: AuditRecord = {
      ...event,
      v: 1,
      seq: this.#nextSeq,
      time: Math.trunc(this.#started.settings.clock.now()),
    };
    const leaf = encodeRecord(record);
    this.#nextSeq++;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ record, leaf, resolve, reject });
      this.#kick();
    });
  }

  /**
   * Writes the signed checkpoint over all records appended so far and returns it: a note in the form of C2SP tlog-checkpoint.
   *
   * @throws {CloisterError} `STORE_FAILED`; `CLOSED`.
   */
  async checkpoint(): Promise<string> {
    this.assertOpen();
    return new Promise((resolve, reject) => {
      this.#asked.push({ size: this.#nextSeq, resolve, reject });
      this.#kick();
    });
  }

  /**
   * Returns a receipt for a record that is in the log already, under the current head. It holds the record's hash, not the
   * record.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` unless `0 <= index < head().size`; `CLOSED`.
   */
  receipt(index: number): Receipt {
    this.assertOpen();
    const proof = inclusionProof(index, this.#size, this.#node, nodeHasher);
    return receiptOf(this.origin, index, this.#node(0, index), undefined, proof, this.#note);
  }

  /**
   * Proves that the log extends what it was at `size` records; see `verifyExtension`.
   *
   * @param size - Size of an earlier checkpoint, at least 1.
   * @throws {CloisterError} `INVALID_ARGUMENT` unless `1 <= size <= head().size`; `CLOSED`.
   */
  extension(size: number): { readonly checkpoint: string; readonly proof: readonly string[] } {
    this.assertOpen();
    return { checkpoint: this.#note, proof: consistencyProof(size, this.#size, this.#node, nodeHasher).map(base64) };
  }

  /** Reads records back, see `readRecords`. */
  records(query: RecordQuery = {}): AsyncGenerator<AuditRecord, void, undefined> {
    return readDirectory(this.#started.directory, query);
  }

  /**
   * Makes the waiting records durable, writes a last checkpoint, and lets go of the directory.
   *
   * @throws {CloisterError} `STORE_FAILED` when that fails; the directory is let go even so.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      await this.#running;
      if (this.#failure === undefined) await this.#persist();
    } finally {
      for (const undo of this.#started.release.reverse()) undo();
    }
  }

  /**
   * Throws what {@link append} would throw at once: for what must not be done when no record of it can be made.
   *
   * @throws {CloisterError} `STORE_FAILED` when the log has stopped; `CLOSED`.
   */
  assertOpen(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing !== undefined) throw new CloisterError('CLOSED', 'the audit log is closed');
  }

  #kick(): void {
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    await undefined; // what is appended in this turn joins the first group
    try {
      while (this.#waiting.length > 0 || this.#asked.length > 0) {
        if (this.#waiting.length > 0) await this.#commit(this.#takeGroup());
        const due = this.#asked.length > 0 && this.#asked[0]!.size <= this.#size;
        if (due || this.#size - this.#signedSize >= this.#started.settings.checkpointEvery) await this.#persist();
        while (this.#asked.length > 0 && this.#asked[0]!.size <= this.#size) this.#asked.shift()!.resolve(this.#note);
      }
    } catch (error) {
      this.#fail(error, []);
    } finally {
      this.#running = undefined;
    }
    if (this.#size > this.#signedSize && this.#failure === undefined && this.#closing === undefined) {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        if (this.#failure === undefined && this.#closing === undefined) this.checkpoint().catch(() => undefined); // kept in #failure
      }, this.#started.settings.checkpointMs).unref();
    }
  }

  #takeGroup(): Waiting[] {
    let count = 0;
    for (let bytes = 0; count < this.#waiting.length && count < GROUP_LIMIT_RECORDS; count++) {
      bytes += FRAME_BYTES + this.#waiting[count]!.leaf.length;
      if (bytes > GROUP_LIMIT_BYTES) break;
    }
    return this.#waiting.splice(0, count);
  }

  async #commit(group: readonly Waiting[]): Promise<void> {
    const { segment, signer } = this.#started;
    try {
      if (segment.size() !== this.#end) {
        throw new CloisterError(
          'STORE_FAILED',
          `the segment has ${segment.size()} bytes, not ${this.#end}: somebody else has written to it`,
        );
      }
      const frames = new Uint8Array(group.reduce((sum, { leaf }) => sum + FRAME_BYTES + leaf.length, 0));
      let at = 0;
      const ends = group.map(({ leaf }, place) => {
        at = writeFrame(leaf, place, frames, at);
        return this.#end + at;
      });
      await segment.append(frames);
      const durable = segment.sync();
      durable.catch(() => undefined); // awaited below
      // While the disk works: hash, sign, prove. Nothing of it is handed out before the records are durable.
      const first = this.#builder.size;
      group.forEach(({ leaf }, i) => {
        grow(this.#builder, nodeHasher.leaf(leaf), ends[i]!, this.#pending, this.#nodes);
      });
      const size = this.#builder.size;
      const root = this.#builder.root();
      const note = signCheckpoint(size, root, signer);
      const spine = new Map<number, Uint8Array>();
      const receipts = group.map(({ record }, i) => {
        const proof = inclusionProof(first + i, size, this.#node, nodeHasher, spine);
        return receiptOf(this.origin, first + i, this.#node(0, first + i), record, proof, note);
      });
      await durable;
      this.#end += frames.length;
      this.#size = size;
      this.#head = headOf(size, root);
      this.#note = note;
      group.forEach(({ resolve }, i) => {
        resolve(receipts[i]!);
      });
    } catch (error) {
      this.#fail(error, group);
    }
  }

  /** Brings the tree file and the stored checkpoint up to the durable records. */
  async #persist(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#size === this.#signedSize) return;
    const { tree, directory } = this.#started;
    await tree.append(Buffer.concat(this.#pending));
    await tree.sync();
    await directory.replace(CHECKPOINT_FILE, Buffer.from(this.#note), 0o644);
    this.#signedSize = this.#size;
    this.#pending = [];
    this.#nodes = new Map(
      compactRange(this.#size).map(({ level, index }) => [nodePosition(level, index), this.#node(level, index)]),
    );
  }

  #fail(cause: unknown, affected: readonly { reject: (error: unknown) => void }[]): void {
    this.#failure ??= new CloisterError(
      'STORE_FAILED',
      `the audit log stopped after ${this.#size} records: ${(cause as Error).message}. Mend the cause, then open it again`,
      isCloisterError(cause) ? cause.detail : {},
      { cause },
    );
    for (const { reject } of [...affected, ...this.#waiting.splice(0), ...this.#asked.splice(0)]) reject(this.#failure);
  }

  readonly #node: NodeReader = (level, index) =>
    this.#nodes.get(nodePosition(level, index)) ?? readNode(this.#started.tree, level, index);
}

async function start(
  directory: LogDirectory,
  settings: Settings,
  anchor: { size: number; root: Uint8Array } | undefined,
  release: (() => void)[],
): Promise<Started> {
  let signer = loadLogKey(directory);
  if (directory.read(CHECKPOINT_FILE, 1) === undefined) signer = await make(directory, signer, settings.origin, anchor);
  if (signer === undefined)
    throw invalid(directory, 'malformed', 0, 'its signing key is gone. Put the file back, or start a log elsewhere');
  if (settings.origin !== undefined && settings.origin !== signer.name) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `the log in ${directory.path} is ${signer.name}, not ${settings.origin}`,
    );
  }
  const { vkey } = signer;
  // Only a whole reading can tell what is wrong, so whenever something is, that decides.
  const explain = async (fallback: string): Promise<CloisterError> => {
    const verdict = await verifyDirectory(directory, { vkey, anchor: anchor && headOf(anchor.size, anchor.root) });
    return verdict.ok
      ? invalid(directory, 'malformed', 0, fallback)
      : invalid(directory, verdict.kind, verdict.index, verdict.message);
  };
  const note = directory.read(CHECKPOINT_FILE, NOTE_LIMIT_BYTES + 1) ?? new Uint8Array(0);
  const signed = verifyCheckpoint(note, parseVkey(vkey), nodeEd25519);
  const header = directory.read(RECORDS_FILE, HEADER_BYTES);
  if (!signed.ok || header === undefined || !equalBytes(header, segmentHeader(signer.name)))
    throw await explain('its files do not fit together');
  const segment = directory.openAppend(RECORDS_FILE);
  release.push(() => segment.close());
  const tree = directory.openAppend(TREE_FILE);
  release.push(() => tree.close());

  const { size: signedSize, root } = signed.checkpoint;
  let resumed = resume(segment, tree, signedSize, root);
  if (resumed === undefined) {
    if (!(await verifyDirectory(directory, { vkey }, false)).ok)
      throw await explain('its records do not lead to the signed root');
    await rebuildTree(segment, tree, signedSize); // the records hold, so the tree file does not
    resumed = resume(segment, tree, signedSize, root);
    if (resumed === undefined) throw await explain('its tree file cannot be rebuilt');
  }
  const { builder } = resumed;
  let { end } = resumed;
  const pending: Uint8Array[] = [];
  const nodes = new Map<number, Uint8Array>();
  const reader = new FrameReader(segment, end);
  let frame = reader.next();
  for (; frame.kind === 'frame'; frame = reader.next()) {
    if (seqOf(frame.record) !== builder.size) throw await explain(`record ${builder.size} has another number`);
    grow(builder, nodeHasher.leaf(frame.record), frame.end, pending, nodes);
    end = frame.end;
  }
  const node: NodeReader = (level, index) => nodes.get(nodePosition(level, index)) ?? readNode(tree, level, index);
  const torn = frame.kind === 'bad';
  if (torn && !isTornTail(segment, end)) throw await explain(`record ${builder.size} is damaged`);
  if (builder.size - signedSize > UNSIGNED_LIMIT)
    throw await explain('its checkpoint is older than a writer leaves it');
  if (
    anchor !== undefined &&
    (builder.size < anchor.size || !equalBytes(rootAt(anchor.size, node, nodeHasher), anchor.root))
  ) {
    throw await explain('it does not extend the anchor');
  }

  // Everything has been checked; from here on the disk is written to.
  const cutBytes = torn ? segment.size() - end : 0;
  if (torn) segment.truncate(end);
  await segment.sync(); // records that a dead writer left in the page cache count from now on
  if (tree.size() !== treeBytes(signedSize)) tree.truncate(treeBytes(signedSize));
  let stored = signedSize;
  if (builder.size > signedSize) {
    await tree.append(Buffer.concat(pending.splice(0)));
    await tree.sync();
    await directory.replace(CHECKPOINT_FILE, Buffer.from(signCheckpoint(builder.size, builder.root(), signer)), 0o644);
    stored = builder.size;
    nodes.clear();
  }
  return {
    directory,
    settings,
    signer,
    segment,
    tree,
    builder,
    signedSize: stored,
    pending,
    nodes,
    end,
    cutBytes,
    release,
  };
}

/** Makes a log, or finishes one that a crash interrupted in the making: no record was accepted before its first checkpoint. */
async function make(
  directory: LogDirectory,
  existing: LogSigner | undefined,
  origin: string | undefined,
  anchor: { size: number } | undefined,
): Promise<LogSigner> {
  if (anchor !== undefined && anchor.size > 0) {
    throw invalid(
      directory,
      'rolled-back',
      0,
      `there is no log, and its anchor covers ${anchor.size} records. Put the log back`,
    );
  }
  const left = directory.read(RECORDS_FILE, HEADER_BYTES + 1);
  if (left !== undefined && left.length > HEADER_BYTES) {
    throw invalid(directory, 'malformed', 0, 'there are records and no checkpoint. Put the checkpoint back');
  }
  const random = new Uint8Array(8);
  osRandom.fill(random);
  const signer = existing ?? createLogKey(directory, origin ?? `cloister/${toHex(random)}`);
  const segment = directory.openAppend(RECORDS_FILE);
  try {
    segment.truncate(0);
    await segment.append(segmentHeader(signer.name));
    await segment.sync();
  } finally {
    segment.close();
  }
  await directory.replace(CHECKPOINT_FILE, Buffer.from(signCheckpoint(0, EMPTY_ROOT, signer)), 0o644);
  return signer;
}

/** The tree and the end of the segment at the signed size; undefined when the tree file does not lead to the signed root. */
function resume(
  segment: LogFile,
  tree: LogFile,
  size: number,
  root: Uint8Array,
): { builder: TreeBuilder; end: number } | undefined {
  if (tree.size() < treeBytes(size)) return undefined;
  const range = compactRange(size).map(({ level, index }) => readNode(tree, level, index));
  const builder = new TreeBuilder(nodeHasher, size, range);
  if (!equalBytes(builder.root(), root)) return undefined;
  if (size === 0) return { builder, end: HEADER_BYTES };
  const last = size === 1 ? HEADER_BYTES : readFrameEnd(tree, size - 2);
  if (last < HEADER_BYTES) return undefined;
  const frame = new FrameReader(segment, last).next();
  if (frame.kind !== 'frame' || frame.end !== readFrameEnd(tree, size - 1)) return undefined;
  return equalBytes(nodeHasher.leaf(frame.record), readNode(tree, 0, size - 1))
    ? { builder, end: frame.end }
    : undefined;
}

async function rebuildTree(segment: LogFile, tree: LogFile, size: number): Promise<void> {
  tree.truncate(0);
  const reader = new FrameReader(segment, HEADER_BYTES);
  const builder = new TreeBuilder(nodeHasher);
  const pending: Uint8Array[] = [];
  while (builder.size < size) {
    const frame = reader.next();
    if (frame.kind !== 'frame') return;
    const leafHash = nodeHasher.leaf(frame.record);
    pending.push(treeEntry(frame.end, leafHash, builder.append(leafHash)));
    if (pending.length === 16_384 || builder.size === size) await tree.append(Buffer.concat(pending.splice(0)));
  }
  await tree.sync();
}

/** Adds a leaf, notes its entry for the tree file, and keeps its nodes at hand. */
function grow(
  builder: TreeBuilder,
  leafHash: Uint8Array,
  frameEnd: number,
  pending: Uint8Array[],
  nodes: Map<number, Uint8Array>,
): void {
  const index = builder.size;
  const completed = builder.append(leafHash);
  pending.push(treeEntry(frameEnd, leafHash, completed));
  const position = nodePosition(0, index);
  nodes.set(position, leafHash);
  completed.forEach((hash, i) => {
    nodes.set(position + hash.length * (i + 1), hash);
  });
}

function receiptOf(
  origin: string,
  index: number,
  leafHash: Uint8Array,
  record: AuditRecord | undefined,
  proof: readonly Uint8Array[],
  checkpoint: string,
): Receipt {
  const form = { v: 1, origin, index, leafHash: base64(leafHash), proof: proof.map(base64), checkpoint } as const;
  return Object.freeze(record === undefined ? form : { ...form, record });
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}

function invalid(directory: LogDirectory, kind: string, index: number, why: string): CloisterError {
  return new CloisterError('AUDIT_INVALID', `the audit log in ${directory.path} does not verify (${kind}): ${why}`, {
    kind,
    index,
  });
}
