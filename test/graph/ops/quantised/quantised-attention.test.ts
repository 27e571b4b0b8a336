import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DType, Tensor } from '../../../../src/tensor/index.ts';
import { byteOf, bytesOf, byteType, MICROSOFT, numbers, refusal, run } from './quantised-world.ts';

const [BATCH, ROWS, FROM, HEADS, WIDTH] = [2, 3, 4, 2, 6];

/** Numbers as small as those of a trained model, so that no softmax is all at one place. */
const steps = fc.double({ min: 0.001, max: 0.004, noNaN: true }).map(Math.fround);

const cases = fc.tuple(byteType, byteType).chain(([left, right]) =>
  fc.record({
    x: bytesOf(left, [BATCH, ROWS, FROM]),
    w: bytesOf(right, [FROM, 3 * WIDTH]),
    bias: fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 3 * WIDTH, maxLength: 3 * WIDTH }),
    xScale: steps,
    wScales: fc.array(steps, { minLength: 3 * WIDTH, maxLength: 3 * WIDTH }),
    xZero: byteOf(left),
    wZeros: fc.array(byteOf(right), { minLength: 3 * WIDTH, maxLength: 3 * WIDTH }),
    perColumn: fc.boolean(),
    mask: fc.constantFrom(undefined, [3, 1], [2, 3, 1, 0]),
    past: fc.constantFrom(0, 2),
    unidirectional: fc.integer({ min: 0, max: 1 }),
  }),
);

const f32 = (values: readonly number[] | number): Tensor => Tensor.of('f32', values);

describe('QAttention', () => {
  test('is Attention on what its input and weights stand for', () => {
    fc.assert(
      fc.property(cases, given => {
        const { x, w, perColumn } = given;
        const each = <T>(values: readonly T[]): readonly T[] | T => (perColumn ? values : values[0]!);
        const wScale = f32(each(given.wScales) as number);
        const wZero = Tensor.of(w.dtype as DType, each(given.wZeros) as number);
        const [xScale, xZero] = [f32(given.xScale), Tensor.of(x.dtype, given.xZero)];
        const bias = f32(given.bias);
        const mask = given.mask && Tensor.of('i32', given.mask);
        const size = 2 * BATCH * HEADS * given.past * (WIDTH / HEADS);
        const shape = [2, BATCH, HEADS, given.past, WIDTH / HEADS];
        const past =
          given.past > 0
            ? Tensor.from(
                'f32',
                shape,
                Float32Array.from({ length: size }, (_, i) => Math.sin(i)),
              )
            : undefined;
        const options = {
          domain: MICROSOFT,
          attributes: { num_heads: HEADS, unidirectional: given.unidirectional },
          outputs: 2,
        };
        const [y, present] = run('QAttention', [x, w, bias, xScale, wScale, mask, xZero, wZero, past], options);
        const real = run('DequantizeLinear', [x, xScale, xZero])[0]!;
        const weights = run('DequantizeLinear', [w, wScale, wZero])[0]!;
        const [want, kept] = run('Attention', [real, weights, bias, mask, past], options);
        for (const [came, expected] of [
          [y!, want!],
          [present!, kept!],
        ] as const) {
          const values = numbers(expected);
          numbers(came).forEach((value, i) => {
            expect(Math.abs(value - values[i]!)).toBeLessThanOrEqual(1e-5 * (1 + Math.abs(values[i]!)));
          });
        }
      }),
    );
  });

  test('refuses weights that are no three parts of whole heads', () => {
    const inputs = [
      Tensor.zeros('u8', [1, 2, 4]),
      Tensor.zeros('i8', [4, 9]),
      Tensor.zeros('f32', [9]),
      f32(1),
      f32(1),
    ];
    const message = refusal(() => run('QAttention', inputs, { domain: MICROSOFT, attributes: { num_heads: 2 } }));
    expect(message).toContain('9 columns cannot be cut into three times 2 heads');
  });
});
