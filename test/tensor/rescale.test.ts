import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DType, rescale, Tensor } from '../../src/tensor/index.ts';

const INTEGERS = ['u8', 'i8', 'u16', 'i16', 'u32', 'i32', 'u64', 'i64', 'bool'] as const;
const most = (dtype: DType): bigint =>
  dtype === 'bool' ? 1n : (1n << (BigInt(dtype.slice(1)) - (dtype[0] === 'i' ? 1n : 0n))) - 1n;

describe('scaling between dtypes', () => {
  test.each(INTEGERS.map(dtype => [dtype] as const))('takes the largest %s to 1 and back', dtype => {
    const top = Tensor.of(dtype, [most(dtype)]);
    expect(rescale(top, 'f64').toArray()).toEqual([1]);
    expect(rescale(Tensor.of('f64', [1]), dtype).toArray()).toEqual(top.toArray());
    for (const other of INTEGERS)
      expect(rescale(top, other).toArray()).toEqual(Tensor.of(other, [most(other)]).toArray());
  });

  test('to a wider dtype and back gives the same integers', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(255), { minLength: 1 }), values => {
        const x = Tensor.of('u8', values);
        for (const wide of ['u16', 'u32', 'u64', 'i16', 'i32', 'i64', 'f32', 'f64'] as const) {
          expect(rescale(rescale(x, wide), 'u8').toArray()).toEqual(x.toArray());
        }
      }),
    );
  });

  test('rounds the exact quotient to nearest, ties to even', () => {
    fc.assert(
      fc.property(fc.double({ min: -1, max: 1, noNaN: true }), value => {
        const came = rescale(Tensor.of('f64', [value]), 'i16').toArray() as number[];
        expect(Math.abs(came[0]! - value * 32767)).toBeLessThanOrEqual(0.5);
      }),
    );
    // 0.5 * 255 = 127.5 and 0.5 * 127 = 63.5
    expect(rescale(Tensor.of('f64', [0.5]), 'u8').toArray()).toEqual([128]);
    expect(rescale(Tensor.of('f64', [0.5, -0.5]), 'i8').toArray()).toEqual([64, -64]);
    // The only tie between an even and an odd integer: largest integers are odd, all but that of bool above 1.
    expect(rescale(Tensor.of('f64', [0.5]), 'bool').toArray()).toEqual([0]);
    expect(rescale(Tensor.of('f64', [2 ** -70]), 'u64').toArray()).toEqual([0n]);
    expect(rescale(Tensor.of('f64', [2 ** -64]), 'u64').toArray()).toEqual([1n]);
  });

  test('saturates what is outside of the range, or refuses it with its place', () => {
    const x = Tensor.of('f32', [-0.5, 0, 1.5, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    expect(rescale(x, 'u8').toArray()).toEqual([0, 0, 255, 255, 0]);
    expect(rescale(x, 'i8').toArray()).toEqual([-64, 0, 127, 127, -127]);
    expect(rescale(Tensor.of('i8', [-128, -127, -1]), 'u8').toArray()).toEqual([0, 0, 0]);
    expect(rescale(Tensor.of('i8', [-128]), 'f32').toArray()).toEqual([-1]);
    // What lies below -1 counts as -1, and -1 is inside.
    expect(rescale(Tensor.of('i8', [-128]), 'i16', { overflow: 'refuse' }).toArray()).toEqual([-32767]);
    expect(() => rescale(x, 'u8', { overflow: 'refuse' })).toThrow(/element 0 is outside of the range of u8/);
    expect(() => rescale(Tensor.of('f32', [Number.NaN]), 'u8')).toThrow(/NaN stands for no integer/);
    expect(() => rescale(Tensor.of('string', ['1']), 'u8')).toThrow(/strings have no range/);
  });
});
