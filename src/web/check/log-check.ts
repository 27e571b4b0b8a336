/**
 * What an auditor's own machine says of a log that somebody else serves: whether its checkpoint is signed, whether it extends what
 * was seen before, and whether each record is the one under the signed root. Pure; the server's word counts nowhere.
 * @module
 */

import { announcedKey } from '../../../sandbox/audit/announcement.ts';
import { type Checkpoint, parseCheckpoint, verifyCheckpoint } from '../../../sandbox/audit/checkpoint.ts';
import { HASH_BYTES } from '../../../sandbox/audit/merkle.ts';
import {
  type Ed25519Verify,
  formatVkey,
  type NoteVerifier,
  parseNote,
  parseVkey,
  sameKey,
} from '../../../sandbox/audit/note.ts';
import { type AuditRecord, decodeRecord } from '../../../sandbox/audit/record.ts';
import { decodeBundle, foldTile, TILE_HEIGHT, TILE_WIDTH, tilePath, tileWidth } from '../../../sandbox/audit/tiles.ts';
import type { TamperKind } from '../../../sandbox/audit/verdict.ts';
import { decodeUtf8, equalBytes, fromBase64, toBase64, toHex } from '../../base/bytes.ts';
import { type FetchFile, leafHash, TileError, TileTree } from './tile-tree.ts';

/** What is remembered of a log between visits: the head that was seen last, and the key that signed it. JSON. */
export interface Pin {
  /** Name of the log. */
  readonly origin: string;
  readonly vkey: string;
  /** Records that were under the checkpoint, and their root in base64. */
  readonly size: number;
  readonly root: string;
  /** Milliseconds since 1970 at which it was seen. */
  readonly seen: number;
}

/** What is wrong with a log, and from which record on; `through` is the last that may be the first bad one. */
export interface Failure {
  readonly ok: false;
  readonly kind: TamperKind;
  readonly index: number;
  readonly through: number;
  readonly message: string;
}

/** What all records together say. */
export type WholeVerdict = { readonly ok: true; readonly size: number; readonly root: string } | Failure;

/** The head of a log as it was served, and what is known of it. */
export interface LogHead {
  readonly origin: string;
  readonly size: number;
  /** Base64. */
  readonly root: string;
  /** Public key of the first epoch, which is what an auditor keeps; and the one that signed this head. */
  readonly vkey: string;
  readonly signer: string;
  /** The signed note. */
  readonly note: string;
  /** Whether the key is one that the auditor knew: given by hand, or seen on an earlier visit. */
  readonly keyKnown: boolean;
  /** The head that this one was shown to extend. */
  readonly extends?: Pin | undefined;
}

/** A record as it was served. */
export interface CheckedRecord {
  readonly seq: number;
  /** The bytes of the leaf as text; U+FFFD where they are not UTF-8. */
  readonly text: string;
  /** Hexadecimal. */
  readonly leafHash: string;
  /** There unless the bytes are no record. */
  readonly record?: AuditRecord | undefined;
  readonly state: 'verified' | 'failed' | 'unchecked';
  /** Why it failed. */
  readonly reason?: string | undefined;
}

/** Leaf hashes of records, in their order. */
export type HashLeaves = (records: readonly Uint8Array[]) => Promise<readonly Uint8Array[]>;

/** What a log is checked with. */
export interface LogAccess {
  readonly fetchFile: FetchFile;
  /** Defaults to pure code. */
  readonly hashLeaves?: HashLeaves | undefined;
  /** Makes ready to verify the signature of a note by a key. */
  readonly verifierFor?: ((note: Uint8Array, vkey: string) => Promise<Ed25519Verify>) | undefined;
}

/** What the auditor knows beforehand. */
export interface Knowledge {
  /** Public keys of logs, from where the auditor trusts them; the one of this log's name counts. */
  readonly vkeys?: readonly string[] | undefined;
  /** Heads that were seen before, or that somebody vouches for. Those of other logs are passed over. */
  readonly pins?: readonly Pin[] | undefined;
}

