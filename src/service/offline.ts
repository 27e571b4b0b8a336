/**
 * Looking at a cloister's directory without opening the service: the audit log, a model file.
 * @module
 */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import type {
  AuditRecord,
  ExportFormat,
  ExtensionVerdict,
  LogComparison,
  LogVerdict,
  ProofBundle,
  RecordFilter,
  RecordQuery,
} from '../../sandbox/audit/index.ts';
import type { FixedDims, ModelSummary, Optimisation, SandboxedModel, ShownForm } from '../../sandbox/index.ts';
import { CloisterError, isCloisterError, systemClock } from '../base/index.ts';
import { paths, readAnchor } from './directory.ts';
import { type PolicyInput, parsePolicy } from './policy.ts';

/**
 * Verifies the audit log in `dir` from its files alone: every record, the tree, the checkpoint. If a ledger lies beside it, the
 * log must also extend what the ledger last saw of it. Takes no lock.
 *
 * @throws {CloisterError} `STORE_FAILED` when a file cannot be read; `INVALID_ARGUMENT` on a malformed key, or when there is no log.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * await verifyAudit('./cloister-data', { key: cloister.auditKey }); // { ok: true, size: 2, … }
 * ```
 */
export async function verifyAudit(
  dir: string,
  options: { readonly key?: string; readonly onProgress?: (records: number, total: number) => void } = {},
): Promise<LogVerdict> {
  const { verifyLog } = await import('../../sandbox/audit/index.ts');
  const { onProgress } = options;
  const auditDir = existingLog(dir);
  let anchor: Awaited<ReturnType<typeof readAnchor>>;
  const { hasLedger, openExistingStore } = await import('./ledger-store.ts');
  if (hasLedger(dir)) {
    await using kept = await openExistingStore(dir);
    anchor = await readAnchor(kept.store, kept.anchor);
  }
  return await verifyLog(auditDir, {
    vkey: options.key,
    anchor,
    onProgress: onProgress && (({ records, total }) => onProgress(records, total)),
  });
}

/** What {@link readAudit} may be told: the conditions of `RecordQuery`, with the filter as text. */
export interface AuditQuery extends Omit<RecordQuery, 'filter'> {
  /** Qualifiers and words, such as `action:refuse -actor:ward-3 since:7d`; see `parseFilter` of `cloister/audit`. */
  readonly filter?: string | undefined;
}

/**
 * Reads the records of the audit log in `dir`, in order. Checks form and numbering; {@link verifyAudit} checks the rest.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log, or the filter cannot be read; `AUDIT_INVALID` at the first damaged
 *   record; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * const actions: string[] = [];
 * for await (const record of readAudit('./cloister-data')) actions.push(record.action);
 * actions; // ['open', 'close']
 * ```
 */
export async function* readAudit(dir: string, query: AuditQuery = {}): AsyncGenerator<AuditRecord, void, undefined> {
  const { readRecords } = await import('../../sandbox/audit/index.ts');
  const filter = await readFilter(query.filter);
  yield* readRecords(existingLog(dir), { ...query, filter });
}

/** Whether a receipt holds. */
export type ReceiptFileVerdict =
  | { readonly ok: true; readonly index: number }
  | { readonly ok: false; readonly message: string };

/**
 * Verifies the receipt in `file` under `key`, or under the public key beside the log in `dir`.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the file or the key cannot be read.
 */
export async function verifyReceiptFile(
  file: string,
  { dir, key }: { readonly dir: string; readonly key?: string },
): Promise<ReceiptFileVerdict> {
  const { readKeys, verifyReceipt } = await import('../../sandbox/audit/index.ts');
  let receipt: unknown;
  let vkey: string;
  try {
    vkey = key ?? (await readText(join(paths(dir).auditDir, 'vkey'))).trim();
    receipt = JSON.parse(await readText(file));
  } catch (cause) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `the receipt or the key cannot be read: ${(cause as Error).message}`,
      { file },
      { cause },
    );
  }
  // Where the log is at hand, the key leads to those of its later epochs.
  let keys = [vkey];
  try {
    keys = readKeys(paths(dir).auditDir, vkey);
  } catch (error) {
    if (!isCloisterError(error, 'AUDIT_INVALID')) throw error;
  }
  const verdict = verifyReceipt(receipt, keys);
  return verdict.ok ? { ok: true, index: verdict.index } : { ok: false, message: verdict.reason };
}

