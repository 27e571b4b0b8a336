/**
 * Every kernel as its definition reads, in float64, each sum with the sum of its terms' magnitudes: error bounds follow
 * from the latter. Also the generators that the kernel tests share.
 */
import type { BinaryOp, GemmShape, PoolOp, ReduceOp, Window } from '../../native/index.ts';

/** The unit roundoff of float32. */
export const U: number = 2 ** -24;

/** What a sum of n rounded products may be off by, relative to the sum of magnitudes (Higham, 2nd ed., 3.1). */
export const gamma = (n: number): number => (n * U) / (1 - n * U);

/** Exact values (to float64) and, for each, the sum of the magnitudes of its terms. */
export interface Exact {
  readonly value: Float64Array;
  readonly magnitude: Float64Array;
}

/** A small deterministic generator (mulberry32), uniform on [0, 1). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `count` floats on [-1, 1), in a view that starts `skew` elements after an aligned address. */
export function floats(count: number, seed: number, skew = 0): Float32Array {
  const next = generator(seed);
  const view = new Float32Array(count + skew).subarray(skew);
  for (let i = 0; i < count; i++) view[i] = next() * 2 - 1;
  return view;
}

/** The first element of `got` that is further from the truth than `bound`, in words; undefined when none is. */
export function firstBeyond(
  got: ArrayLike<number>,
  exact: ArrayLike<number>,
  bound: (i: number) => number,
): string | undefined {
  for (let i = 0; i < exact.length; i++) {
    const [is, should] = [got[i]!, exact[i]!];
    if (Object.is(is, should) || is === should) continue;
    const far = Math.abs(is - should);
    if (!(far <= bound(i))) return `element ${i} is ${is}, exactly ${should}: off by ${far}, allowed ${bound(i)}`;
  }
  return undefined;
}

/** A B + bias. Elements of C between its rows are left as `c` has them. */
export function gemm(
  shape: Required<GemmShape>,
  a: Float32Array,
  b: Float32Array,
  c: Float32Array,
  bias?: Float32Array,
): Exact {
  const { m, n, k, lda, ldb, ldc, transposeA, transposeB } = shape;
  const value = Float64Array.from(c);
  const magnitude = new Float64Array(c.length);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = bias?.[j] ?? 0;
      let sizes = Math.abs(sum);
      for (let p = 0; p < k; p++) {
        const term = a[transposeA ? p * lda + i : i * lda + p]! * b[transposeB ? j * ldb + p : p * ldb + j]!;
        sum += term;
        sizes += Math.abs(term);
      }
      value[i * ldc + j] = sum;
      magnitude[i * ldc + j] = sizes;
    }
  }
  return { value, magnitude };
}

/** Calls `visit` for each tap of output (oh, ow) that falls inside the input. */
function eachTap(
  w: Required<Window>,
  oh: number,
  ow: number,
  visit: (ih: number, iw: number, tap: number) => void,
): void {
  for (let kh = 0; kh < w.kernelH; kh++) {
    for (let kw = 0; kw < w.kernelW; kw++) {
      const ih = oh * w.strideH - w.padTop + kh * w.dilationH;
      const iw = ow * w.strideW - w.padLeft + kw * w.dilationW;
      if (ih >= 0 && ih < w.inH && iw >= 0 && iw < w.inW) visit(ih, iw, kh * w.kernelW + kw);
    }
  }
}

export function conv(w: Required<Window>, x: Float32Array, weights: Float32Array, bias?: Float32Array): Exact {
  const count = w.batch * w.outC * w.outH * w.outW;
  const [value, magnitude] = [new Float64Array(count), new Float64Array(count)];
  const [inGroup, outGroup, taps] = [w.inC / w.groups, w.outC / w.groups, w.kernelH * w.kernelW];
  let at = 0;
  for (let image = 0; image < w.batch; image++) {
    for (let oc = 0; oc < w.outC; oc++) {
      const firstChannel = image * w.inC + Math.floor(oc / outGroup) * inGroup;
      for (let oh = 0; oh < w.outH; oh++) {
        for (let ow = 0; ow < w.outW; ow++, at++) {
          let sum = bias?.[oc] ?? 0;
          let sizes = Math.abs(sum);
          for (let ic = 0; ic < inGroup; ic++) {
            eachTap(w, oh, ow, (ih, iw, tap) => {
              const term =
                x[((firstChannel + ic) * w.inH + ih) * w.inW + iw]! * weights[(oc * inGroup + ic) * taps + tap]!;
              sum += term;
              sizes += Math.abs(term);
            });
          }
          value[at] = sum;
          magnitude[at] = sizes;
        }
      }
    }
  }
  return { value, magnitude };
}

