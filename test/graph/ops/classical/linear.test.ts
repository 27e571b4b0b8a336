import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../../../src/base/index.ts';
import { type Attribute, GraphBuilder, runNode } from '../../../../src/graph/index.ts';
import { type DType, Tensor } from '../../../../src/tensor/index.ts';

type Attributes = Readonly<Record<string, Attribute>>;

function run(op: string, x: Tensor, attributes: Attributes): readonly Tensor[] {
  const b = new GraphBuilder('one');
  const id = b.input('x', { dtype: x.dtype, shape: x.shape });
  const outputs = op.endsWith('Classifier') ? ['y', 'z'] : ['y'];
  for (const out of b.node({ domain: 'ai.onnx.ml', opset: 1, op, inputs: [id], attributes, outputs, name: 'model' })) {
    b.output(out!);
  }
  return runNode(b.build().nodes[0]!, [x]);
}

function classes(op: string, x: Tensor, attributes: Attributes): { labels: unknown; scores: number[][] } {
  const [y, z] = run(op, x, attributes);
  return { labels: y!.toArray(), scores: z!.toArray() as number[][] };
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

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

function near(came: readonly (readonly number[])[], want: readonly (readonly number[])[], tolerance = 1e-6): void {
  expect(came.map(row => row.length)).toEqual(want.map(row => row.length));
  came.forEach((row, i) => {
    row.forEach((value, j) => {
      expect(Math.abs(value - want[i]![j]!)).toBeLessThanOrEqual(tolerance * (1 + Math.abs(want[i]![j]!)));
    });
  });
}

const half = fc.integer({ min: -6, max: 6 }).map(value => value / 2);
const vector = (length: number) => fc.array(half, { minLength: length, maxLength: length });
const matrix = (rows: number, columns: number) => fc.array(vector(columns), { minLength: rows, maxLength: rows });

describe('LinearRegressor', () => {
  test('is the sum of products and the intercept, for every target', () => {
    const sizes = fc.tuple(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 3 }),
    );
    const setting = sizes.chain(([rows, width, targets]) =>
      fc.tuple(matrix(rows, width), matrix(targets, width), fc.option(vector(targets), { nil: undefined })),
    );
    fc.assert(
      fc.property(setting, fc.constantFrom<DType>('f32', 'f64'), ([x, weights, intercepts], dtype) => {
        const attributes = {
          coefficients: weights.flat(),
          targets: weights.length,
          ...(intercepts ? { intercepts } : {}),
        };
        const want = x.map(row => weights.map((w, t) => dot(w, row) + (intercepts?.[t] ?? 0)));
        expect(run('LinearRegressor', Tensor.of(dtype, x), attributes)[0]!.toArray()).toEqual(want);
      }),
      { numRuns: 200 },
    );
  });

  test('takes integers, a single row, and a transform', () => {
    const attributes = { coefficients: [1, 2], intercepts: [-4] };
    const [y] = run('LinearRegressor', Tensor.of('i64', [3, 4]), attributes);
    expect([y!.dtype, y!.toArray()]).toEqual(['f32', [[7]]]);
    const transformed = { ...attributes, post_transform: 'LOGISTIC' };
    near(run('LinearRegressor', Tensor.of('i32', [[0, 2]]), transformed)[0]!.toArray() as number[][], [[0.5]]);
  });

  test.each([
    ['coefficients that do not fit', { coefficients: [1, 2, 3] }, '3 coefficients'],
    ['intercepts that do not fit', { coefficients: [1, 2], intercepts: [1, 2] }, '2 intercepts for 1 targets'],
    ['no targets', { coefficients: [1, 2], targets: 0 }, 'at least 1 target'],
    ['no coefficients', {}, '0 coefficients'],
    ['an unknown transform', { coefficients: [1, 2], post_transform: 'EXP' }, 'no post_transform "EXP"'],
  ])('refuses %s', (_, attributes, message) => {
    const text = refusal(() => run('LinearRegressor', Tensor.zeros('f32', [1, 2]), attributes as Attributes));
    expect(text).toContain('INVALID_GRAPH: LinearRegressor "model"');
    expect(text).toContain(message);
  });
});

