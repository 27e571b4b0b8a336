/**
 * What the kernel pool found of the machine, and what it does.
 * @module
 */
import { type Binding, loadBinding } from './loader.ts';

/** How many threads kernels may use, and why. */
export interface ThreadInfo {
  /** CPUs that the affinity mask leaves this process. */
  readonly affinity: number;
  /** CPUs' worth of time that the control groups allow; `undefined` without a limit. */
  readonly quota: number | undefined;
  /** Whole CPUs of the smaller of the two, at least one, at most 64. */
  readonly available: number;
  /** Threads that work on programs at once, callers included: `CLOISTER_THREADS`, else `available`. */
  readonly limit: number;
  /** Threads of the pool's own: started with the first program that is worth them, in the whole process. */
  readonly running: number;
  /** How often one of them has joined a run so far. */
  readonly joined: number;
}

/**
 * Returns how many threads kernels may use and how many there are, or `undefined` when there is no binary.
 *
 * @param root - For tests: a folder that stands for the root of the file system when control groups are read.
 * @throws {CloisterError} As {@link loadBinding}.
 * @example
 * ```ts
 * const { limit, available } = threadInfo() ?? { limit: 1, available: 1 };
 * limit >= 1 && available >= 1; // true
 * ```
 */
export function threadInfo(root = ''): ThreadInfo | undefined {
  const binding = loadBinding();
  if (binding === undefined) return undefined;
  const { threads, quota, ...rest } = (binding as unknown as PoolBinding).threads(root);
  return Object.freeze({ ...rest, quota: quota > 0 ? quota : undefined, available: Math.min(threads, 64) });
}

/** The pool's part of the addon's exports. */
interface PoolBinding extends Binding {
  threads(root: string): {
    affinity: number;
    quota: number;
    threads: number;
    limit: number;
    running: number;
    joined: number;
  };
}