export function pool(op: PoolOp, w: Required<Window>, x: Float32Array): Exact {
  const count = w.batch * w.outC * w.outH * w.outW;
  const [value, magnitude] = [new Float64Array(count), new Float64Array(count)];
  let at = 0;
  for (let plane = 0; plane < w.batch * w.inC; plane++) {
    for (let oh = 0; oh < w.outH; oh++) {
      for (let ow = 0; ow < w.outW; ow++, at++) {
        const seen: number[] = [];
        eachTap(w, oh, ow, (ih, iw) => {
          seen.push(x[(plane * w.inH + ih) * w.inW + iw]!);
        });
        const area = op === 'average' ? seen.length : w.kernelH * w.kernelW;
        value[at] = op === 'max' ? Math.max(...seen) : seen.reduce((sum, v) => sum + v, 0) / area;
        magnitude[at] = op === 'max' ? 0 : seen.reduce((sum, v) => sum + Math.abs(v), 0) / area;
      }
    }
  }
  return { value, magnitude };
}

const COMBINE: Readonly<Record<BinaryOp, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  min: Math.min,
  max: Math.max,
  pow: (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : a ** b), // IEEE 754's pow, not ECMAScript's
};

/** The source index of each element of a dense array of `dims`, read at `strides`. */
export function* indices(dims: readonly number[], strides: readonly number[]): Generator<number> {
  const count = dims.reduce((product, size) => product * size, 1);
  for (let i = 0; i < count; i++) {
    let [rest, at] = [i, 0];
    for (let d = dims.length - 1; d >= 0; d--) {
      at += (rest % dims[d]!) * strides[d]!;
      rest = Math.floor(rest / dims[d]!);
    }
    yield at;
  }
}

/** Each result rounded to float32: one operation has one right answer. */
export function binary(
  op: BinaryOp,
  shape: { dims: readonly number[]; aStrides: readonly number[]; bStrides: readonly number[] },
  a: Float32Array,
  b: Float32Array,
): Float32Array {
  const left = [...indices(shape.dims, shape.aStrides)].map(i => a[i]!);
  const right = [...indices(shape.dims, shape.bStrides)].map(i => b[i]!);
  return Float32Array.from(left, (value, i) => COMBINE[op](value, right[i]!));
}

export function softmax(outer: number, n: number, inner: number, log: boolean, x: Float32Array): Float64Array {
  const y = new Float64Array(x.length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const at = (j: number): number => (o * n + j) * inner + i;
      let top = -Infinity;
      for (let j = 0; j < n; j++) top = Math.max(top, x[at(j)]!);
      let sum = 0;
      for (let j = 0; j < n; j++) sum += Math.exp(x[at(j)]! - top);
      for (let j = 0; j < n; j++) y[at(j)] = log ? x[at(j)]! - top - Math.log(sum) : Math.exp(x[at(j)]! - top) / sum;
    }
  }
  return y;
}

export function reduce(op: ReduceOp, outer: number, n: number, inner: number, x: Float32Array): Exact {
  const [value, magnitude] = [new Float64Array(outer * inner), new Float64Array(outer * inner)];
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const column = Array.from({ length: n }, (_, j) => x[(o * n + j) * inner + i]!);
      const scale = op === 'mean' ? n : 1;
      const fold = op === 'max' ? Math.max : op === 'min' ? Math.min : (a: number, b: number) => a + b;
      value[o * inner + i] = column.reduce((a, b) => fold(a, b)) / scale;
      magnitude[o * inner + i] = column.reduce((sum, v) => sum + Math.abs(v), 0) / scale;
    }
  }
  return { value, magnitude };
}

const SERIES_END = 6; // erf(6) is 1 to float64

/** erf in float64: e^(-x^2) times a series of positive terms (DLMF 7.6.2), so that nothing cancels. */
export function erf(x: number): number {
  if (Number.isNaN(x) || x === 0) return x;
  if (Math.abs(x) > SERIES_END) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** 1 - erf(x) in float64, without cancelling: from 2 on by its continued fraction (DLMF 7.9.1). */
export function erfc(x: number): number {
  if (!(x >= 2)) return 1 - erf(x);
  let fraction = x;
  for (let n = 80; n > 0; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction;
}
