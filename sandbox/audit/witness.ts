/**
 * A witness: it keeps the last checkpoint of each log that it watches, and cosigns one that extends it. It speaks the requests of C2SP
 * tlog-witness, so that any log can ask it, by file or behind an HTTP server.
 *
 * | file of its directory | content | when durable |
 * |---|---|---|
 * | `key` | its private key (`cosigner.ts`), mode 0600 | before the first cosignature |
 * | `head-<32 hex digits>` | the last checkpoint of one log, as that log signed it; named by SHA-256 of the origin | before the cosignature is given |
 * | `lock` | held while it is open | never |
 * @module
 * @see https://c2sp.org/tlog-witness
 */
import { decodeUtf8, encodeUtf8, equalBytes, fromBase64, toBase64, toHex } from '../../src/base/bytes.ts';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { sha256 } from '../../src/base/sha256.ts';
import { parseCheckpoint, verifyCheckpoint } from './checkpoint.ts';
import { type CosignatureType, type CosignSigner, cosign } from './cosignature.ts';
import { createCosigner, parseCosignSigner } from './cosigner.ts';
import { type LogDirectory, nodeDirectory } from './directory.ts';
import { EMPTY_ROOT, verifyConsistency } from './merkle.ts';
import { nodeEd25519 } from './node-crypto.ts';
import { NOTE_LIMIT_BYTES, type NoteVerifier, parseNote, parseVkey } from './note.ts';

/** What a log asks of a witness: `add-checkpoint` of C2SP tlog-witness. */
export interface WitnessRequest {
  /** Size of the last checkpoint that the witness cosigned, as far as the log knows; 0 for none. */
  readonly old: number;
  /** Consistency proof from there to the checkpoint, base64 hashes; empty from 0. */
  readonly proof: readonly string[];
  /** The signed checkpoint. */
  readonly checkpoint: string;
}

/** What a witness answers. `status` is the HTTP status that C2SP tlog-witness gives the case. */
export type WitnessReply =
  | {
      readonly ok: true;
      readonly status: 200;
      readonly size: number;
      /** The cosignature: a signature line with its newline, for `addSignatures`. */
      readonly body: string;
    }
  | {
      readonly ok: false;
      /** 400 malformed, 403 not signed by the log, 404 log unknown, 409 another size or root was cosigned, 422 does not extend it. */
      readonly status: 400 | 403 | 404 | 409 | 422;
      readonly reason: string;
      /** Size of the last checkpoint that the witness cosigned, with status 409: ask again from there. */
      readonly size?: number;
    };

/** Options of {@link openWitness}. */
export interface WitnessOptions {
  /** vkeys of the logs to watch. Several of one name are keys of one log, such as those of its epochs. */
  readonly logs: readonly string[];
  /** Name of the witness; needed where its directory is new. */
  readonly name?: string | undefined;
  /** What a new witness signs with; ML-DSA-44 by default. */
  readonly type?: CosignatureType | undefined;
  /** Where the times of cosignatures come from. */
  readonly clock?: Clock | undefined;
}

/** Hashes that a request may have (C2SP tlog-witness). */
const PROOF_LIMIT = 63;

/**
 * Spells a request: what `POST add-checkpoint` of a witness takes.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `old` is no count or the proof is longer than 63 hashes.
 */
export function formatWitnessRequest({ old, proof, checkpoint }: WitnessRequest): string {
  if (!Number.isSafeInteger(old) || old < 0 || proof.length > PROOF_LIMIT)
    throw new CloisterError('INVALID_ARGUMENT', 'a request has a size from 0 and at most 63 hashes');
  return `old ${old}\n${proof.map(hash => `${hash}\n`).join('')}\n${checkpoint}`;
}

/**
 * Reads a request. The checkpoint in it is not looked at.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when it is malformed.
 */
