/**
 * Personal data beside the log: records hold salted commitments, the data lie here, encrypted under a key of their subject. Destroy that
 * key, and they are gone, while every proof still holds.
 *
 * | file, mode 0600 | content | when durable |
 * |---|---|---|
 * | `personal/index` | 32 random bytes: the key of HMAC-SHA-256 | before the first subject |
 * | `personal/subjects/<64 hex digits>` | id of the subject's key; the name is HMAC(index, subject), so no name of a person is a file name | before its first data |
 * | `personal/keys/<32 hex digits>` | 32 random bytes: the AES-256 key of that id | before `subjects/…` names it |
 * | `personal/data/<8 digits>` | a segment of encrypted entries, one begun by each process that writes | before the record is written |
 * | `personal/erasing/<32 hex digits>` | an erasure that was decided and is not finished | before anything is destroyed |
 *
 * A segment is the 8 bytes `CLPERS01`, then entries, integers little-endian:
 *
 * | bytes | meaning |
 * |---|---|
 * | 4 | length n of what follows the checksum, 76 + 16 to 1,048,576 |
 * | 4 | CRC-32C of those n bytes |
 * | 16 | id of the key |
 * | 32 | digest in the commitment `subject` of the record: how the entry is found |
 * | 12 | nonce, random |
 * | n - 60 | AES-256-GCM of the canonical JSON of {@link Entry}, and its tag of 16 bytes; `cloister/personal/1`, id and digest are the associated data |
 *
 * Each subject has a key of their own, never used for anything else; nonces are drawn at random, which NIST SP 800-38D §8.3 takes for safe up
 * to 2^32 entries under one key.
 * @module
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { canonicalJson, type Json } from '../../src/base/canonical.ts';
import { CloisterError } from '../../src/base/errors.ts';
import * as z from '../../src/base/zod.ts';
import { commit } from './commitment.ts';
import { crc32c } from './crc32c.ts';
import { type LogDirectory, type LogFile, nodeDirectory } from './directory.ts';
import type { AuditRecord } from './record.ts';

/** Data about one person that belong to a record. */
export interface PersonalData {
  /** Who: a name or a number, 1 to 1,024 characters. One spelling for each person: it is how their data are found again. */
  readonly subject: string;
  /** What: texts by name, up to 65,536 characters each; 14 names at most, `subject` is taken. */
  readonly fields?: Readonly<Record<string, string>> | undefined;
}

/** What {@link revealPersonal} found for a record. */
export type PersonalVerdict =
  /** The data, each of which is the one that the record commits to. */
  | { readonly kind: 'opened'; readonly subject: string; readonly fields: Readonly<Record<string, string>> }
  /** The key was destroyed: nobody can read them again. */
  | { readonly kind: 'erased' }
  /** The record has none. */
  | { readonly kind: 'none' }
  /** They are not there, or not those that the record commits to. */
  | { readonly kind: 'damaged'; readonly reason: string };

interface Entry {
  readonly v: 1;
  readonly subject: Salted;
  readonly fields: Readonly<Record<string, Salted>>;
}

interface Salted {
  readonly value: string;
  /** 32 random bytes, hexadecimal. */
  readonly salt: string;
}

const text = (limit: number) =>
  z
    .string()
    .min(1)
    .max(limit)
    .refine(value => value.isWellFormed(), 'not well-formed');
const fieldName = z.string().regex(/^(?!subject$)[a-z][a-zA-Z0-9-]{0,31}$/);

const dataSchema: z.ZodType<PersonalData> = z.strictObject({
  subject: text(1024),
  fields: z
    .record(
      fieldName,
      z
        .string()
        .max(65_536)
        .refine(value => value.isWellFormed(), 'not well-formed'),
    )
    .refine(fields => Object.keys(fields).length <= 14, 'at most 14 fields')
    .optional(),
});

const salted = z.strictObject({ value: z.string(), salt: z.string().regex(/^[0-9a-f]{64}$/) });
const entrySchema: z.ZodType<Entry> = z.strictObject({
  v: z.literal(1),
  subject: salted,
  fields: z.record(fieldName, salted),
});