/** Checks a log whose checkpoint was served as `note` and whose first key as `served`. */
export async function openCheckedLog(
  note: Uint8Array,
  served: string,
  knowledge: Knowledge,
  access: LogAccess,
): Promise<{ readonly log?: CheckedLog; readonly head?: LogHead; readonly failure?: Failure }> {
  const vkey = served.trim();
  let first: NoteVerifier;
  try {
    first = parseVkey(vkey);
  } catch (error) {
    return { failure: bad('malformed', 0, `the public key that is served: ${messageOf(error)}`) };
  }
  const pins = (knowledge.pins ?? []).filter(pin => pin.origin === first.name);
  const given = (knowledge.vkeys ?? []).map(parseVkey).find(({ name }) => name === first.name);
  const known = given ?? (pins[0] && parseVkey(pins[0].vkey));
  if (known !== undefined && !sameKey(known, first)) {
    const whose = given ? 'the key that you gave' : 'the key of your last visit';
    return { failure: bad('resealed', 0, `the log is served with another key, ${vkey}, than ${whose}`) };
  }
  const claimed = claimedCheckpoint(note);
  if (claimed === undefined) return { failure: bad('malformed', 0, 'the checkpoint is none') };
  const { origin, size, root } = claimed;
  const rootText = toBase64(root);
  const head = {
    origin,
    size,
    root: rootText,
    vkey,
    signer: vkey,
    note: decodeUtf8(note),
    keyKnown: known !== undefined,
  };
  const unvouched = (failure: Failure) => ({ log: new CheckedLog(size, undefined, access), head, failure });

  // The tree is read under the root that is claimed. It says which keys sign; they say whether to believe the root.
  const seals = await fetchSeals(access.fetchFile);
  let tree: TileTree | undefined;
  let broken: TileError | undefined;
  try {
    tree = await TileTree.open(size, root, access.fetchFile);
  } catch (error) {
    if (!(error instanceof TileError)) throw error;
    broken = error;
  }
  const { keys, ends, failure } = await followKeys(first, seals, tree, access);
  if (failure !== undefined) return unvouched(failure);
  const signer = await signerOf(note, size, keys, ends, access);
  if ('reason' in signer)
    return unvouched(bad('resealed', ends.at(-1) ?? 0, `the checkpoint does not verify: ${signer.reason}`));
  if (tree === undefined) {
    const kind = broken?.absent ? 'truncated' : 'malformed';
    return unvouched(bad(kind, 0, broken?.message ?? '', Math.max(0, size - 1)));
  }
  head.signer = formatVkey(signer.key.name, signer.key.publicKey);
  const log = new CheckedLog(size, tree, access);
  let last: Pin | undefined;
  for (const pin of pins) {
    const failure = await log.extends(pin);
    if (failure !== undefined) return { log, head, failure };
    if (last === undefined || pin.size > last.size) last = pin;
  }
  return { log, head: { ...head, extends: last } };
}

/** A log under one signed checkpoint. */
export class CheckedLog {
  readonly size: number;
  readonly #tree: TileTree | undefined;
  readonly #access: LogAccess;

  /** @param tree - Undefined where no signed root could be reached: then no record verifies. */
  constructor(size: number, tree: TileTree | undefined, access: LogAccess) {
    this.size = size;
    this.#tree = tree;
    this.#access = access;
  }

