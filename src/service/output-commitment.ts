/**
 * What the log says of raw outputs: a salted commitment, never a bare digest. Whoever reads the log and owns the model could try
 * candidate inputs against a digest until one fits; without the salt, which only the caller gets, nothing can be tried.
 * @module
 */
import { commit } from '../../sandbox/audit/commitment.ts';
import type { AuditRecord } from '../../sandbox/audit/index.ts';
import { canonicalJson, encodeUtf8, fromHex } from '../base/index.ts';
import type { NamedTensors, Profile } from '../engine/index.ts';
import { startSha256 } from './sha256.ts';

/**
 * Returns the commitment to `outputs`: `sha256:` over the salt and a digest of name, dtype, shape and little-endian elements of
 * each output in order.
 *
 * @param salt - At least 16 random bytes, fresh for each run.
 */
export function commitOutputs(outputs: NamedTensors, salt: Uint8Array): string {
  const hash = startSha256();
  for (const [name, tensor] of Object.entries(outputs)) {
    hash.update(encodeUtf8(canonicalJson([name, tensor.dtype, [...tensor.shape]]))).update(tensor.toBytes());
  }
  return commit(salt, hash.digest('hex'));
}

/** Returns the commitment to a profile: `sha256:` over the salt and a digest of its spelling by `JSON.stringify`. */
export function commitProfile(profile: Profile, salt: Uint8Array): string {
  return commit(salt, startSha256().update(JSON.stringify(profile)).digest('hex'));
}

/**
 * Whether `record` is the record of a run that gave exactly `outputs`. For the caller of the run, who kept the salt, and for whoever
 * the caller shows both. Check the record itself with `verifyReceipt`.
 *
 * @param salt - `outputSalt` of the run's reply, hexadecimal.
 * @throws {CloisterError} `INVALID_ARGUMENT` when the salt is not 16 or more bytes in hexadecimal.
 * @example
 * ```ts
 * await using cloister = await openCloister({ dir: './data', policy: { rawOutputs: 'allow' } });
 * const model = await cloister.load('digits.onnx');
 * const { outputs, outputSalt, receipt } = await model.run({ image: new Float32Array(784) }, { actor: 'a', purpose: 'p' });
 * verifyOutputs(receipt.record!, outputs, outputSalt); // true
 * ```
 */
export function verifyOutputs(record: AuditRecord, outputs: NamedTensors, salt: string): boolean {
  return record.action === 'run' && record.commitments?.['output'] === commitOutputs(outputs, fromHex(salt));
}
