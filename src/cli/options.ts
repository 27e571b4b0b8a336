/**
 * Options that several commands share, and how their text becomes values.
 * @module
 */
import { Option } from 'commander';
import { CloisterError } from '../base/index.ts';
import { readRegularFile } from '../service/files.ts';
import { type PolicyInput, parsePolicy } from '../service/index.ts';

/** `--dir DIR`: where ledger, audit log and keys live. */
export const dirOption = (): Option =>
  new Option('--dir <dir>', 'directory of ledger, audit log and keys').default('./cloister-data').env('CLOISTER_DIR');

/** `--policy FILE`. */
export const policyOption = (): Option => new Option('--policy <file>', 'policy as a JSON file').env('CLOISTER_POLICY');

/** `--json`. */
export const jsonOption = (): Option => new Option('--json', 'print data as JSON');

/** Bytes of a policy file, at most: room for a hundred thousand scopes. */
const POLICY_LIMIT_BYTES = 16_777_216;

/**
 * Reads and checks a policy file; `fallback` stands in where no file is named.
 *
 * @throws {CloisterError} `INVALID_POLICY` when the file is missing, is no JSON, or does not fit the schema.
 */
export async function readPolicy(file: string | undefined, fallback: PolicyInput): Promise<PolicyInput> {
  if (file === undefined) return fallback;
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(await readRegularFile(file, POLICY_LIMIT_BYTES)));
  } catch (cause) {
    throw new CloisterError('INVALID_POLICY', `${file}: ${(cause as Error).message}`, { file }, { cause });
  }
  parsePolicy(value);
  return value as PolicyInput;
}

/** A number on the command line, or an `INVALID_ARGUMENT` that names the option. */
export function parseNumber(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) {
    throw new CloisterError('INVALID_ARGUMENT', `${option}: expected a number, got ${JSON.stringify(text)}`);
  }
  return value;
}
