/**
 * The discrete Fourier transform of real sequences whose length is a power of two.
 * @module
 */
import { UNIT } from './special.ts';

/** Half a spectrum: entries 0 to n/2 of a real sequence's transform; the others are their conjugates. */
export interface Spectrum {
  readonly re: Float64Array;
  readonly im: Float64Array;
}

/**
 * Most that an entry of a transform of length `n`, forth or (unscaled) back, is off, per unit of the sum of the input's sizes: each of
 * log2(n) levels adds a rotation and a sum (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., Theorem 24.2), and
 * packing two reals into a complex three roundings more.
 */
export function transformError(n: number): number {
  return 5 * UNIT * (Math.log2(n) + 3);
}

/** Returns the transform of `values`, whose length `n >= 4` is a power of two. */
export function transform(values: Float64Array): Spectrum {
  const n = values.length;
  const half = n / 2;
  let [re, im] = [new Float64Array(half), new Float64Array(half)];
  for (let i = 0; i < half; i++) {
    re[i] = values[2 * i]!;
    im[i] = values[2 * i + 1]!;
  }
  [re, im] = complexTransform(re, im);
  const { cos, sin } = rotations(n);
  const out = { re: new Float64Array(half + 1), im: new Float64Array(half + 1) };
  for (let k = 0; k <= half; k++) {
    const [a, b] = [k === half ? 0 : k, k === 0 ? 0 : half - k];
    // The transforms of even and odd entries, told apart by their symmetry.
    const [er, ei] = [(re[a]! + re[b]!) / 2, (im[a]! - im[b]!) / 2];
    const [or, oi] = [(im[a]! + im[b]!) / 2, (re[b]! - re[a]!) / 2];
    const [c, s] = [cos[k]!, -sin[k]!];
    out.re[k] = er + c * or - s * oi;
    out.im[k] = ei + c * oi + s * or;
  }
  return out;
}

/** Returns the real sequence of length `n` whose transform is `spectrum`. */
export function inverse(spectrum: Spectrum, n: number): Float64Array {
  const half = n / 2;
  let [re, im] = [new Float64Array(half), new Float64Array(half)];
  const { cos, sin } = rotations(n);
  for (let k = 0; k < half; k++) {
    const j = half - k;
    const [er, ei] = [(spectrum.re[k]! + spectrum.re[j]!) / 2, (spectrum.im[k]! - spectrum.im[j]!) / 2];
    const [dr, di] = [(spectrum.re[k]! - spectrum.re[j]!) / 2, (spectrum.im[k]! + spectrum.im[j]!) / 2];
    const [c, s] = [cos[k]!, sin[k]!];
    const [or, oi] = [c * dr - s * di, c * di + s * dr];
    // Conjugated, so that the forward transform goes back.
    re[k] = er - oi;
    im[k] = -(ei + or);
  }
  [re, im] = complexTransform(re, im);
  const values = new Float64Array(n);
  for (let i = 0; i < half; i++) {
    values[2 * i] = re[i]! / half;
    values[2 * i + 1] = -im[i]! / half;
  }
  return values;
}

/** Stockham's algorithm in steps of four: no bit reversal, inputs are overwritten. */
function complexTransform(
  fromRe: Float64Array<ArrayBuffer>,
  fromIm: Float64Array<ArrayBuffer>,
): [Float64Array<ArrayBuffer>, Float64Array<ArrayBuffer>] {
  const size = fromRe.length;
  const { cos, sin } = rotations(size);
  let [xr, xi] = [fromRe, fromIm];
  let [yr, yi] = [new Float64Array(size), new Float64Array(size)];
  let stride = 1;
  let length = size;
  for (; length >= 4; length /= 4, stride *= 4) {
    const quarter = length / 4;
    const step = quarter * stride;
    for (let p = 0; p < quarter; p++) {
      const [c1, s1] = [cos[p * stride]!, -sin[p * stride]!];
      const [c2, s2] = [cos[2 * p * stride]!, -sin[2 * p * stride]!];
      const [c3, s3] = [c1 * c2 - s1 * s2, c1 * s2 + s1 * c2];
      for (let q = 0; q < stride; q++) {
        const a = q + stride * p;
        const b = a + step;
        const c = b + step;
        const d = c + step;
        const acR = xr[a]! + xr[c]!;
        const acI = xi[a]! + xi[c]!;
        const aR = xr[a]! - xr[c]!;
        const aI = xi[a]! - xi[c]!;
        const bdR = xr[b]! + xr[d]!;
        const bdI = xi[b]! + xi[d]!;
        const bR = xr[b]! - xr[d]!;
        const bI = xi[b]! - xi[d]!;
        const to = q + stride * 4 * p;
        yr[to] = acR + bdR;
        yi[to] = acI + bdI;
        const r1 = aR + bI;
        const i1 = aI - bR;
        yr[to + stride] = c1 * r1 - s1 * i1;
        yi[to + stride] = c1 * i1 + s1 * r1;
        const r2 = acR - bdR;
        const i2 = acI - bdI;
        yr[to + 2 * stride] = c2 * r2 - s2 * i2;
        yi[to + 2 * stride] = c2 * i2 + s2 * r2;
        const r3 = aR - bI;
        const i3 = aI + bR;
        yr[to + 3 * stride] = c3 * r3 - s3 * i3;
        yi[to + 3 * stride] = c3 * i3 + s3 * r3;
      }
    }
    [xr, xi, yr, yi] = [yr, yi, xr, xi];
  }
  if (length === 2) {
    for (let q = 0; q < stride; q++) {
      yr[q] = xr[q]! + xr[q + stride]!;
      yi[q] = xi[q]! + xi[q + stride]!;
      yr[q + stride] = xr[q]! - xr[q + stride]!;
      yi[q + stride] = xi[q]! - xi[q + stride]!;
    }
    return [yr, yi];
  }
  return [xr, xi];
}

interface Rotations {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

/** The tables of the sizes used last: a transform needs two. */
const tables = new Map<number, Rotations>();

/** cos and sin of 2 pi k / n for k from 0 to n / 2. */
function rotations(n: number): Rotations {
  let table = tables.get(n);
  if (table === undefined) {
    const half = n / 2;
    table = { cos: new Float64Array(half + 1), sin: new Float64Array(half + 1) };
    for (let k = 0; k <= half; k++) {
      table.cos[k] = Math.cos((2 * Math.PI * k) / n);
      table.sin[k] = Math.sin((2 * Math.PI * k) / n);
    }
    if (tables.size >= 4) tables.delete(tables.keys().next().value!);
    tables.set(n, table);
  }
  return table;
}
