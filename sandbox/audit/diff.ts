/**
 * Two directories of one log, a log and its backup say: whether the one is the other, or where they part.
 * @module
 */
import { CloisterError } from '../../src/base/errors.ts';
import { type LogDirectory, nodeDirectory } from './directory.ts';
import { publishedKey } from './epochs.ts';
import { formatVkey, parseVkey, sameKey } from './note.ts';
import { leavesOf } from './read.ts';
import type { TamperKind } from './verdict.ts';
import { verifyDirectory } from './verify-directory.ts';

/** What {@link compareLogs} found. Sizes are records in the first and in the second. */
export type LogComparison =
  | { readonly kind: 'same'; readonly sizes: readonly [number, number] }
  /** The `longer` one begins with all of the other. */
  | { readonly kind: 'extends'; readonly longer: 'first' | 'second'; readonly sizes: readonly [number, number] }
  /** `index` is the first record that differs. Both are signed, so whoever has the key wrote two histories. */
  | { readonly kind: 'forked'; readonly index: number; readonly sizes: readonly [number, number] }
  /** Their keys differ: no history of one log. */
  | { readonly kind: 'unrelated'; readonly origins: readonly [string, string] }
  /** One does not verify, so nothing is said of the two. */
  | {
      readonly kind: 'invalid';
      readonly which: 'first' | 'second';
      readonly index: number;
      readonly tamper: TamperKind;
      readonly message: string;
    };

/**
 * Verifies both logs and compares them record by record; with a few megabytes of memory, without a lock.
 *
 * @param options - `vkey`: the key that both must be signed by; by default the one beside each.
 * @throws {CloisterError} `AUDIT_INVALID` when there is no key beside a log; `INVALID_ARGUMENT` when `vkey` is not one;
 *   `STORE_FAILED`.
 * @example
 * ```ts
 * const log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * await log.append({ actor: 'ward-3', action: 'load', object, decision: { outcome: 'allow' } });
 * await log.close();
 * await compareLogs('./cloister-data/audit', './cloister-data/audit'); // { kind: 'same', sizes: [1, 1] }
 * ```
 */
export function compareLogs(
  first: string,
  second: string,
  options: { readonly vkey?: string | undefined } = {},
): Promise<LogComparison> {
  return compareDirectories(nodeDirectory(first, false), nodeDirectory(second, false), options);
}

/** {@link compareLogs} behind the directory seam. */
export async function compareDirectories(
  first: LogDirectory,
  second: LogDirectory,
  { vkey }: { readonly vkey?: string | undefined } = {},
): Promise<LogComparison> {
  const keys = [first, second].map(directory => (vkey === undefined ? publishedKey(directory) : parseVkey(vkey)));
  if (!sameKey(keys[0]!, keys[1]!)) return { kind: 'unrelated', origins: [keys[0]!.name, keys[1]!.name] };
  const key = formatVkey(keys[0]!.name, keys[0]!.publicKey);
  const sizes: number[] = [];
  for (const [which, directory] of [
    ['first', first],
    ['second', second],
  ] as const) {
    const verdict = await verifyDirectory(directory, { vkey: key });
    if (!verdict.ok) {
      const { index, kind: tamper, message } = verdict;
      return { kind: 'invalid', which, index, tamper, message };
    }
    sizes.push(verdict.size);
  }
  const [a = 0, b = 0] = sizes;
  const index = firstDifference(first, second, Math.min(a, b));
  if (index !== undefined) return { kind: 'forked', index, sizes: [a, b] };
  if (a === b) return { kind: 'same', sizes: [a, b] };
  return { kind: 'extends', longer: a > b ? 'first' : 'second', sizes: [a, b] };
}

/** The first of `size` records that differs; undefined when none does. */
function firstDifference(first: LogDirectory, second: LogDirectory, size: number): number | undefined {
  const sides = [leavesOf(first, 0), leavesOf(second, 0)] as const;
  try {
    for (let index = 0; index < size; index++) {
      const [a, b] = sides.map(side => side.next());
      if (a?.done !== false || b?.done !== false)
        throw new CloisterError('AUDIT_INVALID', `record ${index} was taken out while the logs were compared`, {
          index,
        });
      if (Buffer.compare(a.value.bytes, b.value.bytes) !== 0) return index;
    }
    return undefined;
  } finally {
    for (const side of sides) side.return(0);
  }
}
