/**
 * The log itself: appending, receipts, checkpoints, and starting again after a crash.
 * @module
 */
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { CloisterError, isCloisterError } from '../../src/base/errors.ts';
import * as z from '../../src/base/zod.ts';
import { announcedKey, announcement } from './announcement.ts';
import { signCheckpoint } from './checkpoint.ts';
import { formatCosigner } from './cosignature.ts';
import { type LogDirectory, type LogFile, nodeDirectory } from './directory.ts';
import { keyFile, vkeysOf } from './epochs.ts';
import { createSigner } from './keys.ts';
import { CHECKPOINT_FILE, type Head, headOf, LOCK_FILE, parseHead } from './layout.ts';
import { compactRange, consistencyProof, inclusionProof, type NodeReader, type TreeBuilder } from './merkle.ts';
import { nodeHasher } from './node-crypto.ts';
import type { ErasedBy, PersonalData } from './personal.ts';
import { PersonalLog } from './personal-log.ts';
import { type RecordQuery, readDirectory } from './read.ts';
import { type AuditEvent, type AuditRecord, encodeRecord } from './record.ts';
import { type EpochSigner, newSecond, secondDigest, storeSecond, withSecond } from './second-key.ts';
import { changeKey, continuation, createSegment, type Started, startLog } from './start.ts';
import { TileReader, type TileWriter } from './tile-store.ts';
import type { Receipt } from './verify.ts';
import { FRAME_BYTES, GROUP_LIMIT_BYTES, GROUP_LIMIT_RECORDS, HEADER_BYTES, segmentName, writeFrame } from './wal.ts';

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
  /** Write a checkpoint after this many records, 1 to 2,048, which is the default. */
  readonly checkpointEvery?: number | undefined;
  /** Write a checkpoint this many milliseconds after the first record without one; 1,000 by default. */
  readonly checkpointMs?: number | undefined;
  /**
   * What `append` does while {@link waitingLimit} records wait to become durable: `block` (default) keeps the event and takes it when
   * there is room, in the order of the calls; `refuse` throws. No record is ever dropped.
   */
  readonly overflow?: 'block' | 'refuse' | undefined;
  /**
   * Makes a new log with a second key, after ML-DSA-44, which quantum computers do not break: every checkpoint that is stored carries its
   * line too, and `verifyLog` demands both. Receipts keep the one line after Ed25519: the second takes about a millisecond to sign and
   * 3 KB of room. A log keeps through its life what it was made with; give it the second key of the first epoch, `secondVkey`, to auditors.
   */
  readonly secondSignature?: 'ml-dsa-44' | undefined;
  /** Records that may wait, 1 to 1,048,576; 16,384 by default. */
  readonly waitingLimit?: number | undefined;
}

/** What {@link AuditLog.append} may be told beside the event. */
export interface AppendOptions {
  /** Data about one person that belong to the record, kept beside the log. */
  readonly personal?: PersonalData | undefined;
}

const optionsSchema = z.strictObject({
  origin: z.string().optional(),
  anchor: z.strictObject({ size: z.number(), root: z.string() }).optional(),
  clock: z
    .custom<Clock>(value => typeof (value as Clock | undefined)?.now === 'function', 'expected a clock')
    .default(systemClock),
  checkpointEvery: z.number().int().min(1).max(2048).default(2048),
  checkpointMs: z.number().int().min(1).max(3_600_000).default(1000),
  overflow: z.enum(['block', 'refuse']).default('block'),
  secondSignature: z.literal('ml-dsa-44').optional(),
  waitingLimit: z.number().int().min(1).max(1_048_576).default(16_384),
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
 *   anchor, with `detail.kind` and `detail.index` as in `LogVerdict`; `CLOSED` when another log continues it; `STORE_FAILED`;
 *   `INVALID_ARGUMENT` on bad options.
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
    const log = new AuditLog(await startLog(directory, settings, anchored, release), settings);
    await log.finishErasures();
    return log;
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
  readonly overflow: 'block' | 'refuse';
  readonly secondSignature?: 'ml-dsa-44' | undefined;
  readonly waitingLimit: number;
}

interface Waiting {
  readonly record: AuditRecord;
  readonly leaf: Uint8Array;
  /** The key that the record announces. */
  readonly nextKey: EpochSigner | undefined;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: unknown) => void;
}

