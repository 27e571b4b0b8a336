import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isCloisterError } from '../../src/base/index.ts';
import {
  broadcastShapes,
  DTYPES,
  type DType,
  elementCount,
  fromBf16Bits,
  fromF16Bits,
  parseDType,
  sliceRange,
  Tensor,
  toBf16Bits,
  toF16Bits,
} from '../../src/tensor/index.ts';

const shapes = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 5 });

/** A tensor whose elements are 0, 1, 2 … in row-major order. */
function counting(shape: readonly number[]): Tensor<'i32'> {
  return Tensor.from(
    'i32',
    shape,
    Int32Array.from({ length: elementCount(shape) }, (_, i) => i),
  );
}

const tensors = shapes.map(counting);

/** A tensor, and a permutation of its axes. */
const permuted = tensors.chain(x =>
  fc.record({
    x: fc.constant(x),
    order: fc.shuffledSubarray(
      x.shape.map((_, i) => i),
      { minLength: x.shape.length },
    ),
  }),
);

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return isCloisterError(error) ? error.code : String(error);
  }
  return 'no error';
}

describe('a tensor', () => {
  test('transposed by an order and its inverse is itself', () => {
    fc.assert(
      fc.property(permuted, ({ x, order }) => {
        const inverse = order.map((_, i) => order.indexOf(i));
        const back = x.transpose(order).transpose(inverse);
        expect(back.shape).toEqual(x.shape);
        expect(back.strides).toEqual(x.strides);
        expect(back.data).toBe(x.data);
      }),
    );
  });

  test('reshaped twice is reshaped once', () => {
    fc.assert(
      fc.property(permuted, shapes, ({ x, order }, middle) => {
        const y = x.transpose(order);
        fc.pre(elementCount(middle) === y.size);
        expect(y.reshape(middle).reshape([-1]).toArray()).toEqual(y.reshape([-1]).toArray());
      }),
    );
  });

  test('reshaped through a transposed view keeps its elements in order', () => {
    fc.assert(
      fc.property(permuted, ({ x, order }) => {
        const y = x.transpose(order);
        expect(y.reshape([y.size]).toArray()).toEqual(y.contiguous().reshape([y.size]).toArray());
        expect(y.reshape([...y.shape, 1]).toArray()).toEqual(y.unsqueeze([y.shape.length]).toArray());
      }),
    );
  });

  test('expanded holds what explicit indexing says', () => {
    fc.assert(
      fc.property(shapes, fc.infiniteStream(fc.boolean()), (shape, ones) => {
        const own = shape.map(dim => (ones.next().value ? 1 : dim));
        const x = counting(own);
        const y = x.expand(shape);
        const values = y.values();
        for (let at = 0; at < y.size; at++) {
          let rest = at;
          let from = 0;
          let step = 1;
          for (let axis = shape.length - 1; axis >= 0; axis--) {
            const index = rest % shape[axis]!;
            rest = Math.floor(rest / shape[axis]!);
            from += (own[axis] === 1 ? 0 : index) * step;
            step *= own[axis]!;
          }
          expect(values[at]).toBe(from);
        }
      }),
    );
  });

  test('shares memory with each of its views', () => {
    const x = counting([2, 3, 4]);
    const views = [
      x.transpose(),
      x.reshape([4, 6]),
      x.slice({ axis: 1, start: 1 }),
      x.expand([5, 2, 3, 4]),
      x.unsqueeze([0]),
      x.slice({ axis: 0, end: 1 }).squeeze([0]),
    ];
    for (const view of views) expect(view.data).toBe(x.data);
    x.data.fill(7);
    for (const view of views) expect(new Set(view.values())).toEqual(new Set([7]));
    expect(x.clone().data).not.toBe(x.data);
  });

  test('round-trips through bytes at any alignment', () => {
    const dtypes = fc.constantFrom(...(Object.keys(DTYPES) as DType[]).filter(dtype => dtype !== 'string'));
    fc.assert(
      fc.property(dtypes, fc.uint8Array({ maxLength: 64 }), fc.nat(7), (dtype, noise, shift) => {
        const count = Math.floor(noise.length / DTYPES[dtype].bytes);
        const bytes = noise.subarray(0, count * DTYPES[dtype].bytes);
        const moved = new Uint8Array(shift + bytes.length);
        moved.set(bytes, shift);
        const x = Tensor.fromBytes(dtype, [count], moved.subarray(shift));
        expect(x.toBytes()).toEqual(bytes);
      }),
    );
    // A Node Buffer, whose slice() is a view.
    expect(Tensor.fromBytes('f32', [1], Buffer.from([9, 0, 0, 128, 63]).subarray(1)).toArray()).toEqual([1]);
  });

  test('of 64-bit integers keeps the low bits of each in a narrower dtype', () => {
    const x = Tensor.of('i64', [2n ** 60n + 3n, -1n]);
    expect(x.cast('i8').toArray()).toEqual([3, -1]);
    expect(x.cast('u32').toArray()).toEqual([3, 2 ** 32 - 1]);
  });

  test('is contiguous whatever the stride of an axis of one element', () => {
    const x = Tensor.of('f32', [1, 2, 3]);
    const row = x.unsqueeze([0]);
    expect(row.isContiguous).toBe(true);
    expect(row.elements()).toBe(x.data);
  });

  test('of strings refuses bytes that are left over', () => {
    const bytes = Tensor.of('string', ['one', 'two']).toBytes();
    expect(() => Tensor.fromBytes('string', [1], bytes)).toThrow(/are not 1 strings/);
  });

  test('of strings goes through views and bytes, and refuses bytes that are not exactly its strings', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 6 }), fc.nat(5), (words, cut) => {
        const x = Tensor.of('string', words);
        expect(x.values()).toEqual(words);
        expect(x.slice({ axis: 0, step: -1 }).values()).toEqual(words.toReversed());
        const bytes = x.toBytes();
        expect(Tensor.fromBytes('string', [words.length], bytes).values()).toEqual(words);
        if (cut < bytes.length) {
          const short = bytes.subarray(0, bytes.length - 1 - cut);
          expect(() => Tensor.fromBytes('string', [words.length], short)).toThrow(/are not \d+ strings/);
        }
        expect(() => Tensor.fromBytes('string', [words.length + 1], bytes)).toThrow(/are not \d+ strings/);
      }),
    );
    expect(Tensor.zeros('string', [2]).toArray()).toEqual(['', '']);
    expect(() => Tensor.of('string', [1])).toThrow(/holds strings, got number/);
    expect(() => Tensor.of('f32', ['1'])).toThrow(/holds numbers, got string/);
    expect(() => Tensor.fromBytes('string', [1e9], new Uint8Array(8))).toThrow(/are not/);
  });

  test('sliced is what arrays say', () => {
    const bound = fc.option(fc.integer({ min: -8, max: 8 }), { nil: undefined });
    const step = fc.integer({ min: -3, max: 3 }).filter(value => value !== 0);
    fc.assert(
      fc.property(fc.nat(6), bound, bound, step, (size, start, end, by) => {
        // Python's own definition of slice.indices, walked one step at a time.
        const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high);
        const at = (value: number): number => (value < 0 ? value + size : value);
        const [low, high] = by > 0 ? [0, size] : [-1, size - 1];
        const first = start === undefined ? (by > 0 ? 0 : size - 1) : clamp(at(start), low, high);
        const last = end === undefined ? (by > 0 ? size : -1) : clamp(at(end), low, high);
        const expected: number[] = [];
        for (let i = first; by > 0 ? i < last : i > last; i += by) expected.push(i);
        const cut = {
          axis: 0,
          step: by,
          ...(start === undefined ? {} : { start }),
          ...(end === undefined ? {} : { end }),
        };
        expect(counting([size]).slice(cut).toArray()).toEqual(expected);
        expect(sliceRange(size, start, end, by).length).toBe(expected.length);
      }),
    );
  });

  test('casts as it says', () => {
    const x = Tensor.of('f64', [-1.9, 0, 1.9, 300.5, Number.NaN, Number.POSITIVE_INFINITY]);
    expect(x.cast('i32').toArray()).toEqual([-1, 0, 1, 300, 0, 0]);
    expect(x.cast('u8').toArray()).toEqual([255, 0, 1, 44, 0, 0]);
    expect(x.cast('i64').toArray()).toEqual([-1n, 0n, 1n, 300n, 0n, 0n]);
    expect(x.cast('bool').toArray()).toEqual([1, 0, 1, 1, 1, 1]);
    expect(
      Tensor.of('i64', [2n ** 40n + 3n])
        .cast('i32')
        .toArray(),
    ).toEqual([3]);
    expect(Tensor.of('f16', [0.1]).cast('f64').toArray()).toEqual([0.0999755859375]);
  });

  test('says what is wrong with it', () => {
    expect(codeOf(() => Tensor.from('f32', [2, 2], new Float32Array(3)))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => Tensor.fromBytes('f32', [2], new Uint8Array(7)))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => Tensor.of('f32', [[1, 2], [3]]))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => Tensor.of('f32', ['1' as never]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => new Tensor('f32', [4], new Float32Array(4), [2]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => new Tensor('f32', [4], new Float32Array(4), [-1]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => new Tensor('f32', [4], new Float64Array(4) as never))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => counting([2, 3]).reshape([4]))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => counting([2, 3]).reshape([-1, 4]))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => counting([2, 3]).transpose([0, 0]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => counting([2, 3]).expand([2, 4]))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => counting([2, 3]).squeeze([0]))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => counting([2]).slice({ axis: 0, step: 0 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => Tensor.zeros('f32', [2 ** 20, 2 ** 20]))).toBe('OUT_OF_MEMORY');
    expect(codeOf(() => elementCount([0, 2 ** 40]))).toBe('OUT_OF_MEMORY');
    expect(codeOf(() => elementCount([1.5]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => elementCount(new Array(9).fill(1)))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => parseDType('f8'))).toBe('DTYPE_MISMATCH');
  });
});

