import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { at, compute, indicesOf } from '../any-node.ts';
import { random, refusal } from '../one-node.ts';

const shape = (least: number, most: number): fc.Arbitrary<number[]> =>
  fc.array(fc.integer({ min: 1, max: 3 }), { minLength: least, maxLength: most });

/** Indices of `indexShape`, each into an axis of `size`, from its end as well. */
function someIndices(indexShape: readonly number[], sizeOf: (i: number) => number, seed: number, dtype: 'i32' | 'i64') {
  const noise = random(seed, indexShape).values() as number[];
  return Tensor.from(
    'f64',
    indexShape,
    Float64Array.from(noise, (x, i) => Math.floor(x * sizeOf(i))),
  ).cast(dtype);
}

const wrap = (index: unknown, size: number): number => (Number(index) < 0 ? Number(index) + size : Number(index));

describe('Gather', () => {
  test('takes what the indices name along the axis, whatever the dtype', () => {
    fc.assert(
      fc.property(shape(1, 3), shape(0, 2), fc.nat(), fc.nat(99), (dims, indexDims, pick, seed) => {
        const axis = pick % dims.length;
        const indices = someIndices(indexDims, () => dims[axis]!, seed, seed % 2 ? 'i32' : 'i64');
        for (const dtype of ['f32', 'i64', 'bool', 'string', 'f16'] as const) {
          const numbers = random(seed, dims);
          const x =
            dtype === 'string' ? Tensor.from('string', dims, numbers.values().map(String)) : numbers.cast(dtype);
          const [y] = compute('Gather', [x, indices], { attributes: { axis: axis - dims.length } });
          for (const index of indicesOf(y!.shape)) {
            const inner = index.slice(axis, axis + indexDims.length);
            const from = wrap(at(indices, inner), dims[axis]!);
            expect(at(y!, index)).toEqual(at(x, [...index.slice(0, axis), from, ...index.slice(axis + inner.length)]));
          }
        }
      }),
    );
  });

  test('refuses an index outside of its axis', () => {
    const x = Tensor.of('f32', [1, 2]);
    expect(refusal(() => compute('Gather', [x, Tensor.of('i64', 2)]))).toContain('an index is outside an axis of 2');
    expect(refusal(() => compute('Gather', [x, Tensor.of('i64', -3)]))).toContain('an index is outside');
    expect(refusal(() => compute('Gather', [x, Tensor.of('f32', 0)]))).toContain('expected one of i32 i64');
  });
});

describe('GatherElements', () => {
  test('takes one element for each index', () => {
    fc.assert(
      fc.property(shape(1, 3), fc.nat(), fc.nat(99), (dims, pick, seed) => {
        const axis = pick % dims.length;
        const indexDims = dims.map((dim, i) => (i === axis ? (seed % 4) + 1 : Math.max(1, dim - (seed % 2))));
        const indices = someIndices(indexDims, () => dims[axis]!, seed, 'i64');
        const x = random(seed, dims);
        const [y] = compute('GatherElements', [x, indices], { attributes: { axis } });
        for (const index of indicesOf(indexDims)) {
          expect(at(y!, index)).toBe(at(x, index.with(axis, wrap(at(indices, index), dims[axis]!))));
        }
      }),
    );
  });

  test('refuses indices that reach over the data, of another rank, or outside', () => {
    const x = random(1, [2, 2]);
    const of = (indices: Tensor): string => refusal(() => compute('GatherElements', [x, indices]));
    expect(of(Tensor.of('i64', [[0, 0, 0]]))).toContain('reach over');
    expect(of(Tensor.of('i64', [0]))).toContain('expected 2 dimensions');
    expect(of(Tensor.of('i32', [[2, 0]]))).toContain('an index is outside');
  });

  test('gives an empty result for no indices', () => {
    expect(compute('GatherElements', [random(1, [2, 2]), Tensor.zeros('i64', [0, 2])])[0]!.shape).toEqual([0, 2]);
  });
});

describe('GatherND', () => {
  test('takes the slices that tuples name, batch by batch', () => {
    fc.assert(
      fc.property(shape(1, 4), shape(0, 2), fc.nat(), fc.nat(), fc.nat(99), (dims, lead, b, k, seed) => {
        const batch = b % dims.length;
        const width = (k % (dims.length - batch)) + 1;
        const indexDims = [...dims.slice(0, batch), ...lead, width];
        const indices = someIndices(indexDims, i => dims[batch + (i % width)]!, seed, 'i64');
        const x = random(seed, dims);
        const [y] = compute('GatherND', [x, indices], { attributes: { batch_dims: batch } });
        for (const index of indicesOf(y!.shape)) {
          const where = index.slice(0, batch + lead.length);
          const tuple = Array.from({ length: width }, (_, i) => wrap(at(indices, [...where, i]), dims[batch + i]!));
          expect(at(y!, index)).toBe(at(x, [...index.slice(0, batch), ...tuple, ...index.slice(batch + lead.length)]));
        }
      }),
    );
  });

  test('refuses tuples that are too long, empty or outside, and batches that differ', () => {
    const x = random(1, [2, 3]);
    const of = (indices: Tensor, batch = 0): string =>
      refusal(() => compute('GatherND', [x, indices], { attributes: { batch_dims: batch } }));
    expect(of(Tensor.of('i64', [[0, 0, 0]]))).toContain('tuples of 3 indices into 2 axes');
    expect(of(Tensor.zeros('i64', [2, 0]))).toContain('tuples of 0 indices');
    expect(of(Tensor.of('i64', [[0, 3]]))).toContain('an index is outside axis 1 of 3');
    expect(of(Tensor.of('i64', [[0], [0], [0]]), 1)).toContain('batch axis 0');
    expect(of(Tensor.of('i64', 0))).toContain('0 of indices');
    expect(of(Tensor.of('i64', [[0]]), 2)).toContain('batch_dims');
  });
});

describe('ReverseSequence', () => {
  test('reverses as much of each sequence as its length says', () => {
    fc.assert(
      fc.property(shape(2, 3), fc.boolean(), fc.nat(99), (dims, timeFirst, seed) => {
        const [time, batch] = timeFirst ? [0, 1] : [1, 0];
        const lengths = Array.from({ length: dims[batch]! }, (_, i) => (seed + i) % (dims[time]! + 1));
        const x = random(seed, dims);
        const [y] = compute('ReverseSequence', [x, Tensor.of('i64', lengths)], {
          attributes: { time_axis: time, batch_axis: batch },
        });
        for (const index of indicesOf(dims)) {
          const [t, length] = [index[time]!, lengths[index[batch]!]!];
          expect(at(y!, index)).toBe(at(x, index.with(time, t < length ? length - 1 - t : t)));
        }
      }),
    );
  });

  test('refuses lengths beyond the axis, and one axis for both', () => {
    const x = random(1, [2, 2]);
    expect(refusal(() => compute('ReverseSequence', [x, Tensor.of('i64', [3, 1])]))).toContain('3 steps');
    expect(
      refusal(() =>
        compute('ReverseSequence', [x, Tensor.of('i64', [1, 1])], { attributes: { time_axis: 1, batch_axis: 1 } }),
      ),
    ).toContain('axes 0 and 1');
  });
});