/**
 * Proves record `index` of the audit log in `dir`: a bundle that can be checked alone, see `verifyBundle` of `cloister/audit`. May run
 * beside the service.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log, or its checkpoint does not cover the record (yet);
 *   `AUDIT_INVALID` when the record, the checkpoint or the tree file is damaged; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * const { receipt } = await proveAudit('./cloister-data', 1);
 * receipt.record.action; // 'close'
 * ```
 */
export async function proveAudit(dir: string, index: number): Promise<ProofBundle> {
  const { openProver, readRecords } = await import('../../sandbox/audit/index.ts');
  const auditDir = existingLog(dir);
  using prover = openProver(auditDir);
  for await (const record of readRecords(auditDir, { from: index, limit: 1 })) return prover.prove(record);
  throw new CloisterError('INVALID_ARGUMENT', `there is no record ${index} in ${dir}`, { dir, index });
}

/**
 * Whether the audit log in `dir` extends a checkpoint that somebody kept, the signed note in `file`. Believes `key`, or the public key
 * beside the log.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log, the file cannot be read, the key is malformed, or the checkpoint
 *   covers no record; `AUDIT_INVALID` when the log has no checkpoint by that key; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * const file = './cloister-data/audit/checkpoint'; // of today; kept elsewhere, it tells whether the log of tomorrow extends it
 * await checkExtension('./cloister-data', file, { key: cloister.auditKey }); // { ok: true, from: 2, size: 2, … }
 * ```
 */
export async function checkExtension(
  dir: string,
  file: string,
  { key }: { readonly key?: string } = {},
): Promise<ExtensionVerdict> {
  const { openProver } = await import('../../sandbox/audit/index.ts');
  const note = await readText(file);
  using prover = openProver(existingLog(dir), key);
  return await prover.extends(note);
}

/** What {@link exportAudit} may be told. */
export interface ExportOptions {
  /** `jsonl`: records as they are, canonical JSON; `csv`: for spreadsheets; `ocsf`: API Activity events. */
  readonly format: ExportFormat;
  /** As in {@link AuditQuery}. */
  readonly filter?: string | undefined;
  /** Whether each record comes with a proof bundle. Then records that the log's checkpoint does not cover yet are left out. */
  readonly proofs?: boolean | undefined;
}

/** One record of an export. */
export interface ExportedRecord {
  /** A line of the export, without its end. */
  readonly line: string;
  /** Its proof bundle as a line, for {@link verifyBundleFile}; there with `proofs` alone. */
  readonly bundle?: string;
}

/**
 * Gives records of the audit log in `dir` as lines for other programs. For CSV the first line has the names of the columns, and no
 * bundle. May run beside the service.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log, or the filter cannot be read; `AUDIT_INVALID` at the first damaged
 *   record, or, with proofs, at the first that is not in the signed tree; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * const lines: string[] = [];
 * for await (const { line } of exportAudit('./cloister-data', { format: 'csv', filter: 'action:close' })) lines.push(line);
 * lines[0]?.split(',')[0]; // 'seq'
 * lines[1]?.split(',')[0]; // '1'
 * ```
 */
export async function* exportAudit(
  dir: string,
  { format, filter, proofs = false }: ExportOptions,
): AsyncGenerator<ExportedRecord, void, undefined> {
  const { CSV_HEADER, csvRow, jsonLine, openProver, readRecords, toOcsf } = await import(
    '../../sandbox/audit/index.ts'
  );
  const auditDir = existingLog(dir);
  const query = { filter: await readFilter(filter) };
  using prover = openProver(auditDir);
  const { origin, size } = prover.checkpoint;
  if (format === 'csv') yield { line: CSV_HEADER };
  for await (const record of readRecords(auditDir, query)) {
    if (proofs && record.seq >= size) return;
    const line = format === 'csv' ? csvRow(record) : jsonLine(format === 'ocsf' ? toOcsf(record, origin) : record);
    yield proofs ? { line, bundle: jsonLine(prover.prove(record)) } : { line };
  }
}

