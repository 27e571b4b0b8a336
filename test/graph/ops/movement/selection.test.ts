import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { at, compute, indicesOf } from '../any-node.ts';
import { infer, random, refusal } from '../one-node.ts';

const dims = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 });

/** Few distinct values, so that there are ties; NaN among them where `nan`. */
function tied(seed: number, shape: readonly number[], nan = false): Tensor<'f32'> {
  const values = random(seed, shape).values() as number[];
  const steps = Float32Array.from(values, x => (nan && x > 0.7 ? Number.NaN : Math.round(x * 2)));
  return Tensor.from('f32', shape, steps);
}

describe('TopK', () => {
  test('is the head of a stable sort along the axis, NaN above every number', () => {
    fc.assert(
      fc.property(dims, fc.nat(), fc.nat(), fc.boolean(), fc.nat(99), (shape, pick, count, largest, seed) => {
        const axis = pick % shape.length;
        const k = count % (shape[axis]! + 1);
        const x = tied(seed, shape, true);
        const [values, indices] = compute('TopK', [x, Tensor.of('i64', [k])], {
          outputs: 2,
          attributes: { axis: axis - shape.length, largest: Number(largest) },
        });
        const rank = (value: number): number => (Number.isNaN(value) ? Number.POSITIVE_INFINITY : value);
        for (const lane of indicesOf(shape.with(axis, 1))) {
          const row = Array.from({ length: shape[axis]! }, (_, i) => at(x, lane.with(axis, i)) as number);
          const order = row.map((_, i) => i);
          // Array.prototype.sort is stable; of NaN, the largest, one does not come before another.
          order.sort((a, b) =>
            rank(row[a]!) === rank(row[b]!) ? 0 : rank(row[a]!) < rank(row[b]!) === largest ? 1 : -1,
          );
          for (let i = 0; i < k; i++) {
            expect(at(indices!, lane.with(axis, i))).toBe(BigInt(order[i]!));
            expect(at(values!, lane.with(axis, i))).toBe(row[order[i]!]);
          }
        }
      }),
    );
  });

  test('takes many as it takes few', () => {
    const x = tied(7, [300]);
    const of = (k: number): readonly unknown[] =>
      compute('TopK', [x, Tensor.of('i64', [k])], { outputs: 2 })[1]!.values();
    for (const k of [0, 1, 63, 64]) expect(of(k)).toEqual(of(300).slice(0, k));
  });

  test('agrees with ArgMax and ArgMin when it takes one', () => {
    const x = tied(5, [3, 4]);
    for (const [op, largest] of [
      ['ArgMax', 1],
      ['ArgMin', 0],
    ] as const) {
      const [, indices] = compute('TopK', [x, Tensor.of('i64', [1])], { outputs: 2, attributes: { largest } });
      expect(indices!.toArray()).toEqual(compute(op, [x], { attributes: { axis: 1 } })[0]!.toArray());
    }
  });

  test('orders 64-bit integers exactly', () => {
    const x = Tensor.of('u64', [2n ** 63n, 2n ** 63n + 1n, 1n]);
    expect(compute('TopK', [x, Tensor.of('i64', [2])], { outputs: 2 })[1]!.toArray()).toEqual([1n, 0n]);
  });

  test('takes k from an attribute before opset 10', () => {
    const form = { opset: 1, outputs: 2, attributes: { k: 2, axis: 0 } };
    expect(compute('TopK', [Tensor.of('f64', [1, 3, 2])], form)[0]!.toArray()).toEqual([3, 2]);
  });

  test('refuses more than there are, and has a symbolic size where k is one', () => {
    expect(refusal(() => compute('TopK', [Tensor.of('f32', [1]), Tensor.of('i64', [2])], { outputs: 2 }))).toContain(
      'cannot take 2 elements of an axis of 1',
    );
    expect(refusal(() => compute('TopK', [Tensor.of('f32', [1]), Tensor.of('i64', [-1])], { outputs: 2 }))).toContain(
      'cannot take -1',
    );
    const facts = infer(
      'TopK',
      [
        { dtype: 'f32', shape: ['N', 5] },
        { dtype: 'i64', shape: [1] },
      ],
      { outputs: 2 },
    );
    expect(facts.map(({ shape }) => shape[0])).toEqual(['N', 'N']);
    expect(typeof facts[0]!.shape[1]).toBe('string');
  });
});