export function parseWitnessRequest(body: Uint8Array | string): WitnessRequest {
  const refuse = (why: string): never => {
    throw new CloisterError('AUDIT_INVALID', `malformed request to a witness: ${why}`);
  };
  if (body.length > 2 * NOTE_LIMIT_BYTES) refuse('too long');
  let text = '';
  try {
    text = typeof body === 'string' ? body : decodeUtf8(body);
  } catch {
    refuse('not UTF-8');
  }
  const end = text.indexOf('\n\n');
  if (end < 0) refuse('no empty line before the checkpoint');
  const [first = '', ...proof] = text.slice(0, end).split('\n');
  const size = /^old (0|[1-9][0-9]{0,15})$/.exec(first)?.[1];
  const old = Number(size ?? Number.NaN);
  if (!Number.isSafeInteger(old)) refuse('expected "old" and a tree size below 2^53');
  if (proof.length > PROOF_LIMIT) refuse(`more than ${PROOF_LIMIT} hashes`);
  for (const line of proof) if (hashOf(line) === undefined) refuse('a hash of the proof is not 32 bytes in base64');
  return { old, proof, checkpoint: text.slice(end + 2) };
}

/**
 * Opens the witness in `dir`, or makes one with a new key, and takes it for this process alone.
 *
 * @param dir - Its directory; made (mode 0700) when it does not exist. It holds a private key: keep it where the log's operator cannot
 *   write.
 * @throws {CloisterError} `INVALID_ARGUMENT` on bad options, a name other than the one it has, or no name for a new one; `LOCKED`;
 *   `AUDIT_INVALID` when its key is malformed; `STORE_FAILED`.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * await using witness = await openWitness('./witness', { name: 'witness.example/w1', logs: [log.vkey] });
 * const request = formatWitnessRequest({ old: 0, proof: [], checkpoint: await log.checkpoint() });
 * const reply = await witness.cosign(request);
 * reply.status; // 200
 * ```
 */
export async function openWitness(dir: string, options: WitnessOptions): Promise<Witness> {
  return openWitnessIn(nodeDirectory(dir, true), options);
}

/** {@link openWitness} behind the directory seam. */
export function openWitnessIn(directory: LogDirectory, options: WitnessOptions): Witness {
  const logs = new Map<string, NoteVerifier[]>();
  for (const vkey of options.logs) {
    const key = parseVkey(vkey);
    logs.set(key.name, [...(logs.get(key.name) ?? []), key]);
  }
  const release = directory.lock('lock');
  try {
    const signer = loadSigner(directory) ?? makeSigner(directory, options);
    if (options.name !== undefined && options.name !== signer.name)
      throw new CloisterError(
        'INVALID_ARGUMENT',
        `the witness in ${directory.path} is ${signer.name}, not ${options.name}`,
      );
    return new Witness(directory, signer, logs, options.clock ?? systemClock, release);
  } catch (error) {
    release();
    throw error;
  }
}

/** An open witness; see {@link openWitness}. */
export class Witness {
  /** Public key, for those who verify. */
  readonly vkey: string;
  readonly #directory: LogDirectory;
  readonly #signer: CosignSigner;
  readonly #logs: ReadonlyMap<string, readonly NoteVerifier[]>;
  readonly #clock: Clock;
  readonly #release: () => void;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** @internal Call {@link openWitness}. */
  constructor(
    directory: LogDirectory,
    signer: CosignSigner,
    logs: ReadonlyMap<string, readonly NoteVerifier[]>,
    clock: Clock,
    release: () => void,
  ) {
    this.#directory = directory;
    this.#signer = signer;
    this.#logs = logs;
    this.#clock = clock;
    this.#release = release;
    this.vkey = signer.vkey;
  }