describe('broadcasting', () => {
  test('is commutative, associative and idempotent', () => {
    const dims = fc.array(fc.constantFrom(1, 3), { maxLength: 4 });
    fc.assert(
      fc.property(dims, dims, dims, (a, b, c) => {
        expect(broadcastShapes(a, b)).toEqual(broadcastShapes(b, a));
        expect(broadcastShapes(broadcastShapes(a, b), c)).toEqual(broadcastShapes(a, broadcastShapes(b, c)));
        expect(broadcastShapes(a, a)).toEqual(a);
      }),
    );
  });

  test('names both sides when it fails', () => {
    expect(() => broadcastShapes([2, 3], [4], 'Add "x"')).toThrow('Add "x": [2,3] with [4]: sizes 3 and 4 differ');
  });
});

describe('the 16-bit floats', () => {
  test('decode and encode every value to itself', () => {
    const wrong: number[] = [];
    for (let bits = 0; bits < 65536; bits++) {
      const [half, brain] = [fromF16Bits(bits), fromBf16Bits(bits)];
      if (!Number.isNaN(half) && toF16Bits(half) !== bits) wrong.push(bits);
      if (!Number.isNaN(brain) && toBf16Bits(brain) !== bits) wrong.push(bits);
    }
    expect(wrong).toEqual([]);
  });

  test('round as the language does', () => {
    const oracle = new DataView(new ArrayBuffer(4));
    fc.assert(
      fc.property(
        fc.double({ noNaN: true, min: -70_000, max: 70_000 }),
        fc.integer({ min: -30, max: 0 }),
        (x, scale) => {
          const value = x * 2 ** scale;
          oracle.setFloat16(0, value);
          expect(toF16Bits(value)).toBe(oracle.getUint16(0));
        },
      ),
      { numRuns: 2000 },
    );
    expect(toBf16Bits(1 + 2 ** -8)).toBe(0x3f80); // a tie goes to even
    expect(toBf16Bits(1 + 3 * 2 ** -8)).toBe(0x3f82);
    expect(toF16Bits(Number.NaN)).toBe(0x7e00);
    expect(toBf16Bits(Number.NaN)).toBe(0x7fc0);
  });
});

