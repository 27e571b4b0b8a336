import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, infer, numbers, random, refusal, run } from '../one-node.ts';

const range = (shape: readonly number[]): Tensor => {
  const size = shape.reduce((product, dim) => product * dim, 1);
  return Tensor.from(
    'f32',
    shape,
    Float32Array.from({ length: size }, (_, i) => i),
  );
};

describe('DepthToSpace and SpaceToDepth', () => {
  const image = fc.record({
    batch: fc.integer({ min: 1, max: 2 }),
    channels: fc.integer({ min: 1, max: 3 }),
    rows: fc.integer({ min: 0, max: 3 }),
    columns: fc.integer({ min: 1, max: 3 }),
    blocksize: fc.integer({ min: 1, max: 3 }),
  });

  test('are inverses of each other', () => {
    fc.assert(
      fc.property(image, ({ batch, channels, rows, columns, blocksize }) => {
        const x = range([batch, channels, rows * blocksize, columns * blocksize]);
        const [deep] = run('SpaceToDepth', [x], { attributes: { blocksize } });
        expect(deep!.shape).toEqual([batch, channels * blocksize ** 2, rows, columns]);
        expect(distance(run('DepthToSpace', [deep], { attributes: { blocksize } })[0]!, x)).toBe(0);
      }),
    );
  });

  test('take channels as rows and columns of a block first, or as depth first', () => {
    const x = range([1, 8, 1, 1]);
    const modes = ['DCR', 'CRD'].map(mode => run('DepthToSpace', [x], { attributes: { blocksize: 2, mode } })[0]!);
    expect(modes[0]!.toArray()).toEqual([
      [
        [
          [0, 2],
          [4, 6],
        ],
        [
          [1, 3],
          [5, 7],
        ],
      ],
    ]);
    expect(modes[1]!.toArray()).toEqual([
      [
        [
          [0, 1],
          [2, 3],
        ],
        [
          [4, 5],
          [6, 7],
        ],
      ],
    ]);
    expect(run('DepthToSpace', [x], { opset: 1, attributes: { blocksize: 2 } })[0]!.toArray()).toEqual(
      modes[0]!.toArray(),
    );
  });

  test('move any element', () => {
    const x = Tensor.from('string', [1, 4, 1, 1], ['a', 'b', 'c', 'd']);
    expect(run('DepthToSpace', [x], { attributes: { blocksize: 2 } })[0]!.toArray()).toEqual([
      [
        [
          ['a', 'b'],
          ['c', 'd'],
        ],
      ],
    ]);
  });

  test.each([
    ['DepthToSpace', [1, 3, 2, 2], 2, /channels: 3 cannot be cut into blocks of 4/],
    ['SpaceToDepth', [1, 1, 3, 2], 2, /height: 3 cannot be cut/],
    ['SpaceToDepth', [1, 1, 2, 2], 0, /blocksize: expected at least 1/],
    ['DepthToSpace', [4, 2, 2], 2, /expected 4 dimensions/],
    ['DepthToSpace', [0, 1, 1, 1], 2 ** 40, /channels/],
  ] as const)('%s refuses %j in blocks of %i', (op, shape, blocksize, message) => {
    expect(refusal(() => run(op, [Tensor.zeros('f32', shape)], { attributes: { blocksize } }))).toMatch(message);
  });
});

