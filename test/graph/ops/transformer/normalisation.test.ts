import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, type Inputs, infer, random, refusal, run } from '../one-node.ts';

type Attributes = Readonly<Record<string, Attribute>>;
const one = (op: string, inputs: Inputs, attributes: Attributes = {}, opset = 24): Tensor =>
  run(op, inputs, { attributes, opset })[0]!;
const axes = (...list: readonly number[]): Tensor => Tensor.of('i64', list.map(BigInt));

/** Over these axes: x minus its mean, the mean, and the mean of squares of the difference. */
function centred(x: Tensor, over: readonly number[]): readonly [x: Tensor, mean: Tensor, variance: Tensor] {
  const mean = one('ReduceMean', [x, axes(...over)]);
  const difference = one('Sub', [x, mean]);
  return [difference, mean, one('ReduceMean', [one('Mul', [difference, difference]), axes(...over)])];
}

/** `x / sqrt(variance + epsilon)`. */
function divided(x: Tensor, variance: Tensor, epsilon: number): Tensor {
  return one('Div', [x, one('Sqrt', [one('Add', [variance, Tensor.of('f64', epsilon)])])]);
}

const shape = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });

describe('Softmax, LogSoftmax and Hardmax', () => {
  test('before opset 13 take all axes from one on together', () => {
    fc.assert(
      fc.property(shape, fc.nat(3), fc.constantFrom('Softmax', 'LogSoftmax', 'Hardmax'), (sizes, at, op) => {
        const axis = at % sizes.length;
        const x = random(at, sizes);
        const rows = sizes.slice(0, axis).reduce((product, size) => product * size, 1);
        const flat = one(op, [x.reshape([rows, -1])], { axis: 1 }, 13).reshape(sizes);
        expect(distance(one(op, [x], { axis }, 11), flat)).toBe(0);
        expect(distance(one(op, [x], { axis }, 1), flat)).toBe(0);
      }),
    );
  });

  test('from opset 13 on take one axis, the last where none is named', () => {
    const x = random(1, [2, 3, 4]);
    const exp = one('Exp', [x]);
    const last = one('Div', [exp, one('ReduceSum', [exp, axes(-1)])]);
    expect(distance(one('Softmax', [x]), last)).toBeLessThan(1e-15);
    expect(distance(one('LogSoftmax', [x]), one('Log', [last]))).toBeLessThan(1e-14);
    const middle = one('Div', [exp, one('ReduceSum', [exp, axes(1)])]);
    expect(distance(one('Softmax', [x], { axis: -2 }), middle)).toBeLessThan(1e-15);
  });

  test('mark the first of equally large elements', () => {
    const x = Tensor.of('f32', [
      [3, 1, 3],
      [0, 2, 2],
    ]);
    expect(one('Hardmax', [x]).toArray()).toEqual([
      [1, 0, 0],
      [0, 1, 0],
    ]);
    expect(one('Hardmax', [x], { axis: 0 }).toArray()).toEqual([
      [1, 0, 1],
      [0, 1, 0],
    ]);
    expect(one('Hardmax', [Tensor.zeros('f32', [2, 0])]).size).toBe(0);
    expect(one('Softmax', [Tensor.of('f32', 5)]).toArray()).toBe(1);
  });
});

