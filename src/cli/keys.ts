/**
 * Keys and other small texts that an option or an argument names.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import { readRegularFile } from '../service/files.ts';

/** Bytes of such a file, at most: a request to a witness is the largest. */
const TEXT_LIMIT_BYTES = 262_144;

/**
 * A key may be given as text or as the name of a file that holds it.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when it is neither.
 */
export async function readKey(option: string, value: string): Promise<string> {
  if (/^[^+\s]+\+[0-9a-f]{8}\+/.test(value)) return value;
  try {
    return (await readText(option, value)).trim();
  } catch (cause) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `${option}: neither a verifier key (name+hash+base64) nor a readable file: ${value}`,
      {},
      { cause },
    );
  }
}

/**
 * The text of a small file.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when it is no regular file of at most 256 KiB that can be read.
 */
export async function readText(what: string, file: string): Promise<string> {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await readRegularFile(file, TEXT_LIMIT_BYTES));
  } catch (cause) {
    throw new CloisterError('INVALID_ARGUMENT', `${what}: ${(cause as Error).message}`, { file }, { cause });
  }
}
