/**
 * Scaling between dtypes that keeps the range: the largest integer is 1.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import { type BufferDType, DTYPES, type DType } from './dtype.ts';
import { Tensor } from './tensor.ts';

/** What {@link rescale} does with a number outside of the range of the new dtype. */
export type Overflow = 'saturate' | 'refuse';

/**
 * Returns a copy of `tensor` in another dtype with the range mapped onto the range: an unsigned integer of `b` bits stands for
 * `v / (2^b - 1)` in [0, 1], a signed one for `v / (2^(b-1) - 1)` in [-1, 1] (the one value below -1 counts as -1), a float for
 * itself. bool is 0 or 1.
 *
 * A float becomes the nearest integer, ties to even; a number outside of the range becomes its end (`saturate`) or is refused; NaN is
 * always refused, as no integer stands for it. Between integers the result is the exactly rounded quotient, in exact arithmetic, so
 * that widening and narrowing again gives the same back. A negative number has no place in an unsigned dtype: it is outside of the
 * range. Float results are rounded as {@link Tensor.cast} rounds.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` on NaN, and out of range where `overflow` is `refuse`; `DTYPE_MISMATCH` for strings.
 * @example
 * ```ts
 * rescale(Tensor.of('u8', [0, 51, 255]), 'f64').toArray(); // [0, 0.2, 1]
 * rescale(Tensor.of('u8', [0, 128, 255]), 'u16').toArray(); // [0, 32896, 65535]
 * ```
 */
export function rescale<E extends BufferDType>(
  tensor: Tensor,
  dtype: E,
  options: { readonly overflow?: Overflow } = {},
): Tensor<E> {
  const overflow = options.overflow ?? 'saturate';
  if (tensor.dtype === 'string' || (dtype as DType) === 'string') {
    throw new CloisterError('DTYPE_MISMATCH', 'strings have no range to scale');
  }
  const from = rangeOf(tensor.dtype);
  const to = rangeOf(dtype);
  const out = Tensor.zeros(dtype, tensor.shape);
  const values = tensor.values() as (number | bigint)[];
  if (!to) {
    const scaled = from ? values.map(value => Math.max(-1, Number(value) / Number(from.most))) : (values as number[]);
    return Tensor.of('f64', scaled).reshape(tensor.shape).cast(dtype);
  }
  const data = out.data as unknown as Record<number, number | bigint>;
  const big = dtype === 'i64' || dtype === 'u64';
  for (let i = 0; i < values.length; i++) {
    const exact = from ? scaleInteger(BigInt(values[i]!), from, to) : scaleFloat(values[i] as number, to);
    const kept = exact > to.most ? to.most : exact < to.least ? to.least : exact;
    if (kept !== exact && overflow === 'refuse') {
      throw new CloisterError('INVALID_ARGUMENT', `rescale: element ${i} is outside of the range of ${dtype}`, {
        index: i,
      });
    }
    data[i] = big ? kept : Number(kept);
  }
  return out;
}

/** The integers that stand for -1 (or 0) and 1. */
interface Range {
  readonly least: bigint;
  readonly most: bigint;
}

/** The range of an integer dtype; undefined for floats. */
function rangeOf(dtype: DType): Range | undefined {
  const { kind, bytes } = DTYPES[dtype];
  if (kind === 'float') return undefined;
  if (kind === 'bool') return { least: 0n, most: 1n };
  const bits = BigInt(bytes * 8);
  if (dtype.startsWith('u')) return { least: 0n, most: (1n << bits) - 1n };
  const most = (1n << (bits - 1n)) - 1n;
  return { least: -most, most };
}

function scaleInteger(value: bigint, from: Range, to: Range): bigint {
  const inside = value < from.least ? from.least : value;
  return roundedQuotient(inside * to.most, from.most);
}

/** The integer nearest to `value * most`, exactly: a double is a ratio of integers. */
function scaleFloat(value: number, { least, most }: Range): bigint {
  if (Number.isNaN(value)) throw new CloisterError('INVALID_ARGUMENT', 'rescale: NaN stands for no integer');
  if (value >= 2) return most + 1n;
  if (value <= -2) return least - 1n;
  // At most 1074 bits stand behind the point; below 2^-80 nothing reaches one half.
  if (Math.abs(value) < 2 ** -80) return 0n;
  return roundedQuotient(BigInt(value * 2 ** 132) * most, 1n << 132n);
}

/** `a / b` to the nearest integer, ties to even; b > 0. */
function roundedQuotient(a: bigint, b: bigint): bigint {
  const negative = a < 0n;
  const size = negative ? -a : a;
  let quotient = size / b;
  const twice = (size % b) * 2n;
  if (twice > b || (twice === b && quotient % 2n === 1n)) quotient += 1n;
  return negative ? -quotient : quotient;
}