const erasureSchema = z.strictObject({
  v: z.literal(1),
  name: z.string().regex(/^[0-9a-f]{64}$/),
  actor: z.string(),
  purpose: z.string().optional(),
  commitment: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  from: z.number().int().min(0),
});

/** Who wants a subject erased, and why; for the log. */
export interface ErasedBy {
  readonly actor: string;
  readonly purpose?: string | undefined;
}

/** An erasure that was decided. */
export interface Erasure extends ErasedBy {
  /** Id of the key. */
  readonly id: string;
  /** Name of the file in `subjects/`. */
  readonly name: string;
  /** Salted commitment to the subject, which the log's record of the erasure is about. */
  readonly commitment: string;
  /** Records that the log had then: that of the erasure comes after them. */
  readonly from: number;
}

const ROOT = 'personal';
const MAGIC = Buffer.from('CLPERS01', 'latin1');
const HEAD_BYTES = 8;
const ID_BYTES = 16;
const DIGEST_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const FIXED_BYTES = ID_BYTES + DIGEST_BYTES + NONCE_BYTES;
/** Bytes that an entry may have behind its checksum. */
export const ENTRY_LIMIT_BYTES = 1_048_576;
/** Subjects whose keys are kept in memory. */
const CACHE_LIMIT = 4096;

interface SubjectKey {
  readonly id: string;
  readonly key: Buffer;
}

interface Waiting {
  readonly frame: Buffer;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** The personal data of a log that this process writes. */
export class PersonalStore {
  readonly #directory: LogDirectory;
  readonly #keys = new Map<string, SubjectKey>();
  readonly #waiting: Waiting[] = [];
  #index: Buffer | undefined;
  #segment: LogFile | undefined;
  #running: Promise<void> | undefined;
  #failure: unknown;

  constructor(directory: LogDirectory) {
    this.#directory = directory;
  }

