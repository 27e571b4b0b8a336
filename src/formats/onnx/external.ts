/**
 * External data: weights that a model keeps in files beside it.
 * @module
 */
import { CloisterError } from '../../base/index.ts';

/**
 * The files beside a model, laid out behind it: byte `i` of a file that is located at `offset` is byte `offset + i` of the model's
 * {@link ModelSource}, so that every weight is one range of one source.
 */
export interface ExternalData {
  /** Where the file at this relative path lies; undefined where there is none. The path has passed {@link checkLocation}. */
  locate(location: string): { readonly offset: number; readonly size: number } | undefined;
}

const MAX_LOCATION = 1024;

/**
 * Fails unless `location` is a relative path of plain names that stays in the folder of the model: no `..`, no root, no drive, no
 * backslash, no control character. The file system may still have links: whoever opens the file looks at what it opens.
 *
 * @throws {CloisterError} `INVALID_MODEL`.
 */
export function checkLocation(location: string, at: number): void {
  if (staysInFolder(location)) return;
  const shown = JSON.stringify(location.slice(0, 80));
  throw new CloisterError(
    'INVALID_MODEL',
    `external data ${shown} is not a path inside the model's folder (at byte ${at})`,
    {
      at,
    },
  );
}

/**
 * Whether `path` is a relative path of plain names that stays in its folder: at most 1,024 characters, no `..`, no root, no drive, no
 * backslash, no control character. Says nothing of links: whoever opens it looks at what was opened.
 * @example
 * ```ts
 * staysInFolder('weights/0.bin'); // true
 * staysInFolder('../weights.bin'); // false
 * ```
 */
export function staysInFolder(path: string): boolean {
  return (
    path.length <= MAX_LOCATION &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a path with control characters is refused
    !/[\u0000-\u001f\u007f\\:]/.test(path) &&
    path.split('/').every(part => part !== '' && part !== '.' && part !== '..')
  );
}
