import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DType } from '../../../../src/tensor/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { compute } from '../any-node.ts';
import { refusal } from '../one-node.ts';

const WIDTHS = { u8: 8, i8: 8, u16: 16, i16: 16, u32: 32, i32: 32, u64: 64, i64: 64 } as const;

/** A bigint as an element of the dtype holds it. */
function held(dtype: keyof typeof WIDTHS, value: bigint): bigint {
  return dtype.startsWith('u') ? BigInt.asUintN(WIDTHS[dtype], value) : BigInt.asIntN(WIDTHS[dtype], value);
}

const dtype = fc.constantFrom(...(Object.keys(WIDTHS) as (keyof typeof WIDTHS)[]));
const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const of = (type: DType, ...values: readonly bigint[]): Tensor => Tensor.of(type, values);
const numbers = (tensor: Tensor): readonly bigint[] => tensor.values().map(BigInt);

describe('Bitwise operators', () => {
  test('agree with arbitrary-precision integers cut to their width', () => {
    fc.assert(
      fc.property(dtype, word, word, (type, a, b) => {
        const [x, y] = [held(type, a), held(type, b)];
        const both = [of(type, x), of(type, y)];
        expect(numbers(compute('BitwiseAnd', both)[0]!)).toEqual([held(type, x & y)]);
        expect(numbers(compute('BitwiseOr', both)[0]!)).toEqual([held(type, x | y)]);
        expect(numbers(compute('BitwiseXor', both)[0]!)).toEqual([held(type, x ^ y)]);
        expect(numbers(compute('BitwiseNot', [of(type, x)])[0]!)).toEqual([held(type, ~x)]);
      }),
    );
  });

  test('broadcast, and refuse what has no bits', () => {
    expect(compute('BitwiseAnd', [of('u8', 5n, 3n), Tensor.of('u8', [[1], [2]])])[0]!.toArray()).toEqual([
      [1, 1],
      [0, 2],
    ]);
    expect(refusal(() => compute('BitwiseNot', [Tensor.of('f32', [1])]))).toContain('expected one of i8');
    expect(refusal(() => compute('BitwiseOr', [of('u8', 1n), of('i8', 1n)]))).toContain('one dtype');
  });
});

describe('BitShift', () => {
  test('agrees with arbitrary-precision integers, also where nothing is left', () => {
    fc.assert(
      fc.property(fc.constantFrom('u8', 'u16', 'u32', 'u64'), word, fc.bigInt({ min: 0n, max: 70n }), (type, a, by) => {
        const x = held(type, a);
        for (const [direction, wanted] of [
          ['LEFT', x << by],
          ['RIGHT', x >> by],
        ] as const) {
          const [y] = compute('BitShift', [of(type, x), of(type, by)], { attributes: { direction } });
          expect(numbers(y!)).toEqual([held(type, wanted)]);
        }
      }),
    );
  });

  test('needs a direction that there is, and unsigned integers', () => {
    const shift = (type: DType, attributes = {}): string =>
      refusal(() => compute('BitShift', [of(type, 1n), of(type, 1n)], { attributes }));
    expect(shift('u8')).toContain('direction is required');
    expect(shift('u8', { direction: 'left' })).toContain('expected LEFT or RIGHT');
    expect(shift('i32', { direction: 'LEFT' })).toContain('expected one of u8');
  });
});