describe('LayerNormalization', () => {
  test('equals its definition, with the mean and the inverse deviation', () => {
    fc.assert(
      fc.property(shape, fc.nat(3), fc.boolean(), (sizes, at, hasBias) => {
        const axis = at % sizes.length;
        const x = random(1, sizes);
        const scale = random(2, sizes.slice(axis));
        const bias = hasBias ? random(3, sizes.slice(axis)) : undefined;
        const [y, mean, inverse] = run('LayerNormalization', [x, scale, bias], {
          attributes: { axis: axis - sizes.length, epsilon: 0.1, stash_type: 11 },
          opset: 17,
          outputs: 3,
        });
        const over = sizes.map((_, i) => i).slice(axis);
        const [difference, expectedMean, variance] = centred(x, over);
        const scaled = one('Mul', [divided(difference, variance, 0.1), scale]);
        expect(distance(y!, bias ? one('Add', [scaled, bias]) : scaled)).toBeLessThan(1e-14);
        expect(distance(mean!, expectedMean)).toBeLessThan(1e-15);
        expect(distance(inverse!, divided(Tensor.of('f64', 1), variance, 0.1))).toBeLessThan(1e-14);
      }),
    );
  });

  test('hands out statistics of the type that it stashes', () => {
    const dtypes = (stash_type: number): readonly string[] =>
      run('LayerNormalization', [random(1, [2, 3], 'f16'), random(2, [3], 'f16')], {
        attributes: { stash_type },
        outputs: 3,
      }).map(({ dtype }) => dtype);
    expect(dtypes(1)).toEqual(['f16', 'f32', 'f32']);
    expect(dtypes(16)).toEqual(['f16', 'bf16', 'bf16']);
  });

  test('refuses a scale that does not fit, and statistics that are no floats', () => {
    const refused = (scale: Tensor, attributes: Attributes = {}): string =>
      refusal(() => one('LayerNormalization', [random(1, [2, 3], 'f32'), scale], attributes));
    expect(refused(random(2, [2], 'f32'))).toMatch(/^INVALID_GRAPH: LayerNormalization "it": /);
    expect(refused(random(2, [3]))).toContain('of one dtype, got f32 and f64');
    expect(refused(random(2, [3], 'f32'), { stash_type: 7 })).toContain('stash_type 7 is no float type');
    expect(refused(random(2, [3], 'f32'), { axis: 2 })).toContain('axis');
  });
});

describe('RMSNormalization', () => {
  test('divides by the root of the mean of squares, under both of its names', () => {
    fc.assert(
      fc.property(shape, fc.nat(3), (sizes, at) => {
        const axis = at % sizes.length;
        const x = random(1, sizes);
        const scale = random(2, sizes.slice(axis));
        const over = sizes.map((_, i) => i).slice(axis);
        const squares = one('ReduceMean', [one('Mul', [x, x]), axes(...over)]);
        const expected = one('Mul', [divided(x, squares, 1e-5), scale]);
        expect(distance(one('RMSNormalization', [x, scale], { axis }), expected)).toBeLessThan(1e-12);
        const [y, inverse] = run('SimplifiedLayerNormalization', [x, scale], {
          attributes: { axis, stash_type: 11 },
          opset: 1,
          outputs: 2,
        });
        expect(distance(y!, expected)).toBeLessThan(1e-12);
        expect(distance(inverse!, divided(Tensor.of('f64', 1), squares, 1e-5))).toBeLessThan(1e-10);
      }),
    );
  });

  test('results in the dtype of the scale', () => {
    expect(one('RMSNormalization', [random(1, [2, 3], 'f32'), random(2, [3], 'f16')]).dtype).toBe('f16');
    expect(one('RMSNormalization', [random(1, [2, 3], 'bf16'), random(2, [3], 'f32')]).dtype).toBe('f32');
  });
});

describe('LpNormalization', () => {
  test('makes vectors of length one, in both norms', () => {
    const x = random(1, [2, 3, 4]);
    for (const axis of [0, 1, -1]) {
      const absolute = one('Abs', [one('LpNormalization', [x], { axis, p: 1 })]);
      for (const sum of one('ReduceSum', [absolute, axes(axis)]).values()) expect(sum).toBeCloseTo(1, 12);
      const y = one('LpNormalization', [x], { axis });
      for (const sum of one('ReduceSum', [one('Mul', [y, y]), axes(axis)]).values()) expect(sum).toBeCloseTo(1, 12);
    }
  });

  test('leaves a vector of zeros, and refuses other norms', () => {
    expect(one('LpNormalization', [Tensor.of('f32', [0, 0])]).toArray()).toEqual([0, 0]);
    expect(refusal(() => one('LpNormalization', [Tensor.of('f32', [1])], { p: 3 }))).toBe(
      'INVALID_GRAPH: LpNormalization "it": attribute p: expected 1 or 2, got 3',
    );
  });
});

describe('rows', () => {
  test('keep symbolic sizes', () => {
    const x = { dtype: 'f32', shape: ['B', 'S', 8] } as const;
    const scale = { dtype: 'f32', shape: [8] } as const;
    expect(infer('LayerNormalization', [x, scale], { outputs: 3 }).map(facts => facts.shape)).toEqual([
      ['B', 'S', 8],
      ['B', 'S', 1],
      ['B', 'S', 1],
    ]);
  });
});
