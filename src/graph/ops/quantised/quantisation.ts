/**
 * What the quantised operators share: integer ranges, rounding, and scales and zero points as they are given to nodes.
 *
 * An integer q stands for the real number (q - zero point) * scale.
 * @module
 */
import { type ArrayOf, type DType, formatShape, newArray, type Tensor } from '../../../tensor/index.ts';
import { dense, type Numbers } from '../loops.ts';
import type { InferContext, RunContext } from '../operator.ts';

/** The integers that quantised tensors hold, and the least and the largest of each. */
const RANGES: ReadonlyMap<DType, readonly [least: number, most: number]> = new Map([
  ['i8', [-128, 127]],
  ['u8', [0, 255]],
  ['i16', [-32768, 32767]],
  ['u16', [0, 65535]],
]);

/** The two integer types of eight bits, which are all that most quantised operators take. */
export const BYTES: readonly DType[] = ['i8', 'u8'];

/** The range of a dtype that shape rules have found to be a quantised one. */
export function quantisedRange(dtype: DType): readonly [least: number, most: number] {
  return RANGES.get(dtype)!;
}

/** 1.5 * 2^52: a double of this size has no fraction, so adding it rounds to an integer, ties to even. */
const WHOLE = 6755399441055744;

/** The integer nearest to `value`, ties to even. Needs |value| < 2^51; NaN stays NaN. */
export function roundEven(value: number): number {
  return value + WHOLE - WHOLE;
}

/**
 * The quantised form of a real number: `value` is in units of the scale already. Values outside the range become its ends; NaN
 * is stored as 0 by an integer array.
 */
export function saturate(value: number, zero: number, least: number, most: number): number {
  return roundEven(Math.min(Math.max(value, least - zero), most - zero)) + zero;
}

/** Scale and zero point of a whole tensor. */
export interface Quantisation {
  readonly scale: number;
  readonly zero: number;
}

/** Reads a scale and a zero point that hold for a whole tensor. A zero point that is left out is 0. */
export function quantisationOf(c: RunContext, scale: number, zero: number): Quantisation {
  const given = c.tensors[zero];
  return { scale: Number(dense(c.operand(scale))[0]!), zero: given ? Number(dense(given)[0]!) : 0 };
}

/** Fails unless the inputs at `indices`, where present, hold one element: parameters of a whole tensor. */
export function expectSingle(c: InferContext, ...indices: readonly number[]): void {
  for (const index of indices) {
    const shape = c.inputs[index]?.shape;
    if (shape && (shape.length > 1 || (shape.length === 1 && c.differ(shape[0]!, 1)))) {
      c.fail(`input ${index}: expected one scale or zero point for the whole tensor, got ${formatShape(shape)}`);
    }
  }
}

/**
 * Checks a quantised operand and its parameters: the tensor is of eight bits, the scale a float, and the zero point, where it is
 * given, of the dtype of the tensor.
 */
export function expectQuantised(c: InferContext, tensor: number, scale: number, zero: number): void {
  c.expect(tensor, BYTES);
  c.expect(scale, ['f32']);
  c.sameDType(tensor, zero);
  expectSingle(c, scale, zero);
}

/**
 * For each value of a dtype of eight bits, at its place `value & 255`, the value of the same real number, mapped by `f`, under
 * another quantisation.
 */
export function requantiseTable(
  dtype: DType,
  from: Quantisation,
  to: Quantisation,
  f: (real: number) => number = real => real,
): ArrayOf<'i8'> | ArrayOf<'u8'> {
  const table = newArray(dtype, 256) as ArrayOf<'i8'>;
  const [least, most] = quantisedRange(dtype);
  for (let value = least; value <= most; value++) {
    const real = f(Math.fround((value - from.zero) * from.scale));
    table[value & 255] = saturate(Math.fround(Math.fround(real) / to.scale), to.zero, least, most);
  }
  return table;
}

/** The elements of a quantised tensor through a table that {@link requantiseTable} made. */
export function throughTable(x: Tensor, table: ArrayLike<number>, out: Numbers, at = 0): void {
  const source = dense(x);
  for (let i = 0; i < source.length; i++) out[at + i] = table[source[i]! & 255]!;
}

/** The distances of integers of at most eight bits from one zero point, in row-major order. */
export function centred(x: Tensor, zero: number): Int16Array {
  const source = x.elements() as Uint8Array;
  const out = new Int16Array(source.length);
  for (let i = 0; i < source.length; i++) out[i] = source[i]! - zero;
  return out;
}
