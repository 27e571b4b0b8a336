import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { indicesOf } from '../any-node.ts';
import { distance, numbers, random, refusal, run } from '../one-node.ts';

const identity = (axes: number): Tensor =>
  Tensor.from(
    'f64',
    [1, axes, axes + 1],
    Float64Array.from({ length: axes * (axes + 1) }, (_, i) => (i % (axes + 2) === 0 ? 1 : 0)),
  );

/** A 1 x 1 image row, sampled at coordinates along its width. */
function sample(values: readonly number[], at: readonly number[], attributes: Record<string, string | number>) {
  const x = Tensor.from('f64', [1, 1, values.length], Float64Array.from(values));
  const grid = Tensor.from('f64', [1, at.length, 1], Float64Array.from(at));
  return numbers(run('GridSample', [x, grid], { attributes, opset: 20 })[0]!);
}

describe('GridSample', () => {
  test('gives the image back on the grid of the identity', () => {
    const shapes = fc.array(fc.integer({ min: 2, max: 4 }), { minLength: 2, maxLength: 3 });
    const modes = fc.record({
      mode: fc.constantFrom('linear', 'nearest', 'cubic'),
      padding_mode: fc.constantFrom('zeros', 'border', 'reflection'),
      align_corners: fc.constantFrom(0, 1),
    });
    fc.assert(
      fc.property(shapes, modes, (sizes, attributes) => {
        const x = random(1, [1, 2, ...sizes]);
        const form = { attributes: { align_corners: attributes.align_corners } };
        const [grid] = run('AffineGrid', [identity(sizes.length), Tensor.of('i64', [1, 2, ...sizes])], form);
        expect(distance(run('GridSample', [x, grid], { attributes })[0]!, x)).toBeLessThan(1e-6);
      }),
    );
  });

  // Corners aligned: -1 is pixel 0 and 1 is pixel 2. Not aligned: pixels lie at -2/3, 0 and 2/3, their edges at -1 and 1.
  test.each([
    ['linear', 'zeros', 1, [-1, -0.5, 0.25, 1, 1.5], [10, 15, 25, 40, 20]],
    ['linear', 'zeros', 0, [-1, -2 / 3, 0, 1], [5, 10, 20, 20]],
    ['linear', 'border', 0, [-1, -3, 1, 3], [10, 10, 40, 40]],
    ['linear', 'border', 1, [-3, 3], [10, 40]],
    // Mirrored at pixels: 2 is place 3, which is pixel 1 again; at edges: 2 is place 4 and -2 is -2, mirrored at 2.5 and -0.5
    // to 1, and 1.5 is 3.25, mirrored to 1.75.
    ['linear', 'reflection', 1, [2, -2, 3, 4], [20, 20, 10, 20]],
    ['linear', 'reflection', 0, [2, -2, 1.5], [20, 20, 35]],
    // Half-way, to the even pixel.
    ['nearest', 'zeros', 1, [-0.5, 0.5, 0.6, 1.4, 1.6], [10, 40, 40, 40, 0]],
    ['nearest', 'border', 1, [-9, 9], [10, 40]],
    // Between pixels 0 and 1: weights (a, 4 - a, 4 - a, a) / 8 with a = -0.75.
    ['cubic', 'border', 1, [-0.5], [(-0.75 * (10 + 40) + 4.75 * (10 + 20)) / 8]],
    ['cubic', 'zeros', 1, [-0.5], [(-0.75 * 40 + 4.75 * (10 + 20)) / 8]],
  ] as const)('%s, %s, align_corners %i', (mode, padding_mode, align_corners, at, expected) => {
    const [values, form] = [[10, 20, 40], { mode, padding_mode, align_corners }];
    sample(values, at, form).forEach((value, i) => {
      expect(value).toBeCloseTo(expected[i]!, 9);
    });
  });

  test('lists coordinates from the last axis to the first', () => {
    const x = Tensor.of('f32', [
      [
        [
          [1, 2],
          [3, 4],
        ],
      ],
    ]);
    const grid = Tensor.of('f32', [[[[1, -1]]]]);
    expect(numbers(run('GridSample', [x, grid], { opset: 16, attributes: { align_corners: 1 } })[0]!)).toEqual([2]);
  });

  test('copies text, and truncates sums of integers', () => {
    const grid = Tensor.of('f32', [[[0], [3]]]);
    const names = Tensor.from('string', [1, 1, 3], ['a', 'b', 'c']);
    expect(run('GridSample', [names, grid], { attributes: { mode: 'nearest' } })[0]!.values()).toEqual(['b', '']);
    const whole = Tensor.of('i64', [[[10, 21, 30]]]);
    const between = Tensor.of('f32', [[[0.5]]]);
    expect(run('GridSample', [whole, between], { attributes: { align_corners: 1 } })[0]!.values()).toEqual([25n]);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e300])('bears a coordinate of %d', at => {
    for (const padding_mode of ['zeros', 'border', 'reflection']) {
      for (const mode of ['nearest', 'linear', 'cubic']) {
        expect(sample([1, 2, 3], [at], { mode, padding_mode })).toHaveLength(1);
      }
    }
  });

  test('refuses what does not fit', () => {
    const x = Tensor.zeros('f32', [1, 1, 2, 2]);
    const grid = (shape: readonly number[]): Tensor => Tensor.zeros('f32', shape);
    expect(refusal(() => run('GridSample', [x, grid([1, 2, 2, 3])]))).toMatch(/grid of 2 coordinates/);
    expect(refusal(() => run('GridSample', [x, grid([2, 2, 2, 2])]))).toMatch(/batches/);
    expect(refusal(() => run('GridSample', [x, grid([1, 2, 2, 2])], { attributes: { mode: 'bilinear' } }))).toMatch(
      /mode/,
    );
    expect(
      refusal(() => run('GridSample', [x, grid([1, 2, 2, 2])], { opset: 16, attributes: { mode: 'cubic' } })),
    ).toMatch(/mode/);
    const empty = Tensor.zeros('f32', [1, 1, 0, 2]);
    const border = { attributes: { padding_mode: 'border' } };
    expect(refusal(() => run('GridSample', [empty, grid([1, 2, 2, 2])], border))).toMatch(/nothing to sample/);
  });
});