describe('LinearClassifier', () => {
  const x = Tensor.of('f32', [
    [1, 0],
    [0, 1],
    [-1, -1],
  ]);
  const three = { coefficients: [1, 0, 0, 1, -1, -1], intercepts: [0, 0.5, 0] };

  test('names the class of the largest score', () => {
    const came = classes('LinearClassifier', x, { ...three, classlabels_strings: ['a', 'b', 'c'] });
    expect(came.labels).toEqual(['a', 'b', 'c']);
    expect(came.scores).toEqual([
      [1, 0.5, -1],
      [0, 1.5, -1],
      [-1, -0.5, 2],
    ]);
    const [row] = classes('LinearClassifier', x, { ...three, classlabels_ints: [7, 8, 9], post_transform: 'SOFTMAX' })
      .scores as [number[]];
    const total = Math.exp(1) + Math.exp(0.5) + Math.exp(-1);
    near([row], [[Math.exp(1) / total, Math.exp(0.5) / total, Math.exp(-1) / total]]);
  });

  test('makes a pair of the one score of two classes', () => {
    const one = { coefficients: [1, -1], intercepts: [0.25], classlabels_ints: [-3, 4] };
    expect(classes('LinearClassifier', x, one)).toEqual({
      labels: [4n, -3n, 4n],
      scores: [
        [-0.25, 1.25],
        [1.75, -0.75],
        [0.75, 0.25],
      ],
    });
    const logistic = classes('LinearClassifier', x, { ...one, post_transform: 'LOGISTIC' });
    expect(logistic.labels).toEqual([4n, -3n, 4n]);
    near(
      logistic.scores,
      [1.25, -0.75, 0.25].map(score => [sigmoid(-score), sigmoid(score)]),
    );
  });

  test('answers one score of other labels with yes or no', () => {
    const one = { coefficients: [1, -1], intercepts: [0] };
    expect(classes('LinearClassifier', x, { ...one, classlabels_ints: [5] }).labels).toEqual([1n, 0n, 0n]);
    expect(classes('LinearClassifier', x, { ...one, classlabels_strings: ['spam'] }).labels).toEqual(['1', '0', '0']);
  });

  test('does without intercepts', () => {
    const labels = { classlabels_ints: [0, 1] };
    expect(classes('LinearClassifier', x, { coefficients: [1, 0, 0, 1], ...labels }).labels).toEqual([0n, 1n, 0n]);
    expect(classes('LinearClassifier', x, { coefficients: [1, 0], ...labels }).labels).toEqual([1n, 0n, 0n]);
  });

  test('knows its shapes while the batch is open', () => {
    const b = new GraphBuilder('open');
    const id = b.input('x', { dtype: 'f64', shape: ['N', 2] });
    const attributes = { ...three, classlabels_strings: ['a', 'b', 'c'] };
    const [y, z] = b.node({
      domain: 'ai.onnx.ml',
      opset: 1,
      op: 'LinearClassifier',
      inputs: [id],
      attributes,
      outputs: ['y', 'z'],
    });
    expect([b.facts(y!), b.facts(z!)]).toEqual([
      { dtype: 'string', shape: ['N'] },
      { dtype: 'f32', shape: ['N', 3] },
    ]);
  });

  test.each([
    ['fewer labels than scores', { ...three, classlabels_ints: [1, 2] }, '3 intercepts for 2 labels'],
    ['no labels', three, 'labels'],
    ['coefficients that do not fit', { ...three, coefficients: [1], classlabels_ints: [1, 2, 3] }, '1 coefficients'],
  ])('refuses %s', (_, attributes, message) => {
    const text = refusal(() => run('LinearClassifier', x, attributes as Attributes));
    expect(text).toContain('INVALID_GRAPH: LinearClassifier "model"');
    expect(text).toContain(message);
  });

  test('refuses rows of more than two dimensions', () => {
    const cube = Tensor.zeros('f32', [1, 1, 2]);
    const attributes = { ...three, classlabels_ints: [1, 2, 3] };
    expect(refusal(() => run('LinearClassifier', cube, attributes))).toContain('expected 2 dimensions');
  });
});

const KERNELS: Readonly<Record<string, (a: readonly number[], b: readonly number[]) => number>> = {
  LINEAR: dot,
  POLY: (a, b) => (0.5 * dot(a, b) + 1) ** 3,
  RBF: (a, b) => Math.exp(-0.5 * a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0)),
  SIGMOID: (a, b) => Math.tanh(0.5 * dot(a, b) + 1),
};
const PARAMS = [0.5, 1, 3];

