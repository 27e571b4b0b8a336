/**
 * Cosigned checkpoints beside a log: asking witnesses, keeping what they answered, and holding a log to it.
 *
 * | file | content |
 * |---|---|
 * | `cosigned/<size, 16 digits>` | a checkpoint of the log with the cosignatures of its witnesses; the newest 64 are kept |
 * @module
 */
import { decodeUtf8, encodeUtf8 } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { addSignatures, type Cosignature, parseCosigner, verifyCosignatures } from './cosignature.ts';
import { nodeCosignature } from './cosigner.ts';
import { type LogDirectory, nodeDirectory } from './directory.ts';
import { signedHead } from './epochs.ts';
import { consistencyProof } from './merkle.ts';
import { nodeHasher } from './node-crypto.ts';
import { formatSignature, NOTE_LIMIT_BYTES, parseNote, parseSignature } from './note.ts';
import { directoryProver } from './prove.ts';
import { TileReader } from './tile-store.ts';
import type { TamperKind } from './verdict.ts';
import { formatWitnessRequest, parseWitnessRequest } from './witness.ts';
import { quorumOf, type Witnessed, type WitnessPolicy } from './witness-policy.ts';

/** What {@link verifyWitnesses} found. */
export type WitnessedLogVerdict =
  | {
      readonly ok: true;
      /** Records that the witnesses have seen, of those that the log's checkpoint covers. */
      readonly witnessedSize: number;
      readonly size: number;
      readonly witnessed: readonly Witnessed[];
    }
  /** `kind` says what is wrong with the log; without it, it is the witnesses who are missing. */
  | { readonly ok: false; readonly kind?: TamperKind; readonly message: string };

/** How many cosigned checkpoints are kept. */
const KEPT = 64;

/**
 * What to ask a witness: to cosign the checkpoint that the log in `dir` has now. For `POST add-checkpoint` of C2SP tlog-witness, or as a
 * file for `Witness.cosign`.
 *
 * @param options.old - Records that the witness has seen; 0 by default, to which one that has seen some answers with their number.
 * @param options.vkey - The log's public key; by default the one beside it.
 * @throws {CloisterError} `INVALID_ARGUMENT` unless `0 <= old <= size`; `AUDIT_INVALID` when the log has no valid checkpoint;
 *   `STORE_FAILED`.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * await log.checkpoint();
 * const request = witnessRequest('./cloister-data/audit');
 * request.startsWith('old 0\n'); // true
 * ```
 */
export function witnessRequest(
  dir: string,
  options: { readonly old?: number | undefined; readonly vkey?: string | undefined } = {},
): string {
  return requestFrom(nodeDirectory(dir, false), options);
}

/** {@link witnessRequest} behind the directory seam. */
export function requestFrom(
  directory: LogDirectory,
  { old = 0, vkey }: { readonly old?: number | undefined; readonly vkey?: string | undefined } = {},
): string {
  const { note, checkpoint } = signedHead(directory, vkey);
  const { size } = checkpoint;
  if (!Number.isSafeInteger(old) || old < 0 || old > size)
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `the checkpoint covers ${size} records, a witness cannot have seen ${old}`,
    );
  const { node } = new TileReader(directory, size);
  const proof = old === 0 ? [] : consistencyProof(old, size, node, nodeHasher);
  const hashes = proof.map(hash => Buffer.from(hash).toString('base64'));
  return formatWitnessRequest({ old, proof: hashes, checkpoint: decodeUtf8(note) });
}

/**
 * Keeps what a witness answered beside the log in `dir`: cosignatures of the checkpoint in `request`, if they hold under one of the vkeys
 * and the log still extends that checkpoint. Other lines are left out.
 *
 * @returns The cosignatures on that checkpoint so far, by these witnesses.
 * @throws {CloisterError} `AUDIT_INVALID` when a cosignature does not hold, none is by these witnesses, or the log does not extend the
 *   checkpoint; `INVALID_ARGUMENT` when a vkey is none; `STORE_FAILED`.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * await log.append({ actor: 'ward-3', action: 'load', object, decision: { outcome: 'allow' } });
 * await log.checkpoint();
 * await using witness = await openWitness('./witness', { name: 'witness.example/w1', logs: [log.vkey] });
 * const request = witnessRequest('./cloister-data/audit');
 * const reply = await witness.cosign(request);
 * if (reply.ok) await keepCosignatures('./cloister-data/audit', request, reply.body, [witness.vkey]);
 * await verifyWitnesses('./cloister-data/audit', witnessPolicy(1, [witness.vkey])); // { ok: true, witnessedSize: 1, … }
 * ```
 */