/** An event that becomes a record when there is room. */
interface Blocked {
  readonly event: AuditEvent;
  /** Whether the log itself reports it. */
  readonly own?: true;
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
  /** Public key of the first epoch: all that an auditor needs, who follows the keys after it through the log. */
  readonly vkey: string;
  /** Public second key of the first epoch, see {@link parseCosigner}; undefined in a log that has none. */
  readonly secondVkey: string | undefined;
  /** Bytes of an interrupted write that the start cut off; 0 after a clean end. */
  readonly cutBytes: number;
  readonly #directory: LogDirectory;
  readonly #settings: Settings;
  readonly #release: (() => void)[];
  readonly #personal: PersonalLog;
  readonly #builder: TreeBuilder;
  readonly #tiles: TileWriter;
  readonly #keys: string[];
  readonly #waiting: Waiting[] = [];
  readonly #blocked: Blocked[] = [];
  readonly #asked: Asked[] = [];
  #signer: EpochSigner;
  #segment: LogFile;
  #segmentName: string;
  #end: number; // bytes in the segment
  #nodes: Map<number, Uint8Array> = new Map(); // those that are in no tile yet, and the roots of what is
  #stored: TileReader; // tiles under the stored checkpoint
  #size: number; // durable records
  #nextSeq: number;
  #head: Head;
  #note: string;
  #complete: { readonly of?: string; readonly note: string } = { note: '' };
  #rotating: Promise<unknown> = Promise.resolve();
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failure: CloisterError | undefined;
  #closing: Promise<void> | undefined;