describe('memory of a tensor', () => {
  test('is given back by `using`, with every view of it', () => {
    let view: Tensor | undefined;
    let buffer: ArrayBufferLike | undefined;
    {
      using x = Tensor.zeros('f32', [4, 4]);
      view = x.slice({ axis: 0, end: 2 });
      buffer = x.buffer;
      expect(view.values()).toHaveLength(8);
    }
    expect(buffer?.byteLength).toBe(0);
    expect(() => view.values()).toThrow(/was given back/);
    expect(() => view.transpose().clone()).toThrow(/was given back/);
  });

  test('stays where the tensor only looks at it', () => {
    const mine = new Float32Array(4);
    {
      using x = Tensor.from('f32', [4], mine);
      using flat = Tensor.zeros('f32', [2]).reshape([2, 1]);
      expect([x.size, flat.size]).toEqual([4, 2]);
    }
    expect(mine.length).toBe(4);
  });

  test('of another owner is shared, and released once', () => {
    for (const buffer of [new ArrayBuffer(64), new SharedArrayBuffer(64)]) {
      let released = 0;
      const x = Tensor.external('f32', [2, 2], buffer, { byteOffset: 16, release: () => released++ });
      x.data[3] = 7;
      expect(new Float32Array(buffer)[7]).toBe(7);
      x[Symbol.dispose]();
      x[Symbol.dispose]();
      expect(released).toBe(1);
    }
    expect(() => Tensor.external('f32', [4], new ArrayBuffer(8))).toThrow(/does not fit at byte 0 of 8/);
    expect(() => Tensor.external('f32', [1], new ArrayBuffer(8), { byteOffset: 2 })).toThrow(/a multiple of 4/);
  });

  test('has its literal shape in its type', () => {
    const x = Tensor.zeros('f32', [2, 3]);
    const shape: readonly [2, 3] = x.shape;
    const tall: readonly [3, 2] = x.reshape([3, 2]).shape;
    const wide: readonly [4, 2, 3] = x.expand([4, 2, 3]).shape;
    const open: readonly number[] = x.reshape([-1]).shape;
    // @ts-expect-error the second size is 3
    const wrong: readonly [2, 4] = x.shape;
    expect([shape, tall, wide, open, wrong]).toEqual([[2, 3], [3, 2], [4, 2, 3], [6], [2, 3]]);
  });
});
