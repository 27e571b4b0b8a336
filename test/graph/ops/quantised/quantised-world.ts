/**
 * What the tests of quantised operators share: arbitrary tensors of bytes, and the arithmetic of the specification spelt out.
 * @module
 */
import fc from 'fast-check';
import { type DType, Tensor } from '../../../../src/tensor/index.ts';

export { refusal, run } from '../one-node.ts';

export const MICROSOFT = 'com.microsoft';

export const byteType: fc.Arbitrary<'i8' | 'u8'> = fc.constantFrom('i8', 'u8');

/** Least and largest value of a dtype. */
export function range(dtype: DType): readonly [number, number] {
  const ranges = new Map<DType, readonly [number, number]>([
    ['i8', [-128, 127]],
    ['u8', [0, 255]],
    ['i16', [-32768, 32767]],
    ['u16', [0, 65535]],
  ]);
  return ranges.get(dtype)!;
}

/** One value of a dtype, its ends more often than others. */
export function byteOf(dtype: 'i8' | 'u8'): fc.Arbitrary<number> {
  const [min, max] = range(dtype);
  return fc.oneof({ weight: 4, arbitrary: fc.integer({ min, max }) }, fc.constantFrom(min, max));
}

/** A dense tensor of bytes. */
export function bytesOf(dtype: 'i8' | 'u8', shape: readonly number[]): fc.Arbitrary<Tensor> {
  const size = shape.reduce((product, dim) => product * dim, 1);
  return fc
    .array(byteOf(dtype), { minLength: size, maxLength: size })
    .map(values => Tensor.from(dtype, shape, (dtype === 'i8' ? Int8Array : Uint8Array).from(values) as never));
}

/** A scale between 2^-7 and 2^7, as float32. */
export const scale: fc.Arbitrary<number> = fc.double({ min: 2 ** -7, max: 2 ** 7, noNaN: true }).map(Math.fround);

/** Round to the nearest integer, ties to even. */
export function nearestEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** QuantizeLinear of one number. */
export function quantised(value: number, by: number, zero: number, dtype: DType): number {
  const [least, most] = range(dtype);
  return Math.min(Math.max(nearestEven(Math.fround(value / by)) + zero, least), most);
}

/** The values of a tensor as numbers. */
export function numbers(x: Tensor): readonly number[] {
  return x.values().map(Number);
}

/** The largest difference between two tensors of one shape. */
export function farthest(a: Tensor, b: Tensor): number {
  const [left, right] = [numbers(a), numbers(b)];
  return left.reduce((most, value, i) => Math.max(most, Math.abs(value - right[i]!)), 0);
}