describe('SVMRegressor', () => {
  test('is the weighted sum of kernels, for every kernel', () => {
    const setting = fc
      .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 }))
      .chain(([rows, width, vectors]) => fc.tuple(matrix(rows, width), matrix(vectors, width), vector(vectors), half));
    fc.assert(
      fc.property(
        setting,
        fc.constantFrom(...Object.keys(KERNELS)),
        fc.boolean(),
        ([x, support, weights, rho], kernel, one) => {
          const attributes = {
            kernel_type: kernel,
            kernel_params: PARAMS,
            support_vectors: support.flat(),
            coefficients: weights,
            n_supports: support.length,
            rho: [rho],
            one_class: Number(one),
          };
          const sums = x.map(
            row => rho + support.reduce((sum, v, i) => sum + weights[i]! * KERNELS[kernel]!(row, v), 0),
          );
          // A sum that rounding can bring to either side of zero says nothing about the sign.
          fc.pre(!one || sums.every(sum => Math.abs(sum) > 1e-9 || sum === 0));
          const came = run('SVMRegressor', Tensor.of('f64', x), attributes)[0]!.toArray() as number[][];
          near(
            came,
            sums.map(sum => [one ? (sum > 0 ? 1 : -1) : sum]),
          );
        },
      ),
      { numRuns: 200 },
    );
  });

  test('is linear without support vectors', () => {
    const attributes = { coefficients: [1, 2], rho: [0.5], kernel_type: 'RBF', kernel_params: PARAMS };
    expect(run('SVMRegressor', Tensor.of('f32', [[1, 1]]), attributes)[0]!.toArray()).toEqual([[3.5]]);
  });

  test.each([
    [
      'vectors that do not fit',
      { n_supports: 2, coefficients: [1, 1], support_vectors: [1, 2, 3], rho: [0] },
      'support_vectors',
    ],
    [
      'a huge count of vectors',
      { n_supports: 2 ** 50, coefficients: [1], support_vectors: [1], rho: [0] },
      'coefficients for',
    ],
    ['no rho', { coefficients: [1, 2] }, 'rho is missing'],
    ['an unknown kernel', { coefficients: [1, 2], rho: [0], kernel_type: 'WAVELET' }, 'no kernel_type "WAVELET"'],
    ['two kernel parameters', { coefficients: [1, 2], rho: [0], kernel_params: [1, 2] }, 'gamma, coef0 and degree'],
  ])('refuses %s', (_, attributes, message) => {
    const text = refusal(() => run('SVMRegressor', Tensor.zeros('f32', [1, 2]), attributes as Attributes));
    expect(text).toContain('INVALID_GRAPH: SVMRegressor "model"');
    expect(text).toContain(message);
  });
});

/** A random machine of `count` classes and the votes and decisions that its definition gives. */
const machines = fc
  .record({
    classes: fc.integer({ min: 2, max: 4 }),
    width: fc.integer({ min: 1, max: 3 }),
    perClass: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 4, maxLength: 4 }),
    kernel: fc.constantFrom(...Object.keys(KERNELS)),
  })
  .map(({ perClass, classes: count, ...rest }) => ({
    ...rest,
    // At least one vector: without any, it would be another kind of machine.
    perClass: perClass.slice(0, count).map((n, i) => (i === 0 ? Math.max(n, 1) : n)),
  }))
  .chain(({ perClass, width, kernel }) => {
    const total = perClass.reduce((sum, n) => sum + n, 0);
    const pairs = (perClass.length * (perClass.length - 1)) / 2;
    return fc.record({
      perClass: fc.constant(perClass),
      kernel: fc.constant(kernel),
      support: matrix(total, width),
      coefficients: matrix(perClass.length - 1, total),
      rho: vector(pairs),
      x: matrix(2, width),
      a: vector(pairs),
      b: vector(pairs),
    });
  });

interface MachineCase {
  readonly perClass: readonly number[];
  readonly kernel: string;
  readonly support: readonly (readonly number[])[];
  readonly coefficients: readonly (readonly number[])[];
  readonly rho: readonly number[];
}

function decisions(
  machine: MachineCase,
  row: readonly number[],
): { pairs: [number, number][]; values: number[]; winner: number } {
  const owner = machine.perClass.flatMap((n, i) => new Array<number>(n).fill(i));
  const values: number[] = [];
  const pairs: [number, number][] = [];
  const wins = machine.perClass.map(() => 0);
  for (let i = 0; i < wins.length; i++) {
    for (let j = i + 1; j < wins.length; j++) {
      let value = machine.rho[values.length]!;
      owner.forEach((own, v) => {
        if (own !== i && own !== j) return;
        const other = own === i ? j : i;
        value +=
          machine.coefficients[other < own ? other : other - 1]![v]! *
          KERNELS[machine.kernel]!(row, machine.support[v]!);
      });
      values.push(value);
      pairs.push([i, j]);
      const winner = value > 0 ? i : j;
      wins[winner] = wins[winner]! + 1;
    }
  }
  return { pairs, values, winner: wins.indexOf(Math.max(...wins)) };
}

