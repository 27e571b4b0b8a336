/**
 * OpenBLAS, where the machine has it: a library for products of matrices that this process opens when it is asked for.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import { type Binding, loadBinding, nativeStatus } from './loader.ts';
import { threadInfo } from './threads.ts';

/** One product of row-major f32 matrices, `C = alpha * op(A) * op(B) + beta * C`; op transposes where it is asked to. */
export interface MatrixProduct {
  /** Rows of op(A) and of C. All sizes are from 1 to 2^31-1. */
  readonly m: number;
  /** Columns of op(B) and of C. */
  readonly n: number;
  /** Columns of op(A), rows of op(B). */
  readonly k: number;
  readonly alpha: number;
  readonly a: MatrixOperand;
  readonly b: MatrixOperand;
  readonly beta: number;
  /** Overwritten; with `beta` 0 it is not read. Overlaps neither A nor B. */
  readonly c: Omit<MatrixOperand, 'transpose'>;
}

/** Where a matrix lies. */
export interface MatrixOperand {
  readonly data: Float32Array;
  /** Elements before the first one. */
  readonly offset: number;
  /** Elements from one row to the next, from the columns as they lie to 2^31-1. */
  readonly ld: number;
  /** Whether the matrix as it lies is the transpose of the operand. */
  readonly transpose: boolean;
}

/** An OpenBLAS that was opened. Fits the engine's `BlasLibrary` seam. */
export interface OpenBlas {
  /** The file. */
  readonly path: string;
  /** What the library says of its build: version and options. Empty where it does not say. */
  readonly config: string;
  /** The processor whose kernels it runs. Empty where it does not say. */
  readonly core: string;
  /**
   * Computes `product` on the calling thread and on those of the library. It cannot be interrupted.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when a size is no integer in its range, an array is no `Float32Array`, is detached or too
   *   small for the sizes, or C overlaps A or B; nothing has been computed then.
   */
  multiply(product: MatrixProduct): void;
}

/** What came of looking for OpenBLAS. */
export type OpenBlasStatus =
  | { readonly kind: 'loaded'; readonly library: OpenBlas }
  /** `missing`: there is none. `unusable`: there is one, and it is of no use. */
  | { readonly kind: 'missing' | 'unusable'; readonly reason: string; readonly mend: string };

/**
 * Opens OpenBLAS and returns it, or why there is none. It is looked for where `CLOISTER_OPENBLAS` says (a path, or the name of a library),
 * else in the usual places of the system's loader. A build with 64-bit integers is refused, and so is a library that computes a small
 * product wrongly. The library may use as many threads as {@link threadInfo} allows, in the whole process, and stays loaded.
 *
 * It is native code in this process, with all that this process may do: what `CLOISTER_OPENBLAS` names is trusted.
 *
 * @throws {CloisterError} As {@link loadBinding}.
 * @example
 * The product of a matrix with its transpose.
 * ```ts
 * const a = { data: Float32Array.of(1, 2, 3, 4), offset: 0, ld: 2, transpose: false };
 * const c = { data: new Float32Array(4), offset: 0, ld: 2 };
 * const status = openBlas();
 * if (status.kind === 'loaded') {
 *   status.library.multiply({ m: 2, n: 2, k: 2, alpha: 1, a, b: { ...a, transpose: true }, beta: 0, c });
 * }
 * status.kind === 'loaded' ? [...c.data] : [5, 11, 11, 25]; // [5, 11, 11, 25]
 * ```
 */
export function openBlas(): OpenBlasStatus {
  const binding: Binding | undefined = loadBinding();
  const native = nativeStatus();
  if (binding === undefined || native.kind !== 'loaded') {
    const mend = native.kind === 'loaded' ? '' : native.mend;
    return { kind: 'missing', reason: 'without the native binary no library is opened', mend };
  }
  const named = process.env['CLOISTER_OPENBLAS'];
  const names = named === undefined || named === '' ? USUAL_NAMES : [named];
  const threads = threadInfo()?.limit ?? 1;
  const reasons: string[] = [];
  for (const name of names) {
    const opened = (binding as unknown as BlasBinding).openOpenBlas(name, threads);
    if ('sgemm' in opened) return { kind: 'loaded', library: libraryOf(opened) };
    const reason = opened.why.includes(name) ? opened.why : `${name}: ${opened.why}`;
    if (opened.found) return { kind: 'unusable', reason, mend: mendOf(named) };
    reasons.push(reason);
  }
  return { kind: 'missing', reason: reasons.join('; '), mend: mendOf(named) };
}

/** Homebrew keeps it out of the loader's places. */
const USUAL_NAMES: readonly string[] =
  process.platform === 'darwin'
    ? [
        'libopenblas.0.dylib',
        'libopenblas.dylib',
        '/opt/homebrew/opt/openblas/lib/libopenblas.dylib',
        '/usr/local/opt/openblas/lib/libopenblas.dylib',
      ]
    : ['libopenblas.so.0', 'libopenblas.so'];

/** The command or step that brings a library that can be used. */
function mendOf(named: string | undefined): string {
  if (named) return 'set CLOISTER_OPENBLAS to a libopenblas with 32-bit integers, or unset it';
  return process.platform === 'darwin' ? 'brew install openblas' : 'apt-get install libopenblas0';
}

function libraryOf({ path, config, core, sgemm }: OpenedBlas): OpenBlas {
  return Object.freeze({
    path,
    config,
    core,
    multiply({ m, n, k, alpha, a, b, beta, c }) {
      const wrong = sgemm(
        m,
        n,
        k,
        a.transpose,
        b.transpose,
        alpha,
        a.data,
        a.offset,
        a.ld,
        b.data,
        b.offset,
        b.ld,
        beta,
        c.data,
        c.offset,
        c.ld,
      );
      if (wrong === undefined) return;
      throw new CloisterError('INVALID_ARGUMENT', `OpenBLAS, product of ${m}x${k} and ${k}x${n}: ${wrong}`, {
        m,
        n,
        k,
      });
    },
  } satisfies OpenBlas);
}

/** The part of the addon's exports that opens libraries. */
interface BlasBinding {
  openOpenBlas(name: string, threads: number): OpenedBlas | { readonly found: boolean; readonly why: string };
}

interface OpenedBlas {
  readonly path: string;
  readonly config: string;
  readonly core: string;
  /** Returns what is wrong. */
  sgemm(
    m: number,
    n: number,
    k: number,
    transposeA: boolean,
    transposeB: boolean,
    alpha: number,
    a: Float32Array,
    offsetA: number,
    lda: number,
    b: Float32Array,
    offsetB: number,
    ldb: number,
    beta: number,
    c: Float32Array,
    offsetC: number,
    ldc: number,
  ): string | undefined;
}