  /**
   * Cosigns the checkpoint of a request if it extends the last one of its log that this witness cosigned. The checkpoint is durable
   * before the cosignature is given; requests are served one after the other, so that none rolls another back.
   *
   * @param request - As received: anything. It is refused, never thrown on.
   * @throws {CloisterError} `STORE_FAILED` when the checkpoint cannot be kept: nothing was cosigned; `AUDIT_INVALID` when the one that
   *   was kept is damaged; `CLOSED`.
   */
  cosign(request: Uint8Array | string): Promise<WitnessReply> {
    if (this.#closed) throw new CloisterError('CLOSED', 'the witness is closed');
    const reply = this.#last.then(() => this.#answer(request));
    this.#last = reply.catch(() => undefined);
    return reply;
  }

  /** Lets go of the directory, after the requests that are being served. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#last;
    this.#release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #answer(body: Uint8Array | string): Promise<WitnessReply> {
    let request: WitnessRequest;
    let text: string;
    let origin: string;
    try {
      request = parseWitnessRequest(body);
      ({ text } = parseNote(request.checkpoint));
      ({ origin } = parseCheckpoint(text));
    } catch (error) {
      return refuse(400, (error as Error).message);
    }
    const keys = this.#logs.get(origin);
    if (keys === undefined) return refuse(404, `the log ${origin} is not watched`);
    const { old, proof, checkpoint: note } = request;
    const verdict = verifiedHead(note, keys);
    if (!verdict.ok) return refuse(403, verdict.reason);
    const { size, root } = verdict.checkpoint;
    if (old > size) return refuse(400, `the old size ${old} is above that of the checkpoint, ${size}`);
    const file = headFile(origin);
    const kept = this.#kept(file, origin);
    if (old !== kept.size)
      return { ...refuse(409, `the last checkpoint that was cosigned has ${kept.size} records`), size: kept.size };
    if (size === kept.size && !equalBytes(root, kept.root))
      return { ...refuse(409, `another tree of ${size} records was cosigned`), size: kept.size };
    if (old === 0 && proof.length > 0) return refuse(422, 'a proof from 0 is empty');
    if (old > 0) {
      const extended = verifyConsistency(old, size, kept.root, root, proof.map(fromBase64));
      if (!extended.ok) return refuse(422, `it does not extend the last checkpoint: ${extended.reason}`);
    }
    if (size === 0 && !equalBytes(root, EMPTY_ROOT)) return refuse(422, 'the root of no records is another');
    if (size !== kept.size || kept.fresh) await this.#directory.replace(file, encodeUtf8(note), 0o600);
    const time = Math.max(0, Math.floor(this.#clock.now() / 1000));
    return { ok: true, status: 200, size, body: `${cosign(text, this.#signer, time)}\n` };
  }

  /** The last checkpoint of a log that was cosigned; that of no records where there is none. */
  #kept(file: string, origin: string): { readonly size: number; readonly root: Uint8Array; readonly fresh: boolean } {
    const note = this.#directory.read(file, NOTE_LIMIT_BYTES + 1);
    if (note === undefined) return { size: 0, root: EMPTY_ROOT, fresh: true };
    const head = parseCheckpoint(parseNote(note).text);
    if (head.origin !== origin)
      throw new CloisterError('AUDIT_INVALID', `${this.#directory.path}/${file} is of another log: ${head.origin}`);
    return { ...head, fresh: false };
  }
}

/** Bytes that a key file may have. */
const KEY_LIMIT_BYTES = 4096;

function loadSigner(directory: LogDirectory): CosignSigner | undefined {
  const bytes = directory.read('key', KEY_LIMIT_BYTES);
  if (bytes === undefined) return undefined;
  const mode = directory.mode('key');
  if (mode !== undefined && (mode & 0o077) !== 0)
    throw new CloisterError(
      'STORE_FAILED',
      `${directory.path}/key is open to others (mode ${mode.toString(8)}); chmod 600 it`,
    );
  try {
    return parseCosignSigner(decodeUtf8(bytes).replace(/\n$/, ''));
  } catch (cause) {
    throw new CloisterError('AUDIT_INVALID', `${directory.path}/key is not the key of a witness`, {}, { cause });
  }
}

function makeSigner(directory: LogDirectory, { name, type }: WitnessOptions): CosignSigner {
  if (name === undefined) throw new CloisterError('INVALID_ARGUMENT', 'a new witness needs a name');
  const { signer, secret } = createCosigner(name, type);
  directory.create('key', encodeUtf8(`${secret}\n`), 0o600);
  return signer;
}

function verifiedHead(note: string, keys: readonly NoteVerifier[]): ReturnType<typeof verifyCheckpoint> {
  const verdicts = keys.map(key => verifyCheckpoint(note, key, nodeEd25519));
  return verdicts.find(one => one.ok) ?? verdicts[0]!;
}

function headFile(origin: string): string {
  return `head-${toHex(sha256(encodeUtf8(origin)).subarray(0, 16))}`;
}

function hashOf(line: string): Uint8Array | undefined {
  try {
    const bytes = fromBase64(line);
    return bytes.length === 32 && toBase64(bytes) === line ? bytes : undefined;
  } catch {
    return undefined;
  }
}

function refuse<Status extends 400 | 403 | 404 | 409 | 422>(
  status: Status,
  reason: string,
): { readonly ok: false; readonly status: Status; readonly reason: string } {
  return { ok: false, status, reason };
}
