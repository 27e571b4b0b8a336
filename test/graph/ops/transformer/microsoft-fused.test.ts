import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, type Inputs, infer, random, refusal, run } from '../one-node.ts';

const onnx = (op: string, inputs: Inputs, attributes: Readonly<Record<string, Attribute>> = {}): Tensor =>
  run(op, inputs, { attributes, opset: 22 })[0]!;
const fused = (op: string, inputs: Inputs, attributes: Readonly<Record<string, Attribute>> = {}): Tensor =>
  run(op, inputs, { attributes, domain: 'com.microsoft' })[0]!;
const refused = (op: string, inputs: Inputs, attributes: Readonly<Record<string, Attribute>> = {}): string =>
  refusal(() => fused(op, inputs, attributes));

describe('FusedMatMul', () => {
  test('equals a scaled product of transposed operands', () => {
    const flag = fc.integer({ min: 0, max: 1 });
    const size = fc.integer({ min: 1, max: 4 });
    fc.assert(
      fc.property(size, size, size, size, flag, flag, flag, flag, (m, k, n, batch, transA, transB, batchA, batchB) => {
        const a = random(1, [batch, m, k]);
        const b = random(2, [batch, k, n]);
        const stored = (x: Tensor, trans: number, rowsFirst: number): Tensor => {
          const turned = trans ? x.transpose([0, 2, 1]) : x;
          return rowsFirst ? turned.transpose([1, 0, 2]) : turned;
        };
        const y = fused('FusedMatMul', [stored(a, transA, batchA), stored(b, transB, batchB)], {
          alpha: 0.5,
          transA,
          transB,
          transBatchA: batchA,
          transBatchB: batchB,
        });
        expect(distance(y, onnx('Mul', [onnx('MatMul', [a, b]), Tensor.of('f64', 0.5)]))).toBeLessThan(1e-14);
      }),
    );
  });

  test('is TransposeMatMul without the order of batches', () => {
    const [a, b] = [random(1, [3, 2]), random(2, [3, 4])];
    expect(distance(fused('TransposeMatMul', [a, b], { transA: 1 }), onnx('MatMul', [a.transpose(), b]))).toBe(0);
  });

  test('keeps symbolic sizes', () => {
    const [facts] = infer(
      'FusedMatMul',
      [
        { dtype: 'f32', shape: ['B', 'S', 8] },
        { dtype: 'f32', shape: ['N', 8] },
      ],
      { domain: 'com.microsoft', attributes: { transB: 1 } },
    );
    expect(facts!.shape).toEqual(['B', 'S', 'N']);
  });

  test('refuses sizes that differ, naming itself', () => {
    expect(refused('FusedMatMul', [random(1, [2, 3]), random(2, [2, 3])])).toMatch(
      /^INVALID_GRAPH: FusedMatMul "it": /,
    );
    expect(refused('FusedMatMul', [random(1, [2, 3]), random(2, [3, 2])], { transBatchA: 1 })).toContain('transBatchA');
  });
});

