import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { indicesOf } from '../any-node.ts';
import { distance, numbers, random, refusal, run } from '../one-node.ts';

/** The values and places of `x` under each window, by the definition; the places in the padding count apart. */
interface Under {
  readonly values: readonly number[];
  readonly places: readonly number[];
  /** How many places of the window lie in the padded input. */
  readonly padded: number;
}

interface Windows {
  readonly kernel_shape: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  readonly ceil_mode: number;
}

function windows(x: Tensor, w: Windows): { readonly shape: readonly number[]; readonly under: readonly Under[] } {
  const sizes = x.shape.slice(2);
  const axes = sizes.length;
  const out = sizes.map((size, i) => {
    const extent = (w.kernel_shape[i]! - 1) * w.dilations[i]! + 1;
    const steps = (size + w.pads[i]! + w.pads[axes + i]! - extent) / w.strides[i]!;
    if (w.ceil_mode === 0) return Math.floor(steps) + 1;
    const count = Math.ceil(steps) + 1;
    // A last window that would start in the padding at the end is left out.
    return (count - 1) * w.strides[i]! >= size + w.pads[i]! ? count - 1 : count;
  });
  const shape = [x.shape[0]!, x.shape[1]!, ...out];
  const values = numbers(x);
  const under = Array.from(indicesOf(shape), ([n, c, ...o]) => {
    const found: number[] = [];
    let padded = 0;
    for (const k of indicesOf(w.kernel_shape)) {
      const at = o.map((i, axis) => i * w.strides[axis]! + k[axis]! * w.dilations[axis]! - w.pads[axis]!);
      if (at.every((i, axis) => i < sizes[axis]! + w.pads[axes + axis]!)) padded++;
      if (at.some((i, axis) => i < 0 || i >= sizes[axis]!)) continue;
      found.push([n!, c!, ...at].reduce((sum, i, axis) => sum * x.shape[axis]! + i, 0));
    }
    return { values: found.map(place => values[place]!), places: found, padded };
  });
  return { shape, under };
}

/** One to three axes, and windows that each hold at least one pixel. */
const problem = fc
  .record({ axes: fc.integer({ min: 1, max: 3 }), seed: fc.nat(1000), ceil_mode: fc.constantFrom(0, 1) })
  .chain(({ axes, seed, ceil_mode }) => {
    const list = (min: number, max: number, length = axes): fc.Arbitrary<number[]> =>
      fc.array(fc.integer({ min, max }), { minLength: length, maxLength: length });
    return fc
      .record({
        kernel_shape: list(1, 3),
        strides: list(1, 3),
        dilations: list(1, 2),
        size: list(5, 7),
        pad: list(0, 2, 2 * axes),
      })
      .map(({ size, pad, ...rest }) => ({
        x: random(seed, [2, 2, ...size]),
        attributes: {
          ...rest,
          ceil_mode,
          pads: pad.map((value, i) => Math.min(value, rest.kernel_shape[i % axes]! - 1)),
        },
      }));
  });

