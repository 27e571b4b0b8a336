/**
 * Sums of independent privacy losses on a grid, by a Fourier transform of the exponentially tilted distribution (`pld.proof.md`, §3).
 * @module
 */
import { inverse, transform, transformError } from './fft.ts';
import type { GridLoss } from './grid.ts';
import { UNIT } from './special.ts';

/** One loss, taken `count` times independently. */
export interface Repeated {
  readonly loss: GridLoss;
  readonly count: number;
}

/** The log of the moment-generating function at some tilt, its slope and its curvature. */
interface Moments {
  readonly log: number;
  readonly mean: number;
  readonly variance: number;
}

/** Most bins of one transform. */
const MOST_BINS = 2 ** 21;
/** Tilted mass that may lie outside the window: it is accounted for, so this is about tightness. */
const OUTSIDE = 1e-13;
/** Relative error of a tilt factor: an exponential and its argument, times at most 64 steps of a product. */
const TILT_ERROR = 256 * UNIT;

function moments(loss: GridLoss, step: number, tilt: number): Moments {
  const { first, masses } = loss;
  const rate = tilt * step;
  const last = masses.length - 1;
  // From the end with the largest factor, which is taken out, towards the least: products shrink and cannot overflow.
  const [anchor, stride] = rate > 0 ? [first + last, -1] : [first, 1];
  let [sum, linear, square] = [0, 0, 0];
  const ratio = Math.exp(rate * stride);
  let factor = 0;
  for (let n = 0; n <= last; n++) {
    const i = rate > 0 ? last - n : n;
    factor = n % 64 === 0 ? Math.exp(rate * stride * n) : factor * ratio;
    const term = masses[i]! * factor;
    const at = i * step;
    sum += term;
    linear += term * at;
    square += term * at * at;
  }
  const mean = linear / sum;
  return {
    log: Math.log(sum) + rate * anchor,
    mean: mean + first * step,
    variance: Math.max(square / sum - mean * mean, 1e-300),
  };
}

/** The moments of the sum of all parts. */
function total(parts: readonly Repeated[], step: number, tilt: number): Moments {
  let [log, mean, variance] = [0, 0, 0];
  for (const { loss, count } of parts) {
    const own = moments(loss, step, tilt);
    log += count * own.log;
    mean += count * own.mean;
    variance += count * own.variance;
  }
  return { log, mean, variance };
}

/** log of max over y > 0 of e^(-tilt y) (1 - e^-y). */
function logPeak(tilt: number): number {
  return tilt * Math.log(tilt) - (1 + tilt) * Math.log1p(tilt);
}

/** An epsilon by Chernoff's bound, and the tilt that gives it. */
export interface Saddle {
  readonly tilt: number;
  readonly epsilon: number;
}

const [LEAST_TILT, MOST_TILT] = [1e-4, 1e7];

/** Returns the tilt at which Chernoff's bound on epsilon at `delta` is least. Any tilt is valid; this one is near the best. */
export function saddleForDelta(parts: readonly Repeated[], step: number, delta: number): Saddle {
  const epsilonAt = (tilt: number, at: Moments): number => (at.log + logPeak(tilt) - Math.log(delta)) / tilt;
  return search(tilt => {
    const at = total(parts, step, tilt);
    const epsilon = epsilonAt(tilt, at);
    return { epsilon, sign: at.mean + Math.log(tilt) - Math.log1p(tilt) - epsilon };
  });
}

/** Returns the tilt whose mean is near `epsilon`. */
export function saddleForEpsilon(parts: readonly Repeated[], step: number, epsilon: number): Saddle {
  return search(tilt => ({
    epsilon,
    sign: total(parts, step, tilt).mean + Math.log(tilt) - Math.log1p(tilt) - epsilon,
  }));
}