  /** @internal Call {@link openLog}. */
  constructor(started: Started, settings: Settings) {
    const { directory, keys, signer, builder, tiles, segment, release } = started;
    const root = builder.root();
    this.#directory = directory;
    this.#settings = settings;
    this.#release = release;
    this.#personal = new PersonalLog(directory, this);
    this.#builder = builder;
    this.#tiles = tiles;
    this.#keys = vkeysOf(keys);
    this.#signer = signer;
    this.#segment = segment;
    this.#segmentName = segmentName(builder.size);
    this.#end = HEADER_BYTES;
    this.origin = signer.name;
    this.vkey = this.#keys[0]!;
    const { second } = keys[0]!;
    this.secondVkey = second && formatCosigner(second.name, second.type, second.publicKey);
    this.cutBytes = started.cutBytes;
    this.#size = builder.size;
    this.#nextSeq = this.#size;
    this.#stored = new TileReader(directory, this.#size);
    this.#keepRoots();
    this.#head = headOf(this.#size, root);
    this.#note = signCheckpoint(this.#size, root, signer);
    release.push(() => this.#segment.close());
    release.push(() => this.#personal.close());
  }

  /** Public keys of all epochs so far, the last of which signs now: what receipts verify with. */
  get keys(): readonly string[] {
    return [...this.#keys];
  }

  /** The head over all durable records: what to store as an anchor, in the transaction of the next charge. */
  head(): Head {
    return this.#head;
  }

  /**
   * Appends a record. When the promise resolves the record is durable, and the receipt proves its place under a signed tree
   * head. Order is the order of calls.
   *
   * With `personal`, data about one person are encrypted under a key of theirs and made durable first, and the record gets salted
   * commitments to them; it takes its place when they are durable. See {@link eraseSubject} and `revealPersonal`.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when the event does not fit its schema or is too large (the log goes on);
   *   `STORE_FAILED` when it could not be made durable (the log stops); `OVERLOADED` when too many wait and the log was opened to
   *   refuse then; `CLOSED`.
   */
  append(event: AuditEvent, options: AppendOptions = {}): Promise<Receipt> {
    if (options.personal !== undefined) return this.#personal.append(event, options.personal);
    return new Promise((resolve, reject) => {
      this.assertOpen();
      if (this.#blocked.length === 0 && this.#waiting.length < this.#settings.waitingLimit) {
        this.#accept({ event, resolve, reject });
      } else if (this.#settings.overflow === 'block') {
        this.#blocked.push({ event, resolve, reject });
      } else {
        const { waitingLimit } = this.#settings;
        throw new CloisterError('OVERLOADED', `${waitingLimit} audit records wait to become durable`, { waitingLimit });
      }
    });
  }

  /**
   * Destroys the key of a person's data, so that nobody can read them again, and records that it was done, by a commitment that nobody can
   * open. The records and all proofs stay as they are. When it resolves both are durable; a crash before leaves the person erased or not,
   * and the next start finishes what was begun. Appends with personal data that were called before are erased too.
   *
   * The bytes of the key are overwritten; what {@link rotateKey} says of flash holds here too, and a backup that has the key can still read
   * the data: keep `personal/keys` out of backups that outlive an erasure.
   *
   * @param by - Who wants it, and why; recorded as given.
   * @returns The receipt of the record; undefined when there are no data of that person, and nothing is recorded.
   * @throws {CloisterError} `INVALID_ARGUMENT` on an empty or overlong subject; `STORE_FAILED`; `CLOSED`.
   * @example
   * ```ts
   * await using log = await openLog('./cloister-data/audit');
   * const object = { kind: 'session', id: 'triage' } as const;
   * const event = { actor: 'ward-3', action: 'run', object, decision: { outcome: 'allow' } } as const;
   * const { record } = await log.append(event, { personal: { subject: 'patient 4711', fields: { ward: 'C3' } } });
   * await revealPersonal('./cloister-data/audit', [record!]); // [{ kind: 'opened', subject: 'patient 4711', … }]
   * await log.eraseSubject('patient 4711', { actor: 'privacy-desk' });
   * await revealPersonal('./cloister-data/audit', [record!]); // [{ kind: 'erased' }]
   * ```
   */
  async eraseSubject(subject: string, by: ErasedBy): Promise<Receipt | undefined> {
    this.assertOpen();
    return this.#personal.erase(subject, by);
  }

  /** @internal Finishes the erasures that a crash interrupted. */
  finishErasures(): Promise<void> {
    return this.#personal.resume();
  }

  /**
   * Gives the log a new key: announces it in a record by the old one, seals the old epoch with a checkpoint, destroys the old private
   * key (overwritten, removed, durably), and only then goes on. Whoever steals the new key cannot sign anew what came before.
   *
   * That the bytes of a key are gone from the medium is as true as overwriting is there: on flash, and under file systems that copy on
   * write, old blocks live on for a while.
   *
   * @returns The new public key.
   * @throws {CloisterError} `STORE_FAILED` when it cannot be made durable (the log stops, and the next start completes it); `CLOSED`.
   * @example
   * ```ts
   * await using log = await openLog('./cloister-data/audit');
   * const object = { kind: 'model', id: 'digits' } as const;
   * const event = { actor: 'ward-3', action: 'load', object, decision: { outcome: 'allow' } } as const;
   * const before = await log.append(event);
   * await log.rotateKey();
   * const after = await log.append(event);
   * verifyReceipt(before, log.vkey).ok; // true
   * verifyReceipt(after, log.vkey).ok; // false
   * verifyReceipt(after, log.keys).ok; // true
   * ```
   */
  rotateKey(): Promise<string> {
    const rotated = this.#rotating.then(() => this.#rotate());
    this.#rotating = rotated.catch(() => undefined);
    return rotated;
  }

  /** @internal Begins the log, empty as yet, as the continuation of another: see `continueLog`. */
  begin(event: AuditEvent): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      this.assertOpen();
      this.#accept({ event, own: true, resolve, reject });
    });
  }