  /** What is wrong if the log does not extend a head that was seen before. */
  async extends(pin: Pin): Promise<Failure | undefined> {
    if (pin.size > this.size) {
      const was = `the log has ${this.size.toLocaleString('en')} records under its checkpoint, it had ${pin.size.toLocaleString('en')}`;
      return bad('rolled-back', this.size, was);
    }
    try {
      if (equalBytes(await this.#vouched().rootAt(pin.size), fromBase64(pin.root))) return undefined;
    } catch (error) {
      if (!(error instanceof TileError)) throw error;
      return bad('malformed', error.index * TILE_WIDTH ** (error.level + 1), error.message, this.size - 1);
    }
    const message = `the first ${pin.size.toLocaleString('en')} records are not those of the checkpoint that was seen before`;
    return bad('forked', 0, message, pin.size - 1);
  }

  /**
   * Records of one bundle, each with what the tree says of it. Never throws on what is served.
   *
   * @param number - Of the bundle: 256 records are in one.
   * @param seqs - Which of them.
   */
  async records(number: number, seqs: readonly number[]): Promise<CheckedRecord[]> {
    const from = number * TILE_WIDTH;
    let tile: Uint8Array | undefined;
    let whyNot = UNVOUCHED;
    try {
      tile = await this.#tree?.tile(0, number);
    } catch (error) {
      if (!(error instanceof TileError)) throw error;
      whyNot = error.message;
    }
    const served = await this.#served(number);
    return seqs.map(seq => {
      const at = seq - from;
      const bytes = served[at];
      const wanted = tile?.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES);
      if (bytes !== undefined) return checkRecord(seq, bytes, wanted, whyNot);
      return { seq, text: '', leafHash: '', state: 'failed', reason: 'it is missing from its bundle' };
    });
  }

  /** The audit path of a record under the checkpoint, lowest sibling first; throws {@link TileError}. */
  async proof(seq: number): Promise<Uint8Array[]> {
    return await this.#vouched().inclusionProof(seq);
  }

  /**
   * Reads every record and says whether all are those under the signed root; if not, which is the first that is not.
   *
   * @param onProgress - Told after each bundle how many records have been checked.
   */
  async checkAll(onProgress: (done: number) => void, signal?: AbortSignal): Promise<WholeVerdict> {
    const { root } = this.#vouched();
    const bundles = Math.ceil(this.size / TILE_WIDTH);
    const ahead: Promise<Failure | undefined>[] = [];
    for (let number = 0; number < bundles; number++) {
      while (ahead.length < AHEAD && number + ahead.length < bundles) {
        const check = this.#checkBundle(number + ahead.length);
        check.catch(() => {}); // awaited in its turn, or given up with the rest
        ahead.push(check);
      }
      signal?.throwIfAborted();
      const failure = await ahead.shift();
      if (failure !== undefined) return failure;
      onProgress(Math.min(this.size, (number + 1) * TILE_WIDTH));
    }
    return { ok: true, size: this.size, root: toBase64(root) };
  }

  async #checkBundle(number: number): Promise<Failure | undefined> {
    const from = number * TILE_WIDTH;
    const width = tileWidth('entries', number, this.size);
    const records = await this.#served(number);
    const hashes = await (this.#access.hashLeaves?.(records) ?? records.map(leafHash));
    let tile: Uint8Array;
    try {
      tile = await this.#vouched().tile(0, number);
    } catch (error) {
      if (!(error instanceof TileError)) throw error;
      return await this.#behindTile(number, hashes, error);
    }
    const wanted = (i: number) => tile.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES);
    for (let i = 0; i < width; i++) {
      const hash = hashes[i];
      if (hash !== undefined && equalBytes(hash, wanted(i))) {
        if (!isNumbered(records[i]!, from + i))
          return bad('malformed', from + i, `record ${from + i} under the signed root is no record of that number`);
        continue;
      }
      return this.#blame(from, i, width, hashes, wanted);
    }
    return undefined;
  }

