import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, infer, numbers, random, refusal, run } from '../one-node.ts';
import { convolve, type Geometry, plainGeometry, transposedConvolve } from './window-oracle.ts';

const dot = (a: Tensor, b: Tensor): number => {
  const y = numbers(b);
  return numbers(a).reduce((sum, value, i) => sum + value * y[i]!, 0);
};

const attributesOf = (geometry: Geometry): Record<string, Attribute> => ({
  strides: geometry.strides,
  dilations: geometry.dilations,
  pads: [...geometry.begin, ...geometry.end],
  group: geometry.groups,
});

/** A geometry over one to three axes, with an input and a kernel that fit into each other. */
const problem = fc
  .record({
    axes: fc.integer({ min: 1, max: 3 }),
    batch: fc.integer({ min: 1, max: 2 }),
    groups: fc.integer({ min: 1, max: 3 }),
    perGroup: fc.integer({ min: 1, max: 3 }),
    perOut: fc.integer({ min: 1, max: 3 }),
    seed: fc.nat(1000),
  })
  .chain(base => {
    const list = (min: number, max: number): fc.Arbitrary<number[]> =>
      fc.array(fc.integer({ min, max }), { minLength: base.axes, maxLength: base.axes });
    return fc
      .record({
        kernel: list(1, 3),
        strides: list(1, 3),
        dilations: list(1, 2),
        begin: list(0, 2),
        end: list(0, 2),
        extra: list(0, 4),
      })
      .map(lists => ({ ...base, ...lists }));
  })
  .map(({ axes: _, batch, groups, perGroup, perOut, seed, kernel, extra, ...rest }) => {
    const size = kernel.map((k, i) => (k - 1) * rest.dilations[i]! + 1 + extra[i]!);
    return {
      geometry: { ...rest, groups },
      x: random(seed, [batch, groups * perGroup, ...size]),
      w: random(seed + 1, [groups * perOut, perGroup, ...kernel]),
      bias: random(seed + 2, [groups * perOut]),
    };
  });

