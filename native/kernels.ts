/**
 * The kernels as JavaScript functions, for tests, benches and whoever wants one kernel without a program. Every size is
 * checked in the addon; nothing here can read or write outside the arrays it is given.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import { loadBinding, selectIsa } from './loader.ts';
import { programVersion } from './program-host.ts';

/** What runs here. Plain data. */
export interface KernelDetails {
  /** The row of the dispatch table that runs: `scalar`, `avx2`, `avx512`, `avx512vnni`, `neon`. */
  readonly isa: string;
  /** The rows that this build has and this CPU runs, best first; `scalar` is always the last. */
  readonly supported: readonly string[];
  /** Version of the program format that the executor verifies. */
  readonly programVersion: number;
  /** Columns of one panel of a packed GEMM operand on this row, in elements. */
  readonly gemmPanel: number;
  /** The CPU features that were found, of those that rows ask for. */
  readonly features: readonly string[];
}

/** What happens to each result before it is stored: `y = act(x + bias)`. */
export interface Epilogue {
  /** GEMM: one per column. Convolution: one per output channel. */
  readonly bias?: Float32Array;
  /** Default `none`. */
  readonly activation?: 'none' | 'relu' | 'clip';
  /** Bounds of `clip`. Default -Infinity and Infinity. */
  readonly lo?: number;
  readonly hi?: number;
}

/** `C (m,n) = act(A (m,k) * B (k,n) + bias)`, row-major. Leading dimensions in elements, by default the smallest. */
export interface GemmShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly lda?: number;
  readonly ldb?: number;
  readonly ldc?: number;
  /** A is stored (k,m). */
  readonly transposeA?: boolean;
  /** B is stored (n,k). */
  readonly transposeB?: boolean;
}

/** Geometry of a 2-D convolution or pooling over NCHW. Padding on the far sides follows from the output's size. */
export interface Window {
  readonly batch: number;
  readonly inC: number;
  readonly inH: number;
  readonly inW: number;
  readonly outC: number;
  readonly outH: number;
  readonly outW: number;
  readonly kernelH: number;
  readonly kernelW: number;
  /** Strides and dilations default to 1, padding to 0, groups to 1. */
  readonly strideH?: number;
  readonly strideW?: number;
  readonly dilationH?: number;
  readonly dilationW?: number;
  readonly padTop?: number;
  readonly padLeft?: number;
  readonly groups?: number;
}

/** An `outer x n x inner` array whose middle axis is worked on. */
export interface OuterInner {
  readonly outer: number;
  readonly n: number;
  readonly inner: number;
}

/** A dense result of `dims`, each element read at `strides` (in elements; 0 repeats). At most 8 dimensions. */
export interface CopyShape {
  readonly elementBytes: 1 | 2 | 4 | 8;
  readonly dims: readonly number[];
  readonly strides: readonly number[];
}

// The order of each list is that of the enum of the same name in kernels/kernels.h.
const ACTIVATIONS = ['none', 'relu', 'clip'] as const;
const UNARY_OPS = [
  'relu',
  'neg',
  'abs',
  'sqrt',
  'exp',
  'log',
  'tanh',
  'sigmoid',
  'erf',
  'floor',
  'ceil',
  'reciprocal',
  'clip',
  'leakyRelu',
  'round',
  'sign',
  'gelu',
  'geluTanh',
  'swish',
  'hardSigmoid',
  'hardSwish',
  'softplus',
  'softsign',
  'elu',
  'celu',
  'mish',
] as const;
const BINARY_OPS = ['add', 'sub', 'mul', 'div', 'min', 'max', 'pow'] as const;
const REDUCE_OPS = ['sum', 'mean', 'max', 'min'] as const;
const POOL_OPS = ['max', 'average', 'averageIncludePad'] as const;

/** An elementwise function of one operand. `clip` takes its bounds, `leakyRelu` its slope, as parameters. */
export type UnaryOp = (typeof UNARY_OPS)[number];
/** An elementwise function of two operands. `min` and `max` are NaN when either operand is. */
export type BinaryOp = (typeof BINARY_OPS)[number];
/** A reduction of one axis. `min` and `max` are NaN when any element is. */
export type ReduceOp = (typeof REDUCE_OPS)[number];
/** A pooling. Padding never wins a maximum; `average` does not count it. */
export type PoolOp = (typeof POOL_OPS)[number];

/**
 * One kernel per method, on the row that runs when it is called. Outputs are written whole and must not overlap inputs,
 * except that an elementwise result, and that of softmax, may be its operand. A packed operand serves only the row that
 * packed it.
 *
 * Every method throws `INVALID_ARGUMENT`, and has then computed nothing, when a size is not a positive integer, an
 * array is not as long as its sizes say, or an output overlaps an input.
 */