  /** @internal Ends the log for good, for another one with key `vkey`: see `continueLog`. */
  async closeFor(vkey: string): Promise<void> {
    this.assertOpen();
    const ended = new Promise<Receipt>((resolve, reject) => {
      this.#accept({ event: continuation(vkey), own: true, resolve, reject });
    });
    this.#closing = this.#close(); // nothing comes after that record
    await Promise.all([ended, this.#closing]);
  }

  async #rotate(): Promise<string> {
    this.assertOpen();
    const epoch = this.#keys.length;
    const signer = createSigner(this.#directory, keyFile(epoch), this.origin);
    const second = this.#signer.second && (await storeSecond(this.#directory, epoch, newSecond(this.origin)));
    const nextKey: EpochSigner = { ...signer, second };
    const event = announcement(nextKey.vkey, second && secondDigest(second.vkey));
    await new Promise<Receipt>((resolve, reject) => {
      this.#accept({ event, own: true, resolve, reject }, nextKey);
    });
    return nextKey.vkey;
  }

  #accept({ event, own, resolve, reject }: Blocked, nextKey?: EpochSigner): void {
    try {
      const time = Math.trunc(this.#settings.clock.now());
      const record: AuditRecord = { ...event, v: 1, seq: this.#nextSeq, time };
      const leaf = encodeRecord(record);
      if (own === undefined) assertOrdinary(record, this.origin);
      this.#waiting.push({ record, leaf, nextKey, resolve, reject });
      this.#nextSeq++;
      this.#kick();
    } catch (error) {
      reject(error);
    }
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
    const tree = { size: this.#size, read: this.#node, spine: new Map(), note: this.#note };
    const { proof, leafHash, ...rest } = receiptOf(this.origin, index, undefined, tree);
    return Object.freeze({ ...rest, leafHash, proof }); // now: the log may be closed later
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
    return readDirectory(this.#directory, query);
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
      await this.#personal.settled();
      await this.#running;
      if (this.#failure === undefined) await this.#persist();
    } finally {
      for (const undo of this.#release.reverse()) undo();
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
        if (due || this.#size - this.#signedSize >= this.#settings.checkpointEvery) await this.#persist();
        while (this.#asked.length > 0 && this.#asked[0]!.size <= this.#size)
          this.#asked.shift()!.resolve(this.#signedNote());
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
      }, this.#settings.checkpointMs).unref();
    }
  }

  /** The next group; one that announces a key ends with that record. What was blocked takes the room. */
  #takeGroup(): Waiting[] {
    let count = 0;
    for (let bytes = 0; count < this.#waiting.length && count < GROUP_LIMIT_RECORDS; count++) {
      bytes += FRAME_BYTES + this.#waiting[count]!.leaf.length;
      if (bytes > GROUP_LIMIT_BYTES) break;
      if (this.#waiting[count]!.nextKey !== undefined) {
        count++;
        break;
      }
    }
    const group = this.#waiting.splice(0, count);
    const room = this.#settings.waitingLimit - this.#waiting.length;
    for (const blocked of this.#blocked.splice(0, room)) this.#accept(blocked);
    return group;
  }

  async #commit(group: readonly Waiting[]): Promise<void> {
    try {
      const there = this.#segment.size();
      if (there !== this.#end) {
        throw new CloisterError(
          'STORE_FAILED',
          `the segment has ${there} bytes, not ${this.#end}: somebody else has written to it`,
        );
      }
      const frames = new Uint8Array(group.reduce((sum, { leaf }) => sum + FRAME_BYTES + leaf.length, 0));
      let at = 0;
      group.forEach(({ leaf }, place) => {
        at = writeFrame(leaf, place, frames, at);
      });
      await this.#segment.append(frames);
      const durable = this.#segment.sync();
      durable.catch(() => undefined); // awaited below
      // While the disk works: hash, sign, prove. Nothing of it is handed out before the records are durable.
      const first = this.#builder.size;
      for (const { leaf } of group) this.#grow(leaf);
      const size = this.#builder.size;
      const root = this.#builder.root();
      const note = signCheckpoint(size, root, this.#signer);
      const nodes = this.#nodes; // holds what the proofs of this group need, also when the log has gone on
      const read: NodeReader = (level, index) => nodes.get(nodeKey(level, index))!;
      const spine = new Map<number, Uint8Array>();
      const tree = { size, read, spine, note };
      await durable;
      this.#end += frames.length;
      this.#size = size;
      this.#head = headOf(size, root);
      this.#note = note;
      const nextKey = group.at(-1)?.nextKey;
      if (nextKey !== undefined) await this.#changeKey(nextKey);
      group.forEach(({ record, resolve }, i) => {
        resolve(receiptOf(this.origin, first + i, record, tree));
      });
    } catch (error) {
      this.#fail(error, group);
    }
  }

  /** Adds a leaf to the tree and to the tiles to be written, and keeps its nodes at hand. */
  #grow(leaf: Uint8Array): void {
    const index = this.#builder.size;
    const leafHash = nodeHasher.leaf(leaf);
    const completed = this.#builder.append(leafHash);
    this.#tiles.add(leaf, leafHash, completed);
    this.#nodes.set(nodeKey(0, index), leafHash);
    completed.forEach((hash, i) => {
      this.#nodes.set(nodeKey(i + 1, Math.floor(index / 2 ** (i + 1))), hash);
    });
  }

  get #signedSize(): number {
    return this.#stored.size;
  }

  /** Brings tiles and the stored checkpoint up to the durable records, and begins a new segment when the old one is long. */
  async #persist(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#size === this.#signedSize) return;
    await this.#directory.writeAll(this.#tiles.files());
    await this.#directory.replace(CHECKPOINT_FILE, Buffer.from(this.#signedNote()), 0o644);
    this.#directory.remove(this.#tiles.settle());
    this.#stored = new TileReader(this.#directory, this.#size);
    this.#keepRoots();
    if (this.#end < SEGMENT_BYTES) return;
    const old = { file: this.#segment, name: this.#segmentName };
    this.#segmentName = segmentName(this.#size);
    this.#segment = await createSegment(this.#directory, this.origin, this.#size);
    this.#end = HEADER_BYTES;
    old.file.close();
    this.#directory.remove([old.name]);
  }

  /** The present checkpoint with the lines of all keys of the epoch. */
  #signedNote(): string {
    if (this.#complete.of !== this.#note)
      this.#complete = { of: this.#note, note: withSecond(this.#note, this.#signer) };
    return this.#complete.note;
  }

  /** Ends the epoch whose last record, durable by now, announces `next`. */
  async #changeKey(next: EpochSigner): Promise<void> {
    await this.#persist();
    await changeKey(this.#directory, this.#keys.length - 1, this.#signedNote(), next, this.#size, this.#builder.root());
    this.#signer = next;
    this.#keys.push(next.vkey);
    this.#note = signCheckpoint(this.#size, this.#builder.root(), next);
  }

  #keepRoots(): void {
    const roots = compactRange(this.#size).map(({ level, index }) => [nodeKey(level, index), this.#node(level, index)]);
    this.#nodes = new Map(roots as [number, Uint8Array][]);
  }

  #fail(cause: unknown, affected: readonly { reject: (error: unknown) => void }[]): void {
    this.#failure ??= new CloisterError(
      'STORE_FAILED',
      `the audit log stopped after ${this.#size} records: ${(cause as Error).message}. Mend the cause, then open it again`,
      isCloisterError(cause) ? cause.detail : {},
      { cause },
    );
    const queues = [this.#waiting.splice(0), this.#blocked.splice(0), this.#asked.splice(0)];
    for (const { reject } of [...affected, ...queues.flat()]) reject(this.#failure);
  }

  readonly #node: NodeReader = (level, index) =>
    this.#nodes.get(nodeKey(level, index)) ?? this.#stored.node(level, index);
}

/** @throws {CloisterError} `INVALID_ARGUMENT` on a record that only the log itself may make: verification believes those. */
function assertOrdinary(record: AuditRecord, origin: string): void {
  const maker =
    announcedKey(record, origin) !== undefined
      ? 'rotateKey'
      : record.predecessor !== undefined || (record.action === 'close' && record.object.kind === 'log')
        ? 'continueLog'
        : undefined;
  if (maker !== undefined)
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `a record like this is for ${maker} to make, which makes true what it says`,
    );
}

/** A number for a node: trees have fewer than 2^47 nodes of a level, and 53 levels. */
function nodeKey(level: number, index: number): number {
  return index * 64 + level;
}

/** A tree of `size` leaves whose nodes stay readable, with its checkpoint. */
interface FrozenTree {
  readonly size: number;
  readonly read: NodeReader;
  readonly spine: Map<number, Uint8Array>;
  readonly note: string;
}

/** A receipt whose proof is made when it is looked at: most never are, and a proof is the larger part of the work of an append. */
function receiptOf(origin: string, index: number, record: AuditRecord | undefined, tree: FrozenTree): Receipt {
  let proof: readonly string[] | undefined;
  const receipt = {
    v: 1,
    origin,
    index,
    get leafHash() {
      return base64(tree.read(0, index));
    },
    get proof() {
      proof ??= Object.freeze(inclusionProof(index, tree.size, tree.read, nodeHasher, tree.spine).map(base64));
      return proof;
    },
    checkpoint: tree.note,
    ...(record !== undefined && { record }),
  } as const;
  return Object.freeze(receipt);
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}

/** A segment that has become longer than this is followed by a new one at the next checkpoint. */
const SEGMENT_BYTES = 4_194_304;
