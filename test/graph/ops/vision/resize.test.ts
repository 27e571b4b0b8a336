import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { GraphBuilder } from '../../../../src/graph/index.ts';
import { type DType, Tensor } from '../../../../src/tensor/index.ts';
import { distance, infer, numbers, random, refusal, run } from '../one-node.ts';

type Attributes = Readonly<Record<string, Attribute>>;

/** One row, resized. */
function row(values: readonly number[], to: { scale?: number; size?: number }, attributes: Attributes, opset = 19) {
  const x = Tensor.from('f64', [values.length], Float64Array.from(values));
  const scales = to.scale === undefined ? undefined : Tensor.of('f32', [to.scale]);
  const sizes = to.size === undefined ? undefined : Tensor.of('i64', [to.size]);
  return numbers(run('Resize', [x, undefined, scales, sizes], { attributes, opset })[0]!);
}

const rounded = (values: readonly number[]): number[] => values.map(value => Math.round(value * 1e6) / 1e6);

describe('Resize', () => {
  // Places of 8 outputs of 4 pixels lie, by half_pixel, at -0.25 0.25 0.75 1.25 …; by asymmetric at 0 0.5 1 1.5 ….
  test.each([
    ['half_pixel', 'round_prefer_floor', [0, 0, 1, 1, 2, 2, 3, 3]],
    ['half_pixel', 'floor', [0, 0, 0, 1, 1, 2, 2, 3]],
    ['half_pixel', 'ceil', [0, 1, 1, 2, 2, 3, 3, 3]],
    ['asymmetric', 'round_prefer_floor', [0, 0, 1, 1, 2, 2, 3, 3]],
    ['asymmetric', 'round_prefer_ceil', [0, 1, 1, 2, 2, 3, 3, 3]],
    ['asymmetric', 'floor', [0, 0, 1, 1, 2, 2, 3, 3]],
    ['asymmetric', 'ceil', [0, 1, 1, 2, 2, 3, 3, 3]],
    ['align_corners', 'floor', [0, 0, 0, 1, 1, 2, 2, 3]],
    ['align_corners', 'round_prefer_floor', [0, 0, 1, 1, 2, 2, 3, 3]],
  ] as const)('takes the nearest pixel: %s, %s', (mode, nearest, expected) => {
    const attributes = { coordinate_transformation_mode: mode, nearest_mode: nearest };
    expect(row([0, 1, 2, 3], { size: 8 }, attributes)).toEqual(expected);
  });

  // A line is drawn through its own points; at the ends the edge repeats.
  test.each([
    ['half_pixel', { scale: 2 }, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]],
    ['asymmetric', { scale: 2 }, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]],
    ['align_corners', { size: 7 }, [0, 0.5, 1, 1.5, 2, 2.5, 3]],
    ['align_corners', { size: 1 }, [0]],
    ['half_pixel', { size: 1 }, [1.5]],
    ['pytorch_half_pixel', { size: 1 }, [0]],
    ['half_pixel', { size: 2 }, [0.5, 2.5]],
    // 4 * 0.625 = 2.5 pixels, of which 2 are made: half_pixel starts at the left, the symmetric form in the middle.
    ['half_pixel', { scale: 0.625 }, [0.3, 1.9]],
    ['half_pixel_symmetric', { scale: 0.625 }, [0.7, 2.3]],
  ] as const)('interpolates linearly: %s, %j', (mode, to, expected) => {
    const attributes = { mode: 'linear', coordinate_transformation_mode: mode };
    expect(rounded(row([0, 1, 2, 3], to, attributes))).toEqual(expected);
  });

  test('weighs four pixels by the cubic kernel', () => {
    // At 1.5: (a, 4 - a, 4 - a, a) / 8 with a = -0.75 by Keys; the constant of -0.5 gives (-1, 9, 9, -1) / 16.
    const values = [1, 10, 100, 1000];
    const attributes = { mode: 'cubic', coordinate_transformation_mode: 'align_corners' };
    const at = (coefficient: number): number =>
      row(values, { size: 7 }, { ...attributes, cubic_coeff_a: coefficient })[3]!;
    expect(at(-0.5)).toBeCloseTo((-1 + 90 + 900 - 1000) / 16, 9);
    expect(at(-0.75)).toBeCloseTo((-0.75 * 1001 + 4.75 * 110) / 8, 9);
  });

  test('leaves out what lies outside when told to, and weighs the rest up to one', () => {
    const attributes = { mode: 'cubic', cubic_coeff_a: -0.5, exclude_outside: 1 };
    // Output 0 of 8 lies at -0.25: pixels -2 and -1 do not count; 0 and 1 are 0.25 and 1.25 away.
    const near = 1 - 2.5 * 0.25 ** 2 + 1.5 * 0.25 ** 3;
    const far = -0.5 * (1.25 ** 3 - 5 * 1.25 ** 2 + 8 * 1.25 - 4);
    const [first] = row([1, 2, 4, 8], { scale: 2 }, attributes);
    expect(first).toBeCloseTo((near * 1 + far * 2) / (near + far), 9);
    for (const value of row([5, 5, 5, 5], { scale: 2 }, attributes)) expect(value).toBeCloseTo(5, 12);
  });

  test('spreads the filter when it shrinks with antialias', () => {
    // Output 0 of 2 lies between pixels 0 and 1; a triangle of half-width 2 weighs pixels -1 … 2 by 1 3 3 1, the edge repeats.
    const attributes = { mode: 'linear', antialias: 1 };
    expect(rounded(row([0, 8, 16, 24], { size: 2 }, attributes))).toEqual([
      (3 * 8 + 16) / 8,
      (8 + 3 * 16 + 4 * 24) / 8,
    ]);
    expect(row([0, 8, 16, 24], { size: 8 }, attributes)).toEqual(row([0, 8, 16, 24], { size: 8 }, { mode: 'linear' }));
  });

  test('crops to a region, with a value for what lies outside', () => {
    const x = Tensor.from('f64', [1, 5], Float64Array.of(0, 10, 20, 30, 40));
    const roi = Tensor.of('f32', [0, 0.5, 1, 1.25]);
    const attributes = {
      mode: 'linear',
      coordinate_transformation_mode: 'tf_crop_and_resize',
      extrapolation_value: -1,
    };
    const [y] = run('Resize', [x, roi, undefined, Tensor.of('i64', [1, 4])], { attributes, opset: 13 });
    expect(numbers(y!)).toEqual([20, 30, 40, -1]);
  });

  test.each([
    ['not_larger', [4, 3], [2, 3]],
    ['not_smaller', [1, 5], [3, 5]],
    ['stretch', [1, 3], [1, 3]],
  ] as const)('keeps the ratio of its axes: %s', (policy, wanted, expected) => {
    const x = random(1, [4, 6]);
    const sizes = Tensor.of('i64', wanted);
    const [y] = run('Resize', [x, undefined, undefined, sizes], { attributes: { keep_aspect_ratio_policy: policy } });
    expect(y!.shape).toEqual(expected);
  });

  test('resizes the axes that are named, in their order', () => {
    const x = random(1, [2, 3, 4]);
    const form = { attributes: { axes: [-1, 0], mode: 'linear' } };
    const [y] = run('Resize', [x, undefined, Tensor.of('f32', [2, 3]), undefined], form);
    const [same] = run('Resize', [x, undefined, Tensor.of('f32', [3, 1, 2])], { attributes: { mode: 'linear' } });
    expect(y!.shape).toEqual([6, 3, 8]);
    expect(distance(y!, same!)).toBe(0);
  });

  const modes = fc.record({
    mode: fc.constantFrom('nearest', 'linear', 'cubic'),
    coordinate_transformation_mode: fc.constantFrom(
      'half_pixel',
      'half_pixel_symmetric',
      'pytorch_half_pixel',
      'align_corners',
      'asymmetric',
    ),
    exclude_outside: fc.constantFrom(0, 1),
  });
  const shapes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 });

  test('changes nothing at scale 1, in every mode', () => {
    fc.assert(
      fc.property(modes, shapes, fc.nat(100), (attributes, shape, seed) => {
        const x = random(seed, shape);
        const scales = Tensor.from('f32', [shape.length], new Float32Array(shape.length).fill(1));
        expect(distance(run('Resize', [x, undefined, scales], { attributes })[0]!, x)).toBe(0);
      }),
    );
  });

  test('keeps a constant constant, whatever the sizes', () => {
    const resized = fc.tuple(shapes, fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 4, maxLength: 4 }));
    fc.assert(
      fc.property(modes, resized, fc.constantFrom(0, 1), (attributes, [shape, sizes], antialias) => {
        const form = { attributes: { ...attributes, antialias: attributes.mode === 'nearest' ? 0 : antialias } };
        const x = Tensor.of('f64', 3).expand(shape);
        const wanted = Tensor.of('i64', sizes.slice(0, shape.length));
        for (const value of numbers(run('Resize', [x, undefined, undefined, wanted], form)[0]!)) {
          expect(value).toBeCloseTo(3, 10);
        }
      }),
    );
  });

  test('is separable: all axes at once, or one after the other', () => {
    fc.assert(
      fc.property(
        modes,
        fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 })),
        (attributes, [h, w]) => {
          const x = random(3, [4, 3]);
          const to = (of: Tensor, sizes: readonly number[]): Tensor =>
            run('Resize', [of, undefined, undefined, Tensor.of('i64', sizes)], { attributes })[0]!;
          expect(distance(to(x, [h, w]), to(to(x, [4, w]), [h, w]))).toBeLessThan(1e-12);
        },
      ),
    );
  });

  test.each(['u8', 'i8', 'i32', 'i64', 'u64', 'bool', 'string', 'f16', 'bf16'] as const)(
    'copies pixels of %s',
    dtype => {
      const x: Tensor = dtype === 'string' ? Tensor.of('string', ['a', 'b']) : Tensor.of(dtype as DType, [1, 0]);
      const [y] = run('Resize', [x, undefined, Tensor.of('f32', [2])]);
      expect(y!.values()).toEqual([x.values()[0], x.values()[0], x.values()[1], x.values()[1]]);
    },
  );

  test('keeps a cubic that overshoots inside its integers', () => {
    const x = Tensor.of('u8', [0, 255, 255, 0, 0, 255]);
    const [y] = run('Resize', [x, undefined, Tensor.of('f32', [4])], { attributes: { mode: 'cubic' } });
    const exact = row([0, 255, 255, 0, 0, 255], { scale: 4 }, { mode: 'cubic' });
    expect(Math.max(...exact)).toBeGreaterThan(255);
    expect(numbers(y!)).toEqual(exact.map(value => Math.trunc(Math.min(Math.max(value, 0), 255))));
  });

  test('shrinks and grows at once without room for both', () => {
    // Growing first would need 2^40 elements in between.
    const x = Tensor.zeros('f32', [1, 2 ** 20]);
    const [y] = run('Resize', [x, undefined, undefined, Tensor.of('i64', [2 ** 20, 1])], {
      attributes: { mode: 'linear' },
    });
    expect(y!.shape).toEqual([2 ** 20, 1]);
  });

  test('infers sizes from constant scales, and keeps symbols at scale 1', () => {
    const b = new GraphBuilder('g', { opset: 18 });
    const x = b.input('x', { dtype: 'f32', shape: ['N', 3, 20, 'W'] });
    const scales = b.constant('s', Tensor.of('f32', [1, 1, 0.7, 2]));
    const [y] = b.node({ op: 'Resize', inputs: [x, undefined, scales], outputs: ['y'] });
    b.output(y!);
    const { shape } = b.build().values[y!]!.facts;
    expect(shape.slice(0, 3)).toEqual(['N', 3, 14]); // 20 * 0.7 in single precision
    expect(shape[3]).toEqual(expect.any(String));
  });

  test('does not know its sizes before its lists are known', () => {
    const facts = [{ dtype: 'f32', shape: [2, 3] }, undefined, undefined, { dtype: 'i64', shape: [2] }] as const;
    expect(infer('Resize', facts)[0]!.shape.every(dim => typeof dim === 'string')).toBe(true);
  });

  test.each([
    ['no list', [undefined, undefined], {}, /neither scales nor sizes/],
    ['both lists', [[1], [1]], {}, /both scales and sizes/],
    ['a scale of 0', [[0], undefined], {}, /scales above 0/],
    ['an infinite scale', [[Number.POSITIVE_INFINITY], undefined], {}, /scales above 0/],
    ['a scale without bound', [[1e30], undefined], {}, /cannot exist/],
    ['a negative size', [undefined, [-1]], {}, /sizes of at least 0/],
    ['too many sizes', [undefined, [1, 2]], {}, /expected 1 elements, got 2/],
    ['an unknown mode', [[1], undefined], { mode: 'lanczos' }, /attribute mode/],
    [
      'an unknown rule',
      [[1], undefined],
      { coordinate_transformation_mode: 'centre' },
      /coordinate_transformation_mode/,
    ],
    ['a ratio to keep of scales', [[1], undefined], { keep_aspect_ratio_policy: 'not_larger' }, /needs sizes/],
  ] as const)('refuses %s', (_, [scales, sizes], attributes, message) => {
    const inputs = [
      Tensor.of('f32', [1, 2]),
      undefined,
      scales && Tensor.of('f32', scales),
      sizes && Tensor.of('i64', sizes),
    ];
    expect(refusal(() => run('Resize', inputs, { attributes }))).toMatch(
      /^(INVALID_GRAPH|SHAPE_MISMATCH): Resize "it"/,
    );
    expect(refusal(() => run('Resize', inputs, { attributes }))).toMatch(message);
  });

  test('refuses to interpolate what is no number', () => {
    const of = () =>
      run('Resize', [Tensor.of('bool', [1]), undefined, Tensor.of('f32', [2])], { attributes: { mode: 'linear' } });
    expect(refusal(of)).toMatch(/INVALID_GRAPH.*needs numbers/);
  });

  test('makes nothing of nothing', () => {
    const [y] = run('Resize', [Tensor.zeros('f32', [0, 2]), undefined, Tensor.of('f32', [3, 2])]);
    expect(y!.shape).toEqual([0, 4]);
  });
});