export interface NativeAddon {
  /** The form of B (k,n) that {@link NativeAddon.gemmPacked} takes: a new array. */
  packGemm(shape: Pick<GemmShape, 'n' | 'k' | 'ldb' | 'transposeB'>, b: Float32Array): Float32Array;
  /** C = act(A * B + bias) with B packed before. `c` holds exactly `(m - 1) * ldc + n` elements. */
  gemmPacked(shape: GemmShape, a: Float32Array, packed: Float32Array, c: Float32Array, epilogue?: Epilogue): void;
  /** C = act(A * B + bias): packs B, then multiplies. */
  gemm(shape: GemmShape, a: Float32Array, b: Float32Array, c: Float32Array, epilogue?: Epilogue): void;
  /** The form of OIHW weights that {@link NativeAddon.convPacked} takes for exactly this window: a new array. */
  packConv(window: Window, weights: Float32Array): Float32Array;
  /** Convolution of x (batch,inC,inH,inW) with weights packed before. */
  convPacked(window: Window, x: Float32Array, packed: Float32Array, y: Float32Array, epilogue?: Epilogue): void;
  /** Convolution of x (batch,inC,inH,inW) with weights (outC,inC/groups,kernelH,kernelW), which it packs first. */
  conv(window: Window, x: Float32Array, weights: Float32Array, y: Float32Array, epilogue?: Epilogue): void;
  /** Pooling of x (batch,inC,inH,inW). `averageIncludePad` divides by the kernel's area. */
  pool(op: PoolOp, window: Window, x: Float32Array, y: Float32Array): void;
  /** y[i] = op(x[i]). `p0`, `p1`: the bounds of `clip`; `p0`: the slope of `leakyRelu`. */
  unary(op: UnaryOp, x: Float32Array, y: Float32Array, p0?: number, p1?: number): void;
  /** y (dense, of dims) = op(a, b), each operand read at its strides (in elements; 0 repeats). */
  binary(
    op: BinaryOp,
    shape: {
      readonly dims: readonly number[];
      readonly aStrides: readonly number[];
      readonly bStrides: readonly number[];
    },
    a: Float32Array,
    b: Float32Array,
    y: Float32Array,
  ): void;
  /** Softmax, or its logarithm, over the middle axis. */
  softmax(shape: OuterInner & { readonly log?: boolean }, x: Float32Array, y: Float32Array): void;
  /** Reduces the middle axis away: y is (outer,inner). */
  reduce(op: ReduceOp, shape: OuterInner, x: Float32Array, y: Float32Array): void;
  /** Transpose, expand, slice: y = x read at strides. `x` starts at the first element that is read. */
  copy(shape: CopyShape, x: Uint8Array, y: Uint8Array): void;
}

/**
 * Returns the kernels, or `undefined` when there is no binary or `CLOISTER_NATIVE=off`; {@link nativeStatus} says why.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `CLOISTER_ISA` names a row that this build or this CPU does not have.
 * @example
 * ```ts
 * const c = new Float32Array(1);
 * const native = loadNative();
 * native?.gemm({ m: 1, n: 1, k: 2 }, Float32Array.of(1, 2), Float32Array.of(3, 4), c);
 * c[0] === (native ? 11 : 0); // true
 * ```
 */
export function loadNative(): NativeAddon | undefined {
  const binding = loadBinding();
  if (binding === undefined) return undefined;
  wrapped ??= wrap(binding as unknown as KernelBinding);
  return wrapped;
}

/**
 * Returns what runs here, or `undefined` when there is no binary.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `CLOISTER_ISA` names a row that this build or this CPU does not have.
 * @example
 * ```ts
 * const { isa, supported } = kernelInfo() ?? { isa: 'none', supported: ['none'] }; // such as 'avx2'
 * supported.includes(isa); // true
 * ```
 */
export function kernelInfo(): KernelDetails | undefined {
  const binding = loadBinding();
  if (binding === undefined) return undefined;
  const { isa, supported, gemmPanel, features } = (binding as unknown as KernelBinding).info();
  const found = features.split(' ').filter(feature => feature !== '');
  return Object.freeze({ isa, supported, programVersion: programVersion(binding), gemmPanel, features: found });
}

/**
 * Makes one row run in the whole process, worker threads included; `null` returns to the best one. For tests and
 * benches: operands that were packed before belong to the row that packed them.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when this build or this CPU does not have the row;
 *   `MISSING_DEPENDENCY` when there is no binary.
 */
export function forceIsa(name: string | null): void {
  const binding = loadBinding();
  if (binding === undefined) {
    throw new CloisterError('MISSING_DEPENDENCY', 'there is no native binary to choose a row of', {
      install: 'npm run build:native',
    });
  }
  selectIsa(binding, name, 'forceIsa');
}

/** What a hook of the addon returns: nothing, or what is wrong with its arguments. */
type Verdict = string | undefined;