describe('AffineGrid', () => {
  test('moves the centres of pixels, or their corners', () => {
    const theta = Tensor.of('f64', [
      [
        [2, 0, 0.5],
        [0, 1, -1],
      ],
    ]);
    const grid = (align_corners: number): unknown =>
      run('AffineGrid', [theta, Tensor.of('i64', [1, 1, 2, 2])], { attributes: { align_corners } })[0]!.toArray();
    expect(grid(0)).toEqual([
      [
        [
          [-0.5, -1.5],
          [1.5, -1.5],
        ],
        [
          [-0.5, -0.5],
          [1.5, -0.5],
        ],
      ],
    ]);
    expect(grid(1)).toEqual([
      [
        [
          [-1.5, -2],
          [2.5, -2],
        ],
        [
          [-1.5, 0],
          [2.5, 0],
        ],
      ],
    ]);
  });

  test('refuses coefficients that do not fit the size', () => {
    const of = (shape: readonly number[], size: readonly number[]) => () =>
      run('AffineGrid', [Tensor.zeros('f32', shape), Tensor.of('i64', size)]);
    expect(refusal(of([1, 2, 3], [1, 1, 2, 2, 2]))).toMatch(/do not fit a size of 5/);
    expect(refusal(of([1, 4, 5], [1, 1, 2, 2, 2, 2]))).toMatch(/2 or 3 rows/);
    expect(refusal(of([2, 2, 3], [1, 1, 2, 2]))).toMatch(/batches/);
    expect(refusal(of([1, 2, 3], [1, 1, -2, 2]))).toMatch(/sizes of at least 0/);
  });
});