/** Looks for the change of sign in the log of the tilt: by secants, held within a bracket. */
function search(look: (tilt: number) => { epsilon: number; sign: number }): Saddle {
  let [low, high] = [Math.log(LEAST_TILT), Math.log(MOST_TILT)];
  let at = Math.log(4);
  let found = look(4);
  let best = { tilt: 4, epsilon: found.epsilon, sign: found.sign };
  let stride = 1;
  for (let i = 0; i < 40 && high - low > 0.02; i++) {
    if (found.sign < 0) low = at;
    else high = at;
    const next = found.sign < 0 ? Math.min(at + stride, (at + high) / 2) : Math.max(at - stride, (at + low) / 2);
    // Strides double until the sign changes, then the bracket is halved.
    stride = high - low < 4 * stride ? (high - low) / 2 : 2 * stride;
    at = high - low < 2 ? (low + high) / 2 : next;
    found = look(Math.exp(at));
    if (Math.abs(found.sign) < Math.abs(best.sign) || !Number.isFinite(best.sign)) {
      best = { tilt: Math.exp(at), ...found };
    }
  }
  return best;
}

/** The tilted distribution of the sum within a window, and how far off it may be. */
export interface TiltedSum {
  readonly tilt: number;
  readonly step: number;
  /** The loss of entry i is `(first + i) * step`. */
  readonly first: number;
  readonly masses: Float64Array;
  /** log of what the tilt multiplied the whole by. */
  readonly log: number;
  /** Most that an entry is off, upwards or downwards, besides `outside`. */
  readonly entryError: number;
  /** Tilted mass outside the window, all of which may have been counted within. */
  readonly outside: number;
  /** Probability of an infinite loss. */
  readonly infinite: number;
  /** The largest finite loss that the sum can have. */
  readonly top: number;
  /** Relative error of the whole. */
  readonly relative: number;
}

/** Returns the sum of all parts, tilted by `tilt`; `undefined` when that takes more than 2 million bins. */
export function tiltedSum(parts: readonly Repeated[], step: number, tilt: number): TiltedSum | undefined {
  const at = total(parts, step, tilt);
  const low = edge(parts, step, tilt, at, -1);
  const high = edge(parts, step, tilt, at, 1);
  const first = Math.floor(low / step) - 1;
  const width = Math.ceil(high / step) + 2 - first;
  let bins = 16;
  while (bins < width && bins <= MOST_BINS) bins *= 2;
  if (!(bins <= MOST_BINS && Number.isFinite(at.log) && Number.isFinite(width))) return undefined;
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const half = bins / 2;
  const [productRe, productIm] = [new Float64Array(half + 1).fill(1), new Float64Array(half + 1)];
  const [bound, least] = [
    new Float64Array(half + 1).fill(1),
    new Float64Array(half + 1).fill(Number.POSITIVE_INFINITY),
  ];
  const error = transformError(bins);
  let finite = 0;
  let offset = 0;
  for (const { loss, count: times } of parts) {
    finite += times * Math.log1p(-loss.infinite);
    const own = moments(loss, step, tilt);
    const folded = new Float64Array(bins);
    let factor = 0;
    const ratio = Math.exp(-tilt * step);
    const last = loss.masses.length - 1;
    for (let n = 0; n <= last; n++) {
      const i = last - n;
      factor = n % 64 === 0 ? Math.exp(tilt * step * (loss.first + i) - own.log) : factor * ratio;
      folded[i % bins]! += loss.masses[i]! * factor;
    }
    offset = (offset + modulo(loss.first, bins) * (times % bins)) % bins;
    const spectrum = transform(folded);
    multiply(productRe, productIm, bound, least, spectrum.re, spectrum.im, times, error);
  }
  let [size, off] = [0, 0];
  for (let k = 0; k <= half; k++) {
    const weight = k === 0 || k === half ? 1 : 2;
    size += weight * Math.hypot(productRe[k]!, productIm[k]!);
    off += (weight * bound[k]!) / Math.max(least[k]!, error);
  }
  const entryError = (count * (error + 4 * UNIT) * off + error * size) / bins;
  const circular = inverse({ re: productRe, im: productIm }, bins);
  const masses = new Float64Array(bins);
  const shift = modulo(first - offset, bins);
  for (let i = 0; i < bins; i++) masses[i] = circular[(i + shift) % bins]!;
  return {
    tilt,
    step,
    first,
    masses,
    log: at.log,
    entryError,
    outside: 2 * OUTSIDE,
    infinite: -Math.expm1(finite),
    top: parts.reduce((sum, { loss, count: n }) => sum + n * (loss.first + loss.masses.length - 1) * step, 0),
    // The last term is the rounding of the sums over the window, whose terms are positive.
    relative: count * TILT_ERROR + 4 * UNIT * (Math.abs(at.log) + 1) + 8 * UNIT * bins,
  };
}

