import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { at, compute, indicesOf } from '../any-node.ts';
import { infer, random, refusal } from '../one-node.ts';

const MERGES: Readonly<Record<string, (a: number, b: number) => number>> = {
  none: (_, b) => b,
  add: (a, b) => a + b,
  mul: (a, b) => a * b,
  max: Math.max,
  min: Math.min,
};

const dims = fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 });

describe('ScatterElements', () => {
  test('equals a loop over its updates, with every reduction', () => {
    fc.assert(
      fc.property(
        dims,
        fc.nat(),
        fc.nat(99),
        fc.constantFrom(...Object.keys(MERGES)),
        (shape, pick, seed, reduction) => {
          const axis = pick % shape.length;
          const indexShape = shape.map((dim, i) => (i === axis ? (seed % 4) + 1 : dim));
          const noise = random(seed, indexShape).values() as number[];
          const size = shape[axis]!;
          const indices = Tensor.of('i64', 0).expand(indexShape).clone();
          noise.forEach((x, i) => {
            indices.data[i] = BigInt(Math.floor(x * size));
          });
          const [x, updates] = [random(seed + 1, shape), random(seed + 2, indexShape)];
          const expected = new Map([...indicesOf(shape)].map(index => [index.join(), at(x, index) as number]));
          for (const index of indicesOf(indexShape)) {
            const given = Number(at(indices, index));
            const key = index.with(axis, given < 0 ? given + size : given).join();
            expected.set(key, MERGES[reduction]!(expected.get(key)!, at(updates, index) as number));
          }
          const [y] = compute('ScatterElements', [x, indices, updates], { attributes: { axis, reduction } });
          expect(y!.values()).toEqual([...expected.values()]);
        },
      ),
    );
  });

  test('wraps sums and products of integers, and takes bools for or and and', () => {
    const indices = Tensor.of('i64', [0, 0]);
    const of = (x: Tensor, updates: Tensor, reduction: string): unknown =>
      compute('ScatterElements', [x, indices, updates], { attributes: { reduction } })[0]!.toArray();
    expect(of(Tensor.of('i8', [100]), Tensor.of('i8', [100, 1]), 'add')).toEqual([-55]);
    expect(of(Tensor.of('i32', [2 ** 30 + 1]), Tensor.of('i32', [5, 3]), 'mul')).toEqual([-(2 ** 30) + 15]);
    expect(of(Tensor.of('u64', [2n ** 63n]), Tensor.of('u64', [2n, 1n]), 'max')).toEqual([2n ** 63n]);
    expect(of(Tensor.of('bool', [0]), Tensor.of('bool', [1, 1]), 'add')).toEqual([1]);
    expect(of(Tensor.of('bool', [1]), Tensor.of('bool', [1, 0]), 'mul')).toEqual([0]);
  });

  test('adds halves and singles up before it rounds them', () => {
    const many = 300;
    const indices = Tensor.zeros('i64', [many]);
    const ones = Tensor.of('f16', 0.1).expand([many]).clone();
    const [y] = compute('ScatterElements', [Tensor.of('f16', [0]), indices, ones], {
      attributes: { reduction: 'add' },
    });
    expect(y!.dtype).toBe('f16');
    expect(y!.values()[0]).toBe(30); // 300 * 0.0999755859375 = 29.99267578125, of which the nearest half is 30
  });

  test('is what Scatter was', () => {
    const inputs = [Tensor.of('string', ['a', 'b']), Tensor.of('i32', [-1]), Tensor.of('string', ['c'])];
    expect(compute('Scatter', inputs, { opset: 9 })[0]!.toArray()).toEqual(['a', 'c']);
    expect(compute('ScatterElements', inputs, { opset: 11 })[0]!.toArray()).toEqual(['a', 'c']);
  });

  test('refuses reductions that its opset does not have, updates that do not fit, and indices outside', () => {
    const x = Tensor.of('f32', [1, 2]);
    const of = (indices: Tensor, updates: Tensor, reduction = 'none', opset = 18): string =>
      refusal(() => compute('ScatterElements', [x, indices, updates], { opset, attributes: { reduction } }));
    const [zero, one] = [Tensor.of('i64', [0]), Tensor.of('f32', [1])];
    expect(of(zero, one, 'max', 16)).toContain('"max" is unknown at opset 16');
    expect(of(zero, one, 'max', 18)).toBe('none');
    expect(of(zero, one, 'median')).toContain('"median" is unknown');
    expect(of(zero, one, 'add', 13)).toContain('"reduction" is unknown');
    expect(of(zero, Tensor.of('f32', [1, 2]))).toContain('expected updates of [1]');
    expect(of(zero, Tensor.of('f64', [1]))).toContain('one dtype');
    expect(of(Tensor.of('i64', [2]), one)).toContain('an index is outside');
  });
});

describe('ScatterND', () => {
  test('gives GatherND its updates back', () => {
    fc.assert(
      fc.property(dims, fc.nat(), fc.nat(99), (shape, k, seed) => {
        const width = (k % shape.length) + 1;
        // Distinct tuples: every other place of the leading axes, in reverse.
        const places = [...indicesOf(shape.slice(0, width))].filter((_, i) => i % 2 === seed % 2).reverse();
        const indices = Tensor.from('i64', [places.length, width], BigInt64Array.from(places.flat(), BigInt));
        const updates = random(seed, [places.length, ...shape.slice(width)]);
        const [y] = compute('ScatterND', [random(seed + 1, shape), indices, updates]);
        expect(compute('GatherND', [y!, indices])[0]!.values()).toEqual(updates.values());
      }),
    );
  });

  test('equals a loop over its tuples, with every reduction', () => {
    const x = random(3, [4, 2]);
    const indices = Tensor.of('i64', [[1], [-1], [1]]);
    const updates = random(4, [3, 2]);
    for (const [reduction, merge] of Object.entries(MERGES)) {
      const expected = x.values() as number[];
      [1, 3, 1].forEach((row, i) => {
        for (const j of [0, 1]) {
          expected[row * 2 + j] = merge(expected[row * 2 + j]!, at(updates, [i, j]) as number);
        }
      });
      const [y] = compute('ScatterND', [x, indices, updates], { attributes: { reduction } });
      expect(y!.values(), reduction).toEqual(expected);
    }
  });

  test('leaves its input as it is', () => {
    const x = Tensor.of('f32', [1, 2]);
    compute('ScatterND', [x, Tensor.of('i64', [[0]]), Tensor.of('f32', [9])]);
    expect(x.toArray()).toEqual([1, 2]);
  });

  test('keeps symbolic sizes, and refuses updates of another shape', () => {
    const facts = (...shape: (number | string)[]) => ({ dtype: 'f32' as const, shape });
    const indices = { dtype: 'i64' as const, shape: ['K', 1] };
    expect(infer('ScatterND', [facts('N', 3), indices, facts('K', 3)])[0]!.shape).toEqual(['N', 3]);
    expect(refusal(() => infer('ScatterND', [facts('N', 3), indices, facts('K', 4)]))).toContain('expected updates');
    expect(refusal(() => infer('ScatterND', [facts('N'), { dtype: 'i64', shape: ['K', 'L'] }, facts('K')]))).toContain(
      'must be known before the model runs',
    );
  });
});
