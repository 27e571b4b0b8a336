import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../../../src/base/index.ts';
import { type Attribute, GraphBuilder, runNode } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';

type Attributes = Readonly<Record<string, Attribute>>;

function run(op: string, inputs: readonly Tensor[], attributes: Attributes = {}, opset = 1): Tensor {
  const b = new GraphBuilder('one');
  const ids = inputs.map((x, i) => b.input(`x${i}`, { dtype: x.dtype, shape: x.shape }));
  b.output(b.node({ domain: 'ai.onnx.ml', opset, op, inputs: ids, attributes, outputs: ['y'], name: 'step' })[0]!);
  return runNode(b.build().nodes[0]!, inputs)[0]!;
}

function refusal(of: () => unknown): string {
  try {
    of();
  } catch (error) {
    if (error instanceof CloisterError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'none';
}

const grid = [
  [1, 2, 3],
  [4, 5, 6],
];

describe('Scaler', () => {
  test('takes an offset away, then multiplies', () => {
    const perFeature = { offset: [1, 2, 3], scale: [2, 0.5, -1] };
    for (const dtype of ['f32', 'f64', 'i32', 'i64'] as const) {
      const y = run('Scaler', [Tensor.of(dtype, grid)], perFeature);
      expect([y.dtype, y.toArray()]).toEqual([
        'f32',
        [
          [0, 0, -0],
          [6, 1.5, -3],
        ],
      ]);
    }
    expect(run('Scaler', [Tensor.of('f32', [3, 4])], { offset: [1], scale: [10] }).toArray()).toEqual([20, 30]);
    expect(run('Scaler', [Tensor.of('f32', [3, 4])]).toArray()).toEqual([3, 4]);
  });

  test('refuses lists that do not fit the features', () => {
    expect(refusal(() => run('Scaler', [Tensor.of('f32', grid)], { offset: [1, 2] }))).toContain(
      'INVALID_GRAPH: Scaler "step": offset: expected 1 value or one for each of 3 features, got 2',
    );
    expect(refusal(() => run('Scaler', [Tensor.of('f32', 1)]))).toContain('expected rows of features');
  });
});

describe('Normalizer', () => {
  const x = Tensor.of('f64', [
    [3, -4],
    [0, 0],
    [-2, -2],
  ]);

  test('divides each row by its norm, and leaves a row of norm zero', () => {
    expect(run('Normalizer', [x], { norm: 'L2' }).toArray()).toEqual(
      Tensor.of('f32', [
        [0.6, -0.8],
        [0, 0],
        [-Math.SQRT1_2, -Math.SQRT1_2],
      ]).toArray(),
    );
    expect(run('Normalizer', [x], { norm: 'L1' }).toArray()).toEqual(
      Tensor.of('f32', [
        [3 / 7, -4 / 7],
        [0, 0],
        [-0.5, -0.5],
      ]).toArray(),
    );
    expect(run('Normalizer', [x]).toArray()).toEqual(
      Tensor.of('f32', [
        [1, -4 / 3],
        [0, 0],
        [1, 1],
      ]).toArray(),
    );
  });

  test('takes a vector for one row, integers, and no columns', () => {
    expect(run('Normalizer', [Tensor.of('i64', [1, 3])], { norm: 'L1' }).toArray()).toEqual([0.25, 0.75]);
    expect(run('Normalizer', [Tensor.zeros('f32', [2, 0])]).shape).toEqual([2, 0]);
  });

  test('refuses another norm', () => {
    expect(refusal(() => run('Normalizer', [x], { norm: 'L3' }))).toContain('expected norm MAX, L1 or L2, got "L3"');
  });
});

describe('Imputer', () => {
  test('replaces NaN or a number, per feature', () => {
    const x = Tensor.of('f32', [
      [1, Number.NaN],
      [Number.NaN, 4],
    ]);
    const nan = { imputed_value_floats: [10, 20], replaced_value_float: Number.NaN };
    expect(run('Imputer', [x], nan).toArray()).toEqual([
      [1, 20],
      [10, 4],
    ]);
    const one = { imputed_value_floats: [7], replaced_value_float: 1 };
    expect(run('Imputer', [x], one).toArray()).toEqual([
      [7, Number.NaN],
      [Number.NaN, 4],
    ]);
  });

  test('replaces integers by integers, and leaves its input alone', () => {
    for (const dtype of ['i64', 'i32'] as const) {
      const x = Tensor.of(dtype, [0, 5, 0]);
      const y = run('Imputer', [x], { imputed_value_int64s: [9], replaced_value_int64: 0 });
      expect(y.values().map(Number)).toEqual([9, 5, 9]);
      expect(x.values().map(Number)).toEqual([0, 5, 0]);
    }
  });

  test('refuses values of the other kind, and values that do not fit', () => {
    const x = Tensor.of('i32', [1]);
    expect(refusal(() => run('Imputer', [x], { imputed_value_floats: [1] }))).toContain(
      'imputed_value_int64s is missing',
    );
    expect(refusal(() => run('Imputer', [x], { imputed_value_int64s: [2 ** 40] }))).toContain('is no i32');
  });
});

describe('Binarizer', () => {
  test('tells what is over the threshold', () => {
    expect(run('Binarizer', [Tensor.of('f32', [-1, 0, 0.5, 2])], { threshold: 0.5 }).toArray()).toEqual([0, 0, 0, 1]);
    expect(run('Binarizer', [Tensor.of('i64', [0, 1, 2])], { threshold: 0.5 }).toArray()).toEqual([0n, 1n, 1n]);
    expect(run('Binarizer', [Tensor.of('i32', [-1, 1])]).toArray()).toEqual([0, 1]);
  });
});

describe('ArrayFeatureExtractor', () => {
  test('selects along the last axis, from tensors of any kind', () => {
    const y = Tensor.of('i64', [[2, 0, 2]]);
    for (const dtype of ['f32', 'f64', 'i32', 'i64'] as const) {
      expect(run('ArrayFeatureExtractor', [Tensor.of(dtype, grid), y]).toArray()).toEqual(
        Tensor.of(dtype, [
          [3, 1, 3],
          [6, 4, 6],
        ]).toArray(),
      );
    }
    const words = Tensor.of('string', ['a', 'b', 'c']);
    expect(run('ArrayFeatureExtractor', [words, y]).toArray()).toEqual([['c', 'a', 'c']]);
  });

  test('refuses an index outside the row, and takes none', () => {
    const x = Tensor.of('f32', grid);
    for (const index of [3, -1]) {
      expect(refusal(() => run('ArrayFeatureExtractor', [x, Tensor.of('i64', [index])]))).toContain(
        `SHAPE_MISMATCH: ArrayFeatureExtractor "step": index ${index} in rows of 3`,
      );
    }
    expect(run('ArrayFeatureExtractor', [x, Tensor.zeros('i64', [0])]).shape).toEqual([2, 0]);
  });
});

describe('FeatureVectorizer', () => {
  test('puts features side by side, cut or filled to their widths', () => {
    const inputs = [Tensor.of('f32', grid), Tensor.of('i64', [[7], [8]])];
    expect(run('FeatureVectorizer', inputs, { inputdimensions: [2, 3] }).toArray()).toEqual([
      [1, 2, 7, 0, 0],
      [4, 5, 8, 0, 0],
    ]);
    expect(run('FeatureVectorizer', inputs).toArray()).toEqual([
      [1, 2, 3, 7],
      [4, 5, 6, 8],
    ]);
    expect(run('FeatureVectorizer', [Tensor.of('f64', [1, 2]), Tensor.of('i32', [3])]).toArray()).toEqual([[1, 2, 3]]);
  });

  test('takes any number of rows of nothing', () => {
    const nothing = Tensor.zeros('f32', [2 ** 30, 0]);
    expect(run('FeatureVectorizer', [nothing, nothing]).shape).toEqual([2 ** 30, 0]);
  });

  test('refuses rows that do not match, and widths that cannot be', () => {
    const inputs = [Tensor.of('f32', grid), Tensor.of('i64', [[7]])];
    expect(refusal(() => run('FeatureVectorizer', inputs))).toContain('rows of the inputs: 2 and 1 differ');
    const one = [Tensor.of('f32', grid)];
    expect(refusal(() => run('FeatureVectorizer', one, { inputdimensions: [-1] }))).toContain('inputdimensions: -1');
    expect(refusal(() => run('FeatureVectorizer', one, { inputdimensions: [1, 2] }))).toContain('2 for 1 inputs');
    expect(refusal(() => run('FeatureVectorizer', one, { inputdimensions: [2 ** 50] }))).toContain('"step"');
  });
});

describe('OneHotEncoder', () => {
  test('marks the place of the category, in one more dimension', () => {
    const text = { cats_strings: ['x', 'y'] };
    expect(run('OneHotEncoder', [Tensor.of('string', [['y'], ['?']])], text).toArray()).toEqual([[[0, 1]], [[0, 0]]]);
    const numbers = { cats_int64s: [5, 9, 7] };
    expect(run('OneHotEncoder', [Tensor.of('i64', [7, 5])], numbers).toArray()).toEqual([
      [0, 0, 1],
      [1, 0, 0],
    ]);
    // Floats are cut to integers.
    expect(run('OneHotEncoder', [Tensor.of('f32', [9.9])], numbers).toArray()).toEqual([[0, 1, 0]]);
    expect(run('OneHotEncoder', [Tensor.of('i32', [6])], numbers).toArray()).toEqual([[0, 0, 0]]);
  });

  test('fails on an unknown category where zeros are not wanted', () => {
    const attributes = { cats_int64s: [1], zeros: 0 };
    expect(run('OneHotEncoder', [Tensor.of('i64', [1])], attributes).toArray()).toEqual([[1]]);
    expect(refusal(() => run('OneHotEncoder', [Tensor.of('i64', [2])], attributes))).toContain(
      'none of the categories',
    );
  });

  test('refuses categories of the wrong kind, of both, or none', () => {
    const x = [Tensor.of('i64', [1])];
    expect(refusal(() => run('OneHotEncoder', x, { cats_strings: ['a'] }))).toContain('categories are no integers');
    expect(refusal(() => run('OneHotEncoder', x))).toContain('categories');
    expect(refusal(() => run('OneHotEncoder', x, { cats_strings: ['a'], cats_int64s: [1] }))).toContain('categories');
  });
});

describe('LabelEncoder', () => {
  test('stands strings for indices and indices for strings, in version 1', () => {
    const classes_strings = ['a', 'b', 'c'];
    const indices = run('LabelEncoder', [Tensor.of('string', [['c', '?']])], { classes_strings, default_int64: 42 });
    expect(indices.toArray()).toEqual([[2n, 42n]]);
    const words = run('LabelEncoder', [Tensor.of('i64', [0, 3])], { classes_strings });
    expect(words.toArray()).toEqual(['a', '_Unused']);
  });

  const sides = [
    ['strings', Tensor.of('string', ['p', 'q']), Tensor.of('string', ['?']), '_Unused'],
    ['int64s', Tensor.of('i64', [5, 6]), Tensor.of('i64', [0]), -1n],
    ['floats', Tensor.of('f32', [0.5, 1.5]), Tensor.of('f32', [0]), -0],
  ] as const;
  const pairs = sides.flatMap(from => sides.map(to => [from[0], to[0], from, to] as const));

  test.each(pairs)('maps %s to %s, in versions 2 and 4', (_, __, [from, keys, unknown], [to, values, , otherwise]) => {
    const plain = (tensor: Tensor): Attribute =>
      tensor.values().map(v => (typeof v === 'bigint' ? Number(v) : v)) as Attribute;
    const attributes = { [`keys_${from}`]: plain(keys), [`values_${to}`]: plain(values) };
    for (const opset of [2, 4]) {
      const known = run('LabelEncoder', [keys], attributes, opset);
      expect([known.dtype, known.toArray()]).toEqual([values.dtype, values.toArray()]);
      expect(run('LabelEncoder', [unknown], attributes, opset).toArray()).toEqual([otherwise]);
    }
  });

  test('maps tensors of other types, with a default, in version 4', () => {
    const attributes = {
      keys_tensor: Tensor.of('i16', [1, 2]),
      values_tensor: Tensor.of('f64', [0.1, 0.2]),
      default_tensor: Tensor.of('f64', [9]),
    };
    const y = run('LabelEncoder', [Tensor.of('i16', [[2], [3]])], attributes, 4);
    expect([y.dtype, y.toArray()]).toEqual(['f64', [[0.2], [9]]]);
    const { default_tensor: _, ...without } = attributes;
    expect(run('LabelEncoder', [Tensor.of('i16', [3])], without, 4).toArray()).toEqual([-0]);
    expect(refusal(() => run('LabelEncoder', [Tensor.of('i16', [1])], attributes, 2))).toContain('unknown at opset 2');
  });

  test('finds NaN, and lets the last of equal keys hold', () => {
    const attributes = { keys_floats: [Number.NaN, 1, 1], values_int64s: [7, 8, 9] };
    expect(run('LabelEncoder', [Tensor.of('f32', [Number.NaN, 1])], attributes, 4).toArray()).toEqual([7n, 9n]);
  });

  test('finds keys that are no exact floats', () => {
    const attributes = { keys_floats: [0.1], values_strings: ['tenth'] };
    expect(run('LabelEncoder', [Tensor.of('f32', [0.1])], attributes, 2).toArray()).toEqual(['tenth']);
  });

  test.each([
    ['no keys', { values_int64s: [1] }, 'expected one list of keys, got 0'],
    ['keys of two kinds', { keys_strings: ['a'], keys_floats: [1], values_int64s: [1] }, 'expected one list of keys'],
    ['more keys than values', { keys_strings: ['a', 'b'], values_int64s: [1] }, '2 keys for 1 values'],
    ['keys of another type than the input', { keys_floats: [1], values_int64s: [1] }, 'got string'],
    [
      'a default of another type',
      { keys_strings: ['a'], values_int64s: [1], default_tensor: Tensor.of('f32', [1]) },
      'default_tensor',
    ],
  ])('refuses %s', (_, attributes, message) => {
    const text = refusal(() => run('LabelEncoder', [Tensor.of('string', ['a'])], attributes as Attributes, 4));
    expect(text).toContain('LabelEncoder "step"');
    expect(text).toContain(message);
  });
});

describe('CategoryMapper', () => {
  const attributes = { cats_strings: ['a', 'b'], cats_int64s: [10, 20], default_int64: 7, default_string: 'none' };

  test('maps either way', () => {
    expect(run('CategoryMapper', [Tensor.of('string', ['b', 'z'])], attributes).toArray()).toEqual([20n, 7n]);
    expect(run('CategoryMapper', [Tensor.of('i64', [[10], [11]])], attributes).toArray()).toEqual([['a'], ['none']]);
  });

  test('refuses lists of different lengths, and floats', () => {
    const uneven = { ...attributes, cats_int64s: [10] };
    expect(refusal(() => run('CategoryMapper', [Tensor.of('i64', [1])], uneven))).toContain('1 keys for 2 values');
    expect(refusal(() => run('CategoryMapper', [Tensor.of('f32', [1])], attributes))).toContain('UNSUPPORTED_MODEL');
  });
});

test.each(['CastMap', 'DictVectorizer'])('%s is refused, because its input is a map', op => {
  expect(refusal(() => run(op, [Tensor.of('f32', [1])]))).toContain(
    `UNSUPPORTED_MODEL: ${op} "step": its input is a map`,
  );
});