describe('CenterCropPad', () => {
  test.each([
    ['crops an odd rest at the end', [1, 2, 3, 4, 5], 2, [2, 3]],
    ['crops an even rest on both sides', [1, 2, 3, 4, 5], 3, [2, 3, 4]],
    ['pads an odd rest at the end', [1, 2], 5, [0, 1, 2, 0, 0]],
    ['keeps what fits', [1, 2], 2, [1, 2]],
    ['makes nothing', [1, 2], 0, []],
  ])('%s', (_, values, size, expected) => {
    const [y] = run('CenterCropPad', [Tensor.of('i64', values), Tensor.of('i64', [size])]);
    expect(y!.values()).toEqual(expected.map(BigInt));
  });

  test('crops one axis and pads another, in the order that axes names', () => {
    const [y] = run('CenterCropPad', [range([2, 3, 4]), Tensor.of('i32', [2, 5])], { attributes: { axes: [-1, 1] } });
    expect(y!.shape).toEqual([2, 5, 2]);
    expect(numbers(y!.slice({ axis: 0, end: 1 }))).toEqual([0, 0, 1, 2, 5, 6, 9, 10, 0, 0]);
  });

  test('refuses sizes that do not fit its axes', () => {
    const x = range([2, 3]);
    expect(refusal(() => run('CenterCropPad', [x, Tensor.of('i64', [1])]))).toMatch(/SHAPE_MISMATCH.*expected 2 sizes/);
    expect(refusal(() => run('CenterCropPad', [x, Tensor.of('i64', [1, -1])]))).toMatch(/sizes of at least 0/);
    const twice = { attributes: { axes: [0, -2] } };
    expect(refusal(() => run('CenterCropPad', [x, Tensor.of('i64', [1, 1])], twice))).toMatch(/distinct axes/);
  });
});

describe('Col2Im', () => {
  test('adds up what blocks overlap', () => {
    // Blocks of 2 along 4 pixels: three of them, of ones, so that inner pixels are met twice.
    const ones = Tensor.from('f32', [1, 2, 3], new Float32Array(6).fill(1));
    const lists = [Tensor.of('i64', [4]), Tensor.of('i64', [2])];
    expect(numbers(run('Col2Im', [ones, ...lists])[0]!)).toEqual([1, 2, 2, 1]);
    expect(run('Col2Im', [ones.cast('i64'), ...lists])[0]!.values()).toEqual([1n, 2n, 2n, 1n]);
  });

  test('is what ConvTranspose does with a kernel of its own for each place of a block', () => {
    const [taps, strides, dilations, pads] = [6, [2, 1], [1, 2], [1, 0, 0, 1]];
    const image = [5, 6];
    const blocks = [3, 3]; // (5 + 1 - 2) / 2 + 1 and (6 + 1 - 5) / 1 + 1
    const x = random(1, [2, taps, blocks[0]! * blocks[1]!]);
    const kernel = Tensor.from(
      'f64',
      [taps, 1, 2, 3],
      Float64Array.from({ length: 36 }, (_, i) => (i % 7 === 0 ? 1 : 0)),
    );
    const attributes = { strides, dilations, pads };
    const [expected] = run('ConvTranspose', [x.reshape([2, taps, ...blocks]), kernel], { attributes });
    const [y] = run('Col2Im', [x, Tensor.of('i64', image), Tensor.of('i64', [2, 3])], { attributes });
    expect(expected!.shape).toEqual([2, 1, 5, 6]);
    expect(distance(y!, expected!)).toBeLessThan(1e-12);
  });

  test('refuses blocks that do not fit', () => {
    const lists = (image: readonly number[], block: readonly number[]): readonly Tensor[] => [
      Tensor.of('i64', image),
      Tensor.of('i64', block),
    ];
    const x = Tensor.zeros('f32', [1, 4, 4]);
    expect(refusal(() => run('Col2Im', [x, ...lists([3, 3], [2, 2])]))).toBe('none');
    expect(refusal(() => run('Col2Im', [x, ...lists([4, 4], [2, 2])]))).toMatch(/9 blocks, the input 4/);
    expect(refusal(() => run('Col2Im', [x, ...lists([3, 3], [2])]))).toMatch(/not as many axes/);
    expect(refusal(() => run('Col2Im', [x, ...lists([3, 3], [3, 1])]))).toMatch(/blocks/);
    expect(refusal(() => run('Col2Im', [x, ...lists([1, 3], [2, 2])]))).toMatch(/does not fit/);
  });
});