/** Multiplies the product by `times` powers of a spectrum; keeps the product of the sizes, and the least factor, for the error. */
function multiply(
  productRe: Float64Array,
  productIm: Float64Array,
  bound: Float64Array,
  least: Float64Array,
  re: Float64Array,
  im: Float64Array,
  times: number,
  error: number,
): void {
  for (let k = 0; k < re.length; k++) {
    let [x, y] = [re[k]!, im[k]!];
    const size = Math.sqrt(x * x + y * y) + error;
    least[k] = Math.min(least[k]!, size);
    const power = times === 1 ? size : size ** times;
    bound[k]! *= power;
    if (power < 1e-280) {
      // Below what a double holds when squared; its size is in the bound.
      productRe[k] = 0;
      productIm[k] = 0;
      continue;
    }
    let [a, b] = [productRe[k]!, productIm[k]!];
    for (let rest = times; ; ) {
      if (rest % 2 === 1) [a, b] = [a * x - b * y, a * y + b * x];
      rest = Math.floor(rest / 2);
      if (rest === 0) break;
      [x, y] = [x * x - y * y, 2 * x * y];
    }
    productRe[k] = a;
    productIm[k] = b;
  }
}

/** A loss beyond which, upwards or downwards, no more than OUTSIDE of the tilted sum lies: Chernoff's bound about the tilt. */
function edge(parts: readonly Repeated[], step: number, tilt: number, at: Moments, sign: 1 | -1): number {
  const need = -Math.log(OUTSIDE);
  let most = 0;
  for (const { loss, count } of parts) {
    most += count * (sign > 0 ? loss.first + loss.masses.length - 1 : loss.first) * step;
  }
  let best = most;
  // The best extra tilt is near sqrt(2 need / variance) where the sum is like a normal.
  let extra = Math.sqrt((2 * need) / at.variance);
  let stride = 2;
  const reach = (size: number): number => (sign * (total(parts, step, tilt + sign * size).log - at.log + need)) / size;
  let value = reach(extra);
  for (let i = 0; i < 8; i++) {
    const [less, more] = [reach(extra / stride), reach(extra * stride)];
    if (sign * less < sign * value) [extra, value] = [extra / stride, less];
    else if (sign * more < sign * value) [extra, value] = [extra * stride, more];
    else if (stride < 1.5) break;
    else stride = Math.sqrt(stride);
  }
  if (Number.isFinite(value)) best = sign > 0 ? Math.min(best, value) : Math.max(best, value);
  return best;
}

function modulo(value: number, size: number): number {
  return ((value % size) + size) % size;
}

/** What is asked of a sum: an upper bound counts every error against, a lower one for. */
export type Side = 'upper' | 'lower';

/**
 * Returns the bound on delta at `epsilon` that `sum` gives, besides what lies above its window: with e^(log - tilt epsilon) drawn out, the sum of
 * tilted masses times e^(-tilt y) (1 - e^-y), y the distance above epsilon.
 */
