import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DType, type Nested, Tensor } from '../../../../src/tensor/index.ts';
import { MICROSOFT, nearestEven, numbers, quantised, range, refusal, run, scale } from './quantised-world.ts';

const f32 = (values: Nested): Tensor => Tensor.of('f32', values);

describe('QuantizeLinear', () => {
  test('rounds ties to even and saturates at every opset', () => {
    for (const opset of [10, 13, 19, 21, 23, 24, 25]) {
      const x = f32([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1e9, -1e9, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
      const [y] = run('QuantizeLinear', [x, f32(1), Tensor.of('i8', 1)], { opset });
      expect(numbers(y!)).toEqual([1, 3, 3, 1, -1, -1, 127, -128, 127, -128]);
    }
  });

  test('agrees with the formula of the specification for every integer type', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<DType>('i8', 'u8', 'i16', 'u16'),
        fc.array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 20 }),
        scale,
        fc.nat(),
        (dtype, values, by, seed) => {
          const [least, most] = range(dtype);
          const zero = least + (seed % (most - least + 1));
          const [y] = run('QuantizeLinear', [f32(values), f32(by), Tensor.of(dtype, zero)]);
          expect(numbers(y!)).toEqual(values.map(value => quantised(value, by, zero, dtype)));
        },
      ),
    );
  });

  test('without a zero point gives u8, or what output_dtype says', () => {
    const x = f32([-3, 3, 300]);
    expect(run('QuantizeLinear', [x, f32(1)], { opset: 10 })[0]!.toArray()).toEqual([0, 3, 255]);
    const [y] = run('QuantizeLinear', [x, f32(1)], { opset: 21, attributes: { output_dtype: 5 } });
    expect([y!.dtype, y!.toArray()]).toEqual(['i16', [-3, 3, 300]]);
  });

  test('has a scale per place of an axis, or per block of places', () => {
    const x = Tensor.of('f32', [
      [10, 20, 30],
      [10, 20, 30],
    ]);
    const perRow = run('QuantizeLinear', [x, f32([1, 2]), Tensor.of('u8', [0, 5])], { attributes: { axis: -2 } });
    expect(perRow[0]!.toArray()).toEqual([
      [10, 20, 30],
      [10, 15, 20],
    ]);
    const blocks = Tensor.of('f32', [
      [1, 2],
      [5, 10],
    ]);
    const perBlock = run('QuantizeLinear', [x, blocks], { opset: 21, attributes: { axis: 1, block_size: 2 } });
    expect(perBlock[0]!.toArray()).toEqual([
      [10, 20, 15],
      [2, 4, 3],
    ]);
  });

  test('takes whole numbers, half floats and empty tensors', () => {
    const whole = run('QuantizeLinear', [Tensor.of('i32', [7, -9]), f32(2), Tensor.of('i8', 0)], { opset: 13 });
    expect(whole[0]!.toArray()).toEqual([4, -4]);
    const half = [Tensor.of('f16', [1, 2.5]), Tensor.of('f16', 0.5), Tensor.of('u8', 3)];
    expect(run('QuantizeLinear', half, { opset: 19 })[0]!.toArray()).toEqual([5, 8]);
    const empty = run('QuantizeLinear', [Tensor.zeros('f32', [4, 0]), f32([1, 1, 1, 1])], { attributes: { axis: 0 } });
    expect(empty[0]!.shape).toEqual([4, 0]);
  });

  test('divides in the precision that the attribute names', () => {
    // 2049 has twelve bits: as binary16 it is 2048, a tie that goes to even.
    const options = (precision: number) => ({ opset: 23, attributes: { precision } });
    const inputs = [f32([2049]), f32(1), Tensor.of('u16', 0)];
    expect(run('QuantizeLinear', inputs, options(1))[0]!.toArray()).toEqual([2049]);
    expect(run('QuantizeLinear', inputs, options(10))[0]!.toArray()).toEqual([2048]);
    expect(run('QuantizeLinear', inputs, options(16))[0]!.toArray()).toEqual([2048]);
  });

  test('refuses narrow types, odd scales and types of other opsets, naming the node', () => {
    const x = f32([[1, 2]]);
    const attributes = (output_dtype: number) => ({ opset: 25, attributes: { output_dtype } });
    for (const code of [17, 18, 19, 20, 21, 22, 23, 25, 26]) {
      expect(refusal(() => run('QuantizeLinear', [x, f32(1)], attributes(code)))).toMatch(
        /UNSUPPORTED_MODEL: QuantizeLinear "it": attribute output_dtype: \w+ has no tensors here/,
      );
    }
    expect(refusal(() => run('QuantizeLinear', [x, f32(1)], attributes(1)))).toContain('got f32');
    expect(refusal(() => run('QuantizeLinear', [x, f32([1, 2, 3])]))).toContain('3');
    expect(refusal(() => run('QuantizeLinear', [x, f32([1, 2])], { opset: 10 }))).toContain('one scale for the whole');
    expect(refusal(() => run('QuantizeLinear', [x, f32(1), Tensor.of('i16', 0)], { opset: 19 }))).toContain('i16');
    expect(refusal(() => run('QuantizeLinear', [x, f32([1, 2]), Tensor.of('u8', 0)]))).toContain('of one shape');
    const block = { attributes: { axis: 1, block_size: -1 } };
    expect(refusal(() => run('QuantizeLinear', [x, f32([[1, 2]])], block))).toContain('block_size');
  });
});