describe('Conv', () => {
  test('is the sum of products under each window, in one to three dimensions', () => {
    fc.assert(
      fc.property(problem, ({ geometry, x, w, bias }) => {
        const [y] = run('Conv', [x, w, bias], { attributes: attributesOf(geometry) });
        expect(distance(y!, convolve(x, w, bias, geometry))).toBeLessThan(1e-12);
      }),
      { numRuns: 200 },
    );
  });

  test.each([
    ['3x3 kernels of many channels', [2, 9, 13, 11], [10, 9, 3, 3], 1, [1, 1, 1, 1]],
    ['3x3 kernels with uneven padding', [1, 8, 9, 10], [8, 8, 3, 3], 1, [2, 0, 1, 3]],
    ['3x3 kernels in groups', [1, 16, 12, 9], [16, 8, 3, 3], 2, [0, 0, 0, 0]],
    ['1x1 kernels', [2, 24, 9, 8], [5, 24, 1, 1], 1, [0, 0, 0, 0]],
    ['1x1 kernels with padding', [1, 4, 3, 3], [5, 4, 1, 1], 1, [1, 1, 0, 0]],
    ['one channel per group', [2, 6, 9, 9], [12, 1, 5, 3], 6, [2, 1, 2, 1]],
    ['more columns than are made at once', [1, 70, 14, 14], [1, 70, 5, 5], 1, [2, 2, 2, 2]],
    ['a thin kernel in a volume', [1, 8, 3, 9, 9], [8, 8, 1, 3, 3], 1, [0, 1, 1, 0, 1, 1]],
  ] as const)('is that in single precision as well: %s', (_, xShape, wShape, groups, pads) => {
    const axes = xShape.length - 2;
    const [x, w, bias] = [random(1, xShape, 'f32'), random(2, wShape, 'f32'), random(3, [wShape[0]], 'f32')];
    const geometry = { ...plainGeometry(axes), groups, begin: pads.slice(0, axes), end: pads.slice(axes) };
    const [y] = run('Conv', [x, w, bias], { attributes: { group: groups, pads } });
    // Sums in double precision that are rounded once: half a unit in the last place of results below 64.
    expect(distance(y!, convolve(x, w, bias, geometry).cast('f32'))).toBeLessThan(4e-6);
  });

  test('keeps what is infinite to the windows that see it', () => {
    const x = random(4, [1, 8, 10, 10], 'f32');
    const data = Float32Array.from(x.elements() as Float32Array);
    data[0] = Number.POSITIVE_INFINITY;
    const w = Tensor.from('f32', [8, 8, 3, 3], new Float32Array(576).fill(1));
    const values = numbers(run('Conv', [Tensor.from('f32', [1, 8, 10, 10], data), w])[0]!);
    expect(values[0]).toBe(Number.POSITIVE_INFINITY);
    expect(values.filter(value => !Number.isFinite(value))).toHaveLength(8);
  });

  test.each([1, 2, 8])('multiplies padding as 0, also by what is not finite: %i channels', channels => {
    const x = Tensor.from('f32', [1, channels, 8, 8], new Float32Array(64 * channels).fill(1));
    const data = new Float32Array(8 * channels * 9).fill(1);
    data[0] = Number.POSITIVE_INFINITY;
    const w = Tensor.from('f32', [8, channels, 3, 3], data);
    const values = numbers(run('Conv', [x, w], { attributes: { pads: [1, 1, 1, 1] } })[0]!);
    // The first tap of the first kernel meets padding along the top and the left edge.
    expect(values.slice(0, 10)).toEqual([...new Array(9).fill(Number.NaN), Number.POSITIVE_INFINITY]);
    expect(values.slice(64).every(Number.isFinite)).toBe(true);
  });

  test('keeps what is huge to the windows that see it', () => {
    const data = new Float32Array(800).fill(1);
    data[0] = 2 ** 120;
    const w = Tensor.from('f32', [8, 8, 3, 3], new Float32Array(576).fill(1));
    const values = numbers(run('Conv', [Tensor.from('f32', [1, 8, 10, 10], data), w])[0]!);
    expect(values.slice(0, 2)).toEqual([2 ** 120, 72]);
  });

  test.each([
    ['SAME_UPPER', [3, 5, 7, 4]],
    ['SAME_LOWER', [1, 3, 5, 7]],
    ['VALID', [3, 5, 7]],
  ])('pads as auto_pad %s says', (mode, expected) => {
    const x = Tensor.of('f32', [[[1, 2, 3, 4]]]);
    const w = Tensor.of('f32', [[[1, 1]]]);
    expect(numbers(run('Conv', [x, w], { attributes: { auto_pad: mode } })[0]!)).toEqual(expected);
  });

  test('infers sizes from symbols', () => {
    const x = { dtype: 'f32', shape: ['N', 3, 32, 'W'] } as const;
    const w = { dtype: 'f32', shape: [8, 3, 3, 3] } as const;
    const [facts] = infer('Conv', [x, w], { attributes: { strides: [2, 2] } });
    expect(facts!.shape.slice(0, 3)).toEqual(['N', 8, 15]);
    expect(facts!.shape[3]).toEqual(expect.any(String));
  });

  test.each([
    ['channels that do not fit', [1, 3, 5, 5], [4, 2, 3, 3], {}, /3 channels.*2 x 1/],
    ['groups that do not divide', [1, 4, 5, 5], [3, 2, 3, 3], { group: 2 }, /3 output channels.*2 groups/],
    ['a kernel larger than the image', [1, 1, 2, 2], [1, 1, 3, 3], {}, /window of 3 does not fit in 2/],
    ['a stride of 0', [1, 1, 5, 5], [1, 1, 3, 3], { strides: [0, 1] }, /strides/],
    ['a kernel_shape that is another', [1, 1, 5, 5], [1, 1, 3, 3], { kernel_shape: [2, 3] }, /kernel axis 0/],
    ['padding without bound', [1, 1, 5, 5], [1, 1, 3, 3], { pads: [2 ** 40, 0, 0, 0] }, /pads/],
    ['an output without bound', [1, 1, 5, 5], [1, 1, 3, 3], { pads: [2 ** 30, 2 ** 30, 0, 0] }, /cannot exist/],
  ] as const)('refuses %s', (_, x, w, attributes, message) => {
    const of = () => run('Conv', [Tensor.zeros('f32', x), Tensor.zeros('f32', w)], { attributes });
    expect(refusal(of)).toMatch(/^INVALID_GRAPH: Conv "it"/);
    expect(refusal(of)).toMatch(message);
  });
});