describe('RoiAlign', () => {
  /** A plane that is linear in both axes: interpolated, it is known everywhere inside. */
  const ramp = (height: number, width: number): Tensor =>
    Tensor.from(
      'f64',
      [1, 1, height, width],
      Float64Array.from(indicesOf([height, width]), ([y, x]) => 10 * y! + x!),
    );
  const first = Tensor.of('i64', [0]);

  test.each([
    ['half_pixel', 0.5],
    ['output_half_pixel', 0],
  ])('averages a ramp to its value in the middle of each bin: %s', (mode, shift) => {
    const roi = Tensor.of('f64', [[2, 1, 6, 7]]);
    const attributes = { output_height: 3, output_width: 2, sampling_ratio: 2, coordinate_transformation_mode: mode };
    const [y] = run('RoiAlign', [ramp(10, 10), roi, first], { attributes });
    const expected = Array.from(
      indicesOf([3, 2]),
      ([i, j]) => 10 * (1 + 2 * i! + 1 - shift) + (2 + 2 * j! + 1 - shift),
    );
    numbers(y!).forEach((value, i) => {
      expect(value).toBeCloseTo(expected[i]!, 10);
    });
  });

  test('had no half pixel before opset 16, and no region smaller than one', () => {
    const roi = Tensor.of('f64', [[3, 2, 3, 2]]);
    const [y] = run('RoiAlign', [ramp(8, 8), roi, first], { opset: 10 });
    expect(numbers(y!)[0]).toBeCloseTo(25 + 3.5, 10);
  });

  test('scales regions, and picks their batch', () => {
    const x = Tensor.from(
      'f64',
      [2, 1, 8, 8],
      Float64Array.from({ length: 128 }, (_, i) => (i < 64 ? 1 : 7)),
    );
    const rois = Tensor.of('f64', [
      [4, 4, 8, 8],
      [4, 4, 8, 8],
    ]);
    const [y] = run('RoiAlign', [x, rois, Tensor.of('i64', [1, 0])], { attributes: { spatial_scale: 0.5 } });
    expect(numbers(y!)).toEqual([7, 1]);
  });

  test('counts samples outside of the map as 0, however many there are', () => {
    const x = Tensor.from('f64', [1, 1, 4, 4], new Float64Array(16).fill(1));
    const huge = Tensor.of('f64', [[-1e6, -1e6, 1e6, 1e6]]);
    const [y] = run('RoiAlign', [x, huge, first]);
    // About (4 + 2) ^ 2 samples of 4e12 meet the map.
    expect(numbers(y!)[0]).toBeCloseTo(36 / 4e12, 13);
    expect(numbers(run('RoiAlign', [x, huge, first], { attributes: { mode: 'max' } })[0]!)).toEqual([1]);
  });

  test('takes the largest weighted neighbour in mode max', () => {
    const x = Tensor.of('f64', [
      [
        [
          [1, 2],
          [3, 4],
        ],
      ],
    ]);
    // One sample, at (0.5, 0.5): every neighbour weighs a quarter.
    const form = {
      attributes: { mode: 'max', sampling_ratio: 1, coordinate_transformation_mode: 'output_half_pixel' },
    };
    expect(numbers(run('RoiAlign', [x, Tensor.of('f64', [[0, 0, 1, 1]]), first], form)[0]!)).toEqual([1]);
  });

  test.each([
    ['a batch that is not there', [[0, 0, 1, 1]], [3], {}, /batch 3, there are 1/],
    ['coordinates that are no numbers', [[0, 0, Number.NaN, 1]], [0], {}, /no numbers/],
    ['samples without bound', [[0, 0, 1, 1]], [0], { sampling_ratio: 2 ** 30 }, /UNSUPPORTED_MODEL.*sampling_ratio/],
    ['an output of nothing', [[0, 0, 1, 1]], [0], { output_height: 0 }, /at least 1x1/],
    ['regions without batches', [[0, 0, 1, 1]], [0, 0], {}, /numbers of regions/],
  ])('refuses %s', (_, roi, batches, attributes, message) => {
    const of = () => run('RoiAlign', [ramp(2, 2), Tensor.of('f64', roi), Tensor.of('i64', batches)], { attributes });
    expect(refusal(of)).toMatch(message);
  });
});

describe('MaxRoiPool', () => {
  test('takes the largest pixel of each bin, bins overlapping where sizes do not divide', () => {
    const x = Tensor.from(
      'f32',
      [1, 1, 4, 4],
      Float32Array.from({ length: 16 }, (_, i) => i),
    );
    const form = { attributes: { pooled_shape: [2, 2] } };
    const pool = (roi: readonly number[]): readonly number[] =>
      numbers(run('MaxRoiPool', [x, Tensor.of('f32', [roi])], form)[0]!);
    expect(pool([0, 0, 0, 3, 3])).toEqual([5, 7, 13, 15]);
    expect(pool([0, 0, 0, 2, 2])).toEqual([5, 6, 9, 10]);
    expect(pool([0, 1, 1, 1, 1])).toEqual([5, 5, 5, 5]);
    // Of a region outside nothing is left.
    expect(pool([0, 9, 9, 12, 12])).toEqual([0, 0, 0, 0]);
    expect(refusal(() => pool([1, 0, 0, 1, 1]))).toMatch(/batch 1, there are 1/);
    expect(refusal(() => pool([Number.NaN, 0, 0, 1, 1]))).toMatch(/batch NaN/);
  });
});