describe('pooling', () => {
  test('MaxPool is the largest value under each window, and where it first lies', () => {
    fc.assert(
      fc.property(problem, ({ x, attributes }) => {
        const { shape, under } = windows(x, attributes);
        const [y, indices] = run('MaxPool', [x], { attributes, outputs: 2 });
        expect(y!.shape).toEqual(shape);
        expect(numbers(y!)).toEqual(under.map(({ values }) => Math.max(...values)));
        const first = under.map(({ values, places }) => BigInt(places[values.indexOf(Math.max(...values))]!));
        expect(indices!.values()).toEqual(first);
      }),
      { numRuns: 150 },
    );
  });

  test('AveragePool is the mean of the values, or of the padded places', () => {
    fc.assert(
      fc.property(problem, fc.constantFrom(0, 1), ({ x, attributes }, count_include_pad) => {
        const { shape, under } = windows(x, attributes);
        const [y] = run('AveragePool', [x], { attributes: { ...attributes, count_include_pad } });
        const means = under.map(({ values, padded }) => {
          const sum = values.reduce((a, b) => a + b, 0);
          return sum / (count_include_pad === 1 ? padded : values.length);
        });
        expect(distance(y!, Tensor.from('f64', shape, Float64Array.from(means)))).toBeLessThan(1e-12);
      }),
      { numRuns: 150 },
    );
  });

  test('LpPool is the norm of the values', () => {
    fc.assert(
      fc.property(problem, fc.integer({ min: 1, max: 3 }), ({ x, attributes }, p) => {
        const { shape, under } = windows(x, attributes);
        const norms = under.map(({ values }) => values.reduce((sum, v) => sum + Math.abs(v) ** p, 0) ** (1 / p));
        const [y] = run('LpPool', [x], { attributes: { ...attributes, p } });
        expect(distance(y!, Tensor.from('f64', shape, Float64Array.from(norms)))).toBeLessThan(1e-12);
      }),
      { numRuns: 100 },
    );
  });

  test('the global forms see each plane whole', () => {
    const x = Tensor.of('f32', [
      [
        [3, -4],
        [0, 12],
      ],
    ]);
    expect(numbers(run('GlobalLpPool', [x])[0]!)).toEqual([5, 12]);
    expect(numbers(run('GlobalLpPool', [x], { opset: 1, attributes: { p: 1 } })[0]!)).toEqual([7, 12]);
    expect(numbers(run('GlobalAveragePool', [x])[0]!)).toEqual([-0.5, 6]);
    expect(numbers(run('GlobalMaxPool', [x])[0]!)).toEqual([3, 12]);
  });

  test('LpPool-1 takes a norm that is not whole', () => {
    const x = Tensor.of('f64', [[[4, 9]]]);
    const [y] = run('LpPool', [x], { opset: 1, attributes: { p: 0.5, kernel_shape: [2] } });
    expect(numbers(y!)).toEqual([25]); // (2 + 3)^2
  });

  test('MaxPool counts places with the first axis fastest when told to', () => {
    const x = Tensor.of('f32', [
      [
        [
          [1, 2, 3],
          [4, 9, 5],
        ],
        [
          [7, 1, 1],
          [1, 1, 1],
        ],
      ],
    ]);
    const form = { attributes: { kernel_shape: [2, 3], storage_order: 1 }, outputs: 2 };
    // Row 1, column 1 of 2 rows is place 3; in the second plane row 0, column 0, after 6 places.
    expect(run('MaxPool', [x], form)[1]!.values()).toEqual([3n, 6n]);
  });

  test('MaxPool counts places of volumes with the first axis fastest as well', () => {
    const x = Tensor.from(
      'f32',
      [1, 1, 2, 3, 4],
      Float32Array.from({ length: 24 }, (_, i) => (i === 23 ? 9 : i === 6 ? 8 : 0)),
    );
    const attributes = { kernel_shape: [1, 3, 4], storage_order: 1 };
    // Depth 0, row 1, column 2 is place (2 * 3 + 1) * 2 of 2 x 3 x 4; depth 1, row 2, column 3 is the last.
    expect(run('MaxPool', [x], { attributes, outputs: 2 })[1]!.values()).toEqual([14n, 23n]);
  });

  test('MaxPool passes NaN on', () => {
    const x = Tensor.of('f32', [[[1, Number.NaN, 3, 4]]]);
    const [y] = run('MaxPool', [x], { attributes: { kernel_shape: [2], strides: [2] } });
    expect(numbers(y!)).toEqual([Number.NaN, 4]);
  });

  test('LpPool takes the Euclidean norm by itself', () => {
    const x = Tensor.of('f64', [[[3, 4]]]);
    for (const opset of [1, 2, 18, 22]) {
      expect(numbers(run('LpPool', [x], { opset, attributes: { kernel_shape: [2] } })[0]!)).toEqual([5]);
    }
  });

  test('MaxPool takes bytes since opset 12', () => {
    for (const dtype of ['i8', 'u8'] as const) {
      const x = Tensor.of(dtype, [[[1, 100, 3, 7]]]);
      expect(numbers(run('MaxPool', [x], { attributes: { kernel_shape: [2], strides: [2] } })[0]!)).toEqual([100, 7]);
      const before = () => run('MaxPool', [x], { opset: 11, attributes: { kernel_shape: [2] } });
      expect(refusal(before)).toMatch(/UNSUPPORTED_MODEL.*expected one of f32/);
    }
  });

  test('a window between pixels has the least maximum there is', () => {
    // Padding of 1 and dilation 2 around one pixel: both taps of the window miss it.
    const attributes = { kernel_shape: [2], dilations: [2], pads: [1, 1] };
    expect(numbers(run('MaxPool', [Tensor.of('f32', [[[5]]])], { attributes })[0]!)).toEqual([
      Number.NEGATIVE_INFINITY,
    ]);
    expect(numbers(run('MaxPool', [Tensor.of('i8', [[[5]]])], { attributes })[0]!)).toEqual([-128]);
  });

  test.each([
    ['a kernel of other rank', { kernel_shape: [2, 2] }, /kernel_shape: expected 1 sizes/],
    ['a kernel without bound', { kernel_shape: [2 ** 40] }, /covers nothing/],
    ['a window that does not fit', { kernel_shape: [9] }, /does not fit/],
    ['padding below 0', { kernel_shape: [1], pads: [-1, 0] }, /pads/],
    ['an unknown auto_pad', { kernel_shape: [1], auto_pad: 'SAME' }, /auto_pad/],
  ])('refuses %s', (_, attributes, message) => {
    for (const op of ['MaxPool', 'AveragePool', 'LpPool']) {
      const of = () => run(op, [Tensor.zeros('f32', [1, 1, 4])], { attributes });
      expect(refusal(of)).toMatch(new RegExp(`^INVALID_GRAPH: ${op} "it"`));
      expect(refusal(of)).toMatch(message);
    }
  });

  test('refuses a norm of 0, and LpPool-1 without a kernel', () => {
    const x = Tensor.zeros('f32', [1, 1, 4]);
    expect(refusal(() => run('GlobalLpPool', [x], { attributes: { p: 0 } }))).toMatch(/attribute p/);
    expect(refusal(() => run('LpPool', [x], { opset: 1 }))).toMatch(/kernel_shape is required/);
  });
});