describe('Det', () => {
  test('is exact on whole matrices, of batches', () => {
    const x = Tensor.of('f64', [
      [
        [2, 0, 1],
        [1, 3, 2],
        [1, 1, 4],
      ],
      [
        [0, 1, 0],
        [1, 0, 0],
        [0, 0, 1],
      ],
    ]);
    expect(numbers(run('Det', [x])[0]!)).toEqual([18, -1]);
    expect(
      run('Det', [
        Tensor.of('f32', [
          [1, 2],
          [3, 4],
        ]),
      ])[0]!.shape,
    ).toEqual([]);
  });

  test('multiplies as matrices do', () => {
    const [a, b] = [random(1, [4, 5, 5]), random(2, [4, 5, 5])];
    const det = (of: Tensor): readonly number[] => numbers(run('Det', [of])[0]!);
    const products = det(run('MatMul', [a, b])[0]!);
    const right = det(b);
    det(a).forEach((left, i) => {
      expect(products[i]).toBeCloseTo(left * right[i]!, 12);
    });
  });

  test('is 0 of a singular matrix, 1 of an empty one, and refuses what is not square', () => {
    expect(
      numbers(
        run('Det', [
          Tensor.of('f64', [
            [1, 2],
            [2, 4],
          ]),
        ])[0]!,
      ),
    ).toEqual([0]);
    expect(numbers(run('Det', [Tensor.zeros('f64', [2, 0, 0])])[0]!)).toEqual([1, 1]);
    expect(refusal(() => run('Det', [Tensor.zeros('f64', [2, 3])]))).toMatch(/INVALID_GRAPH.*square/);
  });
});

describe('the experimental operators', () => {
  const form = (attributes: object) => ({ opset: 1, attributes: attributes as Record<string, number | number[]> });

  test('are functions of each element', () => {
    const x = Tensor.of('f64', [-1, 0, 2]);
    expect(numbers(run('Affine', [x], form({ alpha: 2, beta: 3 }))[0]!)).toEqual([1, 3, 7]);
    expect(numbers(run('Scale', [x], form({ scale: 3 }))[0]!)).toEqual([-3, 0, 6]);
    expect(numbers(run('ScaledTanh', [x], form({ alpha: 2, beta: 0.5 }))[0]!)).toEqual(
      [-1, 0, 2].map(v => 2 * Math.tanh(v / 2)),
    );
    const softplus = numbers(run('ParametricSoftplus', [x], form({ alpha: 2, beta: 3 }))[0]!);
    [-1, 0, 2].forEach((v, i) => {
      expect(softplus[i]).toBeCloseTo(2 * Math.log(Math.exp(3 * v) + 1), 12);
    });
    const [far] = run('ParametricSoftplus', [Tensor.of('f64', [1000])], form({ alpha: 1, beta: 1 }));
    expect(numbers(far!)).toEqual([1000]);
  });

  test('scale and shift the channels of an image', () => {
    const x = range([1, 2, 1, 2]);
    expect(numbers(run('ImageScaler', [x], form({ scale: 2, bias: [10, 20] }))[0]!)).toEqual([10, 12, 24, 26]);
    expect(refusal(() => run('ImageScaler', [x], form({ bias: [1] })))).toMatch(/bias of 1 elements for 2 channels/);
  });

  test('crop a border, or to a size from it on', () => {
    const x = range([1, 1, 4, 5]);
    expect(run('Crop', [x], form({ border: [1, 2, 3, 1] }))[0]!.toArray()).toEqual([[[[11]]]]);
    expect(run('Crop', [x], form({ border: [3, 1, 0, 0], scale: [2, 2] }))[0]!.toArray()).toEqual([
      [
        [
          [8, 9],
          [13, 14],
        ],
      ],
    ]);
    expect(refusal(() => run('Crop', [x], form({ border: [3, 0, 3, 0] })))).toMatch(/does not leave anything of 5/);
    expect(refusal(() => run('Crop', [x], form({ border: [4, 0, 0, 0], scale: [1, 2] })))).toMatch(
      /does not leave 2 of 5/,
    );
  });
});

test('sizes of symbols are spelt out', () => {
  const x = { dtype: 'f32', shape: ['N', 8, 'H', 6] } as const;
  expect(infer('DepthToSpace', [x], { attributes: { blocksize: 2 } })[0]!.shape).toEqual(['N', 2, '2*H', 12]);
  const [facts] = infer('SpaceToDepth', [x], { attributes: { blocksize: 2 } });
  expect(facts!.shape).toEqual(['N', 32, '(H/2)', 3]);
});