describe('ConvTranspose', () => {
  test('spreads each pixel by the kernel, in one to three dimensions', () => {
    fc.assert(
      fc.property(problem, ({ geometry, x, w }) => {
        // The kernel is (in, out per group, ...): the sizes are right the other way round.
        const y = random(9, convolve(x, w, undefined, geometry).shape);
        fc.pre(y.size > 0);
        const sizes = transposedConvolve(y, w, geometry).shape;
        fc.pre(sizes.every(size => size > 0));
        const [back] = run('ConvTranspose', [y, w], { attributes: attributesOf(geometry) });
        expect(distance(back!, transposedConvolve(y, w, geometry))).toBeLessThan(1e-12);
      }),
      { numRuns: 200 },
    );
  });

  test('is the adjoint of Conv: <Conv(x), y> = <x, ConvTranspose(y)>', () => {
    fc.assert(
      fc.property(problem, ({ geometry, x, w }) => {
        const [forward] = run('Conv', [x, w], { attributes: attributesOf(geometry) });
        const y = random(7, forward!.shape);
        // What the strides leave over at the end of an axis comes back as output padding.
        const outputPadding = x.shape.slice(2).map((size, i) => {
          const extent = (w.shape[i + 2]! - 1) * geometry.dilations[i]! + 1;
          return (size + geometry.begin[i]! + geometry.end[i]! - extent) % geometry.strides[i]!;
        });
        const attributes = { ...attributesOf(geometry), output_padding: outputPadding };
        const [back] = run('ConvTranspose', [y, w], { attributes });
        expect(back!.shape).toEqual(x.shape);
        expect(Math.abs(dot(forward!, y) - dot(x, back!))).toBeLessThan(1e-10);
      }),
      { numRuns: 200 },
    );
  });

  const ones = (shape: readonly number[]): Tensor =>
    Tensor.from('f32', shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1));

  test.each([
    // A row of three pixels, a kernel of three, two apart: 7 places, of which every second inner one is met twice.
    ['no padding', {}, [1, 1, 2, 1, 2, 1, 1]],
    ['padding', { pads: [1, 1] }, [1, 2, 1, 2, 1]],
    ['output padding', { output_padding: [1] }, [1, 1, 2, 1, 2, 1, 1, 0]],
    ['a shorter output_shape, cut at the front first', { output_shape: [6] }, [1, 2, 1, 2, 1, 1]],
    ['a longer output_shape', { output_shape: [9] }, [1, 1, 2, 1, 2, 1, 1, 0, 0]],
    ['SAME_UPPER, cut at the end first', { auto_pad: 'SAME_UPPER' }, [1, 1, 2, 1, 2, 1]],
    ['SAME_LOWER', { auto_pad: 'SAME_LOWER' }, [1, 2, 1, 2, 1, 1]],
    ['VALID', { auto_pad: 'VALID' }, [1, 1, 2, 1, 2, 1, 1]],
  ] as const)('has the output that the attributes ask for: %s', (_, attributes, expected) => {
    const form = { attributes: { strides: [2], ...attributes } };
    expect(numbers(run('ConvTranspose', [ones([1, 1, 3]), ones([1, 1, 3])], form)[0]!)).toEqual(expected);
  });

  test('adds the bias, also where nothing falls', () => {
    const inputs = [ones([1, 2, 2]), ones([2, 1, 1]), Tensor.of('f32', [10])];
    const [y] = run('ConvTranspose', inputs, { attributes: { strides: [3] } });
    expect(numbers(y!)).toEqual([12, 10, 10, 12]);
  });

  test.each([
    ['channels that do not fit', [1, 3, 5], [2, 1, 3], {}, /channels/],
    ['groups that do not divide', [1, 3, 5], [3, 1, 3], { group: 2 }, /3 channels.*2 groups/],
    ['padding that leaves nothing', [1, 1, 2], [1, 1, 1], { pads: [5, 5] }, /cut off/],
    ['a negative output_shape', [1, 1, 2], [1, 1, 1], { output_shape: [-1] }, /output_shape/],
    ['an output without bound', [1, 1, 2], [1, 1, 1], { strides: [2 ** 31] }, /cannot exist/],
  ] as const)('refuses %s', (_, x, w, attributes, message) => {
    const of = () => run('ConvTranspose', [Tensor.zeros('f32', x), Tensor.zeros('f32', w)], { attributes });
    expect(refusal(of)).toMatch(/^INVALID_GRAPH: ConvTranspose "it"/);
    expect(refusal(of)).toMatch(message);
  });
});

describe('DeformConv', () => {
  test('is Conv where no offset moves anything', () => {
    const [x, w, bias] = [random(1, [2, 4, 7, 6]), random(2, [6, 2, 3, 2]), random(3, [6])];
    const attributes = { group: 2, strides: [2, 1], dilations: [1, 2], pads: [1, 0, 1, 2] };
    const [expected] = run('Conv', [x, w, bias], { attributes });
    const [, , height, width] = expected!.shape as readonly [number, number, number, number];
    const offset = Tensor.zeros('f64', [2, 2 * 2 * 6, height, width]);
    const form = { attributes: { ...attributes, offset_group: 2 }, opset: 22 };
    expect(distance(run('DeformConv', [x, w, offset, bias], form)[0]!, expected!)).toBeLessThan(1e-12);
  });

  test('reads between pixels, and scales by the mask', () => {
    // One tap at each of 3 x 3 pixels, half a row down and a quarter column to the right.
    const x = Tensor.of('f64', [
      [
        [
          [0, 1, 2],
          [3, 4, 5],
          [6, 7, 8],
        ],
      ],
    ]);
    const offset = Tensor.from(
      'f64',
      [1, 2, 3, 3],
      Float64Array.from({ length: 18 }, (_, i) => (i < 9 ? 0.5 : 0.25)),
    );
    const mask = Tensor.from('f64', [1, 1, 3, 3], new Float64Array(9).fill(2));
    const [y] = run('DeformConv', [x, Tensor.of('f64', [[[[1]]]]), offset, undefined, mask], { opset: 22 });
    // Inside: value + 1.5 + 0.25; what lies outside of the image is 0.
    expect(numbers(y!)).toEqual([3.5, 5.5, 5.25, 9.5, 11.5, 9.75, 6.25, 7.25, 6]);
  });

  test('refuses offsets that do not fit', () => {
    const inputs = [
      [1, 1, 3, 3],
      [1, 1, 1, 1],
      [1, 2, 2, 3],
    ].map(shape => Tensor.zeros('f32', shape));
    expect(refusal(() => run('DeformConv', inputs, { opset: 19 }))).toMatch(
      /INVALID_GRAPH.*input 2: expected \[1,2,3,3\]/,
    );
  });
});