describe('SVMClassifier', () => {
  const attributesOf = (machine: MachineCase): Attributes => ({
    kernel_type: machine.kernel,
    kernel_params: PARAMS,
    support_vectors: machine.support.flat(),
    coefficients: machine.coefficients.flat(),
    vectors_per_class: machine.perClass,
    rho: machine.rho,
    classlabels_ints: machine.perClass.map((_, i) => 100 + i),
  });

  test('lets pairs of classes vote, and gives their decisions as scores', () => {
    fc.assert(
      fc.property(machines, ({ x, ...machine }) => {
        const want = x.map(row => decisions(machine, row));
        fc.pre(want.every(({ values }) => values.every(value => Math.abs(value) > 1e-9 || value === 0)));
        const came = classes('SVMClassifier', Tensor.of('f64', x), attributesOf(machine));
        expect(came.labels).toEqual(want.map(({ winner }) => BigInt(100 + winner)));
        near(
          came.scores,
          want.map(({ values }) => (values.length === 1 ? [-values[0]!, values[0]!] : values)),
        );
      }),
      { numRuns: 300 },
    );
  });

  test('gives probabilities that agree with the pairwise ones as well as any', () => {
    fc.assert(
      fc.property(machines, ({ x, a, b, ...machine }) => {
        const attributes = { ...attributesOf(machine), prob_a: a, prob_b: b };
        const came = classes('SVMClassifier', Tensor.of('f64', x), attributes).scores;
        x.forEach((row, n) => {
          const { pairs, values } = decisions(machine, row);
          const p = came[n]!;
          expect(p.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 5);
          expect(Math.min(...p)).toBeGreaterThanOrEqual(0);
          const r = values.map((value, i) => Math.min(Math.max(sigmoid(-(value * a[i]! + b[i]!)), 1e-7), 1 - 1e-7));
          if (pairs.length === 1) near([p], [[r[0]!, 1 - r[0]!]], 5e-3);
          // Wu, Lin & Weng minimise this sum; no shift of mass between two classes may lower it by much.
          const cost = (q: readonly number[]) =>
            pairs.reduce((sum, [i, j], k) => sum + ((1 - r[k]!) * q[i]! - r[k]! * q[j]!) ** 2, 0);
          for (const [i, j] of pairs) {
            for (const shift of [0.02, -0.02]) {
              const moved = p.map((value, k) => value + (k === i ? shift : k === j ? -shift : 0));
              if (Math.min(...moved) >= 0) expect(cost(p)).toBeLessThanOrEqual(cost(moved) + 1e-3);
            }
          }
        });
      }),
      { numRuns: 200 },
    );
  });

  test('is one linear score per class without support vectors', () => {
    const attributes = { coefficients: [1, 0, 0, 1, -1, -1], rho: [0.5], classlabels_strings: ['a', 'b', 'c'] };
    const came = classes(
      'SVMClassifier',
      Tensor.of('f32', [
        [2, 1],
        [-1, -2],
      ]),
      attributes,
    );
    expect(came).toEqual({
      labels: ['a', 'c'],
      scores: [
        [2.5, 1.5, -2.5],
        [-0.5, -1.5, 3.5],
      ],
    });
  });

  const good = {
    kernel_type: 'LINEAR',
    vectors_per_class: [1, 1],
    support_vectors: [1, 2, 3, 4],
    coefficients: [1, -1],
    rho: [0],
    classlabels_ints: [0, 1],
  };
  test.each([
    ['one class', { classlabels_ints: [0] }, 'at least 2 classes'],
    ['counts of other classes', { vectors_per_class: [2] }, 'vectors_per_class'],
    ['a negative count', { vectors_per_class: [3, -1] }, 'vectors_per_class'],
    ['too few coefficients', { coefficients: [1] }, '1 coefficients'],
    ['too few vectors', { support_vectors: [1, 2, 3] }, 'support_vectors'],
    ['no rho', { rho: [] }, 'rho'],
    ['half of the probabilities', { prob_a: [1] }, 'prob_a and prob_b'],
  ])('refuses %s', (_, changes, message) => {
    const attributes = { ...good, ...changes } as Attributes;
    const text = refusal(() => run('SVMClassifier', Tensor.zeros('f32', [1, 2]), attributes));
    expect(text).toContain('INVALID_GRAPH: SVMClassifier "model"');
    expect(text).toContain(message);
  });
});
