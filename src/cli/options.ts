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

/** `--dim NAME=SIZE`, as often as needed. */
export const dimOption = (): Option =>
  new Option(
    '--dim <name=size>',
    'fix a symbolic size of the inputs for good; once for each. Some models need it, and say so',
  ).argParser((value: string, all: string[] = []) => [...all, value]);

/**
 * The sizes that `--dim` gives, by name.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when one is not of its form, or a name is given twice.
 */
export function readDims(options: readonly string[] = []): Readonly<Record<string, number>> {
  const dims = new Map<string, number>();
  for (const option of options) {
    const at = option.lastIndexOf('=');
    const name = option.slice(0, Math.max(at, 0));
    const size = option.slice(at + 1);
    if (at < 1 || !/^\d{1,15}$/.test(size)) {
      throw new CloisterError('INVALID_ARGUMENT', `--dim: expected NAME=SIZE, got ${JSON.stringify(option)}`);
    }
    if (dims.has(name)) throw new CloisterError('INVALID_ARGUMENT', `--dim: ${name} is given twice`);
    dims.set(name, Number(size));
  }
  return Object.fromEntries(dims);
}

/** `-i, --input NAME=FILE`, as often as needed. */
export const inputOption = (): Option =>
  new Option(
    '-i, --input <name=file>',
    'an input: .json (nested arrays), .npy, .npz, .pb (TensorProto), or raw little-endian; once for each input. An .npz without a name gives all its arrays',
  ).argParser((value: string, all: string[] = []) => [...all, value]);

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