  /**
   * Encrypts data, makes them durable, and returns the commitments for their record, `others` of the record's own among them.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when they do not fit their form; `STORE_FAILED`; `AUDIT_INVALID` when a file beside the log
   *   is not what it should be.
   */
  async keep(data: PersonalData, others: Readonly<Record<string, string>> = {}): Promise<Record<string, string>> {
    const checked = dataSchema.safeParse(data);
    if (!checked.success) throw new CloisterError('INVALID_ARGUMENT', `personal data: ${whatIsWrong(checked.error)}`);
    if (this.#failure !== undefined) throw this.#failure;
    const { subject, fields = {} } = checked.data;
    const entry: Entry = {
      v: 1,
      subject: salt(subject),
      fields: Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, salt(value)])),
    };
    const commitments = commitmentsOf(entry);
    const taken = Object.keys(commitments).find(name => Object.hasOwn(others, name));
    if (taken !== undefined)
      throw new CloisterError('INVALID_ARGUMENT', `the record has a commitment ${taken} of its own`);
    const frame = seal(this.#keyOf(subject), digestOf(commitments['subject']!), entry);
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ frame, resolve, reject });
      this.#running ??= this.#write();
    });
    return { ...others, ...commitments };
  }

  /**
   * Decides the erasure of a subject, durably; undefined when there is no key of theirs.
   *
   * @param from - Records in the log.
   */
  decide(subject: string, by: ErasedBy, from: number): Erasure | undefined {
    const name = this.#nameOf(checkSubject(subject));
    const id = readId(this.#directory, name);
    if (id === undefined) return undefined;
    const commitment = commit(randomBytes(32), subject); // the salt is kept nowhere: the log says that somebody was erased, not who
    const { actor, purpose } = by;
    const erasure = { name, actor, ...(purpose !== undefined && { purpose }), commitment, from };
    const file = canonicalJson({ v: 1, ...erasure } as unknown as Json);
    this.#directory.create(`${ROOT}/erasing/${id}`, Buffer.from(file), 0o600);
    const kept = this.#keys.get(name);
    this.#keys.delete(name);
    kept?.key.fill(0);
    return { id, ...erasure };
  }

  /** Erasures that were decided and not finished. */
  pending(): Erasure[] {
    const ids = this.#directory.list(`${ROOT}/erasing`).filter(id => ID_NAME.test(id));
    return ids.sort().flatMap(id => {
      const name = `${ROOT}/erasing/${id}`;
      const bytes = this.#directory.read(name, 4096) ?? new Uint8Array(0);
      if (bytes.every(byte => byte === 0)) {
        this.#directory.erase(name); // a crash came while it was settled
        return [];
      }
      const parsed = erasureSchema.safeParse(parseJson(bytes));
      if (!parsed.success) throw damaged(this.#directory, `erasing/${id}`);
      const { v, ...erasure } = parsed.data;
      return [{ id, ...erasure }];
    });
  }

  /** Destroys the key of an erasure, durably. May be done again. */
  destroy({ id, name }: Erasure): void {
    this.#directory.erase(`${ROOT}/keys/${id}`);
    if (readId(this.#directory, name) === id) this.#directory.erase(`${ROOT}/subjects/${name}`);
  }

  /** Forgets an erasure whose record is in the log. */
  settle({ id }: Erasure): void {
    this.#directory.erase(`${ROOT}/erasing/${id}`);
  }

  /** Refuses to keep more. */
  stop(cause: unknown): void {
    this.#failure ??= cause;
  }

  close(): void {
    this.#segment?.close();
    for (const { key } of this.#keys.values()) key.fill(0);
    this.#keys.clear();
  }

  async #write(): Promise<void> {
    await undefined; // what is kept in this turn shares the first write
    let group: Waiting[] = [];
    try {
      while (this.#waiting.length > 0) {
        group = this.#waiting.splice(0, 256);
        this.#segment ??= await newSegment(this.#directory);
        await this.#segment.append(Buffer.concat(group.map(({ frame }) => frame)));
        await this.#segment.sync();
        for (const { resolve } of group) resolve();
      }
    } catch (error) {
      this.stop(error);
      for (const { reject } of [...group, ...this.#waiting.splice(0)]) reject(error);
    } finally {
      this.#running = undefined;
    }
  }

  #keyOf(subject: string): SubjectKey {
    const name = this.#nameOf(subject);
    const known = this.#keys.get(name);
    if (known !== undefined) return known;
    const id = readId(this.#directory, name);
    const found = id === undefined ? this.#makeKey(name) : { id, key: readKey(this.#directory, id) };
    if (found.key === undefined) throw damaged(this.#directory, `keys/${found.id}`);
    const key = { id: found.id, key: found.key };
    if (this.#keys.size >= CACHE_LIMIT) this.#keys.delete(this.#keys.keys().next().value!);
    this.#keys.set(name, key);
    return key;
  }

  #makeKey(name: string): SubjectKey {
    const id = randomBytes(ID_BYTES).toString('hex');
    const key = randomBytes(32);
    this.#directory.create(`${ROOT}/keys/${id}`, key, 0o600);
    this.#directory.create(`${ROOT}/subjects/${name}`, Buffer.from(`${id}\n`), 0o600);
    return { id, key };
  }

  #nameOf(subject: string): string {
    this.#index ??= readIndex(this.#directory) ?? makeIndex(this.#directory);
    return createHmac('sha256', this.#index).update(subject, 'utf8').digest('hex');
  }
}

/**
 * Opens the personal data of records of the log in `dir`, each checked against the commitments of its record, in one pass over the data.
 * Takes no lock.
 *
 * @param records - As they were read from the log, or came with a receipt: verify that, too.
 * @returns A verdict for each record, in their order.
 * @throws {CloisterError} `AUDIT_INVALID` when a key is damaged; `STORE_FAILED` when a file cannot be read.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * const object = { kind: 'session', id: 'triage' } as const;
 * const event = { actor: 'ward-3', action: 'run', object, decision: { outcome: 'allow' } } as const;
 * await log.append(event, { personal: { subject: 'patient 4711' } });
 * const records = [];
 * for await (const record of log.records()) records.push(record);
 * await revealPersonal('./cloister-data/audit', records); // [{ kind: 'opened', subject: 'patient 4711', fields: {} }]
 * ```
 */
export async function revealPersonal(
  dir: string,
  records: readonly AuditRecord[],
): Promise<readonly PersonalVerdict[]> {
  return revealIn(nodeDirectory(dir, false), records);
}

/** {@link revealPersonal} behind the directory seam. */
export function revealIn(directory: LogDirectory, records: readonly AuditRecord[]): PersonalVerdict[] {
  const wanted = new Map<string, { readonly entry: Uint8Array }[]>();
  for (const { commitments } of records) {
    const subject = commitments?.['subject'];
    if (subject !== undefined) wanted.set(digestOf(subject).toString('hex'), []);
  }
  for (const entry of entriesOf(directory)) {
    const found = wanted.get(Buffer.from(entry.subarray(ID_BYTES, ID_BYTES + DIGEST_BYTES)).toString('hex'));
    found?.push({ entry: entry.slice() });
  }
  return records.map(record => {
    const subject = record.commitments?.['subject'];
    if (subject === undefined) return { kind: 'none' };
    const found = wanted.get(digestOf(subject).toString('hex'))!;
    if (found.length === 0) return { kind: 'damaged', reason: 'there are no data for it' };
    // A crash between two attempts leaves one entry for each; their salts differ, so one digest has one entry.
    return openEntry(directory, found[0]!.entry, record);
  });
}

function openEntry(directory: LogDirectory, bytes: Uint8Array, record: AuditRecord): PersonalVerdict {
  const id = Buffer.from(bytes.subarray(0, ID_BYTES)).toString('hex');
  const key = directory.read(`${ROOT}/erasing/${id}`, 1) === undefined ? readKey(directory, id) : undefined;
  if (key === undefined) return { kind: 'erased' };
  let entry: Entry;
  try {
    entry = unseal(key, bytes);
  } catch {
    return { kind: 'damaged', reason: 'they cannot be decrypted with the key of their subject' };
  } finally {
    key.fill(0);
  }
  for (const [name, digest] of Object.entries(commitmentsOf(entry))) {
    if (record.commitments?.[name] !== digest)
      return { kind: 'damaged', reason: `${name} is not what the record commits to` };
  }
  const fields = Object.entries(entry.fields).map(([name, { value }]) => [name, value] as const);
  return { kind: 'opened', subject: entry.subject.value, fields: Object.fromEntries(fields) };
}

/** The entries of all segments that are whole. Valid until the next one is asked for. */
export function* entriesOf(directory: LogDirectory): Generator<Uint8Array, void, undefined> {
  for (const name of segmentNames(directory)) {
    const file = directory.open(`${ROOT}/data/${name}`);
    if (file === undefined) continue;
    try {
      yield* entriesIn(file);
    } finally {
      file.close();
    }
  }
}

/** The entries of a segment, up to the first that is torn or damaged. */
function* entriesIn(file: LogFile): Generator<Uint8Array, void, undefined> {
  const head = Buffer.alloc(HEAD_BYTES);
  if (file.readAt(head, 0) < HEAD_BYTES || !head.equals(MAGIC)) return;
  for (let at = HEAD_BYTES; ; ) {
    if (file.readAt(head, at) < HEAD_BYTES) return;
    const length = head.readUInt32LE(0);
    if (length < FIXED_BYTES + TAG_BYTES || length > ENTRY_LIMIT_BYTES) return;
    const entry = new Uint8Array(length);
    if (file.readAt(entry, at + HEAD_BYTES) < length || crc32c(entry) !== head.readUInt32LE(4)) return;
    yield entry;
    at += HEAD_BYTES + length;
  }
}

function seal({ id, key }: SubjectKey, digest: Buffer, entry: Entry): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  const name = Buffer.from(id, 'hex');
  cipher.setAAD(Buffer.concat([DOMAIN, name, digest]));
  const plain = Buffer.from(canonicalJson(entry as unknown as Json), 'utf8');
  const body = Buffer.concat([name, digest, nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  plain.fill(0);
  if (body.length > ENTRY_LIMIT_BYTES)
    throw new CloisterError('INVALID_ARGUMENT', `personal data of a record may have ${ENTRY_LIMIT_BYTES} bytes in all`);
  const frame = Buffer.alloc(HEAD_BYTES + body.length);
  frame.writeUInt32LE(body.length, 0);
  frame.writeUInt32LE(crc32c(body), 4);
  frame.set(body, HEAD_BYTES);
  return frame;
}

function unseal(key: Buffer, bytes: Uint8Array): Entry {
  const at = ID_BYTES + DIGEST_BYTES;
  const end = bytes.length - TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(at, at + NONCE_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(Buffer.concat([DOMAIN, bytes.subarray(0, at)]));
  decipher.setAuthTag(bytes.subarray(end));
  const plain = Buffer.concat([decipher.update(bytes.subarray(FIXED_BYTES, end)), decipher.final()]);
  return entrySchema.parse(JSON.parse(plain.toString('utf8')));
}

const DOMAIN = Buffer.from('cloister/personal/1\n', 'latin1');
const ID_NAME = /^[0-9a-f]{32}$/;

function salt(value: string): Salted {
  return { value, salt: randomBytes(32).toString('hex') };
}

function commitmentsOf(entry: Entry): Record<string, string> {
  const all = Object.entries({ subject: entry.subject, ...entry.fields });
  return Object.fromEntries(all.map(([name, one]) => [name, commit(Buffer.from(one.salt, 'hex'), one.value)]));
}

function digestOf(commitment: string): Buffer {
  return Buffer.from(commitment.slice('sha256:'.length), 'hex');
}

async function newSegment(directory: LogDirectory): Promise<LogFile> {
  const last = segmentNames(directory).at(-1);
  const name = `${ROOT}/data/${String(last === undefined ? 0 : Number(last) + 1).padStart(8, '0')}`;
  directory.create(name, MAGIC, 0o600);
  const file = directory.openAppend(name);
  if (file === undefined) throw new CloisterError('STORE_FAILED', `${directory.path}/${name} is gone`);
  return file;
}

function segmentNames(directory: LogDirectory): string[] {
  return directory
    .list(`${ROOT}/data`)
    .filter(name => /^\d{8}$/.test(name))
    .sort();
}

function readIndex(directory: LogDirectory): Buffer | undefined {
  return readExactly(directory, 'index', 32);
}

function makeIndex(directory: LogDirectory): Buffer {
  const index = randomBytes(32);
  directory.create(`${ROOT}/index`, index, 0o600);
  return index;
}

function readKey(directory: LogDirectory, id: string): Buffer | undefined {
  return readExactly(directory, `keys/${id}`, 32);
}

/** The id of the key of a subject; undefined when there is none. */
function readId(directory: LogDirectory, name: string): string | undefined {
  const bytes = directory.read(`${ROOT}/subjects/${name}`, 64);
  // A crash within an erasure may leave the file overwritten with zeros: its key is gone already.
  if (bytes === undefined || bytes.every(byte => byte === 0)) return undefined;
  const id = Buffer.from(bytes).toString('latin1').replace(/\n$/, '');
  if (!ID_NAME.test(id)) throw damaged(directory, `subjects/${name}`);
  return id;
}

function readExactly(directory: LogDirectory, name: string, length: number): Buffer | undefined {
  const bytes = directory.read(`${ROOT}/${name}`, length + 1);
  if (bytes === undefined) return undefined;
  if (bytes.length !== length) throw damaged(directory, name);
  const buffer = Buffer.from(bytes);
  return timingSafeEqual(buffer, Buffer.alloc(length)) ? undefined : buffer; // zeros: overwritten, and a crash came before its removal
}

/** @throws {CloisterError} `INVALID_ARGUMENT` when it cannot name a subject. */
function checkSubject(subject: string): string {
  if (text(1024).safeParse(subject).success) return subject;
  throw new CloisterError('INVALID_ARGUMENT', 'a subject has 1 to 1,024 characters');
}

/** What is wrong, by place; never the value: it may be the name of a person. */
function whatIsWrong(error: {
  readonly issues: readonly { readonly path: PropertyKey[]; readonly code?: string }[];
}): string {
  return error.issues.map(({ path, code }) => `${path.join('.') || 'all'} (${code})`).join(', ');
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
}

function damaged(directory: LogDirectory, name: string): CloisterError {
  return new CloisterError(
    'AUDIT_INVALID',
    `${directory.path}/${ROOT}/${name} is not what the log wrote. Put it back from a backup`,
  );
}