describe('what came before Resize-11', () => {
  const x = Tensor.of('f32', [
    [
      [
        [1, 2],
        [3, 4],
      ],
    ],
  ]);
  const twice = Tensor.of('f32', [1, 1, 1, 2]);
  const wide = [1, 1, 2, 2, 3, 3, 4, 4];

  test.each([
    ['Upsample', 1, [x], { height_scale: 1, width_scale: 2 }],
    ['Upsample', 7, [x], { scales: [1, 1, 1, 2] }],
    ['Upsample', 9, [x, twice], {}],
    ['Resize', 10, [x, twice], {}],
  ] as const)('%s-%i repeats pixels', (op, opset, inputs, attributes) => {
    expect(numbers(run(op, inputs, { opset, attributes })[0]!)).toEqual(wide);
  });

  test('interpolates from the left edge', () => {
    const [y] = run('Upsample', [x, twice], { opset: 9, attributes: { mode: 'linear' } });
    expect(numbers(y!)).toEqual([1, 1.5, 2, 2, 3, 3.5, 4, 4]);
  });

  test('shrinks towards the right', () => {
    const of = Tensor.of('f32', [1, 2, 3, 4]);
    expect(numbers(run('Resize', [of, Tensor.of('f32', [0.6])], { opset: 10 })[0]!)).toEqual([1, 3]);
  });
});
