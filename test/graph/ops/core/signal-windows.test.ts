import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { infer, numbers, refusal, run } from '../one-node.ts';

const size = (n: number): Tensor => Tensor.of('i64', BigInt(n));
const rounded = (x: Tensor): readonly number[] => numbers(x).map(value => Math.round(value * 1e6) / 1e6 + 0);

// Each form as a textbook has it, which is not how the kernel computes it.
const HALF = Math.PI / 4;
const FORMS = [
  ['HannWindow', (n: number) => Math.sin(n * HALF) ** 2],
  ['HammingWindow', (n: number) => 4 / 46 + (42 / 46) * Math.sin(n * HALF) ** 2],
  ['BlackmanWindow', (n: number) => 0.42 - 0.5 * Math.cos(2 * n * HALF) + 0.08 * Math.cos(4 * n * HALF)],
] as const;

describe.each(FORMS)('%s', (op, form) => {
  const four = [0, 1, 2, 3].map(n => Math.round(form(n) * 1e6) / 1e6 + 0);

  test('repeats after its size, and is as high in the middle as it gets', () => {
    expect(rounded(run(op, [size(4)])[0]!)).toEqual(four);
  });

  test('is the periodic window with its first value at the end, where it is to be symmetric', () => {
    expect(rounded(run(op, [size(5)], { attributes: { periodic: 0 } })[0]!)).toEqual([...four, four[0]]);
  });

  test('comes in the element type that is asked for', () => {
    for (const [code, dtype] of [
      [1, 'f32'],
      [10, 'f16'],
      [11, 'f64'],
      [7, 'i64'],
    ] as const) {
      const [y] = run(op, [Tensor.of('i32', [3])], { attributes: { output_datatype: code } });
      expect([y!.dtype, y!.shape]).toEqual([dtype, [3]]);
    }
  });

  test('may be empty, and of a size that only the run knows', () => {
    expect(run(op, [size(0)])[0]!.shape).toEqual([0]);
    expect(infer(op, [{ dtype: 'i64', shape: [] }])[0]).toEqual({ dtype: 'f32', shape: ['?0'] });
  });

  test('refuses sizes and element types that are none', () => {
    expect(refusal(() => run(op, [size(-1)]))).toContain('a window of -1 elements');
    expect(refusal(() => run(op, [size(2 ** 50)]))).toContain('cannot exist');
    expect(refusal(() => run(op, [size(2)], { attributes: { output_datatype: 8 } }))).toContain('UNSUPPORTED_MODEL');
    expect(refusal(() => run(op, [size(2)], { attributes: { output_datatype: 99 } }))).toContain('UNSUPPORTED_MODEL');
    expect(refusal(() => run(op, [Tensor.of('i64', [2n, 3n])]))).toContain('expected a single value');
  });
});
