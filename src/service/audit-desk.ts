/**
 * What is done with the audit log of a directory while no service has it open: erasing a person, changing its key, asking witnesses.
 * Reading and verifying are in `offline.ts`.
 * @module
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type {
  AuditLog,
  AuditRecord,
  ErasedBy,
  LogsVerdict,
  PersonalVerdict,
  Receipt,
  WitnessedLogVerdict,
  WitnessPolicy,
  WitnessReply,
} from '../../sandbox/audit/index.ts';
import { CloisterError } from '../base/index.ts';
import { paths, readAnchor, writeAnchor } from './directory.ts';
import type { LedgerStore } from './ledger-store.ts';

/**
 * Erases a person from the audit log in `dir`: destroys the key of their data, and records that it was done. Records and proofs stay.
 * A service that runs has the log; use `Cloister.eraseSubject` there.
 *
 * @returns The receipt of the record; undefined when there are no data of that person: then nothing is done.
 * @throws {CloisterError} `LOCKED` while a service runs; `INVALID_ARGUMENT` when there is no log; as `AuditLog.eraseSubject`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * await eraseSubject('./cloister-data', 'patient 4711', { actor: 'privacy-desk' }); // undefined
 * ```
 */
export function eraseSubject(dir: string, subject: string, by: ErasedBy): Promise<Receipt | undefined> {
  return withLog(dir, log => log.eraseSubject(subject, by));
}

/**
 * Gives the audit log in `dir` a new key, see `AuditLog.rotateKey`. A service that runs has the log; use `Cloister.rotateAuditKey` there.
 *
 * @returns The new public key. What auditors keep stays the first one.
 * @throws {CloisterError} `LOCKED` while a service runs; `INVALID_ARGUMENT` when there is no log; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * const next = await rotateAuditKey('./cloister-data');
 * next === cloister.auditKey; // false
 * (await verifyAudit('./cloister-data', { key: cloister.auditKey })).ok; // true
 * ```
 */
export function rotateAuditKey(dir: string): Promise<string> {
  return withLog(dir, log => log.rotateKey());
}

/**
 * Closes the log in `log` for good and begins its continuation in `to`, under a new name and with a new key, see `continueLog`. Of logs
 * that stand by themselves: a cloister keeps its own going, and changes keys with {@link rotateAuditKey}.
 *
 * @param to - An empty directory, or none yet.
 * @returns The public key of the new log.
 * @throws {CloisterError} as `continueLog` of `cloister/audit`; `INVALID_ARGUMENT` when there is no log, or it is a cloister's.
 * @example
 * ```ts
 * const log = await openLog('./audit-2026', { origin: 'clinic.example/2026' });
 * await log.close();
 * await continueAudit('./audit-2026', './audit-2027', 'clinic.example/2027');
 * (await verifyAudits(['./audit-2026', './audit-2027'], { key: log.vkey })).ok; // true
 * ```
 */
export async function continueAudit(log: string, to: string, origin: string): Promise<string> {
  const { continueLog } = await import('../../sandbox/audit/index.ts');
  if (!existsSync(join(log, 'checkpoint')))
    throw new CloisterError('INVALID_ARGUMENT', `there is no audit log in ${log}`);
  const { ledgerFile, storeFile } = paths(dirname(log));
  if (existsSync(ledgerFile) || existsSync(storeFile))
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `${log} is the log of a cloister, which goes on with it: change its key instead`,
    );
  await using next = await continueLog(log, to, { origin });
  return next.vkey;
}

/**
 * Verifies logs that continue one another, the oldest first, see `verifyLogs`.
 *
 * @param logs - Their directories.
 * @throws {CloisterError} `INVALID_ARGUMENT` when one has no log, or on a malformed key; `STORE_FAILED`.
 */
export async function verifyAudits(
  logs: readonly string[],
  options: { readonly key?: string; readonly onProgress?: (records: number, total: number) => void } = {},
): Promise<LogsVerdict> {
  const { verifyLogs } = await import('../../sandbox/audit/index.ts');
  const missing = logs.find(log => !existsSync(log));
  if (missing !== undefined) throw new CloisterError('INVALID_ARGUMENT', `there is no audit log in ${missing}`);
  const { key: vkey, onProgress } = options;
  return await verifyLogs(logs, {
    vkey,
    onProgress: onProgress && (({ records, total }) => onProgress(records, total)),
  });
}

/** A record with the personal data that belong to it. */
export interface RevealedRecord {
  readonly record: AuditRecord;
  readonly personal: PersonalVerdict;
}

/**
 * Opens the personal data that belong to records of the audit log in `dir`, each checked against the commitments of its record. Takes no
 * lock.
 *
 * @param records - As `readAudit` gives them.
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log; `AUDIT_INVALID` when a key is damaged; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * const records = [];
 * for await (const record of readAudit('./cloister-data')) records.push(record);
 * const [first] = await revealAudit('./cloister-data', records);
 * first?.personal; // { kind: 'none' }
 * ```
 */