export function keepCosignatures(
  dir: string,
  request: Uint8Array | string,
  reply: string,
  witnesses: readonly string[],
): Promise<readonly Cosignature[]> {
  return keepIn(nodeDirectory(dir, false), request, reply, witnesses);
}

/** {@link keepCosignatures} behind the directory seam. */
export async function keepIn(
  directory: LogDirectory,
  request: Uint8Array | string,
  reply: string,
  witnesses: readonly string[],
): Promise<readonly Cosignature[]> {
  const known = witnesses.map(parseCosigner);
  const { checkpoint } = parseWitnessRequest(request);
  const lines = reply.split('\n').filter(line => line !== '');
  const theirs = lines
    .map(parseSignature)
    .filter(({ name, id }) => known.some(one => one.name === name && one.id === id));
  if (theirs.length === 0) throw new CloisterError('AUDIT_INVALID', 'the reply has no cosignature by these witnesses');
  using prover = directoryProver(directory);
  const extended = await prover.extends(checkpoint);
  if (!extended.ok)
    throw new CloisterError('AUDIT_INVALID', `the log does not extend that checkpoint: ${extended.message}`, {
      kind: extended.kind,
    });
  const file = fileOf(extended.from);
  const kept = readNote(directory, file);
  const before = kept !== undefined && parseNote(kept).text === parseNote(checkpoint).text ? kept : checkpoint;
  const cosigned = addSignatures(before, theirs.map(formatSignature));
  const verdict = verifyCosignatures(cosigned, known, nodeCosignature);
  if (!verdict.ok) throw new CloisterError('AUDIT_INVALID', `the reply does not verify: ${verdict.reason}`);
  await directory.replace(file, encodeUtf8(cosigned), 0o644);
  directory.remove(heads(directory).slice(KEPT));
  return verdict.cosigned;
}

/**
 * Verifies that the log in `dir` extends a checkpoint that was cosigned as `policy` demands: the newest such one that lies beside it. It
 * reads hash tiles alone; `verifyLog` reads the records.
 *
 * @param vkey - The log's public key; by default one that the policy lists, or the one beside the log.
 * @throws {CloisterError} `AUDIT_INVALID` when the log has no valid checkpoint; `STORE_FAILED`.
 */
export function verifyWitnesses(dir: string, policy: WitnessPolicy, vkey?: string): Promise<WitnessedLogVerdict> {
  return verifyWitnessesIn(nodeDirectory(dir, false), policy, vkey);
}

/** {@link verifyWitnesses} behind the directory seam. */
export async function verifyWitnessesIn(
  directory: LogDirectory,
  policy: WitnessPolicy,
  vkey?: string,
): Promise<WitnessedLogVerdict> {
  using prover = directoryProver(directory, vkey);
  const { size } = prover.checkpoint;
  let first: string | undefined;
  for (const file of heads(directory)) {
    const note = readNote(directory, file) ?? '';
    const quorum = quorumOf(note, policy, nodeCosignature);
    if (!quorum.ok) {
      first ??= quorum.reason;
      continue;
    }
    const extended = await prover.extends(note);
    if (!extended.ok) return { ok: false, kind: extended.kind, message: `a cosigned checkpoint: ${extended.message}` };
    return { ok: true, witnessedSize: extended.from, size, witnessed: quorum.witnessed };
  }
  return { ok: false, message: first ?? 'no checkpoint beside the log was cosigned' };
}

/** The files of cosigned checkpoints, newest first. */
function heads(directory: LogDirectory): string[] {
  const names = directory.list('cosigned').filter(name => /^\d{16}$/.test(name));
  return names
    .sort()
    .reverse()
    .map(name => `cosigned/${name}`);
}

function fileOf(size: number): string {
  return `cosigned/${String(size).padStart(16, '0')}`;
}

function readNote(directory: LogDirectory, file: string): string | undefined {
  const bytes = directory.read(file, NOTE_LIMIT_BYTES + 1);
  if (bytes === undefined) return undefined;
  try {
    return decodeUtf8(bytes);
  } catch {
    return ''; // no note
  }
}