/** The kernels' part of the addon's exports. Arguments in the order that addon.cc takes them. */
interface KernelBinding {
  info(): { isa: string; supported: string[]; gemmPanel: number; features: string };
  gemmPackedElements(...args: unknown[]): number | string;
  gemmPack(...args: unknown[]): Verdict;
  gemm(...args: unknown[]): Verdict;
  convPackedElements(...args: unknown[]): number | string;
  convPack(...args: unknown[]): Verdict;
  conv(...args: unknown[]): Verdict;
  pool(...args: unknown[]): Verdict;
  unary(...args: unknown[]): Verdict;
  binary(...args: unknown[]): Verdict;
  softmax(...args: unknown[]): Verdict;
  reduce(...args: unknown[]): Verdict;
  copyStrided(...args: unknown[]): Verdict;
}

let wrapped: NativeAddon | undefined;

function wrap(binding: KernelBinding): NativeAddon {
  const addon: NativeAddon = {
    packGemm({ k, n, transposeB = false, ldb = transposeB ? k : n }, b) {
      const packed = allocate('packGemm', binding.gemmPackedElements(k, n, ldb, transposeB, b));
      check('packGemm', binding.gemmPack(k, n, ldb, transposeB, b, packed));
      return packed;
    },
    gemmPacked({ m, n, k, transposeA = false, lda = transposeA ? m : k, ldc = n }, a, packed, c, epilogue = {}) {
      const { bias = null, activation, lo, hi } = parseEpilogue('gemm', epilogue);
      check('gemm', binding.gemm(m, n, k, lda, ldc, transposeA, activation, lo, hi, a, packed, bias, c));
    },
    gemm(shape, a, b, c, epilogue) {
      addon.gemmPacked(shape, a, addon.packGemm(shape, b), c, epilogue);
    },
    packConv(window, weights) {
      const sizes = flatten(window);
      const packed = allocate('packConv', binding.convPackedElements(...sizes, weights));
      check('packConv', binding.convPack(...sizes, weights, packed));
      return packed;
    },
    convPacked(window, x, packed, y, epilogue = {}) {
      const { bias = null, activation, lo, hi } = parseEpilogue('conv', epilogue);
      check('conv', binding.conv(...flatten(window), activation, lo, hi, x, packed, bias, y));
    },
    conv(window, x, weights, y, epilogue) {
      addon.convPacked(window, x, addon.packConv(window, weights), y, epilogue);
    },
    pool(op, window, x, y) {
      check('pool', binding.pool(...flatten(window), indexOf('pool', POOL_OPS, op), x, y));
    },
    unary(op, x, y, p0 = op === 'clip' ? -Infinity : 0, p1 = Infinity) {
      check('unary', binding.unary(indexOf('unary', UNARY_OPS, op), x.length, p0, p1, x, y));
    },
    binary(op, { dims, aStrides, bStrides }, a, b, y) {
      check('binary', binding.binary(indexOf('binary', BINARY_OPS, op), dims, aStrides, bStrides, a, b, y));
    },
    softmax({ outer, n, inner, log = false }, x, y) {
      check('softmax', binding.softmax(outer, n, inner, log, x, y));
    },
    reduce(op, { outer, n, inner }, x, y) {
      check('reduce', binding.reduce(indexOf('reduce', REDUCE_OPS, op), outer, n, inner, x, y));
    },
    copy({ elementBytes, dims, strides }, x, y) {
      check('copy', binding.copyStrided(elementBytes, dims, strides, x, y));
    },
  };
  return Object.freeze(addon);
}

function flatten(w: Window): readonly number[] {
  const { strideH = 1, strideW = 1, dilationH = 1, dilationW = 1, padTop = 0, padLeft = 0, groups = 1 } = w;
  const sizes = [w.batch, w.inC, w.inH, w.inW, w.outC, w.outH, w.outW, w.kernelH, w.kernelW];
  return [...sizes, strideH, strideW, dilationH, dilationW, padTop, padLeft, groups];
}

function parseEpilogue(
  where: string,
  epilogue: Epilogue,
): { bias?: Float32Array; activation: number; lo: number; hi: number } {
  const { bias, activation = 'none', lo = -Infinity, hi = Infinity } = epilogue;
  return { ...(bias && { bias }), activation: indexOf(where, ACTIVATIONS, activation), lo, hi };
}

function indexOf(where: string, names: readonly string[], name: string): number {
  const index = names.indexOf(name);
  if (index < 0) check(where, `expected one of ${names.join(' ')}, got ${JSON.stringify(String(name).slice(0, 40))}`);
  return index;
}

function allocate(where: string, count: number | string): Float32Array {
  if (typeof count === 'string') check(where, count);
  return new Float32Array(count as number);
}

function check(where: string, verdict: Verdict): void {
  if (verdict !== undefined) throw new CloisterError('INVALID_ARGUMENT', `${where}: ${verdict}`);
}