export async function revealAudit(dir: string, records: readonly AuditRecord[]): Promise<readonly RevealedRecord[]> {
  const { revealPersonal } = await import('../../sandbox/audit/index.ts');
  const verdicts = await revealPersonal(logIn(dir), records);
  return records.map((record, i) => ({ record, personal: verdicts[i]! }));
}

/**
 * What to ask a witness about the audit log in `dir`: a request in the form of C2SP tlog-witness.
 *
 * @param old - Records that the witness has seen; 0 by default.
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log, or it has fewer records; `AUDIT_INVALID`; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * const request = await auditWitnessRequest('./cloister-data');
 * request.startsWith('old 0\n'); // true
 * ```
 */
export async function auditWitnessRequest(dir: string, old = 0): Promise<string> {
  const { witnessRequest } = await import('../../sandbox/audit/index.ts');
  return witnessRequest(logIn(dir), { old });
}

/**
 * Keeps what a witness answered to a request, see `keepCosignatures`.
 *
 * @returns How many of the witnesses have cosigned that checkpoint by now.
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log or a key is none; `AUDIT_INVALID` when the answer does not hold.
 */
export async function keepWitnessReply(
  dir: string,
  request: string,
  reply: string,
  witnesses: readonly string[],
): Promise<number> {
  const { keepCosignatures } = await import('../../sandbox/audit/index.ts');
  return (await keepCosignatures(logIn(dir), request, reply, witnesses)).length;
}

/**
 * Verifies that the audit log in `dir` extends a checkpoint that was cosigned as demanded.
 *
 * @param demanded - vkeys of witnesses, all of which must have cosigned it; or a policy as text, in the form of C2SP tlog-policy.
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log, or the demand cannot be read; `AUDIT_INVALID`; `STORE_FAILED`.
 */
export async function verifyAuditWitnesses(
  dir: string,
  demanded: readonly string[] | string,
  options: { readonly key?: string } = {},
): Promise<WitnessedLogVerdict> {
  const { parseWitnessPolicy, verifyWitnesses, witnessPolicy } = await import('../../sandbox/audit/index.ts');
  const policy: WitnessPolicy =
    typeof demanded === 'string' ? parseWitnessPolicy(demanded) : witnessPolicy(demanded.length, demanded);
  return await verifyWitnesses(logIn(dir), policy, options.key);
}

/**
 * Makes a witness in `dir`, or opens the one that is there, and returns its public key.
 *
 * @throws {CloisterError} as `openWitness` of `cloister/audit`.
 * @example
 * A round: a witness is made, the log asks, the witness answers, the answer is kept, and the log is held to it.
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * const witness = await makeWitness('./witness', 'witness.example/w1');
 * const request = await auditWitnessRequest('./cloister-data');
 * const answer = await answerAsWitness('./witness', request, [cloister.auditKey]);
 * if (answer.ok) await keepWitnessReply('./cloister-data', request, answer.body, [witness]);
 * (await verifyAuditWitnesses('./cloister-data', [witness])).ok; // true
 * ```
 */
export async function makeWitness(dir: string, name?: string): Promise<string> {
  const { openWitness } = await import('../../sandbox/audit/index.ts');
  await using witness = await openWitness(dir, { name, logs: [] });
  return witness.vkey;
}

/**
 * Lets the witness in `dir` answer a request of one of the logs with these vkeys.
 *
 * @throws {CloisterError} as `openWitness` of `cloister/audit`; `INVALID_ARGUMENT` when there is no witness.
 */
export async function answerAsWitness(dir: string, request: string, logs: readonly string[]): Promise<WitnessReply> {
  const { openWitness } = await import('../../sandbox/audit/index.ts');
  if (!existsSync(dir)) throw new CloisterError('INVALID_ARGUMENT', `there is no witness in ${dir}`, { dir });
  await using witness = await openWitness(dir, { logs });
  return await witness.cosign(request);
}

/** The directory of the log of a cloister; a missing one is not made. */
function logIn(dir: string): string {
  const { auditDir } = paths(dir);
  if (!existsSync(auditDir)) throw new CloisterError('INVALID_ARGUMENT', `there is no audit log in ${dir}`, { dir });
  return auditDir;
}

/**
 * Opens the log of a cloister as a service would, and leaves its anchor in the ledger's store.
 *
 * @throws {CloisterError} `LOCKED` while a service runs; `INVALID_ARGUMENT` when there is no log or no ledger.
 */
export async function withLog<T>(dir: string, work: (log: AuditLog, kept: LedgerStore) => Promise<T>): Promise<T> {
  const auditDir = logIn(dir);
  const [{ openExistingStore }, { openLog }] = await Promise.all([
    import('./ledger-store.ts'),
    import('../../sandbox/audit/index.ts'),
  ]);
  await using kept = await openExistingStore(dir);
  const { store, anchor } = kept;
  await using log = await openLog(auditDir, { anchor: await readAnchor(store, anchor) });
  const result = await work(log, kept);
  await store.transaction(tx => writeAnchor(tx, log.head(), anchor));
  return result;
}