export function deltaAt(sum: TiltedSum, epsilon: number, side: Side): number {
  const { first, step, tilt, masses, entryError } = sum;
  let inner = 0;
  for (let i = Math.max(0, Math.floor(epsilon / step) - first + 1); i < masses.length; i++) {
    const y = (first + i) * step - epsilon;
    if (y <= 0) continue;
    const mass = side === 'upper' ? Math.max(0, masses[i]!) + entryError : Math.max(0, masses[i]! - entryError);
    inner += mass * Math.exp(-tilt * y) * -Math.expm1(-y);
  }
  return finish(sum, epsilon, inner, side);
}

/** Adds to (or takes from) a sum of tilted masses what may be missing from it (or too much in it). */
function finish(sum: TiltedSum, epsilon: number, inner: number, side: Side): number {
  const { first, step, tilt, masses, outside, infinite, relative, log } = sum;
  const scale = log - tilt * epsilon;
  if (side === 'lower') {
    const aliased = outside * Math.exp(logPeak(tilt));
    return Math.max(0, inner - aliased) * Math.exp(scale - relative) + infinite * (1 - relative);
  }
  // What lies above the window is missing; what lies below it is too, where epsilon lies below as well.
  const above = (first + masses.length) * step - epsilon;
  const missing = outside * Math.exp(epsilon < first * step ? logPeak(tilt) : -tilt * Math.max(0, above));
  return Math.min(1, (inner + missing) * Math.exp(scale + relative) + infinite * (1 + relative));
}

/**
 * Returns the least epsilon >= 0 at which {@link deltaAt} is at most `delta`, as far as this window tells: never less than the truth for
 * `upper`, never more for `lower`. `Infinity` when delta is below what the window's errors allow.
 */
export function epsilonFor(sum: TiltedSum, delta: number, side: Side): number {
  const { first, step, tilt, masses, entryError, infinite, relative } = sum;
  // Above all finite losses nothing but the infinite one counts.
  if (side === 'lower' && infinite * (1 - relative) > delta) return Number.POSITIVE_INFINITY;
  const most =
    side === 'upper' && infinite * (1 + relative) <= delta
      ? Math.max(0, sum.top) * (1 + 4 * UNIT)
      : Number.POSITIVE_INFINITY;
  const byTilt = Math.exp(-tilt * step);
  const [kept, gained] = [Math.exp(-step), -Math.expm1(-step)];
  // Walks down the grid; scaled to the current point: the tilted masses above it, and what they are worth there. All terms are positive.
  let [above, worth] = [0, 0];
  let [here, aboveNext, worthNext] = [0, 0, 0];
  let i = masses.length - 1;
  for (; i >= 0; i--) {
    [aboveNext, worthNext] = [above + here, worth];
    worth = byTilt * (kept * worthNext + gained * aboveNext);
    above = byTilt * aboveNext;
    here = side === 'upper' ? Math.max(0, masses[i]!) + entryError : Math.max(0, masses[i]! - entryError);
    const epsilon = (first + i) * step;
    // A comparison with what is no number fails, and that must not pass for a small delta.
    if (epsilon <= 0 || !(finish(sum, epsilon, worth, side) <= delta)) break;
  }
  const grid = (first + i) * step;
  if (i === masses.length - 1) return side === 'upper' ? most : Math.max(0, grid);
  // Within the cell no mass is passed: what is above the next point is worth more by the distance to it.
  const holds = (epsilon: number): boolean => {
    const y = grid + step - epsilon;
    const inner = Math.exp(-tilt * y) * (Math.exp(-y) * worthNext - Math.expm1(-y) * aboveNext);
    return finish(sum, epsilon, inner, side) <= delta;
  };
  let [bad, good] = [Math.max(0, grid), Math.max(0, grid + step)];
  if (holds(bad)) return bad;
  for (let k = 0; k < 60 && good - bad > 1e-13 * good; k++) {
    const middle = (bad + good) / 2;
    if (holds(middle)) good = middle;
    else bad = middle;
  }
  return side === 'upper' ? Math.min(good, most) : bad;
}