describe('MaxUnpool', () => {
  test('puts what MaxPool took back where it was', () => {
    const x = random(5, [2, 3, 6, 4], 'f32');
    const attributes = { kernel_shape: [2, 2], strides: [2, 2] };
    const [y, indices] = run('MaxPool', [x], { attributes, outputs: 2 });
    const [back] = run('MaxUnpool', [y, indices], { attributes });
    const kept = new Set(indices!.values().map(Number));
    expect(numbers(back!)).toEqual(numbers(x).map((value, i) => (kept.has(i) ? value : 0)));
  });

  test('does so for sizes that the windows do not fill, given the shape', () => {
    const x = random(6, [1, 2, 5, 5], 'f32');
    const attributes = { kernel_shape: [2, 2], strides: [2, 2] };
    const [y, indices] = run('MaxPool', [x], { attributes, outputs: 2 });
    const [back] = run('MaxUnpool', [y, indices, Tensor.of('i64', [1, 2, 5, 5])], { attributes });
    const kept = new Set(indices!.values().map(Number));
    expect(numbers(back!)).toEqual(numbers(x).map((value, i) => (kept.has(i) ? value : 0)));
  });

  test.each([
    ['an index outside', [[[1, 8]]], /an index is outside/],
    ['an index below 0', [[[1, -1]]], /an index is outside/],
    ['indices of another shape', [[[1]]], /axis 2/],
  ])('refuses %s', (_, indices, message) => {
    const inputs = [Tensor.of('f32', [[[1, 2]]]), Tensor.of('i64', indices)];
    const of = () => run('MaxUnpool', inputs, { attributes: { kernel_shape: [2], strides: [2] } });
    expect(refusal(of)).toMatch(message);
  });
});