describe('NonZero', () => {
  test('lists the index of every element that is not zero, axis by axis', () => {
    fc.assert(
      fc.property(dims, fc.nat(99), (shape, seed) => {
        const x = tied(seed, shape, true);
        const found = [...indicesOf(shape)].filter(index => at(x, index) !== 0);
        const [y] = compute('NonZero', [x]);
        expect(y!.shape).toEqual([shape.length, found.length]);
        expect(y!.transpose().toArray()).toEqual(found.map(index => index.map(BigInt)));
      }),
    );
  });

  test('has no rows for a scalar, and serves every dtype', () => {
    expect(compute('NonZero', [Tensor.of('f32', 5)])[0]!.shape).toEqual([0, 1]);
    expect(compute('NonZero', [Tensor.of('i64', [0, 7])])[0]!.toArray()).toEqual([[1n]]);
    expect(compute('NonZero', [Tensor.of('bool', [1, 0])])[0]!.toArray()).toEqual([[0n]]);
    expect(compute('NonZero', [Tensor.of('f16', [0, -0, 0.5])])[0]!.toArray()).toEqual([[2n]]);
    expect(compute('NonZero', [Tensor.of('string', ['', 'a'])])[0]!.toArray()).toEqual([[1n]]);
  });
});

describe('Compress', () => {
  test('keeps the slices whose condition holds, and drops those without one', () => {
    fc.assert(
      fc.property(dims, fc.nat(), fc.array(fc.boolean(), { maxLength: 4 }), fc.nat(99), (shape, pick, flags, seed) => {
        const axis = pick % shape.length;
        const condition = flags.slice(0, shape[axis]!);
        const x = random(seed, shape);
        const kept = condition.flatMap((flag, i) => (flag ? [i] : []));
        const mask = Tensor.from('bool', [condition.length], Uint8Array.from(condition, Number));
        const [y] = compute('Compress', [x, mask], { attributes: { axis } });
        expect(y!.shape).toEqual(shape.with(axis, kept.length));
        for (const index of indicesOf(y!.shape))
          expect(at(y!, index)).toBe(at(x, index.with(axis, kept[index[axis]!]!)));
      }),
    );
  });

  test('takes the elements as one list without an axis, and refuses a condition that is too long', () => {
    const x = Tensor.of('string', [
      ['a', 'b'],
      ['c', 'd'],
    ]);
    expect(compute('Compress', [x, Tensor.of('bool', [0, 1, 1])])[0]!.toArray()).toEqual(['b', 'c']);
    expect(refusal(() => compute('Compress', [x, Tensor.of('bool', [0, 1, 1, 0, 1])]))).toContain(
      'a condition of 5 for 4 elements',
    );
  });
});

describe('Unique', () => {
  test('says which values there are, where first, which each is, and how often', () => {
    fc.assert(
      fc.property(dims, fc.boolean(), fc.nat(99), (shape, sorted, seed) => {
        const x = tied(seed, shape, true);
        const values = x.values();
        const distinct = values.filter((value, i) => values.findIndex(other => Object.is(other + 0, value + 0)) === i);
        if (sorted) distinct.sort((a, b) => (Number.isNaN(a) ? 1 : Number.isNaN(b) ? -1 : a - b));
        const places = values.map(value => distinct.findIndex(other => Object.is(other + 0, value + 0)));
        const [y, first, inverse, counts] = compute('Unique', [x], {
          outputs: 4,
          attributes: { sorted: Number(sorted) },
        });
        expect(y!.values().map(value => Number(value) + 0)).toEqual(distinct.map(value => value + 0));
        expect(inverse!.values()).toEqual(places.map(BigInt));
        expect(first!.values()).toEqual(distinct.map((_, i) => BigInt(places.indexOf(i))));
        expect(counts!.values()).toEqual(distinct.map((_, i) => BigInt(places.filter(place => place === i).length)));
      }),
    );
  });

  test('compares slices along an axis', () => {
    const x = Tensor.of('f64', [
      [1, 0, 0],
      [1, 0, 0],
      [2, 3, 4],
    ]);
    const rows = compute('Unique', [x], { outputs: 4, attributes: { axis: 0 } });
    expect(rows.map(tensor => tensor.toArray())).toEqual([
      [
        [1, 0, 0],
        [2, 3, 4],
      ],
      [0n, 2n],
      [0n, 0n, 1n],
      [2n, 1n],
    ]);
    const columns = compute('Unique', [x], { outputs: 1, attributes: { axis: -1, sorted: 0 } });
    expect(columns[0]!.toArray()).toEqual([
      [1, 0, 0],
      [1, 0, 0],
      [2, 3, 4],
    ]);
  });

  test('serves text, and nothing', () => {
    const words = Tensor.of('string', ['b', 'a', 'b']);
    expect(compute('Unique', [words], { outputs: 4 }).map(tensor => tensor.toArray())).toEqual([
      ['a', 'b'],
      [1n, 0n],
      [1n, 0n, 1n],
      [1n, 2n],
    ]);
    expect(compute('Unique', [Tensor.zeros('i64', [0])], { outputs: 4 }).map(({ size }) => size)).toEqual([0, 0, 0, 0]);
  });
});