describe('DequantizeLinear', () => {
  test('is (x - zero point) * scale, as float32, at every opset', () => {
    for (const opset of [10, 13, 19, 21, 23, 24, 25]) {
      const [y] = run('DequantizeLinear', [Tensor.of('u8', [0, 3, 255]), f32(0.5), Tensor.of('u8', 3)], { opset });
      expect([y!.dtype, y!.toArray()]).toEqual(['f32', [-1.5, 0, 126]]);
    }
  });

  test('undoes QuantizeLinear up to half a step', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -20000, max: 20000 }), { minLength: 1 }), scale, (whole, by) => {
        const x = f32(whole.map(value => Math.fround((value / 1000) * by)));
        const zero = Tensor.of('i16', 0);
        const [q] = run('QuantizeLinear', [x, f32(by), zero]);
        const back = numbers(run('DequantizeLinear', [q!, f32(by), zero])[0]!);
        numbers(x).forEach((value, i) => {
          expect(Math.abs(back[i]! - value)).toBeLessThanOrEqual(by * 0.50001);
        });
      }),
    );
  });

  test('takes 32-bit sums with a scale per channel, and blocks', () => {
    const sums = Tensor.of('i32', [
      [100000, -4],
      [3, 2 ** 31 - 1],
    ]);
    const perRow = run('DequantizeLinear', [sums, f32([0.5, 2])], { attributes: { axis: 0 } });
    expect(perRow[0]!.toArray()).toEqual([
      [50000, -2],
      [6, 2 ** 32],
    ]);
    const blocks = run('DequantizeLinear', [Tensor.of('u16', [1, 2, 3]), f32([1, 10])], {
      opset: 21,
      attributes: { axis: 0, block_size: 2 },
    });
    expect(blocks[0]!.toArray()).toEqual([1, 2, 30]);
  });

  test('gives the dtype of the scale, or what output_dtype says', () => {
    const x = Tensor.of('i8', [-3, 5]);
    expect(run('DequantizeLinear', [x, Tensor.of('bf16', 2)], { opset: 19 })[0]!.dtype).toBe('bf16');
    for (const by of [f32(2), Tensor.of('f16', 2)]) {
      const [y] = run('DequantizeLinear', [x, by], { opset: 23, attributes: { output_dtype: 16 } });
      expect([y!.dtype, y!.toArray()]).toEqual(['bf16', [-6, 10]]);
    }
  });
});

describe('DynamicQuantizeLinear', () => {
  test('keeps 0 exact and covers the range of the input', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true, min: -1e6, max: 1e6 }), { maxLength: 40 }), values => {
        const [y, by, zero] = run(
          'DynamicQuantizeLinear',
          [Tensor.from('f32', [values.length], Float32Array.from(values))],
          {
            opset: 11,
            outputs: 3,
          },
        );
        const [s, z] = [numbers(by!)[0]!, numbers(zero!)[0]!];
        const [least, most] = [Math.min(0, ...values), Math.max(0, ...values)];
        expect(s).toBe(Math.fround(Math.fround(most - least) / 255) || 1);
        expect(z).toBe(nearestEven(Math.fround((0 - least) / s)));
        expect(numbers(y!)).toEqual(values.map(value => quantised(value, s, z, 'u8')));
      }),
      // The scale of the smallest float would be 0.
      { examples: [[[2 ** -149]]] },
    );
  });

  test('lets NaN widen no range', () => {
    const [, by] = run('DynamicQuantizeLinear', [f32([Number.NaN, 255])], { opset: 11, outputs: 3 });
    expect(by!.toArray()).toBe(1);
  });
});

describe('QuantizeLinear and DequantizeLinear of com.microsoft', () => {
  test('quantise to 16 bits, with one scale unless there is an axis', () => {
    const x = f32([[-2, 2]]);
    const inputs = [x, f32(0.001), Tensor.of('i16', 0)];
    const [q] = run('QuantizeLinear', inputs, { domain: MICROSOFT });
    expect(q!.toArray()).toEqual([[-2000, 2000]]);
    expect(refusal(() => run('QuantizeLinear', [x, f32([1, 2])], { domain: MICROSOFT }))).toContain('one scale');
    const perColumn = run('DequantizeLinear', [q!, f32([1, 2])], { domain: MICROSOFT, attributes: { axis: 1 } });
    expect(perColumn[0]!.toArray()).toEqual([[-2000, 4000]]);
  });
});