  /** The first record of a bundle that differs, and what was done to it. */
  #blame(
    from: number,
    at: number,
    width: number,
    hashes: readonly Uint8Array[],
    wanted: (i: number) => Uint8Array,
  ): Failure {
    const hash = hashes[at];
    const seq = from + at;
    const isAt = (i: number, j: number) => i < hashes.length && j < width && equalBytes(hashes[i]!, wanted(j));
    if (hash === undefined)
      return bad(from + width === this.size ? 'truncated' : 'missing', seq, `record ${seq} is not in its bundle`);
    if (isAt(at, at + 1) && (at + 2 >= width || isAt(at + 1, at + 2)))
      return bad('missing', seq, `record ${seq} was taken out`);
    if (isAt(at + 1, at) && (at + 2 >= hashes.length || at + 1 >= width || isAt(at + 2, at + 1)))
      return bad('inserted', seq, `a record was put in before record ${seq}`);
    for (let other = at + 1; other < width; other++)
      if (isAt(at, other)) return bad('swapped', seq, `record ${from + other} stands in the place of record ${seq}`);
    return bad('changed', seq, `record ${seq} is not the one under the signed root`);
  }

  /** What to say of a bundle whose hash tile leads nowhere: the records may be good, and the tile alone damaged. */
  async #behindTile(number: number, hashes: readonly Uint8Array[], error: TileError): Promise<Failure> {
    const from = number * TILE_WIDTH;
    const width = tileWidth(0, number, this.size);
    const last = Math.min(this.size, from + TILE_WIDTH ** (error.level + 1)) - 1;
    if (error.level === 0 && hashes.length === width) {
      try {
        const above = await this.#vouched().hash(TILE_HEIGHT, number);
        const folded = foldTile(concat(hashes));
        if (equalBytes(folded, above))
          return bad('malformed', from, `${error.message}; the records behind it are intact`, last);
        const tile = await this.#vouched().unchecked(0, number);
        const at = hashes.findIndex(
          (hash, i) => !equalBytes(hash, tile.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES)),
        );
        if (at >= 0)
          return bad('changed', from + at, `record ${from + at} and its hash tile are not those under the signed root`);
      } catch (cause) {
        if (!(cause instanceof TileError)) throw cause;
      }
    }
    return bad(error.absent ? 'malformed' : 'resealed', from, error.message, last);
  }

  #vouched(): TileTree {
    if (this.#tree === undefined) throw new TileError(0, 0, UNVOUCHED);
    return this.#tree;
  }

  /** The records of a bundle as they are served. */
  async #served(number: number): Promise<readonly Uint8Array[]> {
    const width = tileWidth('entries', number, this.size);
    const { fetchFile } = this.#access;
    const bytes =
      (await fetchFile(tilePath('entries', number, width))) ??
      (width < TILE_WIDTH ? await fetchFile(tilePath('entries', number)) : undefined);
    return bytes === undefined ? [] : decodeBundle(bytes, width).records;
  }
}

const UNVOUCHED = 'no signed root vouches for it';

/** Bundles that are fetched and hashed ahead of the one that is waited for. */
const AHEAD = 8;

/** What a checkpoint says whose signature does not hold: enough to show what is there, with no word on whether it is genuine. */
function claimedCheckpoint(note: Uint8Array): Checkpoint | undefined {
  try {
    return parseCheckpoint(parseNote(note).text);
  } catch {
    return undefined;
  }
}

/** The seals that are served, one for each epoch that has ended. */
async function fetchSeals(fetchFile: FetchFile): Promise<readonly Uint8Array[]> {
  const seals: Uint8Array[] = [];
  while (seals.length < EPOCH_LIMIT) {
    const seal = await fetchFile(`seal/${seals.length}`);
    if (seal === undefined) break;
    seals.push(seal);
  }
  return seals;
}

/**
 * Follows the keys of the log from its first one: the seal of an epoch is signed by its key, the tree had the sealed root at the sealed
 * size, and the last record of it announces the next key.
 *
 * @returns The keys, and the sizes with which the epochs before the last one ended.
 */