describe('a product with an activation', () => {
  test('FusedConv equals convolution, sum and activation', () => {
    const [x, w, b] = [random(1, [1, 4, 5, 5]), random(2, [6, 2, 3, 3]), random(3, [6])];
    const z = random(4, [1, 6, 5, 5]);
    const attributes = { group: 2, pads: [1, 1, 1, 1] };
    const sum = onnx('Add', [onnx('Conv', [x, w, b], attributes), z]);
    const expected: Readonly<Record<string, Tensor>> = {
      Relu: onnx('Relu', [sum]),
      Sigmoid: onnx('Sigmoid', [sum]),
      Tanh: onnx('Tanh', [sum]),
      HardSwish: onnx('HardSwish', [sum]),
    };
    for (const [activation, tensor] of Object.entries(expected)) {
      expect(distance(fused('FusedConv', [x, w, b, z], { ...attributes, activation }), tensor)).toBeLessThan(1e-12);
    }
    const withParameters = (activation: string, activation_params: readonly number[]): Tensor =>
      fused('FusedConv', [x, w, b, z], { ...attributes, activation, activation_params });
    const clipped = onnx('Clip', [sum, Tensor.of('f64', -0.5), Tensor.of('f64', 0.75)]);
    expect(distance(withParameters('Clip', [-0.5, 0.75]), clipped)).toBe(0);
    expect(distance(withParameters('LeakyRelu', [0.25]), onnx('LeakyRelu', [sum], { alpha: 0.25 }))).toBe(0);
    const hard = onnx('HardSigmoid', [sum], { alpha: 0.3, beta: 0.25 });
    expect(distance(withParameters('HardSigmoid', [0.3, 0.25]), hard)).toBe(0);
    expect(
      distance(
        fused('FusedConv', [x, w, undefined, z], attributes),
        onnx('Add', [onnx('Conv', [x, w], attributes), z]),
      ),
    ).toBe(0);
  });

  test('FusedGemm equals Gemm and the activation that it names', () => {
    const [a, b, bias] = [random(1, [3, 2]), random(2, [3, 4]), random(3, [4])];
    const attributes = { transA: 1, alpha: 0.5, beta: 2 };
    const product = onnx('Gemm', [a, b, bias], attributes);
    const of = (activation: string, more = {}): Tensor =>
      fused('FusedGemm', [a, b, bias], { ...attributes, activation, ...more });
    expect(distance(of('Elu', { activation_alpha: 0.3 }), onnx('Elu', [product], { alpha: 0.3 }))).toBeLessThan(1e-15);
    expect(distance(of('Softplus'), onnx('Softplus', [product]))).toBeLessThan(1e-15);
    expect(distance(of('Softsign'), onnx('Softsign', [product]))).toBeLessThan(1e-15);
    expect(
      distance(of('ThresholdedRelu', { activation_alpha: 0.1 }), onnx('ThresholdedRelu', [product], { alpha: 0.1 })),
    ).toBe(0);
    const selu = onnx('Selu', [product], { alpha: 2, gamma: 0.5 });
    expect(distance(of('Selu', { activation_alpha: 2, activation_gamma: 0.5 }), selu)).toBeLessThan(1e-15);
  });

  test('refuses an activation that it does not know', () => {
    const inputs = [random(1, [2, 2]), random(2, [2, 2])];
    expect(refused('FusedGemm', inputs, { activation: 'constructor' })).toBe(
      'UNSUPPORTED_MODEL: FusedGemm "it": activation "constructor" has no kernel',
    );
    expect(
      refused('FusedConv', [random(1, [1, 2, 3, 3]), random(2, [2, 2, 1, 1]), undefined, random(3, [1, 2, 3, 2])]),
    ).toContain('axis 3 of the sum');
  });
});

describe('a bias and an activation', () => {
  test('equal the two one after the other', () => {
    const [x, b] = [random(1, [2, 3, 4]), random(2, [4])];
    const sum = onnx('Add', [x, b]);
    expect(distance(fused('Gelu', [x]), onnx('Gelu', [x]))).toBe(0);
    expect(distance(fused('BiasGelu', [x, b]), onnx('Gelu', [sum]))).toBe(0);
    expect(distance(fused('FastGelu', [x, b]), onnx('Gelu', [sum], { approximate: 'tanh' }))).toBeLessThan(1e-15);
    expect(distance(fused('FastGelu', [x]), onnx('Gelu', [x], { approximate: 'tanh' }))).toBeLessThan(1e-15);
    const sigmoid = onnx('Sigmoid', [onnx('Mul', [x, Tensor.of('f64', 1.702)])]);
    expect(distance(fused('QuickGelu', [x]), onnx('Mul', [x, sigmoid]))).toBeLessThan(1e-15);
    const skip = random(3, [2, 3, 4]);
    expect(distance(fused('BiasAdd', [x, b, skip]), onnx('Add', [sum, skip]))).toBe(0);
    const w = random(4, [4, 5]);
    const product = onnx('Add', [onnx('MatMul', [x, w]), random(5, [5])]);
    expect(
      distance(fused('GemmFastGelu', [x, w, random(5, [5])]), onnx('Gelu', [product], { approximate: 'tanh' })),
    ).toBeLessThan(1e-15);
  });

  test('round once where they are in halves', () => {
    const [x, b] = [random(1, [2, 4], 'bf16'), random(2, [4], 'bf16')];
    const wide = fused('BiasGelu', [x.cast('f32'), b.cast('f32')]).cast('bf16');
    expect(distance(fused('BiasGelu', [x, b]), wide)).toBe(0);
  });

  test('refuse a bias that does not fit', () => {
    expect(refused('BiasGelu', [random(1, [2, 3]), random(2, [2])])).toMatch(/^INVALID_GRAPH: BiasGelu "it": /);
    expect(refused('BiasGelu', [random(1, [3]), random(2, [2, 3])])).toContain('does not broadcast into [3]');
  });
});