/** What {@link tailAudit} may be told. */
export interface TailOptions {
  /** How many of the last matching records to give first. Default 10. */
  readonly last?: number | undefined;
  /** As in {@link AuditQuery}. */
  readonly filter?: string | undefined;
  /** Whether to wait for more. Default false. */
  readonly follow?: boolean | undefined;
  /** Ends the following, without an error. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Gives the last records of the audit log in `dir`, and with `follow` those that come after, until `signal`. A record is given when it
 * is whole in the file, which may be a moment before it is durable.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log, or the filter cannot be read; `AUDIT_INVALID` at the first damaged
 *   record, or when the log was replaced by a shorter one; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * const actions: string[] = [];
 * for await (const record of tailAudit('./cloister-data', { last: 1 })) actions.push(record.action);
 * actions; // ['close']
 * ```
 */
export async function* tailAudit(dir: string, options: TailOptions = {}): AsyncGenerator<AuditRecord, void, undefined> {
  const { followRecords, matchesFilter, readRecords } = await import('../../sandbox/audit/index.ts');
  const { last = 10, follow = false, signal } = options;
  const auditDir = existingLog(dir);
  const filter = await readFilter(options.filter);
  let kept: AuditRecord[] = [];
  let from = 0;
  for await (const record of readRecords(auditDir)) {
    from = record.seq + 1;
    if (filter !== undefined && !matchesFilter(record, filter)) continue;
    kept.push(record);
    if (kept.length >= 2 * last) kept = last === 0 ? [] : kept.slice(-last);
  }
  if (last > 0) yield* kept.slice(-last);
  if (follow) yield* followRecords(auditDir, { from, filter, signal });
}

/**
 * Compares two logs, a log and its backup say: directories of cloisters, or of logs. Both are verified first.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log in one, or the key is malformed; `AUDIT_INVALID` when one has no
 *   public key; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * await compareAudits('./cloister-data', './cloister-data/audit'); // { kind: 'same', sizes: [2, 2] }
 * ```
 */
export async function compareAudits(
  first: string,
  second: string,
  { key }: { readonly key?: string } = {},
): Promise<LogComparison> {
  const { compareLogs } = await import('../../sandbox/audit/index.ts');
  const logOf = (dir: string): string => (existsSync(join(dir, 'checkpoint')) ? dir : existingLog(dir));
  return await compareLogs(logOf(first), logOf(second), { vkey: key });
}

/** Whether every bundle of a file holds. */
export type BundleFileVerdict =
  | {
      readonly ok: true;
      /** Name of the log. */
      readonly origin: string;
      /** How many records are proved. */
      readonly records: number;
      /** Public key under which they are. */
      readonly key: string;
    }
  | {
      readonly ok: false;
      /** Line of the first bundle that does not hold, from 1. */
      readonly line: number;
      readonly message: string;
    };

/**
 * Verifies the proof bundles in `file`, one to a line, with nothing but that file. Without `key` they hold under the key that the first
 * carries: it should be compared with the log's.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the file cannot be read, or the key is malformed.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * await writeFile('bundle.json', JSON.stringify(await proveAudit('./cloister-data', 0)));
 * await verifyBundleFile('bundle.json', { key: cloister.auditKey }); // { ok: true, records: 1, … }
 * ```
 */
export async function verifyBundleFile(
  file: string,
  { key }: { readonly key?: string } = {},
): Promise<BundleFileVerdict> {
  const { verifyBundle } = await import('../../sandbox/audit/index.ts');
  const { readLines } = await import('./files.ts');
  let common = key;
  let origin = '';
  let records = 0;
  for await (const line of readLines(file, TEXT_LIMIT_BYTES)) {
    const refuse = (message: string): BundleFileVerdict => ({ ok: false, line: records + 1, message });
    let bundle: unknown;
    try {
      bundle = JSON.parse(line);
    } catch {
      return refuse('not a proof bundle: no JSON on this line');
    }
    const verdict = verifyBundle(bundle, common);
    if (!verdict.ok) return refuse(verdict.reason);
    common ??= (bundle as ProofBundle).vkey;
    origin = verdict.origin;
    records++;
  }
  if (common === undefined || records === 0)
    return { ok: false, line: 1, message: 'there is no proof bundle in the file' };
  return { ok: true, origin, records, key: common };
}

/** What a model file is. */
export interface ModelReport extends ModelSummary {
  readonly file: string;
  /** `sha256:…` of the file, and of the files beside it where it needs some: see `SandboxedModel.digest`. */
  readonly digest: string;
  /** What each pass does to the graph. */
  readonly passes: Optimisation['passes'];
  /** What the activations of the optimised graph need; undefined where a size of an input is open. */
  readonly arena: Optimisation['arena'];
  readonly backend: 'native' | 'reference';
  /** Why this backend and not the other. */
  readonly why: string;
  readonly memory: SandboxedModel['memory'];
  /** The model in the forms that were asked for. */
  readonly shown: Readonly<Partial<Record<ShownForm, string>>>;
}

/** What {@link inspectModel} may be told. */
export interface InspectOptions {
  readonly policy?: PolicyInput;
  /** Forms in which the model is to be shown as well. Default none. */
  readonly show?: readonly ShownForm[];
  /** Sizes of symbolic dimensions of the inputs, by name, that are fixed. */
  readonly dims?: FixedDims;
}

/**
 * Reads a model file inside the sandbox and returns what it is. Nothing is recorded, nothing is kept. What `show` asks for is drawn
 * in the sandbox too, and comes out as text: names escaped, no weights.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the file cannot be read; what the sandbox finds wrong with it; `LIMIT_EXCEEDED`
 *   when what is to be shown would have more than 16 MiB.
 * @example
 * ```ts
 * const { operators, shown } = await inspectModel('digits.onnx', { show: ['svg'] });
 * operators[0]; // { op: 'Conv', count: 2 }
 * shown.svg?.slice(0, 4); // '<svg'
 * ```
 */
export async function inspectModel(file: string, options: InspectOptions = {}): Promise<ModelReport> {
  const { openSandbox } = await import('../../sandbox/index.ts');
  const { openBeside } = await import('./beside.ts');
  const { readRegularFile } = await import('./files.ts');
  const policy = parsePolicy(options.policy ?? {});
  const { modelBytes: limitBytes } = policy.limits;
  const bytes = await readRegularFile(file, limitBytes, 'MODEL_TOO_LARGE');
  await using sandbox = await openSandbox({
    isolation: policy.isolation,
    limits: policy.limits,
    require: policy.require,
    warm: 0,
  });
  const external = openBeside(file, { limitBytes });
  const { dims } = options;
  const model = await sandbox.load(bytes, { name: basename(file), external, ...(dims && { dims }) });
  const { summary, backend, why, memory, digest } = model;
  const { passes, arena } = await model.passes();
  const shown: Partial<Record<ShownForm, string>> = {};
  for (const form of new Set(options.show)) shown[form] = await model.show(form);
  return { ...summary, file: basename(file), digest, backend, why, memory, passes, arena, shown };
}

/** The directory of the log of a cloister; a missing one is not made. */
function existingLog(dir: string): string {
  const { auditDir } = paths(dir);
  if (!existsSync(auditDir)) throw new CloisterError('INVALID_ARGUMENT', `there is no audit log in ${dir}`, { dir });
  return auditDir;
}

async function readFilter(text: string | undefined): Promise<RecordFilter | undefined> {
  const { parseFilter } = await import('../../sandbox/audit/index.ts');
  return text === undefined ? undefined : parseFilter(text, systemClock.now());
}

/** A key, or a receipt with a record of at most 16 KiB. */
const TEXT_LIMIT_BYTES = 1_048_576;

async function readText(file: string): Promise<string> {
  const { readRegularFile } = await import('./files.ts');
  return new TextDecoder().decode(await readRegularFile(file, TEXT_LIMIT_BYTES));
}