async function followKeys(
  first: NoteVerifier,
  seals: readonly Uint8Array[],
  tree: TileTree | undefined,
  access: LogAccess,
): Promise<{ readonly keys: readonly NoteVerifier[]; readonly ends: readonly number[]; readonly failure?: Failure }> {
  const keys = [first];
  const ends: number[] = [];
  for (const [epoch, seal] of seals.entries()) {
    const key = keys[epoch]!;
    const from = ends.at(-1) ?? 0;
    const refuse = (why: string, through = from) => {
      return {
        keys,
        ends,
        failure: bad('resealed', from, `the seal of epoch ${epoch} does not hold: ${why}`, through),
      };
    };
    const verdict = verifyCheckpoint(seal, key, await access.verifierFor?.(seal, formatVkey(key.name, key.publicKey)));
    if (!verdict.ok) return refuse(verdict.reason);
    const { size, root } = verdict.checkpoint;
    if (size <= from) return refuse(`it covers ${size} records, the one before ${from}`);
    if (tree === undefined) break; // what is wrong with the tree is said elsewhere
    if (size > tree.size) {
      const message = `the log has ${tree.size} records under its checkpoint, the seal of epoch ${epoch} covers ${size}`;
      return { keys, ends, failure: bad('rolled-back', tree.size, message) };
    }
    try {
      if (!equalBytes(await tree.rootAt(size), root)) return refuse('the records are not those under it', size - 1);
      const [announced] = await new CheckedLog(tree.size, tree, access).records(Math.floor((size - 1) / TILE_WIDTH), [
        size - 1,
      ]);
      const next =
        announced?.state === 'verified' && announced.record !== undefined
          ? announcedKey(announced.record, key.name)
          : undefined;
      if (next === undefined) return refuse('its last record announces no key', size - 1);
      keys.push(next);
      ends.push(size);
    } catch (error) {
      if (!(error instanceof TileError)) throw error;
      return refuse(error.message, size - 1);
    }
  }
  return { keys, ends };
}

/** Who signed the checkpoint: the key of the last epoch, or an earlier one over no more records than its epoch had. */
async function signerOf(
  note: Uint8Array,
  size: number,
  keys: readonly NoteVerifier[],
  ends: readonly number[],
  access: LogAccess,
): Promise<{ readonly key: NoteVerifier } | { readonly reason: string }> {
  let reason = '';
  for (const [epoch, key] of [...keys.entries()].reverse()) {
    const verdict = verifyCheckpoint(note, key, await access.verifierFor?.(note, formatVkey(key.name, key.publicKey)));
    if (verdict.ok && size <= (ends[epoch] ?? size)) return { key };
    reason ||= verdict.ok ? `it is signed by the key of epoch ${epoch}, which has ended` : verdict.reason;
  }
  return { reason };
}

/** Epochs that are followed; a log that claims more is not read on. */
const EPOCH_LIMIT = 10_000;

/** What the tree says of a record: `wanted` is the hash that it has for it, undefined where it could not be read. */
function checkRecord(seq: number, bytes: Uint8Array, wanted: Uint8Array | undefined, whyNot: string): CheckedRecord {
  const hash = leafHash(bytes);
  const shown = { seq, text: new TextDecoder().decode(bytes), leafHash: toHex(hash) };
  let record: AuditRecord;
  try {
    record = decodeRecord(bytes);
  } catch (error) {
    return { ...shown, state: 'failed', reason: messageOf(error) };
  }
  if (wanted === undefined)
    return { ...shown, record, state: whyNot === UNVOUCHED ? 'unchecked' : 'failed', reason: whyNot };
  if (!equalBytes(wanted, hash))
    return { ...shown, record, state: 'failed', reason: 'it is not the record under the signed root' };
  if (record.seq !== seq) return { ...shown, record, state: 'failed', reason: `it is numbered ${record.seq}` };
  return { ...shown, record, state: 'verified' };
}

/** Whether the bytes are JSON of a record with this number; its schema is for whoever shows it. */
function isNumbered(bytes: Uint8Array, seq: number): boolean {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof value === 'object' && value !== null && 'seq' in value && value.seq === seq;
  } catch {
    return false;
  }
}

function concat(hashes: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(hashes.length * HASH_BYTES);
  hashes.forEach((hash, i) => {
    bytes.set(hash, i * HASH_BYTES);
  });
  return bytes;
}

function bad(kind: TamperKind, index: number, message: string, through: number = index): Failure {
  return { ok: false, kind, index, through: Math.max(index, through), message };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
